/* From a version's graph and values to what generates. Thread: loader, run threads. Owns nothing. */
#include <stdio.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/model/graph_pack.h"
#include "engine/model/graph_stepper.h"
#include "engine/model/model_private.h"
#include "engine/nn/language_model.h"

/* ---- a language_model: its weights by name ---- */

/* A variable's value: in the values of a live graph, else as it lies in the weights file; NULL: it has none. */
static const struct tensor *tensor_of(const struct version_content *content, const struct variable *variable)
{
    return content->values != NULL ? values_tensor(content->values, variable)
                                   : safetensors_find(&content->weights, variable->node->name);
}

static const float *weights_of(const struct version_content *content, const char *name, struct error *error)
{
    const struct variable *variable = graph_find_variable(content->graph, name);
    const struct tensor *tensor = variable == NULL ? NULL : tensor_of(content, variable);
    if (tensor == NULL) {
        error_set(error, STATUS_UNPROCESSABLE, "the graph has no variable %s, or no value for it", name);
        error_code(error, "missing_variable");
        return NULL;
    }
    return tensor->data;
}

/* The pair kernel, bias of a layer's cell, "" or in "gates/", "candidate/". */
static enum status gather_pair(const struct version_content *content, enum recurrent_cell cell, size_t layer,
                               const char *within, const float **ret_kernel, const float **ret_bias,
                               struct error *error)
{
    const char *const parts[] = {"kernel", "bias"};
    const float **const ret_parts[] = {ret_kernel, ret_bias};
    for (size_t i = 0; i < 2; i++) {
        char name[GRAPH_NAME_BYTES_MAX];
        snprintf(name, sizeof name, "rnn/multi_rnn_cell/cell_%zu/%s/%s%s", layer, recurrent_cell_scope(cell), within,
                 parts[i]);
        *ret_parts[i] = weights_of(content, name, error);
        if (*ret_parts[i] == NULL) {
            return STATUS_UNPROCESSABLE;
        }
    }
    return STATUS_OK;
}

/* A layer without its weights. */
static struct decode_layer_weights layer_sizes(const struct language_model_options *options, size_t layer)
{
    static const enum decode_cell cells[] = {[RECURRENT_CELL_LSTM] = DECODE_CELL_LSTM,
                                             [RECURRENT_CELL_GRU] = DECODE_CELL_GRU,
                                             [RECURRENT_CELL_RNN] = DECODE_CELL_RNN};
    static_assert(sizeof cells / sizeof *cells == RECURRENT_CELL_COUNT, "a row for each cell");
    size_t first_input = options->embedding > 0 ? options->embedding : options->vocabulary_size;
    return (struct decode_layer_weights){.cell = cells[options->cell],
                                         .input_size = layer == 0 ? first_input : options->units,
                                         .units = options->units,
                                         .forget_bias = (float)language_model_forget_bias(options),
                                         .is_residual = options->is_residual && layer > 0};
}

static enum status gather_layer(const struct version_content *content, const struct language_model_options *options,
                                size_t layer, struct decode_layer_weights *ret_layer, struct error *error)
{
    bool is_gru = options->cell == RECURRENT_CELL_GRU;
    *ret_layer = layer_sizes(options, layer);
    TRY(gather_pair(content, options->cell, layer, is_gru ? "gates/" : "", &ret_layer->kernel, &ret_layer->bias,
                    error));
    return is_gru ? gather_pair(content, options->cell, layer, "candidate/", &ret_layer->candidate_kernel,
                                &ret_layer->candidate_bias, error)
                  : STATUS_OK;
}

static enum status refuse(struct error *error, const char *code)
{
    return error_code(error, code), STATUS_UNPROCESSABLE;
}

/* All but the weights. */
static struct decode_weights sizes_of(const struct language_model_options *options)
{
    struct decode_weights sizes = {.vocabulary_size = options->vocabulary_size,
                                   .embedding_size = options->embedding,
                                   .layer_count = options->layers};
    for (size_t layer = 0; layer < options->layers; layer++) {
        sizes.layers[layer] = layer_sizes(options, layer);
    }
    return sizes;
}

