/* Sums of tensors, and what takes gradients over a broadcast and back: AddN, SumToShape, BroadcastLike, BroadcastTo,
 * GlobalNorm. Thread: see op.h. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/constants.h"
#include "engine/graph/elementwise.h"
#include "engine/graph/op_rules.h"
#include "engine/graph/reduction.h"
#include "engine/math/pointwise.h"

/* ---- AddN ---- */

/* TensorFlow's error about two inputs, of which the first is number `index`. */
static enum status refuse_shapes(const struct inference *inference, size_t index, const struct shape *a,
                                 const struct shape *b, struct error *error)
{
    if (a->rank != b->rank) {
        return op_shape_error(
            inference, error,
            "Shapes must be equal rank, but are %d and %d\n\tFrom merging shape %zu with other shapes.", a->rank,
            b->rank, index);
    }
    char text_a[SHAPE_TEXT_BYTES_MAX];
    char text_b[SHAPE_TEXT_BYTES_MAX];
    int at = 0;
    while (a->dimensions[at] == b->dimensions[at] || a->dimensions[at] == DIMENSION_UNKNOWN ||
           b->dimensions[at] == DIMENSION_UNKNOWN) {
        at++;
    }
    return op_shape_error(inference, error,
                          "Dimension %d in both shapes must be equal, but are %lld and %lld. Shapes are %s and %s.\n\t"
                          "From merging shape %zu with other shapes.",
                          at, (long long)a->dimensions[at], (long long)b->dimensions[at], shape_cpp_text(a, text_a),
                          shape_cpp_text(b, text_b), index);
}

static enum status infer_add_n(struct inference *inference, struct error *error)
{
    if (inference->input_count == 0) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "inputs must be a list of at least one Tensor/IndexedSlices with the same "
                           "dtype and shape");
    }
    TRY(op_check_type(inference, 0, "inputs", TYPES_NUMBER, error));
    struct shape shape = inference->inputs[inference->input_count - 1].shape;
    for (size_t i = inference->input_count - 1; i-- > 0;) {
        TRY(op_check_same_type(inference, i + 1, "inputs", 0, "inputs", error));
        const struct shape *other = &inference->inputs[i].shape;
        if (!shape_is_compatible(other, &shape)) {
            return refuse_shapes(inference, i, other, &shape, error);
        }
        shape = shape_merge(other, &shape);
    }
    return op_one_output(inference, inference->inputs[0].dtype, &shape);
}

#define ADD_TO(TYPE, UNSIGNED)                                                                                         \
    for (size_t i = 0; i < count; i++) {                                                                               \
        ((TYPE *)to->data)[i] = (TYPE)((UNSIGNED)((TYPE *)to->data)[i] + (UNSIGNED)((const TYPE *)from->data)[i]);     \
    }

static void add_to(const struct tensor *from, struct tensor *to)
{
    size_t count = tensor_element_count(to);
    switch ((int)to->dtype) {
    case DTYPE_FLOAT32: pointwise()->add_to(count, from->data, to->data); return;
    case DTYPE_FLOAT64: ADD_TO(double, double) return;
    case DTYPE_INT32: ADD_TO(int32_t, uint32_t) return;
    case DTYPE_INT64: ADD_TO(int64_t, uint64_t) return;
    default: CHECK(false);
    }
}

static enum status compute_add_n(const struct op_run *run, struct error *error)
{
    (void)error;
    memcpy(run->outputs[0].data, run->inputs[0].data, tensor_bytes(&run->outputs[0]));
    for (size_t i = 1; i < run->input_count; i++) {
        add_to(&run->inputs[i], &run->outputs[0]);
    }
    return STATUS_OK;
}

static enum status gradient_add_n(struct graph *graph, const struct node *node, const struct output *gradients,
                                  struct output *ret, struct error *error)
{
    (void)graph;
    (void)error;
    for (size_t i = 0; i < node->input_count; i++) {
        ret[i] = gradients[0];
    }
    return STATUS_OK;
}

const struct op op_add_n = {.name = "AddN",
                            .input_count = OP_INPUTS_ANY,
                            .infer = infer_add_n,
                            .compute = compute_add_n,
                            .gradient = gradient_add_n,
                            .call = "add_n",
                            .arguments = "inputs*"};

/* ---- SumToShape: gradient, like → the gradient summed over the dimensions that `like` was broadcast along; attribute
 * divide_by_count: their mean ---- */

static bool divides(const struct node *node)
{
    return node_attribute_boolean(node, "divide_by_count", false);
}

