/* Archives, read by libarchive from the source's descriptor or memory. Thread: the one that imports. Owns libarchive's
 * reader while it unpacks; what it unpacks belongs to the source. */
#include "engine/import/foreign_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include "engine/base/mem.h"

enum { BLOCK_BYTES = 1 << 16, TAR_HEADER_BYTES = 512, TAR_SUM_OFFSET = 148, TAR_SUM_BYTES = 8 };

/* An archive while it is unpacked. */
struct unpacking {
    struct foreign_source *source;
    const struct source_file *file;
    struct archive *reader;
    uint64_t offset;
    uint64_t unpacked_bytes;
    unsigned char block[BLOCK_BYTES];
};

/* ---- recognising ---- */

/* The sum of the header's bytes, those of the sum itself taken as spaces, stands in it as octal digits. */
static bool is_tar(const unsigned char head[TAR_HEADER_BYTES])
{
    char digits[TAR_SUM_BYTES + 1] = "";
    unsigned long sum = 0;
    for (size_t i = 0; i < TAR_HEADER_BYTES; i++) {
        bool is_own = i >= TAR_SUM_OFFSET && i < TAR_SUM_OFFSET + TAR_SUM_BYTES;
        sum += is_own ? ' ' : head[i];
    }
    memcpy(digits, head + TAR_SUM_OFFSET, TAR_SUM_BYTES);
    const char *first = digits + strspn(digits, " ");
    return *first >= '0' && *first <= '7' && strtoul(first, NULL, 8) == sum;
}

bool foreign_archive_recognise(const struct source_file *file)
{
    static const struct {
        size_t length;
        const char *bytes;
    } beginnings[] = {
        {4, "PK\x03\x04"}, {4, "PK\x05\x06"},    {2, "\x1f\x8b"},
        {3, "BZh"},        {6, "\xfd\x37zXZ\0"}, {4, "\x28\xb5\x2f\xfd"},
    };
    unsigned char head[SOURCE_HEAD_BYTES];
    size_t length = foreign_source_peek(file, 0, head);
    for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
        if (length >= beginnings[i].length && memcmp(head, beginnings[i].bytes, beginnings[i].length) == 0) {
            return true;
        }
    }
    return length >= TAR_HEADER_BYTES && is_tar(head);
}

/* ---- what libarchive asks for ---- */

static la_ssize_t on_read(struct archive *reader, void *context, const void **ret_bytes)
{
    (void)reader;
    struct unpacking *unpacking = context;
    size_t length = foreign_source_read_at(unpacking->file, unpacking->offset, unpacking->block, BLOCK_BYTES);
    unpacking->offset += length;
    *ret_bytes = unpacking->block;
    return (la_ssize_t)length;
}

static la_int64_t on_seek(struct archive *reader, void *context, la_int64_t offset, int from)
{
    (void)reader;
    struct unpacking *unpacking = context;
    la_int64_t end = (la_int64_t)unpacking->file->bytes;
    la_int64_t base = from == SEEK_SET ? 0 : from == SEEK_CUR ? (la_int64_t)unpacking->offset : end;
    la_int64_t place;
    if (__builtin_add_overflow(base, offset, &place) || place < 0) {
        return ARCHIVE_FATAL;
    }
    unpacking->offset = place > end ? (uint64_t)end : (uint64_t)place;
    return (la_int64_t)unpacking->offset;
}

static la_int64_t on_skip(struct archive *reader, void *context, la_int64_t count)
{
    (void)reader;
    struct unpacking *unpacking = context;
    uint64_t left = unpacking->file->bytes - unpacking->offset;
    uint64_t skipped = count < 0 ? 0 : (uint64_t)count < left ? (uint64_t)count : left;
    unpacking->offset += skipped;
    return (la_int64_t)skipped;
}

