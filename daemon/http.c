/* libmicrohttpd inside libuv. Each listener is one MHD daemon, run by hand: its epoll descriptor is watched by
 * uv_poll, and after every MHD_run its timeout is asked for and obeyed (its epoll is edge-triggered, so data can
 * wait without an event; zero means again right after the next poll, a few times, then 1 ms later, since MHD may be
 * waiting, not working).
 *
 * A request is answered in one way only: the reply is stored, and queued when MHD calls the handler (again). Resuming
 * happens in one place, an idle callback, so never inside an MHD callback, and MHD is run right after it. While a
 * connection sleeps MHD neither times it out nor sees the client leave: a uv_poll watches its descriptor then.
 * Thread: loop. Owns sockets, MHD daemons. */
#include "daemon/http_private.h"

#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum {
    BUSY_ROUNDS_MAX = 64,
    SOCKET_BUFFER_BYTES = 128 << 10, /* of unsent text in the kernel: what a reader that stopped may be behind */
};

void http_part_closed(struct http *http)
{
    CHECK(http->open_parts > 0);
    if (--http->open_parts == 0 && http->is_destroyed) {
        mem_free(http);
    }
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
        http_part_closed(http);
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
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, http_on_access, listener,
        MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)settings->connection_timeout_seconds,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)settings->connections_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)settings->connection_bytes_max, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_UNESCAPE_CALLBACK,
        on_unescape, NULL, MHD_OPTION_URI_LOG_CALLBACK, http_on_target, listener, MHD_OPTION_END);
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
        http_tell_gone(request);
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
    http_part_closed(http);
}
