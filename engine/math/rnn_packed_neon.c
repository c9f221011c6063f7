/* The recurrent kernels with NEON: blocks of 4 units, 6 rows a tile (24 sums, 6 inputs, 1 weight of 32 registers).
 * Every aarch64 CPU has the instructions. Thread: any; no state. */
#if defined(__aarch64__)
#define KERNELS rnn_kernels_neon
#define KERNELS_NAME "neon"
#define TILE_ROWS 6

#include "engine/math/rnn_lanes_neon.h"
#include "engine/math/rnn_packed_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
