/* Fuzz target: any bytes as ml5's folder: the first two tell how long the manifest is, the rest is the variables' file,
 * and the symbols. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct foreign_source source = {.label = "memory"};
    if (length < 2) {
        return 0;
    }
    size_t manifest = (size_t)bytes[0] | (size_t)bytes[1] << 8;
    bytes += 2;
    length -= 2;
    manifest = manifest > length ? length : manifest;
    fuzz_add(&source, "manifest.json", bytes, manifest);
    fuzz_add(&source, "v", bytes + manifest, length - manifest);
    fuzz_import(&source, false);
    return 0;
}
