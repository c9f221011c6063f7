/* TensorFlow's names for recurrent cells, of all generations, in any outer scope. Thread: the one that imports.
 *
 *   …/multi_rnn_cell/cell_0/basic_lstm_cell/kernel       1.2 and later; weights, biases before
 *   …/MultiRNNCell/Cell0/BasicLSTMCell/Linear/Matrix     0.x; Bias
 *   …/gru_cell/gates/kernel, …/gru_cell/candidate/kernel  a GRU's two */
#include <ctype.h>

#include "engine/import/tensorflow.h"
#include "engine/import/understanding_private.h"

const struct layout tensorflow_layout = {
    .name = "TensorFlow",
    .forget_bias = 1,
    .lstm_gates = {0, 1, 2, 3},
    .lstm_order = "i, j, f, o",
    .gru_gates = {0, 1},
    .forget_bias_why = "TensorFlow's cells add it when they run, and it is 1 unless the program said otherwise",
};

/* A name without what TensorFlow 2 puts behind it. */
static size_t bare_length(const char *name)
{
    static const char *const suffixes[] = {"/.ATTRIBUTES/VARIABLE_VALUE", ":0"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        length -= foreign_ends_in(name, length, suffixes[i]) ? strlen(suffixes[i]) : 0;
    }
    return length;
}

size_t tensorflow_last_component(const char *name, size_t length)
{
    while (length > 0 && name[length - 1] != '/') {
        length--;
    }
    return length;
}

bool tensorflow_component_is(const char *name, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(name, word, length) == 0;
}

static bool is_one_of(const char *name, size_t length, const char *const *words)
{
    for (size_t i = 0; words[i] != NULL; i++) {
        if (tensorflow_component_is(name, length, words[i])) {
            return true;
        }
    }
    return false;
}

/* Whether it is called VARIABLE/other, of a variable of its shape: an optimiser may have any name. */
static bool is_beside_variable(const struct foreign_model *model, const struct foreign_tensor *tensor, size_t begin)
{
    char name[FOREIGN_NAME_BYTES_MAX + 1];
    if (begin < 2) {
        return false;
    }
    memcpy(name, tensor->name, begin - 1);
    name[begin - 1] = '\0';
    const struct foreign_tensor *variable = foreign_find_tensor(model, name);
    return variable != NULL && shape_equal(&variable->shape, &tensor->shape);
}

/* Optimisers' variables stand beside the model's under its names. */
static bool is_slot(const struct foreign_model *model, const struct foreign_tensor *tensor, size_t length)
{
    const char *name = tensor->name;
    static const char *const slots[] = {"Adam",      "Adam_1",     "RMSProp",
                                        "RMSProp_1", "Momentum",   "Adagrad",
                                        "Adadelta",  "Adadelta_1", "Ftrl",
                                        "Ftrl_1",    "AdaMax",     "AdaMax_1",
                                        "LazyAdam",  "Nadam",      "ExponentialMovingAverage",
                                        "AdagradDA", "AMSGrad",    "gradient_accumulator",
                                        NULL};
    size_t begin = tensorflow_last_component(name, length);
    if (is_one_of(name + begin, length - begin, slots) || is_beside_variable(model, tensor, begin)) {
        return true;
    }
    return strstr(name, "/.OPTIMIZER_SLOT/") != NULL;
}

/* "lstm_cell_1" is "lstm_cell": the number that makes a scope unique does not count. */
static size_t without_number(const char *name, size_t length)
{
    size_t end = length;
    while (end > 0 && isdigit((unsigned char)name[end - 1])) {
        end--;
    }
    return end < length && end > 0 && name[end - 1] == '_' ? end - 1 : length;
}

#define ADDS_NOTHING "cudnn_compatible_lstm_cell" /* to its forget gate, unlike all others */

