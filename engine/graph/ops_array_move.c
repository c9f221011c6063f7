/* Ops that put the same elements in another order: Transpose, ReverseV2, ReverseSequence, InvertPermutation. Thread:
 * see op.h. */
#include "engine/base/check.h"
#include "engine/graph/array_rules.h"
#include "engine/graph/function.h"
#include "engine/math/strided.h"

/* ---- Transpose: x, perm → dimension i of the result is dimension perm[i] of x ---- */

/* Checks a known permutation; unknown dimensions stay so. */
static enum status permute(const struct inference *inference, const struct shape *from, const struct integers *perm,
                           struct shape *ret_shape, struct error *error)
{
    bool is_used[SHAPE_RANK_MAX] = {false};
    if (perm->count != (size_t)from->rank) {
        return inference->is_planning
                   ? op_shape_error(inference, error,
                                    "transpose expects a vector of size %d. But input(1) is a vector of size %zu",
                                    from->rank, perm->count)
                   : op_shape_error(inference, error, "Dimension must be %d but is %zu", from->rank, perm->count);
    }
    for (int i = 0; i < from->rank; i++) {
        int64_t at = perm->values[i] < 0 ? perm->values[i] + from->rank : perm->values[i];
        if (at < 0 || at >= from->rank) {
            return inference->is_planning
                       ? op_shape_error(inference, error, "%lld is out of range [0 .. %d)", (long long)perm->values[i],
                                        from->rank)
                       : op_shape_error(inference, error, "perm dim %lld is out of range of input rank %d",
                                        (long long)perm->values[i], from->rank);
        }
        if (is_used[at]) {
            return op_shape_error(inference, error, "%lld is missing from the permutation: %lld is there twice",
                                  (long long)i, (long long)at);
        }
        is_used[at] = true;
        ret_shape->dimensions[i] = from->dimensions[at];
    }
    ret_shape->rank = from->rank;
    return STATUS_OK;
}

static enum status infer_transpose(struct inference *inference, struct error *error)
{
    const struct shape *from = &inference->inputs[0].shape;
    struct shape to = shape_unknown();
    struct integers perm;
    bool is_known = false;
    TRY(array_integers(inference, 1, "perm", &is_known, &perm, error));
    int64_t rank = from->rank == SHAPE_RANK_UNKNOWN ? array_vector_length(inference, 1) : from->rank;
    if (rank != DIMENSION_UNKNOWN) {
        TRY(array_unknown_shape(inference, rank, &to, error));
    }
    if (is_known && from->rank != SHAPE_RANK_UNKNOWN) {
        TRY(permute(inference, from, &perm, &to, error));
    }
    return op_one_output(inference, inference->inputs[0].dtype, &to);
}

static enum status compute_transpose(const struct op_run *run, struct error *error)
{
    (void)error;
    const struct tensor *from = &run->inputs[0];
    const struct tensor *to = &run->outputs[0];
    struct strided block = {.rank = from->shape.rank, .element_bytes = dtype_bytes(from->dtype)};
    ptrdiff_t from_bytes[SHAPE_RANK_MAX];
    strided_row_major(&from->shape, block.element_bytes, from_bytes);
    strided_row_major(&to->shape, block.element_bytes, block.to_bytes);
    for (int i = 0; i < block.rank; i++) {
        int64_t at = tensor_integer(&run->inputs[1], (size_t)i);
        block.dimensions[i] = to->shape.dimensions[i];
        block.from_bytes[i] = from_bytes[at < 0 ? at + block.rank : at];
    }
    strided_copy(&block, from->data, to->data);
    return STATUS_OK;
}

static enum status gradient_transpose(struct graph *graph, const struct node *node, const struct output *gradients,
                                      struct output *ret, struct error *error)
{
    struct output back;
    ret[1] = (struct output){NULL, 0};
    TRY(graph_add_unary(graph, "InvertPermutation", node->inputs[1], &back, error));
    return graph_add_binary(graph, "Transpose", gradients[0], back, &ret[0], error);
}

