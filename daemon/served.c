/* Versions' graphs, each read when a request first runs it. Thread: run threads, under the place's own lock; never the
 * loop, which only hands out references. */
#include <stdatomic.h>
#include <time.h>

#include "daemon/registry_private.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

/* What predictions took, in all. */
struct served_statistics {
    _Atomic uint64_t success_count, success_ns, fail_count, fail_ns;
    _Atomic uint64_t queue_ns, input_ns, infer_ns, output_ns; /* of those that succeeded */
    _Atomic uint64_t last_ms;                                 /* since 1970 */
};

struct served {
    _Atomic size_t references;
    pthread_mutex_t lock; /* held while reading; held by nobody who holds another lock */
    struct served_graph *graph;
    _Atomic bool is_read; /* there is a graph: for the loop, which takes no lock that is held while reading */
    struct served_statistics statistics;
};

struct served *served_create(void)
{
    struct served *served = mem_allocate(1, sizeof *served);
    if (served == NULL) {
        return NULL;
    }
    atomic_init(&served->references, 1);
    CHECK(pthread_mutex_init(&served->lock, NULL) == 0);
    return served;
}

static struct served *served_ref(struct served *served)
{
    atomic_fetch_add(&served->references, 1);
    return served;
}

struct served *served_unref(struct served *served)
{
    if (served != NULL && atomic_fetch_sub(&served->references, 1) == 1) {
        served_graph_unref(served->graph);
        CHECK(pthread_mutex_destroy(&served->lock) == 0);
        mem_free(served);
    }
    return NULL;
}

bool served_is_used(const struct served *served)
{
    return served != NULL && atomic_load(&served->references) > 1;
}

bool served_is_read(const struct served *served)
{
    return served != NULL && (atomic_load(&served->is_read) || served_is_used(served));
}

struct served_graph *served_take_graph(struct served *served)
{
    CHECK(!served_is_used(served)); /* so that nobody has the lock */
    CHECK(pthread_mutex_lock(&served->lock) == 0);
    struct served_graph *graph = served->graph;
    served->graph = NULL;
    atomic_store(&served->is_read, false);
    CHECK(pthread_mutex_unlock(&served->lock) == 0);
    return graph;
}

enum status served_open(const struct served_ticket *ticket, struct served_graph **ret_graph, struct error *error)
{
    struct served *served = ticket->served;
    enum status status = STATUS_OK;
    CHECK(pthread_mutex_lock(&served->lock) == 0);
    if (served->graph == NULL) {
        status = served_graph_open(ticket->path, &served->graph, error);
        atomic_store(&served->is_read, status == STATUS_OK);
        if (status == STATUS_NOT_FOUND) { /* removed since the last scan */
            status = registry_refuse_gone(ticket->model, ticket->version, error);
        }
    }
    if (status == STATUS_OK) {
        *ret_graph = served_graph_ref(served->graph);
    }
    CHECK(pthread_mutex_unlock(&served->lock) == 0);
    return status;
}

void served_ticket_release(struct served_ticket *ticket)
{
    ticket->served = served_unref(ticket->served);
}

/* ---- statistics ---- */