static enum status gather(const struct version_content *content, const struct language_model_options *options,
                          struct decode_weights *ret_weights, struct error *error)
{
    size_t symbol_count = vocabulary_size(content->vocabulary);
    if (symbol_count != options->vocabulary_size) {
        error_set(error, STATUS_UNPROCESSABLE, "vocab.json has %zu symbols, the graph %zu", symbol_count,
                  options->vocabulary_size);
        return refuse(error, "wrong_shape");
    }
    struct decode_weights weights = sizes_of(options);
    for (size_t layer = 0; layer < options->layers; layer++) {
        TRY(gather_layer(content, options, layer, &weights.layers[layer], error));
    }
    if (options->embedding > 0) {
        weights.embedding = weights_of(content, "embedding", error);
    }
    weights.softmax_w = options->is_tied ? NULL : weights_of(content, "softmax/w", error);
    weights.softmax_b = weights_of(content, "softmax/b", error);
    if ((weights.softmax_w == NULL && !options->is_tied) || weights.softmax_b == NULL ||
        (options->embedding > 0 && weights.embedding == NULL)) {
        return STATUS_UNPROCESSABLE;
    }
    *ret_weights = weights;
    return STATUS_OK;
}

static enum status plan_language_model(const struct version_content *content,
                                       const struct language_model_options *options, enum rnn_precision precision,
                                       struct decode_plan **ret_plan, struct error *error)
{
    struct decode_weights weights;
    TRY(gather(content, options, &weights, error));
    weights.precision = precision;
    return decode_plan_create(&weights, ret_plan, error);
}

/* ---- any graph with a signature ---- */

/* Values of its own for a graph that is run: of all variables but optimisers' slots. */
static enum status copy_values(const struct version_content *content, struct values *values, struct error *error)
{
    bool is_complete = true;
    for (size_t i = 0; i < graph_variable_count(content->graph); i++) {
        const struct variable *variable = graph_variable(content->graph, i);
        const struct tensor *tensor = variable->is_slot ? NULL : tensor_of(content, variable);
        if (tensor != NULL) {
            TRY(values_set(values, variable, tensor, error));
        }
        is_complete = is_complete && (tensor != NULL || variable->is_slot);
    }
    return is_complete ? STATUS_OK : values_initialize(values, content->graph, VERSION_WEIGHTS_SEED, error);
}

/* Packs what `*plan` runs, where it can be packed, and puts that in its place; else `*ret_slow_path` says why not. */
static enum status pack_signature(const struct version_content *content, const struct graph_pack_options *options,
                                  struct decode_plan **plan, char **ret_slow_path, struct error *error)
{
    char reason[STEP_VIEW_REASON_BYTES_MAX];
    struct decode_plan *packed = NULL;
    TRY(graph_pack(options, &packed, reason, error));
    if (packed != NULL) {
        decode_plan_destroy(*plan);
        *plan = packed;
        return STATUS_OK;
    }
    if (options->precision != RNN_PRECISION_FP32) {
        error_set(error, STATUS_UNPROCESSABLE, "a graph that is run step by step cannot be packed in %s: %s",
                  rnn_precision_name(options->precision), reason);
        return refuse(error, "not_packed");
    }
    *ret_slow_path = mem_copy_string(reason);
    return *ret_slow_path == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory to load a graph of %zu nodes",
                                              graph_node_count(content->graph))
                                  : STATUS_OK;
}

/* The signature, which is nothing without a vocabulary. */
static enum status read_signature(const struct version_content *content, struct generate_signature *ret_signature,
                                  struct error *error)
{
    TRY(generate_signature_read(content->graph, ret_signature, error));
    if (content->vocabulary == NULL) {
        error_set(error, STATUS_UNPROCESSABLE,
                  "the signature " GENERATE_SIGNATURE_NAME " has no vocabulary: give the step one");
        return refuse(error, "cannot_generate");
    }
    return STATUS_OK;
}

