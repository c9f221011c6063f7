/* The interpreter of build programs: steps, contexts, results. Thread: the building one. A builder owns its result and
 * scratch memory; the graph is its caller's. */
#include "engine/store/program.h"

#include <stdarg.h>
#include <time.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/function.h"
#include "engine/store/handle_json.h"
#include "engine/store/program_private.h"
#include "engine/store/tensor_json.h"

enum status builder_no_memory(struct builder *builder)
{
    return error_set(builder->error, STATUS_NO_MEMORY, "no memory for a build program");
}

enum status builder_scratch(struct builder *builder, size_t count, size_t bytes, void *ret_memory)
{
    void *memory = arena_allocate(&builder->scratch, count, bytes);
    if (memory == NULL) {
        return builder_no_memory(builder);
    }
    *(void **)ret_memory = memory;
    return STATUS_OK;
}

/* ---- life ---- */

static enum status start_result(struct builder *builder)
{
    struct program_result *result = &builder->result;
    *result = (struct program_result){
        .handles = json_object(), .results = json_object(), .variables = json_array(), .warnings = json_array()};
    bool is_whole =
        result->handles != NULL && result->results != NULL && result->variables != NULL && result->warnings != NULL;
    return is_whole ? STATUS_OK : builder_no_memory(builder);
}

enum status builder_create(struct graph *graph, uint32_t number, const char *request_id,
                           const struct vocabulary *vocabulary, struct builder **ret_builder, struct error *error)
{
    struct builder *builder = mem_allocate(1, sizeof *builder);
    if (builder == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a build program");
    }
    *builder = (struct builder){.graph = graph,
                                .vocabulary = vocabulary,
                                .nodes_before = graph_node_count(graph),
                                .next_context = 1,
                                .scratch = {.bytes_max = GRAPH_ARENA_BYTES_MAX},
                                .origin = {.program = number, .at = time(NULL)},
                                .error = error};
    builder->request_id = request_id == NULL ? NULL : mem_copy_string(request_id);
    builder->contexts = mem_allocate(CONTEXTS_MAX, sizeof *builder->contexts);
    enum status status = start_result(builder);
    if (builder->contexts == NULL || (request_id != NULL && builder->request_id == NULL)) {
        status = builder_no_memory(builder);
    }
    if (status != STATUS_OK) {
        builder_destroy(builder);
        return status;
    }
    graph_set_builder(graph, builder);
    builder->origin.request_id = builder->request_id;
    *ret_builder = builder;
    return STATUS_OK;
}

void builder_destroy(struct builder *builder)
{
    if (builder != NULL) {
        graph_set_builder(builder->graph, NULL);
        program_result_release(&builder->result);
        arena_release(&builder->scratch);
        mem_free(builder->noted);
        mem_free(builder->locals);
        mem_free(builder->contexts);
        mem_free(builder->request_id);
        mem_free(builder);
    }
}

void builder_set_graph(struct builder *builder, struct graph *graph)
{
    graph_set_builder(builder->graph, NULL);
    graph_set_builder(graph, builder);
    builder->graph = graph;
}

void builder_go_back(struct builder *builder, struct graph *graph, uint32_t context)
{
    struct program_result *result = &builder->result;
    builder_set_graph(builder, graph);
    if (context != 0) {
        CHECK(builder->contexts[builder->context_count - 1].number == context);
        builder->context_count--;
    }
    (void)json_object_clear(result->handles); /* fails only where there is no object */
    (void)json_object_clear(result->results);
    (void)json_array_clear(result->variables);
    (void)json_array_clear(result->warnings);
    vocabulary_unref(result->vocabulary);
    result->vocabulary = NULL;
    if (builder->noted != NULL) {
        memset(builder->noted, 0, builder->noted_count);
    }
}

void program_result_release(struct program_result *result)
{
    json_decref(result->handles);
    json_decref(result->results);
    json_decref(result->variables);
    json_decref(result->warnings);
    vocabulary_unref(result->vocabulary);
    *result = (struct program_result){.handles = NULL};
}

