/* lstmd serve: reads the configuration, opens the sockets, runs the loop until a signal ends it.
 *
 *   start → (first scan) → ready → SIGTERM → draining: no new connections, new requests 503 → all ended, or
 *   drain_seconds over → stop;   a second SIGTERM ends at once.   SIGHUP reads configuration and directories again.
 *
 * Thread: main, which is the loop's. Owns the server, the signal handles and the tick. */
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/certificate.h"
#include "daemon/commands.h"
#include "daemon/completion.h"
#include "daemon/first_sentence.h"
#include "daemon/log.h"
#include "daemon/registry.h"
#include "daemon/serve_check.h"
#include "daemon/server.h"
#include "daemon/sockets.h"
#include "daemon/systemd.h"
#include "daemon/trainings.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/cpu.h"
#include "engine/base/mem.h"

static const struct option_row rows[] = {
    {"config", OPTION_TEXT, "FILE", NULL, "the configuration; without it every setting has its default"},
    {"listen", OPTION_LIST, "ADDRESS", NULL, "ADDRESS:PORT or /path/to/socket; port 0 takes a free one"},
    {"models", OPTION_TEXT, "DIR", NULL, "the directory with a directory for each model"},
    {"demo", OPTION_TEXT, "DIR", NULL, "more models, read only; prints a line to try and a first sentence"},
    {"check", OPTION_FLAG, NULL, NULL, "check configuration and every version; do not listen"},
};

enum { TICK_STARTING_MS = 20, TICK_MS = 1000, TICK_DRAINING_MS = 20, SIGNAL_COUNT = 3, DRAIN_GRACE_MS = 2000 };

struct serving {
    struct server server;
    uv_signal_t signals[SIGNAL_COUNT];
    uv_timer_t tick;
    uv_timer_t reload; /* due once SIGHUP came: however many come, a turn of the loop has one at most */
    const char *demo_path;
    char address[SOCKET_ADDRESS_BYTES_MAX]; /* the first one, for people */
    bool is_ready;
    bool is_cancelled;
    uint64_t drain_until_ms;
};

/* ---- Stopping, reloading, ticking */

static void on_tick(uv_timer_t *tick);

static void set_tick(struct serving *serving, uint64_t interval_ms)
{
    uint64_t watchdog_ms = systemd_watchdog_ms();
    interval_ms = watchdog_ms > 0 && watchdog_ms < interval_ms ? watchdog_ms : interval_ms;
    uv_timer_start(&serving->tick, on_tick, interval_ms, interval_ms);
}

/* Who stops reads nothing again, and with its handle closed SIGHUP would kill before sessions are written. All other
 * threads block it anyway. */
static void ignore_reloads(void)
{
    sigset_t reload;
    sigemptyset(&reload);
    sigaddset(&reload, SIGHUP);
    CHECK(pthread_sigmask(SIG_BLOCK, &reload, NULL) == 0);
}

static void begin_to_drain(struct serving *serving)
{
    struct server *server = &serving->server;
    server->is_draining = true;
    ignore_reloads();
    uv_timer_stop(&serving->reload);
    serving->drain_until_ms = clock_now_ms() + server->settings.drain_seconds * 1000;
    trainings_stop_all(server->trainings);
    systemd_stopping();
    http_quiesce(server->http);
    log_event(LOG_LEVEL_INFO, "draining", NULL, "requests=%zu seconds=%llu", http_request_count(server->http),
              (unsigned long long)server->settings.drain_seconds);
    set_tick(serving, TICK_DRAINING_MS);
}

static void on_reload(uv_timer_t *reload)
{
    struct serving *serving = reload->data;
    struct error error;
    bool tells = serving->is_ready; /* before, READY=1 would say more than is true */
    if (tells) {
        systemd_reloading();
    }
    bool is_good = server_read_settings(&serving->server, &error) == STATUS_OK;
    registry_scan(serving->server.registry);
    if (tells) {
        systemd_ready(is_good ? "serving" : "serving; the configuration was refused, see the log");
    }
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct serving *serving = signal->data;
    struct server *server = &serving->server;
    if (number == SIGHUP) {
        if (!server->is_draining) {
            uv_timer_start(&serving->reload, on_reload, 0, 0);
        }
        return;
    }
    if (server->is_draining) {
        log_event(LOG_LEVEL_WARNING, "stopping_at_once", NULL, "requests=%zu", http_request_count(server->http));
        _exit(EXIT_FAILED); /* asked for twice: threads may be in the middle of anything */
    }
    begin_to_drain(serving);
}

