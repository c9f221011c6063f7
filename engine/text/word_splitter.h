/* Where words end in a text that comes piece by piece: at white space. Plain value, zeroed at the start. Thread: any.
 * */
#ifndef ENGINE_TEXT_WORD_SPLITTER_H
#define ENGINE_TEXT_WORD_SPLITTER_H

#include "engine/text/vocabulary.h"

struct word_splitter {
    size_t length; /* of the word so far, in bytes */
    bool is_over;  /* the word was told: what follows begins another */
    /* A word longer than any symbol can be is its beginning and a byte that UTF-8 does not have: equal to no symbol. */
    char word[VOCABULARY_SYMBOL_BYTES_MAX + 1];
};

/* Takes the next character. True when it ends a word, which is there until the next call. */
bool word_splitter_push(struct word_splitter *splitter, const char *character, size_t length, uint32_t code_point);
/* At the text's end: whether it ends a word. */
bool word_splitter_finish(struct word_splitter *splitter);

#endif
