/* What this machine can do at most: operations a second in each precision (a multiply-add is two), and bytes read from
 * memory, on as many threads as it is told. Prints one JSON object; the shares in tests/bench/compare's table are of
 * these.
 *
 * Usage: roofline [THREADS]
 *
 * Loops of independent multiply-adds that stay in registers, in the widest instructions the CPU has, and sums over an
 * array that no cache holds. The best of several rounds counts. Threads: one for each share of the work. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/mem.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

enum { SUMS = 12, ITERATIONS = 1 << 20, ROUNDS = 10, THREADS_MAX = 64, ARRAY_WORDS = 1 << 24 };

/* The bytes of every factor: 0.75 in fp32 and bf16, 63 in int8. */
enum { FACTOR = 0x3f };

/* The sums have names: an array of them would lie in memory. */
#define EACH_SUM(step) step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9) step(10) step(11)
#define BEGIN(n) __typeof__(x) sum_##n = {0};
#define ADD(n)                                                                                                         \
    sum_##n = MULTIPLY_ADD(sum_##n);                                                                                   \
    __asm__ volatile("" : "+" VECTOR_REGISTER(sum_##n));

#define MULTIPLY_LOOP(function, flags, vector)                                                                         \
    __attribute__((target(flags))) static void function(const uint64_t *array)                                         \
    {                                                                                                                  \
        (void)array;                                                                                                   \
        vector x;                                                                                                      \
        EACH_SUM(BEGIN)                                                                                                \
        memset(&x, FACTOR, sizeof x);                                                                                  \
        for (size_t n = 0; n < ITERATIONS; n++) {                                                                      \
            EACH_SUM(ADD)                                                                                              \
        }                                                                                                              \
    }

#if defined(__x86_64__)
#define VECTOR_REGISTER "v"
#define MULTIPLY_ADD(sum) _mm512_fmadd_ps(x, x, sum)
MULTIPLY_LOOP(fp32_avx512, "avx512f", __m512)
#undef MULTIPLY_ADD
#define MULTIPLY_ADD(sum) _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)x)
MULTIPLY_LOOP(bf16_avx512, "avx512f,avx512bf16", __m512)
#undef MULTIPLY_ADD
#define MULTIPLY_ADD(sum) _mm512_dpbusd_epi32(sum, x, x)
MULTIPLY_LOOP(int8_avx512, "avx512f,avx512vnni", __m512i)
#undef MULTIPLY_ADD
#define MULTIPLY_ADD(sum) _mm256_fmadd_ps(x, x, sum)
MULTIPLY_LOOP(fp32_avx2, "avx2,fma", __m256)
#undef MULTIPLY_ADD

static bool has_fp32_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}

static bool has_bf16_avx512(void)
{
    return __builtin_cpu_supports("avx512bf16");
}

static bool has_int8_avx512(void)
{
    return __builtin_cpu_supports("avx512vnni");
}

static bool has_fp32_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#elif defined(__aarch64__)
#define VECTOR_REGISTER "w"
#define MULTIPLY_ADD(sum) vfmaq_f32(sum, x, x)
MULTIPLY_LOOP(fp32_neon, "arch=armv8-a", float32x4_t)
#undef MULTIPLY_ADD
#define MULTIPLY_ADD(sum) vdotq_s32(sum, (int8x16_t)x, (int8x16_t)x)
MULTIPLY_LOOP(int8_neon, "arch=armv8.2-a+dotprod", int32x4_t)
#undef MULTIPLY_ADD

static bool has_fp32_neon(void)
{
    return true;
}

static bool has_int8_neon(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
#endif

static bool has_memory(void)
{
    return true;
}

static void read_memory(const uint64_t *array)
{
    uint64_t sums[8] = {0};
    for (size_t i = 0; i < ARRAY_WORDS; i += 8) {
        for (size_t lane = 0; lane < 8; lane++) {
            sums[lane] += array[i + lane];
        }
    }
    __asm__ volatile("" : : "m"(sums));
}

/* A loop, and how many thousand millions of operations or bytes a call of it is; of several with one name, the first
 * that the CPU has counts. */
static const struct loop {
    const char *name;
    void (*run)(const uint64_t *array);
    bool (*is_supported)(void);
    double work;
} LOOPS[] = {
#define OPERATIONS(lanes, terms) (2e-9 * ITERATIONS * SUMS * (lanes) * (terms))
#if defined(__x86_64__)
    {"fp32_gops", fp32_avx512, has_fp32_avx512, OPERATIONS(16, 1)},
    {"fp32_gops", fp32_avx2, has_fp32_avx2, OPERATIONS(8, 1)},
    {"bf16_gops", bf16_avx512, has_bf16_avx512, OPERATIONS(16, 2)},
    {"int8_gops", int8_avx512, has_int8_avx512, OPERATIONS(16, 4)},
#elif defined(__aarch64__)
    {"fp32_gops", fp32_neon, has_fp32_neon, OPERATIONS(4, 1)},
    {"int8_gops", int8_neon, has_int8_neon, OPERATIONS(4, 4)},
#endif
    {"memory_gbytes_per_s", read_memory, has_memory, 1e-9 * ARRAY_WORDS * sizeof(uint64_t)},
};
enum { LOOP_COUNT = sizeof LOOPS / sizeof *LOOPS };

struct share {
    const struct loop *loop;
    uint64_t *array;
    pthread_barrier_t *start;
    pthread_t thread;
    double begin, end; /* seconds: the main thread may sleep while all others compute */
};

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *run_share(void *argument)
{
    struct share *share = argument;
    pthread_barrier_wait(share->start);
    share->begin = now_seconds();
    share->loop->run(share->array);
    share->end = now_seconds();
    return NULL;
}

/* The work a second of all threads together, in one round. */
static double measure(const struct loop *loop, struct share *shares, size_t thread_count)
{
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)thread_count);
    for (size_t i = 0; i < thread_count; i++) {
        shares[i].loop = loop;
        shares[i].start = &start;
        if (pthread_create(&shares[i].thread, NULL, run_share, &shares[i]) != 0) {
            fprintf(stderr, "roofline: no thread can be started\n");
            exit(1);
        }
    }
    double begin = 0, end = 0;
    for (size_t i = 0; i < thread_count; i++) {
        pthread_join(shares[i].thread, NULL);
        begin = i == 0 || shares[i].begin < begin ? shares[i].begin : begin;
        end = shares[i].end > end ? shares[i].end : end;
    }
    pthread_barrier_destroy(&start);
    return loop->work * (double)thread_count / (end - begin);
}

