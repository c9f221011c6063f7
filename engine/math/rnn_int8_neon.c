/* The int8 kernels with NEON: blocks of 4 units, tiles of 3 rows by 4 vectors or 6 by 2 (12 sums, up to 3 words held, 1
 * more and products of 32 registers). Products of bytes within ±127 take 16 bits, and so do sums of two. Every aarch64
 * CPU has the instructions. Thread: any; no state. */
#if defined(__aarch64__)
#include "engine/math/rnn_lanes_neon.h"
#include "engine/math/rnn_packed_sets.h"

#define STEPS rnn_steps_neon_int8
#define STEPS_NAME "neon-int8"
#define PRECISION RNN_PRECISION_INT8
#define FIRST_SUMS(offsets) ((vector_bits){0} & (offsets))
#define vector_dot(sum, x, weights) ((vector_sum)dot((int32x4_t)(sum), (uint8x16_t)(x), (int8x16_t)(weights)))
#define TILE_ROWS 6

static inline __attribute__((always_inline)) int32x4_t dot(int32x4_t sum, uint8x16_t bytes, int8x16_t weights)
{
    int8x16_t x = vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(RNN_INT8_ZERO)));
    int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(weights));
    int16x8_t high = vmull_high_s8(x, weights);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
}

#include "engine/math/rnn_narrow_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
