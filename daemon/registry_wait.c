/* Calls that wait for a scan and for their model's loads: taking them in, and what they are told in the end.
 * Thread: loop. Owns the waiters. */
#include "daemon/registry_private.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum { SERVING_TEXT_BYTES = 64 };

bool model_is_loading(const struct registry_model *model)
{
    for (size_t i = 0; model != NULL && i < model->version_count; i++) {
        if (model->versions[i].status == VERSION_LOADING || model->versions[i].is_repacking) {
            return true;
        }
    }
    return false;
}

struct registry_waiter *registry_add_waiter(struct registry *registry, const char *name,
                                            struct registry_callback callback)
{
    struct registry_waiter *waiter = mem_allocate(1, sizeof *waiter);
    if (waiter == NULL) {
        return NULL;
    }
    *waiter = (struct registry_waiter){.callback = callback,
                                       .started_ms = clock_now_ms(),
                                       .scan = registry->scans_started + 1,
                                       .precision = RNN_PRECISION_COUNT,
                                       .next = registry->waiters};
    snprintf(waiter->name, sizeof waiter->name, "%s", name);
    registry->waiters = waiter;
    return waiter;
}

void registry_answer_when_back(struct registry *registry, const char *name, const struct error *error,
                               struct registry_callback callback)
{
    struct registry_waiter *waiter = registry_add_waiter(registry, name, callback);
    if (waiter == NULL) {
        registry_answer_error(callback, error);
    } else {
        waiter->error = *error;
    }
    registry_scan(registry);
}

/* Takes the waiter out that `link` points to. */
static struct registry_waiter *unlink_waiter(struct registry *registry, struct registry_waiter **link)
{
    struct registry_waiter *waiter = *link;
    *link = waiter->next;
    registry->waiting_requests -= waiter->is_request ? 1 : 0;
    return waiter;
}

/* Answers the requests whose deadline is over; the answers may let others begin to wait. */
static void on_deadline(uv_timer_t *timer)
{
    struct registry *registry = timer->data;
    uint64_t now_ms = clock_now_ms();
    uint64_t next_ms = UINT64_MAX;
    struct registry_waiter **link = &registry->waiters;
    while (*link != NULL) {
        struct registry_waiter *waiter = *link;
        if (!waiter->is_request || waiter->deadline_ms > now_ms) {
            next_ms = waiter->is_request && waiter->deadline_ms < next_ms ? waiter->deadline_ms : next_ms;
            link = &waiter->next;
            continue;
        }
        struct error error;
        struct registry_callback callback = waiter->callback;
        json_decref(unlink_waiter(registry, link)->reply);
        mem_free(waiter);
        error_set(&error, STATUS_UNAVAILABLE, "the deadline came while the model was being loaded");
        error_code(&error, "deadline");
        registry_answer_error(callback, &error);
        link = &registry->waiters;
    }
    if (next_ms != UINT64_MAX) {
        uv_timer_start(timer, on_deadline, next_ms - now_ms, 0);
    }
}

static void watch_deadline(struct registry *registry, uint64_t deadline_ms)
{
    uint64_t now_ms = clock_now_ms();
    uint64_t wait_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    uv_timer_t *timer = registry->deadline_timer;
    if (!uv_is_active((uv_handle_t *)timer) || uv_timer_get_due_in(timer) > wait_ms) {
        uv_timer_start(timer, on_deadline, wait_ms, 0);
    }
}

bool registry_wait_for_loads(struct registry *registry, const char *reference, uint64_t deadline_ms,
                             struct error *error, bool *has_waited, struct registry_callback callback)
{
    if (*has_waited || strcmp(error->code, "model_loading") != 0) {
        return false;
    }
    *has_waited = true;
    const struct registry_model *model = registry_find_referred(registry, reference);
    bool is_loading = model_is_loading(model);
    if (is_loading && registry->waiting_requests >= registry->settings->generations_max) {
        error_set(error, STATUS_LIMIT, "%zu requests wait for models that are being loaded, the most there may be",
                  registry->waiting_requests);
        error_code(error, "queue_full");
        return false;
    }
    json_t *reply = json_object();
    struct registry_waiter *waiter =
        reply == NULL || !is_loading ? NULL : registry_add_waiter(registry, model->name, callback);
    if (waiter != NULL) {
        waiter->scan = registry->scans_done;
        waiter->reply = reply;
        waiter->is_request = true;
        waiter->deadline_ms = deadline_ms;
        registry->waiting_requests++;
        watch_deadline(registry, deadline_ms);
    } else if (reply != NULL && !is_loading) {
        registry_answer(callback, STATUS_OK, NULL, reply, false);
    } else {
        struct error reason;
        json_decref(reply);
        error_set(&reason, STATUS_NO_MEMORY, "no memory for a call that waits");
        registry_answer_error(callback, &reason);
    }
    return true;
}

