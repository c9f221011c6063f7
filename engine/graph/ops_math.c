/* Arithmetic: elementwise with broadcasting, sums, products of matrices. float32. Thread: see op.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"
#include "engine/math/gemm.h"
#include "engine/math/pointwise.h"

static enum status one_output(struct inference *inference, const struct shape *shape)
{
    inference->outputs[0] = (struct output_type){DTYPE_FLOAT32, *shape};
    inference->output_count = 1;
    return STATUS_OK;
}

static enum status expect_floats(const struct inference *inference, struct error *error)
{
    for (size_t i = 0; i < inference->input_count; i++) {
        TRY(op_expect(inference, i, DTYPE_FLOAT32, SHAPE_RANK_UNKNOWN, error));
    }
    return STATUS_OK;
}

static enum status infer_same(struct inference *inference, struct error *error)
{
    TRY(expect_floats(inference, error));
    return one_output(inference, &inference->inputs[0].shape);
}

/* ---- two inputs, NumPy's broadcasting ---- */

static enum status infer_broadcast(struct inference *inference, struct error *error)
{
    TRY(expect_floats(inference, error));
    const struct shape *a = &inference->inputs[0].shape;
    const struct shape *b = &inference->inputs[1].shape;
    if (a->rank == SHAPE_RANK_UNKNOWN || b->rank == SHAPE_RANK_UNKNOWN) {
        struct shape unknown = shape_unknown();
        return one_output(inference, &unknown);
    }
    struct shape shape = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int i = 0; i < shape.rank; i++) {
        int at_a = i - (shape.rank - a->rank);
        int at_b = i - (shape.rank - b->rank);
        int64_t from_a = at_a < 0 ? 1 : a->dimensions[at_a];
        int64_t from_b = at_b < 0 ? 1 : b->dimensions[at_b];
        if (from_a == 1 || from_a == from_b) {
            shape.dimensions[i] = from_b;
        } else if (from_b == 1) {
            shape.dimensions[i] = from_a;
        } else if (from_a == DIMENSION_UNKNOWN || from_b == DIMENSION_UNKNOWN) {
            shape.dimensions[i] = from_a == DIMENSION_UNKNOWN ? from_b : from_a;
        } else {
            return op_dimensions_error(inference, from_a, from_b, error);
        }
    }
    return one_output(inference, &shape);
}

/* Element steps of an operand along each dimension of the result; 0 where it is repeated. */
static void broadcast_strides(const struct shape *operand, const struct shape *result, size_t strides[SHAPE_RANK_MAX])
{
    size_t stride = 1;
    for (int i = result->rank - 1; i >= 0; i--) {
        int at = i - (result->rank - operand->rank);
        strides[i] = at < 0 || operand->dimensions[at] == 1 ? 0 : stride;
        stride *= at < 0 ? 1 : (size_t)operand->dimensions[at];
    }
}

/* Moves a multi-index over `shape` to the next element and the operand offsets with it. */
static void advance(const struct shape *shape, int64_t index[SHAPE_RANK_MAX], const size_t strides[][SHAPE_RANK_MAX],
                    size_t offsets[], size_t operand_count)
{
    for (int i = shape->rank - 1; i >= 0; i--) {
        index[i]++;
        for (size_t operand = 0; operand < operand_count; operand++) {
            offsets[operand] += strides[operand][i];
        }
        if (index[i] < shape->dimensions[i]) {
            return;
        }
        for (size_t operand = 0; operand < operand_count; operand++) {
            offsets[operand] -= strides[operand][i] * (size_t)shape->dimensions[i];
        }
        index[i] = 0;
    }
}