/* perm left out: all dimensions the other way round. */
static enum status complete_transpose(struct graph *graph, struct output *inputs, size_t input_count,
                                      struct error *error)
{
    CHECK(input_count == 2);
    if (inputs[1].node != NULL) {
        return STATUS_OK;
    }
    int rank = output_type(inputs[0])->shape.rank;
    if (rank > 0) {
        int64_t perm[SHAPE_RANK_MAX];
        for (int i = 0; i < rank; i++) {
            perm[i] = rank - 1 - i;
        }
        return graph_add_integers(graph, "perm", perm, (size_t)rank, &inputs[1], error);
    }
    struct output own_rank;
    struct output one;
    struct output range[3];
    struct output terms[2];
    TRY(graph_add_unary(graph, "Rank", inputs[0], &own_rank, error));
    TRY(graph_add_integer(graph, "sub/y", 1, &one, error));
    TRY(graph_add(graph, "Sub", "sub", (struct output[]){own_rank, one}, 2, &terms[0], error));
    TRY(graph_add_integer(graph, "Range/start", 0, &range[0], error));
    TRY(graph_add_integer(graph, "Range/delta", 1, &range[2], error));
    range[1] = own_rank;
    TRY(graph_add(graph, "Range", "Range", range, 3, &terms[1], error));
    return graph_add(graph, "Sub", "sub_1", terms, 2, &inputs[1], error);
}

const struct op op_transpose = {.name = "Transpose",
                                .input_count = 2,
                                .infer = infer_transpose,
                                .compute = compute_transpose,
                                .gradient = gradient_transpose,
                                .call = "transpose",
                                .default_name = "transpose",
                                .arguments = "a=x perm?",
                                .argument_types = "Ti",
                                .complete = complete_transpose};

/* ---- InvertPermutation: x → y with y[x[i]] = i ---- */

static enum status infer_invert_permutation(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "x", TYPES_INTEGER, error));
    if (inference->inputs[0].shape.rank > 1 || inference->inputs[0].shape.rank == 0) {
        return op_shape_error(inference, error, "Shape must be rank 1 but is rank %d", inference->inputs[0].shape.rank);
    }
    return op_infer_same(inference, error);
}

static enum status compute_invert_permutation(const struct op_run *run, struct error *error)
{
    const struct tensor *x = &run->inputs[0];
    struct tensor *y = &run->outputs[0];
    int64_t count = (int64_t)tensor_element_count(x);
    for (int64_t i = 0; i < count; i++) {
        tensor_set_integer(y, (size_t)i, -1);
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t at = tensor_integer(x, (size_t)i);
        if (at < 0 || at >= count) {
            return op_run_error(run, error, "%lld is not between 0 and %lld", (long long)at, (long long)count);
        }
        if (tensor_integer(y, (size_t)at) != -1) {
            return op_run_error(run, error, "%lld is duplicated in the input.", (long long)at);
        }
        tensor_set_integer(y, (size_t)at, i);
    }
    return STATUS_OK;
}

const struct op op_invert_permutation = {.name = "InvertPermutation",
                                         .input_count = 1,
                                         .infer = infer_invert_permutation,
                                         .compute = compute_invert_permutation,
                                         .gradient = op_gradient_none,
                                         .call = "invert_permutation",
                                         .arguments = "x",
                                         .argument_types = "i"};

/* ---- ReverseV2: tensor, axis (several) ---- */

