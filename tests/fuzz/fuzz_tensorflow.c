/* Fuzz target: any bytes as TensorFlow's checkpoints: the first two tell how long the table is (0: all, a V1
 * checkpoint), a shard follows. */
#include <stdint.h>

#include "foreign_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const uint8_t symbols[] = "[\"a\",\"b\",\"c\",\"d\",\"\\n\"]";
    struct foreign_source source = {.label = "memory"};
    if (length < 2) {
        return 0;
    }
    size_t table = (size_t)bytes[0] | (size_t)bytes[1] << 8;
    bytes += 2;
    length -= 2;
    table = table == 0 || table > length ? length : table;
    fuzz_add(&source, "m.index", bytes, table);
    fuzz_add(&source, "m.data-00000-of-00001", bytes + table, length - table);
    fuzz_add(&source, "symbols.json", symbols, sizeof symbols - 1);
    fuzz_import(&source, false);
    return 0;
}
