/* Reductions: input, reduction_indices (int32 or int64; below 0: from the end), attribute keep_dims → what is left.
 * Thread: see op.h. */
#include "engine/base/check.h"
#include "engine/graph/op_rules.h"
#include "engine/graph/reduction.h"

static enum status check_inputs(const struct inference *inference, enum reduction_kind kind, struct error *error)
{
    unsigned types = 0;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        types |= reduction_has(kind, (enum dtype)i) ? 1u << i : 0;
    }
    TRY(op_check_type(inference, 0, "input", types, error));
    return op_check_type(inference, 1, "reduction_indices", TYPES_INTEGER, error);
}

static int64_t axis_at(const struct tensor *axes, size_t index, int rank)
{
    int64_t axis = tensor_integer(axes, index);
    return axis < 0 ? axis + rank : axis;
}

/* Marks the axes; false, and the one that is no dimension of the rank. */
static bool mark_axes(const struct tensor *axes, int rank, bool is_reduced[SHAPE_RANK_MAX], int64_t *ret_wrong)
{
    for (int i = 0; i < SHAPE_RANK_MAX; i++) {
        is_reduced[i] = false;
    }
    for (size_t i = 0; i < tensor_element_count(axes); i++) {
        int64_t axis = axis_at(axes, i, rank);
        if (axis < 0 || axis >= rank) {
            *ret_wrong = tensor_integer(axes, i);
            return false;
        }
        is_reduced[axis] = true;
    }
    return true;
}

/* The result's shape when it is not known which dimensions go. */
static struct shape unknown_result(const struct inference *inference, bool keeps)
{
    const struct shape *from = &inference->inputs[0].shape;
    if (!keeps || from->rank == SHAPE_RANK_UNKNOWN) {
        return shape_unknown();
    }
    struct shape shape = *from;
    for (int i = 0; i < shape.rank; i++) {
        shape.dimensions[i] = DIMENSION_UNKNOWN;
    }
    return shape;
}

static struct shape reduced_shape(const struct shape *from, const bool is_reduced[SHAPE_RANK_MAX], bool keeps)
{
    struct shape shape = shape_scalar();
    for (int i = 0; i < from->rank; i++) {
        if (!is_reduced[i]) {
            shape.dimensions[shape.rank++] = from->dimensions[i];
        } else if (keeps) {
            shape.dimensions[shape.rank++] = 1;
        }
    }
    return shape;
}

/* The shape rule of all of them; `keeps`: reduced dimensions stay, of size 1. */
static enum status infer_reduction(struct inference *inference, bool keeps, struct error *error)
{
    const struct shape *from = &inference->inputs[0].shape;
    const struct tensor *axes = inference->constants[1];
    bool is_reduced[SHAPE_RANK_MAX];
    int64_t wrong = 0;
    if (inference->inputs[1].shape.rank > 1) {
        return op_shape_error(inference, error, "Shape must be at most rank 1 but is rank %d",
                              inference->inputs[1].shape.rank);
    }
    if (axes == NULL || from->rank == SHAPE_RANK_UNKNOWN) {
        struct shape unknown = unknown_result(inference, keeps);
        return op_one_output(inference, inference->inputs[0].dtype, &unknown);
    }
    if (!mark_axes(axes, from->rank, is_reduced, &wrong)) {
        return op_shape_error(inference, error, "Invalid reduction dimension %lld for input with %d dimensions.",
                              (long long)wrong, from->rank);
    }
    struct shape shape = reduced_shape(from, is_reduced, keeps);
    return op_one_output(inference, inference->inputs[0].dtype, &shape);
}

static bool keeps_dimensions(const struct node *node)
{
    return node_attribute_boolean(node, "keep_dims", false);
}

static enum status infer_checked(struct inference *inference, enum reduction_kind kind, struct error *error)
{
    TRY(check_inputs(inference, kind, error));
    return infer_reduction(inference, keeps_dimensions(inference->node), error);
}

