/* Loading versions beside what serves, swapping, pruning what is old. Thread: loop; reading and packing are jobs on the
 * loader thread. Where there is a maximum of memory, a version is measured by a job of its own first, and only then is
 * it known whether there is room. */
#include <time.h>

#include "daemon/log.h"
#include "daemon/registry_gate.h"
#include "daemon/registry_private.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

/* ---- loading ---- */

static void on_settled(uv_timer_t *timer)
{
    registry_scan(timer->data);
}

void registry_scan_after_settling(struct registry *registry)
{
    uv_timer_start(registry->timer, on_settled, registry->settings->settle_seconds * 1000, 0);
}

struct load {
    struct job job;
    struct registry *registry;
    bool is_measurement; /* nothing is loaded: `bytes` is found */
    size_t bytes;        /* that it takes; 0: not known */
    char name[MODEL_NAME_BYTES_MAX];
    char directory[REGISTRY_PATH_BYTES_MAX]; /* the model's */
    char path[REGISTRY_PATH_BYTES_MAX];
    uint64_t version;
    enum rnn_precision precision;
    struct gate gate;
    struct snapshot *snapshot;
    enum status status;
    struct error error;
};

static void measure_run(struct job *job)
{
    struct load *load = (struct load *)job;
    load->status = snapshot_measure(load->path, load->precision, &load->bytes, &load->error);
    mem_trim();
}

static void load_run(struct job *job)
{
    struct load *load = (struct load *)job;
    load->status = snapshot_load(load->path, load->name, load->version, load->precision, &load->snapshot, &load->error);
    if (load->status == STATUS_OK) {
        load->status =
            gate_check(&load->gate, load->directory, load->snapshot, &load->registry->is_ending, &load->error);
        load->snapshot = load->status == STATUS_OK ? load->snapshot : snapshot_unref(load->snapshot);
    }
    mem_trim();
}

/* Says why a version does not generate as fast as it could. */
static void log_slow_path(const struct registry_model *model, const struct registry_version *version)
{
    const char *reason = snapshot_slow_path(version->snapshot);
    if (reason != NULL) {
        log_event(LOG_LEVEL_WARNING, "slow_path", reason, "model=%s version=%llu", model->name,
                  (unsigned long long)version->number);
    }
}

/* Makes `version` what the model's name means. */
static void serve_version(struct registry *registry, struct registry_model *model, struct registry_version *version)
{
    struct registry_version *old = model_current(model);
    if (old == version) {
        return;
    }
    version->status = VERSION_SERVING;
    if (old != NULL) {
        old->status = VERSION_READY;
        if (!old->is_wanted && !model_is_labelled(model, old->number)) {
            registry_drop_version(registry, old);
        }
    }
    model->reloads_ok++;
    log_event(LOG_LEVEL_INFO, "serving", NULL, "model=%s version=%llu previous=%llu precision=%s kernels=%s bytes=%zu",
              model->name, (unsigned long long)version->number, old == NULL ? 0 : (unsigned long long)old->number,
              rnn_precision_name(snapshot_precision(version->snapshot)), snapshot_kernels(version->snapshot),
              snapshot_bytes(version->snapshot));
    log_slow_path(model, version);
}

static void keep_reason(struct registry_version *version, enum status status, const struct error *error)
{
    version->reason = *error;
    version->reason_status = status;
    version->reason_at = (int64_t)time(NULL);
}

/* It is not loaded, or packed, for want of memory: tried again when there is some. */
static void postpone(struct registry_model *model, struct registry_version *version, enum status status,
                     const struct error *error)
{
    bool is_news = !version->is_postponed;
    version->is_postponed = true;
    keep_reason(version, status, error);
    if (version->reason.code[0] == '\0') {
        error_code(&version->reason, "no_memory");
    }
    if (is_news) {
        model->reloads_failed++;
        log_event(LOG_LEVEL_WARNING, "postponed", error->message, "model=%s version=%llu code=%s", model->name,
                  (unsigned long long)version->number, version->reason.code);
    }
}