static bool open_reader(struct unpacking *unpacking)
{
    struct archive *reader = unpacking->reader;
    return reader != NULL && archive_read_support_filter_gzip(reader) == ARCHIVE_OK &&
           archive_read_support_filter_bzip2(reader) == ARCHIVE_OK &&
           archive_read_support_filter_xz(reader) == ARCHIVE_OK &&
           archive_read_support_filter_zstd(reader) == ARCHIVE_OK &&
           archive_read_support_format_tar(reader) == ARCHIVE_OK &&
           archive_read_support_format_zip_seekable(reader) == ARCHIVE_OK &&
           archive_read_set_read_callback(reader, on_read) == ARCHIVE_OK &&
           archive_read_set_seek_callback(reader, on_seek) == ARCHIVE_OK &&
           archive_read_set_skip_callback(reader, on_skip) == ARCHIVE_OK &&
           archive_read_set_callback_data(reader, unpacking) == ARCHIVE_OK && archive_read_open1(reader) == ARCHIVE_OK;
}

void foreign_archive_prepare(void)
{
    /* Names of another character set than the locale's would have it load tables from files. */
    (void)!setlocale(LC_CTYPE, "C.UTF-8"); /* where there is none, only such names are refused */
}

/* ---- entries ---- */

static enum status refuse(enum status status, struct error *error)
{
    return error_code(error, "bad_archive"), status;
}

static enum status unreadable(const struct unpacking *unpacking, struct error *error)
{
    const char *reason = unpacking->reader == NULL ? "no memory" : archive_error_string(unpacking->reader);
    error_set(error, STATUS_CORRUPT, "%.200s: no archive that can be read: %.300s", unpacking->file->name,
              reason == NULL ? "it is damaged" : reason);
    return refuse(STATUS_CORRUPT, error);
}

static enum status too_large(const struct unpacking *unpacking, struct error *error)
{
    return error_set(error, STATUS_TOO_LARGE, "%.200s: unpacks to more than %llu bytes", unpacking->file->name,
                     (unsigned long long)unpacking->source->unpack_bytes_max);
}

/* A path without "./" before it; NULL for one that leads out of its folder. */
static const char *clean_path(const char *path)
{
    while (strncmp(path, "./", 2) == 0) {
        path += 2 + strspn(path + 2, "/");
    }
    if (path[0] == '/') {
        return NULL;
    }
    for (const char *part = path; *part != '\0';) {
        size_t length = strcspn(part, "/");
        if (length == 2 && memcmp(part, "..", 2) == 0) {
            return NULL;
        }
        part += length + (part[length] == '/');
    }
    return path;
}

static bool is_hidden(const char *path)
{
    return path[0] == '\0' || path[0] == '.' || strstr(path, "/.") != NULL || strncmp(path, "__MACOSX/", 9) == 0;
}

/* What an entry is, for people, if it is neither file nor folder. */
static const char *name_oddity(struct archive_entry *entry)
{
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG: return archive_entry_hardlink(entry) == NULL ? NULL : "a link";
    case AE_IFDIR: return NULL;
    case AE_IFLNK: return "a symbolic link";
    default: return archive_entry_hardlink(entry) == NULL ? "no file" : "a link";
    }
}

/* Makes room for `need` bytes of content and a NUL. */
static enum status make_room(const struct unpacking *unpacking, char **content, size_t *capacity, size_t need,
                             struct error *error)
{
    if (need < *capacity) {
        return STATUS_OK;
    }
    size_t wanted = *capacity == 0 ? need + 1 : 2 * need;
    char *larger = mem_reallocate(*content, wanted, 1);
    if (larger == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "%.200s: no memory for a file of %zu bytes in it",
                         unpacking->file->name, need);
    }
    *content = larger;
    *capacity = wanted;
    return STATUS_OK;
}

/* The sizes that an archive states are only where to begin: what counts is what comes. */
static enum status read_content(struct unpacking *unpacking, struct archive_entry *entry, char **content,
                                size_t *ret_length, struct error *error)
{
    uint64_t left = unpacking->source->unpack_bytes_max - unpacking->unpacked_bytes;
    uint64_t stated = archive_entry_size_is_set(entry) ? (uint64_t)archive_entry_size(entry) : 0;
    size_t capacity = 0;
    size_t length = 0;
    if (stated > left) {
        return too_large(unpacking, error);
    }
    TRY(make_room(unpacking, content, &capacity, (size_t)stated + BLOCK_BYTES, error));
    for (;;) {
        TRY(make_room(unpacking, content, &capacity, length + BLOCK_BYTES, error));
        la_ssize_t count = archive_read_data(unpacking->reader, *content + length, BLOCK_BYTES);
        if (count < 0) {
            return unreadable(unpacking, error);
        }
        if ((uint64_t)count > left - length) {
            return too_large(unpacking, error);
        }
        if (count == 0) {
            (*content)[length] = '\0';
            *ret_length = length;
            return STATUS_OK;
        }
        length += (size_t)count;
    }
}

