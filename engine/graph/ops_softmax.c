/* Softmax and LogSoftmax along one dimension (attribute axis; the last), L2Loss. float32, float64. Thread: see op.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/function.h"
#include "engine/graph/ops_softmax.h"
#include "engine/math/pointwise.h"

bool softmax_view(const struct node *node, const struct shape *shape, struct softmax_view *ret_view)
{
    int64_t axis = node_attribute_integer(node, "axis", -1);
    axis += axis < 0 ? shape->rank : 0;
    if (axis < 0 || axis >= shape->rank) {
        return false;
    }
    *ret_view = (struct softmax_view){.rows = 1, .classes = (size_t)shape->dimensions[axis], .stride = 1};
    for (int i = 0; i < shape->rank; i++) {
        ret_view->rows *= i == axis ? 1 : (size_t)shape->dimensions[i];
        ret_view->stride *= i > axis ? (size_t)shape->dimensions[i] : 1;
    }
    return true;
}

size_t softmax_row(const struct softmax_view *view, size_t row)
{
    return row / view->stride * view->classes * view->stride + row % view->stride;
}

double softmax_log_sum(const struct tensor *logits, const struct softmax_view *view, size_t start, double *ret_greatest)
{
    double greatest = -HUGE_VAL;
    for (size_t i = 0; i < view->classes; i++) {
        double logit = float_element(logits, start + i * view->stride);
        greatest = logit > greatest ? logit : greatest;
    }
    double sum = 0;
    for (size_t i = 0; i < view->classes; i++) {
        sum += exp(float_element(logits, start + i * view->stride) - greatest);
    }
    *ret_greatest = greatest;
    return log(sum);
}

void softmax_fill(const struct tensor *logits, const struct softmax_view *view, struct tensor *probabilities)
{
    if (logits->dtype == DTYPE_FLOAT32 && view->stride == 1) {
        pointwise()->softmax(view->rows, view->classes, logits->data, probabilities->data);
        return;
    }
    for (size_t row = 0; row < view->rows; row++) {
        double greatest = 0;
        size_t start = softmax_row(view, row);
        double log_sum = softmax_log_sum(logits, view, start, &greatest);
        for (size_t i = 0; i < view->classes; i++) {
            size_t at = start + i * view->stride;
            float_set(probabilities, at, exp(float_element(logits, at) - greatest - log_sum));
        }
    }
}

/* ---- Softmax ---- */

enum status softmax_check(const struct inference *inference, const char *parameter, struct error *error)
{
    const struct shape *shape = &inference->inputs[0].shape;
    int64_t axis = node_attribute_integer(inference->node, "axis", -1);
    TRY(op_check_type(inference, 0, parameter, TYPES_FLOAT, error));
    if (shape->rank == 0) {
        return op_shape_error(inference, error, "Shape must be at least rank 1 but is rank 0");
    }
    if (shape->rank > 0 && (axis < -shape->rank || axis >= shape->rank)) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_INVALID_ARGUMENT,
                           "dim must be in the range [%d, %d) where %d is the number of dimensions in "
                           "the input, but is %lld",
                           -shape->rank, shape->rank, shape->rank, (long long)axis);
    }
    return STATUS_OK;
}

static enum status infer_softmax(struct inference *inference, struct error *error)
{
    TRY(softmax_check(inference, "logits", error));
    return op_infer_same(inference, error);
}

static enum status compute_softmax(const struct op_run *run, struct error *error)
{
    (void)error;
    struct softmax_view view;
    CHECK(softmax_view(run->node, &run->inputs[0].shape, &view));
    softmax_fill(&run->inputs[0], &view, &run->outputs[0]);
    return STATUS_OK;
}

enum status softmax_add_sum(struct graph *graph, const struct node *node, struct output x, struct output *ret_sum,
                            struct error *error)
{
    struct output inputs[2] = {x};
    struct attribute keep = {.name = "keep_dims", .kind = ATTRIBUTE_BOOLEAN, .boolean = true};
    struct node_options options = {.inputs = inputs, .input_count = 2, .attributes = &keep, .attribute_count = 1};
    struct node *sum = NULL;
    TRY(graph_add_integer(graph, NULL, node_attribute_integer(node, "axis", -1), &inputs[1], error));
    TRY(graph_add_node(graph, "Sum", &options, &sum, error));
    *ret_sum = (struct output){sum, 0};
    return STATUS_OK;
}

