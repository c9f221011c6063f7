/* Products with one matrix that is packed once for many of them, each of few rows: what a recurrence multiplies its
 * states by at every step, where cblas would pack the weights anew each time. float32, row-major, in versions for each
 * vector width. An element is c + a₀·b₀ + a₁·b₁ + … in that order, so a row's result depends neither on how many rows
 * there are nor on the width of the vectors (the plain version rounds twice where the others fuse). Thread: any;
 * memory is the caller's. */
#ifndef ENGINE_MATH_GEMM_PACKED_H
#define ENGINE_MATH_GEMM_PACKED_H

#include "engine/math/gemm.h"

struct gemm_packed;

/* C[m, columns] = A[m, depth] · B + beta · C, B [depth, columns] being the packed matrix. a is plain; strides in
 * floats; beta is 0 or 1, with 0 C is not read. */
struct gemm_packed_product {
    size_t m;
    struct gemm_operand a;
    const struct gemm_packed *b;
    float beta;
    float *c;
    size_t c_stride;
};

struct gemm_packed_kernels {
    const char *name;
    size_t block; /* columns that lie together */
    void (*multiply)(const struct gemm_packed_product *product);
};

/* A packed matrix: block by block of columns (the last one filled up with zeros), each row by row. */
struct gemm_packed {
    const struct gemm_packed_kernels *kernels;
    size_t depth;
    size_t columns;
    float *data; /* borrowed */
};

/* The fastest version this CPU runs; and all of them for tests: entry `index`, NULL past the last. */
const struct gemm_packed_kernels *gemm_packed_kernels(void);
const struct gemm_packed_kernels *gemm_packed_kernels_at(size_t index);

/* Floats a packed matrix takes, whatever the kernels. */
size_t gemm_packed_floats(size_t depth, size_t columns);
/* Packs op(B) [depth, columns] into `room`: as many floats, aligned to MEM_ALIGNMENT_BYTES, used by what is returned.
 */
struct gemm_packed gemm_pack(const struct gemm_packed_kernels *kernels, size_t depth, size_t columns,
                             struct gemm_operand b, float *room);
/* The product, by the kernels that b is packed for. */
void gemm_by_packed(const struct gemm_packed_product *product);

#endif
