/* dropout, embedding_lookup, xw_plus_b, exponential_decay. Thread: the building one.
 * Source: TensorFlow 1.15, ops/nn_ops.py, ops/embedding_ops.py, training/learning_rate_decay.py. */
#include "engine/graph/function_private.h"
#include "engine/graph/op_rules.h"

/* ---- dropout ---- */

enum { DROPOUT_X, DROPOUT_KEEP, DROPOUT_NOISE_SHAPE, DROPOUT_RATE };

/* The probability to keep an element: a number, or a tensor where `ret_keep` has a node. */
static enum status read_keep(struct graph *graph, const struct function_call *call, double *ret_number,
                             struct output *ret_keep, struct error *error)
{
    bool has_keep = function_is_given(&call->arguments[DROPOUT_KEEP]);
    const struct call_argument *given = &call->arguments[has_keep ? DROPOUT_KEEP : DROPOUT_RATE];
    struct output tensor = call->inputs[has_keep ? DROPOUT_KEEP : DROPOUT_RATE];
    if (has_keep && function_is_given(&call->arguments[DROPOUT_RATE])) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Cannot specify both 'rate' and 'keep_prob'");
    }
    if (!function_is_given(given)) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "You must provide a rate to dropout.");
    }
    if (tensor.node == NULL) {
        if (given->value.shape.rank != 0) {
            char text[SHAPE_TEXT_BYTES_MAX];
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                               "%s must be a scalar tensor or a float, got an array of shape %s",
                               has_keep ? "keep_prob" : "rate", shape_text(&given->value.shape, text));
        }
        double number = tensor_number(&given->value, 0);
        if (has_keep && !(number > 0 && number <= 1)) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                               "keep_prob must be a scalar tensor or a float in the range (0, 1], got %g", number);
        }
        if (!has_keep && !(number >= 0 && number < 1)) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                               "rate must be a scalar tensor or a float in the range [0, 1), got %g", number);
        }
        *ret_number = has_keep ? number : 1 - number;
        ret_keep->node = NULL;
        return STATUS_OK;
    }
    enum dtype dtype = output_type(call->inputs[DROPOUT_X])->dtype;
    if (output_type(tensor)->dtype != dtype) {
        char text[OUTPUT_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Tensor conversion requested dtype %s for Tensor with dtype %s: '%s'", dtype_name(dtype),
                           dtype_name(output_type(tensor)->dtype), output_text(tensor, text));
    }
    if (has_keep) {
        *ret_keep = tensor;
        return STATUS_OK;
    }
    struct output one;
    TRY(graph_add_number(graph, "sub/x", dtype, 1, &one, error));
    return graph_add(graph, "Sub", "sub", (struct output[]){one, tensor}, 2, ret_keep, error);
}

/* One random number for several elements: x / keep · ⌊keep + uniform(noise_shape)⌋. */
static enum status add_shaped_noise(struct graph *graph, const struct function_call *call, struct output keep,
                                    struct call_result *result, struct error *error)
{
    struct output x = call->inputs[DROPOUT_X];
    enum dtype dtype = output_type(x)->dtype;
    const struct attribute *seed = function_attribute(call, "seed");
    struct attribute attributes[] = {*seed, {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = dtype}};
    struct output noise;
    struct output sum;
    struct output mask;
    struct output scaled;
    TRY(function_add(graph, call, "RandomUniform", "random_uniform/RandomUniform", &call->inputs[DROPOUT_NOISE_SHAPE],
                     1, attributes, 2, &noise, error));
    TRY(graph_add(graph, "Add", "add", (struct output[]){keep, noise}, 2, &sum, error));
    TRY(graph_add_unary(graph, "Floor", sum, &mask, error));
    TRY(graph_add(graph, "RealDiv", "truediv", (struct output[]){x, keep}, 2, &scaled, error));
    result->output_count = 1;
    return graph_add(graph, "Mul", "mul_1", (struct output[]){scaled, mask}, 2, &result->outputs[0], error);
}

static enum status build_dropout(struct graph *graph, const struct function_call *call, struct call_result *result,
                                 struct error *error)
{
    struct output x = call->inputs[DROPOUT_X];
    struct output keep = {NULL, 0};
    double number = 1;
    enum dtype dtype = output_type(x)->dtype;
    if (!dtype_is_float(dtype)) {
        return error_raise(
            error, STATUS_INVALID, EXCEPTION_VALUE,
            "x has to be a floating point tensor since it's going to be scaled. Got a <dtype: '%s'> tensor instead.",
            dtype_name(dtype));
    }
    TRY(read_keep(graph, call, &number, &keep, error));
    if (keep.node == NULL && number == 1) {
        result->outputs[0] = x;
        result->output_count = 1;
        return STATUS_OK;
    }
    if (keep.node == NULL) {
        TRY(graph_add_number(graph, "keep_prob", dtype, number, &keep, error));
    }
    if (call->inputs[DROPOUT_NOISE_SHAPE].node != NULL) {
        return add_shaped_noise(graph, call, keep, result, error);
    }
    result->output_count = 1; /* named as the last of the ops TensorFlow makes */
    return function_add(graph, call, "Dropout", "mul_1", (struct output[]){x, keep}, 2, call->attributes,
                        call->attribute_count, &result->outputs[0], error);
}

