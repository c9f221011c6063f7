/* Losses as TensorFlow's Python functions. Thread: the building one.
 * Source: TensorFlow 1.15, ops/nn_ops.py, ops/nn_impl.py, ops/losses/losses_impl.py. */
#include "engine/graph/function_private.h"
#include "engine/graph/op_rules.h"

/* TensorFlow takes labels and logits by name only, because people confuse their order. */
static const char labels_and_logits[] = "_sentinel? labels? logits?";

static enum status check_named(const struct function_call *call, const char *function, struct error *error)
{
    if (call->inputs[0].node != NULL) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Only call `%s` with named arguments (labels=..., logits=..., ...)", function);
    }
    if (call->inputs[1].node == NULL || call->inputs[2].node == NULL) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Both labels and logits must be provided.");
    }
    return STATUS_OK;
}

/* ---- sparse_softmax_cross_entropy_with_logits ---- */

static enum status check_sparse(struct output labels, struct output logits, struct error *error)
{
    const struct shape *rows = &output_type(labels)->shape;
    const struct shape *all = &output_type(logits)->shape;
    char rows_text[SHAPE_TEXT_BYTES_MAX];
    char all_text[SHAPE_TEXT_BYTES_MAX];
    if (all->rank == 0) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Logits cannot be scalars - received shape ().");
    }
    if (all->rank == SHAPE_RANK_UNKNOWN || rows->rank == SHAPE_RANK_UNKNOWN) {
        return STATUS_OK;
    }
    if (rows->rank != all->rank - 1) {
        return error_raise(
            error, STATUS_INVALID, EXCEPTION_VALUE,
            "Rank mismatch: Rank of labels (received %d) should equal rank of logits minus 1 (received %d).",
            rows->rank, all->rank);
    }
    struct shape leading = *all;
    leading.rank--;
    if (!shape_is_compatible(rows, &leading)) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Shape mismatch: The shape of labels (received %s) should equal the shape of "
                           "logits except for the last dimension (received %s).",
                           shape_text(rows, rows_text), shape_text(all, all_text));
    }
    return STATUS_OK;
}

static enum status build_sparse(struct graph *graph, const struct function_call *call, struct call_result *result,
                                struct error *error)
{
    TRY(check_named(call, "sparse_softmax_cross_entropy_with_logits", error));
    TRY(check_sparse(call->inputs[1], call->inputs[2], error));
    struct output inputs[] = {call->inputs[2], call->inputs[1]};
    result->output_count = 1;
    return function_add(graph, call, "SparseSoftmaxCrossEntropyWithLogits", call->name, inputs, 2, NULL, 0,
                        &result->outputs[0], error);
}

const struct function function_sparse_xent = {.name = "sparse_softmax_cross_entropy_with_logits",
                                              .default_name = "SparseSoftmaxCrossEntropyWithLogits",
                                              .arguments = labels_and_logits,
                                              .argument_types = "Aif",
                                              .build = build_sparse};

/* ---- softmax_cross_entropy_with_logits: of old, no gradient goes into the labels ---- */

static enum status add_softmax_xent(struct graph *graph, const struct function_call *call, struct output labels,
                                    struct output logits, struct call_result *result, struct error *error)
{
    struct output inputs[] = {logits, labels};
    return function_finish(graph, call, "SoftmaxCrossEntropyWithLogits", inputs, 2, call->attributes,
                           call->attribute_count, result, error);
}

static enum status build_softmax_v2(struct graph *graph, const struct function_call *call, struct call_result *result,
                                    struct error *error)
{
    return add_softmax_xent(graph, call, call->inputs[0], call->inputs[1], result, error);
}

static enum status build_softmax(struct graph *graph, const struct function_call *call, struct call_result *result,
                                 struct error *error)
{
    struct output labels;
    TRY(check_named(call, "softmax_cross_entropy_with_logits", error));
    TRY(graph_add(graph, "StopGradient", "labels_stop_gradient", &call->inputs[1], 1, &labels, error));
    return add_softmax_xent(graph, call, labels, call->inputs[2], result, error);
}

static const struct attribute_rule axis_attribute[] = {
    {.name = "axis", .called = "dim", .kind = ATTRIBUTE_INTEGER, .otherwise = -1}, {.name = NULL}};

const struct function function_softmax_xent = {.name = "softmax_cross_entropy_with_logits",
                                               .default_name = "softmax_cross_entropy_with_logits_sg",
                                               .arguments = labels_and_logits,
                                               .argument_types = "Aff",
                                               .attributes = axis_attribute,
                                               .build = build_softmax};

const struct function function_softmax_xent_v2 = {.name = "softmax_cross_entropy_with_logits_v2",
                                                  .default_name = "softmax_cross_entropy_with_logits",
                                                  .arguments = "labels logits",
                                                  .argument_types = "ff",
                                                  .attributes = axis_attribute,
                                                  .build = build_softmax_v2};

/* ---- sigmoid_cross_entropy_with_logits: max(x, 0) − x z + log(1 + exp(−|x|)) ---- */

static enum status check_alike(const char *second_name, struct output second, struct output logits, struct error *error)
{
    char first_text[SHAPE_TEXT_BYTES_MAX];
    char second_text[SHAPE_TEXT_BYTES_MAX];
    const struct shape *first = &output_type(logits)->shape;
    const struct shape *other = &output_type(second)->shape;
    if (shape_is_compatible(first, other)) {
        return STATUS_OK;
    }
    return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "logits and %s must have the same shape (%s vs %s)",
                       second_name, shape_text(first, first_text), shape_text(other, second_text));
}