/* SumToShape and BroadcastLike are each other's gradients, with the same attributes. */
static enum status add_counterpart(struct graph *graph, const struct node *node, const char *op, struct output gradient,
                                   struct output *ret, struct error *error)
{
    struct output inputs[] = {gradient, node->inputs[0]};
    struct node_options options = {
        .inputs = inputs, .input_count = 2, .attributes = node->attributes, .attribute_count = node->attribute_count};
    struct node *added = NULL;
    TRY(graph_add_node(graph, op, &options, &added, error));
    ret[0] = (struct output){added, 0};
    ret[1] = (struct output){NULL, 0};
    return STATUS_OK;
}

static enum status infer_sum_to_shape(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 0, "gradient", TYPES_NUMBER, error));
    return op_infer_like_second(inference, error);
}

static enum status compute_sum_to_shape(const struct op_run *run, struct error *error)
{
    const struct tensor *from = &run->inputs[0];
    const struct shape *to = &run->outputs[0].shape;
    bool is_reduced[SHAPE_RANK_MAX] = {false};
    bool fits = to->rank <= from->shape.rank;
    for (int i = 0; fits && i < from->shape.rank; i++) {
        int at = i - (from->shape.rank - to->rank);
        is_reduced[i] = at < 0 || (to->dimensions[at] == 1 && from->shape.dimensions[i] != 1);
        fits = is_reduced[i] || to->dimensions[at] == from->shape.dimensions[i];
    }
    if (!fits) {
        char texts[2][SHAPE_TEXT_BYTES_MAX];
        return op_run_error(run, error, "Incompatible shapes: %s vs. %s", shape_cpp_text(&from->shape, texts[0]),
                            shape_cpp_text(to, texts[1]));
    }
    reduction_run(divides(run->node) ? REDUCTION_MEAN : REDUCTION_SUM, from, is_reduced, &run->outputs[0]);
    return STATUS_OK;
}

static enum status gradient_sum_to_shape(struct graph *graph, const struct node *node, const struct output *gradients,
                                         struct output *ret, struct error *error)
{
    return add_counterpart(graph, node, "BroadcastLike", gradients[0], ret, error);
}

const struct op op_sum_to_shape = {.name = "SumToShape",
                                   .input_count = 2,
                                   .infer = infer_sum_to_shape,
                                   .compute = compute_sum_to_shape,
                                   .gradient = gradient_sum_to_shape};

/* ---- BroadcastTo: input, shape; BroadcastLike: input, like, attribute divide_by_count: divided by how often an
 * element is repeated ---- */

#define COPY(TYPE)                                                                                                     \
    for (size_t i = 0; i < count; i++) {                                                                               \
        ((TYPE *)to)[i] = ((const TYPE *)from)[i * step];                                                              \
    }

static void copy_elements(size_t bytes, size_t count, const void *from, size_t step, void *to)
{
    switch (bytes) {
    case 1: COPY(uint8_t) return;
    case 2: COPY(uint16_t) return;
    case 4: COPY(uint32_t) return;
    case 8: COPY(uint64_t) return;
    default: CHECK(false);
    }
}

static void broadcast(const struct tensor *from, struct tensor *to)
{
    struct broadcast walk;
    size_t bytes = dtype_bytes(from->dtype);
    broadcast_start(&walk, &to->shape, (const struct shape *[]){&from->shape}, 1);
    do {
        copy_elements(bytes, walk.run, (const char *)from->data + walk.offsets[0] * bytes, broadcast_step(&walk, 0),
                      (char *)to->data + walk.result_offset * bytes);
    } while (broadcast_next(&walk));
}

/* The result is `to`, if input 0 broadcasts to it. */
static enum status infer_broadcast(struct inference *inference, const struct shape *to, struct error *error)
{
    const struct shape *from = &inference->inputs[0].shape;
    struct shape both;
    int64_t a;
    int64_t b;
    bool fits = broadcast_shape(from, to, &both, &a, &b) &&
                (from->rank == SHAPE_RANK_UNKNOWN || to->rank == SHAPE_RANK_UNKNOWN || shape_is_compatible(&both, to));
    if (!fits) {
        char texts[2][SHAPE_TEXT_BYTES_MAX];
        return op_shape_error(inference, error, "Incompatible shapes: %s vs. %s", shape_cpp_text(from, texts[0]),
                              shape_cpp_text(to, texts[1]));
    }
    return op_one_output(inference, inference->inputs[0].dtype, to);
}

