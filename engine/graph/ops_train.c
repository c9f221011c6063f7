/* Optimisers' updates of variables in place, with TensorFlow's inputs; float32 and float64. Thread: see op.h.
 * Equations: engine/nn/optimizer.h. */
#include <math.h>

#include "engine/graph/op.h"
#include "engine/graph/op_rules.h"
#include "engine/math/pointwise.h"

/* ---- shape rules: the variable and its slots first, the gradient at `gradient`, all others scalars ---- */

static enum status check_state(const struct inference *inference, size_t input, struct error *error)
{
    if (!node_is(inference->node->inputs[input].node, "VariableV2")) {
        return error_set(error, STATUS_INVALID, "Input %zu of '%s' (op: '%s') is not a variable", input,
                         inference->node->name, inference->node->op->name);
    }
    return STATUS_OK;
}

static enum status infer_update(struct inference *inference, size_t state_count, size_t gradient, struct error *error)
{
    const struct shape *variable = &inference->inputs[0].shape;
    TRY(op_check_type(inference, 0, "var", TYPES_FLOAT, error));
    for (size_t i = 0; i < inference->input_count; i++) {
        bool is_scalar = i >= state_count && i != gradient;
        TRY(i < state_count ? check_state(inference, i, error) : STATUS_OK);
        TRY(op_expect(inference, i, inference->inputs[0].dtype, is_scalar ? 0 : SHAPE_RANK_UNKNOWN, error));
        if (!is_scalar && !shape_is_compatible(variable, &inference->inputs[i].shape)) {
            char text[SHAPE_TEXT_BYTES_MAX];
            char other_text[SHAPE_TEXT_BYTES_MAX];
            return op_shape_error(inference, error, "Shapes must be equal, but are %s and %s",
                                  shape_cpp_text(variable, text),
                                  shape_cpp_text(&inference->inputs[i].shape, other_text));
        }
    }
    return op_one_output(inference, inference->inputs[0].dtype, variable);
}

/* A gradient's shape may only be known at run time. */
static enum status check_gradient(const struct op_run *run, size_t gradient, struct error *error)
{
    const struct shape *variable = &run->inputs[0].shape;
    const struct shape *given = &run->inputs[gradient].shape;
    if (shape_equal(variable, given)) {
        return STATUS_OK;
    }
    char text[SHAPE_TEXT_BYTES_MAX];
    char given_text[SHAPE_TEXT_BYTES_MAX];
    return op_run_error(run, error, "var and grad do not have the same shape %s %s", shape_cpp_text(variable, text),
                        shape_cpp_text(given, given_text));
}

static bool is_double(const struct op_run *run)
{
    return run->inputs[0].dtype == DTYPE_FLOAT64;
}

/* Element 0 of an input as the type the loop computes with. */
#define SCALAR(type, input) (*(const type *)run->inputs[input].data)

/* ---- ApplyGradientDescent: var, alpha, delta ---- */

static enum status infer_gradient_descent(struct inference *inference, struct error *error)
{
    return infer_update(inference, 1, 2, error);
}

#define GRADIENT_DESCENT(type)                                                                                         \
    do {                                                                                                               \
        type *variable = run->inputs[0].data;                                                                          \
        const type *gradient = run->inputs[2].data;                                                                    \
        type rate = SCALAR(type, 1);                                                                                   \
        for (size_t i = 0; i < count; i++) {                                                                           \
            variable[i] -= rate * gradient[i];                                                                         \
        }                                                                                                              \
    } while (0)

static enum status compute_gradient_descent(const struct op_run *run, struct error *error)
{
    size_t count = tensor_element_count(&run->inputs[0]);
    TRY(check_gradient(run, 2, error));
    if (is_double(run)) {
        GRADIENT_DESCENT(double);
    } else {
        GRADIENT_DESCENT(float);
    }
    return STATUS_OK;
}

const struct op op_apply_gradient_descent = {.name = "ApplyGradientDescent",
                                             .input_count = 3,
                                             .flags = OP_WRITES,
                                             .infer = infer_gradient_descent,
                                             .compute = compute_gradient_descent};

/* ---- ApplyMomentum: var, accum, lr, grad, momentum; attribute use_nesterov ---- */

static enum status infer_momentum(struct inference *inference, struct error *error)
{
    return infer_update(inference, 2, 3, error);
}

