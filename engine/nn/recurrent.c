/* Stacks of recurrent cells. Thread: the building one. */
#include "engine/nn/recurrent.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/base/rng.h"
#include "engine/graph/function.h"
#include "engine/graph/variable.h"
#include "engine/nn/recurrence.h"

/* ---- what there is to know of a cell ---- */

static const struct {
    const char *name;
    const char *scope;
    size_t state_count;
    size_t gate_count;
    enum cell_kind kind;
} cells[] = {
    [RECURRENT_CELL_LSTM] = {"lstm", "basic_lstm_cell", 2, 4, CELL_BASIC_LSTM},
    [RECURRENT_CELL_GRU] = {"gru", "gru_cell", 1, 3, CELL_GRU},
    [RECURRENT_CELL_RNN] = {"rnn", "basic_rnn_cell", 1, 1, CELL_BASIC_RNN},
};
static_assert(sizeof cells / sizeof *cells == RECURRENT_CELL_COUNT, "a row for each cell");

const char *recurrent_cell_name(enum recurrent_cell cell)
{
    return cells[cell].name;
}

bool recurrent_cell_find(const char *name, enum recurrent_cell *ret_cell)
{
    for (size_t i = 0; i < RECURRENT_CELL_COUNT; i++) {
        if (strcmp(cells[i].name, name) == 0) {
            *ret_cell = (enum recurrent_cell)i;
            return true;
        }
    }
    return false;
}

const char *recurrent_cell_scope(enum recurrent_cell cell)
{
    return cells[cell].scope;
}

size_t recurrent_cell_state_count(enum recurrent_cell cell)
{
    return cells[cell].state_count;
}

size_t recurrent_cell_gate_count(enum recurrent_cell cell)
{
    return cells[cell].gate_count;
}

const char *recurrent_state_name(enum recurrent_cell cell, size_t index, char name[RECURRENT_STATE_NAME_BYTES_MAX])
{
    size_t count = cells[cell].state_count;
    const char *part = count == 1 ? "" : index % count == 0 ? "/c" : "/h";
    snprintf(name, RECURRENT_STATE_NAME_BYTES_MAX, "%zu%s", index / count, part);
    return name;
}

/* ---- LSTM layers, one node each ---- */

struct lstm_weights {
    struct output kernel;
    struct output bias;
};

static enum status get_weights(struct graph *graph, size_t inputs, size_t units, struct lstm_weights *ret_weights,
                               struct error *error)
{
    const struct variable *kernel = NULL;
    const struct variable *bias = NULL;
    struct variable_options options = {.name = "kernel",
                                       .dtype = DTYPE_FLOAT32,
                                       .shape = shape_matrix((int64_t)(inputs + units), (int64_t)(4 * units))};
    TRY(get_variable(graph, &options, &kernel, NULL, error));
    options = (struct variable_options){.name = "bias",
                                        .dtype = DTYPE_FLOAT32,
                                        .shape = shape_vector((int64_t)(4 * units)),
                                        .initializer = {.kind = INITIALIZER_ZEROS}};
    TRY(get_variable(graph, &options, &bias, NULL, error));
    *ret_weights = (struct lstm_weights){kernel->read, bias->read};
    return STATUS_OK;
}

/* The variables of layer `layer`, inside its scopes. */
static enum status enter_and_get_weights(struct graph *graph, size_t layer, size_t inputs, size_t units,
                                         struct lstm_weights *ret_weights, struct error *error)
{
    const char *const scopes[] = {"rnn", "multi_rnn_cell", "cell_", recurrent_cell_scope(RECURRENT_CELL_LSTM)};
    enum { SCOPE_COUNT = sizeof scopes / sizeof *scopes };
    struct variable_scope_frame frames[SCOPE_COUNT];
    size_t open = 0;
    enum status status = STATUS_OK;
    while (open < SCOPE_COUNT && status == STATUS_OK) {
        char name[32];
        snprintf(name, sizeof name, open == 2 ? "%s%zu" : "%s", scopes[open], layer);
        status = variable_scope_enter(graph, name, REUSE_INHERIT, &frames[open], error);
        open += status == STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = get_weights(graph, inputs, units, ret_weights, error);
    }
    while (open > 0) {
        variable_scope_leave(graph, &frames[--open]);
    }
    return status;
}

enum status recurrent_add_dropout(struct graph *graph, struct output x, struct output keep_probability,
                                  bool has_one_mask, const char *salt, struct output *ret_output, struct error *error)
{
    char key[GRAPH_NAME_BYTES_MAX + 64];
    snprintf(key, sizeof key, "%s/dropout/%.32s", graph_name_scope(graph), salt);
    struct attribute attributes[] = {
        {.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)(rng_key(key) >> 1)},
        {.name = "one_mask", .kind = ATTRIBUTE_BOOLEAN, .boolean = has_one_mask}};
    struct output inputs[] = {x, keep_probability};
    struct node_options options = {
        .name = "dropout", .inputs = inputs, .input_count = 2, .attributes = attributes, .attribute_count = 2};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Dropout", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

