/* Reading and writing safetensors in memory. Thread: any, on its own values. Owns what a struct safetensors holds. */
#include "engine/store/safetensors.h"

#include <jansson.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor data is copied as it is");

enum { LENGTH_BYTES = 8, ALIGNMENT_BYTES = 8 };

static const char metadata_key[] = "__metadata__";

/* A tensor as the header describes it. */
struct description {
    const char *name;
    enum dtype dtype;
    struct shape shape;
    uint64_t begin;
    uint64_t end;
};

static enum status parse_dtype(const char *name, const json_t *json, enum dtype *ret_dtype, struct error *error)
{
    if (!json_is_string(json)) {
        return error_set(error, STATUS_CORRUPT, "tensor '%s': dtype is not a string", name);
    }
    const char *text = json_string_value(json);
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        if (strcmp(dtype_safetensors_name((enum dtype)dtype), text) == 0) {
            *ret_dtype = (enum dtype)dtype;
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_UNSUPPORTED,
                     "tensor '%s': dtype '%s' is not supported (F32, F64, I32, I64, BOOL are)", name, text);
}

static enum status parse_shape(const char *name, const json_t *json, struct shape *ret_shape, struct error *error)
{
    if (!json_is_array(json)) {
        return error_set(error, STATUS_CORRUPT, "tensor '%s': shape is not a list", name);
    }
    size_t rank = json_array_size(json);
    if (rank > SHAPE_RANK_MAX) {
        return error_set(error, STATUS_UNSUPPORTED, "tensor '%s': %zu dimensions, at most %d", name, rank,
                         SHAPE_RANK_MAX);
    }
    struct shape shape = {.rank = (int)rank};
    for (size_t i = 0; i < rank; i++) {
        const json_t *dimension = json_array_get(json, i);
        if (!json_is_integer(dimension) || json_integer_value(dimension) < 0) {
            return error_set(error, STATUS_CORRUPT, "tensor '%s': dimension %zu is not a number of elements", name, i);
        }
        shape.dimensions[i] = json_integer_value(dimension);
    }
    *ret_shape = shape;
    return STATUS_OK;
}

static enum status parse_offsets(const json_t *json, uint64_t data_bytes, struct description *description,
                                 struct error *error)
{
    const json_t *begin = json_array_get(json, 0);
    const json_t *end = json_array_get(json, 1);
    if (json_array_size(json) != 2 || !json_is_integer(begin) || !json_is_integer(end)) {
        return error_set(error, STATUS_CORRUPT, "tensor '%s': data_offsets are not two numbers", description->name);
    }
    json_int_t first = json_integer_value(begin);
    json_int_t last = json_integer_value(end);
    if (first < 0 || last < first || (uint64_t)last > data_bytes) {
        return error_set(error, STATUS_CORRUPT,
                         "tensor '%s': data_offsets [%" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
                         "] do not lie within %llu bytes of data",
                         description->name, first, last, (unsigned long long)data_bytes);
    }
    description->begin = (uint64_t)first;
    description->end = (uint64_t)last;
    return STATUS_OK;
}

static enum status parse_description(const char *name, const json_t *json, uint64_t data_bytes,
                                     struct description *ret_description, struct error *error)
{
    struct description description = {.name = name};
    if (!json_is_object(json)) {
        return error_set(error, STATUS_CORRUPT, "tensor '%s': not an object", name);
    }
    TRY(parse_dtype(name, json_object_get(json, "dtype"), &description.dtype, error));
    TRY(parse_shape(name, json_object_get(json, "shape"), &description.shape, error));
    TRY(parse_offsets(json_object_get(json, "data_offsets"), data_bytes, &description, error));
    uint64_t bytes = description.end - description.begin;
    size_t count;
    if (!shape_element_count(&description.shape, &count) || count * dtype_bytes(description.dtype) != bytes) {
        char text[SHAPE_TEXT_BYTES_MAX];
        return error_set(error, STATUS_CORRUPT, "tensor '%s': %llu bytes do not hold %s of shape %s", name,
                         (unsigned long long)bytes, dtype_name(description.dtype),
                         shape_text(&description.shape, text));
    }
    *ret_description = description;
    return STATUS_OK;
}

