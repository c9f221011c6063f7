/* Ops of neural networks but the recurrence: softmax, cross-entropy, dropout. float32. Thread: see op.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/base/rng.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"
#include "engine/math/pointwise.h"

static enum status infer_float_like_first(struct inference *inference, struct error *error)
{
    TRY(op_expect(inference, 0, DTYPE_FLOAT32, SHAPE_RANK_UNKNOWN, error));
    inference->outputs[0] = inference->inputs[0];
    inference->output_count = 1;
    return STATUS_OK;
}

static size_t last_dimension(const struct tensor *tensor)
{
    return (size_t)tensor->shape.dimensions[tensor->shape.rank - 1];
}

static size_t row_count(const struct tensor *tensor)
{
    size_t columns = last_dimension(tensor);
    return columns == 0 ? 0 : tensor_element_count(tensor) / columns;
}

/* ---- Softmax over the last dimension ---- */

static enum status infer_softmax(struct inference *inference, struct error *error)
{
    if (inference->inputs[0].shape.rank == 0) {
        return op_shape_error(inference, error, "Shape must be at least rank 1 but is rank 0");
    }
    return infer_float_like_first(inference, error);
}

static enum status compute_softmax(const struct op_run *run, struct error *error)
{
    (void)error;
    pointwise()->softmax(row_count(&run->inputs[0]), last_dimension(&run->inputs[0]), run->inputs[0].data,
                         run->outputs[0].data);
    return STATUS_OK;
}

static enum status gradient_softmax(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    struct output inputs[] = {{graph_node(graph, node->id), 0}, gradients[0]};
    return graph_add(graph, "SoftmaxGrad", NULL, inputs, 2, &ret[0], error);
}

const struct op op_softmax = {.name = "Softmax",
                              .input_count = 1,
                              .infer = infer_softmax,
                              .compute = compute_softmax,
                              .gradient = gradient_softmax};

/* SoftmaxGrad: y, dy → dx = y (dy − Σ y dy) */
static enum status compute_softmax_grad(const struct op_run *run, struct error *error)
{
    (void)error;
    size_t columns = last_dimension(&run->inputs[0]);
    size_t rows = row_count(&run->inputs[0]);
    for (size_t row = 0; row < rows; row++) {
        const float *y = (const float *)run->inputs[0].data + row * columns;
        const float *dy = (const float *)run->inputs[1].data + row * columns;
        float *dx = (float *)run->outputs[0].data + row * columns;
        double dot = 0;
        for (size_t i = 0; i < columns; i++) {
            dot += (double)y[i] * (double)dy[i];
        }
        for (size_t i = 0; i < columns; i++) {
            dx[i] = y[i] * (dy[i] - (float)dot);
        }
    }
    return STATUS_OK;
}

const struct op op_softmax_grad = {
    .name = "SoftmaxGrad", .input_count = 2, .infer = infer_float_like_first, .compute = compute_softmax_grad};

/* ---- SparseSoftmaxCrossEntropyWithLogits: logits [n, classes], labels int32 [n] → loss [n], probabilities ---- */

static enum status infer_sparse_xent(struct inference *inference, struct error *error)
{
    TRY(op_expect(inference, 0, DTYPE_FLOAT32, 2, error));
    TRY(op_expect(inference, 1, DTYPE_INT32, 1, error));
    const struct shape *logits = &inference->inputs[0].shape;
    const struct shape *labels = &inference->inputs[1].shape;
    int64_t rows = logits->rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : logits->dimensions[0];
    int64_t label_count = labels->rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : labels->dimensions[0];
    if (rows != DIMENSION_UNKNOWN && label_count != DIMENSION_UNKNOWN && rows != label_count) {
        return op_dimensions_error(inference, rows, label_count, error);
    }
    struct shape loss = shape_vector(rows == DIMENSION_UNKNOWN ? label_count : rows);
    inference->outputs[0] = (struct output_type){DTYPE_FLOAT32, loss};
    inference->outputs[1] = inference->inputs[0];
    inference->output_count = 2;
    return STATUS_OK;
}

static enum status compute_sparse_xent(const struct op_run *run, struct error *error)
{
    size_t columns = last_dimension(&run->inputs[0]);
    size_t rows = row_count(&run->inputs[0]);
    const float *logits = run->inputs[0].data;
    const int32_t *labels = run->inputs[1].data;
    float *probabilities = run->outputs[1].data;
    pointwise()->softmax(rows, columns, logits, probabilities);
    for (size_t row = 0; row < rows; row++) {
        if (labels[row] < 0 || (size_t)labels[row] >= columns) {
            return op_run_error(run, error,
                                "Received a label value of %d which is outside the valid range of [0, %zu).",
                                labels[row], columns);
        }
        float p = probabilities[row * columns + (size_t)labels[row]];
        ((float *)run->outputs[0].data)[row] = -logf(p < 1e-37f ? 1e-37f : p);
    }
    return STATUS_OK;
}

