/* The int8 kernels with AVX-512 VNNI for CPUs that add beside their products: words in pairs, see rnn_pairs_vector.h.
 * Tiles as in rnn_int8_avx512.c: of 32 registers 24 hold sums, 4 weights, 2 x and 2 what is added of them. Built with
 * its own -m flags, called only where the CPU has them. Thread: any; no state. */
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)

#define STEPS rnn_steps_avx512_vnni_pairs
#define STEPS_NAME "avx512-vnni-pairs"
#define PRECISION RNN_PRECISION_INT8
#define PAIRED
#define FIRST_SUMS(offsets) (offsets)
#define vector_dot(sum, x, weights) ((vector_sum)_mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(x), (__m512i)(weights)))
#define add_terms(a, b) ((vector_terms)_mm512_add_epi8((__m512i)(a), (__m512i)(b)))
#define TILE_ROWS 12

#include "engine/math/rnn_lanes_avx512.h"
#include "engine/math/rnn_packed_sets.h"

static_assert(RNN_INT8_INPUT_MAX + RNN_INT8_WEIGHT_MAX <= 127, "x + w is a signed byte");

static union rnn_product words_product(const void *list, size_t count);

#include "engine/math/rnn_narrow_vector.h"

/* The sum of (x_e + 128)·x_o over the pairs. */
static union rnn_product words_product(const void *list, size_t count)
{
    const __m512i zero = _mm512_set1_epi8((char)RNN_INT8_ZERO);
    const term *words = list;
    __m512i sum = _mm512_setzero_si512();
    for (size_t k = 0; k + 1 < count; k += LANES) {
        __mmask16 mask = first_words(k, count);
        __m512i first = _mm512_maskz_loadu_epi32(mask, words + k);
        __m512i second = _mm512_maskz_loadu_epi32(mask, words + k + 1);
        sum = _mm512_dpbusd_epi32(sum, first, _mm512_xor_si512(second, zero));
    }
    return (union rnn_product){.whole = (uint32_t)_mm512_reduce_add_epi32(sum)};
}

#else
#include "engine/math/rnn_packed_sets.h"
#endif
