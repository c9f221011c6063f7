/* A step as a stack of cells that can be packed (decode_plan.h): symbol → one-hot or embedding → LSTM, GRU and RNN
 * cells, perhaps with residual connections → logits, however the graph writes them down: gates in any order, one kernel
 * or several, over time or for one step. One thread. */
#ifndef ENGINE_MODEL_STEP_MATCH_H
#define ENGINE_MODEL_STEP_MATCH_H

#include "engine/decode/decode_plan.h"
#include "engine/model/step_sum.h"

/* The gates' sums, in the order of the packed kernels: i, j, f, o of an LSTM; r, u and the candidate of a GRU. */
enum { STEP_GATES_MAX = 4 };

struct step_layer {
    enum decode_cell cell;
    size_t units;
    struct step_piece input;  /* of the layer */
    bool is_residual;         /* its output is its h plus its input */
    struct output hidden;     /* the state that its h is */
    struct output projection; /* of an LSTM whose h is tanh(c)·σ(o) times these weights; `.node` NULL: none */
    size_t hidden_count;      /* columns of h: units, or the projection's */
    struct output reset;      /* of a GRU: r·h, what the candidate reads */
    struct step_sum gates[STEP_GATES_MAX];
};

/* Weights are `.node` NULL where there are none. */
struct step_stack {
    size_t symbol_count;
    struct output embedding; /* [symbols, size] */
    size_t layer_count;
    struct step_layer layers[DECODE_LAYERS_MAX]; /* from the bottom */
    struct step_sum logits;
};

/* The gates of a cell: 4, 3 or 1. */
size_t step_gate_count(enum decode_cell cell);

/* False, with the view's reason, when the step is no such stack. */
bool step_match(struct step_view *view, size_t symbol_count, struct step_stack *ret_stack);

#endif