/* What serves by its signatures alone is now `newest`: graphs that were read of older ones go, unless a label holds
 * them. Who asks for one by its number has it read again. */
static void drop_older_graphs(struct registry *registry, struct registry_model *model,
                              const struct registry_version *newest)
{
    for (struct registry_version *version = model->versions; version < newest; version++) {
        if (version->status == VERSION_TEXTLESS && !model_is_labelled(model, version->number)) {
            registry_drop_served(registry, version);
        }
    }
}

static void note_failure(struct registry *registry, struct registry_model *model, struct registry_version *version,
                         enum status status, const struct error *error)
{
    bool is_incomplete = strcmp(error->code, "incomplete") == 0;
    bool is_textless = strcmp(error->code, "no_language_model") == 0 || strcmp(error->code, "cannot_generate") == 0;
    version->status = is_incomplete ? VERSION_INCOMPLETE : is_textless ? VERSION_TEXTLESS : VERSION_REFUSED;
    version->unchanged_since_ms = clock_now_ms();
    model->reloads_failed += is_textless ? 0 : 1;
    if (is_textless) {
        drop_older_graphs(registry, model, version);
    }
    keep_reason(version, status, error);
    log_event(is_incomplete || is_textless ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, version_status_name(version->status),
              error->message, "model=%s version=%llu code=%s", model->name, (unsigned long long)version->number,
              error->code);
    if (is_incomplete) {
        registry_scan_after_settling(registry);
    }
}

/* ---- old versions ---- */

/* The version that ought to serve: the pinned one, else the newest that is not known to be bad. */
static struct registry_version *desired(const struct registry_model *model)
{
    uint64_t pin = model_pin(model);
    if (pin != 0) {
        return model_version(model, pin);
    }
    for (size_t i = model->version_count; i-- > 0;) {
        enum version_status status = model->versions[i].status;
        if (status == VERSION_READY || status == VERSION_LOADING || status == VERSION_SERVING) {
            return &model->versions[i];
        }
    }
    return NULL;
}

struct prune {
    struct job job;
    char path[REGISTRY_PATH_BYTES_MAX];
};

static void prune_run(struct job *job)
{
    struct prune *prune = (struct prune *)job;
    struct error error;
    if (directory_remove(prune->path, &error) != STATUS_OK) {
        log_event(LOG_LEVEL_WARNING, "not_pruned", error.message, "path=%s", prune->path);
    }
}

static void prune_done(struct job *job)
{
    mem_free(job);
}

/* Versions from here on are not old: what serves or, where none is pinned, a newer one that makes no text. 0: all, also
 * while something that may serve is still to be read. */
static uint64_t newest_good(const struct registry_model *model)
{
    const struct registry_version *current = model_current(model);
    uint64_t newest = current == NULL ? 0 : current->number;
    if (model_pin(model) != 0 || (current == NULL && desired(model) != NULL)) {
        return newest;
    }
    for (size_t i = 0; i < model->version_count; i++) {
        const struct registry_version *version = &model->versions[i];
        newest = version->status == VERSION_TEXTLESS && version->number > newest ? version->number : newest;
    }
    return newest;
}

/* Removes the oldest versions above the model's versions_kept; what serves or bears a label stays, and everything while
 * the files that say so cannot be read. */
