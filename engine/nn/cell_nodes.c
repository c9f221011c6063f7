/* The nodes that cells are composed of, under the names that TensorFlow's Python functions give them. Thread: the
 * building one. */
#include "engine/graph/function.h"
#include "engine/nn/cell_private.h"

enum status cell_constant(struct graph *graph, const char *name, const struct tensor *tensor, struct output *ret_output,
                          struct error *error)
{
    struct attribute value = {.name = "value", .kind = ATTRIBUTE_TENSOR, .tensor = *tensor};
    struct node_options options = {.name = name, .attributes = &value, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Const", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

enum status cell_number(struct graph *graph, const char *name, enum dtype dtype, double number,
                        struct output *ret_output, struct error *error)
{
    double room = 0;
    struct tensor tensor = {dtype, shape_scalar(), &room};
    tensor_set_number(&tensor, 0, number);
    return cell_constant(graph, name, &tensor, ret_output, error);
}

/* A constant beside a node: made in a name scope that is the node's name ("concat/axis"). */
struct companion {
    const char *name; /* the node's, made unique, as it is to be given */
    const char *previous;
};

static enum status open_companion(struct graph *graph, const char *name, struct companion *ret_companion,
                                  struct error *error)
{
    TRY(graph_enter_name_scope(graph, name, &ret_companion->previous, error));
    ret_companion->name = arena_format(graph_arena(graph), "%s/", graph_name_scope(graph));
    if (ret_companion->name == NULL) {
        graph_leave_name_scope(graph, ret_companion->previous);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a cell");
    }
    return STATUS_OK;
}

enum status cell_beside(struct graph *graph, const char *name, const char *constant_name, const struct tensor *tensor,
                        const char **ret_name, struct output *ret_constant, struct error *error)
{
    struct companion companion;
    TRY(open_companion(graph, name, &companion, error));
    enum status status = cell_constant(graph, constant_name, tensor, ret_constant, error);
    graph_leave_name_scope(graph, companion.previous);
    *ret_name = companion.name;
    return status;
}

static struct tensor one_integer(int32_t *value)
{
    return (struct tensor){DTYPE_INT32, shape_scalar(), value};
}

enum status cell_unary(struct graph *graph, const char *op, struct output a, struct output *ret_output,
                       struct error *error)
{
    return graph_add(graph, op, NULL, &a, 1, ret_output, error);
}

enum status cell_binary(struct graph *graph, const char *op, const char *name, struct output a, struct output b,
                        struct output *ret_output, struct error *error)
{
    struct output inputs[] = {a, b};
    return graph_add(graph, op, name, inputs, 2, ret_output, error);
}

enum status cell_binary_number(struct graph *graph, const char *op, const char *name, struct output a, double number,
                               bool is_left, struct output *ret_output, struct error *error)
{
    double room = 0;
    struct tensor tensor = {output_type(a)->dtype, shape_scalar(), &room};
    tensor_set_number(&tensor, 0, number);
    const char *full = NULL;
    struct output constant;
    TRY(cell_beside(graph, name, is_left ? "x" : "y", &tensor, &full, &constant, error));
    return is_left ? cell_binary(graph, op, full, constant, a, ret_output, error)
                   : cell_binary(graph, op, full, a, constant, ret_output, error);
}

enum status cell_with_constant(struct graph *graph, const char *op, const char *name, struct output a,
                               const char *constant_name, const struct tensor *constant, struct output *ret_output,
                               struct error *error)
{
    const char *full = NULL;
    struct output b;
    TRY(cell_beside(graph, name, constant_name, constant, &full, &b, error));
    return cell_binary(graph, op, full, a, b, ret_output, error);
}

enum status cell_concat(struct graph *graph, const struct output *parts, size_t count, struct output *ret_output,
                        struct error *error)
{
    int32_t one = 1;
    struct tensor axis = one_integer(&one);
    struct output inputs[CELL_STATES_MAX + 1];
    const char *name = NULL;
    memcpy(inputs, parts, count * sizeof *inputs);
    TRY(cell_beside(graph, "concat", "axis", &axis, &name, &inputs[count], error));
    return graph_add(graph, "ConcatV2", name, inputs, count + 1, ret_output, error);
}

enum status cell_split(struct graph *graph, struct output value, struct output axis, size_t count,
                       struct output *ret_parts, struct error *error)
{
    int32_t one = 1;
    struct tensor tensor = one_integer(&one);
    const char *name = "split";
    const char *spare = NULL; /* TensorFlow makes a constant of the count */
    TRY(graph_unique_name(graph, "Const", &spare, error));
    if (axis.node == NULL) {
        TRY(cell_beside(graph, "split", "split_dim", &tensor, &name, &axis, error));
    }
    struct output inputs[] = {axis, value};
    struct attribute parts = {.name = "num_split", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)count};
    struct node_options options = {
        .name = name, .inputs = inputs, .input_count = 2, .attributes = &parts, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Split", &options, &node, error));
    for (uint32_t i = 0; i < count; i++) {
        ret_parts[i] = (struct output){node, i};
    }
    return STATUS_OK;
}

enum status cell_slice(struct graph *graph, struct output value, size_t first, size_t count, struct output *ret_output,
                       struct error *error)
{
    int32_t begins[] = {0, (int32_t)first};
    int32_t sizes[] = {-1, (int32_t)count};
    struct tensor begin = {DTYPE_INT32, shape_vector(2), begins};
    struct tensor size = {DTYPE_INT32, shape_vector(2), sizes};
    struct output inputs[3] = {value};
    struct companion companion;
    TRY(open_companion(graph, "Slice", &companion, error));
    enum status status = cell_constant(graph, "begin", &begin, &inputs[1], error);
    if (status == STATUS_OK) {
        status = cell_constant(graph, "size", &size, &inputs[2], error);
    }
    graph_leave_name_scope(graph, companion.previous);
    TRY(status);
    return graph_add(graph, "Slice", companion.name, inputs, 3, ret_output, error);
}

enum status cell_clip(struct graph *graph, struct output value, double limit, struct output *ret_output,
                      struct error *error)
{
    struct companion companion;
    struct output low = {NULL, 0};
    struct output lowered = {NULL, 0};
    TRY(open_companion(graph, "clip_by_value", &companion, error));
    enum status status = cell_binary_number(graph, "Minimum", "Minimum", value, limit, false, &lowered, error);
    if (status == STATUS_OK) {
        status = cell_number(graph, "y", output_type(value)->dtype, -limit, &low, error);
    }
    graph_leave_name_scope(graph, companion.previous);
    TRY(status);
    return cell_binary(graph, "Maximum", companion.name, lowered, low, ret_output, error);
}

enum status cell_affine(struct graph *graph, struct output a, const struct variable *kernel,
                        const struct variable *bias, struct output *ret_output, struct error *error)
{
    struct output product;
    TRY(cell_binary(graph, "MatMul", NULL, a, kernel->read, &product, error));
    return cell_binary(graph, "BiasAdd", NULL, product, bias->read, ret_output, error);
}

enum status cell_activate(struct graph *graph, const struct cell *cell, struct output a, struct output *ret_output,
                          struct error *error)
{
    const char *name = cell->options.activation;
    if (name == NULL || strcmp(name, "tanh") == 0) {
        return cell_unary(graph, "Tanh", a, ret_output, error);
    }
    if (strcmp(name, "sigmoid") == 0) {
        return cell_unary(graph, "Sigmoid", a, ret_output, error);
    }
    if (strcmp(name, "linear") == 0) {
        *ret_output = a;
        return STATUS_OK;
    }
    struct call_argument argument = {.output = a};
    struct call call = {.function = name, .arguments = &argument, .argument_count = 1};
    struct call_result *result = arena_allocate(graph_arena(graph), 1, sizeof *result);
    if (result == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a cell");
    }
    TRY(graph_call(graph, &call, result, error));
    *ret_output = result->outputs[0];
    return STATUS_OK;
}
