/* Graphs and their nodes. Thread: see graph.h. A graph owns its lists and tables; its segments own the nodes, shared
 * with the graphs it was cloned from. */
#include "engine/graph/graph.h"

#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/constants.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"

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
    segment->arena.bytes_max = GRAPH_ARENA_BYTES_MAX;
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
        error_set(error, STATUS_NOT_FOUND,
                  "The name '%s' refers to a Tensor which does not exist. "
                  "The operation, '%.*s', does not exist in the graph.",
                  name, (int)op_length, name);
    } else {
        error_set(error, STATUS_NOT_FOUND,
                  "The name '%s' refers to a Tensor which does not exist. "
                  "The operation, '%.*s', exists but only has %u outputs.",
                  name, (int)op_length, name, node->output_count);
    }
    error_type(error, "KeyError");
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
            error_set(error, STATUS_INVALID,
                      "The name '%s' refers to an Operation, not a Tensor. Tensor names must be of the "
                      "form \"<op_name>:<output_index>\".",
                      name);
            error_type(error, "ValueError");
            return STATUS_INVALID;
        }
        error_set(error, STATUS_NOT_FOUND, "The name '%s' refers to an Operation not in the graph.", name);
        error_type(error, "KeyError");
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
        error_set(error, STATUS_UNPROCESSABLE, "Operation '%s' has been marked as not fetchable.", op_name);
        error_type(error, "ValueError");
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

/* Copies attributes, and the tensors in them, into the arena. */
static enum status copy_attributes(struct arena *arena, const struct node_options *options, struct node *node,
                                   struct error *error)
{
    node->attribute_count = (uint32_t)options->attribute_count;
    node->attributes = arena_copy(arena, options->attributes, options->attribute_count, sizeof *node->attributes);
    if (node->attributes == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < options->attribute_count; i++) {
        struct attribute *attribute = &node->attributes[i];
        attribute->name = arena_copy_string(arena, attribute->name);
        if (attribute->kind == ATTRIBUTE_TENSOR) {
            size_t bytes = tensor_bytes(&options->attributes[i].tensor);
            attribute->tensor.data = arena_copy(arena, options->attributes[i].tensor.data, bytes, 1);
        }
        if (attribute->kind == ATTRIBUTE_TEXT) {
            attribute->text = arena_copy_string(arena, attribute->text);
        }
        if (attribute->name == NULL || (attribute->kind == ATTRIBUTE_TENSOR && attribute->tensor.data == NULL) ||
            (attribute->kind == ATTRIBUTE_TEXT && attribute->text == NULL)) {
            return no_memory(error);
        }
    }
    return STATUS_OK;
}

static enum status copy_edges(struct graph *graph, struct arena *arena, const struct node_options *options,
                              struct node *node, struct error *error)
{
    node->input_count = (uint32_t)options->input_count;
    node->inputs = arena_copy(arena, options->inputs, options->input_count, sizeof *node->inputs);
    if (node->inputs == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < options->input_count; i++) {
        TRY(graph_body_resolve(graph, options->inputs[i], &node->inputs[i], error));
    }
    return graph_copy_controls(graph, arena, options, node, error);
}

/* Remembers that a name is inside a loop: it can be neither fetched nor fed. */
static enum status register_inner_name(struct graph *graph, const char *name, struct error *error)
{
    const char *copy = arena_copy_string(graph_arena(graph), name);
    return copy == NULL || name_counts_add(&graph->inner_names, copy) == NULL ? no_memory(error) : STATUS_OK;
}

/* Refuses what no run could hold, before any memory is taken for it. */
static enum status check_sizes(const struct node *node, const struct inference *inference, struct error *error)
{
    for (size_t i = 0; i < inference->output_count; i++) {
        const struct shape *shape = &inference->outputs[i].shape;
        size_t count = 0;
        if (shape_is_fully_known(shape) && (!shape_element_count(shape, &count) || count > GRAPH_TENSOR_ELEMENTS_MAX)) {
            char text[SHAPE_TEXT_BYTES_MAX];
            error_set(
                error, STATUS_TOO_LARGE,
                "OOM when allocating tensor with shape%s and type %s: '%s' (op: '%s') may have at most %zu elements",
                shape_cpp_text(shape, text), dtype_cpp_name(inference->outputs[i].dtype), node->name, node->op->name,
                GRAPH_TENSOR_ELEMENTS_MAX);
            return error_type(error, "ResourceExhaustedError"), STATUS_TOO_LARGE;
        }
    }
    return STATUS_OK;
}

