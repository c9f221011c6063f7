/* Functions of one operand, element by element: signs, powers, exponentials, rounding, angles. Activations are in
 * ops_activation.c. Thread: see op.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/elementwise.h"
#include "engine/graph/op_rules.h"

/* An op of floats alone. */
#define FLOAT_OP(ROW, NAME, FUNCTIONS, CALL, FLOAT32, FLOAT64, GRADIENT)                                               \
    UNARY_LOOP(FUNCTIONS##_float32, float, float, FLOAT32)                                                             \
    UNARY_LOOP(FUNCTIONS##_float64, double, double, FLOAT64)                                                           \
    UNARY_OP(ROW, NAME, CALL, "x", "T", unary_infer, GRADIENT, FLOAT_LOOPS(FUNCTIONS))

/* An op of all numbers. */
#define NUMBER_OP(ROW, NAME, FUNCTIONS, CALL, FLOAT32, FLOAT64, INT32, INT64, GRADIENT)                                \
    UNARY_LOOP(FUNCTIONS##_float32, float, float, FLOAT32)                                                             \
    UNARY_LOOP(FUNCTIONS##_float64, double, double, FLOAT64)                                                           \
    UNARY_LOOP(FUNCTIONS##_int32, int32_t, int32_t, INT32)                                                             \
    UNARY_LOOP(FUNCTIONS##_int64, int64_t, int64_t, INT64)                                                             \
    UNARY_OP(ROW, NAME, CALL, "x", "T", unary_infer, GRADIENT, NUMBER_LOOPS(FUNCTIONS))

/* ret = g · factor */
static enum status multiply(struct graph *graph, const struct output *gradients, struct output factor,
                            struct output *ret, struct error *error)
{
    return graph_add_binary(graph, "Mul", gradients[0], factor, &ret[0], error);
}

/* ret = g · function(x) */
static enum status multiply_by(struct graph *graph, const struct node *node, const char *function,
                               const struct output *gradients, struct output *ret, struct error *error)
{
    struct output factor;
    TRY(graph_add_unary(graph, function, node->inputs[0], &factor, error));
    return multiply(graph, gradients, factor, ret, error);
}

/* 1 + sign · x², the base of many derivatives. */
static enum status add_one_and_square(struct graph *graph, struct output x, double sign, struct output *ret_output,
                                      struct error *error)
{
    struct output one;
    struct output square;
    TRY(graph_add_number(graph, NULL, output_type(x)->dtype, 1, &one, error));
    TRY(graph_add_unary(graph, "Square", x, &square, error));
    return graph_add_binary(graph, sign < 0 ? "Sub" : "Add", one, square, ret_output, error);
}

/* ---- signs ---- */

static enum status gradient_neg(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    (void)node;
    return graph_add_unary(graph, "Neg", gradients[0], &ret[0], error);
}

static enum status gradient_abs(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    return multiply_by(graph, node, "Sign", gradients, ret, error);
}

static enum status gradient_zeros(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    (void)gradients;
    return graph_add_zeros_like(graph, node->inputs[0], &ret[0], error);
}

NUMBER_OP(op_neg, "Neg", neg, "negative|neg", -x, -x, (int32_t)(0 - (uint32_t)x), (int64_t)(0 - (uint64_t)x),
          gradient_neg)
NUMBER_OP(op_abs, "Abs", abs, "abs", fabsf(x), fabs(x), x < 0 ? (int32_t)(0 - (uint32_t)x) : x,
          x < 0 ? (int64_t)(0 - (uint64_t)x) : x, gradient_abs)
NUMBER_OP(op_sign, "Sign", sign, "sign",
          x > 0   ? 1.0f
          : x < 0 ? -1.0f
                  : x,
          x > 0   ? 1.0
          : x < 0 ? -1.0
                  : x,
          (x > 0) - (x < 0), (x > 0) - (x < 0), gradient_zeros)

/* ---- powers ---- */

/* d√x = g / (2√x) */
static enum status gradient_sqrt(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    struct output scaled;
    TRY(graph_add_scaled(graph, gradients[0], 0.5, &scaled, error));
    return graph_add_binary(graph, "RealDiv", scaled, node_own_output(graph, node, 0), &ret[0], error);
}

/* d x^(−1/2) = −g y³ / 2 */
static enum status gradient_rsqrt(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    struct output y = node_own_output(graph, node, 0);
    struct output scaled;
    struct output square;
    TRY(graph_add_scaled(graph, gradients[0], -0.5, &scaled, error));
    TRY(graph_add_unary(graph, "Square", y, &square, error));
    TRY(graph_add_binary(graph, "Mul", square, y, &square, error));
    return graph_add_binary(graph, "Mul", scaled, square, &ret[0], error);
}

static enum status gradient_square(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret, struct error *error)
{
    struct output scaled;
    TRY(graph_add_scaled(graph, gradients[0], 2, &scaled, error));
    return graph_add_binary(graph, "Mul", scaled, node->inputs[0], &ret[0], error);
}

/* d(1/x) = −g y² */
static enum status gradient_reciprocal(struct graph *graph, const struct node *node, const struct output *gradients,
                                       struct output *ret, struct error *error)
{
    struct output square;
    TRY(graph_add_unary(graph, "Square", node_own_output(graph, node, 0), &square, error));
    TRY(graph_add_unary(graph, "Neg", square, &square, error));
    return multiply(graph, gradients, square, ret, error);
}

FLOAT_OP(op_sqrt, "Sqrt", sqrt, "sqrt", sqrtf(x), sqrt(x), gradient_sqrt)
FLOAT_OP(op_rsqrt, "Rsqrt", rsqrt, "rsqrt", 1.0f / sqrtf(x), 1.0 / sqrt(x), gradient_rsqrt)
NUMBER_OP(op_square, "Square", square, "square", x *x, x *x, (int32_t)((uint32_t)x *(uint32_t)x),
          (int64_t)((uint64_t)x *(uint64_t)x), gradient_square)
FLOAT_OP(op_reciprocal, "Reciprocal", reciprocal, "reciprocal", 1.0f / x, 1.0 / x, gradient_reciprocal)

/* ---- exponentials and logarithms ---- */

static enum status gradient_exp(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    return multiply(graph, gradients, node_own_output(graph, node, 0), ret, error);
}

static enum status gradient_expm1(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    return multiply_by(graph, node, "Exp", gradients, ret, error);
}

static enum status gradient_log(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    return graph_add_binary(graph, "RealDiv", gradients[0], node->inputs[0], &ret[0], error);
}

static enum status gradient_log1p(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    struct output one;
    struct output sum;
    TRY(graph_add_number(graph, NULL, output_type(node->inputs[0])->dtype, 1, &one, error));
    TRY(graph_add_binary(graph, "Add", one, node->inputs[0], &sum, error));
    return graph_add_binary(graph, "RealDiv", gradients[0], sum, &ret[0], error);
}

/* g · 2/√π · e^(−x²) */
static enum status gradient_erf(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    struct output power;
    TRY(graph_add_unary(graph, "Square", node->inputs[0], &power, error));
    TRY(graph_add_unary(graph, "Neg", power, &power, error));
    TRY(graph_add_unary(graph, "Exp", power, &power, error));
    TRY(graph_add_scaled(graph, power, node_is(node, "Erfc") ? -M_2_SQRTPI : M_2_SQRTPI, &power, error));
    return multiply(graph, gradients, power, ret, error);
}

FLOAT_OP(op_exp, "Exp", exp, "exp", expf(x), exp(x), gradient_exp)
FLOAT_OP(op_expm1, "Expm1", expm1, "expm1", expm1f(x), expm1(x), gradient_expm1)
FLOAT_OP(op_log, "Log", log, "log", logf(x), log(x), gradient_log)
FLOAT_OP(op_log1p, "Log1p", log1p, "log1p", log1pf(x), log1p(x), gradient_log1p)
FLOAT_OP(op_erf, "Erf", erf, "erf", erff(x), erf(x), gradient_erf)
FLOAT_OP(op_erfc, "Erfc", erfc, "erfc", erfcf(x), erfc(x), gradient_erf)

/* ---- rounding: halves go to the even neighbour ---- */

FLOAT_OP(op_floor, "Floor", floor, "floor", floorf(x), floor(x), op_gradient_none)
FLOAT_OP(op_ceil, "Ceil", ceil, "ceil", ceilf(x), ceil(x), op_gradient_none)
NUMBER_OP(op_round, "Round", round, "round", rintf(x), rint(x), x, x, op_gradient_none)
FLOAT_OP(op_rint, "Rint", rint, "rint", rintf(x), rint(x), op_gradient_none)

/* ---- angles ---- */

static enum status gradient_sin(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    return multiply_by(graph, node, "Cos", gradients, ret, error);
}

static enum status gradient_cos(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    TRY(multiply_by(graph, node, "Sin", gradients, ret, error));
    return graph_add_unary(graph, "Neg", ret[0], &ret[0], error);
}

/* g (1 + tan²x) */
static enum status gradient_tan(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    struct output factor;
    TRY(add_one_and_square(graph, node_own_output(graph, node, 0), 1, &factor, error));
    return multiply(graph, gradients, factor, ret, error);
}

/* ±g / √(1 − x²) */
static enum status gradient_arc(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    struct output root;
    TRY(add_one_and_square(graph, node->inputs[0], -1, &root, error));
    TRY(graph_add_unary(graph, "Sqrt", root, &root, error));
    if (node_is(node, "Acos")) {
        TRY(graph_add_unary(graph, "Neg", root, &root, error));
    }
    return graph_add_binary(graph, "RealDiv", gradients[0], root, &ret[0], error);
}

/* g / (1 + x²) */
static enum status gradient_atan(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    struct output sum;
    TRY(add_one_and_square(graph, node->inputs[0], 1, &sum, error));
    return graph_add_binary(graph, "RealDiv", gradients[0], sum, &ret[0], error);
}

static enum status gradient_sinh(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    return multiply_by(graph, node, "Cosh", gradients, ret, error);
}

static enum status gradient_cosh(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    return multiply_by(graph, node, "Sinh", gradients, ret, error);
}

FLOAT_OP(op_sin, "Sin", sin, "sin", sinf(x), sin(x), gradient_sin)
FLOAT_OP(op_cos, "Cos", cos, "cos", cosf(x), cos(x), gradient_cos)
FLOAT_OP(op_tan, "Tan", tan, "tan", tanf(x), tan(x), gradient_tan)
FLOAT_OP(op_asin, "Asin", asin, "asin", asinf(x), asin(x), gradient_arc)
FLOAT_OP(op_acos, "Acos", acos, "acos", acosf(x), acos(x), gradient_arc)
FLOAT_OP(op_atan, "Atan", atan, "atan", atanf(x), atan(x), gradient_atan)
FLOAT_OP(op_sinh, "Sinh", sinh, "sinh", sinhf(x), sinh(x), gradient_sinh)
FLOAT_OP(op_cosh, "Cosh", cosh, "cosh", coshf(x), cosh(x), gradient_cosh)

/* ---- what kind of number ---- */

#define CLASS_OP(ROW, NAME, FUNCTIONS, CALL, TEST)                                                                     \
    UNARY_LOOP(FUNCTIONS##_float32, float, bool, TEST(x) != 0)                                                         \
    UNARY_LOOP(FUNCTIONS##_float64, double, bool, TEST(x) != 0)                                                        \
    UNARY_OP(ROW, NAME, CALL, "x", "T", unary_infer_bool, op_gradient_none, FLOAT_LOOPS(FUNCTIONS))

CLASS_OP(op_is_nan, "IsNan", is_nan, "is_nan", isnan)
CLASS_OP(op_is_inf, "IsInf", is_inf, "is_inf", isinf)
CLASS_OP(op_is_finite, "IsFinite", is_finite, "is_finite", isfinite)
