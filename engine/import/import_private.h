/* The reply of the reading process as JSON, for the files that write and read it. */
#ifndef ENGINE_IMPORT_IMPORT_PRIVATE_H
#define ENGINE_IMPORT_IMPORT_PRIVATE_H

#include "engine/import/importer.h"

enum { IMPORT_MAGIC_BYTES = 8 };
extern const char import_magic[IMPORT_MAGIC_BYTES];

/* What was understood; with `looks_only` also what was read, and the problem if its status is not OK. NULL: no memory.
 * Names that are not UTF-8 are shown with U+FFFD. */
json_t *import_facts_json(const struct foreign_model *model, const struct understanding *understanding, bool looks_only,
                          const struct error *problem) MUST_CHECK;
/* A name of the source's; what is no UTF-8 in it becomes U+FFFD. NULL: no memory. */
json_t *import_text_json(const char *text) MUST_CHECK;
json_t *import_error_json(const struct error *error) MUST_CHECK;

#endif
