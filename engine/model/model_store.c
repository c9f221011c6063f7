/* Saving a model's live graph as a version. Thread: run threads. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/model/model_private.h"
#include "engine/nn/language_model.h"
#include "engine/store/graph_file.h"
#include "engine/store/program.h"
#include "engine/store/saver_file.h"

enum { SAVED_FILES_MAX = 4 };

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
        json_t *more = language_model_options_to_json(&options);
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

enum status model_describe_architecture(struct model *model, json_t **ret_architecture, struct error *error)
{
    model_lock_shared(model);
    enum status status = model_architecture(model, ret_architecture, error);
    model_unlock(model);
    return status;
}

static enum status check_savable(const struct model *model, const struct variable *variable, struct error *error)
{
    const struct tensor *tensor = values_tensor(session_values(model->session), variable);
    if (tensor == NULL) {
        error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_FAILED_PRECONDITION,
                    "Attempting to use uninitialized value %s", variable->node->name);
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
    struct named_tensor *entries =
        mem_allocate(graph_variable_count(session_graph(model->session)) + 1, sizeof *entries);
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
        status = error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "No variables to save");
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

/* A version's files in memory: what is written once the model's lock is given back. */
struct saved_files {
    struct version_file files[SAVED_FILES_MAX];
    void *bytes[SAVED_FILES_MAX]; /* of files; owned */
    size_t count;
    json_t *manifest;
    uint64_t generation;
    uint64_t change_count;
};

static void release_saved(struct saved_files *saved)
{
    for (size_t i = 0; i < SAVED_FILES_MAX; i++) {
        mem_free(saved->bytes[i]);
    }
    json_decref(saved->manifest);
}

static void add_file(struct saved_files *saved, const char *name, void *bytes, size_t length)
{
    saved->bytes[saved->count] = bytes;
    saved->files[saved->count++] = (struct version_file){.name = name, .bytes = bytes, .length = length};
}

static enum status add_weights(const struct model *model, struct saved_files *saved, struct error *error)
{
    void *bytes = NULL;
    size_t length = 0;
    TRY(format_weights(model, &bytes, &length, error));
    add_file(saved, "weights.safetensors", bytes, length);
    return STATUS_OK;
}

static enum status add_graph(const struct model *model, struct saved_files *saved, struct error *error)
{
    char *text = NULL;
    size_t length = 0;
    TRY(graph_file_format(model->programs, &text, &length, error));
    add_file(saved, "graph.json", text, length);
    return STATUS_OK;
}

static enum status add_vocabulary(const struct model *model, struct saved_files *saved, struct error *error)
{
    char *text = NULL;
    if (model->vocabulary == NULL) {
        return STATUS_OK;
    }
    TRY(format_vocabulary(model, &text, error));
    add_file(saved, "vocab.json", text, strlen(text));
    return STATUS_OK;
}

/* The saver's tensors as a file. */
static enum status add_checkpoint(const struct model *model, const char *saver_name, struct saved_files *saved,
                                  struct error *error)
{
    const struct graph *graph = session_graph(model->session);
    uint32_t saver = 0;
    void *bytes = NULL;
    size_t length = 0;
    TRY(model_find_saver(model, saver_name, &saver, error));
    size_t count = saver_at(graph, saver)->count;
    struct named_tensor *entries = mem_allocate(count, sizeof *entries);
    enum status status = entries == NULL ? no_memory(model, error)
                                         : saver_collect(graph, saver, session_values(model->session), entries, error);
    if (status == STATUS_OK) {
        status = safetensors_format(entries, count, &bytes, &length, error);
    }
    mem_free(entries);
    TRY(status);
    add_file(saved, "checkpoint.safetensors", bytes, length);
    return STATUS_OK;
}

enum status model_find_saver(const struct model *model, const char *name, uint32_t *ret_saver, struct error *error)
{
    const struct handle *handle = graph_find_handle(session_graph(model->session), name);
    if (handle == NULL || handle->kind != HANDLE_OBJECT || handle->object_kind != OBJECT_SAVER) {
        error_set(error, STATUS_NOT_FOUND, "'%.100s' is no saver of the graph", name);
        return error_code(error, "not_in_graph"), STATUS_NOT_FOUND;
    }
    *ret_saver = handle->object_id;
    return STATUS_OK;
}

/* All that a version holds, as it is now. `saver_name` NULL: none. The lock is held. */
static enum status collect(const struct model *model, const char *saver_name, const json_t *origin,
                           const json_t *evaluation, struct saved_files *saved, struct error *error)
{
    struct error ignored;
    saved->generation = model->generation;
    saved->change_count = model->change_count;
    if (saver_name == NULL) {
        TRY(add_weights(model, saved, error));
    } else {
        TRY(add_checkpoint(model, saver_name, saved, error));
        /* Only when every variable has a value. */
        if (add_weights(model, saved, &ignored) == STATUS_NO_MEMORY) {
            return no_memory(model, error);
        }
    }
    TRY(add_graph(model, saved, error));
    TRY(add_vocabulary(model, saved, error));
    return make_manifest(model, origin, evaluation, &saved->manifest, error);
}

/* Files are formatted under the lock, which others who read share, and written without it. `saving` is held. */
static enum status save_now(struct model *model, const char *directory, const char *saver_name, const json_t *origin,
                            const json_t *evaluation, uint64_t *ret_version, struct error *error)
{
    struct saved_files saved = {.count = 0};
    uint64_t version = 0;
    model_lock_shared(model);
    enum status status = collect(model, saver_name, origin, evaluation, &saved, error);
    model_unlock(model);
    if (status == STATUS_OK) {
        status = version_write(directory, saved.files, saved.count, saved.manifest, &version, error);
    }
    if (status == STATUS_OK && saver_name == NULL) {
        model_lock_alone(model);
        if (model->generation == saved.generation) {
            model->base_version = version;
            model->is_unsaved = model->change_count != saved.change_count;
        }
        model_unlock(model);
    }
    release_saved(&saved);
    if (status == STATUS_OK) {
        *ret_version = version;
    }
    return status;
}

static enum status save(struct model *model, const char *directory, const char *saver_name, const json_t *origin,
                        const json_t *evaluation, uint64_t *ret_version, struct error *error)
{
    CHECK(pthread_mutex_lock(&model->saving) == 0);
    enum status status = save_now(model, directory, saver_name, origin, evaluation, ret_version, error);
    CHECK(pthread_mutex_unlock(&model->saving) == 0);
    return status;
}

enum status model_save(struct model *model, const char *model_directory, const json_t *origin, const json_t *evaluation,
                       uint64_t *ret_version, struct error *error)
{
    return save(model, model_directory, NULL, origin, evaluation, ret_version, error);
}

enum status model_save_checkpoint(struct model *model, const char *model_directory, const char *saver_name,
                                  const json_t *origin, uint64_t *ret_version, struct error *error)
{
    return save(model, model_directory, saver_name, origin, NULL, ret_version, error);
}
