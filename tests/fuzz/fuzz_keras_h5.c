/* Fuzz target: any bytes as a Keras HDF5 file, beside the symbols; looked at, then imported. tests/run only replays its
 * inputs, since libhdf5 itself does not stand all damage. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const char symbols[] = "[\"a\",\"b\",\"c\",\"d\",\"\\n\"]";
    for (int looks_only = 0; looks_only < 2; looks_only++) {
        struct foreign_source source = {.label = "memory"};
        fuzz_add(&source, "model.h5", bytes, length);
        fuzz_add(&source, "symbols.json", (const uint8_t *)symbols, sizeof symbols - 1);
        fuzz_import(&source, looks_only == 1);
    }
    return 0;
}
