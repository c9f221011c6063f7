/* Keras models of which only the weights were kept: what their names and shapes tell. Thread: the one that imports.
 *
 * Layers stand in the order of layer_names, or in the one that is found (keras_order.c), and feed one another; whether
 * a recurrent one gives sequences, the next one tells. Layers without weights are what their names say, by which Keras
 * calls them; of others nothing is known, and they are asked about. textgenrnn's layers ("rnn_1", "rnn_concat",
 * "attention") are known: embedding and recurrent layers are joined, and averaged by attention. What neither tells is
 * decided in keras_unsaid.c. */
#include "engine/import/keras_private.h"

struct inferring {
    struct thinking *thinking;
    struct keras_design *design;
};

/* ---- layers with weights ---- */

/* Finds a part's tensors, and sets its kind as far as that takes it: variables that have numbers mean what the layer's
 * name says, Keras 1's are counted by gates. */
static void find_tensors(const struct inferring *inferring, struct keras_part *part, const char *direction,
                         struct keras_tensors *ret_tensors)
{
    static const enum keras_part_kind gated[] = {KERAS_PART_LSTM, KERAS_PART_GRU};
    const struct keras_class *class = keras_class_of_layer(part->name);
    bool is_wrapped_cell = keras_layer_is_called(part->name, "Bidirectional");
    for (size_t i = 0; i < sizeof gated / sizeof *gated; i++) {
        part->kind = gated[i];
        keras_find_tensors(inferring->thinking, part, direction, ret_tensors);
        if (ret_tensors->are_gates_apart) {
            return;
        }
    }
    part->kind = is_wrapped_cell ? KERAS_PART_LSTM : class != NULL ? class->kind : KERAS_PART_DENSE;
    keras_find_tensors(inferring->thinking, part, direction, ret_tensors);
}

