/* Fuzz target: any bytes as one file of PyTorch's or another format that is one file: pickles, zip archives,
 * safetensors. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct foreign_source source = {.label = "memory"};
    fuzz_add(&source, "m", bytes, length);
    fuzz_import(&source, false);
    return 0;
}
