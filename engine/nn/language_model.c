/* The language model's two heads over one set of variables. Thread: the building one. What was built is recorded on a
 * node of its own, "language_model", so that a later build can compare. */
#include "engine/nn/language_model.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/function.h"
#include "engine/graph/op_rules.h"
#include "engine/graph/variable.h"

static const char record_name[] = "language_model";

/* ---- the record ---- */

double language_model_forget_bias(const struct language_model_options *options)
{
    return options->has_forget_bias ? options->forget_bias : 1;
}

bool language_model_find(const struct graph *graph, struct language_model_options *ret_options)
{
    const struct node *record = graph_find_node(graph, record_name);
    if (record == NULL) {
        return false;
    }
    *ret_options = (struct language_model_options){
        .cell = (enum recurrent_cell)node_attribute_integer(record, "cell", 0),
        .layers = (size_t)node_attribute_integer(record, "layers", 0),
        .units = (size_t)node_attribute_integer(record, "units", 0),
        .embedding = (size_t)node_attribute_integer(record, "embedding", 0),
        .is_residual = node_attribute_boolean(record, "residual", false),
        .is_tied = node_attribute_boolean(record, "tie", false),
        .vocabulary_size = (size_t)node_attribute_integer(record, "vocabulary_size", 0),
        .dropout = node_attribute_number(record, "dropout", 0),
        .has_input_dropout = node_attribute_boolean(record, "input_dropout", false),
        .has_one_mask = node_attribute_boolean(record, "variational_dropout", false),
        .has_forget_bias = true,
        .forget_bias = node_attribute_number(record, "forget_bias", 1),
        .initial_range = node_attribute_number(record, "initial_range", 0),
        .has_train_head = graph_find_node(graph, "train/loss") != NULL,
        .has_predict_head = graph_find_node(graph, "predict/logits") != NULL,
    };
    return true;
}

static enum status record(struct graph *graph, const struct language_model_options *options, struct error *error)
{
    struct attribute attributes[] = {
        {.name = "cell", .kind = ATTRIBUTE_INTEGER, .integer = options->cell},
        {.name = "layers", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)options->layers},
        {.name = "units", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)options->units},
        {.name = "embedding", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)options->embedding},
        {.name = "residual", .kind = ATTRIBUTE_BOOLEAN, .boolean = options->is_residual},
        {.name = "tie", .kind = ATTRIBUTE_BOOLEAN, .boolean = options->is_tied},
        {.name = "vocabulary_size", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)options->vocabulary_size},
        {.name = "dropout", .kind = ATTRIBUTE_NUMBER, .number = options->dropout},
        {.name = "input_dropout", .kind = ATTRIBUTE_BOOLEAN, .boolean = options->has_input_dropout},
        {.name = "variational_dropout", .kind = ATTRIBUTE_BOOLEAN, .boolean = options->has_one_mask},
        {.name = "forget_bias", .kind = ATTRIBUTE_NUMBER, .number = language_model_forget_bias(options)},
        {.name = "initial_range", .kind = ATTRIBUTE_NUMBER, .number = options->initial_range},
    };
    struct node_options add = {
        .name = record_name, .attributes = attributes, .attribute_count = sizeof attributes / sizeof *attributes};
    struct node *node = NULL;
    return graph_add_node(graph, "NoOp", &add, &node, error);
}

enum { DESCRIPTION_BYTES_MAX = 160 };

static const char *describe(const struct language_model_options *options, char text[DESCRIPTION_BYTES_MAX])
{
    int length = snprintf(text, DESCRIPTION_BYTES_MAX, "%zu layers × %zu units (%s%s), embedding %zu%s, %zu symbols",
                          options->layers, options->units, recurrent_cell_name(options->cell),
                          options->is_residual ? ", residual" : "", options->embedding,
                          options->is_tied ? " (tied)" : "", options->vocabulary_size);
    if (language_model_forget_bias(options) != 1) {
        snprintf(text + length, (size_t)(DESCRIPTION_BYTES_MAX - length), ", forget bias %g",
                 language_model_forget_bias(options));
    }
    return text;
}