static int by_offset(const void *left, const void *right)
{
    const struct description *a = left;
    const struct description *b = right;
    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    if (a->end != b->end) {
        return a->end < b->end ? -1 : 1;
    }
    return strcmp(a->name, b->name);
}

/* The sorted tensors must follow each other from the first byte of the data to its last. */
static enum status check_contiguous(const struct description *descriptions, size_t count, uint64_t data_bytes,
                                    struct error *error)
{
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        if (descriptions[i].begin != end) {
            return error_set(error, STATUS_CORRUPT,
                             "tensor '%s' begins at byte %llu, but the one before it ends at %llu",
                             descriptions[i].name, (unsigned long long)descriptions[i].begin, (unsigned long long)end);
        }
        end = descriptions[i].end;
    }
    if (end != data_bytes) {
        return error_set(error, STATUS_CORRUPT, "%llu bytes of data, but the tensors end at %llu",
                         (unsigned long long)data_bytes, (unsigned long long)end);
    }
    return STATUS_OK;
}

/* Reads the header's entries into `descriptions`, which has room for all of them; their names live in `header`. */
static enum status parse_descriptions(json_t *header, uint64_t data_bytes, struct description *descriptions,
                                      size_t *ret_count, struct error *error)
{
    size_t count = 0;
    const char *name;
    json_t *value;
    json_object_foreach(header, name, value)
    {
        if (strcmp(name, metadata_key) == 0) {
            if (!json_is_object(value)) {
                return error_set(error, STATUS_CORRUPT, "%s is not an object", metadata_key);
            }
            continue;
        }
        TRY(parse_description(name, value, data_bytes, &descriptions[count], error));
        count++;
    }
    qsort(descriptions, count, sizeof *descriptions, by_offset);
    TRY(check_contiguous(descriptions, count, data_bytes, error));
    *ret_count = count;
    return STATUS_OK;
}

static int by_name(const void *left, const void *right)
{
    const struct named_tensor *const *a = left;
    const struct named_tensor *const *b = right;
    return strcmp((*a)->name, (*b)->name);
}

static enum status check_booleans(const struct description *description, const unsigned char *data, struct error *error)
{
    for (uint64_t i = description->begin; i < description->end; i++) {
        if (data[i] > 1) {
            return error_set(error, STATUS_CORRUPT, "tensor '%s': element %llu is %d, not a BOOL", description->name,
                             (unsigned long long)(i - description->begin), data[i]);
        }
    }
    return STATUS_OK;
}

static enum status take_tensor(const struct description *description, const unsigned char *data,
                               struct safetensors *tensors, struct error *error)
{
    if (description->dtype == DTYPE_BOOL) {
        TRY(check_booleans(description, data, error));
    }
    struct named_tensor *entry = &tensors->entries[tensors->count];
    entry->name = arena_copy_string(&tensors->arena, description->name);
    if (entry->name == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the name of tensor '%s'", description->name);
    }
    size_t bytes = description->end - description->begin;
    void *there = (void *)(uintptr_t)(data + description->begin);
    if ((uintptr_t)there % dtype_bytes(description->dtype) != 0) {
        there = arena_copy(&tensors->arena, there, bytes, 1);
    }
    if (there == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for tensor '%s', %zu bytes", description->name, bytes);
    }
    entry->tensor = (struct tensor){.dtype = description->dtype, .shape = description->shape, .data = there};
    tensors->by_name[tensors->count++] = entry;
    return STATUS_OK;
}

/* Copies names, and what data must be; what is there on failure is released by the caller. */
static enum status take_tensors(const struct description *descriptions, size_t count, const unsigned char *data,
                                struct safetensors *tensors, struct error *error)
{
    tensors->entries = arena_allocate(&tensors->arena, count, sizeof *tensors->entries);
    tensors->by_name = arena_allocate(&tensors->arena, count, sizeof *tensors->by_name);
    if (tensors->entries == NULL || tensors->by_name == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu tensors", count);
    }
    for (size_t i = 0; i < count; i++) {
        TRY(take_tensor(&descriptions[i], data, tensors, error));
    }
    qsort(tensors->by_name, count, sizeof *tensors->by_name, by_name);
    return STATUS_OK;
}

