/* Fuzz target: any bytes as a layers model of TensorFlow.js: the first two tell how long model.json is, the rest are
 * the shards "a" and, the last four bytes, "b"; beside the symbols. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const char symbols[] = "[\"a\",\"b\",\"c\",\"d\",\"\\n\"]";
    struct foreign_source source = {.label = "memory"};
    if (length < 2) {
        return 0;
    }
    size_t topology = (size_t)bytes[0] | (size_t)bytes[1] << 8;
    bytes += 2;
    length -= 2;
    topology = topology > length ? length : topology;
    size_t rest = length - topology;
    size_t first = rest < 4 ? rest : rest - 4;
    fuzz_add(&source, "a", bytes + topology, first);
    fuzz_add(&source, "b", bytes + topology + first, rest - first);
    fuzz_add(&source, "model.json", bytes, topology);
    fuzz_add(&source, "symbols.json", (const uint8_t *)symbols, sizeof symbols - 1);
    fuzz_import(&source, false);
    return 0;
}
