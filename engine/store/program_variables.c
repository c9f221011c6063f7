/* Steps on variables: get_variable, variable, assign, initialisers. Thread: the building one. Owns nothing. */
#include "engine/graph/function.h"
#include "engine/store/program_private.h"

static enum status read_trainable(struct builder *builder, const struct step *step, enum trainable *ret_trainable)
{
    const json_t *value = json_object_get(step->json, "trainable");
    bool flag = true;
    if (value == NULL || json_is_null(value)) {
        return STATUS_OK;
    }
    TRY(read_flag(builder, step, "trainable", &flag));
    *ret_trainable = flag ? TRAINABLE_YES : TRAINABLE_NO;
    return STATUS_OK;
}

/* What Python says of collections that are no list. */
static enum status refuse_collections(struct builder *builder, const struct step *step, const json_t *value)
{
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "collections"};
    const char *type = json_is_string(value)    ? "str"
                       : json_is_boolean(value) ? "bool"
                       : json_is_integer(value) ? "int"
                       : json_is_real(value)    ? "float"
                                                : "dict";
    char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
    const char *shown = json_is_true(value)     ? "True"
                        : json_is_false(value)  ? "False"
                        : json_is_string(value) ? json_string_value(value)
                        : text == NULL          ? ""
                                                : text;
    enum status status = raise_place(builder, &place, EXCEPTION_VALUE,
                                     "collections argument to Variable constructor must be a list, tuple, or set. Got "
                                     "%.100s of type <class '%s'>",
                                     shown, type);
    free(text);
    return status;
}

static enum status read_collections(struct builder *builder, const struct step *step, struct variable_options *options)
{
    const json_t *list = json_object_get(step->json, "collections");
    const char **keys = NULL;
    if (list == NULL || json_is_null(list)) {
        return STATUS_OK;
    }
    if (!json_is_array(list)) {
        return refuse_collections(builder, step, list);
    }
    if (json_array_size(list) > GRAPH_COLLECTIONS_MAX) {
        return refuse_field(builder, step, "collections", "must be a list of keys");
    }
    TRY(builder_scratch(builder, json_array_size(list), sizeof(const char *), &keys));
    for (size_t i = 0; i < json_array_size(list); i++) {
        keys[i] = json_string_value(json_array_get(list, i));
        if (keys[i] == NULL) {
            return refuse_field(builder, step, "collections", "must be a list of keys");
        }
    }
    options->collections = keys;
    options->collection_count = json_array_size(list);
    return STATUS_OK;
}

static enum status read_synchronization(struct builder *builder, const struct step *step, bool *ret_is_on_read)
{
    const char *text = NULL;
    TRY(read_text(builder, step, "synchronization", &text));
    if (text != NULL && !word_is_in(text, "AUTO NONE ON_READ ON_WRITE")) {
        return refuse_field(builder, step, "synchronization", "must be AUTO, NONE, ON_READ or ON_WRITE");
    }
    *ret_is_on_read = text != NULL && strcmp(text, "ON_READ") == 0;
    return STATUS_OK;
}

static enum status read_variable_options(struct builder *builder, const struct step *step,
                                         struct variable_options *options)
{
    TRY(read_shape(builder, step, "shape", &options->has_shape, &options->shape));
    TRY(read_dtype(builder, step, "dtype", &options->has_dtype, &options->dtype));
    TRY(read_regularizer(builder, step, "regularizer", &options->regularizer));
    TRY(read_trainable(builder, step, &options->trainable));
    TRY(read_collections(builder, step, options));
    return read_synchronization(builder, step, &options->is_on_read);
}

static enum status apply_get_variable(struct builder *builder, const struct step *step)
{
    struct variable_options options = {.shape = shape_unknown()};
    const struct variable *variable = NULL;
    TRY(need_text(builder, step, "name", &options.name));
    TRY(read_variable_options(builder, step, &options));
    TRY(read_initializer(builder, step, "initializer", &options.initializer));
    TRY(get_variable(builder->graph, &options, &variable, NULL, builder->error));
    struct handle handle = handle_variable(variable);
    builder_give(builder, &handle);
    return STATUS_OK;
}

static enum status apply_get_local_variable(struct builder *builder, const struct step *step)
{
    struct variable_options options = {.shape = shape_unknown()};
    const struct variable *variable = NULL;
    TRY(need_text(builder, step, "name", &options.name));
    TRY(read_variable_options(builder, step, &options));
    TRY(read_initializer(builder, step, "initializer", &options.initializer));
    TRY(get_local_variable(builder->graph, &options, &variable, NULL, builder->error));
    struct handle handle = handle_variable(variable);
    builder_give(builder, &handle);
    return STATUS_OK;
}

/* ---- tf.Variable ---- */

/* A number, list or tensor object; "x" or {"tensor":"x"}; {"callable":value}. */
static enum status read_initial_value(struct builder *builder, const struct step *step,
                                      struct variable_options *options)
{
    const json_t *json = json_object_get(step->json, "initial_value");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "initial_value"};
    struct initializer *initializer = &options->initializer;
    if (json == NULL || json_is_null(json)) {
        return STATUS_OK; /* make_variable says what is missing */
    }
    if (json_is_string(json) || json_object_get(json, "tensor") != NULL) {
        initializer->kind = INITIALIZER_TENSOR;
        return read_tensor(builder, json, &place, &initializer->output);
    }
    const json_t *callable = json_object_get(json, "callable");
    initializer->kind = callable == NULL ? INITIALIZER_VALUE : INITIALIZER_CALLABLE;
    return read_constant_value(builder, callable == NULL ? json : callable, &place, options->has_dtype, options->dtype,
                               &initializer->values);
}

