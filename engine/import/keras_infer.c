/* Keras models of which only the weights were kept: what their names and shapes tell. Thread: the one that imports.
 *
 * Layers stand in the order of layer_names and feed one another; whether a recurrent one gives sequences, the next one
 * tells. textgenrnn's layers ("rnn_1", "rnn_concat", "attention") are known: embedding and recurrent layers are joined,
 * and averaged by attention. What neither tells (activations of gates and of hidden layers, the length of inputs) is
 * asked for. */
#include "engine/import/keras_private.h"

struct inferring {
    struct thinking *thinking;
    struct keras_design *design;
};

static enum status ask(const struct inferring *inferring, const char *what, const char *how)
{
    struct error *error = inferring->thinking->error;
    error_set(error, STATUS_UNPROCESSABLE, "%s: weights alone do not tell %s: say --set %s%s",
              inferring->thinking->model->entry, what, how,
              strcmp(inferring->thinking->model->format, "Keras HDF5") == 0
                  ? ", or give the model's JSON (model.to_json) beside"
                  : "");
    return error_code(error, "ambiguous"), STATUS_UNPROCESSABLE;
}

/* ---- layers ---- */

static bool has_direction(const struct inferring *inferring, const struct keras_part *part)
{
    struct keras_tensors forward;
    keras_find_tensors(inferring->thinking, part, "forward", &forward);
    return forward.of[KERAS_ROLE_RECURRENT] != NULL &&
           strstr(forward.of[KERAS_ROLE_RECURRENT]->name, "/forward") != NULL;
}

static bool is_named(const struct foreign_tensor *tensor, const char *name)
{
    const char *slash = tensor == NULL ? NULL : strrchr(tensor->name, '/');
    return slash != NULL && strncmp(slash + 1, name, strlen(name)) == 0;
}

/* The kind of a recurrent layer, by how many times its units its recurrent kernel has columns. */
static enum status infer_recurrent(const struct inferring *inferring, struct keras_part *part,
                                   const struct keras_tensors *tensors)
{
    static const struct {
        size_t gates;
        enum keras_part_kind kind;
        const char *class;
    } rows[] = {{4, KERAS_PART_LSTM, "LSTM"}, {3, KERAS_PART_GRU, "GRU"}, {1, KERAS_PART_RNN, "SimpleRNN"}};
    const struct foreign_tensor *recurrent = tensors->of[KERAS_ROLE_RECURRENT];
    const struct foreign_tensor *bias = tensors->of[KERAS_ROLE_BIAS];
    size_t units = think_dimension(recurrent, 0);
    size_t columns = think_dimension(recurrent, 1);
    part->units = units;
    part->activation = "tanh";
    for (size_t i = 0; i < sizeof rows / sizeof *rows && part->class == NULL; i++) {
        if (units > 0 && units < SIZE_MAX / 8 && columns == rows[i].gates * units) {
            part->kind = rows[i].kind;
            part->class = rows[i].class;
        }
    }
    if (part->class == NULL) {
        return error_set(inferring->thinking->error, STATUS_UNPROCESSABLE,
                         "%.200s has %zu rows and %zu columns: neither an LSTM's (1 : 4), a GRU's (1 : 3) nor an RNN's",
                         recurrent->name, units, columns);
    }
    bool is_cudnn = bias != NULL && bias->shape.rank == 1 && think_dimension(bias, 0) == 2 * columns;
    if (is_cudnn) {
        part->class = part->kind == KERAS_PART_LSTM ? "CuDNNLSTM" : "CuDNNGRU";
        part->recurrent_activation = "sigmoid";
    }
    return STATUS_OK;
}

