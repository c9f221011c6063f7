/* libmicrohttpd inside libuv. Each listener is an MHD daemon, run by hand: its epoll descriptor is watched by
 * uv_poll, and after every MHD_run its timeout is asked for and obeyed (its epoll is edge-triggered, so data can
 * wait without an event; zero means again with the next turn, a few times, then 1 ms later, since MHD may be waiting,
 * not working). A turn of the loop runs listeners in turn, until it has spent its time.
 *
 * A request is answered in one way only: the reply is stored, and queued when MHD calls the handler (again). Resuming
 * happens in one place, never inside an MHD callback, and MHD is run right after it. While a
 * connection sleeps MHD neither times it out nor sees the client leave: an epoll of our own watches for it.
 * Thread: loop. Owns sockets, MHD daemons. */
#include "daemon/http_private.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/certificate.h"
#include "daemon/log.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum {
    BUSY_ROUNDS_MAX = 64,
    BUSY_ROUNDS_SHAKING_MAX = 4, /* the same while there are TLS handshakes */
    PAUSE_ROUNDS = 64,           /* what such a pause is long, in rounds like the last; for each listener */
    PAUSE_NS_MAX = 16000000,     /* for each listener, too: the last round may have done something after all */
    TURN_NS_MAX = 100000,        /* a turn of the loop runs no other listener for old work, or for new, after that */
    SOCKET_BUFFER_BYTES = 128 << 10, /* of unsent text in the kernel: what a reader that stopped may be behind */
};

/* Of what GnuTLS holds for safe: TLS 1.2 and above, and no key exchange that lets whoever gets the key later read what
 * was said before. */
#define TLS_PRIORITIES "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1:-RSA"

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

static void on_work(uv_idle_t *idle);

static void mark(struct listener *listener)
{
    struct http *http = listener->http;
    if (!listener->has_work) {
        listener->has_work = true;
        http->work_count++;
        uv_idle_start(&http->work, on_work);
    }
}

static void on_timer(uv_timer_t *timer)
{
    mark(timer->data);
}

/* How long MHD is left alone that said "at once" again and again. In each round it tries all TLS handshakes again, also
 * those of clients that send nothing: all listeners together must not spend more than a share of the time on them. */
static uint64_t pause_ms(const struct listener *listener, uint64_t round_ns)
{
    uint64_t pause_ns = round_ns < PAUSE_NS_MAX / PAUSE_ROUNDS ? round_ns * PAUSE_ROUNDS : PAUSE_NS_MAX;
    uint64_t pause = listener->handshake_count > 0 ? pause_ns * listener->http->listener_count / 1000000 : 0;
    return pause > 0 ? pause : 1;
}

static void pump(struct listener *listener)
{
    CHECK(!listener->is_pumping);
    listener->is_pumping = true;
    uint64_t began_ns = clock_now_ns();
    CHECK(MHD_run(listener->mhd) == MHD_YES);
    uint64_t took_ns = clock_now_ns() - began_ns;
    listener->http->spent_ns += took_ns;
    listener->is_pumping = false;

    MHD_UNSIGNED_LONG_LONG wait_ms;
    bool has_timeout = MHD_get_timeout(listener->mhd, &wait_ms) == MHD_YES;
    size_t rounds_max = listener->handshake_count > 0 ? BUSY_ROUNDS_SHAKING_MAX : BUSY_ROUNDS_MAX;
    if (has_timeout && wait_ms == 0 && ++listener->busy_rounds <= rounds_max) {
        mark(listener);
        return;
    }
    if (has_timeout) {
        uv_timer_start(&listener->timer, on_timer, wait_ms > 0 ? wait_ms : pause_ms(listener, took_ns), 0);
    } else {
        uv_timer_stop(&listener->timer);
    }
    listener->busy_rounds = 0;
}

