/* PyTorch's zip archives: NAME/data.pkl, a pickle, and NAME/data/KEY, a storage each; NAME/byteorder says "little".
 * Thread: the one that imports. */
#include "engine/import/pickle.h"
#include "engine/import/torch.h"
#include "engine/import/zip_archive.h"

enum { PICKLE_BYTES_MAX = 64 << 20 };

struct archive {
    struct zip_archive zip;
    const char *prefix; /* "archive/" */
    struct foreign_model *model;
    const char *name;
};

/* torch.save writes its pickle first, TorchScript its tensors; small things may stand before. Entries are found by
 * their headers' marks, since the sizes that lead from one to the next are often behind the content. */
bool torch_zip_recognise(const struct source_file *file)
{
    static const char mark[] = "PK\x03\x04";
    enum { NAME_LENGTH_AT = 26, NAME_AT = 30 };
    unsigned char head[SOURCE_HEAD_BYTES];
    size_t length = foreign_source_peek(file, 0, head);
    const unsigned char *entry = length > 64 && memcmp(head, mark, 4) == 0 ? head : NULL;
    while (entry != NULL) {
        size_t left = length - (size_t)(entry - head);
        size_t name_length = left < NAME_AT ? left : entry[NAME_LENGTH_AT] | (size_t)entry[NAME_LENGTH_AT + 1] << 8;
        const char *name = (const char *)entry + NAME_AT;
        if (NAME_AT + name_length <= left &&
            (foreign_ends_in(name, name_length, "/data.pkl") || foreign_ends_in(name, name_length, "/data/0"))) {
            return true;
        }
        entry = memmem(entry + 4, left - 4, mark, 4);
    }
    return false;
}

static enum status read_entry(const struct archive *archive, const char *path, const unsigned char **ret_bytes,
                              size_t *ret_length, struct error *error)
{
    char name[FOREIGN_NAME_BYTES_MAX];
    int length = snprintf(name, sizeof name, "%s%s", archive->prefix, path);
    return length >= (int)sizeof name
               ? error_set(error, STATUS_NOT_FOUND, "%s: the archive has no %.200s", archive->name, name)
               : zip_archive_read(&archive->zip, name, ret_bytes, ret_length, error);
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
    const char *name;
    for (size_t i = 0; (name = zip_archive_entry(&archive->zip, i)) != NULL; i++) {
        size_t length = strlen(name);
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
    model->format = "PyTorch zip";
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    TRY(zip_archive_open(bytes, length, file->name, model, &archive.zip, error));
    enum status status = read_archive(&archive, error);
    zip_archive_close(&archive.zip);
    foreign_source_forget(source, file); /* everything was unpacked */
    return status;
}
