/* A list of blocks, each twice the last up to a limit; one block for anything larger. Thread: the owner's. */
#include "engine/base/arena.h"

#include <stdarg.h>
#include <stdint.h>

#include "engine/base/mem.h"

enum { ARENA_ALIGNMENT_BYTES = 16, ARENA_BLOCK_BYTES_FIRST = 4096, ARENA_BLOCK_BYTES_LAST = 1 << 20 };

struct arena_block {
    struct arena_block *next;
    size_t bytes;
    size_t used_bytes;
    size_t padding;
};
static_assert(sizeof(struct arena_block) % ARENA_ALIGNMENT_BYTES == 0, "data behind the header is aligned");

static struct arena_block *add_block(struct arena *arena, size_t need_bytes)
{
    size_t bytes = arena->blocks == NULL ? ARENA_BLOCK_BYTES_FIRST : arena->blocks->bytes * 2;
    if (bytes > ARENA_BLOCK_BYTES_LAST) {
        bytes = ARENA_BLOCK_BYTES_LAST;
    }
    if (bytes < need_bytes) {
        bytes = need_bytes;
    }
    struct arena_block *block = mem_allocate(1, sizeof *block + bytes);
    if (block == NULL) {
        return NULL;
    }
    block->bytes = bytes;
    block->next = arena->blocks;
    arena->blocks = block;
    return block;
}

size_t arena_room_bytes(const struct arena *arena)
{
    size_t most = arena->bytes_max == 0 ? SIZE_MAX : arena->bytes_max;
    return most > arena->bytes ? most - arena->bytes : 1;
}

void *arena_allocate(struct arena *arena, size_t count, size_t item_bytes)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, item_bytes, &bytes) || bytes > PTRDIFF_MAX / 2) {
        return NULL;
    }
    bytes = (bytes + ARENA_ALIGNMENT_BYTES - 1) / ARENA_ALIGNMENT_BYTES * ARENA_ALIGNMENT_BYTES;
    if (arena->bytes_max != 0 && bytes > arena_room_bytes(arena)) {
        arena->is_full = true;
        return NULL;
    }
    struct arena_block *block = arena->blocks;
    if (block == NULL || block->bytes - block->used_bytes < bytes) {
        block = add_block(arena, bytes);
        if (block == NULL) {
            return NULL;
        }
    }
    void *memory = (char *)(block + 1) + block->used_bytes;
    block->used_bytes += bytes;
    arena->bytes += bytes;
    return memory;
}

void *arena_copy(struct arena *arena, const void *source, size_t count, size_t item_bytes)
{
    void *copy = arena_allocate(arena, count, item_bytes);
    if (copy != NULL && count * item_bytes > 0) {
        memcpy(copy, source, count * item_bytes);
    }
    return copy;
}

char *arena_copy_string(struct arena *arena, const char *text)
{
    return arena_copy(arena, text, strlen(text) + 1, 1);
}

char *arena_format(struct arena *arena, const char *format, ...)
{
    va_list arguments;
    va_list again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length < 0 ? NULL : arena_allocate(arena, (size_t)length + 1, 1);
    if (text != NULL) {
        vsnprintf(text, (size_t)length + 1, format, again);
    }
    va_end(again);
    return text;
}

void arena_take_over(struct arena *arena, struct arena *other)
{
    struct arena_block **end = &arena->blocks; /* its first block goes on being filled */
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = other->blocks;
    arena->bytes += other->bytes;
    *other = (struct arena){.bytes_max = other->bytes_max};
}

void arena_release(struct arena *arena)
{
    struct arena_block *block = arena->blocks;
    while (block != NULL) {
        struct arena_block *next = block->next;
        mem_free(block);
        block = next;
    }
    arena->blocks = NULL;
    arena->bytes = 0;
    arena->is_full = false;
}