static void prune_versions(struct registry *registry, const struct registry_model *model)
{
    json_int_t own = json_integer_value(json_object_get(model->settings, "versions_kept"));
    size_t kept = own > 0 ? (size_t)own : (size_t)registry->settings->versions_kept;
    uint64_t newest = newest_good(model);
    size_t good = 0;
    for (size_t i = model->version_count; i-- > 0 && !model->is_read_only && !model_has_problem(model);) {
        const struct registry_version *version = &model->versions[i];
        bool is_spare = version->status == VERSION_READY || version->status == VERSION_TEXTLESS;
        good += is_spare || version->status == VERSION_SERVING ? 1 : 0;
        bool is_old = is_spare && good > kept && version->number < newest;
        struct prune *prune = is_old && !model_is_labelled(model, version->number) && !version->is_wanted
                                  ? mem_allocate(1, sizeof *prune)
                                  : NULL;
        if (prune != NULL) {
            version_path(model, version->number, prune->path);
            prune->job.run = prune_run;
            prune->job.done = prune_done;
            log_event(LOG_LEVEL_INFO, "pruned", NULL, "model=%s version=%llu", model->name,
                      (unsigned long long)version->number);
            workers_submit_always(registry->loader, &prune->job);
        }
    }
}

static void note_bytes(struct registry_version *version, const struct load *load, size_t bytes)
{
    version->is_measured = true;
    version->measured_bytes = bytes;
    version->measured_precision = load->precision;
}

/* Swaps what the version is packed in; those that use the old snapshot finish on it. */
static void end_repacking(struct registry *registry, struct registry_model *model, struct registry_version *version,
                          const struct load *load)
{
    version->is_repacking = false;
    if (version->snapshot == NULL || model->is_unloaded || model->is_deleting) {
        registry_drop(registry, load->snapshot); /* nobody wants the version any more */
    } else if (load->status == STATUS_OK) {
        registry_drop_version(registry, version);
        version->snapshot = load->snapshot;
        note_bytes(version, load, snapshot_bytes(load->snapshot));
        model->reloads_ok++;
        log_event(LOG_LEVEL_INFO, "packed", NULL, "model=%s version=%llu precision=%s kernels=%s bytes=%zu",
                  model->name, (unsigned long long)version->number, rnn_precision_name(load->precision),
                  snapshot_kernels(version->snapshot), snapshot_bytes(version->snapshot));
    } else if (load->precision == version->precision && load->status == STATUS_NO_MEMORY) {
        postpone(model, version, load->status, &load->error);
    } else if (load->precision == version->precision) {
        version->is_precision_refused = true;
        model->reloads_failed++;
        keep_reason(version, load->status, &load->error);
        log_event(LOG_LEVEL_WARNING, "precision_refused", load->error.message,
                  "model=%s version=%llu precision=%s code=%s", model->name, (unsigned long long)version->number,
                  rnn_precision_name(load->precision), load->error.code);
    }
}

static void end_loading(struct registry *registry, struct registry_model *model, struct registry_version *version,
                        const struct load *load)
{
    if (model->is_unloaded || model->is_deleting) {
        registry_drop(registry, load->snapshot);
        version->status = VERSION_READY;
    } else if (load->status == STATUS_CANCELLED ||
               (load->status != STATUS_OK && load->precision != version->precision)) {
        version->status = VERSION_READY; /* lstmd is ending, or it ought to be another one by now */
    } else if (load->status == STATUS_NO_MEMORY) {
        version->status = VERSION_READY;
        postpone(model, version, load->status, &load->error);
    } else if (load->status != STATUS_OK) {
        note_failure(registry, model, version, load->status, &load->error);
        prune_versions(registry, model);
    } else {
        struct registry_version *current = model_current(model);
        uint64_t pin = model_pin(model);
        version->snapshot = load->snapshot;
        version->status = VERSION_READY;
        note_bytes(version, load, snapshot_bytes(load->snapshot));
        if (pin != 0 ? version->number == pin : current == NULL || version->number > current->number) {
            serve_version(registry, model, version);
            prune_versions(registry, model);
        }
    }
}

/* What is wrong with a version that cannot be measured, its load says. */
static void end_measuring(struct registry_model *model, struct registry_version *version, const struct load *load)
{
    version->status = version->is_repacking ? version->status : VERSION_READY;
    version->is_repacking = false;
    if (load->status == STATUS_NO_MEMORY) {
        postpone(model, version, load->status, &load->error);
    } else {
        note_bytes(version, load, load->status == STATUS_OK ? load->bytes : 0);
    }
}

