/* Saving a model's live graph as a version, and putting a version's values back. Thread: run threads. */
#include <math.h>

#include "engine/base/mem.h"
#include "engine/model/model_private.h"
#include "engine/nn/language_model.h"
#include "engine/store/graph_file.h"
#include "engine/store/safetensors.h"

enum { SAVED_FILES_MAX = 3 };

static enum status no_memory(const struct model *model, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory to save model %s", model->name);
}

/* ---- saving ---- */

enum status model_architecture(const struct model *model, json_t **ret_architecture, struct error *error)
{
    struct language_model_options options;
    size_t parameters = 0;
    for (size_t i = 0; i < graph_variable_count(session_graph(model->session)); i++) {
        const struct variable *variable = graph_variable(session_graph(model->session), i);
        size_t count = 0;
        if (!variable->is_slot && shape_element_count(&variable->node->outputs[0].shape, &count)) {
            parameters += count;
        }
    }
    json_t *architecture = json_pack("{s:I}", "parameters", (json_int_t)parameters);
    if (architecture != NULL && language_model_find(session_graph(model->session), &options)) {
        json_t *embedding = options.embedding == 0 ? json_null() : json_integer((json_int_t)options.embedding);
        json_t *more =
            json_pack("{s:s, s:I, s:I, s:o, s:f}", "cell", "lstm", "layers", (json_int_t)options.layers, "units",
                      (json_int_t)options.units, "embedding", embedding, "dropout", options.dropout);
        json_object_update_missing(architecture, more);
        json_decref(more);
    }
    if (architecture != NULL && model->vocabulary != NULL) {
        json_object_set_new(architecture, "vocabulary",
                            json_pack("{s:s, s:I}", "kind", vocabulary_kind_name(vocabulary_kind(model->vocabulary)),
                                      "size", (json_int_t)vocabulary_size(model->vocabulary)));
    }
    if (architecture == NULL) {
        return no_memory(model, error);
    }
    *ret_architecture = architecture;
    return STATUS_OK;
}

static enum status check_savable(const struct model *model, const struct variable *variable, struct error *error)
{
    const struct tensor *tensor = values_tensor(session_values(model->session), variable);
    if (tensor == NULL) {
        error_set(error, STATUS_UNPROCESSABLE, "Attempting to use uninitialized value %s", variable->node->name);
        error_type(error, "FailedPreconditionError");
        return error_code(error, "uninitialized"), STATUS_UNPROCESSABLE;
    }
    size_t count = tensor->dtype == DTYPE_FLOAT32 ? tensor_element_count(tensor) : 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(((const float *)tensor->data)[i])) {
            error_set(error, STATUS_UNPROCESSABLE, "element %zu of variable %s is %g: not saved", i,
                      variable->node->name, (double)((const float *)tensor->data)[i]);
            return error_code(error, "not_finite"), STATUS_UNPROCESSABLE;
        }
    }
    return STATUS_OK;
}

static enum status format_weights(const struct model *model, void **ret_bytes, size_t *ret_length, struct error *error)
{
    size_t count = 0;
    struct named_tensor *entries = mem_allocate(graph_variable_count(session_graph(model->session)) + 1, sizeof *entries);
    if (entries == NULL) {
        return no_memory(model, error);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < graph_variable_count(session_graph(model->session)); i++) {
        const struct variable *variable = graph_variable(session_graph(model->session), i);
        if (variable->is_slot) {
            continue;
        }
        status = check_savable(model, variable, error);
        if (status == STATUS_OK) {
            entries[count].name = variable->node->name;
            entries[count++].tensor = *values_tensor(session_values(model->session), variable);
        }
    }
    if (status == STATUS_OK && count == 0) {
        status = error_set(error, STATUS_UNPROCESSABLE, "No variables to save");
        error_type(error, "ValueError");
    }
    if (status == STATUS_OK) {
        status = safetensors_format(entries, count, ret_bytes, ret_length, error);
    }
    mem_free(entries);
    return status;
}