/* The name of the first model in the demo directory; false when there is none. */
static bool find_demo_model(const char *path, char name[MODEL_NAME_BYTES_MAX])
{
    DIR *directory = opendir(path);
    name[0] = '\0';
    for (const struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        if (entry->d_type == DT_DIR && name_is_valid(entry->d_name) &&
            (name[0] == '\0' || strcmp(entry->d_name, name) < 0)) {
            snprintf(name, MODEL_NAME_BYTES_MAX, "%.*s", MODEL_NAME_BYTES_MAX - 1, entry->d_name);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return name[0] != '\0';
}

static void become_ready(struct serving *serving)
{
    serving->is_ready = true;
    set_tick(serving, TICK_MS);
    systemd_ready("serving");
    struct engine_info info = engine_info();
    log_event(LOG_LEVEL_INFO, "ready", NULL, "kernels=%s blas=%s cpus=%zu", info.kernels, info.blas,
              cpu_usable_count());
    char model[MODEL_NAME_BYTES_MAX];
    if (serving->demo_path != NULL && strncmp(serving->address, "http", 4) == 0 &&
        find_demo_model(serving->demo_path, model)) {
        first_sentence_print(&serving->server, model, serving->address);
    }
}

/* Ends the loop when nothing runs any more; cancels what runs too long. */
static void tick_draining(struct serving *serving)
{
    struct server *server = &serving->server;
    uint64_t now_ms = clock_now_ms();
    bool is_idle = http_request_count(server->http) == 0 && completions_count(server->completions) == 0;
    if (is_idle || now_ms >= serving->drain_until_ms + DRAIN_GRACE_MS) {
        server_end(server);
    } else if (now_ms >= serving->drain_until_ms && !serving->is_cancelled) {
        serving->is_cancelled = true;
        log_event(LOG_LEVEL_WARNING, "drain_seconds_over", NULL, "requests=%zu", http_request_count(server->http));
        completions_cancel_all(server->completions);
    }
}

static void on_tick(uv_timer_t *tick)
{
    struct serving *serving = tick->data;
    if (server_is_computing(&serving->server)) {
        systemd_pet_watchdog();
    }
    if (serving->server.is_draining) {
        tick_draining(serving);
    } else if (!serving->is_ready && registry_is_ready(serving->server.registry)) {
        become_ready(serving);
    }
}

/* ---- Starting */

static enum status serve_socket(struct serving *serving, int fd, struct error *error)
{
    struct socket_description about;
    enum status status = socket_describe(fd, serving->server.certificate != NULL, &about, error);
    if (status == STATUS_OK && !about.is_local && serving->server.keys == NULL) {
        status = error_set(error, STATUS_INVALID,
                           "listen on %s: without keys lstmd listens on loopback or a Unix socket only", about.address);
    }
    if (status != STATUS_OK) {
        close(fd);
        return status;
    }
    TRY(http_serve(serving->server.http, fd, about.is_unix, about.address, error));
    if (serving->address[0] == '\0' || (strncmp(serving->address, "unix", 4) == 0 && !about.is_unix)) {
        snprintf(serving->address, sizeof serving->address, "%s", about.address);
    }
    printf("lstmd %s listens on %s\n", LSTMD_VERSION, about.address);
    fflush(stdout);
    return STATUS_OK;
}

static unsigned octal(uint64_t digits)
{
    unsigned mode = 0;
    for (unsigned shift = 0; digits > 0; digits /= 10, shift += 3) {
        mode |= (unsigned)(digits % 10 & 7) << shift;
    }
    return mode;
}

static enum status open_listed(struct serving *serving, const char *address, struct error *error)
{
    int fd;
    TRY(socket_open(address, octal(serving->server.settings.socket_mode), &fd, error));
    return serve_socket(serving, fd, error);
}

/* Sockets that systemd passed take the place of the configured ones; those of the command line come on top. */
static enum status open_sockets(struct serving *serving, const struct options *options, struct error *error)
{
    int first;
    size_t passed_count = systemd_sockets(&first);
    for (size_t i = 0; i < passed_count; i++) {
        TRY(serve_socket(serving, first + (int)i, error));
    }
    const char *given;
    for (size_t i = 0; (given = options_list(options, "listen", i)) != NULL; i++) {
        TRY(open_listed(serving, given, error));
    }
    char address[SETTING_TEXT_BYTES_MAX];
    bool is_configured = passed_count == 0 && !options_is_given(options, "listen");
    for (size_t i = 0; is_configured && settings_list_item(serving->server.settings.listen, i, address); i++) {
        TRY(open_listed(serving, address, error));
    }
    if (serving->address[0] == '\0') {
        return error_set(error, STATUS_INVALID, "there is nothing to listen on: the setting listen is empty");
    }
    return STATUS_OK;
}

static void watch_signals(struct serving *serving)
{
    static const int numbers[SIGNAL_COUNT] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        CHECK(uv_signal_init(&serving->server.loop, &serving->signals[i]) == 0);
        serving->signals[i].data = serving;
        CHECK(uv_signal_start(&serving->signals[i], on_signal, numbers[i]) == 0);
    }
    CHECK(uv_timer_init(&serving->server.loop, &serving->reload) == 0);
    CHECK(uv_timer_init(&serving->server.loop, &serving->tick) == 0);
    serving->reload.data = serving->tick.data = serving;
    set_tick(serving, TICK_STARTING_MS);
}

static void close_handles(struct serving *serving)
{
    ignore_reloads();
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        uv_close((uv_handle_t *)&serving->signals[i], NULL);
    }
    uv_close((uv_handle_t *)&serving->reload, NULL);
    uv_close((uv_handle_t *)&serving->tick, NULL);
}

