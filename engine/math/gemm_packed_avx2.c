/* Products with a packed matrix with AVX2 and FMA: blocks of 32 columns, 3 rows a tile (12 sums, 3 inputs, 1 weight of
 * 16 registers). Built with its own -m flags, called only where the CPU has them. Thread: any; no state. */
#if defined(__AVX2__)

#define KERNELS gemm_packed_avx2
#define KERNELS_NAME "avx2"
#define TILE_ROWS 3

#include "engine/math/rnn_lanes_avx2.h"

#include "engine/math/gemm_packed_vector.h"

#else
#include "engine/math/gemm_packed_versions.h"
#endif
