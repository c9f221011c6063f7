/* Sessions. Thread: see session.h. The mutex guards the cache, the pools and which graph and values there are; nothing
 * is compiled, computed or given back to the system while it is held. */
#include "engine/graph/session.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/session_private.h"

static void lock(struct session *session)
{
    CHECK(pthread_mutex_lock(&session->mutex) == 0);
}

static void unlock(struct session *session)
{
    CHECK(pthread_mutex_unlock(&session->mutex) == 0);
}

/* ---- running ---- */

static enum status refuse_run(struct error *error, const char *message)
{
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_RUNTIME, "%s", message);
}

static enum status check_open(const struct session *session, struct error *error)
{
    if (session->is_closed) {
        return refuse_run(error, "Attempted to use a closed Session.");
    }
    if (session->graph->node_count == 0) {
        return refuse_run(error, "The Session graph is empty.  Add operations to the graph before calling run().");
    }
    return STATUS_OK;
}

enum status session_check(struct session *session, struct error *error)
{
    lock(session);
    enum status status = check_open(session, error);
    unlock(session);
    return status;
}

static void release_cached(struct session *session, struct cached_plan *cached)
{
    lock(session);
    session->run_count--;
    bool is_last = --cached->users == 0;
    unlock(session);
    if (is_last) {
        session_free_plan(cached);
    }
}

static enum status make_run(struct session *session, struct cached_plan *cached, struct session_run **ret_run,
                            struct error *error)
{
    size_t feed_bytes = cached->feed_count * sizeof(struct tensor);
    size_t key_bytes = plan_seeded_count(cached->plan) * sizeof(uint64_t);
    struct session_run *run = mem_allocate(1, sizeof *run + feed_bytes + key_bytes);
    if (run == NULL) {
        return session_no_memory(error);
    }
    enum status status = workspace_create(cached->plan, &run->workspace, error);
    if (status != STATUS_OK) {
        mem_free(run);
        return status;
    }
    run->session = session;
    run->cached = cached;
    run->seeded_keys = (uint64_t *)(void *)(run->feeds + cached->feed_count);
    *ret_run = run;
    return STATUS_OK;
}

static struct cached_plan *insert(struct session *session, const struct session_request *request,
                                  struct cached_plan *cached, struct session_run **ret_run)
{
    struct cached_plan *dropped = NULL;
    lock(session);
    struct cached_plan *found = session_insert_plan(session, request, cached, ret_run, &dropped);
    unlock(session);
    while (dropped != NULL) {
        struct cached_plan *next = dropped->next;
        session_free_plan(dropped);
        dropped = next;
    }
    return found;
}

/* Compiles for the graph there is and puts the plan into the cache; counts as a run that has begun. */
static enum status prepare_new(struct session *session, const struct session_request *request, uint64_t hash,
                               struct cached_plan **ret_cached, struct session_run **ret_run, struct error *error)
{
    lock(session);
    struct graph *graph = graph_ref(session->graph);
    unlock(session);
    struct cached_plan *cached = NULL;
    enum status status = session_check_request(graph, request, error);
    if (status == STATUS_OK) {
        status = session_compile(graph, request, hash, &cached, error);
    }
    if (status == STATUS_OK) {
        *ret_cached = insert(session, request, cached, ret_run);
    }
    graph_unref(graph);
    return status;
}

enum status session_prepare(struct session *session, const struct session_request *request,
                            struct session_run **ret_run, struct error *error)
{
    struct session_run *run = NULL;
    uint64_t hash = session_hash(request);
    lock(session);
    enum status status = check_open(session, error);
    struct cached_plan *cached = status == STATUS_OK ? session_find_plan(session, hash, request, &run) : NULL;
    session->run_count += status == STATUS_OK ? 1 : 0;
    unlock(session);
    TRY(status);
    if (cached == NULL) {
        status = prepare_new(session, request, hash, &cached, &run, error);
    }
    if (status == STATUS_OK && run == NULL) {
        status = make_run(session, cached, &run, error);
    }
    if (status != STATUS_OK) {
        if (run != NULL) {
            session_run_end(run);
        } else if (cached != NULL) {
            release_cached(session, cached);
        } else {
            lock(session);
            session->run_count--;
            unlock(session);
        }
        return status;
    }
    for (size_t i = 0; i < request->feed_count; i++) {
        run->feeds[i] = *request->feeds[i].value;
    }
    *ret_run = run;
    return STATUS_OK;
}

bool session_run_writes(const struct session_run *run)
{
    return plan_writes(run->cached->plan);
}

size_t session_run_fetch_elements(const struct session_run *run)
{
    return plan_fetch_elements(run->cached->plan);
}

