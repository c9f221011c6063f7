/* Fuzz target: the text of a vocab.json up to the first NUL, a text to encode behind it. A vocabulary must go through
 * JSON unchanged, and a text through the vocabulary made of it. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/text/vocabulary.h"
#include "tests/unit/text_vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static void encode(const struct vocabulary *vocabulary, const char *text, size_t length, bool must_succeed)
{
    uint32_t *ids = mem_allocate(length, sizeof *ids);
    CHECK(ids != NULL);
    for (int unknown = UNKNOWN_SYMBOLS_ERROR; unknown <= UNKNOWN_SYMBOLS_REPLACE; unknown++) {
        size_t count = 0;
        struct error error;
        enum status status =
            vocabulary_encode(vocabulary, text, length, (enum unknown_symbols)unknown, ids, &count, &error);
        CHECK(!must_succeed || status == STATUS_OK);
        CHECK(count <= length);
        for (size_t i = 0; i < count; i++) {
            CHECK(ids[i] < vocabulary_size(vocabulary));
        }
    }
    mem_free(ids);
}

static void through_json(const json_t *json, const char *text, size_t length)
{
    struct vocabulary *vocabulary = NULL;
    enum vocabulary_kind kind;
    struct vocabulary_limits limits = {0};
    struct error error;
    if (vocabulary_to_come_from_json(json, &kind, &limits, &error) == STATUS_OK) {
        CHECK(limits.max_size <= VOCABULARY_SYMBOLS_MAX && limits.min_count <= VOCABULARY_SYMBOLS_MAX);
    }
    if (vocabulary_from_json(json, &vocabulary, &error) != STATUS_OK) {
        return;
    }
    json_t *written = NULL;
    struct vocabulary *again = NULL;
    CHECK(vocabulary_to_json(vocabulary, &written, &error) == STATUS_OK);
    CHECK(vocabulary_from_json(written, &again, &error) == STATUS_OK);
    CHECK(vocabulary_equal(vocabulary, again));
    bool has_all_bytes = vocabulary_kind(vocabulary) == VOCABULARY_BYTES && vocabulary_size(vocabulary) == 256;
    encode(vocabulary, text, length, has_all_bytes);
    json_decref(written);
    vocabulary_unref(again);
    vocabulary_unref(vocabulary);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    const uint8_t *nul = length == 0 ? NULL : memchr(bytes, 0, length);
    size_t json_length = nul == NULL ? length : (size_t)(nul - bytes);
    const char *text = nul == NULL ? (const char *)bytes : (const char *)nul + 1;
    size_t text_length = nul == NULL ? length : length - json_length - 1;
    json_t *json = json_loadb((const char *)bytes, json_length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (json != NULL) {
        through_json(json, text, text_length);
        json_decref(json);
    }
    struct vocabulary *vocabulary = NULL;
    struct error error;
    if (text_vocabulary(text, text_length, &vocabulary, &error) == STATUS_OK) {
        encode(vocabulary, text, text_length, true);
        vocabulary_unref(vocabulary);
    }
    return 0;
}
