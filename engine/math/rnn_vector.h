/* What the kernels over vectors have in common: the vector, loading and storing it, tiles. Included once by each kernel
 * file, through rnn_packed_vector.h, rnn_narrow_vector.h or gemm_packed_vector.h, or itself, which says before:
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
