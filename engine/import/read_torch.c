/* PyTorch's zip archives: NAME/data.pkl, a pickle, and NAME/data/KEY, a storage each; NAME/byteorder says "little".
 * Thread: the one that imports. Archives are read by libzip, from memory. */
#include <zip.h>

#include "engine/base/mem.h"
#include "engine/import/pickle.h"
#include "engine/import/torch.h"

enum { PICKLE_BYTES_MAX = 64 << 20, ENTRIES_MAX = 20000 };

struct archive {
    zip_t *zip;
    const char *prefix; /* "archive/" */
    struct foreign_model *model;
    const char *name;
};

bool torch_zip_recognise(const struct source_file *file)
{
    unsigned char head[SOURCE_HEAD_BYTES];
    size_t length = foreign_source_peek(file, 0, head);
    /* torch.save writes its pickle first. */
    return length > 64 && memcmp(head, "PK\x03\x04", 4) == 0 && memmem(head, length, "/data.pkl", 9) != NULL;
}

/* The entry's content, in the arena, which bounds what a small archive can grow to. */
static enum status read_entry(const struct archive *archive, const char *path, const unsigned char **ret_bytes,
                              size_t *ret_length, struct error *error)
{
    zip_stat_t facts;
    char name[FOREIGN_NAME_BYTES_MAX];
    int length = snprintf(name, sizeof name, "%s%s", archive->prefix, path);
    if (length >= (int)sizeof name || zip_stat(archive->zip, name, ZIP_FL_ENC_RAW, &facts) != 0 ||
        (facts.valid & ZIP_STAT_SIZE) == 0) {
        return error_set(error, STATUS_NOT_FOUND, "%s: the archive has no %.200s", archive->name, name);
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
        return error_set(error, STATUS_CORRUPT, "%s: %.200s of the archive cannot be read: %s", archive->name, name,
                         zip_strerror(archive->zip));
    }
    *ret_bytes = bytes;
    *ret_length = (size_t)facts.size;
    return STATUS_OK;
}

static enum status find_storage(const struct torch_storages *storages, const char *key, const unsigned char **ret_bytes,
                                size_t *ret_length, struct error *error)
{
    char path[FOREIGN_NAME_BYTES_MAX];
    snprintf(path, sizeof path, "data/%.900s", key);
    return read_entry(storages->context, path, ret_bytes, ret_length, error);
}

/* Everything before "data.pkl", which stands once in the archive. */
static enum status find_prefix(struct archive *archive, struct error *error)
{
    zip_int64_t count = zip_get_num_entries(archive->zip, 0);
    if (count > ENTRIES_MAX) {
        return error_set(error, STATUS_LIMIT, "%s: an archive of %lld files, at most %d", archive->name,
                         (long long)count, ENTRIES_MAX);
    }
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(archive->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        size_t length = name == NULL ? 0 : strlen(name);
        if (length >= 9 && strcmp(name + length - 9, "/data.pkl") == 0) {
            char *prefix = arena_allocate(&archive->model->arena, length, 1);
            if (prefix == NULL) {
                return foreign_no_memory(archive->model, error);
            }
            memcpy(prefix, name, length - 8);
            archive->prefix = prefix;
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_UNSUPPORTED, "%s: an archive without data.pkl", archive->name);
}

static enum status read_archive(struct archive *archive, struct error *error)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    size_t end = 0;
    struct plain *root = NULL;
    struct error ignored;
    const struct torch_storages storages = {.find = find_storage, .context = archive};
    TRY(find_prefix(archive, error));
    if (read_entry(archive, "byteorder", &bytes, &length, &ignored) == STATUS_OK &&
        (length < 6 || memcmp(bytes, "little", 6) != 0)) {
        return error_set(error, STATUS_UNSUPPORTED, "%s: a file written big-endian", archive->name);
    }
    TRY(read_entry(archive, "data.pkl", &bytes, &length, error));
    if (length > PICKLE_BYTES_MAX) {
        return error_set(error, STATUS_TOO_LARGE, "%s: a pickle of %zu bytes, at most %d", archive->name, length,
                         PICKLE_BYTES_MAX);
    }
    TRY(pickle_read(bytes, length, &archive->model->arena, &root, &end, error));
    return torch_add_tensors(archive->model, root, &storages, error);
}

enum status torch_zip_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                           struct error *error)
{
    struct archive archive = {.model = model, .name = file->name, .prefix = ""};
    const unsigned char *bytes = NULL;
    size_t length = 0;
    zip_error_t zip_error;
    model->format = "PyTorch zip";
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    zip_error_init(&zip_error);
    zip_source_t *content = zip_source_buffer_create(bytes, length, 0, &zip_error);
    archive.zip = content == NULL ? NULL : zip_open_from_source(content, ZIP_RDONLY, &zip_error);
    if (archive.zip == NULL) {
        enum status status =
            error_set(error, STATUS_CORRUPT, "%s: no archive: %s", file->name, zip_error_strerror(&zip_error));
        zip_source_free(content);
        zip_error_fini(&zip_error);
        return status;
    }
    zip_error_fini(&zip_error);
    enum status status = read_archive(&archive, error);
    zip_discard(archive.zip);
    return status;
}
