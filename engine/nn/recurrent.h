/* Recurrent layers as graph builders: a stack of cells of one kind over time, under the names dynamic_rnn gives a
 * MultiRNNCell. For one building thread. */
#ifndef ENGINE_NN_RECURRENT_H
#define ENGINE_NN_RECURRENT_H

#include "engine/graph/graph.h"

enum { RECURRENT_LAYERS_MAX = 16, RECURRENT_STATES_MAX = 2 };

/* TensorFlow's BasicLSTMCell, GRUCell, BasicRNNCell. */
enum recurrent_cell { RECURRENT_CELL_LSTM, RECURRENT_CELL_GRU, RECURRENT_CELL_RNN, RECURRENT_CELL_COUNT };

/* "lstm", "gru", "rnn". */
const char *recurrent_cell_name(enum recurrent_cell cell);
/* The cell of that name; false when there is none. */
bool recurrent_cell_find(const char *name, enum recurrent_cell *ret_cell) MUST_CHECK;
/* The scope a cell of that kind makes its variables in: "basic_lstm_cell". */
const char *recurrent_cell_scope(enum recurrent_cell cell);
/* The states of a layer: 2 of an LSTM, c and h; 1 of the others. */
size_t recurrent_cell_state_count(enum recurrent_cell cell);
/* Columns of all a layer's weights, in units: 4 of an LSTM, 3 of a GRU, 1 of an RNN. */
size_t recurrent_cell_gate_count(enum recurrent_cell cell);

enum { RECURRENT_STATE_NAME_BYTES_MAX = 32 };
/* State `index` of a stack, all layers' states one after another, as TensorFlow nests them: "1/h" of an LSTM, whose
 * state is a pair; "1" of the others. Returns `name`. */
const char *recurrent_state_name(enum recurrent_cell cell, size_t index, char name[RECURRENT_STATE_NAME_BYTES_MAX]);

/* A stack of cells; variables are rnn/multi_rnn_cell/cell_N/<scope>/{kernel,bias}, of a GRU {gates,candidate}/{kernel,
 * bias}, in the current variable scope. */
struct recurrent_stack {
    enum recurrent_cell cell;
    struct output
        inputs;   /* float32 [time, batch, depth], or int32 [time, batch] symbols standing for one-hot vectors */
    size_t depth; /* columns of the input, or number of symbols */
    size_t units;
    size_t layers;
    double forget_bias;             /* of LSTM cells */
    struct output keep_probability; /* of each layer's output; .node NULL: no dropout */
    bool has_one_mask;              /* of dropout, for all steps of a run */
    bool is_residual;               /* to what each layer but the first gives, its input is added; after dropout */
    struct output initial[RECURRENT_STATES_MAX * RECURRENT_LAYERS_MAX]; /* [batch, units], layer by layer */
};

struct recurrent_stack_outputs {
    struct output outputs; /* [time, batch, units] of the top layer, after dropout */
    struct output final[RECURRENT_STATES_MAX * RECURRENT_LAYERS_MAX];
};

/* Dropout of x [time, batch, columns], or of one step; `salt` tells its random numbers from others'. */
enum status recurrent_add_dropout(struct graph *graph, struct output x, struct output keep_probability,
                                  bool has_one_mask, const char *salt, struct output *ret_output,
                                  struct error *error) MUST_CHECK;

/* Adds the layers; variables as the current scope's reuse says. get_variable's errors. Of an LSTM they are one node a
 * layer, of other cells a Recurrence. */
enum status recurrent_stack_build(struct graph *graph, const struct recurrent_stack *stack,
                                  struct recurrent_stack_outputs *ret_outputs, struct error *error) MUST_CHECK;

#endif
