/* The build program of an understood model, and where each of its variables comes from. Thread: the one that imports.
 *
 * The model is a language_model, whose LSTM adds 1 to the forget gate: what another framework keeps in its bias, or
 * adds otherwise, is made up for in the bias. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/import/understanding_private.h"
#include "engine/nn/recurrent.h"

enum { LSTM_FORGET_BIAS = 1, FORGET_GATE = 2 };

static const unsigned char only_gate[] = {0};

/* ---- what cannot be built ---- */

enum status think_ask_activation(const struct thinking *thinking, const struct layer *layer, const char *activation)
{
    if (activation != NULL) {
        return error_set(thinking->error, STATUS_UNSUPPORTED, "%.200s is a plain RNN with %.60s, which is not built",
                         layer->place, activation);
    }
    error_set(thinking->error, STATUS_UNPROCESSABLE,
              "%.200s is a plain RNN, and its file does not say with which nonlinearity: say --set activation=tanh%s",
              layer->place, thinking->layout == &torch_layout ? " or relu" : "");
    return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
}

enum status think_check_cell(struct thinking *thinking)
{
    const struct layer *first = &thinking->layers[0];
    if (first->cell != FOREIGN_CELL_RNN) {
        return STATUS_OK;
    }
    const char *set = think_setting(thinking, "activation");
    const char *activation = set != NULL ? set : foreign_hint(thinking->model, "activation");
    bool is_known = thinking->layout == &tensorflow_layout || activation != NULL;
    if (!is_known || (activation != NULL && strcmp(activation, "tanh") != 0)) {
        return think_ask_activation(thinking, first, activation);
    }
    return think_note(thinking, "activation", "tanh", "%s",
                      set != NULL          ? "it was set"
                      : activation != NULL ? "the file says so"
                                           : "TensorFlow's cell has it unless the program said otherwise");
}

/* A graph that does not say it leaves no number to assume: the program that made it may have said any. */
static enum status ask_forget_bias(const struct thinking *thinking, const struct layer *layer)
{
    error_set(thinking->error, STATUS_UNPROCESSABLE, "%s, and %.200s may add any: say --set forget_bias=NUMBER%s",
              thinking->model->graph_says == FOREIGN_FORGET_BIAS_SEVERAL
                  ? "cells in the graph beside the checkpoint add different numbers to their forget gates"
                  : "the graph beside the checkpoint does not tell what LSTMs add to their forget gates",
              layer->place, " (1 unless the program said otherwise)");
    return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
}

/* The number that was set, or else what the layer's own cell, the graph or the layout says. */
static enum status find_forget_bias(const struct thinking *thinking, struct layer *layer, const char **ret_why)
{
    const char *set = think_setting(thinking, "forget_bias");
    const struct foreign_model *model = thinking->model;
    if (set != NULL) {
        char *end;
        layer->forget_bias = strtod(set, &end);
        *ret_why = "it was set";
        return end == set || *end != '\0' || !(fabs(layer->forget_bias) <= FOREIGN_FORGET_BIAS_MAX)
                   ? error_set(thinking->error, STATUS_INVALID, "forget_bias=%.60s is no number from -%d to %d", set,
                               FOREIGN_FORGET_BIAS_MAX, FOREIGN_FORGET_BIAS_MAX)
                   : STATUS_OK;
    }
    bool is_said = model->graph_says == FOREIGN_FORGET_BIAS_SAID;
    if (!layer->adds_nothing && !is_said && model->graph_says != FOREIGN_FORGET_BIAS_NO_GRAPH) {
        return ask_forget_bias(thinking, layer);
    }
    layer->forget_bias = layer->adds_nothing ? 0 : is_said ? (double)model->forget_bias : thinking->layout->forget_bias;
    *ret_why = layer->adds_nothing ? "cuDNN's cell has nothing but its stored bias"
               : is_said           ? "its files say so"
                                   : thinking->layout->forget_bias_why;
    return STATUS_OK;
}