static enum status infer_part(const struct inferring *inferring, const char *name)
{
    struct keras_design *design = inferring->design;
    struct keras_part part = {.name = name, .stored = "", .activation = "linear"};
    struct keras_tensors tensors;
    if (design->count >= KERAS_PARTS_MAX) {
        return error_set(inferring->thinking->error, STATUS_LIMIT, "more than %d layers", KERAS_PARTS_MAX);
    }
    part.is_bidirectional = has_direction(inferring, &part);
    part.merge_mode = part.is_bidirectional ? "concat" : NULL;
    keras_find_tensors(inferring->thinking, &part, part.is_bidirectional ? "forward" : NULL, &tensors);
    const struct foreign_tensor *kernel = tensors.of[KERAS_ROLE_KERNEL];
    part.epsilon = 1e-3;
    if (tensors.of[KERAS_ROLE_RECURRENT] != NULL) {
        TRY(infer_recurrent(inferring, &part, &tensors));
    } else if (tensors.of[KERAS_ROLE_GAMMA] != NULL || tensors.of[KERAS_ROLE_MEAN] != NULL) {
        part.kind = KERAS_PART_NORMALIZATION;
        part.class = "BatchNormalization";
    } else if (is_named(kernel, "embeddings")) {
        part.kind = KERAS_PART_EMBEDDING;
        part.class = "Embedding";
        part.units = think_dimension(kernel, 1);
    } else if (is_named(kernel, "attention_W")) {
        part.kind = KERAS_PART_ATTENTION;
        part.class = "AttentionWeightedAverage";
    } else if (kernel != NULL) {
        part.kind = KERAS_PART_DENSE;
        part.class = "Dense";
        part.units = think_dimension(kernel, 1);
    } else {
        part.kind = strcmp(name, "rnn_concat") == 0 ? KERAS_PART_CONCATENATE : KERAS_PART_SAME;
        part.class = part.kind == KERAS_PART_SAME ? "Dropout" : "Concatenate";
    }
    design->parts[design->count++] = part;
    return STATUS_OK;
}

/* ---- joining ---- */

static void feed(struct keras_part *part, size_t from)
{
    if (part->input_count < KERAS_PART_INPUTS_MAX) {
        part->inputs[part->input_count++] = from;
    }
}

/* Each layer reads the one before it; textgenrnn's concatenation the embedding and all recurrent ones. */
static void join(struct keras_design *design, bool is_textgenrnn)
{
    struct keras_part *last_recurrent = NULL;
    for (size_t i = 1; i < design->count; i++) {
        struct keras_part *part = &design->parts[i];
        for (size_t k = 1; part->kind == KERAS_PART_CONCATENATE && k < i; k++) {
            bool is_joined =
                design->parts[k].kind == KERAS_PART_EMBEDDING || keras_part_is_recurrent(&design->parts[k]);
            if (is_joined) {
                feed(part, k);
            }
        }
        if (part->input_count == 0) {
            feed(part, i - 1);
        }
        if (keras_part_is_recurrent(part)) {
            if (last_recurrent != NULL) {
                last_recurrent->returns_sequences = true;
            }
            last_recurrent = part;
            part->returns_sequences = is_textgenrnn;
        }
    }
    design->output = design->count - 1;
}

/* ---- what weights do not say ---- */

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

static enum status decide_activation(const struct inferring *inferring, bool is_textgenrnn)
{
    struct thinking *thinking = inferring->thinking;
    const char *version = thinking->model->keras->version;
    const char *usual = is_textgenrnn ? "sigmoid" : default_activation(version);
    for (size_t i = 0; i < inferring->design->count; i++) {
        struct keras_part *part = &inferring->design->parts[i];
        bool has_gates = part->kind == KERAS_PART_LSTM || part->kind == KERAS_PART_GRU;
        if (!has_gates || part->recurrent_activation != NULL) {
            continue; /* cuDNN's have but one */
        }
        const char *set = think_setting(thinking, "recurrent_activation");
        part->recurrent_activation = set != NULL ? set : usual;
        if (part->recurrent_activation == NULL) {
            return ask(inferring, "the activation of its gates", "recurrent_activation=sigmoid or hard_sigmoid");
        }
    }
    return STATUS_OK;
}