static enum status compute_reduction(const struct op_run *run, enum reduction_kind kind, struct error *error)
{
    const struct tensor *axes = &run->inputs[1];
    int rank = run->inputs[0].shape.rank;
    bool is_reduced[SHAPE_RANK_MAX];
    int64_t wrong = 0;
    if (!mark_axes(axes, rank, is_reduced, &wrong)) {
        return op_run_error(run, error, "Invalid reduction dimension (%lld for input with %d dimension(s)",
                            (long long)wrong, rank);
    }
    bool is_seen[SHAPE_RANK_MAX] = {false};
    for (size_t i = 0; i < tensor_element_count(axes); i++) {
        int64_t axis = axis_at(axes, i, rank);
        if (is_seen[axis]) {
            return op_run_error(run, error, "Invalid reduction arguments: Axes contains duplicate dimension: %lld",
                                (long long)axis);
        }
        is_seen[axis] = true;
    }
    reduction_run(kind, &run->inputs[0], is_reduced, &run->outputs[0]);
    return STATUS_OK;
}

/* Without axes, TensorFlow's Python reduces over all: a constant 0 … rank − 1, or what computes it. */
static enum status complete_axes(struct graph *graph, struct output *inputs, size_t input_count, struct error *error)
{
    if (input_count < 2 || inputs[0].node == NULL || inputs[1].node != NULL) {
        return STATUS_OK;
    }
    int rank = output_type(inputs[0])->shape.rank;
    if (rank != SHAPE_RANK_UNKNOWN) {
        int64_t axes[SHAPE_RANK_MAX];
        for (int i = 0; i < rank; i++) {
            axes[i] = i;
        }
        return graph_add_integers(graph, NULL, axes, (size_t)rank, &inputs[1], error);
    }
    struct output range[3];
    TRY(graph_add_unary(graph, "Rank", inputs[0], &range[1], error));
    TRY(graph_add_integer(graph, "range/start", 0, &range[0], error));
    TRY(graph_add_integer(graph, "range/delta", 1, &range[2], error));
    return graph_add(graph, "Range", "range", range, 3, &inputs[1], error);
}

static const struct attribute_rule reduction_attributes[] = {
    {.name = "keep_dims", .called = "keepdims", .kind = ATTRIBUTE_BOOLEAN}, {.name = NULL}};

/* ---- gradients ---- */

/* A result, or its gradient, with the reduced dimensions kept, as broadcasting wants it. */
static enum status add_kept_dimensions(struct graph *graph, const struct node *node, struct output result,
                                       struct output *ret_output, struct error *error)
{
    if (keeps_dimensions(node)) {
        *ret_output = result;
        return STATUS_OK;
    }
    struct output inputs[] = {result, node->inputs[0], node->inputs[1]};
    return graph_add(graph, "KeptDimensions", NULL, inputs, 3, ret_output, error);
}

static enum status gradient_sum(struct graph *graph, const struct node *node, const struct output *gradients,
                                struct output *ret, struct error *error)
{
    struct output kept;
    ret[1] = (struct output){NULL, 0};
    TRY(add_kept_dimensions(graph, node, gradients[0], &kept, error));
    return graph_add_binary(graph, "BroadcastLike", kept, node->inputs[0], &ret[0], error);
}

static enum status gradient_mean(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    struct attribute divide = {.name = "divide_by_count", .kind = ATTRIBUTE_BOOLEAN, .boolean = true};
    struct output inputs[] = {gradients[0], node->inputs[0]};
    struct node_options options = {.inputs = inputs, .input_count = 2, .attributes = &divide, .attribute_count = 1};
    struct node *broadcast = NULL;
    ret[1] = (struct output){NULL, 0};
    TRY(add_kept_dimensions(graph, node, gradients[0], &inputs[0], error));
    TRY(graph_add_node(graph, "BroadcastLike", &options, &broadcast, error));
    ret[0] = (struct output){broadcast, 0};
    return STATUS_OK;
}

