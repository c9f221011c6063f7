/* Steps on scopes: variable_scope, name_scope, get_variable_scope and what changes a scope; collections; finalize.
 * Thread: the building one. Owns nothing. */
#include "engine/store/program_private.h"

/* ---- variable_scope ---- */

static enum status read_scope_name(struct builder *builder, const struct step *step,
                                   struct variable_scope_options *options)
{
    const json_t *scope = json_object_get(step->json, "scope");
    if (scope != NULL && !json_is_null(scope)) {
        const struct handle *handle = NULL;
        TRY(read_handle_field(builder, step, "scope", &handle));
        if (handle->kind != HANDLE_OBJECT || handle->object_kind != OBJECT_SCOPE) {
            struct place at_step = {.field = step->path};
            struct place place = {.above = &at_step, .field = "scope"};
            return raise_place(builder, &place, EXCEPTION_TYPE,
                               "VariableScope: name_or_scope must be a string or VariableScope.");
        }
        options->is_scope = true;
        options->scope = handle->object_id;
        return STATUS_OK;
    }
    const json_t *name = json_object_get(step->json, "name");
    if (name != NULL && !json_is_null(name) && !json_is_string(name)) {
        struct place at_step = {.field = step->path};
        struct place place = {.above = &at_step, .field = "name"};
        return raise_place(builder, &place, EXCEPTION_TYPE,
                           "VariableScope: name_or_scope must be a string or VariableScope.");
    }
    TRY(read_text(builder, step, "name", &options->name));
    return read_text(builder, step, "default_name", &options->default_name);
}

static enum status read_auxiliary(struct builder *builder, const struct step *step, bool *ret_keeps)
{
    const json_t *value = json_object_get(step->json, "auxiliary_name_scope");
    if (value != NULL && !json_is_boolean(value)) {
        struct place at_step = {.field = step->path};
        struct place place = {.above = &at_step, .field = "auxiliary_name_scope"};
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        size_t length = text == NULL ? 0 : strlen(text);
        bool is_quoted = length >= 2 && text[0] == '"';
        enum status status = raise_place(builder, &place, EXCEPTION_TYPE,
                                         "The auxiliary_name_scope must be `True` or `False`, while get %.*s",
                                         (int)(is_quoted ? length - 2 : length), text == NULL ? "" : text + is_quoted);
        free(text);
        return status;
    }
    *ret_keeps = json_is_false(value);
    return STATUS_OK;
}

static bool is_given(const struct step *step, const char *field)
{
    const json_t *value = json_object_get(step->json, field);
    return value != NULL && !json_is_null(value);
}

/* TensorFlow looks at the arguments in this order. */
static enum status enter_variable_scope(struct builder *builder, const struct step *step, struct context *context)
{
    struct variable_scope_options options = {.name = NULL};
    if (is_given(step, "name") || is_given(step, "scope") || is_given(step, "default_name")) {
        TRY(read_reuse(builder, step, &options.reuse));
        TRY(read_auxiliary(builder, step, &options.keeps_name_scope));
    }
    TRY(read_scope_name(builder, step, &options));
    TRY(read_dtype(builder, step, "dtype", &options.has_dtype, &options.dtype));
    TRY(read_initializer(builder, step, "initializer", &options.initializer));
    TRY(read_regularizer(builder, step, "regularizer", &options.regularizer));
    TRY(read_text(builder, step, "constraint", &options.constraint));
    TRY(variable_scope_open(builder->graph, &options, &context->frame, builder->error));
    context->kind = CONTEXT_VARIABLE_SCOPE;
    struct handle scope = handle_object(OBJECT_SCOPE, context->frame.scope);
    builder_give(builder, &scope);
    return STATUS_OK;
}

/* ---- name_scope ---- */

/* {"scope_of":"tower"}: the original name scope of a variable scope; {"text_of":"s"}: the text a result is. */
static enum status read_name_of(struct builder *builder, const json_t *object, const struct place *place,
                                const char **ret_name)
{
    const json_t *scope_of = json_object_get(object, "scope_of");
    const json_t *text_of = json_object_get(object, "text_of");
    const struct handle *handle = NULL;
    if (json_object_size(object) != 1 || (scope_of == NULL && text_of == NULL)) {
        return refuse_place(builder, place, "must be a text, null, {\"scope_of\":scope} or {\"text_of\":result}");
    }
    TRY(read_handle(builder, scope_of == NULL ? text_of : scope_of, place, &handle));
    if (scope_of != NULL && handle->kind == HANDLE_OBJECT && handle->object_kind == OBJECT_SCOPE) {
        *ret_name = variable_scope_at(builder->graph, handle->object_id)->original_name_scope;
        return STATUS_OK;
    }
    if (text_of != NULL && handle->kind == HANDLE_TEXT) {
        *ret_name = handle->text;
        return STATUS_OK;
    }
    return refuse_place(builder, place, "names no %s", scope_of != NULL ? "variable scope" : "text");
}