static enum status infer_broadcast_to(struct inference *inference, struct error *error)
{
    TRY(op_check_type(inference, 1, "shape", TYPES_INTEGER, error));
    struct shape to = constants_as_shape(inference, 1);
    return infer_broadcast(inference, &to, error);
}

static enum status compute_broadcast_to(const struct op_run *run, struct error *error)
{
    (void)error;
    broadcast(&run->inputs[0], &run->outputs[0]);
    return STATUS_OK;
}

static enum status infer_broadcast_like(struct inference *inference, struct error *error)
{
    return infer_broadcast(inference, &inference->inputs[1].shape, error);
}

static enum status compute_broadcast_like(const struct op_run *run, struct error *error)
{
    (void)error;
    struct tensor *to = &run->outputs[0];
    size_t count = tensor_element_count(to);
    size_t from_count = tensor_element_count(&run->inputs[0]);
    broadcast(&run->inputs[0], to);
    if (!divides(run->node) || count == 0) {
        return STATUS_OK;
    }
    size_t repeats = count / from_count;
    if (to->dtype == DTYPE_FLOAT32) {
        pointwise()->scale(count, 1.0f / (float)repeats, to->data, to->data);
        return STATUS_OK;
    }
    for (size_t i = 0; i < count; i++) {
        tensor_set_number(to, i, tensor_number(to, i) / (double)repeats);
    }
    return STATUS_OK;
}

static enum status gradient_broadcast_to(struct graph *graph, const struct node *node, const struct output *gradients,
                                         struct output *ret, struct error *error)
{
    ret[1] = (struct output){NULL, 0};
    return graph_add_sum_to_shape(graph, gradients[0], node->inputs[0], &ret[0], error);
}

static enum status gradient_broadcast_like(struct graph *graph, const struct node *node, const struct output *gradients,
                                           struct output *ret, struct error *error)
{
    return add_counterpart(graph, node, "SumToShape", gradients[0], ret, error);
}

const struct op op_broadcast_to = {.name = "BroadcastTo",
                                   .input_count = 2,
                                   .infer = infer_broadcast_to,
                                   .compute = compute_broadcast_to,
                                   .gradient = gradient_broadcast_to,
                                   .call = "broadcast_to",
                                   .arguments = "input shape",
                                   .argument_types = "Ai"};
const struct op op_broadcast_like = {.name = "BroadcastLike",
                                     .input_count = 2,
                                     .infer = infer_broadcast_like,
                                     .compute = compute_broadcast_like,
                                     .gradient = gradient_broadcast_like};

/* ---- GlobalNorm: any tensors → the square root of the sum of all squares, added up in double, in the order of the
 * inputs ---- */

static enum status infer_global_norm(struct inference *inference, struct error *error)
{
    struct shape scalar = shape_scalar();
    if (inference->input_count == 0) {
        return op_one_output(inference, DTYPE_FLOAT32, &scalar);
    }
    TRY(op_check_type(inference, 0, "t_list", TYPES_FLOAT, error));
    for (size_t i = 1; i < inference->input_count; i++) {
        TRY(op_check_same_type(inference, i, "t_list", 0, "t_list", error));
    }
    return op_one_output(inference, inference->inputs[0].dtype, &scalar);
}

static enum status compute_global_norm(const struct op_run *run, struct error *error)
{
    (void)error;
    double sum = 0;
    for (size_t i = 0; i < run->input_count; i++) {
        size_t count = tensor_element_count(&run->inputs[i]);
        bool is_double = run->inputs[i].dtype == DTYPE_FLOAT64;
        const float *singles = run->inputs[i].data;
        const double *doubles = run->inputs[i].data;
        for (size_t e = 0; e < count; e++) {
            double value = is_double ? doubles[e] : (double)singles[e];
            sum += value * value;
        }
    }
    tensor_set_number(&run->outputs[0], 0, sqrt(sum));
    return STATUS_OK;
}

/* g x / norm, for each x */
static enum status gradient_global_norm(struct graph *graph, const struct node *node, const struct output *gradients,
                                        struct output *ret, struct error *error)
{
    struct output scale;
    TRY(graph_add_binary(graph, "RealDiv", gradients[0], node_own_output(graph, node, 0), &scale, error));
    for (size_t i = 0; i < node->input_count; i++) {
        TRY(graph_add_binary(graph, "Mul", node->inputs[i], scale, &ret[i], error));
    }
    return STATUS_OK;
}

const struct op op_global_norm = {.name = "GlobalNorm",
                                  .input_count = OP_INPUTS_ANY,
                                  .infer = infer_global_norm,
                                  .compute = compute_global_norm,
                                  .gradient = gradient_global_norm};
