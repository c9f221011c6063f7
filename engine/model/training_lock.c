/* A file lock (flock) that outlives no process. */
#include "engine/model/training_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/store/version_directory_files.h"

enum {
    PATH_BYTES_MAX = 4096,
    LOCK_PATH_BYTES = PATH_BYTES_MAX + 32,
    TRIES = 10,
    LOOK_MS = 2 /* longer than somebody looks who is there */
};

struct training_lock {
    char directory[PATH_BYTES_MAX];
    char path[LOCK_PATH_BYTES];
    size_t made_bytes; /* as directory_make has it */
    int file;
};

static void lock_path(const char *directory, char path[LOCK_PATH_BYTES])
{
    snprintf(path, LOCK_PATH_BYTES, "%.*s/.training.lock", PATH_BYTES_MAX, directory);
}

/* Whoever held the lock before may have unlinked the file between our open and our lock. */
static bool is_current(const struct training_lock *lock, int file)
{
    struct stat ours;
    struct stat there;
    return fstat(file, &ours) == 0 && stat(lock->path, &there) == 0 && ours.st_ino == there.st_ino &&
           ours.st_dev == there.st_dev;
}

static enum status lock_file(struct training_lock *lock, struct error *error)
{
    for (int i = 0; i < TRIES; i++) {
        int file = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        int number = errno;
        if (file < 0) {
            return error_set_errno(error, number, "open '%s'", lock->path);
        }
        if (flock(file, LOCK_EX | LOCK_NB) != 0) {
            number = errno;
            close(file);
            if (number != EWOULDBLOCK) { /* a file system without locks */
                return error_set_errno(error, number, "lock '%s'", lock->path);
            }
            usleep(LOOK_MS * 1000);
            continue;
        }
        if (is_current(lock, file)) {
            lock->file = file;
            return STATUS_OK;
        }
        close(file);
    }
    error_set(error, STATUS_CONFLICT, "%s: another process is training there", lock->directory);
    return error_code(error, "training_locked"), STATUS_CONFLICT;
}

bool training_lock_is_held(const char *directory)
{
    char path[LOCK_PATH_BYTES];
    lock_path(directory, path);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    bool is_held = file >= 0 && flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (file >= 0) {
        close(file);
    }
    return is_held;
}

enum status training_lock_take(const char *directory, struct training_lock **ret_lock, struct error *error)
{
    size_t length = strlen(directory);
    while (length > 1 && directory[length - 1] == '/') {
        length--;
    }
    if (length == 0 || length >= PATH_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "a model directory's path has 1 to %d bytes, not %zu",
                         PATH_BYTES_MAX - 1, length);
    }
    struct training_lock *lock = mem_allocate(1, sizeof *lock);
    if (!lock) {
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory", directory);
    }
    lock->file = -1;
    memcpy(lock->directory, directory, length);
    lock_path(lock->directory, lock->path);
    enum status status = directory_make(lock->directory, &lock->made_bytes, error);
    if (status == STATUS_OK) {
        status = lock_file(lock, error);
    }
    if (status != STATUS_OK) {
        training_lock_release(lock);
        return status;
    }
    *ret_lock = lock;
    return STATUS_OK;
}

void training_lock_release(struct training_lock *lock)
{
    if (!lock) {
        return;
    }
    if (lock->file >= 0) {
        unlink(lock->path);
        close(lock->file);
    }
    directory_unmake(lock->directory, lock->made_bytes);
    mem_free(lock);
}
