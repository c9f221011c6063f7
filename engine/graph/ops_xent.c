/* Cross-entropies of logits: with one class as label, with a distribution as label. float32, float64. Logits may have
 * any rank from 1; TensorFlow's Python functions reshape to rows and back instead. Thread: see op.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/function.h"
#include "engine/graph/ops_softmax.h"
#include "engine/math/pointwise.h"

/* ---- SparseSoftmaxCrossEntropyWithLogits: features […, classes], labels […] → loss […], backprop (probabilities −
 * one-hot label), probabilities (what the gradient reads; not TensorFlow's) ---- */

static enum status infer_sparse(struct inference *inference, struct error *error)
{
    TRY(softmax_check(inference, "features", error));
    TRY(op_check_type(inference, 1, "labels", TYPES_INTEGER, error));
    const struct shape *logits = &inference->inputs[0].shape;
    const struct shape *labels = &inference->inputs[1].shape;
    struct shape loss = *labels;
    if (logits->rank != SHAPE_RANK_UNKNOWN) {
        struct shape rows = *logits;
        rows.rank--;
        if (labels->rank != SHAPE_RANK_UNKNOWN && labels->rank != rows.rank) {
            return op_shape_error(inference, error, "Shape must be rank %d but is rank %d", rows.rank, labels->rank);
        }
        for (int i = 0; labels->rank != SHAPE_RANK_UNKNOWN && i < rows.rank; i++) {
            bool is_known = rows.dimensions[i] != DIMENSION_UNKNOWN && labels->dimensions[i] != DIMENSION_UNKNOWN;
            if (is_known && rows.dimensions[i] != labels->dimensions[i]) {
                return op_dimensions_error(inference, rows.dimensions[i], labels->dimensions[i], error);
            }
        }
        loss = shape_merge(&rows, labels);
    }
    enum dtype dtype = inference->inputs[0].dtype;
    inference->outputs[0] = (struct output_type){dtype, loss};
    inference->outputs[1] = inference->inputs[0];
    inference->outputs[2] = inference->inputs[0];
    inference->output_count = 3;
    return STATUS_OK;
}

/* −log p of a label; where p all but vanishes, from the logits themselves. */
static double sparse_loss(const struct tensor *logits, const struct softmax_view *view, size_t start, size_t label,
                          const struct tensor *probabilities)
{
    if (logits->dtype == DTYPE_FLOAT32) {
        float p = ((const float *)probabilities->data)[start + label];
        if (p > 1e-30f || isnan(p)) {
            return (double)-logf(p);
        }
    }
    double greatest = 0;
    double log_sum = softmax_log_sum(logits, view, start, &greatest);
    return log_sum + greatest - float_element(logits, start + label);
}

static enum status compute_sparse(const struct op_run *run, struct error *error)
{
    struct softmax_view view;
    const struct tensor *logits = &run->inputs[0];
    struct tensor *backprop = &run->outputs[1];
    struct tensor *probabilities = &run->outputs[2];
    CHECK(softmax_view(run->node, &logits->shape, &view));
    softmax_fill(logits, &view, probabilities);
    memcpy(backprop->data, probabilities->data, tensor_bytes(probabilities));
    for (size_t row = 0; row < view.rows; row++) {
        int64_t label = tensor_integer(&run->inputs[1], row);
        if (label < 0 || (uint64_t)label >= view.classes) {
            return op_run_error(run, error,
                                "Received a label value of %lld which is outside the valid range of [0, %zu).",
                                (long long)label, view.classes);
        }
        size_t start = row * view.classes;
        float_set(&run->outputs[0], row, sparse_loss(logits, &view, start, (size_t)label, probabilities));
        float_set(backprop, start + (size_t)label, float_element(backprop, start + (size_t)label) - 1);
    }
    return STATUS_OK;
}

static enum status gradient_sparse(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret, struct error *error)
{
    if (gradients[0].node == NULL) {
        return STATUS_OK;
    }
    struct output inputs[] = {node_own_output(graph, node, 2), node->inputs[1], gradients[0]};
    return graph_add(graph, "SparseSoftmaxCrossEntropyGrad", NULL, inputs, 3, &ret[0], error);
}

