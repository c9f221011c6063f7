/* HTTP: the only module that knows libmicrohttpd, run by external epoll inside the libuv loop, with no thread of its
 * own.
 *
 * A request is answered inside on_request, or later: hold it (request_hold), reply from the loop thread, release it.
 * The connection sleeps meanwhile and wakes with the reply. Replies are whole, or streams that are pulled through a
 * reader.
 *
 *   headers → on_head → body, up to its maximum → on_request → reply → on_end
 *
 * Thread: loop, everything here. */
#ifndef DAEMON_HTTP_H
#define DAEMON_HTTP_H

#include <jansson.h>
#include <uv.h>

#include "daemon/settings.h"
#include "engine/base/arena.h"
#include "engine/base/status.h"

struct certificate;
struct http;
struct request;

enum {
    REQUEST_ID_BYTES_MAX = 65,
    HTTP_SOCKETS_MAX = 16,
    HTTP_RESUMES_A_TURN_MAX = 16, /* connections woken in one turn of the loop; the rest the next turn */
    HTTP_PART_BYTES = 128 << 10,  /* of a body that is taken in parts, at least; the last is shorter */
};

struct http_callbacks {
    void (*on_head)(void *context, struct request *request);    /* may reply already, or set the body's maximum */
    void (*on_request)(void *context, struct request *request); /* all is here; must reply or hold */
    void (*on_end)(void *context, struct request *request);     /* answered, or the client left: for log and metrics */
    void *context;
};

/* Owned. `settings` is borrowed for good. */
enum status http_create(uv_loop_t *loop, const struct settings *settings, const struct http_callbacks *callbacks,
                        struct http **ret_http, struct error *error) MUST_CHECK;

/* The certificate of handshakes that begin from now on; http keeps a reference of its own. TCP sockets speak TLS when
 * there is one before they are served, and only then; it may be replaced at any time. */
void http_set_certificate(struct http *http, struct certificate *certificate);

/* TLS handshakes that came to their end, and connections that ended without. */
struct http_handshakes {
    uint64_t done, failed;
};
struct http_handshakes http_handshakes(const struct http *http);

/* Serves a listening stream socket; takes over `fd`, on failure too. `address` is what people are told. */
enum status http_serve(struct http *http, int fd, bool is_unix, const char *address, struct error *error) MUST_CHECK;

/* Stops accepting connections; what is open goes on. */
void http_quiesce(struct http *http);

/* Requests that came in and did not end yet. */
size_t http_request_count(const struct http *http);

/* Grows with every request that comes in whole and every reply that goes out. */
uint64_t http_event_count(const struct http *http);

/* Tells every request that its client is gone, closes everything. The handles close with the loop's next turns. */
void http_destroy(struct http *http);

/* What the request is. Texts live as long as the request; `path` is as sent, without query, not decoded. */
const char *request_id(const struct request *request);
const char *request_method(const struct request *request);
const char *request_path(const struct request *request);
/* NULL when it is missing. Only inside on_head and on_request. */
const char *request_header(const struct request *request, const char *name);
/* All its lines of that name, joined by ", "; "" when there is none. Only inside on_head and on_request. In the
 * request's arena, NULL without memory. */
const char *request_header_joined(struct request *request, const char *name);
bool request_is_unix(const struct request *request);
/* The user at the other end of a Unix socket, as the kernel says; false where there is none. Only inside on_head. */
bool request_unix_user(const struct request *request, uint32_t *ret_user);
/* The address at the other end, without port; "" of a Unix socket. Only inside on_head. In the request's arena, NULL
 * without memory. */
const char *request_address(struct request *request);
const char *request_body(const struct request *request, size_t *ret_length);
/* Memory that lives as long as the request. */
struct arena *request_arena(struct request *request);
/* The caller's pointer, for what was found out at the head; NULL at first. */
void request_set_data(struct request *request, void *data);
void *request_data(const struct request *request);
void request_set_body_max(struct request *request, size_t bytes_max);

