/* Activations and their gradients, which TensorFlow has as ops of their own. Thread: see op.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/elementwise.h"
#include "engine/graph/op_rules.h"
#include "engine/math/pointwise.h"

/* Self-normalising networks (Klambauer and others 2017): selu(x) = scale · x, scale · alpha · (e^x − 1) below 0. */
#define SELU_SCALE 1.0507009873554804934193349852946
#define SELU_SCALE_ALPHA 1.7580993408473768599402175208123

/* An op that takes a gradient back: two tensors of one shape, FLOAT32 and FLOAT64 of a and b. */
#define GRADIENT_OP(ROW, NAME, FUNCTIONS, FLOAT32, FLOAT64, GRADIENT)                                                  \
    BINARY_LOOP(FUNCTIONS##_float32, float, float, FLOAT32)                                                            \
    BINARY_LOOP(FUNCTIONS##_float64, double, double, FLOAT64)                                                          \
    BINARY_OP(ROW, NAME, NULL, NULL, NULL, binary_infer, binary_compute, GRADIENT, FLOAT_LOOPS(FUNCTIONS))

/* ---- Sigmoid, Tanh; their gradients take the result y and dy ---- */

static void sigmoid_float32(size_t count, const void *x, void *result)
{
    pointwise()->sigmoid(count, x, result);
}

static void tanh_float32(size_t count, const void *x, void *result)
{
    pointwise()->tanh(count, x, result);
}

UNARY_LOOP(sigmoid_float64, double, double, 1.0 / (1.0 + exp(-x)))
UNARY_LOOP(tanh_float64, double, double, tanh(x))

static enum status gradient_sigmoid(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    return graph_add_binary(graph, "SigmoidGrad", node_own_output(graph, node, 0), gradients[0], &ret[0], error);
}

static enum status gradient_tanh(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    return graph_add_binary(graph, "TanhGrad", node_own_output(graph, node, 0), gradients[0], &ret[0], error);
}

UNARY_OP(op_sigmoid, "Sigmoid", "sigmoid", "x", "T", unary_infer, gradient_sigmoid, FLOAT_LOOPS(sigmoid))
UNARY_OP(op_tanh, "Tanh", "tanh", "x", "T", unary_infer, gradient_tanh, FLOAT_LOOPS(tanh))

/* d dy·y(1 − y) = g dy (1 − 2y), g y(1 − y) */
static enum status gradient_sigmoid_grad(struct graph *graph, const struct node *node, const struct output *gradients,
                                         struct output *ret, struct error *error)
{
    struct output y = node->inputs[0];
    struct output product;
    struct output twice;
    TRY(graph_add_binary(graph, "Mul", gradients[0], node->inputs[1], &product, error));
    TRY(graph_add_scaled(graph, product, 2, &twice, error));
    TRY(graph_add_binary(graph, "Mul", twice, y, &twice, error));
    TRY(graph_add_binary(graph, "Sub", product, twice, &ret[0], error));
    return graph_add_binary(graph, "SigmoidGrad", y, gradients[0], &ret[1], error);
}

/* d dy·(1 − y²) = −2 g dy y, g (1 − y²) */
static enum status gradient_tanh_grad(struct graph *graph, const struct node *node, const struct output *gradients,
                                      struct output *ret, struct error *error)
{
    struct output y = node->inputs[0];
    struct output product;
    TRY(graph_add_binary(graph, "Mul", gradients[0], node->inputs[1], &product, error));
    TRY(graph_add_scaled(graph, product, -2, &product, error));
    TRY(graph_add_binary(graph, "Mul", product, y, &ret[0], error));
    return graph_add_binary(graph, "TanhGrad", y, gradients[0], &ret[1], error);
}

GRADIENT_OP(op_sigmoid_grad, "SigmoidGrad", sigmoid_grad, b *a *(1.0f - a), b *a *(1.0 - a), gradient_sigmoid_grad)
GRADIENT_OP(op_tanh_grad, "TanhGrad", tanh_grad, b *(1.0f - a * a), b *(1.0 - a * a), gradient_tanh_grad)

/* ---- Relu, Relu6: their gradients take dy and the result ---- */

#define RELU(NAME, FLOAT32, FLOAT64, INTEGER)                                                                          \
    UNARY_LOOP(NAME##_float32, float, float, FLOAT32)                                                                  \
    UNARY_LOOP(NAME##_float64, double, double, FLOAT64)                                                                \
    UNARY_LOOP(NAME##_int32, int32_t, int32_t, INTEGER)                                                                \
    UNARY_LOOP(NAME##_int64, int64_t, int64_t, INTEGER)

RELU(relu, x < 0.0f ? 0.0f : x, x < 0.0 ? 0.0 : x, x < 0 ? 0 : x)
RELU(relu6, x<0.0f ? 0.0f : x> 6.0f ? 6.0f : x, x<0.0 ? 0.0 : x> 6.0 ? 6.0 : x, x<0 ? 0 : x> 6 ? 6 : x)

/* The gradient op takes dy and then the result. */
static enum status gradient_by_result(struct graph *graph, const struct node *node, const char *op,
                                      const struct output *gradients, struct output *ret, struct error *error)
{
    return graph_add_binary(graph, op, gradients[0], node_own_output(graph, node, 0), &ret[0], error);
}

static enum status gradient_relu(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    return gradient_by_result(graph, node, "ReluGrad", gradients, ret, error);
}

static enum status gradient_relu6(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    return gradient_by_result(graph, node, "Relu6Grad", gradients, ret, error);
}

/* Linear in dy: the same op again; the second input has no gradient. */
static enum status gradient_again(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    TRY(graph_add_binary(graph, node->op->name, gradients[0], node->inputs[1], &ret[0], error));
    ret[1] = (struct output){NULL, 0};
    return STATUS_OK;
}

UNARY_OP(op_relu, "Relu", "relu", "features", "T", unary_infer, gradient_relu, NUMBER_LOOPS(relu))
UNARY_OP(op_relu6, "Relu6", "relu6", "features", "T", unary_infer, gradient_relu6, NUMBER_LOOPS(relu6))
GRADIENT_OP(op_relu_grad, "ReluGrad", relu_grad, b > 0.0f ? a : 0.0f, b > 0.0 ? a : 0.0, gradient_again)
GRADIENT_OP(op_relu6_grad, "Relu6Grad", relu6_grad, b > 0.0f && b < 6.0f ? a : 0.0f, b > 0.0 && b < 6.0 ? a : 0.0,
            gradient_again)

/* ---- LeakyRelu: attribute alpha ---- */

static enum status infer_leaky_relu(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "features", TYPES_FLOAT, error));
    return op_infer_same(inference, error);
}

static enum status infer_leaky_relu_grad(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "gradients", TYPES_FLOAT, error));
    TRY(op_check_same_type(inference, 1, "features", 0, "gradients", error));
    if (!shape_is_compatible(&inference->inputs[0].shape, &inference->inputs[1].shape)) {
        return op_shape_error(inference, error, "Shapes must be equal");
    }
    return op_infer_same(inference, error);
}

/* x, or dy where features > 0; alpha times it elsewhere. Input 1, if there is one, has the features. */
static enum status compute_leaky_relu(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *from = &run->inputs[0];
    const struct tensor *features = &run->inputs[run->input_count - 1];
    double alpha = node_attribute_number(run->node, "alpha", 0.2);
    size_t count = tensor_element_count(from);
    for (size_t i = 0; i < count; i++) {
        if (from->dtype == DTYPE_FLOAT32) {
            float x = ((const float *)from->data)[i];
            ((float *)run->outputs[0].data)[i] = ((const float *)features->data)[i] > 0 ? x : (float)alpha * x;
        } else {
            double x = ((const double *)from->data)[i];
            ((double *)run->outputs[0].data)[i] = ((const double *)features->data)[i] > 0 ? x : alpha * x;
        }
    }
    return STATUS_OK;
}

static enum status add_leaky_relu_grad(struct graph *graph, const struct node *node, struct output gradient,
                                       struct output features, struct output *ret_output, struct error *error)
{
    struct output inputs[] = {gradient, features};
    struct node_options options = {
        .inputs = inputs, .input_count = 2, .attributes = node->attributes, .attribute_count = node->attribute_count};
    struct node *grad = NULL;
    TRY(graph_add_node(graph, "LeakyReluGrad", &options, &grad, error));
    *ret_output = (struct output){grad, 0};
    return STATUS_OK;
}

static enum status gradient_leaky_relu(struct graph *graph, const struct node *node, const struct output *gradients,
                                       struct output *ret, struct error *error)
{
    return add_leaky_relu_grad(graph, node, gradients[0], node->inputs[0], &ret[0], error);
}

static enum status gradient_leaky_relu_grad(struct graph *graph, const struct node *node,
                                            const struct output *gradients, struct output *ret, struct error *error)
{
    ret[1] = (struct output){NULL, 0};
    return add_leaky_relu_grad(graph, node, gradients[0], node->inputs[1], &ret[0], error);
}

static const struct attribute_rule leaky_relu_attributes[] = {
    {.name = "alpha", .kind = ATTRIBUTE_NUMBER, .otherwise = 0.2}, {.name = NULL}};

const struct op op_leaky_relu = {.name = "LeakyRelu",
                                 .input_count = 1,
                                 .infer = infer_leaky_relu,
                                 .compute = compute_leaky_relu,
                                 .gradient = gradient_leaky_relu,
                                 .call = "leaky_relu",
                                 .arguments = "features",
                                 .argument_types = "T",
                                 .attributes = leaky_relu_attributes};
const struct op op_leaky_relu_grad = {.name = "LeakyReluGrad",
                                      .input_count = 2,
                                      .infer = infer_leaky_relu_grad,
                                      .compute = compute_leaky_relu,
                                      .gradient = gradient_leaky_relu_grad};

/* ---- Elu, Selu: their gradients take dy and the result; where that is negative it shows e^x ---- */

UNARY_LOOP(elu_float32, float, float, x < 0 ? expm1f(x) : x)
UNARY_LOOP(elu_float64, double, double, x < 0 ? expm1(x) : x)
UNARY_LOOP(selu_float32, float, float, x < 0 ? (float)SELU_SCALE_ALPHA * expm1f(x) : (float)SELU_SCALE * x)
UNARY_LOOP(selu_float64, double, double, x < 0 ? SELU_SCALE_ALPHA * expm1(x) : SELU_SCALE * x)

static enum status gradient_elu(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    return gradient_by_result(graph, node, "EluGrad", gradients, ret, error);
}

static enum status gradient_selu(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    return gradient_by_result(graph, node, "SeluGrad", gradients, ret, error);
}

/* By dy: the same op again; by the result y: g dy where y < 0. */
static enum status gradient_elu_grad(struct graph *graph, const struct node *node, const struct output *gradients,
                                     struct output *ret, struct error *error)
{
    struct output y = node->inputs[1];
    struct output zero;
    struct output is_negative;
    struct output product;
    TRY(graph_add_binary(graph, node->op->name, gradients[0], y, &ret[0], error));
    TRY(graph_add_number(graph, NULL, output_type(y)->dtype, 0, &zero, error));
    TRY(graph_add_binary(graph, "Less", y, zero, &is_negative, error));
    TRY(graph_add_binary(graph, "Mul", gradients[0], node->inputs[0], &product, error));
    return graph_add_masked(graph, is_negative, product, &ret[1], error);
}

UNARY_OP(op_elu, "Elu", "elu", "features", "T", unary_infer, gradient_elu, FLOAT_LOOPS(elu))
UNARY_OP(op_selu, "Selu", "selu", "features", "T", unary_infer, gradient_selu, FLOAT_LOOPS(selu))
GRADIENT_OP(op_elu_grad, "EluGrad", elu_grad, b < 0 ? a * (b + 1.0f) : a, b < 0 ? a * (b + 1.0) : a, gradient_elu_grad)
GRADIENT_OP(op_selu_grad, "SeluGrad", selu_grad, b < 0 ? a * (b + (float)SELU_SCALE_ALPHA) : a * (float)SELU_SCALE,
            b < 0 ? a * (b + SELU_SCALE_ALPHA) : a * SELU_SCALE, gradient_elu_grad)

/* ---- Softplus, Softsign: their gradients are made of other ops ---- */

/* ln(1 + e^x), written so that nothing overflows. */
UNARY_LOOP(softplus_float32, float, float, (x > 0 ? x : 0) + log1pf(expf(-fabsf(x))))
UNARY_LOOP(softplus_float64, double, double, (x > 0 ? x : 0) + log1p(exp(-fabs(x))))
UNARY_LOOP(softsign_float32, float, float, x / (1.0f + fabsf(x)))
UNARY_LOOP(softsign_float64, double, double, x / (1.0 + fabs(x)))

/* g σ(x) */
static enum status gradient_softplus(struct graph *graph, const struct node *node, const struct output *gradients,
                                     struct output *ret, struct error *error)
{
    struct output sigmoid;
    TRY(graph_add_unary(graph, "Sigmoid", node->inputs[0], &sigmoid, error));
    return graph_add_binary(graph, "Mul", gradients[0], sigmoid, &ret[0], error);
}

/* g / (1 + |x|)² */
static enum status gradient_softsign(struct graph *graph, const struct node *node, const struct output *gradients,
                                     struct output *ret, struct error *error)
{
    struct output x = node->inputs[0];
    struct output one;
    struct output sum;
    TRY(graph_add_number(graph, NULL, output_type(x)->dtype, 1, &one, error));
    TRY(graph_add_unary(graph, "Abs", x, &sum, error));
    TRY(graph_add_binary(graph, "Add", one, sum, &sum, error));
    TRY(graph_add_unary(graph, "Square", sum, &sum, error));
    return graph_add_binary(graph, "RealDiv", gradients[0], sum, &ret[0], error);
}

UNARY_OP(op_softplus, "Softplus", "softplus", "features", "T", unary_infer, gradient_softplus, FLOAT_LOOPS(softplus))
UNARY_OP(op_softsign, "Softsign", "softsign", "features", "T", unary_infer, gradient_softsign, FLOAT_LOOPS(softsign))