/* At once, or in the listener's turn when others have taken their time. */
static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct listener *listener = poll->data;
    if (listener->http->spent_ns < TURN_NS_MAX) {
        pump(listener);
    } else {
        mark(listener);
    }
}

static void resume_some(struct listener *listener)
{
    for (size_t i = 0; i < HTTP_RESUMES_A_TURN_MAX && listener->woken_first != NULL; i++) {
        struct request *request = listener->woken_first;
        listener->woken_first = request->next_woken;
        request->is_woken = false;
        if (request->connection != NULL && request->is_suspended) {
            MHD_resume_connection(request->connection);
            request->is_suspended = false;
        }
        http_request_unref(request);
    }
    if (listener->woken_first == NULL) {
        listener->woken_last = &listener->woken_first;
    }
}

/* Runs the next listener that has work. There is one. */
static void work(struct http *http)
{
    while (!http->listeners[http->next]->has_work) {
        http->next = (http->next + 1) % http->listener_count;
    }
    struct listener *listener = http->listeners[http->next];
    http->next = (http->next + 1) % http->listener_count;
    resume_some(listener);
    listener->has_work = false;
    http->work_count--;
    if (listener->woken_first != NULL) {
        mark(listener);
    }
    pump(listener);
}

static void on_work(uv_idle_t *idle)
{
    struct http *http = idle->data;
    http->spent_ns = 0;
    do {
        work(http);
    } while (http->work_count > 0 && http->spent_ns < TURN_NS_MAX);
    if (http->work_count == 0) {
        uv_idle_stop(idle);
    }
}

/* What comes in has time of its own, so that it need not wait behind a crowd of streams. */
static void on_before_poll(uv_prepare_t *prepare)
{
    struct http *http = prepare->data;
    http->spent_ns = 0;
}

void http_wake(struct request *request)
{
    struct listener *listener = request->listener;
    if (request->is_woken || !request->is_suspended || request->connection == NULL) {
        return;
    }
    request->is_woken = true;
    request->references++;
    request->next_woken = NULL;
    *listener->woken_last = request;
    listener->woken_last = &request->next_woken;
    mark(listener);
}

/* ---- Starting and stopping */

static void on_departures(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    http_take_departures(poll->data);
}

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
    http->clients_fd = epoll_create1(EPOLL_CLOEXEC);
    if (http->clients_fd < 0 || uv_poll_init(loop, &http->clients, http->clients_fd) != 0) {
        int reason = errno;
        if (http->clients_fd >= 0) {
            close(http->clients_fd);
        }
        mem_free(http);
        return error_set_errno(error, reason, "epoll for the clients");
    }
    http->open_parts = 3; /* its handles */
    http->clients.data = http;
    uv_poll_start(&http->clients, UV_READABLE, on_departures);
    uv_unref((uv_handle_t *)&http->clients);
    uv_idle_init(loop, &http->work);
    uv_prepare_init(loop, &http->before_poll);
    http->work.data = http->before_poll.data = http;
    uv_prepare_start(&http->before_poll, on_before_poll);
    uv_unref((uv_handle_t *)&http->before_poll);
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
    uv_close((uv_handle_t *)&listener->timer, on_listener_closed);
}

static struct MHD_Daemon *start_mhd(struct listener *listener, int fd, size_t connections_max)
{
    const struct settings *settings = listener->http->settings;
    unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | (listener->is_tls ? MHD_USE_TLS : 0);
    return MHD_start_daemon(flags, 0, NULL, NULL, http_on_access, listener, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
                            MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
                            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)settings->connection_timeout_seconds,
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)connections_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)settings->connection_bytes_max, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
                            MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL, MHD_OPTION_URI_LOG_CALLBACK,
                            http_on_target, listener, listener->is_tls ? MHD_OPTION_HTTPS_PRIORITIES : MHD_OPTION_END,
                            TLS_PRIORITIES, MHD_OPTION_HTTPS_CERT_CALLBACK2, http_on_certificate_wanted,
                            MHD_OPTION_NOTIFY_CONNECTION, http_on_tls_connection, listener, MHD_OPTION_END);
}