static enum status gradient_sparse_xent(struct graph *graph, const struct node *node, const struct output *gradients,
                                        struct output *ret, struct error *error)
{
    if (gradients[0].node == NULL) {
        return STATUS_OK;
    }
    struct output inputs[] = {{graph_node(graph, node->id), 1}, node->inputs[1], gradients[0]};
    return graph_add(graph, "SparseSoftmaxCrossEntropyGrad", NULL, inputs, 3, &ret[0], error);
}

const struct op op_sparse_xent = {.name = "SparseSoftmaxCrossEntropyWithLogits",
                                  .input_count = 2,
                                  .infer = infer_sparse_xent,
                                  .compute = compute_sparse_xent,
                                  .gradient = gradient_sparse_xent};

/* probabilities, labels, dloss [n] → dlogits = (p − one-hot(label)) dloss */
static enum status compute_sparse_xent_grad(const struct op_run *run, struct error *error)
{
    (void)error;
    size_t columns = last_dimension(&run->inputs[0]);
    size_t rows = row_count(&run->inputs[0]);
    const int32_t *labels = run->inputs[1].data;
    const float *d_loss = run->inputs[2].data;
    for (size_t row = 0; row < rows; row++) {
        float *to = (float *)run->outputs[0].data + row * columns;
        pointwise()->scale(columns, d_loss[row], (const float *)run->inputs[0].data + row * columns, to);
        to[labels[row]] -= d_loss[row];
    }
    return STATUS_OK;
}

const struct op op_sparse_xent_grad = {.name = "SparseSoftmaxCrossEntropyGrad",
                                       .input_count = 3,
                                       .infer = infer_float_like_first,
                                       .compute = compute_sparse_xent_grad};

/* ---- Dropout: x, keep_probability → x·mask/keep, mask keyed by the run and the node's attribute seed ---- */

static enum status infer_dropout(struct inference *inference, struct error *error)
{
    TRY(op_expect(inference, 1, DTYPE_FLOAT32, 0, error));
    return infer_float_like_first(inference, error);
}

/* Forward and backward are the same linear map, with the mask made again from the same counters. */
static enum status compute_dropout(const struct op_run *run, struct error *error)
{
    size_t count = tensor_element_count(&run->inputs[0]);
    const float *from = run->inputs[0].data;
    float *to = run->outputs[0].data;
    float keep = *(const float *)run->inputs[1].data;
    if (!(keep > 0.0f && keep <= 1.0f)) {
        return op_run_error(run, error, "keep_prob must be a scalar tensor or a float in the range (0, 1], got %g",
                            (double)keep);
    }
    if (keep == 1.0f) {
        memcpy(to, from, count * sizeof(float));
        return STATUS_OK;
    }
    uint64_t stream = (uint64_t)node_attribute_integer(run->node, "seed", 0);
    uint32_t threshold = (uint32_t)(keep * 16777216.0f);
    float factor = 1.0f / keep;
    for (size_t i = 0; i < count; i += 4) {
        struct rng_words words = rng_philox(run->random_key, stream, i / 4);
        for (size_t lane = 0; lane < 4 && i + lane < count; lane++) {
            to[i + lane] = (words.word[lane] >> 8) < threshold ? from[i + lane] * factor : 0.0f;
        }
    }
    return STATUS_OK;
}

static enum status gradient_dropout(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[1]};
    struct node_options options = {
        .inputs = inputs, .input_count = 2, .attributes = node->attributes, .attribute_count = node->attribute_count};
    struct node *grad = NULL;
    TRY(graph_add_node(graph, "DropoutGrad", &options, &grad, error));
    ret[0] = (struct output){grad, 0};
    return STATUS_OK;
}

const struct op op_dropout = {.name = "Dropout",
                              .input_count = 2,
                              .flags = OP_RANDOM,
                              .infer = infer_dropout,
                              .compute = compute_dropout,
                              .gradient = gradient_dropout};
const struct op op_dropout_grad = {
    .name = "DropoutGrad", .input_count = 2, .flags = OP_RANDOM, .infer = infer_dropout, .compute = compute_dropout};
