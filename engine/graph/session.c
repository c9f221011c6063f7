/* Sessions. Thread: see session.h. The mutex guards the cache, the pools and which graph and values there are; nothing
 * is compiled, computed or given back to the system while it is held. */
#include "engine/graph/session.h"

#include <pthread.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"

/* What belongs to one run at a time of one plan; lies in the pool between runs. */
struct session_run {
    struct session_run *next; /* in the pool */
    struct session *session;
    struct cached_plan *cached;
    struct workspace *workspace;
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
    size_t bytes;     /* of cached plans and idle workspaces */
    size_t run_count; /* begun and not ended */
    size_t cached_count;
    uint64_t hashes[SESSION_PLANS_MAX];
    struct cached_plan *cached[SESSION_PLANS_MAX];
};

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a session's run");
}

static void lock(struct session *session)
{
    CHECK(pthread_mutex_lock(&session->mutex) == 0);
}

static void unlock(struct session *session)
{
    CHECK(pthread_mutex_unlock(&session->mutex) == 0);
}

/* ---- plans and their pools ---- */

static void run_free(struct session_run *run)
{
    workspace_destroy(run->workspace);
    mem_free(run);
}

static void cached_free(struct cached_plan *cached)
{
    while (cached->idle != NULL) {
        struct session_run *run = cached->idle;
        cached->idle = run->next;
        run_free(run);
    }
    plan_unref(cached->plan);
    arena_release(&cached->arena);
    mem_free(cached);
}

/* Takes the plan at `at` out of the cache; the caller, without the mutex, frees what is returned. */
static struct cached_plan *take_out(struct session *session, size_t at)
{
    struct cached_plan *cached = session->cached[at];
    session->bytes -= plan_bytes(cached->plan) + cached->idle_count * plan_workspace_bytes(cached->plan);
    session->cached_count--;
    session->cached[at] = session->cached[session->cached_count];
    session->hashes[at] = session->hashes[session->cached_count];
    cached->is_cached = false;
    return --cached->users == 0 ? cached : NULL;
}

/* Makes room for one plan more of that size: takes out those that were used least recently. Returns, linked, the ones
 * that are the caller's to free. */
static struct cached_plan *make_room(struct session *session, size_t bytes)
{
    struct cached_plan *dropped = NULL;
    while (session->cached_count == SESSION_PLANS_MAX ||
           (session->cached_count > 0 && session->bytes + bytes > SESSION_BYTES_MAX)) {
        size_t oldest = 0;
        for (size_t i = 1; i < session->cached_count; i++) {
            oldest = session->cached[i]->used_at < session->cached[oldest]->used_at ? i : oldest;
        }
        struct cached_plan *cached = take_out(session, oldest);
        if (cached != NULL) {
            cached->next = dropped;
            dropped = cached;
        }
    }
    return dropped;
}

/* ---- finding a plan ---- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

static uint64_t hash_request(const struct session_request *request)
{
    uint64_t hash = mix(mix(request->feed_count, request->fetch_count), request->target_count);
    for (size_t i = 0; i < request->feed_count; i++) {
        const struct shape *shape = &request->feeds[i].value->shape;
        hash = mix(mix(hash, (uintptr_t)request->feeds[i].output.node), request->feeds[i].output.index);
        for (int d = 0; d < shape->rank; d++) {
            hash = mix(hash, (uint64_t)shape->dimensions[d]);
        }
    }
    for (size_t i = 0; i < request->fetch_count; i++) {
        hash = mix(mix(hash, (uintptr_t)request->fetches[i].node), request->fetches[i].index);
    }
    for (size_t i = 0; i < request->target_count; i++) {
        hash = mix(hash, (uintptr_t)request->targets[i]);
    }
    return hash;
}

static bool is_for(const struct cached_plan *cached, const struct session_request *request)
{
    if (cached->feed_count != request->feed_count || cached->fetch_count != request->fetch_count ||
        cached->target_count != request->target_count) {
        return false;
    }
    for (size_t i = 0; i < request->feed_count; i++) {
        const struct tensor *known = &cached->feed_values[i];
        const struct tensor *value = request->feeds[i].value;
        if (!output_equal(cached->feeds[i], request->feeds[i].output) || !shape_equal(&known->shape, &value->shape) ||
            (known->data != NULL && memcmp(known->data, value->data, tensor_bytes(value)) != 0)) {
            return false;
        }
    }
    for (size_t i = 0; i < request->fetch_count; i++) {
        if (!output_equal(cached->fetches[i], request->fetches[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < request->target_count; i++) {
        if (cached->targets[i] != request->targets[i]) {
            return false;
        }
    }
    return true;
}

/* The plan for a request with one user more, and an idle run of it or NULL; NULL when it is not cached. */
static struct cached_plan *find_cached(struct session *session, uint64_t hash, const struct session_request *request,
                                       struct session_run **ret_run)
{
    for (size_t i = 0; i < session->cached_count; i++) {
        struct cached_plan *cached = session->cached[i];
        if (session->hashes[i] != hash || !is_for(cached, request)) {
            continue;
        }
        cached->users++;
        cached->used_at = ++session->clock;
        *ret_run = cached->idle;
        if (cached->idle != NULL) {
            cached->idle = cached->idle->next;
            cached->idle_count--;
            session->bytes -= plan_workspace_bytes(cached->plan);
        }
        return cached;
    }
    return NULL;
}

