/* Fuzz target: any bytes as an uploaded archive. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    fuzz_import_archive(bytes, length);
    return 0;
}