void served_count_run(const struct served_ticket *ticket, const struct served_timing *timing)
{
    struct served_statistics *statistics = &ticket->served->statistics;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    atomic_store(&statistics->last_ms, (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
    if (!timing->is_good) {
        atomic_fetch_add(&statistics->fail_count, 1);
        atomic_fetch_add(&statistics->fail_ns, timing->all_ns);
        return;
    }
    atomic_fetch_add(&statistics->success_count, 1);
    atomic_fetch_add(&statistics->success_ns, timing->all_ns);
    atomic_fetch_add(&statistics->queue_ns, timing->queue_ns);
    atomic_fetch_add(&statistics->input_ns, timing->input_ns);
    atomic_fetch_add(&statistics->infer_ns, timing->infer_ns);
    atomic_fetch_add(&statistics->output_ns, timing->output_ns);
}

static json_t *duration(uint64_t count, uint64_t ns)
{
    return json_pack("{s:I, s:I}", "count", (json_int_t)count, "ns", (json_int_t)ns);
}

/* Every prediction is a batch of its own. */
static json_t *describe_statistics(const struct registry_model *model, const struct registry_version *version)
{
    static struct served_statistics none;
    struct served_statistics *found = version->served == NULL ? &none : &version->served->statistics;
    uint64_t good = atomic_load(&found->success_count);
    json_t *parts = json_pack("{s:o, s:o, s:o}", "compute_input", duration(good, atomic_load(&found->input_ns)),
                              "compute_infer", duration(good, atomic_load(&found->infer_ns)), "compute_output",
                              duration(good, atomic_load(&found->output_ns)));
    json_t *batch = json_copy(parts);
    json_object_set_new(batch, "batch_size", json_integer(1));
    json_object_set_new(parts, "success", duration(good, atomic_load(&found->success_ns)));
    json_object_set_new(parts, "fail", duration(atomic_load(&found->fail_count), atomic_load(&found->fail_ns)));
    json_object_set_new(parts, "queue", duration(good, atomic_load(&found->queue_ns)));
    json_object_set_new(parts, "cache_hit", duration(0, 0));
    json_object_set_new(parts, "cache_miss", duration(0, 0));
    size_t bytes = version->snapshot == NULL ? 0 : snapshot_bytes(version->snapshot);
    return json_pack("{s:s, s:o, s:I, s:I, s:I, s:o, s:[o], s:[{s:s, s:i, s:I}]}", "name", model->name, "version",
                     json_sprintf("%llu", (unsigned long long)version->number), "last_inference",
                     (json_int_t)atomic_load(&found->last_ms), "inference_count", (json_int_t)good, "execution_count",
                     (json_int_t)good, "inference_stats", parts, "batch_stats", batch, "memory_usage", "type", "CPU",
                     "id", 0, "byte_size", (json_int_t)bytes);
}

static void add_statistics(const struct registry_model *model, json_t *list)
{
    for (size_t i = 0; i < model->version_count; i++) {
        const struct registry_version *version = &model->versions[i];
        if (version->snapshot != NULL || version->served != NULL) {
            json_array_append_new(list, describe_statistics(model, version));
        }
    }
}

enum status registry_statistics(struct registry *registry, const char *reference,
                                bool (*sees)(const void *context, const char *model), const void *context,
                                json_t **ret_reply, struct error *error)
{
    struct registry_model *model = NULL;
    struct registry_version *version = NULL;
    if (reference != NULL) {
        TRY(registry_find_version(registry, reference, &model, &version, error));
    }
    json_t *list = json_array();
    if (reference != NULL && strpbrk(reference, "@:") != NULL) {
        json_array_append_new(list, describe_statistics(model, version));
    } else if (reference != NULL) {
        add_statistics(model, list);
    }
    for (size_t i = 0; reference == NULL && i < registry->model_count; i++) {
        if (!registry->models[i]->is_deleting && sees(context, registry->models[i]->name)) {
            add_statistics(registry->models[i], list);
        }
    }
    *ret_reply = json_pack("{s:o}", "model_stats", list);
    return *ret_reply == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory for statistics") : STATUS_OK;
}

/* ---- tickets ---- */

/* Whether the version's files can be read and used. */
static enum status check_version(const struct registry_model *model, const struct registry_version *version,
                                 struct error *error)
{
    if (version->is_gone) {
        return registry_refuse_gone(model->name, version->number, error);
    }
    return version_has_reason(version) && version->status != VERSION_TEXTLESS
               ? registry_refuse_version(model, version, error)
               : STATUS_OK;
}

/* Lets go what was read of other versions that only requests by number ask for: of those a model keeps one, so that
 * asking for every version on disk does not fill the memory. */
static void drop_spare_graphs(struct registry *registry, struct registry_model *model,
                              const struct registry_version *kept)
{
    const struct registry_version *source = model_source(model);
    for (size_t i = 0; i < model->version_count; i++) {
        struct registry_version *version = &model->versions[i];
        bool is_spare = version != kept && version != source && version->snapshot == NULL;
        if (is_spare && !model_is_labelled(model, version->number)) {
            registry_drop_served(registry, version);
        }
    }
}

enum status registry_check_served(struct registry *registry, const char *reference, struct error *error)
{
    struct registry_model *model = NULL;
    struct registry_version *version = NULL;
    TRY(registry_find_version(registry, reference, &model, &version, error));
    return check_version(model, version, error);
}

enum status registry_served_ticket(struct registry *registry, const char *reference, bool is_look,
                                   struct served_ticket *ret_ticket, struct error *error)
{
    struct registry_model *model = NULL;
    struct registry_version *version = NULL;
    TRY(registry_find_version(registry, reference, &model, &version, error));
    TRY(check_version(model, version, error));
    if (!is_look) {
        registry_wake(registry, model);
    }
    if (version->served == NULL) {
        drop_spare_graphs(registry, model, version);
        version->served = served_create();
    }
    if (version->served == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    }
    struct served_ticket *ticket = ret_ticket;
    ticket->served = served_ref(version->served);
    snprintf(ticket->model, sizeof ticket->model, "%s", model->name);
    ticket->version = version->number;
    ticket->fingerprint = version->fingerprint;
    version_path(model, version->number, ticket->path);
    if (is_look) {
        registry_watch_idle(registry, model);
    } else {
        registry_note_use(registry, model);
    }
    return STATUS_OK;
}
