/* The recurrent kernels with AVX-512F: blocks of 16 units, tiles of 6 rows by 4 vectors or 12 by 2 (24 sums, up to
 * 4 terms held, 1 more of 32 registers). Built with its own -m flags, called only where the CPU has them. Thread:
 * any; no state. */
#if defined(__AVX512F__)

#define KERNELS rnn_kernels_avx512
#define KERNELS_NAME "avx512"
#define TILE_ROWS 12

#include "engine/math/rnn_lanes_avx512.h"
#include "engine/math/rnn_packed_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
