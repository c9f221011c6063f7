/* Writing versions: stage a hidden directory, make it durable, rename it into place. Thread: loader, run, trainer
 * threads; no state. Owns the hidden directory until it is renamed, and locks it so that no sweep takes it. */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/store/version_directory.h"
#include "engine/store/version_directory_files.h"
#include "engine/store/version_directory_manifest.h"

enum { PUBLISH_ATTEMPTS_MAX = 1000, VERSION_NAME_BYTES = 24 };

/* What is to be written, where, and how far it is. */
struct staging {
    const struct version_file *files;
    size_t count;
    const char *manifest;
    size_t manifest_bytes;
    int parent_fd;
    const char *parent; /* for messages */
    char hidden[HIDDEN_NAME_BYTES];
};

static enum status fill(const struct staging *staging, int fd, struct error *error)
{
    if (flock(fd, LOCK_EX) != 0) {
        return error_set_errno(error, errno, "lock '%s/%s'", staging->parent, staging->hidden);
    }
    for (size_t i = 0; i < staging->count; i++) {
        const struct version_file *file = &staging->files[i];
        TRY(file_create_at(fd, file->name, file->bytes, file->length, error));
    }
    TRY(file_create_at(fd, version_manifest_name, staging->manifest, staging->manifest_bytes, error));
    return directory_sync(fd, staging->hidden, error);
}

/* What is staged and not wanted goes; what cannot be removed now is swept by a later write. */
static void discard(const struct staging *staging)
{
    tree_remove_at(staging->parent_fd, staging->hidden, NULL);
}

