/* Opening and describing listening sockets. Thread: main at start. Owns nothing. */
#include "daemon/sockets.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 511 };

static enum status fail(int fd, int error_number, const char *address, struct error *error)
{
    if (fd >= 0) {
        close(fd);
    }
    error_set_errno(error, error_number, "listen on %s", address);
    if (error_number == EADDRINUSE) {
        error_set(error, STATUS_IO, "listen on %s: the address is in use, perhaps by another lstmd", address);
    }
    return STATUS_IO;
}

/* Whether a socket file is left over from a process that has ended. */
static bool is_abandoned(const struct sockaddr_un *name)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    bool is_refused = connect(fd, (const struct sockaddr *)name, sizeof *name) != 0 && errno == ECONNREFUSED;
    close(fd);
    return is_refused;
}

static enum status open_unix(const char *path, unsigned mode, int *ret_fd, struct error *error)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof name.sun_path) {
        return error_set(error, STATUS_INVALID, "listen on %s: the path has %zu bytes, at most %zu", path, strlen(path),
                         sizeof name.sun_path - 1);
    }
    memcpy(name.sun_path, path, strlen(path) + 1);
    struct stat about;
    if (lstat(path, &about) == 0 && S_ISSOCK(about.st_mode) && is_abandoned(&name)) {
        unlink(path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return fail(fd, errno, path, error);
    }
    mode_t before = umask(0777); /* nobody may connect before the mode is what it should be */
    int failed = bind(fd, (const struct sockaddr *)&name, sizeof name);
    int error_number = errno;
    umask(before);
    if (failed != 0) {
        return fail(fd, error_number, path, error);
    }
    if (chmod(path, mode) != 0 || listen(fd, BACKLOG) != 0) {
        return fail(fd, errno, path, error);
    }
    *ret_fd = fd;
    return STATUS_OK;
}

/* Splits at the last colon; brackets of an IPv6 address are removed. False when it has not that form. */
static bool split_address(const char *address, char host[SOCKET_ADDRESS_BYTES_MAX], const char **ret_port)
{
    const char *colon = strrchr(address, ':');
    size_t length = colon == NULL ? 0 : (size_t)(colon - address);
    if (length == 0 || length >= SOCKET_ADDRESS_BYTES_MAX || colon[1] == '\0' || strlen(colon + 1) > 5 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1)) {
        return false;
    }
    bool has_brackets = address[0] == '[' && address[length - 1] == ']';
    size_t skipped = has_brackets ? 1 : 0;
    memcpy(host, address + skipped, length - 2 * skipped);
    host[length - 2 * skipped] = '\0';
    *ret_port = colon + 1;
    return has_brackets || memchr(host, ':', strlen(host)) == NULL;
}

static enum status open_address(const struct addrinfo *found, const char *address, int *ret_fd, struct error *error)
{
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return fail(fd, errno, address, error);
    }
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (found->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) ||
        bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        return fail(fd, errno, address, error);
    }
    *ret_fd = fd;
    return STATUS_OK;
}

enum status socket_open(const char *address, unsigned mode, int *ret_fd, struct error *error)
{
    if (address[0] == '/') {
        return open_unix(address, mode, ret_fd, error);
    }
    char host[SOCKET_ADDRESS_BYTES_MAX];
    const char *port;
    if (!split_address(address, host, &port)) {
        return error_set(error, STATUS_INVALID, "listen on '%.200s': expected ADDRESS:PORT or /path/to/socket",
                         address);
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed != 0) {
        return error_set(error, STATUS_INVALID, "listen on '%.200s': %s", address, gai_strerror(failed));
    }
    enum status status = open_address(found, address, ret_fd, error);
    freeaddrinfo(found);
    return status;
}

enum status socket_describe(int fd, bool is_tls, struct socket_description *ret_description, struct error *error)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
        struct sockaddr_storage storage;
    } name;
    socklen_t length = sizeof name;
    memset(&name, 0, sizeof name);
    if (getsockname(fd, &name.any, &length) != 0) {
        return error_set_errno(error, errno, "describe socket %d", fd);
    }
    struct socket_description about = {.is_unix = name.any.sa_family == AF_UNIX};
    char text[INET6_ADDRSTRLEN] = "";
    const char *scheme = is_tls ? "https" : "http";
    if (name.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &name.v4.sin_addr, text, sizeof text);
        snprintf(about.address, sizeof about.address, "%s://%s:%u", scheme, text, ntohs(name.v4.sin_port));
        about.is_local = ntohl(name.v4.sin_addr.s_addr) >> 24 == 127;
    } else if (name.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &name.v6.sin6_addr, text, sizeof text);
        snprintf(about.address, sizeof about.address, "%s://[%s]:%u", scheme, text, ntohs(name.v6.sin6_port));
        about.is_local = IN6_IS_ADDR_LOOPBACK(&name.v6.sin6_addr);
    } else if (about.is_unix) {
        snprintf(about.address, sizeof about.address, "unix:%s", name.local.sun_path);
        about.is_local = true;
    } else {
        return error_set(error, STATUS_INVALID, "socket %d is of family %d, neither TCP nor Unix", fd,
                         name.any.sa_family);
    }
    *ret_description = about;
    return STATUS_OK;
}