enum status think_find_forget_biases(struct thinking *thinking)
{
    const struct layer *noted = NULL;
    for (size_t i = 0; i < thinking->layer_count; i++) {
        struct layer *layer = &thinking->layers[i];
        const char *why = NULL;
        char text[32];
        if (layer->cell != FOREIGN_CELL_LSTM) {
            continue;
        }
        TRY(find_forget_bias(thinking, layer, &why));
        snprintf(text, sizeof text, "%g", layer->forget_bias);
        if (noted == NULL) {
            TRY(think_note(thinking, "forget bias", text, "%s", why));
        } else if (noted->adds_nothing != layer->adds_nothing) {
            TRY(think_note(thinking, "forget bias", text, "%.200s: %s", layer->place, why));
        }
        noted = layer;
    }
    return STATUS_OK;
}

/* ---- recipes ---- */

struct weight *think_add_weight(struct thinking *thinking, const char *name, const struct shape *shape,
                                size_t gate_columns)
{
    struct understanding *result = thinking->result;
    char *copy = arena_copy_string(&thinking->model->arena, name);
    if (copy == NULL) {
        foreign_no_memory(thinking->model, thinking->error);
        return NULL;
    }
    if (result->weight_count >= WEIGHTS_MAX) {
        error_set(thinking->error, STATUS_LIMIT, "more than %d variables", WEIGHTS_MAX);
        return NULL;
    }
    struct weight *weight = &result->weights[result->weight_count++];
    *weight = (struct weight){.name = copy, .shape = *shape, .gate_columns = gate_columns};
    return weight;
}

void weight_add_part(struct weight *weight, const struct weight_part *part)
{
    if (part->tensor != NULL && part->rows > 0) {
        CHECK(weight->part_count < WEIGHT_PARTS_MAX);
        weight->parts[weight->part_count++] = *part;
    }
}

/* Kernel and bias of `gates` gates, whose columns stand in `order`. */
static enum status add_pair(struct thinking *thinking, const struct layer *layer, const char *scope,
                            const struct foreign_tensor *kernel, const struct foreign_tensor *bias,
                            const unsigned char *order, size_t gates, double forget_shift)
{
    char name[160];
    bool is_joined = layer->recurrent == NULL;
    enum weight_order order_of_rows = thinking->layout->is_transposed ? WEIGHT_ORDER_COLUMNS : WEIGHT_ORDER_ROWS;
    struct shape shape = shape_matrix((int64_t)(layer->inputs + layer->units), (int64_t)(gates * layer->units));
    snprintf(name, sizeof name, "%s/kernel", scope);
    struct weight *weight = think_add_weight(thinking, name, &shape, layer->units);
    if (weight == NULL) {
        return thinking->error->status;
    }
    weight_add_part(weight, &(struct weight_part){.tensor = kernel,
                                                  .rows = layer->inputs + (is_joined ? layer->units : 0),
                                                  .order = order_of_rows,
                                                  .gates = order});
    weight_add_part(weight, &(struct weight_part){.tensor = layer->recurrent,
                                                  .target_row = layer->inputs,
                                                  .rows = layer->units,
                                                  .order = order_of_rows,
                                                  .gates = order});
    shape = shape_vector((int64_t)(gates * layer->units));
    snprintf(name, sizeof name, "%s/bias", scope);
    weight = think_add_weight(thinking, name, &shape, layer->units);
    if (weight == NULL) {
        return thinking->error->status;
    }
    weight->forget_shift = forget_shift;
    weight_add_part(weight, &(struct weight_part){.tensor = bias, .rows = 1, .gates = order});
    weight_add_part(weight, &(struct weight_part){.tensor = layer->recurrent_bias, .rows = 1, .gates = order});
    return STATUS_OK;
}