/* Takes over `fd`, on failure too. */
static enum status add_listener(struct http *http, int fd, bool is_unix, size_t connections_max, struct error *error)
{
    struct listener *listener = mem_allocate(1, sizeof *listener);
    if (listener == NULL) {
        close(fd);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a listener");
    }
    listener->http = http;
    listener->is_unix = is_unix;
    listener->is_tls = !is_unix && http->certificate != NULL;
    listener->woken_last = &listener->woken_first;
    listener->mhd = start_mhd(listener, fd, connections_max);
    if (listener->mhd == NULL) {
        mem_free(listener);
        close(fd);
        return error_set(error, STATUS_IO, "libmicrohttpd does not start");
    }
    int epoll = MHD_get_daemon_info(listener->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    int failed = uv_poll_init(http->loop, &listener->poll, epoll);
    if (failed != 0) {
        MHD_stop_daemon(listener->mhd);
        mem_free(listener);
        return error_set(error, STATUS_IO, "uv_poll_init: %s", uv_strerror(failed));
    }
    uv_timer_init(http->loop, &listener->timer);
    listener->poll.data = listener->timer.data = listener;
    listener->open_handles = 2;
    http->open_parts++;
    http->listeners[http->listener_count++] = listener;
    uv_poll_start(&listener->poll, UV_READABLE, on_poll);
    pump(listener);
    return STATUS_OK;
}

/* Adds one listener for each LISTENER_CONNECTIONS; the last one has `fd` itself. */
static enum status add_listeners(struct http *http, int fd, bool is_unix, struct error *error)
{
    size_t left = http->settings->connections_max;
    size_t count = (left + LISTENER_CONNECTIONS - 1) / LISTENER_CONNECTIONS;
    for (count = count < LISTENERS_A_SOCKET_MAX ? count : LISTENERS_A_SOCKET_MAX; count > 1; count--) {
        size_t own = (left + count - 1) / count;
        int duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        enum status status =
            duplicate < 0 ? error_set_errno(error, errno, "dup") : add_listener(http, duplicate, is_unix, own, error);
        if (status != STATUS_OK) {
            close(fd);
            return status;
        }
        left -= own;
    }
    return add_listener(http, fd, is_unix, left, error);
}

enum status http_serve(struct http *http, int fd, bool is_unix, const char *address, struct error *error)
{
    if (http->socket_count == HTTP_SOCKETS_MAX) {
        close(fd);
        return error_set(error, STATUS_LIMIT, "listen on %s: more than %d sockets", address, HTTP_SOCKETS_MAX);
    }
    http->socket_count++;
    /* Accepted connections inherit it. Left alone, the kernel would take megabytes for each stream nobody reads. */
    int buffer_bytes = SOCKET_BUFFER_BYTES;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
    enum status status = add_listeners(http, fd, is_unix, error);
    if (status != STATUS_OK) {
        error_prefix(error, "listen on %s", address);
    }
    return status;
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

static void on_own_closed(uv_handle_t *handle)
{
    http_part_closed(handle->data);
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
    for (size_t i = 0; i < http->listener_count; i++) {
        struct listener *listener = http->listeners[i];
        while (listener->woken_first != NULL) { /* MHD aborts when it is stopped with sleeping connections */
            resume_some(listener);
            pump(listener);
        }
        close_listener(listener);
    }
    http->listener_count = 0;
    certificate_unref(http->certificate);
    http->certificate = NULL;
    http->is_destroyed = true;
    uv_close((uv_handle_t *)&http->clients, on_own_closed);
    close(http->clients_fd);
    uv_close((uv_handle_t *)&http->work, on_own_closed);
    uv_close((uv_handle_t *)&http->before_poll, on_own_closed);
}
