/* The sums of kernels that sum in floats, fp32 and bf16: from a start, over inputs and h. See rnn_tile_vector.h. */
#ifndef ENGINE_MATH_RNN_FLOAT_SUMS_H
#define ENGINE_MATH_RNN_FLOAT_SUMS_H

#include "engine/math/rnn_tile_vector.h"

/* The sums of `row_count` rows, a constant. */
INLINE void tile_sums(size_t row_count, const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows,
                      vector ret_sums[TILE_ROWS][RNN_VECTORS])
{
    vector_sum sums[TILE_ROWS][RNN_VECTORS];
    const term *inputs[TILE_ROWS];
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].input;
        UNROLLED_FOR (gate, RNN_VECTORS) {
            sums[row][gate] = vector_load(rows[row].start + block * BLOCK + gate * LANES);
        }
    }
    const term *weights = layer->weights;
    weights += block * (layer->input_words + layer->hidden_words) * BLOCK;
    weights = accumulate(row_count, sums, weights, inputs, layer->input_words);
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].hidden;
    }
    accumulate(row_count, sums, weights, inputs, layer->hidden_words);
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, RNN_VECTORS) {
            ret_sums[row][gate] = sums[row][gate];
        }
    }
}

/* As rnn_tile_vector.h declares it. */
static void layer_sums(size_t row_count, const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows,
                       vector ret_sums[TILE_ROWS][RNN_VECTORS]){
    WITH_ROW_COUNT(row_count, tile_sums, layer, block, rows, ret_sums)}

/* As rnn_tile_vector.h declares it. */
INLINE void dense_sums(size_t row_count, const struct rnn_dense *layer, size_t block, const struct rnn_dense_row *rows)
{
    vector_sum sums[TILE_ROWS][RNN_VECTORS];
    const term *inputs[TILE_ROWS];
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].input;
        UNROLLED_FOR (gate, RNN_VECTORS) {
            sums[row][gate] = vector_load(layer->start + block * BLOCK + gate * LANES);
        }
    }
    const term *weights = layer->weights;
    accumulate(row_count, sums, weights + block * layer->input_words * BLOCK, inputs, layer->input_words);
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, RNN_VECTORS) {
            vector_store(rows[row].output + block * BLOCK + gate * LANES, sums[row][gate]);
        }
    }
}

#endif
