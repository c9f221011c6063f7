/* Versions' graphs, each read when a request first runs it. Thread: run threads, under the place's own lock; never the
 * loop, which only hands out references. */
#include <stdatomic.h>

#include "daemon/registry_private.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

struct served {
    _Atomic size_t references;
    pthread_mutex_t lock; /* held while reading; held by nobody who holds another lock */
    struct served_graph *graph;
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

enum status served_open(const struct served_ticket *ticket, struct served_graph **ret_graph, struct error *error)
{
    struct served *served = ticket->served;
    enum status status = STATUS_OK;
    CHECK(pthread_mutex_lock(&served->lock) == 0);
    if (served->graph == NULL) {
        status = served_graph_open(ticket->path, &served->graph, error);
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

/* Whether the version's files can be read and used. */
static enum status check_version(const struct registry_model *model, const struct registry_version *version,
                                 struct error *error)
{
    if (version->is_gone) {
        return registry_refuse_gone(model, version->number, error);
    }
    return version_has_reason(version) && version->status != VERSION_TEXTLESS
               ? registry_refuse_version(model, version, error)
               : STATUS_OK;
}

enum status registry_served_ticket(struct registry *registry, const char *reference, struct served_ticket *ret_ticket,
                                   struct error *error)
{
    struct registry_model *model = NULL;
    struct registry_version *version = NULL;
    TRY(registry_find_version(registry, reference, &model, &version, error));
    TRY(check_version(model, version, error));
    if (version->served == NULL) {
        version->served = served_create();
    }
    if (version->served == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    }
    struct served_ticket *ticket = ret_ticket;
    ticket->served = served_ref(version->served);
    ticket->version = version->number;
    version_path(model, version->number, ticket->path);
    return STATUS_OK;
}
