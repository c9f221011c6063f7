/* Arithmetic that TensorFlow's Python composes or chooses ops for: matmul, division, cast, logsumexp. Thread: the
 * building one. Source: TensorFlow 1.15, ops/math_ops.py. */
#include "engine/base/check.h"
#include "engine/graph/function_private.h"
#include "engine/graph/op_rules.h"

/* Adds the op that bears the call's own name, and makes it the result. */
static bool is_set(const struct function_call *call, const char *attribute)
{
    const struct attribute *found = function_attribute(call, attribute);
    return found != NULL && found->boolean;
}

/* ---- matmul: MatMul of two matrices, BatchMatMulV2 when there may be more dimensions ---- */

static enum status check_transposes(const struct function_call *call, const char *transpose, const char *adjoint,
                                    const char *operand, struct error *error)
{
    if (!is_set(call, transpose) || !is_set(call, adjoint)) {
        return STATUS_OK;
    }
    return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Only one of transpose_%s and adjoint_%s can be True.",
                       operand, operand);
}

static enum status build_matmul(struct graph *graph, const struct function_call *call, struct call_result *result,
                                struct error *error)
{
    TRY(check_transposes(call, "transpose_a", "adjoint_a", "a", error));
    TRY(check_transposes(call, "transpose_b", "adjoint_b", "b", error));
    bool is_batched = false;
    for (size_t i = 0; i < 2; i++) {
        int rank = output_type(call->inputs[i])->shape.rank;
        is_batched = is_batched || rank == SHAPE_RANK_UNKNOWN || rank > 2;
    }
    struct attribute attributes[] = {{.name = is_batched ? "adj_x" : "transpose_a",
                                      .kind = ATTRIBUTE_BOOLEAN,
                                      .boolean = is_set(call, "transpose_a") || is_set(call, "adjoint_a")},
                                     {.name = is_batched ? "adj_y" : "transpose_b",
                                      .kind = ATTRIBUTE_BOOLEAN,
                                      .boolean = is_set(call, "transpose_b") || is_set(call, "adjoint_b")}};
    return function_finish(graph, call, is_batched ? "BatchMatMulV2" : "MatMul", call->inputs, 2, attributes, 2, result,
                           error);
}

static const struct attribute_rule matmul_attributes[] = {{.name = "transpose_a", .kind = ATTRIBUTE_BOOLEAN},
                                                          {.name = "transpose_b", .kind = ATTRIBUTE_BOOLEAN},
                                                          {.name = "adjoint_a", .kind = ATTRIBUTE_BOOLEAN},
                                                          {.name = "adjoint_b", .kind = ATTRIBUTE_BOOLEAN},
                                                          {.name = NULL}};

const struct function function_matmul = {.name = "matmul",
                                         .default_name = "MatMul",
                                         .shown = "MatMul",
                                         .arguments = "a b",
                                         .attributes = matmul_attributes,
                                         .build = build_matmul};

/* ---- divide: whole numbers are divided in float64; div: as Python 2 does ---- */

