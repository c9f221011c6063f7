/* Pow and Atan2. Thread: see op.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/elementwise.h"
#include "engine/graph/op_rules.h"

/* base to the power of a non-negative whole number; wraps around. */
static inline uint64_t whole_power(uint64_t base, uint64_t exponent)
{
    uint64_t power = 1;
    for (; exponent > 0; exponent >>= 1) {
        power *= (exponent & 1) != 0 ? base : 1;
        base *= base;
    }
    return power;
}

BINARY_LOOP(pow_float32, float, float, powf(a, b))
BINARY_LOOP(pow_float64, double, double, pow(a, b))
BINARY_LOOP(pow_int32, int32_t, int32_t, (int32_t)(uint32_t)whole_power((uint64_t)a, (uint64_t)b))
BINARY_LOOP(pow_int64, int64_t, int64_t, (int64_t)whole_power((uint64_t)a, (uint64_t)b))

static enum status compute_pow(const struct op_run *run, struct error *error)
{
    const struct tensor *exponents = &run->inputs[1];
    bool is_whole = !dtype_is_float(exponents->dtype) && tensor_element_count(&run->outputs[0]) > 0;
    for (size_t i = 0; is_whole && i < tensor_element_count(exponents); i++) {
        if (tensor_integer(exponents, i) < 0) {
            return op_run_error(run, error, "Integers to negative integer powers are not allowed");
        }
    }
    return binary_compute(run, error);
}

/* By the base: g·y·x^(y−1). */
static enum status gradient_by_base(struct graph *graph, const struct node *node, struct output gradient,
                                    struct output *ret_output, struct error *error)
{
    struct output x = node->inputs[0];
    struct output y = node->inputs[1];
    struct output one;
    struct output less;
    struct output power;
    struct output product;
    TRY(graph_add_number(graph, NULL, output_type(y)->dtype, 1, &one, error));
    TRY(graph_add_binary(graph, "Sub", y, one, &less, error));
    TRY(graph_add_binary(graph, "Pow", x, less, &power, error));
    TRY(graph_add_binary(graph, "Mul", gradient, y, &product, error));
    TRY(graph_add_binary(graph, "Mul", product, power, &product, error));
    return graph_add_sum_to_shape(graph, product, x, ret_output, error);
}

/* By the exponent: g·x^y·ln x, 0 where x ≤ 0, as TensorFlow has it. */
static enum status gradient_by_exponent(struct graph *graph, const struct node *node, struct output gradient,
                                        struct output *ret_output, struct error *error)
{
    struct output x = node->inputs[0];
    struct output zero;
    struct output is_positive;
    struct output logarithm;
    struct output product;
    TRY(graph_add_number(graph, NULL, output_type(x)->dtype, 0, &zero, error));
    TRY(graph_add_binary(graph, "Greater", x, zero, &is_positive, error));
    TRY(graph_add_unary(graph, "Log", x, &logarithm, error));
    TRY(graph_add_masked(graph, is_positive, logarithm, &logarithm, error));
    TRY(graph_add_binary(graph, "Mul", gradient, node_own_output(graph, node, 0), &product, error));
    TRY(graph_add_binary(graph, "Mul", product, logarithm, &product, error));
    return graph_add_sum_to_shape(graph, product, node->inputs[1], ret_output, error);
}

static enum status gradient_pow(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    if (!dtype_is_float(output_type(node->inputs[0])->dtype)) {
        return op_gradient_none(graph, node, gradients, ret, error);
    }
    TRY(gradient_by_base(graph, node, gradients[0], &ret[0], error));
    return gradient_by_exponent(graph, node, gradients[0], &ret[1], error);
}

BINARY_OP(op_pow, "Pow", "pow", "x y", "TT", binary_infer, compute_pow, gradient_pow, NUMBER_LOOPS(pow))

/* ---- Atan2: y, x → the angle of (x, y) ---- */

BINARY_LOOP(atan2_float32, float, float, atan2f(a, b))
BINARY_LOOP(atan2_float64, double, double, atan2(a, b))

/* g·x / (x² + y²), −g·y / (x² + y²) */
static enum status gradient_atan2(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    struct output y = node->inputs[0];
    struct output x = node->inputs[1];
    struct output squares[2];
    struct output scale;
    struct output product;
    TRY(graph_add_unary(graph, "Square", x, &squares[0], error));
    TRY(graph_add_unary(graph, "Square", y, &squares[1], error));
    TRY(graph_add(graph, "Add", NULL, squares, 2, &scale, error));
    TRY(graph_add_binary(graph, "RealDiv", gradients[0], scale, &scale, error));
    TRY(graph_add_binary(graph, "Mul", x, scale, &product, error));
    TRY(graph_add_sum_to_shape(graph, product, y, &ret[0], error));
    TRY(graph_add_binary(graph, "Mul", y, scale, &product, error));
    TRY(graph_add_unary(graph, "Neg", product, &product, error));
    return graph_add_sum_to_shape(graph, product, x, &ret[1], error);
}

BINARY_OP(op_atan2, "Atan2", "atan2", "y x", "TT", binary_infer, binary_compute, gradient_atan2, FLOAT_LOOPS(atan2))
