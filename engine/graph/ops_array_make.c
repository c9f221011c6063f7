/* Ops that make tensors out of little: Fill, ZerosLike, OnesLike, Range, LinSpace; and Select, which mixes two. Thread:
 * see op.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/array_rules.h"

/* ---- Fill: dims, value ---- */

static enum status infer_fill(struct inference *inference, struct error *error)
{
    struct integers dims;
    bool is_known = false;
    TRY(array_integers(inference, 0, "dims", &is_known, &dims, error));
    if (inference->inputs[1].shape.rank > 0) {
        return op_shape_error(inference, error, "value must be a scalar, got rank %d", inference->inputs[1].shape.rank);
    }
    if (inference->inputs[0].shape.rank > 1 || inference->inputs[0].shape.rank == 0) {
        return op_shape_error(inference, error, "Shape must be rank 1 but is rank %d", inference->inputs[0].shape.rank);
    }
    if (is_known && dims.count > SHAPE_RANK_MAX) {
        return array_rank_error(inference, (int64_t)dims.count, error);
    }
    for (size_t i = 0; is_known && i < dims.count; i++) {
        if (dims.values[i] < 0) {
            return op_shape_error(inference, error, "Dimension %lld must be >= 0", (long long)dims.values[i]);
        }
    }
    struct shape shape = constants_as_shape(inference, 0);
    return op_one_output(inference, inference->inputs[1].dtype, &shape);
}

static enum status compute_fill(const struct op_run *run, struct error *error)
{
    (void)error;
    array_fill(&run->outputs[0], run->inputs[1].data);
    return STATUS_OK;
}

static enum status gradient_fill(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    ret[0] = (struct output){NULL, 0};
    return graph_add_sum_to_shape(graph, gradients[0], node->inputs[1], &ret[1], error);
}

const struct op op_fill = {.name = "Fill",
                           .input_count = 2,
                           .infer = infer_fill,
                           .compute = compute_fill,
                           .gradient = gradient_fill,
                           .call = "fill",
                           .arguments = "dims value",
                           .argument_types = "iA"};

/* ---- ZerosLike, OnesLike: x → 0 or 1 in x's shape ---- */

static enum status compute_zeros_like(const struct op_run *run, struct error *error)
{
    (void)error;
    memset(run->outputs[0].data, 0, tensor_bytes(&run->outputs[0]));
    return STATUS_OK;
}

static enum status compute_ones_like(const struct op_run *run, struct error *error)
{
    (void)error;
    uint64_t one = 0;
    struct tensor element = {run->outputs[0].dtype, shape_scalar(), &one};
    tensor_set_number(&element, 0, 1);
    array_fill(&run->outputs[0], &one);
    return STATUS_OK;
}

const struct op op_zeros_like = {.name = "ZerosLike",
                                 .input_count = 1,
                                 .flags = OP_OF_SHAPE,
                                 .infer = op_infer_same,
                                 .compute = compute_zeros_like,
                                 .gradient = op_gradient_none};
const struct op op_ones_like = {.name = "OnesLike",
                                .input_count = 1,
                                .flags = OP_OF_SHAPE,
                                .infer = op_infer_same,
                                .compute = compute_ones_like,
                                .gradient = op_gradient_none};

/* ---- Range: start, limit, delta → start, start + delta, … below limit ---- */

/* How many whole numbers; a message's format with start and limit when there are none to be had. */
static const char *count_whole(int64_t start, int64_t limit, int64_t delta, int64_t *ret_count)
{
    if (delta == 0) {
        return "Requires delta != 0: ";
    }
    if (delta > 0 ? start > limit : start < limit) {
        return delta > 0 ? "Requires start <= limit when delta > 0: " : "Requires start >= limit when delta < 0: ";
    }
    uint64_t distance = delta > 0 ? (uint64_t)limit - (uint64_t)start : (uint64_t)start - (uint64_t)limit;
    uint64_t step = delta > 0 ? (uint64_t)delta : -(uint64_t)delta;
    uint64_t count = distance / step + (distance % step != 0);
    *ret_count = count > INT64_MAX ? INT64_MAX : (int64_t)count;
    return NULL;
}

static const char *count_numbers(double start, double limit, double delta, int64_t *ret_count)
{
    double count = delta == 0 ? 0 : ceil(fabs((limit - start) / delta));
    if (delta == 0) {
        return "Requires delta != 0: ";
    }
    if (delta > 0 ? start > limit : start < limit) {
        return delta > 0 ? "Requires start <= limit when delta > 0: " : "Requires start >= limit when delta < 0: ";
    }
    if (!(count < 0x1p62)) {
        return "Requires as many elements as can be counted: ";
    }
    *ret_count = (int64_t)count;
    return NULL;
}

