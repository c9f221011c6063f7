/* Ops that rearrange: reshape, transpose, gather, one-hot. Thread: see op.h. */
#include "engine/base/check.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"
#include "engine/math/pointwise.h"

static enum status one_output(struct inference *inference, enum dtype dtype, const struct shape *shape)
{
    inference->outputs[0] = (struct output_type){dtype, *shape};
    inference->output_count = 1;
    return STATUS_OK;
}

static enum status reshape_back(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[0]};
    return graph_add(graph, "ReshapeLike", NULL, inputs, 2, &ret[0], error);
}

/* ---- Reshape: attribute shape, at most one dimension unknown: it takes what is left ---- */

static enum status infer_reshape(struct inference *inference, struct error *error)
{
    const struct attribute *attribute = node_attribute(inference->node, "shape");
    const struct shape *from = &inference->inputs[0].shape;
    if (attribute == NULL) {
        return error_set(error, STATUS_INVALID, "'%s' (op: 'Reshape') has no shape", inference->node->name);
    }
    struct shape to = attribute->shape;
    int open = -1;
    size_t known = 1;
    for (int i = 0; i < to.rank; i++) {
        if (to.dimensions[i] == DIMENSION_UNKNOWN) {
            if (open >= 0) {
                return op_shape_error(inference, error, "Only one dimension of a new shape may be -1");
            }
            open = i;
        } else if (__builtin_mul_overflow(known, (size_t)to.dimensions[i], &known)) {
            return op_shape_error(inference, error, "The new shape has too many elements");
        }
    }
    size_t count = 0;
    if (shape_is_fully_known(from) && shape_element_count(from, &count)) {
        bool fits = open < 0 ? known == count : known > 0 && count % known == 0;
        if (!fits) {
            return op_shape_error(inference, error, "Cannot reshape a tensor with %zu elements to a shape of %zu",
                                  count, known);
        }
        if (open >= 0) {
            to.dimensions[open] = (int64_t)(count / known);
        }
    }
    return one_output(inference, inference->inputs[0].dtype, &to);
}

const struct op op_reshape = {
    .name = "Reshape", .input_count = 1, .flags = OP_ALIAS, .infer = infer_reshape, .gradient = reshape_back};

/* ---- ReshapeLike: x, like → x in like's shape; attribute keep_last: like's leading dimensions, x's last ---- */

static enum status infer_reshape_like(struct inference *inference, struct error *error)
{
    struct shape to = inference->inputs[1].shape;
    const struct shape *from = &inference->inputs[0].shape;
    if (node_attribute_boolean(inference->node, "keep_last", false) && to.rank > 0) {
        to.dimensions[to.rank - 1] = from->rank > 0 ? from->dimensions[from->rank - 1] : DIMENSION_UNKNOWN;
    }
    size_t count = 0;
    size_t to_count = 0;
    if (shape_is_fully_known(from) && shape_is_fully_known(&to) && shape_element_count(from, &count) &&
        shape_element_count(&to, &to_count) && count != to_count) {
        return op_shape_error(inference, error, "Cannot reshape a tensor with %zu elements to %zu", count, to_count);
    }
    return one_output(inference, inference->inputs[0].dtype, &to);
}

const struct op op_reshape_like = {
    .name = "ReshapeLike", .input_count = 2, .flags = OP_ALIAS, .infer = infer_reshape_like, .gradient = reshape_back};

/* ---- TransposeLeading: [a, b, …] → [b, a, …]: between batch-major and time-major ---- */

static enum status infer_transpose_leading(struct inference *inference, struct error *error)
{
    struct shape shape = inference->inputs[0].shape;
    if (shape.rank != SHAPE_RANK_UNKNOWN && shape.rank < 2) {
        return op_shape_error(inference, error, "Shape must be at least rank 2 but is rank %d", shape.rank);
    }
    if (shape.rank >= 2) {
        int64_t first = shape.dimensions[0];
        shape.dimensions[0] = shape.dimensions[1];
        shape.dimensions[1] = first;
    }
    return one_output(inference, inference->inputs[0].dtype, &shape);
}

static enum status compute_transpose_leading(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *from = &run->inputs[0];
    size_t rows = (size_t)from->shape.dimensions[0];
    size_t columns = (size_t)from->shape.dimensions[1];
    if (rows == 0 || columns == 0) {
        return STATUS_OK;
    }
    size_t bytes = tensor_bytes(from) / (rows * columns);
    const char *source = from->data;
    char *target = run->outputs[0].data;
    for (size_t row = 0; row < rows; row++) {
        for (size_t column = 0; column < columns; column++) {
            memcpy(target + (column * rows + row) * bytes, source + (row * columns + column) * bytes, bytes);
        }
    }
    return STATUS_OK;
}

static enum status gradient_transpose_leading(struct graph *graph, const struct node *node,
                                              const struct output *gradients, struct output *ret, struct error *error)
{
    (void)node;
    return graph_add(graph, "TransposeLeading", NULL, gradients, 1, &ret[0], error);
}

const struct op op_transpose_leading = {.name = "TransposeLeading",
                                        .input_count = 1,
                                        .infer = infer_transpose_leading,
                                        .compute = compute_transpose_leading,
                                        .gradient = gradient_transpose_leading};

/* ---- Gather: params [n, …], indices int32 → indices' shape + params' rest ---- */

