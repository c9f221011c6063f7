/* What concerns the engine as a whole. Thread: see engine.h. */
#include "engine/engine.h"

#include "engine/base/mem.h"
#include "engine/math/gemm.h"
#include "engine/math/rnn_packed.h"

struct engine_info engine_info(void)
{
    return (struct engine_info){
        .version = LSTMD_VERSION,
        .kernels = rnn_kernels_at(0)->name,
        .blas = gemm_core_type(),
        .blas_better = gemm_better_core_type(),
    };
}

void engine_start(void)
{
    mem_start();
    gemm_start();
}
