/* get_variable. Thread: the building one; everything made belongs to the graph.
 * Source: TensorFlow 1.15, variable_scope.py (_VariableStore._get_single_variable). */
#include "engine/graph/variable.h"

#include "engine/graph/graph_private.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a variable");
}

/* The scope's default where the call says nothing. */
static enum dtype dtype_of(const struct graph *graph, const struct variable_options *options)
{
    return options->has_dtype ? options->dtype : variable_scope_at(graph, variable_scope_current(graph))->dtype;
}

static enum status refuse(struct error *error, const struct variable *variable, const char *key, enum status status,
                          const char *code)
{
    if (error == NULL) {
        return status;
    }
    error->status = status;
    error_type(error, "ValueError");
    error_code(error, code);
    snprintf(error->variable, sizeof error->variable, "%s", key);
    if (variable != NULL && variable->origin.program > 0) {
        error->origin = (struct error_origin){.program = variable->origin.program, .at = variable->origin.at};
        snprintf(error->origin.step, sizeof error->origin.step, "%s", variable->origin.step);
        if (variable->origin.request_id != NULL) {
            snprintf(error->origin.request_id, sizeof error->origin.request_id, "%s", variable->origin.request_id);
        }
    }
    return status;
}

static enum status refuse_existing(const struct variable *variable, const char *key, struct error *error)
{
    char origin[ERROR_PLACE_BYTES_MAX];
    if (variable->origin.program > 0) {
        snprintf(origin, sizeof origin, "program %u, %s (%s)", variable->origin.program, variable->origin.step,
                 variable->origin.op);
    } else {
        snprintf(origin, sizeof origin, "%s", variable->origin.op);
    }
    error_set(
        error, STATUS_CONFLICT,
        "Variable %s already exists, disallowed. Did you mean to set reuse=True or reuse=tf.AUTO_REUSE in VarScope? "
        "Originally defined at:\n\n  %s",
        key, origin);
    refuse(error, variable, key, STATUS_CONFLICT, "variable_exists");
    if (error != NULL) {
        snprintf(error->hint, sizeof error->hint,
                 "to share it, put both in {\"op\":\"variable_scope\",\"name\":…,\"reuse\":\"auto\"}");
    }
    return STATUS_CONFLICT;
}

static enum status check_sharing(const struct graph *graph, const struct variable *variable, const char *key,
                                 const struct variable_options *options, struct error *error)
{
    enum dtype dtype = dtype_of(graph, options);
    const struct output_type *found = &variable->node->outputs[0];
    if (!shape_is_compatible(&options->shape, &found->shape)) {
        char wanted_text[SHAPE_TEXT_BYTES_MAX];
        char found_text[SHAPE_TEXT_BYTES_MAX];
        error_set(error, STATUS_CONFLICT, "Trying to share variable %s, but specified shape %s and found shape %s.",
                  key, shape_text(&options->shape, wanted_text), shape_text(&found->shape, found_text));
        return refuse(error, variable, key, STATUS_CONFLICT, "variable_shape");
    }
    if (dtype != found->dtype) {
        error_set(error, STATUS_CONFLICT, "Trying to share variable %s, but specified dtype %s and found dtype %s_ref.",
                  key, dtype_name(dtype), dtype_name(found->dtype));
        return refuse(error, variable, key, STATUS_CONFLICT, "variable_dtype");
    }
    return STATUS_OK;
}

