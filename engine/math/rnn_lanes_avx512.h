/* The vectors that rnn_vector.h asks for, with AVX-512F: blocks of 16 units.
 * For the kernel files of that set. Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_LANES_AVX512_H
#define ENGINE_MATH_RNN_LANES_AVX512_H

#include <immintrin.h>

#define LANES 16
#define vector_fma(a, b, c) ((vector)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define vector_splat(x) ((vector)_mm512_set1_ps(x))
#define vector_minimum(limit, x) ((vector)_mm512_min_ps((__m512)(limit), (__m512)(x)))
#define vector_maximum(limit, x) ((vector)_mm512_max_ps((__m512)(limit), (__m512)(x)))

#endif
