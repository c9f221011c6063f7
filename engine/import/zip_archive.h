/* Zip archives in memory, as model files of one: entries by name. Thread: the one that imports. */
#ifndef ENGINE_IMPORT_ZIP_ARCHIVE_H
#define ENGINE_IMPORT_ZIP_ARCHIVE_H

#include "engine/import/foreign.h"

enum { ZIP_ARCHIVE_ENTRIES_MAX = 20000 };

struct zip_archive {
    struct zip *zip; /* libzip's; owned */
    const char *name;
    struct foreign_model *model;
};

/* Opens what is in memory; bytes and `name`, which errors begin with, are borrowed until it is closed. CORRUPT, LIMIT
 * above ZIP_ARCHIVE_ENTRIES_MAX. */
enum status zip_archive_open(const void *bytes, size_t length, const char *name, struct foreign_model *model,
                             struct zip_archive *ret_archive, struct error *error) MUST_CHECK;
void zip_archive_close(struct zip_archive *archive);

/* The name of an entry, or NULL behind the last. */
const char *zip_archive_entry(const struct zip_archive *archive, size_t index);

/* An entry's content, in the model's arena, which bounds what a small archive can grow to. NOT_FOUND, CORRUPT. */
enum status zip_archive_read(const struct zip_archive *archive, const char *entry, const unsigned char **ret_bytes,
                             size_t *ret_length, struct error *error) MUST_CHECK;

#endif
