/* Putting values into a model's live graph: a version's by name, a saver's, one variable's. All is checked, and done in
 * a copy, before anything changes. Thread: run threads. */
#include "engine/base/mem.h"
#include "engine/model/model_private.h"
#include "engine/store/graph_json.h"
#include "engine/store/saver_file.h"
#include "engine/store/tensor_json.h"

static enum status no_memory(const struct model *model, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory to restore model %s", model->name);
}

/* ---- names ---- */

/* The name under which the version holds what the live graph calls `name`: scope prefixes mapped old → new. */
static const char *name_in_version(const json_t *names, const char *name, char text[GRAPH_NAME_BYTES_MAX * 2])
{
    const char *old;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)names, old, value)
    {
        const char *new = json_string_value(value);
        size_t length = strlen(new);
        if (strncmp(name, new, length) == 0 && (name[length] == '\0' || name[length] == '/' || length == 0)) {
            snprintf(text, GRAPH_NAME_BYTES_MAX * 2, "%.*s%s", GRAPH_NAME_BYTES_MAX, old, name + length);
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

static int compare_entries(const void *a, const void *b)
{
    const struct saver_entry *one = a;
    const struct saver_entry *other = b;
    return strcmp(one->key, other->key);
}

/* What restoring all variables by name takes from where: a saver's entries, in `arena`. */
static enum status map_names(const struct graph *graph, const json_t *names, struct arena *arena, struct saver *saver,
                             struct error *error)
{
    struct saver_entry *entries = arena_allocate(arena, graph_variable_count(graph) + 1, sizeof *entries);
    *saver = (struct saver){.scope = "save", .entries = entries};
    for (size_t i = 0; entries != NULL && i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        char text[GRAPH_NAME_BYTES_MAX * 2];
        if (variable->is_slot) {
            continue;
        }
        const char *key = arena_copy_string(arena, name_in_version(names, variable->node->name, text));
        if (key == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for a version's names");
        }
        entries[saver->count++] = (struct saver_entry){.key = key, .variable = variable};
    }
    if (entries == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a version's names");
    }
    qsort(entries, saver->count, sizeof *entries, compare_entries);
    if (saver->count == 0) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "No variables to save");
    }
    return STATUS_OK;
}

/* ---- files ---- */

/* The tensors of a version, in its files: what a saver wrote, else its weights. */
static enum status find_tensors(const struct version_files *files, bool wants_checkpoint,
                                struct safetensors *ret_tensors, struct error *error)
{
    const struct version_file *file = wants_checkpoint ? version_files_find(files, "checkpoint.safetensors") : NULL;
    if (file == NULL) {
        file = version_files_find(files, "weights.safetensors");
    }
    if (file == NULL) {
        error_set(error, STATUS_CORRUPT, "the version holds no weights");
        return error_code(error, "corrupt");
    }
    return safetensors_parse(file->bytes, file->length, ret_tensors, error);
}

/* ---- restoring ---- */

/* The lock is held alone. */
static enum status assign(struct model *model, const struct saver *saver, const struct safetensors *tensors,
                          struct error *error)
{
    struct values *fresh = NULL;
    TRY(values_copy(session_values(model->session), &fresh, error));
    enum status status = values_grow(fresh, session_graph(model->session), error);
    if (status == STATUS_OK) {
        status = saver_assign_entries(saver, fresh, tensors, error);
    }
    if (status != STATUS_OK) {
        values_destroy(fresh);
        return status;
    }
    values_destroy(session_swap_values(model->session, fresh));
    model_note_change(model);
    return STATUS_OK;
}

/* The lock is held alone. */
static enum status restore_locked(struct model *model, const char *saver_name, const json_t *names,
                                  const struct safetensors *tensors, size_t *ret_count, struct error *error)
{
    const struct graph *graph = session_graph(model->session);
    struct arena arena = {.blocks = NULL};
    struct saver all;
    uint32_t number = 0;
    TRY(model_check_not_training(model, error));
    if (saver_name != NULL) {
        TRY(model_find_saver(model, saver_name, &number, error));
        *ret_count = saver_at(graph, number)->count;
        return assign(model, saver_at(graph, number), tensors, error);
    }
    enum status status = map_names(graph, names, &arena, &all, error);
    if (status == STATUS_OK) {
        *ret_count = all.count;
        status = assign(model, &all, tensors, error);
    }
    arena_release(&arena);
    return status;
}

