/* libmicrohttpd inside libuv. Each listener is one MHD daemon, run by hand: its epoll descriptor is watched by
 * uv_poll, and after every MHD_run its timeout is asked for and obeyed (its epoll is edge-triggered, so data can
 * wait without an event; zero means again right after the next poll, a few times, then 1 ms later, since MHD may be
 * waiting, not working).
 *
 * A request is answered in one way only: the reply is stored, and queued when MHD calls the handler (again). Resuming
 * happens in one place, an idle callback, so never inside an MHD callback, and MHD is run right after it. While a
 * connection sleeps MHD neither times it out nor sees the client leave: a uv_poll watches its descriptor then.
 *
 * A request is counted: by its connection, by its response while MHD has it, by each holder, by its open uv_poll.
 * Thread: loop. Owns sockets, MHD daemons, requests. */
#include "daemon/http_private.h"

#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum {
    BUSY_ROUNDS_MAX = 64,
    SWALLOWED_BYTES_MAX = 64 << 20,  /* of a body that is over its maximum: read so that the client sees the 413 */
    SOCKET_BUFFER_BYTES = 128 << 10, /* of unsent text in the kernel: what a reader that stopped may be behind */
};

static void part_closed(struct http *http)
{
    CHECK(http->open_parts > 0);
    if (--http->open_parts == 0 && http->is_destroyed) {
        mem_free(http);
    }
}

/* ---- Life of a request */

void http_request_unref(struct request *request)
{
    CHECK(request->references > 0);
    if (--request->references > 0) {
        return;
    }
    struct http *http = request->listener->http;
    if (request->response != NULL) {
        MHD_destroy_response(request->response);
    }
    mem_free(request->body);
    arena_release(&request->arena);
    request->magic = 0;
    mem_free(request);
    part_closed(http);
}

static void on_watch_closed(uv_handle_t *handle)
{
    http_request_unref(http_request_from(handle->data));
}

static void tell_gone(struct request *request)
{
    if (request->on_gone != NULL) {
        request->on_gone(request->gone_context, request);
    }
}

static void on_watch(uv_poll_t *watch, int status, int events)
{
    struct request *request = http_request_from(watch->data);
    if (status < 0 || (events & UV_DISCONNECT) != 0) {
        uv_poll_stop(watch);
        request->is_half_closed = true;
        tell_gone(request);
    }
}

static void watch_client(struct request *request)
{
    if (!request->has_watch) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (info == NULL || uv_poll_init(request->listener->http->loop, &request->watch, info->connect_fd) != 0) {
            return; /* the deadline and the next write notice as well, only later */
        }
        request->watch.data = request;
        request->has_watch = true;
        request->references++;
    }
    if (!request->is_half_closed) {
        uv_poll_start(&request->watch, UV_DISCONNECT, on_watch);
    }
}

void http_suspend(struct request *request)
{
    CHECK(!request->is_suspended);
    request->is_suspended = true;
    MHD_suspend_connection(request->connection);
    watch_client(request);
}

static void on_resume(uv_idle_t *idle);

void http_wake(struct request *request)
{
    struct http *http = request->listener->http;
    if (request->is_woken || !request->is_suspended || request->connection == NULL) {
        return;
    }
    request->is_woken = true;
    request->references++;
    request->next_woken = NULL;
    *http->woken_last = request;
    http->woken_last = &request->next_woken;
    uv_idle_start(&http->resume, on_resume);
}

/* ---- What MHD calls */