static enum status read_settings(struct serving *serving, const struct options *options, struct error *error)
{
    struct settings *settings = &serving->server.settings;
    serving->server.config_path = options_text(options, "config");
    serving->demo_path = options_text(options, "demo");
    settings_init(settings);
    if (serving->server.config_path != NULL) {
        TRY(settings_read(settings, serving->server.config_path, error));
    }
    serving->server.models_path = options_text(options, "models");
    if (serving->server.models_path != NULL) {
        TRY(settings_set(settings, "models", serving->server.models_path, error));
    }
    struct stat about;
    if (stat(settings->models, &about) != 0) {
        return error_set_errno(error, errno, "models directory '%s'", settings->models);
    }
    if (!S_ISDIR(about.st_mode)) {
        return error_set(error, STATUS_INVALID, "models directory '%s' is not a directory", settings->models);
    }
    TRY(server_read_keys(&serving->server, error));
    return server_read_certificate(&serving->server, error);
}

/* Every connection is a descriptor; the usual soft limit of 1,024 is for programs that use select. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Says so where a demo directory cannot be read. No error: the unit names one that a packager may leave out. */
static void check_demo(const char *path)
{
    if (path == NULL) {
        return;
    }
    DIR *directory = opendir(path);
    if (directory == NULL) {
        struct error error;
        enum log_level level = errno == ENOENT ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING;
        error_set_errno(&error, errno, "demo directory '%s'", path);
        log_event(level, "no_demo", error.message, "%s", "");
        return;
    }
    closedir(directory);
}

static enum status run(struct serving *serving, const struct options *options, struct error *error)
{
    cpu_name_thread("lstmd"); /* not "exe", as it was started again through /proc */
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    log_start();
    log_set_level((enum log_level)serving->server.settings.log_level);
    server_log_certificate(&serving->server);
    check_demo(serving->demo_path);
    TRY(server_start(&serving->server, serving->demo_path, error));
    watch_signals(serving);
    enum status status = open_sockets(serving, options, error);
    if (status == STATUS_OK) {
        server_run(&serving->server);
        log_event(LOG_LEVEL_INFO, "stopped", NULL, "%s", "");
    }
    close_handles(serving);
    server_stop(&serving->server);
    return status;
}

int command_serve(int argc, char **argv)
{
    struct options options;
    struct error error;
    int exit_status;
    if (!command_parse(&options, rows, sizeof rows / sizeof *rows,
                       "[--config FILE] [--listen ADDRESS]… [--models DIR] [--demo DIR] [--check]", 0, 0, argc, argv,
                       &exit_status)) {
        return exit_status;
    }
    struct serving *serving = mem_allocate(1, sizeof *serving);
    if (serving == NULL) {
        error_set(&error, STATUS_NO_MEMORY, "no memory");
        return command_fail(argv[0], &error);
    }
    enum status status = read_settings(serving, &options, &error);
    if (status == STATUS_OK && options_is_given(&options, "check")) {
        server_log_certificate(&serving->server);
        status = serve_check(serving->server.settings.models, &error);
    } else if (status == STATUS_OK) {
        status = run(serving, &options, &error);
    }
    keys_destroy(serving->server.keys);
    certificate_unref(serving->server.certificate);
    mem_free(serving);
    return status == STATUS_OK ? EXIT_DONE : command_fail(argv[0], &error);
}
