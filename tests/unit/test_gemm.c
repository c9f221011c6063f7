/* Loading OpenBLAS: the operator's core type stands, threads are not started, what was set for it is gone, and its
 * products are right on each. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "engine/math/gemm.h"

static void check_products(void)
{
    enum { M = 3, N = 5, K = 7 };
    float a[M * K];
    float b[K * N];
    float c[M * N];
    double wide_a[M * K];
    double wide_b[K * N];
    double wide_c[M * N];
    for (size_t i = 0; i < M * K; i++) {
        a[i] = (float)i - 9;
        wide_a[i] = (double)a[i];
    }
    for (size_t i = 0; i < K * N; i++) {
        b[i] = 0.5f * (float)i - 8;
        wide_b[i] = (double)b[i];
    }
    gemm(M, N, K, (struct gemm_operand){.data = a, .stride = K}, (struct gemm_operand){.data = b, .stride = N}, 0, c,
         N);
    gemm64(M, N, K, (struct gemm_operand64){.data = wide_a, .stride = K},
           (struct gemm_operand64){.data = wide_b, .stride = N}, 0, wide_c, N);
    for (size_t row = 0; row < M; row++) {
        for (size_t column = 0; column < N; column++) {
            double sum = 0;
            for (size_t i = 0; i < K; i++) {
                sum += wide_a[row * K + i] * wide_b[i * N + column];
            }
            assert_true(fabs(sum - (double)c[row * N + column]) < 1e-4);
            assert_true(fabs(sum - wide_c[row * N + column]) < 1e-10);
        }
    }
}

static void test_what_the_operator_says_stands(void **state)
{
    (void)state;
#if defined(__x86_64__)
    static const char CORE_TYPE[] = "Nehalem"; /* every x86-64 CPU that is left has its instructions */
#else
    static const char CORE_TYPE[] = "armv8";
#endif
    struct error error;
    setenv("OPENBLAS_CORETYPE", CORE_TYPE, 1);
    setenv("OPENBLAS_NUM_THREADS", "2", 1);
    assert_int_equal(gemm_start(&error), STATUS_OK);
    assert_string_equal(gemm_core_type(), CORE_TYPE);
    assert_string_equal(getenv("OPENBLAS_CORETYPE"), CORE_TYPE);
    assert_string_equal(getenv("OPENBLAS_NUM_THREADS"), "2");
    check_products();
    unsetenv("OPENBLAS_CORETYPE");
    unsetenv("OPENBLAS_NUM_THREADS");
}

/* Of this process. */
static size_t count_threads(void)
{
    struct stat tasks;
    assert_int_equal(stat("/proc/self/task", &tasks), 0);
    return tasks.st_nlink - 2;
}

static void test_otherwise_it_has_this_cpus_kernels_and_no_threads(void **state)
{
    (void)state;
    size_t before = count_threads();
    unsetenv("OPENBLAS_CORETYPE");
    unsetenv("OPENBLAS_NUM_THREADS");
    unsetenv("OMP_NUM_THREADS");
    struct error error;
    assert_int_equal(gemm_start(&error), STATUS_OK);
    assert_null(gemm_better_core_type(gemm_core_type()));
    assert_null(getenv("OPENBLAS_CORETYPE"));
    assert_null(getenv("OPENBLAS_NUM_THREADS"));
    assert_int_equal(count_threads(), before);
    check_products();
}

/* What it chooses on a CPU that it does not know. */
static void test_a_cpu_that_openblas_does_not_know(void **state)
{
    (void)state;
    const char *better = gemm_better_core_type("Haswell");
#if defined(__x86_64__)
    bool has_wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    assert_int_equal(better != NULL, has_wide);
#else
    assert_null(better);
#endif
    if (better != NULL) {
        assert_null(gemm_better_core_type(better));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_otherwise_it_has_this_cpus_kernels_and_no_threads),
        cmocka_unit_test(test_what_the_operator_says_stands),
        cmocka_unit_test(test_a_cpu_that_openblas_does_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
