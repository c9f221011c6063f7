/* The step that makes a whole text model: language_model. Thread: the building one. Owns
 * nothing. */
#include <math.h>

#include "engine/store/program_private.h"

static const double NUMBER_MAX = 100;

/* ---- a language_model's specification ---- */

/* All but its vocabulary and heads. */
#define MODEL_FIELDS                                                                                                   \
    "cell layers units embedding tie residual dropout input_dropout variational_dropout forget_bias initial_range"

static enum status refuse(struct error *error, const char *field, const char *expected)
{
    enum status status = error_set(error, STATUS_INVALID, "/%s: %s", field, expected);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "/%.40s", field);
    }
    return status;
}

static enum status check_specification(const json_t *specification, struct error *error)
{
    const char *key;
    json_t *value;
    if (!json_is_object(specification)) {
        return error_set(error, STATUS_INVALID, "a language_model is an object");
    }
    json_object_foreach((json_t *)(uintptr_t)specification, key, value)
    {
        if (!word_is_in(key, MODEL_FIELDS " vocabulary heads as")) {
            return refuse(error, key, "unknown field");
        }
    }
    return STATUS_OK;
}

static enum status read_size(const json_t *object, const char *field, size_t least, size_t most, size_t *size,
                             struct error *error)
{
    const json_t *value = json_object_get(object, field);
    if (value == NULL) {
        return STATUS_OK;
    }
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < (json_int_t)least || number > (json_int_t)most) {
        char expected[96];
        snprintf(expected, sizeof expected, "must be a whole number from %zu to %zu", least, most);
        return refuse(error, field, expected);
    }
    *size = (size_t)number;
    return STATUS_OK;
}

static enum status read_heads(const json_t *specification, struct language_model_options *options, struct error *error)
{
    const json_t *heads = json_object_get(specification, "heads");
    if (heads == NULL) {
        options->has_train_head = options->has_predict_head = true;
        return STATUS_OK;
    }
    for (size_t i = 0; i < json_array_size(heads); i++) {
        const char *head = json_string_value(json_array_get(heads, i));
        if (head == NULL || (strcmp(head, "train") != 0 && strcmp(head, "predict") != 0)) {
            return refuse(error, "heads", "must list \"train\" and \"predict\"");
        }
        options->has_train_head = options->has_train_head || head[0] == 't';
        options->has_predict_head = options->has_predict_head || head[0] == 'p';
    }
    if (!options->has_train_head && !options->has_predict_head) {
        return refuse(error, "heads", "must list \"train\", \"predict\" or both");
    }
    return STATUS_OK;
}

static enum status read_kind(const json_t *specification, struct language_model_options *options, struct error *error)
{
    const json_t *cell = json_object_get(specification, "cell");
    if (cell != NULL && !(json_is_string(cell) && recurrent_cell_find(json_string_value(cell), &options->cell))) {
        return refuse(error, "cell", "must be \"lstm\", \"gru\" or \"rnn\"");
    }
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"tie", &options->is_tied},
                 {"residual", &options->is_residual},
                 {"input_dropout", &options->has_input_dropout},
                 {"variational_dropout", &options->has_one_mask}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        const json_t *flag = json_object_get(specification, flags[i].name);
        if (flag != NULL && !json_is_boolean(flag)) {
            return refuse(error, flags[i].name, "must be true or false");
        }
        *flags[i].flag = json_is_true(flag);
    }
    return STATUS_OK;
}

static enum status read_numbers(const json_t *specification, struct language_model_options *options,
                                struct error *error)
{
    const json_t *dropout = json_object_get(specification, "dropout");
    options->dropout = json_number_value(dropout);
    if (dropout != NULL &&
        (!json_is_number(dropout) || !(options->dropout >= 0 && options->dropout <= LANGUAGE_MODEL_DROPOUT_MAX))) {
        char expected[64];
        snprintf(expected, sizeof expected, "must be a number from 0 to %g", LANGUAGE_MODEL_DROPOUT_MAX);
        return refuse(error, "dropout", expected);
    }
    const json_t *bias = json_object_get(specification, "forget_bias");
    options->has_forget_bias = bias != NULL;
    options->forget_bias = json_number_value(bias);
    if (bias != NULL && (!json_is_number(bias) || !(fabs(options->forget_bias) <= NUMBER_MAX))) {
        return refuse(error, "forget_bias", "must be a number from -100 to 100");
    }
    if (bias != NULL && options->cell != RECURRENT_CELL_LSTM) {
        return refuse(error, "forget_bias", "only an lstm has one");
    }
    const json_t *range = json_object_get(specification, "initial_range");
    options->initial_range = json_number_value(range);
    if (range != NULL && !json_is_null(range) &&
        (!json_is_number(range) || !(options->initial_range > 0 && options->initial_range <= NUMBER_MAX))) {
        return refuse(error, "initial_range", "must be null or a number above 0, at most 100");
    }
    return STATUS_OK;
}

