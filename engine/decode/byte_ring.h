/* Bytes on their way from one writing thread to one reading thread, without a lock. Plain value, all zero at start; no
 * memory of its own. */
#ifndef ENGINE_DECODE_BYTE_RING_H
#define ENGINE_DECODE_BYTE_RING_H

#include <stdatomic.h>
#include <stddef.h>

enum { BYTE_RING_BYTES = 4096 };

struct byte_ring {
    _Alignas(64) _Atomic size_t written_count; /* all bytes ever written; the writer's cache line */
    _Alignas(64) _Atomic size_t read_count;    /* all bytes ever read; the reader's */
    _Alignas(64) char bytes[BYTE_RING_BYTES];
};

/* Bytes that can be written. Exact on the writing thread, elsewhere a moment old. */
size_t byte_ring_room(const struct byte_ring *ring);

/* Bytes that can be read. Exact on the reading thread, elsewhere a moment old. */
size_t byte_ring_readable(const struct byte_ring *ring);

/* Writes `length` bytes, which must fit byte_ring_room. The reader sees all of them or none. Writing thread. */
void byte_ring_write(struct byte_ring *ring, const char *bytes, size_t length);

/* Moves out up to `bytes_max` bytes, cut before a UTF-8 character that does not fit whole; returns their number (0 with
 * text waiting only when bytes_max is below 4). What byte_ring_readable says afterwards has whatever was written by a
 * thread that, behind a fence (sequentially consistent), did not yet see this reading. Reading thread. */
size_t byte_ring_read(struct byte_ring *ring, char *bytes, size_t bytes_max);

#endif
