/* Symbols by number and by text. */
#include "engine/text/symbol_table.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/text/utf8.h"

/* Spreads every bit over the word. */
static uint64_t mix(uint64_t bits)
{
    bits = (bits ^ bits >> 32) * 0xD6E8FEB86659FD93u;
    bits = (bits ^ bits >> 29) * 0x9E3779B97F4A7C15u;
    return bits ^ bits >> 32;
}

static uint64_t hash(uint64_t key, const char *bytes, size_t length)
{
    uint64_t sum = key ^ length;
    while (length > 0) {
        uint64_t chunk = 0;
        size_t step = length < sizeof chunk ? length : sizeof chunk;
        memcpy(&chunk, bytes, step);
        sum = mix(sum ^ chunk) + key;
        bytes += step;
        length -= step;
    }
    return sum ^ sum >> 32;
}

const char *symbol_table_text(const struct symbol_table *table, uint32_t id, size_t *ret_length)
{
    CHECK(id < table->count);
    uint32_t begin = table->offsets[id];
    *ret_length = table->offsets[id + 1] - begin;
    return table->text + begin;
}

/* The slot that holds the symbol, or the free one where it belongs. */
static uint32_t *find_slot(const struct symbol_table *table, const char *bytes, size_t length)
{
    size_t slot = hash(table->hash_key, bytes, length) & table->slot_mask;
    while (table->slots[slot] != SYMBOL_NONE) {
        size_t symbol_length;
        const char *symbol = symbol_table_text(table, table->slots[slot], &symbol_length);
        if (symbol_length == length && memcmp(symbol, bytes, length) == 0) {
            break;
        }
        slot = (slot + 1) & table->slot_mask;
    }
    return &table->slots[slot];
}

uint32_t symbol_table_find(const struct symbol_table *table, const char *bytes, size_t length)
{
    return *find_slot(table, bytes, length);
}

uint32_t symbol_table_find_character(const struct symbol_table *table, uint32_t code_point, const char *bytes,
                                     size_t length)
{
    return code_point < SYMBOL_TABLE_DIRECT ? table->direct[code_point] : *find_slot(table, bytes, length);
}

static enum status no_memory(size_t count, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for %zu symbols", count);
}

/* Makes room in the hash table for `count` symbols, and puts those there are into it anew. */
static enum status grow_slots(struct symbol_table *table, size_t count, struct error *error)
{
    size_t slot_count = 16;
    while (slot_count < 2 * count) {
        slot_count *= 2;
    }
    if (table->slots != NULL && slot_count <= table->slot_mask + 1) {
        return STATUS_OK;
    }
    uint32_t *slots = mem_allocate(slot_count, sizeof *slots);
    if (slots == NULL) {
        return no_memory(count, error);
    }
    memset(slots, 0xFF, slot_count * sizeof *slots);
    mem_free(table->slots);
    table->slots = slots;
    table->slot_mask = slot_count - 1;
    for (uint32_t id = 0; id < table->count; id++) {
        size_t length;
        const char *symbol = symbol_table_text(table, id, &length);
        *find_slot(table, symbol, length) = id;
    }
    return STATUS_OK;
}

static enum status grow(struct symbol_table *table, size_t count, size_t text_bytes, struct error *error)
{
    if (text_bytes > table->text_bytes_max || table->text == NULL) {
        char *text = mem_reallocate(table->text, text_bytes, 1);
        if (text == NULL) {
            return no_memory(count, error);
        }
        table->text = text;
        table->text_bytes_max = text_bytes;
    }
    if (count > table->count_max || table->offsets == NULL) {
        uint32_t *offsets = mem_reallocate(table->offsets, count + 1, sizeof *offsets);
        if (offsets == NULL) {
            return no_memory(count, error);
        }
        table->offsets = offsets;
        TRY(grow_slots(table, count, error));
        table->count_max = count;
    }
    return STATUS_OK;
}

enum status symbol_table_init(struct symbol_table *table, size_t count, size_t text_bytes, struct error *error)
{
    *table = (struct symbol_table){.hash_key = rng_system()};
    memset(table->direct, 0xFF, sizeof table->direct);
    enum status status = grow(table, count, text_bytes, error);
    if (status != STATUS_OK) {
        symbol_table_release(table);
        return status;
    }
    table->offsets[0] = 0;
    return STATUS_OK;
}

void symbol_table_release(struct symbol_table *table)
{
    mem_free(table->text);
    mem_free(table->offsets);
    mem_free(table->slots);
    *table = (struct symbol_table){0};
}

size_t symbol_table_bytes(const struct symbol_table *table)
{
    size_t numbers = table->count_max + 1 + table->slot_mask + 1;
    return table->text_bytes_max + numbers * sizeof *table->offsets;
}

enum status symbol_table_add(struct symbol_table *table, const char *bytes, size_t length, struct error *error)
{
    size_t begin = table->offsets[table->count];
    size_t end = begin + length;
    if (end > UINT32_MAX) {
        return error_set(error, STATUS_LIMIT, "%zu symbols have more than 4 GiB of text", table->count);
    }
    bool has_room = table->count < table->count_max && end <= table->text_bytes_max;
    if (!has_room) {
        TRY(grow(table, table->count < table->count_max ? table->count_max : 2 * table->count + 16,
                 end <= table->text_bytes_max ? table->text_bytes_max : 2 * end + 64, error));
    }
    uint32_t id = (uint32_t)table->count;
    uint32_t *slot = find_slot(table, bytes, length);
    CHECK(*slot == SYMBOL_NONE);
    memcpy(table->text + begin, bytes, length);
    table->offsets[id + 1] = (uint32_t)end;
    table->count++;
    *slot = id;
    uint32_t code_point;
    if (utf8_decode(bytes, length, &code_point) == length && code_point < SYMBOL_TABLE_DIRECT) {
        table->direct[code_point] = id;
    }
    return STATUS_OK;
}
