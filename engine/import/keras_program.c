/* Keras layers as steps of a build program. Thread: the one that imports.
 *
 * The program makes each layer and its variables in a scope of the layer's name, then, below "predict", calls them on
 * predict/inputs, numbers of symbols [batch, window]. In a windowed model those are, where nothing is fed,
 * generate/window without its first symbol and with generate/symbol behind: the state of a step is the window itself,
 * and every step runs the layers over all of it from their zero states. Places before the text's beginning hold
 * symbol −1, whose one-hot vector is zero, or 0 where an embedding is looked up, as Keras' pad_sequences does. In other
 * models the layers' states are the step's. */
#include <strings.h>

#include "engine/import/keras_private.h"
#include "engine/nn/keras.h"

/* ---- steps ---- */

void keras_add_step(struct keras_program *program, json_t *list, json_t *step)
{
    program->has_failed = json_array_append_new(list, step) != 0 || program->has_failed;
}

struct keras_flow *keras_begin_result(struct keras_program *program, const struct keras_part *part)
{
    size_t index = (size_t)(part - program->design->parts);
    struct keras_flow *result = &program->results[index];
    *result = (struct keras_flow){.is_there = true};
    snprintf(result->name, sizeof result->name, "result_%zu", index);
    return result;
}

const struct keras_flow *keras_input_of(const struct keras_program *program, const struct keras_part *part,
                                        size_t index)
{
    return &program->results[part->inputs[index]];
}

void keras_choose_scope(const struct keras_program *program, const struct keras_part *part, const char *suffix,
                        char scope[KERAS_SCOPE_BYTES_MAX])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    static const char *const taken[] = {"predict", "generate", "layer"};
    size_t length = strlen(part->name);
    bool is_good = length > 0 && length < 64 && part->name[0] != '_' && strspn(part->name, letters) == length;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        is_good = is_good && strncasecmp(part->name, taken[i], strlen(taken[i])) != 0;
    }
    for (const struct keras_part *other = program->design->parts; is_good && other < part; other++) {
        is_good = strcasecmp(other->name, part->name) != 0;
    }
    if (is_good) {
        snprintf(scope, KERAS_SCOPE_BYTES_MAX, "%s%s", part->name, suffix);
    } else {
        snprintf(scope, KERAS_SCOPE_BYTES_MAX, "layer_%zu%s", (size_t)(part - program->design->parts), suffix);
    }
}

void keras_build_layer(struct keras_program *program, const char *layer, const char *scope,
                       const struct keras_flow *input)
{
    json_t *shape = !input->is_sequence ? json_pack("[n, I]", (json_int_t)input->width)
                    : input->width == 0 ? json_pack("[n, n]")
                                        : json_pack("[n, n, I]", (json_int_t)input->width);
    keras_add_step(program, program->layers,
                   json_pack("{s:s, s:s, s:[{s:s, s:s, s:o}]}", "op", "name_scope", "name", scope, "body", "op",
                             "build_model", "layer", layer, "input_shape", shape));
}

void keras_call_layer(struct keras_program *program, const char *layer, const struct keras_flow *input, const char *as)
{
    keras_add_step(
        program, program->calls,
        json_pack("{s:s, s:s, s:s, s:s}", "op", "call_layer", "layer", layer, "input", input->name, "as", as));
}

/* ---- functions ---- */

enum status keras_find_activation(const struct keras_program *program, const struct keras_part *part,
                                  const char *activation, const char **ret_name)
{
    bool is_new = keras_is_new(program->thinking->model->keras);
    *ret_name = strcmp(activation, "hard_sigmoid") == 0 && is_new ? "hard_sigmoid_3" : activation;
    return keras_activation_exists(activation)
               ? STATUS_OK
               : error_set(program->thinking->error, STATUS_UNSUPPORTED,
                           "layer %.100s: the activation %.60s is not built here", part->name, activation);
}

/* ---- the input ---- */

