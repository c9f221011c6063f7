/* safetensors of other programs: like ours (engine/store/safetensors.h), but of any dtype, BF16 too, with metadata that
 * may say something. Thread: the one that imports. */
#include <jansson.h>

#include "engine/import/readers.h"

#define METADATA "__metadata__"
enum { LENGTH_BYTES = 8, HEADER_BYTES_MAX = 100 << 20 };

/* A length that leaves room for the data, then the beginning of an object. */
bool safetensors_recognise(const struct source_file *file)
{
    unsigned char head[SOURCE_HEAD_BYTES];
    uint64_t header_bytes = 0;
    size_t length = foreign_source_peek(file, 0, head);
    memcpy(&header_bytes, head, length < LENGTH_BYTES ? 0 : LENGTH_BYTES);
    return length > LENGTH_BYTES && head[LENGTH_BYTES] == '{' && header_bytes >= 2 &&
           header_bytes <= file->bytes - LENGTH_BYTES;
}

static const struct {
    const char *name;
    enum dtype dtype;
} dtypes[] = {
    {"F32", DTYPE_FLOAT32}, {"F64", DTYPE_FLOAT64}, {"F16", DTYPE_FLOAT16}, {"I64", DTYPE_INT64},  {"I32", DTYPE_INT32},
    {"I16", DTYPE_INT16},   {"I8", DTYPE_INT8},     {"U8", DTYPE_UINT8},    {"U16", DTYPE_UINT16}, {"BOOL", DTYPE_BOOL},
};

/* What lies between two offsets of the data. */
static enum status find_data(const char *name, const json_t *entry, const unsigned char *data, size_t data_bytes,
                             const unsigned char **ret_data, size_t *ret_length, struct error *error)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0);
    const json_t *last = json_array_get(offsets, 1);
    json_int_t begin = json_integer_value(first);
    json_int_t end = json_integer_value(last);
    if (!json_is_integer(first) || !json_is_integer(last) || begin < 0 || end < begin || (uint64_t)end > data_bytes) {
        return error_set(error, STATUS_CORRUPT,
                         "tensor '%.200s': data_offsets that do not lie within %zu bytes of data", name, data_bytes);
    }
    *ret_data = data + begin;
    *ret_length = (size_t)(end - begin);
    return STATUS_OK;
}

static enum status add_entry(struct foreign_model *model, const char *name, const json_t *entry,
                             const unsigned char *data, size_t data_bytes, struct error *error)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *dimensions = json_object_get(entry, "shape");
    size_t length = 0;
    struct shape shape = {.rank = 0};
    if (dtype == NULL || !json_is_array(dimensions)) {
        return error_set(error, STATUS_CORRUPT, "tensor '%.200s' has no dtype or no shape", name);
    }
    for (size_t i = 0; i < json_array_size(dimensions); i++) {
        const json_t *dimension = json_array_get(dimensions, i);
        TRY(foreign_add_dimension(&shape, name, json_is_integer(dimension) ? json_integer_value(dimension) : -1,
                                  error));
    }
    TRY(find_data(name, entry, data, data_bytes, &data, &length, error));
    if (strcmp(dtype, "BF16") == 0) {
        return foreign_add_bfloat16(model, name, &shape, data, length, error);
    }
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtype, dtypes[i].name) == 0) {
            return foreign_add_tensor(model, name, dtypes[i].dtype, &shape, data, length, error);
        }
    }
    model->skipped_count++;
    return STATUS_OK;
}

/* Tensors that share their memory are kept once, and the others' names become metadata that say which it is: torch's
 * save_model writes {"decoder.weight": "encoder.weight"}. */
static enum status add_shared(struct foreign_model *model, const json_t *header, const unsigned char *data,
                              size_t data_bytes, struct error *error)
{
    const char *name;
    json_t *value;
    json_t *metadata = json_object_get(header, METADATA);
    json_object_foreach(metadata, name, value)
    {
        const char *kept = json_string_value(value);
        const json_t *entry = kept == NULL || strcmp(kept, METADATA) == 0 ? NULL : json_object_get(header, kept);
        if (entry != NULL && json_object_get(header, name) == NULL) {
            TRY(add_entry(model, name, entry, data, data_bytes, error));
        }
    }
    return STATUS_OK;
}

/* Metadata are texts; one may be JSON that holds the symbols. */
static enum status add_metadata(struct foreign_model *model, const json_t *metadata, struct error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
    {
        const char *text = json_string_value(value);
        if (text != NULL) {
            TRY(foreign_add_metadata(model, key, text, error));
        }
    }
    return STATUS_OK;
}

enum status safetensors_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                             struct error *error)
{
    const unsigned char *bytes = NULL;
    size_t length = 0;
    uint64_t header_bytes;
    json_error_t json_error;
    const char *name;
    json_t *entry;
    enum status status = STATUS_OK;
    model->format = "safetensors";
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    memcpy(&header_bytes, bytes, sizeof header_bytes);
    if (header_bytes > HEADER_BYTES_MAX) {
        return error_set(error, STATUS_LIMIT, "%s: a header of %llu bytes, at most %d", file->name,
                         (unsigned long long)header_bytes, HEADER_BYTES_MAX);
    }
    const unsigned char *data = bytes + LENGTH_BYTES + header_bytes;
    json_t *header = json_loadb((const char *)bytes + LENGTH_BYTES, header_bytes,
                                JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &json_error);
    if (!json_is_object(header)) {
        json_decref(header);
        return error_set(error, STATUS_CORRUPT, "%s: the header is no JSON object: %s", file->name, json_error.text);
    }
    json_object_foreach(header, name, entry)
    {
        if (status == STATUS_OK && strcmp(name, METADATA) == 0) {
            status = add_metadata(model, entry, error);
        } else if (status == STATUS_OK) {
            status = add_entry(model, name, entry, data, length - LENGTH_BYTES - (size_t)header_bytes, error);
        }
    }
    if (status == STATUS_OK) {
        status = add_shared(model, header, data, length - LENGTH_BYTES - (size_t)header_bytes, error);
    }
    json_decref(header);
    return status;
}