/* A cell's scope by name; `refusal` is why one cannot be built. */
static const struct cell_scope {
    const char *name;
    enum foreign_cell cell;
    const char *refusal;
} cell_scopes[] = {
    {"basic_lstm_cell", FOREIGN_CELL_LSTM, NULL},
    {"lstm_cell", FOREIGN_CELL_LSTM, NULL},
    {"BasicLSTMCell", FOREIGN_CELL_LSTM, NULL},
    {"LSTMCell", FOREIGN_CELL_LSTM, NULL},
    {"lstm_fused_cell", FOREIGN_CELL_LSTM, NULL},
    {"lstm_block_wrapper", FOREIGN_CELL_LSTM, NULL}, /* the same until 1.2 */
    {ADDS_NOTHING, FOREIGN_CELL_LSTM, NULL},
    {"gru_cell", FOREIGN_CELL_GRU, NULL},
    {"GRUCell", FOREIGN_CELL_GRU, NULL},
    {"basic_rnn_cell", FOREIGN_CELL_RNN, NULL},
    {"BasicRNNCell", FOREIGN_CELL_RNN, NULL},
    {"cudnn_compatible_gru_cell", FOREIGN_CELL_GRU, "a GRU in cuDNN's form, with the reset gate behind the product"},
    {"layer_norm_basic_lstm_cell", FOREIGN_CELL_LSTM, "an LSTM with layer normalisation"},
    {"nas_cell", FOREIGN_CELL_RNN, "a NASCell"},
    {"NASCell", FOREIGN_CELL_RNN, "a NASCell"},
    {"ugrnn_cell", FOREIGN_CELL_RNN, "a UGRNNCell"},
    {"intersection_rnn_cell", FOREIGN_CELL_RNN, "an IntersectionRNNCell"},
    {"grid_lstm_cell", FOREIGN_CELL_LSTM, "a GridLSTMCell"},
    {"attention_cell_wrapper", FOREIGN_CELL_LSTM, "an AttentionCellWrapper"},
    {"conv_lstm_cell", FOREIGN_CELL_LSTM, "a ConvLSTMCell"},
    {"cudnn_lstm", FOREIGN_CELL_LSTM, "CudnnLSTM's opaque parameters"},
    {"cudnn_gru", FOREIGN_CELL_GRU, "CudnnGRU's opaque parameters"},
};

/* The innermost scope that is a cell's; `*ret_end` is where its name ends. */
static const struct cell_scope *find_scope(const char *name, size_t length, size_t *ret_end)
{
    while (length > 0) {
        size_t begin = tensorflow_last_component(name, length);
        size_t bare = without_number(name + begin, length - begin);
        for (size_t i = 0; i < sizeof cell_scopes / sizeof *cell_scopes; i++) {
            if (tensorflow_component_is(name + begin, bare, cell_scopes[i].name)) {
                *ret_end = length;
                return &cell_scopes[i];
            }
        }
        length = begin > 0 ? begin - 1 : 0;
    }
    return NULL;
}

static bool is_word(const char *component, size_t length, const char *word)
{
    return strlen(word) == length && strncasecmp(component, word, length) == 0;
}

/* Whether cells open such a scope in their own. */
static bool is_inner_scope(const char *component, size_t length)
{
    size_t bare = without_number(component, length);
    return is_word(component, bare, "gates") || is_word(component, bare, "candidate") ||
           is_word(component, bare, "Linear");
}

/* Until 1.3 cells opened their scope a second time for their products: "gru_cell/gru_cell/MatMul" is of "gru_cell". */
static size_t outer_scope_length(const char *name, size_t end)
{
    size_t begin = tensorflow_last_component(name, end);
    size_t bare = without_number(name + begin, end - begin);
    while (begin > 0) {
        size_t outer = tensorflow_last_component(name, begin - 1);
        if (without_number(name + outer, begin - 1 - outer) != bare || memcmp(name + outer, name + begin, bare) != 0) {
            break;
        }
        end = begin - 1;
        begin = outer;
    }
    return end;
}