static enum status compare(const struct language_model_options *have, const struct language_model_options *want,
                           struct error *error)
{
    if (have->cell == want->cell && have->layers == want->layers && have->units == want->units &&
        have->embedding == want->embedding && have->is_tied == want->is_tied &&
        have->is_residual == want->is_residual && have->vocabulary_size == want->vocabulary_size &&
        language_model_forget_bias(have) == language_model_forget_bias(want)) {
        return STATUS_OK;
    }
    char held[DESCRIPTION_BYTES_MAX];
    char wanted[DESCRIPTION_BYTES_MAX];
    error_set(error, STATUS_CONFLICT, "this graph holds a language model of %s; refusing one of %s over the same names",
              describe(have, held), describe(want, wanted));
    return error_code(error, "architecture_exists"), STATUS_CONFLICT;
}

/* ---- the variables outside the recurrence ---- */

struct model_variables {
    struct output embedding;
    struct output softmax_w;
    struct output softmax_b;
};

static enum status get_one(struct graph *graph, const char *name, struct shape shape, enum initializer_kind kind,
                           struct output *ret_output, struct error *error)
{
    struct variable_options options = {
        .name = name, .shape = shape, .dtype = DTYPE_FLOAT32, .initializer = {.kind = kind}};
    const struct variable *variable = NULL;
    TRY(get_variable(graph, &options, &variable, NULL, error));
    *ret_output = variable->read;
    return STATUS_OK;
}

static enum status get_model_variables(struct graph *graph, const struct language_model_options *options,
                                       struct model_variables *ret_variables, struct error *error)
{
    int64_t symbols = (int64_t)options->vocabulary_size;
    if (options->embedding > 0) {
        TRY(get_one(graph, "embedding", shape_matrix(symbols, (int64_t)options->embedding), INITIALIZER_DEFAULT,
                    &ret_variables->embedding, error));
    }
    if (!options->is_tied) {
        TRY(get_one(graph, "softmax/w", shape_matrix((int64_t)options->units, symbols), INITIALIZER_DEFAULT,
                    &ret_variables->softmax_w, error));
    }
    return get_one(graph, "softmax/b", shape_vector(symbols),
                   options->initial_range > 0 ? INITIALIZER_DEFAULT : INITIALIZER_ZEROS, &ret_variables->softmax_b,
                   error);
}

/* ---- the body of both heads ---- */

