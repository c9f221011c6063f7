/* random_uniform, random_normal, truncated_normal, multinomial, categorical: the random ops with TensorFlow's scaling,
 * names and defaults. Thread: the building one. Source: TensorFlow 1.15, ops/random_ops.py. */
#include "engine/graph/function_private.h"

static const struct attribute_rule random_attributes[] = {
    {.name = "dtype", .kind = ATTRIBUTE_DTYPE}, {.name = "seed", .kind = ATTRIBUTE_INTEGER, .otherwise = -1}, {0}};

/* The op itself inside the scope; its attributes are the call's. */
static enum status add_random(struct graph *graph, const char *op, const char *name, const struct function_call *call,
                              const struct output *inputs, size_t input_count, struct output *ret_output,
                              struct error *error)
{
    struct node_options options = {.name = name,
                                   .inputs = inputs,
                                   .input_count = input_count,
                                   .controls = call->controls,
                                   .control_count = call->control_count,
                                   .attributes = call->attributes,
                                   .attribute_count = call->attribute_count};
    struct node *node = NULL;
    TRY(graph_add_node(graph, op, &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

/* number · scale + offset, named as the scope. */
static enum status add_scaled(struct graph *graph, const char *scope, struct output number, struct output scale,
                              struct output offset, struct call_result *result, struct error *error)
{
    char name[GRAPH_NAME_BYTES_MAX + 2];
    struct output factors[] = {number, scale};
    struct output product;
    snprintf(name, sizeof name, "%s/", scope);
    TRY(graph_add(graph, "Mul", "mul", factors, 2, &product, error));
    struct output terms[] = {product, offset};
    result->output_count = 1;
    return graph_add(graph, "Add", name, terms, 2, &result->outputs[0], error);
}

static enum status build_uniform(struct graph *graph, const struct function_call *call, struct call_result *result,
                                 struct error *error)
{
    enum dtype dtype = function_attribute(call, "dtype")->dtype;
    struct output least = call->inputs[1];
    struct output limit = call->inputs[2];
    if (limit.node == NULL && dtype_is_integer(dtype)) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Must specify maxval for integer dtype tf.%s",
                           dtype_name(dtype));
    }
    if (least.node == NULL) {
        TRY(graph_add_number(graph, "min", dtype, 0, &least, error));
    }
    if (limit.node == NULL) {
        TRY(graph_add_number(graph, "max", dtype, 1, &limit, error));
    }
    if (dtype_is_integer(dtype)) {
        char name[GRAPH_NAME_BYTES_MAX + 2];
        struct output inputs[] = {call->inputs[0], least, limit};
        snprintf(name, sizeof name, "%s/", call->scope);
        result->output_count = 1;
        return add_random(graph, "RandomUniformInt", name, call, inputs, 3, &result->outputs[0], error);
    }
    struct output number;
    struct output span;
    struct output ends[] = {limit, least};
    TRY(add_random(graph, "RandomUniform", NULL, call, call->inputs, 1, &number, error));
    TRY(graph_add(graph, "Sub", "sub", ends, 2, &span, error));
    return add_scaled(graph, call->scope, number, span, least, result, error);
}

const struct function function_random_uniform = {.name = "random_uniform|uniform",
                                                 .default_name = "random_uniform",
                                                 .arguments = "shape minval=min? maxval=max?",
                                                 .argument_types = "idd",
                                                 .attributes = random_attributes,
                                                 .build = build_uniform};

static enum status build_scaled_normal(struct graph *graph, const char *op, const struct function_call *call,
                                       struct call_result *result, struct error *error)
{
    enum dtype dtype = function_attribute(call, "dtype")->dtype;
    struct output mean = call->inputs[1];
    struct output deviation = call->inputs[2];
    struct output number;
    if (mean.node == NULL) {
        TRY(graph_add_number(graph, "mean", dtype, 0, &mean, error));
    }
    if (deviation.node == NULL) {
        TRY(graph_add_number(graph, "stddev", dtype, 1, &deviation, error));
    }
    TRY(add_random(graph, op, NULL, call, call->inputs, 1, &number, error));
    return add_scaled(graph, call->scope, number, deviation, mean, result, error);
}

static enum status build_normal(struct graph *graph, const struct function_call *call, struct call_result *result,
                                struct error *error)
{
    return build_scaled_normal(graph, "RandomStandardNormal", call, result, error);
}

static enum status build_truncated_normal(struct graph *graph, const struct function_call *call,
                                          struct call_result *result, struct error *error)
{
    return build_scaled_normal(graph, "TruncatedNormal", call, result, error);
}

const struct function function_random_normal = {.name = "random_normal|normal",
                                                .default_name = "random_normal",
                                                .arguments = "shape mean? stddev?",
                                                .argument_types = "idd",
                                                .attributes = random_attributes,
                                                .build = build_normal};

const struct function function_truncated_normal = {.name = "truncated_normal",
                                                   .default_name = "truncated_normal",
                                                   .arguments = "shape mean? stddev?",
                                                   .argument_types = "idd",
                                                   .attributes = random_attributes,
                                                   .build = build_truncated_normal};

/* ---- drawing classes ---- */

static const struct attribute_rule class_attributes[] = {
    {.name = "output_dtype", .called = "dtype", .kind = ATTRIBUTE_DTYPE, .otherwise = DTYPE_INT64},
    {.name = "seed", .kind = ATTRIBUTE_INTEGER, .otherwise = -1},
    {0}};

/* num_samples stands beside the op here, one scope further out than in TensorFlow. */
static enum status build_multinomial(struct graph *graph, const struct function_call *call, struct call_result *result,
                                     struct error *error)
{
    result->output_count = 1;
    return add_random(graph, "Multinomial", NULL, call, call->inputs, 2, &result->outputs[0], error);
}

const struct function function_multinomial = {.name = "multinomial",
                                              .default_name = "multinomial",
                                              .arguments = "logits num_samples",
                                              .argument_types = "fi",
                                              .attributes = class_attributes,
                                              .build = build_multinomial};

const struct function function_categorical = {.name = "categorical",
                                              .default_name = "categorical",
                                              .arguments = "logits num_samples",
                                              .argument_types = "fi",
                                              .attributes = class_attributes,
                                              .build = build_multinomial};
