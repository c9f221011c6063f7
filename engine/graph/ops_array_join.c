/* Ops that put tensors together and take them apart: ConcatV2, Split, SplitV, Pack, Unpack. Thread: see op.h. Each is
 * the same walk along one axis: of every tensor, `outer` runs of bytes, one behind the other in the joined tensor. */
#include "engine/base/mem.h"
#include "engine/graph/array_rules.h"

/* Bytes of one run: an element times the dimensions from `axis` on. */
static size_t run_bytes(const struct tensor *tensor, int axis)
{
    size_t bytes = dtype_bytes(tensor->dtype);
    for (int i = axis; i < tensor->shape.rank; i++) {
        bytes *= (size_t)tensor->shape.dimensions[i];
    }
    return bytes;
}

static size_t outer_count(const struct shape *shape, int axis)
{
    size_t count = 1;
    for (int i = 0; i < axis; i++) {
        count *= (size_t)shape->dimensions[i];
    }
    return count;
}

/* One part of a joined tensor, whose runs are `whole_bytes` apart there. */
struct part {
    char *data;
    size_t bytes; /* of a run */
};

enum direction { JOIN, TAKE_APART };

static void move_part(enum direction direction, size_t outer, struct part part, char *whole, size_t whole_bytes)
{
    for (size_t i = 0; i < outer; i++) {
        if (direction == JOIN) {
            memcpy(whole + i * whole_bytes, part.data + i * part.bytes, part.bytes);
        } else {
            memcpy(part.data + i * part.bytes, whole + i * whole_bytes, part.bytes);
        }
    }
}

/* Moves all parts, one behind the other along the axis. */
static void move_parts(enum direction direction, const struct tensor *parts, size_t count, const struct tensor *whole,
                       int axis)
{
    size_t outer = outer_count(&whole->shape, axis);
    size_t whole_bytes = run_bytes(whole, axis);
    char *at = whole->data;
    for (size_t i = 0; i < count; i++) {
        struct part part = {parts[i].data, run_bytes(&parts[i], axis)};
        move_part(direction, part.bytes == 0 ? 0 : outer, part, at, whole_bytes);
        at += part.bytes;
    }
}

static int axis_from(int64_t axis, int rank)
{
    return (int)(axis < 0 ? axis + rank : axis);
}

/* ---- ConcatV2: values…, axis ---- */

static enum status check_concat_axis(const struct inference *inference, int64_t axis, int rank, struct error *error)
{
    if (axis >= -rank && axis < rank) {
        return STATUS_OK;
    }
    if (inference->is_planning) {
        return op_shape_error(inference, error,
                              "ConcatOp : Expected concatenating dimensions in the range [%d, %d), but got %lld", -rank,
                              rank, (long long)axis);
    }
    return op_shape_error(inference, error, "Shape must be at least rank %lld but is rank %d",
                          (long long)array_rank_for_axis(axis), rank);
}

static enum status refuse_concat(const struct inference *inference, size_t at, struct error *error)
{
    char first[SHAPE_TEXT_BYTES_MAX];
    char other[SHAPE_TEXT_BYTES_MAX];
    return op_shape_error(
        inference, error, "ConcatOp : Dimensions of inputs should match: shape[0] = %s vs. shape[%zu] = %s",
        shape_cpp_text(&inference->inputs[0].shape, first), at, shape_cpp_text(&inference->inputs[at].shape, other));
}

/* A shape's dimensions from `begin` to `end`. */
static struct shape part_of_shape(const struct shape *shape, int begin, int end)
{
    struct shape part = {.rank = shape->rank == SHAPE_RANK_UNKNOWN ? SHAPE_RANK_UNKNOWN : end - begin};
    for (int i = 0; i < part.rank; i++) {
        part.dimensions[i] = shape->dimensions[begin + i];
    }
    return part;
}

/* The values' shapes merged from dimension `begin` to `end`, into those of `merged`: from the last value to the first,
 * as TensorFlow's errors show. */
