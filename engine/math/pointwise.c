/* Chooses among the versions of the elementwise kernels by the CPU's flags. Thread: any; no state. */
#include "engine/math/pointwise.h"

#include "engine/math/pointwise_versions.h"

const struct pointwise_kernels *pointwise_version(size_t index)
{
    const struct pointwise_kernels *runnable[3] = {&pointwise_kernels_plain};
    size_t count = 1;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        runnable[count++] = &pointwise_kernels_avx2;
    }
    if (__builtin_cpu_supports("avx512f")) {
        runnable[count++] = &pointwise_kernels_avx512;
    }
#endif
    return index < count ? runnable[index] : NULL;
}

const struct pointwise_kernels *pointwise(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        return &pointwise_kernels_avx512;
    }
    if (__builtin_cpu_supports("avx2")) {
        return &pointwise_kernels_avx2;
    }
#endif
    return &pointwise_kernels_plain;
}
