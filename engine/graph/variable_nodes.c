/* The nodes of a variable, tf.Variable, and what initialises variables. Thread: the building one; everything made
 * belongs to the graph. Source: TensorFlow 1.15, variables.py (RefVariable._init_from_args, variables_initializer). */
#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/variable_private.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a variable");
}

/* ---- the initial value ---- */

static enum status check_initial_tensor(const struct graph *graph, const struct variable_plan *plan,
                                        struct output initial, struct error *error)
{
    if (initial.node->body != 0) {
        return error_raise(
            error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
            "Initializer for variable %s/ is from inside a control-flow construct, such as a loop or conditional. "
            "When creating a variable inside a loop or conditional, use a lambda as the initializer.",
            graph_name_scope(graph));
    }
    if (plan->has_dtype && output_type(initial)->dtype != plan->dtype) {
        char text[OUTPUT_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "Tensor conversion requested dtype %s for Tensor with dtype %s: '%s'",
                           dtype_name(plan->dtype), dtype_name(output_type(initial)->dtype),
                           output_text(initial, text));
    }
    return STATUS_OK;
}

/* Inside the variable's name scope. What a function gives goes below "Initializer". */
static enum status add_initial_value(struct graph *graph, const struct variable_plan *plan, struct output *ret_initial,
                                     struct error *error)
{
    const struct initializer *initializer = plan->initializer;
    const char *variable_name = graph_name_scope(graph);
    bool has_own_dtype = initializer->kind == INITIALIZER_VALUE || initializer->kind == INITIALIZER_CALLABLE;
    enum dtype dtype = has_own_dtype && !plan->has_dtype ? initializer->values.dtype : plan->dtype;
    if (initializer_is_value(initializer)) {
        TRY(initializer_build(graph, initializer, &plan->shape, dtype, variable_name, ret_initial, error));
        return check_initial_tensor(graph, plan, *ret_initial, error);
    }
    const char *previous = NULL;
    TRY(graph_enter_name_scope(graph, "Initializer", &previous, error));
    enum status status = initializer_build(graph, initializer, &plan->shape, dtype, variable_name, ret_initial, error);
    graph_leave_name_scope(graph, previous);
    return status;
}

/* ---- the nodes ---- */

/* Inside the variable's name scope. */
static enum status add_nodes(struct graph *graph, const struct variable_plan *plan, struct variable *variable,
                             struct error *error)
{
    char name[GRAPH_NAME_BYTES_MAX + 2];
    snprintf(name, sizeof name, "%s/", graph_name_scope(graph));
    TRY(add_initial_value(graph, plan, &variable->initial, error));
    const struct output_type *type = output_type(variable->initial);
    if (!shape_is_fully_known(&type->shape)) {
        char text[OUTPUT_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "initial_value must have a shape specified: %s", output_text(variable->initial, text));
    }
    struct attribute attributes[] = {{.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = type->shape},
                                     {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = type->dtype}};
    struct node_options add = {.name = name[0] == '/' ? NULL : name, .attributes = attributes, .attribute_count = 2};
    TRY(graph_add_node(graph, "VariableV2", &add, &variable->node, error));
    struct output inputs[] = {{variable->node, 0}, variable->initial};
    struct output assign;
    TRY(variable_guard_initial(graph, variable->initial, variable->node->name, &inputs[1], error));
    TRY(graph_add(graph, "Assign", NULL, inputs, 2, &assign, error));
    variable->initializer = assign.node;
    return graph_add(graph, "Identity", "read", inputs, 1, &variable->read, error);
}

