/* The files that a list of paths stands for. Plain value that owns its strings. Thread: any. */
#ifndef ENGINE_TRAIN_TEXT_FILES_H
#define ENGINE_TRAIN_TEXT_FILES_H

#include <stddef.h>

#include "engine/base/status.h"

enum { TEXT_FILES_MAX = 10000, TEXT_FILES_DEPTH_MAX = 16 };

struct text_files {
    char **paths;
    size_t count;
    size_t count_max;
};

/* In the order of `paths`: a file is itself, "-" (standard input) too; a directory is all regular files below it, at
 * any depth, by path in the order of its bytes, but for hidden ones (".name") and symbolic links, which are not
 * followed there. NOT_FOUND and IO name the path; INVALID for a directory without files and for "-" twice; LIMIT above
 * TEXT_FILES_MAX files or TEXT_FILES_DEPTH_MAX directories in one another. Release with text_files_release. */
enum status text_files_list(const char *const *paths, size_t count, struct text_files *ret_files,
                            struct error *error) MUST_CHECK;
/* Files of zeroes are allowed. */
void text_files_release(struct text_files *files);

#endif
