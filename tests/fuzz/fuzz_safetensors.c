/* Fuzz target: any bytes as a safetensors file. What is accepted must be written and read again bit by bit. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/store/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct safetensors first;
    struct error error;
    if (safetensors_parse(bytes, length, &first, &error) != STATUS_OK) {
        CHECK(error.message[0] != '\0');
        return 0;
    }
    void *written = NULL;
    size_t written_length = 0;
    struct safetensors second;
    CHECK(safetensors_format(first.entries, first.count, &written, &written_length, &error) == STATUS_OK);
    CHECK(safetensors_parse(written, written_length, &second, &error) == STATUS_OK);
    CHECK(first.count == second.count);
    for (size_t i = 0; i < first.count; i++) {
        const struct tensor *a = &first.entries[i].tensor;
        const struct tensor *b = safetensors_find(&second, first.entries[i].name);
        CHECK(b != NULL && a->dtype == b->dtype && shape_equal(&a->shape, &b->shape));
        CHECK(memcmp(a->data, b->data, tensor_bytes(a)) == 0);
    }
    mem_free(written);
    safetensors_release(&second);
    safetensors_release(&first);
    return 0;
}