bool tensorflow_cell_around(const char *name, size_t length, struct tensorflow_cell *ret_cell)
{
    size_t end = 0;
    const struct cell_scope *scope = find_scope(name, length, &end);
    size_t last = tensorflow_last_component(name, length);
    if (scope == NULL || end >= last) {
        return false;
    }
    for (size_t at = end + 1; at < last;) {
        size_t until = at;
        while (name[until] != '/') {
            until++;
        }
        if (!is_inner_scope(name + at, until - at)) {
            return false;
        }
        at = until + 1;
    }
    *ret_cell = (struct tensorflow_cell){
        .kind = scope->cell,
        .scope_length = outer_scope_length(name, end),
        .adds_to_forget_gate = scope->cell == FOREIGN_CELL_LSTM && strcmp(scope->name, ADDS_NOTHING) != 0,
    };
    return true;
}

bool tensorflow_names_apply(const struct foreign_model *model)
{
    (void)model; /* whoever has no cell's name simply finds no layer */
    return true;
}

static enum status refuse(const struct thinking *thinking, const char *name, const char *what)
{
    return error_set(thinking->error, STATUS_UNSUPPORTED, "%.300s belongs to %s, which is not built here", name, what);
}

/* What no cell here has, weights of its own or an optimiser's, is a part of the rest, which may be ignored. */
static enum status pass_over(struct thinking *thinking, const struct foreign_tensor *tensor)
{
    if (think_setting(thinking, "rest") != NULL) {
        thinking->is_used[tensor - thinking->model->tensors] = true; /* it is no end of the model */
        return STATUS_OK;
    }
    error_set(
        thinking->error, STATUS_UNPROCESSABLE,
        "%.300s belongs to a cell with weights of its own, which is not built here; if nothing depends on it, say "
        "--set rest=ignored",
        tensor->name);
    return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
}

/* Puts a tensor where its name says: `within` is what stands between the cell's scope and the end. */
static enum status place_tensor(struct thinking *thinking, struct layer *layer, const struct foreign_tensor *tensor,
                                const char *within, size_t length)
{
    static const char *const kernels[] = {"kernel", "weights", "Linear/Matrix", "Matrix", "W_0", NULL};
    static const char *const biases[] = {"bias", "biases", "Linear/Bias", "Bias", "B", NULL};
    bool is_candidate = false;
    if (layer->cell == FOREIGN_CELL_GRU) {
        size_t first = 0;
        while (first < length && within[first] != '/') {
            first++;
        }
        is_candidate = is_word(within, first, "candidate");
        if (first < length && (is_candidate || is_word(within, first, "gates"))) {
            within += first + 1;
            length -= first + 1;
        }
    }
    if (is_one_of(within, length, kernels)) {
        *(is_candidate ? &layer->candidate_kernel : &layer->kernel) = tensor;
    } else if (is_one_of(within, length, biases)) {
        *(is_candidate ? &layer->candidate_bias : &layer->bias) = tensor;
    } else if (length > 5 && memcmp(within + length - 5, "_diag", 5) == 0) {
        return refuse(thinking, tensor->name, "an LSTM with peepholes");
    } else if (strncmp(within, "projection", 10) == 0 || tensorflow_component_is(within, length, "W_P_0")) {
        return refuse(thinking, tensor->name, "an LSTM with a projection");
    } else {
        return pass_over(thinking, tensor);
    }
    thinking->is_used[tensor - thinking->model->tensors] = true;
    return STATUS_OK;
}

static bool has_component(const char *name, size_t length, const char *word)
{
    while (length > 0) {
        size_t begin = tensorflow_last_component(name, length);
        if (tensorflow_component_is(name + begin, length - begin, word)) {
            return true;
        }
        length = begin > 0 ? begin - 1 : 0;
    }
    return false;
}

