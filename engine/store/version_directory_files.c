/* Files and directories, made and removed so that a crash at any moment leaves the old or the new. Thread: loader, run,
 * trainer threads; no state. Owns no descriptor beyond a call. */
#include "engine/store/version_directory_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/store/version_directory.h"

enum { TREE_DEPTH_MAX = 32, REMOVAL_TRIES_MAX = 16, LEFTOVER_AGE_SECONDS = 3600, READ_BYTES_FIRST = 4096 };

static const char hidden_prefix[] = ".lstmd-";
static const char aside_prefix[] = ".before-";

enum status place_split(const char *path, struct place *ret_place, struct error *error)
{
    size_t length = strlen(path);
    if (length >= PATH_MAX) {
        return error_set(error, STATUS_INVALID, "a path of %zu bytes, at most %d", length, PATH_MAX - 1);
    }
    while (length > 1 && path[length - 1] == '/') {
        length--;
    }
    size_t begin = length;
    while (begin > 0 && path[begin - 1] != '/') {
        begin--;
    }
    struct place place = {.parent = "."};
    size_t name_bytes = length - begin;
    if (name_bytes >= sizeof place.name) {
        return error_set(error, STATUS_INVALID, "a file name of %zu bytes, at most %d", name_bytes, NAME_MAX);
    }
    memcpy(place.name, path + begin, name_bytes);
    if (name_bytes == 0 || strcmp(place.name, ".") == 0 || strcmp(place.name, "..") == 0) {
        return error_set(error, STATUS_INVALID, "'%s' does not end in a name", path);
    }
    if (begin > 0) {
        memcpy(place.parent, path, begin);
        place.parent[begin] = '\0';
    }
    *ret_place = place;
    return STATUS_OK;
}

enum status directory_open(const char *path, int *ret_fd, struct error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(error, errno, "open directory '%s'", path);
    }
    *ret_fd = fd;
    return STATUS_OK;
}

enum status directory_sync(int directory_fd, const char *path, struct error *error)
{
    if (fsync(directory_fd) != 0 && errno != EINVAL) { /* EINVAL: this file system has nothing to sync */
        return error_set_errno(error, errno, "fsync directory '%s'", path);
    }
    return STATUS_OK;
}

/* Makes one directory in a parent that exists. `ret_made`, on failure too: it was missing. */
static enum status make_one(const char *path, bool *ret_made, struct error *error)
{
    if (mkdir(path, 0777) != 0) {
        if (errno != EEXIST) {
            return error_set_errno(error, errno, "make directory '%s'", path);
        }
        *ret_made = false;
        return STATUS_OK;
    }
    *ret_made = true;
    struct place place;
    int fd = -1;
    TRY(place_split(path, &place, error));
    TRY(directory_open(place.parent, &fd, error));
    enum status status = directory_sync(fd, place.parent, error);
    close(fd);
    return status;
}

enum status directory_make(const char *path, size_t *ret_made_bytes, struct error *error)
{
    char part[PATH_MAX];
    size_t length = strlen(path);
    *ret_made_bytes = 0;
    if (length == 0 || length >= sizeof part) {
        return error_set(error, STATUS_INVALID, "a directory path of %zu bytes", length);
    }
    for (size_t end = 1; end <= length; end++) {
        if (path[end] == '\0' || (path[end] == '/' && path[end - 1] != '/')) {
            memcpy(part, path, end);
            part[end] = '\0';
            bool is_made = false;
            enum status status = make_one(part, &is_made, error);
            *ret_made_bytes = is_made && *ret_made_bytes == 0 ? end : *ret_made_bytes;
            TRY(status);
        }
    }
    return STATUS_OK;
}

void directory_unmake(const char *path, size_t made_bytes)
{
    char part[PATH_MAX];
    size_t length = made_bytes > 0 ? strlen(path) : 0;
    if (length >= sizeof part) {
        return;
    }
    memcpy(part, path, length);
    for (size_t end = length; end > 0 && end >= made_bytes; end--) {
        if (end == length || part[end] == '/') {
            part[end] = '\0';
            rmdir(part); /* refused where somebody has put something there meanwhile, and so are those above */
        }
    }
}

void hidden_name(char name[HIDDEN_NAME_BYTES])
{
    snprintf(name, HIDDEN_NAME_BYTES, "%s%016" PRIx64, hidden_prefix, rng_system());
}

void aside_name(const char *name, char aside[ASIDE_NAME_BYTES])
{
    snprintf(aside, ASIDE_NAME_BYTES, "%s%.*s", aside_prefix, NAME_MAX, name);
}

