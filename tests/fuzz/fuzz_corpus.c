/* Fuzz target: any bytes as a corpus of each kind. The text must be encodable with its own vocabulary, symbol for
 * symbol as vocabulary_encode does it. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/train/corpus.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* What vocabulary_encode makes of it, but for what cleaning took out. */
static void check_encoding(const struct corpus *corpus, const struct vocabulary *vocabulary, const char *bytes,
                           size_t length)
{
    uint32_t *ids = mem_allocate(length + 1, sizeof *ids);
    bool is_clean = memchr(bytes, '\r', length) == NULL && (length < 3 || memcmp(bytes, "\xef\xbb\xbf", 3) != 0);
    size_t count;
    struct error error;
    if (ids != NULL && is_clean) {
        CHECK(vocabulary_encode(vocabulary, bytes, length, UNKNOWN_SYMBOLS_ERROR, ids, &count, &error) == STATUS_OK);
        bool adds_end = vocabulary_kind(vocabulary) == VOCABULARY_WORDS && bytes[length - 1] != '\n';
        CHECK(corpus_symbol_count(corpus) == count + adds_end);
        for (size_t i = 0; i < count; i++) {
            int32_t id;
            CHECK(corpus_copy_symbols(corpus, i, 1, &id, &error) == STATUS_OK);
            CHECK((uint32_t)id == ids[i]);
        }
    }
    mem_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    for (int kind = VOCABULARY_CHARACTERS; kind < VOCABULARY_KIND_COUNT; kind++) {
        struct corpus_source source = {.parts = {{.text = (const char *)bytes, .text_bytes = length}},
                                       .kind = (enum vocabulary_kind)kind};
        struct corpus *corpus = NULL;
        struct vocabulary *vocabulary = NULL;
        struct vocabulary_limits limits = {.min_count = length % 3};
        struct error error;
        if (corpus_create(&source, &corpus, &error) != STATUS_OK) {
            continue;
        }
        CHECK(corpus_make_vocabulary(corpus, NULL, &limits, &vocabulary, &error) == STATUS_OK);
        CHECK(corpus_encode(corpus, vocabulary, &error) == STATUS_OK);
        CHECK(corpus_symbol_count(corpus) <= length + 1); /* a last line's end */
        for (size_t i = 0; i < corpus_symbol_count(corpus); i++) {
            int32_t id;
            CHECK(corpus_copy_symbols(corpus, i, 1, &id, &error) == STATUS_OK);
            CHECK(id >= 0 && (size_t)id < vocabulary_size(vocabulary));
        }
        check_encoding(corpus, vocabulary, (const char *)bytes, length);
        vocabulary_unref(vocabulary);
        corpus_destroy(corpus);
    }
    return 0;
}
