/* Along one dimension: ArgMax, ArgMin, Cumsum, Cumprod. Thread: see op.h. */
#include "engine/base/check.h"
#include "engine/graph/op_rules.h"

/* A tensor seen along one dimension: element (outer, i, inner) is at (outer · size + i) · inner_count + inner. */
struct lines {
    size_t outer_count;
    size_t size;
    size_t inner_count;
};

static struct lines lines_along(const struct shape *shape, int axis)
{
    struct lines lines = {1, (size_t)shape->dimensions[axis], 1};
    for (int i = 0; i < shape->rank; i++) {
        size_t *count = i < axis ? &lines.outer_count : &lines.inner_count;
        *count *= i == axis ? 1 : (size_t)shape->dimensions[i];
    }
    return lines;
}

/* The axis a scalar says, counted from 0; false when the rank has no such. */
static bool axis_of(const struct tensor *scalar, int rank, int64_t *ret_axis)
{
    *ret_axis = tensor_integer(scalar, 0);
    bool is_valid = *ret_axis >= -rank && *ret_axis < rank;
    *ret_axis += is_valid && *ret_axis < 0 ? rank : 0;
    return is_valid;
}

static enum status check_axis_type(const struct inference *inference, const char *parameter, struct error *error)
{
    TRY(op_check_type(inference, 1, parameter, TYPES_INTEGER, error));
    int rank = inference->inputs[1].shape.rank;
    return rank > 0 ? op_shape_error(inference, error, "Shape must be rank 0 but is rank %d", rank) : STATUS_OK;
}

/* ---- ArgMax, ArgMin: input, dimension; attribute output_type. The first of equals ---- */

static enum status infer_arg(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "input", TYPES_NUMBER, error));
    TRY(check_axis_type(inference, "dimension", error));
    const struct attribute *type = node_attribute(inference->node, "output_type");
    enum dtype dtype = type == NULL ? DTYPE_INT64 : type->dtype;
    if ((TYPES_INTEGER >> dtype & 1) == 0) {
        return error_raise(
            error, STATUS_INVALID, EXCEPTION_TYPE,
            "Value passed to parameter 'output_type' has DataType %s not in list of allowed values: int32, int64",
            dtype_name(dtype));
    }
    const struct shape *from = &inference->inputs[0].shape;
    const struct tensor *dimension = inference->constants[1];
    struct shape shape = from->rank == SHAPE_RANK_UNKNOWN ? shape_unknown() : shape_scalar();
    int64_t axis = 0;
    if (from->rank > 0 && dimension != NULL && !axis_of(dimension, from->rank, &axis)) {
        return op_shape_error(inference, error,
                              "Dimension (%lld) must be in the range [%d, %d), where %d is the number of dimensions in "
                              "the input.",
                              (long long)axis, -from->rank, from->rank, from->rank);
    }
    for (int i = 0; i < from->rank; i++) {
        if (dimension == NULL && i > 0) {
            shape.dimensions[shape.rank++] = DIMENSION_UNKNOWN;
        } else if (dimension != NULL && i != axis) {
            shape.dimensions[shape.rank++] = from->dimensions[i];
        }
    }
    return op_one_output(inference, dtype, &shape);
}

/* The index in a line of what compares best; a NaN never does. */
#define FIND_BEST(TYPE, OPERATOR)                                                                                      \
    for (size_t i = 1; i < lines->size; i++) {                                                                         \
        const TYPE *at = (const TYPE *)from->data + start;                                                             \
        TYPE x = at[i * lines->inner_count];                                                                           \
        TYPE leader = at[best * lines->inner_count];                                                                   \
        best = x OPERATOR leader || (leader != leader && x == x) ? i : best;                                           \
    }