static enum status parse_header(const unsigned char *bytes, size_t length, json_t **ret_header, size_t *ret_data_offset,
                                struct error *error)
{
    if (length < LENGTH_BYTES) {
        return error_set(error, STATUS_CORRUPT, "%zu bytes are too few for a safetensors file", length);
    }
    uint64_t header_bytes;
    memcpy(&header_bytes, bytes, sizeof header_bytes);
    if (header_bytes > SAFETENSORS_HEADER_BYTES_MAX || header_bytes > length - LENGTH_BYTES) {
        return error_set(error, STATUS_CORRUPT, "a header of %llu bytes in a file of %zu bytes, at most %d",
                         (unsigned long long)header_bytes, length, SAFETENSORS_HEADER_BYTES_MAX);
    }
    json_error_t json_error;
    json_t *header = json_loadb((const char *)bytes + LENGTH_BYTES, header_bytes, JSON_REJECT_DUPLICATES, &json_error);
    if (header == NULL && json_error_code(&json_error) == json_error_out_of_memory) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a header of %llu bytes",
                         (unsigned long long)header_bytes);
    }
    if (!json_is_object(header) || bytes[LENGTH_BYTES] != '{') {
        enum status status = error_set(error, STATUS_CORRUPT, "the header is not a JSON object: %s",
                                       header == NULL ? json_error.text : "it does not begin with '{'");
        json_decref(header);
        return status;
    }
    *ret_header = header;
    *ret_data_offset = LENGTH_BYTES + header_bytes;
    return STATUS_OK;
}

enum status safetensors_parse(const void *bytes, size_t length, struct safetensors *ret_tensors, struct error *error)
{
    json_t *header = NULL;
    size_t data_offset = 0;
    TRY(parse_header(bytes, length, &header, &data_offset, error));
    struct safetensors tensors = {.count = 0};
    struct description *descriptions = NULL;
    enum status status;
    size_t count = json_object_size(header);
    if (count > SAFETENSORS_TENSORS_MAX) {
        status = error_set(error, STATUS_LIMIT, "%zu tensors, at most %d", count, SAFETENSORS_TENSORS_MAX);
        goto done;
    }
    descriptions = mem_allocate(count, sizeof *descriptions);
    if (descriptions == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "no memory for %zu tensors", count);
        goto done;
    }
    status = parse_descriptions(header, length - data_offset, descriptions, &count, error);
    if (status == STATUS_OK) {
        status = take_tensors(descriptions, count, (const unsigned char *)bytes + data_offset, &tensors, error);
    }
    if (status == STATUS_OK) {
        *ret_tensors = tensors;
    } else {
        safetensors_release(&tensors);
    }
done:
    mem_free(descriptions);
    json_decref(header);
    return status;
}

/* Adds one entry to the header, its data at `begin`. */
static enum status describe(json_t *header, const struct named_tensor *entry, size_t begin, size_t end,
                            struct error *error)
{
    if (json_object_get(header, entry->name) != NULL || strcmp(entry->name, metadata_key) == 0) {
        return error_set(error, STATUS_INVALID, "two tensors named '%s', or a reserved name", entry->name);
    }
    json_t *shape = json_array();
    for (int i = 0; shape != NULL && i < entry->tensor.shape.rank; i++) {
        if (json_array_append_new(shape, json_integer(entry->tensor.shape.dimensions[i])) != 0) {
            json_decref(shape);
            shape = NULL;
        }
    }
    if (shape == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to describe tensor '%s'", entry->name);
    }
    json_t *json = json_pack("{s:s,s:o,s:[I,I]}", "dtype", dtype_safetensors_name(entry->tensor.dtype), "shape", shape,
                             "data_offsets", (json_int_t)begin, (json_int_t)end);
    if (json == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to describe tensor '%s'", entry->name);
    }
    if (json_object_set_new(header, entry->name, json) != 0) {
        return error_set(error, STATUS_INVALID, "tensor name '%s' is not UTF-8", entry->name);
    }
    return STATUS_OK;
}