static enum status apply_variable(struct builder *builder, const struct step *step)
{
    struct variable_options options = {.shape = shape_unknown()};
    const struct variable *variable = NULL;
    TRY(read_text(builder, step, "name", &options.name));
    TRY(read_variable_options(builder, step, &options));
    TRY(read_initial_value(builder, step, &options));
    TRY(make_variable(builder->graph, &options, &variable, builder->error));
    if (variable_scope_reuse(builder->graph) != REUSE_INHERIT) {
        TRY(builder_warn(builder, step,
                         "tf.Variable knows no reuse: this made a new variable, %s; get_variable would share one.",
                         variable->node->name));
    }
    struct handle handle = handle_variable(variable);
    builder_give(builder, &handle);
    return STATUS_OK;
}

/* ---- assigning ---- */

static enum status read_assigned(struct builder *builder, const struct step *step, const struct variable *variable,
                                 const char *name, struct output *ret_value)
{
    const json_t *json = json_object_get(step->json, "value");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "value"};
    struct tensor value;
    if (json_is_string(json) || json_object_get(json, "tensor") != NULL) {
        return read_tensor(builder, json, &place, ret_value);
    }
    enum dtype dtype = variable->node->outputs[0].dtype;
    TRY(read_constant_value(builder, json, &place, !json_is_object(json), dtype, &value));
    char constant[64];
    snprintf(constant, sizeof constant, "%s/value", name);
    return graph_add_constant(builder->graph, constant, &value, ret_value, builder->error);
}

static enum status apply_assign(struct builder *builder, const struct step *step)
{
    static const char *const names[] = {
        [ASSIGN_SET] = "Assign", [ASSIGN_ADD] = "AssignAdd", [ASSIGN_SUB] = "AssignSub"};
    const struct variable *variable = NULL;
    const char *mode = strcmp(step->op, "assign_add") == 0   ? "add"
                       : strcmp(step->op, "assign_sub") == 0 ? "sub"
                                                             : "set";
    struct output value;
    struct output assigned;
    TRY(need_variable(builder, step, "var", &variable));
    TRY(read_text(builder, step, "mode", &mode));
    if (!word_is_in(mode, "set add sub")) {
        return refuse_field(builder, step, "mode", "must be \"set\", \"add\" or \"sub\"");
    }
    enum assign_mode kind = mode[0] == 'a' ? ASSIGN_ADD : mode[1] == 'u' ? ASSIGN_SUB : ASSIGN_SET;
    TRY(read_assigned(builder, step, variable, names[kind], &value));
    TRY(assign_variable(builder->graph, variable, value, kind, &assigned, builder->error));
    builder_give_tensor(builder, assigned);
    return STATUS_OK;
}

/* ---- initialisers ---- */

static enum status give_operation(struct builder *builder, struct node *node)
{
    struct handle handle = handle_operation(node);
    builder_give(builder, &handle);
    return STATUS_OK;
}

static enum status apply_initializer(struct builder *builder, const struct step *step)
{
    const struct variable *variable = NULL;
    TRY(need_variable(builder, step, "var", &variable));
    return give_operation(builder, variable->initializer);
}

static enum status apply_collection_initializer(struct builder *builder, const struct step *step)
{
    struct node *node = NULL;
    const char *name = NULL;
    bool is_local = strcmp(step->op, "local_variables_initializer") == 0;
    const char *collection = is_local ? COLLECTION_LOCAL_VARIABLES : COLLECTION_GLOBAL_VARIABLES;
    TRY(read_text(builder, step, "name", &name));
    TRY(add_collection_initializer(builder->graph, collection, name, &node, builder->error));
    return give_operation(builder, node);
}

static enum status apply_variables_initializer(struct builder *builder, const struct step *step)
{
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "var_list"};
    const json_t *list = json_object_get(step->json, "var_list");
    const struct variable **variables = NULL;
    struct node *node = NULL;
    size_t count = 0;
    const char *name = NULL;
    TRY(read_text(builder, step, "name", &name));
    if (list == NULL) {
        return refuse_place(builder, &place, "must be given: a list of variables");
    }
    TRY(read_variables(builder, list, &place, &variables, &count));
    TRY(add_initializer_of(builder->graph, variables, count, name, &node, builder->error));
    return give_operation(builder, node);
}

#define OPTIONS "name shape dtype initializer regularizer trainable collections synchronization"

const struct step_kind program_variable_steps[] = {
    {"get_variable", OPTIONS, apply_get_variable, NULL},
    {"get_local_variable", OPTIONS, apply_get_local_variable, NULL},
    {"variable", "initial_value name dtype trainable collections synchronization", apply_variable, NULL},
    {"assign", "var value mode", apply_assign, NULL},
    {"assign_add", "var value", apply_assign, NULL},
    {"assign_sub", "var value", apply_assign, NULL},
    {"initializer", "var", apply_initializer, NULL},
    {"global_variables_initializer", "name", apply_collection_initializer, NULL},
    {"local_variables_initializer", "name", apply_collection_initializer, NULL},
    {"variables_initializer", "var_list name", apply_variables_initializer, NULL},
    {NULL, NULL, NULL, NULL},
};
