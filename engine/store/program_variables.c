/* Steps on variables: get_variable, variable, assign, initialisers. Thread: the building one. Owns nothing. */
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

static enum status read_collections(struct builder *builder, const struct step *step, struct variable_options *options)
{
    const json_t *list = json_object_get(step->json, "collections");
    const char **keys = NULL;
    if (list == NULL || json_is_null(list)) {
        return STATUS_OK;
    }
    if (!json_is_array(list) || json_array_size(list) > GRAPH_COLLECTIONS_MAX) {
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
    bool is_new = false;
    TRY(need_text(builder, step, "name", &options.name));
    TRY(read_variable_options(builder, step, &options));
    TRY(read_initializer(builder, step, "initializer", &options.initializer));
    TRY(get_variable(builder->graph, &options, &variable, &is_new, builder->error));
    TRY(builder_note_variable(builder, variable, is_new));
    struct handle handle = handle_variable(variable);
    builder_give(builder, &handle);
    return STATUS_OK;
}

const struct step_kind program_variable_steps[] = {
    {"get_variable", "name shape dtype initializer regularizer trainable collections synchronization",
     apply_get_variable, NULL},
    {NULL, NULL, NULL, NULL},
};
