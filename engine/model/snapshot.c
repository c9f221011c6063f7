/* Published versions. Thread: made on the loader thread, referenced from any; immutable in between. A snapshot keeps
 * the packed weights, the vocabulary and the manifest; graph and files are dropped once packed. */
#include "engine/model/snapshot.h"

#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/model/model_private.h"
#include "engine/nn/language_model.h"

struct snapshot {
    _Atomic size_t references;
    uint64_t version;
    char *model_name;
    char *full_name;
    struct decode_plan *plan;
    struct vocabulary *vocabulary;
    json_t *manifest;
    size_t parameter_count;
};

static enum status no_memory(struct error *error, const char *path)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory to load %s", path);
}

/* ---- from the graph to the decode plan ---- */

static const float *weights_of(const struct version_content *content, const char *name, struct error *error)
{
    const struct variable *variable = graph_find_variable(content->graph, name);
    const struct tensor *tensor = variable == NULL          ? NULL
                                  : content->values != NULL ? values_tensor(content->values, variable)
                                                            : safetensors_find(&content->weights, name);
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

static enum status gather_layer(const struct version_content *content, const struct language_model_options *options,
                                size_t layer, struct decode_layer_weights *ret_layer, struct error *error)
{
    static const enum decode_cell cells[] = {[RECURRENT_CELL_LSTM] = DECODE_CELL_LSTM,
                                             [RECURRENT_CELL_GRU] = DECODE_CELL_GRU,
                                             [RECURRENT_CELL_RNN] = DECODE_CELL_RNN};
    static_assert(sizeof cells / sizeof *cells == RECURRENT_CELL_COUNT, "a row for each cell");
    size_t first_input = options->embedding > 0 ? options->embedding : options->vocabulary_size;
    bool is_gru = options->cell == RECURRENT_CELL_GRU;
    *ret_layer = (struct decode_layer_weights){.cell = cells[options->cell],
                                               .input_size = layer == 0 ? first_input : options->units,
                                               .units = options->units,
                                               .forget_bias = 1};
    TRY(gather_pair(content, options->cell, layer, is_gru ? "gates/" : "", &ret_layer->kernel, &ret_layer->bias,
                    error));
    return is_gru ? gather_pair(content, options->cell, layer, "candidate/", &ret_layer->candidate_kernel,
                                &ret_layer->candidate_bias, error)
                  : STATUS_OK;
}

enum status version_content_plan(const struct version_content *content, enum rnn_precision precision,
                                 struct decode_plan **ret_plan, struct error *error)
{
    struct language_model_options options;
    if (content->vocabulary == NULL || !language_model_find(content->graph, &options)) {
        error_set(error, STATUS_UNPROCESSABLE, "the graph has no language_model: it cannot generate text");
        return error_code(error, "no_language_model"), STATUS_UNPROCESSABLE;
    }
    if (vocabulary_size(content->vocabulary) != options.vocabulary_size) {
        error_set(error, STATUS_UNPROCESSABLE, "vocab.json has %zu symbols, the graph %zu",
                  vocabulary_size(content->vocabulary), options.vocabulary_size);
        return error_code(error, "wrong_shape"), STATUS_UNPROCESSABLE;
    }
    struct decode_weights weights = {.vocabulary_size = options.vocabulary_size,
                                     .embedding_size = options.embedding,
                                     .layer_count = options.layers,
                                     .precision = precision};
    for (size_t layer = 0; layer < options.layers; layer++) {
        TRY(gather_layer(content, &options, layer, &weights.layers[layer], error));
    }
    if (options.embedding > 0) {
        weights.embedding = weights_of(content, "embedding", error);
    }
    weights.softmax_w = options.is_tied ? NULL : weights_of(content, "softmax/w", error);
    weights.softmax_b = weights_of(content, "softmax/b", error);
    if ((weights.softmax_w == NULL && !options.is_tied) || weights.softmax_b == NULL ||
        (options.embedding > 0 && weights.embedding == NULL)) {
        return STATUS_UNPROCESSABLE;
    }
    return decode_plan_create(&weights, ret_plan, error);
}

/* ---- life ---- */

static size_t count_parameters(const struct graph *graph)
{
    size_t parameters = 0;
    for (size_t i = 0; i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        size_t count = 0;
        if (!variable->is_slot && shape_element_count(&variable->node->outputs[0].shape, &count)) {
            parameters += count;
        }
    }
    return parameters;
}

static enum status fill(struct snapshot *snapshot, const struct version_content *content, const char *model_name,
                        enum rnn_precision precision, struct error *error)
{
    char full_name[160];
    snprintf(full_name, sizeof full_name, "%.128s@%llu", model_name, (unsigned long long)snapshot->version);
    snapshot->model_name = mem_copy_string(model_name);
    snapshot->full_name = mem_copy_string(full_name);
    snapshot->manifest = json_deep_copy(content->manifest);
    if (snapshot->model_name == NULL || snapshot->full_name == NULL || snapshot->manifest == NULL) {
        return no_memory(error, full_name);
    }
    snapshot->parameter_count = count_parameters(content->graph);
    TRY(version_content_plan(content, precision, &snapshot->plan, error));
    snapshot->vocabulary = vocabulary_ref(content->vocabulary);
    return decode_plan_warm_up(snapshot->plan, error);
}

enum status snapshot_load(const char *path, const char *model_name, uint64_t version, enum rnn_precision precision,
                          struct snapshot **ret_snapshot, struct error *error)
{
    struct version_content content;
    TRY(version_content_read(path, VERSION_USE_PACK, &content, error));
    struct snapshot *snapshot = mem_allocate(1, sizeof *snapshot);
    enum status status = STATUS_OK;
    if (snapshot == NULL) {
        status = no_memory(error, path);
    } else {
        atomic_init(&snapshot->references, 1);
        snapshot->version = version;
        status = fill(snapshot, &content, model_name, precision, error);
    }
    version_content_release(&content);
    if (status != STATUS_OK) {
        snapshot_unref(snapshot);
        return status;
    }
    *ret_snapshot = snapshot;
    return STATUS_OK;
}

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
    atomic_fetch_add(&snapshot->references, 1);
    return snapshot;
}

