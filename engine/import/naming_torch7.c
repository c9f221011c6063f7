/* Torch7's two character models, by the names that their reader gives tensors: PATH.CLASS.FIELD. Thread: the one that
 * imports.
 *
 * torch-rnn: nn.LSTM and nn.VanillaRNN in an nn.Sequential, each a weight [inputs + units, gates × units] and a bias.
 * With (a_i, a_f, a_o, a_g) = x Wx + h Wh + b, c' = σ(a_f) c + σ(a_i) tanh(a_g), h' = σ(a_o) tanh(c'); VanillaRNN's
 * h' = tanh(x Wx + h Wh + b). Source: torch-rnn, LSTM.lua and VanillaRNN.lua.
 *
 * char-rnn: one step as a graph of nngraph, whose nn.Linear [gates × units, inputs] are annotated i2h_1, h2h_1, …
 * Their sum is split into in, forget and out gate and what is written, and c' and h' are as above. Source: char-rnn,
 * model/LSTM.lua. */
#include "engine/import/understanding_private.h"

#define GATE_ORDER "i, f, o, g"

const struct layout torch_rnn_layout = {
    .name = "torch-rnn",
    .is_output_transposed = true,
    .lstm_gates = {0, 3, 1, 2},
    .lstm_order = GATE_ORDER,
    .forget_bias_why = "torch-rnn's LSTM has nothing but its stored biases",
};

const struct layout char_rnn_layout = {
    .name = "char-rnn",
    .is_transposed = true,
    .is_output_transposed = true,
    .lstm_gates = {0, 3, 1, 2},
    .lstm_order = GATE_ORDER,
    .forget_bias_why = "char-rnn's LSTM has nothing but its stored biases",
};

/* What the reader counted is called so. */
#define MODULE "module "

/* ---- names ---- */

/* PATH.CLASS.FIELD; `path` is where the last component of the path begins. */
struct parts {
    const char *path;
    size_t path_length; /* from the name's beginning on */
    const char *class_name;
    size_t class_length;
    const char *field;
};

static const char *dot_before(const char *name, const char *end)
{
    while (end > name && end[-1] != '.') {
        end--;
    }
    return end;
}

static bool split(const char *name, struct parts *ret_parts)
{
    const char *field = dot_before(name, name + strlen(name));
    if (field == name) {
        return false;
    }
    const char *class_name = dot_before(name, field - 1);
    size_t path_length = class_name == name ? 0 : (size_t)(class_name - 1 - name);
    *ret_parts = (struct parts){.path = dot_before(name, name + path_length),
                                .path_length = path_length,
                                .class_name = class_name,
                                .class_length = (size_t)(field - 1 - class_name),
                                .field = field};
    return true;
}

static bool is_class(const struct parts *parts, const char *name)
{
    return parts->class_length == strlen(name) && strncmp(parts->class_name, name, parts->class_length) == 0;
}

static bool is_weight_or_bias(const struct parts *parts)
{
    return strcmp(parts->field, "weight") == 0 || strcmp(parts->field, "bias") == 0;
}

/* A model that holds modules of other classes computes something else. */
static enum status check_classes(const struct thinking *thinking, const char *const *known)
{
    const struct foreign_model *model = thinking->model;
    for (size_t i = 0; i < model->hint_count; i++) {
        const char *key = model->hints[i].key;
        bool is_known = strncmp(key, MODULE, strlen(MODULE)) != 0;
        for (size_t k = 0; known[k] != NULL && !is_known; k++) {
            is_known = strcmp(key + strlen(MODULE), known[k]) == 0;
        }
        if (!is_known) {
            return error_set(thinking->error, STATUS_UNSUPPORTED, "it has a module %.100s, which no model of %s has",
                             key + strlen(MODULE), thinking->layout->name);
        }
    }
    return STATUS_OK;
}

/* Whether there is a module of that class. */
static bool has_class(const struct foreign_model *model, const char *class_name)
{
    char key[64];
    snprintf(key, sizeof key, MODULE "%s", class_name);
    return foreign_hint(model, key) != NULL;
}

/* ---- torch-rnn ---- */

bool torch_rnn_names_apply(const struct foreign_model *model)
{
    return has_class(model, "nn.LSTM") || has_class(model, "nn.VanillaRNN");
}

