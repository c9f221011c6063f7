/* The bf16 kernels with AVX-512 BF16: blocks of 16 units, tiles of 6 rows by 4 vectors or 12 by 2 (24 sums, up
 * to 4 words held, 1 more of 32 registers). Built with its own -m flags, called only where the CPU has them. Thread:
 * any; no state. */
#if defined(__AVX512BF16__)

#define STEPS rnn_steps_avx512_bf16
#define STEPS_NAME "avx512-bf16"
#define PRECISION RNN_PRECISION_BF16
#define vector_dot(sum, x, weights) ((vector_sum)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(x), (__m512bh)(weights)))
#define TILE_ROWS 12

#include "engine/math/rnn_lanes_avx512.h"
#include "engine/math/rnn_narrow_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
