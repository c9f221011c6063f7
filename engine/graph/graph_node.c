/* Nodes: adding them to a graph and reading them. Thread: see graph.h. Nodes lie in the arena of their graph, or of the
 * body that is being made. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/constants.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the graph");
}

/* ---- adding ---- */

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
        status = op_check_sizes(&inference, error);
    }
    if (status == STATUS_OK) {
        CHECK(inference.output_count <= OP_OUTPUTS_MAX);
        node->output_count = (uint32_t)inference.output_count;
        node->outputs = arena_copy(arena, inference.outputs, inference.output_count, sizeof *node->outputs);
        status = node->outputs == NULL ? no_memory(error) : STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = constants_of_node(&inference, arena, &node->constants, error);
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
    if (graph_find_node(graph, node->name) != NULL || name_counts_find(&graph->inner_names, node->name) != NULL) {
        return error_raise(error, STATUS_CONFLICT, EXCEPTION_VALUE, "Duplicate node name in graph: '%s'", node->name);
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

/* ---- reading ---- */

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
