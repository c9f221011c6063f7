/* Arithmetic of two operands, with NumPy's broadcasting. Whole numbers wrap around, as TensorFlow's do; dividing one by
 * zero is an error. Thread: see op.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/elementwise.h"
#include "engine/graph/op_rules.h"

/* Whole numbers: as if computed with unlimited range and cut to size. */
#define WRAP32(OPERATOR) (int32_t)((uint32_t)a OPERATOR(uint32_t) b)
#define WRAP64(OPERATOR) (int64_t)((uint64_t)a OPERATOR(uint64_t) b)

/* The loops of an op of all numbers. */
#define ARITHMETIC(NAME, FLOAT32, FLOAT64, INT32, INT64)                                                               \
    BINARY_LOOP(NAME##_float32, float, float, FLOAT32)                                                                 \
    BINARY_LOOP(NAME##_float64, double, double, FLOAT64)                                                               \
    BINARY_LOOP(NAME##_int32, int32_t, int32_t, INT32)                                                                 \
    BINARY_LOOP(NAME##_int64, int64_t, int64_t, INT64)

#define ARITHMETIC_OP(ROW, NAME, CALL, COMPUTE, GRADIENT, ...)                                                         \
    BINARY_OP(ROW, NAME, CALL, "x y", "TT", binary_infer, COMPUTE, GRADIENT, __VA_ARGS__)

/* ---- sums, products ---- */

ARITHMETIC(add, a + b, a + b, WRAP32(+), WRAP64(+))
ARITHMETIC(sub, a - b, a - b, WRAP32(-), WRAP64(-))
ARITHMETIC(mul, a *b, a *b, WRAP32(*), WRAP64(*))
ARITHMETIC(squared_difference, (a - b) * (a - b), (a - b) * (a - b),
           (int32_t)(((uint32_t)a - (uint32_t)b) * ((uint32_t)a - (uint32_t)b)),
           (int64_t)(((uint64_t)a - (uint64_t)b) * ((uint64_t)a - (uint64_t)b)))

static enum status gradient_add(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    TRY(graph_add_sum_to_shape(graph, gradients[0], node->inputs[0], &ret[0], error));
    return graph_add_sum_to_shape(graph, gradients[0], node->inputs[1], &ret[1], error);
}

static enum status gradient_sub(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    struct output negative;
    TRY(graph_add_unary(graph, "Neg", gradients[0], &negative, error));
    TRY(graph_add_sum_to_shape(graph, gradients[0], node->inputs[0], &ret[0], error));
    return graph_add_sum_to_shape(graph, negative, node->inputs[1], &ret[1], error);
}

static enum status gradient_mul(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    for (size_t i = 0; i < 2; i++) {
        struct output product;
        TRY(graph_add_binary(graph, "Mul", gradients[0], node->inputs[1 - i], &product, error));
        TRY(graph_add_sum_to_shape(graph, product, node->inputs[i], &ret[i], error));
    }
    return STATUS_OK;
}

/* d(a − b)² = 2g(a − b), and the opposite */
static enum status gradient_squared_difference(struct graph *graph, const struct node *node,
                                               const struct output *gradients, struct output *ret, struct error *error)
{
    struct output scaled;
    struct output difference;
    struct output product;
    struct output negative;
    TRY(graph_add_scaled(graph, gradients[0], 2, &scaled, error));
    TRY(graph_add_binary(graph, "Sub", node->inputs[0], node->inputs[1], &difference, error));
    TRY(graph_add_binary(graph, "Mul", scaled, difference, &product, error));
    TRY(graph_add_unary(graph, "Neg", product, &negative, error));
    TRY(graph_add_sum_to_shape(graph, product, node->inputs[0], &ret[0], error));
    return graph_add_sum_to_shape(graph, negative, node->inputs[1], &ret[1], error);
}

ARITHMETIC_OP(op_add, "Add", "add", binary_compute, gradient_add, NUMBER_LOOPS(add))
ARITHMETIC_OP(op_add_v2, "AddV2", NULL, binary_compute, gradient_add, NUMBER_LOOPS(add))
ARITHMETIC_OP(op_sub, "Sub", "subtract|sub", binary_compute, gradient_sub, NUMBER_LOOPS(sub))
ARITHMETIC_OP(op_mul, "Mul", "multiply|mul", binary_compute, gradient_mul, NUMBER_LOOPS(mul))
ARITHMETIC_OP(op_squared_difference, "SquaredDifference", "squared_difference", binary_compute,
              gradient_squared_difference, NUMBER_LOOPS(squared_difference))

/* ---- quotients and remainders ---- */

/* Divisors are not 0. The least number divided by −1 wraps around, too. */
#define TRUNCATE_DIVIDE(TYPE, UNSIGNED) b == -1 ? (TYPE)(0 - (UNSIGNED)a) : a / b
#define FLOOR_DIVIDE(TYPE, UNSIGNED) b == -1 ? (TYPE)(0 - (UNSIGNED)a) : a / b - (a % b != 0 && (a < 0) != (b < 0))
#define TRUNCATE_REST b == -1 ? 0 : a % b
#define FLOOR_REST b == -1 ? 0 : a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0)

/* Python's float remainder: it has the divisor's sign. */
static inline float floor_rest_float32(float a, float b)
{
    float rest = fmodf(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static inline double floor_rest_float64(double a, double b)
{
    double rest = fmod(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

BINARY_LOOP(real_div_float32, float, float, a / b)
BINARY_LOOP(real_div_float64, double, double, a / b)
ARITHMETIC(div, a / b, a / b, TRUNCATE_DIVIDE(int32_t, uint32_t), TRUNCATE_DIVIDE(int64_t, uint64_t))
ARITHMETIC(truncate_div, truncf(a / b), trunc(a / b), TRUNCATE_DIVIDE(int32_t, uint32_t),
           TRUNCATE_DIVIDE(int64_t, uint64_t))
ARITHMETIC(floor_div, floorf(a / b), floor(a / b), FLOOR_DIVIDE(int32_t, uint32_t), FLOOR_DIVIDE(int64_t, uint64_t))
ARITHMETIC(mod, fmodf(a, b), fmod(a, b), TRUNCATE_REST, TRUNCATE_REST)
ARITHMETIC(floor_mod, floor_rest_float32(a, b), floor_rest_float64(a, b), FLOOR_REST, FLOOR_REST)

/* Refuses whole divisors of 0. */
static enum status compute_division(const struct op_run *run, struct error *error)
{
    const struct tensor *divisors = &run->inputs[1];
    size_t count = dtype_is_float(divisors->dtype) || tensor_element_count(&run->outputs[0]) == 0
                       ? 0
                       : tensor_element_count(divisors);
    for (size_t i = 0; i < count; i++) {
        if (tensor_integer(divisors, i) == 0) {
            return op_run_error(run, error, "Integer division by zero");
        }
    }
    return binary_compute(run, error);
}

/* d(a/b) = g/b, −g·(a/b)/b */
static enum status gradient_div(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    struct output by_a;
    struct output product;
    struct output negative;
    TRY(graph_add_binary(graph, node->op->name, gradients[0], node->inputs[1], &by_a, error));
    TRY(graph_add_binary(graph, "Mul", by_a, node_own_output(graph, node, 0), &product, error));
    TRY(graph_add_unary(graph, "Neg", product, &negative, error));
    TRY(graph_add_sum_to_shape(graph, by_a, node->inputs[0], &ret[0], error));
    return graph_add_sum_to_shape(graph, negative, node->inputs[1], &ret[1], error);
}

/* a mod b = a − b⌊a/b⌋: g, −g⌊a/b⌋ */
static enum status gradient_floor_mod(struct graph *graph, const struct node *node, const struct output *gradients,
                                      struct output *ret, struct error *error)
{
    struct output quotient;
    struct output product;
    struct output negative;
    TRY(graph_add_binary(graph, "FloorDiv", node->inputs[0], node->inputs[1], &quotient, error));
    TRY(graph_add_binary(graph, "Mul", gradients[0], quotient, &product, error));
    TRY(graph_add_unary(graph, "Neg", product, &negative, error));
    TRY(graph_add_sum_to_shape(graph, gradients[0], node->inputs[0], &ret[0], error));
    return graph_add_sum_to_shape(graph, negative, node->inputs[1], &ret[1], error);
}

ARITHMETIC_OP(op_div, "RealDiv", "realdiv", binary_compute, gradient_div, FLOAT_LOOPS(real_div))
ARITHMETIC_OP(op_plain_div, "Div", NULL, compute_division, gradient_div, NUMBER_LOOPS(div))
ARITHMETIC_OP(op_truncate_div, "TruncateDiv", "truncatediv", compute_division, op_gradient_none,
              NUMBER_LOOPS(truncate_div))
const struct op op_floor_div = {.name = "FloorDiv",
                                .input_count = 2,
                                .infer = binary_infer,
                                .compute = compute_division,
                                .binary = &(const struct binary_loops){{NUMBER_LOOPS(floor_div)}},
                                .gradient = op_gradient_none,
                                .call = "floordiv",
                                .default_name = "floordiv",
                                .arguments = "x y"};
ARITHMETIC_OP(op_mod, "Mod", NULL, compute_division, NULL, NUMBER_LOOPS(mod))
ARITHMETIC_OP(op_truncate_mod, "TruncateMod", "truncatemod", compute_division, NULL, NUMBER_LOOPS(mod))
ARITHMETIC_OP(op_floor_mod, "FloorMod", "floormod|mod|floor_mod", compute_division, gradient_floor_mod,
              NUMBER_LOOPS(floor_mod))

/* ---- Minimum, Maximum: NaN wins ---- */

ARITHMETIC(minimum, a < b || a != a ? a : b, a < b || a != a ? a : b, a < b ? a : b, a < b ? a : b)
ARITHMETIC(maximum, a > b || a != a ? a : b, a > b || a != a ? a : b, a > b ? a : b, a > b ? a : b)

/* The gradient goes to the operand that was taken: the first, when they are equal. */
static enum status gradient_selected(struct graph *graph, const struct node *node, const char *comparison,
                                     const struct output *gradients, struct output *ret, struct error *error)
{
    struct output takes_a;
    struct output takes_b;
    struct output part;
    TRY(graph_add_binary(graph, comparison, node->inputs[0], node->inputs[1], &takes_a, error));
    TRY(graph_add_unary(graph, "LogicalNot", takes_a, &takes_b, error));
    TRY(graph_add_masked(graph, takes_a, gradients[0], &part, error));
    TRY(graph_add_sum_to_shape(graph, part, node->inputs[0], &ret[0], error));
    TRY(graph_add_masked(graph, takes_b, gradients[0], &part, error));
    return graph_add_sum_to_shape(graph, part, node->inputs[1], &ret[1], error);
}

static enum status gradient_minimum(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    return gradient_selected(graph, node, "LessEqual", gradients, ret, error);
}

static enum status gradient_maximum(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    return gradient_selected(graph, node, "GreaterEqual", gradients, ret, error);
}

ARITHMETIC_OP(op_minimum, "Minimum", "minimum", binary_compute, gradient_minimum, NUMBER_LOOPS(minimum))
ARITHMETIC_OP(op_maximum, "Maximum", "maximum", binary_compute, gradient_maximum, NUMBER_LOOPS(maximum))