static enum status write_all(int fd, const char *name, const char *bytes, size_t length, struct error *error)
{
    for (size_t done = 0; done < length;) {
        ssize_t written = write(fd, bytes + done, length - done);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return error_set_errno(error, errno, "write '%s' at byte %zu of %zu", name, done, length);
        }
        done += (size_t)written;
    }
    if (fsync(fd) != 0) {
        return error_set_errno(error, errno, "fsync '%s'", name);
    }
    return STATUS_OK;
}

enum status file_create_at(int directory_fd, const char *name, const void *bytes, size_t length, struct error *error)
{
    int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) {
        return error_set_errno(error, errno, "make file '%s'", name);
    }
    enum status status = write_all(fd, name, bytes, length, error);
    if (close(fd) != 0 && status == STATUS_OK) {
        status = error_set_errno(error, errno, "close '%s'", name);
    }
    if (status != STATUS_OK) {
        unlinkat(directory_fd, name, 0);
    }
    return status;
}

static bool is_dot_entry(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static enum status remove_below(int directory_fd, const char *name, int depth, int tries_left, struct error *error);

/* Empties the directory behind `fd`, which it closes. */
static enum status empty_directory(int fd, const char *name, int depth, struct error *error)
{
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        enum status status = error_set_errno(error, errno, "list directory '%s'", name);
        close(fd);
        return status;
    }
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            status = errno == 0 ? STATUS_OK : error_set_errno(error, errno, "list directory '%s'", name);
            break;
        }
        if (!is_dot_entry(entry->d_name)) {
            status = remove_below(fd, entry->d_name, depth + 1, REMOVAL_TRIES_MAX, error);
        }
    }
    closedir(directory);
    return status;
}

