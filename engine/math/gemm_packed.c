/* Packing matrices, and choosing among the versions of their products by the CPU's flags. Thread: any; no state. */
#include "engine/math/gemm_packed.h"

#include "engine/base/check.h"
#include "engine/math/gemm_packed_versions.h"

enum { ROWS_AT_ONCE = 16 }; /* of a transposed matrix: as many floats as a cache line holds */

const struct gemm_packed_kernels *gemm_packed_kernels_at(size_t index)
{
    const struct gemm_packed_kernels *runnable[3];
    size_t count = 0;
#if defined(__x86_64__)
    bool has_fma = __builtin_cpu_supports("fma");
    if (has_fma && __builtin_cpu_supports("avx512f")) {
        runnable[count++] = &gemm_packed_avx512;
    }
    if (has_fma && __builtin_cpu_supports("avx2")) {
        runnable[count++] = &gemm_packed_avx2;
    }
#elif defined(__aarch64__)
    runnable[count++] = &gemm_packed_neon;
#endif
    runnable[count++] = &gemm_packed_plain;
    return index < count ? runnable[index] : NULL;
}

const struct gemm_packed_kernels *gemm_packed_kernels(void)
{
    return gemm_packed_kernels_at(0);
}

size_t gemm_packed_floats(size_t depth, size_t columns)
{
    return (columns + GEMM_PACKED_BLOCK_MAX - 1) / GEMM_PACKED_BLOCK_MAX * GEMM_PACKED_BLOCK_MAX * depth;
}

/* `width` columns from `column` on as rows of `block` floats. */
static void pack_plain(const struct gemm_packed *packed, struct gemm_operand b, size_t column, size_t width, float *to)
{
    size_t block = packed->kernels->block;
    for (size_t k = 0; k < packed->depth; k++, to += block) {
        memcpy(to, b.data + k * b.stride + column, width * sizeof *to);
        memset(to + width, 0, (block - width) * sizeof *to);
    }
}

/* The same of a matrix whose columns are stored as rows. */
static void pack_transposed(const struct gemm_packed *packed, struct gemm_operand b, size_t column, size_t width,
                            float *to)
{
    size_t block = packed->kernels->block;
    memset(to, 0, width < block ? packed->depth * block * sizeof *to : 0);
    for (size_t begin = 0; begin < packed->depth; begin += ROWS_AT_ONCE) {
        size_t end = packed->depth - begin < ROWS_AT_ONCE ? packed->depth : begin + ROWS_AT_ONCE;
        for (size_t n = 0; n < width; n++) {
            const float *from = b.data + (column + n) * b.stride;
            for (size_t k = begin; k < end; k++) {
                to[k * block + n] = from[k];
            }
        }
    }
}

struct gemm_packed gemm_pack(const struct gemm_packed_kernels *kernels, size_t depth, size_t columns,
                             struct gemm_operand b, float *room)
{
    struct gemm_packed packed = {.kernels = kernels, .depth = depth, .columns = columns, .data = room};
    CHECK(kernels->block <= GEMM_PACKED_BLOCK_MAX);
    for (size_t column = 0; column < columns; column += kernels->block) {
        size_t width = columns - column < kernels->block ? columns - column : kernels->block;
        if (b.transpose == GEMM_TRANSPOSED) {
            pack_transposed(&packed, b, column, width, room + column * depth);
        } else {
            pack_plain(&packed, b, column, width, room + column * depth);
        }
    }
    return packed;
}

void gemm_by_packed(const struct gemm_packed_product *product)
{
    CHECK(product->a.transpose == GEMM_PLAIN);
    product->b->kernels->multiply(product);
}