static void append_body(struct request *request, const char *bytes, size_t length)
{
    size_t needed = request->body_length + length;
    if (request->has_reply || request->is_too_large || needed > request->body_bytes_max) {
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
}

static enum MHD_Result queue_reply(struct request *request)
{
    struct MHD_Response *response = request->response;
    request->response = NULL;
    request->listener->http->event_count++;
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
    struct http *http = request->listener->http;
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
    http_suspend(request);
    return MHD_YES;
}

/* The first that MHD says of a request, before it looks at the query; what is returned becomes on_access's state. MHD
 * is kept from parsing the query: it would take a record of its connection's memory for each parameter, and when that
 * is used up (a few hundred of "a=1") it forgets, in 0.9.75, to send the 431 that it has made: the client waits for its
 * time-out. */
static void *on_target(void *context, const char *target, struct MHD_Connection *connection)
{
    struct request *request = target == NULL ? NULL : http_request_create(context, connection, target);
    char *query = target == NULL ? NULL : strchr(target, '?');
    if (query != NULL) {
        query[1] = '\0'; /* in MHD's own buffer, where it puts NULs itself a moment later */
    }
    return request;
}

static enum MHD_Result on_access(void *context, struct MHD_Connection *connection, const char *url, const char *method,
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
        if (http_refuse_expected(request)) {
            request->is_dispatched = true;
            return queue_reply(request);
        }
        return MHD_YES;
    }
    if (*upload_bytes > 0) {
        append_body(request, upload, *upload_bytes);
        *upload_bytes = 0;
        return request->swallowed_bytes > SWALLOWED_BYTES_MAX ? MHD_NO : MHD_YES;
    }
    request->is_suspended = false;
    return dispatch(request);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode how)
{
    (void)context;
    (void)connection;
    if (*state == NULL) {
        return;
    }
    struct request *request = http_request_from(*state);
    struct http *http = request->listener->http;
    *state = NULL;
    request->connection = NULL;
    request->is_gone = true;
    if (!request->is_begun) { /* its headers never came, or were refused by MHD */
        http_request_unref(request);
        return;
    }
    if (how != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
        tell_gone(request);
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
    if (request->has_watch) {
        uv_close((uv_handle_t *)&request->watch, on_watch_closed);
    }
    http_request_unref(request);
}

static void on_log(void *context, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));
static void on_log(void *context, const char *format, va_list arguments)
{
    (void)context;
    char message[512];
    vsnprintf(message, sizeof message, format, arguments);
    log_event(LOG_LEVEL_DEBUG, "http", message, "%s", "");
}

/* The path is passed on as sent: routes decode it, once, after splitting. */
static size_t on_unescape(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

/* ---- Running MHD */

static void pump(struct listener *listener);

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    pump(poll->data);
}

static void on_idle(uv_idle_t *idle)
{
    pump(idle->data);
}

static void on_timer(uv_timer_t *timer)
{
    pump(timer->data);
}

static void pump(struct listener *listener)
{
    CHECK(!listener->is_pumping);
    listener->is_pumping = true;
    CHECK(MHD_run(listener->mhd) == MHD_YES);
    listener->is_pumping = false;

    MHD_UNSIGNED_LONG_LONG wait_ms;
    if (MHD_get_timeout(listener->mhd, &wait_ms) == MHD_NO) {
        listener->busy_rounds = 0;
        uv_idle_stop(&listener->idle);
        uv_timer_stop(&listener->timer);
    } else if (wait_ms == 0 && ++listener->busy_rounds <= BUSY_ROUNDS_MAX) {
        uv_idle_start(&listener->idle, on_idle);
    } else {
        listener->busy_rounds = 0;
        uv_idle_stop(&listener->idle);
        uv_timer_start(&listener->timer, on_timer, wait_ms > 0 ? wait_ms : 1, 0);
    }
}

/* Resumes at most HTTP_RESUMES_A_TURN_MAX connections and lets MHD go on with them. */
static void on_resume(uv_idle_t *idle)
{
    struct http *http = idle->data;
    bool is_touched[HTTP_LISTENERS_MAX] = {false};
    for (size_t i = 0; i < HTTP_RESUMES_A_TURN_MAX && http->woken_first != NULL; i++) {
        struct request *request = http->woken_first;
        http->woken_first = request->next_woken;
        request->is_woken = false;
        if (request->connection != NULL && request->is_suspended) {
            if (request->has_watch) {
                uv_poll_stop(&request->watch);
            }
            MHD_resume_connection(request->connection);
            request->is_suspended = false;
            for (size_t j = 0; j < http->listener_count; j++) {
                is_touched[j] = is_touched[j] || http->listeners[j] == request->listener;
            }
        }
        http_request_unref(request);
    }
    if (http->woken_first == NULL) {
        http->woken_last = &http->woken_first;
        uv_idle_stop(idle);
    }
    for (size_t j = 0; j < http->listener_count; j++) {
        if (is_touched[j]) {
            pump(http->listeners[j]);
        }
    }
}

/* ---- Starting and stopping */

