/* Words between white space. */
#include "engine/text/word_splitter.h"

#include "engine/text/utf8.h"

bool word_splitter_push(struct word_splitter *splitter, const char *character, size_t length, uint32_t code_point)
{
    if (splitter->is_over) {
        splitter->length = 0;
        splitter->is_over = false;
    }
    if (utf8_is_white_space(code_point)) {
        return word_splitter_finish(splitter);
    }
    if (splitter->length + length < sizeof splitter->word) {
        memcpy(splitter->word + splitter->length, character, length);
        splitter->length += length;
    } else {
        memset(splitter->word + VOCABULARY_SYMBOL_BYTES_MAX - UTF8_BYTES_MAX, 0xFF, UTF8_BYTES_MAX + 1);
        splitter->length = sizeof splitter->word; /* however much more comes */
    }
    return false;
}

bool word_splitter_finish(struct word_splitter *splitter)
{
    bool is_new = !splitter->is_over && splitter->length > 0;
    splitter->is_over = true;
    return is_new;
}
