/* What MHD calls for a connection: the life of a request from its head to its end, asleep meanwhile or not.
 *
 * A request is counted: by its connection, by its response while MHD has it, by each holder.
 * Thread: loop. Owns requests. */
#include "daemon/http_private.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "engine/base/mem.h"

enum {
    SWALLOWED_BYTES_MAX = 64 << 20, /* of a body that is over its maximum: read so that the client sees the 413 */
};

/* ---- Life of a request */

void http_request_unref(struct request *request)
{
    CHECK(request->references > 0);
    if (--request->references > 0) {
        return;
    }
    struct http *http = request->http;
    if (request->response != NULL) {
        MHD_destroy_response(request->response);
    }
    mem_free(request->body);
    arena_release(&request->arena);
    request->magic = 0;
    mem_free(request);
    http_part_closed(http);
}

void http_tell_gone(struct request *request)
{
    if (request->on_gone != NULL) {
        request->on_gone(request->gone_context, request);
    }
}

/* To the end of the request, from its head or its first sleep: a stream sleeps and wakes so often that starting and
 * stopping, a call to the kernel each, would take an eighth of the loop's time. */
static void watch_client(struct request *request)
{
    int fd = http_client_fd(request);
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = request};
    if (epoll_ctl(request->http->clients_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        return; /* the deadline and the next write notice as well, only later */
    }
    request->watched_fd = fd;
    request->is_watched = true;
}

static void unwatch_client(struct request *request)
{
    if (request->is_watched) {
        request->is_watched = false;
        epoll_ctl(request->http->clients_fd, EPOLL_CTL_DEL, request->watched_fd, NULL);
    }
}

/* Makes MHD look at a connection again whose client has closed its sending side in the middle of the body. MHD 0.9.75
 * takes a read that gives less than it has room for as the last one until the next event, but the end came with the
 * same event as the bytes; it would hold the request until its time-out. There is nothing to lose: the client sends no
 * more. (The kernel tells all who poll a socket of any shutdown.) */
static void see_end(const struct request *request)
{
    if (request->is_watched && request->is_half_closed && !request->is_dispatched && !request->is_suspended) {
        shutdown(request->watched_fd, SHUT_RD);
    }
}

/* The same for the end that came with a request whose reply is through: MHD would wait for the next one until its
 * time-out. What of it came earlier, MHD has. */
