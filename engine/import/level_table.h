/* LevelDB tables, in which TensorFlow keeps checkpoints: keys and values in order of key. Thread: any, one at a time.
 *
 * 1. blocks: entries (shared, unshared, value bytes as varints, the key's rest, the value), then restart offsets and
 *    their number, 4 bytes each; behind each block a byte that says how it is compressed (0: not, 1: snappy) and the
 *    masked CRC-32C of block and that byte
 * 2. the last 48 bytes: where the meta index and the index block lie (offset and size as varints), padding, and the
 *    magic number; the index block's values say where the other blocks lie
 *
 * Source: LevelDB, doc/table_format.md. */
#ifndef ENGINE_IMPORT_LEVEL_TABLE_H
#define ENGINE_IMPORT_LEVEL_TABLE_H

#include "engine/base/arena.h"

enum { LEVEL_TABLE_FOOTER_BYTES = 48, LEVEL_TABLE_ENTRIES_MAX = 200000, LEVEL_TABLE_KEY_BYTES_MAX = 65536 };

/* Values lie in the table's bytes or, where the block was compressed, in the arena; keys in the arena. */
struct level_entry {
    const char *key;
    size_t key_length;
    const unsigned char *value;
    size_t value_length;
};

struct level_table {
    struct level_entry *entries;
    size_t count;
};

/* Whether the last 48 bytes of a file end in a table's magic number. */
bool level_table_is_footer(const unsigned char footer[LEVEL_TABLE_FOOTER_BYTES]);

/* Reads all entries of a whole file. CORRUPT names the block's offset and what is wrong there; LIMIT the maximum. */
enum status level_table_read(const unsigned char *bytes, size_t length, struct arena *arena,
                             struct level_table *ret_table, struct error *error) MUST_CHECK;

#endif
