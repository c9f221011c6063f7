/* The vectors that rnn_vector.h asks for, with NEON: blocks of 4 units.
 * For the kernel files of that set. Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_LANES_NEON_H
#define ENGINE_MATH_RNN_LANES_NEON_H

#include <arm_neon.h>

#define LANES 4
#define vector_fma(a, b, c) ((vector)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define vector_splat(x) ((vector)vdupq_n_f32(x))
#define vector_minimum(limit, x) ((vector)vminq_f32((float32x4_t)(limit), (float32x4_t)(x)))
#define vector_maximum(limit, x) ((vector)vmaxq_f32((float32x4_t)(limit), (float32x4_t)(x)))

#endif