enum status language_model_options_from_json(const json_t *specification, struct language_model_options *ret_options,
                                             struct error *error)
{
    struct language_model_options options = {.layers = 2, .units = 128};
    TRY(check_specification(specification, error));
    TRY(read_kind(specification, &options, error));
    TRY(read_size(specification, "layers", 1, LANGUAGE_MODEL_LAYERS_MAX, &options.layers, error));
    TRY(read_size(specification, "units", 1, LANGUAGE_MODEL_UNITS_MAX, &options.units, error));
    if (!json_is_null(json_object_get(specification, "embedding"))) {
        TRY(read_size(specification, "embedding", 1, LANGUAGE_MODEL_UNITS_MAX, &options.embedding, error));
    }
    if (options.is_tied && options.embedding != options.units) {
        char expected[128];
        snprintf(expected, sizeof expected, "needs an embedding of %zu, the units of the top layer, not %zu",
                 options.units, options.embedding);
        return refuse(error, "tie", expected);
    }
    if (options.has_input_dropout && options.embedding == 0) {
        return refuse(error, "input_dropout", "needs an embedding");
    }
    TRY(read_numbers(specification, &options, error));
    TRY(read_heads(specification, &options, error));
    *ret_options = options;
    return STATUS_OK;
}

json_t *language_model_options_to_json(const struct language_model_options *options)
{
    json_t *json =
        json_pack("{s:s, s:I, s:I, s:o, s:b, s:b, s:f, s:b, s:b, s:o}", "cell", recurrent_cell_name(options->cell),
                  "layers", (json_int_t)options->layers, "units", (json_int_t)options->units, "embedding",
                  options->embedding == 0 ? json_null() : json_integer((json_int_t)options->embedding), "tie",
                  options->is_tied, "residual", options->is_residual, "dropout", options->dropout, "input_dropout",
                  options->has_input_dropout, "variational_dropout", options->has_one_mask, "initial_range",
                  options->initial_range > 0 ? json_real(options->initial_range) : json_null());
    if (json != NULL && options->cell == RECURRENT_CELL_LSTM &&
        json_object_set_new(json, "forget_bias", json_real(language_model_forget_bias(options))) != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* ---- the step ---- */

static enum status note_variables(struct builder *builder, size_t count_before)
{
    for (size_t i = 0; i < graph_variable_count(builder->graph); i++) {
        const struct variable *variable = graph_variable(builder->graph, i);
        if (!variable->is_slot) {
            TRY(builder_note_variable(builder, variable, i >= count_before));
        }
    }
    return STATUS_OK;
}

static enum status read_specification(struct builder *builder, const struct step *step,
                                      struct language_model_options *ret_options)
{
    json_t *specification = json_copy((json_t *)(uintptr_t)step->json);
    if (specification == NULL) {
        return builder_no_memory(builder);
    }
    json_object_del(specification, "op");
    enum status status = language_model_options_from_json(specification, ret_options, builder->error);
    json_decref(specification);
    if (status != STATUS_OK) {
        error_move(builder->error, "", step->path);
    }
    return status;
}

enum status take_vocabulary(struct builder *builder, const struct step *step)
{
    struct vocabulary *vocabulary = NULL;
    enum status status = vocabulary_from_json(json_object_get(step->json, "vocabulary"), &vocabulary, builder->error);
    if (status != STATUS_OK) {
        error_move(builder->error, "", "/vocabulary");
        error_move(builder->error, "", step->path);
        return status;
    }
    vocabulary_unref(builder->result.vocabulary);
    builder->result.vocabulary = vocabulary;
    return STATUS_OK;
}

enum status check_vocabulary(struct builder *builder)
{
    const struct vocabulary *vocabulary = builder->result.vocabulary;
    if (builder->vocabulary == NULL || vocabulary_equal(vocabulary, builder->vocabulary)) {
        return STATUS_OK;
    }
    error_set(builder->error, STATUS_CONFLICT, "the model has another vocabulary, of %zu symbols; this one has %zu",
              vocabulary_size(builder->vocabulary), vocabulary_size(vocabulary));
    return error_code(builder->error, "vocabulary_exists"), STATUS_CONFLICT;
}

static enum status apply_language_model(struct builder *builder, const struct step *step)
{
    struct language_model_options options;
    TRY(read_specification(builder, step, &options));
    if (json_object_get(step->json, "vocabulary") == NULL) {
        return refuse_field(builder, step, "vocabulary", "a build step needs one");
    }
    TRY(take_vocabulary(builder, step));
    options.vocabulary_size = vocabulary_size(builder->result.vocabulary);
    size_t count_before = graph_variable_count(builder->graph);
    TRY(language_model_build(builder->graph, &options, builder->error));
    TRY(check_vocabulary(builder));
    return note_variables(builder, count_before);
}

const struct step_kind program_model_steps[] = {
    {"language_model", MODEL_FIELDS " vocabulary heads", apply_language_model, NULL},
    {NULL, NULL, NULL, NULL},
};
