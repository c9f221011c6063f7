/* Cells: making them, their sizes, calling them. Thread: the building one.
 * Source: TensorFlow 1.15, rnn_cell_impl.py. */
#include "engine/nn/cell.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/graph/function.h"
#include "engine/nn/cell_private.h"

const struct cell *cell_at(const struct graph *graph, uint32_t cell)
{
    return graph_object(graph, OBJECT_CELL, cell);
}

enum status cell_edit(struct graph *graph, uint32_t cell, struct cell **ret_cell, struct error *error)
{
    void *data = NULL;
    TRY(graph_edit_object(graph, OBJECT_CELL, cell, &data, error));
    *ret_cell = data;
    return STATUS_OK;
}

enum status cell_check_dtype(enum dtype dtype, struct error *error)
{
    if (dtype == DTYPE_FLOAT32 || dtype == DTYPE_FLOAT64) {
        return STATUS_OK;
    }
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                       "RNN cell only supports floating point inputs, but saw dtype: <dtype: '%s'>", dtype_name(dtype));
}

/* ---- making ---- */

static bool is_lstm(const struct cell_options *options)
{
    return options->kind == CELL_BASIC_LSTM || options->kind == CELL_LSTM;
}

static const char *default_name(enum cell_kind kind)
{
    switch (kind) {
    case CELL_BASIC_RNN: return "basic_rnn_cell";
    case CELL_BASIC_LSTM: return "basic_lstm_cell";
    case CELL_LSTM: return "lstm_cell";
    case CELL_GRU: return "gru_cell";
    case CELL_MULTI: return "multi_rnn_cell";
    case CELL_DROPOUT_WRAPPER:
    case CELL_RESIDUAL_WRAPPER:
    case CELL_PROGRAM: return NULL;
    }
    CHECK(false);
}

static enum status check_plain(const struct cell_options *options, struct error *error)
{
    if (options->units == 0 || options->units > CELL_UNITS_MAX || options->projection > CELL_UNITS_MAX) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "num_units and num_proj must be between 1 and %d: %zu, %zu", CELL_UNITS_MAX, options->units,
                           options->projection);
    }
    if (options->has_dtype) {
        TRY(cell_check_dtype(options->dtype, error));
    }
    const char *activation = options->activation;
    bool is_known = activation == NULL || strcmp(activation, "linear") == 0 || strcmp(activation, "tanh") == 0 ||
                    strcmp(activation, "sigmoid") == 0 || function_exists(activation);
    return is_known ? STATUS_OK
                    : error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "Unknown activation function:%s",
                                  activation);
}

static enum status check_keep(const struct output *keep, double value, const char *name, struct error *error)
{
    bool is_known = !isnan(value) || keep->node == NULL;
    if (is_known && !(value >= 0 && value <= 1)) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "Parameter %s must be between 0 and 1: %.0f",
                           name, trunc(value) + 0.0);
    }
    return STATUS_OK;
}

static enum status check_wrapper(const struct cell_options *options, struct error *error)
{
    if (options->child_count != 1) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "a wrapper takes one cell, not %zu",
                           options->child_count);
    }
    TRY(check_keep(&options->input_keep, options->input_keep_value, "input_keep_prob", error));
    TRY(check_keep(&options->state_keep, options->state_keep_value, "state_keep_prob", error));
    return check_keep(&options->output_keep, options->output_keep_value, "output_keep_prob", error);
}

/* "LSTMStateTuple(c=2, h=2)", "2", "(2, 3)": how Python prints a state size. */
static size_t print_size(const struct graph *graph, uint32_t cell, char *text, size_t room)
{
    const struct cell_options *options = &cell_at(graph, cell)->options;
    if (options->kind == CELL_DROPOUT_WRAPPER || options->kind == CELL_RESIDUAL_WRAPPER) {
        return print_size(graph, options->children[0], text, room);
    }
    if (is_lstm(options) && !options->is_state_matrix) {
        return (size_t)snprintf(text, room, "LSTMStateTuple(c=%zu, h=%zu)", cell_state_size(graph, cell, 0),
                                cell_state_size(graph, cell, 1));
    }
    if (cell_state_count(graph, cell) == 1 && options->kind != CELL_MULTI) {
        return (size_t)snprintf(text, room, "%zu", cell_state_size(graph, cell, 0));
    }
    return (size_t)snprintf(text, room, "(%zu states)", cell_state_count(graph, cell));
}

static bool is_state_tuple(const struct graph *graph, uint32_t cell)
{
    const struct cell_options *options = &cell_at(graph, cell)->options;
    switch (options->kind) {
    case CELL_BASIC_LSTM:
    case CELL_LSTM:
    case CELL_MULTI: return !options->is_state_matrix;
    case CELL_DROPOUT_WRAPPER:
    case CELL_RESIDUAL_WRAPPER: return is_state_tuple(graph, options->children[0]);
    case CELL_PROGRAM: return options->state_count != 1;
    case CELL_BASIC_RNN:
    case CELL_GRU: return false;
    }
    CHECK(false);
}

