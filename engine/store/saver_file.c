/* Savers' files. Thread: see saver_file.h. Owns nothing beyond a call. */
#include "engine/store/saver_file.h"

#include "engine/base/mem.h"
#include "engine/store/version_directory.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a saver's tensors");
}

enum status saver_collect(const struct graph *graph, uint32_t saver, const struct values *values,
                          struct named_tensor *ret_entries, struct error *error)
{
    const struct saver *with = saver_at(graph, saver);
    for (size_t i = 0; i < with->count; i++) {
        const struct saver_entry *entry = &with->entries[i];
        const struct tensor *tensor = values_tensor(values, entry->variable);
        if (tensor == NULL) {
            const char *name = entry->variable->node->name;
            error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_FAILED_PRECONDITION,
                        "Attempting to use uninitialized value %s\n\t [[{{node %s/SaveV2}}]]", name, with->scope);
            return error_code(error, "uninitialized"), STATUS_UNPROCESSABLE;
        }
        ret_entries[i] = (struct named_tensor){.name = entry->key, .tensor = *tensor};
    }
    return STATUS_OK;
}

/* ---- restoring ---- */

static enum status refuse_missing(const struct saver *saver, const char *key, struct error *error)
{
    return error_raise(
        error, STATUS_NOT_FOUND, EXCEPTION_NOT_FOUND,
        "Restoring from checkpoint failed. This is most likely due to a Variable name or other graph key that is "
        "missing from the checkpoint. Please ensure that you have not altered the graph expected based on the "
        "checkpoint. Original error:\n\nKey %s not found in checkpoint\n\t [[node %s/RestoreV2 ]]",
        key, saver->scope);
}

static enum status refuse_mismatch(const struct saver *saver, const char *what, const char *op, struct error *error)
{
    return error_raise(
        error, STATUS_UNPROCESSABLE, EXCEPTION_INVALID_ARGUMENT,
        "Restoring from checkpoint failed. This is most likely due to a mismatch between the current graph and "
        "the graph from the checkpoint. Please ensure that you have not altered the graph expected based on the "
        "checkpoint. Original error:\n\n%s\n\t [[node %s/%s ]]",
        what, saver->scope, op);
}

static enum status check_dtypes(const struct saver *saver, const struct safetensors *tensors, struct error *error)
{
    char text[ERROR_MESSAGE_BYTES_MAX / 2] = "";
    size_t length = 0;
    for (size_t i = 0; i < saver->count && length < sizeof text; i++) {
        const struct saver_entry *entry = &saver->entries[i];
        enum dtype expected = entry->variable->node->outputs[0].dtype;
        enum dtype found = safetensors_find(tensors, entry->key)->dtype;
        if (expected != found) {
            length +=
                (size_t)snprintf(text + length, sizeof text - length,
                                 "%stensor_name = %s; expected dtype %s does not equal original dtype %s",
                                 length == 0 ? "" : "\n", entry->key, dtype_cpp_name(expected), dtype_cpp_name(found));
        }
    }
    return length == 0 ? STATUS_OK : refuse_mismatch(saver, text, "RestoreV2", error);
}

static enum status check_shape(const struct saver *saver, size_t index, const struct tensor *found, struct error *error)
{
    const struct shape *shape = &saver->entries[index].variable->node->outputs[0].shape;
    char text[SHAPE_TEXT_BYTES_MAX * 2 + 128];
    char op[48] = "Assign";
    if (shape_equal(shape, &found->shape)) {
        return STATUS_OK;
    }
    if (saver->reshapes) {
        size_t wanted = 0;
        bool is_known = shape_element_count(shape, &wanted);
        if (is_known && wanted == tensor_element_count(found)) {
            return STATUS_OK;
        }
        snprintf(text, sizeof text, "Input to reshape is a tensor with %zu values, but the requested shape has %zu",
                 tensor_element_count(found), wanted);
        return refuse_mismatch(saver, text, "Reshape", error);
    }
    char want_text[SHAPE_TEXT_BYTES_MAX];
    char found_text[SHAPE_TEXT_BYTES_MAX];
    snprintf(text, sizeof text, "Assign requires shapes of both tensors to match. lhs shape= %s rhs shape= %s",
             shape_cpp_text(shape, want_text), shape_cpp_text(&found->shape, found_text));
    if (index > 0) {
        snprintf(op, sizeof op, "Assign_%zu", index);
    }
    return refuse_mismatch(saver, text, op, error);
}

enum status saver_assign(const struct graph *graph, uint32_t saver, struct values *values,
                         const struct safetensors *tensors, struct error *error)
{
    return saver_assign_entries(saver_at(graph, saver), values, tensors, error);
}

enum status saver_assign_entries(const struct saver *saver, struct values *values, const struct safetensors *tensors,
                                 struct error *error)
{
    for (size_t i = 0; i < saver->count; i++) {
        if (safetensors_find(tensors, saver->entries[i].key) == NULL) {
            return refuse_missing(saver, saver->entries[i].key, error);
        }
    }
    TRY(check_dtypes(saver, tensors, error));
    for (size_t i = 0; i < saver->count; i++) {
        TRY(check_shape(saver, i, safetensors_find(tensors, saver->entries[i].key), error));
    }
    for (size_t i = 0; i < saver->count; i++) {
        struct tensor tensor = *safetensors_find(tensors, saver->entries[i].key);
        tensor.shape = saver->entries[i].variable->node->outputs[0].shape;
        TRY(values_set(values, saver->entries[i].variable, &tensor, error));
    }
    return STATUS_OK;
}

/* ---- files ---- */

enum status saver_save(const struct graph *graph, uint32_t saver, const struct values *values, const char *path,
                       struct error *error)
{
    size_t count = saver_at(graph, saver)->count;
    struct named_tensor *entries = mem_allocate(count, sizeof *entries);
    void *bytes = NULL;
    size_t length = 0;
    if (entries == NULL) {
        return no_memory(error);
    }
    enum status status = saver_collect(graph, saver, values, entries, error);
    if (status == STATUS_OK) {
        status = safetensors_format(entries, count, &bytes, &length, error);
    }
    mem_free(entries);
    if (status == STATUS_OK) {
        status = file_write_atomically(path, bytes, length, error);
        mem_free(bytes);
    }
    return status;
}

static enum status refuse_path(const char *path, struct error *error)
{
    return error_raise(error, STATUS_NOT_FOUND, EXCEPTION_VALUE, "The passed save_path is not a valid checkpoint: %s",
                       path);
}

/* What is no safetensors file is to TensorFlow a broken checkpoint. */
static enum status refuse_content(const char *path, enum status status, struct error *error)
{
    if (status == STATUS_CORRUPT) {
        error_prefix(error, "Unable to open table file %s: Data loss", path);
        error_type(error, EXCEPTION_DATA_LOSS);
    }
    return status;
}

enum status saver_restore(const struct graph *graph, uint32_t saver, struct values *values, const char *path,
                          struct error *error)
{
    struct safetensors tensors = {0};
    char *bytes = NULL;
    size_t length = 0;
    if (path == NULL) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Can't load save_path when it is None.");
    }
    enum status status = file_read(path, (size_t)VERSION_FILE_BYTES_MAX_MIB << 20, &bytes, &length, error);
    if (status != STATUS_OK) {
        return status == STATUS_NOT_FOUND ? refuse_path(path, error) : status;
    }
    status = safetensors_parse(bytes, length, &tensors, error);
    status =
        status == STATUS_OK ? saver_assign(graph, saver, values, &tensors, error) : refuse_content(path, status, error);
    safetensors_release(&tensors);
    mem_free(bytes);
    return status;
}
