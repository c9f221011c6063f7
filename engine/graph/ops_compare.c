/* Comparisons, logic, and Masked. Thread: see op.h. */
#include "engine/base/check.h"
#include "engine/graph/elementwise.h"
#include "engine/graph/op_rules.h"

/* ---- comparisons, with broadcasting → bool ---- */

#define COMPARE_LOOPS(NAME, OPERATOR)                                                                                  \
    BINARY_LOOP(NAME##_float32, float, bool, a OPERATOR b)                                                             \
    BINARY_LOOP(NAME##_float64, double, bool, a OPERATOR b)                                                            \
    BINARY_LOOP(NAME##_int32, int32_t, bool, a OPERATOR b)                                                             \
    BINARY_LOOP(NAME##_int64, int64_t, bool, a OPERATOR b)

#define COMPARE_OP(ROW, NAME, CALL, TYPES, ...)                                                                        \
    BINARY_OP(ROW, NAME, CALL, "x y", TYPES, binary_infer_bool, binary_compute, op_gradient_none, __VA_ARGS__)

COMPARE_LOOPS(equal, ==)
COMPARE_LOOPS(not_equal, !=)
COMPARE_LOOPS(less, <)
COMPARE_LOOPS(less_equal, <=)
COMPARE_LOOPS(greater, >)
COMPARE_LOOPS(greater_equal, >=)
BINARY_LOOP(equal_bool, bool, bool, a == b)
BINARY_LOOP(not_equal_bool, bool, bool, a != b)
COMPARE_OP(op_equal, "Equal", "equal", "TT", NUMBER_LOOPS(equal), [DTYPE_BOOL] = equal_bool)
COMPARE_OP(op_not_equal, "NotEqual", "not_equal", "TT", NUMBER_LOOPS(not_equal), [DTYPE_BOOL] = not_equal_bool)
COMPARE_OP(op_less, "Less", "less", "TT", NUMBER_LOOPS(less))
COMPARE_OP(op_less_equal, "LessEqual", "less_equal", "TT", NUMBER_LOOPS(less_equal))
COMPARE_OP(op_greater, "Greater", "greater", "TT", NUMBER_LOOPS(greater))
COMPARE_OP(op_greater_equal, "GreaterEqual", "greater_equal", "TT", NUMBER_LOOPS(greater_equal))

/* ---- logic ---- */

BINARY_LOOP(and_bool, bool, bool, (a & b) != 0)
BINARY_LOOP(or_bool, bool, bool, (a | b) != 0)
COMPARE_OP(op_logical_and, "LogicalAnd", "logical_and", "bb", [DTYPE_BOOL] = and_bool)
COMPARE_OP(op_logical_or, "LogicalOr", "logical_or", "bb", [DTYPE_BOOL] = or_bool)

UNARY_LOOP(not_bool, bool, bool, !x)
UNARY_OP(op_logical_not, "LogicalNot", "logical_not", "x", "b", unary_infer, op_gradient_none, [DTYPE_BOOL] = not_bool)

/* ---- Masked: condition (bool), x of the same shape → x where the condition holds, 0 elsewhere; for gradients ---- */

static enum status infer_masked(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "condition", TYPES_BOOL, error));
    const struct shape *condition = &inference->inputs[0].shape;
    const struct shape *x = &inference->inputs[1].shape;
    if (!shape_is_compatible(condition, x)) {
        return op_shape_error(inference, error, "Shapes must be equal");
    }
    struct shape shape = shape_merge(condition, x);
    return op_one_output(inference, inference->inputs[1].dtype, &shape);
}

static enum status compute_masked(const struct op_run *run, struct error *error)
{
    (void)error;
    const bool *condition = run->inputs[0].data;
    const char *from = run->inputs[1].data;
    char *to = run->outputs[0].data;
    size_t count = tensor_element_count(&run->outputs[0]);
    size_t bytes = dtype_bytes(run->outputs[0].dtype);
    memset(to, 0, count * bytes);
    for (size_t i = 0; i < count; i++) {
        if (condition[i]) {
            memcpy(to + i * bytes, from + i * bytes, bytes);
        }
    }
    return STATUS_OK;
}

static enum status gradient_masked(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret, struct error *error)
{
    ret[0] = (struct output){NULL, 0};
    return graph_add_masked(graph, node->inputs[0], gradients[0], &ret[1], error);
}

const struct op op_masked = {
    .name = "Masked", .input_count = 2, .infer = infer_masked, .compute = compute_masked, .gradient = gradient_masked};
