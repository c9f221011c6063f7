/* A model's symbols: what its numbers mean as text. Immutable after creation and shared freely between threads.
 *
 * The order of a vocabulary made from a corpus is fixed: characters by code point; bytes are always all 256 by value;
 * words by falling count, then by code point (symbol_counts.h). vocab.json: {"kind":"characters",
 * "symbols":["\n"," ",…]}; for all 256 bytes the list is left out, for some of them it is their values. */
#ifndef ENGINE_TEXT_VOCABULARY_H
#define ENGINE_TEXT_VOCABULARY_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/text/symbol_table.h"

enum vocabulary_kind {
    VOCABULARY_CHARACTERS, /* each symbol one Unicode character; or a mark, <NAME>, in models made elsewhere */
    VOCABULARY_BYTES,      /* each symbol one byte: all 256 by value, or, in models made elsewhere, some in any order */
    VOCABULARY_WORDS,      /* symbols are words; text is split at white space */
    VOCABULARY_KIND_COUNT,
};

/* A symbol and the space before a word fit into one stop_strings_push. */
enum { VOCABULARY_SYMBOLS_MAX = 1 << 20, VOCABULARY_SYMBOL_BYTES_MAX = 1000 };

/* Words with a meaning of their own: what stands at every line's end, and for every word that is none of the others. */
#define VOCABULARY_END_OF_LINE "<eos>"
#define VOCABULARY_UNKNOWN "<unk>"

struct vocabulary;

/* Whether it is a mark that may stand among characters, for what is none: "<s>", "<pad>"; letters, digits, '_' and '/'
 * between the brackets. In a text that is encoded such a mark is its symbol where the vocabulary has it. */
enum { VOCABULARY_MARK_BYTES_MAX = 32 };
bool vocabulary_is_mark(const char *symbol, size_t length);

/* "characters", "bytes", "words". */
const char *vocabulary_kind_name(enum vocabulary_kind kind);
/* Finds a kind by its name; false when there is none. */
bool vocabulary_kind_from_name(const char *name, enum vocabulary_kind *ret_kind);

/* Makes the byte vocabulary. NO_MEMORY is the only error. One reference: give it back with vocabulary_unref. */
enum status vocabulary_create_bytes(struct vocabulary **ret_vocabulary, struct error *error) MUST_CHECK;

/* Makes a vocabulary of some bytes in order. INVALID for none or a doubled one. */
enum status vocabulary_create_some_bytes(const unsigned char *bytes, size_t count, struct vocabulary **ret_vocabulary,
                                         struct error *error) MUST_CHECK;

/* Makes a vocabulary of characters or words from symbols in order, which are copied. They are UTF-8; only a character
 * may be U+0000. INVALID for none, or names the duplicate, empty, malformed or (characters) longer-than-one symbol;
 * LIMIT above VOCABULARY_SYMBOLS_MAX or VOCABULARY_SYMBOL_BYTES_MAX. */
enum status vocabulary_create(enum vocabulary_kind kind, const char *const *symbols, const size_t *lengths,
                              size_t count, struct vocabulary **ret_vocabulary, struct error *error) MUST_CHECK;

/* Reads and writes the content of vocab.json. Also takes "bytes" alone, and an object without kind: characters. Errors
 * as vocabulary_create's; for wrong JSON INVALID with the JSON path in error->param. Text must be parsed with
 * JSON_ALLOW_NUL, since U+0000 is a character too. `ret_json` is a new reference. */
enum status vocabulary_from_json(const json_t *json, struct vocabulary **ret_vocabulary,
                                 struct error *error) MUST_CHECK;
enum status vocabulary_to_json(const struct vocabulary *vocabulary, json_t **ret_json, struct error *error) MUST_CHECK;

/* What may be in a vocabulary of words that is made of a text; 0: no limit. */
struct vocabulary_limits {
    uint64_t min_count; /* how often a word comes at least */
    uint64_t max_size;  /* of all symbols */
};

/* Whether the JSON asks for a vocabulary that is to be made of a text: nothing (NULL), or an object without symbols
 * that is not of bytes. */
bool vocabulary_is_to_come(const json_t *json);
/* Reads such a one: {"kind":"characters"} or {"kind":"words","min_count":2,"max_size":10000}; characters by default.
 * INVALID with the JSON path in error->param. */
enum status vocabulary_to_come_from_json(const json_t *json, enum vocabulary_kind *ret_kind,
                                         struct vocabulary_limits *ret_limits, struct error *error) MUST_CHECK;

/* A second reference, counted atomically, and its release; unref takes NULL. */
struct vocabulary *vocabulary_ref(struct vocabulary *vocabulary);
void vocabulary_unref(struct vocabulary *vocabulary);

/* What it was made as, and how many symbols it has. */
enum vocabulary_kind vocabulary_kind(const struct vocabulary *vocabulary);
size_t vocabulary_size(const struct vocabulary *vocabulary);

/* Memory that it holds. */
size_t vocabulary_bytes(const struct vocabulary *vocabulary);

/* Symbol `id`'s text and its length in bytes. `id` must be below vocabulary_size. For bytes: that one byte. */
const char *vocabulary_symbol(const struct vocabulary *vocabulary, uint32_t id, size_t *ret_length);

/* The symbol of that text, or SYMBOL_NONE (symbol_table.h); that of a line's end: of words "<eos>" or, without one,
 * "\n" (of others the character or byte); of words "<unk>". */
uint32_t vocabulary_find(const struct vocabulary *vocabulary, const char *symbol, size_t length);
uint32_t vocabulary_end_of_line(const struct vocabulary *vocabulary);
uint32_t vocabulary_unknown(const struct vocabulary *vocabulary);

/* Whether both have the same kind and symbols in the same order. */
bool vocabulary_equal(const struct vocabulary *a, const struct vocabulary *b);

enum unknown_symbols { UNKNOWN_SYMBOLS_ERROR, UNKNOWN_SYMBOLS_SKIP, UNKNOWN_SYMBOLS_REPLACE };

/* Turns text into ids. `ids` has room for `length` entries (no symbol is shorter than a byte). Words lie between white
 * space (Unicode's White_Space), which itself is no symbol, but for a line feed where the vocabulary has an end of
 * line. An unknown symbol under UNKNOWN_SYMBOLS_ERROR is INVALID, code "unknown_symbol", naming it (a character also by
 * its U+ number) and its position counted in characters from 0, unless words have an "<unk>", which then stands for it;
 * SKIP leaves it out; REPLACE takes "<unk>" or, without one, the space, or, without one, symbol 0. Malformed UTF-8 is
 * always INVALID for characters and words, code "malformed_utf8", naming the byte offset. */
enum status vocabulary_encode(const struct vocabulary *vocabulary, const char *text, size_t length,
                              enum unknown_symbols unknown, uint32_t *ids, size_t *ret_count,
                              struct error *error) MUST_CHECK;

/* A character for people: 'U+00E9 "é"'; control characters by number only. */
enum { VOCABULARY_DESCRIPTION_BYTES_MAX = 64 };
void vocabulary_describe_character(const char *character, size_t length, char text[VOCABULARY_DESCRIPTION_BYTES_MAX]);
/* A symbol for people: 'character U+00E9 "é"', 'word "whale"', long ones shortened. Returns `text`. */
enum { VOCABULARY_SYMBOL_DESCRIPTION_BYTES_MAX = 256 };
const char *vocabulary_describe_symbol(enum vocabulary_kind kind, const char *symbol, size_t length,
                                       char text[VOCABULARY_SYMBOL_DESCRIPTION_BYTES_MAX]);

#endif
