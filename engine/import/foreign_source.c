/* Opening and reading the files of a foreign model. Thread: the one that imports. */
#include "engine/import/foreign_source.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/mem.h"

static enum status no_memory(const struct foreign_source *source, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "%.200s: no memory for its files", source->label);
}

static enum status make_files(struct foreign_source *source, struct error *error)
{
    if (source->files == NULL) {
        source->label = source->label == NULL ? "the source" : source->label;
        source->chosen = source->chosen == NULL ? "" : source->chosen;
        source->files = arena_allocate(&source->arena, SOURCE_FILES_MAX, sizeof *source->files);
    }
    return source->files == NULL ? no_memory(source, error) : STATUS_OK;
}

enum status foreign_source_add(struct foreign_source *source, const char *name, const void *bytes, size_t length,
                               struct error *error)
{
    TRY(make_files(source, error));
    if (source->count >= SOURCE_FILES_MAX) {
        return error_set(error, STATUS_LIMIT, "%.200s: more than %d files", source->label, SOURCE_FILES_MAX);
    }
    char *copy = arena_copy_string(&source->arena, name);
    if (copy == NULL) {
        return no_memory(source, error);
    }
    source->files[source->count++] = (struct source_file){
        .name = copy, .bytes = length, .descriptor = -1, .content = (char *)(uintptr_t)bytes, .is_borrowed = true};
    return STATUS_OK;
}

enum status foreign_source_take(struct foreign_source *source, const char *name, char *bytes, size_t length,
                                struct error *error)
{
    enum status status = foreign_source_add(source, name, bytes, length, error);
    if (status != STATUS_OK) {
        mem_free(bytes);
        return status;
    }
    source->files[source->count - 1].is_borrowed = false;
    return STATUS_OK;
}

static int by_name(const void *left, const void *right)
{
    const struct source_file *a = left;
    const struct source_file *b = right;
    return strcmp(a->name, b->name);
}

void foreign_source_sort(struct foreign_source *source)
{
    if (source->count > 1) {
        qsort(source->files, source->count, sizeof *source->files, by_name);
    }
}

/* ---- opening ---- */

