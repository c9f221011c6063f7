/* The constant kernel tables, one a file, and the constants their arithmetic shares. For rnn_packed*.c alone. */
#ifndef ENGINE_MATH_RNN_PACKED_SETS_H
#define ENGINE_MATH_RNN_PACKED_SETS_H

#include <assert.h>

#include "engine/math/rnn_packed.h"

extern const struct rnn_kernels rnn_kernels_plain;
extern const struct rnn_kernels rnn_kernels_avx2;   /* x86-64 with AVX2 and FMA */
extern const struct rnn_kernels rnn_kernels_avx512; /* x86-64 with AVX-512F */
extern const struct rnn_kernels rnn_kernels_neon;   /* aarch64 */

extern const struct rnn_steps rnn_steps_avx512_bf16; /* x86-64 with AVX-512 F and BF16 */
extern const struct rnn_steps rnn_steps_avx512_vnni; /* x86-64 with AVX-512 F and VNNI */
extern const struct rnn_steps rnn_steps_avx2_bf16;   /* x86-64 with AVX2 and FMA */
extern const struct rnn_steps rnn_steps_avx2_int8;
extern const struct rnn_steps rnn_steps_neon_bf16; /* aarch64 */
extern const struct rnn_steps rnn_steps_neon_int8;
extern const struct rnn_steps rnn_steps_neon_dotprod; /* aarch64 with dot products (ARMv8.2) */
extern const struct rnn_steps rnn_steps_plain_bf16;
extern const struct rnn_steps rnn_steps_plain_int8;

#define BF16_ROUNDER 0x7FFFu /* with the last bit kept, added before the low half is dropped: ties to even */

/* e^x = 2^n · (1 + p): n = round(x / ln 2), r = x − n·ln 2, p = e^r − 1 = r + r²·(C0 + C1·r + … + C5·r⁵), |r| ≤ 0.347.
 * The polynomial is that of Cephes' expf (Moshier 1989); n is rounded by adding 1.5 · 2^23, whose low bits then hold
 * n. */
#define EXP_LOG2_E 0x1.715476p+0f
#define EXP_LN2_HIGH 0x1.62e430p-1f
#define EXP_LN2_LOW (-0x1.05c610p-29f)
#define EXP_ROUNDER 0x1.8p23f
#define EXP_C0 5.0000001201e-1f
#define EXP_C1 1.6666665459e-1f
#define EXP_C2 4.1665795894e-2f
#define EXP_C3 8.3334519073e-3f
#define EXP_C4 1.3981999507e-3f
#define EXP_C5 1.9875691500e-4f
#define EXP_ONE_BITS 0x3F800000u
#define EXP_BITS_MASK 0x7F800000u

#define EXP_INPUT_MAX 87.0f  /* 2^n and 1 / 2^n stay normal numbers */
#define TANH_INPUT_MAX 18.2f /* of 2x: tanh(9.1) rounds to 1 */

/* σ(−30) is below 1e−13, and with a cell up to 1e16 no product of an LSTM's divisors overflows. */
#define SIGMOID_INPUT_MAX 30.0f

/* How the partial sums of rnn_kernels.sum are added up. */
static inline double sum_pairwise(const double sums[RNN_SUM_LANES])
{
    static_assert(RNN_SUM_LANES == 8, "all are added up below");
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

#endif
