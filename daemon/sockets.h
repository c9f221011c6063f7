/* Listening sockets: opened by us, or passed by systemd. Thread: main at start. */
#ifndef DAEMON_SOCKETS_H
#define DAEMON_SOCKETS_H

#include "engine/base/status.h"

enum { SOCKET_ADDRESS_BYTES_MAX = 160 };

struct socket_description {
    char address[SOCKET_ADDRESS_BYTES_MAX]; /* "http://127.0.0.1:8080", "https://…" or "unix:/run/lstmd.sock" */
    bool is_unix;
    bool is_local; /* a Unix socket, or bound to a loopback address */
};

/* Opens "ADDRESS:PORT", "[IPV6]:PORT", "NAME:PORT" or "/path/to/socket" and listens. A Unix socket that nobody
 * listens on is replaced and gets `mode`. Errors name the address and what is wrong with it: malformed, in use, no
 * permission. */
enum status socket_open(const char *address, unsigned mode, int *ret_fd, struct error *error) MUST_CHECK;

/* Says what a listening socket is bound to, and what people find there: HTTP, or over TCP HTTPS. */
enum status socket_describe(int fd, bool is_tls, struct socket_description *ret_description,
                            struct error *error) MUST_CHECK;

#endif