static enum status add_file(struct unpacking *unpacking, struct archive_entry *entry, const char *path,
                            struct error *error)
{
    char *content = NULL;
    size_t length = 0;
    enum status status = read_content(unpacking, entry, &content, &length, error);
    if (status == STATUS_OK) {
        status = foreign_source_take(unpacking->source, path, content, length, error);
        unpacking->unpacked_bytes += length;
    } else {
        mem_free(content);
    }
    return status;
}

static enum status add_entry(struct unpacking *unpacking, struct archive_entry *entry, struct error *error)
{
    const char *given = archive_entry_pathname(entry);
    const char *path = given == NULL ? NULL : clean_path(given);
    const char *oddity = name_oddity(entry);
    if (path == NULL) {
        error_set(error, STATUS_UNPROCESSABLE, "%.200s: the path '%.200s' in it leads elsewhere", unpacking->file->name,
                  given == NULL ? "(not UTF-8)" : given);
        return refuse(STATUS_UNPROCESSABLE, error);
    }
    if (oddity != NULL) {
        error_set(error, STATUS_UNPROCESSABLE, "%.200s: '%.200s' in it is %s", unpacking->file->name, path, oddity);
        return refuse(STATUS_UNPROCESSABLE, error);
    }
    bool is_left_out = archive_entry_filetype(entry) == AE_IFDIR || is_hidden(path);
    return is_left_out ? STATUS_OK : add_file(unpacking, entry, path, error);
}

static enum status add_entries(struct unpacking *unpacking, struct error *error)
{
    struct archive_entry *entry;
    for (;;) {
        int result = archive_read_next_header(unpacking->reader, &entry);
        if (result == ARCHIVE_EOF) {
            return STATUS_OK;
        }
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN) {
            return unreadable(unpacking, error);
        }
        TRY(add_entry(unpacking, entry, error));
    }
}

/* ---- the whole ---- */

/* "gita/model.ckpt.index" becomes "model.ckpt.index" where all lie in "gita". */
static void leave_folder_away(struct foreign_source *source)
{
    const char *first = source->count == 0 ? "" : source->files[0].name;
    size_t length = strcspn(first, "/") + 1;
    bool is_common = strchr(first, '/') != NULL;
    for (size_t i = 1; i < source->count && is_common; i++) {
        is_common = strncmp(source->files[i].name, first, length) == 0;
    }
    for (size_t i = 0; i < source->count && is_common; i++) {
        source->files[i].name += length;
    }
}

/* `label` is the archive's name, which is no more among the files. */
static enum status check_files(const struct foreign_source *source, const char *label, struct error *error)
{
    for (size_t i = 1; i < source->count; i++) {
        if (strcmp(source->files[i - 1].name, source->files[i].name) == 0) {
            error_set(error, STATUS_UNPROCESSABLE, "%.200s: two files in it are named '%.200s'", label,
                      source->files[i].name);
            return refuse(STATUS_UNPROCESSABLE, error);
        }
    }
    if (source->count == 0) {
        error_set(error, STATUS_UNPROCESSABLE, "%.200s: no files are in it", label);
        return refuse(STATUS_UNPROCESSABLE, error);
    }
    return STATUS_OK;
}

enum status foreign_archive_unpack(struct foreign_source *source, const struct source_file *file, struct error *error)
{
    const char *label = file->name;
    size_t outer_count = source->count;
    struct unpacking *unpacking = mem_allocate(1, sizeof *unpacking);
    if (unpacking == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "%.200s: no memory to unpack it", label);
    }
    unpacking->source = source;
    unpacking->file = file;
    unpacking->reader = archive_read_new();
    enum status status = open_reader(unpacking) ? add_entries(unpacking, error) : unreadable(unpacking, error);
    archive_read_free(unpacking->reader);
    mem_free(unpacking);
    TRY(status);
    foreign_source_drop(source, outer_count);
    leave_folder_away(source);
    foreign_source_sort(source);
    source->chosen = "";
    return check_files(source, label, error);
}