#define MOMENTUM(type)                                                                                                 \
    do {                                                                                                               \
        type *variable = run->inputs[0].data;                                                                          \
        type *sum = run->inputs[1].data;                                                                               \
        const type *gradient = run->inputs[3].data;                                                                    \
        type rate = SCALAR(type, 2);                                                                                   \
        type momentum = SCALAR(type, 4);                                                                               \
        for (size_t i = 0; i < count; i++) {                                                                           \
            sum[i] = sum[i] * momentum + gradient[i];                                                                  \
            variable[i] -= is_nesterov ? gradient[i] * rate + sum[i] * momentum * rate : sum[i] * rate;                \
        }                                                                                                              \
    } while (0)

static enum status compute_momentum(const struct op_run *run, struct error *error)
{
    size_t count = tensor_element_count(&run->inputs[0]);
    bool is_nesterov = node_attribute_boolean(run->node, "use_nesterov", false);
    TRY(check_gradient(run, 3, error));
    if (is_double(run)) {
        MOMENTUM(double);
    } else {
        MOMENTUM(float);
    }
    return STATUS_OK;
}

const struct op op_apply_momentum = {.name = "ApplyMomentum",
                                     .input_count = 5,
                                     .flags = OP_WRITES,
                                     .written_count = 2,
                                     .infer = infer_momentum,
                                     .compute = compute_momentum};

/* ---- ApplyAdagrad: var, accum, lr, grad ---- */

static enum status infer_adagrad(struct inference *inference, struct error *error)
{
    return infer_update(inference, 2, 3, error);
}

#define ADAGRAD(type, root)                                                                                            \
    do {                                                                                                               \
        type *variable = run->inputs[0].data;                                                                          \
        type *sum = run->inputs[1].data;                                                                               \
        const type *gradient = run->inputs[3].data;                                                                    \
        type rate = SCALAR(type, 2);                                                                                   \
        for (size_t i = 0; i < count; i++) {                                                                           \
            sum[i] += gradient[i] * gradient[i];                                                                       \
            variable[i] -= gradient[i] * rate / root(sum[i]);                                                          \
        }                                                                                                              \
    } while (0)

static enum status compute_adagrad(const struct op_run *run, struct error *error)
{
    size_t count = tensor_element_count(&run->inputs[0]);
    TRY(check_gradient(run, 3, error));
    if (is_double(run)) {
        ADAGRAD(double, sqrt);
    } else {
        ADAGRAD(float, sqrtf);
    }
    return STATUS_OK;
}

const struct op op_apply_adagrad = {.name = "ApplyAdagrad",
                                    .input_count = 4,
                                    .flags = OP_WRITES,
                                    .written_count = 2,
                                    .infer = infer_adagrad,
                                    .compute = compute_adagrad};

/* ---- ApplyRMSProp: var, ms, mom, lr, rho, momentum, epsilon, grad ---- */

static enum status infer_rmsprop(struct inference *inference, struct error *error)
{
    return infer_update(inference, 3, 7, error);
}

#define RMSPROP(type, root)                                                                                            \
    do {                                                                                                               \
        type *variable = run->inputs[0].data;                                                                          \
        type *square = run->inputs[1].data;                                                                            \
        type *sum = run->inputs[2].data;                                                                               \
        const type *gradient = run->inputs[7].data;                                                                    \
        type rate = SCALAR(type, 3);                                                                                   \
        type rest = 1 - SCALAR(type, 4);                                                                               \
        type momentum = SCALAR(type, 5);                                                                               \
        type epsilon = SCALAR(type, 6);                                                                                \
        for (size_t i = 0; i < count; i++) {                                                                           \
            square[i] += (gradient[i] * gradient[i] - square[i]) * rest;                                               \
            sum[i] = sum[i] * momentum + gradient[i] * rate / root(epsilon + square[i]);                               \
            variable[i] -= sum[i];                                                                                     \
        }                                                                                                              \
    } while (0)

static enum status compute_rmsprop(const struct op_run *run, struct error *error)
{
    size_t count = tensor_element_count(&run->inputs[0]);
    TRY(check_gradient(run, 7, error));
    if (is_double(run)) {
        RMSPROP(double, sqrt);
    } else {
        RMSPROP(float, sqrtf);
    }
    return STATUS_OK;
}