static enum status take_tensor(struct thinking *thinking, const struct foreign_tensor *tensor)
{
    size_t length = bare_length(tensor->name);
    size_t end = 0;
    struct layer *layer = NULL;
    if (is_slot(thinking->model, tensor, length) || tensor->shape.rank == 0) {
        thinking->is_used[tensor - thinking->model->tensors] = true;
        return STATUS_OK;
    }
    const struct cell_scope *scope = find_scope(tensor->name, length, &end);
    if (scope == NULL || end + 1 >= length) {
        return STATUS_OK;
    }
    if (scope->refusal != NULL) {
        return refuse(thinking, tensor->name, scope->refusal);
    }
    if (has_component(tensor->name, end, "bw") || has_component(tensor->name, end, "BW") ||
        has_component(tensor->name, end, "BiRNN_BW")) {
        return refuse(thinking, tensor->name, "a bidirectional recurrence");
    }
    TRY(think_layer_at(thinking, tensor->name, end, scope->cell, &layer));
    layer->adds_nothing = strcmp(scope->name, ADDS_NOTHING) == 0;
    return place_tensor(thinking, layer, tensor, tensor->name + end + 1, length - end - 1);
}

static bool has_layer_of(const struct thinking *thinking, enum foreign_cell cell)
{
    bool has_one = false;
    for (size_t i = 0; i < thinking->layer_count; i++) {
        has_one = has_one || thinking->layers[i].cell == cell;
    }
    return has_one;
}

enum status tensorflow_check_graph(struct thinking *thinking)
{
    static const char *const doings[] = {
        [FOREIGN_UNBUILT_CLIP] = "limits a cell's state (cell_clip)",
        [FOREIGN_UNBUILT_ACTIVATION] = "belongs to a cell with another activation than tanh",
        [FOREIGN_UNBUILT_RESIDUAL] = "adds to a cell's output (a residual connection)",
    };
    const char *problem = thinking->model->graph_problem;
    char text[1024] = "";
    size_t length = 0;
    for (size_t i = 0; i < (size_t)FOREIGN_CELL_COUNT * FOREIGN_UNBUILT_COUNT; i++) {
        enum foreign_cell cell = (enum foreign_cell)(i / FOREIGN_UNBUILT_COUNT);
        const char *node = thinking->model->unbuilt[cell][i % FOREIGN_UNBUILT_COUNT];
        if (node != NULL && has_layer_of(thinking, cell) && length < sizeof text) {
            length += (size_t)snprintf(text + length, sizeof text - length, "%s%.200s %s", length == 0 ? "" : ", ",
                                       node, doings[i % FOREIGN_UNBUILT_COUNT]);
        }
    }
    if (length == 0 && problem == NULL) {
        return STATUS_OK;
    }
    if (think_setting(thinking, "graph") != NULL) {
        return think_note(thinking, "graph", "ignored", "it was set; %s", problem != NULL ? problem : text);
    }
    if (problem != NULL) {
        error_set(thinking->error, STATUS_UNPROCESSABLE,
                  "%.300s, so that it does not tell what its cells do; if nothing unusual, say --set graph=ignored",
                  problem);
    } else {
        error_set(thinking->error, STATUS_UNPROCESSABLE,
                  "in the graph beside the checkpoint %s, which is not built here; if the model does without, say "
                  "--set graph=ignored",
                  text);
    }
    return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
}

enum status tensorflow_find_layers(struct thinking *thinking)
{
    for (size_t i = 0; i < thinking->model->tensor_count; i++) {
        TRY(take_tensor(thinking, &thinking->model->tensors[i]));
    }
    for (size_t i = 0; i < thinking->layer_count; i++) {
        const struct layer *layer = &thinking->layers[i];
        if (layer->cell == FOREIGN_CELL_GRU && layer->candidate_kernel == NULL) {
            return error_set(thinking->error, STATUS_UNPROCESSABLE,
                             "layer %.300s: a GRU without its candidate's kernel", layer->place);
        }
    }
    return STATUS_OK;
}
