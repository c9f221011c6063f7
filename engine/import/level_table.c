/* Reading LevelDB tables. Thread: any, one at a time. Everything is in the caller's arena. */
#include "engine/import/level_table.h"

#include <snappy-c.h>

#include "engine/import/crc32c.h"
#include "engine/import/wire.h"

enum { TRAILER_BYTES = 5, RESTART_BYTES = 4, ENTRIES_FIRST = 64, COMPRESSION_NONE = 0, COMPRESSION_SNAPPY = 1 };

static const unsigned char magic[8] = {0x57, 0xfb, 0x80, 0x8b, 0x24, 0x75, 0x47, 0xdb};

/* A table being read. */
struct reader {
    const unsigned char *bytes;
    size_t length;
    struct arena *arena;
    struct level_table table;
    size_t capacity;
    struct error *error;
};

struct place {
    uint64_t offset;
    uint64_t bytes;
};

bool level_table_is_footer(const unsigned char footer[LEVEL_TABLE_FOOTER_BYTES])
{
    return memcmp(footer + LEVEL_TABLE_FOOTER_BYTES - sizeof magic, magic, sizeof magic) == 0;
}

static enum status corrupt(const struct reader *reader, uint64_t offset, const char *what)
{
    return error_set(reader->error, STATUS_CORRUPT, "the table's block at byte %llu: %s", (unsigned long long)offset,
                     what);
}

static enum status no_memory(const struct reader *reader)
{
    if (reader->arena->is_full) {
        return error_set(reader->error, STATUS_LIMIT, "the table takes more than %zu bytes", reader->arena->bytes_max);
    }
    return error_set(reader->error, STATUS_NO_MEMORY, "no memory for a table");
}

/* ---- blocks ---- */

static enum status unpack(const struct reader *reader, const struct place *place, const unsigned char *packed,
                          struct wire *ret_block)
{
    size_t length = 0;
    if (snappy_uncompressed_length((const char *)packed, place->bytes, &length) != SNAPPY_OK) {
        return corrupt(reader, place->offset, "no snappy");
    }
    char *block = arena_allocate(reader->arena, length, 1);
    if (block == NULL) {
        return no_memory(reader);
    }
    if (snappy_uncompress((const char *)packed, place->bytes, block, &length) != SNAPPY_OK) {
        return corrupt(reader, place->offset, "no snappy");
    }
    *ret_block = (struct wire){(const unsigned char *)block, length};
    return STATUS_OK;
}

/* The block's content, its checksum compared. */
static enum status read_block(const struct reader *reader, const struct place *place, struct wire *ret_block)
{
    if (place->offset > reader->length || place->bytes > reader->length - place->offset ||
        reader->length - place->offset - place->bytes < TRAILER_BYTES) {
        return corrupt(reader, place->offset, "it lies beyond the file's end");
    }
    const unsigned char *block = reader->bytes + place->offset;
    const unsigned char *trailer = block + place->bytes;
    uint32_t stored;
    memcpy(&stored, trailer + 1, sizeof stored);
    if (!crc32c_matches(block, place->bytes + 1, stored)) {
        return corrupt(reader, place->offset, "its checksum is another");
    }
    if (trailer[0] == COMPRESSION_SNAPPY) {
        return unpack(reader, place, block, ret_block);
    }
    *ret_block = (struct wire){block, place->bytes};
    return trailer[0] == COMPRESSION_NONE ? STATUS_OK
                                          : corrupt(reader, place->offset, "it is compressed in an unknown way");
}

/* Cuts the restart offsets off, which only a search needs. */
static bool cut_restarts(struct wire *block)
{
    uint32_t count;
    if (block->length < RESTART_BYTES) {
        return false;
    }
    memcpy(&count, block->bytes + block->length - RESTART_BYTES, sizeof count);
    uint64_t bytes = ((uint64_t)count + 1) * RESTART_BYTES;
    if (bytes > block->length) {
        return false;
    }
    block->length -= (size_t)bytes;
    return true;
}

