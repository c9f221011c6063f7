/* A version as one file, for other programs or another lstmd. Thread: loader, run threads, main; never the loop. */
#ifndef ENGINE_MODEL_MODEL_EXPORT_H
#define ENGINE_MODEL_MODEL_EXPORT_H

#include "engine/base/status.h"

enum export_format {
    EXPORT_ONNX,        /* a model that makes text, one step or a sequence (engine/export/onnx_write.h) */
    EXPORT_SAFETENSORS, /* weights.safetensors, with "architecture" and "vocabulary" as metadata */
    EXPORT_TAR,         /* the version's files as they are, manifest.json among them */
    EXPORT_FORMAT_COUNT,
};

/* "onnx", "safetensors", "tar"; and its Content-Type. */
const char *export_format_name(enum export_format format);
const char *export_format_media_type(enum export_format format);
/* Finds a format by its name. INVALID names those there are. */
enum status export_format_find(const char *name, enum export_format *ret_format, struct error *error) MUST_CHECK;

/* Reads and verifies the version in directory `path` and makes the file's bytes: free with mem_free. `name` is what the
 * file calls it: "moby@3". Errors of snapshot_load; UNPROCESSABLE, code "no_language_model" or "not_packed", where
 * ONNX has no form for the graph; TOO_LARGE, NO_MEMORY. */
enum status model_export(const char *path, const char *name, enum export_format format, void **ret_bytes,
                         size_t *ret_length, struct error *error) MUST_CHECK;

#endif
