/* Dense arrays: element type, shape, row-major data. Plain values; who owns `data` is said where a tensor is handed
 * over. Thread: any. */
#ifndef ENGINE_MATH_TENSOR_H
#define ENGINE_MATH_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* Element types. Ops compute with the first five; the others are for storing: variables, fills, assignments, casts. */
enum dtype {
    DTYPE_FLOAT32,
    DTYPE_FLOAT64,
    DTYPE_INT32,
    DTYPE_INT64,
    DTYPE_BOOL,
    DTYPE_FLOAT16,
    DTYPE_INT8,
    DTYPE_UINT8,
    DTYPE_INT16,
    DTYPE_UINT16,
    DTYPE_COMPLEX64,
    DTYPE_COUNT
};

/* Bytes of one element. */
size_t dtype_bytes(enum dtype dtype);
/* TensorFlow's Python spelling ("float32", "bool"). */
const char *dtype_name(enum dtype dtype);
/* TensorFlow's C++ spelling ("float", "double"), which its run-time errors use. */
const char *dtype_cpp_name(enum dtype dtype);
/* safetensors' spelling ("F32", "I64", "BOOL"). */
const char *dtype_safetensors_name(enum dtype dtype);
/* float16, float32, float64; whole numbers of any width, not bool. */
bool dtype_is_float(enum dtype dtype);
bool dtype_is_integer(enum dtype dtype);
/* The least and greatest value of a whole-number dtype. */
void dtype_integer_range(enum dtype dtype, int64_t *ret_least, int64_t *ret_greatest);
/* Finds a dtype by dtype_name; false when there is none. */
bool dtype_from_name(const char *name, enum dtype *ret_dtype);

enum { SHAPE_RANK_MAX = 8, SHAPE_TEXT_BYTES_MAX = 192 };
enum { SHAPE_RANK_UNKNOWN = -1, DIMENSION_UNKNOWN = -1 };

/* A shape, perhaps only partly known: rank SHAPE_RANK_UNKNOWN, or dimensions DIMENSION_UNKNOWN. */
struct shape {
    int rank;
    int64_t dimensions[SHAPE_RANK_MAX];
};

/* Shapes by rank; a dimension may be DIMENSION_UNKNOWN. */
struct shape shape_unknown(void);
struct shape shape_scalar(void);
struct shape shape_vector(int64_t n);
struct shape shape_matrix(int64_t rows, int64_t columns);
struct shape shape_cube(int64_t planes, int64_t rows, int64_t columns);

/* Whether rank and every dimension are known; whether both say the same, unknown being equal to unknown. */
bool shape_is_fully_known(const struct shape *shape);
bool shape_equal(const struct shape *a, const struct shape *b);
/* Whether some fully known shape fits both. */
bool shape_is_compatible(const struct shape *a, const struct shape *b);
/* What both together say; the shapes must be compatible. */
struct shape shape_merge(const struct shape *a, const struct shape *b);
/* The product of the dimensions of a fully known shape; false when it exceeds PTRDIFF_MAX / 16 (no element count
 * then). */
bool shape_element_count(const struct shape *shape, size_t *ret_count);
/* The same with dimensions that are 0 counted as 1: what it takes to count through the others. */
bool shape_extent(const struct shape *shape, size_t *ret_extent);
/* "(?, 3)", "(2,)", "()", "<unknown>": as Python TensorFlow prints it. */
const char *shape_text(const struct shape *shape, char text[SHAPE_TEXT_BYTES_MAX]);
/* "[?,3]", "[2]", "[]": as its C++ part prints it. */
const char *shape_cpp_text(const struct shape *shape, char text[SHAPE_TEXT_BYTES_MAX]);

struct tensor {
    enum dtype dtype;
    struct shape shape; /* fully known */
    void *data;         /* element_count × dtype_bytes, MEM_ALIGNMENT_BYTES-aligned when we allocated it */
};

/* Bytes of the elements. The shape must be fully known and in range. */
size_t tensor_bytes(const struct tensor *tensor);
size_t tensor_element_count(const struct tensor *tensor);

/* Allocates zeroed data for dtype and shape; owned: release with tensor_release. LIMIT or NO_MEMORY. */
enum status tensor_init(struct tensor *tensor, enum dtype dtype, const struct shape *shape,
                        struct error *error) MUST_CHECK;
enum status tensor_init_copy(struct tensor *tensor, const struct tensor *source, struct error *error) MUST_CHECK;
void tensor_release(struct tensor *tensor);

/* One element as a number, and back: rounded towards zero and kept within the dtype's range for whole numbers (NaN: 0),
 * not 0 is true; of a complex64 the real part. */
double tensor_number(const struct tensor *tensor, size_t at);
void tensor_set_number(struct tensor *tensor, size_t at, double number);
/* The same without loss for 64-bit whole numbers; the value must be in range. Only for whole-number dtypes. */
int64_t tensor_integer(const struct tensor *tensor, size_t at);
void tensor_set_integer(struct tensor *tensor, size_t at, int64_t integer);

/* IEEE 754 half precision as its bits; rounds to nearest even. */
float float_from_half(uint16_t bits);
uint16_t half_from_float(float number);

#endif