static enum status remove_below(int directory_fd, const char *name, int depth, int tries_left, struct error *error)
{
    if (depth > TREE_DEPTH_MAX) {
        return error_set(error, STATUS_LIMIT, "'%s' lies deeper than %d directories", name, TREE_DEPTH_MAX);
    }
    if (unlinkat(directory_fd, name, 0) == 0 || errno == ENOENT) {
        return STATUS_OK;
    }
    int unlink_error = errno;
    int fd = openat(directory_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(error, errno == ENOTDIR ? unlink_error : errno, "remove '%s'", name);
    }
    TRY(empty_directory(fd, name, depth, error));
    if (unlinkat(directory_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT) {
        return STATUS_OK;
    }
    if (errno == ENOTEMPTY && tries_left > 1) { /* who had opened it before has written a file since */
        return remove_below(directory_fd, name, depth, tries_left - 1, error);
    }
    return error_set_errno(error, errno, "remove directory '%s'", name);
}

enum status tree_remove_at(int directory_fd, const char *name, struct error *error)
{
    return remove_below(directory_fd, name, 0, REMOVAL_TRIES_MAX, error);
}

void tree_drop_at(int directory_fd, const char *name)
{
    char hidden[HIDDEN_NAME_BYTES];
    hidden_name(hidden);
    if (renameat(directory_fd, name, directory_fd, hidden) == 0) {
        tree_remove_at(directory_fd, hidden, NULL);
    }
}

/* The facts of something with a hidden name. */
static bool is_hidden(int directory_fd, const char *name, struct stat *facts)
{
    return strncmp(name, hidden_prefix, sizeof hidden_prefix - 1) == 0 &&
           fstatat(directory_fd, name, facts, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Whether a hidden thing was left by a writer that is gone: old, and no directory whose writer still holds its lock. */
static bool is_leftover(int directory_fd, const char *name)
{
    struct stat facts;
    if (!is_hidden(directory_fd, name, &facts) || time(NULL) - facts.st_mtime < LEFTOVER_AGE_SECONDS) {
        return false;
    }
    if (!S_ISDIR(facts.st_mode)) {
        return true;
    }
    int fd = openat(directory_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    bool is_free = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return is_free;
}

static bool is_hidden_file(int directory_fd, const char *name)
{
    struct stat facts;
    return is_hidden(directory_fd, name, &facts) && S_ISREG(facts.st_mode);
}

/* Removes what `is_spare` says, of the directory behind `fd`, which it closes. */
static void sweep(int fd, bool (*is_spare)(int directory_fd, const char *name))
{
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        if (is_spare(fd, entry->d_name)) {
            tree_remove_at(fd, entry->d_name, NULL);
        }
    }
    closedir(directory);
}

void directory_sweep(int directory_fd)
{
    sweep(openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), is_leftover);
}

void file_sweep(const char *directory)
{
    sweep(open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), is_hidden_file);
}

static enum status remove_in(int parent_fd, const struct place *place, struct error *error)
{
    char hidden[HIDDEN_NAME_BYTES];
    hidden_name(hidden);
    if (renameat(parent_fd, place->name, parent_fd, hidden) != 0) {
        return error_set_errno(error, errno, "remove '%s'", place->name);
    }
    TRY(directory_sync(parent_fd, place->parent, error));
    return tree_remove_at(parent_fd, hidden, error);
}

enum status directory_remove(const char *path, struct error *error)
{
    struct place place;
    int fd = -1;
    TRY(place_split(path, &place, error));
    TRY(directory_open(place.parent, &fd, error));
    enum status status = remove_in(fd, &place, error);
    close(fd);
    return status;
}

static enum status write_in(int parent_fd, const struct place *place, const void *bytes, size_t length,
                            struct error *error)
{
    char hidden[HIDDEN_NAME_BYTES];
    hidden_name(hidden);
    TRY(file_create_at(parent_fd, hidden, bytes, length, error));
    if (renameat(parent_fd, hidden, parent_fd, place->name) != 0) {
        enum status status = error_set_errno(error, errno, "rename to '%s'", place->name);
        unlinkat(parent_fd, hidden, 0);
        return status;
    }
    return directory_sync(parent_fd, place->parent, error);
}

enum status file_write_atomically(const char *path, const void *bytes, size_t length, struct error *error)
{
    struct place place;
    int fd = -1;
    TRY(place_split(path, &place, error));
    TRY(directory_open(place.parent, &fd, error));
    enum status status = write_in(fd, &place, bytes, length, error);
    close(fd);
    return status;
}

/* Reads to the end, which may lie elsewhere than fstat said: the file may grow. */
static enum status read_to_end(int fd, const char *path, size_t size_hint, size_t bytes_max, char **ret_bytes,
                               size_t *ret_length, struct error *error)
{
    size_t room = size_hint < bytes_max ? size_hint : bytes_max;
    size_t length = 0;
    char *bytes = mem_allocate(room + 1, 1);
    while (bytes != NULL) {
        ssize_t got = read(fd, bytes + length, room + 1 - length);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            enum status status = error_set_errno(error, errno, "read '%s' at byte %zu", path, length);
            mem_free(bytes);
            return status;
        }
        length += (size_t)got;
        if (got == 0) {
            bytes[length] = '\0';
            *ret_bytes = bytes;
            *ret_length = length;
            return STATUS_OK;
        }
        if (length > bytes_max) {
            mem_free(bytes);
            return error_set(error, STATUS_TOO_LARGE, "'%s': more than %zu bytes", path, bytes_max);
        }
        if (length > room) {
            room = room > bytes_max / 2 ? bytes_max : room * 2 + READ_BYTES_FIRST;
            room = room < bytes_max ? room : bytes_max;
            char *grown = mem_reallocate(bytes, room + 1, 1);
            if (grown == NULL) {
                mem_free(bytes);
            }
            bytes = grown;
        }
    }
    return error_set(error, STATUS_NO_MEMORY, "no memory to read '%s', %zu bytes", path, room);
}

int file_open_unnamed(const char *directory)
{
    char path[PATH_MAX];
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) {
        return fd;
    }
    /* a file system without such files */
    if (snprintf(path, sizeof path, "%s/%sXXXXXX", directory, hidden_prefix) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) {
        unlink(path);
    }
    return fd;
}

enum status file_read(const char *path, size_t bytes_max, char **ret_bytes, size_t *ret_length, struct error *error)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(error, errno, "open '%s'", path);
    }
    struct stat facts;
    enum status status;
    if (fstat(fd, &facts) != 0) {
        status = error_set_errno(error, errno, "fstat '%s'", path);
    } else if (!S_ISREG(facts.st_mode)) {
        status = error_set(error, STATUS_INVALID, "'%s' is not a regular file", path);
    } else if ((uint64_t)facts.st_size > bytes_max) {
        status = error_set(error, STATUS_TOO_LARGE, "'%s': %lld bytes, at most %zu", path, (long long)facts.st_size,
                           bytes_max);
    } else {
        status = read_to_end(fd, path, (size_t)facts.st_size, bytes_max, ret_bytes, ret_length, error);
    }
    close(fd);
    return status;
}
