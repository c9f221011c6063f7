/* Fuzz target: any bytes as UTF-8. Decoder, search and assembler must agree on what is well-formed. */
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const char *text = (const char *)bytes;
    size_t offset = 0;
    uint32_t code_point = 0;
    for (size_t step = 1; offset < length; offset += step) {
        char again[UTF8_BYTES_MAX];
        step = utf8_decode(text + offset, length - offset, &code_point);
        if (step == 0) {
            break;
        }
        CHECK(utf8_encode(code_point, again) == step && memcmp(again, text + offset, step) == 0);
    }
    CHECK(utf8_find_malformed(text, length) == offset);

    struct utf8_assembler assembler = {.pending_count = 0};
    size_t same = 0; /* bytes that came out as they went in, from the start */
    bool is_same = true;
    for (size_t i = 0; i < length; i++) {
        char output[UTF8_ASSEMBLER_OUTPUT_BYTES_MAX];
        size_t written = utf8_assembler_push(&assembler, bytes[i], output);
        CHECK(written <= sizeof output && utf8_find_malformed(output, written) == written);
        is_same = is_same && same + written <= length && memcmp(output, text + same, written) == 0;
        same += is_same ? written : 0;
    }
    CHECK(same <= offset);
    CHECK(offset < length || (is_same && same == length && assembler.pending_count == 0));
    return 0;
}