static void compute_binary(const struct op_run *run, float (*operation)(float, float))
{
    const struct tensor *result = &run->outputs[0];
    size_t count = tensor_element_count(result);
    const float *a = run->inputs[0].data;
    const float *b = run->inputs[1].data;
    float *out = result->data;
    size_t strides[2][SHAPE_RANK_MAX];
    size_t offsets[2] = {0, 0};
    int64_t index[SHAPE_RANK_MAX] = {0};
    broadcast_strides(&run->inputs[0].shape, &result->shape, strides[0]);
    broadcast_strides(&run->inputs[1].shape, &result->shape, strides[1]);
    for (size_t i = 0; i < count; i++) {
        out[i] = operation(a[offsets[0]], b[offsets[1]]);
        advance(&result->shape, index, (const size_t(*)[SHAPE_RANK_MAX])strides, offsets, 2);
    }
}

/* Whether an operand needs no index: it is a scalar, or has the result's shape. */
static bool is_flat(const struct tensor *operand, const struct tensor *result)
{
    return tensor_element_count(operand) == 1 || shape_equal(&operand->shape, &result->shape);
}

/* Takes a gradient of the result back to the shape of an operand: sums over what was broadcast. */
static enum status add_sum_to_shape(struct graph *graph, struct output gradient, struct output operand,
                                    struct output *ret_output, struct error *error)
{
    struct output inputs[] = {gradient, operand};
    return graph_add(graph, "SumToShape", NULL, inputs, 2, ret_output, error);
}

static enum status add_binary(struct graph *graph, const char *op, struct output a, struct output b,
                              struct output *ret_output, struct error *error)
{
    struct output inputs[] = {a, b};
    return graph_add(graph, op, NULL, inputs, 2, ret_output, error);
}

static enum status add_unary(struct graph *graph, const char *op, struct output a, struct output *ret_output,
                             struct error *error)
{
    return graph_add(graph, op, NULL, &a, 1, ret_output, error);
}

