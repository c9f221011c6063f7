/* A version's weights as a safetensors file that explains itself. Thread: any but the loop. */
#ifndef ENGINE_EXPORT_SAFETENSORS_WRITE_H
#define ENGINE_EXPORT_SAFETENSORS_WRITE_H

#include <jansson.h>

#include "engine/base/status.h"

/* The safetensors file `file` again, with `metadata` (a flat object of texts) as its "__metadata__". New block: free
 * with mem_free. CORRUPT where it is no such file; NO_MEMORY. */
enum status safetensors_write_metadata(const void *file, size_t file_length, const json_t *metadata, void **ret_bytes,
                                       size_t *ret_length, struct error *error) MUST_CHECK;

#endif