/* ---- making a plan ---- */

static enum status copy_key(struct cached_plan *cached, const struct session_request *request, struct error *error)
{
    struct arena *arena = &cached->arena;
    cached->feed_count = request->feed_count;
    cached->fetch_count = request->fetch_count;
    cached->target_count = request->target_count;
    cached->feeds = arena_allocate(arena, request->feed_count, sizeof *cached->feeds);
    cached->feed_values = arena_allocate(arena, request->feed_count, sizeof *cached->feed_values);
    cached->fetches = arena_copy(arena, request->fetches, request->fetch_count, sizeof *cached->fetches);
    cached->targets = arena_copy(arena, request->targets, request->target_count, sizeof(struct node *));
    if (cached->feeds == NULL || cached->feed_values == NULL || cached->fetches == NULL || cached->targets == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < request->feed_count; i++) {
        cached->feeds[i] = request->feeds[i].output;
        cached->feed_values[i] = *request->feeds[i].value;
    }
    return STATUS_OK;
}

/* Keeps those fed values that the plan depends on. */
static enum status keep_values(struct cached_plan *cached, struct error *error)
{
    for (size_t i = 0; i < cached->feed_count; i++) {
        struct tensor *value = &cached->feed_values[i];
        bool is_part = plan_depends_on_feed(cached->plan, i);
        value->data = is_part ? arena_copy(&cached->arena, value->data, tensor_bytes(value), 1) : NULL;
        if (is_part && value->data == NULL) {
            return no_memory(error);
        }
    }
    return STATUS_OK;
}

static enum status compile_into(struct cached_plan *cached, struct graph *graph, const struct session_request *request,
                                struct error *error)
{
    TRY(copy_key(cached, request, error));
    struct shape *shapes = mem_allocate(request->feed_count + 1, sizeof *shapes);
    if (shapes == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < request->feed_count; i++) {
        shapes[i] = request->feeds[i].value->shape;
    }
    struct plan_options options = {.feeds = cached->feeds,
                                   .feed_shapes = shapes,
                                   .feed_values = cached->feed_values,
                                   .feed_count = cached->feed_count,
                                   .fetches = cached->fetches,
                                   .fetch_count = cached->fetch_count,
                                   .targets = cached->targets,
                                   .target_count = cached->target_count};
    enum status status = plan_create(graph, &options, &cached->plan, error);
    mem_free(shapes);
    return status == STATUS_OK ? keep_values(cached, error) : status;
}

static enum status compile(struct graph *graph, const struct session_request *request, uint64_t hash,
                           struct cached_plan **ret_cached, struct error *error)
{
    struct cached_plan *cached = mem_allocate(1, sizeof *cached);
    if (cached == NULL) {
        return no_memory(error);
    }
    cached->hash = hash;
    enum status status = compile_into(cached, graph, request, error);
    if (status != STATUS_OK) {
        cached_free(cached);
        return status;
    }
    *ret_cached = cached;
    return STATUS_OK;
}

