/* A small hash table from names to numbers. Thread: the building one. Keys belong to the graph's arena. */
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/graph/graph_private.h"

enum { SLOTS_FIRST = 64 };

enum status name_counts_copy(const struct name_counts *source, struct name_counts *ret_counts, struct error *error)
{
    struct name_counts copy = *source;
    if (source->slot_count > 0) {
        copy.slots = mem_allocate(source->slot_count, sizeof *copy.slots);
        if (copy.slots == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for %zu names of a graph", source->used_count);
        }
        memcpy(copy.slots, source->slots, source->slot_count * sizeof *copy.slots);
    }
    *ret_counts = copy;
    return STATUS_OK;
}

void name_counts_release(struct name_counts *counts)
{
    mem_free(counts->slots);
    *counts = (struct name_counts){0};
}

/* The slot that holds `key`, or the free one where it belongs. There always is a free slot. */
static struct name_count *slot_of(const struct name_counts *counts, const char *key)
{
    size_t mask = counts->slot_count - 1;
    size_t at = (size_t)rng_key(key) & mask;
    while (counts->slots[at].key != NULL && strcmp(counts->slots[at].key, key) != 0) {
        at = (at + 1) & mask;
    }
    return &counts->slots[at];
}

struct name_count *name_counts_find(const struct name_counts *counts, const char *key)
{
    if (counts->slot_count == 0) {
        return NULL;
    }
    struct name_count *slot = slot_of(counts, key);
    return slot->key == NULL ? NULL : slot;
}

static bool grow(struct name_counts *counts)
{
    struct name_counts larger = {.slot_count = counts->slot_count == 0 ? SLOTS_FIRST : counts->slot_count * 2,
                                 .used_count = counts->used_count};
    larger.slots = mem_allocate(larger.slot_count, sizeof *larger.slots);
    if (larger.slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < counts->slot_count; i++) {
        if (counts->slots[i].key != NULL) {
            *slot_of(&larger, counts->slots[i].key) = counts->slots[i];
        }
    }
    mem_free(counts->slots);
    *counts = larger;
    return true;
}

struct name_count *name_counts_add(struct name_counts *counts, const char *key)
{
    struct name_count *found = name_counts_find(counts, key);
    if (found != NULL) {
        return found;
    }
    if (counts->used_count * 2 >= counts->slot_count && !grow(counts)) {
        return NULL;
    }
    struct name_count *slot = slot_of(counts, key);
    *slot = (struct name_count){.key = key};
    counts->used_count++;
    return slot;
}
