/* Fuzz target: any bytes as an archive of Keras HDF5 files and the JSON beside them. tests/run only replays its inputs,
 * since libhdf5 itself does not stand all damage. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    fuzz_import_archive(bytes, length);
    return 0;
}
