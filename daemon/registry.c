/* The registry's heart: comparing what a scan found with what is known, loading, swapping, resolving. Thread: loop.
 * Owns the models; a snapshot is freed on the loader thread by whoever drops it last. */
#include "daemon/registry.h"

#include <time.h>

#include "daemon/log.h"
#include "daemon/registry_private.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

static const char *const status_names[] = {
    [VERSION_READY] = "ready",     [VERSION_TEXTLESS] = "ready",        [VERSION_LOADING] = "loading",
    [VERSION_SERVING] = "serving", [VERSION_INCOMPLETE] = "incomplete", [VERSION_REFUSED] = "refused",
    [VERSION_RETIRED] = "retired",
};
static_assert(sizeof status_names / sizeof *status_names == VERSION_STATUS_COUNT, "one name for each status");

bool version_has_reason(const struct registry_version *version)
{
    return version->status == VERSION_INCOMPLETE || version->status == VERSION_REFUSED ||
           version->status == VERSION_TEXTLESS;
}

bool version_is_kept_out(const struct registry_version *version)
{
    return version->status == VERSION_REFUSED && strcmp(version->reason.code, "gate") == 0;
}

const char *version_status_name(enum version_status status)
{
    CHECK(status < VERSION_STATUS_COUNT);
    return status_names[status];
}

/* ---- look-ups ---- */

struct registry_model *registry_find(const struct registry *registry, const char *name)
{
    for (size_t i = 0; i < registry->model_count; i++) {
        if (strcmp(registry->models[i]->name, name) == 0) {
            return registry->models[i];
        }
    }
    return NULL;
}

enum status registry_refuse_missing(const char *name, struct error *error)
{
    error_set(error, STATUS_NOT_FOUND, "The model '%.64s' does not exist", name);
    return error_code(error, "model_not_found"), STATUS_NOT_FOUND;
}

struct registry_model *registry_need(const struct registry *registry, const char *name, struct error *error)
{
    struct registry_model *model = registry_find(registry, name);
    if (model == NULL || model->is_deleting) {
        registry_refuse_missing(name, error);
        return NULL;
    }
    return model;
}

struct registry_version *model_version(const struct registry_model *model, uint64_t number)
{
    for (size_t i = 0; i < model->version_count; i++) {
        if (model->versions[i].number == number) {
            return &model->versions[i];
        }
    }
    return NULL;
}

struct registry_version *model_current(const struct registry_model *model)
{
    for (size_t i = model->version_count; i-- > 0;) {
        if (model->versions[i].status == VERSION_SERVING) {
            return &model->versions[i];
        }
    }
    return NULL;
}

uint64_t model_pin(const struct registry_model *model)
{
    json_int_t pin = json_integer_value(json_object_get(json_object_get(model->labels, "current"), "version"));
    return pin > 0 ? (uint64_t)pin : 0;
}

void version_path(const struct registry_model *model, uint64_t number, char path[REGISTRY_PATH_BYTES_MAX])
{
    version_path_in(model->path, number, path);
}

void version_path_in(const char *directory, uint64_t number, char path[REGISTRY_PATH_BYTES_MAX])
{
    snprintf(path, REGISTRY_PATH_BYTES_MAX, "%.4000s/%llu", directory, (unsigned long long)number);
}

enum status registry_refuse_gone(const char *model, uint64_t number, struct error *error)
{
    error_set(error, STATUS_UNPROCESSABLE, "the files of version %llu of %s are gone", (unsigned long long)number,
              model);
    return error_code(error, "version_gone"), STATUS_UNPROCESSABLE;
}

enum status registry_version_path(const struct registry *registry, const char *name, uint64_t version,
                                  char path[REGISTRY_PATH_BYTES_MAX], struct error *error)
{
    const struct registry_model *model = registry_need(registry, name, error);
    if (model == NULL) {
        return STATUS_NOT_FOUND;
    }
    const struct registry_version *found = model_version(model, version);
    if (found == NULL || found->status == VERSION_RETIRED) {
        error_set(error, STATUS_NOT_FOUND, "model %s has no version %llu", name, (unsigned long long)version);
        return error_code(error, "version_not_found"), STATUS_NOT_FOUND;
    }
    if (found->is_gone) {
        return registry_refuse_gone(model->name, version, error);
    }
    version_path(model, version, path);
    return STATUS_OK;
}

