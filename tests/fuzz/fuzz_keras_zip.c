/* Fuzz target: any bytes as a .keras archive, beside the symbols. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const char symbols[] = "[\"a\",\"b\",\"c\",\"d\",\"\\n\"]";
    struct foreign_source source = {.label = "memory"};
    fuzz_add(&source, "model.keras", bytes, length);
    fuzz_add(&source, "symbols.json", (const uint8_t *)symbols, sizeof symbols - 1);
    fuzz_import(&source, false);
    return 0;
}