static size_t best_in_line(const struct tensor *from, const struct lines *lines, size_t start, bool wants_max)
{
    size_t best = 0;
    switch ((int)from->dtype * 2 + wants_max) {
    case DTYPE_FLOAT32 * 2 + 1: FIND_BEST(float, >) break;
    case DTYPE_FLOAT32 * 2: FIND_BEST(float, <) break;
    case DTYPE_FLOAT64 * 2 + 1: FIND_BEST(double, >) break;
    case DTYPE_FLOAT64 * 2: FIND_BEST(double, <) break;
    case DTYPE_INT32 * 2 + 1: FIND_BEST(int32_t, >) break;
    case DTYPE_INT32 * 2: FIND_BEST(int32_t, <) break;
    case DTYPE_INT64 * 2 + 1: FIND_BEST(int64_t, >) break;
    case DTYPE_INT64 * 2: FIND_BEST(int64_t, <) break;
    default: CHECK(false);
    }
    return best;
}

static enum status compute_arg(const struct op_run *run, struct error *error)
{
    const struct tensor *from = &run->inputs[0];
    int rank = from->shape.rank;
    int64_t axis = 0;
    if (!axis_of(&run->inputs[1], rank, &axis)) {
        return op_run_error(run, error, "Expected dimension in the range [%d, %d), but got %lld", -rank, rank,
                            (long long)axis);
    }
    struct lines lines = lines_along(&from->shape, (int)axis);
    if (lines.size == 0) {
        char text[SHAPE_TEXT_BYTES_MAX];
        return op_run_error(run, error, "Reduction axis %lld is empty in shape %s", (long long)axis,
                            shape_cpp_text(&from->shape, text));
    }
    bool wants_max = node_is(run->node, "ArgMax");
    size_t count = tensor_element_count(&run->outputs[0]);
    for (size_t i = 0; i < count; i++) {
        size_t start = i / lines.inner_count * lines.size * lines.inner_count + i % lines.inner_count;
        tensor_set_integer(&run->outputs[0], i, (int64_t)best_in_line(from, &lines, start, wants_max));
    }
    return STATUS_OK;
}

/* TensorFlow's Python takes the first dimension, unless told otherwise. */
static enum status complete_arg(struct graph *graph, struct output *inputs, size_t input_count, struct error *error)
{
    return input_count < 2 || inputs[1].node != NULL ? STATUS_OK
                                                     : graph_add_integer(graph, "dimension", 0, &inputs[1], error);
}

static const struct attribute_rule arg_attributes[] = {
    {.name = "output_type", .kind = ATTRIBUTE_DTYPE, .otherwise = DTYPE_INT64}, {.name = NULL}};

#define ARG_OP(ROW, NAME, CALL)                                                                                        \
    const struct op ROW = {.name = NAME,                                                                               \
                           .input_count = 2,                                                                           \
                           .infer = infer_arg,                                                                         \
                           .compute = compute_arg,                                                                     \
                           .gradient = op_gradient_none,                                                               \
                           .call = CALL,                                                                               \
                           .arguments = "input axis=dimension?",                                                       \
                           .argument_types = "Ti",                                                                     \
                           .attributes = arg_attributes,                                                               \
                           .complete = complete_arg};

ARG_OP(op_arg_max, "ArgMax", "argmax|arg_max")
ARG_OP(op_arg_min, "ArgMin", "argmin|arg_min")

/* ---- Cumsum, Cumprod: x, axis; attributes exclusive (without the element itself), reverse (from the end) ---- */

static enum status infer_scan(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "x", TYPES_NUMBER, error));
    TRY(check_axis_type(inference, "axis", error));
    return op_infer_same(inference, error);
}

#define SCAN_LINE(TYPE, TOTAL)                                                                                         \
    {                                                                                                                  \
        TOTAL total = is_product ? 1 : 0;                                                                              \
        for (size_t k = 0; k < lines->size; k++) {                                                                     \
            size_t at = start + (is_reverse ? lines->size - 1 - k : k) * lines->inner_count;                           \
            TOTAL x = (TOTAL)((const TYPE *)from->data)[at];                                                           \
            TOTAL before = total;                                                                                      \
            total = is_product ? total * x : total + x;                                                                \
            ((TYPE *)to->data)[at] = (TYPE)(is_exclusive ? before : total);                                            \
        }                                                                                                              \
    }

