/* Recurrent cells and their wrappers: what one time step computes, with TensorFlow 1.15's scopes, variable names and
 * arithmetic. A cell is an object of its graph (OBJECT_CELL); it takes its variable scope and makes its variables at
 * its first call, and keeps them wherever it is called again. For one building thread.
 * Source: TensorFlow 1.15, rnn_cell_impl.py, layers/base.py. Equations, x the input, h and c the state, [x,h] columns
 * side by side, K kernel, b bias:
 *   BasicRNN   h' = tanh([x,h]K + b)
 *   GRU        r|u = σ([x,h]Kg + bg); k = tanh([x, r∘h]Kc + bc); h' = u∘h + (1−u)∘k
 *   BasicLSTM  i|j|f|o = [x,h]K + b; c' = c∘σ(f + forget_bias) + σ(i)∘tanh(j); h' = tanh(c')∘σ(o)
 *   LSTM       the same with peepholes σ(f + forget_bias + wf∘c), σ(i + wi∘c), σ(o + wo∘c'); c' clipped before the
 *              output; m = (σ(o)∘tanh(c'))P, clipped, in place of h' */
#ifndef ENGINE_NN_CELL_H
#define ENGINE_NN_CELL_H

#include "engine/graph/handles.h"
#include "engine/graph/variable.h"

enum { CELL_STATES_MAX = 64, CELL_CHILDREN_MAX = 32, CELL_NESTING_MAX = 8, CELL_UNITS_MAX = 1 << 20 };

enum cell_kind {
    CELL_BASIC_RNN,
    CELL_BASIC_LSTM,
    CELL_LSTM,
    CELL_GRU,
    CELL_MULTI,
    CELL_DROPOUT_WRAPPER,
    CELL_RESIDUAL_WRAPPER,
    CELL_PROGRAM, /* its step is the caller's: see `call`. With a name it has a scope as other cells do */
};

/* The step of a CELL_PROGRAM: from the input and the states to the output and the next states. `context` is the
 * cell's. */
typedef enum status cell_call_function(struct graph *graph, const void *context, struct output input,
                                       const struct output *states, size_t state_count, struct output *ret_output,
                                       struct output *ret_states, struct error *error);

struct cell_options {
    enum cell_kind kind;
    size_t units;
    const char *name; /* layer name; NULL: the kind's ("basic_lstm_cell") */
    enum reuse reuse; /* the cell's reuse= argument */
    bool has_dtype;   /* dtype= argument; otherwise its first input's */
    enum dtype dtype;
    const char *activation; /* "tanh" (NULL), "sigmoid", "relu", "linear" … : a function of one argument */
    bool is_state_matrix;   /* state_is_tuple=False */
    /* BasicLSTM, LSTM */
    double forget_bias; /* with has_forget_bias; otherwise 1.0 */
    bool has_forget_bias;
    bool has_peepholes;
    size_t projection; /* 0: none */
    double cell_clip;  /* 0: none */
    double projection_clip;
    struct initializer initializer;      /* LSTM; kernel_initializer of GRU */
    struct initializer bias_initializer; /* GRU */
    /* wrappers, MULTI */
    uint32_t children[CELL_CHILDREN_MAX];
    size_t child_count;
    /* DROPOUT: .node NULL: 1 */
    struct output input_keep;
    struct output state_keep;
    struct output output_keep;
    /* Of a constant, or without a tensor the probability itself (0: none given): checked to be in [0, 1], and 1 adds no
     * op. NaN: a tensor that is not known while building. */
    double input_keep_value;
    double state_keep_value;
    double output_keep_value;
    bool is_variational;
    bool has_one_mask; /* the engine's: Dropout with one_mask, a mask for each row that all steps share */
    int64_t seed;      /* 0: from the names */
    /* PROGRAM */
    cell_call_function *call;
    const void *context; /* in the graph's arena */
    size_t state_sizes[CELL_STATES_MAX];
    size_t state_count;
};

/* Makes a cell; nothing is added to the graph's nodes yet. ValueErrors of section 9 ("Must specify at least one cell
 * for MultiRNNCell.", "Parameter input_keep_prob must be between 0 and 1: 2"). */
enum status cell_create(struct graph *graph, const struct cell_options *options, uint32_t *ret_cell,
                        struct error *error) MUST_CHECK;

/* Its states, flat and in order (an LSTM's c, h; a MultiRNNCell's cells' one after another), and how they nest:
 * sizes in columns. */
size_t cell_state_count(const struct graph *graph, uint32_t cell);
size_t cell_state_size(const struct graph *graph, uint32_t cell, size_t index);
size_t cell_output_size(const struct graph *graph, uint32_t cell);
/* Of its variables once it was called, else as it was told to be. */
enum dtype cell_dtype(const struct graph *graph, uint32_t cell, enum dtype otherwise);
/* The variables it has made so far, at most `room` of them, in order of creation; returns how many. */
size_t cell_variables(const struct graph *graph, uint32_t cell, size_t room, const struct variable **ret_variables);

/* How they nest, for showing: the cells whose states make its state, one after another (borrowed; NULL: it is no tuple
 * of cells' states); whether it is c and h. */
const uint32_t *cell_parts(const struct graph *graph, uint32_t cell, size_t *ret_count);
bool cell_has_pair(const struct graph *graph, uint32_t cell);

/* Flat states as a handle in the cell's structure (LIST with names "c", "h"; tuples by number; a single tensor), and
 * back: "Expected state to be a tuple of length 2, but received: …". Made in the graph's arena. Packing only copies
 * the outputs. */
enum status cell_pack_state(struct graph *graph, uint32_t cell, const struct output *states, struct handle *ret_handle,
                            struct error *error) MUST_CHECK;
enum status cell_unpack_state(const struct graph *graph, uint32_t cell, const struct handle *handle,
                              struct output *ret_states, struct error *error) MUST_CHECK;

/* cell.zero_state(batch_size, dtype): in TensorFlow's name scopes ("BasicLSTMCellZeroState/zeros"). `batch` a scalar of
 * whole numbers, or a tensor whose first dimension is the batch; .node NULL: `batch_size`. */
enum status cell_zero_state(struct graph *graph, uint32_t cell, struct output batch, int64_t batch_size,
                            enum dtype dtype, struct output *ret_states, struct error *error) MUST_CHECK;

/* cell(input, state, scope): one step. `scope` NULL: the cell's own name. The checks of section 9.1. */
enum status cell_call(struct graph *graph, uint32_t cell, struct output input, const struct output *states,
                      const struct variable_scope_options *scope, struct output *ret_output, struct output *ret_states,
                      struct error *error) MUST_CHECK;

#endif
