/* What the weights of a Keras model do not say: which layer makes probabilities, the functions of hidden layers and of
 * gates, how many symbols are read. Some of it is the rule, and said; the rest is asked for. Thread: the one that
 * imports. */
#include "engine/import/keras_private.h"

enum status keras_ask(const struct thinking *thinking, const char *what, const char *how)
{
    struct error *error = thinking->error;
    error_set(error, STATUS_UNPROCESSABLE, "%s: weights alone do not tell %s: say --set %s%s", thinking->model->entry,
              what, how,
              strcmp(thinking->model->format, "Keras HDF5") == 0 ? ", or give the model's JSON (model.to_json) beside"
                                                                 : "");
    return error_code(error, "ambiguous"), STATUS_UNPROCESSABLE;
}

/* ---- the output ---- */

/* Layers that compute with their inputs alone, or not at all. */
static bool is_weightless(const struct keras_part *part)
{
    return part->kind == KERAS_PART_INPUT || part->kind == KERAS_PART_SAME || part->kind == KERAS_PART_ACTIVATION ||
           part->kind == KERAS_PART_MASKING || part->kind == KERAS_PART_CONCATENATE;
}

/* The output layer is the last that has weights; an activation at the end is its softmax. `*ret_scores` is what makes
 * probabilities of it: that activation, or the layer itself. */
static enum status decide_output(struct thinking *thinking, struct keras_design *design, size_t *ret_output,
                                 size_t *ret_scores)
{
    size_t output = design->count - 1;
    while (output > 0 && is_weightless(&design->parts[output])) {
        output--;
    }
    if (output == 0) {
        return error_set(thinking->error, STATUS_UNPROCESSABLE, "%s: none of its layers has weights that are known",
                         thinking->model->entry);
    }
    size_t scores = design->count - 1;
    while (scores > output &&
           (design->parts[scores].kind != KERAS_PART_ACTIVATION || strcmp(design->parts[scores].class, "ReLU") == 0)) {
        scores--;
    }
    *ret_output = output;
    *ret_scores = scores;
    if (scores == output && design->parts[output].kind != KERAS_PART_DENSE) {
        return STATUS_OK; /* what its program refuses */
    }
    design->parts[scores].activation = "softmax";
    return think_note(thinking, "output", design->parts[output].name,
                      "the last layer with weights; %.100s is taken for its softmax, which weights alone do not tell",
                      scores == output ? "its activation" : design->parts[scores].name);
}

/* ---- hidden layers ---- */

/* The layer that computes an activation of this one's outputs; NULL: it has its own. */
static const struct keras_part *activation_behind(const struct keras_design *design, const struct keras_part *part)
{
    const struct keras_part *end = design->parts + design->count;
    do {
        part++;
    } while (part < end && (part->kind == KERAS_PART_SAME || part->kind == KERAS_PART_NORMALIZATION));
    return part < end && part->kind == KERAS_PART_ACTIVATION ? part : NULL;
}

/* Of dense layers and activations before the output. */
static enum status decide_hidden(struct thinking *thinking, struct keras_design *design, size_t output, size_t scores)
{
    bool is_said = false;
    for (size_t i = 0; i < design->count; i++) {
        struct keras_part *part = &design->parts[i];
        const struct keras_part *behind = part->kind == KERAS_PART_DENSE ? activation_behind(design, part) : NULL;
        char what[160];
        if ((part->kind != KERAS_PART_DENSE && part->kind != KERAS_PART_ACTIVATION) || i == output || i == scores) {
            continue;
        }
        if (behind != NULL) {
            TRY(think_note(thinking, "activation", "linear", "of %.100s: %.100s stands behind it", part->name,
                           behind->name));
            continue;
        }
        snprintf(what, sizeof what, "the activation of its hidden layer %.100s", part->name);
        const char *set = think_setting(thinking, "activation");
        if (set == NULL) {
            return keras_ask(thinking, what, "activation=linear, relu, tanh or another");
        }
        part->activation = set;
        if (!is_said) {
            TRY(think_note(thinking, "activation", set, "of its hidden layers: it was set"));
        }
        is_said = true;
    }
    return STATUS_OK;
}

/* ---- gates ---- */

