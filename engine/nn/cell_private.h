/* The inside of cells, for the files of engine/nn that build them. */
#ifndef ENGINE_NN_CELL_PRIVATE_H
#define ENGINE_NN_CELL_PRIVATE_H

#include "engine/nn/cell.h"

enum {
    CELL_WEIGHTS_MAX = 6,
    /* of LSTMs; GRU has gates' and the candidate's */
    CELL_KERNEL = 0,
    CELL_BIAS = 1,
    CELL_PEEPHOLE_FORGET = 2,
    CELL_PEEPHOLE_INPUT = 3,
    CELL_PEEPHOLE_OUTPUT = 4,
    CELL_PROJECTION = 5,
    CELL_CANDIDATE_KERNEL = 2,
    CELL_CANDIDATE_BIAS = 3,
};

/* What a cell remembers between calls: OBJECT_CELL. */
struct cell {
    struct cell_options options; /* name filled in; texts are the graph's */
    size_t nesting;              /* 1: no children */
    bool has_scope;              /* its variable scope was taken at its first call */
    uint32_t scope;
    bool has_enclosing; /* MULTI, named PROGRAM: the scope around its first call */
    uint32_t enclosing;
    bool is_built;
    enum dtype dtype; /* of its variables, once built */
    const struct variable *weights[CELL_WEIGHTS_MAX];
    struct output noise[CELL_STATES_MAX + 2]; /* variational dropout: of input, output, states */
};

/* To read. */
const struct cell *cell_at(const struct graph *graph, uint32_t cell);
/* To change. Pointers from cell_at of the same cell are stale afterwards. */
enum status cell_edit(struct graph *graph, uint32_t cell, struct cell **ret_cell, struct error *error) MUST_CHECK;

/* "RNN cell only supports floating point inputs, but saw dtype: <dtype: 'int32'>" */
enum status cell_check_dtype(enum dtype dtype, struct error *error) MUST_CHECK;

/* A cell's variable scope and name scope while it computes. */
struct cell_frame {
    struct variable_scope_frame enclosing;
    bool has_enclosing;
    struct variable_scope_frame scope;
    const char *previous_name_scope;
};

/* Enters the scope the cell has, or takes one, as TensorFlow's layers do. */
enum status cell_enter(struct graph *graph, uint32_t cell, const struct variable_scope_options *scope,
                       struct cell_frame *ret_frame, struct error *error) MUST_CHECK;
void cell_leave(struct graph *graph, const struct cell_frame *frame);

/* Checks the input and makes the variables at the first call. */
enum status cell_build(struct graph *graph, uint32_t cell, struct output input, struct error *error) MUST_CHECK;

/* One step of a built BasicRNN, GRU, BasicLSTM or LSTM, inside its scope. */
enum status cell_step(struct graph *graph, const struct cell *cell, struct output input, const struct output *states,
                      struct output *ret_output, struct output *ret_states, struct error *error) MUST_CHECK;

/* One step of a cell made of others, in whatever scopes it has. */
enum status cell_step_multi(struct graph *graph, uint32_t cell, struct output input, const struct output *states,
                            const struct variable_scope_options *scope, struct output *ret_output,
                            struct output *ret_states, struct error *error) MUST_CHECK;
enum status cell_step_dropout(struct graph *graph, uint32_t cell, struct output input, const struct output *states,
                              const struct variable_scope_options *scope, struct output *ret_output,
                              struct output *ret_states, struct error *error) MUST_CHECK;
enum status cell_step_residual(struct graph *graph, uint32_t cell, struct output input, const struct output *states,
                               const struct variable_scope_options *scope, struct output *ret_output,
                               struct output *ret_states, struct error *error) MUST_CHECK;

/* How many rows a zero state has: a scalar, or dimension `dimension` of a tensor, or `size`. */
struct cell_batch {
    struct output output; /* .node NULL: `size` */
    int64_t dimension;
    int64_t size;
};
enum status cell_zeros(struct graph *graph, uint32_t cell, const struct cell_batch *batch, enum dtype dtype,
                       struct output *ret_states, struct error *error) MUST_CHECK;

/* ---- nodes under TensorFlow's names ---- */

/* One op over one tensor, and over two. */
enum status cell_unary(struct graph *graph, const char *op, struct output a, struct output *ret_output,
                       struct error *error) MUST_CHECK;
/* See above. */
enum status cell_binary(struct graph *graph, const char *op, const char *name, struct output a, struct output b,
                        struct output *ret_output, struct error *error) MUST_CHECK;
/* a op number ("add", "add/y"), or number op a ("sub", "sub/x") with is_left. */
enum status cell_binary_number(struct graph *graph, const char *op, const char *name, struct output a, double number,
                               bool is_left, struct output *ret_output, struct error *error) MUST_CHECK;
/* A constant beside a node that is still to be made ("concat/axis"), and the name to give the node. */
enum status cell_beside(struct graph *graph, const char *name, const char *constant_name, const struct tensor *tensor,
                        const char **ret_name, struct output *ret_constant, struct error *error) MUST_CHECK;
/* a op constant ("transpose", "transpose/perm"). */
enum status cell_with_constant(struct graph *graph, const char *op, const char *name, struct output a,
                               const char *constant_name, const struct tensor *constant, struct output *ret_output,
                               struct error *error) MUST_CHECK;
/* Columns side by side: "concat", "concat/axis". */
enum status cell_concat(struct graph *graph, const struct output *parts, size_t count, struct output *ret_output,
                        struct error *error) MUST_CHECK;
/* Columns into `count` equal parts; `axis` a scalar tensor, or .node NULL: "split/split_dim". */
enum status cell_split(struct graph *graph, struct output value, struct output axis, size_t count,
                       struct output *ret_parts, struct error *error) MUST_CHECK;
/* Columns [first, first + count): "Slice". */
enum status cell_slice(struct graph *graph, struct output value, size_t first, size_t count, struct output *ret_output,
                       struct error *error) MUST_CHECK;
/* Between −limit and limit: "clip_by_value". */
enum status cell_clip(struct graph *graph, struct output value, double limit, struct output *ret_output,
                      struct error *error) MUST_CHECK;
/* tf.nn.bias_add(tf.matmul(a, kernel), bias) */
enum status cell_affine(struct graph *graph, struct output a, const struct variable *kernel,
                        const struct variable *bias, struct output *ret_output, struct error *error) MUST_CHECK;
/* The cell's activation: tanh unless said. */
enum status cell_activate(struct graph *graph, const struct cell *cell, struct output a, struct output *ret_output,
                          struct error *error) MUST_CHECK;
/* A constant, and a scalar of that dtype. */
enum status cell_constant(struct graph *graph, const char *name, const struct tensor *tensor, struct output *ret_output,
                          struct error *error) MUST_CHECK;
enum status cell_number(struct graph *graph, const char *name, enum dtype dtype, double number,
                        struct output *ret_output, struct error *error) MUST_CHECK;

#endif