static const struct attribute_rule seed_attribute[] = {{.name = "seed", .kind = ATTRIBUTE_INTEGER, .otherwise = -1},
                                                       {.name = NULL}};

const struct function function_dropout = {.name = "dropout",
                                          .default_name = "dropout",
                                          .arguments = "x keep_prob? noise_shape? rate?",
                                          .argument_types = "Tnin",
                                          .attributes = seed_attribute,
                                          .build = build_dropout};

/* ---- embedding_lookup ---- */

static enum status build_embedding_lookup(struct graph *graph, const struct function_call *call,
                                          struct call_result *result, struct error *error)
{
    struct output rows;
    struct output axis;
    char name[GRAPH_NAME_BYTES_MAX + 2];
    if (call->input_count != 2) {
        return error_set(error, STATUS_UNSUPPORTED, "embedding_lookup() in %zu tensors: only one is supported",
                         call->input_count - 1);
    }
    snprintf(name, sizeof name, "%s/", call->scope);
    TRY(graph_add_integer(graph, "axis", 0, &axis, error));
    struct output inputs[] = {call->inputs[0], call->inputs[1], axis};
    TRY(function_add(graph, call, "GatherV2", name, inputs, 3, NULL, 0, &rows, error));
    result->output_count = 1;
    return graph_add_unary(graph, "Identity", rows, &result->outputs[0], error);
}

const struct function function_embedding_lookup = {.name = "embedding_lookup",
                                                   .default_name = "embedding_lookup",
                                                   .arguments = "params* ids",
                                                   .argument_types = "Ti",
                                                   .build = build_embedding_lookup};

/* ---- xw_plus_b ---- */

static enum status build_xw_plus_b(struct graph *graph, const struct function_call *call, struct call_result *result,
                                   struct error *error)
{
    struct output product;
    TRY(function_add(graph, call, "MatMul", NULL, call->inputs, 2, NULL, 0, &product, error));
    return function_finish(graph, call, "BiasAdd", (struct output[]){product, call->inputs[2]}, 2, NULL, 0, result,
                           error);
}

const struct function function_xw_plus_b = {.name = "xw_plus_b",
                                            .default_name = "xw_plus_b",
                                            .arguments = "x weights biases",
                                            .argument_types = "fff",
                                            .build = build_xw_plus_b};

/* ---- exponential_decay: rate · decay_rate ^ (step / decay_steps) ---- */

/* A number or a tensor of another dtype as `dtype`. */
static enum status as_dtype(struct graph *graph, const struct function_call *call, size_t at, const char *name,
                            enum dtype dtype, struct output *ret_output, struct error *error)
{
    const struct call_argument *given = &call->arguments[at];
    struct output tensor = call->inputs[at];
    if (tensor.node == NULL) {
        if (given->value.shape.rank != 0) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "'%s' must be a scalar", name);
        }
        return graph_add_number(graph, name, dtype, tensor_number(&given->value, 0), ret_output, error);
    }
    if (output_type(tensor)->dtype == dtype) {
        *ret_output = tensor;
        return STATUS_OK;
    }
    struct attribute to = {.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = dtype};
    struct node_options options = {.inputs = &tensor, .input_count = 1, .attributes = &to, .attribute_count = 1};
    struct node *cast = NULL;
    TRY(graph_add_node(graph, "Cast", &options, &cast, error));
    *ret_output = (struct output){cast, 0};
    return STATUS_OK;
}

static enum status build_exponential_decay(struct graph *graph, const struct function_call *call,
                                           struct call_result *result, struct error *error)
{
    enum dtype dtype = output_type(call->inputs[0])->dtype;
    struct output step = {NULL, 0};
    struct output steps = {NULL, 0};
    struct output decay = {NULL, 0};
    struct output power;
    struct output factor;
    if (!function_is_given(&call->arguments[1])) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "global_step is required for exponential_decay.");
    }
    TRY(as_dtype(graph, call, 1, "global_step", dtype, &step, error));
    TRY(as_dtype(graph, call, 2, "decay_steps", dtype, &steps, error));
    TRY(as_dtype(graph, call, 3, "decay_rate", dtype, &decay, error));
    TRY(graph_add(graph, "RealDiv", "truediv", (struct output[]){step, steps}, 2, &power, error));
    if (function_flag(call, "staircase", false)) {
        TRY(graph_add_unary(graph, "Floor", power, &power, error));
    }
    TRY(graph_add_binary(graph, "Pow", decay, power, &factor, error));
    return function_finish(graph, call, "Mul", (struct output[]){call->inputs[0], factor}, 2, NULL, 0, result, error);
}

static const struct attribute_rule staircase_attribute[] = {{.name = "staircase", .kind = ATTRIBUTE_BOOLEAN},
                                                            {.name = NULL}};

const struct function function_exponential_decay = {.name = "exponential_decay|train.exponential_decay",
                                                    .default_name = "ExponentialDecay",
                                                    .arguments = "learning_rate global_step? decay_steps decay_rate",
                                                    .argument_types = "fnnn",
                                                    .attributes = staircase_attribute,
                                                    .build = build_exponential_decay};
