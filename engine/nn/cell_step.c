/* One step of the plain cells, composed of the nodes TensorFlow's call methods make, in their order. Thread: the
 * building one. Source: TensorFlow 1.15, rnn_cell_impl.py. */
#include "engine/base/check.h"
#include "engine/nn/cell_private.h"

/* [input, state] · kernel + bias */
static enum status affine_of_both(struct graph *graph, struct output input, struct output state,
                                  const struct variable *kernel, const struct variable *bias, struct output *ret_output,
                                  struct error *error)
{
    struct output both[] = {input, state};
    struct output joined;
    TRY(cell_concat(graph, both, 2, &joined, error));
    return cell_affine(graph, joined, kernel, bias, ret_output, error);
}

static enum status step_basic_rnn(struct graph *graph, const struct cell *cell, struct output input,
                                  struct output state, struct output *ret_output, struct error *error)
{
    struct output sum;
    TRY(affine_of_both(graph, input, state, cell->weights[CELL_KERNEL], cell->weights[CELL_BIAS], &sum, error));
    return cell_activate(graph, cell, sum, ret_output, error);
}

static enum status step_gru(struct graph *graph, const struct cell *cell, struct output input, struct output state,
                            struct output *ret_output, struct error *error)
{
    struct output sum;
    struct output gates;
    struct output parts[2]; /* reset, update */
    struct output reset_state;
    struct output candidate;
    TRY(affine_of_both(graph, input, state, cell->weights[CELL_KERNEL], cell->weights[CELL_BIAS], &sum, error));
    TRY(cell_unary(graph, "Sigmoid", sum, &gates, error));
    TRY(cell_split(graph, gates, (struct output){NULL, 0}, 2, parts, error));
    TRY(cell_binary(graph, "Mul", "mul", parts[0], state, &reset_state, error));
    TRY(affine_of_both(graph, input, reset_state, cell->weights[CELL_CANDIDATE_KERNEL],
                       cell->weights[CELL_CANDIDATE_BIAS], &sum, error));
    TRY(cell_activate(graph, cell, sum, &candidate, error));
    struct output kept;
    struct output rest;
    struct output fresh;
    TRY(cell_binary(graph, "Mul", "mul", parts[1], state, &kept, error));
    TRY(cell_binary_number(graph, "Sub", "sub", parts[1], 1, true, &rest, error));
    TRY(cell_binary(graph, "Mul", "mul", rest, candidate, &fresh, error));
    return cell_binary(graph, "Add", "add", kept, fresh, ret_output, error);
}

/* i, j, f, o of BasicLSTMCell, which makes one axis constant for all its splits. */
enum { GATE_INPUT, GATE_NEW, GATE_FORGET, GATE_OUTPUT, GATE_COUNT };

static enum status basic_lstm_c(struct graph *graph, const struct cell *cell, const struct output *gates,
                                struct output c, struct output *ret_c, struct error *error)
{
    struct output bias;
    struct output forget;
    struct output kept;
    struct output input;
    struct output fresh;
    TRY(cell_number(graph, "Const", cell->dtype, cell->options.forget_bias, &bias, error));
    TRY(cell_binary(graph, "Add", NULL, gates[GATE_FORGET], bias, &forget, error));
    TRY(cell_unary(graph, "Sigmoid", forget, &forget, error));
    TRY(cell_binary(graph, "Mul", NULL, c, forget, &kept, error));
    TRY(cell_unary(graph, "Sigmoid", gates[GATE_INPUT], &input, error));
    TRY(cell_activate(graph, cell, gates[GATE_NEW], &fresh, error));
    TRY(cell_binary(graph, "Mul", NULL, input, fresh, &fresh, error));
    return cell_binary(graph, "Add", NULL, kept, fresh, ret_c, error);
}

static enum status step_basic_lstm(struct graph *graph, const struct cell *cell, struct output input,
                                   const struct output *states, struct output *ret_output, struct output *ret_states,
                                   struct error *error)
{
    struct output one;
    struct output before[2] = {states[0]};
    struct output sum;
    struct output gates[GATE_COUNT];
    struct output after[2];
    struct output open;
    TRY(cell_number(graph, "Const", DTYPE_INT32, 1, &one, error));
    if (cell->options.is_state_matrix) {
        TRY(cell_split(graph, states[0], one, 2, before, error));
    } else {
        before[1] = states[1];
    }
    TRY(affine_of_both(graph, input, before[1], cell->weights[CELL_KERNEL], cell->weights[CELL_BIAS], &sum, error));
    TRY(cell_split(graph, sum, one, GATE_COUNT, gates, error));
    TRY(basic_lstm_c(graph, cell, gates, before[0], &after[0], error));
    TRY(cell_activate(graph, cell, after[0], &after[1], error));
    TRY(cell_unary(graph, "Sigmoid", gates[GATE_OUTPUT], &open, error));
    TRY(cell_binary(graph, "Mul", NULL, after[1], open, &after[1], error));
    *ret_output = after[1];
    if (cell->options.is_state_matrix) {
        return cell_concat(graph, after, 2, &ret_states[0], error);
    }
    memcpy(ret_states, after, sizeof after);
    return STATUS_OK;
}

