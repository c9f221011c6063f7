/* The sums of kernels that sum in floats, fp32 and bf16: from a start, over inputs and h. See rnn_tile_vector.h. */
#ifndef ENGINE_MATH_RNN_FLOAT_SUMS_H
#define ENGINE_MATH_RNN_FLOAT_SUMS_H

#include "engine/math/rnn_tile_vector.h"

/* The sums of `row_count` rows in `vector_count` vectors (both constants) from `first` on. */
INLINE void part_sums(size_t row_count, size_t first, size_t vector_count, const struct rnn_layer *layer, size_t block,
                      const struct rnn_layer_row *rows, vector ret_sums[TILE_ROWS][RNN_VECTORS])
{
    vector_sum sums[TILE_ROWS][RNN_VECTORS];
    const term *inputs[TILE_ROWS];
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].input;
        UNROLLED_FOR (gate, vector_count) {
            sums[row][gate] = vector_load(rows[row].start + block * BLOCK + (first + gate) * LANES);
        }
    }
    struct block_weights weights = layer_weights(layer, block, first);
    weights = accumulate(row_count, vector_count, sums, weights, inputs, layer->input_words);
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].hidden;
    }
    accumulate(row_count, vector_count, sums, weights, inputs, layer->hidden_words);
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, vector_count) {
            ret_sums[row][first + gate] = sums[row][gate];
        }
    }
}

/* The sums of `row_count` rows, a constant. */
INLINE void tile_sums(size_t row_count, const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows,
                      vector ret_sums[TILE_ROWS][RNN_VECTORS])
{
    for (size_t first = 0; first < RNN_VECTORS; first += tile_vectors(row_count)) {
        part_sums(row_count, first, tile_vectors(row_count), layer, block, rows, ret_sums);
    }
}

/* As rnn_tile_vector.h declares it. */
static void layer_sums(size_t row_count, const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows,
                       vector ret_sums[TILE_ROWS][RNN_VECTORS]){
    WITH_ROW_COUNT(row_count, tile_sums, layer, block, rows, ret_sums)}

/* `vector_count` vectors (a constant) of a dense layer's block, from `first` on. */
INLINE void dense_part(size_t row_count, size_t first, size_t vector_count, const struct rnn_dense *layer, size_t block,
                       const struct rnn_dense_row *rows)
{
    vector_sum sums[TILE_ROWS][RNN_VECTORS];
    const term *inputs[TILE_ROWS];
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].input;
        UNROLLED_FOR (gate, vector_count) {
            sums[row][gate] = vector_load(layer->start + block * BLOCK + (first + gate) * LANES);
        }
    }
    struct block_weights weights = dense_weights(layer, block, first);
    accumulate(row_count, vector_count, sums, weights, inputs, layer->input_words);
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, vector_count) {
            vector_store(rows[row].output + block * BLOCK + (first + gate) * LANES, sums[row][gate]);
        }
    }
}

#endif
