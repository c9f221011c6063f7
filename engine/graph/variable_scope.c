/* Variable scopes and get_variable. Thread: the building one; everything made belongs to the graph.
 * Source: TensorFlow 1.15, variable_scope.py (_pure_variable_scope, _VariableStore._get_single_variable). */
#include "engine/graph/variable_scope.h"

#include "engine/base/rng.h"
#include "engine/graph/graph_private.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the graph's scopes");
}

const char *variable_scope_name(const struct graph *graph)
{
    return graph->variable_scope;
}

enum reuse variable_scope_reuse(const struct graph *graph)
{
    return graph->reuse;
}

void variable_scope_set_reuse(struct graph *graph, enum reuse reuse)
{
    graph->reuse = reuse;
}

static const char *join(struct graph *graph, const char *name)
{
    const char *scope = graph->variable_scope;
    return arena_format(graph_arena(graph), "%s%s%s", scope, scope[0] == '\0' ? "" : "/", name);
}

/* Opens the scope of full name `full`, whose name scope is `name_scope`. */
static enum status enter(struct graph *graph, const char *full, const char *name_scope, enum reuse reuse,
                         struct variable_scope_frame *ret_frame, struct error *error)
{
    struct name_count *opened = name_counts_add(&graph->scope_counts, full);
    if (opened == NULL) {
        return no_memory(error);
    }
    struct variable_scope_frame frame = {.scope_name = graph->variable_scope, .reuse = graph->reuse};
    frame.name_scope = graph->name_scope;
    if (name_scope[0] != '\0') {
        TRY(graph_enter_name_scope(graph, name_scope, &frame.name_scope, error));
    }
    opened->count++;
    graph->variable_scope = full;
    graph->reuse = reuse == REUSE_INHERIT ? graph->reuse : reuse;
    *ret_frame = frame;
    return STATUS_OK;
}

enum status variable_scope_enter(struct graph *graph, const char *name, enum reuse reuse,
                                 struct variable_scope_frame *ret_frame, struct error *error)
{
    const char *full = join(graph, name);
    return full == NULL ? no_memory(error) : enter(graph, full, name, reuse, ret_frame, error);
}

enum status variable_scope_enter_default(struct graph *graph, const char *default_name,
                                         struct variable_scope_frame *ret_frame, struct error *error)
{
    const char *full = join(graph, default_name);
    for (uint64_t suffix = 1; full != NULL; suffix++) {
        const struct name_count *entry = name_counts_find(&graph->scope_counts, full);
        if (entry == NULL || entry->count == 0) {
            return enter(graph, full, default_name, REUSE_INHERIT, ret_frame, error);
        }
        char numbered[GRAPH_NAME_BYTES_MAX + 24];
        snprintf(numbered, sizeof numbered, "%s_%llu", default_name, (unsigned long long)suffix);
        full = join(graph, numbered);
    }
    return no_memory(error);
}

void variable_scope_leave(struct graph *graph, const struct variable_scope_frame *frame)
{
    /* Leaving resets the counts of every scope below, so that default names start afresh when it is opened again. */
    size_t length = strlen(graph->variable_scope);
    for (size_t i = 0; i < graph->scope_counts.slot_count; i++) {
        struct name_count *slot = &graph->scope_counts.slots[i];
        if (slot->key != NULL && strncmp(slot->key, graph->variable_scope, length) == 0 && slot->key[length] == '/') {
            slot->count = 0;
        }
    }
    graph->variable_scope = frame->scope_name;
    graph->reuse = frame->reuse;
    graph_leave_name_scope(graph, frame->name_scope);
}

/* ---- get_variable ---- */

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

static enum status check_sharing(const struct variable *variable, const char *key,
                                 const struct variable_options *options, struct error *error)
{
    const struct output_type *found = &variable->node->outputs[0];
    if (!shape_is_compatible(&options->shape, &found->shape)) {
        char wanted_text[SHAPE_TEXT_BYTES_MAX];
        char found_text[SHAPE_TEXT_BYTES_MAX];
        error_set(error, STATUS_CONFLICT, "Trying to share variable %s, but specified shape %s and found shape %s.",
                  key, shape_text(&options->shape, wanted_text), shape_text(&found->shape, found_text));
        return refuse(error, variable, key, STATUS_CONFLICT, "variable_shape");
    }
    if (options->dtype != found->dtype) {
        error_set(error, STATUS_CONFLICT, "Trying to share variable %s, but specified dtype %s and found dtype %s_ref.",
                  key, dtype_name(options->dtype), dtype_name(found->dtype));
        return refuse(error, variable, key, STATUS_CONFLICT, "variable_dtype");
    }
    return STATUS_OK;
}