static enum status merge_part(const struct inference *inference, size_t count, int begin, int end, struct shape *merged,
                              struct error *error)
{
    struct shape part = {.rank = SHAPE_RANK_UNKNOWN};
    for (size_t i = count; i-- > 0;) {
        struct shape own = part_of_shape(&inference->inputs[i].shape, begin, end);
        TRY(array_merge(inference, &own, &part, -1, &part, error));
    }
    for (int i = 0; i < part.rank; i++) {
        merged->dimensions[begin + i] = part.dimensions[i];
    }
    return STATUS_OK;
}

/* What a run says: the first value that differs from the first but in the axis. */
static enum status check_joined(const struct inference *inference, size_t count, int axis, struct error *error)
{
    struct shape merged = inference->inputs[0].shape;
    for (size_t i = 1; i < count; i++) {
        if (array_merge(inference, &merged, &inference->inputs[i].shape, axis, &merged, NULL) != STATUS_OK) {
            return refuse_concat(inference, i, error);
        }
    }
    return STATUS_OK;
}

/* The values' shapes merged but for the axis, whose dimensions add up. */
static enum status join_shapes(const struct inference *inference, size_t count, int axis, int rank,
                               struct shape *ret_shape, struct error *error)
{
    struct shape merged = {.rank = rank};
    if (inference->is_planning) {
        TRY(check_joined(inference, count, axis, error));
    }
    TRY(merge_part(inference, count, 0, axis, &merged, error));
    TRY(merge_part(inference, count, axis + 1, rank, &merged, error));
    for (size_t i = 0; i < count; i++) {
        const struct shape *shape = &inference->inputs[i].shape;
        int64_t own = shape->rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : shape->dimensions[axis];
        merged.dimensions[axis] = dimension_add(merged.dimensions[axis], own);
    }
    *ret_shape = merged;
    return STATUS_OK;
}

/* The rank of the first value that has one. */
static int known_rank(const struct inference *inference, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (inference->inputs[i].shape.rank != SHAPE_RANK_UNKNOWN) {
            return inference->inputs[i].shape.rank;
        }
    }
    return SHAPE_RANK_UNKNOWN;
}

/* TypeError "Tensors in list passed to 'values' of 'ConcatV2' Op have types [int32, float32] that don't all match." */
static enum status check_value_types(const struct inference *inference, size_t count, struct error *error)
{
    char types[256] = "";
    size_t length = 0;
    bool is_same = true;
    for (size_t i = 0; i < count; i++) {
        enum dtype dtype = inference->inputs[i].dtype;
        is_same = is_same && dtype == inference->inputs[0].dtype;
        if (length < sizeof types) {
            length +=
                (size_t)snprintf(types + length, sizeof types - length, "%s%s", i == 0 ? "" : ", ", dtype_name(dtype));
        }
    }
    if (is_same) {
        return STATUS_OK;
    }
    return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                       "Tensors in list passed to 'values' of '%s' Op have types [%s] that don't all match.",
                       inference->node->op->name, types);
}

static enum status infer_concat(struct inference *inference, struct error *error)
{
    if (inference->input_count < 2) {
        return op_shape_error(inference, error, "ConcatV2 takes at least one value and the axis");
    }
    size_t count = inference->input_count - 1;
    bool is_known = false;
    int64_t axis = 0;
    struct shape shape = shape_unknown();
    TRY(array_integer(inference, count, "Tidx", &is_known, &axis, error));
    TRY(check_value_types(inference, count, error));
    int rank = known_rank(inference, count);
    if (rank == 0) {
        return op_shape_error(inference, error, "Shape must be at least rank 1 but is rank 0");
    }
    if (rank == SHAPE_RANK_UNKNOWN) {
        return op_one_output(inference, inference->inputs[0].dtype, &shape);
    }
    if (!is_known) {
        TRY(array_unknown_shape(inference, rank, &shape, error));
        return op_one_output(inference, inference->inputs[0].dtype, &shape);
    }
    TRY(check_concat_axis(inference, axis, rank, error));
    for (size_t i = 0; i < count; i++) {
        if (inference->inputs[i].shape.rank != SHAPE_RANK_UNKNOWN && inference->inputs[i].shape.rank != rank) {
            return inference->is_planning
                       ? refuse_concat(inference, i, error)
                       : op_shape_error(inference, error, "Shapes must be equal rank, but are %d and %d", rank,
                                        inference->inputs[i].shape.rank);
        }
    }
    TRY(join_shapes(inference, count, axis_from(axis, rank), rank, &shape, error));
    return op_one_output(inference, inference->inputs[0].dtype, &shape);
}

