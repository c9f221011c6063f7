/* The int8 kernels with AVX2: blocks of 8 units, tiles of 2 rows by 4 vectors or 4 by 2 (8 sums, 2 words held, 1
 * more and products of 16 registers).
 * VPMADDUBSW multiplies unsigned by signed bytes and saturates the sum of two products at 16 bits: two of at most
 * 128 + 63 by 64 never reach that. Built with its own -m flags, called only where the CPU has them. Thread: any; no
 * state. */
#if defined(__AVX2__)

#include "engine/math/rnn_lanes_avx2.h"

#define STEPS rnn_steps_avx2_int8
#define STEPS_NAME "avx2-int8"
#define PRECISION RNN_PRECISION_INT8
#define FIRST_SUMS(offsets) (offsets)
#define vector_dot(sum, x, weights) ((vector_sum)dot((__m256i)(sum), (__m256i)(x), (__m256i)(weights)))
#define TILE_ROWS 4

static inline __attribute__((always_inline)) __m256i dot(__m256i sum, __m256i bytes, __m256i weights)
{
    __m256i pairs = _mm256_maddubs_epi16(bytes, weights);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#include "engine/math/rnn_narrow_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