static enum status add_layer(struct thinking *thinking, size_t index)
{
    static const enum recurrent_cell cells[] = {[FOREIGN_CELL_LSTM] = RECURRENT_CELL_LSTM,
                                                [FOREIGN_CELL_GRU] = RECURRENT_CELL_GRU,
                                                [FOREIGN_CELL_RNN] = RECURRENT_CELL_RNN};
    const struct layer *layer = &thinking->layers[index];
    char scope[128];
    char within[144];
    snprintf(scope, sizeof scope, "rnn/multi_rnn_cell/cell_%zu/%s", index, recurrent_cell_scope(cells[layer->cell]));
    if (layer->cell == FOREIGN_CELL_LSTM) {
        return add_pair(thinking, layer, scope, layer->kernel, layer->bias, thinking->layout->lstm_gates, 4,
                        layer->forget_bias - LSTM_FORGET_BIAS);
    }
    if (layer->cell == FOREIGN_CELL_RNN) {
        return add_pair(thinking, layer, scope, layer->kernel, layer->bias, only_gate, 1, 0);
    }
    snprintf(within, sizeof within, "%s/gates", scope);
    TRY(add_pair(thinking, layer, within, layer->kernel, layer->bias, thinking->layout->gru_gates, 2, 0));
    snprintf(within, sizeof within, "%s/candidate", scope);
    struct layer candidate = *layer;
    candidate.recurrent = layer->candidate_recurrent;
    candidate.recurrent_bias = layer->candidate_recurrent_bias;
    return add_pair(thinking, &candidate, within, layer->candidate_kernel, layer->candidate_bias, only_gate, 1, 0);
}

static enum status add_end(struct thinking *thinking, const char *name, const struct shape *shape,
                           const struct foreign_tensor *tensor, enum weight_order order)
{
    struct weight *weight = think_add_weight(thinking, name, shape, 0);
    if (weight == NULL) {
        return thinking->error->status;
    }
    size_t rows = shape->rank == 1 ? 1 : (size_t)shape->dimensions[0];
    weight_add_part(weight, &(struct weight_part){.tensor = tensor, .rows = rows, .order = order});
    return STATUS_OK;
}

static enum status add_ends(struct thinking *thinking)
{
    int64_t symbols = (int64_t)thinking->symbol_count;
    struct shape shape = shape_matrix(symbols, (int64_t)thinking->layers[0].inputs);
    if (thinking->embedding != NULL) {
        TRY(add_end(thinking, "embedding", &shape, thinking->embedding, WEIGHT_ORDER_ROWS));
    }
    shape = shape_matrix((int64_t)thinking->layers[0].units, symbols);
    TRY(add_end(thinking, "softmax/w", &shape, thinking->output,
                thinking->layout->is_output_transposed ? WEIGHT_ORDER_COLUMNS : WEIGHT_ORDER_ROWS));
    shape = shape_vector(symbols);
    return add_end(thinking, "softmax/b", &shape, thinking->output_bias, WEIGHT_ORDER_ROWS);
}

/* ---- the program ---- */

static enum status check_size(const struct thinking *thinking)
{
    static const enum recurrent_cell cells[] = {RECURRENT_CELL_LSTM, RECURRENT_CELL_GRU, RECURRENT_CELL_RNN};
    struct language_model_options options = {
        .cell = cells[thinking->layers[0].cell],
        .layers = thinking->layer_count,
        .units = thinking->layers[0].units,
        .embedding = thinking->embedding == NULL ? 0 : thinking->layers[0].inputs,
        .vocabulary_size = thinking->symbol_count,
    };
    size_t parameters = language_model_parameter_count(&options);
    if (options.units > LANGUAGE_MODEL_UNITS_MAX || options.embedding > LANGUAGE_MODEL_UNITS_MAX ||
        parameters > LANGUAGE_MODEL_PARAMETERS_MAX) {
        return error_set(thinking->error, STATUS_TOO_LARGE,
                         "%zu units, embedding %zu, %zu parameters: at most %d, %d and %d", options.units,
                         options.embedding, parameters, LANGUAGE_MODEL_UNITS_MAX, LANGUAGE_MODEL_UNITS_MAX,
                         LANGUAGE_MODEL_PARAMETERS_MAX);
    }
    return STATUS_OK;
}

