/* The recurrent kernels with NEON: blocks of 4 units, tiles of 6 rows by 4 vectors or 12 by 2 (24 sums, up to 4 terms
 * held, 1 more of 32 registers). Every aarch64 CPU has the instructions. Thread: any; no state. */
#if defined(__aarch64__)
#define KERNELS rnn_kernels_neon
#define KERNELS_NAME "neon"
#define TILE_ROWS 12

#include "engine/math/rnn_lanes_neon.h"
#include "engine/math/rnn_packed_vector.h"

#else
#include "engine/math/rnn_packed_sets.h"
#endif