enum status registry_find_files(struct registry *registry, const char *reference,
                                char name[REGISTRY_FULL_NAME_BYTES_MAX], char path[REGISTRY_PATH_BYTES_MAX],
                                struct error *error)
{
    struct registry_model *model = NULL;
    struct registry_version *version = NULL;
    TRY(registry_find_version(registry, reference, &model, &version, error));
    if (strpbrk(reference, "@:") == NULL && model_current(model) != NULL) {
        version = model_current(model); /* a newer one may make no text */
    }
    if (version_has_reason(version)) {
        return registry_refuse_version(model, version, error);
    }
    snprintf(name, REGISTRY_FULL_NAME_BYTES_MAX, "%s@%llu", model->name, (unsigned long long)version->number);
    return registry_version_path(registry, model->name, version->number, path, error);
}

void registry_answer(struct registry_callback callback, enum status status, const struct error *error, json_t *reply,
                     bool is_new)
{
    struct registry_reply answer = {.status = status, .reply = reply, .is_new = is_new};
    if (error != NULL) {
        answer.error = *error;
    }
    callback.done(callback.context, &answer);
}

void registry_changed(struct registry *registry)
{
    registry->is_ready = registry->is_ready || (registry->scans_done > 0 && registry->loads_running == 0);
    if (registry->on_change != NULL) {
        registry->on_change(registry->on_change_context);
    }
}

void registry_on_change(struct registry *registry, void (*on_change)(void *context), void *context)
{
    registry->on_change = on_change;
    registry->on_change_context = context;
}

/* ---- scanning ---- */

/* What the last of the calls that wait for the model asked for before it was known. */
static enum rnn_precision awaited_precision(const struct registry *registry, const char *name)
{
    for (const struct registry_waiter *waiter = registry->waiters; waiter != NULL; waiter = waiter->next) {
        if (waiter->precision != RNN_PRECISION_COUNT && strcmp(waiter->name, name) == 0) {
            return waiter->precision;
        }
    }
    return RNN_PRECISION_COUNT;
}

static struct registry_model *add_model(struct registry *registry, const struct found_model *found)
{
    struct registry_model **models =
        mem_reallocate(registry->models, registry->model_count + 1, sizeof(struct registry_model *));
    if (models == NULL) {
        return NULL;
    }
    registry->models = models;
    struct registry_model *model = mem_allocate(1, sizeof *model);
    struct live *live = live_create(found->name);
    if (model == NULL || live == NULL) {
        mem_free(model);
        live_unref(live);
        return NULL;
    }
    model->live = live;
    model->asked_precision = awaited_precision(registry, found->name);
    model->held_precision = RNN_PRECISION_COUNT;
    snprintf(model->name, sizeof model->name, "%s", found->name);
    size_t at = registry->model_count;
    while (at > 0 && strcmp(registry->models[at - 1]->name, found->name) > 0) {
        registry->models[at] = registry->models[at - 1];
        at--;
    }
    registry->models[at] = model;
    registry->model_count++;
    return model;
}

static void free_model(struct registry *registry, struct registry_model *model)
{
    for (size_t i = 0; i < model->version_count; i++) {
        registry_drop_version(registry, &model->versions[i]);
    }
    mem_free(model->versions);
    mem_free(model->uses);
    json_decref(model->labels);
    json_decref(model->settings);
    json_decref(model->definition);
    live_unref(model->live);
    mem_free(model);
}

static bool was_settled(const struct registry *registry, const struct registry_version *version)
{
    return clock_now_ms() - version->unchanged_since_ms >= registry->settings->settle_seconds * 1000;
}