struct snapshot *snapshot_unref(struct snapshot *snapshot)
{
    if (snapshot != NULL && atomic_fetch_sub(&snapshot->references, 1) == 1) {
        decode_plan_destroy(snapshot->plan);
        vocabulary_unref(snapshot->vocabulary);
        json_decref(snapshot->manifest);
        mem_free(snapshot->model_name);
        mem_free(snapshot->full_name);
        mem_free(snapshot);
    }
    return NULL;
}

bool snapshot_unref_shared(struct snapshot *snapshot)
{
    size_t references = atomic_load(&snapshot->references);
    while (references > 1) {
        if (atomic_compare_exchange_weak(&snapshot->references, &references, references - 1)) {
            return true;
        }
    }
    return false;
}

/* ---- looking ---- */

const char *snapshot_model_name(const struct snapshot *snapshot)
{
    return snapshot->model_name;
}

uint64_t snapshot_version(const struct snapshot *snapshot)
{
    return snapshot->version;
}

const char *snapshot_full_name(const struct snapshot *snapshot)
{
    return snapshot->full_name;
}

const struct decode_plan *snapshot_decode_plan(const struct snapshot *snapshot)
{
    return snapshot->plan;
}

struct vocabulary *snapshot_vocabulary(const struct snapshot *snapshot)
{
    return snapshot->vocabulary;
}

size_t snapshot_parameter_count(const struct snapshot *snapshot)
{
    return snapshot->parameter_count;
}

enum rnn_precision snapshot_precision(const struct snapshot *snapshot)
{
    return decode_plan_precision(snapshot->plan);
}

const char *snapshot_kernels(const struct snapshot *snapshot)
{
    return decode_plan_kernels(snapshot->plan);
}

size_t snapshot_bytes(const struct snapshot *snapshot)
{
    return decode_plan_bytes(snapshot->plan);
}

const json_t *snapshot_manifest(const struct snapshot *snapshot)
{
    return snapshot->manifest;
}
