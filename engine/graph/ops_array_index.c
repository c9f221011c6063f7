/* StridedSlice, Python's x[1:, ..., ::-1, None, 3], and its gradient, which puts the part back among zeros. Thread: see
 * op.h. Source of the rules: TensorFlow 1.15, core/util/strided_slice_op.cc. */
#include "engine/base/check.h"
#include "engine/graph/array_rules.h"

/* ---- StridedSlice: input, begin, end, strides; masks of bits, one for each entry of begin ---- */

/* A Python index: its numbers, where they are known, and its masks. */
struct index_spec {
    size_t count;
    const struct tensor *begin; /* NULL: not known */
    const struct tensor *end;
    const struct tensor *strides;
    int64_t begin_mask;
    int64_t end_mask;
    int64_t ellipsis_mask;
    int64_t new_axis_mask;
    int64_t shrink_axis_mask;
};

/* What it means for an input of a certain shape; what is not known is DIMENSION_UNKNOWN. */
struct indexing {
    struct array_cut cut;
    struct shape shape;  /* of the result */
    const char *problem; /* a format with `at`, `number`, when the index does not fit; else NULL */
    long long at;
    long long number;
};

static void read_spec(const struct node *node, const struct tensor *const *values, size_t first, size_t count,
                      struct index_spec *ret_spec)
{
    *ret_spec = (struct index_spec){.count = count,
                                    .begin = values[first],
                                    .end = values[first + 1],
                                    .strides = values[first + 2],
                                    .begin_mask = node_attribute_integer(node, "begin_mask", 0),
                                    .end_mask = node_attribute_integer(node, "end_mask", 0),
                                    .ellipsis_mask = node_attribute_integer(node, "ellipsis_mask", 0),
                                    .new_axis_mask = node_attribute_integer(node, "new_axis_mask", 0),
                                    .shrink_axis_mask = node_attribute_integer(node, "shrink_axis_mask", 0)};
}

static bool has_bit(int64_t mask, size_t bit)
{
    return bit < 63 && (mask >> bit & 1) != 0;
}

static void set_problem(struct indexing *indexing, const char *problem, long long at, long long number)
{
    if (indexing->problem == NULL) {
        indexing->problem = problem;
        indexing->at = at;
        indexing->number = number;
    }
}

static int64_t clamped(int64_t index, int64_t dimension, int64_t least, int64_t most)
{
    int64_t forward = index < 0 ? index + dimension : index;
    return forward < least ? least : forward > most ? most : forward;
}

/* Elements from begin to end in steps of stride. */
static int64_t steps(int64_t begin, int64_t end, int64_t stride)
{
    int64_t length = end - begin;
    if (length == 0 || (length < 0) != (stride < 0)) {
        return 0;
    }
    return length / stride + (length % stride != 0);
}

/* Entry `entry` of the index, applied to dimension `at` of the input. */
static void index_dimension(const struct index_spec *spec, size_t entry, int at, int64_t dimension,
                            struct indexing *indexing)
{
    bool is_shrunk = has_bit(spec->shrink_axis_mask, entry);
    bool no_begin = has_bit(spec->begin_mask, entry);
    bool no_end = has_bit(spec->end_mask, entry);
    int64_t stride = tensor_integer(spec->strides, entry);
    int64_t begin = 0;
    int64_t count = is_shrunk ? 1 : DIMENSION_UNKNOWN;
    if (stride == 0) {
        set_problem(indexing, "strides[%lld] must be non-zero", at, 0);
        return;
    }
    if (is_shrunk && stride < 0) {
        set_problem(indexing, "only stride 1 allowed on non-range indexing.", at, 0);
        return;
    }
    stride = stride < -INT32_MAX ? -INT32_MAX : stride > INT32_MAX ? INT32_MAX : stride;
    bool is_known = dimension != DIMENSION_UNKNOWN && (no_begin || spec->begin != NULL);
    if (is_known && is_shrunk) {
        int64_t given = spec->begin == NULL ? 0 : tensor_integer(spec->begin, entry);
        begin = given < 0 ? given + dimension : given;
        if (begin < 0 || begin >= dimension) {
            set_problem(indexing, "slice index %lld of dimension %lld out of bounds.", begin, at);
            return;
        }
    } else if (is_known && (no_end || spec->end != NULL)) {
        int64_t least = stride > 0 ? 0 : -1;
        int64_t most = stride > 0 ? dimension : dimension - 1;
        begin = no_begin ? (stride > 0 ? least : most)
                         : clamped(tensor_integer(spec->begin, entry), dimension, least, most);
        int64_t end =
            no_end ? (stride > 0 ? most : least) : clamped(tensor_integer(spec->end, entry), dimension, least, most);
        count = steps(begin, end, stride);
    }
    indexing->cut.begin[at] = begin;
    indexing->cut.stride[at] = stride;
    indexing->cut.count[at] = count;
    if (!is_shrunk) {
        if (indexing->shape.rank < SHAPE_RANK_MAX) {
            indexing->shape.dimensions[indexing->shape.rank] = count;
        }
        indexing->shape.rank++;
    }
}

