/* What the recurrent kernels over vectors have in common: the vector, its functions, tiles. Included once by each
 * kernel file, through rnn_packed_vector.h or rnn_narrow_vector.h, which says before:
 *   LANES        floats of a vector
 *   TILE_ROWS    rows a tile holds, 3, 4, 6 or 12
 *   vector_fma(a, b, c) = a·b + c, vector_splat(x), vector_minimum(limit, x) and vector_maximum(limit, x), which keep
 *   a NaN in x
 * Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_VECTOR_H
#define ENGINE_MATH_RNN_VECTOR_H

#include <stdint.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/math/rnn_packed_sets.h"

typedef float vector __attribute__((vector_size(LANES * 4), may_alias));
typedef uint32_t vector_bits __attribute__((vector_size(LANES * 4), may_alias));

enum { BLOCK = RNN_VECTORS * LANES };

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLLED_FOR(index, count) _Pragma("clang loop unroll(full)") for (size_t index = 0; index < (count); index++)
#else
#define UNROLLED_FOR(index, count) _Pragma("GCC unroll 12") for (size_t index = 0; index < (count); index++)
#endif

INLINE vector vector_load(const float *values)
{
    return *(const vector *)values;
}

INLINE void vector_store(float *values, vector from)
{
    *(vector *)values = from;
}

INLINE vector clamp(vector x, float limit)
{
    return vector_minimum(vector_splat(limit), vector_maximum(vector_splat(-limit), x));
}

/* As in rnn_packed_plain.c, operation by operation; turns each x into its p. Every operation is done for all of `count`
 * (a constant) vectors before the next one, which waits for it: one after the other they would fill the CPU's window
 * with waiting operations, and take twice as long. */
INLINE void split_exps(size_t count, vector x[], vector ret_scales[])
{
    static const float c[] = {EXP_C5, EXP_C4, EXP_C3, EXP_C2, EXP_C1, EXP_C0};
    vector q[RNN_VECTORS];
    UNROLLED_FOR (n, count) {
        q[n] = vector_fma(x[n], vector_splat(EXP_LOG2_E), vector_splat(EXP_ROUNDER));
    }
    UNROLLED_FOR (n, count) {
        ret_scales[n] = (vector)(((vector_bits)q[n] << 23) + EXP_ONE_BITS);
        q[n] = q[n] - vector_splat(EXP_ROUNDER);
    }
    UNROLLED_FOR (n, count) {
        x[n] = vector_fma(q[n], vector_splat(-EXP_LN2_HIGH), x[n]);
    }
    UNROLLED_FOR (n, count) {
        x[n] = vector_fma(q[n], vector_splat(-EXP_LN2_LOW), x[n]);
        q[n] = vector_splat(c[0]);
    }
    UNROLLED_FOR (i, 5) {
        UNROLLED_FOR (n, count) {
            q[n] = vector_fma(q[n], x[n], vector_splat(c[i + 1]));
        }
    }
    UNROLLED_FOR (n, count) {
        x[n] = vector_fma(x[n] * x[n], q[n], x[n]);
    }
}

INLINE vector split_exp(vector x, vector *ret_scale)
{
    split_exps(1, &x, ret_scale);
    return x;
}

INLINE vector sigmoid_divisor(vector x)
{
    vector scale;
    vector p = split_exp(clamp(-x, SIGMOID_INPUT_MAX), &scale);
    return vector_splat(1.0f) + vector_fma(scale, p, scale);
}

INLINE vector sigmoid(vector x)
{
    return vector_splat(1.0f) / sigmoid_divisor(x);
}

INLINE vector tangent_dividend(vector x)
{
    vector scale;
    vector p = split_exp(clamp(x + x, TANH_INPUT_MAX), &scale);
    return vector_fma(scale, p, scale - vector_splat(1.0f));
}

INLINE vector hyperbolic_tangent(vector x)
{
    vector e = tangent_dividend(x);
    return e / (e + vector_splat(2.0f));
}

/* Calls `function` with `row_count` as a constant. */
#define CASE(count, function, ...)                                                                                     \
    case count:                                                                                                        \
        function(count, __VA_ARGS__);                                                                                  \
        break;
#if TILE_ROWS >= 4
#define CASE_4(...) CASE(4, __VA_ARGS__)
#else
#define CASE_4(...)
#endif
#if TILE_ROWS >= 6
#define CASES_TO_6(...) CASE(5, __VA_ARGS__) CASE(6, __VA_ARGS__)
#else
#define CASES_TO_6(...)
#endif
#if TILE_ROWS == 12
#define CASES_TO_12(...)                                                                                               \
    CASE(7, __VA_ARGS__)                                                                                               \
    CASE(8, __VA_ARGS__)                                                                                               \
    CASE(9, __VA_ARGS__)                                                                                               \
    CASE(10, __VA_ARGS__)                                                                                              \
    CASE(11, __VA_ARGS__)                                                                                              \
    CASE(12, __VA_ARGS__)
#else
#define CASES_TO_12(...)
#endif
#define WITH_ROW_COUNT(row_count, ...)                                                                                 \
    switch (row_count) {                                                                                               \
        CASE(1, __VA_ARGS__)                                                                                           \
        CASE(2, __VA_ARGS__)                                                                                           \
        CASE(3, __VA_ARGS__)                                                                                           \
        CASE_4(__VA_ARGS__)                                                                                            \
        CASES_TO_6(__VA_ARGS__)                                                                                        \
        CASES_TO_12(__VA_ARGS__)                                                                                       \
    default: CHECK((row_count) <= TILE_ROWS);                                                                          \
    }

/* Rows of the next tile when `row_count` are left: as few tiles as can be, of sizes as equal as can be. */
static size_t tile_rows(size_t row_count)
{
    size_t tile_count = (row_count + TILE_ROWS - 1) / TILE_ROWS;
    return (row_count + tile_count - 1) / tile_count;
}

/* Vectors of a block that a tile of `row_count` rows sums at once: their sums must fit the registers. With two of them
 * the block's weights are still read once, and twice as many rows share them. */
INLINE size_t tile_vectors(size_t row_count)
{
    return row_count <= TILE_ROWS / 2 ? RNN_VECTORS : RNN_VECTORS / 2;
}

#endif