/* Opens `entry` of a folder. What cannot be opened, or is no regular file, is passed over: `*ret_descriptor` −1. */
static void open_file(int folder, const char *entry, int *ret_descriptor, uint64_t *ret_bytes)
{
    struct stat facts;
    int descriptor = openat(folder, entry, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (descriptor >= 0 && (fstat(descriptor, &facts) != 0 || !S_ISREG(facts.st_mode))) {
        close(descriptor);
        descriptor = -1;
    }
    *ret_descriptor = descriptor;
    *ret_bytes = descriptor < 0 ? 0 : (uint64_t)facts.st_size;
}

static enum status add_opened(struct foreign_source *source, const char *name, int descriptor, uint64_t bytes,
                              struct error *error)
{
    enum status status = foreign_source_add(source, name, NULL, 0, error);
    if (status != STATUS_OK) {
        close(descriptor);
        return status;
    }
    source->files[source->count - 1] =
        (struct source_file){.name = source->files[source->count - 1].name, .bytes = bytes, .descriptor = descriptor};
    return STATUS_OK;
}

/* What belongs to a source that is one file or prefix: what its name begins, and small files, while there are few. */
static bool is_companion(const struct foreign_source *source, const char *entry, uint64_t bytes)
{
    size_t stem = strcspn(source->chosen, ".");
    return strncmp(entry, source->chosen, stem > 0 ? stem : 1) == 0 ||
           (bytes <= SOURCE_VOCABULARY_BYTES_MAX && source->count < SOURCE_FILES_MAX / 2);
}

static enum status open_folder(struct foreign_source *source, int parent, const char *entry, const char *prefix,
                               int depth, struct error *error);

static enum status open_entry(struct foreign_source *source, int folder, const char *entry, const char *prefix,
                              int depth, struct error *error)
{
    char name[FILENAME_MAX];
    int descriptor;
    uint64_t bytes;
    if (entry[0] == '.' || snprintf(name, sizeof name, "%s%s", prefix, entry) >= (int)sizeof name) {
        return STATUS_OK;
    }
    open_file(folder, entry, &descriptor, &bytes);
    if (descriptor >= 0 && source->chosen[0] != '\0' && !is_companion(source, name, bytes)) {
        close(descriptor);
        return STATUS_OK;
    }
    if (descriptor >= 0) {
        return add_opened(source, name, descriptor, bytes, error);
    }
    /* Of a folder that was named, what lies in its folders belongs to it too. */
    return source->chosen[0] == '\0' && depth < SOURCE_DEPTH_MAX
               ? open_folder(source, folder, entry, name, depth + 1, error)
               : STATUS_OK;
}

/* Below the first one, what is no folder is passed over. `prefix` is its name, without a slash behind it. */
static enum status open_folder(struct foreign_source *source, int parent, const char *entry, const char *prefix,
                               int depth, struct error *error)
{
    char below[FILENAME_MAX];
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (depth > 1 ? O_NOFOLLOW : 0);
    int descriptor = openat(parent, entry, flags);
    DIR *folder = descriptor < 0 ? NULL : fdopendir(descriptor);
    if (folder == NULL) {
        int error_number = errno;
        if (descriptor >= 0) {
            close(descriptor);
        }
        return depth > 1 ? STATUS_OK : error_set_errno(error, error_number, "%.200s", entry);
    }
    snprintf(below, sizeof below, "%s%s", prefix, prefix[0] == '\0' ? "" : "/");
    enum status status = STATUS_OK;
    /* readdir is safe here: nobody else has this stream. */
    for (struct dirent *at = readdir(folder); at != NULL && status == STATUS_OK; at = readdir(folder)) {
        status = open_entry(source, dirfd(folder), at->d_name, below, depth, error);
    }
    closedir(folder);
    return status;
}

static enum status open_vocabulary(struct foreign_source *source, const char *path, struct error *error)
{
    int descriptor;
    uint64_t bytes;
    open_file(AT_FDCWD, path, &descriptor, &bytes);
    if (descriptor < 0) {
        return error_set(error, STATUS_NOT_FOUND, "%.200s: no regular file that can be read", path);
    }
    const char *slash = strrchr(path, '/');
    source->vocabulary = arena_allocate(&source->arena, 1, sizeof *source->vocabulary);
    char *name = arena_copy_string(&source->arena, slash == NULL ? path : slash + 1);
    if (source->vocabulary == NULL || name == NULL) {
        close(descriptor);
        source->vocabulary = NULL;
        return no_memory(source, error);
    }
    *source->vocabulary = (struct source_file){.name = name, .bytes = bytes, .descriptor = descriptor};
    return STATUS_OK;
}

/* Whether a file is the chosen one, or one that the chosen prefix begins. */
static bool has_chosen(const struct foreign_source *source)
{
    size_t length = strlen(source->chosen);
    for (size_t i = 0; i < source->count; i++) {
        const char *name = source->files[i].name;
        if (strncmp(name, source->chosen, length) == 0 && (name[length] == '\0' || name[length] == '.')) {
            return true;
        }
    }
    return length == 0;
}

enum status foreign_source_open(const char *path, const char *vocabulary, struct foreign_source *source,
                                struct error *error)
{
    struct stat facts;
    *source = (struct foreign_source){.label = path};
    source->label = arena_copy_string(&source->arena, path);
    char *folder = arena_copy_string(&source->arena, path);
    if (source->label == NULL || folder == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "%.200s: no memory for its files", path);
    }
    if (stat(path, &facts) != 0 || !S_ISDIR(facts.st_mode)) {
        char *slash = strrchr(folder, '/');
        source->chosen = slash == NULL ? source->label : source->label + (slash + 1 - folder);
        folder = slash == NULL ? arena_copy_string(&source->arena, ".") : folder;
        if (slash != NULL) {
            slash[slash == folder] = '\0';
        }
    }
    if (folder == NULL || make_files(source, error) != STATUS_OK) {
        return no_memory(source, error);
    }
    TRY(open_folder(source, AT_FDCWD, folder, "", 1, error));
    foreign_source_sort(source);
    if (!has_chosen(source)) {
        return error_set(error, STATUS_NOT_FOUND, "%.200s: no such file, folder or checkpoint prefix", path);
    }
    if (source->count == 0) {
        return error_set(error, STATUS_NOT_FOUND, "%.200s: no files in this folder", path);
    }
    return vocabulary == NULL ? STATUS_OK : open_vocabulary(source, vocabulary, error);
}

