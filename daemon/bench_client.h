/* A client of a daemon that is measured: it asks, on a connection that stays open, and waits. Thread: any, one for each
 * connection. */
#ifndef DAEMON_BENCH_CLIENT_H
#define DAEMON_BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_REPLY_BYTES_MAX = 1 << 20 };

/* Connects to 127.0.0.1. −1 when nobody listens there. */
int bench_client_connect(int port);

/* Posts `body`, JSON, of less than a kilobyte. False when the connection is broken. */
bool bench_client_send(int connection, const char *path, const char *body);

/* Reads one whole reply with a Content-Length into `reply`, of BENCH_REPLY_BYTES_MAX, and ends it with NUL. Gives its
 * status and where its body begins; 0 when it breaks off. */
int bench_client_read(int connection, char *reply, const char **ret_body);

/* Reads one whole reply in chunks, as bench_client_read does, and says (clock_now_ns) when the first byte of its body
 * was there. 0 for a reply of another kind, too. */
int bench_client_read_chunks(int connection, char *reply, uint64_t *ret_first_byte_ns);

#endif