enum status builder_finish(struct builder *builder, struct program_result *ret_result, struct error *error)
{
    struct program_result result = builder->result;
    builder->error = error;
    result.nodes_added = graph_node_count(builder->graph) - builder->nodes_before;
    enum status status = start_result(builder);
    if (status != STATUS_OK) {
        program_result_release(&builder->result);
        builder->result = result;
        return status;
    }
    builder->nodes_before = graph_node_count(builder->graph);
    *ret_result = result;
    return STATUS_OK;
}

/* ---- what a step leaves ---- */

void builder_give(struct builder *builder, const struct handle *handle)
{
    builder->made = *handle;
    builder->has_made = true;
}

void builder_give_tensor(struct builder *builder, struct output output)
{
    struct handle handle = handle_tensor(output);
    builder_give(builder, &handle);
}

enum status builder_give_list(struct builder *builder, const struct handle *items, const char *const *names,
                              size_t count)
{
    struct handle *copy = arena_copy(&builder->scratch, items, count, sizeof *items);
    const char **name_copy = names == NULL ? NULL : arena_copy(&builder->scratch, names, count, sizeof *names);
    if (copy == NULL || (names != NULL && name_copy == NULL)) {
        return builder_no_memory(builder);
    }
    struct handle list = {.kind = HANDLE_LIST, .items = copy, .names = name_copy, .count = count};
    builder_give(builder, &list);
    return STATUS_OK;
}

static enum status name_local(struct builder *builder, const char *name, const struct handle *handle)
{
    if (builder->local_count == LOCALS_MAX) {
        return error_set(builder->error, STATUS_LIMIT, "a cell's body names more than %d results", LOCALS_MAX);
    }
    struct local *local = &builder->locals[builder->local_count++];
    snprintf(local->name, sizeof local->name, "%s", name);
    local->handle = *handle;
    return STATUS_OK;
}

/* Names one result and describes it in the reply. */
static enum status name_result(struct builder *builder, const json_t *as, const struct place *place,
                               const struct handle *handle)
{
    const char *name = json_string_value(as);
    if (!is_result_name(as)) {
        return refuse_place(builder, place, "must be a name without \".\" and \":\", shorter than %d bytes",
                            HANDLE_PATH_BYTES_MAX);
    }
    if (builder->locals != NULL) {
        return name_local(builder, name, handle);
    }
    TRY(at_place(builder, place, graph_set_handle(builder->graph, name, handle, builder->error)));
    const struct handle *kept = graph_find_handle(builder->graph, name);
    builder->described_count += handle_leaf_count(kept);
    if (builder->described_count > PROGRAM_RESULTS_MAX) {
        error_set(builder->error, STATUS_TOO_LARGE, "a program's results have more than %d items", PROGRAM_RESULTS_MAX);
        return at_place(builder, place, STATUS_TOO_LARGE);
    }
    int failed = json_object_set_new(builder->result.handles, name, handle_name_to_json(builder->graph, kept)) +
                 json_object_set_new(builder->result.results, name, handle_to_json(builder->graph, kept));
    return failed ? builder_no_memory(builder) : STATUS_OK;
}

/* "as": a name, or a list of names for the items of a list. */
static enum status name_results(struct builder *builder, const struct step *step)
{
    const json_t *as = json_object_get(step->json, "as");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "as"};
    if (as == NULL || json_is_null(as)) {
        return STATUS_OK;
    }
    if (!builder->has_made) {
        return refuse_place(builder, &place, "the step \"%.60s\" has no result to name", step->op);
    }
    if (!json_is_array(as)) {
        return name_result(builder, as, &place, &builder->made);
    }
    const struct handle *list = &builder->made;
    if (list->kind == HANDLE_LIST && list->count == 1 && list->items[0].kind == HANDLE_LIST) {
        list = &list->items[0]; /* gradients: what is of interest is its .list */
    }
    if (list->kind != HANDLE_LIST || list->count != json_array_size(as)) {
        return refuse_place(builder, &place, "has %zu names, the step has %zu results", json_array_size(as),
                            list->kind == HANDLE_LIST ? list->count : 1);
    }
    for (size_t i = 0; i < list->count; i++) {
        struct place item = {.above = &place, .index = i};
        TRY(name_result(builder, json_array_get(as, i), &item, &list->items[i]));
    }
    return STATUS_OK;
}