/* gate + peephole ∘ c, where the cell has peepholes. */
static enum status peep(struct graph *graph, const struct cell *cell, int peephole, struct output gate, struct output c,
                        struct output *ret_output, struct error *error)
{
    *ret_output = gate;
    if (!cell->options.has_peepholes) {
        return STATUS_OK;
    }
    struct output seen;
    TRY(cell_binary(graph, "Mul", "mul", cell->weights[peephole]->read, c, &seen, error));
    return cell_binary(graph, "Add", "add", gate, seen, ret_output, error);
}

static enum status lstm_c(struct graph *graph, const struct cell *cell, const struct output *gates, struct output c,
                          struct output *ret_c, struct error *error)
{
    struct output forget;
    struct output kept;
    struct output input;
    struct output fresh;
    TRY(cell_binary_number(graph, "Add", "add", gates[GATE_FORGET], cell->options.forget_bias, false, &forget, error));
    TRY(peep(graph, cell, CELL_PEEPHOLE_FORGET, forget, c, &forget, error));
    TRY(cell_unary(graph, "Sigmoid", forget, &forget, error));
    TRY(cell_binary(graph, "Mul", "mul", forget, c, &kept, error));
    TRY(peep(graph, cell, CELL_PEEPHOLE_INPUT, gates[GATE_INPUT], c, &input, error));
    TRY(cell_unary(graph, "Sigmoid", input, &input, error));
    TRY(cell_activate(graph, cell, gates[GATE_NEW], &fresh, error));
    TRY(cell_binary(graph, "Mul", "mul", input, fresh, &fresh, error));
    TRY(cell_binary(graph, "Add", "add", kept, fresh, ret_c, error));
    return cell->options.cell_clip > 0 ? cell_clip(graph, *ret_c, cell->options.cell_clip, ret_c, error) : STATUS_OK;
}

static enum status lstm_m(struct graph *graph, const struct cell *cell, const struct output *gates, struct output c,
                          struct output *ret_m, struct error *error)
{
    struct output open;
    struct output bent;
    TRY(peep(graph, cell, CELL_PEEPHOLE_OUTPUT, gates[GATE_OUTPUT], c, &open, error));
    TRY(cell_unary(graph, "Sigmoid", open, &open, error));
    TRY(cell_activate(graph, cell, c, &bent, error));
    TRY(cell_binary(graph, "Mul", "mul", open, bent, ret_m, error));
    if (cell->options.projection == 0) {
        return STATUS_OK;
    }
    TRY(cell_binary(graph, "MatMul", NULL, *ret_m, cell->weights[CELL_PROJECTION]->read, ret_m, error));
    return cell->options.projection_clip > 0 ? cell_clip(graph, *ret_m, cell->options.projection_clip, ret_m, error)
                                             : STATUS_OK;
}

static enum status step_lstm(struct graph *graph, const struct cell *cell, struct output input,
                             const struct output *states, struct output *ret_output, struct output *ret_states,
                             struct error *error)
{
    size_t units = cell->options.units;
    size_t outputs = cell->options.projection > 0 ? cell->options.projection : units;
    struct output before[2] = {states[0]};
    struct output sum;
    struct output gates[GATE_COUNT];
    struct output after[2];
    if (cell->options.is_state_matrix) {
        TRY(cell_slice(graph, states[0], 0, units, &before[0], error));
        TRY(cell_slice(graph, states[0], units, outputs, &before[1], error));
    } else {
        before[1] = states[1];
    }
    TRY(affine_of_both(graph, input, before[1], cell->weights[CELL_KERNEL], cell->weights[CELL_BIAS], &sum, error));
    TRY(cell_split(graph, sum, (struct output){NULL, 0}, GATE_COUNT, gates, error));
    TRY(lstm_c(graph, cell, gates, before[0], &after[0], error));
    TRY(lstm_m(graph, cell, gates, after[0], &after[1], error));
    *ret_output = after[1];
    if (cell->options.is_state_matrix) {
        return cell_concat(graph, after, 2, &ret_states[0], error);
    }
    memcpy(ret_states, after, sizeof after);
    return STATUS_OK;
}

enum status cell_step(struct graph *graph, const struct cell *cell, struct output input, const struct output *states,
                      struct output *ret_output, struct output *ret_states, struct error *error)
{
    switch (cell->options.kind) {
    case CELL_BASIC_RNN: TRY(step_basic_rnn(graph, cell, input, states[0], ret_output, error)); break;
    case CELL_GRU: TRY(step_gru(graph, cell, input, states[0], ret_output, error)); break;
    case CELL_BASIC_LSTM: return step_basic_lstm(graph, cell, input, states, ret_output, ret_states, error);
    case CELL_LSTM: return step_lstm(graph, cell, input, states, ret_output, ret_states, error);
    case CELL_MULTI:
    case CELL_DROPOUT_WRAPPER:
    case CELL_RESIDUAL_WRAPPER:
    case CELL_PROGRAM: CHECK(false);
    }
    ret_states[0] = *ret_output;
    return STATUS_OK;
}