static enum status compute_concat(const struct op_run *run, struct error *error)
{
    (void)error;
    size_t count = run->input_count - 1;
    int axis = axis_from(tensor_integer(&run->inputs[count], 0), run->outputs[0].shape.rank);
    move_parts(JOIN, run->inputs, count, &run->outputs[0], axis);
    return STATUS_OK;
}

static enum status gradient_concat(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret, struct error *error)
{
    size_t count = node->input_count - 1;
    struct output *inputs = mem_allocate(count + 2, sizeof *inputs);
    struct node_options options = {.inputs = inputs, .input_count = count + 2};
    struct node *parts = NULL;
    if (inputs == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for gradients");
    }
    inputs[0] = gradients[0];
    inputs[1] = node->inputs[count];
    memcpy(inputs + 2, node->inputs, count * sizeof *inputs);
    enum status status = graph_add_node(graph, "SplitLike", &options, &parts, error);
    mem_free(inputs);
    TRY(status);
    for (size_t i = 0; i < count; i++) {
        ret[i] = (struct output){parts, (uint32_t)i};
    }
    ret[count] = (struct output){NULL, 0};
    return STATUS_OK;
}

const struct op op_concat = {.name = "ConcatV2",
                             .input_count = OP_INPUTS_ANY,
                             .infer = infer_concat,
                             .compute = compute_concat,
                             .gradient = gradient_concat};

/* ---- SplitLike: value, axis, likes… → value in parts of the likes' shapes: ConcatV2's gradient ---- */

static enum status infer_split_like(struct inference *inference, struct error *error)
{
    TRY(op_need_outputs(inference, (int64_t)inference->input_count - 2, error));
    inference->output_count = inference->input_count - 2;
    for (size_t i = 0; i < inference->output_count; i++) {
        inference->outputs[i] = (struct output_type){inference->inputs[0].dtype, inference->inputs[i + 2].shape};
    }
    return STATUS_OK;
}

static enum status compute_split_like(const struct op_run *run, struct error *error)
{
    (void)error;
    int axis = axis_from(tensor_integer(&run->inputs[1], 0), run->inputs[0].shape.rank);
    move_parts(TAKE_APART, run->outputs, run->input_count - 2, &run->inputs[0], axis);
    return STATUS_OK;
}

/* Joins the gradients of all outputs along `axis`; zeros for those without one. */
static enum status join_gradients(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output axis, struct output *ret, struct error *error)
{
    struct output *parts = mem_allocate(node->output_count + 1, sizeof *parts);
    enum status status = parts == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory for gradients") : STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && i < node->output_count; i++) {
        parts[i] = gradients[i];
        if (gradients[i].node == NULL) {
            status = graph_add_zeros_like(graph, node_own_output(graph, node, i), &parts[i], error);
        }
    }
    if (status == STATUS_OK) {
        parts[node->output_count] = axis;
        status = graph_add(graph, "ConcatV2", NULL, parts, node->output_count + 1, ret, error);
    }
    mem_free(parts);
    return status;
}

static enum status gradient_split_like(struct graph *graph, const struct node *node, const struct output *gradients,
                                       struct output *ret, struct error *error)
{
    for (uint32_t i = 1; i < node->input_count; i++) {
        ret[i] = (struct output){NULL, 0};
    }
    return join_gradients(graph, node, gradients, node->inputs[1], &ret[0], error);
}

