/* Products with a packed matrix in plain C: the way out on a CPU without the vector versions' instructions. Thread:
 * any; no state. */
#include <string.h>

#include "engine/math/gemm_packed_versions.h"

enum { BLOCK = 16 };

static void multiply_row(const struct gemm_packed_product *product, size_t row, size_t column)
{
    const struct gemm_packed *b = product->b;
    const float *a = product->a.data + row * product->a.stride;
    const float *weights = b->data + column * b->depth;
    float *c = product->c + row * product->c_stride + column;
    size_t width = b->columns - column < BLOCK ? b->columns - column : BLOCK;
    float sums[BLOCK] = {0};
    if (product->beta != 0) {
        memcpy(sums, c, width * sizeof *c);
    }
    for (size_t k = 0; k < b->depth; k++, weights += BLOCK) {
        for (size_t n = 0; n < BLOCK; n++) {
            sums[n] += a[k] * weights[n];
        }
    }
    memcpy(c, sums, width * sizeof *c);
}

static void multiply(const struct gemm_packed_product *product)
{
    for (size_t column = 0; column < product->b->columns; column += BLOCK) {
        for (size_t row = 0; row < product->m; row++) {
            multiply_row(product, row, column);
        }
    }
}

const struct gemm_packed_kernels gemm_packed_plain = {.name = "plain", .block = BLOCK, .multiply = multiply};
