/* A single-producer single-consumer ring. Threads: one writer, one reader. The counts run on for ever; unsigned
 * arithmetic keeps their difference right. */
#include "engine/decode/byte_ring.h"

#include <stdbool.h>

#include "engine/base/check.h"

static_assert((BYTE_RING_BYTES & (BYTE_RING_BYTES - 1)) == 0, "counts wrap at a multiple of the size");

size_t byte_ring_room(const struct byte_ring *ring)
{
    return BYTE_RING_BYTES - byte_ring_readable(ring);
}

size_t byte_ring_readable(const struct byte_ring *ring)
{
    /* The older one first: what was read can only have been written before. */
    size_t read_count = atomic_load_explicit(&ring->read_count, memory_order_acquire);
    return atomic_load_explicit(&ring->written_count, memory_order_acquire) - read_count;
}

void byte_ring_write(struct byte_ring *ring, const char *bytes, size_t length)
{
    CHECK(length <= byte_ring_room(ring));
    size_t written = atomic_load_explicit(&ring->written_count, memory_order_relaxed);
    for (size_t n = 0; n < length; n++) {
        ring->bytes[(written + n) % BYTE_RING_BYTES] = bytes[n];
    }
    atomic_store_explicit(&ring->written_count, written + length, memory_order_release);
}

static bool continues_character(char byte)
{
    return ((unsigned char)byte & 0xC0) == 0x80;
}

size_t byte_ring_read(struct byte_ring *ring, char *bytes, size_t bytes_max)
{
    size_t readable = byte_ring_readable(ring);
    size_t read = atomic_load_explicit(&ring->read_count, memory_order_relaxed);
    size_t length = readable;
    if (length > bytes_max) {
        length = bytes_max;
        while (length > 0 && continues_character(ring->bytes[(read + length) % BYTE_RING_BYTES])) {
            length--;
        }
    }
    for (size_t n = 0; n < length; n++) {
        bytes[n] = ring->bytes[(read + n) % BYTE_RING_BYTES];
    }
    atomic_store_explicit(&ring->read_count, read + length, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    return length;
}
