/* Graphs, sessions and open contexts of a program that builds step by step. One thread. Owns graphs and sessions. */
#include "engine/model/workbench.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/store/program.h"

enum context_kind { CONTEXT_GRAPH, CONTEXT_SESSION, CONTEXT_DEFAULT_SESSION, CONTEXT_VARIABLE_SCOPE, CONTEXT_OTHER };

/* Something entered and not yet left. */
struct open_context {
    enum context_kind kind;
    uint32_t number;
    uint32_t graph;   /* whose it is */
    uint32_t session; /* of sessions */
    uint32_t inner;   /* the builder's number, of scopes */
};

struct bench_graph {
    struct graph *graph;
    struct builder *builder;
    uint32_t step_count;
};

struct bench_session {
    struct session *session;
    uint32_t graph;
    bool is_entered;
};

struct workbench {
    struct bench_graph graphs[WORKBENCH_GRAPHS_MAX];
    uint32_t graph_count;
    uint32_t global_graph; /* the default one while none is entered */
    struct bench_session sessions[WORKBENCH_SESSIONS_MAX];
    uint32_t session_count;
    struct open_context contexts[WORKBENCH_CONTEXTS_MAX];
    uint32_t context_count;
    uint32_t last_context;
};

/* ---- life ---- */

enum status workbench_create(struct workbench **ret_workbench, struct error *error)
{
    struct workbench *workbench = mem_allocate(1, sizeof *workbench);
    if (workbench == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a workbench");
    }
    enum status status = workbench_new_graph(workbench, &workbench->global_graph, error);
    if (status != STATUS_OK) {
        workbench_destroy(workbench);
        return status;
    }
    *ret_workbench = workbench;
    return STATUS_OK;
}

void workbench_destroy(struct workbench *workbench)
{
    if (workbench == NULL) {
        return;
    }
    for (uint32_t i = 0; i < workbench->session_count; i++) {
        session_destroy(workbench->sessions[i].session);
    }
    for (uint32_t i = 0; i < workbench->graph_count; i++) {
        builder_destroy(workbench->graphs[i].builder);
        graph_unref(workbench->graphs[i].graph);
    }
    mem_free(workbench);
}

/* ---- graphs ---- */

enum status workbench_new_graph(struct workbench *workbench, uint32_t *ret_graph, struct error *error)
{
    if (workbench->graph_count == WORKBENCH_GRAPHS_MAX) {
        return error_set(error, STATUS_LIMIT, "there are %d graphs, the maximum", WORKBENCH_GRAPHS_MAX);
    }
    struct bench_graph graph = {.graph = NULL};
    TRY(graph_create(&graph.graph, error));
    enum status status = builder_create(graph.graph, 1, NULL, NULL, &graph.builder, error);
    if (status != STATUS_OK) {
        graph_unref(graph.graph);
        return status;
    }
    *ret_graph = workbench->graph_count;
    workbench->graphs[workbench->graph_count++] = graph;
    return STATUS_OK;
}

uint32_t workbench_default_graph(const struct workbench *workbench)
{
    for (uint32_t i = workbench->context_count; i > 0; i--) {
        enum context_kind kind = workbench->contexts[i - 1].kind;
        if (kind == CONTEXT_GRAPH || kind == CONTEXT_SESSION || kind == CONTEXT_VARIABLE_SCOPE) {
            return workbench->contexts[i - 1].graph;
        }
    }
    return workbench->global_graph;
}

struct graph *workbench_graph(const struct workbench *workbench, uint32_t graph)
{
    CHECK(graph < workbench->graph_count);
    return workbench->graphs[graph].graph;
}

enum status workbench_reset_default_graph(struct workbench *workbench, struct error *error)
{
    for (uint32_t i = 0; i < workbench->context_count; i++) {
        enum context_kind kind = workbench->contexts[i].kind;
        if (kind == CONTEXT_GRAPH || kind == CONTEXT_SESSION || kind == CONTEXT_VARIABLE_SCOPE) {
            return error_raise(
                error, STATUS_CONFLICT, EXCEPTION_ASSERTION,
                "Do not use tf.reset_default_graph() to clear nested graphs. If you need a cleared graph, "
                "exit the nesting and create a new graph.");
        }
    }
    return workbench_new_graph(workbench, &workbench->global_graph, error);
}

/* ---- building ---- */

/* Begins a step on a clone; workbench_end_step keeps it or drops it. */
static enum status begin_step(struct workbench *workbench, uint32_t number, struct graph **ret_clone,
                              struct error *error)
{
    struct bench_graph *graph = &workbench->graphs[number];
    TRY(graph_clone(graph->graph, ret_clone, error));
    builder_set_graph(graph->builder, *ret_clone);
    graph->step_count++;
    return STATUS_OK;
}

/* Room in all sessions of the graph, so that none fails to take the clone. */
static enum status reserve(struct workbench *workbench, uint32_t number, const struct graph *clone, struct error *error)
{
    for (uint32_t i = 0; i < workbench->session_count; i++) {
        if (workbench->sessions[i].graph == number) {
            TRY(session_reserve(workbench->sessions[i].session, clone, error));
        }
    }
    return STATUS_OK;
}

