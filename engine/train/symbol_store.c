/* Numbers in memory, then in a file. In the file all but the last part, which waits in memory to be written. */
#include "engine/train/symbol_store.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/store/version_directory.h"

enum { PIECE_BYTES = 1 << 16, READ_PIECE_BYTES = 1 << 12, FILE_BUFFER_BYTES = 1 << 20 };

struct symbol_store {
    struct symbol_store_options options;
    size_t width; /* bytes of a number */
    uint64_t count;
    char *bytes; /* all of them, or those behind the file's */
    size_t length;
    size_t length_max;
    int file; /* −1: none */
    uint64_t file_bytes;
};

/* ---- numbers as bytes ---- */

static void pack(const uint32_t *numbers, size_t count, size_t width, char *bytes)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t narrow = (uint8_t)numbers[i];
        uint16_t middle = (uint16_t)numbers[i];
        const void *number = width == 1 ? (const void *)&narrow : width == 2 ? (const void *)&middle : &numbers[i];
        memcpy(bytes + i * width, number, width);
    }
}

static void unpack(const char *bytes, size_t count, size_t width, uint32_t *numbers)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t middle;
        if (width == 1) {
            numbers[i] = (unsigned char)bytes[i];
        } else if (width == 2) {
            memcpy(&middle, bytes + 2 * i, 2);
            numbers[i] = middle;
        } else {
            memcpy(&numbers[i], bytes + 4 * i, 4);
        }
    }
}

static size_t width_for(const uint32_t *numbers, size_t count, size_t width)
{
    uint32_t all = 0;
    for (size_t i = 0; i < count; i++) {
        all |= numbers[i];
    }
    size_t needed = all <= UINT8_MAX ? 1 : all <= UINT16_MAX ? 2 : 4;
    return needed > width ? needed : width;
}

/* ---- the file ---- */

static enum status write_at(const struct symbol_store *store, const char *bytes, size_t length, uint64_t offset,
                            struct error *error)
{
    while (length > 0) {
        ssize_t written = pwrite(store->file, bytes, length, (off_t)offset);
        int reason = errno;
        if (written <= 0) {
            return error_set_errno(error, written == 0 ? EIO : reason, "%s: write %llu bytes of symbols",
                                   store->options.directory, (unsigned long long)(offset + length));
        }
        bytes += written;
        length -= (size_t)written;
        offset += (uint64_t)written;
    }
    return STATUS_OK;
}

static enum status read_at(const struct symbol_store *store, char *bytes, size_t length, uint64_t offset,
                           struct error *error)
{
    do {
        ssize_t count = pread(store->file, bytes, length, (off_t)offset);
        int reason = errno;
        if (count <= 0) {
            return error_set_errno(error, count == 0 ? EIO : reason, "read symbols at byte %llu",
                                   (unsigned long long)offset);
        }
        bytes += count;
        length -= (size_t)count;
        offset += (uint64_t)count;
    } while (length > 0);
    return STATUS_OK;
}

static enum status open_file(struct symbol_store *store, struct error *error)
{
    const char *directory = store->options.directory;
    store->file = file_open_unnamed(directory);
    int reason = errno;
    return store->file >= 0 ? STATUS_OK : error_set_errno(error, reason, "%s: make a file for symbols", directory);
}

static enum status flush(struct symbol_store *store, struct error *error)
{
    if (store->file < 0) {
        TRY(open_file(store, error));
    }
    TRY(write_at(store, store->bytes, store->length, store->file_bytes, error));
    store->file_bytes += store->length;
    store->length = 0;
    return STATUS_OK;
}

/* ---- making ---- */

enum status symbol_store_create(const struct symbol_store_options *options, struct symbol_store **ret_store,
                                struct error *error)
{
    struct symbol_store *store = mem_allocate(1, sizeof *store);
    if (!store) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a text's symbols");
    }
    store->options = *options;
    store->width = 1;
    store->file = -1;
    *ret_store = store;
    return STATUS_OK;
}