static void scan_line(const struct op_run *run, const struct lines *lines, size_t start)
{
    const struct tensor *from = &run->inputs[0];
    const struct tensor *to = &run->outputs[0];
    bool is_product = node_is(run->node, "Cumprod");
    bool is_exclusive = node_attribute_boolean(run->node, "exclusive", false);
    bool is_reverse = node_attribute_boolean(run->node, "reverse", false);
    switch ((int)from->dtype) {
    case DTYPE_FLOAT32: SCAN_LINE(float, float) return;
    case DTYPE_FLOAT64: SCAN_LINE(double, double) return;
    case DTYPE_INT32: SCAN_LINE(int32_t, uint32_t) return;
    case DTYPE_INT64: SCAN_LINE(int64_t, uint64_t) return;
    default: CHECK(false);
    }
}

static enum status compute_scan(const struct op_run *run, struct error *error)
{
    const struct shape *shape = &run->inputs[0].shape;
    int64_t axis = 0;
    if (!axis_of(&run->inputs[1], shape->rank, &axis)) {
        return op_run_error(run, error, "ScanOp: Expected scan axis in the range [%d, %d), but got %lld", -shape->rank,
                            shape->rank, (long long)axis);
    }
    struct lines lines = lines_along(shape, (int)axis);
    for (size_t outer = 0; outer < lines.outer_count; outer++) {
        for (size_t inner = 0; inner < lines.inner_count; inner++) {
            scan_line(run, &lines, outer * lines.size * lines.inner_count + inner);
        }
    }
    return STATUS_OK;
}

/* A running sum of `summands`, in the opposite direction of the node's. */
static enum status add_sum_back(struct graph *graph, const struct node *node, struct output summands,
                                struct output *ret_output, struct error *error)
{
    struct attribute attributes[] = {
        {.name = "exclusive", .kind = ATTRIBUTE_BOOLEAN, .boolean = node_attribute_boolean(node, "exclusive", false)},
        {.name = "reverse", .kind = ATTRIBUTE_BOOLEAN, .boolean = !node_attribute_boolean(node, "reverse", false)}};
    struct output inputs[] = {summands, node->inputs[1]};
    struct node_options options = {.inputs = inputs, .input_count = 2, .attributes = attributes, .attribute_count = 2};
    struct node *sum = NULL;
    TRY(graph_add_node(graph, "Cumsum", &options, &sum, error));
    *ret_output = (struct output){sum, 0};
    return STATUS_OK;
}

static enum status gradient_cumsum(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret, struct error *error)
{
    ret[1] = (struct output){NULL, 0};
    return add_sum_back(graph, node, gradients[0], &ret[0], error);
}

/* As TensorFlow's: the running sum back of y·g, divided by x; not a number where x is 0. */
static enum status gradient_cumprod(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    struct output product;
    ret[1] = (struct output){NULL, 0};
    TRY(graph_add_binary(graph, "Mul", node_own_output(graph, node, 0), gradients[0], &product, error));
    TRY(add_sum_back(graph, node, product, &product, error));
    return graph_add_binary(graph, "RealDiv", product, node->inputs[0], &ret[0], error);
}

static enum status complete_scan(struct graph *graph, struct output *inputs, size_t input_count, struct error *error)
{
    return input_count < 2 || inputs[1].node != NULL ? STATUS_OK
                                                     : graph_add_integer(graph, "axis", 0, &inputs[1], error);
}

static const struct attribute_rule scan_attributes[] = {
    {.name = "exclusive", .kind = ATTRIBUTE_BOOLEAN}, {.name = "reverse", .kind = ATTRIBUTE_BOOLEAN}, {.name = NULL}};

#define SCAN_OP(ROW, NAME, CALL, GRADIENT)                                                                             \
    const struct op ROW = {.name = NAME,                                                                               \
                           .input_count = 2,                                                                           \
                           .infer = infer_scan,                                                                        \
                           .compute = compute_scan,                                                                    \
                           .gradient = GRADIENT,                                                                       \
                           .call = CALL,                                                                               \
                           .arguments = "x axis?",                                                                     \
                           .argument_types = "Ti",                                                                     \
                           .attributes = scan_attributes,                                                              \
                           .complete = complete_scan};

SCAN_OP(op_cumsum, "Cumsum", "cumsum", gradient_cumsum)
SCAN_OP(op_cumprod, "Cumprod", "cumprod", gradient_cumprod)