/* Where `key` first stands among the collections; -1 when nowhere. */
static int find_collection(const struct variable_plan *plan, const char *key)
{
    for (size_t i = 0; i < plan->collection_count; i++) {
        if (strcmp(plan->collections[i], key) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static enum status add_to_collections(struct graph *graph, const struct variable_plan *plan,
                                      const struct variable *variable, struct error *error)
{
    struct handle handle = handle_variable(variable);
    for (size_t i = 0; i < plan->collection_count; i++) {
        if (find_collection(plan, plan->collections[i]) == (int)i) { /* doubled keys count once */
            TRY(graph_add_to_collection(graph, plan->collections[i], &handle, error));
        }
    }
    if (plan->collections == NULL) {
        TRY(graph_add_to_collection(graph, COLLECTION_GLOBAL_VARIABLES, &handle, error));
    }
    if (plan->is_trainable && find_collection(plan, COLLECTION_TRAINABLE_VARIABLES) < 0) {
        TRY(graph_add_to_collection(graph, COLLECTION_TRAINABLE_VARIABLES, &handle, error));
    }
    return STATUS_OK;
}

/* Variables live outside loops and control dependencies. */
static enum status add_nodes_outside(struct graph *graph, const struct variable_plan *plan, struct variable *variable,
                                     struct error *error)
{
    const struct control_list *controls = NULL;
    TRY(graph_enter_controls(graph, NULL, 0, &controls, error));
    struct body_builder *body = graph_suspend_body(graph);
    enum status status = add_nodes(graph, plan, variable, error);
    graph_resume_body(graph, body);
    graph_leave_controls(graph, controls);
    return status;
}

enum status variable_create(struct graph *graph, const struct variable_plan *plan, const struct variable **ret_variable,
                            struct error *error)
{
    struct variable variable = {.store_key = plan->store_key,
                                .is_trainable = plan->is_trainable,
                                .is_slot = plan->is_slot,
                                .is_resource = plan->is_resource};
    const char *previous = NULL;
    TRY(graph_check_not_finalized(graph, error));
    TRY(graph_enter_name_scope(graph, plan->name, &previous, error));
    enum status status = add_nodes_outside(graph, plan, &variable, error);
    graph_leave_name_scope(graph, previous);
    TRY(status);
    TRY(graph_add_variable(graph, &variable, error));
    *ret_variable = graph_variable(graph, graph_variable_count(graph) - 1);
    return add_to_collections(graph, plan, *ret_variable, error);
}

enum status make_variable(struct graph *graph, const struct variable_options *options,
                          const struct variable **ret_variable, struct error *error)
{
    if (options->initializer.kind == INITIALIZER_DEFAULT) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "initial_value must be specified.");
    }
    struct variable_plan plan = {.name = options->name == NULL ? "Variable" : options->name,
                                 .initializer = &options->initializer,
                                 .shape = options->shape,
                                 .has_dtype = options->has_dtype,
                                 .dtype = options->has_dtype ? options->dtype : DTYPE_FLOAT32,
                                 .is_trainable = options->trainable == TRAINABLE_YES ||
                                                 (options->trainable == TRAINABLE_DEFAULT && !options->is_on_read),
                                 .is_slot = options->is_slot,
                                 .is_resource = options->is_resource,
                                 .collections = options->collections,
                                 .collection_count = options->collection_count};
    return variable_create(graph, &plan, ret_variable, error);
}

/* ---- assigning and initialising ---- */

enum status assign_variable(struct graph *graph, const struct variable *variable, struct output value,
                            enum assign_mode mode, struct output *ret_output, struct error *error)
{
    static const char *const ops[] = {[ASSIGN_SET] = "Assign", [ASSIGN_ADD] = "AssignAdd", [ASSIGN_SUB] = "AssignSub"};
    struct output inputs[] = {{variable->node, 0}, value};
    return graph_add(graph, ops[mode], NULL, inputs, 2, ret_output, error);
}

enum status add_initializer_of(struct graph *graph, const struct variable *const *variables, size_t variable_count,
                               const char *name, struct node **ret_node, struct error *error)
{
    struct node **controls = mem_allocate(variable_count + 1, sizeof *controls);
    if (controls == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < variable_count; i++) {
        controls[i] = variables[i]->initializer;
    }
    struct node_options add = {
        .name = name == NULL ? "init" : name, .controls = controls, .control_count = variable_count};
    enum status status = graph_add_node(graph, "NoOp", &add, ret_node, error);
    mem_free(controls);
    return status;
}

/* The variables of a collection, in order; other things in it are left out. Returns how many. */
static size_t list_collection(const struct graph *graph, const char *key, const struct variable **ret_variables)
{
    size_t count = 0;
    for (size_t i = 0; i < graph_collection_count(graph, key); i++) {
        const struct handle *handle = graph_collection_at(graph, key, i);
        if (handle->kind == HANDLE_VARIABLE) {
            ret_variables[count++] = handle->variable;
        }
    }
    return count;
}

enum status add_collection_initializer(struct graph *graph, const char *collection, const char *name,
                                       struct node **ret_node, struct error *error)
{
    size_t count = graph_collection_count(graph, collection);
    const struct variable **variables = mem_allocate(count + 1, sizeof *variables);
    if (variables == NULL) {
        return no_memory(error);
    }
    count = list_collection(graph, collection, variables);
    enum status status = add_initializer_of(graph, variables, count, name, ret_node, error);
    mem_free(variables);
    return status;
}

enum status add_variables_initializer(struct graph *graph, const char *name, struct node **ret_node,
                                      struct error *error)
{
    return add_collection_initializer(graph, COLLECTION_GLOBAL_VARIABLES, name, ret_node, error);
}

size_t list_uninitialized_variables(const struct graph *graph, const struct values *values,
                                    const struct variable **ret_variables)
{
    size_t count = list_collection(graph, COLLECTION_GLOBAL_VARIABLES, ret_variables);
    count += list_collection(graph, COLLECTION_LOCAL_VARIABLES, ret_variables + count);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (values_tensor(values, ret_variables[i]) == NULL) {
            ret_variables[kept++] = ret_variables[i];
        }
    }
    return kept;
}