static void index_whole_dimension(int at, int64_t dimension, struct indexing *indexing)
{
    indexing->cut.begin[at] = 0;
    indexing->cut.stride[at] = 1;
    indexing->cut.count[at] = dimension;
    if (indexing->shape.rank < SHAPE_RANK_MAX) {
        indexing->shape.dimensions[indexing->shape.rank] = dimension;
    }
    indexing->shape.rank++;
}

/* Dimensions that entries behind the ellipsis take. */
static int dimensions_behind(const struct index_spec *spec, size_t ellipsis)
{
    int count = 0;
    for (size_t i = ellipsis + 1; i < spec->count; i++) {
        count += !has_bit(spec->new_axis_mask, i);
    }
    return count;
}

/* Applies an index whose strides are known to an input of a known rank. */
static void apply_index(const struct index_spec *spec, const struct shape *from, struct indexing *ret_indexing)
{
    *ret_indexing = (struct indexing){.cut = {.rank = from->rank}};
    bool has_ellipsis = false;
    int at = 0;
    for (size_t i = 0; i < spec->count; i++) {
        if (has_bit(spec->ellipsis_mask, i)) {
            if (has_ellipsis) {
                set_problem(ret_indexing, "Multiple ellipses in slice spec not allowed", 0, 0);
            }
            has_ellipsis = true;
            for (int end = from->rank - dimensions_behind(spec, i); at < end; at++) {
                index_whole_dimension(at, from->dimensions[at], ret_indexing);
            }
        } else if (has_bit(spec->new_axis_mask, i)) {
            if (ret_indexing->shape.rank < SHAPE_RANK_MAX) {
                ret_indexing->shape.dimensions[ret_indexing->shape.rank] = 1;
            }
            ret_indexing->shape.rank++;
        } else if (at == from->rank) {
            set_problem(ret_indexing, "Index out of range using input dim %lld; input has only %lld dims", at, at);
            return;
        } else {
            index_dimension(spec, i, at, from->dimensions[at], ret_indexing);
            at++;
        }
    }
    for (; at < from->rank; at++) {
        index_whole_dimension(at, from->dimensions[at], ret_indexing);
    }
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the formats are apply_index's own */
static const char *problem_text(const struct indexing *indexing, char *text, size_t bytes)
{
    snprintf(text, bytes, indexing->problem, indexing->at, indexing->number);
    return text;
}
#pragma GCC diagnostic pop

/* The index among inputs first, first + 1, first + 2; `ret_usable`: enough of it is known to apply it. */
static enum status infer_spec(const struct inference *inference, size_t first, struct index_spec *ret_spec,
                              bool *ret_usable, struct error *error)
{
    int64_t count = DIMENSION_UNKNOWN;
    static const char *const parameters[] = {"begin", "end", "strides"};
    for (size_t i = 0; i < 3; i++) {
        int64_t length = array_vector_length(inference, first + i);
        TRY(op_check_type(inference, first + i, parameters[i], TYPES_INTEGER, error));
        if (count != DIMENSION_UNKNOWN && length != DIMENSION_UNKNOWN && count != length) {
            return op_shape_error(inference, error, "Expected begin, end, and strides to be 1D equal size tensors");
        }
        count = length == DIMENSION_UNKNOWN ? count : length;
    }
    if (count > 2 * SHAPE_RANK_MAX) {
        return array_rank_error(inference, count, error);
    }
    *ret_usable = count != DIMENSION_UNKNOWN && inference->constants[first + 2] != NULL;
    if (*ret_usable) {
        read_spec(inference->node, inference->constants, first, (size_t)count, ret_spec);
    }
    return STATUS_OK;
}

static enum status infer_strided_slice(struct inference *inference, struct error *error)
{
    struct index_spec spec;
    struct indexing indexing;
    char text[128];
    bool is_usable = false;
    struct shape unknown = shape_unknown();
    const struct shape *from = &inference->inputs[0].shape;
    TRY(infer_spec(inference, 1, &spec, &is_usable, error));
    if (!is_usable || from->rank == SHAPE_RANK_UNKNOWN) {
        return op_one_output(inference, inference->inputs[0].dtype, &unknown);
    }
    apply_index(&spec, from, &indexing);
    if (indexing.problem != NULL) {
        return op_shape_error(inference, error, "%s", problem_text(&indexing, text, sizeof text));
    }
    if (indexing.shape.rank > SHAPE_RANK_MAX) {
        return array_rank_error(inference, indexing.shape.rank, error);
    }
    return op_one_output(inference, inference->inputs[0].dtype, &indexing.shape);
}

/* The part of a run's index; refuses indices outside, and a shape other than the plan's. */
static enum status run_index(const struct op_run *run, size_t first, const struct shape *whole,
                             const struct shape *part, struct array_cut *ret_cut, struct error *error)
{
    struct index_spec spec;
    struct indexing indexing;
    char text[128];
    const struct tensor *values[3] = {&run->inputs[first], &run->inputs[first + 1], &run->inputs[first + 2]};
    read_spec(run->node, values, 0, tensor_element_count(values[0]), &spec);
    apply_index(&spec, whole, &indexing);
    if (indexing.problem != NULL) {
        return op_run_error(run, error, "%s", problem_text(&indexing, text, sizeof text));
    }
    if (!shape_equal(&indexing.shape, part)) {
        return op_run_error(run, error, "the index gives %s, not %s as before the run",
                            shape_cpp_text(&indexing.shape, (char[SHAPE_TEXT_BYTES_MAX]){0}),
                            shape_cpp_text(part, (char[SHAPE_TEXT_BYTES_MAX]){0}));
    }
    *ret_cut = indexing.cut;
    return STATUS_OK;
}

static enum status compute_strided_slice(const struct op_run *run, struct error *error)
{
    struct array_cut cut;
    const struct tensor *from = &run->inputs[0];
    TRY(run_index(run, 1, &from->shape, &run->outputs[0].shape, &cut, error));
    array_move_cut(CUT_TAKE_OUT, &cut, &from->shape, dtype_bytes(from->dtype), from->data, run->outputs[0].data);
    return STATUS_OK;
}

static enum status gradient_strided_slice(struct graph *graph, const struct node *node, const struct output *gradients,
                                          struct output *ret, struct error *error)
{
    struct output inputs[] = {{NULL, 0}, node->inputs[1], node->inputs[2], node->inputs[3], gradients[0]};
    ret[1] = ret[2] = ret[3] = (struct output){NULL, 0};
    TRY(graph_add_unary(graph, "Shape", node->inputs[0], &inputs[0], error));
    return array_add_like(graph, "StridedSliceGrad", node, inputs, 5, &ret[0], error);
}

static const struct attribute_rule masks[] = {
    {.name = "begin_mask", .kind = ATTRIBUTE_INTEGER},       {.name = "end_mask", .kind = ATTRIBUTE_INTEGER},
    {.name = "ellipsis_mask", .kind = ATTRIBUTE_INTEGER},    {.name = "new_axis_mask", .kind = ATTRIBUTE_INTEGER},
    {.name = "shrink_axis_mask", .kind = ATTRIBUTE_INTEGER}, {.name = NULL},
};

/* Strides left out are ones like begin. */
static enum status complete_strided_slice(struct graph *graph, struct output *inputs, size_t input_count,
                                          struct error *error)
{
    CHECK(input_count == 4);
    return inputs[3].node != NULL ? STATUS_OK
                                  : graph_add(graph, "OnesLike", "ones_like", &inputs[1], 1, &inputs[3], error);
}

const struct op op_strided_slice = {.name = "StridedSlice",
                                    .input_count = 4,
                                    .infer = infer_strided_slice,
                                    .compute = compute_strided_slice,
                                    .gradient = gradient_strided_slice,
                                    .call = "strided_slice",
                                    .arguments = "input_=input begin end strides?",
                                    .argument_types = "Tiii",
                                    .attributes = masks,
                                    .complete = complete_strided_slice};

/* ---- StridedSliceGrad: shape, begin, end, strides, dy ---- */

static enum status infer_strided_slice_grad(struct inference *inference, struct error *error)
{
    struct index_spec spec;
    bool is_usable = false;
    TRY(infer_spec(inference, 1, &spec, &is_usable, error));
    struct shape shape = constants_as_shape(inference, 0);
    return op_one_output(inference, inference->inputs[4].dtype, &shape);
}

static enum status compute_strided_slice_grad(const struct op_run *run, struct error *error)
{
    struct array_cut cut;
    const struct tensor *part = &run->inputs[4];
    const struct tensor *whole = &run->outputs[0];
    TRY(run_index(run, 1, &whole->shape, &part->shape, &cut, error));
    memset(whole->data, 0, tensor_bytes(whole));
    array_move_cut(CUT_PUT_BACK, &cut, &whole->shape, dtype_bytes(whole->dtype), whole->data, part->data);
    return STATUS_OK;
}

static enum status gradient_strided_slice_grad(struct graph *graph, const struct node *node,
                                               const struct output *gradients, struct output *ret, struct error *error)
{
    struct output inputs[] = {gradients[0], node->inputs[1], node->inputs[2], node->inputs[3]};
    for (size_t i = 0; i < 4; i++) {
        ret[i] = (struct output){NULL, 0};
    }
    return array_add_like(graph, "StridedSlice", node, inputs, 4, &ret[4], error);
}

const struct op op_strided_slice_grad = {.name = "StridedSliceGrad",
                                         .input_count = 5,
                                         .infer = infer_strided_slice_grad,
                                         .compute = compute_strided_slice_grad,
                                         .gradient = gradient_strided_slice_grad};