/* Writes length, header and padding to a new block, with room for `data_bytes` behind them. */
static enum status assemble(const json_t *header, size_t data_bytes, char **ret_bytes, size_t *ret_data_offset,
                            struct error *error)
{
    size_t json_bytes = json_dumpb(header, NULL, 0, JSON_COMPACT);
    size_t header_bytes = (json_bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    if (json_bytes == 0 || header_bytes > SAFETENSORS_HEADER_BYTES_MAX) {
        return error_set(error, STATUS_LIMIT, "a header of %zu bytes, at most %d", header_bytes,
                         SAFETENSORS_HEADER_BYTES_MAX);
    }
    size_t length = LENGTH_BYTES + header_bytes + data_bytes;
    char *bytes = mem_allocate(length, 1);
    if (bytes == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a safetensors file of %zu bytes", length);
    }
    uint64_t length_field = header_bytes;
    memcpy(bytes, &length_field, sizeof length_field);
    if (json_dumpb(header, bytes + LENGTH_BYTES, json_bytes, JSON_COMPACT) != json_bytes) {
        mem_free(bytes);
        return error_set(error, STATUS_NO_MEMORY, "no memory to write a header of %zu bytes", json_bytes);
    }
    memset(bytes + LENGTH_BYTES + json_bytes, ' ', header_bytes - json_bytes);
    *ret_bytes = bytes;
    *ret_data_offset = LENGTH_BYTES + header_bytes;
    return STATUS_OK;
}

/* Everything up to the data, in a block that has room for that too if `with_data`. */
static enum status format_header(const struct named_tensor *entries, size_t count, bool with_data, char **ret_bytes,
                                 size_t *ret_data_offset, size_t *ret_data_bytes, struct error *error)
{
    if (count > SAFETENSORS_TENSORS_MAX) {
        return error_set(error, STATUS_LIMIT, "%zu tensors, at most %d", count, SAFETENSORS_TENSORS_MAX);
    }
    json_t *header = json_object();
    if (header == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a safetensors header");
    }
    enum status status = STATUS_OK;
    size_t data_bytes = 0;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        size_t end;
        if (__builtin_add_overflow(data_bytes, tensor_bytes(&entries[i].tensor), &end) || end > PTRDIFF_MAX / 2) {
            status = error_set(error, STATUS_LIMIT, "tensor '%s': the data ends above %zu bytes", entries[i].name,
                               (size_t)PTRDIFF_MAX / 2);
        } else {
            status = describe(header, &entries[i], data_bytes, end, error);
            data_bytes = end;
        }
    }
    if (status == STATUS_OK) {
        status = assemble(header, with_data ? data_bytes : 0, ret_bytes, ret_data_offset, error);
    }
    json_decref(header);
    *ret_data_bytes = data_bytes;
    return status;
}

enum status safetensors_format(const struct named_tensor *entries, size_t count, void **ret_bytes, size_t *ret_length,
                               struct error *error)
{
    char *bytes = NULL;
    size_t offset = 0;
    size_t data_bytes = 0;
    TRY(format_header(entries, count, true, &bytes, &offset, &data_bytes, error));
    char *data = bytes + offset;
    for (size_t i = 0; i < count; i++) {
        size_t tensor_size = tensor_bytes(&entries[i].tensor);
        if (tensor_size > 0) {
            memcpy(data, entries[i].tensor.data, tensor_size);
        }
        data += tensor_size;
    }
    *ret_bytes = bytes;
    *ret_length = offset + data_bytes;
    return STATUS_OK;
}

enum status safetensors_format_header(const struct named_tensor *entries, size_t count, void **ret_bytes,
                                      size_t *ret_length, size_t *ret_data_bytes, struct error *error)
{
    char *bytes = NULL;
    TRY(format_header(entries, count, false, &bytes, ret_length, ret_data_bytes, error));
    *ret_bytes = bytes;
    return STATUS_OK;
}

const struct tensor *safetensors_find(const struct safetensors *tensors, const char *name)
{
    const struct named_tensor key = {.name = name};
    const struct named_tensor *wanted = &key;
    if (tensors->count == 0) {
        return NULL;
    }
    const struct named_tensor **found =
        bsearch(&wanted, tensors->by_name, tensors->count, sizeof *tensors->by_name, by_name);
    return found == NULL ? NULL : &(*found)->tensor;
}

void safetensors_release(struct safetensors *tensors)
{
    arena_release(&tensors->arena);
    *tensors = (struct safetensors){.count = 0};
}
