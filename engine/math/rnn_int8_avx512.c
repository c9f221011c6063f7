/* The int8 kernels with AVX-512 VNNI: blocks of 16 units, 6 rows a tile (24 sums, 6 words, 1 word of weights of 32
 * registers). Built with its own -m flags, called only where the CPU has them. Thread: any; no state. */
#if defined(__AVX512VNNI__)

#define STEPS rnn_steps_avx512_vnni
#define STEPS_NAME "avx512-vnni"
#define PRECISION RNN_PRECISION_INT8
#define FIRST_SUMS(offsets) (offsets)
#define vector_dot(sum, x, weights) ((vector_sum)_mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(x), (__m512i)(weights)))
#define LANES 16
#define TILE_ROWS 6
#define vector_fma(a, b, c) ((vector)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define vector_splat(x) ((vector)_mm512_set1_ps(x))
#define vector_minimum(limit, x) ((vector)_mm512_min_ps((__m512)(limit), (__m512)(x)))
#define vector_maximum(limit, x) ((vector)_mm512_max_ps((__m512)(limit), (__m512)(x)))

#include "engine/math/rnn_narrow_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
