/* Products with a packed matrix with AVX-512F: blocks of 64 columns, 6 rows a tile (24 sums, 6 inputs, 1 weight of 32
 * registers). Built with its own -m flags, called only where the CPU has them. Thread: any; no state. */
#if defined(__AVX512F__)

#define KERNELS gemm_packed_avx512
#define KERNELS_NAME "avx512"
#define TILE_ROWS 6

#include "engine/math/rnn_lanes_avx512.h"

#include "engine/math/gemm_packed_vector.h"

#else
#include "engine/math/gemm_packed_versions.h"
#endif
