/* The recurrent kernels over vectors: one source, included once by each rnn_packed_<set>.c, which says before:
 *   KERNELS      the table's name, KERNELS_NAME its text
 *   LANES        floats of a vector
 *   TILE_ROWS    rows a tile holds: TILE_ROWS × 4 sums, TILE_ROWS inputs and 1 weight must fit the registers
 *   vector_fma(a, b, c) = a·b + c, vector_splat(x), vector_minimum(limit, x) and vector_maximum(limit, x), which keep
 *   a NaN in x
 * The sums live in a local array with constant bounds: indexed by a count known only at run time they would be spilled
 * in every iteration. So each tile is compiled for each number of rows. Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_PACKED_VECTOR_H
#define ENGINE_MATH_RNN_PACKED_VECTOR_H

#include "engine/math/rnn_vector.h"

/* Adds `count` terms to the sums of `row_count` rows (a constant); returns the weights behind them. */
INLINE const float *accumulate(size_t row_count, vector sums[TILE_ROWS][RNN_GATES], const float *weights,
                               const float *const inputs[TILE_ROWS], size_t count)
{
    for (size_t k = 0; k < count; k++, weights += BLOCK) {
        vector x[TILE_ROWS];
        UNROLLED_FOR (row, row_count) {
            x[row] = vector_splat(inputs[row][k]);
        }
        UNROLLED_FOR (gate, RNN_GATES) {
            vector weight = vector_load(weights + gate * LANES);
            UNROLLED_FOR (row, row_count) {
                sums[row][gate] = vector_fma(x[row], weight, sums[row][gate]);
            }
        }
    }
    return weights;
}

INLINE void lstm_sums(size_t row_count, const struct rnn_lstm *layer, size_t block, const struct rnn_lstm_row *rows,
                      vector ret_sums[TILE_ROWS][RNN_GATES])
{
    vector sums[TILE_ROWS][RNN_GATES];
    const float *inputs[TILE_ROWS];
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].input;
        UNROLLED_FOR (gate, RNN_GATES) {
            sums[row][gate] = vector_load(rows[row].start + block * BLOCK + gate * LANES);
        }
    }
    const float *weights = layer->weights;
    weights += block * (layer->input_size + layer->units) * BLOCK;
    weights = accumulate(row_count, sums, weights, inputs, layer->input_size);
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].hidden;
    }
    accumulate(row_count, sums, weights, inputs, layer->units);
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, RNN_GATES) {
            ret_sums[row][gate] = sums[row][gate];
        }
    }
}

INLINE void dense_sums(size_t row_count, const struct rnn_dense *layer, size_t block, const struct rnn_dense_row *rows)
{
    vector sums[TILE_ROWS][RNN_GATES];
    const float *inputs[TILE_ROWS];
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].input;
        UNROLLED_FOR (gate, RNN_GATES) {
            sums[row][gate] = vector_load(layer->start + block * BLOCK + gate * LANES);
        }
    }
    const float *weights = layer->weights;
    accumulate(row_count, sums, weights + block * layer->input_size * BLOCK, inputs, layer->input_size);
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, RNN_GATES) {
            vector_store(rows[row].output + block * BLOCK + gate * LANES, sums[row][gate]);
        }
    }
}

/* Not inlined: its constants would stay in registers that the sums need. */
static __attribute__((noinline)) void update_cells(size_t row_count, size_t block, const struct rnn_lstm_row *rows,
                                                   vector sums[TILE_ROWS][RNN_GATES])
{
    for (size_t row = 0; row < row_count; row++) {
        vector hidden = update_cell(rows[row].cell + block * LANES, sums[row]);
        vector_store((float *)rows[row].hidden_next + block * LANES, hidden);
    }
}

static void lstm(const struct rnn_lstm *layer, size_t block, const struct rnn_lstm_row *rows, size_t row_count)
{
    while (row_count > 0) {
        size_t count = tile_rows(row_count);
        vector sums[TILE_ROWS][RNN_GATES];
        WITH_ROW_COUNT(count, lstm_sums, layer, block, rows, sums)
        update_cells(count, block, rows, sums);
        rows += count;
        row_count -= count;
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

static bool find_maximum(const float *values, size_t count, float *ret_maximum)
{
    vector best = vector_splat(values[0]);
    vector_bits is_bad = {0};
    size_t n = 0;
    for (; n + LANES <= count; n += LANES) {
        vector here = vector_load(values + n);
        is_bad |= (vector_bits)(((vector_bits)here & EXP_BITS_MASK) == EXP_BITS_MASK);
        best = vector_maximum(here, best);
    }
    float maximum = values[0];
    uint32_t is_any_bad = 0;
    for (size_t lane = 0; lane < LANES; lane++) {
        maximum = best[lane] > maximum ? best[lane] : maximum;
        is_any_bad |= is_bad[lane];
    }
    for (; n < count; n++) {
        uint32_t bits;
        memcpy(&bits, values + n, sizeof bits);
        is_any_bad |= (bits & EXP_BITS_MASK) == EXP_BITS_MASK;
        maximum = values[n] > maximum ? values[n] : maximum;
    }
    if (is_any_bad != 0) {
        return false;
    }
    *ret_maximum = maximum;
    return true;
}

static void exponentials(const float *values, size_t count, float maximum, float scale, float *results)
{
    for (size_t n = 0; n < count; n += LANES) {
        vector x = (vector_load(values + n) - vector_splat(maximum)) * vector_splat(scale);
        vector power;
        vector p = split_exp(clamp(x, EXP_INPUT_MAX), &power);
        vector_bits is_kept = (vector_bits)(x >= vector_splat(-EXP_INPUT_MAX));
        vector_store(results + n, (vector)((vector_bits)vector_fma(power, p, power) & is_kept));
    }
}

const struct rnn_kernels KERNELS = {
    .name = KERNELS_NAME,
    .fp32 = {.name = KERNELS_NAME,
             .precision = RNN_PRECISION_FP32,
             .lanes = LANES,
             .tile_rows = TILE_ROWS,
             .lstm = lstm,
             .dense = dense},
    .find_maximum = find_maximum,
    .exponentials = exponentials,
};

#endif
