/* The vectors that rnn_vector.h asks for, with AVX2 and FMA: blocks of 8 units.
 * For the kernel files of that set. Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_LANES_AVX2_H
#define ENGINE_MATH_RNN_LANES_AVX2_H

#include <immintrin.h>

#define LANES 8
#define vector_fma(a, b, c) ((vector)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define vector_splat(x) ((vector)_mm256_set1_ps(x))
#define vector_minimum(limit, x) ((vector)_mm256_min_ps((__m256)(limit), (__m256)(x)))
#define vector_maximum(limit, x) ((vector)_mm256_max_ps((__m256)(limit), (__m256)(x)))

#endif
