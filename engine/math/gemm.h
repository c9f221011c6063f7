/* Matrix products: the only place that calls cblas. float32 and float64, row-major. Thread: any; OpenBLAS runs
 * single-threaded, the caller's threads are the parallelism. */
#ifndef ENGINE_MATH_GEMM_H
#define ENGINE_MATH_GEMM_H

#include <stddef.h>

#include "engine/base/status.h"

enum gemm_transpose { GEMM_PLAIN, GEMM_TRANSPOSED };

/* C[m, n] = op(A)[m, k] · op(B)[k, n] + beta · C. Row strides in elements: a_stride, b_stride of the matrices as
 * stored. Sizes must fit an int (checked with CHECK: shape rules bound them). beta is 0 or 1; with 0, C is not read. */
struct gemm_operand {
    const float *data;
    size_t stride;
    enum gemm_transpose transpose;
};
void gemm(size_t m, size_t n, size_t k, struct gemm_operand a, struct gemm_operand b, float beta, float *c,
          size_t c_stride);

/* The same in float64. */
struct gemm_operand64 {
    const double *data;
    size_t stride;
    enum gemm_transpose transpose;
};
void gemm64(size_t m, size_t n, size_t k, struct gemm_operand64 a, struct gemm_operand64 b, double beta, double *c,
            size_t c_stride);

/* OpenBLAS's core type ("SkylakeX"), and the type it should be told by OPENBLAS_CORETYPE before the library loads when
 * it did not recognise this CPU and chose slower kernels than the CPU's flags allow; NULL otherwise. */
const char *gemm_core_type(void);
const char *gemm_better_core_type(void);

/* One thread per caller. Once, before the first product. */
void gemm_start(void);

#endif