/* dx = (dy − Σ y dy) y, of plain ops, so that it can be differentiated again. */
static enum status gradient_softmax(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    struct output y = node_own_output(graph, node, 0);
    struct output product;
    struct output sum;
    struct output difference;
    TRY(graph_add_binary(graph, "Mul", gradients[0], y, &product, error));
    TRY(softmax_add_sum(graph, node, product, &sum, error));
    TRY(graph_add_binary(graph, "Sub", gradients[0], sum, &difference, error));
    return graph_add_binary(graph, "Mul", difference, y, &ret[0], error);
}

static const struct attribute_rule axis_attribute[] = {
    {.name = "axis", .called = "dim", .kind = ATTRIBUTE_INTEGER, .otherwise = -1}, {0}};

const struct op op_softmax = {.name = "Softmax",
                              .input_count = 1,
                              .infer = infer_softmax,
                              .compute = compute_softmax,
                              .gradient = gradient_softmax,
                              .call = "softmax",
                              .arguments = "logits",
                              .argument_types = "f",
                              .attributes = axis_attribute};

/* ---- LogSoftmax ---- */

static enum status compute_log_softmax(const struct op_run *run, struct error *error)
{
    (void)error;
    struct softmax_view view;
    const struct tensor *logits = &run->inputs[0];
    CHECK(softmax_view(run->node, &logits->shape, &view));
    for (size_t row = 0; row < view.rows; row++) {
        double greatest = 0;
        size_t start = softmax_row(&view, row);
        double log_sum = softmax_log_sum(logits, &view, start, &greatest);
        for (size_t i = 0; i < view.classes; i++) {
            size_t at = start + i * view.stride;
            float_set(&run->outputs[0], at, float_element(logits, at) - greatest - log_sum);
        }
    }
    return STATUS_OK;
}

/* dx = dy − (Σ dy) exp(y) */
static enum status gradient_log_softmax(struct graph *graph, const struct node *node, const struct output *gradients,
                                        struct output *ret, struct error *error)
{
    struct output probabilities;
    struct output sum;
    struct output product;
    TRY(graph_add_unary(graph, "Exp", node_own_output(graph, node, 0), &probabilities, error));
    TRY(softmax_add_sum(graph, node, gradients[0], &sum, error));
    TRY(graph_add_binary(graph, "Mul", sum, probabilities, &product, error));
    return graph_add_binary(graph, "Sub", gradients[0], product, &ret[0], error);
}

const struct op op_log_softmax = {.name = "LogSoftmax",
                                  .input_count = 1,
                                  .infer = infer_softmax,
                                  .compute = compute_log_softmax,
                                  .gradient = gradient_log_softmax,
                                  .call = "log_softmax",
                                  .arguments = "logits",
                                  .argument_types = "f",
                                  .attributes = axis_attribute};

/* ---- L2Loss: ½ Σ x², added up in double ---- */

static enum status infer_l2_loss(struct inference *inference, struct error *error)
{
    struct shape scalar = shape_scalar();
    TRY(op_check_type(inference, 0, "t", TYPES_FLOAT, error));
    return op_one_output(inference, inference->inputs[0].dtype, &scalar);
}

static enum status compute_l2_loss(const struct op_run *run, struct error *error)
{
    (void)error;
    double sum = 0;
    size_t count = tensor_element_count(&run->inputs[0]);
    for (size_t i = 0; i < count; i++) {
        double x = float_element(&run->inputs[0], i);
        sum += x * x;
    }
    float_set(&run->outputs[0], 0, sum / 2);
    return STATUS_OK;
}

static enum status gradient_l2_loss(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    return graph_add_binary(graph, "Mul", node->inputs[0], gradients[0], &ret[0], error);
}

const struct op op_l2_loss = {.name = "L2Loss",
                              .input_count = 1,
                              .infer = infer_l2_loss,
                              .compute = compute_l2_loss,
                              .gradient = gradient_l2_loss,
                              .call = "l2_loss",
                              .arguments = "t",
                              .argument_types = "f"};
