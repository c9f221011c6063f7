/* The recurrent kernels with AVX2 and FMA: blocks of 8 units, 3 rows a tile (12 sums, 3 inputs, 1 weight of 16
 * registers). Built with its own -m flags, called only where the CPU has them. Thread: any; no state. */
#if defined(__AVX2__)

#define KERNELS rnn_kernels_avx2
#define KERNELS_NAME "avx2"
#define LANES 8
#define TILE_ROWS 3
#define vector_fma(a, b, c) ((vector)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define vector_splat(x) ((vector)_mm256_set1_ps(x))
#define vector_minimum(limit, x) ((vector)_mm256_min_ps((__m256)(limit), (__m256)(x)))
#define vector_maximum(limit, x) ((vector)_mm256_max_ps((__m256)(limit), (__m256)(x)))

#include "engine/math/rnn_packed_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