static enum status build_lstm(struct graph *graph, const struct recurrent_stack *stack,
                              struct recurrent_stack_outputs *ret_outputs, struct error *error)
{
    struct output x = stack->inputs;
    for (size_t layer = 0; layer < stack->layers; layer++) {
        struct lstm_weights weights;
        TRY(enter_and_get_weights(graph, layer, layer == 0 ? stack->depth : stack->units, stack->units, &weights,
                                  error));
        const struct output *initial = stack->initial + RECURRENT_STATES_MAX * layer;
        struct output inputs[] = {x, initial[0], initial[1], weights.kernel, weights.bias};
        struct attribute forget = {.name = "forget_bias", .kind = ATTRIBUTE_NUMBER, .number = stack->forget_bias};
        struct node_options options = {
            .name = "rnn", .inputs = inputs, .input_count = 5, .attributes = &forget, .attribute_count = 1};
        struct node *node = NULL;
        TRY(graph_add_node(graph, "LstmBlock", &options, &node, error));
        struct output below = x;
        x = (struct output){node, 0};
        ret_outputs->final[RECURRENT_STATES_MAX * layer] = (struct output){node, 1};
        ret_outputs->final[RECURRENT_STATES_MAX * layer + 1] = (struct output){node, 2};
        if (stack->keep_probability.node != NULL) {
            char salt[24];
            snprintf(salt, sizeof salt, "%zu", layer);
            TRY(recurrent_add_dropout(graph, x, stack->keep_probability, stack->has_one_mask, salt, &x, error));
        }
        if (stack->is_residual && layer > 0) {
            struct output terms[] = {x, below};
            TRY(graph_add(graph, "Add", "residual", terms, 2, &x, error));
        }
    }
    ret_outputs->outputs = x;
    return STATUS_OK;
}

/* ---- other cells, over time by dynamic_rnn ---- */

/* Puts the cell into a wrapper. */
static enum status wrap(struct graph *graph, struct cell_options wrapper, uint32_t *cell, struct error *error)
{
    wrapper.children[0] = *cell;
    wrapper.child_count = 1;
    return cell_create(graph, &wrapper, cell, error);
}

static enum status make_cell(struct graph *graph, const struct recurrent_stack *stack, size_t layer, uint32_t *ret_cell,
                             struct error *error)
{
    struct cell_options cell = {.kind = cells[stack->cell].kind, .units = stack->units};
    TRY(cell_create(graph, &cell, ret_cell, error));
    if (stack->keep_probability.node != NULL) {
        struct cell_options dropout = {.kind = CELL_DROPOUT_WRAPPER,
                                       .output_keep = stack->keep_probability,
                                       .has_one_mask = stack->has_one_mask,
                                       .output_keep_value = (double)NAN};
        TRY(wrap(graph, dropout, ret_cell, error));
    }
    struct cell_options residual = {.kind = CELL_RESIDUAL_WRAPPER};
    return stack->is_residual && layer > 0 ? wrap(graph, residual, ret_cell, error) : STATUS_OK;
}

static enum status build_over_time(struct graph *graph, const struct recurrent_stack *stack,
                                   struct recurrent_stack_outputs *ret_outputs, struct error *error)
{
    struct cell_options multi = {.kind = CELL_MULTI, .child_count = stack->layers};
    struct recurrence_options options = {
        .inputs = stack->inputs, .initial_states = stack->initial, .is_time_major = true};
    uint32_t cell = 0;
    for (size_t layer = 0; layer < stack->layers; layer++) {
        TRY(make_cell(graph, stack, layer, &multi.children[layer], error));
    }
    TRY(cell_create(graph, &multi, &cell, error));
    if (output_type(stack->inputs)->dtype == DTYPE_INT32) {
        options.symbol_count = stack->depth;
    }
    return dynamic_rnn(graph, cell, &options, &ret_outputs->outputs, ret_outputs->final, error);
}

enum status recurrent_stack_build(struct graph *graph, const struct recurrent_stack *stack,
                                  struct recurrent_stack_outputs *ret_outputs, struct error *error)
{
    CHECK(stack->layers >= 1 && stack->layers <= RECURRENT_LAYERS_MAX);
    return stack->cell == RECURRENT_CELL_LSTM ? build_lstm(graph, stack, ret_outputs, error)
                                              : build_over_time(graph, stack, ret_outputs, error);
}
