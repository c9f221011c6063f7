/* cblas, and OpenBLAS's choice of kernels. Owns OpenBLAS, which is loaded here and not when the program is: it reads
 * its environment as it loads, Debian's 0.3.21 takes its Haswell kernels on some CPUs newer than itself, at half the
 * speed of those for AVX-512, and it starts a thread for each CPU at once, which would spin against ours. Thread:
 * any. */
#include "engine/math/gemm.h"

#include <cblas.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>

#include "engine/base/check.h"

static const char library_name[] = "libopenblas.so.0";
static const char core_type_name[] = "OPENBLAS_CORETYPE";
static const char threads_name[] = "OPENBLAS_NUM_THREADS";

static struct {
    void *handle; /* NULL: not loaded */
    __typeof__(&cblas_sgemm) sgemm;
    __typeof__(&cblas_dgemm) dgemm;
    __typeof__(&openblas_get_corename) get_corename;
    __typeof__(&openblas_set_num_threads) set_num_threads;
} blas;

static CBLAS_TRANSPOSE transpose_of(enum gemm_transpose transpose)
{
    return transpose == GEMM_TRANSPOSED ? CblasTrans : CblasNoTrans;
}

static void check_call(size_t m, size_t n, size_t k, size_t a_stride, size_t b_stride, size_t c_stride)
{
    CHECK(blas.handle != NULL);
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
    check_call(m, n, k, a.stride, b.stride, c_stride);
    blas.sgemm(CblasRowMajor, transpose_of(a.transpose), transpose_of(b.transpose), (int)m, (int)n, (int)k, 1.0f,
               a.data, (int)a.stride, b.data, (int)b.stride, beta, c, (int)c_stride);
}

void gemm64(size_t m, size_t n, size_t k, struct gemm_operand64 a, struct gemm_operand64 b, double beta, double *c,
            size_t c_stride)
{
    if (is_trivial(m, n, k, beta != 0, c, c_stride * sizeof *c, n * sizeof *c)) {
        return;
    }
    check_call(m, n, k, a.stride, b.stride, c_stride);
    blas.dgemm(CblasRowMajor, transpose_of(a.transpose), transpose_of(b.transpose), (int)m, (int)n, (int)k, 1.0, a.data,
               (int)a.stride, b.data, (int)b.stride, beta, c, (int)c_stride);
}

const char *gemm_core_type(void)
{
    return blas.get_corename();
}

const char *gemm_better_core_type(const char *chosen)
{
#if defined(__x86_64__)
    /* Core types whose kernels use 512-bit registers; on a CPU with AVX-512 any other one was chosen for want of
     * knowing it. */
    const char *const wide[] = {"SkylakeX", "Cooperlake", "Sapphirerapids", "Zen4", "Zen5"};
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
    (void)chosen;
    return NULL;
#endif
}

static enum status cannot_load(struct error *error)
{
    return error_set(error, STATUS_IO, "OpenBLAS cannot be loaded: %s", dlerror());
}

/* The function that a pointer at `ret_function` is for. */
static enum status find(const char *name, void *ret_function, struct error *error)
{
    void *function = dlsym(blas.handle, name);
    if (function == NULL) {
        return cannot_load(error);
    }
    memcpy(ret_function, &function, sizeof function);
    return STATUS_OK;
}

/* In place of the one that was loaded before. */
static enum status load(struct error *error)
{
    if (blas.handle != NULL) {
        CHECK(dlclose(blas.handle) == 0);
    }
    blas.handle = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
    if (blas.handle == NULL) {
        return cannot_load(error);
    }
    TRY(find("cblas_sgemm", &blas.sgemm, error));
    TRY(find("cblas_dgemm", &blas.dgemm, error));
    TRY(find("openblas_get_corename", &blas.get_corename, error));
    return find("openblas_set_num_threads", &blas.set_num_threads, error);
}

static enum status load_for_this_cpu(struct error *error)
{
    TRY(load(error));
    const char *better = getenv(core_type_name) == NULL ? gemm_better_core_type(gemm_core_type()) : NULL;
    if (better == NULL) {
        return STATUS_OK;
    }
    setenv(core_type_name, better, 0);
    enum status status = load(error);
    unsetenv(core_type_name);
    return status == STATUS_OK ? STATUS_OK : load(error); /* slower, and all else as it is */
}

enum status gemm_start(struct error *error)
{
    bool tells_threads = getenv(threads_name) == NULL && getenv("OMP_NUM_THREADS") == NULL;
    if (tells_threads) {
        setenv(threads_name, "1", 0);
    }
    enum status status = load_for_this_cpu(error);
    if (tells_threads) {
        unsetenv(threads_name);
    }
    if (status == STATUS_OK) {
        blas.set_num_threads(1);
    }
    return status;
}
