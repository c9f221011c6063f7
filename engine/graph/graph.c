/* Graphs: their life, look-ups and lists. Thread: see graph.h. A graph owns its lists and tables; its segments own the
 * nodes, shared with the graphs it was cloned from. */
#include "engine/graph/graph.h"

#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the graph");
}

/* ---- life ---- */

struct graph_segment *graph_segment_ref(struct graph_segment *segment)
{
    atomic_fetch_add(&segment->references, 1);
    return segment;
}

void graph_segment_unref(struct graph_segment *segment)
{
    while (segment != NULL && atomic_fetch_sub(&segment->references, 1) == 1) {
        struct graph_segment *parent = segment->parent;
        for (struct body_link *link = segment->bodies; link != NULL; link = link->next) {
            graph_unref(link->graph);
        }
        arena_release(&segment->arena);
        mem_free(segment);
        segment = parent;
    }
}

static struct graph_segment *segment_create(struct graph_segment *parent)
{
    struct graph_segment *segment = mem_allocate(1, sizeof *segment);
    if (segment == NULL) {
        return NULL;
    }
    atomic_init(&segment->references, 1);
    segment->arena.bytes_max = parent == NULL ? GRAPH_ARENA_BYTES_MAX : arena_room_bytes(&parent->arena);
    segment->parent = parent;
    if (parent != NULL) {
        atomic_fetch_add(&parent->references, 1);
    }
    return segment;
}

enum status graph_create(struct graph **ret_graph, struct error *error)
{
    struct graph *graph = mem_allocate(1, sizeof *graph);
    if (graph == NULL) {
        return no_memory(error);
    }
    atomic_init(&graph->references, 1);
    graph->name_scope = "";
    graph->origin = (struct origin){.step = "", .op = "engine"};
    graph->segment = segment_create(NULL);
    struct variable_scope root = {.name = "", .original_name_scope = "", .dtype = DTYPE_FLOAT32};
    enum status status = graph->segment == NULL
                             ? no_memory(error)
                             : graph_add_object(graph, OBJECT_SCOPE, &root, sizeof root, &graph->scope, error);
    if (status != STATUS_OK) {
        graph_unref(graph);
        return status;
    }
    *ret_graph = graph;
    return STATUS_OK;
}

static enum status copy_lists(const struct graph *source, struct graph *graph, struct error *error)
{
    graph->nodes = mem_allocate(source->node_count + 1, sizeof *graph->nodes);
    graph->variables = mem_allocate(source->variable_count + 1, sizeof *graph->variables);
    if (graph->nodes == NULL || graph->variables == NULL) {
        return no_memory(error);
    }
    if (source->node_count > 0) {
        memcpy(graph->nodes, source->nodes, source->node_count * sizeof *graph->nodes);
    }
    for (size_t i = 0; i < source->variable_count; i++) {
        graph->variables[i] = source->variables[i];
    }
    graph->node_count = source->node_count;
    graph->node_capacity = source->node_count + 1;
    graph->variable_count = source->variable_count;
    graph->variable_capacity = source->variable_count + 1;
    TRY(name_counts_copy(&source->names, &graph->names, error));
    TRY(name_counts_copy(&source->nodes_by_name, &graph->nodes_by_name, error));
    TRY(name_counts_copy(&source->inner_names, &graph->inner_names, error));
    TRY(name_counts_copy(&source->store, &graph->store, error));
    TRY(name_counts_copy(&source->scope_counts, &graph->scope_counts, error));
    return graph_copy_things(source, graph, error);
}

enum status graph_clone(const struct graph *source, struct graph **ret_graph, struct error *error)
{
    struct graph *graph = mem_allocate(1, sizeof *graph);
    if (graph == NULL) {
        return no_memory(error);
    }
    atomic_init(&graph->references, 1);
    graph->name_scope = source->name_scope;
    graph->scope = source->scope;
    graph->controls = source->controls;
    graph->root_reuse = source->root_reuse;
    graph->body_count = source->body_count;
    graph->inner_node_count = source->inner_node_count;
    graph->origin = source->origin;
    graph->is_finalized = source->is_finalized;
    graph->segment = segment_create(source->segment);
    enum status status = graph->segment == NULL ? no_memory(error) : copy_lists(source, graph, error);
    if (status != STATUS_OK) {
        graph_unref(graph);
        return status;
    }
    *ret_graph = graph;
    return STATUS_OK;
}