/* Max, Min: evenly among the elements that equal the result. */
static enum status gradient_extreme(struct graph *graph, const struct node *node, const struct output *gradients,
                                    struct output *ret, struct error *error)
{
    struct output x = node->inputs[0];
    struct output gradient;
    struct output result;
    struct output equal;
    struct output ties;
    struct attribute cast = {.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = output_type(x)->dtype};
    struct attribute keep = {.name = "keep_dims", .kind = ATTRIBUTE_BOOLEAN, .boolean = true};
    struct node *added = NULL;
    ret[1] = (struct output){NULL, 0};
    TRY(add_kept_dimensions(graph, node, gradients[0], &gradient, error));
    TRY(add_kept_dimensions(graph, node, node_own_output(graph, node, 0), &result, error));
    TRY(graph_add_binary(graph, "Equal", result, x, &equal, error));
    struct node_options add_cast = {.inputs = &equal, .input_count = 1, .attributes = &cast, .attribute_count = 1};
    TRY(graph_add_node(graph, "Cast", &add_cast, &added, error));
    struct output indicators = {added, 0};
    struct output sum_inputs[] = {indicators, node->inputs[1]};
    struct node_options add_sum = {.inputs = sum_inputs, .input_count = 2, .attributes = &keep, .attribute_count = 1};
    TRY(graph_add_node(graph, "Sum", &add_sum, &added, error));
    ties = (struct output){added, 0};
    TRY(graph_add_binary(graph, "RealDiv", indicators, ties, &ties, error));
    return graph_add_binary(graph, "Mul", ties, gradient, &ret[0], error);
}

static enum status gradient_prod(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    struct output inputs[] = {node->inputs[0], node->inputs[1], gradients[0]};
    ret[1] = (struct output){NULL, 0};
    TRY(add_kept_dimensions(graph, node, gradients[0], &inputs[2], error));
    return graph_add(graph, "ProdGrad", NULL, inputs, 3, &ret[0], error);
}

/* ---- the rows ---- */

#define REDUCTION(ROW, NAME, FUNCTIONS, KIND, CALL, GRADIENT)                                                          \
    static enum status infer_##FUNCTIONS(struct inference *inference, struct error *error)                             \
    {                                                                                                                  \
        return infer_checked(inference, KIND, error);                                                                  \
    }                                                                                                                  \
    static enum status compute_##FUNCTIONS(const struct op_run *run, struct error *error)                              \
    {                                                                                                                  \
        return compute_reduction(run, KIND, error);                                                                    \
    }                                                                                                                  \
    const struct op ROW = {.name = NAME,                                                                               \
                           .input_count = 2,                                                                           \
                           .infer = infer_##FUNCTIONS,                                                                 \
                           .compute = compute_##FUNCTIONS,                                                             \
                           .gradient = GRADIENT,                                                                       \
                           .call = CALL,                                                                               \
                           .arguments = "input_tensor=input axis=reduction_indices?",                                  \
                           .argument_types = "Ti",                                                                     \
                           .attributes = reduction_attributes,                                                         \
                           .complete = complete_axes,                                                                  \
                           .completes_outside = true};

REDUCTION(op_sum, "Sum", sum, REDUCTION_SUM, "reduce_sum", gradient_sum)
REDUCTION(op_mean, "Mean", mean, REDUCTION_MEAN, "reduce_mean", gradient_mean)
REDUCTION(op_prod, "Prod", prod, REDUCTION_PROD, "reduce_prod", gradient_prod)
REDUCTION(op_max, "Max", max, REDUCTION_MAX, "reduce_max", gradient_extreme)
REDUCTION(op_min, "Min", min, REDUCTION_MIN, "reduce_min", gradient_extreme)
REDUCTION(op_all, "All", all, REDUCTION_ALL, "reduce_all", op_gradient_none)
REDUCTION(op_any, "Any", any, REDUCTION_ANY, "reduce_any", op_gradient_none)

/* ---- KeptDimensions: result, input, reduction_indices → the result as keep_dims would have left it ---- */