/* There is room. */
static void adopt(struct workbench *workbench, uint32_t number, struct graph *clone)
{
    struct error error;
    struct bench_graph *graph = &workbench->graphs[number];
    for (uint32_t i = 0; i < workbench->session_count; i++) {
        if (workbench->sessions[i].graph == number) {
            CHECK(session_adopt(workbench->sessions[i].session, clone, &error) == STATUS_OK);
        }
    }
    graph_unref(graph->graph);
    graph->graph = clone;
}

/* After the step itself came to `status`, having opened `context` (0: none): keeps it all or nothing. `ret_results` may
 * be NULL. */
static enum status end_step(struct workbench *workbench, uint32_t number, struct graph *clone, uint32_t context,
                            enum status status, json_t **ret_results, struct error *error)
{
    struct bench_graph *graph = &workbench->graphs[number];
    struct program_result result;
    if (status == STATUS_OK) {
        status = reserve(workbench, number, clone, error);
    }
    if (status == STATUS_OK) {
        status = builder_finish(graph->builder, &result, error);
    }
    if (status != STATUS_OK) {
        builder_go_back(graph->builder, graph->graph, context);
        graph_unref(clone);
        return status;
    }
    adopt(workbench, number, clone);
    if (ret_results != NULL) {
        *ret_results = json_incref(result.results);
    }
    program_result_release(&result);
    return STATUS_OK;
}

static void write_path(const struct workbench *workbench, uint32_t graph, char path[64])
{
    snprintf(path, 64, "/program/%u", workbench->graphs[graph].step_count);
}

enum status workbench_step(struct workbench *workbench, const json_t *step, json_t **ret_results, struct error *error)
{
    uint32_t number = workbench_default_graph(workbench);
    struct graph *clone = NULL;
    char path[64];
    write_path(workbench, number, path);
    TRY(begin_step(workbench, number, &clone, error));
    enum status status = builder_step(workbench->graphs[number].builder, step, path, error);
    return end_step(workbench, number, clone, 0, status, ret_results, error);
}

/* ---- contexts ---- */

static enum status check_room(const struct workbench *workbench, struct error *error)
{
    return workbench->context_count < WORKBENCH_CONTEXTS_MAX
               ? STATUS_OK
               : error_set(error, STATUS_LIMIT, "there are %d open contexts, the maximum", WORKBENCH_CONTEXTS_MAX);
}

/* There is room. Returns its number. */
static uint32_t push(struct workbench *workbench, struct open_context context)
{
    context.number = ++workbench->last_context;
    workbench->contexts[workbench->context_count++] = context;
    return context.number;
}

enum status workbench_enter_graph(struct workbench *workbench, uint32_t graph, uint32_t *ret_context,
                                  struct error *error)
{
    CHECK(graph < workbench->graph_count);
    TRY(check_room(workbench, error));
    *ret_context = push(workbench, (struct open_context){.kind = CONTEXT_GRAPH, .graph = graph});
    return STATUS_OK;
}

enum status workbench_open(struct workbench *workbench, const json_t *step, uint32_t *ret_context, json_t **ret_results,
                           struct error *error)
{
    uint32_t number = workbench_default_graph(workbench);
    const char *op = json_string_value(json_object_get(step, "op"));
    bool is_variable_scope = op != NULL && strcmp(op, "variable_scope") == 0;
    struct open_context context = {.kind = is_variable_scope ? CONTEXT_VARIABLE_SCOPE : CONTEXT_OTHER, .graph = number};
    struct graph *clone = NULL;
    char path[64];
    write_path(workbench, number, path);
    TRY(check_room(workbench, error));
    TRY(begin_step(workbench, number, &clone, error));
    enum status status = builder_enter(workbench->graphs[number].builder, step, path, &context.inner, error);
    TRY(end_step(workbench, number, clone, context.inner, status, ret_results, error));
    *ret_context = push(workbench, context);
    return STATUS_OK;
}

static enum status enter_session(struct workbench *workbench, uint32_t session, enum context_kind kind,
                                 uint32_t *ret_context, struct error *error)
{
    CHECK(session > 0 && session <= workbench->session_count);
    struct open_context context = {.kind = kind, .session = session, .graph = workbench->sessions[session - 1].graph};
    TRY(check_room(workbench, error));
    *ret_context = push(workbench, context);
    return STATUS_OK;
}

enum status workbench_enter_session(struct workbench *workbench, uint32_t session, uint32_t *ret_context,
                                    struct error *error)
{
    CHECK(session > 0 && session <= workbench->session_count);
    if (workbench->sessions[session - 1].is_entered) {
        return error_raise(
            error, STATUS_CONFLICT, EXCEPTION_RUNTIME,
            "Session context managers are not re-entrant. Use `Session.as_default()` if you want to enter a "
            "session multiple times.");
    }
    TRY(enter_session(workbench, session, CONTEXT_SESSION, ret_context, error));
    workbench->sessions[session - 1].is_entered = true;
    return STATUS_OK;
}