static enum status enter_name_scope(struct builder *builder, const struct step *step, struct context *context)
{
    const json_t *json = json_object_get(step->json, "name");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "name"};
    const char *name = NULL;
    if (json_is_object(json)) {
        TRY(read_name_of(builder, json, &place, &name));
    } else {
        TRY(read_text(builder, step, "name", &name));
    }
    if (name == NULL) {
        TRY(read_text(builder, step, "default_name", &name));
    }
    TRY(graph_enter_name_scope(builder->graph, name == NULL ? "" : name, &context->previous_name_scope,
                               builder->error));
    context->kind = CONTEXT_NAME_SCOPE;
    const char *prefix = graph_name_scope(builder->graph);
    char *yielded = NULL;
    TRY(builder_scratch(builder, strlen(prefix) + 2, 1, &yielded));
    bool is_root = name == NULL || name[0] == '\0'; /* "/" is not: it yields "/", though its prefix is empty */
    snprintf(yielded, strlen(prefix) + 2, "%s%s", prefix, is_root ? "" : "/");
    struct handle text = {.kind = HANDLE_TEXT, .text = yielded};
    builder_give(builder, &text);
    return STATUS_OK;
}

/* ---- scope objects ---- */

static enum status apply_get_variable_scope(struct builder *builder, const struct step *step)
{
    (void)step;
    struct handle scope = handle_object(OBJECT_SCOPE, variable_scope_current(builder->graph));
    builder_give(builder, &scope);
    return STATUS_OK;
}

static enum status apply_reuse_variables(struct builder *builder, const struct step *step)
{
    uint32_t scope = 0;
    TRY(read_scope(builder, step, "scope", &scope));
    return variable_scope_reuse_variables(builder->graph, scope, builder->error);
}

static enum status apply_set_initializer(struct builder *builder, const struct step *step)
{
    uint32_t scope = 0;
    struct initializer initializer = {.kind = INITIALIZER_DEFAULT};
    TRY(read_scope(builder, step, "scope", &scope));
    TRY(read_initializer(builder, step, "initializer", &initializer));
    return variable_scope_set_initializer(builder->graph, scope, &initializer, builder->error);
}

static enum status apply_set_regularizer(struct builder *builder, const struct step *step)
{
    uint32_t scope = 0;
    struct regularizer regularizer = {.kind = REGULARIZER_INHERIT};
    TRY(read_scope(builder, step, "scope", &scope));
    TRY(read_regularizer(builder, step, "regularizer", &regularizer));
    return variable_scope_set_regularizer(builder->graph, scope, &regularizer, builder->error);
}

static enum status apply_set_dtype(struct builder *builder, const struct step *step)
{
    uint32_t scope = 0;
    bool has_dtype = false;
    enum dtype dtype = DTYPE_FLOAT32;
    TRY(read_scope(builder, step, "scope", &scope));
    TRY(read_dtype(builder, step, "dtype", &has_dtype, &dtype));
    if (!has_dtype) {
        return refuse_field(builder, step, "dtype", "must be given");
    }
    return variable_scope_set_dtype(builder->graph, scope, dtype, builder->error);
}

static enum status apply_finalize(struct builder *builder, const struct step *step)
{
    (void)step;
    graph_finalize(builder->graph);
    return STATUS_OK;
}

const struct step_kind program_scope_steps[] = {
    {"variable_scope",
     "name scope default_name reuse initializer regularizer dtype constraint auxiliary_name_scope body", NULL,
     enter_variable_scope},
    {"name_scope", "name default_name body", NULL, enter_name_scope},
    {"get_variable_scope", "", apply_get_variable_scope, NULL},
    {"reuse_variables", "scope", apply_reuse_variables, NULL},
    {"set_initializer", "scope initializer", apply_set_initializer, NULL},
    {"set_regularizer", "scope regularizer", apply_set_regularizer, NULL},
    {"set_dtype", "scope dtype", apply_set_dtype, NULL},
    {"finalize", "", apply_finalize, NULL},
    {NULL, NULL, NULL, NULL},
};
