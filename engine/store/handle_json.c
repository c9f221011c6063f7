/* Handles as JSON. Thread: any that may read the graph. Owns nothing. */
#include "engine/store/handle_json.h"

#include "engine/graph/variable_scope.h"
#include "engine/nn/cell.h"
#include "engine/nn/keras.h"
#include "engine/nn/saver.h"
#include "engine/store/tensor_json.h"

json_t *reuse_to_json(int reuse)
{
    return reuse == REUSE_AUTO ? json_string("auto") : json_boolean(reuse == REUSE_TRUE);
}

static json_t *tensor_handle(const char *kind, struct output output)
{
    char name[OUTPUT_NAME_BYTES_MAX];
    const struct output_type *type = output_type(output);
    return json_pack("{s:s, s:s, s:o, s:s}", "kind", kind, "name", output_name(output, name), "shape",
                     shape_to_json(&type->shape), "dtype", dtype_name(type->dtype));
}

static json_t *variable_handle(const struct variable *variable)
{
    json_t *json = tensor_handle("variable", (struct output){variable->node, 0});
    if (json_object_set_new(json, "trainable", json_boolean(variable->is_trainable)) != 0 ||
        json_object_set_new(json, "initializer", json_string(variable->initializer->name)) != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *scope_handle(const struct graph *graph, uint32_t id)
{
    const struct variable_scope *scope = variable_scope_at(graph, id);
    return json_pack("{s:s, s:s, s:s, s:o, s:s, s:b, s:s?}", "kind", "scope", "name", scope->name,
                     "original_name_scope", scope->original_name_scope, "reuse", reuse_to_json((int)scope->reuse),
                     "dtype", dtype_name(scope->dtype), "initializer_is_none",
                     scope->initializer.kind == INITIALIZER_DEFAULT, "constraint", scope->constraint);
}

/* ---- cells ---- */

/* A number, {"c":n,"h":n}, or a list of the same for each cell or state. */
static json_t *state_size(const struct graph *graph, uint32_t cell)
{
    size_t part_count = 0;
    const uint32_t *parts = cell_parts(graph, cell, &part_count);
    size_t count = cell_state_count(graph, cell);
    if (cell_has_pair(graph, cell)) {
        return json_pack("{s:I, s:I}", "c", (json_int_t)cell_state_size(graph, cell, 0), "h",
                         (json_int_t)cell_state_size(graph, cell, 1));
    }
    if (parts == NULL && count == 1) {
        return json_integer((json_int_t)cell_state_size(graph, cell, 0));
    }
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < (parts == NULL ? count : part_count); i++) {
        json_t *size =
            parts == NULL ? json_integer((json_int_t)cell_state_size(graph, cell, i)) : state_size(graph, parts[i]);
        if (json_array_append_new(list, size) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *cell_variable_names(const struct graph *graph, uint32_t cell)
{
    enum { VARIABLES_MAX = 256 };
    const struct variable *variables[VARIABLES_MAX];
    json_t *names = json_array();
    size_t count = cell_variables(graph, cell, VARIABLES_MAX, variables);
    for (size_t i = 0; names != NULL && i < count; i++) {
        if (json_array_append_new(names, json_sprintf("%s:0", variables[i]->node->name)) != 0) {
            json_decref(names);
            names = NULL;
        }
    }
    return names;
}

static json_t *cell_handle(const struct graph *graph, uint32_t cell)
{
    return json_pack("{s:s, s:o, s:I, s:o}", "kind", "cell", "state_size", state_size(graph, cell), "output_size",
                     (json_int_t)cell_output_size(graph, cell), "var_names", cell_variable_names(graph, cell));
}

/* ---- layers, optimisers, savers ---- */

static json_t *layer_handle(const struct graph *graph, uint32_t layer)
{
    return json_pack("{s:s, s:s, s:s, s:b}", "kind", "layer", "name", keras_layer_name(graph, layer), "type",
                     keras_kind_name(keras_layer_kind(graph, layer)), "built", keras_layer_is_built(graph, layer));
}

static json_t *saver_handle(const struct graph *graph, uint32_t id)
{
    const struct saver *saver = saver_at(graph, id);
    json_t *keys = json_object();
    for (size_t i = 0; keys != NULL && i < saver->count; i++) {
        json_t *name = json_sprintf("%s:0", saver->entries[i].variable->node->name);
        if (json_object_set_new(keys, saver->entries[i].key, name) != 0) {
            json_decref(keys);
            keys = NULL;
        }
    }
    return json_pack("{s:s, s:s, s:o}", "kind", "saver", "name", saver->scope, "variables", keys);
}

static json_t *object_of_kind(const struct graph *graph, const struct handle *handle)
{
    switch (handle->object_kind) {
    case OBJECT_SCOPE: return scope_handle(graph, handle->object_id);
    case OBJECT_CELL: return cell_handle(graph, handle->object_id);
    case OBJECT_OPTIMIZER: return json_pack("{s:s}", "kind", "optimizer");
    case OBJECT_SAVER: return saver_handle(graph, handle->object_id);
    case OBJECT_LAYER: return layer_handle(graph, handle->object_id);
    }
    return NULL;
}

/* "id" tells two scopes of the same name apart. */
static json_t *object_handle(const struct graph *graph, const struct handle *handle)
{
    json_t *json = object_of_kind(graph, handle);
    if (json_object_set_new(json, "id", json_integer(handle->object_id)) != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* Lists of a list's items and of their names (null without). */
static json_t *list_handle(const struct graph *graph, const struct handle *list)
{
    json_t *items = json_array();
    json_t *names = list->names == NULL ? NULL : json_array();
    int failed = items == NULL;
    for (size_t i = 0; !failed && i < list->count; i++) {
        failed = json_array_append_new(items, handle_to_json(graph, &list->items[i]));
        if (list->names != NULL) {
            json_t *name = list->names[i] == NULL ? json_null() : json_string(list->names[i]);
            failed = failed || json_array_append_new(names, name);
        }
    }
    if (failed) {
        json_decref(items);
        json_decref(names);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:o*}", "kind", "list", "items", items, "names", names);
}

json_t *handle_to_json(const struct graph *graph, const struct handle *handle)
{
    switch (handle->kind) {
    case HANDLE_NONE: return json_pack("{s:s}", "kind", "none");
    case HANDLE_TENSOR: return tensor_handle("tensor", handle->output);
    case HANDLE_VARIABLE: return variable_handle(handle->variable);
    case HANDLE_OPERATION:
        return json_pack("{s:s, s:s, s:s}", "kind", "operation", "name", handle->node->name, "op",
                         node_op_name(handle->node));
    case HANDLE_OBJECT: return object_handle(graph, handle);
    case HANDLE_TEXT: return json_pack("{s:s, s:s}", "kind", "text", "value", handle->text);
    case HANDLE_LIST: return list_handle(graph, handle);
    }
    return NULL;
}

static json_t *list_names(const struct graph *graph, const struct handle *list)
{
    bool is_named = list->names != NULL && list->count > 0;
    for (size_t i = 0; is_named && i < list->count; i++) {
        is_named = list->names[i] != NULL;
    }
    json_t *json = is_named ? json_object() : json_array();
    for (size_t i = 0; json != NULL && i < list->count; i++) {
        json_t *item = handle_name_to_json(graph, &list->items[i]);
        if ((is_named ? json_object_set_new(json, list->names[i], item) : json_array_append_new(json, item)) != 0) {
            json_decref(json);
            json = NULL;
        }
    }
    return json;
}

json_t *handle_name_to_json(const struct graph *graph, const struct handle *handle)
{
    char text[OUTPUT_NAME_BYTES_MAX];
    const char *name = handle_name(handle, text);
    if (name != NULL) {
        return json_string(name);
    }
    if (handle->kind == HANDLE_OBJECT && handle->object_kind == OBJECT_SCOPE) {
        return json_string(variable_scope_at(graph, handle->object_id)->name);
    }
    if (handle->kind == HANDLE_TEXT) {
        return json_string(handle->text);
    }
    return handle->kind == HANDLE_LIST ? list_names(graph, handle) : json_null();
}
