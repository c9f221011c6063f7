/* Products with a packed matrix with NEON: blocks of 16 columns, 6 rows a tile (24 sums, 6 inputs, 1 weight of 32
 * registers). Every aarch64 CPU has the instructions. Thread: any; no state. */
#if defined(__aarch64__)

#define KERNELS gemm_packed_neon
#define KERNELS_NAME "neon"
#define TILE_ROWS 6

#include "engine/math/rnn_lanes_neon.h"

#include "engine/math/gemm_packed_vector.h"

#else
#include "engine/math/gemm_packed_versions.h"
#endif