/* Of all dense layers but the last. */
static enum status decide_hidden(const struct inferring *inferring)
{
    bool is_said = false;
    for (size_t i = 0; i < inferring->design->output; i++) {
        struct keras_part *part = &inferring->design->parts[i];
        char what[160];
        if (part->kind != KERAS_PART_DENSE) {
            continue;
        }
        snprintf(what, sizeof what, "the activation of its hidden layer %.100s", part->name);
        const char *set = think_setting(inferring->thinking, "activation");
        if (set == NULL) {
            return ask(inferring, what, "activation=linear, relu, tanh or another");
        }
        part->activation = set;
        if (!is_said) {
            TRY(think_note(inferring->thinking, "activation", set, "of its hidden layers: it was set"));
        }
        is_said = true;
    }
    return STATUS_OK;
}

static enum status decide_length(const struct inferring *inferring, bool is_textgenrnn)
{
    enum { TEXTGENRNN_LENGTH = 40 };
    struct thinking *thinking = inferring->thinking;
    const char *length = foreign_hint(thinking->model, "max_length");
    if (think_setting(thinking, "window") != NULL) {
        return STATUS_OK;
    }
    if (!is_textgenrnn) {
        return ask(inferring, "how many symbols its inputs have",
                   "window=N, or window=none where a state is carried on");
    }
    inferring->design->window = length == NULL ? TEXTGENRNN_LENGTH : strtoul(length, NULL, 10);
    return think_note(thinking, "max_length", length == NULL ? "40" : length, "%s",
                      length == NULL ? "textgenrnn's default, no configuration says otherwise" : "its configuration");
}

/* ---- all of it ---- */

enum status keras_design_infer(struct thinking *thinking, struct keras_design *ret_design)
{
    const struct plain *names = thinking->model->keras->layer_names;
    struct inferring inferring = {.thinking = thinking, .design = ret_design};
    *ret_design = (struct keras_design){
        .parts = arena_allocate(&thinking->model->arena, KERAS_PARTS_MAX, sizeof(struct keras_part)),
        .is_inferred = true};
    if (ret_design->parts == NULL) {
        return foreign_no_memory(thinking->model, thinking->error);
    }
    if (names == NULL) {
        return error_set(thinking->error, STATUS_UNSUPPORTED,
                         "%s: weights without layer_names and without the model's configuration, which must lie beside "
                         "(model.to_json)",
                         thinking->model->entry);
    }
    ret_design->parts[ret_design->count++] =
        (struct keras_part){.kind = KERAS_PART_INPUT, .class = "", .name = "input", .stored = "", .activation = ""};
    bool is_textgenrnn = false;
    for (uint32_t i = 0; i < names->count; i++) {
        is_textgenrnn = is_textgenrnn || plain_equals(names->items[i], "rnn_concat");
        TRY(infer_part(&inferring, names->items[i]->text));
    }
    join(ret_design, is_textgenrnn);
    struct keras_part *last = &ret_design->parts[ret_design->output];
    last->activation = last->kind == KERAS_PART_DENSE ? "softmax" : last->activation;
    const struct keras_part *first = ret_design->count > 1 ? &ret_design->parts[1] : last;
    for (size_t i = 1; i + 1 < ret_design->count && first->kind == KERAS_PART_SAME; i++) {
        first = &ret_design->parts[i + 1];
    }
    if (keras_part_is_recurrent(first)) {
        struct keras_tensors tensors;
        keras_find_tensors(thinking, first, first->is_bidirectional ? "forward" : NULL, &tensors);
        ret_design->input_width = think_dimension(tensors.of[KERAS_ROLE_KERNEL], 0);
    }
    TRY(decide_hidden(&inferring));
    TRY(decide_activation(&inferring, is_textgenrnn));
    return decide_length(&inferring, is_textgenrnn);
}