void registry_stop_waiting(struct registry *registry, const void *context)
{
    struct registry_waiter **link = &registry->waiters;
    while (*link != NULL && ((*link)->callback.context != context || !(*link)->is_request)) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        struct registry_waiter *waiter = unlink_waiter(registry, link);
        json_decref(waiter->reply);
        mem_free(waiter);
    }
}

/* The version whose fate a call reports: the one named, the pinned one, or the newest on disk; of a trial, what
 * serves. */
static const struct registry_version *awaited(const struct registry_model *model, const struct registry_waiter *waiter)
{
    if (waiter->is_trial) {
        return model_current(model);
    }
    uint64_t asked = waiter->version != 0 ? waiter->version : model_pin(model);
    if (asked != 0) {
        return model_version(model, asked);
    }
    for (size_t i = model->version_count; i-- > 0;) {
        if (model->versions[i].status != VERSION_RETIRED) {
            return &model->versions[i];
        }
    }
    return NULL;
}

/* "version 7 serves on". */
static void say_serving(const struct registry_model *model, char text[SERVING_TEXT_BYTES])
{
    const struct registry_version *current = model_current(model);
    snprintf(text, SERVING_TEXT_BYTES, "nothing serves");
    if (current != NULL) {
        snprintf(text, SERVING_TEXT_BYTES, "version %llu serves on", (unsigned long long)current->number);
    }
}

enum status registry_refuse_postponed(const struct registry_model *model, const struct registry_version *version,
                                      struct error *error)
{
    char serving[SERVING_TEXT_BYTES];
    say_serving(model, serving);
    error_set(error, STATUS_UNAVAILABLE, "version %llu of %s cannot be loaded now: %.700s; %s",
              (unsigned long long)version->number, model->name, version->reason.message, serving);
    return error_code(error, version->reason.code);
}

/* What a load call came to, but for success: `version` is the one it awaited, or NULL. */
static enum status check_awaited(const struct registry_model *model, const struct registry_waiter *waiter,
                                 const struct registry_version *version, struct error *error)
{
    unsigned long long number = version == NULL ? waiter->version : version->number;
    if (model->is_deleting) {
        return registry_refuse_deleting(waiter->name, error);
    }
    if (model->is_unloaded) {
        error_set(error, STATUS_CONFLICT, "another call unloaded model %s meanwhile", waiter->name);
        return error_code(error, "model_unloaded");
    }
    if (version == NULL && number == 0) {
        error_set(error, STATUS_NOT_FOUND, "model %s has no version yet: train or save it first", waiter->name);
        return error_code(error, "version_not_found");
    }
    if (version == NULL || version->status == VERSION_RETIRED) {
        error_set(error, STATUS_NOT_FOUND, "model %s has no version %llu", waiter->name, number);
        return error_code(error, "version_not_found");
    }
    if (version->status == VERSION_INCOMPLETE || version->status == VERSION_REFUSED) {
        char serving[SERVING_TEXT_BYTES];
        say_serving(model, serving);
        error_set(error, STATUS_UNPROCESSABLE, "version %llu of %s was refused: %.700s; %s", number, waiter->name,
                  version->reason.message, serving);
        registry_hint_at_pin(model, version, error);
        return error_code(error, "version_refused");
    }
    if (version->is_gone) {
        error_set(error, STATUS_UNPROCESSABLE, "the files of version %llu of %s are gone; it serves on from memory",
                  number, waiter->name);
        return error_code(error, "version_gone");
    }
    if (version->is_postponed) {
        return registry_refuse_postponed(model, version, error);
    }
    if (version->status == VERSION_TEXTLESS) {
        return STATUS_OK;
    }
    if (waiter->precision != RNN_PRECISION_COUNT && waiter->precision != version->precision) {
        error_set(error, STATUS_CONFLICT, "another call changed the precision of %s to %s meanwhile", waiter->name,
                  rnn_precision_name(version->precision));
        return error_code(error, "precision_changed");
    }
    bool is_as_wanted = version->snapshot != NULL && snapshot_precision(version->snapshot) == version->precision;
    if (!is_as_wanted && !version->is_precision_refused) {
        error_set(error, STATUS_UNAVAILABLE, "version %llu of %s could not be loaded now: the loader's queue is full",
                  number, waiter->name);
        return error_code(error, "model_loading");
    }
    if (!is_as_wanted) {
        error_set(error, STATUS_UNPROCESSABLE, "version %llu of %s cannot be packed in %s: %.700s; it serves on in %s",
                  number, waiter->name, rnn_precision_name(version->precision), version->reason.message,
                  rnn_precision_name(snapshot_precision(version->snapshot)));
        return error_code(error, "precision_refused");
    }
    return STATUS_OK;
}