/* Puts a new plan into the cache, for one user. Another thread may have been faster: then its plan is used. */
static struct cached_plan *insert(struct session *session, const struct session_request *request,
                                  struct cached_plan *cached, struct session_run **ret_run)
{
    lock(session);
    struct cached_plan *found = find_cached(session, cached->hash, request, ret_run);
    struct cached_plan *dropped = cached;
    if (found == NULL) {
        dropped = make_room(session, plan_bytes(cached->plan));
        cached->is_cached = true;
        cached->users = 2;
        cached->used_at = ++session->clock;
        session->bytes += plan_bytes(cached->plan);
        session->hashes[session->cached_count] = cached->hash;
        session->cached[session->cached_count++] = cached;
        found = cached;
    }
    unlock(session);
    while (dropped != NULL) {
        struct cached_plan *next = dropped->next;
        cached_free(dropped);
        dropped = next;
    }
    return found;
}

/* ---- checking a request ---- */

static bool is_in(const struct graph *graph, const struct node *node)
{
    return node->id < graph->node_count && graph->nodes[node->id] == node;
}

/* What TensorFlow prints of a tensor: Tensor("x:0", shape=(?, 10), dtype=float32). */
static void print_tensor(struct output output, char *text, size_t text_bytes)
{
    const struct output_type *type = output_type(output);
    char name[OUTPUT_NAME_BYTES_MAX];
    char shape[SHAPE_TEXT_BYTES_MAX];
    bool has_shape = type->shape.rank != SHAPE_RANK_UNKNOWN;
    snprintf(text, text_bytes, "Tensor Tensor(\"%s\"%s%s, dtype=%s%s) is not an element of this graph.",
             output_name(output, name), has_shape ? ", shape=" : "", has_shape ? shape_text(&type->shape, shape) : "",
             dtype_name(type->dtype), output.node->variable != NULL ? "_ref" : "");
}

enum { TENSOR_TEXT_BYTES_MAX = OUTPUT_NAME_BYTES_MAX + SHAPE_TEXT_BYTES_MAX + 128 };

static enum status refuse_foreign(struct error *error, const char *type)
{
    error_type(error, type);
    return error_code(error, "not_in_graph"), STATUS_NOT_FOUND;
}

/* Converting values to the tensors' dtypes is the caller's; who does not is told. */
static enum status check_dtypes(const struct session_request *request, struct error *error)
{
    for (size_t i = 0; i < request->feed_count; i++) {
        const struct feed *feed = &request->feeds[i];
        enum dtype wanted = output_type(feed->output)->dtype;
        if (feed->value->dtype != wanted) {
            char name[OUTPUT_NAME_BYTES_MAX];
            return error_set(error, STATUS_INVALID, "Tensor '%s' is fed %s, its dtype is %s",
                             output_name(feed->output, name), dtype_name(feed->value->dtype), dtype_name(wanted));
        }
    }
    return STATUS_OK;
}

static enum status check_feeds(const struct graph *graph, const struct session_request *request, struct error *error)
{
    char text[TENSOR_TEXT_BYTES_MAX];
    if (request->feed_count > PLAN_FEEDS_MAX) {
        return error_set(error, STATUS_LIMIT, "%zu feeds; a run takes at most %d", request->feed_count, PLAN_FEEDS_MAX);
    }
    for (size_t i = 0; i < request->feed_count; i++) {
        const struct feed *feed = &request->feeds[i];
        if (!is_in(graph, feed->output.node)) {
            print_tensor(feed->output, text, sizeof text);
            error_set(error, STATUS_NOT_FOUND, "Cannot interpret feed_dict key as Tensor: %s", text);
            return refuse_foreign(error, "TypeError");
        }
        TRY(plan_check_feed(feed->output, &feed->value->shape, error));
        for (size_t before = 0; before < i; before++) {
            if (output_equal(request->feeds[before].output, feed->output)) {
                return error_set(error, STATUS_INVALID, "Tensor '%s' is fed twice", output_name(feed->output, text));
            }
        }
    }
    return STATUS_OK;
}

