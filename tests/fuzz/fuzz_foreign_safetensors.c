/* Fuzz target: any bytes as safetensors of another program: looked at, then imported with symbols of its own. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    for (int looks = 0; looks < 2; looks++) {
        struct foreign_source source = {.label = "memory"};
        fuzz_add(&source, "model.safetensors", bytes, length);
        fuzz_import(&source, looks == 1);
    }
    return 0;
}