static enum status infer_outputs(struct graph *graph, struct arena *arena, struct node *node, struct error *error)
{
    struct inference inference = {.node = node, .input_count = node->input_count};
    op_inference_begin(&inference);
    struct output_type *inputs = mem_allocate(node->input_count, sizeof *inputs);
    const struct tensor **constants = mem_allocate(node->input_count, sizeof *constants);
    if (inputs == NULL || constants == NULL) {
        mem_free(inputs);
        mem_free(constants);
        return no_memory(error);
    }
    for (size_t i = 0; i < node->input_count; i++) {
        inputs[i] = *output_type(node->inputs[i]);
        constants[i] = graph_constant_value(graph, node->inputs[i]);
    }
    inference.inputs = inputs;
    inference.constants = constants;
    enum status status = node->op->infer(&inference, error);
    if (status == STATUS_OK) {
        status = check_sizes(node, &inference, error);
    }
    if (status == STATUS_OK) {
        CHECK(inference.output_count <= OP_OUTPUTS_MAX);
        node->output_count = (uint32_t)inference.output_count;
        node->outputs = arena_copy(arena, inference.outputs, inference.output_count, sizeof *node->outputs);
        status = node->outputs == NULL ? no_memory(error) : STATUS_OK;
    }
    if (status == STATUS_OK) {
        node->constants = constants_of_node(&inference, arena);
    }
    op_inference_end(&inference);
    mem_free(inputs);
    mem_free(constants);
    return status;
}

enum status graph_append_node(struct graph *graph, struct node *node, struct error *error)
{
    if (graph->node_count == graph->node_capacity) {
        size_t capacity = graph->node_capacity < 64 ? 128 : graph->node_capacity * 2;
        struct node **nodes = mem_reallocate(graph->nodes, capacity, sizeof *nodes);
        if (nodes == NULL) {
            return no_memory(error);
        }
        graph->nodes = nodes;
        graph->node_capacity = capacity;
    }
    struct name_count *entry = name_counts_add(&graph->nodes_by_name, node->name);
    if (entry == NULL) {
        return no_memory(error);
    }
    entry->count = graph->node_count;
    node->id = (uint32_t)graph->node_count;
    graph->nodes[graph->node_count++] = node;
    return STATUS_OK;
}