struct graph *graph_ref(struct graph *graph)
{
    atomic_fetch_add(&graph->references, 1);
    return graph;
}

struct graph *graph_unref(struct graph *graph)
{
    if (graph != NULL && atomic_fetch_sub(&graph->references, 1) == 1) {
        graph_abandon_body(graph);
        graph_segment_unref(graph->segment);
        mem_free(graph->nodes);
        mem_free(graph->variables);
        name_counts_release(&graph->names);
        name_counts_release(&graph->nodes_by_name);
        name_counts_release(&graph->inner_names);
        name_counts_release(&graph->store);
        name_counts_release(&graph->scope_counts);
        graph_release_things(graph);
        mem_free(graph);
    }
    return NULL;
}

struct arena *graph_arena(struct graph *graph)
{
    return &graph->segment->arena;
}

bool graph_is_full(const struct graph *graph)
{
    bool is_full = graph->segment->arena.is_full;
    for (const struct body_link *link = graph->segment->bodies; link != NULL && !is_full; link = link->next) {
        is_full = graph_is_full(link->graph);
    }
    return is_full;
}

/* ---- look-ups ---- */

size_t graph_node_count(const struct graph *graph)
{
    return graph->node_count;
}

struct node *graph_node(const struct graph *graph, size_t id)
{
    CHECK(id < graph->node_count);
    return graph->nodes[id];
}

size_t graph_variable_count(const struct graph *graph)
{
    return graph->variable_count;
}

const struct variable *graph_variable(const struct graph *graph, size_t index)
{
    CHECK(index < graph->variable_count);
    return graph->variables[index];
}

struct node *graph_find_node(const struct graph *graph, const char *name)
{
    const struct name_count *entry = name_counts_find(&graph->nodes_by_name, name);
    return entry == NULL ? NULL : graph->nodes[entry->count];
}

enum status output_type_check_size(const struct output_type *type, const char *name, struct error *error)
{
    size_t extent = 0;
    if (!shape_is_fully_known(&type->shape) ||
        (shape_extent(&type->shape, &extent) && extent <= GRAPH_TENSOR_ELEMENTS_MAX)) {
        return STATUS_OK;
    }
    char text[SHAPE_TEXT_BYTES_MAX];
    return error_raise(
        error, STATUS_TOO_LARGE, EXCEPTION_RESOURCE_EXHAUSTED,
        "OOM when allocating tensor with shape%s and type %s for %s: its dimensions may come to at most %zu elements",
        shape_cpp_text(&type->shape, text), dtype_cpp_name(type->dtype), name, GRAPH_TENSOR_ELEMENTS_MAX);
}

bool graph_has_node(const struct graph *graph, const struct node *node)
{
    if (node->body == 0) {
        return node->id < graph->node_count && graph->nodes[node->id] == node;
    }
    const struct graph *body = graph->body == NULL ? NULL : graph->body->graph;
    return body != NULL && node->id < body->node_count && body->nodes[node->id] == node;
}

const struct variable *graph_variable_of_node(const struct graph *graph, const struct node *node)
{
    const struct variable *variable = node->variable;
    bool is_own =
        variable != NULL && variable->index < graph->variable_count && graph->variables[variable->index] == variable;
    return is_own ? variable : NULL;
}

const struct variable *graph_find_variable(const struct graph *graph, const char *name)
{
    const struct node *node = graph_find_node(graph, name);
    return node == NULL ? NULL : graph_variable_of_node(graph, node);
}

static enum status name_not_found(struct error *error, const char *name, size_t op_length, const struct node *node)
{
    if (node == NULL) {
        error_raise(error, STATUS_NOT_FOUND, EXCEPTION_KEY,
                    "The name '%s' refers to a Tensor which does not exist. "
                    "The operation, '%.*s', does not exist in the graph.",
                    name, (int)op_length, name);
    } else {
        error_raise(error, STATUS_NOT_FOUND, EXCEPTION_KEY,
                    "The name '%s' refers to a Tensor which does not exist. "
                    "The operation, '%.*s', exists but only has %u outputs.",
                    name, (int)op_length, name, node->output_count);
    }
    error_code(error, "not_in_graph");
    return STATUS_NOT_FOUND;
}