static enum status infer_gather(struct inference *inference, struct error *error)
{
    TRY(op_expect(inference, 0, DTYPE_FLOAT32, 2, error));
    TRY(op_expect(inference, 1, DTYPE_INT32, SHAPE_RANK_UNKNOWN, error));
    struct shape shape = inference->inputs[1].shape;
    const struct shape *params = &inference->inputs[0].shape;
    if (shape.rank == SHAPE_RANK_MAX) {
        return op_shape_error(inference, error, "The result would have rank %d", SHAPE_RANK_MAX + 1);
    }
    if (shape.rank != SHAPE_RANK_UNKNOWN) {
        shape.dimensions[shape.rank++] = params->rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : params->dimensions[1];
    }
    return one_output(inference, DTYPE_FLOAT32, &shape);
}

static enum status check_index(const struct op_run *run, const int32_t *indices, size_t at, size_t limit,
                               struct error *error)
{
    if (indices[at] >= 0 && (size_t)indices[at] < limit) {
        return STATUS_OK;
    }
    return op_run_error(run, error, "indices[%zu] = %d is not in [0, %zu)", at, indices[at], limit);
}

static enum status compute_gather(const struct op_run *run, struct error *error)
{
    const int32_t *indices = run->inputs[1].data;
    size_t rows = (size_t)run->inputs[0].shape.dimensions[0];
    size_t columns = (size_t)run->inputs[0].shape.dimensions[1];
    size_t count = tensor_element_count(&run->inputs[1]);
    for (size_t i = 0; i < count; i++) {
        TRY(check_index(run, indices, i, rows, error));
        memcpy((float *)run->outputs[0].data + i * columns,
               (const float *)run->inputs[0].data + (size_t)indices[i] * columns, columns * sizeof(float));
    }
    return STATUS_OK;
}

static enum status gradient_gather(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret, struct error *error)
{
    struct output inputs[] = {node->inputs[0], node->inputs[1], gradients[0]};
    return graph_add(graph, "GatherGrad", NULL, inputs, 3, &ret[0], error);
}

const struct op op_gather = {.name = "GatherV2",
                             .input_count = 2,
                             .infer = infer_gather,
                             .compute = compute_gather,
                             .gradient = gradient_gather};

/* GatherGrad: params, indices, gradient → dense gradient of params */
static enum status infer_like_first(struct inference *inference, struct error *error)
{
    (void)error;
    return one_output(inference, inference->inputs[0].dtype, &inference->inputs[0].shape);
}

static enum status compute_gather_grad(const struct op_run *run, struct error *error)
{
    const int32_t *indices = run->inputs[1].data;
    size_t rows = (size_t)run->outputs[0].shape.dimensions[0];
    size_t columns = (size_t)run->outputs[0].shape.dimensions[1];
    size_t count = tensor_element_count(&run->inputs[1]);
    memset(run->outputs[0].data, 0, tensor_bytes(&run->outputs[0]));
    for (size_t i = 0; i < count; i++) {
        TRY(check_index(run, indices, i, rows, error));
        pointwise()->add_to(columns, (const float *)run->inputs[2].data + i * columns,
                            (float *)run->outputs[0].data + (size_t)indices[i] * columns);
    }
    return STATUS_OK;
}

const struct op op_gather_grad = {
    .name = "GatherGrad", .input_count = 3, .infer = infer_like_first, .compute = compute_gather_grad};

/* ---- OneHot: int32 → float32, attribute depth. An index out of range gives a row of zeros, as in TensorFlow. ---- */

static enum status infer_one_hot(struct inference *inference, struct error *error)
{
    TRY(op_expect(inference, 0, DTYPE_INT32, SHAPE_RANK_UNKNOWN, error));
    struct shape shape = inference->inputs[0].shape;
    int64_t depth = node_attribute_integer(inference->node, "depth", -1);
    if (depth < 0 || shape.rank == SHAPE_RANK_MAX) {
        return op_shape_error(inference, error, "Depth %lld must not be negative, rank below %d", (long long)depth,
                              SHAPE_RANK_MAX);
    }
    if (shape.rank != SHAPE_RANK_UNKNOWN) {
        shape.dimensions[shape.rank++] = depth;
    }
    return one_output(inference, DTYPE_FLOAT32, &shape);
}

static enum status compute_one_hot(const struct op_run *run, struct error *error)
{
    (void)error;
    size_t depth = (size_t)node_attribute_integer(run->node, "depth", 0);
    size_t count = tensor_element_count(&run->inputs[0]);
    const int32_t *indices = run->inputs[0].data;
    memset(run->outputs[0].data, 0, tensor_bytes(&run->outputs[0]));
    for (size_t i = 0; i < count; i++) {
        if (indices[i] >= 0 && (size_t)indices[i] < depth) {
            ((float *)run->outputs[0].data)[i * depth + (size_t)indices[i]] = 1;
        }
    }
    return STATUS_OK;
}

static enum status no_gradient(struct graph *graph, const struct node *node, const struct output *gradients,
                               struct output *ret, struct error *error)
{
    (void)graph;
    (void)node;
    (void)gradients;
    (void)ret;
    (void)error;
    return STATUS_OK;
}

const struct op op_one_hot = {
    .name = "OneHot", .input_count = 1, .infer = infer_one_hot, .compute = compute_one_hot, .gradient = no_gradient};