/* The next entry of a block, whose key shares its beginning with `previous`. */
static enum status read_entry(const struct reader *reader, uint64_t offset, struct wire *block,
                              const struct level_entry *previous, struct level_entry *ret_entry)
{
    uint64_t shared;
    uint64_t rest;
    uint64_t value;
    if (!wire_read_varint(block, &shared) || !wire_read_varint(block, &rest) || !wire_read_varint(block, &value) ||
        shared > previous->key_length || rest > block->length || value > block->length - rest) {
        return corrupt(reader, offset, "an entry is cut off, or shares more than there is");
    }
    if (shared + rest > LEVEL_TABLE_KEY_BYTES_MAX) {
        return corrupt(reader, offset, "a key of more than 65536 bytes");
    }
    char *key = arena_allocate(reader->arena, shared + rest + 1, 1);
    if (key == NULL) {
        return no_memory(reader);
    }
    memcpy(key, previous->key, shared);
    memcpy(key + shared, block->bytes, rest);
    *ret_entry = (struct level_entry){key, shared + rest, block->bytes + rest, value};
    block->bytes += rest + value;
    block->length -= (size_t)(rest + value);
    return STATUS_OK;
}

static enum status add_entry(struct reader *reader, const struct level_entry *entry)
{
    struct level_table *table = &reader->table;
    if (table->count >= LEVEL_TABLE_ENTRIES_MAX) {
        return error_set(reader->error, STATUS_LIMIT, "the table has more than %d entries", LEVEL_TABLE_ENTRIES_MAX);
    }
    if (table->count == reader->capacity) {
        size_t capacity = reader->capacity == 0 ? ENTRIES_FIRST : reader->capacity * 2;
        struct level_entry *entries = arena_allocate(reader->arena, capacity, sizeof *entries);
        if (entries == NULL) {
            return no_memory(reader);
        }
        if (table->count > 0) {
            memcpy(entries, table->entries, table->count * sizeof *entries);
        }
        table->entries = entries;
        reader->capacity = capacity;
    }
    table->entries[table->count++] = *entry;
    return STATUS_OK;
}

static enum status read_data_block(struct reader *reader, const struct place *place)
{
    struct wire block = {.length = 0};
    struct level_entry entry = {.key = ""};
    TRY(read_block(reader, place, &block));
    if (!cut_restarts(&block)) {
        return corrupt(reader, place->offset, "it has more restarts than bytes");
    }
    while (block.length > 0) {
        TRY(read_entry(reader, place->offset, &block, &entry, &entry));
        TRY(add_entry(reader, &entry));
    }
    return STATUS_OK;
}

static bool read_place(struct wire *wire, struct place *ret_place)
{
    return wire_read_varint(wire, &ret_place->offset) && wire_read_varint(wire, &ret_place->bytes);
}

static enum status read_all(struct reader *reader)
{
    if (reader->length < LEVEL_TABLE_FOOTER_BYTES ||
        !level_table_is_footer(reader->bytes + reader->length - LEVEL_TABLE_FOOTER_BYTES)) {
        return error_set(reader->error, STATUS_CORRUPT, "%zu bytes that do not end as a table does", reader->length);
    }
    struct wire footer = {reader->bytes + reader->length - LEVEL_TABLE_FOOTER_BYTES, LEVEL_TABLE_FOOTER_BYTES};
    struct place meta;
    struct place index;
    struct wire block = {.length = 0};
    if (!read_place(&footer, &meta) || !read_place(&footer, &index)) {
        return corrupt(reader, reader->length - LEVEL_TABLE_FOOTER_BYTES, "the footer holds no places");
    }
    TRY(read_block(reader, &index, &block));
    if (!cut_restarts(&block)) {
        return corrupt(reader, index.offset, "it has more restarts than bytes");
    }
    struct level_entry entry = {.key = ""};
    while (block.length > 0) {
        struct place place;
        TRY(read_entry(reader, index.offset, &block, &entry, &entry));
        struct wire value = {entry.value, entry.value_length};
        if (!read_place(&value, &place)) {
            return corrupt(reader, index.offset, "an entry of the index holds no place");
        }
        TRY(read_data_block(reader, &place));
    }
    return STATUS_OK;
}

enum status level_table_read(const unsigned char *bytes, size_t length, struct arena *arena,
                             struct level_table *ret_table, struct error *error)
{
    struct reader reader = {.bytes = bytes, .length = length, .arena = arena, .error = error};
    TRY(read_all(&reader));
    *ret_table = reader.table;
    return STATUS_OK;
}