static enum status add_placeholder(struct graph *graph, const char *name, struct output *ret_output,
                                   struct error *error)
{
    struct attribute attributes[] = {
        {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_INT32},
        {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = shape_matrix(DIMENSION_UNKNOWN, DIMENSION_UNKNOWN)},
    };
    struct node_options add = {.name = name, .attributes = attributes, .attribute_count = 2};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Placeholder", &add, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

static enum status add_zero_state(struct graph *graph, const struct language_model_options *options, size_t index,
                                  struct output inputs, struct output *ret_output, struct error *error)
{
    char place[RECURRENT_STATE_NAME_BYTES_MAX];
    char name[64];
    snprintf(name, sizeof name, "initial_state/%s", recurrent_state_name(options->cell, index, place));
    struct attribute size = {.name = "units", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)options->units};
    struct node_options add = {
        .name = name, .inputs = &inputs, .input_count = 1, .attributes = &size, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "ZeroState", &add, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

static enum status add_final_state(struct graph *graph, enum recurrent_cell cell, size_t index, struct output state,
                                   struct error *error)
{
    char place[RECURRENT_STATE_NAME_BYTES_MAX];
    char name[64];
    snprintf(name, sizeof name, "final_state/%s", recurrent_state_name(cell, index, place));
    struct output ignored;
    return graph_add(graph, "Identity", name, &state, 1, &ignored, error);
}

/* [a, b, …] → [b, a, …]: between batch-major and time-major. */
static enum status add_swapped(struct graph *graph, const char *name, struct output x, struct output *ret_output,
                               struct error *error)
{
    int64_t perm[] = {1, 0, 2};
    struct output inputs[] = {x, {NULL, 0}};
    size_t rank = (size_t)output_type(x)->shape.rank;
    CHECK(rank == 2 || rank == 3);
    TRY(graph_add_integers(graph, "perm", perm, rank, &inputs[1], error));
    return graph_add(graph, "Transpose", name, inputs, 2, ret_output, error);
}

/* inputs [batch, time] → outputs of the top layer [time, batch, units]. */
static enum status add_layers(struct graph *graph, const struct language_model_options *options, struct output inputs,
                              struct output embedding, struct output keep, struct output *ret_outputs,
                              struct error *error)
{
    struct recurrent_stack stack = {.cell = options->cell,
                                    .depth = options->vocabulary_size,
                                    .units = options->units,
                                    .layers = options->layers,
                                    .forget_bias = language_model_forget_bias(options),
                                    .keep_probability = keep,
                                    .has_one_mask = options->has_one_mask,
                                    .is_residual = options->is_residual};
    size_t state_count = options->layers * recurrent_cell_state_count(options->cell);
    TRY(add_swapped(graph, "time_major", inputs, &stack.inputs, error));
    if (embedding.node != NULL) {
        struct output look_up[] = {embedding, stack.inputs, {NULL, 0}};
        TRY(graph_add_integer(graph, "axis", 0, &look_up[2], error));
        TRY(graph_add(graph, "GatherV2", "embedding_lookup", look_up, 3, &stack.inputs, error));
        stack.depth = options->embedding;
        if (options->has_input_dropout && keep.node != NULL) {
            TRY(recurrent_add_dropout(graph, stack.inputs, keep, options->has_one_mask, "input", &stack.inputs, error));
        }
    }
    for (size_t i = 0; i < state_count; i++) {
        TRY(add_zero_state(graph, options, i, inputs, &stack.initial[i], error));
    }
    struct recurrent_stack_outputs outputs;
    TRY(recurrent_stack_build(graph, &stack, &outputs, error));
    for (size_t i = 0; i < state_count; i++) {
        TRY(add_final_state(graph, options->cell, i, outputs.final[i], error));
    }
    *ret_outputs = outputs.outputs;
    return STATUS_OK;
}

static enum status add_flat(struct graph *graph, struct output x, int64_t columns, struct output *ret_output,
                            struct error *error)
{
    struct output inputs[] = {x, {NULL, 0}};
    int64_t shape[] = {-1, columns};
    TRY(graph_add_integers(graph, "shape", shape, columns == 0 ? 1 : 2, &inputs[1], error));
    return graph_add(graph, "Reshape", NULL, inputs, 2, ret_output, error);
}

/* […, units] → logits [rows, symbols] */
static enum status add_logits(struct graph *graph, const struct language_model_options *options, struct output x,
                              const struct model_variables *variables, struct output *ret_logits, struct error *error)
{
    struct output flat;
    struct output product;
    TRY(add_flat(graph, x, (int64_t)options->units, &flat, error));
    struct output factors[] = {flat, options->is_tied ? variables->embedding : variables->softmax_w};
    struct attribute transpose = {.name = "transpose_b", .kind = ATTRIBUTE_BOOLEAN, .boolean = options->is_tied};
    struct node_options add = {.inputs = factors, .input_count = 2, .attributes = &transpose, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "MatMul", &add, &node, error));
    product = (struct output){node, 0};
    struct output terms[] = {product, variables->softmax_b};
    return graph_add(graph, "BiasAdd", NULL, terms, 2, ret_logits, error);
}

/* (1 − s) · loss − s · mean(log p) over all symbols, s the label smoothing. */
static enum status add_smoothed_loss(struct graph *graph, struct output logits, struct output loss, struct error *error)
{
    struct output none;
    struct output smoothing;
    struct output one;
    struct output rest;
    struct output log_p;
    struct output mean;
    struct output terms[2];
    struct output ignored;
    TRY(graph_add_scalar(graph, "label_smoothing/default", 0, &none, error));
    TRY(graph_add(graph, "PlaceholderWithDefault", "train/label_smoothing/", &none, 1, &smoothing, error));
    TRY(graph_add_scalar(graph, "one", 1, &one, error));
    TRY(graph_add_binary(graph, "Sub", one, smoothing, &rest, error));
    TRY(graph_add_binary(graph, "Mul", rest, loss, &terms[0], error));
    TRY(graph_add_unary(graph, "LogSoftmax", logits, &log_p, error));
    TRY(graph_call_tensors(graph, "reduce_mean", "mean_log_probability", &log_p, 1, &mean, error));
    TRY(graph_add_binary(graph, "Mul", mean, smoothing, &terms[1], error));
    return graph_add(graph, "Sub", "smoothed_loss", terms, 2, &ignored, error);
}

static enum status build_train_head(struct graph *graph, const struct language_model_options *options,
                                    const struct model_variables *variables, struct error *error)
{
    struct output inputs;
    struct output targets;
    struct output keep_default;
    struct output keep;
    struct output outputs;
    struct output logits;
    struct output labels;
    struct output losses;
    struct output loss;
    TRY(add_placeholder(graph, "inputs", &inputs, error));
    TRY(add_placeholder(graph, "targets", &targets, error));
    TRY(graph_add_scalar(graph, "keep_probability/default", (float)(1 - options->dropout), &keep_default, error));
    TRY(graph_add(graph, "PlaceholderWithDefault", "train/keep_probability/", &keep_default, 1, &keep, error));
    TRY(add_layers(graph, options, inputs, variables->embedding, keep, &outputs, error));
    TRY(add_logits(graph, options, outputs, variables, &logits, error));
    TRY(add_swapped(graph, "time_major_targets", targets, &labels, error));
    TRY(add_flat(graph, labels, 0, &labels, error));
    struct output pair[] = {logits, labels};
    TRY(graph_add(graph, "SparseSoftmaxCrossEntropyWithLogits", "cross_entropy", pair, 2, &losses, error));
    TRY(graph_call_tensors(graph, "reduce_mean", "loss", &losses, 1, &loss, error));
    return add_smoothed_loss(graph, logits, loss, error);
}

static enum status build_predict_head(struct graph *graph, const struct language_model_options *options,
                                      const struct model_variables *variables, struct error *error)
{
    struct output inputs;
    struct output outputs;
    struct output rows;
    struct output logits;
    struct output probabilities;
    struct output none = {NULL, 0};
    TRY(add_placeholder(graph, "inputs", &inputs, error));
    TRY(add_layers(graph, options, inputs, variables->embedding, none, &outputs, error));
    TRY(add_swapped(graph, "batch_major", outputs, &outputs, error));
    TRY(add_logits(graph, options, outputs, variables, &rows, error));
    struct output back[] = {rows, outputs};
    struct attribute keep_last = {.name = "keep_last", .kind = ATTRIBUTE_BOOLEAN, .boolean = true};
    struct node_options add = {
        .name = "logits", .inputs = back, .input_count = 2, .attributes = &keep_last, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "ReshapeLike", &add, &node, error));
    logits = (struct output){node, 0};
    return graph_add(graph, "Softmax", "probabilities", &logits, 1, &probabilities, error);
}

