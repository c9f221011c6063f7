/* Ops about shapes: those that tell them (Shape, Size, Rank), those that give the same data another (Reshape,
 * ExpandDims, Squeeze). Thread: see op.h. No data is moved: the first read shapes alone, the others are aliases. */
#include "engine/graph/array_rules.h"

#define SHAPE_OP(ROW, NAME, CALL, INFER, COMPUTE, ATTRIBUTES)                                                          \
    const struct op ROW = {.name = NAME,                                                                               \
                           .input_count = 1,                                                                           \
                           .flags = OP_OF_SHAPE,                                                                       \
                           .infer = INFER,                                                                             \
                           .compute = COMPUTE,                                                                         \
                           .gradient = op_gradient_none,                                                               \
                           .call = CALL,                                                                               \
                           .arguments = "input",                                                                       \
                           .argument_types = "A",                                                                      \
                           .attributes = ATTRIBUTES};

/* ---- Shape: x → its dimensions ---- */

static const struct attribute_rule out_type[] = {
    {.name = "out_type", .kind = ATTRIBUTE_DTYPE, .otherwise = DTYPE_INT32},
    {.name = NULL},
};

static enum status infer_whole_number(struct inference *inference, const struct shape *shape, struct error *error)
{
    const struct attribute *type = node_attribute(inference->node, "out_type");
    enum dtype dtype = type == NULL ? DTYPE_INT32 : type->dtype;
    if (dtype != DTYPE_INT32 && dtype != DTYPE_INT64) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                           "Value for attr 'out_type' of %s is not in the list of allowed values: int32, int64",
                           dtype_cpp_name(dtype));
    }
    return op_one_output(inference, dtype, shape);
}

static enum status infer_shape(struct inference *inference, struct error *error)
{
    int rank = inference->inputs[0].shape.rank;
    struct shape shape = shape_vector(rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : rank);
    return infer_whole_number(inference, &shape, error);
}

static enum status compute_shape(const struct op_run *run, struct error *error)
{
    const struct shape *shape = &run->inputs[0].shape;
    for (int i = 0; i < shape->rank; i++) {
        if (run->outputs[0].dtype == DTYPE_INT32 && shape->dimensions[i] > INT32_MAX) {
            return op_run_error(run, error, "Shape output type is 32-bit  but dim %d is %lld", i,
                                (long long)shape->dimensions[i]);
        }
        tensor_set_integer(&run->outputs[0], (size_t)i, shape->dimensions[i]);
    }
    return STATUS_OK;
}

SHAPE_OP(op_shape, "Shape", "shape", infer_shape, compute_shape, out_type)

/* ---- Size: x → how many elements; Rank: x → how many dimensions ---- */

static enum status infer_size(struct inference *inference, struct error *error)
{
    struct shape scalar = shape_scalar();
    return infer_whole_number(inference, &scalar, error);
}

static enum status compute_size(const struct op_run *run, struct error *error)
{
    size_t count = tensor_element_count(&run->inputs[0]);
    if (run->outputs[0].dtype == DTYPE_INT32 && count > INT32_MAX) {
        return op_run_error(run, error, "Number of elements was larger than representable by 32-bit output type");
    }
    tensor_set_integer(&run->outputs[0], 0, (int64_t)count);
    return STATUS_OK;
}

SHAPE_OP(op_size, "Size", "size", infer_size, compute_size, out_type)

static enum status compute_rank(const struct op_run *run, struct error *error)
{
    (void)error;
    tensor_set_integer(&run->outputs[0], 0, run->inputs[0].shape.rank);
    return STATUS_OK;
}

SHAPE_OP(op_rank, "Rank", "rank", infer_size, compute_rank, NULL)

/* ---- Reshape: tensor, shape → the same elements in that shape, of which one dimension may be −1 ---- */

/* Refuses values that no shape has, as TensorFlow's kernel does. */
static enum status check_new_shape(const struct inference *inference, const struct integers *wanted,
                                   struct error *error)
{
    int open = -1;
    if (wanted->count > SHAPE_RANK_MAX) {
        return array_rank_error(inference, (int64_t)wanted->count, error);
    }
    for (size_t i = 0; i < wanted->count; i++) {
        if (wanted->values[i] < -1) {
            return op_shape_error(inference, error, "Size %zu must be non-negative, not %lld", i,
                                  (long long)wanted->values[i]);
        }
        if (wanted->values[i] == -1) {
            if (open >= 0) {
                return op_shape_error(inference, error, "Only one input size may be -1, not both %d and %zu", open, i);
            }
            open = (int)i;
        }
    }
    return STATUS_OK;
}