/* [low, high) of TensorFlow's glorot_uniform: rank 2 fans are rows and columns, rank 1 both n, higher ranks times the
 * rest. */
static double glorot_limit(const struct shape *shape)
{
    double receptive = 1;
    for (int i = 0; i + 2 < shape->rank; i++) {
        receptive *= (double)shape->dimensions[i];
    }
    double last = shape->rank == 0 ? 1 : (double)shape->dimensions[shape->rank - 1];
    double before = shape->rank < 2 ? last : (double)shape->dimensions[shape->rank - 2];
    double fans = receptive * (last + before);
    return __builtin_sqrt(6.0 / (fans > 1 ? fans : 1));
}

/* Adds the node whose value initialising assigns. */
static enum status add_initial_value(struct graph *graph, const struct variable_options *options,
                                     const char *variable_name, struct output *ret_output, struct error *error)
{
    struct initializer initializer = options->initializer;
    bool is_float = options->dtype == DTYPE_FLOAT32 || options->dtype == DTYPE_FLOAT64;
    if (initializer.kind == INITIALIZER_DEFAULT) {
        initializer.kind = is_float ? INITIALIZER_GLOROT_UNIFORM : INITIALIZER_ZEROS;
    }
    if (initializer.kind == INITIALIZER_GLOROT_UNIFORM) {
        double limit = glorot_limit(&options->shape);
        initializer = (struct initializer){INITIALIZER_UNIFORM, -limit, limit};
    }
    double constant = initializer.kind == INITIALIZER_ONES       ? 1
                      : initializer.kind == INITIALIZER_CONSTANT ? initializer.low
                                                                 : 0;
    struct attribute attributes[] = {
        {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = options->shape},
        {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = options->dtype},
        {.name = "low", .kind = ATTRIBUTE_NUMBER, .number = initializer.low},
        {.name = "high", .kind = ATTRIBUTE_NUMBER, .number = initializer.high},
        {.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)(rng_key(variable_name) >> 1)},
        {.name = "value", .kind = ATTRIBUTE_NUMBER, .number = constant},
    };
    struct node *node = NULL;
    struct node_options add = {.attributes = attributes, .attribute_count = sizeof attributes / sizeof *attributes};
    bool is_uniform = initializer.kind == INITIALIZER_UNIFORM;
    char name[GRAPH_NAME_BYTES_MAX * 2];
    snprintf(name, sizeof name, "%s/Initializer/%s", variable_name, is_uniform ? "random_uniform" : "Const");
    add.name = name;
    TRY(graph_add_node(graph, is_uniform ? "RandomUniform" : "Fill", &add, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

/* Adds the nodes of a new variable: state, initial value, read. The caller has reset the name scope. */
static enum status add_variable_nodes(struct graph *graph, const char *full, const struct variable_options *options,
                                      struct variable *variable, struct error *error)
{
    struct attribute attributes[] = {
        {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = options->shape},
        {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = options->dtype},
    };
    struct node_options add = {.name = full, .attributes = attributes, .attribute_count = 2};
    TRY(graph_add_node(graph, "VariableV2", &add, &variable->node, error));
    TRY(add_initial_value(graph, options, variable->node->name, &variable->initial, error));
    char name[GRAPH_NAME_BYTES_MAX * 2];
    struct output inputs[] = {{variable->node, 0}, variable->initial};
    snprintf(name, sizeof name, "%s/Assign", variable->node->name);
    struct output assign;
    TRY(graph_add(graph, "Assign", name, inputs, 2, &assign, error));
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
    struct variable variable = {.is_trainable = !options->is_untrainable, .is_slot = options->is_slot};
    variable.store_key = arena_copy_string(graph_arena(graph), full);
    if (variable.store_key == NULL) {
        return no_memory(error);
    }
    const char *previous = NULL;
    TRY(graph_enter_name_scope(graph, "", &previous, error));
    enum status status = add_variable_nodes(graph, full, options, &variable, error);
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
    const char *full = join(graph, options->name);
    if (full == NULL) {
        return no_memory(error);
    }
    const struct name_count *entry = name_counts_find(&graph->store, full);
    bool is_new = entry == NULL;
    if (is_new) {
        if (graph->reuse == REUSE_TRUE) {
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
        if (graph->reuse == REUSE_INHERIT) {
            return refuse_existing(variable, full, error);
        }
        TRY(check_sharing(variable, full, options, error));
    }
    *ret_variable = graph->variables[entry->count];
    if (ret_is_new != NULL) {
        *ret_is_new = is_new;
    }
    return STATUS_OK;
}