static enum status infer_range(struct inference *inference, struct error *error)
{
    static const char *const parameters[] = {"start", "limit", "delta"};
    struct shape shape = shape_vector(DIMENSION_UNKNOWN);
    bool is_known = true;
    for (size_t i = 0; i < 3; i++) {
        TRY(op_check_type(inference, i, parameters[i], TYPES_NUMBER, error));
        TRY(op_check_same_type(inference, i, parameters[i], 0, "start", error));
        if (inference->inputs[i].shape.rank > 0) {
            return op_shape_error(inference, error, "Shape must be rank 0 but is rank %d",
                                  inference->inputs[i].shape.rank);
        }
        is_known = is_known && inference->constants[i] != NULL;
    }
    enum dtype dtype = inference->inputs[0].dtype;
    if (!is_known) {
        return op_one_output(inference, dtype, &shape);
    }
    const struct tensor *const *values = inference->constants;
    const char *problem = dtype_is_integer(dtype)
                              ? count_whole(tensor_integer(values[0], 0), tensor_integer(values[1], 0),
                                            tensor_integer(values[2], 0), &shape.dimensions[0])
                              : count_numbers(tensor_number(values[0], 0), tensor_number(values[1], 0),
                                              tensor_number(values[2], 0), &shape.dimensions[0]);
    if (problem != NULL) {
        return op_shape_error(inference, error, "%s%.12g/%.12g", problem, tensor_number(values[0], 0),
                              tensor_number(values[1], 0));
    }
    return op_one_output(inference, dtype, &shape);
}

/* TensorFlow's kernel adds delta again and again; whole numbers wrap as its do. */
static enum status compute_range(const struct op_run *run, struct error *error)
{
    (void)error;
    struct tensor *to = &run->outputs[0];
    size_t count = tensor_element_count(to);
    if (dtype_is_integer(to->dtype)) {
        uint64_t value = (uint64_t)tensor_integer(&run->inputs[0], 0);
        uint64_t delta = (uint64_t)tensor_integer(&run->inputs[2], 0);
        for (size_t i = 0; i < count; i++, value += delta) {
            tensor_set_integer(to, i, (int64_t)value);
        }
    } else if (to->dtype == DTYPE_FLOAT32) {
        float value = *(const float *)run->inputs[0].data;
        for (size_t i = 0; i < count; i++, value += *(const float *)run->inputs[2].data) {
            ((float *)to->data)[i] = value;
        }
    } else {
        double value = *(const double *)run->inputs[0].data;
        for (size_t i = 0; i < count; i++, value += *(const double *)run->inputs[2].data) {
            ((double *)to->data)[i] = value;
        }
    }
    return STATUS_OK;
}

const struct op op_range = {
    .name = "Range", .input_count = 3, .infer = infer_range, .compute = compute_range, .gradient = op_gradient_none};

/* ---- LinSpace: start, stop, num → num numbers from start to stop ---- */

static enum status infer_lin_space(struct inference *inference, struct error *error)
{
    struct shape shape = shape_vector(DIMENSION_UNKNOWN);
    bool is_known = false;
    int64_t num = 0;
    TRY(op_check_type(inference, 0, "start", TYPES_FLOAT, error));
    TRY(op_check_same_type(inference, 1, "stop", 0, "start", error));
    TRY(array_integer(inference, 2, "num", &is_known, &num, error));
    for (size_t i = 0; i < 2; i++) {
        if (inference->inputs[i].shape.rank > 0) {
            return op_shape_error(inference, error, "Shape must be rank 0 but is rank %d",
                                  inference->inputs[i].shape.rank);
        }
    }
    if (is_known && num <= 0) {
        return op_shape_error(inference, error, "Requires num > 0: %lld", (long long)num);
    }
    shape.dimensions[0] = is_known ? num : DIMENSION_UNKNOWN;
    return op_one_output(inference, inference->inputs[0].dtype, &shape);
}