void symbol_store_destroy(struct symbol_store *store)
{
    if (store) {
        if (store->file >= 0) {
            close(store->file);
        }
        mem_free(store->bytes);
        mem_free(store);
    }
}

static enum status make_room(struct symbol_store *store, size_t length, struct error *error)
{
    if (length <= store->length_max) {
        return STATUS_OK;
    }
    size_t room = length < FILE_BUFFER_BYTES ? 2 * length : length + length / 2;
    char *bytes = mem_reallocate(store->bytes, room, 1);
    if (!bytes) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu bytes of symbols", room);
    }
    store->bytes = bytes;
    store->length_max = room;
    return STATUS_OK;
}

/* Rewrites everything with `width` bytes a number: from the end, so that nothing is overwritten before it was read. */
static enum status widen(struct symbol_store *store, size_t width, struct error *error)
{
    uint32_t numbers[READ_PIECE_BYTES / sizeof(uint32_t)];
    char bytes[READ_PIECE_BYTES];
    const size_t piece = sizeof numbers / sizeof numbers[0];
    size_t old = store->width;
    size_t waiting = store->length / old;
    TRY(make_room(store, waiting * width, error));
    for (size_t end = waiting; end > 0;) {
        size_t count = end < piece ? end : piece;
        end -= count;
        unpack(store->bytes + end * old, count, old, numbers);
        pack(numbers, count, width, store->bytes + end * width);
    }
    store->length = waiting * width;
    for (uint64_t end = store->file_bytes / old; end > 0;) {
        size_t count = end < piece ? (size_t)end : piece;
        end -= count;
        TRY(read_at(store, bytes, count * old, end * old, error));
        unpack(bytes, count, old, numbers);
        pack(numbers, count, width, bytes);
        TRY(write_at(store, bytes, count * width, end * width, error));
    }
    store->file_bytes = store->file_bytes / old * width;
    store->width = width;
    return STATUS_OK;
}

enum status symbol_store_append(struct symbol_store *store, const uint32_t *numbers, size_t count, struct error *error)
{
    size_t width = width_for(numbers, count, store->width);
    if (width > store->width) {
        TRY(widen(store, width, error));
    }
    for (size_t done = 0; done < count;) {
        size_t piece = PIECE_BYTES / width < count - done ? PIECE_BYTES / width : count - done;
        size_t length = store->length + piece * width;
        size_t length_max = store->file < 0 ? store->options.memory_bytes_max : FILE_BUFFER_BYTES;
        if (store->options.directory && length > length_max) {
            TRY(flush(store, error));
            length = piece * width;
        }
        TRY(make_room(store, length, error));
        pack(numbers + done, piece, width, store->bytes + store->length);
        store->length = length;
        store->count += piece;
        done += piece;
    }
    return STATUS_OK;
}

enum status symbol_store_seal(struct symbol_store *store, struct error *error)
{
    if (store->file < 0) {
        return STATUS_OK;
    }
    TRY(flush(store, error));
    mem_free(store->bytes);
    store->bytes = NULL;
    store->length_max = 0;
    return STATUS_OK;
}

/* ---- reading ---- */

uint64_t symbol_store_count(const struct symbol_store *store)
{
    return store->count;
}

enum status symbol_store_read(const struct symbol_store *store, uint64_t begin, size_t count, uint32_t *ret_numbers,
                              struct error *error)
{
    CHECK(begin <= store->count && count <= store->count - begin);
    if (store->file < 0) {
        unpack(store->bytes + begin * store->width, count, store->width, ret_numbers);
        return STATUS_OK;
    }
    char bytes[READ_PIECE_BYTES];
    for (size_t done = 0; done < count;) {
        size_t piece = sizeof bytes / store->width < count - done ? sizeof bytes / store->width : count - done;
        TRY(read_at(store, bytes, piece * store->width, (begin + done) * store->width, error));
        unpack(bytes, piece, store->width, ret_numbers + done);
        done += piece;
    }
    return STATUS_OK;
}
