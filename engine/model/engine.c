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
    };
}

enum status engine_start(struct error *error)
{
    mem_start();
    return gemm_start(error);
}
