/* zeros, ones, zeros_like, ones_like: small ones are constants, large ones are filled in the run. Thread: the building
 * one. Source: TensorFlow 1.15, ops/array_ops.py. */
#include "engine/graph/function_private.h"

enum { CONSTANT_ELEMENTS_MAX = 1000 }; /* TensorFlow's limit for a constant in the graph */

/* A constant of `number` everywhere, named as the scope. */
static enum status add_constant(struct graph *graph, const char *scope, const struct shape *shape, enum dtype dtype,
                                double number, struct output *ret_output, struct error *error)
{
    char name[GRAPH_NAME_BYTES_MAX + 2];
    struct tensor value;
    snprintf(name, sizeof name, "%s/", scope);
    TRY(tensor_init(&value, dtype, shape, error));
    size_t count = tensor_element_count(&value);
    for (size_t i = 0; number != 0 && i < count; i++) {
        tensor_set_number(&value, i, number);
    }
    enum status status = graph_add_constant(graph, name, &value, ret_output, error);
    tensor_release(&value);
    return status;
}

static enum status add_fill(struct graph *graph, const char *scope, struct output dims, enum dtype dtype, double number,
                            struct output *ret_output, struct error *error)
{
    char name[GRAPH_NAME_BYTES_MAX + 2];
    struct output inputs[] = {dims, {NULL, 0}};
    snprintf(name, sizeof name, "%s/", scope);
    TRY(graph_add_number(graph, "Const", dtype, number, &inputs[1], error));
    return graph_add(graph, "Fill", name, inputs, 2, ret_output, error);
}

static bool is_small(const struct shape *shape)
{
    size_t count;
    return shape_is_fully_known(shape) && shape_element_count(shape, &count) && count < CONSTANT_ELEMENTS_MAX;
}

/* The shape that numbers say; rank unknown when they are no shape. */
static struct shape shape_of_numbers(const struct tensor *value)
{
    size_t count = value->data == NULL || value->shape.rank > 1 ? SHAPE_RANK_MAX + 1 : tensor_element_count(value);
    if (count > SHAPE_RANK_MAX || (count > 0 && !dtype_is_integer(value->dtype))) {
        return shape_unknown();
    }
    struct shape shape = {.rank = (int)count};
    for (size_t i = 0; i < count; i++) {
        shape.dimensions[i] = tensor_integer(value, i);
    }
    return shape;
}

static enum status build_number(struct graph *graph, const struct function_call *call, double number,
                                struct call_result *result, struct error *error)
{
    enum dtype dtype = function_attribute(call, "dtype")->dtype;
    const struct tensor *numbers = &call->arguments[0].value;
    struct output dims = call->inputs[0];
    result->output_count = 1;
    if (dims.node == NULL) {
        struct shape shape = shape_of_numbers(numbers);
        if (is_small(&shape)) {
            return add_constant(graph, call->scope, &shape, dtype, number, &result->outputs[0], error);
        }
        bool is_long = function_natural_dtype(numbers) == DTYPE_INT64;
        TRY(function_add_value(graph, "shape_as_tensor", numbers, is_long ? DTYPE_INT64 : DTYPE_INT32, &dims, error));
    }
    if (output_type(dims)->shape.rank == 0) {
        struct output inputs[] = {dims, {NULL, 0}};
        TRY(graph_add_integers(graph, "Reshape/shape", (int64_t[]){-1}, 1, &inputs[1], error));
        TRY(graph_add(graph, "Reshape", NULL, inputs, 2, &dims, error));
    }
    return add_fill(graph, call->scope, dims, dtype, number, &result->outputs[0], error);
}

static enum status build_zeros(struct graph *graph, const struct function_call *call, struct call_result *result,
                               struct error *error)
{
    return build_number(graph, call, 0, result, error);
}

static enum status build_ones(struct graph *graph, const struct function_call *call, struct call_result *result,
                              struct error *error)
{
    return build_number(graph, call, 1, result, error);
}

static const struct attribute_rule number_attributes[] = {
    {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .otherwise = DTYPE_FLOAT32},
    {.name = NULL},
};

const struct function function_zeros = {.name = "zeros",
                                        .default_name = "zeros",
                                        .arguments = "shape=packed",
                                        .argument_types = "n",
                                        .attributes = number_attributes,
                                        .build = build_zeros};
const struct function function_ones = {.name = "ones",
                                       .default_name = "ones",
                                       .arguments = "shape=packed",
                                       .argument_types = "n",
                                       .attributes = number_attributes,
                                       .build = build_ones};

static enum status build_number_like(struct graph *graph, const struct function_call *call, double number,
                                     struct call_result *result, struct error *error)
{
    struct output tensor = call->inputs[0];
    const struct output_type *type = output_type(tensor);
    const struct attribute *given = function_attribute(call, "dtype");
    bool has_dtype = given != NULL && given->dtype != DTYPE_COUNT;
    enum dtype dtype = has_dtype ? given->dtype : type->dtype;
    char name[GRAPH_NAME_BYTES_MAX + 2];
    result->output_count = 1;
    if (is_small(&type->shape)) {
        return add_constant(graph, call->scope, &type->shape, dtype, number, &result->outputs[0], error);
    }
    if (dtype == type->dtype) {
        snprintf(name, sizeof name, "%s/", call->scope);
        return graph_add(graph, number == 0 ? "ZerosLike" : "OnesLike", name, &tensor, 1, &result->outputs[0], error);
    }
    struct output dims;
    TRY(graph_add(graph, "Shape", NULL, &tensor, 1, &dims, error));
    return add_fill(graph, call->scope, dims, dtype, number, &result->outputs[0], error);
}

static enum status build_zeros_like(struct graph *graph, const struct function_call *call, struct call_result *result,
                                    struct error *error)
{
    return build_number_like(graph, call, 0, result, error);
}

static enum status build_ones_like(struct graph *graph, const struct function_call *call, struct call_result *result,
                                   struct error *error)
{
    return build_number_like(graph, call, 1, result, error);
}

static const struct attribute_rule like_attributes[] = {
    {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .otherwise = DTYPE_COUNT},
    {.name = NULL},
};

const struct function function_zeros_like = {.name = "zeros_like",
                                             .default_name = "zeros_like",
                                             .arguments = "tensor",
                                             .argument_types = "A",
                                             .attributes = like_attributes,
                                             .build = build_zeros_like};
const struct function function_ones_like = {.name = "ones_like",
                                            .default_name = "ones_like",
                                            .arguments = "tensor",
                                            .argument_types = "A",
                                            .attributes = like_attributes,
                                            .build = build_ones_like};
