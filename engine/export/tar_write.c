/* Writing tars by libarchive, into memory. Thread: see the header. Owns libarchive's writer and entry during a call. */
#include "engine/export/tar_write.h"

#include <archive.h>
#include <archive_entry.h>

#include "engine/base/mem.h"

enum { RECORD_BYTES = 512, HEADERS_BYTES_MAX = 16 * RECORD_BYTES, END_BYTES = 64 * RECORD_BYTES, MODE = 0644 };

static int by_name(const void *left, const void *right)
{
    const struct version_file *a = left;
    const struct version_file *b = right;
    return strcmp(a->name, b->name);
}

static enum status refuse(struct archive *writer, const char *name, struct error *error)
{
    const char *reason = writer == NULL ? NULL : archive_error_string(writer);
    bool is_poor = reason == NULL || archive_errno(writer) == ENOMEM;
    return error_set(error, is_poor ? STATUS_NO_MEMORY : STATUS_INVALID, "%.200s cannot go into a tar: %.200s", name,
                     reason == NULL ? "no memory" : reason);
}

static enum status add_file(struct archive *writer, struct archive_entry *entry, const struct version_file *file,
                            struct error *error)
{
    archive_entry_clear(entry);
    archive_entry_set_pathname(entry, file->name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, MODE);
    archive_entry_set_mtime(entry, 0, 0);
    archive_entry_set_size(entry, (la_int64_t)file->length);
    int result = archive_write_header(writer, entry);
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN) {
        return refuse(writer, file->name, error);
    }
    for (size_t done = 0; done < file->length;) {
        la_ssize_t count = archive_write_data(writer, (const char *)file->bytes + done, file->length - done);
        if (count <= 0) {
            return refuse(writer, file->name, error);
        }
        done += (size_t)count;
    }
    return STATUS_OK;
}

static enum status add_files(struct archive *writer, const struct version_file *files, size_t count,
                             struct error *error)
{
    struct archive_entry *entry = archive_entry_new();
    enum status status = entry == NULL ? refuse(NULL, "a file", error) : STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = add_file(writer, entry, &files[i], error);
    }
    archive_entry_free(entry);
    return status;
}

static enum status write_into(void *bytes, size_t room, const struct version_file *files, size_t count,
                              size_t *ret_length, struct error *error)
{
    struct archive *writer = archive_write_new();
    bool is_open = writer != NULL && archive_write_set_format_pax_restricted(writer) == ARCHIVE_OK &&
                   archive_write_open_memory(writer, bytes, room, ret_length) == ARCHIVE_OK;
    enum status status = is_open ? add_files(writer, files, count, error) : refuse(writer, "nothing", error);
    if (status == STATUS_OK && archive_write_close(writer) != ARCHIVE_OK) {
        status = refuse(writer, "the end", error);
    }
    archive_write_free(writer);
    return status;
}

enum status tar_write(struct version_file *files, size_t count, void **ret_bytes, size_t *ret_length,
                      struct error *error)
{
    size_t room = END_BYTES;
    for (size_t i = 0; i < count; i++) {
        room += files[i].length + HEADERS_BYTES_MAX;
    }
    void *bytes = mem_allocate(room, 1);
    if (bytes == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a tar of %zu bytes", room);
    }
    if (count > 1) {
        qsort(files, count, sizeof *files, by_name);
    }
    enum status status = write_into(bytes, room, files, count, ret_length, error);
    if (status != STATUS_OK) {
        mem_free(bytes);
        return status;
    }
    *ret_bytes = bytes;
    return STATUS_OK;
}
