/* Reading versions: list, verify, fingerprint. Thread: loader, run, trainer threads; no state. Owns what a struct
 * version_files holds.
 *
 * Files are read whole before they are checked, and what was checked is what is handed out: a file that changes
 * underneath cannot be half the one and half the other. */
#include "engine/store/version_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/store/version_directory_files.h"
#include "engine/store/version_directory_manifest.h"

enum { VERSION_DIGITS_MAX = 9, FIND_TRIES_MAX = 4 };

static enum status refuse_incomplete(struct error *error, const char *name, const char *what)
{
    return version_refuse(error, STATUS_UNPROCESSABLE, "incomplete", name, "%s: a copy may still be running", what);
}

static enum status check_regular(int fd, const char *name, uint64_t *ret_bytes, struct error *error)
{
    struct stat facts;
    if (fstat(fd, &facts) != 0) {
        return error_set_errno(error, errno, "fstat '%s'", name);
    }
    if (!S_ISREG(facts.st_mode)) {
        return version_refuse(error, STATUS_CORRUPT, "corrupt", name, "not a regular file");
    }
    *ret_bytes = (uint64_t)facts.st_size;
    return STATUS_OK;
}

/* Opens a file of the version. The caller closes the descriptor. */
static enum status open_file(int directory_fd, const char *name, int *ret_fd, uint64_t *ret_bytes, struct error *error)
{
    int fd = openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        return refuse_incomplete(error, name, "missing");
    }
    if (fd < 0 && (errno == ELOOP || errno == ENXIO)) { /* a symbolic link; a socket */
        return version_refuse(error, STATUS_CORRUPT, "corrupt", name, "not a regular file");
    }
    if (fd < 0) {
        return error_set_errno(error, errno, "open '%s'", name);
    }
    enum status status = check_regular(fd, name, ret_bytes, error);
    if (status != STATUS_OK) {
        close(fd);
        return status;
    }
    *ret_fd = fd;
    return STATUS_OK;
}

/* Reads `length` bytes to the arena, and sees that nothing follows them. */
static enum status read_content(int fd, const char *name, size_t length, struct arena *arena, const void **ret_bytes,
                                struct error *error)
{
    char *bytes = arena_allocate(arena, length, 1);
    if (bytes == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to read '%s', %zu bytes", name, length);
    }
    size_t done = 0;
    for (;;) {
        char beyond;
        bool is_whole = done == length;
        ssize_t got = is_whole ? read(fd, &beyond, 1) : read(fd, bytes + done, length - done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return error_set_errno(error, errno, "read '%s' at byte %zu of %zu", name, done, length);
        }
        if (is_whole != (got == 0)) {
            return refuse_incomplete(error, name, is_whole ? "it grows" : "it shrinks");
        }
        if (is_whole) {
            *ret_bytes = bytes;
            return STATUS_OK;
        }
        done += (size_t)got;
    }
}

static enum status read_manifest(int directory_fd, struct version_files *files,
                                 struct listed_file listed[VERSION_FILES_MAX], size_t *ret_count, struct error *error)
{
    int fd = -1;
    uint64_t bytes = 0;
    const void *text = NULL;
    TRY(open_file(directory_fd, version_manifest_name, &fd, &bytes, error));
    enum status status;
    if (bytes > VERSION_MANIFEST_BYTES_MAX) {
        status = version_refuse(error, STATUS_CORRUPT, "corrupt", version_manifest_name, "%llu bytes, at most %d",
                                (unsigned long long)bytes, VERSION_MANIFEST_BYTES_MAX);
    } else {
        status = read_content(fd, version_manifest_name, bytes, &files->arena, &text, error);
    }
    close(fd);
    TRY(status);
    files->text = (struct version_file){.name = version_manifest_name, .bytes = text, .length = bytes};
    return manifest_parse(text, bytes, &files->manifest, listed, ret_count, error);
}

