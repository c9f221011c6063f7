/* The recurrent kernels over vectors: one source, included once by each rnn_packed_<set>.c, which says before:
 *   KERNELS      the table's name, KERNELS_NAME its text
 *   LANES        floats of a vector
 *   TILE_ROWS    rows a tile holds: see tile_vectors; twice as many sums, and up to 5 terms, must fit the registers
 *   vector_fma(a, b, c) = a·b + c, vector_splat(x), vector_minimum(limit, x) and vector_maximum(limit, x), which keep
 *   a NaN in x
 * Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_PACKED_VECTOR_H
#define ENGINE_MATH_RNN_PACKED_VECTOR_H

#include "engine/math/rnn_vector.h"

typedef float term;
typedef vector vector_terms;
typedef vector vector_sum;
#define terms_splat(x) vector_splat(x)
#define PREFETCHING_ROWS 1 /* weights that come from memory: 8 rows of 2×650, 10,000 words in 2/3 of the time */
#define vector_dot(sum, x, weights) vector_fma(x, weights, sum)
#define POWERS POWERS_FP32

#include "engine/math/rnn_float_sums.h"
#include "engine/math/rnn_vector_powers.h"

INLINE void hidden_store(void *hidden, size_t at, vector from)
{
    vector_store((float *)hidden + at, from);
}

static bool find_maximum(const float *values, size_t count, float *ret_maximum)
{
    vector best = vector_splat(values[0]);
    vector_bits is_bad = {0};
    size_t n = 0;
    for (; n + LANES <= count; n += LANES) {
        vector here = vector_load(values + n);
        is_bad |= (vector_bits)(((vector_bits)here & FLOAT_EXPONENT_BITS) == FLOAT_EXPONENT_BITS);
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
        is_any_bad |= (bits & FLOAT_EXPONENT_BITS) == FLOAT_EXPONENT_BITS;
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
        vector power_scale;
        vector p = split_power(&POWER_SOFTMAX, x, &power_scale);
        vector_bits is_kept = (vector_bits)(x >= vector_splat(-SOFTMAX_INPUT_MAX));
        vector_store(results + n, (vector)((vector_bits)(power_scale * p) & is_kept));
    }
}

typedef float sum_floats __attribute__((vector_size(RNN_SUM_LANES * sizeof(float)), may_alias));
typedef double sum_doubles __attribute__((vector_size(RNN_SUM_LANES * sizeof(double))));

static double sum(const float *values, size_t count)
{
    sum_doubles sums = {0};
    size_t n = 0;
    for (; n + RNN_SUM_LANES <= count; n += RNN_SUM_LANES) {
        sums += __builtin_convertvector(*(const sum_floats *)(values + n), sum_doubles);
    }
    double ends[RNN_SUM_LANES];
    memcpy(ends, &sums, sizeof ends);
    for (; n < count; n++) {
        ends[n % RNN_SUM_LANES] += (double)values[n];
    }
    return sum_pairwise(ends);
}

const struct rnn_kernels KERNELS = {
    .name = KERNELS_NAME,
    .fp32 = {.name = KERNELS_NAME,
             .precision = RNN_PRECISION_FP32,
             .lanes = LANES,
             .tile_rows = TILE_ROWS,
             .layer = layer,
             .dense = dense},
    .find_maximum = find_maximum,
    .exponentials = exponentials,
    .sum = sum,
};

#endif
