/* Moving elements between arrays that lie differently in memory: transposing, slicing, reversing, tiling and padding
 * are all one loop over strides. Elements are bytes: dtypes play no part but in the sum. Thread: any. */
#ifndef ENGINE_MATH_STRIDED_H
#define ENGINE_MATH_STRIDED_H

#include <stddef.h>

#include "engine/math/tensor.h"

enum { STRIDED_RANK_MAX = 2 * SHAPE_RANK_MAX }; /* tiling counts each dimension twice */

/* A block of elements and where each is in both arrays: `from` and `to` plus Σ index[i] · bytes[i]. Strides may be
 * negative, and 0 on the reading side. */
struct strided {
    int rank;
    size_t element_bytes;
    int64_t dimensions[STRIDED_RANK_MAX];
    ptrdiff_t from_bytes[STRIDED_RANK_MAX];
    ptrdiff_t to_bytes[STRIDED_RANK_MAX];
};

/* Copies each element once, in any order; the arrays must not overlap. */
void strided_copy(const struct strided *block, const void *from, void *to);

/* Adds each element of `from` to that of `to`, in row-major order of the block, so that the sums are always the same.
 * float32 or float64; `to` may have strides of 0. */
void strided_add(const struct strided *block, enum dtype dtype, const void *from, void *to);

/* Bytes from one element to the next along each dimension of a dense row-major array. */
void strided_row_major(const struct shape *shape, size_t element_bytes, ptrdiff_t *ret_bytes);

#endif