static enum status infer_reverse(struct inference *inference, struct error *error)
{
    struct integers axes;
    bool is_known = false;
    int rank = inference->inputs[0].shape.rank;
    bool is_used[SHAPE_RANK_MAX] = {false};
    if (inference->inputs[1].shape.rank != SHAPE_RANK_UNKNOWN && inference->inputs[1].shape.rank != 1) {
        return op_shape_error(inference, error, "Shape must be rank 1 but is rank %d", inference->inputs[1].shape.rank);
    }
    TRY(array_integers(inference, 1, "axis", &is_known, &axes, error));
    for (size_t i = 0; is_known && rank != SHAPE_RANK_UNKNOWN && i < axes.count; i++) {
        int64_t axis = axes.values[i] < 0 ? axes.values[i] + rank : axes.values[i];
        if (axis < 0 || axis >= rank) {
            return op_shape_error(inference, error, "'axis'[%zu] = %lld is out of valid range [0, %d).", i,
                                  (long long)axes.values[i], rank);
        }
        if (is_used[axis]) {
            return op_shape_error(inference, error, "axis %lld specified more than once.", (long long)axis);
        }
        is_used[axis] = true;
    }
    return op_infer_same(inference, error);
}

static enum status compute_reverse(const struct op_run *run, struct error *error)
{
    const struct tensor *from = &run->inputs[0];
    const struct tensor *to = &run->outputs[0];
    struct strided block = {.rank = from->shape.rank, .element_bytes = dtype_bytes(from->dtype)};
    const char *source = from->data;
    size_t axes = tensor_element_count(&run->inputs[1]);
    if (tensor_element_count(from) == 0) {
        return STATUS_OK;
    }
    strided_row_major(&from->shape, block.element_bytes, block.from_bytes);
    strided_row_major(&to->shape, block.element_bytes, block.to_bytes);
    memcpy(block.dimensions, from->shape.dimensions, sizeof from->shape.dimensions);
    for (size_t i = 0; i < axes; i++) {
        int64_t given = tensor_integer(&run->inputs[1], i);
        int64_t axis = given < 0 ? given + block.rank : given;
        if (axis < 0 || axis >= block.rank || block.from_bytes[axis] < 0) {
            return op_run_error(run, error, "'axis'[%zu] = %lld is out of valid range [0, %d) or there twice", i,
                                (long long)given, block.rank);
        }
        source += block.from_bytes[axis] * (block.dimensions[axis] - 1);
        block.from_bytes[axis] = -block.from_bytes[axis];
    }
    strided_copy(&block, source, to->data);
    return STATUS_OK;
}

static enum status gradient_reverse(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    ret[1] = (struct output){NULL, 0};
    return graph_add_binary(graph, "ReverseV2", gradients[0], node->inputs[1], &ret[0], error);
}

const struct op op_reverse = {.name = "ReverseV2",
                              .input_count = 2,
                              .infer = infer_reverse,
                              .compute = compute_reverse,
                              .gradient = gradient_reverse,
                              .call = "reverse|reverse_v2",
                              .arguments = "tensor axis",
                              .argument_types = "Ti"};

/* ---- ReverseSequence: input, seq_lengths; of each batch entry the first seq_lengths elements, reversed ---- */

static enum status refuse_axis(const struct inference *inference, const char *name, int64_t axis, int rank,
                               struct error *error)
{
    return op_shape_error(inference, error, "%s must be < input rank (%lld vs. %d)", name, (long long)axis, rank);
}