/* The gates' activation that the version gave where nobody said another; NULL: it depends. */
static const char *default_activation(const char *version)
{
    bool is_tensorflow = version != NULL && strstr(version, "-tf") != NULL;
    long major = version == NULL ? 0 : strtol(version, NULL, 10);
    long minor = version == NULL || version[0] == '\0' || version[1] != '.' ? 0 : strtol(version + 2, NULL, 10);
    return major == 0                    ? NULL
           : major == 1                  ? "hard_sigmoid"
           : major >= 3 || minor >= 3    ? "sigmoid" /* 2.3.0 changed it */
           : minor < 2 || !is_tensorflow ? "hard_sigmoid"
                                         : NULL; /* 2.2.4-tf is TensorFlow 1.14 to 2.1, which differ */
}

static enum status decide_gates(struct thinking *thinking, struct keras_design *design, bool is_textgenrnn)
{
    const char *usual = is_textgenrnn ? "sigmoid" : default_activation(thinking->model->keras->version);
    for (size_t i = 0; i < design->count; i++) {
        struct keras_part *part = &design->parts[i];
        bool has_gates = part->kind == KERAS_PART_LSTM || part->kind == KERAS_PART_GRU;
        if (!has_gates || part->recurrent_activation != NULL) {
            continue; /* cuDNN's have but one */
        }
        const char *set = think_setting(thinking, "recurrent_activation");
        part->recurrent_activation = set != NULL ? set : usual;
        if (part->recurrent_activation == NULL) {
            return keras_ask(thinking, "the activation of its gates", "recurrent_activation=sigmoid or hard_sigmoid");
        }
    }
    return STATUS_OK;
}

/* ---- the length of inputs ---- */

/* Of several files beside the weights that say it, that whose name is most like theirs; NULL: none says it, or they
 * say different things (`*ret_other` is one of another value than `*ret_one`) and no name tells which is meant. */
static const struct foreign_hint *find_nearest_hint(const struct foreign_model *model, const char *key,
                                                    const struct foreign_hint **ret_one,
                                                    const struct foreign_hint **ret_other)
{
    size_t most = 0;
    *ret_one = *ret_other = NULL;
    for (size_t i = 0; i < model->hint_count; i++) {
        const struct foreign_hint *hint = &model->hints[i];
        if (strcmp(hint->key, key) != 0) {
            continue;
        }
        size_t likeness = hint->place == NULL ? SIZE_MAX : foreign_likeness(hint->place, model->entry);
        if (*ret_one == NULL || likeness > most) {
            *ret_one = hint;
            *ret_other = NULL;
            most = likeness;
        } else if (likeness == most && strcmp(hint->value, (*ret_one)->value) != 0) {
            *ret_other = hint;
        }
    }
    return *ret_other == NULL ? *ret_one : NULL;
}

static const char *place_of(const struct foreign_hint *hint)
{
    return hint->place != NULL ? hint->place : "the file";
}

static enum status decide_length(struct thinking *thinking, struct keras_design *design, bool is_textgenrnn)
{
    enum { TEXTGENRNN_LENGTH = 40 };
    const struct foreign_hint *one = NULL;
    const struct foreign_hint *other = NULL;
    char what[400] = "how many symbols its inputs have";
    const struct foreign_hint *length = find_nearest_hint(thinking->model, "max_length", &one, &other);
    if (think_setting(thinking, "window") != NULL) {
        return STATUS_OK;
    }
    if (is_textgenrnn && other != NULL) {
        snprintf(what, sizeof what, "how many symbols its inputs have (%.150s says %.20s, %.150s says %.20s)",
                 place_of(one), one->value, place_of(other), other->value);
    }
    if (!is_textgenrnn || other != NULL) {
        return keras_ask(thinking, what, "window=N, or window=none where a state is carried on");
    }
    if (length == NULL) {
        design->window = TEXTGENRNN_LENGTH;
        return think_note(thinking, "max_length", "40", "textgenrnn's default, no configuration says otherwise");
    }
    design->window = strtoul(length->value, NULL, 10);
    return think_note(thinking, "max_length", length->value, "%.200s says so", place_of(length));
}

enum status keras_decide_unsaid(struct thinking *thinking, struct keras_design *design, bool is_textgenrnn)
{
    size_t output = 0;
    size_t scores = 0;
    TRY(decide_output(thinking, design, &output, &scores));
    TRY(decide_hidden(thinking, design, output, scores));
    TRY(decide_gates(thinking, design, is_textgenrnn));
    return decide_length(thinking, design, is_textgenrnn);
}
