/* Fuzz target: bytes that may be a text's state. What is read is written as the same bytes, and its parts lie inside.
 * To get past the checksum, bytes are also read with the one they should have. */
#include <nettle/sha2.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/text_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void check(const void *bytes, size_t length)
{
    struct text_state *state = NULL;
    struct error error;
    if (text_state_read(bytes, length, &state, &error) != STATUS_OK) {
        CHECK(error.message[0] != '\0');
        return;
    }
    char name[TEXT_STATE_MODEL_BYTES_MAX];
    const struct text_state_head *head = text_state_head(state);
    char *written = mem_allocate(length, 1);
    CHECK(written != NULL && text_state_bytes(state) == length);
    text_state_write(state, written);
    CHECK(memcmp(written, bytes, length) == 0);
    text_state_model(state, name);
    CHECK(strlen(name) == head->model_bytes && text_state_symbol_count(state) >= head->fed_count);
    CHECK(text_state_recent(state) == text_state_pending(state) + head->pending_count);
    CHECK((const char *)(text_state_counted(state) + head->counted_count) + head->model_bytes -
              (const char *)text_state_numbers(state) ==
          (ptrdiff_t)(length - sizeof *head));
    mem_free(written);
    text_state_unref(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    check(bytes, length);
    struct text_state_head *head = mem_allocate(length, 1);
    if (length >= sizeof *head && head != NULL) {
        struct sha256_ctx context;
        const size_t behind = offsetof(struct text_state_head, format);
        memcpy(head, bytes, length);
        memcpy(head->magic, "lstmdtxt", sizeof head->magic);
        sha256_init(&context);
        sha256_update(&context, length - behind, (const uint8_t *)head + behind);
        sha256_digest(&context, sizeof head->checksum, (uint8_t *)&head->checksum);
        check(head, length);
    }
    mem_free(head);
    return 0;
}
