/* Slice, and its gradient, which puts the part back among zeros. Thread: see op.h. */
#include "engine/graph/array_rules.h"

/* ---- Slice: input, begin, size (−1: all that is left) ---- */

static enum status check_slice(const struct inference *inference, const struct shape *from,
                               const struct integers *begin, const struct integers *size, struct error *error)
{
    for (int i = 0; i < from->rank; i++) {
        int64_t dimension = from->dimensions[i];
        int64_t first = begin == NULL ? 0 : begin->values[i];
        if (dimension != DIMENSION_UNKNOWN && (first < 0 || first > dimension)) {
            return op_shape_error(inference, error, "Expected begin[%d] in [0, %lld], but got %lld", i,
                                  (long long)dimension, (long long)first);
        }
        if (size == NULL || size->values[i] == -1) {
            continue;
        }
        bool is_too_long = dimension != DIMENSION_UNKNOWN && size->values[i] > dimension - first;
        if (size->values[i] < -1 || is_too_long) {
            return op_shape_error(inference, error, "Expected size[%d] in [0, %lld], but got %lld", i,
                                  (long long)(dimension == DIMENSION_UNKNOWN ? INT64_MAX : dimension - first),
                                  (long long)size->values[i]);
        }
    }
    return STATUS_OK;
}

/* Whether begin and size have an entry for each dimension, and what rank they say the input has. */
static enum status slice_rank(const struct inference *inference, int *ret_rank, struct error *error)
{
    const struct shape *from = &inference->inputs[0].shape;
    int64_t begin = array_vector_length(inference, 1);
    int64_t size = array_vector_length(inference, 2);
    int64_t rank = from->rank != SHAPE_RANK_UNKNOWN ? from->rank : begin != DIMENSION_UNKNOWN ? begin : size;
    if ((begin != DIMENSION_UNKNOWN && begin != rank) || (size != DIMENSION_UNKNOWN && size != rank)) {
        return op_shape_error(inference, error,
                              "Expected begin and size arguments to be 1-D tensors of size %lld, but got %lld and %lld "
                              "instead.",
                              (long long)rank, (long long)begin, (long long)size);
    }
    *ret_rank = rank > SHAPE_RANK_MAX ? SHAPE_RANK_UNKNOWN : (int)rank;
    return STATUS_OK;
}

static enum status infer_slice(struct inference *inference, struct error *error)
{
    struct shape from = inference->inputs[0].shape;
    struct integers begin;
    struct integers size;
    bool is_begin_known = false;
    bool is_size_known = false;
    int rank = SHAPE_RANK_UNKNOWN;
    TRY(op_check_type(inference, 0, "input", ~0U, error));
    TRY(array_integers(inference, 1, "begin", &is_begin_known, &begin, error));
    TRY(array_integers(inference, 2, "size", &is_size_known, &size, error));
    TRY(slice_rank(inference, &rank, error));
    struct shape to = constants_as_shape(inference, 2);
    if (rank == SHAPE_RANK_UNKNOWN) {
        return op_one_output(inference, inference->inputs[0].dtype, &to);
    }
    if (from.rank == SHAPE_RANK_UNKNOWN) {
        TRY(array_unknown_shape(inference, rank, &from, error));
    }
    TRY(check_slice(inference, &from, is_begin_known ? &begin : NULL, is_size_known ? &size : NULL, error));
    if (to.rank == SHAPE_RANK_UNKNOWN) {
        TRY(array_unknown_shape(inference, rank, &to, error));
    }
    for (int i = 0; i < rank; i++) {
        bool is_rest = is_size_known && size.values[i] == -1;
        if (is_rest && is_begin_known && from.dimensions[i] != DIMENSION_UNKNOWN) {
            to.dimensions[i] = from.dimensions[i] - begin.values[i];
        }
    }
    return op_one_output(inference, inference->inputs[0].dtype, &to);
}

/* The part that begin says, of the size of `part`; refuses what is outside. */
static enum status slice_cut(const struct op_run *run, const struct tensor *begin, const struct shape *whole,
                             const struct shape *part, struct array_cut *ret_cut, struct error *error)
{
    *ret_cut = (struct array_cut){.rank = whole->rank};
    for (int i = 0; i < whole->rank; i++) {
        ret_cut->begin[i] = tensor_integer(begin, (size_t)i);
        ret_cut->stride[i] = 1;
        ret_cut->count[i] = part->dimensions[i];
        if (ret_cut->begin[i] < 0 || ret_cut->begin[i] > whole->dimensions[i] - part->dimensions[i]) {
            return op_run_error(run, error, "Expected begin[%d] in [0, %lld], but got %lld", i,
                                (long long)(whole->dimensions[i] - part->dimensions[i]), (long long)ret_cut->begin[i]);
        }
    }
    return STATUS_OK;
}

static enum status compute_slice(const struct op_run *run, struct error *error)
{
    struct array_cut cut;
    const struct tensor *from = &run->inputs[0];
    TRY(slice_cut(run, &run->inputs[1], &from->shape, &run->outputs[0].shape, &cut, error));
    array_move_cut(CUT_TAKE_OUT, &cut, &from->shape, dtype_bytes(from->dtype), from->data, run->outputs[0].data);
    return STATUS_OK;
}

static enum status gradient_slice(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    struct output inputs[] = {{NULL, 0}, node->inputs[1], gradients[0]};
    ret[1] = ret[2] = (struct output){NULL, 0};
    TRY(graph_add_unary(graph, "Shape", node->inputs[0], &inputs[0], error));
    return graph_add(graph, "SliceGrad", NULL, inputs, 3, &ret[0], error);
}

const struct op op_slice = {.name = "Slice",
                            .input_count = 3,
                            .infer = infer_slice,
                            .compute = compute_slice,
                            .gradient = gradient_slice,
                            .call = "slice",
                            .arguments = "input_=input begin size",
                            .argument_types = "Tii"};

/* ---- SliceGrad: shape, begin, dy → zeros of that shape with dy at begin ---- */

static enum status infer_slice_grad(struct inference *inference, struct error *error)
{
    (void)error;
    struct shape shape = constants_as_shape(inference, 0);
    return op_one_output(inference, inference->inputs[2].dtype, &shape);
}

static enum status compute_slice_grad(const struct op_run *run, struct error *error)
{
    struct array_cut cut;
    const struct tensor *part = &run->inputs[2];
    const struct tensor *whole = &run->outputs[0];
    if (whole->shape.rank != part->shape.rank) {
        return op_run_error(run, error, "a part of rank %d of a whole of rank %d", part->shape.rank, whole->shape.rank);
    }
    TRY(slice_cut(run, &run->inputs[1], &whole->shape, &part->shape, &cut, error));
    memset(whole->data, 0, tensor_bytes(whole));
    array_move_cut(CUT_PUT_BACK, &cut, &whole->shape, dtype_bytes(whole->dtype), whole->data, part->data);
    return STATUS_OK;
}

static enum status gradient_slice_grad(struct graph *graph, const struct node *node, const struct output *gradients,
                                       struct output *ret, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[1], {NULL, 0}};
    ret[0] = ret[1] = (struct output){NULL, 0};
    TRY(graph_add_unary(graph, "Shape", node->inputs[2], &inputs[2], error));
    return graph_add(graph, "Slice", NULL, inputs, 3, &ret[2], error);
}

const struct op op_slice_grad = {.name = "SliceGrad",
                                 .input_count = 3,
                                 .infer = infer_slice_grad,
                                 .compute = compute_slice_grad,
                                 .gradient = gradient_slice_grad};