static void see_end_behind(const struct request *request)
{
    int fd = http_client_fd(request);
    char next;
    if (recv(fd, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
        shutdown(fd, SHUT_RD);
    }
}

void http_take_departures(const struct http *http)
{
    struct epoll_event events[HTTP_DEPARTURES_A_TURN_MAX];
    int count = epoll_wait(http->clients_fd, events, HTTP_DEPARTURES_A_TURN_MAX, 0);
    for (int i = 0; i < count; i++) {
        http_request_from(events[i].data.ptr)->references++;
    }
    for (int i = 0; i < count; i++) {
        struct request *request = http_request_from(events[i].data.ptr);
        request->is_half_closed = true;
        see_end(request);
        http_tell_gone(request);
        http_request_unref(request);
    }
}

void http_suspend(struct request *request)
{
    CHECK(!request->is_suspended);
    request->is_suspended = true;
    MHD_suspend_connection(request->connection);
    if (!request->is_watched) {
        watch_client(request);
    }
}

/* ---- What MHD calls */

/* Offers what is there of the body to who takes it in parts. */
static void offer_part(struct request *request)
{
    size_t length = request->body_length;
    enum body_part what = request->take_body(request->take_context, request, request->body, length);
    request->is_too_large = request->taken_bytes + length > request->body_bytes_max; /* it may have been lowered */
    if (what == BODY_PART_STAYS) {
        request->take_body = NULL;
        return;
    }
    request->body = NULL;
    request->body_length = request->body_capacity = 0;
    request->taken_bytes += length;
    request->must_wait = what == BODY_PART_WAITS;
}

/* Whether the pass must end before the connection may sleep, for the first time. In the pass that read, MHD 0.9.75
 * would still count it as one to read from when it is resumed, and close it, without the reply, where its client has
 * closed its sending side by then. (Parts of a body wait in such passes: more is to come then, but for chunks.) */
static bool must_settle(struct request *request)
{
    bool is_first = !request->is_settled;
    request->is_settled = true;
    return is_first;
}

/* Whether its length says that the body is here. */
static bool is_whole(const struct request *request)
{
    const char *length = request_header(request, "Content-Length");
    return length != NULL && strtoull(length, NULL, 10) <= request->taken_bytes + request->body_length;
}

/* Whether the connection was put to sleep, as the one who took the last part wanted it. */
static bool wait_if_asked(struct request *request)
{
    bool waits = request->must_wait && !request->has_reply;
    request->must_wait = false;
    if (waits) {
        http_suspend(request);
    }
    return waits;
}

static void append_body(struct request *request, const char *bytes, size_t length)
{
    size_t needed = request->body_length + length;
    bool is_over = request->taken_bytes + needed > request->body_bytes_max;
    if (request->has_reply || request->is_too_large || is_over) {
        request->is_too_large = request->is_too_large || !request->has_reply;
        request->swallowed_bytes += length;
        return;
    }
    if (needed + 1 > request->body_capacity) {
        size_t capacity = request->body_capacity < 2048 ? 4096 : 2 * request->body_capacity;
        capacity = capacity < needed + 1 ? needed + 1 : capacity;
        char *body = mem_reallocate(request->body, capacity, 1);
        if (body == NULL) {
            struct error error;
            error_set(&error, STATUS_NO_MEMORY, "no memory for a body of %zu bytes", needed);
            request_reply_error(request, &error);
            return;
        }
        request->body = body;
        request->body_capacity = capacity;
    }
    memcpy(request->body + request->body_length, bytes, length);
    request->body_length = needed;
    request->body[needed] = '\0';
    if (request->take_body != NULL && needed >= HTTP_PART_BYTES) {
        offer_part(request);
    }
}

static enum MHD_Result queue_reply(struct request *request)
{
    struct MHD_Response *response = request->response;
    request->response = NULL;
    request->http->event_count++;
    if (response == NULL) {
        return MHD_NO; /* no memory for it */
    }
    enum MHD_Result result = MHD_queue_response(request->connection, request->status, response);
    MHD_destroy_response(response);
    return result;
}

/* The body is here, or the connection was resumed. */
static enum MHD_Result dispatch(struct request *request)
{
    struct http *http = request->http;
    bool has_rest = !request->is_dispatched && !request->is_too_large && !request->has_reply;
    if (has_rest && request->take_body != NULL) {
        if (must_settle(request) || wait_if_asked(request)) { /* for the part before */
            return MHD_YES;
        }
        offer_part(request);
        request->take_body = NULL;
        if (wait_if_asked(request)) {
            return MHD_YES;
        }
    }
    if (!request->is_dispatched) {
        request->is_dispatched = true;
        http->event_count++;
        if (request->is_too_large && !request->has_reply) {
            http_reply_too_large(request);
        }
        if (!request->has_reply) {
            request->references++;
            http->callbacks.on_request(http->callbacks.context, request);
            CHECK(request->has_reply || request->references > 2); /* answered or held */
            http_request_unref(request);
        }
    }
    if (request->has_reply) {
        return queue_reply(request);
    }
    if (request->is_gone) {
        return MHD_NO;
    }
    if (!must_settle(request)) {
        http_suspend(request);
    }
    return MHD_YES;
}

/* Whether more than the head is to come. */
static bool has_body(const struct request *request)
{
    const char *length = request_header(request, "Content-Length");
    return (length != NULL && strcmp(length, "0") != 0) || request_header(request, "Transfer-Encoding") != NULL;
}

void *http_on_target(void *context, const char *target, struct MHD_Connection *connection)
{
    struct request *request = target == NULL ? NULL : http_request_create(context, connection, target);
    char *query = target == NULL ? NULL : strchr(target, '?');
    /* MHD is kept from parsing the query: it would take a record of its connection's memory for each parameter, and
     * when that is used up (a few hundred of "a=1") it forgets, in 0.9.75, to send the 431 that it has made: the client
     * waits for its time-out. */
    if (query != NULL) {
        query[1] = '\0'; /* in MHD's own buffer, where it puts NULs itself a moment later */
    }
    return request;
}

enum MHD_Result http_on_access(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                               const char *version, const char *upload, size_t *upload_bytes, void **state)
{
    (void)connection;
    (void)url;
    struct listener *listener = context;
    struct http *http = listener->http;
    if (*state == NULL) {
        return MHD_NO; /* no memory for it */
    }
    struct request *request = http_request_from(*state);
    if (!request->is_begun) {
        if (!http_request_begin(request, method)) {
            return MHD_NO;
        }
        if (http_refuse_head(request, version)) {
            request->is_dispatched = true;
            return queue_reply(request);
        }
        http->callbacks.on_head(http->callbacks.context, request);
        if (has_body(request)) {
            watch_client(request); /* it may leave in the middle, and would be waited for */
        }
        if (http_refuse_expected(request)) {
            request->is_dispatched = true;
            return queue_reply(request);
        }
        return MHD_YES;
    }
    if (request->is_gone && !request->has_reply) {
        return MHD_NO; /* its listener is being closed, and who took the last part may still be at it */
    }
    if (*upload_bytes > 0 && request->is_suspended) {
        return MHD_YES; /* another chunk that MHD has already: it comes again */
    }
    if (*upload_bytes > 0) {
        append_body(request, upload, *upload_bytes);
        *upload_bytes = 0;
        if (request->must_wait && !is_whole(request)) { /* else it waits in a pass that does not read */
            (void)wait_if_asked(request);
        }
        see_end(request);
        return request->swallowed_bytes > SWALLOWED_BYTES_MAX ? MHD_NO : MHD_YES;
    }
    request->is_suspended = false;
    return dispatch(request);
}

void http_on_completed(void *context, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode how)
{
    (void)context;
    (void)connection;
    if (*state == NULL) {
        return;
    }
    struct request *request = http_request_from(*state);
    struct http *http = request->http;
    *state = NULL;
    if (how == MHD_REQUEST_TERMINATED_COMPLETED_OK) {
        see_end_behind(request);
    }
    request->connection = NULL;
    request->is_gone = true;
    if (!request->is_begun) { /* its headers never came, or were refused by MHD */
        http_request_unref(request);
        return;
    }
    if (how != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
        http_tell_gone(request);
    }
    request->on_gone = NULL;
    if (request->response != NULL) { /* a stream's holds the request */
        MHD_destroy_response(request->response);
        request->response = NULL;
    }
    http->callbacks.on_end(http->callbacks.context, request);
    *request->link = request->next;
    if (request->next != NULL) {
        request->next->link = request->link;
    }
    http->request_count--;
    unwatch_client(request);
    http_request_unref(request);
}