static enum status check_multi(const struct graph *graph, const struct cell_options *options, struct error *error)
{
    if (options->child_count == 0) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "Must specify at least one cell for MultiRNNCell.");
    }
    if (!options->is_state_matrix) {
        return STATUS_OK;
    }
    char sizes[400] = "";
    size_t length = 0;
    bool has_tuple = false;
    for (size_t i = 0; i < options->child_count; i++) {
        has_tuple = has_tuple || is_state_tuple(graph, options->children[i]);
        if (length + 100 < sizeof sizes) {
            length += (size_t)snprintf(sizes + length, sizeof sizes - length, i == 0 ? "" : ", ");
            length += print_size(graph, options->children[i], sizes + length, sizeof sizes - length);
        }
    }
    return !has_tuple ? STATUS_OK
                      : error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                                    "Some cells return tuples of states, but the flag state_is_tuple is not set.  "
                                    "State sizes are: [%s]",
                                    sizes);
}

/* Nesting and states stay within bounds, however cells are put into one another. */
static enum status check_children(const struct graph *graph, const struct cell_options *options, size_t *ret_nesting,
                                  struct error *error)
{
    size_t deepest = 0;
    size_t states = 0;
    CHECK(options->child_count <= CELL_CHILDREN_MAX);
    for (size_t i = 0; i < options->child_count; i++) {
        size_t nesting = cell_at(graph, options->children[i])->nesting;
        deepest = nesting > deepest ? nesting : deepest;
        states += cell_state_count(graph, options->children[i]);
    }
    if (deepest >= CELL_NESTING_MAX || states > CELL_STATES_MAX || options->state_count > CELL_STATES_MAX) {
        return error_set(error, STATUS_LIMIT, "a cell nests deeper than %d or has more than %d states",
                         CELL_NESTING_MAX, CELL_STATES_MAX);
    }
    *ret_nesting = deepest + 1;
    return STATUS_OK;
}

static enum status check_options(const struct graph *graph, const struct cell_options *options, struct error *error)
{
    switch (options->kind) {
    case CELL_BASIC_RNN:
    case CELL_BASIC_LSTM:
    case CELL_LSTM:
    case CELL_GRU: return check_plain(options, error);
    case CELL_MULTI: return check_multi(graph, options, error);
    case CELL_DROPOUT_WRAPPER:
    case CELL_RESIDUAL_WRAPPER: return check_wrapper(options, error);
    case CELL_PROGRAM: CHECK(options->call != NULL); return STATUS_OK;
    }
    CHECK(false);
}

static enum status copy_text(struct graph *graph, const char **text, struct error *error)
{
    if (*text == NULL) {
        return STATUS_OK;
    }
    *text = arena_copy_string(graph_arena(graph), *text);
    return *text == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory for a cell") : STATUS_OK;
}

enum status cell_create(struct graph *graph, const struct cell_options *options, uint32_t *ret_cell,
                        struct error *error)
{
    struct cell cell = {.options = *options};
    TRY(check_children(graph, options, &cell.nesting, error));
    TRY(check_options(graph, options, error));
    if (cell.options.name == NULL) {
        cell.options.name = default_name(options->kind);
    }
    if (is_lstm(options) && !options->has_forget_bias) {
        cell.options.forget_bias = 1;
    }
    TRY(copy_text(graph, &cell.options.name, error));
    TRY(copy_text(graph, &cell.options.activation, error));
    return graph_add_object(graph, OBJECT_CELL, &cell, sizeof cell, ret_cell, error);
}

/* ---- sizes ---- */

size_t cell_state_count(const struct graph *graph, uint32_t cell)
{
    const struct cell_options *options = &cell_at(graph, cell)->options;
    size_t count = 0;
    switch (options->kind) {
    case CELL_BASIC_RNN:
    case CELL_GRU: return 1;
    case CELL_BASIC_LSTM:
    case CELL_LSTM: return options->is_state_matrix ? 1 : 2;
    case CELL_DROPOUT_WRAPPER:
    case CELL_RESIDUAL_WRAPPER: return cell_state_count(graph, options->children[0]);
    case CELL_PROGRAM: return options->state_count;
    case CELL_MULTI:
        for (size_t i = 0; i < options->child_count; i++) {
            count += cell_state_count(graph, options->children[i]);
        }
        return options->is_state_matrix ? 1 : count;
    }
    CHECK(false);
}

static size_t multi_state_size(const struct graph *graph, const struct cell_options *options, size_t index)
{
    size_t sum = 0;
    for (size_t i = 0; i < options->child_count; i++) {
        size_t count = cell_state_count(graph, options->children[i]);
        if (options->is_state_matrix) {
            sum += cell_state_size(graph, options->children[i], 0);
        } else if (index < count) {
            return cell_state_size(graph, options->children[i], index);
        } else {
            index -= count;
        }
    }
    return sum;
}

