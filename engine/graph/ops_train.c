/* Optimisers' updates of variables in place. Thread: see op.h. Equations: engine/nn/optimizer.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"
#include "engine/math/pointwise.h"

static enum status infer_update(struct inference *inference, struct error *error)
{
    for (size_t i = 0; i < inference->input_count; i++) {
        TRY(op_expect(inference, i, DTYPE_FLOAT32, SHAPE_RANK_UNKNOWN, error));
    }
    if (!node_is(inference->node->inputs[0].node, "VariableV2")) {
        return error_set(error, STATUS_INVALID, "Input 0 of '%s' (op: '%s') is not a variable", inference->node->name,
                         inference->node->op->name);
    }
    const struct shape *variable = &inference->inputs[0].shape;
    const struct shape *gradient = &inference->inputs[inference->input_count - 1].shape;
    if (!shape_is_compatible(variable, gradient)) {
        return op_shape_error(inference, error, "Shapes must be equal");
    }
    inference->outputs[0] = inference->inputs[0];
    inference->output_count = 1;
    return STATUS_OK;
}

/* ---- ApplyGradientDescent: variable, learning rate, gradient ---- */

static enum status compute_gradient_descent(const struct op_run *run, struct error *error)
{
    (void)error;
    float *variable = run->inputs[0].data;
    float rate = *(const float *)run->inputs[1].data;
    const float *gradient = run->inputs[2].data;
    size_t count = tensor_element_count(&run->inputs[0]);
    for (size_t i = 0; i < count; i++) {
        variable[i] -= rate * gradient[i];
    }
    return STATUS_OK;
}

const struct op op_apply_gradient_descent = {.name = "ApplyGradientDescent",
                                             .input_count = 3,
                                             .flags = OP_WRITES,
                                             .infer = infer_update,
                                             .compute = compute_gradient_descent};

/* ---- ApplyAdam: variable, m, v, beta1_power, beta2_power, learning rate, gradient; attributes beta1, beta2, epsilon
 * ---- */

static enum status compute_adam(const struct op_run *run, struct error *error)
{
    (void)error;
    float beta1_power = *(const float *)run->inputs[3].data;
    float beta2_power = *(const float *)run->inputs[4].data;
    float rate = *(const float *)run->inputs[5].data;
    struct adam_step step = {.rate = rate * sqrtf(1.0f - beta2_power) / (1.0f - beta1_power),
                             .beta1 = (float)node_attribute_number(run->node, "beta1", 0.9),
                             .beta2 = (float)node_attribute_number(run->node, "beta2", 0.999),
                             .epsilon = (float)node_attribute_number(run->node, "epsilon", 1e-8)};
    pointwise()->adam(tensor_element_count(&run->inputs[0]), step, run->inputs[6].data, run->inputs[1].data,
                      run->inputs[2].data, run->inputs[0].data);
    return STATUS_OK;
}

const struct op op_apply_adam = {
    .name = "ApplyAdam", .input_count = 7, .flags = OP_WRITES, .infer = infer_update, .compute = compute_adam};
