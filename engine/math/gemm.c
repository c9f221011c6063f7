/* cblas, and OpenBLAS's choice of kernels. Thread: any. Owns nothing. */
#include "engine/math/gemm.h"

#include <cblas.h>
#include <limits.h>

#include "engine/base/check.h"

static CBLAS_TRANSPOSE transpose_of(enum gemm_transpose transpose)
{
    return transpose == GEMM_TRANSPOSED ? CblasTrans : CblasNoTrans;
}

static void check_sizes(size_t m, size_t n, size_t k, size_t a_stride, size_t b_stride, size_t c_stride)
{
    CHECK(m <= INT_MAX && n <= INT_MAX && k <= INT_MAX && a_stride <= INT_MAX && b_stride <= INT_MAX &&
          c_stride <= INT_MAX);
}

/* A sum of no products: cblas refuses the operands' strides of 0. */
static bool is_trivial(size_t m, size_t n, size_t k, bool keeps, void *c, size_t stride_bytes, size_t row_bytes)
{
    for (size_t row = 0; k == 0 && n > 0 && !keeps && row < m; row++) {
        memset((char *)c + row * stride_bytes, 0, row_bytes);
    }
    return m == 0 || n == 0 || k == 0;
}

void gemm(size_t m, size_t n, size_t k, struct gemm_operand a, struct gemm_operand b, float beta, float *c,
          size_t c_stride)
{
    if (is_trivial(m, n, k, beta != 0, c, c_stride * sizeof *c, n * sizeof *c)) {
        return;
    }
    check_sizes(m, n, k, a.stride, b.stride, c_stride);
    cblas_sgemm(CblasRowMajor, transpose_of(a.transpose), transpose_of(b.transpose), (int)m, (int)n, (int)k, 1.0f,
                a.data, (int)a.stride, b.data, (int)b.stride, beta, c, (int)c_stride);
}

void gemm64(size_t m, size_t n, size_t k, struct gemm_operand64 a, struct gemm_operand64 b, double beta, double *c,
            size_t c_stride)
{
    if (is_trivial(m, n, k, beta != 0, c, c_stride * sizeof *c, n * sizeof *c)) {
        return;
    }
    check_sizes(m, n, k, a.stride, b.stride, c_stride);
    cblas_dgemm(CblasRowMajor, transpose_of(a.transpose), transpose_of(b.transpose), (int)m, (int)n, (int)k, 1.0,
                a.data, (int)a.stride, b.data, (int)b.stride, beta, c, (int)c_stride);
}

const char *gemm_core_type(void)
{
    return openblas_get_corename();
}

const char *gemm_better_core_type(void)
{
#if defined(__x86_64__)
    /* Core types whose kernels use 512-bit registers; on a CPU with AVX-512 any other one was chosen for want of
     * knowing it. */
    const char *const wide[] = {"SkylakeX", "Cooperlake", "Sapphirerapids", "Zen4", "Zen5"};
    const char *chosen = gemm_core_type();
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        if (strcasecmp(chosen, wide[i]) == 0) {
            return NULL;
        }
    }
    __builtin_cpu_init();
    bool has_wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return has_wide ? "SkylakeX" : NULL;
#else
    return NULL;
#endif
}

void gemm_start(void)
{
    openblas_set_num_threads(1);
}
