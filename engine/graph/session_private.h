/* The inside of sessions, for the session*.c files. */
#ifndef ENGINE_GRAPH_SESSION_PRIVATE_H
#define ENGINE_GRAPH_SESSION_PRIVATE_H

#include <pthread.h>

#include "engine/graph/graph_private.h"
#include "engine/graph/session.h"

/* What belongs to one run at a time of one plan; lies in the pool between runs. */
struct session_run {
    struct session_run *next; /* in the pool */
    struct session *session;
    struct cached_plan *cached;
    struct workspace *workspace;
    uint64_t *seeded_keys; /* behind the feeds */
    struct tensor feeds[];
};

/* A plan, and what it is found by. */
struct cached_plan {
    struct cached_plan *next; /* among those to be freed */
    uint64_t hash;
    uint64_t used_at; /* the session's clock */
    size_t users;     /* runs that borrow it, and 1 while it is in the cache */
    bool is_cached;
    struct plan *plan;
    struct session_run *idle;
    size_t idle_count;
    struct arena arena; /* the key */
    size_t feed_count;
    size_t fetch_count;
    size_t target_count;
    struct output *feeds;
    struct tensor *feed_values; /* shapes; data of those that the plan depends on, else NULL */
    struct output *fetches;
    struct node **targets;
};

struct session {
    pthread_mutex_t mutex;
    struct graph *graph;
    struct values *values;
    bool is_closed;
    uint64_t clock;
    size_t bytes;             /* of cached plans and idle workspaces */
    size_t run_count;         /* begun and not ended */
    struct name_counts draws; /* how often each seeded node has run */
    size_t cached_count;
    uint64_t hashes[SESSION_PLANS_MAX];
    struct cached_plan *cached[SESSION_PLANS_MAX];
};

/* NO_MEMORY, with the message of all these files; here, where clang's analyzer sees that it is a failure. */
static inline enum status session_no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a session's run");
}

/* Frees a run that is in no pool; a plan that is not in the cache and has no users. */
void session_run_free(struct session_run *run);
void session_free_plan(struct cached_plan *cached);

/* Of all that a plan is found by but the values of feeds. */
uint64_t session_hash(const struct session_request *request);
/* The plan for a request with one user more, and an idle run of it or NULL; NULL when it is not cached. The mutex is
 * held. */
struct cached_plan *session_find_plan(struct session *session, uint64_t hash, const struct session_request *request,
                                      struct session_run **ret_run);

/* Compiles a request, whose elements are the graph's. */
enum status session_compile(struct graph *graph, const struct session_request *request, uint64_t hash,
                            struct cached_plan **ret_cached, struct error *error) MUST_CHECK;

/* Puts a new plan into the cache, for one user; those used least recently make room, and the caller, without the
 * mutex, frees `ret_dropped` (linked). Returns what is in the cache: another thread may have been faster. The mutex is
 * held. */
struct cached_plan *session_insert_plan(struct session *session, const struct session_request *request,
                                        struct cached_plan *cached, struct session_run **ret_run,
                                        struct cached_plan **ret_dropped);

/* Takes the plan at `at` out of the cache. Returns it when it is the caller's to free. The mutex is held. */
struct cached_plan *session_take_out(struct session *session, size_t at);

/* Feeds, then fetches and targets: that they are the graph's, dtypes and shapes. Converting fed values to the tensors'
 * dtypes is the caller's; who does not is told. */
enum status session_check_request(const struct graph *graph, const struct session_request *request,
                                  struct error *error) MUST_CHECK;

#endif
