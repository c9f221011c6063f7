/* Which symbols a text has, how often, and where each came first; and the vocabulary that comes of it. For one thread.
 *
 * Characters and words are numbered as they first appear; bytes are numbers already. Words are what lies between white
 * space; every line feed is a word too, "<eos>".
 *
 * The vocabulary of words: by falling count, then by code point. A word that comes less than `min_count` times, or has
 * no place among `max_size` symbols, is left out; so is one that no vocabulary can hold (longer than
 * VOCABULARY_SYMBOL_BYTES_MAX, or with a NUL). If any is left out, "<unk>" stands for them all, with their counts added
 * to those that the text itself has of it; without a count it is there for words that came after symbol_counts_stop,
 * which no vocabulary of the text has. "<eos>" and "<unk>" are never left out. So without limits it is what the
 * Penn Treebank tutorial's _build_vocab makes (tensorflow/models, tutorials/rnn/ptb/reader.py). Characters and bytes
 * have neither limits nor "<unk>". */
#ifndef ENGINE_TEXT_SYMBOL_COUNTS_H
#define ENGINE_TEXT_SYMBOL_COUNTS_H

#include "engine/text/vocabulary.h"

/* Distinct words of a text: beyond, it is no text of words, and its table takes gigabytes. */
enum { SYMBOL_COUNTS_MAX = 1 << 25 };

struct symbol_counts;

struct symbol_place {
    uint32_t file; /* what the counter's owner calls it */
    uint64_t line; /* from 1 */
};

/* One symbol of the text, by its number. */
struct counted_symbol {
    const char *text; /* borrowed until the next is counted */
    size_t length;
    uint64_t count;
    struct symbol_place place; /* of its first appearance */
};

/* Nothing counted yet; of characters or words. NO_MEMORY. Owned. */
enum status symbol_counts_create(enum vocabulary_kind kind, struct symbol_counts **ret_counts,
                                 struct error *error) MUST_CHECK;
/* NULL is allowed. */
void symbol_counts_destroy(struct symbol_counts *counts);

/* Counts one more character (its UTF-8, with its code point) or word, and tells its number. LIMIT above
 * SYMBOL_COUNTS_MAX distinct ones; NO_MEMORY. */
enum status symbol_counts_add_character(struct symbol_counts *counts, const char *character, size_t length,
                                        uint32_t code_point, const struct symbol_place *place, uint32_t *ret_number,
                                        struct error *error) MUST_CHECK;
enum status symbol_counts_add_word(struct symbol_counts *counts, const char *word, size_t length,
                                   const struct symbol_place *place, uint32_t *ret_number,
                                   struct error *error) MUST_CHECK;

/* From here on symbols are numbered, but do not count: new words are "<unk>", which a vocabulary then has. */
void symbol_counts_stop(struct symbol_counts *counts);

/* How many distinct symbols there are, and number `number` of them. */
size_t symbol_counts_size(const struct symbol_counts *counts);
struct counted_symbol symbol_counts_get(const struct symbol_counts *counts, uint32_t number);

/* The vocabulary of what was counted; with `base` (not of bytes) its symbols, then those that it lacks. INVALID
 * for no symbols, and for a `max_size` that leaves no place; LIMIT above VOCABULARY_SYMBOLS_MAX, naming the numbers.
 * One reference. */
enum status symbol_counts_make_vocabulary(const struct symbol_counts *counts, const struct vocabulary *base,
                                          const struct vocabulary_limits *limits, struct vocabulary **ret_vocabulary,
                                          struct error *error) MUST_CHECK;

#endif
