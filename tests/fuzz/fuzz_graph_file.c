/* Any bytes as graph.json: replayed or refused. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/store/graph_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct replayed_graph replayed;
    struct error error;
    if (size <= 1 << 16 && graph_file_replay((const char *)data, size, &replayed, &error) == STATUS_OK) {
        CHECK(replayed.graph != NULL);
        replayed_graph_release(&replayed);
    }
    return 0;
}