static enum status compute_lin_space(const struct op_run *run, struct error *error)
{
    (void)error;
    struct tensor *to = &run->outputs[0];
    size_t count = tensor_element_count(to);
    double start = tensor_number(&run->inputs[0], 0);
    double stop = tensor_number(&run->inputs[1], 0);
    float step = count < 2 ? 0 : ((float)stop - (float)start) / (float)(count - 1);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && i == count - 1) {
            tensor_set_number(to, i, stop);
        } else if (to->dtype == DTYPE_FLOAT32) {
            ((float *)to->data)[i] = (float)start + step * (float)i;
        } else {
            ((double *)to->data)[i] = start + (count < 2 ? 0 : (stop - start) / (double)(count - 1)) * (double)i;
        }
    }
    return STATUS_OK;
}

const struct op op_lin_space = {.name = "LinSpace",
                                .input_count = 3,
                                .infer = infer_lin_space,
                                .compute = compute_lin_space,
                                .gradient = op_gradient_none,
                                .call = "lin_space|linspace",
                                .arguments = "start stop num",
                                .argument_types = "ffi"};

/* ---- Select: condition, x, y; the condition has their shape, or is a vector that picks rows, or a scalar ---- */

static enum status infer_select(struct inference *inference, struct error *error)
{
    const struct shape *condition = &inference->inputs[0].shape;
    struct shape shape;
    TRY(op_expect(inference, 0, DTYPE_BOOL, SHAPE_RANK_UNKNOWN, error));
    TRY(op_check_same_type(inference, 2, "e", 1, "t", error));
    TRY(array_merge(inference, &inference->inputs[1].shape, &inference->inputs[2].shape, -1, &shape, error));
    bool is_any = condition->rank == 0 || condition->rank == SHAPE_RANK_UNKNOWN || shape.rank == SHAPE_RANK_UNKNOWN;
    if (!is_any && condition->rank == 1 && shape.rank != 1) {
        int64_t rows = shape.rank == 0 ? -2 : shape.dimensions[0];
        int64_t count = condition->dimensions[0];
        if (rows != DIMENSION_UNKNOWN && count != DIMENSION_UNKNOWN && rows != count) {
            return op_shape_error(inference, error,
                                  "Number of batches of 'then' must match size of 'cond', but saw: %lld vs. %lld",
                                  (long long)rows, (long long)count);
        }
    } else if (!is_any) {
        TRY(array_merge(inference, &shape, condition, -1, &shape, error));
    }
    return op_one_output(inference, inference->inputs[1].dtype, &shape);
}

static enum status compute_select(const struct op_run *run, struct error *error)
{
    (void)error;
    size_t count = tensor_element_count(&run->inputs[0]);
    size_t bytes = tensor_bytes(&run->outputs[0]);
    size_t run_bytes = count == 0 ? 0 : bytes / count;
    const bool *condition = run->inputs[0].data;
    for (size_t i = 0; run_bytes > 0 && i < count; i++) {
        const struct tensor *from = &run->inputs[condition[i] ? 1 : 2];
        memcpy((char *)run->outputs[0].data + i * run_bytes, (const char *)from->data + i * run_bytes, run_bytes);
    }
    return STATUS_OK;
}

static enum status gradient_select(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret, struct error *error)
{
    struct output zeros;
    struct output condition = node->inputs[0];
    ret[0] = (struct output){NULL, 0};
    TRY(graph_add_zeros_like(graph, node->inputs[1], &zeros, error));
    TRY(graph_add(graph, "Select", NULL, (struct output[]){condition, gradients[0], zeros}, 3, &ret[1], error));
    return graph_add(graph, "Select", NULL, (struct output[]){condition, zeros, gradients[0]}, 3, &ret[2], error);
}

/* tf.where's other form gives as many rows as hold: a shape that depends on the numbers of the run. */
static enum status complete_select(struct graph *graph, struct output *inputs, size_t input_count, struct error *error)
{
    (void)graph;
    CHECK(input_count == 3);
    if (inputs[1].node == NULL && inputs[2].node == NULL) {
        return error_set(error, STATUS_UNSUPPORTED,
                         "where(condition) without x and y: the shape of its result depends on the values of the run, "
                         "and shapes are known before a run here");
    }
    if (inputs[1].node == NULL || inputs[2].node == NULL) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "x and y must both be non-None or both be None.");
    }
    return STATUS_OK;
}

const struct op op_select = {.name = "Select",
                             .input_count = 3,
                             .infer = infer_select,
                             .compute = compute_select,
                             .gradient = gradient_select,
                             .call = "where|select",
                             .arguments = "condition x=t? y=e?",
                             .argument_types = "bTT",
                             .complete = complete_select};
