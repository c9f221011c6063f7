/* What the rows of many ops share. Thread: see op.h. */
#include "engine/graph/op_rules.h"

#include "engine/base/mem.h"

/* ---- inferences ---- */

void op_inference_begin(struct inference *inference)
{
    inference->outputs = inference->usual;
    inference->output_room = OP_OUTPUTS_USUAL;
}

void op_inference_end(struct inference *inference)
{
    if (inference->outputs != inference->usual) {
        mem_free(inference->outputs);
    }
    op_inference_begin(inference);
}

enum status op_check_sizes(const struct inference *inference, struct error *error)
{
    for (size_t i = 0; i < inference->output_count; i++) {
        char name[OUTPUT_NAME_BYTES_MAX];
        snprintf(name, sizeof name, "%s:%zu", inference->node->name, i);
        TRY(output_type_check_size(&inference->outputs[i], name, error));
    }
    return STATUS_OK;
}

enum status op_need_outputs(struct inference *inference, int64_t count, struct error *error)
{
    const struct node *node = inference->node;
    if (count < 0 || count > OP_OUTPUTS_MAX) {
        return error_set(error, STATUS_TOO_LARGE, "'%s' (op: '%s') would have %lld outputs, the maximum is %d",
                         node->name, node->op->name, (long long)count, OP_OUTPUTS_MAX);
    }
    if ((size_t)count <= inference->output_room) {
        return STATUS_OK;
    }
    struct output_type *outputs = mem_allocate((size_t)count, sizeof *outputs);
    if (outputs == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the %lld outputs of '%s'", (long long)count,
                         node->name);
    }
    op_inference_end(inference);
    inference->outputs = outputs;
    inference->output_room = (size_t)count;
    return STATUS_OK;
}

/* ---- shape rules ---- */

enum status op_one_output(struct inference *inference, enum dtype dtype, const struct shape *shape)
{
    inference->outputs[0] = (struct output_type){dtype, *shape};
    inference->output_count = 1;
    return STATUS_OK;
}

enum status op_infer_same(struct inference *inference, struct error *error)
{
    (void)error;
    return op_one_output(inference, inference->inputs[0].dtype, &inference->inputs[0].shape);
}

enum status op_infer_like_second(struct inference *inference, struct error *error)
{
    (void)error;
    return op_one_output(inference, inference->inputs[0].dtype, &inference->inputs[1].shape);
}

enum status op_check_type(const struct inference *inference, size_t input, const char *parameter, unsigned types,
                          struct error *error)
{
    enum dtype dtype = inference->inputs[input].dtype;
    if ((types >> dtype & 1) != 0) {
        return STATUS_OK;
    }
    char allowed[128] = "";
    size_t length = 0;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        if ((types >> i & 1) != 0 && length < sizeof allowed) {
            length += (size_t)snprintf(allowed + length, sizeof allowed - length, "%s%s", length == 0 ? "" : ", ",
                                       dtype_name((enum dtype)i));
        }
    }
    return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                       "Value passed to parameter '%s' has DataType %s not in list of allowed values: %s", parameter,
                       dtype_name(dtype), allowed);
}

enum status op_check_same_type(const struct inference *inference, size_t input, const char *parameter, size_t first,
                               const char *first_parameter, struct error *error)
{
    enum dtype dtype = inference->inputs[input].dtype;
    enum dtype wanted = inference->inputs[first].dtype;
    if (dtype == wanted) {
        return STATUS_OK;
    }
    return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                       "Input '%s' of '%s' Op has type %s that does not match type %s of argument '%s'.", parameter,
                       inference->node->op->name, dtype_name(dtype), dtype_name(wanted), first_parameter);
}

/* ---- gradients ---- */

enum status op_gradient_none(struct graph *graph, const struct node *node, const struct output *gradients,
                             struct output *ret_gradients, struct error *error)
{
    (void)graph;
    (void)gradients;
    (void)error;
    for (uint32_t i = 0; i < node->input_count; i++) {
        ret_gradients[i] = (struct output){NULL, 0};
    }
    return STATUS_OK;
}

enum status op_gradient_pass(struct graph *graph, const struct node *node, const struct output *gradients,
                             struct output *ret_gradients, struct error *error)
{
    TRY(op_gradient_none(graph, node, gradients, ret_gradients, error));
    ret_gradients[0] = gradients[0];
    return STATUS_OK;
}

enum status graph_add_unary(struct graph *graph, const char *op, struct output a, struct output *ret_output,
                            struct error *error)
{
    return graph_add(graph, op, NULL, &a, 1, ret_output, error);
}

enum status graph_add_binary(struct graph *graph, const char *op, struct output a, struct output b,
                             struct output *ret_output, struct error *error)
{
    struct output inputs[] = {a, b};
    return graph_add(graph, op, NULL, inputs, 2, ret_output, error);
}

enum status graph_add_scaled(struct graph *graph, struct output a, double factor, struct output *ret_output,
                             struct error *error)
{
    struct output number;
    TRY(graph_add_number(graph, NULL, output_type(a)->dtype, factor, &number, error));
    return graph_add_binary(graph, "Mul", a, number, ret_output, error);
}

enum status graph_add_zeros_like(struct graph *graph, struct output a, struct output *ret_output, struct error *error)
{
    return graph_add(graph, "FillLike", "zeros_like", &a, 1, ret_output, error);
}

enum status graph_add_masked(struct graph *graph, struct output condition, struct output gradient,
                             struct output *ret_output, struct error *error)
{
    return graph_add_binary(graph, "Masked", condition, gradient, ret_output, error);
}

enum status graph_add_sum_to_shape(struct graph *graph, struct output gradient, struct output operand,
                                   struct output *ret_output, struct error *error)
{
    const struct shape *from = &output_type(gradient)->shape;
    const struct shape *to = &output_type(operand)->shape;
    if (shape_is_fully_known(from) && shape_equal(from, to)) {
        *ret_output = gradient;
        return STATUS_OK;
    }
    return graph_add_binary(graph, "SumToShape", gradient, operand, ret_output, error);
}

struct output node_own_output(struct graph *graph, const struct node *node, uint32_t index)
{
    return (struct output){graph_node(graph, node->id), index};
}