static enum status check_fetches(const struct graph *graph, const struct session_request *request, struct error *error)
{
    for (size_t i = 0; i < request->fetch_count; i++) {
        struct output output = request->fetches[i];
        if (!is_in(graph, output.node)) {
            const struct output_type *type = output_type(output);
            char text[TENSOR_TEXT_BYTES_MAX];
            char name[OUTPUT_NAME_BYTES_MAX];
            char shape[SHAPE_TEXT_BYTES_MAX];
            bool is_variable = output.node->variable != NULL;
            print_tensor(output, text, sizeof text);
            error_set(error, STATUS_NOT_FOUND,
                      "Fetch argument <tf.%s '%s' shape=%s dtype=%s%s> cannot be interpreted as a Tensor. (%s)",
                      is_variable ? "Variable" : "Tensor", output_name(output, name), shape_text(&type->shape, shape),
                      dtype_name(type->dtype), is_variable ? "_ref" : "", text);
            return refuse_foreign(error, "ValueError");
        }
    }
    for (size_t i = 0; i < request->target_count; i++) {
        const struct node *node = request->targets[i];
        if (!is_in(graph, node)) {
            error_set(error, STATUS_NOT_FOUND,
                      "Fetch argument <tf.Operation '%s' type=%s> cannot be interpreted as a Tensor. (Operation name: "
                      "\"%s\"\nop: \"%s\"\n is not an element of this graph.)",
                      node->name, node_op_name(node), node->name, node_op_name(node));
            return refuse_foreign(error, "ValueError");
        }
    }
    return STATUS_OK;
}

/* ---- running ---- */

static enum status refuse_run(struct error *error, const char *message)
{
    error_set(error, STATUS_UNPROCESSABLE, "%s", message);
    error_type(error, "RuntimeError");
    return STATUS_UNPROCESSABLE;
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
        cached_free(cached);
    }
}

static enum status make_run(struct session *session, struct cached_plan *cached, struct session_run **ret_run,
                            struct error *error)
{
    struct session_run *run = mem_allocate(1, sizeof *run + cached->feed_count * sizeof run->feeds[0]);
    if (run == NULL) {
        return no_memory(error);
    }
    enum status status = workspace_create(cached->plan, &run->workspace, error);
    if (status != STATUS_OK) {
        mem_free(run);
        return status;
    }
    run->session = session;
    run->cached = cached;
    *ret_run = run;
    return STATUS_OK;
}

/* Compiles for the graph there is and puts the plan into the cache; counts as a run that has begun. */
static enum status prepare_new(struct session *session, const struct session_request *request, uint64_t hash,
                               struct cached_plan **ret_cached, struct session_run **ret_run, struct error *error)
{
    lock(session);
    struct graph *graph = graph_ref(session->graph);
    unlock(session);
    struct cached_plan *cached = NULL;
    enum status status = check_feeds(graph, request, error);
    if (status == STATUS_OK) {
        status = check_dtypes(request, error);
    }
    if (status == STATUS_OK) {
        status = check_fetches(graph, request, error);
    }
    if (status == STATUS_OK) {
        status = compile(graph, request, hash, &cached, error);
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
    uint64_t hash = hash_request(request);
    lock(session);
    enum status status = check_open(session, error);
    struct cached_plan *cached = status == STATUS_OK ? find_cached(session, hash, request, &run) : NULL;
    session->run_count += status == STATUS_OK ? 1 : 0;
    unlock(session);
    TRY(status);
    if (cached == NULL) {
        status = prepare_new(session, request, hash, &cached, &run, error);
    } else {
        status = check_dtypes(request, error);
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

enum status session_run_go(struct session_run *run, const struct session_run_options *options,
                           struct tensor *ret_fetches, struct error *error)
{
    struct run_options run_options = {.feeds = run->feeds,
                                      .random_key = options->random_key,
                                      .cancel = options->cancel,
                                      .deadline_ms = options->deadline_ms};
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
        run_free(run);
    }
    if (is_last) {
        cached_free(cached);
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
        cached_free(take_out(session, session->cached_count - 1));
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
    graph_unref(session->graph);
    mem_free(session);
}

void session_reset(struct session *session, struct graph *graph, struct values *values)
{
    drop_plans(session);
    graph_unref(session->graph);
    values_destroy(session->values);
    session->graph = graph;
    session->values = values;
}

void session_close(struct session *session)
{
    lock(session);
    session->is_closed = true;
    unlock(session);
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