#define BINARY_KERNEL(NAME, EXPRESSION)                                                                                \
    static float operation_##NAME(float a, float b)                                                                    \
    {                                                                                                                  \
        return EXPRESSION;                                                                                             \
    }                                                                                                                  \
    static enum status compute_##NAME(const struct op_run *run, struct error *error)                                   \
    {                                                                                                                  \
        (void)error;                                                                                                   \
        if (!is_flat(&run->inputs[0], run->outputs) || !is_flat(&run->inputs[1], run->outputs)) {                      \
            compute_binary(run, operation_##NAME);                                                                     \
            return STATUS_OK;                                                                                          \
        }                                                                                                              \
        size_t count = tensor_element_count(run->outputs);                                                             \
        size_t a_step = tensor_element_count(&run->inputs[0]) != 1;                                                    \
        size_t b_step = tensor_element_count(&run->inputs[1]) != 1;                                                    \
        const float *a = run->inputs[0].data;                                                                          \
        const float *b = run->inputs[1].data;                                                                          \
        float *out = run->outputs[0].data;                                                                             \
        for (size_t i = 0; i < count; i++) {                                                                           \
            out[i] = operation_##NAME(a[i * a_step], b[i * b_step]);                                                   \
        }                                                                                                              \
        return STATUS_OK;                                                                                              \
    }

BINARY_KERNEL(add, a + b)
BINARY_KERNEL(sub, a - b)
BINARY_KERNEL(mul, a *b)
BINARY_KERNEL(div, a / b)
BINARY_KERNEL(minimum, a < b || isnan(a) ? a : b)
BINARY_KERNEL(maximum, a > b || isnan(a) ? a : b)

static enum status gradient_add(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    TRY(add_sum_to_shape(graph, gradients[0], node->inputs[0], &ret[0], error));
    return add_sum_to_shape(graph, gradients[0], node->inputs[1], &ret[1], error);
}

static enum status gradient_sub(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    struct output negative;
    TRY(add_unary(graph, "Neg", gradients[0], &negative, error));
    TRY(add_sum_to_shape(graph, gradients[0], node->inputs[0], &ret[0], error));
    return add_sum_to_shape(graph, negative, node->inputs[1], &ret[1], error);
}

static enum status gradient_mul(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    for (size_t i = 0; i < 2; i++) {
        struct output product;
        TRY(add_binary(graph, "Mul", gradients[0], node->inputs[1 - i], &product, error));
        TRY(add_sum_to_shape(graph, product, node->inputs[i], &ret[i], error));
    }
    return STATUS_OK;
}

/* d(a/b) = g/b, −g·(a/b)/b */
static enum status gradient_div(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    struct output by_a;
    struct output quotient = {graph_node(graph, node->id), 0};
    struct output product;
    struct output negative;
    TRY(add_binary(graph, "RealDiv", gradients[0], node->inputs[1], &by_a, error));
    TRY(add_binary(graph, "Mul", by_a, quotient, &product, error));
    TRY(add_unary(graph, "Neg", product, &negative, error));
    TRY(add_sum_to_shape(graph, by_a, node->inputs[0], &ret[0], error));
    return add_sum_to_shape(graph, negative, node->inputs[1], &ret[1], error);
}

const struct op op_add = {
    .name = "Add", .input_count = 2, .infer = infer_broadcast, .compute = compute_add, .gradient = gradient_add};
const struct op op_sub = {
    .name = "Sub", .input_count = 2, .infer = infer_broadcast, .compute = compute_sub, .gradient = gradient_sub};
const struct op op_mul = {
    .name = "Mul", .input_count = 2, .infer = infer_broadcast, .compute = compute_mul, .gradient = gradient_mul};
const struct op op_div = {
    .name = "RealDiv", .input_count = 2, .infer = infer_broadcast, .compute = compute_div, .gradient = gradient_div};
const struct op op_minimum = {
    .name = "Minimum", .input_count = 2, .infer = infer_broadcast, .compute = compute_minimum};
const struct op op_maximum = {
    .name = "Maximum", .input_count = 2, .infer = infer_broadcast, .compute = compute_maximum};

/* ---- one input ---- */

#define UNARY_KERNEL(NAME, EXPRESSION)                                                                                 \
    static enum status compute_##NAME(const struct op_run *run, struct error *error)                                   \
    {                                                                                                                  \
        (void)error;                                                                                                   \
        size_t count = tensor_element_count(&run->outputs[0]);                                                         \
        const float *from = run->inputs[0].data;                                                                       \
        float *to = run->outputs[0].data;                                                                              \
        for (size_t i = 0; i < count; i++) {                                                                           \
            float x = from[i];                                                                                         \
            to[i] = EXPRESSION;                                                                                        \
        }                                                                                                              \
        return STATUS_OK;                                                                                              \
    }

UNARY_KERNEL(neg, -x)
UNARY_KERNEL(exp, expf(x))
UNARY_KERNEL(log, logf(x))
UNARY_KERNEL(sqrt, sqrtf(x))
UNARY_KERNEL(square, x *x)

static enum status compute_sigmoid(const struct op_run *run, struct error *error)
{
    (void)error;
    pointwise()->sigmoid(tensor_element_count(&run->outputs[0]), run->inputs[0].data, run->outputs[0].data);
    return STATUS_OK;
}

static enum status compute_tanh(const struct op_run *run, struct error *error)
{
    (void)error;
    pointwise()->tanh(tensor_element_count(&run->outputs[0]), run->inputs[0].data, run->outputs[0].data);
    return STATUS_OK;
}

static struct output own_output(struct graph *graph, const struct node *node)
{
    return (struct output){graph_node(graph, node->id), 0};
}

static enum status gradient_neg(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    (void)node;
    return add_unary(graph, "Neg", gradients[0], &ret[0], error);
}

static enum status gradient_exp(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    return add_binary(graph, "Mul", gradients[0], own_output(graph, node), &ret[0], error);
}

static enum status gradient_log(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    return add_binary(graph, "RealDiv", gradients[0], node->inputs[0], &ret[0], error);
}

/* d√x = g / (2√x) */
static enum status gradient_sqrt(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    struct output half;
    struct output scaled;
    TRY(graph_add_scalar(graph, "half", 0.5f, &half, error));
    TRY(add_binary(graph, "Mul", gradients[0], half, &scaled, error));
    return add_binary(graph, "RealDiv", scaled, own_output(graph, node), &ret[0], error);
}

static enum status gradient_square(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret, struct error *error)
{
    struct output two;
    struct output scaled;
    TRY(graph_add_scalar(graph, "two", 2.0f, &two, error));
    TRY(add_binary(graph, "Mul", gradients[0], two, &scaled, error));
    return add_binary(graph, "Mul", scaled, node->inputs[0], &ret[0], error);
}

static enum status gradient_sigmoid(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    return add_binary(graph, "SigmoidGrad", own_output(graph, node), gradients[0], &ret[0], error);
}

static enum status gradient_tanh(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    return add_binary(graph, "TanhGrad", own_output(graph, node), gradients[0], &ret[0], error);
}

const struct op op_neg = {
    .name = "Neg", .input_count = 1, .infer = infer_same, .compute = compute_neg, .gradient = gradient_neg};
const struct op op_exp = {
    .name = "Exp", .input_count = 1, .infer = infer_same, .compute = compute_exp, .gradient = gradient_exp};
const struct op op_log = {
    .name = "Log", .input_count = 1, .infer = infer_same, .compute = compute_log, .gradient = gradient_log};
const struct op op_sqrt = {
    .name = "Sqrt", .input_count = 1, .infer = infer_same, .compute = compute_sqrt, .gradient = gradient_sqrt};
const struct op op_square = {
    .name = "Square", .input_count = 1, .infer = infer_same, .compute = compute_square, .gradient = gradient_square};
const struct op op_sigmoid = {
    .name = "Sigmoid", .input_count = 1, .infer = infer_same, .compute = compute_sigmoid, .gradient = gradient_sigmoid};
const struct op op_tanh = {
    .name = "Tanh", .input_count = 1, .infer = infer_same, .compute = compute_tanh, .gradient = gradient_tanh};

/* y, dy → dx */
BINARY_KERNEL(sigmoid_grad, b *a *(1.0f - a))
BINARY_KERNEL(tanh_grad, b *(1.0f - a * a))
const struct op op_sigmoid_grad = {
    .name = "SigmoidGrad", .input_count = 2, .infer = infer_broadcast, .compute = compute_sigmoid_grad};
const struct op op_tanh_grad = {
    .name = "TanhGrad", .input_count = 2, .infer = infer_broadcast, .compute = compute_tanh_grad};

/* ---- sums ---- */

static enum status infer_add_n(struct inference *inference, struct error *error)
{
    TRY(expect_floats(inference, error));
    if (inference->input_count == 0) {
        return error_set(error, STATUS_INVALID, "'%s' (op: 'AddN') has no inputs", inference->node->name);
    }
    struct shape shape = inference->inputs[0].shape;
    for (size_t i = 1; i < inference->input_count; i++) {
        if (!shape_is_compatible(&shape, &inference->inputs[i].shape)) {
            return op_shape_error(inference, error, "Shapes must be equal");
        }
        shape = shape_merge(&shape, &inference->inputs[i].shape);
    }
    return one_output(inference, &shape);
}

static enum status compute_add_n(const struct op_run *run, struct error *error)
{
    (void)error;
    size_t count = tensor_element_count(&run->outputs[0]);
    memcpy(run->outputs[0].data, run->inputs[0].data, count * sizeof(float));
    for (size_t i = 1; i < run->input_count; i++) {
        pointwise()->add_to(count, run->inputs[i].data, run->outputs[0].data);
    }
    return STATUS_OK;
}

static enum status gradient_add_n(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    (void)graph;
    (void)error;
    for (size_t i = 0; i < node->input_count; i++) {
        ret[i] = gradients[0];
    }
    return STATUS_OK;
}

const struct op op_add_n = {.name = "AddN",
                            .input_count = OP_INPUTS_ANY,
                            .infer = infer_add_n,
                            .compute = compute_add_n,
                            .gradient = gradient_add_n};

/* SumToShape: gradient, like → the gradient summed over the dimensions that `like` was broadcast along. */
static enum status infer_like_second(struct inference *inference, struct error *error)
{
    (void)error;
    return one_output(inference, &inference->inputs[1].shape);
}

static enum status compute_sum_to_shape(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *from = &run->inputs[0];
    const struct tensor *to = &run->outputs[0];
    size_t count = tensor_element_count(from);
    memset(to->data, 0, tensor_bytes(to));
    size_t strides[1][SHAPE_RANK_MAX];
    size_t offset = 0;
    int64_t index[SHAPE_RANK_MAX] = {0};
    broadcast_strides(&to->shape, &from->shape, strides[0]);
    for (size_t i = 0; i < count; i++) {
        ((float *)to->data)[offset] += ((const float *)from->data)[i];
        advance(&from->shape, index, (const size_t(*)[SHAPE_RANK_MAX])strides, &offset, 1);
    }
    return STATUS_OK;
}

static enum status gradient_broadcast_back(struct graph *graph, const struct node *node, const struct output *gradients,
                                           struct output *ret, struct error *error)
{
    return add_binary(graph, "BroadcastLike", gradients[0], node->inputs[0], &ret[0], error);
}

const struct op op_sum_to_shape = {.name = "SumToShape",
                                   .input_count = 2,
                                   .infer = infer_like_second,
                                   .compute = compute_sum_to_shape,
                                   .gradient = gradient_broadcast_back};

/* BroadcastLike: x, like → x repeated to like's shape; attribute scale multiplies, attribute divide_by_count divides
 * by like's elements. */
static enum status compute_broadcast_like(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *to = &run->outputs[0];
    size_t count = tensor_element_count(to);
    float factor = node_attribute_boolean(run->node, "divide_by_count", false) ? 1.0f / (float)count : 1.0f;
    size_t strides[1][SHAPE_RANK_MAX];
    size_t offset = 0;
    int64_t index[SHAPE_RANK_MAX] = {0};
    broadcast_strides(&run->inputs[0].shape, &to->shape, strides[0]);
    for (size_t i = 0; i < count; i++) {
        ((float *)to->data)[i] = factor * ((const float *)run->inputs[0].data)[offset];
        advance(&to->shape, index, (const size_t(*)[SHAPE_RANK_MAX])strides, &offset, 1);
    }
    return STATUS_OK;
}

const struct op op_broadcast_like = {
    .name = "BroadcastLike", .input_count = 2, .infer = infer_like_second, .compute = compute_broadcast_like};

/* Sum, Mean over all elements → scalar. Added up in double. */
static enum status infer_scalar(struct inference *inference, struct error *error)
{
    TRY(expect_floats(inference, error));
    struct shape scalar = shape_scalar();
    return one_output(inference, &scalar);
}

static double sum_of(const struct tensor *tensor)
{
    double sum = 0;
    size_t count = tensor_element_count(tensor);
    for (size_t i = 0; i < count; i++) {
        sum += (double)((const float *)tensor->data)[i];
    }
    return sum;
}

static enum status compute_sum(const struct op_run *run, struct error *error)
{
    (void)error;
    *(float *)run->outputs[0].data = (float)sum_of(&run->inputs[0]);
    return STATUS_OK;
}

static enum status compute_mean(const struct op_run *run, struct error *error)
{
    (void)error;
    *(float *)run->outputs[0].data = (float)(sum_of(&run->inputs[0]) / (double)tensor_element_count(&run->inputs[0]));
    return STATUS_OK;
}

static enum status gradient_mean(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    struct attribute divide = {.name = "divide_by_count", .kind = ATTRIBUTE_BOOLEAN, .boolean = true};
    struct output inputs[] = {gradients[0], node->inputs[0]};
    struct node_options options = {.inputs = inputs, .input_count = 2, .attributes = &divide, .attribute_count = 1};
    struct node *broadcast = NULL;
    TRY(graph_add_node(graph, "BroadcastLike", &options, &broadcast, error));
    ret[0] = (struct output){broadcast, 0};
    return STATUS_OK;
}

const struct op op_sum = {.name = "Sum",
                          .input_count = 1,
                          .infer = infer_scalar,
                          .compute = compute_sum,
                          .gradient = gradient_broadcast_back};
const struct op op_mean = {
    .name = "Mean", .input_count = 1, .infer = infer_scalar, .compute = compute_mean, .gradient = gradient_mean};

/* GlobalNorm: any tensors → the square root of the sum of all squares. Added up in double, in the order of the
 * inputs. */
static enum status compute_global_norm(const struct op_run *run, struct error *error)
{
    (void)error;
    double sum = 0;
    for (size_t i = 0; i < run->input_count; i++) {
        size_t count = tensor_element_count(&run->inputs[i]);
        const float *values = run->inputs[i].data;
        for (size_t e = 0; e < count; e++) {
            sum += (double)values[e] * (double)values[e];
        }
    }
    *(float *)run->outputs[0].data = (float)sqrt(sum);
    return STATUS_OK;
}

const struct op op_global_norm = {
    .name = "GlobalNorm", .input_count = OP_INPUTS_ANY, .infer = infer_scalar, .compute = compute_global_norm};

/* ---- products of matrices ---- */

static int64_t merge_dimension(int64_t a, int64_t b)
{
    return a == DIMENSION_UNKNOWN ? b : a;
}

static enum status infer_matmul(struct inference *inference, struct error *error)
{
    int64_t sizes[2][2];
    for (size_t i = 0; i < 2; i++) {
        TRY(op_expect(inference, i, DTYPE_FLOAT32, 2, error));
        const struct shape *shape = &inference->inputs[i].shape;
        bool is_transposed = node_attribute_boolean(inference->node, i == 0 ? "transpose_a" : "transpose_b", false);
        for (int d = 0; d < 2; d++) {
            sizes[i][d] =
                shape->rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : shape->dimensions[is_transposed ? 1 - d : d];
        }
    }
    int64_t inner = merge_dimension(sizes[0][1], sizes[1][0]);
    if (sizes[1][0] != DIMENSION_UNKNOWN && inner != sizes[1][0]) {
        return op_dimensions_error(inference, sizes[0][1], sizes[1][0], error);
    }
    struct shape shape = shape_matrix(sizes[0][0], sizes[1][1]);
    return one_output(inference, &shape);
}

static enum status compute_matmul(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *a = &run->inputs[0];
    const struct tensor *b = &run->inputs[1];
    bool is_a_transposed = node_attribute_boolean(run->node, "transpose_a", false);
    bool is_b_transposed = node_attribute_boolean(run->node, "transpose_b", false);
    const struct shape *result = &run->outputs[0].shape;
    size_t inner = (size_t)a->shape.dimensions[is_a_transposed ? 0 : 1];
    struct gemm_operand left = {a->data, (size_t)a->shape.dimensions[1],
                                is_a_transposed ? GEMM_TRANSPOSED : GEMM_PLAIN};
    struct gemm_operand right = {b->data, (size_t)b->shape.dimensions[1],
                                 is_b_transposed ? GEMM_TRANSPOSED : GEMM_PLAIN};
    gemm((size_t)result->dimensions[0], (size_t)result->dimensions[1], inner, left, right, 0, run->outputs[0].data,
         (size_t)result->dimensions[1]);
    return STATUS_OK;
}

static enum status add_product(struct graph *graph, struct output a, bool is_a_transposed, struct output b,
                               bool is_b_transposed, struct output *ret_output, struct error *error)
{
    struct attribute attributes[] = {{.name = "transpose_a", .kind = ATTRIBUTE_BOOLEAN, .boolean = is_a_transposed},
                                     {.name = "transpose_b", .kind = ATTRIBUTE_BOOLEAN, .boolean = is_b_transposed}};
    struct output inputs[] = {a, b};
    struct node_options options = {.inputs = inputs, .input_count = 2, .attributes = attributes, .attribute_count = 2};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "MatMul", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

/* C = op(A) op(B): with A' and B' the stored matrices, dA = g Bᵀ and dB = Aᵀ g, transposed where the operand was. */
static enum status gradient_matmul(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret, struct error *error)
{
    bool a_transposed = node_attribute_boolean(node, "transpose_a", false);
    bool b_transposed = node_attribute_boolean(node, "transpose_b", false);
    struct output a = node->inputs[0];
    struct output b = node->inputs[1];
    struct output g = gradients[0];
    if (a_transposed) {
        TRY(add_product(graph, b, b_transposed, g, true, &ret[0], error));
    } else {
        TRY(add_product(graph, g, false, b, !b_transposed, &ret[0], error));
    }
    return b_transposed ? add_product(graph, g, true, a, a_transposed, &ret[1], error)
                        : add_product(graph, a, !a_transposed, g, false, &ret[1], error);
}

const struct op op_matmul = {
    .name = "MatMul", .input_count = 2, .infer = infer_matmul, .compute = compute_matmul, .gradient = gradient_matmul};

/* BiasAdd: x [..., n], bias [n] */
static enum status infer_bias_add(struct inference *inference, struct error *error)
{
    TRY(expect_floats(inference, error));
    TRY(op_expect(inference, 1, DTYPE_FLOAT32, 1, error));
    const struct shape *x = &inference->inputs[0].shape;
    const struct shape *bias = &inference->inputs[1].shape;
    if (x->rank != SHAPE_RANK_UNKNOWN && x->rank < 2) {
        return op_shape_error(inference, error, "Shape must be at least rank 2 but is rank %d", x->rank);
    }
    if (x->rank > 0 && bias->rank == 1 && x->dimensions[x->rank - 1] != DIMENSION_UNKNOWN &&
        bias->dimensions[0] != DIMENSION_UNKNOWN && x->dimensions[x->rank - 1] != bias->dimensions[0]) {
        return op_dimensions_error(inference, x->dimensions[x->rank - 1], bias->dimensions[0], error);
    }
    return one_output(inference, x);
}

static enum status compute_bias_add(const struct op_run *run, struct error *error)
{
    (void)error;
    size_t columns = (size_t)run->inputs[1].shape.dimensions[0];
    size_t count = tensor_element_count(&run->outputs[0]);
    memcpy(run->outputs[0].data, run->inputs[0].data, count * sizeof(float));
    for (size_t at = 0; at < count; at += columns) {
        pointwise()->add_to(columns, run->inputs[1].data, (float *)run->outputs[0].data + at);
    }
    return STATUS_OK;
}

static enum status gradient_bias_add(struct graph *graph, const struct node *node, const struct output *gradients,
                                     struct output *ret, struct error *error)
{
    ret[0] = gradients[0];
    struct output inputs[] = {gradients[0], node->inputs[1]};
    return graph_add(graph, "BiasAddGrad", NULL, inputs, 2, &ret[1], error);
}

const struct op op_bias_add = {.name = "BiasAdd",
                               .input_count = 2,
                               .infer = infer_bias_add,
                               .compute = compute_bias_add,
                               .gradient = gradient_bias_add};

/* BiasAddGrad: g [..., n], bias [n] → sums over the rows */
static enum status compute_bias_add_grad(const struct op_run *run, struct error *error)
{
    (void)error;
    size_t columns = (size_t)run->outputs[0].shape.dimensions[0];
    size_t count = tensor_element_count(&run->inputs[0]);
    memset(run->outputs[0].data, 0, columns * sizeof(float));
    for (size_t at = 0; at < count; at += columns) {
        pointwise()->add_to(columns, (const float *)run->inputs[0].data + at, run->outputs[0].data);
    }
    return STATUS_OK;
}

const struct op op_bias_add_grad = {
    .name = "BiasAddGrad", .input_count = 2, .infer = infer_like_second, .compute = compute_bias_add_grad};
