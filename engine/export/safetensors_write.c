/* Rewriting the header of a safetensors file. Thread: any but the loop. */
#include "engine/export/safetensors_write.h"

#include <string.h>

#include "engine/base/mem.h"

enum { LENGTH_BYTES = 8, ALIGNMENT_BYTES = 8 };

/* The header's text with metadata; the caller frees it with free. NULL: it is none, or no memory. */
static char *make_header(const char *text, size_t length, const json_t *metadata)
{
    json_t *header = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    bool is_set = json_is_object(header) && json_object_set_new(header, "__metadata__", json_deep_copy(metadata)) == 0;
    char *made = is_set ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    return made;
}

enum status safetensors_write_metadata(const void *file, size_t file_length, const json_t *metadata, void **ret_bytes,
                                       size_t *ret_length, struct error *error)
{
    uint64_t old_bytes = 0;
    const char *old = file;
    memcpy(&old_bytes, file, file_length < LENGTH_BYTES ? 0 : LENGTH_BYTES);
    if (file_length < LENGTH_BYTES || old_bytes > file_length - LENGTH_BYTES) {
        return error_set(error, STATUS_CORRUPT, "%zu bytes hold no header of safetensors", file_length);
    }
    char *header = make_header(old + LENGTH_BYTES, old_bytes, metadata);
    if (header == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a header of %llu bytes",
                         (unsigned long long)old_bytes);
    }
    size_t data_bytes = file_length - LENGTH_BYTES - old_bytes;
    size_t header_bytes = strlen(header);
    uint64_t padded_bytes = (header_bytes / ALIGNMENT_BYTES + 1) * ALIGNMENT_BYTES;
    size_t length = LENGTH_BYTES + padded_bytes + data_bytes;
    char *bytes = mem_allocate(length, 1);
    if (bytes == NULL) {
        free(header);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a file of %zu bytes", length);
    }
    memcpy(bytes, &padded_bytes, LENGTH_BYTES);
    memcpy(bytes + LENGTH_BYTES, header, header_bytes + 1);
    memset(bytes + LENGTH_BYTES + header_bytes, ' ', padded_bytes - header_bytes);
    memcpy(bytes + LENGTH_BYTES + padded_bytes, old + LENGTH_BYTES + old_bytes, data_bytes);
    free(header);
    *ret_bytes = bytes;
    *ret_length = length;
    return STATUS_OK;
}