/* Adds the nodes of a new variable: state, initial value, read. The caller has reset the name scope. */
static enum status add_variable_nodes(struct graph *graph, const char *full, const struct variable_options *options,
                                      struct variable *variable, struct error *error)
{
    struct attribute attributes[] = {
        {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = options->shape},
        {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = dtype_of(graph, options)},
    };
    struct node_options add = {.name = full, .attributes = attributes, .attribute_count = 2};
    TRY(graph_add_node(graph, "VariableV2", &add, &variable->node, error));
    char name[GRAPH_NAME_BYTES_MAX * 2];
    const char *previous = NULL;
    snprintf(name, sizeof name, "%s/Initializer/", variable->node->name);
    TRY(graph_enter_name_scope(graph, name, &previous, error));
    enum status status = initializer_build(graph, &options->initializer, &options->shape, dtype_of(graph, options),
                                           variable->node->name, &variable->initial, error);
    graph_leave_name_scope(graph, previous);
    TRY(status);
    struct output inputs[] = {{variable->node, 0}, variable->initial};
    snprintf(name, sizeof name, "%s/Assign", variable->node->name);
    struct output assign;
    TRY(graph_add(graph, "Assign", name, inputs, 2, &assign, error));
    variable->initializer = assign.node;
    snprintf(name, sizeof name, "%s/read", variable->node->name);
    return graph_add(graph, "Identity", name, inputs, 1, &variable->read, error);
}

static enum status create_variable(struct graph *graph, const char *full, const struct variable_options *options,
                                   struct error *error)
{
    if (!shape_is_fully_known(&options->shape)) {
        error_set(
            error, STATUS_UNPROCESSABLE,
            "The initializer passed is not valid. It should be a callable with no arguments and the shape should not "
            "be provided or an instance of `tf.keras.initializers.*' and `shape` should be fully defined.");
        error_type(error, "ValueError");
        return STATUS_UNPROCESSABLE;
    }
    size_t count = 0;
    if (!shape_element_count(&options->shape, &count)) {
        char text[SHAPE_TEXT_BYTES_MAX];
        return error_set(error, STATUS_LIMIT, "variable %s: shape %s has too many elements", full,
                         shape_text(&options->shape, text));
    }
    struct variable variable = {.is_trainable = options->trainable != TRAINABLE_NO, .is_slot = options->is_slot};
    variable.store_key = arena_copy_string(graph_arena(graph), full);
    if (variable.store_key == NULL) {
        return no_memory(error);
    }
    const char *previous = NULL;
    TRY(graph_enter_name_scope(graph, "", &previous, error));
    struct body_builder *body = graph_suspend_body(graph); /* variables live outside loops */
    enum status status = add_variable_nodes(graph, full, options, &variable, error);
    graph_resume_body(graph, body);
    graph_leave_name_scope(graph, previous);
    TRY(status);
    struct name_count *entry = name_counts_add(&graph->store, variable.store_key);
    if (entry == NULL) {
        return no_memory(error);
    }
    entry->count = graph->variable_count;
    return graph_add_variable(graph, &variable, error);
}

enum status get_variable(struct graph *graph, const struct variable_options *options,
                         const struct variable **ret_variable, bool *ret_is_new, struct error *error)
{
    const char *scope = variable_scope_name(graph);
    const char *full =
        arena_format(graph_arena(graph), "%s%s%s", scope, scope[0] == '\0' ? "" : "/", options->name);
    if (full == NULL) {
        return no_memory(error);
    }
    const struct name_count *entry = name_counts_find(&graph->store, full);
    bool is_new = entry == NULL;
    if (is_new) {
        if (variable_scope_reuse(graph) == REUSE_TRUE) {
            error_set(error, STATUS_UNPROCESSABLE,
                      "Variable %s does not exist, or was not created with tf.get_variable(). Did "
                      "you mean to set reuse=tf.AUTO_REUSE in VarScope?",
                      full);
            return refuse(error, NULL, full, STATUS_UNPROCESSABLE, "variable_missing");
        }
        TRY(create_variable(graph, full, options, error));
        entry = name_counts_find(&graph->store, full);
    } else {
        const struct variable *variable = graph->variables[entry->count];
        if (variable_scope_reuse(graph) == REUSE_INHERIT) {
            return refuse_existing(variable, full, error);
        }
        TRY(check_sharing(graph, variable, full, options, error));
    }
    *ret_variable = graph->variables[entry->count];
    if (ret_is_new != NULL) {
        *ret_is_new = is_new;
    }
    return STATUS_OK;
}
