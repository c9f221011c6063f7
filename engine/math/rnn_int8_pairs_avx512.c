/* The int8 kernels with AVX-512 VNNI for CPUs that add beside their products: words in pairs, half the products of a
 * pair. Tiles as in rnn_int8_avx512.c: of 32 registers 24 hold sums, 4 weights, 2 x and 2 what is added of them. Built
 * with its own -m flags, called only where the CPU has them. Thread: any; no state. */
#if defined(__AVX512VNNI__)

#define STEPS rnn_steps_avx512_vnni_pairs
#define STEPS_NAME "avx512-vnni-pairs"
#define PRECISION RNN_PRECISION_INT8
#define PAIRED
#define FIRST_SUMS(offsets) (offsets)
#define vector_dot(sum, x, weights) ((vector_sum)_mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(x), (__m512i)(weights)))
#define TILE_ROWS 12

#include "engine/math/rnn_lanes_avx512.h"
#include "engine/math/rnn_narrow_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