static enum status read_listed(int directory_fd, const struct listed_file *listed, struct arena *arena,
                               struct version_file *ret_file, struct error *error)
{
    int fd = -1;
    uint64_t bytes = 0;
    const void *content = NULL;
    TRY(open_file(directory_fd, listed->name, &fd, &bytes, error));
    enum status status;
    if (bytes != listed->bytes) {
        status = version_refuse(error, STATUS_UNPROCESSABLE, "incomplete", listed->name,
                                "%llu bytes, the manifest says %llu: a copy may still be running",
                                (unsigned long long)bytes, (unsigned long long)listed->bytes);
    } else {
        status = read_content(fd, listed->name, bytes, arena, &content, error);
    }
    close(fd);
    TRY(status);
    char sha256[SHA256_TEXT_BYTES];
    sha256_text(content, bytes, sha256);
    if (strcmp(sha256, listed->sha256) != 0) {
        return version_refuse(error, STATUS_UNPROCESSABLE, "incomplete", listed->name,
                              "SHA-256 %s, the manifest says %s: a copy may still be running", sha256, listed->sha256);
    }
    *ret_file = (struct version_file){.name = listed->name, .bytes = content, .length = bytes};
    return STATUS_OK;
}

static enum status read_version(int directory_fd, struct version_files *files, struct error *error)
{
    struct listed_file listed[VERSION_FILES_MAX];
    size_t count = 0;
    TRY(read_manifest(directory_fd, files, listed, &count, error));
    files->files = arena_allocate(&files->arena, count, sizeof *files->files);
    if (files->files == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu files", count);
    }
    for (size_t i = 0; i < count; i++) {
        TRY(read_listed(directory_fd, &listed[i], &files->arena, &files->files[i], error));
        files->count++;
    }
    return STATUS_OK;
}

/* ---- where it lies ---- */

/* Whoever replaces it may have put the new one in its place since we looked there. */
bool version_find(const char *path, char found[MODEL_DIRECTORY_PATH_BYTES])
{
    struct place place;
    char aside[ASIDE_NAME_BYTES];
    if (place_split(path, &place, NULL) != STATUS_OK) {
        return false;
    }
    aside_name(place.name, aside);
    const char *parent = strcmp(place.parent, ".") == 0 ? "" : place.parent; /* others end in a slash */
    for (int i = 0; i < 2 * FIND_TRIES_MAX; i++) {
        struct stat facts;
        int length = snprintf(found, MODEL_DIRECTORY_PATH_BYTES, "%s%s", parent, i % 2 == 0 ? place.name : aside);
        if (length < MODEL_DIRECTORY_PATH_BYTES && stat(found, &facts) == 0) {
            return true;
        }
    }
    return false;
}

static enum status open_version(const char *path, int *ret_fd, struct error *error)
{
    char found[MODEL_DIRECTORY_PATH_BYTES];
    enum status status = directory_open(path, ret_fd, error);
    for (int i = 0; i < FIND_TRIES_MAX && status == STATUS_NOT_FOUND && version_find(path, found); i++) {
        status = directory_open(found, ret_fd, error);
    }
    return status;
}

enum status version_read(const char *path, struct version_files *ret_files, struct error *error)
{
    int fd = -1;
    TRY(open_version(path, &fd, error));
    struct version_files files = {.count = 0};
    enum status status = read_version(fd, &files, error);
    close(fd);
    if (status != STATUS_OK) {
        version_files_release(&files);
        return status;
    }
    *ret_files = files;
    return STATUS_OK;
}

/* ---- from memory ---- */

static const struct version_file *find_given(const struct version_file *given, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(given[i].name, name) == 0) {
            return &given[i];
        }
    }
    return NULL;
}

static enum status take_listed(const struct version_file *file, const struct listed_file *listed, struct error *error)
{
    if (file == NULL) {
        return version_refuse(error, STATUS_CORRUPT, "corrupt", listed->name, "missing, but the manifest lists it");
    }
    if (file->length != listed->bytes) {
        return version_refuse(error, STATUS_CORRUPT, "corrupt", listed->name, "%zu bytes, the manifest says %llu",
                              file->length, (unsigned long long)listed->bytes);
    }
    char sha256[SHA256_TEXT_BYTES];
    sha256_text(file->bytes, file->length, sha256);
    if (strcmp(sha256, listed->sha256) != 0) {
        return version_refuse(error, STATUS_CORRUPT, "corrupt", listed->name, "SHA-256 %s, the manifest says %s",
                              sha256, listed->sha256);
    }
    return STATUS_OK;
}