static enum status refuse_reshape(const struct inference *inference, size_t count, size_t known, bool is_open,
                                  const struct shape *to, struct error *error)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    if (inference->is_planning) {
        return is_open
                   ? op_shape_error(inference, error,
                                    "Input to reshape is a tensor with %zu values, but the requested shape requires "
                                    "a multiple of %zu",
                                    count, known)
                   : op_shape_error(inference, error,
                                    "Input to reshape is a tensor with %zu values, but the requested shape has %zu",
                                    count, known);
    }
    if (is_open) {
        return op_shape_error(inference, error, "Dimension size must be evenly divisible by %zu but is %zu", known,
                              count);
    }
    return op_shape_error(inference, error, "Cannot reshape a tensor with %zu elements to shape %s (%zu elements)",
                          count, shape_cpp_text(to, text), known);
}

/* Fills the one unknown dimension of `to` from the number of elements, or checks the number. */
static enum status fit_reshape(const struct inference *inference, const struct shape *from, struct shape *to,
                               struct error *error)
{
    int open = -1;
    size_t known = 1;
    size_t count = 0;
    for (int i = 0; i < to->rank; i++) {
        if (to->dimensions[i] == DIMENSION_UNKNOWN) {
            if (open >= 0) {
                return STATUS_OK;
            }
            open = i;
        } else if (__builtin_mul_overflow(known, (size_t)to->dimensions[i], &known)) {
            return op_shape_error(inference, error, "The requested shape has too many elements");
        }
    }
    if (to->rank == SHAPE_RANK_UNKNOWN || !shape_is_fully_known(from) || !shape_element_count(from, &count)) {
        return STATUS_OK;
    }
    if (open >= 0 && known == 0) {
        return op_shape_error(inference, error,
                              "reshape cannot infer the missing input size for an empty tensor unless all specified "
                              "input sizes are non-zero");
    }
    if (open < 0 ? known != count : count % known != 0) {
        return refuse_reshape(inference, count, known, open >= 0, to, error);
    }
    if (open >= 0) {
        to->dimensions[open] = (int64_t)(count / known);
    }
    return STATUS_OK;
}

static enum status infer_reshape(struct inference *inference, struct error *error)
{
    struct integers wanted;
    bool is_known = false;
    int rank = inference->inputs[1].shape.rank;
    if (rank != SHAPE_RANK_UNKNOWN && rank != 1) {
        return op_shape_error(inference, error, "Shape must be rank 1 but is rank %d", rank);
    }
    TRY(array_integers(inference, 1, "shape", &is_known, &wanted, error));
    if (is_known) {
        TRY(check_new_shape(inference, &wanted, error));
    }
    struct shape to = constants_as_shape(inference, 1);
    TRY(fit_reshape(inference, &inference->inputs[0].shape, &to, error));
    return op_one_output(inference, inference->inputs[0].dtype, &to);
}

const struct op op_reshape = {.name = "Reshape",
                              .input_count = 2,
                              .flags = OP_ALIAS,
                              .infer = infer_reshape,
                              .gradient = array_gradient_reshape,
                              .call = "reshape",
                              .arguments = "tensor shape",
                              .argument_types = "Ti"};

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
        return refuse_reshape(inference, count, to_count, false, &to, error);
    }
    return op_one_output(inference, inference->inputs[0].dtype, &to);
}

const struct op op_reshape_like = {.name = "ReshapeLike",
                                   .input_count = 2,
                                   .flags = OP_ALIAS,
                                   .infer = infer_reshape_like,
                                   .gradient = array_gradient_reshape};

/* ---- ExpandDims: input, dim → a dimension of 1 more, at dim ---- */

