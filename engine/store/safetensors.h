/* safetensors files: named tensors in one file. Thread: loader, trainer, run threads.
 * Format: 8 bytes little-endian N, N bytes of JSON
 * {"name":{"dtype","shape","data_offsets":[begin,end]},…,"__metadata__":{}}, then the data, contiguous and without
 * holes, offsets relative to its beginning. Source: huggingface/safetensors, README "Format". */
#ifndef ENGINE_STORE_SAFETENSORS_H
#define ENGINE_STORE_SAFETENSORS_H

#include "engine/math/tensor.h"

enum { SAFETENSORS_HEADER_BYTES_MAX = 100 << 20, SAFETENSORS_TENSORS_MAX = 100000 };

struct named_tensor {
    const char *name;
    struct tensor tensor;
};

/* What a file held. Owned: safetensors_release. */
struct safetensors {
    struct named_tensor *entries; /* in order of data offset */
    size_t count;
};

/* Parses a whole file in memory and copies its tensors out. CORRUPT names the tensor and the numbers that disagree
 * (offsets out of bounds, overlaps, holes, dtype × shape ≠ bytes, duplicate names, header too long, invalid JSON).
 * UNSUPPORTED for a dtype we do not hold (BF16, F16 …), named. */
enum status safetensors_parse(const void *bytes, size_t length, struct safetensors *ret_tensors,
                              struct error *error) MUST_CHECK;

/* Writes entries in the order given (at most SAFETENSORS_TENSORS_MAX), header padded with spaces to 8 bytes, to a new
 * malloced-by-us block: free with mem_free. Same entries, same bytes. */
enum status safetensors_format(const struct named_tensor *entries, size_t count, void **ret_bytes, size_t *ret_length,
                               struct error *error) MUST_CHECK;

/* The tensor of that name, or NULL. */
const struct tensor *safetensors_find(const struct safetensors *tensors, const char *name);
void safetensors_release(struct safetensors *tensors);

#endif