static enum status grow_noted(struct builder *builder, size_t count)
{
    if (count > builder->noted_count) {
        size_t wanted = count * 2 + 16;
        unsigned char *noted = mem_reallocate(builder->noted, wanted, 1);
        if (noted == NULL) {
            return builder_no_memory(builder);
        }
        memset(noted + builder->noted_count, 0, wanted - builder->noted_count);
        builder->noted = noted;
        builder->noted_count = wanted;
    }
    return STATUS_OK;
}

enum status builder_note_variable(struct builder *builder, const struct variable *variable, bool is_new)
{
    TRY(grow_noted(builder, (size_t)variable->index + 1));
    if (builder->noted[variable->index]) {
        return STATUS_OK;
    }
    const struct output_type *type = &variable->node->outputs[0];
    json_t *entry =
        json_pack("{s:s+, s:o, s:s, s:s}", "name", variable->node->name, ":0", "shape", shape_to_json(&type->shape),
                  "dtype", dtype_name(type->dtype), "built", is_new ? "created" : "reused");
    if (json_array_append_new(builder->result.variables, entry) != 0) {
        return builder_no_memory(builder);
    }
    builder->noted[variable->index] = true;
    return STATUS_OK;
}

enum status builder_warn(struct builder *builder, const struct step *step, const char *format, ...)
{
    char message[ERROR_MESSAGE_BYTES_MAX / 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (json_array_size(builder->result.warnings) == PROGRAM_WARNINGS_MAX) {
        return STATUS_OK;
    }
    json_t *warning = json_pack("{s:s, s:s}", "step", step->path, "message", message);
    return json_array_append_new(builder->result.warnings, warning) == 0 ? STATUS_OK : builder_no_memory(builder);
}

/* ---- contexts ---- */

static enum status close_context(struct builder *builder, const struct context *context)
{
    switch (context->kind) {
    case CONTEXT_VARIABLE_SCOPE: return variable_scope_close(builder->graph, &context->frame, builder->error);
    case CONTEXT_NAME_SCOPE: graph_leave_name_scope(builder->graph, context->previous_name_scope); break;
    case CONTEXT_CONTROLS:
        if (!context->keeps_controls) {
            graph_leave_controls(builder->graph, context->previous_controls);
        }
        break;
    }
    return STATUS_OK;
}

static enum status open_context(struct builder *builder, const struct step_kind *kind, const struct step *step,
                                struct context *ret_context)
{
    *ret_context = (struct context){.number = builder->next_context};
    TRY(kind->enter(builder, step, ret_context));
    builder->next_context++;
    return name_results(builder, step);
}

/* Applies a step with a body between opening and closing its context. */
static enum status apply_context(struct builder *builder, const struct step_kind *kind, const struct step *step)
{
    struct context context;
    const json_t *body = json_object_get(step->json, "body");
    if (!json_is_array(body)) {
        return refuse_field(builder, step, "body", "must be a list of steps");
    }
    char body_path[STEP_PATH_BYTES_MAX];
    snprintf(body_path, sizeof body_path, "%.240s/body", step->path);
    TRY(open_context(builder, kind, step, &context));
    TRY(builder_body(builder, body, body_path));
    builder->has_made = false;
    return close_context(builder, &context);
}

/* ---- steps ---- */

static const struct step_kind *find_kind(const char *op)
{
    static const struct step_kind *const families[] = {
        program_scope_steps, program_variable_steps,   program_function_steps, program_collection_steps,
        program_cell_steps,  program_recurrence_steps, program_training_steps, program_saver_steps,
        program_keras_steps, program_model_steps};
    static const struct step_kind call = {"", NULL, apply_function, NULL};
    for (size_t family = 0; family < sizeof families / sizeof *families; family++) {
        for (const struct step_kind *kind = families[family]; kind->op != NULL; kind++) {
            if (strcmp(kind->op, op) == 0) {
                return kind;
            }
        }
    }
    return strlen(op) < FUNCTION_NAME_BYTES_MAX && function_exists(op) ? &call : NULL;
}

/* Reads a step's op and sets the origin of what it makes. `path` lives as long as `ret_step`. */
static enum status begin_step(struct builder *builder, const json_t *json, const char *path, struct step *ret_step,
                              const struct step_kind **ret_kind)
{
    struct place place = {.field = path};
    *ret_step = (struct step){.json = json, .op = json_string_value(json_object_get(json, "op")), .path = path};
    builder->has_made = false;
    if (ret_step->op == NULL) {
        return refuse_field(builder, ret_step, "op", "a step is an object with \"op\""), STATUS_INVALID;
    }
    if (++builder->step_count > PROGRAM_STEPS_MAX) {
        return error_set(builder->error, STATUS_TOO_LARGE, "a program has at most %d steps", PROGRAM_STEPS_MAX);
    }
    *ret_kind = find_kind(ret_step->op);
    if (*ret_kind == NULL) {
        error_set(builder->error, STATUS_UNSUPPORTED, "%s: there is no step \"%.60s\"", path, ret_step->op);
        return at_place(builder, &place, STATUS_UNSUPPORTED), STATUS_UNSUPPORTED;
    }
    builder->step_origin = builder->origin;
    builder->step_origin.step = path;
    builder->step_origin.op = ret_step->op;
    TRY(graph_set_origin(builder->graph, &builder->step_origin, builder->error));
    return (*ret_kind)->fields == NULL ? STATUS_OK : check_fields(builder, ret_step, (*ret_kind)->fields);
}

/* Variables that a step made or shared without saying so: a cell's, a layer's, slots. */
static enum status note_variables(struct builder *builder, size_t count_before)
{
    size_t use_count = 0;
    const uint32_t *uses = graph_take_uses(builder->graph, &use_count);
    for (size_t i = count_before; i < graph_variable_count(builder->graph); i++) {
        TRY(builder_note_variable(builder, graph_variable(builder->graph, i), true));
    }
    for (size_t i = 0; i < use_count; i++) {
        TRY(builder_note_variable(builder, graph_variable(builder->graph, uses[i]), false));
    }
    return STATUS_OK;
}

static enum status apply_kind(struct builder *builder, const struct step_kind *kind, const struct step *step)
{
    if (kind->enter != NULL) {
        return apply_context(builder, kind, step);
    }
    size_t variable_count = graph_variable_count(builder->graph);
    TRY(kind->apply(builder, step));
    TRY(note_variables(builder, variable_count));
    return name_results(builder, step);
}

static enum status apply_step(struct builder *builder, const json_t *json, const char *path)
{
    struct step step;
    const struct step_kind *kind = NULL;
    enum status status = begin_step(builder, json, path, &step, &kind);
    if (status == STATUS_OK) {
        status = apply_kind(builder, kind, &step);
    }
    status = builder_explain_memory(builder, status);
    if (status == STATUS_LIMIT) { /* a graph's maxima do not go away by waiting */
        status = builder->error->status = STATUS_TOO_LARGE;
        error_type(builder->error, EXCEPTION_RESOURCE_EXHAUSTED);
    }
    return status;
}

/* Forgets what a step kept in scratch. */
static void end_step(struct builder *builder)
{
    arena_release(&builder->scratch);
    builder->has_made = false;
}

enum status builder_body(struct builder *builder, const json_t *body, const char *path)
{
    struct place place = {.field = path};
    enum status status = STATUS_OK;
    if (builder->depth == PROGRAM_NESTING_MAX) {
        error_set(builder->error, STATUS_TOO_LARGE, "steps nest deeper than %d", PROGRAM_NESTING_MAX);
        return at_place(builder, &place, STATUS_TOO_LARGE);
    }
    builder->depth++;
    for (size_t i = 0; status == STATUS_OK && i < json_array_size(body); i++) {
        char step_path[STEP_PATH_BYTES_MAX];
        snprintf(step_path, sizeof step_path, "%.220s/%zu", path, i);
        place.field = step_path;
        status = at_place(builder, &place, apply_step(builder, json_array_get(body, i), step_path));
        if (builder->locals == NULL) { /* a cell's body keeps what its results are made of until it is through */
            end_step(builder);
        }
    }
    builder->depth--;
    return status;
}

enum status builder_step(struct builder *builder, const json_t *step, const char *path, struct error *error)
{
    struct place place = {.field = path};
    struct error ignored;
    builder->error = error == NULL ? &ignored : error;
    builder->error->param[0] = '\0';
    enum status status = at_place(builder, &place, apply_step(builder, step, path));
    end_step(builder);
    return status;
}

enum status builder_enter(struct builder *builder, const json_t *step, const char *path, uint32_t *ret_context,
                          struct error *error)
{
    struct place place = {.field = path};
    struct step opening;
    const struct step_kind *kind = NULL;
    builder->error = error;
    enum status status = begin_step(builder, step, path, &opening, &kind);
    if (status == STATUS_OK && (kind->enter == NULL || builder->context_count == CONTEXTS_MAX)) {
        status = error_set(
            error, STATUS_INVALID,
            kind->enter == NULL ? "the step \"%.60s\" opens nothing" : "too many contexts are open at %s", opening.op);
    }
    if (status == STATUS_OK) {
        status = open_context(builder, kind, &opening, &builder->contexts[builder->context_count]);
    }
    if (status == STATUS_OK) {
        *ret_context = builder->contexts[builder->context_count++].number;
    }
    end_step(builder);
    return at_place(builder, &place, status);
}

enum status builder_exit(struct builder *builder, uint32_t context, struct error *error)
{
    builder->error = error;
    for (size_t i = builder->context_count; i > 0; i--) {
        if (builder->contexts[i - 1].number == context) {
            TRY(close_context(builder, &builder->contexts[i - 1]));
            builder->context_count--;
            memmove(&builder->contexts[i - 1], &builder->contexts[i],
                    (builder->context_count - (i - 1)) * sizeof *builder->contexts);
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_INVALID, "no context %u is open", context);
}

/* ---- whole programs ---- */

static enum status check_request(struct builder *builder, const json_t *request, enum reuse *ret_reuse)
{
    struct step whole = {.json = request, .op = "", .path = ""};
    if (!json_is_object(request) || !json_is_array(json_object_get(request, "program"))) {
        return refuse_field(builder, &whole, "program", "must be a list of steps");
    }
    TRY(check_fields(builder, &whole, "program reuse"));
    return read_reuse(builder, &whole, ret_reuse);
}

enum status program_apply(struct graph *graph, const json_t *request, uint32_t number, const char *request_id,
                          const struct vocabulary *vocabulary, struct program_result *ret_result, struct error *error)
{
    struct builder *builder = NULL;
    struct error ignored;
    enum reuse reuse = REUSE_INHERIT;
    error = error == NULL ? &ignored : error;
    TRY(builder_create(graph, number, request_id, vocabulary, &builder, error));
    error->param[0] = '\0';
    enum status status = check_request(builder, request, &reuse);
    if (status == STATUS_OK) {
        variable_scope_set_reuse(graph, reuse);
        status = builder_body(builder, json_object_get(request, "program"), "/program");
        variable_scope_set_reuse(graph, REUSE_INHERIT);
    }
    if (status == STATUS_OK) {
        status = builder_finish(builder, ret_result, error);
    }
    builder_destroy(builder);
    return status;
}
