/* The recurrent kernels with AVX-512F: blocks of 16 units, 6 rows a tile (24 sums, 6 inputs, 1 weight of 32 registers).
 * Built with its own -m flags, called only where the CPU has them. Thread: any; no state. */
#if defined(__AVX512F__)

#define KERNELS rnn_kernels_avx512
#define KERNELS_NAME "avx512"
#define LANES 16
#define TILE_ROWS 6
#define vector_fma(a, b, c) ((vector)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define vector_splat(x) ((vector)_mm512_set1_ps(x))
#define vector_minimum(limit, x) ((vector)_mm512_min_ps((__m512)(limit), (__m512)(x)))
#define vector_maximum(limit, x) ((vector)_mm512_max_ps((__m512)(limit), (__m512)(x)))

#include "engine/math/rnn_packed_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