static enum status build_sigmoid(struct graph *graph, const struct function_call *call, struct call_result *result,
                                 struct error *error)
{
    struct output labels = call->inputs[1];
    struct output logits = call->inputs[2];
    struct output zeros;
    struct output is_positive;
    struct output relu;
    struct output negative;
    struct output minus_magnitude;
    struct output product;
    struct output difference;
    struct output power;
    struct output logarithm;
    TRY(check_named(call, "sigmoid_cross_entropy_with_logits", error));
    TRY(check_alike("labels", labels, logits, error));
    TRY(graph_add(graph, "ZerosLike", "zeros_like", &logits, 1, &zeros, error));
    TRY(graph_add_binary(graph, "GreaterEqual", logits, zeros, &is_positive, error));
    struct output relu_inputs[] = {is_positive, logits, zeros};
    TRY(graph_add(graph, "Select", NULL, relu_inputs, 3, &relu, error));
    TRY(graph_add_unary(graph, "Neg", logits, &negative, error));
    struct output magnitude_inputs[] = {is_positive, negative, logits};
    TRY(graph_add(graph, "Select", NULL, magnitude_inputs, 3, &minus_magnitude, error));
    TRY(graph_add(graph, "Mul", "mul", (struct output[]){logits, labels}, 2, &product, error));
    TRY(graph_add(graph, "Sub", "sub", (struct output[]){relu, product}, 2, &difference, error));
    TRY(graph_add_unary(graph, "Exp", minus_magnitude, &power, error));
    TRY(graph_add_unary(graph, "Log1p", power, &logarithm, error));
    return function_finish(graph, call, "Add", (struct output[]){difference, logarithm}, 2, NULL, 0, result, error);
}

const struct function function_sigmoid_xent = {.name = "sigmoid_cross_entropy_with_logits",
                                               .default_name = "logistic_loss",
                                               .arguments = labels_and_logits,
                                               .argument_types = "Aff",
                                               .build = build_sigmoid};

/* ---- weighted_cross_entropy_with_logits: (1 − z) x + l (log(1 + exp(−|x|)) + max(−x, 0)), l = 1 + (q − 1) z ---- */

static enum status build_weighted(struct graph *graph, const struct function_call *call, struct call_result *result,
                                  struct error *error)
{
    struct output labels = call->inputs[0];
    struct output logits = call->inputs[1];
    enum dtype dtype = output_type(logits)->dtype;
    struct output one;
    struct output excess;
    struct output scaled;
    struct output weight;
    struct output rest;
    struct output linear;
    struct output negative;
    struct output relu;
    struct output magnitude;
    struct output power;
    struct output logarithm;
    struct output sum;
    struct output product;
    TRY(check_alike("targets", labels, logits, error));
    TRY(graph_add_number(graph, NULL, dtype, 1, &one, error));
    TRY(graph_add_binary(graph, "Sub", call->inputs[2], one, &excess, error));
    TRY(graph_add_binary(graph, "Mul", excess, labels, &scaled, error));
    TRY(graph_add_binary(graph, "Add", one, scaled, &weight, error));
    TRY(graph_add_binary(graph, "Sub", one, labels, &rest, error));
    TRY(graph_add_binary(graph, "Mul", rest, logits, &linear, error));
    TRY(graph_add_unary(graph, "Abs", logits, &magnitude, error));
    TRY(graph_add_unary(graph, "Neg", magnitude, &magnitude, error));
    TRY(graph_add_unary(graph, "Exp", magnitude, &power, error));
    TRY(graph_add_unary(graph, "Log1p", power, &logarithm, error));
    TRY(graph_add_unary(graph, "Neg", logits, &negative, error));
    TRY(graph_add_unary(graph, "Relu", negative, &relu, error));
    TRY(graph_add_binary(graph, "Add", logarithm, relu, &sum, error));
    TRY(graph_add_binary(graph, "Mul", weight, sum, &product, error));
    return function_finish(graph, call, "Add", (struct output[]){linear, product}, 2, NULL, 0, result, error);
}

const struct function function_weighted_xent = {.name = "weighted_cross_entropy_with_logits",
                                                .default_name = "logistic_loss",
                                                .arguments = "targets=labels logits pos_weight",
                                                .argument_types = "fff",
                                                .build = build_weighted};

/* ---- losses.mean_squared_error, of equal weights ---- */

static enum status build_mean_squared_error(struct graph *graph, const struct function_call *call,
                                            struct call_result *result, struct error *error)
{
    struct output squares;
    const struct shape *labels = &output_type(call->inputs[0])->shape;
    const struct shape *predictions = &output_type(call->inputs[1])->shape;
    if (!shape_is_compatible(predictions, labels)) {
        char first[SHAPE_TEXT_BYTES_MAX];
        char second[SHAPE_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Shapes %s and %s are incompatible",
                           shape_text(predictions, first), shape_text(labels, second));
    }
    TRY(graph_add(graph, "SquaredDifference", NULL, (struct output[]){call->inputs[1], call->inputs[0]}, 2, &squares,
                  error));
    result->output_count = 1;
    return graph_call_tensors(graph, "reduce_mean", "value", &squares, 1, &result->outputs[0], error);
}

const struct function function_mean_squared_error = {.name = "losses.mean_squared_error|mean_squared_error",
                                                     .default_name = "mean_squared_error",
                                                     .arguments = "labels predictions",
                                                     .argument_types = "ff",
                                                     .build = build_mean_squared_error};