/* What a version that was there before is, now that its files have been looked at again. */
static void update_version(struct registry *registry, struct registry_version *version, uint64_t fingerprint)
{
    if (version->status == VERSION_RETIRED || (version_has_reason(version) && version->fingerprint != fingerprint)) {
        version->status = VERSION_READY; /* back, or changed: it gets another chance */
    } else if (version->status == VERSION_INCOMPLETE && was_settled(registry, version)) {
        version->status = VERSION_REFUSED;
        log_event(LOG_LEVEL_WARNING, "refused", version->reason.message, "version=%llu code=%s",
                  (unsigned long long)version->number, version->reason.code);
    } else if (version->status == VERSION_INCOMPLETE) {
        registry_scan_after_settling(registry);
    }
    if (version->fingerprint != fingerprint) {
        registry_drop_served(registry, version);
        version->is_measured = false;
        version->is_postponed = false;
    }
    version->is_precision_refused = version->is_precision_refused && version->fingerprint == fingerprint;
    version->fingerprint = fingerprint;
}

static const struct found_version *find_found(const struct found_model *found, uint64_t number)
{
    for (size_t i = 0; i < found->version_count; i++) {
        if (found->versions[i].number == number) {
            return &found->versions[i];
        }
    }
    return NULL;
}

/* A version whose directory went: what serves goes on serving, its files are in memory. */
static void retire_missing(struct registry *registry, struct registry_model *model, const struct found_model *found)
{
    size_t kept = 0;
    for (size_t i = 0; i < model->version_count; i++) {
        struct registry_version *version = &model->versions[i];
        bool is_missing = find_found(found, version->number) == NULL;
        version->is_gone = is_missing;
        if (is_missing && version->status == VERSION_RETIRED) {
            continue; /* it has been seen as such by one scan */
        }
        bool is_busy =
            version->status == VERSION_SERVING || version->status == VERSION_LOADING || version->is_repacking;
        if (is_missing && !is_busy) {
            registry_drop_version(registry, version);
            version->status = VERSION_RETIRED;
            version->is_postponed = false;
        }
        model->versions[kept++] = *version;
    }
    model->version_count = kept;
}

static void take_versions(struct registry *registry, struct registry_model *model, const struct found_model *found)
{
    retire_missing(registry, model, found);
    for (size_t i = 0; i < found->version_count; i++) {
        struct registry_version *version = model_version(model, found->versions[i].number);
        if (version != NULL) {
            update_version(registry, version, found->versions[i].fingerprint);
            continue;
        }
        struct registry_version *versions = mem_reallocate(model->versions, model->version_count + 1, sizeof *versions);
        if (versions == NULL) {
            return;
        }
        model->versions = versions;
        size_t at = model->version_count++;
        while (at > 0 && versions[at - 1].number > found->versions[i].number) {
            versions[at] = versions[at - 1];
            at--;
        }
        versions[at] = (struct registry_version){.number = found->versions[i].number,
                                                 .fingerprint = found->versions[i].fingerprint,
                                                 .unchanged_since_ms = clock_now_ms()};
    }
}

static void take_model(struct registry *registry, const struct found_model *found)
{
    struct registry_model *model = registry_find(registry, found->name);
    if (model == NULL) {
        model = add_model(registry, found);
    }
    if (model == NULL) {
        return;
    }
    model->is_present = true;
    model->is_read_only = found->is_read_only;
    snprintf(model->path, sizeof model->path, "%s", found->path);
    for (enum model_file which = 0; which < MODEL_FILE_COUNT; which++) {
        model_take_file(registry, model, which, &found->files[which]);
    }
    take_versions(registry, model, found);
    if (model->is_asleep && model_source(model) == NULL) {
        model->is_asleep = false; /* what stood in while it slept was removed: another has to serve */
    }
    registry_retry(registry, model);
    registry_load_model(registry, model);
    registry_watch_idle(registry, model);
}

/* Those whose directory is not there, or only someone else's of the same name. A load that runs holds them until it
 * ends. */
static void drop_models(struct registry *registry, bool is_scanned)
{
    size_t kept = 0;
    for (size_t i = 0; i < registry->model_count; i++) {
        struct registry_model *model = registry->models[i];
        bool is_gone = model->is_deleted || (is_scanned && !model->is_present);
        if (is_gone && !model_is_loading(model)) {
            log_event(LOG_LEVEL_INFO, "model_gone", NULL, "model=%s", model->name);
            free_model(registry, model);
        } else {
            registry->models[kept++] = model;
        }
    }
    registry->model_count = kept;
}

static void scan_run(struct job *job)
{
    scan_read((struct scan *)job);
}

