/* Distinct symbols under the numbers in which they were added, and their way back to numbers: a direct table for the
 * characters most texts are made of, a hash table for everything else. A plain value that owns what it points to. For
 * one writer; once nobody adds, for any number of readers.
 *
 * The hash is keyed by a random number per table, since symbols may come from a stranger, who could otherwise make all
 * of them collide. Only speed depends on it. */
#ifndef ENGINE_TEXT_SYMBOL_TABLE_H
#define ENGINE_TEXT_SYMBOL_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

#define SYMBOL_NONE UINT32_MAX

enum { SYMBOL_TABLE_DIRECT = 0x800 };

struct symbol_table {
    size_t count;
    size_t count_max; /* there is room for */
    char *text;       /* all symbols, one behind the other */
    size_t text_bytes_max;
    uint32_t *offsets; /* [count_max + 1] into text */
    uint64_t hash_key;
    uint32_t *slots; /* [slot_mask + 1] numbers by hash with linear probing, at most half full */
    size_t slot_mask;
    uint32_t direct[SYMBOL_TABLE_DIRECT]; /* numbers of symbols that are one character, by code point */
};

/* Makes an empty table with room for so much; it grows by itself. NO_MEMORY. */
enum status symbol_table_init(struct symbol_table *table, size_t count, size_t text_bytes,
                              struct error *error) MUST_CHECK;
/* A table of zeroes is allowed. */
void symbol_table_release(struct symbol_table *table);

/* Memory behind the table. */
size_t symbol_table_bytes(const struct symbol_table *table);

/* The symbol's number, or SYMBOL_NONE. */
uint32_t symbol_table_find(const struct symbol_table *table, const char *bytes, size_t length);
/* The same for the UTF-8 of one character, whose code point is known. */
uint32_t symbol_table_find_character(const struct symbol_table *table, uint32_t code_point, const char *bytes,
                                     size_t length);

/* Adds a symbol that is not there, under the number `count` had. NO_MEMORY; LIMIT when all texts together have more
 * than 4 GiB. */
enum status symbol_table_add(struct symbol_table *table, const char *bytes, size_t length,
                             struct error *error) MUST_CHECK;

/* Symbol `id`'s text; `id` must be below `count`. Borrowed until the next addition. */
const char *symbol_table_text(const struct symbol_table *table, uint32_t id, size_t *ret_length);

#endif
