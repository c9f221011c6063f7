/* Choosing the recurrent kernels by the CPU's flags. Thread: any; no state. */
#include "engine/math/rnn_packed.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "engine/base/check.h"
#include "engine/math/rnn_packed_sets.h"

#if defined(__x86_64__)
static bool cpu_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma");
}

static bool cpu_has_avx512_bf16(void)
{
    return cpu_has_avx512() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512bf16");
}

static bool cpu_has_avx512_vnni(void)
{
    return cpu_has_avx512() && __builtin_cpu_supports("avx512vnni");
}

/* Where additions of vectors, of bytes and of floats, have pipes that products do not: beside two products a cycle, Zen
 * 5 adds twice (Zen 4 in halves). Elsewhere the additions would take the products' time. */
static bool cpu_adds_beside_products(void)
{
    return __builtin_cpu_is("amd");
}

static bool cpu_has_avx512_vnni_pairs(void)
{
    return cpu_has_avx512_vnni() && __builtin_cpu_supports("avx512bw");
}

static bool cpu_has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#elif defined(__aarch64__)
static bool cpu_has_dotprod(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
#endif

static bool cpu_has_all(void)
{
    return true;
}

static const struct {
    const struct rnn_kernels *kernels;
    bool (*is_supported)(void);
} sets[] = {
#if defined(__x86_64__)
    {&rnn_kernels_avx512, cpu_has_avx512},
    {&rnn_kernels_avx2, cpu_has_avx2},
#elif defined(__aarch64__)
    {&rnn_kernels_neon, cpu_has_all},
#endif
    {&rnn_kernels_plain, cpu_has_all},
};
enum { SET_COUNT = sizeof sets / sizeof *sets };

const struct rnn_kernels *rnn_kernels_at(size_t index)
{
    for (size_t i = 0; i < SET_COUNT; i++) {
        if (sets[i].is_supported() && index-- == 0) {
            return sets[i].kernels;
        }
    }
    return NULL;
}

const struct rnn_kernels *rnn_kernels_find(const char *name)
{
    const struct rnn_kernels *kernels = NULL;
    for (size_t i = 0; (kernels = rnn_kernels_at(i)) != NULL; i++) {
        if (name == NULL || strcmp(kernels->name, name) == 0) {
            return kernels;
        }
    }
    return NULL;
}

static const struct {
    const char *kernels; /* NULL: any */
    const struct rnn_steps *steps;
    bool (*is_supported)(void);
    bool (*is_faster)(void); /* than the next one; NULL: always */
} other_steps[] = {
#if defined(__x86_64__)
    {"avx512", &rnn_steps_avx512_pairs, cpu_has_avx512, cpu_adds_beside_products},
    {"avx512", &rnn_steps_avx512_bf16, cpu_has_avx512_bf16, NULL},
    {"avx512", &rnn_steps_avx512_vnni_pairs, cpu_has_avx512_vnni_pairs, cpu_adds_beside_products},
    {"avx512", &rnn_steps_avx512_vnni, cpu_has_avx512_vnni, NULL},
    {"avx512", &rnn_steps_avx2_bf16, cpu_has_avx2, NULL},
    {"avx512", &rnn_steps_avx2_int8, cpu_has_avx2, NULL},
    {"avx2", &rnn_steps_avx2_bf16, cpu_has_avx2, NULL},
    {"avx2", &rnn_steps_avx2_int8, cpu_has_avx2, NULL},
#elif defined(__aarch64__)
    {"neon", &rnn_steps_neon_bf16, cpu_has_all, NULL}, {"neon", &rnn_steps_neon_dotprod, cpu_has_dotprod, NULL},
    {"neon", &rnn_steps_neon_int8, cpu_has_all, NULL},
#endif
    {NULL, &rnn_steps_plain_bf16, cpu_has_all, NULL},
    {NULL, &rnn_steps_plain_int8, cpu_has_all, NULL},
};
enum { OTHER_COUNT = sizeof other_steps / sizeof *other_steps };

const struct rnn_steps *rnn_kernels_steps(const struct rnn_kernels *kernels, enum rnn_precision precision)
{
    for (size_t i = 0; i < OTHER_COUNT; i++) {
        const char *name = other_steps[i].kernels;
        bool (*is_faster)(void) = other_steps[i].is_faster;
        if (other_steps[i].steps->precision == precision && (name == NULL || strcmp(name, kernels->name) == 0) &&
            other_steps[i].is_supported() && (is_faster == NULL || is_faster())) {
            return other_steps[i].steps;
        }
    }
    CHECK(precision == RNN_PRECISION_FP32); /* the plain ones of others match any kernels */
    return &kernels->fp32;
}

/* Whether row `index` is the first one of its steps. */
static bool is_first_of_steps(size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (other_steps[i].steps == other_steps[index].steps) {
            return false;
        }
    }
    return true;
}

const struct rnn_steps *rnn_steps_at(enum rnn_precision precision, size_t index)
{
    for (size_t i = 0; i < OTHER_COUNT; i++) {
        if (other_steps[i].steps->precision == precision && other_steps[i].is_supported() && is_first_of_steps(i) &&
            index-- == 0) {
            return other_steps[i].steps;
        }
    }
    const struct rnn_kernels *kernels = precision == RNN_PRECISION_FP32 ? rnn_kernels_at(index) : NULL;
    return kernels == NULL ? NULL : &kernels->fp32;
}