const struct op op_sparse_xent = {.name = "SparseSoftmaxCrossEntropyWithLogits",
                                  .input_count = 2,
                                  .infer = infer_sparse,
                                  .compute = compute_sparse,
                                  .gradient = gradient_sparse};

/* probabilities, labels, dloss → dlogits = (p − one-hot(label)) dloss */
static enum status compute_sparse_grad(const struct op_run *run, struct error *error)
{
    (void)error;
    struct softmax_view view;
    const struct tensor *probabilities = &run->inputs[0];
    struct tensor *to = &run->outputs[0];
    CHECK(softmax_view(run->node, &probabilities->shape, &view));
    for (size_t row = 0; row < view.rows; row++) {
        size_t start = row * view.classes;
        size_t label = start + (size_t)tensor_integer(&run->inputs[1], row);
        double d_loss = float_element(&run->inputs[2], row);
        if (to->dtype == DTYPE_FLOAT32) {
            float *values = to->data;
            pointwise()->scale(view.classes, (float)d_loss, (const float *)probabilities->data + start, values + start);
            values[label] -= (float)d_loss;
            continue;
        }
        for (size_t i = start; i < start + view.classes; i++) {
            float_set(to, i, float_element(probabilities, i) * d_loss);
        }
        float_set(to, label, float_element(to, label) - d_loss);
    }
    return STATUS_OK;
}

/* TensorFlow refuses the second derivative; so its text. */
static enum status gradient_sparse_grad(struct graph *graph, const struct node *node, const struct output *gradients,
                                        struct output *ret, struct error *error)
{
    (void)graph;
    (void)node;
    (void)gradients;
    (void)ret;
    return error_raise(
        error, STATUS_UNPROCESSABLE, EXCEPTION_LOOKUP,
        "Gradient explicitly disabled. Reason: b\"Currently there is no way to take the second derivative of "
        "sparse_softmax_cross_entropy_with_logits due to the fused implementation's interaction with "
        "tf.gradients()\"");
}

const struct op op_sparse_xent_grad = {.name = "SparseSoftmaxCrossEntropyGrad",
                                       .input_count = 3,
                                       .infer = op_infer_same,
                                       .compute = compute_sparse_grad,
                                       .gradient = gradient_sparse_grad};

/* ---- SoftmaxCrossEntropyWithLogits: features, labels (alike) → loss (without the last dimension), backprop
 * (probabilities − labels) ---- */

static enum status infer_dense(struct inference *inference, struct error *error)
{
    TRY(softmax_check(inference, "features", error));
    TRY(op_check_same_type(inference, 1, "labels", 0, "features", error));
    const struct shape *logits = &inference->inputs[0].shape;
    const struct shape *labels = &inference->inputs[1].shape;
    if (!shape_is_compatible(logits, labels)) {
        char logits_text[SHAPE_TEXT_BYTES_MAX];
        char labels_text[SHAPE_TEXT_BYTES_MAX];
        return op_shape_error(inference, error,
                              "logits and labels must be the same size: logits_size=%s labels_size=%s",
                              shape_cpp_text(logits, logits_text), shape_cpp_text(labels, labels_text));
    }
    struct shape both = shape_merge(logits, labels);
    struct shape loss = both;
    if (both.rank != SHAPE_RANK_UNKNOWN) {
        int64_t axis = node_attribute_integer(inference->node, "axis", -1);
        axis += axis < 0 ? both.rank : 0;
        loss.rank--;
        memmove(loss.dimensions + axis, loss.dimensions + axis + 1, (size_t)(loss.rank - axis) * sizeof(int64_t));
    }
    inference->outputs[0] = (struct output_type){inference->inputs[0].dtype, loss};
    inference->outputs[1] = (struct output_type){inference->inputs[0].dtype, both};
    inference->output_count = 2;
    return STATUS_OK;
}

