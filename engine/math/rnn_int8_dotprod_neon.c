/* The int8 kernels with NEON's dot products (SDOT, ARMv8.2): blocks of 4 units, tiles of 6 rows by 4 vectors or 12 by 2
 * (24 sums, up to 4 words held, 1 more of 32 registers). Built with its own -march flag, called only where the CPU has
 * them. Thread: any; no state. */
#if defined(__ARM_FEATURE_DOTPROD)
#include "engine/math/rnn_lanes_neon.h"
#include "engine/math/rnn_packed_sets.h"

#define STEPS rnn_steps_neon_dotprod
#define STEPS_NAME "neon-dotprod"
#define PRECISION RNN_PRECISION_INT8
#define FIRST_SUMS(offsets) ((vector_bits){0} & (offsets))
#define vector_dot(sum, x, weights) ((vector_sum)dot((int32x4_t)(sum), (uint8x16_t)(x), (int8x16_t)(weights)))
#define TILE_ROWS 12

static inline __attribute__((always_inline)) int32x4_t dot(int32x4_t sum, uint8x16_t bytes, int8x16_t weights)
{
    return vdotq_s32(sum, vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(RNN_INT8_ZERO))), weights);
}

#include "engine/math/rnn_narrow_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