static void write_windowed_input(struct keras_program *program)
{
    json_int_t window = (json_int_t)program->design->window;
    json_int_t padding = program->has_embedding ? 0 : -1;
    json_t *list = program->layers;
    keras_add_step(program, list,
                   json_pack("{s:s, s:s, s:[i, i], s:s, s:s}", "op", "placeholder", "dtype", "int32", "shape", 1, 1,
                             "name", "generate/symbol", "as", "symbol"));
    keras_add_step(program, list,
                   json_pack("{s:s, s:[[i, I], I], s:s, s:s}", "op", "fill", "args", 1, window, padding, "name",
                             "generate/window", "as", "window"));
    keras_add_step(program, list,
                   json_pack("{s:s, s:[s, [i, i], [i, i]], s:s, s:s}", "op", "slice", "args", "window", 0, 1, -1, -1,
                             "name", "generate/kept", "as", "kept"));
    keras_add_step(program, list,
                   json_pack("{s:s, s:[s, s], s:i, s:s, s:s}", "op", "concat", "values", "kept", "symbol", "axis", 1,
                             "name", "generate/next_window", "as", "next_window"));
    keras_add_step(program, list,
                   json_pack("{s:s, s:[s], s:[n, I], s:s, s:s}", "op", "placeholder_with_default", "args",
                             "next_window", "shape", window, "name", "predict/inputs", "as", "inputs"));
    program->has_failed = json_array_append_new(program->states, json_string("window")) != 0 ||
                          json_array_append_new(program->next_states, json_string("next_window")) != 0 ||
                          program->has_failed;
}

static void write_open_input(struct keras_program *program)
{
    keras_add_step(program, program->layers,
                   json_pack("{s:s, s:s, s:[n, n], s:s, s:s}", "op", "placeholder", "dtype", "int32", "shape", "name",
                             "predict/inputs", "as", "inputs"));
    keras_add_step(program, program->calls,
                   json_pack("{s:s, s:[s], s:s}", "op", "shape", "args", "inputs", "as", "sizes"));
    keras_add_step(program, program->calls,
                   json_pack("{s:s, s:[s, [i], [i]], s:s}", "op", "slice", "args", "sizes", 0, 1, "as", "batch"));
}

/* Symbols as one-hot vectors, for the layers that take such. */
static enum status write_input(struct keras_program *program, const struct keras_part *part)
{
    struct keras_flow *result = keras_begin_result(program, part);
    size_t width = program->design->input_width;
    if (width > LANGUAGE_MODEL_UNITS_MAX) {
        return error_set(program->thinking->error, STATUS_TOO_LARGE, "inputs of %zu columns, at most %d", width,
                         LANGUAGE_MODEL_UNITS_MAX);
    }
    *result = (struct keras_flow){.is_there = true, .is_sequence = true, .width = width, .name = "inputs"};
    if (width > 0) {
        keras_add_step(program, program->calls,
                       json_pack("{s:s, s:[s, I], s:s, s:s}", "op", "one_hot", "args", "inputs", (json_int_t)width,
                                 "name", "one_hot", "as", "one_hot"));
        snprintf(result->name, sizeof result->name, "one_hot");
    }
    return STATUS_OK;
}

static bool needs_window(const struct keras_part *part)
{
    return part->is_bidirectional || part->goes_backwards || part->kind == KERAS_PART_ATTENTION ||
           part->kind == KERAS_PART_FLATTEN;
}

/* ---- the scores ---- */

/* The part that makes probabilities, behind which nothing is changed. */
static enum status find_scores(struct keras_program *program)
{
    const struct keras_design *design = program->design;
    const struct keras_part *part = &design->parts[design->output];
    for (size_t i = 0; part->kind == KERAS_PART_SAME && part->input_count == 1 && i < design->count; i++) {
        part = &design->parts[part->inputs[0]];
    }
    bool is_kind = part->kind == KERAS_PART_DENSE || part->kind == KERAS_PART_ACTIVATION;
    bool is_activation = strcmp(part->activation, "softmax") == 0 || strcmp(part->activation, "linear") == 0;
    program->scores = part;
    return is_kind && is_activation
               ? STATUS_OK
               : error_set(program->thinking->error, STATUS_UNSUPPORTED,
                           "the last layer, %.100s (%.60s, %.60s), gives no probabilities of symbols", part->name,
                           part->class, part->activation);
}

/* [batch, 1, symbols] of the last symbol of a window; else of each symbol that is read. */
static void write_scores(struct keras_program *program)
{
    const struct keras_flow *result = &program->results[program->design->output];
    const char *name = result->name;
    if (!result->is_sequence) {
        keras_add_step(program, program->calls,
                       json_pack("{s:s, s:[s, i], s:s, s:s}", "op", "expand_dims", "args", name, 1, "name", "logits",
                                 "as", "logits"));
    } else if (program->is_windowed) {
        keras_add_step(program, program->calls,
                       json_pack("{s:s, s:[s, [i, I, i], [i, i, i]], s:s, s:s}", "op", "slice", "args", name, 0,
                                 (json_int_t)program->design->window - 1, 0, -1, 1, -1, "name", "logits", "as",
                                 "logits"));
    } else {
        keras_add_step(
            program, program->calls,
            json_pack("{s:s, s:[s], s:s, s:s}", "op", "identity", "args", name, "name", "logits", "as", "logits"));
    }
    keras_add_step(program, program->calls,
                   json_pack("{s:s, s:[s], s:s}", "op", "softmax", "args", "logits", "name", "probabilities"));
    program->thinking->symbol_count = result->width;
}

