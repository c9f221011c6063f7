/* The bf16 kernels with AVX2 and FMA, widening to float: blocks of 8 units, tiles of 2 rows by 4 vectors or 4 by 2 (8
 * sums, 2 pairs of terms held, 1 more of 16 registers). Built with its own -m flags, called only where the CPU has
 * them. Thread: any; no state. */
#if defined(__AVX2__)

#include "engine/math/rnn_lanes_avx2.h"

#define STEPS rnn_steps_avx2_bf16
#define STEPS_NAME "avx2-bf16"
#define PRECISION RNN_PRECISION_BF16
#define vector_dot(sum, x, weights) ((vector_sum)dot((__m256)(sum), (__m256i)(x), (__m256i)(weights)))
#define TILE_ROWS 4

static inline __attribute__((always_inline)) __m256 dot(__m256 sum, __m256i x, __m256i weights)
{
    __m256i upper = _mm256_set1_epi32(-65536);
    sum = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(x, upper)),
                          _mm256_castsi256_ps(_mm256_and_si256(weights, upper)), sum);
    return _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(x, 16)),
                           _mm256_castsi256_ps(_mm256_slli_epi32(weights, 16)), sum);
}

#include "engine/math/rnn_narrow_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
