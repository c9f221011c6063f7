/* Keras' recurrent layers as steps of a build program. Thread: the one that imports. */
#include "engine/import/keras_private.h"

static enum status check_sequence(const struct keras_program *program, const struct keras_part *part,
                                  const struct keras_flow *input, bool wants_sequence)
{
    return input->is_sequence == wants_sequence
               ? STATUS_OK
               : error_set(program->thinking->error, STATUS_UNSUPPORTED, "layer %.100s (%.60s) is fed %s", part->name,
                           part->class, wants_sequence ? "no sequence" : "a sequence");
}

/* A zero state of the size of the batch, and where the next one is. */
static void write_state(struct keras_program *program, const char *state, size_t units)
{
    char name[64];
    snprintf(name, sizeof name, "%.40s_sizes", state);
    keras_add_step(program, program->calls,
                   json_pack("{s:s, s:[s, [I]], s:i, s:s}", "op", "concat", "values", "batch", (json_int_t)units,
                             "axis", 0, "as", name));
    keras_add_step(program, program->calls,
                   json_pack("{s:s, s:[s, f], s:s, s:s}", "op", "fill", "args", name, 0.0, "name", state, "as", state));
    program->has_failed = json_array_append_new(program->states, json_string(state)) != 0 || program->has_failed;
    snprintf(name, sizeof name, "%.40s_next", state);
    program->has_failed = json_array_append_new(program->next_states, json_string(name)) != 0 || program->has_failed;
}

/* Calls a layer with states of its own. */
static void call_with_states(struct keras_program *program, const struct keras_part *part, const char *layer,
                             const char *input, size_t units, const char *output)
{
    static const char *const letters[] = {"h", "c"};
    json_t *initial = json_array();
    json_t *as = json_pack("[s]", output);
    for (size_t i = 0; i < (part->kind == KERAS_PART_LSTM ? 2u : 1u); i++) {
        char state[64];
        char next[80];
        snprintf(state, sizeof state, "%.40s_%s", layer, letters[i]);
        snprintf(next, sizeof next, "%s_next", state);
        write_state(program, state, units);
        program->has_failed = json_array_append_new(initial, json_string(state)) != 0 ||
                              json_array_append_new(as, json_string(next)) != 0 || program->has_failed;
    }
    keras_add_step(program, program->calls,
                   json_pack("{s:s, s:s, s:s, s:o, s:o}", "op", "call_layer", "layer", layer, "input", input,
                             "initial_state", initial, "as", as));
}

/* One direction of a layer. */
static enum status write_direction(struct keras_program *program, const struct keras_part *part, const char *direction,
                                   bool goes_backwards, const char *output, size_t *ret_units)
{
    static const char *const types[] = {
        [KERAS_PART_LSTM] = "lstm", [KERAS_PART_GRU] = "gru", [KERAS_PART_RNN] = "simple_rnn"};
    struct thinking *thinking = program->thinking;
    const struct keras_flow *input = keras_input_of(program, part, 0);
    struct keras_tensors tensors;
    struct keras_recurrent recurrent;
    const char *activation = NULL;
    const char *recurrent_activation = "sigmoid";
    char scope[KERAS_SCOPE_BYTES_MAX];
    char suffix[16] = "";
    char layer[32];
    snprintf(suffix, sizeof suffix, "%s%s", direction == NULL ? "" : "_", direction == NULL ? "" : direction);
    snprintf(layer, sizeof layer, "layer_%zu%s", (size_t)(part - program->design->parts), suffix);
    keras_find_tensors(thinking, part, direction, &tensors);
    TRY(keras_measure(thinking, part, &tensors, input->width, &recurrent));
    keras_choose_scope(program, part, suffix, scope);
    TRY(keras_add_recurrent(thinking, part, &tensors, &recurrent, scope));
    TRY(keras_find_activation(program, part, part->activation, &activation));
    if (part->kind != KERAS_PART_RNN) {
        TRY(keras_find_activation(program, part, part->recurrent_activation, &recurrent_activation));
    }
    json_t *step = json_pack("{s:s, s:s, s:I, s:s, s:s, s:b, s:b, s:b, s:b, s:b, s:s}", "op", types[part->kind], "name",
                             scope, "units", (json_int_t)recurrent.units, "activation", activation,
                             "recurrent_activation", recurrent_activation, "use_bias", recurrent.has_bias,
                             "reset_after", recurrent.resets_after, "return_sequences", part->returns_sequences,
                             "return_state", !program->is_windowed, "go_backwards", goes_backwards, "as", layer);
    keras_add_step(program, program->layers, step);
    keras_build_layer(program, layer, scope, input);
    if (program->is_windowed) {
        keras_add_step(program, program->calls,
                       json_pack("{s:s, s:s, s:s, s:s*, s:s}", "op", "call_layer", "layer", layer, "input", input->name,
                                 "mask", input->mask[0] == '\0' ? NULL : input->mask, "as", output));
    } else {
        call_with_states(program, part, layer, input->name, recurrent.units, output);
    }
    *ret_units = recurrent.units;
    return STATUS_OK;
}

/* Both directions, joined as merge_mode says. It is always the second whose sequence Keras turns, even where that one
 * reads forwards. */
static enum status write_bidirectional(struct keras_program *program, const struct keras_part *part)
{
    static const char *const modes[][2] = {{"concat", NULL}, {"sum", "add"}, {"mul", "multiply"}};
    const char *mode = part->merge_mode == NULL ? "none" : part->merge_mode;
    size_t row = 0;
    size_t units = 0;
    while (row < sizeof modes / sizeof *modes && strcmp(modes[row][0], mode) != 0) {
        row++;
    }
    if (row == sizeof modes / sizeof *modes) {
        return error_set(program->thinking->error, STATUS_UNSUPPORTED,
                         "layer %.100s: the merge mode %.60s is not built here", part->name, mode);
    }
    TRY(write_direction(program, part, "forward", part->goes_backwards, "forward", &units));
    TRY(write_direction(program, part, "backward", !part->goes_backwards, "backward", &units));
    struct keras_flow *result = keras_begin_result(program, part);
    result->is_sequence = part->returns_sequences;
    result->width = row == 0 ? 2 * units : units;
    if (part->returns_sequences) {
        keras_add_step(program, program->calls,
                       json_pack("{s:s, s:[s, [i]], s:s}", "op", "reverse", "args", "backward", 1, "as", "backward"));
    }
    json_t *step = row == 0 ? json_pack("{s:s, s:[s, s], s:i, s:s}", "op", "concat", "values", "forward", "backward",
                                        "axis", -1, "as", result->name)
                            : json_pack("{s:s, s:[s, s], s:s}", "op", modes[row][1], "args", "forward", "backward",
                                        "as", result->name);
    keras_add_step(program, program->calls, step);
    return STATUS_OK;
}

enum status keras_write_recurrent(struct keras_program *program, const struct keras_part *part)
{
    TRY(check_sequence(program, part, keras_input_of(program, part, 0), true));
    if (part->is_bidirectional) {
        return write_bidirectional(program, part);
    }
    struct keras_flow *result = keras_begin_result(program, part);
    result->is_sequence = part->returns_sequences;
    return write_direction(program, part, NULL, part->goes_backwards, result->name, &result->width);
}
