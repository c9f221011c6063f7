/* The constant kernel tables, one a file, and the constants their arithmetic shares. For the files that pack
 * for kernels, theirs and their tests alone. */
#ifndef ENGINE_MATH_RNN_PACKED_SETS_H
#define ENGINE_MATH_RNN_PACKED_SETS_H

#include <assert.h>

#include "engine/math/rnn_packed.h"

extern const struct rnn_kernels rnn_kernels_plain;
extern const struct rnn_kernels rnn_kernels_avx2;   /* x86-64 with AVX2 and FMA */
extern const struct rnn_kernels rnn_kernels_avx512; /* x86-64 with AVX-512F */
extern const struct rnn_kernels rnn_kernels_neon;   /* aarch64 */

extern const struct rnn_steps rnn_steps_avx512_pairs;      /* fp32; x86-64 with AVX-512F */
extern const struct rnn_steps rnn_steps_avx512_bf16;       /* x86-64 with AVX-512 F and BF16 */
extern const struct rnn_steps rnn_steps_avx512_vnni;       /* x86-64 with AVX-512 F and VNNI */
extern const struct rnn_steps rnn_steps_avx512_vnni_pairs; /* x86-64 with AVX-512 F, BW and VNNI */
extern const struct rnn_steps rnn_steps_avx2_bf16;         /* x86-64 with AVX2 and FMA */
extern const struct rnn_steps rnn_steps_avx2_int8;
extern const struct rnn_steps rnn_steps_neon_bf16; /* aarch64 */
extern const struct rnn_steps rnn_steps_neon_int8;
extern const struct rnn_steps rnn_steps_neon_dotprod; /* aarch64 with dot products (ARMv8.2) */
extern const struct rnn_steps rnn_steps_plain_bf16;
extern const struct rnn_steps rnn_steps_plain_int8;

/* What becomes of a word where words are summed in pairs: see rnn_pairs_vector.h. */
enum rnn_word_role { RNN_WORD_FIRST, RNN_WORD_SECOND, RNN_WORD_ALONE, RNN_WORD_PERIOD };

/* Of word `word` of a list of `count`: two make a pair, the third is alone, and so is a last one that has no second. */
static inline enum rnn_word_role rnn_word_role(size_t word, size_t count)
{
    enum rnn_word_role role = (enum rnn_word_role)(word % RNN_WORD_PERIOD);
    return role == RNN_WORD_FIRST && word + 1 == count ? RNN_WORD_ALONE : role;
}

#define BF16_ROUNDER 0x7FFFu /* with the last bit kept, added before the low half is dropped: ties to even */

/* Exponentials: x · factor = n + r, n a whole number and |r| ≤ ½; e^x = 2^n · 2^r. n is rounded by adding 1.5 ·
 * 2^23, whose low bits then hold it. 2^r is a polynomial; another one, without a constant coefficient, gives 2^r −
 * 1, which keeps the relative error of a small tanh small. The coefficients, float32, are those whose largest
 * relative error is the least (by iterated weighted least squares, the highest ones again after the lower ones were
 * rounded): 3.0e-9 and 1.3e-8 in degree 6; 1.02e-4 and 4.4e-4 in degree 3, for the narrow precisions, whose h is
 * rounded to 8 bits. 1 − σ has that relative error too: a cell that keeps its c for long still does. Narrow tanh
 * steps back by up to 2.5e-5 where n changes. */
enum { POWER_DEGREE_MAX = 6 };

struct power {
    float input_max; /* x is clamped to ±this */
    float factor;
    size_t degree;
    float coefficients[POWER_DEGREE_MAX + 1]; /* of r^degree down to r^0 */
};

/* All that the cells of one precision need; both of one degree. */
struct powers {
    struct power sigmoid; /* e^−x */
    struct power tanh;    /* e^2x − 1 */
};

#define LOG2_E 0x1.715476p+0f
#define WHOLE_ROUNDER 0x1.8p23f /* added, it rounds to a whole number */

/* float32's layout */
#define FLOAT_ONE_BITS 0x3F800000u
#define FLOAT_EXPONENT_SHIFT 23
#define FLOAT_EXPONENT_BITS 0x7F800000u /* all of them set: not finite */

/* σ(−30) is below 1e−13, and with a cell up to 1e16 no product of an LSTM's divisors overflows. */
#define SIGMOID_INPUT_MAX 30.0f
#define TANH_INPUT_MAX 9.1f     /* tanh rounds to 1 there */
#define SOFTMAX_INPUT_MAX 87.0f /* 2^n stays a normal number */

#define POWER_OF_DEGREE_6                                                                                              \
    6,                                                                                                                 \
    {                                                                                                                  \
        0x1.416b5cp-13f, 0x1.5f0830p-10f, 0x1.3b2de0p-7f, 0x1.c6af7cp-5f, 0x1.ebfbdcp-3f, 0x1.62e430p-1f, 1.0f         \
    }
static const struct powers POWERS_FP32 = {
    .sigmoid = {SIGMOID_INPUT_MAX, -LOG2_E, POWER_OF_DEGREE_6},
    .tanh = {TANH_INPUT_MAX,
             2 * LOG2_E,
             6,
             {0x1.4296bcp-13f, 0x1.5ef12ap-10f, 0x1.3b2c3ep-7f, 0x1.c6afa4p-5f, 0x1.ebfbdep-3f, 0x1.62e430p-1f, 0.0f}},
};
static const struct powers POWERS_NARROW = {
    .sigmoid = {SIGMOID_INPUT_MAX, -LOG2_E, 3, {0x1.c2a218p-5f, 0x1.f00c4cp-3f, 0x1.62f5fap-1f, 1.0f}},
    .tanh = {TANH_INPUT_MAX, 2 * LOG2_E, 3, {0x1.c6b040p-5f, 0x1.efacd4p-3f, 0x1.62e844p-1f, 0.0f}},
};
static const struct power POWER_SOFTMAX = {SOFTMAX_INPUT_MAX, LOG2_E, POWER_OF_DEGREE_6}; /* e^x */

/* How the partial sums of rnn_kernels.sum are added up. */
static inline double sum_pairwise(const double sums[RNN_SUM_LANES])
{
    static_assert(RNN_SUM_LANES == 8, "all are added up below");
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

#endif