const struct op op_split_like = {.name = "SplitLike",
                                 .input_count = OP_INPUTS_ANY,
                                 .infer = infer_split_like,
                                 .compute = compute_split_like,
                                 .gradient = gradient_split_like};

/* ---- Split: split_dim, value; num_split. SplitV: value, size_splits, split_dim; num_split ---- */

/* Makes `count` outputs like `shape`. */
static void set_outputs(struct inference *inference, enum dtype dtype, const struct shape *shape, size_t count)
{
    inference->output_count = count;
    for (size_t i = 0; i < count; i++) {
        inference->outputs[i] = (struct output_type){dtype, *shape};
    }
}

/* The axis to split along; `ret_known` false when it is not known, or the value's rank is not. */
static enum status split_axis(const struct inference *inference, size_t axis_input, const struct shape *value,
                              bool *ret_known, int *ret_axis, struct error *error)
{
    int64_t axis = 0;
    TRY(array_integer(inference, axis_input, "split_dim", ret_known, &axis, error));
    if (value->rank == SHAPE_RANK_UNKNOWN || !*ret_known) {
        *ret_known = false;
        return STATUS_OK;
    }
    if (axis < -value->rank || axis >= value->rank) {
        return inference->is_planning
                   ? op_shape_error(inference, error, "-input rank(-%d) <= split_dim < input rank (%d), but got %lld",
                                    value->rank, value->rank, (long long)axis)
                   : op_shape_error(inference, error, "Shape must be at least rank %lld but is rank %d",
                                    (long long)array_rank_for_axis(axis), value->rank);
    }
    *ret_axis = axis_from(axis, value->rank);
    return STATUS_OK;
}

static enum status infer_split(struct inference *inference, struct error *error)
{
    int64_t count = node_attribute_integer(inference->node, "num_split", 0);
    const struct output_type *value = &inference->inputs[1];
    bool is_known = false;
    int axis = 0;
    struct shape shape = shape_unknown();
    if (count < 1) {
        return op_shape_error(inference, error, "Value for attr 'num_split' of %lld must be at least minimum 1",
                              (long long)count);
    }
    TRY(op_need_outputs(inference, count, error));
    TRY(split_axis(inference, 0, &value->shape, &is_known, &axis, error));
    if (!is_known) {
        if (value->shape.rank != SHAPE_RANK_UNKNOWN) {
            TRY(array_unknown_shape(inference, value->shape.rank, &shape, error));
        }
        set_outputs(inference, value->dtype, &shape, (size_t)count);
        return STATUS_OK;
    }
    int64_t size = value->shape.dimensions[axis];
    if (size != DIMENSION_UNKNOWN && size % count != 0) {
        return inference->is_planning
                   ? op_shape_error(inference, error,
                                    "Number of ways to split should evenly divide the split dimension, but got "
                                    "split_dim %d (size = %lld) and num_split %lld",
                                    axis, (long long)size, (long long)count)
                   : op_shape_error(inference, error, "Dimension size must be evenly divisible by %lld but is %lld",
                                    (long long)count, (long long)size);
    }
    shape = value->shape;
    shape.dimensions[axis] = size == DIMENSION_UNKNOWN ? DIMENSION_UNKNOWN : size / count;
    set_outputs(inference, value->dtype, &shape, (size_t)count);
    return STATUS_OK;
}

static enum status compute_split(const struct op_run *run, struct error *error)
{
    (void)error;
    int axis = axis_from(tensor_integer(&run->inputs[0], 0), run->inputs[1].shape.rank);
    move_parts(TAKE_APART, run->outputs, (size_t)node_attribute_integer(run->node, "num_split", 0), &run->inputs[1],
               axis);
    return STATUS_OK;
}

static enum status gradient_split(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    ret[0] = (struct output){NULL, 0};
    return join_gradients(graph, node, gradients, node->inputs[0], &ret[1], error);
}