size_t cell_state_size(const struct graph *graph, uint32_t cell, size_t index)
{
    const struct cell_options *options = &cell_at(graph, cell)->options;
    CHECK(index < cell_state_count(graph, cell));
    switch (options->kind) {
    case CELL_BASIC_RNN:
    case CELL_GRU: return options->units;
    case CELL_BASIC_LSTM:
    case CELL_LSTM:
        if (options->is_state_matrix) {
            return options->units + cell_output_size(graph, cell);
        }
        return index == 0 ? options->units : cell_output_size(graph, cell);
    case CELL_DROPOUT_WRAPPER:
    case CELL_RESIDUAL_WRAPPER: return cell_state_size(graph, options->children[0], index);
    case CELL_PROGRAM: return options->state_sizes[index];
    case CELL_MULTI: return multi_state_size(graph, options, index);
    }
    CHECK(false);
}

size_t cell_output_size(const struct graph *graph, uint32_t cell)
{
    const struct cell_options *options = &cell_at(graph, cell)->options;
    switch (options->kind) {
    case CELL_BASIC_RNN:
    case CELL_GRU:
    case CELL_BASIC_LSTM:
    case CELL_PROGRAM: return options->units;
    case CELL_LSTM: return options->projection > 0 ? options->projection : options->units;
    case CELL_DROPOUT_WRAPPER:
    case CELL_RESIDUAL_WRAPPER: return cell_output_size(graph, options->children[0]);
    case CELL_MULTI: return cell_output_size(graph, options->children[options->child_count - 1]);
    }
    CHECK(false);
}

enum dtype cell_dtype(const struct graph *graph, uint32_t cell, enum dtype otherwise)
{
    const struct cell *data = cell_at(graph, cell);
    if (data->options.child_count > 0) {
        return cell_dtype(graph, data->options.children[0], otherwise);
    }
    return data->is_built ? data->dtype : data->options.has_dtype ? data->options.dtype : otherwise;
}

size_t cell_variables(const struct graph *graph, uint32_t cell, size_t room, const struct variable **ret_variables)
{
    const struct cell *data = cell_at(graph, cell);
    size_t count = 0;
    for (size_t i = 0; i < CELL_WEIGHTS_MAX; i++) {
        if (data->weights[i] != NULL && count < room) {
            ret_variables[count++] = data->weights[i];
        }
    }
    for (size_t i = 0; i < data->options.child_count; i++) {
        count += cell_variables(graph, data->options.children[i], room - count, ret_variables + count);
    }
    return count;
}

/* ---- calling ---- */

static enum status call_plain(struct graph *graph, uint32_t cell, struct output input, const struct output *states,
                              const struct variable_scope_options *scope, struct output *ret_output,
                              struct output *ret_states, struct error *error)
{
    struct cell_frame frame;
    TRY(cell_enter(graph, cell, scope, &frame, error));
    enum status status = cell_build(graph, cell, input, error);
    for (size_t i = 0; status == STATUS_OK && i < cell_state_count(graph, cell); i++) {
        status = cell_check_dtype(output_type(states[i])->dtype, error);
    }
    if (status == STATUS_OK) {
        status = cell_step(graph, cell_at(graph, cell), input, states, ret_output, ret_states, error);
    }
    cell_leave(graph, &frame);
    return status;
}

static enum status call_program(struct graph *graph, uint32_t cell, struct output input, const struct output *states,
                                const struct variable_scope_options *scope, struct output *ret_output,
                                struct output *ret_states, struct error *error)
{
    const struct cell_options options = cell_at(graph, cell)->options;
    if (options.name == NULL) {
        return options.call(graph, options.context, input, states, options.state_count, ret_output, ret_states, error);
    }
    struct cell_frame frame;
    TRY(cell_enter(graph, cell, scope, &frame, error));
    enum status status =
        options.call(graph, options.context, input, states, options.state_count, ret_output, ret_states, error);
    cell_leave(graph, &frame);
    struct cell *edited = NULL;
    TRY(status);
    TRY(cell_edit(graph, cell, &edited, error));
    edited->is_built = true;
    edited->dtype = output_type(input)->dtype;
    return STATUS_OK;
}

enum status cell_call(struct graph *graph, uint32_t cell, struct output input, const struct output *states,
                      const struct variable_scope_options *scope, struct output *ret_output, struct output *ret_states,
                      struct error *error)
{
    switch (cell_at(graph, cell)->options.kind) {
    case CELL_BASIC_RNN:
    case CELL_BASIC_LSTM:
    case CELL_LSTM:
    case CELL_GRU: return call_plain(graph, cell, input, states, scope, ret_output, ret_states, error);
    case CELL_MULTI: return cell_step_multi(graph, cell, input, states, scope, ret_output, ret_states, error);
    case CELL_DROPOUT_WRAPPER:
        return cell_step_dropout(graph, cell, input, states, scope, ret_output, ret_states, error);
    case CELL_RESIDUAL_WRAPPER:
        return cell_step_residual(graph, cell, input, states, scope, ret_output, ret_states, error);
    case CELL_PROGRAM: return call_program(graph, cell, input, states, scope, ret_output, ret_states, error);
    }
    CHECK(false);
}