enum status torch_rnn_find_layers(struct thinking *thinking)
{
    static const char *const known[] = {"nn.LanguageModel", "nn.Sequential", "nn.LookupTable",
                                        "nn.LSTM",          "nn.VanillaRNN", "nn.Dropout",
                                        "nn.View",          "nn.Linear",     NULL};
    TRY(check_classes(thinking, known));
    for (size_t i = 0; i < thinking->model->tensor_count; i++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        struct parts parts;
        struct layer *layer = NULL;
        bool has_parts = split(tensor->name, &parts) && is_weight_or_bias(&parts);
        bool is_lstm = has_parts && is_class(&parts, "LSTM");
        if (!is_lstm && !(has_parts && is_class(&parts, "VanillaRNN"))) {
            continue;
        }
        TRY(think_layer_at(thinking, tensor->name, parts.path_length, is_lstm ? FOREIGN_CELL_LSTM : FOREIGN_CELL_RNN,
                           &layer));
        *(strcmp(parts.field, "bias") == 0 ? &layer->bias : &layer->kernel) = tensor;
        thinking->is_used[i] = true;
    }
    return has_class(thinking->model, "nn.VanillaRNN")
               ? foreign_add_hint(thinking->model, NULL, "activation", "tanh", thinking->error)
               : STATUS_OK;
}

/* ---- char-rnn ---- */

bool char_rnn_names_apply(const struct foreign_model *model)
{
    return has_class(model, "nn.gModule");
}

/* A step of so many layers has so many modules: another graph computes something else. */
static enum status check_counts(const struct thinking *thinking)
{
    static const struct {
        const char *class_name;
        size_t each; /* layer's */
        size_t more;
    } rows[] = {{"nn.Linear", 2, 1},     {"nn.CAddTable", 2, 0},  {"nn.CMulTable", 3, 0},
                {"nn.Sigmoid", 3, 0},    {"nn.Tanh", 2, 0},       {"nn.Reshape", 1, 0},
                {"nn.SplitTable", 1, 0}, {"nn.LogSoftMax", 0, 1}, {"OneHot", 0, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char key[64];
        char want[32];
        snprintf(key, sizeof key, MODULE "%s", rows[i].class_name);
        snprintf(want, sizeof want, "%zu", rows[i].each * thinking->layer_count + rows[i].more);
        const char *have = foreign_hint(thinking->model, key);
        if (have == NULL || strcmp(have, want) != 0) {
            return error_set(thinking->error, STATUS_UNSUPPORTED,
                             "%s modules %s, where char-rnn's LSTM of %zu layers has %s: it is another graph",
                             have == NULL ? "no" : have, rows[i].class_name, thinking->layer_count, want);
        }
    }
    return STATUS_OK;
}

/* The layer that an annotated nn.Linear belongs to: PATH.i2h_2 to PATH.2. */
static enum status layer_of(struct thinking *thinking, const struct foreign_tensor *tensor, const struct parts *parts,
                            struct layer **ret_layer)
{
    char place[FOREIGN_NAME_BYTES_MAX + 1];
    size_t before = (size_t)(parts->path - tensor->name);
    size_t number_length = parts->path_length - before - 4;
    memcpy(place, tensor->name, before);
    memcpy(place + before, parts->path + 4, number_length);
    return think_layer_at(thinking, place, before + number_length, FOREIGN_CELL_LSTM, ret_layer);
}

enum status char_rnn_find_layers(struct thinking *thinking)
{
    static const char *const known[] = {"nn.gModule", "nn.Linear",    "nn.Identity",  "OneHot",
                                        "nn.Dropout", "nn.CAddTable", "nn.Reshape",   "nn.SplitTable",
                                        "nn.Sigmoid", "nn.Tanh",      "nn.CMulTable", "nn.LogSoftMax",
                                        NULL};
    TRY(check_classes(thinking, known));
    for (size_t i = 0; i < thinking->model->tensor_count; i++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        struct parts parts;
        struct layer *layer = NULL;
        bool is_linear = split(tensor->name, &parts) && is_weight_or_bias(&parts) && is_class(&parts, "Linear");
        bool is_input = is_linear && strncmp(parts.path, "i2h_", 4) == 0;
        if (!is_input && !(is_linear && strncmp(parts.path, "h2h_", 4) == 0)) {
            continue;
        }
        TRY(layer_of(thinking, tensor, &parts, &layer));
        bool is_bias = strcmp(parts.field, "bias") == 0;
        *(is_input  ? is_bias ? &layer->bias : &layer->kernel
          : is_bias ? &layer->recurrent_bias
                    : &layer->recurrent) = tensor;
        thinking->is_used[i] = true;
    }
    if (thinking->layer_count == 0) {
        return error_set(
            thinking->error, STATUS_UNSUPPORTED,
            "none of its graph's nn.Linear is named i2h_1 or h2h_1, as those of char-rnn's LSTM are: a GRU, "
            "an RNN, or an older file");
    }
    return check_counts(thinking);
}