static enum status measure_signature(const struct version_content *content, enum rnn_precision precision,
                                     size_t *ret_bytes, struct error *error)
{
    struct generate_signature signature;
    size_t bytes = 0;
    TRY(read_signature(content, &signature, error));
    struct graph_pack_options options = {.graph = content->graph,
                                         .signature = &signature,
                                         .symbol_count = vocabulary_size(content->vocabulary),
                                         .precision = precision};
    TRY(graph_pack_measure(&options, &bytes, error));
    if (bytes == 0) {
        TRY(graph_stepper_measure(content->graph, &signature, &bytes, error));
    }
    *ret_bytes = bytes;
    return STATUS_OK;
}

static enum status plan_signature(const struct version_content *content, enum rnn_precision precision,
                                  const struct weights_use *use, struct decode_plan **ret_plan, char **ret_slow_path,
                                  struct error *error)
{
    struct generate_signature signature;
    struct values *values = NULL;
    struct decode_plan *plan = NULL;
    TRY(read_signature(content, &signature, error));
    struct graph_pack_options options = {.graph = content->graph,
                                         .signature = &signature,
                                         .symbol_count = vocabulary_size(content->vocabulary),
                                         .precision = precision,
                                         .use = use};
    TRY(values_create(content->graph, &values, error));
    enum status status = copy_values(content, values, error);
    if (status == STATUS_OK) {
        status = graph_stepper_plan(content->graph, values, &signature, options.symbol_count, &plan, error);
    }
    if (status != STATUS_OK) {
        values_destroy(values);
        return status;
    }
    options.values = values; /* the plan's */
    options.reference = plan;
    status = pack_signature(content, &options, &plan, ret_slow_path, error);
    if (status != STATUS_OK) {
        decode_plan_destroy(plan);
        return status;
    }
    *ret_plan = plan;
    return STATUS_OK;
}

static enum status cannot_generate(struct error *error)
{
    error_set(error, STATUS_UNPROCESSABLE,
              "the graph has neither a language_model nor a signature " GENERATE_SIGNATURE_NAME
              ": it cannot generate text");
    return refuse(error, "no_language_model");
}

enum status version_content_plan(const struct version_content *content, enum rnn_precision precision,
                                 struct decode_plan **ret_plan, char **ret_slow_path, struct error *error)
{
    *ret_slow_path = NULL;
    struct language_model_options options;
    if (generate_signature_exists(content->graph)) {
        return plan_signature(content, precision, NULL, ret_plan, ret_slow_path, error);
    }
    if (content->vocabulary != NULL && language_model_find(content->graph, &options)) {
        return plan_language_model(content, &options, precision, ret_plan, error);
    }
    return cannot_generate(error);
}

enum status version_content_measure(const struct version_content *content, enum rnn_precision precision,
                                    size_t *ret_bytes, struct error *error)
{
    struct language_model_options options;
    if (generate_signature_exists(content->graph)) {
        return measure_signature(content, precision, ret_bytes, error);
    }
    if (content->vocabulary == NULL || !language_model_find(content->graph, &options)) {
        return cannot_generate(error);
    }
    struct decode_weights sizes = sizes_of(&options);
    sizes.precision = precision;
    *ret_bytes = decode_plan_measure(&sizes);
    return STATUS_OK;
}

enum status version_content_use_weights(const struct version_content *content, const struct weights_use *use,
                                        struct error *error)
{
    struct language_model_options options;
    if (!generate_signature_exists(content->graph)) {
        struct decode_weights weights;
        if (content->vocabulary == NULL || !language_model_find(content->graph, &options)) {
            return cannot_generate(error);
        }
        TRY(gather(content, &options, &weights, error));
        return use->take(use->context, &weights, error);
    }
    struct decode_plan *plan = NULL;
    char *slow_path = NULL;
    TRY(plan_signature(content, RNN_PRECISION_FP32, use, &plan, &slow_path, error));
    decode_plan_destroy(plan);
    if (slow_path != NULL) {
        error_set(error, STATUS_UNPROCESSABLE, "the graph is no stack of cells that could be packed: %.900s",
                  slow_path);
        mem_free(slow_path);
        return refuse(error, "not_packed");
    }
    return STATUS_OK;
}
