/* What a decode plan holds and how a row's state lies in memory. For engine/decode alone.
 *
 * A slot is one row's state while it generates: for each layer c, of a GRU h in fp32, of an RNN nothing ([stride]
 * floats), h and the other h ([stride] items of the plan's precision), each from an aligned offset. A step reads one h
 * and writes the other, since blocks of one row run on several threads; `parity` says which h is the current one.
 * Behind the layers is room for what passes from a GRU's first half to its second.
 *
 * The slot of a plan that is stepped is its state twice: a step reads one and writes the other.
 *
 * A step goes through the plan's parts in order, each of them all blocks before the next: a layer is one part, a GRU
 * layer two; a residual layer has one more, which makes its y, row by row. There is one y in a slot, in fp32: the layer
 * above reads it before its own replaces it. In narrow precisions it is also packed, with its scale before it, since it
 * is no h: int8's is the row's own. */
#ifndef ENGINE_DECODE_DECODE_PLAN_LAYOUT_H
#define ENGINE_DECODE_DECODE_PLAN_LAYOUT_H

#include <stdint.h>

#include "engine/decode/decode_plan.h"
#include "engine/decode/stepper.h"
#include "engine/math/rnn_packed.h"

struct decode_part {
    bool is_residual; /* it adds up a layer's y: no weights */
    struct rnn_layer weights;
    size_t layer;
    size_t table_offset; /* layer 0: of its sums in a symbol's row of the table */
};

struct decode_layer {
    enum decode_cell cell;
    size_t units;
    bool is_residual;
    size_t cell_offset; /* in a slot, in floats, as the next two */
    size_t hidden_offset;
    size_t hidden_stride; /* from h to the other h */
};

struct decode_plan {
    struct stepper stepper; /* `step` NULL: the plan is packed; otherwise all about layers is 0 */
    const struct rnn_kernels *kernels;
    enum rnn_precision precision;
    size_t vocabulary_size;
    size_t layer_count;
    struct decode_layer layers[DECODE_LAYERS_MAX];
    size_t part_count;
    struct decode_part parts[3 * DECODE_LAYERS_MAX];
    size_t update_offset; /* of a GRU's update gate in a slot, and of its r·h */
    size_t reset_offset;
    size_t sum_offset;    /* of a residual layer's y */
    size_t packed_offset; /* of its scale; the words begin an alignment later */
    size_t slot_floats;
    size_t logits_stride; /* floats of a row's logits, padded */
    struct rnn_dense output;
    float *table; /* [vocabulary_size, table_stride]: layer 0's sums, part by part; or NULL */
    size_t table_stride;
    void *embedding;         /* [vocabulary_size, embedding_words] in the plan's precision, where there is no table */
    float *embedding_scales; /* [vocabulary_size], with an int8 embedding */
    size_t embedding_size;   /* 0 for one-hot */
    size_t embedding_words;  /* of a symbol */
    float *first_input;      /* [vocabulary_size, embedding_size], where layer 0 is residual */
    size_t bytes;
    size_t step_bytes; /* of what a step reads whatever the symbol: layers and output */
};

/* Makes a new slot's state the one before any symbol. */
void decode_plan_reset_slot(const struct decode_plan *plan, float *slot);

/* One row's share of part `part` of a step, which has weights; `symbol` matters to layer 0. */
struct rnn_layer_row decode_plan_row(const struct decode_plan *plan, size_t part, float *slot, unsigned parity,
                                     uint32_t symbol);

/* The same of a residual part: does it. */
void decode_plan_add_residual(const struct decode_plan *plan, size_t part, float *slot, unsigned parity,
                              uint32_t symbol);

/* The output layer's share after a step that began with `parity`: from the top layer's y to `logits`. */
struct rnn_dense_row decode_plan_output_row(const struct decode_plan *plan, float *slot, unsigned parity,
                                            float *logits);

/* A whole step of one row of a plan that is stepped. logits: [logits_stride] or NULL. Errors are the stepper's. */
enum status decode_plan_step_row(const struct decode_plan *plan, float *slot, unsigned parity, uint32_t symbol,
                                 uint64_t random_key, float *logits, struct error *error) MUST_CHECK;

/* A whole step of one row of any plan, on the calling thread. logits: [logits_stride]. The stepper's errors. */
enum status decode_plan_step_alone(const struct decode_plan *plan, float *slot, unsigned parity, uint32_t symbol,
                                   float *logits, struct error *error) MUST_CHECK;

/* Copies a slot's state out: [decode_plan_state_bytes]. */
void decode_plan_save_state(const struct decode_plan *plan, const float *slot, unsigned parity, void *state);

/* Makes a new slot's state, its parity 0, one that decode_plan_save_state wrote: what is loaded and stepped is what
 * would have been stepped there, as long as the precision is the same. An h beyond ±1, which no cell makes, is clamped.
 * INVALID, code "state_malformed", for numbers that are not finite; the stepper's errors. */
enum status decode_plan_load_state(const struct decode_plan *plan, const void *state, float *slot,
                                   struct error *error) MUST_CHECK;

#endif
