/* Zip archives by libzip. Thread: the one that imports. */
#include "engine/import/zip_archive.h"

#include <zip.h>

enum status zip_archive_open(const void *bytes, size_t length, const char *name, struct foreign_model *model,
                             struct zip_archive *ret_archive, struct error *error)
{
    struct zip_archive archive = {.name = name, .model = model};
    zip_error_t zip_error;
    zip_error_init(&zip_error);
    zip_source_t *content = zip_source_buffer_create(bytes, length, 0, &zip_error);
    archive.zip = content == NULL ? NULL : zip_open_from_source(content, ZIP_RDONLY, &zip_error);
    if (archive.zip == NULL) {
        enum status status =
            error_set(error, STATUS_CORRUPT, "%s: no archive: %s", name, zip_error_strerror(&zip_error));
        zip_source_free(content);
        zip_error_fini(&zip_error);
        return status;
    }
    zip_error_fini(&zip_error);
    zip_int64_t count = zip_get_num_entries(archive.zip, 0);
    if (count > ZIP_ARCHIVE_ENTRIES_MAX) {
        zip_archive_close(&archive);
        return error_set(error, STATUS_LIMIT, "%s: an archive of %lld files, at most %d", name, (long long)count,
                         ZIP_ARCHIVE_ENTRIES_MAX);
    }
    *ret_archive = archive;
    return STATUS_OK;
}

void zip_archive_close(struct zip_archive *archive)
{
    zip_discard(archive->zip);
    archive->zip = NULL;
}

const char *zip_archive_entry(const struct zip_archive *archive, size_t index)
{
    return zip_get_name(archive->zip, index, ZIP_FL_ENC_RAW);
}

enum status zip_archive_read(const struct zip_archive *archive, const char *entry, const unsigned char **ret_bytes,
                             size_t *ret_length, struct error *error)
{
    zip_stat_t facts;
    if (zip_stat(archive->zip, entry, ZIP_FL_ENC_RAW, &facts) != 0 || (facts.valid & ZIP_STAT_SIZE) == 0) {
        return error_set(error, STATUS_NOT_FOUND, "%s: the archive has no %.200s", archive->name, entry);
    }
    unsigned char *bytes = facts.size > SIZE_MAX / 2 ? NULL : arena_allocate(&archive->model->arena, facts.size + 1, 1);
    if (bytes == NULL) {
        return foreign_no_memory(archive->model, error);
    }
    zip_file_t *file = zip_fopen_index(archive->zip, facts.index, 0);
    zip_int64_t count = file == NULL ? -1 : zip_fread(file, bytes, facts.size);
    if (file != NULL) {
        count = zip_fclose(file) == 0 ? count : -1; /* it compares the checksum */
    }
    if (count < 0 || (zip_uint64_t)count != facts.size) {
        return error_set(error, STATUS_CORRUPT, "%s: %.200s of the archive cannot be read: %s", archive->name, entry,
                         zip_strerror(archive->zip));
    }
    *ret_bytes = bytes;
    *ret_length = (size_t)facts.size;
    return STATUS_OK;
}
