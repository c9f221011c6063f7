/* What becomes of a tile's sums in the recurrent kernels over vectors, once for all precisions and sets. Included by
 * rnn_tile_vector.h alone, which declares hidden_store before.
 * The functions over sums are not inlined: their constants would stay in registers that the sums need. They compute
 * as those of rnn_packed_plain.c do, operation by operation. Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_VECTOR_UPDATE_H
#define ENGINE_MATH_RNN_VECTOR_UPDATE_H

#include "engine/math/rnn_vector.h"

#define UPDATE static __attribute__((noinline)) void

UPDATE update_lstm(size_t row_count, size_t block, const struct rnn_layer_row *rows,
                   vector sums[TILE_ROWS][RNN_VECTORS])
{
    for (size_t row = 0; row < row_count; row++) {
        float *cell = rows[row].cell + block * LANES;
        vector made = sigmoid(sums[row][0]) * hyperbolic_tangent(sums[row][1]);
        vector next = vector_fma(vector_load(cell), sigmoid(sums[row][2]), made);
        vector_store(cell, next);
        hidden_store(rows[row].hidden_next, block * LANES, sigmoid(sums[row][3]) * hyperbolic_tangent(next));
    }
}

UPDATE update_gru_gates(size_t row_count, size_t block, const struct rnn_layer_row *rows,
                        vector sums[TILE_ROWS][RNN_VECTORS])
{
    for (size_t row = 0; row < row_count; row++) {
        for (size_t half = 0; half < 2; half++) {
            size_t at = (2 * block + half) * LANES;
            hidden_store(rows[row].hidden_next, at, sigmoid(sums[row][half]) * vector_load(rows[row].cell + at));
            vector_store(rows[row].update + at, sigmoid(sums[row][2 + half]));
        }
    }
}

UPDATE update_gru_candidate(size_t row_count, size_t block, const struct rnn_layer_row *rows,
                            vector sums[TILE_ROWS][RNN_VECTORS])
{
    for (size_t row = 0; row < row_count; row++) {
        for (size_t n = 0; n < RNN_VECTORS; n++) {
            size_t at = block * BLOCK + n * LANES;
            vector update = vector_load(rows[row].update + at);
            vector fresh = (vector_splat(1.0f) - update) * hyperbolic_tangent(sums[row][n]);
            vector next = vector_fma(update, vector_load(rows[row].cell + at), fresh);
            vector_store(rows[row].cell + at, next);
            hidden_store(rows[row].hidden_next, at, next);
        }
    }
}

UPDATE update_tanh(size_t row_count, size_t block, const struct rnn_layer_row *rows,
                   vector sums[TILE_ROWS][RNN_VECTORS])
{
    for (size_t row = 0; row < row_count; row++) {
        for (size_t n = 0; n < RNN_VECTORS; n++) {
            hidden_store(rows[row].hidden_next, block * BLOCK + n * LANES, hyperbolic_tangent(sums[row][n]));
        }
    }
}

/* What becomes of the sums of a tile. */
static void update_units(size_t row_count, const struct rnn_layer *layer, size_t block,
                         const struct rnn_layer_row *rows, vector sums[TILE_ROWS][RNN_VECTORS])
{
    switch (layer->kind) {
    case RNN_KIND_LSTM: update_lstm(row_count, block, rows, sums); break;
    case RNN_KIND_GRU_GATES: update_gru_gates(row_count, block, rows, sums); break;
    case RNN_KIND_GRU_CANDIDATE: update_gru_candidate(row_count, block, rows, sums); break;
    case RNN_KIND_TANH: update_tanh(row_count, block, rows, sums); break;
    case RNN_KIND_COUNT: CHECK(false);
    }
}

#endif
