/* A text's state as base64, as requests and replies carry it. Thread: any. Owns nothing. */
#include <nettle/base64.h>

#include "engine/base/mem.h"
#include "engine/decode/text_state.h"

char *text_state_write_base64(const struct text_state *state)
{
    size_t length = BASE64_ENCODE_RAW_LENGTH(text_state_bytes(state));
    uint8_t *bytes = mem_allocate(text_state_bytes(state), 1);
    char *text = bytes == NULL ? NULL : mem_allocate(length + 1, 1);
    if (text != NULL) {
        text_state_write(state, bytes);
        base64_encode_raw(text, text_state_bytes(state), bytes);
    }
    mem_free(bytes);
    return text;
}

enum status text_state_read_base64(const char *text, size_t length, struct text_state **ret_state, struct error *error)
{
    size_t decoded = BASE64_DECODE_LENGTH(length);
    uint8_t *bytes = mem_allocate(decoded, 1);
    if (bytes == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu bytes of base64", length);
    }
    struct base64_decode_ctx decoder;
    base64_decode_init(&decoder);
    bool is_good =
        base64_decode_update(&decoder, &decoded, bytes, length, text) == 1 && base64_decode_final(&decoder) == 1;
    enum status status = is_good ? text_state_read(bytes, decoded, ret_state, error)
                                 : error_set(error, STATUS_INVALID, "a state is base64, and this is none");
    mem_free(bytes);
    return is_good ? status : error_code(error, "state_malformed");
}