static enum status compute_dense(const struct op_run *run, struct error *error)
{
    (void)error;
    struct softmax_view view;
    const struct tensor *logits = &run->inputs[0];
    const struct tensor *labels = &run->inputs[1];
    CHECK(softmax_view(run->node, &logits->shape, &view));
    for (size_t row = 0; row < view.rows; row++) {
        double greatest = 0;
        double loss = 0;
        size_t start = softmax_row(&view, row);
        double log_sum = softmax_log_sum(logits, &view, start, &greatest);
        for (size_t i = 0; i < view.classes; i++) {
            size_t at = start + i * view.stride;
            double log_p = float_element(logits, at) - greatest - log_sum;
            double label = float_element(labels, at);
            loss -= label == 0 ? 0 : label * log_p; /* also where log p is −∞ */
            float_set(&run->outputs[1], at, exp(log_p) - label);
        }
        float_set(&run->outputs[0], row, loss);
    }
    return STATUS_OK;
}

/* A gradient of the losses as a factor for the logits: the dimension that was summed away is put back. */
static enum status expand_loss(struct graph *graph, const struct node *node, struct output d_loss,
                               struct output *ret_output, struct error *error)
{
    struct output inputs[2] = {d_loss};
    TRY(graph_add_integer(graph, "dim", node_attribute_integer(node, "axis", -1), &inputs[1], error));
    return graph_add(graph, "ExpandDims", NULL, inputs, 2, ret_output, error);
}

/* What a gradient g of backprop adds: (g − Σ g p) p. */
static enum status add_second(struct graph *graph, const struct node *node, struct output g, struct output *gradient,
                              struct error *error)
{
    struct output p;
    struct output product;
    struct output sum;
    struct output difference;
    struct output second;
    struct attribute axis = {
        .name = "axis", .kind = ATTRIBUTE_INTEGER, .integer = node_attribute_integer(node, "axis", -1)};
    struct node_options options = {
        .inputs = &node->inputs[0], .input_count = 1, .attributes = &axis, .attribute_count = 1};
    struct node *softmax = NULL;
    TRY(graph_add_node(graph, "Softmax", &options, &softmax, error));
    p = (struct output){softmax, 0};
    TRY(graph_add_binary(graph, "Mul", g, p, &product, error));
    TRY(softmax_add_sum(graph, node, product, &sum, error));
    TRY(graph_add_binary(graph, "Sub", g, sum, &difference, error));
    TRY(graph_add_binary(graph, "Mul", difference, p, &second, error));
    if (gradient->node == NULL) {
        *gradient = second;
        return STATUS_OK;
    }
    return graph_add_binary(graph, "Add", *gradient, second, gradient, error);
}

static enum status gradient_dense(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    if (gradients[0].node != NULL) {
        struct output factor;
        struct output log_p;
        struct output negative;
        struct attribute axis = {
            .name = "axis", .kind = ATTRIBUTE_INTEGER, .integer = node_attribute_integer(node, "axis", -1)};
        struct node_options options = {
            .inputs = &node->inputs[0], .input_count = 1, .attributes = &axis, .attribute_count = 1};
        struct node *log_softmax = NULL;
        TRY(expand_loss(graph, node, gradients[0], &factor, error));
        TRY(graph_add_binary(graph, "Mul", factor, node_own_output(graph, node, 1), &ret[0], error));
        TRY(graph_add_node(graph, "LogSoftmax", &options, &log_softmax, error));
        log_p = (struct output){log_softmax, 0};
        TRY(graph_add_unary(graph, "Neg", log_p, &negative, error));
        TRY(graph_add_binary(graph, "Mul", factor, negative, &ret[1], error));
    }
    if (gradients[1].node == NULL) {
        return STATUS_OK;
    }
    TRY(add_second(graph, node, gradients[1], &ret[0], error));
    struct output by_labels;
    TRY(graph_add_unary(graph, "Neg", gradients[1], &by_labels, error));
    if (ret[1].node == NULL) {
        ret[1] = by_labels;
        return STATUS_OK;
    }
    return graph_add_binary(graph, "Add", ret[1], by_labels, &ret[1], error);
}

const struct op op_softmax_xent = {.name = "SoftmaxCrossEntropyWithLogits",
                                   .input_count = 2,
                                   .infer = infer_dense,
                                   .compute = compute_dense,
                                   .gradient = gradient_dense};