/* What the load took along and brought is the registry's. */
static void take_back(struct registry *registry, struct load *load)
{
    registry->loads_running--;
    registry->loading_bytes -= load->is_measurement ? 0 : load->bytes;
    registry->held_bytes += load->snapshot == NULL ? 0 : snapshot_bytes(load->snapshot);
    registry_drop(registry, load->gate.serving);
    load->gate.serving = NULL;
    gate_release(&load->gate);
}

static void load_done(struct job *job)
{
    struct load *load = (struct load *)job;
    struct registry *registry = load->registry;
    take_back(registry, load);
    struct registry_model *model = registry_find(registry, load->name);
    struct registry_version *version = model == NULL ? NULL : model_version(model, load->version);
    bool is_expected = version != NULL && (version->is_repacking || version->status == VERSION_LOADING);
    if (is_expected && load->is_measurement) {
        end_measuring(model, version, load);
    } else if (is_expected && version->is_repacking) {
        end_repacking(registry, model, version, load);
    } else if (is_expected) {
        end_loading(registry, model, version, load);
    } else {
        registry_drop(registry, load->snapshot); /* its model or directory went meanwhile */
    }
    mem_free(load);
    if (model != NULL) {
        registry_load_model(registry, model);
        registry_note_use(registry, model);
    }
    if (model != NULL && (model->is_deleted || !model->is_present)) {
        registry_scan(registry); /* the last one left it to this load */
    }
    registry_answer_waiters(registry);
    registry_changed(registry);
}

/* The setting that a version must satisfy to serve; NULL: none. What serves, what is older, and what people chose need
 * not. */
static const json_t *gate_of(const struct registry_model *model, const struct registry_version *version)
{
    const struct registry_version *current = model_current(model);
    bool is_new = version->snapshot == NULL && (current == NULL || version->number > current->number);
    return is_new && model_pin(model) == 0 ? json_object_get(model->settings, "gate") : NULL;
}

/* Begins to measure or to load a version that takes `bytes`. */
static void submit_load(struct registry *registry, struct registry_model *model, struct registry_version *version,
                        bool is_measurement, size_t bytes)
{
    struct load *load = mem_allocate(1, sizeof *load);
    const struct registry_version *current = model_current(model);
    struct error error;
    if (load == NULL || gate_init(&load->gate, gate_of(model, version), current == NULL ? NULL : current->snapshot,
                                  &error) != STATUS_OK) {
        mem_free(load);
        return; /* the next scan tries again */
    }
    load->registry = registry;
    load->is_measurement = is_measurement;
    load->bytes = bytes;
    load->version = version->number;
    load->precision = version->precision;
    snprintf(load->name, sizeof load->name, "%s", model->name);
    snprintf(load->directory, sizeof load->directory, "%s", model->path);
    version_path(model, version->number, load->path);
    load->job.run = is_measurement ? measure_run : load_run;
    load->job.done = load_done;
    if (workers_submit(registry->loader, &load->job, &error) != STATUS_OK) {
        gate_release(&load->gate);
        mem_free(load);
        return;
    }
    version->is_postponed = false;
    version->is_precision_refused = false;
    version->is_repacking = version->snapshot != NULL;
    version->status = version->is_repacking ? version->status : VERSION_LOADING;
    registry->loads_running++;
    registry->loading_bytes += bytes;
}

/* Old and new are held side by side until the new one serves: that must fit. */
static void start_load(struct registry *registry, struct registry_model *model, struct registry_version *version)
{
    struct error error;
    bool is_measured = version->is_measured && version->measured_precision == version->precision;
    if (registry->settings->models_bytes_max > 0 && !is_measured) {
        submit_load(registry, model, version, true, 0);
    } else if (registry_make_room(registry, model, is_measured ? version->measured_bytes : 0, &error) != STATUS_OK) {
        postpone(model, version, error.status, &error);
    } else {
        submit_load(registry, model, version, false, is_measured ? version->measured_bytes : 0);
    }
}