static enum status infer_reverse_sequence(struct inference *inference, struct error *error)
{
    const struct shape *input = &inference->inputs[0].shape;
    const struct shape *lengths = &inference->inputs[1].shape;
    int64_t time = node_attribute_integer(inference->node, "seq_dim", 0);
    int64_t batch = node_attribute_integer(inference->node, "batch_dim", 0);
    TRY(op_check_type(inference, 1, "seq_lengths", TYPES_INTEGER, error));
    if (lengths->rank != SHAPE_RANK_UNKNOWN && lengths->rank != 1) {
        return op_shape_error(inference, error, "Shape must be rank 1 but is rank %d", lengths->rank);
    }
    if (batch == time) {
        return op_shape_error(inference, error, "batch_dim == seq_dim == %lld", (long long)time);
    }
    if (input->rank == SHAPE_RANK_UNKNOWN) {
        return op_infer_same(inference, error);
    }
    if (batch < 0 || batch >= input->rank) {
        return refuse_axis(inference, "batch_dim", batch, input->rank, error);
    }
    if (time < 0 || time >= input->rank) {
        return refuse_axis(inference, "seq_dim", time, input->rank, error);
    }
    int64_t own = input->dimensions[batch];
    int64_t count = lengths->rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : lengths->dimensions[0];
    if (own != DIMENSION_UNKNOWN && count != DIMENSION_UNKNOWN && own != count) {
        return inference->is_planning
                   ? op_shape_error(inference, error, "Length of seq_lengths != input.dims(%lld), (%lld vs. %lld)",
                                    (long long)batch, (long long)count, (long long)own)
                   : op_shape_error(inference, error, "Dimensions must be equal, but are %lld and %lld", (long long)own,
                                    (long long)count);
    }
    return op_infer_same(inference, error);
}

/* One batch entry: its first `length` time steps reversed, the others as they are. */
static void reverse_entry(struct strided block, int time, int64_t length, const char *from, char *to)
{
    struct strided rest = block;
    rest.dimensions[time] -= length;
    strided_copy(&rest, from + length * block.from_bytes[time], to + length * block.to_bytes[time]);
    if (length > 0) {
        from += (length - 1) * block.from_bytes[time];
        block.dimensions[time] = length;
        block.from_bytes[time] = -block.from_bytes[time];
        strided_copy(&block, from, to);
    }
}

static enum status compute_reverse_sequence(const struct op_run *run, struct error *error)
{
    const struct tensor *from = &run->inputs[0];
    int time = (int)node_attribute_integer(run->node, "seq_dim", 0);
    int batch = (int)node_attribute_integer(run->node, "batch_dim", 0);
    struct strided block = {.rank = from->shape.rank, .element_bytes = dtype_bytes(from->dtype)};
    strided_row_major(&from->shape, block.element_bytes, block.from_bytes);
    memcpy(block.to_bytes, block.from_bytes, sizeof block.to_bytes);
    memcpy(block.dimensions, from->shape.dimensions, sizeof from->shape.dimensions);
    block.dimensions[batch] = 1;
    for (int64_t b = 0; b < from->shape.dimensions[batch]; b++) {
        int64_t length = tensor_integer(&run->inputs[1], (size_t)b);
        if (length < 0) {
            return op_run_error(run, error, "seq_lens(%lld) < 0", (long long)b);
        }
        if (length > from->shape.dimensions[time]) {
            return op_run_error(run, error, "seq_lens(%lld) > input.dims(%d)", (long long)b, time);
        }
        reverse_entry(block, time, length, (const char *)from->data + b * block.from_bytes[batch],
                      (char *)run->outputs[0].data + b * block.to_bytes[batch]);
    }
    return STATUS_OK;
}

static enum status gradient_reverse_sequence(struct graph *graph, const struct node *node,
                                             const struct output *gradients, struct output *ret, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[1]};
    ret[1] = (struct output){NULL, 0};
    return array_add_like(graph, "ReverseSequence", node, inputs, 2, &ret[0], error);
}

static const struct attribute_rule sequence_attributes[] = {
    {.name = "seq_dim", .called = "seq_axis", .kind = ATTRIBUTE_INTEGER},
    {.name = "batch_dim", .called = "batch_axis", .kind = ATTRIBUTE_INTEGER},
    {.name = NULL},
};

const struct op op_reverse_sequence = {.name = "ReverseSequence",
                                       .input_count = 2,
                                       .infer = infer_reverse_sequence,
                                       .compute = compute_reverse_sequence,
                                       .gradient = gradient_reverse_sequence,
                                       .call = "reverse_sequence",
                                       .arguments = "input seq_lengths",
                                       .argument_types = "Ti",
                                       .attributes = sequence_attributes};