/* What becomes of a part of a body. */
enum body_part {
    BODY_PART_STAYS, /* the body is kept whole, as others are: `take` is not called again */
    BODY_PART_TAKEN, /* its bytes, from mem_allocate, are the callee's */
    BODY_PART_WAITS, /* so too, and nothing more is received until request_wake */
};

/* Only inside on_head: `take` is called for every HTTP_PART_BYTES of the body and for the rest of it, which may be all,
 * or nothing: NULL and 0. It may reply, or lower the body's maximum, which counts all parts. */
void request_take_body(struct request *request,
                       enum body_part (*take)(void *context, struct request *request, char *bytes, size_t length),
                       void *context);
/* clock_now_ns() when its head was there. */
uint64_t request_started_ns(const struct request *request);
/* The status that was sent, 0 before. */
unsigned request_status(const struct request *request);

/* Calls `each` with every query parameter as sent ('+' is a space, %XX is not decoded); `value` is NULL for a name
 * without '=' and lives as long as the request, `name` as long as the call. Stops when it returns false. */
void request_each_query(const struct request *request, bool (*each)(void *context, const char *name, const char *value),
                        void *context);

/* Keeps a request past on_request. `on_gone` (may be NULL) is called if its client leaves before the reply is through:
 * first perhaps with request_is_half_closed, where the client closed its sending side (a client that left looks the
 * same until it is written to), then when the connection is over: nobody will read what comes, though replying stays
 * allowed. Never called after request_release. */
void request_hold(struct request *request, void (*on_gone)(void *context, struct request *request), void *context);
void request_release(struct request *request);
bool request_is_half_closed(const struct request *request);

/* Adds a header to the reply to come. */
void request_add_header(struct request *request, const char *name, const char *value);

/* Whether a reply was given. */
bool request_is_replied(const struct request *request);

/* Replies `length` bytes from mem_allocate, which the reply takes over (NULL: none). Exactly one reply a request. */
void request_reply(struct request *request, unsigned status, const char *content_type, char *bytes, size_t length);

/* JSON as bytes for request_reply_json_bytes, so that long ones are made elsewhere. Takes the reference; NULL without
 * memory. Thread: any. */
char *http_json_bytes(json_t *body, size_t *ret_length);
void request_reply_json_bytes(struct request *request, unsigned status, char *bytes, size_t length);

/* Takes the reference; NULL (no memory for it) becomes a 503. */
void request_reply_json(struct request *request, unsigned status, json_t *body);

/* {"error":{…}} with the HTTP status of `error->status`; 429 and 503 get Retry-After. */
void request_reply_error(struct request *request, const struct error *error);
/* The same with another status: 401, 403, 405. */
void request_reply_error_as(struct request *request, unsigned status, const struct error *error);

/* Errors of this request are {"error":"message"} from now on, as the Open Inference Protocol and TF Serving tell them;
 * what is a conflict, or impossible though well-formed, is then 400, too. */
void request_set_plain_errors(struct request *request);
bool request_has_plain_errors(const struct request *request);

/* The error object alone ("error"'s value): for streams. New reference, NULL without memory. */
json_t *error_to_json(const struct error *given, unsigned status);
/* The HTTP status of a failed call. */
unsigned error_http_status(const struct error *error);

enum stream_state { STREAM_WAITS, STREAM_ENDS, STREAM_FAILS };

/* A body that is made as it is read. `read` writes up to `bytes_max` bytes and returns how many; when it returns 0 it
 * says in `*ret_state` why: nothing now (request_wake will come), the end, or a failure (the connection is cut without
 * its last chunk). `release` is called once when nothing is read any more. */
struct stream_source {
    size_t (*read)(void *context, char *bytes, size_t bytes_max, enum stream_state *ret_state);
    void (*release)(void *context);
};
void request_reply_stream(struct request *request, unsigned status, const char *content_type,
                          const struct stream_source *source, void *context);

/* A stream has something to read, or ended; the body may go on. */
void request_wake(struct request *request);

#endif
