/* Element types, shapes and dense arrays. Thread: any; plain values. Owns a tensor's data from tensor_init to
 * tensor_release. */
#include "engine/math/tensor.h"

#include <inttypes.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

struct dtype_facts {
    size_t bytes;
    const char *name;
    const char *cpp_name;
    const char *safetensors_name;
};

static const struct dtype_facts dtypes[] = {
    [DTYPE_FLOAT32] = {4, "float32", "float", "F32"},
    [DTYPE_FLOAT64] = {8, "float64", "double", "F64"},
    [DTYPE_INT32] = {4, "int32", "int32", "I32"},
    [DTYPE_INT64] = {8, "int64", "int64", "I64"},
    [DTYPE_BOOL] = {1, "bool", "bool", "BOOL"},
    [DTYPE_FLOAT16] = {2, "float16", "half", "F16"},
    [DTYPE_INT8] = {1, "int8", "int8", "I8"},
    [DTYPE_UINT8] = {1, "uint8", "uint8", "U8"},
    [DTYPE_INT16] = {2, "int16", "int16", "I16"},
    [DTYPE_UINT16] = {2, "uint16", "uint16", "U16"},
    [DTYPE_COMPLEX64] = {8, "complex64", "complex64", "C64"},
};
static_assert(sizeof dtypes / sizeof *dtypes == DTYPE_COUNT, "the facts of each dtype");
static_assert(sizeof(bool) == 1, "a bool tensor's elements are C bools");

static const struct dtype_facts *facts(enum dtype dtype)
{
    CHECK(dtype < DTYPE_COUNT);
    return &dtypes[dtype];
}

size_t dtype_bytes(enum dtype dtype)
{
    return facts(dtype)->bytes;
}

const char *dtype_name(enum dtype dtype)
{
    return facts(dtype)->name;
}

const char *dtype_cpp_name(enum dtype dtype)
{
    return facts(dtype)->cpp_name;
}

const char *dtype_safetensors_name(enum dtype dtype)
{
    return facts(dtype)->safetensors_name;
}

bool dtype_is_float(enum dtype dtype)
{
    return dtype == DTYPE_FLOAT32 || dtype == DTYPE_FLOAT64 || dtype == DTYPE_FLOAT16;
}

bool dtype_is_integer(enum dtype dtype)
{
    return !dtype_is_float(dtype) && dtype != DTYPE_BOOL && dtype != DTYPE_COMPLEX64;
}

bool dtype_from_name(const char *name, enum dtype *ret_dtype)
{
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        if (strcmp(dtypes[dtype].name, name) == 0) {
            *ret_dtype = (enum dtype)dtype;
            return true;
        }
    }
    return false;
}

struct shape shape_unknown(void)
{
    return (struct shape){.rank = SHAPE_RANK_UNKNOWN};
}

struct shape shape_scalar(void)
{
    return (struct shape){.rank = 0};
}

struct shape shape_vector(int64_t n)
{
    return (struct shape){.rank = 1, .dimensions = {n}};
}

struct shape shape_matrix(int64_t rows, int64_t columns)
{
    return (struct shape){.rank = 2, .dimensions = {rows, columns}};
}

struct shape shape_cube(int64_t planes, int64_t rows, int64_t columns)
{
    return (struct shape){.rank = 3, .dimensions = {planes, rows, columns}};
}

bool shape_is_fully_known(const struct shape *shape)
{
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dimensions[i] < 0) {
            return false;
        }
    }
    return shape->rank != SHAPE_RANK_UNKNOWN;
}

bool shape_equal(const struct shape *a, const struct shape *b)
{
    if (a->rank != b->rank) {
        return false;
    }
    for (int i = 0; i < a->rank; i++) {
        if (a->dimensions[i] != b->dimensions[i]) {
            return false;
        }
    }
    return true;
}

bool shape_is_compatible(const struct shape *a, const struct shape *b)
{
    if (a->rank == SHAPE_RANK_UNKNOWN || b->rank == SHAPE_RANK_UNKNOWN) {
        return true;
    }
    if (a->rank != b->rank) {
        return false;
    }
    for (int i = 0; i < a->rank; i++) {
        int64_t left = a->dimensions[i];
        int64_t right = b->dimensions[i];
        if (left != DIMENSION_UNKNOWN && right != DIMENSION_UNKNOWN && left != right) {
            return false;
        }
    }
    return true;
}

struct shape shape_merge(const struct shape *a, const struct shape *b)
{
    CHECK(shape_is_compatible(a, b));
    if (a->rank == SHAPE_RANK_UNKNOWN) {
        return *b;
    }
    struct shape merged = *a;
    for (int i = 0; i < b->rank; i++) {
        if (merged.dimensions[i] == DIMENSION_UNKNOWN) {
            merged.dimensions[i] = b->dimensions[i];
        }
    }
    return merged;
}

