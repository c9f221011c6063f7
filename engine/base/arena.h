/* Memory that is freed all at once: a graph, a plan, a parsed request. Not thread-safe: one owner at a time. */
#ifndef ENGINE_BASE_ARENA_H
#define ENGINE_BASE_ARENA_H

#include <stddef.h>

#include "engine/base/status.h"

/* Starts as all zeroes. `bytes_max` 0 means no maximum. */
struct arena {
    struct arena_block *blocks;
    size_t bytes;
    size_t bytes_max;
    bool is_full; /* bytes_max, not memory, refused something */
};

/* Zeroed memory, aligned to 16 bytes, that lives until arena_release. NULL when memory or bytes_max runs out. */
void *arena_allocate(struct arena *arena, size_t count, size_t item_bytes) MUST_CHECK;

/* A copy in the arena; NULL as above. */
char *arena_copy_string(struct arena *arena, const char *text) MUST_CHECK;
void *arena_copy(struct arena *arena, const void *source, size_t count, size_t item_bytes) MUST_CHECK;

/* A formatted string in the arena; NULL as above. */
char *arena_format(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;

/* Bytes left to bytes_max; at least 1, so that it can be another's bytes_max. */
size_t arena_room_bytes(const struct arena *arena);

/* Takes over all that another gave out, which starts anew. It counts here, even above bytes_max. */
void arena_take_over(struct arena *arena, struct arena *other);

/* Frees everything the arena gave out; it can then be used again. */
void arena_release(struct arena *arena);

#endif