/* ---- building ---- */

static enum status build_head(struct graph *graph, bool is_train_head, const struct language_model_options *options,
                              struct error *error)
{
    struct model_variables variables = {0};
    const char *previous = NULL;
    TRY(get_model_variables(graph, options, &variables, error));
    TRY(graph_enter_name_scope(graph, is_train_head ? "train/" : "predict/", &previous, error));
    enum status status = is_train_head ? build_train_head(graph, options, &variables, error)
                                       : build_predict_head(graph, options, &variables, error);
    graph_leave_name_scope(graph, previous);
    return status;
}

size_t language_model_parameter_count(const struct language_model_options *options)
{
    size_t inputs = options->embedding > 0 ? options->embedding : options->vocabulary_size;
    size_t total = 0;
    bool overflows = options->embedding > 0 && __builtin_mul_overflow(options->vocabulary_size, inputs, &total);
    for (size_t layer = 0; layer <= options->layers && !overflows; layer++) {
        bool is_output = layer == options->layers;
        size_t rows = 1 + (is_output && options->is_tied ? 0 : options->units); /* one for the bias */
        rows += is_output ? 0 : inputs;
        size_t gates = recurrent_cell_gate_count(options->cell);
        size_t columns = is_output ? options->vocabulary_size : gates * options->units;
        size_t count;
        overflows = __builtin_mul_overflow(rows, columns, &count) || __builtin_add_overflow(total, count, &total);
        inputs = options->units;
    }
    return overflows ? SIZE_MAX : total;
}

