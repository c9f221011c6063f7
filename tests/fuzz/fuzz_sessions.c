/* Fuzz target: bytes that may be a file of sessions. What is read has names and models with an end, and a time to live.
 * To get past the checksum, bytes are also read with the one they should have. */
#include "daemon/sessions_private.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

enum { SUM_OFFSET = 16, HEAD_BYTES = 80 };

static enum status look(void *context, const struct session_record *record, struct error *error)
{
    ++*(size_t *)context;
    CHECK(strlen(record->owner) < sizeof record->owner && strlen(record->name) < sizeof record->name);
    CHECK(record->order.model == NULL || record->order.model == record->model);
    CHECK(record->order.ttl_seconds > 0 && record->order.ttl_seconds <= SESSION_TTL_SECONDS_MAX);
    CHECK(record->order.adapted == NULL || record->order.state != NULL);
    if (record->order.state != NULL) {
        CHECK(text_state_symbol_count(record->order.state) > 0);
    }
    return record->expires_at == 1 ? error_set(error, STATUS_INVALID, "refused") : STATUS_OK;
}

static void check(const char *bytes, size_t length)
{
    size_t count = 0;
    struct error error;
    if (sessions_parse(bytes, length, look, &count, &error) != STATUS_OK) {
        CHECK(error.message[0] != '\0');
    } else {
        CHECK(count <= length / sizeof(int64_t));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    check((const char *)bytes, length);
    char *copy = mem_allocate(length, 1);
    if (length >= HEAD_BYTES && copy != NULL) {
        char sum[SHA256_TEXT_BYTES];
        memcpy(copy, bytes, length);
        sha256_text(copy + HEAD_BYTES, length - HEAD_BYTES, sum);
        memcpy(copy + SUM_OFFSET, sum, SHA256_TEXT_BYTES - 1);
        check(copy, length);
    }
    mem_free(copy);
    return 0;
}