/* Makes the hidden directory whole and durable. `ret_fd` holds its lock; the caller closes it. */
static enum status stage(struct staging *staging, int *ret_fd, struct error *error)
{
    directory_sweep(staging->parent_fd);
    hidden_name(staging->hidden);
    if (mkdirat(staging->parent_fd, staging->hidden, 0777) != 0) {
        return error_set_errno(error, errno, "make directory '%s/%s'", staging->parent, staging->hidden);
    }
    int fd = openat(staging->parent_fd, staging->hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    enum status status = fd < 0 ? error_set_errno(error, errno, "open '%s/%s'", staging->parent, staging->hidden)
                                : fill(staging, fd, error);
    if (status != STATUS_OK) {
        discard(staging);
        if (fd >= 0) {
            close(fd);
        }
        return status;
    }
    *ret_fd = fd;
    return STATUS_OK;
}

/* File systems that know no flags of renames (NFS, CIFS, 9p, ZFS before 2.2), and kernels, say so in several ways. */
static bool lacks_flags(int failure)
{
    return failure == EINVAL || failure == ENOSYS || failure == EOPNOTSUPP;
}

/* Renames without replacing. A file system that cannot say so still refuses to replace a directory that holds
 * anything. */
static int rename_new(int parent_fd, const char *from, const char *to)
{
    int result = renameat2(parent_fd, from, parent_fd, to, RENAME_NOREPLACE);
    if (result != 0 && lacks_flags(errno)) {
        result = renameat(parent_fd, from, parent_fd, to);
    }
    return result != 0 ? errno : 0;
}

/* Whether a rename failed because something has that name. */
static bool is_taken(int failure)
{
    return failure == EEXIST || failure == ENOTEMPTY || failure == ENOTDIR;
}

/* Renames the staged directory to the first free number from `version` on. */
static enum status publish_next(const struct staging *staging, uint64_t version, uint64_t *ret_version,
                                struct error *error)
{
    for (int attempt = 0; attempt < PUBLISH_ATTEMPTS_MAX && version <= VERSION_NUMBER_MAX; attempt++, version++) {
        char name[VERSION_NAME_BYTES];
        snprintf(name, sizeof name, "%" PRIu64, version);
        int failure = rename_new(staging->parent_fd, staging->hidden, name);
        if (is_taken(failure)) {
            continue;
        }
        if (failure != 0) {
            return error_set_errno(error, failure, "rename '%s/%s' to version %" PRIu64, staging->parent,
                                   staging->hidden, version);
        }
        enum status status = directory_sync(staging->parent_fd, staging->parent, error);
        if (status != STATUS_OK) {
            renameat(staging->parent_fd, name, staging->parent_fd, staging->hidden); /* back, to be discarded */
            return status;
        }
        *ret_version = version;
        return STATUS_OK;
    }
    return error_set(error, STATUS_LIMIT, "'%s': no free version number up to %" PRIu64 ", at most %d", staging->parent,
                     version - 1, VERSION_NUMBER_MAX);
}

/* The number above the highest there is. */
static enum status next_version(const char *model_path, uint64_t *ret_version, struct error *error)
{
    uint64_t *versions = NULL;
    size_t count = 0;
    TRY(version_list(model_path, &versions, &count, error));
    *ret_version = count == 0 ? 1 : versions[count - 1] + 1;
    mem_free(versions);
    return STATUS_OK;
}

static enum status write_next(struct staging *staging, uint64_t *ret_version, struct error *error)
{
    uint64_t version = 0;
    int fd = -1;
    TRY(next_version(staging->parent, &version, error));
    TRY(stage(staging, &fd, error));
    enum status status = publish_next(staging, version, ret_version, error);
    if (status != STATUS_OK) {
        discard(staging);
    }
    close(fd);
    return status;
}

/* Into the directory `staging->parent`, which is made where it is missing. */
static enum status write_staging(struct staging *staging, uint64_t *ret_version, struct error *error)
{
    size_t made_bytes;
    enum status status = directory_make(staging->parent, &made_bytes, error);
    if (status == STATUS_OK) {
        status = directory_open(staging->parent, &staging->parent_fd, error);
    }
    if (status == STATUS_OK) {
        status = write_next(staging, ret_version, error);
        close(staging->parent_fd);
    }
    if (status != STATUS_OK) {
        directory_unmake(staging->parent, made_bytes);
    }
    return status;
}

enum status version_write(const char *model_path, const struct version_file *files, size_t count,
                          const json_t *manifest, uint64_t *ret_version, struct error *error)
{
    struct staging staging = {.files = files, .count = count, .parent_fd = -1, .parent = model_path};
    char *text = NULL;
    TRY(manifest_format(files, count, manifest, &text, &staging.manifest_bytes, error));
    staging.manifest = text;
    enum status status = write_staging(&staging, ret_version, error);
    mem_free(text);
    return status;
}

enum status version_write_again(const char *model_path, const struct version_files *version, uint64_t *ret_version,
                                struct error *error)
{
    struct staging staging = {.files = version->files,
                              .count = version->count,
                              .manifest = version->text.bytes,
                              .manifest_bytes = version->text.length,
                              .parent_fd = -1,
                              .parent = model_path};
    return write_staging(&staging, ret_version, error);
}

/* ---- replacing ---- */

/* The old one moves aside, the new one into its place. Between the two it is found aside (version_find), where it stays
 * until the new one is durable. What another writer left aside when it was killed is older than what is in place. */
static int exchange_by_steps(const struct staging *staging, const char *name, const char *aside)
{
    int fd = staging->parent_fd;
    int failure = rename_new(fd, staging->hidden, name);
    for (int attempt = 0; attempt < PUBLISH_ATTEMPTS_MAX && is_taken(failure); attempt++) {
        tree_drop_at(fd, aside);
        if (renameat(fd, name, fd, aside) != 0 && errno != ENOENT) {
            return errno;
        }
        failure = rename_new(fd, staging->hidden, name);
    }
    if (failure != 0) {
        (void)rename_new(fd, aside, name); /* else it is found where it is */
    }
    return failure;
}

/* Puts the staged directory at `name`. Whatever was there has the hidden name afterwards, or is aside. */
static int exchange(const struct staging *staging, const char *name, const char *aside)
{
    int failure = EAGAIN;
    for (int attempt = 0; attempt < PUBLISH_ATTEMPTS_MAX; attempt++) {
        if (renameat2(staging->parent_fd, staging->hidden, staging->parent_fd, name, RENAME_EXCHANGE) == 0) {
            return 0;
        }
        if (lacks_flags(errno)) {
            return exchange_by_steps(staging, name, aside);
        }
        if (errno != ENOENT) {
            return errno;
        }
        failure = rename_new(staging->parent_fd, staging->hidden, name);
        if (!is_taken(failure)) {
            return failure;
        }
    }
    return failure;
}

static enum status replace_in(struct staging *staging, const char *name, struct error *error)
{
    int fd = -1;
    char aside[ASIDE_NAME_BYTES];
    aside_name(name, aside);
    TRY(stage(staging, &fd, error));
    enum status status = STATUS_OK;
    int failure = exchange(staging, name, aside);
    if (failure != 0) {
        status = error_set_errno(error, failure, "put a new directory in place of '%s/%s'", staging->parent, name);
    } else {
        status = directory_sync(staging->parent_fd, staging->parent, error);
    }
    discard(staging); /* the old one, or ours that could not take its place */
    if (status == STATUS_OK) {
        tree_drop_at(staging->parent_fd, aside);
    }
    close(fd);
    return status;
}

enum status version_replace(const char *path, const struct version_file *files, size_t count, const json_t *manifest,
                            struct error *error)
{
    struct place place;
    TRY(place_split(path, &place, error));
    struct staging staging = {.files = files, .count = count, .parent_fd = -1, .parent = place.parent};
    char *text = NULL;
    size_t made_bytes;
    TRY(manifest_format(files, count, manifest, &text, &staging.manifest_bytes, error));
    staging.manifest = text;
    enum status status = directory_make(place.parent, &made_bytes, error);
    if (status == STATUS_OK) {
        status = directory_open(place.parent, &staging.parent_fd, error);
    }
    if (status == STATUS_OK) {
        status = replace_in(&staging, place.name, error);
        close(staging.parent_fd);
    }
    if (status != STATUS_OK) {
        directory_unmake(place.parent, made_bytes);
    }
    mem_free(text);
    return status;
}

/* The one aside first: alone it would be found again. */
enum status version_remove(const char *path, struct error *error)
{
    struct place place;
    char aside[ASIDE_NAME_BYTES];
    int fd = -1;
    TRY(place_split(path, &place, error));
    TRY(directory_open(place.parent, &fd, error));
    aside_name(place.name, aside);
    tree_drop_at(fd, aside);
    close(fd);
    return directory_remove(path, error);
}

enum status model_directory_stage(const char *models_path, char path[MODEL_DIRECTORY_PATH_BYTES], struct error *error)
{
    char hidden[HIDDEN_NAME_BYTES];
    int fd = -1;
    TRY(directory_open(models_path, &fd, error));
    directory_sweep(fd);
    close(fd);
    hidden_name(hidden);
    if (snprintf(path, MODEL_DIRECTORY_PATH_BYTES, "%s/%s", models_path, hidden) >= MODEL_DIRECTORY_PATH_BYTES) {
        return error_set(error, STATUS_TOO_LARGE, "the path '%.100s…' is too long", models_path);
    }
    return STATUS_OK;
}

enum status model_directory_publish(const char *staged_path, const char *path, struct error *error)
{
    struct place staged;
    struct place place;
    int fd = -1;
    TRY(place_split(staged_path, &staged, error));
    TRY(place_split(path, &place, error));
    TRY(directory_open(place.parent, &fd, error));
    int failure = rename_new(fd, staged.name, place.name);
    enum status status = STATUS_OK;
    if (is_taken(failure)) {
        error_set(error, STATUS_CONFLICT, "model %s exists already", place.name);
        status = error_code(error, "model_exists");
    } else if (failure != 0) {
        status = error_set_errno(error, failure, "rename '%s' to '%s'", staged_path, path);
    } else {
        status = directory_sync(fd, place.parent, error);
    }
    close(fd);
    return status;
}
