/* A model from what an importing process handed over. Thread: run threads, main. */
#ifndef ENGINE_MODEL_MODEL_IMPORT_H
#define ENGINE_MODEL_MODEL_IMPORT_H

#include "engine/import/importer.h"
#include "engine/model/model.h"

/* Builds the reply's program and gives every variable its value. The reply is a stranger's: CORRUPT names what is not
 * of its form or what is missing, the errors of program and weights are those of a build and a load. One reference. */
enum status model_create_imported(const char *name, const struct import_reply *reply, struct model **ret_model,
                                  struct error *error) MUST_CHECK;

/* Whether the reply is no foreign model but a version of lstmd's own. */
bool import_reply_is_version(const struct import_reply *reply);

/* Checks such a reply as a version that is loaded, and writes it as the next of `model_directory`, manifest and all.
 * Errors as version_take, snapshot_load and version_write. */
enum status model_write_imported(const char *model_directory, const struct import_reply *reply, uint64_t *ret_version,
                                 struct error *error) MUST_CHECK;

#endif
