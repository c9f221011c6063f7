/* A model or a version from what an importing process handed over. Thread: run threads, main. */
#include "engine/model/model_import.h"

#include "engine/model/model_private.h"
#include "engine/store/safetensors.h"

static enum status fill(struct model *model, const struct safetensors *weights, struct error *error)
{
    const struct graph *graph = session_graph(model->session);
    for (size_t i = 0; i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        const struct tensor *tensor = safetensors_find(weights, variable->node->name);
        if (tensor == NULL) {
            return error_set(error, STATUS_CORRUPT, "the importing process handed over no %s", variable->node->name);
        }
        TRY(values_set(session_values(model->session), variable, tensor, error));
    }
    model_note_change(model);
    return STATUS_OK;
}

static enum status build(struct model *model, const struct import_reply *reply, struct error *error)
{
    json_t *built = NULL;
    struct safetensors weights;
    const json_t *program = json_object_get(reply->facts, "program");
    if (program == NULL || reply->weights == NULL) {
        return error_set(error, STATUS_CORRUPT, "the importing process handed over no program or no weights");
    }
    TRY(model_build(model, program, NULL, &built, error));
    json_decref(built);
    TRY(safetensors_parse(reply->weights, reply->weights_length, &weights, error));
    model_lock_alone(model);
    enum status status = fill(model, &weights, error);
    model_unlock(model);
    safetensors_release(&weights);
    return status;
}

enum status model_create_imported(const char *name, const struct import_reply *reply, struct model **ret_model,
                                  struct error *error)
{
    struct model *model = NULL;
    TRY(model_create(name, &model, error));
    enum status status = build(model, reply, error);
    if (status != STATUS_OK) {
        model_unref(model);
        return status;
    }
    *ret_model = model;
    return STATUS_OK;
}

/* ---- versions ---- */

bool import_reply_is_version(const struct import_reply *reply)
{
    return json_object_get(reply->facts, "version") != NULL;
}

/* The files that stand one behind the other in the reply. */
static enum status split(const struct import_reply *reply, struct version_file files[VERSION_FILES_MAX + 1],
                         size_t *ret_count, struct error *error)
{
    size_t i;
    size_t used = 0;
    const json_t *file;
    const json_t *list = json_object_get(reply->facts, "version");
    bool is_good = json_is_array(list) && json_array_size(list) <= VERSION_FILES_MAX + 1;
    json_array_foreach(list, i, file)
    {
        const char *name = json_string_value(json_object_get(file, "name"));
        json_int_t bytes = json_integer_value(json_object_get(file, "bytes"));
        is_good = is_good && name != NULL && bytes >= 0 && (uint64_t)bytes <= reply->weights_length - used;
        if (!is_good) {
            break;
        }
        files[i] = (struct version_file){name, (const char *)reply->weights + used, (size_t)bytes};
        used += (size_t)bytes;
    }
    if (!is_good || used != reply->weights_length) {
        return error_set(error, STATUS_CORRUPT, "the importing process handed over no files of a version");
    }
    *ret_count = json_array_size(list);
    return STATUS_OK;
}

enum status model_write_imported(const char *model_directory, const struct import_reply *reply, uint64_t *ret_version,
                                 struct error *error)
{
    struct version_file given[VERSION_FILES_MAX + 1];
    struct version_files files;
    struct version_content content;
    size_t count = 0;
    TRY(split(reply, given, &count, error));
    TRY(version_take(given, count, &files, error));
    TRY(version_content_take(&files, VERSION_USE_PACK, &content, error));
    enum status status = version_write_again(model_directory, &content.files, ret_version, error);
    version_content_release(&content);
    return status;
}