static enum status format_vocabulary(const struct model *model, char **ret_text, struct error *error)
{
    json_t *json = NULL;
    TRY(vocabulary_to_json(model->vocabulary, &json, error));
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    char *copy = text == NULL ? NULL : mem_copy_string(text);
    free(text);
    if (copy == NULL) {
        return no_memory(model, error);
    }
    *ret_text = copy;
    return STATUS_OK;
}

static enum status make_manifest(const struct model *model, const json_t *origin, const json_t *evaluation,
                                 json_t **ret_manifest, struct error *error)
{
    json_t *architecture = NULL;
    TRY(model_architecture(model, &architecture, error));
    json_t *manifest =
        json_pack("{s:o, s:O*, s:O*}", "architecture", architecture, "origin", origin, "evaluation", evaluation);
    if (manifest == NULL) {
        return no_memory(model, error);
    }
    *ret_manifest = manifest;
    return STATUS_OK;
}

/* The lock is held alone. */
static enum status save(struct model *model, const char *directory, const json_t *manifest, uint64_t *ret_version,
                        struct error *error)
{
    void *weights = NULL;
    char *graph = NULL;
    char *vocabulary = NULL;
    size_t weights_bytes = 0;
    size_t graph_bytes = 0;
    enum status status = format_weights(model, &weights, &weights_bytes, error);
    if (status == STATUS_OK) {
        status = graph_file_format(model->programs, &graph, &graph_bytes, error);
    }
    if (status == STATUS_OK && model->vocabulary != NULL) {
        status = format_vocabulary(model, &vocabulary, error);
    }
    if (status == STATUS_OK) {
        struct version_file files[SAVED_FILES_MAX] = {
            {"weights.safetensors", weights, weights_bytes},
            {"graph.json", graph, graph_bytes},
            {"vocab.json", vocabulary, vocabulary == NULL ? 0 : strlen(vocabulary)}};
        status = version_write(directory, files, vocabulary == NULL ? 2 : 3, manifest, ret_version, error);
    }
    mem_free(weights);
    mem_free(graph);
    mem_free(vocabulary);
    return status;
}

enum status model_save(struct model *model, const char *model_directory, const json_t *origin, const json_t *evaluation,
                       uint64_t *ret_version, struct error *error)
{
    if (pthread_rwlock_wrlock(&model->lock) != 0) {
        return error_set(error, STATUS_IO, "model %s cannot be locked", model->name);
    }
    json_t *manifest = NULL;
    uint64_t version = 0;
    enum status status = make_manifest(model, origin, evaluation, &manifest, error);
    if (status == STATUS_OK) {
        status = save(model, model_directory, manifest, &version, error);
    }
    if (status == STATUS_OK) {
        model->base_version = version;
        model->is_unsaved = false;
        *ret_version = version;
    }
    pthread_rwlock_unlock(&model->lock);
    json_decref(manifest);
    return status;
}

/* ---- restoring ---- */

/* The name under which the version holds what the live graph calls `name`: scope prefixes mapped old → new. */
static const char *name_in_version(const json_t *names, const char *name, char text[GRAPH_NAME_BYTES_MAX * 2])
{
    const char *old;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)names, old, value)
    {
        const char *new = json_string_value(value);
        size_t length = strlen(new);
        if (strncmp(name, new, length) == 0 && (name[length] == '\0' || name[length] == '/')) {
            snprintf(text, GRAPH_NAME_BYTES_MAX * 2, "%s%s", old, name + length);
            return text;
        }
    }
    return name;
}

static enum status check_names(const json_t *names, struct error *error)
{
    const char *key;
    json_t *value;
    if (names != NULL && !json_is_null(names) && !json_is_object(names)) {
        return error_set(error, STATUS_INVALID, "/names: must be an object {\"old/scope\":\"new/scope\"}");
    }
    json_object_foreach((json_t *)(uintptr_t)names, key, value)
    {
        if (!json_is_string(value)) {
            return error_set(error, STATUS_INVALID, "/names/%.60s: must be a name", key);
        }
    }
    return STATUS_OK;
}