/* Whether it failed for want of memory, which only a trial can tell to be there again. */
static bool awaits_memory(const struct registry_version *version)
{
    return version->is_postponed && version->reason_status == STATUS_NO_MEMORY;
}

static bool can_load(const struct registry_version *version)
{
    return version->status == VERSION_READY && version->snapshot == NULL && !version->is_repacking &&
           !awaits_memory(version);
}

static bool must_repack(const struct registry_version *version)
{
    return version->snapshot != NULL && snapshot_precision(version->snapshot) != version->precision &&
           !version->is_repacking && !version->is_precision_refused && !version->is_gone && !awaits_memory(version);
}

/* What another precision could not hold gets another chance in this one. */
static void follow_precision(const struct registry_model *model, struct registry_version *version)
{
    enum rnn_precision precision = model_precision(model);
    if (version->precision != precision) {
        version->precision = precision;
        version->is_precision_refused = false;
        version->is_postponed = false;
        version->status = version->status == VERSION_REFUSED ? VERSION_READY : version->status;
    }
}

/* Whether nothing serves, and the version that ought to has no room: older ones are tried, the newest first. */
static bool needs_stand_in(const struct registry_model *model, const struct registry_version *wanted)
{
    return wanted != NULL && wanted->is_postponed && model_pin(model) == 0 && model_current(model) == NULL;
}

static void load_stand_in(struct registry *registry, struct registry_model *model,
                          const struct registry_version *wanted)
{
    bool is_coming = false;
    for (size_t i = (size_t)(wanted - model->versions); i-- > 0 && !is_coming;) {
        struct registry_version *version = &model->versions[i];
        if (version->status == VERSION_READY && version->snapshot != NULL) {
            serve_version(registry, model, version);
        } else if (can_load(version)) {
            start_load(registry, model, version);
        }
        is_coming = version->status == VERSION_LOADING || version->status == VERSION_SERVING;
    }
}

void registry_load_model(struct registry *registry, struct registry_model *model)
{
    if (model->is_unloaded || model->is_asleep || model->is_deleting || registry->is_ending) {
        return;
    }
    for (size_t i = 0; i < model->version_count; i++) {
        follow_precision(model, &model->versions[i]);
    }
    struct registry_version *wanted = desired(model);
    if (wanted != NULL && wanted->status == VERSION_READY && wanted->snapshot != NULL) {
        serve_version(registry, model, wanted);
    } else if (wanted != NULL && can_load(wanted)) {
        start_load(registry, model, wanted);
    }
    bool has_stand_in = needs_stand_in(model, wanted);
    if (has_stand_in) {
        load_stand_in(registry, model, wanted);
    }
    for (size_t i = 0; i < model->version_count; i++) {
        struct registry_version *version = &model->versions[i];
        bool is_asked = version->is_wanted || model_is_labelled(model, version->number);
        if ((is_asked && can_load(version)) || must_repack(version)) {
            start_load(registry, model, version);
        }
        bool is_awaited = is_asked || version == wanted || version->snapshot != NULL ||
                          (has_stand_in && version->number < wanted->number);
        version->is_postponed = version->is_postponed && is_awaited;
    }
}

void registry_retry(struct registry *registry, struct registry_model *model)
{
    bool is_postponed = false;
    for (size_t i = 0; i < model->version_count; i++) {
        struct registry_version *version = &model->versions[i];
        is_postponed = is_postponed || version->is_postponed;
        version->is_postponed = version->is_postponed && !awaits_memory(version);
    }
    if (is_postponed) {
        registry_load_model(registry, model);
    }
}