int main(int argument_count, char **arguments)
{
    size_t thread_count = argument_count > 1 ? strtoul(arguments[1], NULL, 10) : 1;
    static struct share shares[THREADS_MAX];
    if (thread_count < 1 || thread_count > THREADS_MAX) {
        fprintf(stderr, "roofline: from 1 to %d threads\n", THREADS_MAX);
        return 1;
    }
    for (size_t i = 0; i < thread_count; i++) {
        shares[i].array = mem_allocate_aligned_raw(ARRAY_WORDS, sizeof(uint64_t));
        if (shares[i].array == NULL) {
            fprintf(stderr, "roofline: no memory for %zu threads\n", thread_count);
            return 1;
        }
        memset(shares[i].array, 1, ARRAY_WORDS * sizeof(uint64_t));
    }
    printf("{\"kind\": \"roofline\", \"threads\": %zu", thread_count);
    const char *last = "";
    for (size_t n = 0; n < LOOP_COUNT; n++) {
        if (!LOOPS[n].is_supported() || strcmp(LOOPS[n].name, last) == 0) {
            continue;
        }
        double best = 0;
        for (size_t round = 0; round < ROUNDS; round++) {
            double speed = measure(&LOOPS[n], shares, thread_count);
            best = speed > best ? speed : best;
        }
        printf(", \"%s\": %.1f", LOOPS[n].name, best);
        last = LOOPS[n].name;
    }
    printf("}\n");
    for (size_t i = 0; i < thread_count; i++) {
        mem_free(shares[i].array);
    }
    return 0;
}