/* Counts the draws of the nodes that have seeds: which draw it is, not which run, decides their numbers. */
static enum status take_keys(struct session_run *run, struct error *error)
{
    const struct plan *plan = run->cached->plan;
    enum status status = STATUS_OK;
    lock(run->session);
    for (size_t i = 0; status == STATUS_OK && i < plan_seeded_count(plan); i++) {
        struct name_count *draws = name_counts_add(&run->session->draws, plan_seeded_node(plan, i)->name);
        if (draws == NULL) {
            status = session_no_memory(error);
        } else {
            run->seeded_keys[i] = ++draws->count;
        }
    }
    unlock(run->session);
    return status;
}

enum status session_run_go(struct session_run *run, const struct session_run_options *options,
                           struct tensor *ret_fetches, struct error *error)
{
    struct run_options run_options = {.feeds = run->feeds,
                                      .random_key = options->random_key,
                                      .seeded_keys = run->seeded_keys,
                                      .cancel = options->cancel,
                                      .deadline_ms = options->deadline_ms};
    if (plan_seeded_count(run->cached->plan) > 0) {
        TRY(take_keys(run, error));
    }
    return plan_run(run->cached->plan, run->workspace, run->session->values, &run_options, ret_fetches, error);
}

void session_run_end(struct session_run *run)
{
    if (run == NULL) {
        return;
    }
    struct session *session = run->session;
    struct cached_plan *cached = run->cached;
    lock(session);
    size_t bytes = plan_workspace_bytes(cached->plan);
    bool is_kept =
        cached->is_cached && cached->idle_count < SESSION_WORKSPACES_MAX &&
        bytes <= SESSION_BYTES_MAX - (session->bytes < SESSION_BYTES_MAX ? session->bytes : SESSION_BYTES_MAX);
    if (is_kept) {
        run->next = cached->idle;
        cached->idle = run;
        cached->idle_count++;
        session->bytes += bytes;
    }
    session->run_count--;
    bool is_last = --cached->users == 0;
    unlock(session);
    if (!is_kept) {
        session_run_free(run);
    }
    if (is_last) {
        session_free_plan(cached);
    }
}

/* ---- life ---- */

enum status session_create(struct graph *graph, struct session **ret_session, struct error *error)
{
    struct session *session = mem_allocate(1, sizeof *session);
    if (session == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a session");
    }
    enum status status = values_create(graph, &session->values, error);
    if (status != STATUS_OK) {
        mem_free(session);
        return status;
    }
    CHECK(pthread_mutex_init(&session->mutex, NULL) == 0);
    session->graph = graph_ref(graph);
    *ret_session = session;
    return STATUS_OK;
}

static void drop_plans(struct session *session)
{
    CHECK(session->run_count == 0);
    while (session->cached_count > 0) {
        session_free_plan(session_take_out(session, session->cached_count - 1));
    }
}

void session_destroy(struct session *session)
{
    if (session == NULL) {
        return;
    }
    drop_plans(session);
    CHECK(pthread_mutex_destroy(&session->mutex) == 0);
    values_destroy(session->values);
    name_counts_release(&session->draws);
    graph_unref(session->graph);
    mem_free(session);
}

void session_reset(struct session *session, struct graph **graph, struct values **values)
{
    struct graph *old_graph = session->graph;
    struct values *old_values = session->values;
    drop_plans(session);
    name_counts_release(&session->draws);
    session->draws = (struct name_counts){.slots = NULL};
    session->graph = *graph;
    session->values = *values;
    *graph = old_graph;
    *values = old_values;
}

void session_close(struct session *session)
{
    lock(session);
    session->is_closed = true;
    unlock(session);
}

enum status session_reserve(struct session *session, const struct graph *graph, struct error *error)
{
    lock(session);
    enum status status = values_grow(session->values, graph, error);
    unlock(session);
    return status;
}

enum status session_adopt(struct session *session, struct graph *graph, struct error *error)
{
    lock(session);
    enum status status = values_grow(session->values, graph, error);
    struct graph *old = session->graph;
    if (status == STATUS_OK) {
        session->graph = graph_ref(graph);
    }
    unlock(session);
    if (status == STATUS_OK) {
        graph_unref(old);
    }
    return status;
}

struct graph *session_graph(const struct session *session)
{
    return session->graph;
}

struct values *session_values(const struct session *session)
{
    return session->values;
}

struct values *session_swap_values(struct session *session, struct values *values)
{
    lock(session);
    struct values *old = session->values;
    session->values = values;
    unlock(session);
    return old;
}
