/* Functions about sizes of tensors: clipping, norms, moments. Thread: the building one.
 * Source: TensorFlow 1.15, ops/clip_ops.py, ops/nn_impl.py, ops/linalg_ops.py. */
#include "engine/graph/constants.h"
#include "engine/graph/function_private.h"
#include "engine/graph/op_rules.h"

/* A reduction along axes (.node NULL: all). */
static enum status reduce(struct graph *graph, const char *function, const char *name, struct output x,
                          struct output axes, bool keeps_dimensions, struct output *ret_output, struct error *error)
{
    struct call_argument arguments[] = {{.output = x}, {.name = "axis", .output = axes}};
    struct attribute keep = {.name = "keepdims", .kind = ATTRIBUTE_BOOLEAN, .boolean = keeps_dimensions};
    struct call call = {.function = function,
                        .name = name,
                        .arguments = arguments,
                        .argument_count = axes.node == NULL ? 1 : 2,
                        .attributes = &keep,
                        .attribute_count = 1};
    struct call_result result;
    TRY(graph_call(graph, &call, &result, error));
    *ret_output = result.outputs[0];
    return STATUS_OK;
}

/* ---- clip_by_value ---- */

static enum status build_clip_by_value(struct graph *graph, const struct function_call *call,
                                       struct call_result *result, struct error *error)
{
    struct output least;
    TRY(graph_add_binary(graph, "Minimum", call->inputs[0], call->inputs[2], &least, error));
    const struct shape *before = &output_type(call->inputs[0])->shape;
    const struct shape *after = &output_type(least)->shape;
    if (!shape_is_compatible(before, after)) {
        char first[SHAPE_TEXT_BYTES_MAX];
        char second[SHAPE_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Shapes %s and %s are incompatible",
                           shape_text(before, first), shape_text(after, second));
    }
    return function_finish(graph, call, "Maximum", (struct output[]){least, call->inputs[1]}, 2, NULL, 0, result,
                           error);
}

const struct function function_clip_by_value = {.name = "clip_by_value",
                                                .default_name = "clip_by_value",
                                                .arguments = "t clip_value_min clip_value_max",
                                                .build = build_clip_by_value};

/* ---- clip_by_norm: t · clip / max(‖t‖, clip); the root's gradient at 0 is kept out by Select ---- */

static enum status build_clip_by_norm(struct graph *graph, const struct function_call *call, struct call_result *result,
                                      struct error *error)
{
    struct output t = call->inputs[0];
    enum dtype dtype = output_type(t)->dtype;
    struct output squares;
    struct output sum;
    struct output zero;
    struct output is_positive;
    struct output ones;
    struct output safe;
    struct output root;
    struct output norm;
    struct output scaled;
    struct output divisor;
    struct output clipped;
    TRY(graph_add(graph, "Mul", "mul", (struct output[]){t, t}, 2, &squares, error));
    TRY(reduce(graph, "reduce_sum", NULL, squares, call->inputs[2], true, &sum, error));
    TRY(graph_add_number(graph, "Greater/y", dtype, 0, &zero, error));
    TRY(graph_add_binary(graph, "Greater", sum, zero, &is_positive, error));
    TRY(graph_add(graph, "OnesLike", "ones_like", &sum, 1, &ones, error));
    TRY(graph_add(graph, "Select", NULL, (struct output[]){is_positive, sum, ones}, 3, &safe, error));
    TRY(graph_add_unary(graph, "Sqrt", safe, &root, error));
    TRY(graph_add(graph, "Select", NULL, (struct output[]){is_positive, root, sum}, 3, &norm, error));
    TRY(graph_add(graph, "Mul", "mul", (struct output[]){t, call->inputs[1]}, 2, &scaled, error));
    TRY(graph_add_binary(graph, "Maximum", norm, call->inputs[1], &divisor, error));
    TRY(graph_add(graph, "RealDiv", "truediv", (struct output[]){scaled, divisor}, 2, &clipped, error));
    return function_finish(graph, call, "Identity", &clipped, 1, NULL, 0, result, error);
}

const struct function function_clip_by_norm = {.name = "clip_by_norm",
                                               .default_name = "clip_by_norm",
                                               .arguments = "t clip_norm axes?",
                                               .argument_types = "ffi",
                                               .build = build_clip_by_norm};

/* ---- global_norm: √(2 Σ l2_loss(t)) ---- */

static enum status build_global_norm(struct graph *graph, const struct function_call *call, struct call_result *result,
                                     struct error *error)
{
    struct output losses[FUNCTION_ARGUMENTS_MAX];
    struct output packed;
    struct output sum;
    struct output two;
    struct output product;
    if (call->input_count == 0 || call->input_count > FUNCTION_ARGUMENTS_MAX) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "global_norm() of %zu tensors, must be 1 to %d",
                           call->input_count, FUNCTION_ARGUMENTS_MAX);
    }
    for (size_t i = 0; i < call->input_count; i++) {
        TRY(graph_add_unary(graph, "L2Loss", call->inputs[i], &losses[i], error));
    }
    TRY(graph_add(graph, "Pack", "stack", losses, call->input_count, &packed, error));
    TRY(reduce(graph, "reduce_sum", NULL, packed, (struct output){NULL, 0}, false, &sum, error));
    TRY(graph_add_number(graph, NULL, output_type(sum)->dtype, 2, &two, error));
    TRY(graph_add(graph, "Mul", "mul", (struct output[]){sum, two}, 2, &product, error));
    result->output_count = 1;
    return function_add(graph, call, "Sqrt", "global_norm", &product, 1, NULL, 0, &result->outputs[0], error);
}