static enum status check_sizes(const struct language_model_options *options, struct error *error)
{
    if (options->layers < 1 || options->layers > LANGUAGE_MODEL_LAYERS_MAX) {
        return error_set(error, STATUS_INVALID, "layers is %zu, must be 1 to %d", options->layers,
                         LANGUAGE_MODEL_LAYERS_MAX);
    }
    if (options->units < 1 || options->units > LANGUAGE_MODEL_UNITS_MAX) {
        return error_set(error, STATUS_INVALID, "units is %zu, must be 1 to %d", options->units,
                         LANGUAGE_MODEL_UNITS_MAX);
    }
    if (options->embedding > LANGUAGE_MODEL_UNITS_MAX) {
        return error_set(error, STATUS_INVALID, "embedding is %zu, must be at most %d", options->embedding,
                         LANGUAGE_MODEL_UNITS_MAX);
    }
    if (options->is_tied && options->embedding != options->units) {
        return error_set(error, STATUS_INVALID,
                         "a tied output needs an embedding of %zu, the units of the top layer, "
                         "not %zu",
                         options->units, options->embedding);
    }
    if (!(options->dropout >= 0 && options->dropout <= LANGUAGE_MODEL_DROPOUT_MAX)) {
        return error_set(error, STATUS_INVALID, "dropout is %g, must be from 0 to %g", options->dropout,
                         LANGUAGE_MODEL_DROPOUT_MAX);
    }
    if (options->has_input_dropout && options->embedding == 0) {
        return error_set(error, STATUS_INVALID, "a dropout of the input needs an embedding");
    }
    if (!(options->initial_range >= 0 && options->initial_range < HUGE_VAL)) {
        return error_set(error, STATUS_INVALID, "initial_range is %g, must be 0 or more", options->initial_range);
    }
    if (options->vocabulary_size < 1) {
        return error_set(error, STATUS_INVALID, "the vocabulary has no symbols");
    }
    size_t parameters = language_model_parameter_count(options);
    if (parameters > LANGUAGE_MODEL_PARAMETERS_MAX) {
        return error_set(error, STATUS_TOO_LARGE,
                         "a language model of %zu layers × %zu units with %zu symbols has %zu parameters, "
                         "at most %d",
                         options->layers, options->units, options->vocabulary_size, parameters,
                         LANGUAGE_MODEL_PARAMETERS_MAX);
    }
    return STATUS_OK;
}

/* What the scope's variables begin with, if they do not say so themselves. */
static enum status set_range(struct graph *graph, uint32_t scope, double range, struct error *error)
{
    struct initializer uniform = {.kind = INITIALIZER_UNIFORM, .low = -range, .high = range};
    return range > 0 ? variable_scope_set_initializer(graph, scope, &uniform, error) : STATUS_OK;
}

enum status language_model_build(struct graph *graph, const struct language_model_options *options, struct error *error)
{
    TRY(check_sizes(options, error));
    struct language_model_options have = {0};
    bool is_new = !language_model_find(graph, &have);
    struct variable_scope_frame frame;
    TRY(variable_scope_reopen(graph, REUSE_AUTO, &frame, error));
    enum status status = set_range(graph, frame.scope, options->initial_range, error);
    struct model_variables ignored = {0};
    if (status == STATUS_OK && !is_new) {
        status = get_model_variables(graph, options, &ignored, error); /* its error names the variable that differs */
        status = status == STATUS_OK ? compare(&have, options, error) : status;
    } else if (status == STATUS_OK) {
        status = record(graph, options, error);
    }
    if (status == STATUS_OK && options->has_train_head && !have.has_train_head) {
        status = build_head(graph, true, options, error);
    }
    if (status == STATUS_OK && options->has_predict_head && !have.has_predict_head) {
        status = build_head(graph, false, options, error);
    }
    variable_scope_leave(graph, &frame);
    return status;
}
