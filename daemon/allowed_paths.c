/* Links are followed before a path is compared with the roots. Thread: see the header. */
#include "daemon/allowed_paths.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/settings.h"

/* As realpath, but the last part of the path need not be there. */
static bool resolve(const char *given, char path[PATH_MAX])
{
    const char *slash = strrchr(given, '/');
    const char *name = slash == NULL ? "" : slash + 1;
    if (given[0] != '/' || realpath(given, path) != NULL) {
        return given[0] == '/';
    }
    char folder[PATH_MAX];
    size_t length = slash == given ? 1 : (size_t)(slash - given);
    bool is_name = name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
    if (!is_name || strlen(given) >= PATH_MAX) {
        return false;
    }
    memcpy(folder, given, length);
    folder[length] = '\0';
    if (realpath(folder, path) == NULL || strlen(path) + 1 + strlen(name) >= PATH_MAX) {
        return false;
    }
    size_t end = strcmp(path, "/") == 0 ? 0 : strlen(path);
    path[end] = '/';
    memcpy(path + end + 1, name, strlen(name) + 1);
    return true;
}

bool path_find_allowed(const char *roots, const char *given, char path[PATH_MAX])
{
    char item[SETTING_TEXT_BYTES_MAX];
    char root[PATH_MAX];
    char found[PATH_MAX];
    bool is_there = resolve(given, found);
    for (size_t i = 0; is_there && settings_list_item(roots, i, item); i++) {
        size_t length = realpath(item, root) == NULL ? 0 : strlen(root);
        if (length > 0 && strncmp(found, root, length) == 0 &&
            (found[length] == '/' || found[length] == '\0' || length == 1)) {
            memcpy(path, found, sizeof found);
            return true;
        }
    }
    return false;
}