enum status think_make_program(struct thinking *thinking)
{
    static const char *const cells[] = {"lstm", "gru", "rnn"};
    const struct layer *first = &thinking->layers[0];
    TRY(check_size(thinking));
    TRY(think_find_forget_biases(thinking));
    for (size_t i = 0; i < thinking->layer_count; i++) {
        TRY(add_layer(thinking, i));
    }
    TRY(add_ends(thinking));
    json_t *embedding = thinking->embedding == NULL ? json_null() : json_integer((json_int_t)first->inputs);
    json_t *residual = thinking->is_residual ? json_true() : NULL;
    json_t *step = json_pack("{s:s, s:s, s:I, s:I, s:o, s:o*, s:O}", "op", "language_model", "cell", cells[first->cell],
                             "layers", (json_int_t)thinking->layer_count, "units", (json_int_t)first->units,
                             "embedding", embedding, "residual", residual, "vocabulary", thinking->vocabulary);
    thinking->result->program = json_pack("{s:[o]}", "program", step);
    if (thinking->result->program == NULL) {
        return foreign_no_memory(thinking->model, thinking->error);
    }
    return think_note(thinking, "generation", "stateful",
                      "the state is carried from symbol to symbol, as char-rnn programs sample");
}

/* ---- computing ---- */

/* Which of the tensor's elements belongs at a row and column of the part. */
static size_t element_index(const struct weight *weight, const struct weight_part *part, size_t row, size_t column)
{
    size_t gate_columns = part->gates == NULL ? SIZE_MAX : weight->gate_columns;
    size_t gate = column / gate_columns;
    size_t from = part->gates == NULL ? column : part->gates[gate] * gate_columns + column % gate_columns;
    size_t last = part->tensor->shape.rank == 1 ? 0 : think_dimension(part->tensor, 1);
    size_t units = weight->gate_columns;
    size_t at = 0;
    switch (part->order) {
    case WEIGHT_ORDER_COLUMNS: return from * last + row;
    case WEIGHT_ORDER_CUDNN_INPUT:
        at = column % units * part->rows + row;
        return at / units * last + column / units * units + at % units;
    case WEIGHT_ORDER_CUDNN_RECURRENT: return column % units * last + column / units * units + row;
    case WEIGHT_ORDER_ROWS:
    default: return row * last + part->source_column + from;
    }
}

/* One of the part's rows into a row of the variable. */
static void add_values(const struct weight *weight, const struct weight_part *part, size_t row, float *values)
{
    size_t count = part->columns == 0 ? weight_columns(weight) : part->columns;
    float *target = values + part->target_column;
    for (size_t column = 0; column < count; column++) {
        target[column] += (float)foreign_number(part->tensor, element_index(weight, part, row, column));
    }
}

size_t weight_rows(const struct weight *weight)
{
    return weight->shape.rank < 2 ? 1 : (size_t)weight->shape.dimensions[0];
}

size_t weight_columns(const struct weight *weight)
{
    return weight->shape.rank == 0 ? 1 : (size_t)weight->shape.dimensions[weight->shape.rank - 1];
}

void weight_compute(const struct weight *weight, size_t first, size_t count, float *values)
{
    size_t columns = weight_columns(weight);
    memset(values, 0, count * columns * sizeof *values);
    for (size_t row = first; row < first + count; row++) {
        for (size_t i = 0; i < weight->part_count; i++) {
            const struct weight_part *part = &weight->parts[i];
            if (row >= part->target_row && row - part->target_row < part->rows) {
                add_values(weight, part, row - part->target_row, values + (row - first) * columns);
            }
        }
    }
    if (weight->forget_shift < 0 || weight->forget_shift > 0) {
        for (size_t i = 0; i < weight->gate_columns; i++) {
            values[FORGET_GATE * weight->gate_columns + i] += (float)weight->forget_shift;
        }
    }
}
