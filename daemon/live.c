/* Live graphs: a model of the engine that is filled when a request first needs it. Thread: run threads, under the
 * slot's own lock; never the loop, which only hands out references. */
#include <stdatomic.h>
#include <unistd.h>

#include "daemon/registry_private.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

struct live {
    _Atomic size_t references;
    char name[MODEL_NAME_BYTES_MAX];
    pthread_mutex_t lock; /* held while filling; held by nobody who holds another lock */
    struct model *model;
    uint64_t version; /* it was filled from; 0: none */
};

struct live *live_create(const char *name)
{
    struct live *live = mem_allocate(1, sizeof *live);
    if (live == NULL) {
        return NULL;
    }
    atomic_init(&live->references, 1);
    snprintf(live->name, sizeof live->name, "%s", name);
    CHECK(pthread_mutex_init(&live->lock, NULL) == 0);
    return live;
}

static struct live *live_ref(struct live *live)
{
    atomic_fetch_add(&live->references, 1);
    return live;
}

struct live *live_unref(struct live *live)
{
    if (live != NULL && atomic_fetch_sub(&live->references, 1) == 1) {
        model_unref(live->model);
        pthread_mutex_destroy(&live->lock);
        mem_free(live);
    }
    return NULL;
}

static enum status fill(struct live *live, const struct live_ticket *ticket, struct error *error)
{
    if (ticket->version != 0) {
        TRY(model_create_from_version(live->name, ticket->version_path, ticket->version, &live->model, error));
        live->version = ticket->version;
        return STATUS_OK;
    }
    struct model *model = NULL;
    TRY(model_create(live->name, &model, error));
    const json_t *language_model = json_object_get(ticket->definition, "language_model");
    if (language_model != NULL) {
        enum status status = model_make_language_model(model, language_model, rng_system() >> 11, error);
        if (status != STATUS_OK) {
            model_unref(model);
            return status;
        }
    }
    live->model = model;
    return STATUS_OK;
}

/* Whether what was saved from the graph lies on disk, and the registry has yet to find or to load it. */
static bool is_ahead(const struct live *live, const struct live_ticket *ticket)
{
    char path[REGISTRY_PATH_BYTES_MAX];
    version_path_in(ticket->model_path, live->version, path);
    return live->version > ticket->version &&
           (ticket->is_loading || (live->version > ticket->newest && access(path, F_OK) == 0));
}

/* Unchanged since it was filled, it goes with the version that serves now. */
static enum status follow(struct live *live, const struct live_ticket *ticket, struct error *error)
{
    bool is_there = ticket->version == 0 || live->version == ticket->version;
    if (is_there || model_is_unsaved(live->model) || is_ahead(live, ticket)) {
        return STATUS_OK;
    }
    enum status status = model_follow(live->model, ticket->version_path, ticket->version, error);
    if (status == STATUS_OK) {
        live->version = ticket->version;
    }
    return status == STATUS_CONFLICT ? STATUS_OK : status; /* in use: the next request follows */
}

enum status live_open(const struct live_ticket *ticket, struct model **ret_model, struct error *error)
{
    struct live *live = ticket->live;
    pthread_mutex_lock(&live->lock);
    enum status status = live->model == NULL ? fill(live, ticket, error) : follow(live, ticket, error);
    if (status == STATUS_OK) {
        *ret_model = model_ref(live->model);
    }
    pthread_mutex_unlock(&live->lock);
    /* removed since the last scan */
    return status == STATUS_NOT_FOUND ? registry_refuse_gone(live->name, ticket->version, error) : status;
}

void live_note_saved(const struct live_ticket *ticket, uint64_t version)
{
    struct live *live = ticket->live;
    pthread_mutex_lock(&live->lock);
    bool is_base = model_base_version(live->model) == version; /* not a checkpoint's */
    if (is_base || version > live->version) {
        live->version = version;
    }
    pthread_mutex_unlock(&live->lock);
}

void live_ticket_release(struct live_ticket *ticket)
{
    live_unref(ticket->live);
    json_decref(ticket->definition);
    ticket->live = NULL;
    ticket->definition = NULL;
}

struct registry_version *model_source(const struct registry_model *model)
{
    struct registry_version *current = model_current(model);
    struct registry_version *slept = model_version(model, model->slept_version);
    if (current == NULL && slept != NULL && (slept->status == VERSION_READY || slept->status == VERSION_LOADING)) {
        current = slept;
    }
    for (size_t i = model->version_count; i-- > 0 && model_pin(model) == 0;) {
        struct registry_version *version = &model->versions[i];
        if (version == current || version->status == VERSION_TEXTLESS) {
            return version;
        }
    }
    return current;
}

enum status registry_live_ticket(struct registry *registry, const char *name, struct live_ticket *ret_ticket,
                                 struct error *error)
{
    struct registry_model *model = registry_need(registry, name, error);
    if (model == NULL) {
        return STATUS_NOT_FOUND;
    }
    const struct registry_version *source = model_source(model);
    struct live_ticket *ticket = ret_ticket;
    *ticket = (struct live_ticket){.live = live_ref(model->live), .is_read_only = model->is_read_only};
    /* A thread's own: only some builds of jansson count references atomically. */
    ticket->definition = json_deep_copy(model->definition);
    snprintf(ticket->model_path, sizeof ticket->model_path, "%s", model->path);
    ticket->newest = model->version_count == 0 ? 0 : model->versions[model->version_count - 1].number;
    ticket->is_loading = model_is_loading(model);
    if (source != NULL) {
        ticket->version = source->number;
        version_path(model, source->number, ticket->version_path);
    }
    return STATUS_OK;
}
