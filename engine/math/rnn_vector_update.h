/* What becomes of a tile's sums in the recurrent kernels over vectors, once for all precisions and sets. Included by
 * rnn_tile_vector.h alone, which declares hidden_store before.
 * The functions over sums are not inlined: their constants would stay in registers that the sums need. They compute
 * as those of rnn_packed_plain.c do, operation by operation. Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_VECTOR_UPDATE_H
#define ENGINE_MATH_RNN_VECTOR_UPDATE_H

#include "engine/math/rnn_vector_powers.h"

enum { SHOWN_ROWS = 3 };

#define UPDATE static __attribute__((noinline)) void

/* c' of a row, over one common divisor; leaves 1 / σ(o) in the last sum. */
INLINE void next_cell(float *cell, vector sums[RNN_VECTORS])
{
    const struct power *const powers[RNN_VECTORS] = {&POWERS.sigmoid, &POWERS.tanh, &POWERS.sigmoid, &POWERS.sigmoid};
    vector p[RNN_VECTORS] = {sums[0], sums[1], sums[2], sums[3]};
    vector scales[RNN_VECTORS];
    split_powers(RNN_VECTORS, powers, p, scales);
    vector made = tanh_dividend(p[1], scales[1]);
    vector made_divisor = sigmoid_divisor(p[0], scales[0]) * (made + vector_splat(2.0f));
    vector kept_divisor = sigmoid_divisor(p[2], scales[2]);
    vector dividend = vector_fma(vector_load(cell), made_divisor, made * kept_divisor);
    vector_store(cell, dividend / (made_divisor * kept_divisor));
    sums[3] = sigmoid_divisor(p[3], scales[3]);
}

/* h' of `row_count` (a constant) rows from their cells and what next_cell left. */
INLINE void next_hidden(size_t row_count, size_t block, const struct rnn_layer_row *rows,
                        vector sums[TILE_ROWS][RNN_VECTORS])
{
    static_assert(SHOWN_ROWS == 3, "a power for each");
    const struct power *const powers[SHOWN_ROWS] = {&POWERS.tanh, &POWERS.tanh, &POWERS.tanh};
    vector p[SHOWN_ROWS];
    vector scales[SHOWN_ROWS];
    UNROLLED_FOR (row, row_count) {
        p[row] = vector_load(rows[row].cell + block * LANES);
    }
    split_powers(row_count, powers, p, scales);
    UNROLLED_FOR (row, row_count) {
        vector shown = tanh_dividend(p[row], scales[row]);
        vector hidden = shown / (sums[row][3] * (shown + vector_splat(2.0f)));
        hidden_store(rows[row].hidden_next, block * LANES, hidden);
    }
}

UPDATE update_lstm(size_t row_count, size_t block, const struct rnn_layer_row *rows,
                   vector sums[TILE_ROWS][RNN_VECTORS])
{
    for (size_t row = 0; row < row_count; row++) {
        next_cell(rows[row].cell + block * LANES, sums[row]);
    }
    for (; row_count >= SHOWN_ROWS; row_count -= SHOWN_ROWS, rows += SHOWN_ROWS, sums += SHOWN_ROWS) {
        next_hidden(SHOWN_ROWS, block, rows, sums);
    }
    if (row_count == 2) {
        next_hidden(2, block, rows, sums);
    } else if (row_count == 1) {
        next_hidden(1, block, rows, sums);
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