static enum status add_cast(struct graph *graph, struct output x, enum dtype dtype, struct output *ret_output,
                            struct error *error)
{
    struct attribute to = {.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = dtype};
    struct node_options options = {.inputs = &x, .input_count = 1, .attributes = &to, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Cast", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

static enum status build_divide(struct graph *graph, const struct function_call *call, struct call_result *result,
                                struct error *error)
{
    struct output inputs[] = {call->inputs[0], call->inputs[1]};
    for (size_t i = 0; i < 2; i++) {
        if (dtype_is_integer(output_type(inputs[i])->dtype)) {
            TRY(add_cast(graph, inputs[i], DTYPE_FLOAT64, &inputs[i], error));
        }
    }
    return function_finish(graph, call, "RealDiv", inputs, 2, NULL, 0, result, error);
}

const struct function function_divide = {
    .name = "divide|truediv", .default_name = "truediv", .arguments = "x y", .build = build_divide};

static enum status build_div(struct graph *graph, const struct function_call *call, struct call_result *result,
                             struct error *error)
{
    bool is_whole = dtype_is_integer(output_type(call->inputs[0])->dtype);
    return function_finish(graph, call, is_whole ? "FloorDiv" : "RealDiv", call->inputs, 2, NULL, 0, result, error);
}

const struct function function_div = {.name = "div", .default_name = "div", .arguments = "x y", .build = build_div};

/* ---- cast: a tensor that is of the dtype already stays what it is ---- */

static enum status build_cast_to(struct graph *graph, const struct function_call *call, enum dtype dtype,
                                 struct call_result *result, struct error *error)
{
    if (output_type(call->inputs[0])->dtype == dtype) {
        result->outputs[0] = call->inputs[0];
        result->output_count = 1;
        return STATUS_OK;
    }
    struct attribute to = {.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = dtype};
    return function_finish(graph, call, "Cast", call->inputs, 1, &to, 1, result, error);
}

static enum status build_cast(struct graph *graph, const struct function_call *call, struct call_result *result,
                              struct error *error)
{
    return build_cast_to(graph, call, function_attribute(call, "dtype")->dtype, result, error);
}

static const struct attribute_rule cast_attributes[] = {{.name = "dtype", .kind = ATTRIBUTE_DTYPE, .is_required = true},
                                                        {.name = NULL}};

const struct function function_cast = {.name = "cast",
                                       .default_name = "Cast",
                                       .arguments = "x",
                                       .argument_types = "A",
                                       .attributes = cast_attributes,
                                       .build = build_cast};

#define CAST_FUNCTION(NAME, CALL, DEFAULT_NAME, DTYPE)                                                                 \
    static enum status build_##NAME(struct graph *graph, const struct function_call *call, struct call_result *result, \
                                    struct error *error)                                                               \
    {                                                                                                                  \
        return build_cast_to(graph, call, DTYPE, result, error);                                                       \
    }                                                                                                                  \
    const struct function function_##NAME = {                                                                          \
        .name = CALL, .default_name = DEFAULT_NAME, .arguments = "x", .argument_types = "A", .build = build_##NAME};

CAST_FUNCTION(to_float, "to_float", "ToFloat", DTYPE_FLOAT32)
CAST_FUNCTION(to_double, "to_double", "ToDouble", DTYPE_FLOAT64)
CAST_FUNCTION(to_int32, "to_int32", "ToInt32", DTYPE_INT32)
CAST_FUNCTION(to_int64, "to_int64", "ToInt64", DTYPE_INT64)

/* ---- logical_xor: either, not both ---- */

static enum status build_logical_xor(struct graph *graph, const struct function_call *call, struct call_result *result,
                                     struct error *error)
{
    struct output either;
    struct output both;
    TRY(graph_add_binary(graph, "LogicalOr", call->inputs[0], call->inputs[1], &either, error));
    TRY(graph_add_binary(graph, "LogicalAnd", call->inputs[0], call->inputs[1], &both, error));
    TRY(graph_add_unary(graph, "LogicalNot", both, &both, error));
    struct output inputs[] = {either, both};
    return function_finish(graph, call, "LogicalAnd", inputs, 2, NULL, 0, result, error);
}

const struct function function_logical_xor = {.name = "logical_xor",
                                              .default_name = "LogicalXor",
                                              .arguments = "x y",
                                              .argument_types = "bb",
                                              .build = build_logical_xor};

/* ---- reduce_logsumexp: ln Σ e^x, with the largest x taken out so that nothing overflows ---- */

static enum status add_reduction(struct graph *graph, const char *op, struct output x, struct output axes, bool keeps,
                                 struct output *ret_output, struct error *error)
{
    struct attribute keep = {.name = "keep_dims", .kind = ATTRIBUTE_BOOLEAN, .boolean = keeps};
    struct output inputs[] = {x, axes};
    struct node_options options = {.inputs = inputs, .input_count = 2, .attributes = &keep, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, op, &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

/* The largest along the axes, as a constant to gradients; 0 where it is not finite. */
static enum status add_largest(struct graph *graph, struct output x, struct output axes, struct output *ret_output,
                               struct error *error)
{
    struct output largest;
    struct output is_finite;
    TRY(add_reduction(graph, "Max", x, axes, true, &largest, error));
    TRY(graph_add_unary(graph, "IsFinite", largest, &is_finite, error));
    TRY(graph_add_masked(graph, is_finite, largest, &largest, error));
    return graph_add_unary(graph, "StopGradient", largest, ret_output, error);
}

static enum status build_reduce_logsumexp(struct graph *graph, const struct function_call *call,
                                          struct call_result *result, struct error *error)
{
    bool keeps = is_set(call, "keep_dims");
    struct output inputs[] = {call->inputs[0], call->inputs[1]};
    struct output largest;
    struct output sum;
    TRY(op_sum.complete(graph, inputs, 2, error));
    TRY(add_largest(graph, inputs[0], inputs[1], &largest, error));
    TRY(graph_add_binary(graph, "Sub", inputs[0], largest, &sum, error));
    TRY(graph_add_unary(graph, "Exp", sum, &sum, error));
    TRY(add_reduction(graph, "Sum", sum, inputs[1], keeps, &sum, error));
    TRY(graph_add_unary(graph, "Log", sum, &sum, error));
    if (!keeps) {
        TRY(graph_add_binary(graph, "ReshapeLike", largest, sum, &largest, error));
    }
    struct output terms[] = {sum, largest};
    return function_finish(graph, call, "Add", terms, 2, NULL, 0, result, error);
}

static const struct attribute_rule logsumexp_attributes[] = {
    {.name = "keep_dims", .called = "keepdims", .kind = ATTRIBUTE_BOOLEAN}, {.name = NULL}};

const struct function function_reduce_logsumexp = {.name = "reduce_logsumexp",
                                                   .default_name = "ReduceLogSumExp",
                                                   .arguments = "input_tensor axis?",
                                                   .argument_types = "Ti",
                                                   .attributes = logsumexp_attributes,
                                                   .build = build_reduce_logsumexp};
