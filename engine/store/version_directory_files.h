/* What the version directory is made of, for engine/store only: files made and removed relative to an open directory,
 * so that nobody can swap the path underneath. Thread: as version_directory.h. */
#ifndef ENGINE_STORE_VERSION_DIRECTORY_FILES_H
#define ENGINE_STORE_VERSION_DIRECTORY_FILES_H

#include <limits.h>
#include <stddef.h>

#include "engine/base/status.h"

enum { HIDDEN_NAME_BYTES = 24, ASIDE_NAME_BYTES = NAME_MAX + 16 };

/* A path's last component and the directory that holds it. */
struct place {
    char parent[PATH_MAX];
    char name[NAME_MAX + 1];
};

/* Splits `path`. INVALID when it is empty, too long, the root, or ends in "." or "..". */
enum status place_split(const char *path, struct place *ret_place, struct error *error) MUST_CHECK;

/* Opens a directory, following symbolic links. The caller closes the descriptor. */
enum status directory_open(const char *path, int *ret_fd, struct error *error) MUST_CHECK;

/* Makes a directory and its missing parents, each made durable. `ret_made_bytes`, on failure too: the length of the
 * shortest path that was missing, for directory_unmake; 0: none. */
enum status directory_make(const char *path, size_t *ret_made_bytes, struct error *error) MUST_CHECK;

/* Removes again what directory_make made, as far as it is empty. */
void directory_unmake(const char *path, size_t made_bytes);

/* fsync. `path` is for the message. */
enum status directory_sync(int directory_fd, const char *path, struct error *error) MUST_CHECK;

/* A fresh name ".lstmd-0123456789abcdef". */
void hidden_name(char name[HIDDEN_NAME_BYTES]);

/* What a directory is called while the one that replaces it takes its place, where names cannot be exchanged:
 * ".before-NAME". No sweep takes it: it may be the only whole one. */
void aside_name(const char *name, char aside[ASIDE_NAME_BYTES]);

/* Removes what crashed writers left in a directory: hidden names of the form above, older than an hour and not locked.
 * What cannot be removed stays for the next time. */
void directory_sweep(int directory_fd);

/* Makes a new file with this content and fsyncs it. On failure no file is left. */
enum status file_create_at(int directory_fd, const char *name, const void *bytes, size_t length,
                           struct error *error) MUST_CHECK;

/* Removes a file, link, or directory with all below it. Something missing is no error. A caller that cleans up may
 * ignore the status: what is left under a hidden name is swept later. */
enum status tree_remove_at(int directory_fd, const char *name, struct error *error);

/* The same, under a hidden name: it vanishes at once, and nobody finds half of it. What cannot be removed stays. */
void tree_drop_at(int directory_fd, const char *name);

#endif
