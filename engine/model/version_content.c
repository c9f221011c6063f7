/* Reading a version's files into a graph and values, checked. Thread: loader, run threads. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/model/model_private.h"
#include "engine/store/graph_file.h"
#include "engine/store/safetensors.h"

enum { WEIGHTS_SEED = 0 };

static const char weights_name[] = "weights.safetensors";

static enum status refuse(struct error *error, enum status status, const char *code, const char *file)
{
    error_code(error, code);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "%s", file);
    }
    return status;
}

static enum status find_file(const struct version_files *files, const char *name, const struct version_file **ret_file,
                             struct error *error)
{
    *ret_file = version_files_find(files, name);
    if (*ret_file != NULL) {
        return STATUS_OK;
    }
    error_set(error, STATUS_CORRUPT, "manifest.json lists no %s", name);
    return refuse(error, STATUS_CORRUPT, "corrupt", "manifest.json");
}

static enum status check_finite(const struct variable *variable, const struct tensor *tensor, struct error *error)
{
    size_t count = tensor->dtype == DTYPE_FLOAT32 ? tensor_element_count(tensor) : 0;
    for (size_t i = 0; i < count; i++) {
        float value = ((const float *)tensor->data)[i];
        if (!isfinite(value)) {
            error_set(error, STATUS_UNPROCESSABLE, "%s: element %zu of %s is %g", weights_name, i, variable->node->name,
                      (double)value);
            return refuse(error, STATUS_UNPROCESSABLE, "not_finite", weights_name);
        }
    }
    return STATUS_OK;
}

static enum status set_one(struct values *values, const struct variable *variable, const struct safetensors *weights,
                           struct error *error)
{
    const struct tensor *tensor = safetensors_find(weights, variable->node->name);
    const struct output_type *type = &variable->node->outputs[0];
    if (tensor == NULL) {
        if (variable->is_slot || !variable->is_trainable) {
            return STATUS_OK; /* its initialiser runs */
        }
        error_set(error, STATUS_UNPROCESSABLE, "%s: variable %s is missing", weights_name, variable->node->name);
        return refuse(error, STATUS_UNPROCESSABLE, "missing_variable", weights_name);
    }
    if (tensor->dtype != type->dtype || !shape_equal(&tensor->shape, &type->shape)) {
        char have[SHAPE_TEXT_BYTES_MAX];
        char want[SHAPE_TEXT_BYTES_MAX];
        error_set(error, STATUS_UNPROCESSABLE, "%s: %s is %s %s, the graph needs %s %s", weights_name,
                  variable->node->name, dtype_name(tensor->dtype), shape_text(&tensor->shape, have),
                  dtype_name(type->dtype), shape_text(&type->shape, want));
        return refuse(error, STATUS_UNPROCESSABLE, "wrong_shape", weights_name);
    }
    TRY(check_finite(variable, tensor, error));
    return values_set(values, variable, tensor, error);
}

static enum status fill_values(struct version_content *content, const struct version_files *files, struct error *error)
{
    const struct version_file *file = NULL;
    struct safetensors weights;
    TRY(find_file(files, weights_name, &file, error));
    enum status status = safetensors_parse(file->bytes, file->length, &weights, error);
    if (status != STATUS_OK) {
        error_prefix(error, "%s", weights_name);
        return refuse(error, status, "corrupt", weights_name);
    }
    status = values_create(content->graph, &content->values, error);
    for (size_t i = 0; status == STATUS_OK && i < graph_variable_count(content->graph); i++) {
        status = set_one(content->values, graph_variable(content->graph, i), &weights, error);
    }
    safetensors_release(&weights);
    return status == STATUS_OK ? values_initialize(content->values, content->graph, WEIGHTS_SEED, error) : status;
}

static enum status read_vocabulary(struct version_content *content, const struct version_files *files,
                                   struct error *error)
{
    const struct version_file *file = version_files_find(files, "vocab.json");
    if (file == NULL) {
        return STATUS_OK;
    }
    json_error_t json_error;
    json_t *json = json_loadb(file->bytes, file->length, JSON_ALLOW_NUL, &json_error);
    if (json == NULL) {
        error_set(error, STATUS_CORRUPT, "vocab.json, line %d: %s", json_error.line, json_error.text);
        return refuse(error, STATUS_CORRUPT, "corrupt", "vocab.json");
    }
    struct vocabulary *vocabulary = NULL;
    enum status status = vocabulary_from_json(json, &vocabulary, error);
    json_decref(json);
    if (status != STATUS_OK) {
        error_prefix(error, "vocab.json");
        return refuse(error, status, "corrupt", "vocab.json");
    }
    if (content->vocabulary != NULL && !vocabulary_equal(vocabulary, content->vocabulary)) {
        error_set(error, STATUS_CORRUPT, "vocab.json has %zu symbols, others than graph.json's %zu",
                  vocabulary_size(vocabulary), vocabulary_size(content->vocabulary));
        vocabulary_unref(vocabulary);
        return refuse(error, STATUS_CORRUPT, "corrupt", "vocab.json");
    }
    vocabulary_unref(content->vocabulary);
    content->vocabulary = vocabulary;
    return STATUS_OK;
}

static enum status replay_graph(struct version_content *content, const struct version_files *files, struct error *error)
{
    const struct version_file *file = NULL;
    struct replayed_graph replayed;
    TRY(find_file(files, "graph.json", &file, error));
    enum status status = graph_file_replay(file->bytes, file->length, &replayed, error);
    if (status != STATUS_OK) {
        if (error != NULL && error->code[0] == '\0') {
            error_code(error, "corrupt");
        }
        return status;
    }
    content->graph = replayed.graph;
    content->programs = replayed.programs;
    content->vocabulary = replayed.vocabulary;
    return STATUS_OK;
}

enum status version_content_read(const char *path, struct version_content *ret_content, struct error *error)
{
    struct version_files files;
    struct version_content content = {.graph = NULL};
    TRY(version_read(path, &files, error));
    enum status status = replay_graph(&content, &files, error);
    if (status == STATUS_OK) {
        status = read_vocabulary(&content, &files, error);
    }
    if (status == STATUS_OK) {
        status = fill_values(&content, &files, error);
    }
    if (status == STATUS_OK) {
        content.manifest = json_incref(files.manifest);
        *ret_content = content;
    } else {
        version_content_release(&content);
    }
    version_files_release(&files);
    return status;
}

void version_content_release(struct version_content *content)
{
    graph_unref(content->graph);
    values_destroy(content->values);
    json_decref(content->programs);
    json_decref(content->manifest);
    vocabulary_unref(content->vocabulary);
    *content = (struct version_content){.graph = NULL};
}
