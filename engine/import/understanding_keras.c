/* What a Keras model is: its layers, how it reads a text, its symbols. Thread: the one that imports. */
#include "engine/import/keras_private.h"

enum { WINDOW_MAX = 4096, SUMMARY_BYTES_MAX = 400 };

/* ---- how it reads ---- */

static bool is_stateful(const struct keras_design *design)
{
    for (size_t i = 0; i < design->count; i++) {
        if (design->parts[i].is_stateful) {
            return true;
        }
    }
    return false;
}

/* "window" as it was set. */
static enum status set_window(const struct thinking *thinking, const char *set, size_t *ret_window)
{
    char *end;
    unsigned long number = strtoul(set, &end, 10);
    bool is_none = strcmp(set, "none") == 0;
    if (!is_none && (*set < '0' || *set > '9' || *end != '\0' || number < 1 || number > WINDOW_MAX)) {
        return error_set(thinking->error, STATUS_INVALID, "window=%.60s is neither a number from 1 to %d nor none", set,
                         WINDOW_MAX);
    }
    *ret_window = is_none ? 0 : (size_t)number;
    return STATUS_OK;
}

/* Windowed where the inputs have a length and nothing carries a state on; without a length both are the same. */
static enum status decide_window(struct thinking *thinking, struct keras_design *design)
{
    const char *set = think_setting(thinking, "window");
    bool carries = is_stateful(design);
    char text[64];
    if (set != NULL) {
        TRY(set_window(thinking, set, &design->window));
    } else if (carries) {
        design->window = 0;
    }
    if (design->window > WINDOW_MAX) {
        return error_set(thinking->error, STATUS_TOO_LARGE, "its inputs are %zu symbols long, at most %d",
                         design->window, WINDOW_MAX);
    }
    if (design->window == 0) {
        return think_note(thinking, "generation", "stateful", "%s: the state is carried from symbol to symbol",
                          set != NULL ? "it was set"
                          : carries   ? "its layers are stateful"
                                      : "its inputs may have any length");
    }
    snprintf(text, sizeof text, "windowed, %zu symbols", design->window);
    return think_note(thinking, "generation", text,
                      "%s: for every symbol the last %zu are read anew from a zero state; places before the text's "
                      "beginning are %s",
                      set != NULL ? "it was set" : "its inputs are that long and its layers not stateful",
                      design->window, design->input_width == 0 ? "symbol 0" : "zero vectors");
}

/* ---- what it is ---- */

/* "LSTM 256, Dense 57" */
static enum status note_design(struct thinking *thinking, const struct keras_design *design)
{
    const struct foreign_keras *keras = thinking->model->keras;
    char summary[SUMMARY_BYTES_MAX] = "";
    size_t length = 0;
    for (size_t i = 0; i < design->count && length < sizeof summary; i++) {
        const struct keras_part *part = &design->parts[i];
        if (part->kind == KERAS_PART_INPUT || part->kind == KERAS_PART_SAME) {
            continue;
        }
        length += (size_t)snprintf(summary + length, sizeof summary - length, "%s%.60s", length == 0 ? "" : ", ",
                                   part->class);
        if (part->units > 0 && length < sizeof summary) {
            length += (size_t)snprintf(summary + length, sizeof summary - length, " %zu", part->units);
        }
    }
    return think_note(thinking, "layers", summary, "%.200s has their %s, of %s%.40s",
                      keras->config_file != NULL ? keras->config_file : thinking->model->entry,
                      design->is_inferred ? "weights alone" : "configuration",
                      keras->is_javascript     ? "TensorFlow.js"
                      : keras->version == NULL ? "an unknown Keras"
                                               : "Keras ",
                      keras->is_javascript || keras->version == NULL ? "" : keras->version);
}

