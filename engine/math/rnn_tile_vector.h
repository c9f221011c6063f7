/* The recurrent kernels' tiles over vectors: sums of up to TILE_ROWS rows by one block of weights. Included by each
 * kernel file, through rnn_packed_vector.h, rnn_narrow_vector.h or rnn_pairs_vector.h, which says before, besides what
 * rnn_vector.h wants:
 *   term, vector_terms   what weights and inputs are made of: floats, or words of narrow numbers
 *   vector_sum           what they are summed in
 *   terms_splat(x)       x in all lanes
 *   POWERS               see rnn_vector_powers.h
 *   PREFETCHING_ROWS     tiles of 1 or 2 vectors and at least so many rows fetch their weights ahead
 *   vector_dot(sum, x, weights): adds each lane's product of terms to its sum
 * and itself defines layer_sums, dense_part and hidden_store, which are declared below.
 * The sums live in a local array with constant bounds: indexed by a count known only at run time they would be spilled
 * in every iteration. So each tile is compiled for each number of rows. Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_TILE_VECTOR_H
#define ENGINE_MATH_RNN_TILE_VECTOR_H

#include "engine/math/rnn_vector.h"

enum { PREFETCHED_TERMS = 64 }; /* how far ahead */

INLINE vector_terms terms_load(const term *terms)
{
    return *(const vector_terms *)terms;
}

/* Where a tile reads a block's weights, [2, word_count, 2, lanes]. */
struct block_weights {
    const term *next; /* 2 vectors a term */
    size_t half;      /* terms from there to the same term's other 2 vectors */
    bool is_far;      /* see rnn_layer */
};

/* From vector `index` on, 0 or 2. */
INLINE struct block_weights block_weights(const void *words, size_t word_count, bool is_far, size_t block, size_t index)
{
    size_t half = word_count * RNN_HALF_VECTORS * LANES;
    return (struct block_weights){(const term *)words + (2 * block + index / RNN_HALF_VECTORS) * half, half, is_far};
}

INLINE struct block_weights layer_weights(const struct rnn_layer *layer, size_t block, size_t index)
{
    return block_weights(layer->weights, layer->input_words + layer->hidden_words, layer->is_far, block, index);
}

INLINE struct block_weights dense_weights(const struct rnn_dense *layer, size_t block, size_t index)
{
    return block_weights(layer->weights, layer->input_words, layer->is_far, block, index);
}

INLINE const term *vector_at(struct block_weights weights, size_t index)
{
    return weights.next + index / RNN_HALF_VECTORS * weights.half + index % RNN_HALF_VECTORS * LANES;
}

/* Adds term k of the inputs, which `weights` stands at, to the first `vector_count` sums of `row_count` rows (both
 * constants). The weights are held in registers. */
INLINE void accumulate_term(size_t row_count, size_t vector_count, vector_sum sums[TILE_ROWS][RNN_VECTORS],
                            struct block_weights weights, const term *const inputs[TILE_ROWS], size_t k)
{
    vector_terms held[RNN_VECTORS];
    UNROLLED_FOR (gate, vector_count) {
        held[gate] = terms_load(vector_at(weights, gate));
    }
    UNROLLED_FOR (row, row_count) {
        vector_terms x = terms_splat(inputs[row][k]);
        UNROLLED_FOR (gate, vector_count) {
            sums[row][gate] = vector_dot(sums[row][gate], x, held[gate]);
        }
    }
}

/* Adds `count` terms to the first `vector_count` sums of `row_count` rows (both constants); returns the weights behind
 * them. Of inputs and weights, the fewer are held in registers. */
INLINE struct block_weights accumulate(size_t row_count, size_t vector_count, vector_sum sums[TILE_ROWS][RNN_VECTORS],
                                       struct block_weights weights, const term *const inputs[TILE_ROWS], size_t count)
{
    const size_t step = RNN_HALF_VECTORS * LANES;
    for (size_t k = 0; k < count; k++, weights.next += step) {
        if (vector_count < RNN_VECTORS && row_count >= PREFETCHING_ROWS) {
            UNROLLED_FOR (gate, vector_count) {
                __builtin_prefetch(vector_at(weights, gate) + PREFETCHED_TERMS * step);
            }
        }
        if (row_count <= vector_count) {
            vector_terms held[RNN_VECTORS];
            UNROLLED_FOR (row, row_count) {
                held[row] = terms_splat(inputs[row][k]);
            }
            UNROLLED_FOR (gate, vector_count) {
                vector_terms weight = terms_load(vector_at(weights, gate));
                UNROLLED_FOR (row, row_count) {
                    sums[row][gate] = vector_dot(sums[row][gate], held[row], weight);
                }
            }
        } else {
            accumulate_term(row_count, vector_count, sums, weights, inputs, k);
        }
    }
    return weights;
}

/* The gate sums of a tile; vectors of a tile of a dense layer; h of LANES units as terms of the next step. */
static void layer_sums(size_t row_count, const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows,
                       vector ret_sums[TILE_ROWS][RNN_VECTORS]);
INLINE void dense_part(size_t row_count, size_t first, size_t vector_count, const struct rnn_dense *layer, size_t block,
                       const struct rnn_dense_row *rows);
INLINE void hidden_store(void *hidden, size_t at, vector from);

#include "engine/math/rnn_vector_update.h"

/* Rows of a table are spread over memory; the block after this one is likely this thread's next. */
static void prefetch_starts(const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows,
                            size_t row_count)
{
    for (size_t row = 0; block < layer->block_count && row < row_count; row++) {
        UNROLLED_FOR (gate, RNN_VECTORS) {
            __builtin_prefetch(rows[row].start + block * BLOCK + gate * LANES);
        }
    }
}

static void layer(const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows, size_t row_count)
{
    while (row_count > 0) {
        size_t count = tile_rows(row_count);
        vector sums[TILE_ROWS][RNN_VECTORS];
        prefetch_starts(layer, block + 1, rows, count);
        layer_sums(count, layer, block, rows, sums);
        update_units(count, layer, block, rows, sums);
        rows += count;
        row_count -= count;
    }
}

/* The vectors of a block from `first` on, which no column is in: only their padding is written. */
INLINE void dense_padding(size_t row_count, size_t first, size_t block, const struct rnn_dense_row *rows)
{
    UNROLLED_FOR (row, row_count) {
        for (size_t gate = first; gate < RNN_VECTORS; gate++) {
            vector_store(rows[row].output + block * BLOCK + gate * LANES, (vector){0});
        }
    }
}

INLINE void dense_sums(size_t row_count, const struct rnn_dense *layer, size_t block, const struct rnn_dense_row *rows)
{
    size_t columns = layer->columns - block * BLOCK; /* of this block and those behind it */
    if (columns <= LANES) {
        dense_part(row_count, 0, 1, layer, block, rows);
        dense_padding(row_count, 1, block, rows);
        return;
    }
    if (columns <= RNN_HALF_VECTORS * LANES) {
        dense_part(row_count, 0, RNN_HALF_VECTORS, layer, block, rows);
        dense_padding(row_count, RNN_HALF_VECTORS, block, rows);
        return;
    }
    for (size_t first = 0; first < RNN_VECTORS; first += tile_vectors(row_count)) {
        dense_part(row_count, first, tile_vectors(row_count), layer, block, rows);
    }
}

static void dense(const struct rnn_dense *layer, size_t block, const struct rnn_dense_row *rows, size_t row_count)
{
    while (row_count > 0) {
        size_t count = tile_rows(row_count);
        WITH_ROW_COUNT(count, dense_sums, layer, block, rows)
        rows += count;
        row_count -= count;
    }
}

#endif
