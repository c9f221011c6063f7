/* Telling OpenBLAS its thread count and core type. Thread: main, before any other exists. Owns nothing.
 *
 * Debian's OpenBLAS 0.3.21 takes its Haswell kernels on CPUs newer than itself, at half the speed of those for
 * AVX-512; and it starts a thread for each CPU at load, which would spin against ours. */
#include "daemon/blas_start.h"

#include <unistd.h>

#include "engine/engine.h"

/* Set for the second run, so that there is never a third. */
static const char marker[] = "LSTMD_BLAS_STARTED";

void blas_start(char **argv)
{
    const char *core_type = engine_info().blas_better;
    bool sets_core_type = core_type != NULL && getenv("OPENBLAS_CORETYPE") == NULL;
    bool sets_threads = getenv("OPENBLAS_NUM_THREADS") == NULL && getenv("OMP_NUM_THREADS") == NULL;
    if (getenv(marker) != NULL || (!sets_core_type && !sets_threads)) {
        unsetenv(marker);
        return;
    }
    if (sets_core_type) {
        setenv("OPENBLAS_CORETYPE", core_type, 0);
    }
    if (sets_threads) {
        setenv("OPENBLAS_NUM_THREADS", "1", 0);
    }
    setenv(marker, "1", 1);
    execv("/proc/self/exe", argv); /* returns only when it failed: then OpenBLAS is slower, and all else as it is */
    unsetenv(marker);
}