static bool is_awaited(const struct registry *registry, const struct registry_model *model,
                       enum rnn_precision precision)
{
    for (const struct registry_waiter *waiter = registry->waiters; waiter != NULL; waiter = waiter->next) {
        if (waiter->precision == precision && strcmp(waiter->name, model->name) == 0) {
            return true;
        }
    }
    return false;
}

void registry_forget_precision(struct registry *registry, struct registry_model *model, enum rnn_precision precision)
{
    if (precision != RNN_PRECISION_COUNT && model->asked_precision == precision &&
        !is_awaited(registry, model, precision)) {
        model->asked_precision = model->held_precision;
        registry_load_model(registry, model);
    }
}

static void answer_waiter(struct registry *registry, struct registry_model *model, const struct registry_waiter *waiter)
{
    struct error error;
    if (waiter->error.status != STATUS_OK) {
        registry_answer_error(waiter->callback, &waiter->error);
        return;
    }
    if (waiter->reply != NULL) {
        registry_answer(waiter->callback, STATUS_OK, NULL, waiter->reply, waiter->is_new);
        return;
    }
    if (model == NULL) {
        error_set(&error, STATUS_NOT_FOUND, "The model '%s' does not exist", waiter->name);
        error_code(&error, "model_not_found");
        registry_answer_error(waiter->callback, &error);
        return;
    }
    const struct registry_version *version = awaited(model, waiter);
    if (check_awaited(model, waiter, version, &error) != STATUS_OK) {
        registry_forget_precision(registry, model, waiter->precision);
        registry_answer_error(waiter->callback, &error);
        return;
    }
    if (waiter->precision != RNN_PRECISION_COUNT && !waiter->is_trial) {
        model->held_precision = waiter->precision;
    }
    char name[MODEL_NAME_BYTES_MAX + 24];
    char previous[MODEL_NAME_BYTES_MAX + 24];
    snprintf(name, sizeof name, "%s@%llu", waiter->name, (unsigned long long)version->number);
    snprintf(previous, sizeof previous, "%s@%llu", waiter->name, (unsigned long long)waiter->previous);
    json_t *reply = json_pack("{s:s, s:o, s:f, s:o*}", "model", name, "previous",
                              waiter->previous == 0 ? json_null() : json_string(previous), "seconds",
                              (double)(clock_now_ms() - waiter->started_ms) / 1e3, "serves",
                              version->status == VERSION_TEXTLESS ? json_false() : NULL);
    registry_answer(waiter->callback, STATUS_OK, NULL, reply, false);
}

void registry_answer_waiters(struct registry *registry)
{
    struct registry_waiter **link = &registry->waiters;
    while (*link != NULL) {
        struct registry_waiter *waiter = *link;
        struct registry_model *model = registry_find(registry, waiter->name);
        bool is_loading = waiter->name[0] == '\0' ? registry->loads_running > 0 : model_is_loading(model);
        if (waiter->scan > registry->scans_done || is_loading) {
            link = &waiter->next;
            continue;
        }
        unlink_waiter(registry, link);
        answer_waiter(registry, model, waiter);
        mem_free(waiter);
    }
}