/* ---- all of it ---- */

/* Marks what the output needs, directly or not. */
static void mark_needed(const struct keras_design *design, bool *is_needed)
{
    is_needed[design->output] = true;
    for (size_t round = 0; round < design->count; round++) {
        for (size_t i = 0; i < design->count; i++) {
            for (size_t k = 0; is_needed[i] && k < design->parts[i].input_count; k++) {
                is_needed[design->parts[i].inputs[k]] = true;
            }
        }
    }
}

static bool is_ready(const struct keras_program *program, const struct keras_part *part)
{
    for (size_t i = 0; i < part->input_count; i++) {
        if (!keras_input_of(program, part, i)->is_there) {
            return false;
        }
    }
    return true;
}

static enum status write_part(struct keras_program *program, const struct keras_part *part)
{
    if (part->kind == KERAS_PART_INPUT && part->input_count == 0) {
        return write_input(program, part);
    }
    if (!program->is_windowed && needs_window(part)) {
        return error_set(
            program->thinking->error, STATUS_UNSUPPORTED,
            "layer %.100s (%.60s) needs a text's end, and the file does not say how many symbols the model "
            "reads: say --set window=N",
            part->name, part->class);
    }
    return keras_write_layer(program, part);
}

/* Symbols are all that is fed. */
static enum status check_inputs(const struct keras_program *program, const bool *is_needed)
{
    const struct keras_design *design = program->design;
    size_t count = 0;
    for (size_t i = 0; i < design->count; i++) {
        const struct keras_part *part = &design->parts[i];
        count += is_needed[i] && part->kind == KERAS_PART_INPUT && part->input_count == 0 ? 1 : 0;
    }
    return count <= 1 ? STATUS_OK
                      : error_set(program->thinking->error, STATUS_UNSUPPORTED,
                                  "the output needs %zu inputs, symbols are one", count);
}

static enum status write_parts(struct keras_program *program)
{
    const struct keras_design *design = program->design;
    bool is_needed[KERAS_PARTS_MAX] = {false};
    bool has_moved = true;
    mark_needed(design, is_needed);
    TRY(check_inputs(program, is_needed));
    while (has_moved) {
        has_moved = false;
        for (size_t i = 0; i < design->count; i++) {
            if (is_needed[i] && !program->results[i].is_there && is_ready(program, &design->parts[i])) {
                TRY(write_part(program, &design->parts[i]));
                has_moved = true;
            }
        }
    }
    return program->results[design->output].is_there
               ? STATUS_OK
               : error_set(program->thinking->error, STATUS_CORRUPT, "layer %.100s is fed by itself",
                           design->parts[design->output].name);
}

enum status keras_write_program(struct keras_program *program)
{
    program->layers = json_array();
    program->calls = json_array();
    program->states = json_array();
    program->next_states = json_array();
    TRY(find_scores(program));
    if (program->is_windowed) {
        write_windowed_input(program);
    } else {
        write_open_input(program);
    }
    TRY(write_parts(program));
    write_scores(program);
    return program->has_failed ? foreign_no_memory(program->thinking->model, program->thinking->error) : STATUS_OK;
}

json_t *keras_finish_program(struct keras_program *program)
{
    json_t *steps = json_incref(program->layers);
    json_t *scope = json_pack("{s:s, s:s, s:O}", "op", "name_scope", "name", "predict", "body", program->calls);
    json_t *signature =
        json_pack("{s:s, s:s, s:{s:s, s:O}, s:{s:s, s:O}, s:O}", "op", "signature", "name", "generate", "inputs",
                  "symbol", program->is_windowed ? "symbol" : "inputs", "state", program->states, "outputs", "logits",
                  "logits", "state", program->next_states, "vocabulary", program->thinking->vocabulary);
    bool is_made = json_array_append_new(steps, scope) == 0;
    is_made = json_array_append_new(steps, signature) == 0 && is_made;
    return json_pack("{s:o}", "program", is_made ? steps : (json_decref(steps), NULL));
}

void keras_program_release(struct keras_program *program)
{
    json_decref(program->layers);
    json_decref(program->calls);
    json_decref(program->states);
    json_decref(program->next_states);
}