enum status graph_check_not_finalized(const struct graph *graph, struct error *error)
{
    if (graph->is_finalized) {
        error_set(error, STATUS_CONFLICT, "Graph is finalized and cannot be modified.");
        error_type(error, "RuntimeError");
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

static enum status check_can_add(const struct graph *graph, const struct op *op, const char *op_name,
                                 const struct node_options *options, struct error *error)
{
    TRY(graph_check_not_finalized(graph, error));
    if (op == NULL) {
        return error_set(error, STATUS_UNSUPPORTED, "op '%s' is not in the op table", op_name);
    }
    TRY(graph_check_room(graph, 1, error));
    if (options->input_count > NODE_INPUTS_MAX) {
        return error_set(error, STATUS_LIMIT, "op '%s' is given %zu inputs, the maximum is %d", op_name,
                         options->input_count, NODE_INPUTS_MAX);
    }
    if (op->input_count != OP_INPUTS_ANY && options->input_count != (size_t)op->input_count) {
        return error_set(error, STATUS_INVALID, "op '%s' takes %d inputs, not %zu", op_name, op->input_count,
                         options->input_count);
    }
    return STATUS_OK;
}

enum status graph_add_node(struct graph *graph, const char *op_name, const struct node_options *options,
                           struct node **ret_node, struct error *error)
{
    const struct op *op = op_find(op_name);
    TRY(check_can_add(graph, op, op_name, options, error));
    struct graph *target = graph->body == NULL ? graph : graph->body->graph;
    struct arena *arena = graph_arena(target);
    struct node *node = arena_allocate(arena, 1, sizeof *node);
    if (node == NULL) {
        return no_memory(error);
    }
    node->op = op;
    node->body = graph->body == NULL ? 0 : graph->body->number;
    node->origin = graph->origin;
    TRY(copy_edges(graph, arena, options, node, error));
    TRY(copy_attributes(arena, options, node, error));
    TRY(graph_name_node(graph, options->name == NULL ? op->name : options->name, &node->name, error));
    if (graph_find_node(graph, node->name) != NULL) {
        error_set(error, STATUS_CONFLICT, "Duplicate node name in graph: '%s'", node->name);
        error_type(error, "ValueError");
        return STATUS_CONFLICT;
    }
    TRY(infer_outputs(target, arena, node, error));
    if (target != graph) {
        graph->inner_node_count++;
        TRY(register_inner_name(graph, node->name, error));
    }
    TRY(graph_append_node(target, node, error));
    *ret_node = node;
    return STATUS_OK;
}

enum status graph_add(struct graph *graph, const char *op_name, const char *name, const struct output *inputs,
                      size_t input_count, struct output *ret_output, struct error *error)
{
    struct node *node = NULL;
    struct node_options options = {.name = name, .inputs = inputs, .input_count = input_count};
    TRY(graph_add_node(graph, op_name, &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

enum status graph_add_scalar(struct graph *graph, const char *name, float value, struct output *ret_output,
                             struct error *error)
{
    struct attribute attribute = {.name = "value",
                                  .kind = ATTRIBUTE_TENSOR,
                                  .tensor = {.dtype = DTYPE_FLOAT32, .shape = shape_scalar(), .data = &value}};
    struct node *node = NULL;
    struct node_options options = {.name = name, .attributes = &attribute, .attribute_count = 1};
    TRY(graph_add_node(graph, "Const", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
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

/* ---- reading nodes ---- */

const struct output_type *output_type(struct output output)
{
    CHECK(output.node != NULL && output.index < output.node->output_count);
    return &output.node->outputs[output.index];
}

bool output_equal(struct output a, struct output b)
{
    return a.node == b.node && a.index == b.index;
}

const char *output_name(struct output output, char text[OUTPUT_NAME_BYTES_MAX])
{
    snprintf(text, OUTPUT_NAME_BYTES_MAX, "%s:%u", output.node->name, output.index);
    return text;
}

const char *output_text(struct output output, char text[OUTPUT_TEXT_BYTES_MAX])
{
    const struct output_type *type = output_type(output);
    char shape[SHAPE_TEXT_BYTES_MAX];
    bool has_shape = type->shape.rank != SHAPE_RANK_UNKNOWN;
    snprintf(text, OUTPUT_TEXT_BYTES_MAX, "Tensor(\"%s:%u\"%s%s, dtype=%s%s)", output.node->name, output.index,
             has_shape ? ", shape=" : "", has_shape ? shape_text(&type->shape, shape) : "", dtype_name(type->dtype),
             (output.node->op->flags & OP_VARIABLE) != 0 ? "_ref" : "");
    return text;
}

bool graph_has_node(const struct graph *graph, const struct node *node)
{
    if (node->body == 0) {
        return node->id < graph->node_count && graph->nodes[node->id] == node;
    }
    const struct graph *body = graph->body == NULL ? NULL : graph->body->graph;
    return body != NULL && node->id < body->node_count && body->nodes[node->id] == node;
}

const char *node_op_name(const struct node *node)
{
    return node->op->name;
}

bool node_is(const struct node *node, const char *op_name)
{
    return strcmp(node->op->name, op_name) == 0;
}

const struct attribute *node_attribute(const struct node *node, const char *name)
{
    for (size_t i = 0; i < node->attribute_count; i++) {
        if (strcmp(node->attributes[i].name, name) == 0) {
            return &node->attributes[i];
        }
    }
    return NULL;
}

int64_t node_attribute_integer(const struct node *node, const char *name, int64_t otherwise)
{
    const struct attribute *attribute = node_attribute(node, name);
    return attribute == NULL ? otherwise : attribute->integer;
}

double node_attribute_number(const struct node *node, const char *name, double otherwise)
{
    const struct attribute *attribute = node_attribute(node, name);
    return attribute == NULL ? otherwise : attribute->number;
}

bool node_attribute_boolean(const struct node *node, const char *name, bool otherwise)
{
    const struct attribute *attribute = node_attribute(node, name);
    return attribute == NULL ? otherwise : attribute->boolean;
}
