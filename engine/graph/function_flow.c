/* What composed functions share, and those about what runs before what: group, tuple. Thread: the building one.
 * Source: TensorFlow 1.15, ops/control_flow_ops.py. */
#include "engine/base/mem.h"
#include "engine/graph/function_private.h"

enum status function_add(struct graph *graph, const struct function_call *call, const char *op, const char *name,
                         const struct output *inputs, size_t input_count, const struct attribute *attributes,
                         size_t attribute_count, struct output *ret_output, struct error *error)
{
    struct node_options options = {.name = name,
                                   .inputs = inputs,
                                   .input_count = input_count,
                                   .controls = call->controls,
                                   .control_count = call->control_count,
                                   .attributes = attributes,
                                   .attribute_count = attribute_count};
    struct node *node = NULL;
    TRY(graph_add_node(graph, op, &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

enum status function_finish(struct graph *graph, const struct function_call *call, const char *op,
                            const struct output *inputs, size_t input_count, const struct attribute *attributes,
                            size_t attribute_count, struct call_result *result, struct error *error)
{
    char name[GRAPH_NAME_BYTES_MAX + 2];
    snprintf(name, sizeof name, "%s/", call->scope);
    TRY(function_add(graph, call, op, name, inputs, input_count, attributes, attribute_count, &result->outputs[0],
                     error));
    result->operation = result->outputs[0].node;
    result->output_count = 1;
    return STATUS_OK;
}

bool function_flag(const struct function_call *call, const char *name, bool otherwise)
{
    const struct attribute *attribute = function_attribute(call, name);
    return attribute == NULL ? otherwise : attribute->boolean;
}

/* What must run first: the call's own control inputs and the operations behind its tensors. Owned: mem_free. */
static enum status collect(const struct function_call *call, struct node ***ret_nodes, size_t *ret_count,
                           struct error *error)
{
    size_t count = 0;
    struct node **nodes = mem_allocate(call->input_count + call->control_count + 1, sizeof(struct node *));
    if (nodes == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to group operations");
    }
    for (size_t i = 0; i < call->control_count; i++) {
        nodes[count++] = call->controls[i];
    }
    for (size_t i = 0; i < call->input_count; i++) {
        if (call->inputs[i].node != NULL) {
            nodes[count++] = call->inputs[i].node;
        }
    }
    *ret_nodes = nodes;
    *ret_count = count;
    return STATUS_OK;
}

static enum status add_group(struct graph *graph, const char *name, const struct function_call *call,
                             struct node **ret_node, struct error *error)
{
    struct node **nodes = NULL;
    size_t count = 0;
    TRY(collect(call, &nodes, &count, error));
    struct node_options options = {.name = name, .controls = nodes, .control_count = count};
    enum status status = graph_add_node(graph, "NoOp", &options, ret_node, error);
    mem_free(nodes);
    return status;
}

static enum status build_group(struct graph *graph, const struct function_call *call, struct call_result *result,
                               struct error *error)
{
    char name[GRAPH_NAME_BYTES_MAX + 2];
    snprintf(name, sizeof name, "%s/", call->scope);
    return add_group(graph, name, call, &result->operation, error);
}

const struct function function_group = {.name = "group",
                                        .default_name = "group_deps",
                                        .arguments = "inputs*?",
                                        .argument_types = "A",
                                        .build = build_group};

static enum status build_tuple(struct graph *graph, const struct function_call *call, struct call_result *result,
                               struct error *error)
{
    struct node *gate = NULL;
    if (call->input_count > FUNCTION_ARGUMENTS_MAX) {
        return error_set(error, STATUS_LIMIT, "tuple() of %zu tensors, at most %d", call->input_count,
                         FUNCTION_ARGUMENTS_MAX);
    }
    TRY(add_group(graph, "group_deps", call, &gate, error));
    for (size_t i = 0; i < call->input_count; i++) {
        struct node_options options = {.name = "control_dependency",
                                       .inputs = &call->inputs[i],
                                       .input_count = 1,
                                       .controls = &gate,
                                       .control_count = 1};
        struct node *node = NULL;
        TRY(graph_add_node(graph, "Identity", &options, &node, error));
        result->outputs[i] = (struct output){node, 0};
    }
    result->output_count = call->input_count;
    result->is_list = true;
    return STATUS_OK;
}

const struct function function_tuple = {
    .name = "tuple", .default_name = "tuple", .arguments = "tensors*", .argument_types = "A", .build = build_tuple};
