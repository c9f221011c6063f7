/* Reading a version's files into a graph and its values or weights, checked. Thread: loader, run threads. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/model/model_private.h"
#include "engine/store/graph_file.h"

enum { GRAPH_BYTES_MAX = 1 << 30 }; /* of a file that is only looked into */

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

/* `*ret_tensor` is NULL when the variable's initialiser must run. */
static enum status check_one(const struct variable *variable, const struct safetensors *weights,
                             const struct tensor **ret_tensor, struct error *error)
{
    const struct tensor *tensor = safetensors_find(weights, variable->node->name);
    const struct output_type *type = &variable->node->outputs[0];
    *ret_tensor = tensor;
    if (tensor == NULL) {
        if (variable->is_slot || !variable->is_trainable) {
            return STATUS_OK;
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
    return check_finite(variable, tensor, error);
}

/* Checks every variable's weights, and sets its value where there are values. */
static enum status check_weights(const struct version_content *content, struct error *error)
{
    for (size_t i = 0; i < graph_variable_count(content->graph); i++) {
        const struct variable *variable = graph_variable(content->graph, i);
        const struct tensor *tensor = NULL;
        TRY(check_one(variable, &content->weights, &tensor, error));
        if (content->values != NULL && tensor != NULL) {
            TRY(values_set(content->values, variable, tensor, error));
        }
    }
    return content->values == NULL ? STATUS_OK
                                   : values_initialize(content->values, content->graph, VERSION_WEIGHTS_SEED, error);
}

static enum status read_weights(struct version_content *content, enum version_use use, struct error *error)
{
    const struct version_file *file = NULL;
    TRY(find_file(&content->files, weights_name, &file, error));
    enum status status = safetensors_parse(file->bytes, file->length, &content->weights, error);
    if (status != STATUS_OK) {
        error_prefix(error, "%s", weights_name);
        return refuse(error, status, "corrupt", weights_name);
    }
    if (use == VERSION_USE_LIVE) {
        TRY(values_create(content->graph, &content->values, error));
    }
    return check_weights(content, error);
}

static enum status read_vocabulary(struct version_content *content, struct error *error)
{
    const struct version_file *file = version_files_find(&content->files, "vocab.json");
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

static enum status replay_graph(struct version_content *content, struct error *error)
{
    const struct version_file *file = NULL;
    struct replayed_graph replayed;
    TRY(find_file(&content->files, "graph.json", &file, error));
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

static enum status read_content(struct version_content *content, enum version_use use, struct error *error)
{
    TRY(replay_graph(content, error));
    TRY(read_vocabulary(content, error));
    TRY(read_weights(content, use, error));
    content->manifest = json_incref(content->files.manifest);
    return STATUS_OK;
}

static void release_files(struct version_content *content)
{
    safetensors_release(&content->weights);
    version_files_release(&content->files);
}

enum status version_content_take(const struct version_files *files, enum version_use use,
                                 struct version_content *ret_content, struct error *error)
{
    struct version_content content = {.files = *files};
    enum status status = read_content(&content, use, error);
    if (status != STATUS_OK) {
        version_content_release(&content);
        return status;
    }
    if (use == VERSION_USE_LIVE) {
        release_files(&content);
    }
    *ret_content = content;
    return STATUS_OK;
}

enum status version_content_read(const char *path, enum version_use use, struct version_content *ret_content,
                                 struct error *error)
{
    struct version_files files;
    TRY(version_read(path, &files, error));
    return version_content_take(&files, use, ret_content, error);
}

/* One of a version's files as it lies there. NOT_FOUND. Free its bytes with mem_free. */
static enum status read_file(const char *path, const char *name, struct version_file *ret_file, struct error *error)
{
    char file_path[MODEL_DIRECTORY_PATH_BYTES + VERSION_FILE_NAME_BYTES_MAX];
    char *bytes = NULL;
    snprintf(file_path, sizeof file_path, "%.4095s/%s", path, name);
    TRY(file_read(file_path, GRAPH_BYTES_MAX, &bytes, &ret_file->length, error));
    ret_file->name = name;
    ret_file->bytes = bytes;
    return STATUS_OK;
}

enum status version_content_read_graph(const char *path, struct version_content *ret_content, struct error *error)
{
    struct version_file files[2] = {{.name = NULL}};
    struct version_content content = {.files = {.files = files, .count = 1}};
    enum status status = read_file(path, "graph.json", &files[0], error);
    if (status == STATUS_OK) {
        status = read_file(path, "vocab.json", &files[1], error);
        content.files.count += status == STATUS_OK;
        status = status == STATUS_NOT_FOUND ? STATUS_OK : status;
    }
    if (status == STATUS_OK) {
        status = replay_graph(&content, error);
    }
    if (status == STATUS_OK) {
        status = read_vocabulary(&content, error);
    }
    content.files = (struct version_files){.count = 0}; /* they are here */
    mem_free((void *)(uintptr_t)files[0].bytes);
    mem_free((void *)(uintptr_t)files[1].bytes);
    if (status != STATUS_OK) {
        version_content_release(&content);
        return status;
    }
    *ret_content = content;
    return STATUS_OK;
}

void version_content_release(struct version_content *content)
{
    graph_unref(content->graph);
    values_destroy(content->values);
    json_decref(content->programs);
    json_decref(content->manifest);
    vocabulary_unref(content->vocabulary);
    release_files(content);
    *content = (struct version_content){.graph = NULL};
}
