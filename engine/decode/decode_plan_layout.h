/* What a decode plan holds and how a row's state lies in memory. For engine/decode alone.
 *
 * A slot is one row's state while it generates: for each layer c ([stride] floats), h and the other h ([stride] items
 * of the plan's precision), each from an aligned offset. A step reads one h and writes the other, since blocks of one
 * row run on several threads; `parity` says which h is the current one. */
#ifndef ENGINE_DECODE_DECODE_PLAN_LAYOUT_H
#define ENGINE_DECODE_DECODE_PLAN_LAYOUT_H

#include <stdint.h>

#include "engine/decode/decode_plan.h"
#include "engine/math/rnn_packed.h"

struct decode_plan {
    const struct rnn_kernels *kernels;
    enum rnn_precision precision;
    size_t vocabulary_size;
    size_t layer_count;
    struct rnn_lstm layers[DECODE_LAYERS_MAX];
    size_t slot_offsets[DECODE_LAYERS_MAX];   /* of each layer's c, in floats */
    size_t hidden_offsets[DECODE_LAYERS_MAX]; /* of its h, in floats */
    size_t hidden_strides[DECODE_LAYERS_MAX]; /* from h to the other h, in floats */
    size_t slot_floats;
    struct rnn_dense output;
    float *table;            /* [vocabulary_size, block_count, 4, lanes] of layer 0: the symbol's gate sums; or NULL */
    void *embedding;         /* [vocabulary_size, embedding_words] in the plan's precision, where there is no table */
    float *embedding_scales; /* [vocabulary_size], with an int8 embedding */
    size_t embedding_size;   /* 0 for one-hot */
    size_t embedding_words;  /* of a symbol */
    size_t bytes;
};

/* Makes a new slot's state the one before any symbol. */
void decode_plan_reset_slot(const struct decode_plan *plan, float *slot);

/* One row's part of a step of `layer`. Layers must be stepped in order; `symbol` matters to layer 0. */
struct rnn_lstm_row decode_plan_row(const struct decode_plan *plan, size_t layer, float *slot, unsigned parity,
                                    uint32_t symbol);

/* The top layer's h after a step that began with `parity`: the output layer's input. */
const void *decode_plan_top(const struct decode_plan *plan, const float *slot, unsigned parity);

/* Copies a slot's state out: decode_plan_state_count floats. */
void decode_plan_read_state(const struct decode_plan *plan, const float *slot, unsigned parity, float *state);

#endif
