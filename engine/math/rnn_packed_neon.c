/* The recurrent kernels with NEON: blocks of 4 units, 6 rows a tile (24 sums, 6 inputs, 1 weight of 32 registers).
 * Every aarch64 CPU has the instructions. Thread: any; no state. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define KERNELS rnn_kernels_neon
#define KERNELS_NAME "neon"
#define LANES 4
#define TILE_ROWS 6
#define vector_fma(a, b, c) ((vector)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define vector_splat(x) ((vector)vdupq_n_f32(x))
#define vector_minimum(limit, x) ((vector)vminq_f32((float32x4_t)(limit), (float32x4_t)(x)))
#define vector_maximum(limit, x) ((vector)vmaxq_f32((float32x4_t)(limit), (float32x4_t)(x)))

#include "engine/math/rnn_packed_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
