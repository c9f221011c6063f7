/* Blocks on its socket, as callers do. */
#include "daemon/bench_client.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/clock.h"

enum {
    SOCKET_SECONDS = 60, /* a daemon that is silent for so long is broken */
    REQUEST_BYTES_MAX = 1024 + 512,
};

int bench_client_connect(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = SOCKET_SECONDS};
    int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0) {
        return -1;
    }
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(connection, (struct sockaddr *)&address, sizeof address) != 0) {
        close(connection);
        return -1;
    }
    return connection;
}

bool bench_client_send(int connection, const char *path, const char *body)
{
    char request[REQUEST_BYTES_MAX];
    int length = snprintf(request, sizeof request,
                          "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          path, strlen(body), body);
    return (size_t)length < sizeof request && send(connection, request, (size_t)length, MSG_NOSIGNAL) == length;
}

/* Appends what has come to `reply`, of *length bytes. False when nothing more comes, or there is no room. */
static bool receive(int connection, char *reply, size_t *length)
{
    size_t room = BENCH_REPLY_BYTES_MAX - 1 - *length;
    ssize_t got = room > 0 ? recv(connection, reply + *length, room, 0) : 0;
    if (got <= 0) {
        return false;
    }
    *length += (size_t)got;
    reply[*length] = '\0';
    return true;
}

/* Reads until the headers are whole. NULL when they do not come; else where the body begins. */
static char *read_headers(int connection, char *reply, size_t *ret_length)
{
    static const char end[] = "\r\n\r\n";
    char *found = NULL;
    *ret_length = 0;
    while (found == NULL) {
        if (!receive(connection, reply, ret_length)) {
            return NULL;
        }
        found = strstr(reply, end);
    }
    return found + strlen(end);
}

static int status_of(const char *reply)
{
    return (int)strtol(reply + strlen("HTTP/1.1 "), NULL, 10);
}

int bench_client_read(int connection, char *reply, const char **ret_body)
{
    static const char name[] = "\r\ncontent-length:";
    size_t length;
    const char *body = read_headers(connection, reply, &length);
    const char *field = body == NULL ? NULL : strcasestr(reply, name);
    if (field == NULL || field >= body) {
        return 0;
    }
    size_t whole = (size_t)(body - reply) + (size_t)strtoul(field + strlen(name), NULL, 10);
    while (length < whole) {
        if (!receive(connection, reply, &length)) {
            return 0;
        }
    }
    *ret_body = body;
    return status_of(reply);
}

int bench_client_read_chunks(int connection, char *reply, uint64_t *ret_first_byte_ns)
{
    static const char end[] = "\r\n0\r\n\r\n";
    size_t length;
    const char *body = read_headers(connection, reply, &length);
    if (body == NULL || strcasestr(reply, "\r\ntransfer-encoding: chunked\r\n") == NULL) {
        return 0; /* a refusal is whole */
    }
    while (reply + length == body) {
        if (!receive(connection, reply, &length)) {
            return 0;
        }
    }
    *ret_first_byte_ns = clock_now_ns();
    while (strcmp(reply + length - strlen(end), end) != 0) {
        if (!receive(connection, reply, &length)) {
            return 0;
        }
    }
    return status_of(reply);
}