static const char restoring_frame[] =
    "Restoring from checkpoint failed. This is most likely due to a %s. Please ensure that you have not "
    "altered the graph expected based on the checkpoint. Original error:\n\n";

static enum status find_value(const struct version_content *content, const struct variable *variable,
                              const json_t *names, struct tensor **ret_tensor, struct error *error)
{
    char text[GRAPH_NAME_BYTES_MAX * 2];
    const char *name = name_in_version(names, variable->node->name, text);
    const struct variable *saved = graph_find_variable(content->graph, name);
    struct tensor *tensor = saved == NULL ? NULL : values_tensor(content->values, saved);
    char frame[512];
    if (tensor == NULL) {
        snprintf(frame, sizeof frame, restoring_frame,
                 "Variable name or other graph key that is missing from the checkpoint");
        error_set(error, STATUS_UNPROCESSABLE, "%sKey %s not found in checkpoint", frame, name);
        error_type(error, "NotFoundError");
        return STATUS_UNPROCESSABLE;
    }
    if (tensor->dtype != variable->node->outputs[0].dtype ||
        !shape_equal(&tensor->shape, &variable->node->outputs[0].shape)) {
        char have[SHAPE_TEXT_BYTES_MAX];
        char want[SHAPE_TEXT_BYTES_MAX];
        snprintf(frame, sizeof frame, restoring_frame,
                 "mismatch between the current graph and the graph from the checkpoint");
        error_set(error, STATUS_UNPROCESSABLE,
                  "%sAssign requires shapes of both tensors to match. lhs shape= %s rhs shape= %s (%s)", frame,
                  shape_cpp_text(&variable->node->outputs[0].shape, want), shape_cpp_text(&tensor->shape, have), name);
        error_type(error, "InvalidArgumentError");
        return STATUS_UNPROCESSABLE;
    }
    *ret_tensor = tensor;
    return STATUS_OK;
}

/* All names are checked, into a copy, before anything changes. The lock is held alone. */
static enum status restore(struct model *model, const struct version_content *content, const json_t *names,
                           size_t *ret_count, struct error *error)
{
    struct values *fresh = NULL;
    size_t count = 0;
    TRY(values_copy(session_values(model->session), &fresh, error));
    enum status status = values_grow(fresh, session_graph(model->session), error);
    for (size_t i = 0; status == STATUS_OK && i < graph_variable_count(session_graph(model->session)); i++) {
        const struct variable *variable = graph_variable(session_graph(model->session), i);
        struct tensor *tensor = NULL;
        if (variable->is_slot) {
            continue;
        }
        status = find_value(content, variable, names, &tensor, error);
        if (status == STATUS_OK) {
            status = values_set(fresh, variable, tensor, error);
            count++;
        }
    }
    if (status == STATUS_OK && count == 0) {
        status = error_set(error, STATUS_UNPROCESSABLE, "No variables to save");
        error_type(error, "ValueError");
    }
    if (status != STATUS_OK) {
        values_destroy(fresh);
        return status;
    }
    values_destroy(session_swap_values(model->session, fresh));
    model->is_unsaved = true;
    *ret_count = count;
    return STATUS_OK;
}

enum status model_restore(struct model *model, const char *version_path, const json_t *names, json_t **ret_reply,
                          struct error *error)
{
    struct version_content content;
    TRY(check_names(names, error));
    TRY(version_content_read(version_path, &content, error));
    size_t count = 0;
    pthread_rwlock_wrlock(&model->lock);
    enum status status = model_check_not_training(model, error);
    if (status == STATUS_OK) {
        status = restore(model, &content, names, &count, error);
    }
    uint64_t generation = model->generation;
    pthread_rwlock_unlock(&model->lock);
    version_content_release(&content);
    TRY(status);
    json_t *reply = json_pack("{s:I, s:I}", "restored", (json_int_t)count, "generation", (json_int_t)generation);
    if (reply == NULL) {
        return no_memory(model, error);
    }
    *ret_reply = reply;
    return STATUS_OK;
}
