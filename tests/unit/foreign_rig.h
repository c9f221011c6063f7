/* Foreign files made byte by byte, for the tests of importing: a buffer, protocol buffers, LevelDB tables, TensorFlow
 * checkpoints of one small LSTM. */
#ifndef TESTS_UNIT_FOREIGN_RIG_H
#define TESTS_UNIT_FOREIGN_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/import/crc32c.h"
#include "engine/import/importer.h"

enum { BUFFER_BYTES_MAX = 1 << 18, RIG_SYMBOLS = 5, RIG_UNITS = 3 };

struct buffer {
    size_t length;
    unsigned char bytes[BUFFER_BYTES_MAX];
};

/* Appends bytes; a number of so many bytes, little-endian; a varint. */
static inline void put(struct buffer *buffer, const void *bytes, size_t length)
{
    assert_true(buffer->length + length <= BUFFER_BYTES_MAX);
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

/* A number of so many bytes, little-endian. */
static inline void put_number(struct buffer *buffer, uint64_t number, size_t bytes)
{
    put(buffer, &number, bytes);
}

/* A varint. */
static inline void put_varint(struct buffer *buffer, uint64_t number)
{
    for (; number >= 0x80; number >>= 7) {
        put_number(buffer, (number & 0x7F) | 0x80, 1);
    }
    put_number(buffer, number, 1);
}

/* A field of a protocol buffer: a varint, or bytes. */
static inline void put_field(struct buffer *buffer, uint32_t number, uint64_t value)
{
    put_varint(buffer, number << 3);
    put_varint(buffer, value);
}

/* A field that holds bytes, or another message. */
static inline void put_message(struct buffer *buffer, uint32_t number, const void *bytes, size_t length)
{
    put_varint(buffer, number << 3 | 2);
    put_varint(buffer, length);
    put(buffer, bytes, length);
}

/* Begins an entry of a block, whose key shares nothing with the one before. */
static inline void put_entry(struct buffer *block, const char *key, size_t key_length, const void *value, size_t length)
{
    put_varint(block, 0);
    put_varint(block, key_length);
    put_varint(block, length);
    put(block, key, key_length);
    put(block, value, length);
}

/* Ends a block (one restart, the trailer) and puts it into the table; `place` gets where it lies. */
static inline void put_block(struct buffer *table, struct buffer *block, struct buffer *place)
{
    put_number(block, 0, 4);
    put_number(block, 1, 4);
    put_varint(place, table->length);
    put_varint(place, block->length);
    put_number(block, 0, 1);
    put(table, block->bytes, block->length);
    put_number(table, crc32c_mask(crc32c(0, block->bytes, block->length)), 4);
}

/* A whole table of one block of entries. */
static inline void put_table(struct buffer *table, struct buffer *entries)
{
    static struct buffer index;
    static struct buffer meta;
    struct buffer *footer = &meta;
    static struct buffer place;
    static struct buffer ends;
    index.length = meta.length = place.length = ends.length = 0;
    put_block(table, entries, &place);
    put_entry(&index, "~", 1, place.bytes, place.length);
    put_block(table, &meta, &ends);
    put_block(table, &index, &ends);
    footer->length = 0;
    put(footer, ends.bytes, ends.length);
    while (footer->length < 40) {
        put_number(footer, 0, 1);
    }
    put_number(footer, UINT64_C(0xdb4775248b80fb57), 8);
    put(table, footer->bytes, footer->length);
}

/* One variable of the small LSTM: its numbers count up from `first` in steps of 1/64. */
struct rig_variable {
    const char *name; /* sorted as a table wants it */
    size_t rank;
    size_t dimensions[2];
    float first;
};

static const struct rig_variable rig_variables[] = {
    {"embedding", 2, {RIG_SYMBOLS, 2}, -0.25f},
    {"global_step", 0, {0}, 7},
    {"rnnlm/multi_rnn_cell/cell_0/basic_lstm_cell/bias", 1, {4 * RIG_UNITS}, 0.125f},
    {"rnnlm/multi_rnn_cell/cell_0/basic_lstm_cell/bias/Adam", 1, {4 * RIG_UNITS}, 0},
    {"rnnlm/multi_rnn_cell/cell_0/basic_lstm_cell/kernel", 2, {2 + RIG_UNITS, 4 * RIG_UNITS}, -0.5f},
    {"rnnlm/softmax_b", 1, {RIG_SYMBOLS}, 0.5f},
    {"rnnlm/softmax_w", 2, {RIG_UNITS, RIG_SYMBOLS}, -0.125f},
};
enum { RIG_VARIABLES = sizeof rig_variables / sizeof *rig_variables, RIG_ELEMENTS_MAX = 128 };

/* Its elements; returns how many. */
static inline size_t rig_values(const struct rig_variable *variable, float values[RIG_ELEMENTS_MAX])
{
    size_t count = 1;
    for (size_t d = 0; d < variable->rank; d++) {
        count *= variable->dimensions[d];
    }
    for (size_t i = 0; i < count; i++) {
        values[i] = variable->first + (float)i / 64;
    }
    return count;
}

/* TensorShapeProto. */
static inline void put_shape(struct buffer *message, const struct rig_variable *variable)
{
    for (size_t d = 0; d < variable->rank; d++) {
        struct buffer *dimension = test_malloc(sizeof *dimension);
        dimension->length = 0;
        put_field(dimension, 1, variable->dimensions[d]);
        put_message(message, 2, dimension->bytes, dimension->length);
        test_free(dimension);
    }
}

/* The small LSTM as a V2 checkpoint: index and its one shard. */
static inline void put_bundle(struct buffer *index, struct buffer *shard)
{
    static struct buffer entries;
    static struct buffer entry;
    static struct buffer shape;
    const unsigned char header[] = {0x08, 1, 0x1a, 2, 0x08, 1};
    entries.length = 0;
    put_entry(&entries, "", 0, header, sizeof header);
    for (size_t i = 0; i < RIG_VARIABLES; i++) {
        float values[RIG_ELEMENTS_MAX];
        size_t bytes = rig_values(&rig_variables[i], values) * sizeof *values;
        entry.length = shape.length = 0;
        put_shape(&shape, &rig_variables[i]);
        put_field(&entry, 1, 1);
        put_message(&entry, 2, shape.bytes, shape.length);
        put_field(&entry, 4, shard->length);
        put_field(&entry, 5, bytes);
        put_varint(&entry, 6 << 3 | 5);
        put_number(&entry, crc32c_mask(crc32c(0, values, bytes)), 4);
        put(shard, values, bytes);
        put_entry(&entries, rig_variables[i].name, strlen(rig_variables[i].name), entry.bytes, entry.length);
    }
    put_table(index, &entries);
}

/* One slice of a variable of a V1 checkpoint: rows [begin, end) of its first dimension, or all where it has none. */
static inline void put_slice(struct buffer *entries, const struct rig_variable *variable, size_t begin, size_t end)
{
    static struct buffer message;
    static struct buffer slice;
    static struct buffer extent;
    static struct buffer tensor;
    float values[RIG_ELEMENTS_MAX];
    char key[128];
    size_t count = rig_values(variable, values);
    size_t row = variable->rank == 0 ? 1 : count / variable->dimensions[0];
    message.length = slice.length = extent.length = tensor.length = 0;
    put_field(&extent, 1, begin);
    put_field(&extent, 2, end - begin);
    for (size_t d = 0; d < variable->rank; d++) {
        put_message(&slice, 1, extent.bytes, d == 0 ? extent.length : 0);
    }
    put_field(&tensor, 1, 1);
    put_message(&tensor, 5, values + begin * row, (end - begin) * row * sizeof *values);
    put_message(&message, 1, variable->name, strlen(variable->name));
    put_message(&message, 2, slice.bytes, slice.length);
    put_message(&message, 3, tensor.bytes, tensor.length);
    extent.length = 0;
    put_message(&extent, 2, message.bytes, message.length);
    snprintf(key, sizeof key, "s%s%zu", variable->name, begin);
    put_entry(entries, key, strlen(key), extent.bytes, extent.length);
}

/* The small LSTM as a V1 checkpoint; matrices in two slices if `is_split`. */
static inline void put_slices(struct buffer *table, bool is_split)
{
    static struct buffer entries;
    static struct buffer meta;
    static struct buffer tensor;
    static struct buffer shape;
    entries.length = meta.length = 0;
    for (size_t i = 0; i < RIG_VARIABLES; i++) {
        tensor.length = shape.length = 0;
        put_shape(&shape, &rig_variables[i]);
        put_message(&tensor, 1, rig_variables[i].name, strlen(rig_variables[i].name));
        put_message(&tensor, 2, shape.bytes, shape.length);
        put_field(&tensor, 3, 1);
        put_message(&meta, 1, tensor.bytes, tensor.length);
    }
    tensor.length = 0;
    put_message(&tensor, 1, meta.bytes, meta.length);
    put_entry(&entries, "", 0, tensor.bytes, tensor.length);
    for (size_t i = 0; i < RIG_VARIABLES; i++) {
        const struct rig_variable *variable = &rig_variables[i];
        size_t rows = variable->rank == 0 ? 1 : variable->dimensions[0];
        size_t middle = is_split && variable->rank == 2 ? 1 : rows;
        put_slice(&entries, variable, 0, middle);
        if (middle < rows) {
            put_slice(&entries, variable, middle, rows);
        }
    }
    put_table(table, &entries);
}

#endif