static enum status infer_kept_dimensions(struct inference *inference, struct error *error)
{
    struct inference like = *inference;
    struct output_type kept;
    struct output_type inputs[] = {inference->inputs[1], inference->inputs[2]};
    like.inputs = inputs;
    like.constants = inference->constants + 1;
    like.input_count = 2;
    like.outputs = &kept;
    TRY(op_check_type(inference, 2, "reduction_indices", TYPES_INTEGER, error));
    TRY(infer_reduction(&like, true, error));
    return op_one_output(inference, inference->inputs[0].dtype, &kept.shape);
}

static enum status gradient_kept_dimensions(struct graph *graph, const struct node *node,
                                            const struct output *gradients, struct output *ret, struct error *error)
{
    TRY(op_gradient_none(graph, node, gradients, ret, error));
    return graph_add_binary(graph, "ReshapeLike", gradients[0], node->inputs[0], &ret[0], error);
}

const struct op op_kept_dimensions = {.name = "KeptDimensions",
                                      .input_count = 3,
                                      .flags = OP_ALIAS,
                                      .infer = infer_kept_dimensions,
                                      .gradient = gradient_kept_dimensions};

/* ---- ProdGrad: input, reduction_indices, gradient with dimensions kept → g · the product of the others ---- */

static enum status infer_prod_grad(struct inference *inference, struct error *error)
{
    TRY(check_inputs(inference, REDUCTION_PROD, error));
    TRY(op_check_same_type(inference, 2, "gradient", 0, "input", error));
    TRY(infer_reduction(inference, true, error));
    if (!shape_is_compatible(&inference->outputs[0].shape, &inference->inputs[2].shape)) {
        return op_shape_error(inference, error, "Shapes must be equal");
    }
    return op_infer_same(inference, error);
}

/* Where element `at` of `shape` goes when the reduced dimensions are of size 1. */
static size_t result_index(const struct shape *shape, const bool is_reduced[SHAPE_RANK_MAX], size_t at)
{
    size_t index = 0;
    size_t step = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        size_t size = (size_t)shape->dimensions[i];
        index += is_reduced[i] ? 0 : at % size * step;
        step *= is_reduced[i] ? 1 : size;
        at /= size;
    }
    return index;
}

/* Two sweeps, so that a zero among the elements does no harm: forwards the product of those before each goes into its
 * place, backwards that of those behind is multiplied in. `products`, one for each result, is scratch. */
static enum status compute_prod_grad(const struct op_run *run, struct error *error)
{
    const struct tensor *x = &run->inputs[0];
    const struct tensor *gradient = &run->inputs[2];
    struct tensor *to = &run->outputs[0];
    double *products = run->scratch;
    size_t result_count = tensor_element_count(gradient);
    size_t count = tensor_element_count(x);
    bool is_reduced[SHAPE_RANK_MAX];
    int64_t wrong = 0;
    if (!mark_axes(&run->inputs[1], x->shape.rank, is_reduced, &wrong)) {
        return op_run_error(run, error, "Invalid reduction dimension %lld", (long long)wrong);
    }
    for (size_t i = 0; i < result_count; i++) {
        products[i] = 1;
    }
    for (size_t i = 0; i < count; i++) {
        size_t at = result_index(&x->shape, is_reduced, i);
        tensor_set_number(to, i, products[at]);
        products[at] *= tensor_number(x, i);
    }
    for (size_t i = 0; i < result_count; i++) {
        products[i] = tensor_number(gradient, i);
    }
    for (size_t i = count; i-- > 0;) {
        size_t at = result_index(&x->shape, is_reduced, i);
        tensor_set_number(to, i, tensor_number(to, i) * products[at]);
        products[at] *= tensor_number(x, i);
    }
    return STATUS_OK;
}

static size_t prod_grad_scratch_bytes(const struct inference *inference)
{
    struct tensor gradient = {.shape = inference->inputs[2].shape};
    return tensor_element_count(&gradient) * sizeof(double);
}

const struct op op_prod_grad = {.name = "ProdGrad",
                                .input_count = 3,
                                .infer = infer_prod_grad,
                                .compute = compute_prod_grad,
                                .scratch_bytes = prod_grad_scratch_bytes};