const struct op op_split = {
    .name = "Split", .input_count = 2, .infer = infer_split, .compute = compute_split, .gradient = gradient_split};

/* Gives the outputs the sizes along `axis`, the one −1 replaced by what is left of `size`. */
static enum status set_sizes(struct inference *inference, const struct tensor *sizes, int axis, int64_t size,
                             struct error *error)
{
    int64_t sum = 0;
    size_t count = inference->output_count;
    size_t open = count;
    for (size_t i = 0; i < count; i++) {
        int64_t own = tensor_integer(sizes, i);
        if (own < -1 || (own == -1 && open < count)) {
            return op_shape_error(inference, error, "Split size at index %zu must be >= 0. Got: %lld", i,
                                  (long long)own);
        }
        inference->outputs[i].shape.dimensions[axis] = own == -1 ? DIMENSION_UNKNOWN : own;
        if (own == -1) {
            open = i;
        } else if (__builtin_add_overflow(sum, own, &sum)) {
            return op_shape_error(inference, error, "The split sizes add up to more than a dimension can be");
        }
    }
    if (size == DIMENSION_UNKNOWN) {
        return STATUS_OK;
    }
    if (open < count ? sum > size : sum != size) {
        return inference->is_planning
                   ? op_shape_error(inference, error,
                                    "Determined shape must either match input shape along split_dim exactly if fully "
                                    "specified, or be less than the size of the input along split_dim if not fully "
                                    "specified.  Got: %lld",
                                    (long long)sum)
                   : op_shape_error(inference, error, "can't split axis of size %lld into pieces of size %lld",
                                    (long long)size, (long long)sum);
    }
    if (open < count) {
        inference->outputs[open].shape.dimensions[axis] = size - sum;
    }
    return STATUS_OK;
}

static enum status infer_split_v(struct inference *inference, struct error *error)
{
    const struct output_type *value = &inference->inputs[0];
    const struct tensor *given = inference->constants[1];
    int64_t length = array_vector_length(inference, 1);
    int64_t count = node_attribute_integer(inference->node, "num_split", length);
    bool is_known = false;
    int axis = 0;
    struct shape shape = shape_unknown();
    TRY(op_check_type(inference, 1, "size_splits", TYPES_INTEGER, error));
    TRY(op_need_outputs(inference, count, error));
    if (length != DIMENSION_UNKNOWN && length != count) {
        return op_shape_error(inference, error,
                              "Length of size_splits should be equal to num_outputs: %lld sizes for %lld outputs",
                              (long long)length, (long long)count);
    }
    TRY(split_axis(inference, 2, &value->shape, &is_known, &axis, error));
    if (value->shape.rank != SHAPE_RANK_UNKNOWN) {
        TRY(array_unknown_shape(inference, value->shape.rank, &shape, error));
    }
    shape = is_known ? value->shape : shape;
    set_outputs(inference, value->dtype, &shape, (size_t)count);
    if (!is_known) {
        return STATUS_OK;
    }
    for (int64_t i = 0; i < count; i++) {
        inference->outputs[i].shape.dimensions[axis] = DIMENSION_UNKNOWN;
    }
    return given == NULL ? STATUS_OK : set_sizes(inference, given, axis, value->shape.dimensions[axis], error);
}

static enum status compute_split_v(const struct op_run *run, struct error *error)
{
    (void)error;
    int axis = axis_from(tensor_integer(&run->inputs[2], 0), run->inputs[0].shape.rank);
    move_parts(TAKE_APART, run->outputs, tensor_element_count(&run->inputs[1]), &run->inputs[0], axis);
    return STATUS_OK;
}

static enum status gradient_split_v(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    ret[1] = ret[2] = (struct output){NULL, 0};
    return join_gradients(graph, node, gradients, node->inputs[2], &ret[0], error);
}

const struct op op_split_v = {.name = "SplitV",
                              .input_count = 3,
                              .infer = infer_split_v,
                              .compute = compute_split_v,
                              .gradient = gradient_split_v};