/* What its recurrent layers compute with. */
static enum status note_gates(struct thinking *thinking, const struct keras_design *design)
{
    bool has_lstm = false;
    const char *activation = NULL;
    for (size_t i = 0; i < design->count; i++) {
        const struct keras_part *part = &design->parts[i];
        has_lstm = has_lstm || part->kind == KERAS_PART_LSTM;
        bool has_gates = part->kind == KERAS_PART_LSTM || part->kind == KERAS_PART_GRU;
        activation = has_gates && activation == NULL ? part->recurrent_activation : activation;
    }
    if (has_lstm) {
        TRY(think_note(thinking, "gate order", "i, f, c, o", "Keras keeps them so"));
        TRY(think_note(thinking, "forget bias", "0", "Keras keeps it in the stored bias"));
    }
    if (activation == NULL) {
        return STATUS_OK;
    }
    const char *meaning = strcmp(activation, "hard_sigmoid") != 0 && design->is_inferred
                              ? "of CuDNN's layout, of textgenrnn or of its version, or it was set"
                          : strcmp(activation, "hard_sigmoid") != 0 ? "its configuration says so"
                          : keras_is_new(thinking->model->keras)
                              ? "clip(x / 6 + 0.5, 0, 1), as Keras 3 defines it"
                              : "clip(0.2 x + 0.5, 0, 1), as Keras defined it before 3";
    return think_note(thinking, "recurrent activation", activation, "%s", meaning);
}

/* Symbols come in as they go out. */
static enum status check_input(struct thinking *thinking, const struct keras_design *design)
{
    size_t width = thinking->embedding != NULL ? think_dimension(thinking->embedding, 0) : design->input_width;
    char text[64];
    if (width != thinking->symbol_count) {
        return error_set(thinking->error, STATUS_UNSUPPORTED,
                         "its inputs are %s %zu, but it predicts %zu symbols: it does not read what it writes",
                         thinking->embedding != NULL ? "numbers below" : "vectors of", width, thinking->symbol_count);
    }
    snprintf(text, sizeof text, "%zu symbols", width);
    return think_note(thinking, "input", thinking->embedding != NULL ? "embedding" : "one-hot",
                      "of %s, as many as it predicts", text);
}

/* Weights alone may be of more than was understood; a configuration says what there is. Single numbers count steps and
 * the like; an optimiser's are left out. */
static enum status check_rest(const struct thinking *thinking, bool is_inferred)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    bool is_checked = is_inferred && think_setting(thinking, "rest") == NULL;
    for (size_t i = 0; is_checked && i < thinking->model->tensor_count; i++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        size_t count = 0;
        bool is_weight = shape_element_count(&tensor->shape, &count) && count > 1 && dtype_is_float(tensor->dtype) &&
                         strncmp(tensor->name, "optimizer/", 10) != 0;
        if (is_weight && !thinking->is_used[i]) {
            error_set(
                thinking->error, STATUS_UNPROCESSABLE,
                "%.200s of shape %s belongs to no layer that is known: the model does more than is understood; if "
                "nothing depends on it, say --set rest=ignored",
                tensor->name, shape_text(&tensor->shape, text));
            return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
        }
    }
    return STATUS_OK;
}

enum status think_keras(struct thinking *thinking)
{
    struct keras_design design;
    if (thinking->model->keras->config == NULL) {
        TRY(keras_design_infer(thinking, &design));
    } else {
        TRY(keras_design_read(thinking->model, thinking->settings, &design, thinking->error));
    }
    TRY(note_design(thinking, &design));
    TRY(note_gates(thinking, &design));
    TRY(decide_window(thinking, &design));
    struct keras_program program = {.thinking = thinking, .design = &design, .is_windowed = design.window > 0};
    program.has_embedding = design.input_width == 0;
    enum status status = keras_write_program(&program);
    if (status == STATUS_OK) {
        status = check_rest(thinking, design.is_inferred);
    }
    if (status == STATUS_OK) {
        status = check_input(thinking, &design);
    }
    if (status == STATUS_OK) {
        status = think_find_vocabulary(thinking);
    }
    if (status == STATUS_OK) {
        thinking->result->program = keras_finish_program(&program);
        json_decref(thinking->vocabulary);
        thinking->vocabulary = NULL;
        status = thinking->result->program == NULL ? foreign_no_memory(thinking->model, thinking->error) : STATUS_OK;
    }
    keras_program_release(&program);
    return status;
}
