/* Making the parts of the running daemon in the order they need each other, and taking them apart in the other.
 * Thread: loop. Owns all parts. */
#include "daemon/server.h"

#include <sched.h>

#include "daemon/certificate.h"
#include "daemon/completion.h"
#include "daemon/imports.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/pictures.h"
#include "daemon/registry.h"
#include "daemon/routes.h"
#include "daemon/sequences.h"
#include "daemon/sessions.h"
#include "daemon/trainings.h"
#include "daemon/watcher.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/cpu.h"

static enum status create_workers(struct server *server, struct error *error)
{
    const struct settings *settings = &server->settings;
    struct workers_options run = {.name = "run",
                                  .thread_count = settings->run_threads,
                                  .queue_max = settings->run_queue_max,
                                  .is_nice = true,
                                  .linger_ns = server->linger_ns,
                                  .mailbox = server->mailbox};
    struct workers_options loader = {
        .name = "loader", .thread_count = 1, .queue_max = settings->load_queue_max, .mailbox = server->mailbox};
    TRY(workers_create(&run, &server->run, error));
    return workers_create(&loader, &server->loader, error);
}

static enum status create_parts(struct server *server, const char *demo_path, struct error *error)
{
    const struct settings *settings = &server->settings;
    TRY(mailbox_create(&server->loop, &server->mailbox, error));
    TRY(create_workers(server, error));
    TRY(pictures_create(&server->loop, &server->pictures, error));
    TRY(imports_create(server, &server->imports, error));
    TRY(metrics_create(&server->metrics, error));
    if (settings->prompt_cache_bytes_max > 0) {
        TRY(prompt_cache_create(settings->prompt_cache_bytes_max, &server->prompt_cache, error));
    }
    TRY(limits_create(&server->limits, error));
    TRY(completions_create(server, &server->completions, error));
    TRY(sessions_create(server, &server->sessions, error));
    struct batcher_options batcher = {.threads = settings->threads,
                                      .queue_max = settings->generations_max,
                                      .on_progress = completions_on_progress,
                                      .on_step = completions_on_step,
                                      .context = server->completions};
    TRY(batcher_create(&batcher, &server->batcher, error));
    struct registry_options registry = {.settings = settings,
                                        .models_path = settings->models,
                                        .demo_path = demo_path,
                                        .loader = server->loader,
                                        .loop = &server->loop};
    TRY(registry_create(&registry, &server->registry, error));
    TRY(sequences_create(&server->sequences, error));
    TRY(trainings_create(server, &server->trainings, error));
    TRY(watcher_create(&server->loop, server->registry, settings, &server->watcher, error));
    struct http_callbacks callbacks = {
        .on_head = routes_on_head, .on_request = routes_on_request, .on_end = routes_on_end, .context = server};
    TRY(http_create(&server->loop, settings, &callbacks, &server->http, error));
    if (server->certificate != NULL) {
        http_set_certificate(server->http, server->certificate);
    }
    return STATUS_OK;
}

enum status server_start(struct server *server, const char *demo_path, struct error *error)
{
    server->linger_ns = cpu_usable_count() > 1 ? server->settings.linger_us * 1000 : 0;
    int failed = uv_loop_init(&server->loop);
    if (failed != 0) {
        return error_set(error, STATUS_IO, "uv_loop_init: %s", uv_strerror(failed));
    }
    CHECK(uv_loop_configure(&server->loop, UV_METRICS_IDLE_TIME) == 0);
    enum status status = create_parts(server, demo_path, error);
    if (status == STATUS_OK) {
        registry_scan(server->registry);
    } else {
        server_stop(server);
    }
    return status;
}

static uint64_t awake_ns(const struct server *server)
{
    return clock_now_ns() - uv_metrics_idle_time((uv_loop_t *)(uintptr_t)&server->loop);
}

/* Turns the loop once; whether a request came or a reply went meanwhile. */
static bool turn(struct server *server, uv_run_mode mode)
{
    uint64_t seen = http_event_count(server->http);
    uint64_t began_ns = awake_ns(server);
    workers_let_linger(server->run, completions_count(server->completions) == 0);
    uv_run(&server->loop, mode);
    metrics_observe(server->metrics, METRIC_LOOP_TURN_SECONDS, (double)(awake_ns(server) - began_ns) / 1e9);
    return http_event_count(server->http) != seen;
}

void server_run(struct server *server)
{
    cpu_thread_set_prompt();
    uint64_t until_ns = 0; /* till then the loop looks out instead of sleeping */
    while (!server->is_ended) {
        bool may_sleep = until_ns == 0 || completions_count(server->completions) > 0 || clock_now_ns() >= until_ns;
        if (turn(server, may_sleep ? UV_RUN_ONCE : UV_RUN_NOWAIT)) {
            until_ns = server->linger_ns == 0 ? 0 : clock_now_ns() + server->linger_ns;
        } else if (may_sleep) {
            until_ns = 0;
        } else {
            sched_yield();
        }
    }
}

void server_end(struct server *server)
{
    server->is_ended = true;
}

/* Delivers what threads that have ended left behind. */
static void run_what_waits(struct server *server)
{
    while (uv_run(&server->loop, UV_RUN_NOWAIT) != 0 && server->mailbox != NULL && !mailbox_is_empty(server->mailbox)) {
    }
}

