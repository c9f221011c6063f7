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

/* Before the first product: loads OpenBLAS, with one thread for each caller, and with the kernels for this CPU where it
 * did not recognise it and the operator did not choose (OPENBLAS_CORETYPE). Again only while nobody multiplies. IO:
 * there is no OpenBLAS. Thread: main, before any other, since the library is told by the environment. */
enum status gemm_start(struct error *error) MUST_CHECK;

/* OpenBLAS's core type ("SkylakeX"). */
const char *gemm_core_type(void);

/* What OPENBLAS_CORETYPE should say where OpenBLAS chose `chosen`: a type with wider kernels that this CPU's flags
 * allow; NULL: it chose well. */
const char *gemm_better_core_type(const char *chosen);

#endif
