/* A graph as JSON. Thread: any that may read the graph. Owns nothing but while it works. */
#include "engine/store/graph_json.h"

#include "engine/base/mem.h"
#include "engine/store/handle_json.h"
#include "engine/store/tensor_json.h"

/* Appends, and releases the list when that fails. */
static json_t *append(json_t *list, json_t *item)
{
    if (json_array_append_new(list, item) != 0) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *set(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}

/* ---- nodes ---- */

static json_t *node_inputs(const struct node *node)
{
    json_t *inputs = json_array();
    for (size_t i = 0; inputs != NULL && i < node->input_count; i++) {
        char name[OUTPUT_NAME_BYTES_MAX];
        inputs = append(inputs, json_string(output_name(node->inputs[i], name)));
    }
    for (size_t i = 0; inputs != NULL && i < node->control_count; i++) {
        inputs = append(inputs, json_sprintf("^%s", node->controls[i]->name));
    }
    return inputs;
}

static json_t *node_outputs(const struct node *node)
{
    json_t *outputs = json_array();
    for (size_t i = 0; outputs != NULL && i < node->output_count; i++) {
        const struct output_type *type = &node->outputs[i];
        outputs = append(
            outputs, json_pack("{s:s, s:o}", "dtype", dtype_name(type->dtype), "shape", shape_to_json(&type->shape)));
    }
    return outputs;
}

static json_t *body_to_json(const struct body *body)
{
    json_t *outputs = json_array();
    for (size_t i = 0; outputs != NULL && i < body->output_count; i++) {
        char name[OUTPUT_NAME_BYTES_MAX];
        outputs = append(outputs, json_string(output_name(body->outputs[i], name)));
    }
    return json_pack("{s:o, s:o}", "nodes", graph_nodes_to_json(body->graph), "outputs", outputs);
}

static json_t *node_to_json(const struct node *node)
{
    const char *slash = strrchr(node->name, '/');
    json_t *json = json_pack("{s:s, s:s, s:o, s:o, s:s%}", "name", node->name, "op", node_op_name(node), "inputs",
                             node_inputs(node), "outputs", node_outputs(node), "scope", node->name,
                             slash == NULL ? (size_t)0 : (size_t)(slash - node->name));
    for (size_t i = 0; json != NULL && i < node->attribute_count; i++) {
        if (node->attributes[i].kind == ATTRIBUTE_BODY) {
            json = set(json, node->attributes[i].name, body_to_json(node->attributes[i].body));
        }
    }
    return json;
}

json_t *graph_nodes_to_json(const struct graph *graph)
{
    json_t *nodes = json_array();
    for (size_t i = 0; nodes != NULL && i < graph_node_count(graph); i++) {
        nodes = append(nodes, node_to_json(graph_node(graph, i)));
    }
    return nodes;
}

/* ---- variables ---- */

uint32_t *graph_variable_nodes(const struct graph *graph)
{
    uint32_t *owners = mem_allocate(graph_node_count(graph) + 1, sizeof *owners);
    for (size_t i = 0; owners != NULL && i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        owners[variable->node->id] = variable->index + 1;
        if (variable->read.node != NULL) {
            owners[variable->read.node->id] = variable->index + 1;
        }
    }
    return owners;
}

/* Appends each operation that uses a variable to the variable's "users", once. */
static json_t *add_users(const struct graph *graph, json_t *variables)
{
    uint32_t *owners = graph_variable_nodes(graph);
    if (owners == NULL || variables == NULL) {
        mem_free(owners);
        json_decref(variables);
        return NULL;
    }
    bool failed = false;
    for (size_t id = 0; !failed && id < graph_node_count(graph); id++) {
        const struct node *node = graph_node(graph, id);
        for (size_t i = 0; !failed && i < node->input_count; i++) {
            uint32_t owner = node->inputs[i].node->body == node->body ? owners[node->inputs[i].node->id] : 0;
            bool is_own = owner == 0 || owners[id] == owner || graph_variable(graph, owner - 1)->initializer == node;
            if (!is_own) {
                json_t *users = json_object_get(json_array_get(variables, owner - 1), "users");
                const char *last = json_string_value(json_array_get(users, json_array_size(users) - 1));
                bool is_there = last != NULL && strcmp(last, node->name) == 0;
                failed = !is_there && json_array_append_new(users, json_string(node->name)) != 0;
            }
        }
    }
    mem_free(owners);
    if (failed) {
        json_decref(variables);
        return NULL;
    }
    return variables;
}

json_t *graph_variables_to_json(const struct graph *graph, const struct values *values, bool with_users)
{
    json_t *variables = json_array();
    for (size_t i = 0; variables != NULL && i < graph_variable_count(graph); i++) {
        const struct variable *variable = graph_variable(graph, i);
        const struct output_type *type = &variable->node->outputs[0];
        json_t *entry = json_pack("{s:s+, s:o, s:s, s:b, s:b}", "name", variable->node->name, ":0", "shape",
                                  shape_to_json(&type->shape), "dtype", dtype_name(type->dtype), "trainable",
                                  variable->is_trainable, "initialized", values_tensor(values, variable) != NULL);
        if (with_users) {
            entry = set(entry, "users", json_array());
        }
        variables = append(variables, entry);
    }
    return with_users ? add_users(graph, variables) : variables;
}

/* ---- scopes, collections, handles ---- */

json_t *graph_scopes_to_json(const struct graph *graph)
{
    json_t *seen = json_object();
    json_t *scopes = json_array();
    for (size_t i = 0; seen != NULL && scopes != NULL && i < graph_variable_count(graph); i++) {
        const char *name = graph_variable(graph, i)->node->name;
        for (const char *slash = strchr(name, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
            json_t *scope = json_stringn(name, (size_t)(slash - name));
            if (scope != NULL && json_object_get(seen, json_string_value(scope)) == NULL) {
                json_object_set_new(seen, json_string_value(scope), json_true());
                json_array_append(scopes, scope);
            }
            json_decref(scope);
        }
    }
    json_decref(seen);
    return scopes;
}

json_t *graph_collections_to_json(const struct graph *graph)
{
    json_t *collections = json_object();
    const char *key;
    for (size_t i = 0; collections != NULL && (key = graph_collection_key(graph, i)) != NULL; i++) {
        if (strcmp(key, COLLECTION_SIGNATURES) == 0) {
            continue;
        }
        json_t *names = json_array();
        for (size_t item = 0; names != NULL && item < graph_collection_count(graph, key); item++) {
            names = append(names, handle_name_to_json(graph, graph_collection_at(graph, key, item)));
        }
        collections = set(collections, key, names);
    }
    return collections;
}

json_t *graph_handles_to_json(const struct graph *graph)
{
    json_t *handles = json_object();
    for (size_t i = 0; handles != NULL && i < graph_handle_count(graph); i++) {
        const char *name = NULL;
        const struct handle *handle = graph_handle_at(graph, i, &name);
        handles = set(handles, name, handle_name_to_json(graph, handle));
    }
    return handles;
}

json_t *graph_results_to_json(const struct graph *graph)
{
    json_t *results = json_object();
    for (size_t i = 0; results != NULL && i < graph_handle_count(graph); i++) {
        const char *name = NULL;
        const struct handle *handle = graph_handle_at(graph, i, &name);
        results = set(results, name, handle_to_json(graph, handle));
    }
    return results;
}

/* A signature is a list with the names "name", "inputs", "outputs"; a later one of the same name replaces. */
json_t *graph_signatures_to_json(const struct graph *graph)
{
    json_t *signatures = json_object();
    for (size_t i = 0; signatures != NULL && i < graph_collection_count(graph, COLLECTION_SIGNATURES); i++) {
        const struct handle *signature = graph_collection_at(graph, COLLECTION_SIGNATURES, i);
        json_t *value = json_pack("{s:o, s:o}", "inputs", handle_name_to_json(graph, &signature->items[1]), "outputs",
                                  handle_name_to_json(graph, &signature->items[2]));
        signatures = set(signatures, signature->items[0].text, value);
    }
    return signatures;
}