enum status graph_find_output(const struct graph *graph, const char *name, struct output *ret_output,
                              struct error *error)
{
    const char *colon = strrchr(name, ':');
    char *end = NULL;
    unsigned long index = colon == NULL ? 0 : strtoul(colon + 1, &end, 10);
    if (colon == NULL || end == colon + 1 || *end != '\0' || colon[1] < '0' || colon[1] > '9') {
        if (graph_find_node(graph, name) != NULL) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                               "The name '%s' refers to an Operation, not a Tensor. Tensor names must be of the "
                               "form \"<op_name>:<output_index>\".",
                               name);
        }
        error_raise(error, STATUS_NOT_FOUND, EXCEPTION_KEY, "The name '%s' refers to an Operation not in the graph.",
                    name);
        error_code(error, "not_in_graph");
        return STATUS_NOT_FOUND;
    }
    size_t length = (size_t)(colon - name);
    char op_name[GRAPH_NAME_BYTES_MAX + 1];
    if (length >= sizeof op_name) {
        return name_not_found(error, name, length, NULL);
    }
    memcpy(op_name, name, length);
    op_name[length] = '\0';
    if (name_counts_find(&graph->inner_names, op_name) != NULL) {
        error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "Operation '%s' has been marked as not fetchable.",
                    op_name);
        return error_code(error, "inside_loop"), STATUS_UNPROCESSABLE;
    }
    struct node *node = graph_find_node(graph, op_name);
    if (node == NULL || index >= node->output_count) {
        return name_not_found(error, name, length, node);
    }
    *ret_output = (struct output){node, (uint32_t)index};
    return STATUS_OK;
}

/* ---- building ---- */

enum status graph_set_origin(struct graph *graph, const struct origin *origin, struct error *error)
{
    struct origin copy = *origin;
    copy.step = arena_copy_string(graph_arena(graph), origin->step);
    copy.op = arena_copy_string(graph_arena(graph), origin->op);
    if (origin->request_id != NULL) {
        copy.request_id = arena_copy_string(graph_arena(graph), origin->request_id);
    }
    if (copy.step == NULL || copy.op == NULL || (origin->request_id != NULL && copy.request_id == NULL)) {
        return no_memory(error);
    }
    graph->origin = copy;
    return STATUS_OK;
}

void graph_finalize(struct graph *graph)
{
    graph->is_finalized = true;
}

bool graph_is_finalized(const struct graph *graph)
{
    return graph->is_finalized;
}

enum status graph_check_not_finalized(const struct graph *graph, struct error *error)
{
    if (graph->is_finalized) {
        error_raise(error, STATUS_CONFLICT, EXCEPTION_RUNTIME, "Graph is finalized and cannot be modified.");
        return error_code(error, "finalized"), STATUS_CONFLICT;
    }
    return STATUS_OK;
}

enum status graph_check_room(const struct graph *graph, size_t count, struct error *error)
{
    size_t have = graph->node_count + graph->inner_node_count;
    return have + count <= GRAPH_NODES_MAX
               ? STATUS_OK
               : error_set(error, STATUS_LIMIT, "the graph has %zu nodes, and %d are the maximum", have,
                           GRAPH_NODES_MAX);
}

enum status graph_add_variable(struct graph *graph, const struct variable *variable, struct error *error)
{
    if (graph->variable_count == graph->variable_capacity) {
        size_t capacity = graph->variable_capacity < 16 ? 32 : graph->variable_capacity * 2;
        const struct variable **variables = mem_reallocate(graph->variables, capacity, sizeof *variables);
        if (variables == NULL) {
            return no_memory(error);
        }
        graph->variables = variables;
        graph->variable_capacity = capacity;
    }
    struct variable *copy = arena_copy(graph_arena(graph), variable, 1, sizeof *variable);
    if (copy == NULL) {
        return no_memory(error);
    }
    copy->index = (uint32_t)graph->variable_count;
    copy->origin = graph->origin;
    copy->node->variable = copy;
    graph->variables[graph->variable_count++] = copy;
    return STATUS_OK;
}