bool shape_element_count(const struct shape *shape, size_t *ret_count)
{
    CHECK(shape_is_fully_known(shape));
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dimensions[i] == 0) {
            *ret_count = 0;
            return true;
        }
    }
    return shape_extent(shape, ret_count);
}

bool shape_extent(const struct shape *shape, size_t *ret_extent)
{
    CHECK(shape_is_fully_known(shape));
    size_t extent = 1;
    for (int i = 0; i < shape->rank; i++) {
        size_t dimension = shape->dimensions[i] == 0 ? 1 : (size_t)shape->dimensions[i];
        if (__builtin_mul_overflow(extent, dimension, &extent) || extent > PTRDIFF_MAX / 16) {
            return false;
        }
    }
    *ret_extent = extent;
    return true;
}

struct shape_style {
    const char *open;
    const char *separator;
    const char *close;
    const char *close_vector;
};

static const char *print_shape(const struct shape *shape, const struct shape_style *style,
                               char text[SHAPE_TEXT_BYTES_MAX])
{
    if (shape->rank == SHAPE_RANK_UNKNOWN) {
        snprintf(text, SHAPE_TEXT_BYTES_MAX, "<unknown>");
        return text;
    }
    CHECK(shape->rank >= 0 && shape->rank <= SHAPE_RANK_MAX);
    size_t used = (size_t)snprintf(text, SHAPE_TEXT_BYTES_MAX, "%s", style->open);
    for (int i = 0; i < shape->rank; i++) {
        const char *before = i == 0 ? "" : style->separator;
        char *end = text + used;
        size_t room = SHAPE_TEXT_BYTES_MAX - used;
        if (shape->dimensions[i] == DIMENSION_UNKNOWN) {
            used += (size_t)snprintf(end, room, "%s?", before);
        } else {
            used += (size_t)snprintf(end, room, "%s%" PRId64, before, shape->dimensions[i]);
        }
    }
    snprintf(text + used, SHAPE_TEXT_BYTES_MAX - used, "%s", shape->rank == 1 ? style->close_vector : style->close);
    return text;
}
static_assert(SHAPE_RANK_MAX * (sizeof "-9223372036854775808" - 1 + 2) + 4 <= SHAPE_TEXT_BYTES_MAX, "any shape fits");

const char *shape_text(const struct shape *shape, char text[SHAPE_TEXT_BYTES_MAX])
{
    return print_shape(shape, &(struct shape_style){"(", ", ", ")", ",)"}, text);
}

const char *shape_cpp_text(const struct shape *shape, char text[SHAPE_TEXT_BYTES_MAX])
{
    return print_shape(shape, &(struct shape_style){"[", ",", "]", "]"}, text);
}

size_t tensor_element_count(const struct tensor *tensor)
{
    size_t count;
    CHECK(shape_element_count(&tensor->shape, &count));
    return count;
}

size_t tensor_bytes(const struct tensor *tensor)
{
    return tensor_element_count(tensor) * dtype_bytes(tensor->dtype);
}

static enum status allocate(struct tensor *tensor, enum dtype dtype, const struct shape *shape, bool must_zero,
                            struct error *error)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    size_t count;
    if (!shape_element_count(shape, &count)) {
        return error_set(error, STATUS_LIMIT, "shape %s: too many elements, at most %zu", shape_text(shape, text),
                         (size_t)PTRDIFF_MAX / 16);
    }
    size_t item_bytes = dtype_bytes(dtype);
    void *data = must_zero ? mem_allocate_aligned(count, item_bytes) : mem_allocate_aligned_raw(count, item_bytes);
    if (data == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a tensor of shape %s, %zu bytes",
                         shape_text(shape, text), count * item_bytes);
    }
    *tensor = (struct tensor){.dtype = dtype, .shape = *shape, .data = data};
    return STATUS_OK;
}

enum status tensor_init(struct tensor *tensor, enum dtype dtype, const struct shape *shape, struct error *error)
{
    return allocate(tensor, dtype, shape, true, error);
}

enum status tensor_init_copy(struct tensor *tensor, const struct tensor *source, struct error *error)
{
    struct tensor copy;
    TRY(allocate(&copy, source->dtype, &source->shape, false, error));
    memcpy(copy.data, source->data, tensor_bytes(source));
    *tensor = copy;
    return STATUS_OK;
}

void tensor_release(struct tensor *tensor)
{
    if (tensor != NULL) {
        mem_free(tensor->data);
        tensor->data = NULL;
    }
}
