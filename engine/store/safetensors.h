/* safetensors files: named tensors in one file. Thread: loader, trainer, run threads.
 *
 * 1. 8 bytes: little-endian N, at most SAFETENSORS_HEADER_BYTES_MAX
 * 2. N bytes of JSON, beginning with '{':
 *    {"name":{"dtype":"F32","shape":[2,3],"data_offsets":[begin,end]},…,"__metadata__":{"key":"text",…}}
 * 3. the data, row-major and little-endian, contiguous and without holes; the offsets are relative to its beginning
 *
 * Source: huggingface/safetensors, README "Format". */
#ifndef ENGINE_STORE_SAFETENSORS_H
#define ENGINE_STORE_SAFETENSORS_H

#include "engine/base/arena.h"
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
    const struct named_tensor **by_name; /* [count], sorted, for safetensors_find */
    struct arena arena;                  /* everything but what lies in the file's bytes */
};

/* Parses a whole file in memory. The tensors' data lies in `bytes`, which must outlive them, aligned for their dtype at
 * least (what a foreign writer did not align so is copied). CORRUPT names the tensor and the numbers that disagree
 * (offsets out of bounds, overlaps, holes, dtype × shape ≠ bytes, duplicate names, header too long, invalid JSON, a
 * BOOL that is neither 0 nor 1). UNSUPPORTED for a dtype we do not hold (BF16, F16 …), named, and for a rank above
 * SHAPE_RANK_MAX. LIMIT above SAFETENSORS_TENSORS_MAX. */
enum status safetensors_parse(const void *bytes, size_t length, struct safetensors *ret_tensors,
                              struct error *error) MUST_CHECK;

/* Writes entries in the order given (at most SAFETENSORS_TENSORS_MAX, else LIMIT), header padded with spaces to 8
 * bytes, to a new block: free with mem_free. Same entries, same bytes. INVALID for two of one name, a name that is not
 * UTF-8, and "__metadata__". */
enum status safetensors_format(const struct named_tensor *entries, size_t count, void **ret_bytes, size_t *ret_length,
                               struct error *error) MUST_CHECK;

/* What stands before the data of such a file, for a writer that makes the tensors one after another: their data is not
 * looked at. `ret_data_bytes` is how much is to follow. */
enum status safetensors_format_header(const struct named_tensor *entries, size_t count, void **ret_bytes,
                                      size_t *ret_length, size_t *ret_data_bytes, struct error *error) MUST_CHECK;

/* The tensor of that name, or NULL. It lives as long as `tensors`. */
const struct tensor *safetensors_find(const struct safetensors *tensors, const char *name);

/* Frees the tensors and empties the struct; one that is all zeroes is allowed. */
void safetensors_release(struct safetensors *tensors);

#endif