static enum status restore(struct model *model, const char *version_path, const char *saver_name, const json_t *names,
                           json_t **ret_reply, struct error *error)
{
    struct version_files files;
    struct safetensors tensors = {0};
    size_t count = 0;
    uint64_t generation = 0;
    TRY(check_names(names, error));
    TRY(version_read(version_path, &files, error));
    enum status status = find_tensors(&files, saver_name != NULL, &tensors, error);
    if (status == STATUS_OK) {
        model_lock_alone(model);
        status = restore_locked(model, saver_name, names, &tensors, &count, error);
        generation = model->generation;
        model_unlock(model);
    }
    safetensors_release(&tensors);
    version_files_release(&files);
    if (status == STATUS_NOT_FOUND && error_is(error, EXCEPTION_NOT_FOUND)) {
        status = error->status = STATUS_UNPROCESSABLE; /* the version is there, but does not fit */
    }
    TRY(status);
    json_t *reply = json_pack("{s:I, s:I}", "restored", (json_int_t)count, "generation", (json_int_t)generation);
    if (reply == NULL) {
        return no_memory(model, error);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

enum status model_restore(struct model *model, const char *version_path, const json_t *names, json_t **ret_reply,
                          struct error *error)
{
    return restore(model, version_path, NULL, names, ret_reply, error);
}

enum status model_restore_checkpoint(struct model *model, const char *version_path, const char *what,
                                     const char *saver_name, json_t **ret_reply, struct error *error)
{
    if (what == NULL) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Can't load save_path when it is None.");
    }
    enum status status =
        version_path == NULL ? STATUS_NOT_FOUND : restore(model, version_path, saver_name, NULL, ret_reply, error);
    bool is_absent = status == STATUS_NOT_FOUND && (version_path == NULL || error == NULL || error->type[0] == '\0');
    if (is_absent && (error == NULL || strcmp(error->code, "not_in_graph") != 0 || version_path == NULL)) {
        error_raise(error, STATUS_NOT_FOUND, EXCEPTION_VALUE, "The passed save_path is not a valid checkpoint: %.200s",
                    what);
    }
    return status;
}

/* ---- one variable ---- */

/* "scope/v" or "scope/v:0". */
static const struct variable *find_variable(const struct graph *graph, const char *name)
{
    char bare[GRAPH_NAME_BYTES_MAX + 4];
    size_t length = strlen(name);
    if (length >= sizeof bare) {
        return NULL;
    }
    memcpy(bare, name, length + 1);
    if (length > 2 && strcmp(bare + length - 2, ":0") == 0) {
        bare[length - 2] = '\0';
    }
    return graph_find_variable(graph, bare);
}

/* The variable, while no training holds it. The lock is held. */
static enum status find_settable(const struct model *model, const char *name, const struct variable **ret_variable,
                                 struct error *error)
{
    const struct variable *variable = find_variable(session_graph(model->session), name);
    TRY(model_check_not_training(model, error));
    if (variable == NULL) {
        error_set(error, STATUS_NOT_FOUND, "model %s has no variable '%.200s'", model->name, name);
        return error_code(error, "variable_not_found"), STATUS_NOT_FOUND;
    }
    *ret_variable = variable;
    return STATUS_OK;
}

/* The lock is held alone. */
static enum status set_locked(struct model *model, const char *name, const struct tensor *tensor, struct error *error)
{
    const struct variable *variable = NULL;
    TRY(find_settable(model, name, &variable, error));
    const struct output_type *type = &variable->node->outputs[0];
    if (!shape_is_compatible(&type->shape, &tensor->shape)) {
        char have[SHAPE_TEXT_BYTES_MAX];
        char want[SHAPE_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "Cannot feed value of shape %s for Tensor '%s:0', which has shape '%s'",
                           shape_text(&tensor->shape, have), variable->node->name, shape_text(&type->shape, want));
    }
    TRY(values_set(session_values(model->session), variable, tensor, error));
    model_note_change(model);
    return STATUS_OK;
}

/* The value as a tensor of the variable's dtype. Reading JSON takes its time: without the lock. */
static enum status read_value(struct model *model, const char *name, const json_t *value, struct tensor *ret_tensor,
                              struct error *error)
{
    const struct variable *variable = NULL;
    enum dtype dtype = DTYPE_FLOAT32;
    model_lock_shared(model);
    enum status status = find_settable(model, name, &variable, error);
    if (status == STATUS_OK) {
        dtype = variable->node->outputs[0].dtype;
    }
    model_unlock(model);
    return status == STATUS_OK ? tensor_from_json(value, dtype, ret_tensor, error) : status;
}

enum status model_set_variable(struct model *model, const char *name, const json_t *value, json_t **ret_reply,
                               struct error *error)
{
    struct tensor tensor;
    TRY(read_value(model, name, value, &tensor, error));
    model_lock_alone(model);
    enum status status = set_locked(model, name, &tensor, error);
    uint64_t generation = model->generation;
    model_unlock(model);
    tensor_release(&tensor);
    TRY(status);
    json_t *reply = json_pack("{s:I}", "generation", (json_int_t)generation);
    if (reply == NULL) {
        return no_memory(model, error);
    }
    *ret_reply = reply;
    return STATUS_OK;
}