const struct function function_global_norm = {.name = "global_norm",
                                              .default_name = "global_norm",
                                              .arguments = "t_list*",
                                              .argument_types = "f",
                                              .build = build_global_norm};

/* ---- l2_normalize: x / √max(Σ x², ε) ---- */

static enum status build_l2_normalize(struct graph *graph, const struct function_call *call, struct call_result *result,
                                      struct error *error)
{
    struct output squares;
    struct output sum;
    struct output epsilon;
    struct output bounded;
    struct output inverse;
    const struct attribute *given = function_attribute(call, "epsilon");
    TRY(graph_add_unary(graph, "Square", call->inputs[0], &squares, error));
    TRY(reduce(graph, "reduce_sum", NULL, squares, call->inputs[1], true, &sum, error));
    TRY(graph_add_number(graph, "Maximum/y", output_type(sum)->dtype, given->number, &epsilon, error));
    TRY(graph_add_binary(graph, "Maximum", sum, epsilon, &bounded, error));
    TRY(graph_add_unary(graph, "Rsqrt", bounded, &inverse, error));
    return function_finish(graph, call, "Mul", (struct output[]){call->inputs[0], inverse}, 2, NULL, 0, result, error);
}

static const struct attribute_rule epsilon_attribute[] = {
    {.name = "epsilon", .kind = ATTRIBUTE_NUMBER, .otherwise = 1e-12}, {.name = NULL}};

const struct function function_l2_normalize = {.name = "l2_normalize",
                                               .default_name = "l2_normalize",
                                               .arguments = "x axis=dim?",
                                               .argument_types = "fi",
                                               .attributes = epsilon_attribute,
                                               .build = build_l2_normalize};

/* ---- moments: mean and variance ---- */

/* Removes the dimensions that were summed over. */
static enum status squeeze(struct graph *graph, struct output x, struct output axes, struct output *ret_output,
                           struct error *error)
{
    const struct tensor *value = graph_constant_value(graph, axes);
    struct attribute dimensions = {.name = "squeeze_dims", .kind = ATTRIBUTE_SHAPE};
    struct node_options options = {.inputs = &x, .input_count = 1, .attributes = &dimensions, .attribute_count = 1};
    struct node *node = NULL;
    size_t count = value == NULL ? SHAPE_RANK_MAX + 1 : tensor_element_count(value);
    if (count > SHAPE_RANK_MAX) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "the axes must be known while building, at most %d of them", SHAPE_RANK_MAX);
    }
    dimensions.shape.rank = (int)count;
    for (size_t i = 0; i < count; i++) {
        dimensions.shape.dimensions[i] = tensor_integer(value, i);
    }
    TRY(graph_add_node(graph, "Squeeze", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

static enum status build_moments(struct graph *graph, const struct function_call *call, struct call_result *result,
                                 struct error *error)
{
    struct output x = call->inputs[0];
    struct output axes = call->inputs[1];
    struct output mean;
    struct output fixed;
    struct output squares;
    struct output variance;
    TRY(reduce(graph, "reduce_mean", "mean", x, axes, true, &mean, error));
    TRY(graph_add_unary(graph, "StopGradient", mean, &fixed, error));
    TRY(graph_add_binary(graph, "SquaredDifference", x, fixed, &squares, error));
    TRY(reduce(graph, "reduce_mean", "variance", squares, axes, true, &variance, error));
    if (!function_flag(call, "keep_dims", false)) {
        TRY(squeeze(graph, mean, axes, &mean, error));
        TRY(squeeze(graph, variance, axes, &variance, error));
    }
    result->outputs[0] = mean;
    result->outputs[1] = variance;
    result->output_count = 2;
    return STATUS_OK;
}

static const struct attribute_rule keep_attribute[] = {
    {.name = "keep_dims", .called = "keepdims", .kind = ATTRIBUTE_BOOLEAN}, {.name = NULL}};

const struct function function_moments = {.name = "moments",
                                          .default_name = "moments",
                                          .arguments = "x axes",
                                          .argument_types = "fi",
                                          .attributes = keep_attribute,
                                          .build = build_moments};

/* ---- norm: Euclidean ---- */

static enum status build_norm(struct graph *graph, const struct function_call *call, struct call_result *result,
                              struct error *error)
{
    struct output squares;
    struct output sum;
    TRY(graph_add(graph, "Mul", "mul", (struct output[]){call->inputs[0], call->inputs[0]}, 2, &squares, error));
    TRY(reduce(graph, "reduce_sum", NULL, squares, call->inputs[1], function_flag(call, "keep_dims", false), &sum,
               error));
    return function_finish(graph, call, "Sqrt", &sum, 1, NULL, 0, result, error);
}

const struct function function_norm = {.name = "norm",
                                       .default_name = "norm",
                                       .arguments = "tensor axis?",
                                       .argument_types = "fi",
                                       .attributes = keep_attribute,
                                       .build = build_norm};
