/* Fuzz target: any bytes as a corpus. Cleaned text must be encodable with its own vocabulary, symbol for symbol. */
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/train/corpus.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    for (int kind = VOCABULARY_CHARACTERS; kind <= VOCABULARY_BYTES; kind++) {
        struct corpus_source source = {
            .text = (const char *)bytes, .text_bytes = length, .kind = (enum vocabulary_kind)kind};
        struct corpus *corpus = NULL;
        struct vocabulary *vocabulary = NULL;
        struct error error;
        if (corpus_create(&source, &corpus, &error) != STATUS_OK) {
            continue;
        }
        CHECK(corpus_make_vocabulary(corpus, &vocabulary, &error) == STATUS_OK);
        CHECK(corpus_encode(corpus, vocabulary, &error) == STATUS_OK);
        CHECK(corpus_symbol_count(corpus) <= length);
        for (size_t i = 0; i < corpus_symbol_count(corpus); i++) {
            int32_t id;
            corpus_copy_symbols(corpus, i, 1, &id);
            CHECK(id >= 0 && (size_t)id < vocabulary_size(vocabulary));
        }
        vocabulary_unref(vocabulary);
        corpus_destroy(corpus);
    }
    return 0;
}
