/* A model from what an importing process handed over. Thread: run threads, main. */
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
