/* Paths that requests give: only below the directories that a setting lists. Thread: any but the loop: it reads
 * directories. */
#ifndef DAEMON_ALLOWED_PATHS_H
#define DAEMON_ALLOWED_PATHS_H

#include <limits.h>
#include <stdbool.h>

/* What the absolute path `given` leads to, symbolic links followed, if that is, or is below, one of `roots` (a list
 * setting). A name that is not there counts as one of its directory, so that it may be the prefix of several. */
bool path_find_allowed(const char *roots, const char *given, char path[PATH_MAX]);

#endif
