/* The manifest of a version, for engine/store only: read from JSON and made from files. Thread: any. */
#ifndef ENGINE_STORE_VERSION_DIRECTORY_MANIFEST_H
#define ENGINE_STORE_VERSION_DIRECTORY_MANIFEST_H

#include <stdint.h>

#include "engine/store/version_directory.h"

/* A file as the manifest lists it. */
struct listed_file {
    const char *name; /* lives in the manifest */
    uint64_t bytes;
    const char *sha256; /* 64 hex digits; lives in the manifest */
};

/* Fills `error`, naming the file in its message and as error->param, with this code. Returns `status`. */
enum status version_refuse(struct error *error, enum status status, const char *code, const char *name,
                           const char *format, ...) PRINTF_LIKE(5, 6);

/* Whether a file of a version may be called that (see struct version_file). */
bool version_file_name_is_good(const char *name);

/* Parses manifest.json. Errors as version_read's. `ret_manifest` is a new reference that `ret_files` points into. */
enum status manifest_parse(const char *text, size_t length, json_t **ret_manifest,
                           struct listed_file ret_files[VERSION_FILES_MAX], size_t *ret_count,
                           struct error *error) MUST_CHECK;

/* Makes the text of manifest.json. Errors as version_write's. Free *ret_text with mem_free. */
enum status manifest_format(const struct version_file *files, size_t count, const json_t *manifest, char **ret_text,
                            size_t *ret_length, struct error *error) MUST_CHECK;

#endif
