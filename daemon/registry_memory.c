/* The memory of versions: what is held of the setting models_bytes_max, room for what is to be loaded, and letting go.
 * What is held are snapshots, from the start of their load until they are handed to the loader thread to be freed: it
 * frees them before it begins the next load. Thread: loop; freeing is a job on the loader thread. Owns nothing. */
#include "daemon/registry_private.h"
#include "engine/base/mem.h"

/* ---- letting go ---- */

struct drop {
    struct job job;
    struct registry *registry;
    struct snapshot *snapshot; /* each may be NULL */
    struct served *served;
    struct served_graph *graph;
};

static void release(const struct drop *drop)
{
    snapshot_unref(drop->snapshot);
    served_unref(drop->served);
    served_graph_unref(drop->graph);
}

static void drop_run(struct job *job)
{
    release((struct drop *)job);
    mem_trim();
}

static void drop_done(struct job *job)
{
    struct drop *drop = (struct drop *)job;
    struct registry *registry = drop->registry;
    mem_free(drop);
    registry_load_postponed(registry);
}

static void submit_drop(struct registry *registry, struct drop what)
{
    struct drop *drop = registry->is_ending ? NULL : mem_allocate(1, sizeof *drop);
    registry->held_bytes -= what.snapshot == NULL ? 0 : snapshot_bytes(what.snapshot);
    if (drop == NULL) {
        release(&what); /* slower here than there, but it must go */
        return;
    }
    *drop = what;
    drop->registry = registry;
    drop->job.run = drop_run;
    drop->job.done = drop_done;
    workers_submit_always(registry->loader, &drop->job);
}

void registry_drop(struct registry *registry, struct snapshot *snapshot)
{
    if (snapshot != NULL && !snapshot_unref_shared(snapshot)) {
        submit_drop(registry, (struct drop){.snapshot = snapshot});
    }
}

void registry_drop_served(struct registry *registry, struct registry_version *version)
{
    if (version->served != NULL) {
        submit_drop(registry, (struct drop){.served = version->served});
        version->served = NULL;
    }
}

void registry_drop_version(struct registry *registry, struct registry_version *version)
{
    registry_drop_served(registry, version);
    registry_drop(registry, version->snapshot);
    version->snapshot = NULL;
    version->is_precision_refused = false;
}

void registry_rest_version(struct registry *registry, struct registry_version *version)
{
    struct served_graph *graph = version->served == NULL ? NULL : served_take_graph(version->served);
    if (graph != NULL) {
        submit_drop(registry, (struct drop){.graph = graph});
    }
    if (version->snapshot != NULL) {
        registry_drop(registry, version->snapshot);
        version->snapshot = NULL;
        version->status = VERSION_READY;
    }
    version->is_postponed = false;
}

void registry_drop_versions(struct registry *registry, struct registry_model *model)
{
    for (size_t i = 0; i < model->version_count; i++) {
        struct registry_version *version = &model->versions[i];
        registry_drop_served(registry, version);
        version->is_postponed = false;
        if (version->snapshot != NULL) {
            registry_drop_version(registry, version);
            version->status = VERSION_READY;
        }
    }
}

/* ---- room ---- */

static size_t loaded_bytes(const struct registry_model *model)
{
    size_t bytes = 0;
    for (size_t i = 0; i < model->version_count; i++) {
        bytes += model->versions[i].snapshot == NULL ? 0 : snapshot_bytes(model->versions[i].snapshot);
    }
    return bytes;
}

static bool fits(const struct registry *registry, size_t bytes, size_t freed_bytes)
{
    uint64_t maximum = registry->settings->models_bytes_max;
    uint64_t held = registry->held_bytes + registry->loading_bytes - freed_bytes;
    return held <= maximum && bytes <= maximum - held;
}

/* Of those that may be put to sleep the one that was not used for longest; NULL: there is none. */
static struct registry_model *find_sleepable(const struct registry *registry, const struct registry_model *but)
{
    struct registry_model *found = NULL;
    for (size_t i = 0; i < registry->model_count; i++) {
        struct registry_model *model = registry->models[i];
        bool is_older = found == NULL || model->used_ms < found->used_ms;
        if (model != but && is_older && loaded_bytes(model) > 0 && registry_may_sleep(registry, model)) {
            found = model;
        }
    }
    return found;
}

static size_t sleepable_bytes(const struct registry *registry, const struct registry_model *but)
{
    size_t bytes = 0;
    for (size_t i = 0; i < registry->model_count; i++) {
        const struct registry_model *model = registry->models[i];
        bytes += model != but && registry_may_sleep(registry, model) ? loaded_bytes(model) : 0;
    }
    return bytes;
}

static enum status refuse(const struct registry *registry, size_t bytes, struct error *error)
{
    size_t holders = 0;
    for (size_t i = 0; i < registry->model_count; i++) {
        const struct registry_model *model = registry->models[i];
        holders += loaded_bytes(model) > 0 || model->use_count > 0 || model_is_loading(model) ? 1 : 0;
    }
    error_set(error, STATUS_UNAVAILABLE,
              "it needs %zu bytes, and of models_bytes_max, %llu bytes, %zu are held by %zu models", bytes,
              (unsigned long long)registry->settings->models_bytes_max, registry->held_bytes + registry->loading_bytes,
              holders);
    return error_code(error, "models_bytes_max");
}

enum status registry_make_room(struct registry *registry, const struct registry_model *model, size_t bytes,
                               struct error *error)
{
    if (registry->settings->models_bytes_max == 0 || bytes == 0 || fits(registry, bytes, 0)) {
        return STATUS_OK;
    }
    if (!fits(registry, bytes, sleepable_bytes(registry, model))) {
        return refuse(registry, bytes, error);
    }
    struct registry_model *sleepable = NULL;
    while (!fits(registry, bytes, 0) && (sleepable = find_sleepable(registry, model)) != NULL) {
        registry_fall_asleep(registry, sleepable);
    }
    return STATUS_OK;
}

void registry_load_postponed(struct registry *registry)
{
    for (size_t i = 0; i < registry->model_count; i++) {
        registry_retry(registry, registry->models[i]);
    }
}

struct registry_memory registry_memory(const struct registry *registry)
{
    return (struct registry_memory){.held_bytes = registry->held_bytes + registry->loading_bytes,
                                    .bytes_max = registry->settings->models_bytes_max};
}
