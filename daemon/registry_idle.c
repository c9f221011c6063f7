/* Models that nobody used for their keep_alive_seconds: what is loaded of them is freed, and whoever asks for one has
 * it loaded again. Where others need the memory it may be sooner (registry_memory.c). A model is used while a request
 * holds one of its snapshots or graphs; the time counts from the end of the last use, or of a load, or from when it was
 * last seen in use. Thread: loop. Owns nothing. */
#include "daemon/log.h"
#include "daemon/registry_private.h"
#include "engine/base/clock.h"

static const json_int_t KEEP_ALIVE_SECONDS_MAX = 1000000000; /* 31 years: more is no longer told apart */

/* 0: the model stays. */
static uint64_t keep_alive_ms(const struct registry_model *model)
{
    json_int_t seconds = json_integer_value(json_object_get(model->settings, "keep_alive_seconds"));
    return (uint64_t)(seconds < KEEP_ALIVE_SECONDS_MAX ? seconds : KEEP_ALIVE_SECONDS_MAX) * 1000;
}

/* How long until the time is over that the model stays unused; 0: it is over. */
static uint64_t remaining_ms(const struct registry_model *model)
{
    uint64_t unused_ms = clock_now_ms() - model->used_ms;
    uint64_t kept_ms = keep_alive_ms(model);
    return unused_ms < kept_ms ? kept_ms - unused_ms : 0;
}

/* Whether it is set to fall asleep, and there is something to free. */
static bool can_sleep(const struct registry_model *model)
{
    bool is_loaded = false;
    for (size_t i = 0; i < model->version_count; i++) {
        is_loaded = is_loaded || model->versions[i].snapshot != NULL || served_is_read(model->versions[i].served);
    }
    return is_loaded && keep_alive_ms(model) > 0;
}

/* Whether somebody has it, waits for it, or could not have it back. */
static bool is_needed(const struct registry *registry, const struct registry_model *model)
{
    bool is_needed = model->use_count > 0 || model_is_loading(model);
    for (size_t i = 0; i < model->version_count; i++) {
        const struct registry_version *version = &model->versions[i];
        bool is_irreplaceable = version->snapshot != NULL && (version->is_gone || version->is_precision_refused);
        is_needed = is_needed || served_is_used(version->served) || is_irreplaceable;
    }
    for (const struct registry_waiter *waiter = registry->waiters; waiter != NULL; waiter = waiter->next) {
        is_needed = is_needed || strcmp(waiter->name, model->name) == 0;
    }
    return is_needed;
}

bool registry_may_sleep(const struct registry *registry, const struct registry_model *model)
{
    return can_sleep(model) && !is_needed(registry, model);
}

void registry_fall_asleep(struct registry *registry, struct registry_model *model)
{
    const struct registry_version *current = model_current(model);
    if (!model->is_asleep) { /* else somebody only looked at a graph */
        model->slept_version = current == NULL ? 0 : current->number;
        log_event(LOG_LEVEL_INFO, "idle", NULL, "model=%s version=%llu unused_seconds=%llu", model->name,
                  current == NULL ? 0 : (unsigned long long)current->number,
                  (unsigned long long)(clock_now_ms() - model->used_ms) / 1000);
    }
    for (size_t i = 0; i < model->version_count; i++) { /* where only graphs were read, nothing has to be loaded */
        model->is_asleep = model->is_asleep || model->versions[i].snapshot != NULL;
        model->versions[i].is_wanted = false;
        registry_rest_version(registry, &model->versions[i]);
    }
}

static void on_idle(uv_timer_t *timer)
{
    struct registry *registry = timer->data;
    bool is_changed = false;
    for (size_t i = 0; i < registry->model_count; i++) {
        struct registry_model *model = registry->models[i];
        if (can_sleep(model) && remaining_ms(model) == 0 && is_needed(registry, model)) {
            model->used_ms = clock_now_ms(); /* not every end of a use is told: it counts from here */
        }
        if (!can_sleep(model) || remaining_ms(model) > 0) {
            registry_watch_idle(registry, model);
        } else {
            registry_fall_asleep(registry, model);
            is_changed = true;
        }
    }
    if (is_changed) {
        registry_changed(registry);
    }
}

void registry_watch_idle(struct registry *registry, struct registry_model *model)
{
    if (!can_sleep(model) || registry->is_ending) {
        return;
    }
    uint64_t wait_ms = remaining_ms(model);
    uv_timer_t *timer = registry->idle_timer;
    if (!uv_is_active((uv_handle_t *)timer) || uv_timer_get_due_in(timer) > wait_ms) {
        uv_timer_start(timer, on_idle, wait_ms, 0);
    }
}

void registry_note_use(struct registry *registry, struct registry_model *model)
{
    model->used_ms = clock_now_ms();
    registry_watch_idle(registry, model);
}

void registry_wake(struct registry *registry, struct registry_model *model)
{
    if (model->is_asleep) {
        model->is_asleep = false;
        registry_load_model(registry, model);
    }
}
