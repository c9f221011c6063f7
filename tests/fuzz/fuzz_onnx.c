/* Fuzz target: any bytes as an ONNX file, beside which a file of weights lies; once in two looked at only. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const uint8_t data[64] = {0, 0, 128, 63};
    struct foreign_source source = {.label = "memory"};
    fuzz_add(&source, "m", bytes, length);
    fuzz_add(&source, "m.data", data, sizeof data);
    fuzz_import(&source, length % 2 == 1);
    return 0;
}
