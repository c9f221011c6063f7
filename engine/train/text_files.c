/* Walking directories. */
#include "engine/train/text_files.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/mem.h"

static enum status add(struct text_files *files, const char *path, struct error *error)
{
    if (files->count == TEXT_FILES_MAX) {
        return error_set(error, STATUS_LIMIT, "%s: more than %d files", path, TEXT_FILES_MAX);
    }
    if (files->count == files->count_max) {
        size_t room = 2 * files->count + 16;
        char **paths = mem_reallocate(files->paths, room, sizeof *paths);
        if (!paths) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for a list of files");
        }
        files->paths = paths;
        files->count_max = room;
    }
    char *copy = mem_copy_string(path);
    if (!copy) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a list of files");
    }
    files->paths[files->count++] = copy;
    return STATUS_OK;
}

static enum status walk(struct text_files *files, const char *path, int depth, struct error *error);

/* Takes one entry of a directory. */
static enum status visit(struct text_files *files, const char *directory, const char *name, int depth,
                         struct error *error)
{
    char path[PATH_MAX];
    struct stat info;
    size_t length = strlen(directory);
    const char *slash = length > 0 && directory[length - 1] == '/' ? "" : "/";
    if (snprintf(path, sizeof path, "%s%s%s", directory, slash, name) >= (int)sizeof path) {
        return error_set(error, STATUS_LIMIT, "%s: a path in it has more than %d bytes", directory, PATH_MAX - 1);
    }
    if (lstat(path, &info) != 0) {
        int reason = errno;
        return error_set_errno(error, reason, "look at %s", path);
    }
    if (S_ISDIR(info.st_mode)) {
        return walk(files, path, depth + 1, error);
    }
    return S_ISREG(info.st_mode) ? add(files, path, error) : STATUS_OK;
}

static enum status walk(struct text_files *files, const char *path, int depth, struct error *error)
{
    if (depth > TEXT_FILES_DEPTH_MAX) {
        return error_set(error, STATUS_LIMIT, "%s: more than %d directories in one another", path,
                         TEXT_FILES_DEPTH_MAX);
    }
    DIR *directory = opendir(path);
    int reason = errno;
    if (!directory) {
        return error_set_errno(error, reason, "open directory %s", path);
    }
    enum status status = STATUS_OK;
    const struct dirent *entry;
    while (status == STATUS_OK && (entry = readdir(directory)) != NULL) { /* a stream of this call's own */
        status = entry->d_name[0] == '.' ? STATUS_OK : visit(files, path, entry->d_name, depth, error);
    }
    closedir(directory);
    return status;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum status list_one(struct text_files *files, const char *path, struct error *error)
{
    struct stat info;
    bool is_input = strcmp(path, "-") == 0;
    for (size_t i = 0; is_input && i < files->count; i++) {
        if (strcmp(files->paths[i], path) == 0) {
            return error_set(error, STATUS_INVALID, "standard input ('-') can be read only once");
        }
    }
    if (is_input || stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return add(files, path, error); /* who opens it says what is wrong */
    }
    size_t begin = files->count;
    TRY(walk(files, path, 1, error));
    if (files->count == begin) {
        return error_set(error, STATUS_INVALID, "%s: no files are in this directory", path);
    }
    qsort(files->paths + begin, files->count - begin, sizeof *files->paths, compare_paths);
    return STATUS_OK;
}

enum status text_files_list(const char *const *paths, size_t count, struct text_files *ret_files, struct error *error)
{
    struct text_files files = {.paths = NULL};
    for (size_t i = 0; i < count; i++) {
        enum status status = list_one(&files, paths[i], error);
        if (status != STATUS_OK) {
            if (error) {
                snprintf(error->param, sizeof error->param, "%s", paths[i]);
            }
            text_files_release(&files);
            return status;
        }
    }
    *ret_files = files;
    return STATUS_OK;
}

void text_files_release(struct text_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        mem_free(files->paths[i]);
    }
    mem_free(files->paths);
    *files = (struct text_files){.paths = NULL};
}
