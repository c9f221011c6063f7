/* The bf16 kernels with NEON, widening to float: blocks of 4 units, tiles of 3 rows by 4 vectors or 6 by 2 (12 sums, up
 * to 3 pairs of terms held, 1 more of 32 registers). Every aarch64 CPU has the instructions; BFDOT, which some have,
 * rounds otherwise. Thread: any; no state. */
#if defined(__aarch64__)
#include "engine/math/rnn_lanes_neon.h"

#define STEPS rnn_steps_neon_bf16
#define STEPS_NAME "neon-bf16"
#define PRECISION RNN_PRECISION_BF16
#define vector_dot(sum, x, weights) ((vector_sum)dot((float32x4_t)(sum), (uint32x4_t)(x), (uint32x4_t)(weights)))
#define TILE_ROWS 6

static inline __attribute__((always_inline)) float32x4_t dot(float32x4_t sum, uint32x4_t x, uint32x4_t weights)
{
    uint32x4_t upper = vdupq_n_u32(0xFFFF0000u);
    sum = vfmaq_f32(sum, vreinterpretq_f32_u32(vandq_u32(x, upper)), vreinterpretq_f32_u32(vandq_u32(weights, upper)));
    return vfmaq_f32(sum, vreinterpretq_f32_u32(vshlq_n_u32(x, 16)), vreinterpretq_f32_u32(vshlq_n_u32(weights, 16)));
}

#include "engine/math/rnn_narrow_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