void server_stop(struct server *server)
{
    http_destroy(server->http); /* clients are gone: what is generated for them ends at its next step */
    while (server->completions != NULL && completions_count(server->completions) > 0) {
        completions_cancel_all(server->completions);
        uv_run(&server->loop, UV_RUN_ONCE);
    }
    trainings_stop_all(server->trainings);
    while (trainings_running(server->trainings) > 0) { /* each ends with a checkpoint */
        uv_run(&server->loop, UV_RUN_ONCE);
    }
    imports_stop_all(server->imports);
    while (imports_running(server->imports) > 0) {
        uv_run(&server->loop, UV_RUN_ONCE);
    }
    batcher_destroy(server->batcher);
    if (server->run != NULL) {
        workers_end(server->run);
    }
    run_what_waits(server);
    while (pictures_count(server->pictures) > 0) {
        pictures_kill_all(server->pictures);
        uv_run(&server->loop, UV_RUN_ONCE);
    }
    watcher_destroy(server->watcher);
    sessions_stop(server->sessions);
    if (server->loader != NULL) {
        registry_stop(server->registry);
        workers_end(server->loader);
    }
    run_what_waits(server);
    pictures_destroy(server->pictures);
    trainings_destroy(server->trainings);
    registry_destroy(server->registry);
    imports_destroy(server->imports); /* some may have waited for the registry */
    completions_destroy(server->completions);
    sessions_destroy(server->sessions);
    sequences_destroy(server->sequences);
    prompt_cache_destroy(server->prompt_cache);
    limits_destroy(server->limits);
    metrics_destroy(server->metrics);
    workers_destroy(server->run);
    workers_destroy(server->loader);
    mailbox_destroy(server->mailbox);
    uv_run(&server->loop, UV_RUN_DEFAULT); /* handles close */
    CHECK(uv_loop_close(&server->loop) == 0);
}

enum status server_read_keys(struct server *server, struct error *error)
{
    struct keys *keys = NULL;
    if (server->settings.keys[0] != '\0') {
        TRY(keys_read(server->settings.keys, &keys, error));
    }
    keys_destroy(server->keys);
    server->keys = keys;
    return STATUS_OK;
}

enum status server_read_certificate(struct server *server, struct error *error)
{
    const char *path = server->settings.tls_certificate, *key_path = server->settings.tls_key;
    if (path[0] == '\0' && key_path[0] == '\0') {
        return STATUS_OK;
    }
    if (path[0] == '\0' || key_path[0] == '\0') {
        return error_set(error, STATUS_INVALID, "%s is set, %s is not: TLS takes both",
                         path[0] == '\0' ? "tls_key" : "tls_certificate",
                         path[0] == '\0' ? "tls_certificate" : "tls_key");
    }
    struct certificate *fresh;
    TRY(certificate_read(path, key_path, &fresh, error));
    certificate_unref(server->certificate);
    server->certificate = fresh;
    if (server->http != NULL) {
        http_set_certificate(server->http, fresh);
    }
    return STATUS_OK;
}

void server_log_certificate(const struct server *server)
{
    if (server->certificate != NULL) {
        char state[CERTIFICATE_STATE_BYTES_MAX], message[SETTING_TEXT_BYTES_MAX + sizeof state];
        bool is_bad = certificate_describe(server->certificate, time(NULL), state);
        snprintf(message, sizeof message, "%s %s", server->settings.tls_certificate, state);
        log_event(is_bad ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "certificate_read", message, "%s", "");
    }
}

/* Reads the certificate again, whatever became of the rest: it may have been renewed for the last minute. */
static enum status renew_certificate(struct server *server, enum status before, struct error *error)
{
    struct error own;
    enum status status = server_read_certificate(server, &own);
    if (status == STATUS_OK) {
        server_log_certificate(server);
        return before;
    }
    log_event(LOG_LEVEL_ERROR, "certificate_refused", own.message, "%s", "");
    if (before != STATUS_OK) {
        return before;
    }
    *error = own;
    return status;
}

enum status server_read_settings(struct server *server, struct error *error)
{
    enum status status = STATUS_OK;
    struct settings fresh;
    if (server->config_path != NULL) {
        status = settings_read(&fresh, server->config_path, error);
    }
    if (status == STATUS_OK && server->config_path != NULL && server->models_path != NULL) {
        status = settings_set(&fresh, "models", server->models_path, error);
    }
    if (status != STATUS_OK) {
        log_event(LOG_LEVEL_ERROR, "configuration_refused", error->message, "%s", "");
    } else if (server->config_path != NULL) {
        char names[256];
        size_t count = settings_adopt(&server->settings, &fresh, names, sizeof names);
        log_set_level((enum log_level)server->settings.log_level);
        log_event(LOG_LEVEL_INFO, "configuration_read", count > 0 ? names : NULL, "need_restart=%zu", count);
        status = server_read_keys(server, error);
        if (status != STATUS_OK) {
            log_event(LOG_LEVEL_ERROR, "keys_refused", error->message, "%s", "");
        }
    }
    return renew_certificate(server, status, error);
}

bool server_is_computing(const struct server *server)
{
    return batcher_is_alive(server->batcher, server->settings.stall_seconds * 1000);
}
