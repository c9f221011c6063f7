/* Products with a packed matrix over vectors: one source, included once by each gemm_packed_<set>.c, which says before
 * what rnn_vector.h wants, and
 *   KERNELS      the table's name, KERNELS_NAME its text
 * A tile's sums, TILE_ROWS × 4 vectors, stay in registers from its first product to its last; what it reads of the
 * packed matrix lies in a row, and is in the second cache for all tiles but the first. Thread: any; no state. */
#ifndef ENGINE_MATH_GEMM_PACKED_VECTOR_H
#define ENGINE_MATH_GEMM_PACKED_VECTOR_H

#include "engine/math/gemm_packed_versions.h"
#include "engine/math/rnn_vector.h"

typedef float loose_vector __attribute__((vector_size(LANES * 4), may_alias, aligned(4)));

/* Some rows of a, one block of b, and what they make. */
struct tile {
    size_t depth;
    const float *a;
    size_t a_stride;
    const float *b;
    bool adds;
    float *c;
    size_t c_stride;
};

/* `row_count` is a constant. */
INLINE void multiply_tile(size_t row_count, const struct tile *tile)
{
    vector sums[TILE_ROWS][RNN_VECTORS];
    const float *b = tile->b;
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (n, RNN_VECTORS) {
            const float *c = tile->c + row * tile->c_stride + n * LANES;
            sums[row][n] = tile->adds ? (vector) * (const loose_vector *)c : vector_splat(0.0f);
        }
    }
    for (size_t k = 0; k < tile->depth; k++, b += BLOCK) {
        vector x[TILE_ROWS];
        UNROLLED_FOR (row, row_count) {
            x[row] = vector_splat(tile->a[row * tile->a_stride + k]);
        }
        UNROLLED_FOR (n, RNN_VECTORS) {
            vector weight = vector_load(b + n * LANES);
            UNROLLED_FOR (row, row_count) {
                sums[row][n] = vector_fma(x[row], weight, sums[row][n]);
            }
        }
    }
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (n, RNN_VECTORS) {
            *(loose_vector *)(tile->c + row * tile->c_stride + n * LANES) = sums[row][n];
        }
    }
}

static void multiply_rows(size_t row_count, const struct tile *tile)
{
    WITH_ROW_COUNT(row_count, multiply_tile, tile)
}

/* A block of which only `width` columns are there. */
static void multiply_edge(size_t row_count, const struct tile *tile, size_t width)
{
    float sums[TILE_ROWS * BLOCK] = {0};
    struct tile whole = *tile;
    whole.c = sums;
    whole.c_stride = BLOCK;
    for (size_t row = 0; row < row_count && tile->adds; row++) {
        memcpy(sums + row * BLOCK, tile->c + row * tile->c_stride, width * sizeof(float));
    }
    multiply_rows(row_count, &whole);
    for (size_t row = 0; row < row_count; row++) {
        memcpy(tile->c + row * tile->c_stride, sums + row * BLOCK, width * sizeof(float));
    }
}

static void multiply_block(const struct gemm_packed_product *product, size_t column)
{
    const struct gemm_packed *packed = product->b;
    size_t width = packed->columns - column;
    struct tile tile = {.depth = packed->depth,
                        .a = product->a.data,
                        .a_stride = product->a.stride,
                        .b = packed->data + column * packed->depth,
                        .adds = product->beta != 0,
                        .c = product->c + column,
                        .c_stride = product->c_stride};
    for (size_t left = product->m; left > 0;) {
        size_t row_count = tile_rows(left);
        if (width < BLOCK) {
            multiply_edge(row_count, &tile, width);
        } else {
            multiply_rows(row_count, &tile);
        }
        tile.a += row_count * tile.a_stride;
        tile.c += row_count * tile.c_stride;
        left -= row_count;
    }
}

static void multiply(const struct gemm_packed_product *product)
{
    for (size_t column = 0; column < product->b->columns; column += BLOCK) {
        multiply_block(product, column);
    }
}

const struct gemm_packed_kernels KERNELS = {.name = KERNELS_NAME, .block = BLOCK, .multiply = multiply};

#endif