static enum status infer_expand_dims(struct inference *inference, struct error *error)
{
    const struct shape *from = &inference->inputs[0].shape;
    int64_t dim = 0;
    bool is_known = false;
    struct shape to = shape_unknown();
    TRY(array_integer(inference, 1, "Tdim", &is_known, &dim, error));
    if (from->rank == SHAPE_RANK_UNKNOWN) {
        return op_one_output(inference, inference->inputs[0].dtype, &to);
    }
    TRY(array_unknown_shape(inference, from->rank + 1, &to, error));
    if (!is_known) {
        return op_one_output(inference, inference->inputs[0].dtype, &to);
    }
    if (dim < -from->rank - 1 || dim > from->rank) {
        return inference->is_planning
                   ? op_shape_error(inference, error, "Tried to expand dim index %lld for tensor with %d dimensions.",
                                    (long long)dim, from->rank)
                   : op_shape_error(inference, error, "dim %lld not in the interval [%d, %d].", (long long)dim,
                                    -from->rank - 1, from->rank);
    }
    int at = (int)(dim < 0 ? dim + from->rank + 1 : dim);
    for (int i = 0; i < to.rank; i++) {
        to.dimensions[i] = i == at ? 1 : from->dimensions[i - (i > at)];
    }
    return op_one_output(inference, inference->inputs[0].dtype, &to);
}

const struct op op_expand_dims = {.name = "ExpandDims",
                                  .input_count = 2,
                                  .flags = OP_ALIAS,
                                  .infer = infer_expand_dims,
                                  .gradient = array_gradient_reshape,
                                  .call = "expand_dims",
                                  .arguments = "input axis=dim",
                                  .argument_types = "Ti"};

/* ---- Squeeze: input → without dimensions of 1: all, or those that squeeze_dims lists ---- */

static const struct attribute_rule squeeze_attributes[] = {
    {.name = "squeeze_dims", .called = "axis", .kind = ATTRIBUTE_SHAPE},
    {.name = NULL},
};

/* Which dimensions are listed; all when none is. */
static enum status mark_squeezed(const struct inference *inference, const struct shape *from, bool *ret_all,
                                 bool *ret_marks, struct error *error)
{
    const struct attribute *dims = node_attribute(inference->node, "squeeze_dims");
    *ret_all = dims == NULL || dims->shape.rank <= 0;
    for (int i = 0; !*ret_all && i < dims->shape.rank; i++) {
        int64_t dim = dims->shape.dimensions[i];
        if (dim < -from->rank || dim >= from->rank) {
            return inference->is_planning
                       ? op_shape_error(inference, error,
                                        "Tried to squeeze dim index %lld for tensor with %d dimensions.",
                                        (long long)dim, from->rank)
                       : op_shape_error(inference, error, "%lld not in [-%d,%d).", (long long)dim, from->rank,
                                        from->rank);
        }
        ret_marks[dim < 0 ? dim + from->rank : dim] = true;
    }
    return STATUS_OK;
}

static enum status infer_squeeze(struct inference *inference, struct error *error)
{
    const struct shape *from = &inference->inputs[0].shape;
    struct shape to = {.rank = 0};
    bool marks[SHAPE_RANK_MAX] = {false};
    bool is_all = true;
    if (from->rank == SHAPE_RANK_UNKNOWN) {
        return op_one_output(inference, inference->inputs[0].dtype, from);
    }
    TRY(mark_squeezed(inference, from, &is_all, marks, error));
    for (int i = 0; i < from->rank; i++) {
        int64_t dimension = from->dimensions[i];
        if (is_all && dimension == DIMENSION_UNKNOWN) {
            to = shape_unknown();
            break;
        }
        if (!is_all && marks[i] && dimension != 1 && dimension != DIMENSION_UNKNOWN) {
            return op_shape_error(inference, error, "Can not squeeze dim[%d], expected a dimension of 1, got %lld", i,
                                  (long long)dimension);
        }
        if (is_all ? dimension != 1 : !marks[i]) {
            to.dimensions[to.rank++] = dimension;
        }
    }
    return op_one_output(inference, inference->inputs[0].dtype, &to);
}

const struct op op_squeeze = {.name = "Squeeze",
                              .input_count = 1,
                              .flags = OP_ALIAS,
                              .infer = infer_squeeze,
                              .gradient = array_gradient_reshape,
                              .call = "squeeze",
                              .arguments = "input",
                              .argument_types = "T",
                              .attributes = squeeze_attributes};