enum status http_create(uv_loop_t *loop, const struct settings *settings, const struct http_callbacks *callbacks,
                        struct http **ret_http, struct error *error)
{
    struct http *http = mem_allocate(1, sizeof *http);
    if (http == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the HTTP server");
    }
    http->loop = loop;
    http->settings = settings;
    http->callbacks = *callbacks;
    http->woken_last = &http->woken_first;
    http->open_parts = 1;
    uv_idle_init(loop, &http->resume);
    http->resume.data = http;
    *ret_http = http;
    return STATUS_OK;
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    if (--listener->open_handles == 0) {
        struct http *http = listener->http;
        mem_free(listener);
        part_closed(http);
    }
}

static void close_listener(struct listener *listener)
{
    /* First the watch: libuv takes the descriptor out of its epoll by number, and once MHD has closed it, a file that
     * another thread opens may have that number. */
    uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
    MHD_stop_daemon(listener->mhd);
    listener->mhd = NULL;
    uv_close((uv_handle_t *)&listener->idle, on_listener_closed);
    uv_close((uv_handle_t *)&listener->timer, on_listener_closed);
}

static struct MHD_Daemon *start_mhd(struct listener *listener, int fd)
{
    const struct settings *settings = listener->http->settings;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_access, listener,
        MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)settings->connection_timeout_seconds,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)settings->connections_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)settings->connection_bytes_max, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_UNESCAPE_CALLBACK,
        on_unescape, NULL, MHD_OPTION_URI_LOG_CALLBACK, on_target, listener, MHD_OPTION_END);
}

enum status http_serve(struct http *http, int fd, bool is_unix, const char *address, struct error *error)
{
    struct listener *listener = mem_allocate(1, sizeof *listener);
    if (listener == NULL || http->listener_count == HTTP_LISTENERS_MAX) {
        mem_free(listener);
        close(fd);
        return error_set(error, STATUS_LIMIT, "listen on %s: no memory, or more than %d sockets", address,
                         HTTP_LISTENERS_MAX);
    }
    /* Accepted connections inherit it. Left alone, the kernel would take megabytes for each stream nobody reads. */
    int buffer_bytes = SOCKET_BUFFER_BYTES;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
    listener->http = http;
    listener->is_unix = is_unix;
    listener->mhd = start_mhd(listener, fd);
    if (listener->mhd == NULL) {
        mem_free(listener);
        close(fd);
        return error_set(error, STATUS_IO, "listen on %s: libmicrohttpd does not start", address);
    }
    int epoll = MHD_get_daemon_info(listener->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    int failed = uv_poll_init(http->loop, &listener->poll, epoll);
    if (failed != 0) {
        MHD_stop_daemon(listener->mhd);
        mem_free(listener);
        return error_set(error, STATUS_IO, "listen on %s: uv_poll_init: %s", address, uv_strerror(failed));
    }
    uv_idle_init(http->loop, &listener->idle);
    uv_timer_init(http->loop, &listener->timer);
    listener->poll.data = listener->idle.data = listener->timer.data = listener;
    listener->open_handles = 3;
    http->open_parts++;
    http->listeners[http->listener_count++] = listener;
    uv_poll_start(&listener->poll, UV_READABLE, on_poll);
    pump(listener);
    return STATUS_OK;
}

void http_quiesce(struct http *http)
{
    for (size_t i = 0; i < http->listener_count; i++) {
        if (!http->listeners[i]->is_quiesced) {
            http->listeners[i]->is_quiesced = true;
            int fd = MHD_quiesce_daemon(http->listeners[i]->mhd);
            if (fd >= 0) {
                close(fd);
            }
        }
    }
}

size_t http_request_count(const struct http *http)
{
    return http->request_count;
}

uint64_t http_event_count(const struct http *http)
{
    return http->event_count;
}

void http_destroy(struct http *http)
{
    if (http == NULL) {
        return;
    }
    http_quiesce(http);
    for (struct request *request = http->requests, *next; request != NULL; request = next) {
        next = request->next;
        request->is_gone = true;
        request->references++;
        tell_gone(request);
        http_wake(request);
        http_request_unref(request);
    }
    while (http->woken_first != NULL) { /* MHD aborts when it is stopped with sleeping connections */
        on_resume(&http->resume);
    }
    for (size_t i = 0; i < http->listener_count; i++) {
        close_listener(http->listeners[i]);
    }
    http->listener_count = 0;
    http->is_destroyed = true;
    uv_close((uv_handle_t *)&http->resume, NULL);
    part_closed(http);
}
