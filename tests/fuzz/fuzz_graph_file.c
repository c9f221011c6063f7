/* Any bytes as graph.json: replayed or refused. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/math/gemm.h"
#include "engine/store/graph_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool has_started;
    if (!has_started) { /* constants of a program are multiplied as it is built */
        CHECK(gemm_start(NULL) == STATUS_OK);
        has_started = true;
    }
    struct replayed_graph replayed;
    struct error error;
    if (size <= 1 << 16 && graph_file_replay((const char *)data, size, &replayed, &error) == STATUS_OK) {
        CHECK(replayed.graph != NULL);
        replayed_graph_release(&replayed);
    }
    return 0;
}