static void scan_done(struct job *job)
{
    struct scan *scan = (struct scan *)job;
    struct registry *registry = scan->registry;
    drop_models(registry, false);
    for (size_t i = 0; i < registry->model_count; i++) {
        registry->models[i]->is_present = false;
    }
    for (size_t i = 0; i < scan->model_count; i++) {
        take_model(registry, &scan->models[i]);
    }
    drop_models(registry, true);
    scan_free(scan);
    registry->is_scanning = false;
    registry->scans_done = registry->scans_started;
    if (registry->must_scan_again) {
        registry->must_scan_again = false;
        registry_scan(registry);
    }
    registry_answer_waiters(registry);
    registry_changed(registry);
}

void registry_scan(struct registry *registry)
{
    if (registry->is_ending) {
        return;
    }
    if (registry->is_scanning) {
        registry->must_scan_again = true;
        return;
    }
    struct scan *scan = mem_allocate(1, sizeof *scan);
    if (scan == NULL) {
        return; /* the next rescan comes */
    }
    scan->registry = registry;
    snprintf(scan->models_path, sizeof scan->models_path, "%s", registry->models_path);
    snprintf(scan->demo_path, sizeof scan->demo_path, "%s", registry->demo_path);
    scan->job.run = scan_run;
    scan->job.done = scan_done;
    registry->is_scanning = true;
    registry->scans_started++;
    workers_submit_always(registry->loader, &scan->job);
}

bool registry_is_ready(const struct registry *registry)
{
    return registry->is_ready;
}

/* ---- life ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    mem_free(handle);
}

enum status registry_create(const struct registry_options *options, struct registry **ret_registry, struct error *error)
{
    struct registry *registry = mem_allocate(1, sizeof *registry);
    uv_timer_t *timer = mem_allocate(1, sizeof *timer);
    uv_timer_t *idle_timer = mem_allocate(1, sizeof *idle_timer);
    uv_timer_t *deadline_timer = mem_allocate(1, sizeof *deadline_timer);
    if (registry == NULL || timer == NULL || idle_timer == NULL || deadline_timer == NULL) {
        mem_free(registry);
        mem_free(timer);
        mem_free(idle_timer);
        mem_free(deadline_timer);
        return error_set(error, STATUS_NO_MEMORY, "no memory for the models");
    }
    registry->settings = options->settings;
    registry->loader = options->loader;
    registry->loop = options->loop;
    snprintf(registry->models_path, sizeof registry->models_path, "%s", options->models_path);
    snprintf(registry->demo_path, sizeof registry->demo_path, "%s",
             options->demo_path == NULL ? "" : options->demo_path);
    registry->timer = timer;
    uv_timer_init(options->loop, timer);
    timer->data = registry;
    registry->idle_timer = idle_timer;
    uv_timer_init(options->loop, idle_timer);
    idle_timer->data = registry;
    registry->deadline_timer = deadline_timer;
    uv_timer_init(options->loop, deadline_timer);
    deadline_timer->data = registry;
    *ret_registry = registry;
    return STATUS_OK;
}

/* Their callers hold requests, which must end. */
static void refuse_waiters(struct registry *registry)
{
    struct error error;
    error_set(&error, STATUS_UNAVAILABLE, "lstmd is shutting down");
    while (registry->waiters != NULL) {
        struct registry_waiter *waiter = registry->waiters;
        registry->waiters = waiter->next;
        json_decref(waiter->reply);
        registry_answer(waiter->callback, STATUS_UNAVAILABLE, &error, NULL, false);
        mem_free(waiter);
    }
}

void registry_stop(struct registry *registry)
{
    if (registry != NULL) {
        registry->is_ending = true;
    }
}

void registry_destroy(struct registry *registry)
{
    if (registry == NULL) {
        return;
    }
    registry_stop(registry);
    uv_close((uv_handle_t *)registry->timer, on_timer_closed);
    uv_close((uv_handle_t *)registry->idle_timer, on_timer_closed);
    uv_close((uv_handle_t *)registry->deadline_timer, on_timer_closed);
    refuse_waiters(registry);
    for (size_t i = 0; i < registry->model_count; i++) {
        free_model(registry, registry->models[i]);
    }
    mem_free(registry->models);
    mem_free(registry);
}