static bool has_direction(const struct inferring *inferring, struct keras_part *part, const char *direction)
{
    struct keras_tensors tensors;
    char place[16];
    find_tensors(inferring, part, direction, &tensors);
    const struct foreign_tensor *tensor = keras_tensor_of(&tensors, KERAS_ROLE_RECURRENT);
    snprintf(place, sizeof place, "/%s", direction);
    return tensor != NULL && strstr(tensor->name, place) != NULL;
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
    const struct foreign_tensor *recurrent = keras_tensor_of(tensors, KERAS_ROLE_RECURRENT);
    const struct foreign_tensor *bias = tensors->of[KERAS_ROLE_BIAS];
    size_t units = think_dimension(recurrent, 0);
    size_t columns = think_dimension(recurrent, 1);
    part->units = units;
    part->activation = "tanh";
    for (size_t i = 0; i < sizeof rows / sizeof *rows && part->class == NULL; i++) {
        bool is_it = tensors->are_gates_apart ? part->kind == rows[i].kind
                                              : units > 0 && units < SIZE_MAX / 8 && columns == rows[i].gates * units;
        if (is_it) {
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

/* Whether a kernel is a table of vectors. Where it has no name of its own, as in Keras 1 and where variables are
 * numbered, the layer's tells, or that it is the first and has no bias, as hardly another layer. */
static bool is_table(const struct inferring *inferring, const struct keras_part *part,
                     const struct keras_tensors *tensors)
{
    const struct foreign_tensor *kernel = tensors->of[KERAS_ROLE_KERNEL];
    bool is_first = true;
    for (size_t i = 1; i < inferring->design->count; i++) {
        is_first = is_first && inferring->design->parts[i].kind == KERAS_PART_SAME;
    }
    if (kernel == NULL || is_named(kernel, "embeddings") || is_named(kernel, "kernel")) {
        return is_named(kernel, "embeddings");
    }
    const char *end = strrchr(kernel->name, '/');
    end = end == NULL ? kernel->name : end;
    bool is_old = foreign_ends_in(end, strcspn(end, ":"), "_W");
    bool is_bare = tensors->of[KERAS_ROLE_BIAS] == NULL && kernel->shape.rank == 2;
    return is_bare && (part->kind == KERAS_PART_EMBEDDING || (is_old && is_first));
}

/* Fills a part in whose tensors say what it is; `*ret_is_known` false: they do not, or it has none. */
static enum status infer_weights(const struct inferring *inferring, struct keras_part *part, bool *ret_is_known)
{
    struct keras_tensors tensors;
    part->is_bidirectional = has_direction(inferring, part, "forward") && has_direction(inferring, part, "backward");
    part->merge_mode = part->is_bidirectional ? "concat" : NULL;
    find_tensors(inferring, part, part->is_bidirectional ? "forward" : NULL, &tensors);
    const struct foreign_tensor *kernel = tensors.of[KERAS_ROLE_KERNEL];
    *ret_is_known = true;
    if (keras_tensor_of(&tensors, KERAS_ROLE_RECURRENT) != NULL) {
        return infer_recurrent(inferring, part, &tensors);
    }
    if (tensors.of[KERAS_ROLE_GAMMA] != NULL || tensors.of[KERAS_ROLE_MEAN] != NULL) {
        part->kind = KERAS_PART_NORMALIZATION;
        part->class = "BatchNormalization";
    } else if (is_named(kernel, "attention_W") || (kernel != NULL && part->kind == KERAS_PART_ATTENTION)) {
        part->kind = KERAS_PART_ATTENTION;
        part->class = "AttentionWeightedAverage";
    } else if (is_table(inferring, part, &tensors)) {
        part->kind = KERAS_PART_EMBEDDING;
        part->class = "Embedding";
        part->units = think_dimension(kernel, 1);
    } else if (kernel != NULL) {
        part->kind = KERAS_PART_DENSE;
        part->class = "Dense";
        part->units = think_dimension(kernel, 1);
    } else {
        *ret_is_known = false;
    }
    return STATUS_OK;
}

/* ---- layers without weights ---- */

/* "input_1", "lstm_1_input" */
static bool is_input(const char *name, const struct keras_class *class)
{
    return (class != NULL && class->kind == KERAS_PART_INPUT) || keras_layer_is_called(name, "Input") ||
           foreign_ends_in(name, strlen(name), "_input");
}

static bool has_input(const struct keras_design *design)
{
    for (size_t i = 1; i < design->count; i++) {
        if (strcmp(design->parts[i].class, "InputLayer") == 0) {
            return true;
        }
    }
    return false;
}

/* A layer of which neither weights nor name tell what it does is only left out where that is said. */
static enum status infer_unknown(const struct inferring *inferring, struct keras_part *part)
{
    struct thinking *thinking = inferring->thinking;
    char what[200];
    part->kind = KERAS_PART_SAME;
    part->class = "";
    if (keras_has_tensors(thinking, part)) {
        return STATUS_OK; /* which nothing uses, and that is asked about once all is built */
    }
    if (think_setting(thinking, "rest") != NULL) {
        return think_note(thinking, "left out", part->name, "it has no weights, and rest=ignored was set");
    }
    snprintf(what, sizeof what, "what its layer %.100s does, which has none", part->name);
    return keras_ask(thinking, what, "rest=ignored if it does nothing when the model predicts, as dropout");
}

static enum status infer_weightless(const struct inferring *inferring, struct keras_part *part)
{
    struct thinking *thinking = inferring->thinking;
    const struct keras_class *class = keras_class_of_layer(part->name);
    if (strcmp(part->name, "rnn_concat") == 0) {
        part->kind = KERAS_PART_CONCATENATE;
        part->class = "Concatenate";
        return STATUS_OK;
    }
    if (is_input(part->name, class) && !has_input(inferring->design)) {
        part->kind = KERAS_PART_SAME;
        part->class = "InputLayer";
        return STATUS_OK;
    }
    if (class == NULL || keras_has_tensors(thinking, part)) {
        return infer_unknown(inferring, part);
    }
    part->kind = class->kind;
    part->class = class->name;
    part->activation = class->activation;
    if (part->kind == KERAS_PART_MASKING) {
        return think_note(thinking, "mask value", "0", "layer %.100s: Keras' default, weights alone tell no other",
                          part->name);
    }
    bool is_known = part->kind == KERAS_PART_SAME || part->kind == KERAS_PART_ACTIVATION;
    return is_known ? STATUS_OK
                    : error_set(thinking->error, STATUS_UNSUPPORTED,
                                "layer %.100s, by its name of the class %s, has no weights: what it is fed with, and "
                                "makes of it, only the model's JSON (model.to_json) tells, which must lie beside",
                                part->name, class->name);
}

static enum status infer_part(const struct inferring *inferring, const char *name)
{
    struct keras_design *design = inferring->design;
    struct keras_part part = {.name = name, .stored = name, .activation = "linear", .epsilon = 1e-3};
    bool is_known = false;
    if (design->count >= KERAS_PARTS_MAX) {
        return error_set(inferring->thinking->error, STATUS_LIMIT, "more than %d layers", KERAS_PARTS_MAX);
    }
    TRY(infer_weights(inferring, &part, &is_known));
    if (!is_known) {
        TRY(infer_weightless(inferring, &part));
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

/* ---- all of it ---- */

/* Columns of its input's symbols, where the first layer that computes looks nothing up. */
static size_t input_width(const struct thinking *thinking, const struct keras_design *design)
{
    size_t first = 1;
    while (first < design->count &&
           (design->parts[first].kind == KERAS_PART_SAME || design->parts[first].kind == KERAS_PART_MASKING)) {
        first++;
    }
    const struct keras_part *part = &design->parts[first];
    if (first == design->count || (!keras_part_is_recurrent(part) && part->kind != KERAS_PART_DENSE)) {
        return 0;
    }
    struct keras_tensors tensors;
    keras_find_tensors(thinking, part, part->is_bidirectional ? "forward" : NULL, &tensors);
    return think_dimension(keras_tensor_of(&tensors, KERAS_ROLE_KERNEL), 0);
}

enum status keras_design_infer(struct thinking *thinking, struct keras_design *ret_design)
{
    const struct foreign_keras *keras = thinking->model->keras;
    const struct plain *names = keras->layer_names != NULL ? keras->layer_names : keras->groups;
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
    if (keras->layer_names == NULL) {
        TRY(keras_order_parts(thinking, ret_design));
    }
    join(ret_design, is_textgenrnn);
    ret_design->input_width = input_width(thinking, ret_design);
    return keras_decide_unsaid(thinking, ret_design, is_textgenrnn);
}