enum status foreign_source_open_upload(int descriptor, const char *name, struct foreign_source *source,
                                       struct error *error)
{
    struct stat facts;
    *source = (struct foreign_source){.label = name, .chosen = name};
    if (fstat(descriptor, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        close(descriptor);
        return error_set(error, STATUS_INVALID, "%.200s: no regular file", name);
    }
    return add_opened(source, name, descriptor, (uint64_t)facts.st_size, error);
}

/* ---- reading ---- */

/* Reads up to `length` bytes from `offset`; fewer only at the file's end or on an error. */
static size_t read_file(const struct source_file *file, uint64_t offset, void *bytes, size_t length)
{
    size_t done = 0;
    while (done < length && file->descriptor >= 0) {
        ssize_t count = pread(file->descriptor, (char *)bytes + done, length - done, (off_t)(offset + done));
        if (count <= 0) {
            break;
        }
        done += (size_t)count;
    }
    return done;
}

size_t foreign_source_read_at(const struct source_file *file, uint64_t offset, void *bytes, size_t length)
{
    uint64_t left = offset >= file->bytes ? 0 : file->bytes - offset;
    length = left < length ? (size_t)left : length;
    if (file->content == NULL) {
        return read_file(file, offset, bytes, length);
    }
    memcpy(bytes, file->content + offset, length);
    return length;
}

size_t foreign_source_peek(const struct source_file *file, uint64_t offset, unsigned char bytes[SOURCE_HEAD_BYTES])
{
    return foreign_source_read_at(file, offset, bytes, SOURCE_HEAD_BYTES);
}

enum status foreign_source_read(struct foreign_source *source, struct source_file *file,
                                const unsigned char **ret_bytes, size_t *ret_length, struct error *error)
{
    uint64_t bytes_max = (uint64_t)SOURCE_MIB_MAX << 20;
    if (file->content == NULL) {
        if (file->bytes > bytes_max - source->read_bytes) {
            return error_set(error, STATUS_TOO_LARGE, "%s: with its %llu bytes more than %d MiB are to be read",
                             file->name, (unsigned long long)file->bytes, SOURCE_MIB_MAX);
        }
        char *content = mem_allocate(file->bytes + 1, 1);
        if (content == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "%s: no memory for its %llu bytes", file->name,
                             (unsigned long long)file->bytes);
        }
        size_t length = read_file(file, 0, content, file->bytes);
        if (length != file->bytes) {
            mem_free(content);
            return error_set(error, STATUS_IO, "%s: %zu of its %llu bytes can be read", file->name, length,
                             (unsigned long long)file->bytes);
        }
        file->content = content;
        source->read_bytes += file->bytes;
    }
    *ret_bytes = (const unsigned char *)file->content;
    *ret_length = file->bytes;
    return STATUS_OK;
}

void foreign_source_forget(struct foreign_source *source, struct source_file *file)
{
    if (file->descriptor >= 0 && !file->is_borrowed && file->content != NULL) {
        mem_free(file->content);
        file->content = NULL;
        source->read_bytes -= file->bytes;
    }
}

/* ---- finding ---- */

struct source_file *foreign_source_find(const struct foreign_source *source, const char *name)
{
    for (size_t i = 0; i < source->count; i++) {
        if (strcmp(source->files[i].name, name) == 0) {
            return &source->files[i];
        }
    }
    return NULL;
}

struct source_file *foreign_source_find_beside(const struct foreign_source *source, const struct source_file *file,
                                               const char *name)
{
    char path[FILENAME_MAX];
    const char *slash = strrchr(file->name, '/');
    int folder = slash == NULL ? 0 : (int)(slash + 1 - file->name);
    int length = snprintf(path, sizeof path, "%.*s%s", folder, file->name, name);
    return length < (int)sizeof path ? foreign_source_find(source, path) : NULL;
}

uint64_t foreign_source_bytes(const struct foreign_source *source)
{
    uint64_t bytes = source->vocabulary == NULL ? 0 : source->vocabulary->bytes;
    for (size_t i = 0; i < source->count; i++) {
        bytes += source->files[i].bytes;
    }
    return bytes;
}

static void release_file(struct source_file *file)
{
    if (!file->is_borrowed) {
        mem_free(file->content);
    }
    if (file->descriptor >= 0) {
        close(file->descriptor);
    }
}

void foreign_source_drop(struct foreign_source *source, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        release_file(&source->files[i]);
    }
    source->count -= count;
    memmove(source->files, source->files + count, source->count * sizeof *source->files);
}

void foreign_source_release(struct foreign_source *source)
{
    for (size_t i = 0; i < source->count; i++) {
        release_file(&source->files[i]);
    }
    if (source->vocabulary != NULL) {
        release_file(source->vocabulary);
    }
    arena_release(&source->arena);
    *source = (struct foreign_source){.label = NULL};
}
