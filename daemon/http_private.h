/* What http.c (listeners, running MHD), http_tls.c (TLS connections), http_connection.c (the life of a request),
 * http_head.c (its head) and http_request.c (what handlers call) share. Thread: loop. */
#ifndef DAEMON_HTTP_PRIVATE_H
#define DAEMON_HTTP_PRIVATE_H

#include <gnutls/abstract.h>
#include <microhttpd.h>

#include "daemon/http.h"
#include "engine/base/check.h"

enum { HTTP_HEADERS_MAX = 16, HTTP_DEPARTURES_A_TURN_MAX = 64, HTTP_REQUEST_MAGIC = 0x72657175 };
enum {
    LISTENER_CONNECTIONS = 256, /* of one MHD daemon, unless there are more of these than LISTENERS_A_SOCKET_MAX */
    LISTENERS_A_SOCKET_MAX = 64,
};

/* One MHD daemon, which accepts on its own duplicate of a listening socket until it is full. Several share a socket:
 * MHD deals with all the connections of a daemon that have something to do before it returns, and whenever one is
 * resumed, it looks at all that sleep. */
struct listener {
    struct http *http;
    struct request *woken_first, **woken_last; /* to be resumed */
    struct MHD_Daemon *mhd;
    uv_poll_t poll;
    uv_timer_t timer;
    bool has_work; /* MHD is to be run, connections are to be resumed */
    size_t open_handles;
    size_t busy_rounds;
    size_t handshake_count; /* connections in the middle of their TLS handshake */
    bool is_pumping;
    bool is_unix;
    bool is_tls;
    bool is_quiesced;
};

struct http {
    uv_loop_t *loop;
    const struct settings *settings;
    struct http_callbacks callbacks;
    struct listener *listeners[HTTP_SOCKETS_MAX * LISTENERS_A_SOCKET_MAX];
    size_t listener_count;
    size_t socket_count;
    struct request *requests; /* all that have a connection */
    int clients_fd;           /* an epoll of the connections whose requests sleep, for their clients' departures */
    uv_poll_t clients;        /* sees it; libuv would deliver ten thousand departures in one turn */
    uv_idle_t work;           /* while listeners have work */
    uv_prepare_t before_poll;
    uint64_t spent_ns; /* in MHD, in this half of the turn of the loop: with old work, with new events */
    size_t work_count; /* listeners that have work */
    size_t next;       /* the listener whose turn it is */
    size_t request_count;
    uint64_t event_count;            /* requests that came and replies that went */
    struct certificate *certificate; /* NULL: no TLS */
    struct http_handshakes handshakes;
    bool is_destroyed;
    size_t open_parts; /* listeners, own handles and requests that still need this struct */
};

struct request {
    uint32_t magic;
    size_t references;
    struct http *http;
    struct listener *listener;         /* while there is a connection: it may be gone before a held request is */
    struct MHD_Connection *connection; /* NULL once it is over */
    struct request *next, **link;      /* http->requests */
    struct request *next_woken;
    struct arena arena;
    char id[REQUEST_ID_BYTES_MAX];
    const char *method, *path;
    char *query; /* its parameters, each with a NUL behind it; NULL: none */
    size_t query_bytes;
    uintptr_t target_end; /* where MHD has the NUL behind the request's target */
    char *body;
    size_t body_length, body_capacity, body_bytes_max, swallowed_bytes;
    size_t taken_bytes; /* of the body, by take_body */
    enum body_part (*take_body)(void *context, struct request *request, char *bytes, size_t length);
    void *take_context;
    void *data;
    uint64_t started_ns;
    void (*on_gone)(void *context, struct request *request);
    void *gone_context;
    struct {
        const char *name, *value;
    } headers[HTTP_HEADERS_MAX];
    size_t header_count;
    struct MHD_Response *response; /* stored, not queued yet */
    unsigned status;
    const struct stream_source *source;
    void *source_context;
    int watched_fd;  /* while is_watched, in http->clients_fd */
    bool is_settled; /* MHD has called without having read: the connection may sleep */
    bool is_watched, is_begun, is_dispatched, is_too_large, must_wait, is_suspended, is_woken, is_gone, is_half_closed,
        has_reply, has_plain_errors;
};

/* The one way back from a void pointer. */
static inline struct request *http_request_from(void *pointer)
{
    struct request *request = pointer;
    CHECK(request != NULL && request->magic == HTTP_REQUEST_MAGIC);
    return request;
}

/* The client's socket, while there is a connection; -1: MHD does not say. */
static inline int http_client_fd(const struct request *request)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info == NULL ? -1 : info->connect_fd;
}

/* The first that MHD says of a request, before it looks at the query. What is returned, the request, becomes the
 * `state` of the two below; NULL without memory. `context` is the listener. */
void *http_on_target(void *context, const char *target, struct MHD_Connection *connection);

/* MHD's news of a TLS listener's connections: that they are there, and that they are not any more. `context` is the
 * listener. */
void http_on_tls_connection(void *context, struct MHD_Connection *connection, void **state,
                            enum MHD_ConnectionNotificationCode news);

/* GnuTLS asks for the certificate of a handshake. */
gnutls_certificate_retrieve_function3 http_on_certificate_wanted;

/* MHD's access handler: the head, then parts of the body, then its end, and again after the connection was resumed. */
enum MHD_Result http_on_access(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                               const char *version, const char *upload, size_t *upload_bytes, void **state);

/* Ends a request, however it went. */
void http_on_completed(void *context, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode how);

/* Tells who holds the request that its client is gone. */
void http_tell_gone(struct request *request);

/* Tells the holders of requests whose clients closed their side, HTTP_DEPARTURES_A_TURN_MAX at most. */
void http_take_departures(const struct http *http);

/* One of `open_parts` is closed; the last one after http_destroy frees `http`. */
void http_part_closed(struct http *http);

/* Puts the request's connection to sleep, watching for its client to leave. Only inside an MHD callback. */
void http_suspend(struct request *request);

/* Resumes a sleeping connection with the loop's next turn. */
void http_wake(struct request *request);

/* A request whose target ("/path?query") came, nothing else of it yet; NULL without memory. */
struct request *http_request_create(struct listener *listener, struct MHD_Connection *connection, const char *target);

/* Its headers are here: from now on it counts. False without memory. */
bool http_request_begin(struct request *request, const char *method);

/* Replies to what no request may be: a target with a NUL, or more than one meaning of where the body ends. `version` is
 * MHD's own text behind the target. Whether it replied. */
bool http_refuse_head(struct request *request, const char *version);

/* Replies to a client that waits to be told to send its body, when its announced length is over the maximum. Whether
 * there is a reply now. */
bool http_refuse_expected(struct request *request);

/* 413 for the body. */
void http_reply_too_large(struct request *request);

/* Gives one reference back. */
void http_request_unref(struct request *request);

#endif
