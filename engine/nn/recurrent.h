/* Recurrent layers as graph builders: cells, and dynamic_rnn over a stack of them. For one building thread. */
#ifndef ENGINE_NN_RECURRENT_H
#define ENGINE_NN_RECURRENT_H

#include "engine/graph/graph.h"

enum { RECURRENT_LAYERS_MAX = 16 };

/* A stack of BasicLSTMCells under the variable names dynamic_rnn gives a MultiRNNCell:
 * rnn/multi_rnn_cell/cell_N/basic_lstm_cell/{kernel,bias}, in the current variable scope. */
struct lstm_stack {
    struct output
        inputs;   /* float32 [time, batch, depth], or int32 [time, batch] symbols standing for one-hot vectors */
    size_t depth; /* columns of the input, or number of symbols */
    size_t units;
    size_t layers;
    double forget_bias;
    struct output keep_probability;                /* of each layer's output; .node NULL: no dropout */
    struct output initial_c[RECURRENT_LAYERS_MAX]; /* [batch, units] */
    struct output initial_h[RECURRENT_LAYERS_MAX];
};

struct lstm_stack_outputs {
    struct output outputs; /* [time, batch, units] of the top layer, after dropout */
    struct output last_c[RECURRENT_LAYERS_MAX];
    struct output last_h[RECURRENT_LAYERS_MAX];
};

/* Adds the layers; variables as the current scope's reuse says. get_variable's errors. */
enum status lstm_stack_build(struct graph *graph, const struct lstm_stack *stack,
                             struct lstm_stack_outputs *ret_outputs, struct error *error) MUST_CHECK;

#endif
