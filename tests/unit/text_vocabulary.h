/* The vocabulary of a text's characters, as training makes it: counted, then chosen. For tests. */
#ifndef TESTS_UNIT_TEXT_VOCABULARY_H
#define TESTS_UNIT_TEXT_VOCABULARY_H

#include "engine/text/symbol_counts.h"
#include "engine/text/utf8.h"

/* As symbol_counts_make_vocabulary; INVALID for what is not UTF-8. One reference. */
static inline enum status text_vocabulary(const char *text, size_t length, struct vocabulary **ret_vocabulary,
                                          struct error *error)
{
    static const struct vocabulary_limits limits;
    static const struct symbol_place place = {.line = 1};
    struct symbol_counts *counts = NULL;
    enum status status = symbol_counts_create(VOCABULARY_CHARACTERS, &counts, error);
    for (size_t offset = 0; offset < length && status == STATUS_OK;) {
        uint32_t code_point, number;
        size_t step = utf8_decode(text + offset, length - offset, &code_point);
        status = step == 0
                     ? error_set(error, STATUS_INVALID, "not UTF-8")
                     : symbol_counts_add_character(counts, text + offset, step, code_point, &place, &number, error);
        offset += step;
    }
    if (status == STATUS_OK) {
        status = symbol_counts_make_vocabulary(counts, NULL, &limits, ret_vocabulary, error);
    }
    symbol_counts_destroy(counts);
    return status;
}

#endif