enum status workbench_enter_default_session(struct workbench *workbench, uint32_t session, uint32_t *ret_context,
                                            struct error *error)
{
    return enter_session(workbench, session, CONTEXT_DEFAULT_SESSION, ret_context, error);
}

static enum status refuse_nesting(struct error *error, bool is_session)
{
    return error_raise(error, STATUS_CONFLICT, EXCEPTION_ASSERTION,
                       is_session ? "Nesting violated for default stack of <class "
                                    "'tensorflow.python.client.session.Session'> objects"
                                  : "Nesting violated for default stack of <class "
                                    "'tensorflow.python.framework.ops.Graph'> objects");
}

static bool is_on_session_stack(enum context_kind kind)
{
    return kind == CONTEXT_SESSION || kind == CONTEXT_DEFAULT_SESSION;
}

static bool is_on_graph_stack(enum context_kind kind)
{
    return kind == CONTEXT_GRAPH || kind == CONTEXT_SESSION || kind == CONTEXT_VARIABLE_SCOPE;
}

/* A session leaves the stack of sessions before that of graphs; a variable scope its own graph's scopes before. */
static enum status check_order(const struct workbench *workbench, uint32_t at, struct error *error)
{
    const struct open_context *context = &workbench->contexts[at];
    bool has_session = false;
    bool has_graph = false;
    bool has_scope = false;
    for (uint32_t i = at + 1; i < workbench->context_count; i++) {
        const struct open_context *later = &workbench->contexts[i];
        has_session = has_session || is_on_session_stack(later->kind);
        has_graph = has_graph || is_on_graph_stack(later->kind);
        has_scope = has_scope || (later->kind == CONTEXT_VARIABLE_SCOPE && later->graph == context->graph);
    }
    if (is_on_session_stack(context->kind) && has_session) {
        return refuse_nesting(error, true);
    }
    if (context->kind == CONTEXT_VARIABLE_SCOPE && has_scope) {
        return STATUS_OK; /* the builder refuses */
    }
    return is_on_graph_stack(context->kind) && has_graph ? refuse_nesting(error, false) : STATUS_OK;
}

/* Adds no variable and names nothing: once it is left nothing can fail. */
static enum status leave_scope(struct workbench *workbench, const struct open_context *left, struct error *error)
{
    struct graph *clone = NULL;
    struct bench_graph *graph = &workbench->graphs[left->graph];
    TRY(begin_step(workbench, left->graph, &clone, error));
    enum status status = builder_exit(graph->builder, left->inner, error);
    if (status != STATUS_OK) {
        builder_go_back(graph->builder, graph->graph, 0);
        graph_unref(clone);
        return status;
    }
    adopt(workbench, left->graph, clone);
    return STATUS_OK;
}

enum status workbench_leave(struct workbench *workbench, uint32_t context, struct error *error)
{
    uint32_t at = workbench->context_count;
    while (at > 0 && context != 0 && workbench->contexts[at - 1].number != context) {
        at--;
    }
    if (at == 0) {
        return error_set(error, STATUS_NOT_FOUND, "no context %u is open", context);
    }
    struct open_context left = workbench->contexts[--at];
    TRY(check_order(workbench, at, error));
    if (left.kind == CONTEXT_VARIABLE_SCOPE || left.kind == CONTEXT_OTHER) {
        TRY(leave_scope(workbench, &left, error));
    } else if (left.kind == CONTEXT_SESSION) {
        workbench_close_session(workbench, left.session);
        workbench->sessions[left.session - 1].is_entered = false;
    }
    workbench->context_count--;
    memmove(&workbench->contexts[at], &workbench->contexts[at + 1],
            (workbench->context_count - at) * sizeof workbench->contexts[0]);
    return STATUS_OK;
}

/* ---- sessions ---- */

enum status workbench_new_session(struct workbench *workbench, uint32_t graph, uint32_t *ret_session,
                                  struct error *error)
{
    CHECK(graph < workbench->graph_count);
    if (workbench->session_count == WORKBENCH_SESSIONS_MAX) {
        return error_set(error, STATUS_LIMIT, "there are %d sessions, the maximum", WORKBENCH_SESSIONS_MAX);
    }
    struct bench_session session = {.graph = graph};
    TRY(session_create(workbench->graphs[graph].graph, &session.session, error));
    workbench->sessions[workbench->session_count++] = session;
    *ret_session = workbench->session_count;
    return STATUS_OK;
}

void workbench_close_session(struct workbench *workbench, uint32_t session)
{
    CHECK(session > 0 && session <= workbench->session_count);
    session_close(workbench->sessions[session - 1].session);
}

struct session *workbench_session(const struct workbench *workbench, uint32_t session)
{
    for (uint32_t i = workbench->context_count; i > 0 && session == 0; i--) {
        const struct open_context *context = &workbench->contexts[i - 1];
        if (context->kind == CONTEXT_SESSION || context->kind == CONTEXT_DEFAULT_SESSION) {
            session = context->session;
        }
    }
    return session == 0 || session > workbench->session_count ? NULL : workbench->sessions[session - 1].session;
}
