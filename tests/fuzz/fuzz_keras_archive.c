/* Fuzz target: any bytes as an archive of Keras HDF5 files and the JSON beside them. tests/run only replays its inputs,
 * since libhdf5 itself does not stand all damage. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct foreign_source source = {.label = "memory", .chosen = "m", .unpack_bytes_max = 1 << 20};
    fuzz_add(&source, "m", bytes, length);
    fuzz_import(&source, false);
    return 0;
}