static enum status take_all(const struct version_file *given, size_t count, struct version_files *files,
                            struct error *error)
{
    struct listed_file listed[VERSION_FILES_MAX];
    size_t listed_count = 0;
    const struct version_file *manifest = find_given(given, count, version_manifest_name);
    if (manifest == NULL) {
        return version_refuse(error, STATUS_CORRUPT, "corrupt", version_manifest_name, "missing");
    }
    files->text = *manifest;
    TRY(manifest_parse(manifest->bytes, manifest->length, &files->manifest, listed, &listed_count, error));
    files->files = arena_allocate(&files->arena, listed_count, sizeof *files->files);
    if (files->files == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu files", listed_count);
    }
    for (size_t i = 0; i < listed_count; i++) {
        const struct version_file *file = find_given(given, count, listed[i].name);
        TRY(take_listed(file, &listed[i], error));
        files->files[files->count++] = *file;
    }
    return STATUS_OK;
}

enum status version_take(const struct version_file *given, size_t count, struct version_files *ret_files,
                         struct error *error)
{
    struct version_files files = {.count = 0};
    enum status status = take_all(given, count, &files, error);
    if (status != STATUS_OK) {
        version_files_release(&files);
        return status;
    }
    *ret_files = files;
    return STATUS_OK;
}

const struct version_file *version_files_find(const struct version_files *files, const char *name)
{
    for (size_t i = 0; i < files->count; i++) {
        if (strcmp(files->files[i].name, name) == 0) {
            return &files->files[i];
        }
    }
    return NULL;
}

void version_files_release(struct version_files *files)
{
    json_decref(files->manifest);
    arena_release(&files->arena);
    *files = (struct version_files){.count = 0};
}

/* The version that a directory of this name holds, or 0. */
static uint64_t version_number(const char *name)
{
    uint64_t number = 0;
    if (name[0] == '0' || strlen(name) > VERSION_DIGITS_MAX) {
        return 0;
    }
    for (const char *c = name; *c != '\0'; c++) {
        if (*c < '0' || *c > '9') {
            return 0;
        }
        number = number * 10 + (uint64_t)(*c - '0');
    }
    return number;
}

static int by_number(const void *left, const void *right)
{
    const uint64_t *a = left;
    const uint64_t *b = right;
    return (*a > *b) - (*a < *b);
}

static bool is_directory_at(int directory_fd, const char *name)
{
    struct stat facts;
    return fstatat(directory_fd, name, &facts, 0) == 0 && S_ISDIR(facts.st_mode);
}

/* Adds a number to a growing list. */
static enum status append(uint64_t **versions, size_t *count, size_t *room, uint64_t version, struct error *error)
{
    if (*count == VERSION_LIST_MAX) {
        return error_set(error, STATUS_LIMIT, "more than %d versions", VERSION_LIST_MAX);
    }
    if (*count == *room) {
        size_t more = *room * 2 + 16;
        uint64_t *grown = mem_reallocate(*versions, more, sizeof *grown);
        if (grown == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for %zu versions", more);
        }
        *versions = grown;
        *room = more;
    }
    (*versions)[(*count)++] = version;
    return STATUS_OK;
}

enum status version_list(const char *model_path, uint64_t **ret_versions, size_t *ret_count, struct error *error)
{
    DIR *directory = opendir(model_path);
    if (directory == NULL) {
        return error_set_errno(error, errno, "list directory '%s'", model_path);
    }
    size_t count = 0;
    size_t room = 0;
    uint64_t *versions = NULL;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            status = errno == 0 ? STATUS_OK : error_set_errno(error, errno, "list directory '%s'", model_path);
            break;
        }
        uint64_t version = version_number(entry->d_name);
        if (version != 0 && is_directory_at(dirfd(directory), entry->d_name)) {
            status = append(&versions, &count, &room, version, error);
        }
    }
    closedir(directory);
    if (status != STATUS_OK) {
        mem_free(versions);
        return status;
    }
    if (count > 0) {
        qsort(versions, count, sizeof *versions, by_number);
    }
    *ret_versions = versions;
    *ret_count = count;
    return STATUS_OK;
}

uint64_t version_fingerprint(const char *path)
{
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return 0;
    }
    uint64_t fingerprint = 1;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        struct stat facts;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd(directory), entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) != 0) {
            continue; /* removed since it was listed: as if it had never been there */
        }
        uint64_t modified_ns = (uint64_t)facts.st_mtim.tv_sec * 1000000000u + (uint64_t)facts.st_mtim.tv_nsec;
        struct rng_words words = rng_philox(rng_key(entry->d_name), (uint64_t)facts.st_size, modified_ns);
        fingerprint += (uint64_t)words.word[0] << 32 | words.word[1]; /* a sum: the order of a listing is no property */
    }
    closedir(directory);
    return fingerprint == 0 ? 1 : fingerprint;
}