const struct op op_apply_rmsprop = {.name = "ApplyRMSProp",
                                    .input_count = 8,
                                    .flags = OP_WRITES,
                                    .written_count = 3,
                                    .infer = infer_rmsprop,
                                    .compute = compute_rmsprop};

/* ---- ApplyCenteredRMSProp: var, mg, ms, mom, lr, rho, momentum, epsilon, grad ---- */

static enum status infer_centered_rmsprop(struct inference *inference, struct error *error)
{
    return infer_update(inference, 4, 8, error);
}

#define CENTERED_RMSPROP(type, root)                                                                                   \
    do {                                                                                                               \
        type *variable = run->inputs[0].data;                                                                          \
        type *mean = run->inputs[1].data;                                                                              \
        type *square = run->inputs[2].data;                                                                            \
        type *sum = run->inputs[3].data;                                                                               \
        const type *gradient = run->inputs[8].data;                                                                    \
        type rate = SCALAR(type, 4);                                                                                   \
        type rest = 1 - SCALAR(type, 5);                                                                               \
        type momentum = SCALAR(type, 6);                                                                               \
        type epsilon = SCALAR(type, 7);                                                                                \
        for (size_t i = 0; i < count; i++) {                                                                           \
            square[i] += (gradient[i] * gradient[i] - square[i]) * rest;                                               \
            mean[i] += (gradient[i] - mean[i]) * rest;                                                                 \
            sum[i] = sum[i] * momentum + gradient[i] * rate / root(square[i] - mean[i] * mean[i] + epsilon);           \
            variable[i] -= sum[i];                                                                                     \
        }                                                                                                              \
    } while (0)

static enum status compute_centered_rmsprop(const struct op_run *run, struct error *error)
{
    size_t count = tensor_element_count(&run->inputs[0]);
    TRY(check_gradient(run, 8, error));
    if (is_double(run)) {
        CENTERED_RMSPROP(double, sqrt);
    } else {
        CENTERED_RMSPROP(float, sqrtf);
    }
    return STATUS_OK;
}

const struct op op_apply_centered_rmsprop = {.name = "ApplyCenteredRMSProp",
                                             .input_count = 9,
                                             .flags = OP_WRITES,
                                             .written_count = 4,
                                             .infer = infer_centered_rmsprop,
                                             .compute = compute_centered_rmsprop};

/* ---- ApplyAdam: var, m, v, beta1_power, beta2_power, lr, beta1, beta2, epsilon, grad ---- */

static enum status infer_adam(struct inference *inference, struct error *error)
{
    return infer_update(inference, 3, 9, error);
}

static void adam_in_double(const struct op_run *run, size_t count)
{
    double *variable = run->inputs[0].data;
    double *m = run->inputs[1].data;
    double *v = run->inputs[2].data;
    const double *gradient = run->inputs[9].data;
    double beta1 = SCALAR(double, 6);
    double beta2 = SCALAR(double, 7);
    double epsilon = SCALAR(double, 8);
    double rate = SCALAR(double, 5) * sqrt(1 - SCALAR(double, 4)) / (1 - SCALAR(double, 3));
    for (size_t i = 0; i < count; i++) {
        m[i] += (gradient[i] - m[i]) * (1 - beta1);
        v[i] += (gradient[i] * gradient[i] - v[i]) * (1 - beta2);
        variable[i] -= rate * m[i] / (sqrt(v[i]) + epsilon);
    }
}

static enum status compute_adam(const struct op_run *run, struct error *error)
{
    size_t count = tensor_element_count(&run->inputs[0]);
    TRY(check_gradient(run, 9, error));
    if (is_double(run)) {
        adam_in_double(run, count);
        return STATUS_OK;
    }
    struct adam_step step = {.rate = SCALAR(float, 5) * sqrtf(1.0f - SCALAR(float, 4)) / (1.0f - SCALAR(float, 3)),
                             .beta1 = SCALAR(float, 6),
                             .beta2 = SCALAR(float, 7),
                             .epsilon = SCALAR(float, 8)};
    pointwise()->adam(count, step, run->inputs[9].data, run->inputs[1].data, run->inputs[2].data, run->inputs[0].data);
    return STATUS_OK;
}

const struct op op_apply_adam = {.name = "ApplyAdam",
                                 .input_count = 10,
                                 .flags = OP_WRITES,
                                 .written_count = 3,
                                 .infer = infer_adam,
                                 .compute = compute_adam};
