/* The recurrent kernels with AVX2 and FMA: blocks of 8 units, tiles of 3 rows by 4 vectors or 6 by 2 (12 sums, up
 * to 3 terms held, 1 more of 16 registers). Built with its own -m flags, called only where the CPU has them. Thread:
 * any; no state. */
#if defined(__AVX2__)

#define KERNELS rnn_kernels_avx2
#define KERNELS_NAME "avx2"
#define TILE_ROWS 6

#include "engine/math/rnn_lanes_avx2.h"
#include "engine/math/rnn_packed_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
