/* Tensors as JSON. Thread: any. Owns nothing. */
#include "engine/store/tensor_json.h"

#include <endian.h>
#include <math.h>
#include <nettle/base64.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

static const char *const encoding_names[] = {
    [TENSOR_NESTED] = "nested", [TENSOR_FLAT] = "flat", [TENSOR_BASE64] = "base64"};
static_assert(sizeof encoding_names / sizeof *encoding_names == TENSOR_ENCODING_COUNT, "one name for each encoding");
static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "elements are copied as they lie in memory");

bool tensor_encoding_from_name(const char *name, enum tensor_encoding *ret_encoding)
{
    for (int i = 0; i < TENSOR_ENCODING_COUNT; i++) {
        if (strcmp(encoding_names[i], name) == 0) {
            *ret_encoding = (enum tensor_encoding)i;
            return true;
        }
    }
    return false;
}

/* ---- shapes ---- */

json_t *shape_to_json(const struct shape *shape)
{
    if (shape->rank == SHAPE_RANK_UNKNOWN) {
        return json_null();
    }
    json_t *list = json_array();
    for (int i = 0; list != NULL && i < shape->rank; i++) {
        json_t *dimension =
            shape->dimensions[i] == DIMENSION_UNKNOWN ? json_null() : json_integer(shape->dimensions[i]);
        if (json_array_append_new(list, dimension) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

enum status shape_from_json(const json_t *json, struct shape *ret_shape, struct error *error)
{
    if (json_is_null(json)) {
        *ret_shape = shape_unknown();
        return STATUS_OK;
    }
    if (!json_is_array(json) || json_array_size(json) > SHAPE_RANK_MAX) {
        return error_set(error, STATUS_INVALID, "a shape is a list of at most %d dimensions", SHAPE_RANK_MAX);
    }
    struct shape shape = {.rank = (int)json_array_size(json)};
    for (int i = 0; i < shape.rank; i++) {
        const json_t *dimension = json_array_get(json, (size_t)i);
        if (!json_is_null(dimension) && !json_is_integer(dimension)) {
            return error_set(error, STATUS_INVALID, "dimension %d of a shape is not a number from 0 or null", i);
        }
        if (json_integer_value(dimension) < 0) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Dimension %lld must be >= 0",
                               (long long)json_integer_value(dimension));
        }
        shape.dimensions[i] = json_is_null(dimension) ? DIMENSION_UNKNOWN : json_integer_value(dimension);
    }
    *ret_shape = shape;
    return STATUS_OK;
}

/* ---- reading ---- */

static enum status read_special(const char *text, double *ret_number, struct error *error)
{
    if (strcmp(text, "NaN") == 0) {
        *ret_number = (double)NAN;
    } else if (strcmp(text, "Infinity") == 0) {
        *ret_number = (double)INFINITY;
    } else if (strcmp(text, "-Infinity") == 0) {
        *ret_number = (double)-INFINITY;
    } else {
        return error_set(error, STATUS_INVALID,
                         "\"%.40s\" is not a number; as text only NaN, Infinity and -Infinity are", text);
    }
    return STATUS_OK;
}

/* What stands in for a number where numbers convert, as in numpy.asarray(value, dtype): true for 1, 2.0 for 2. */
static bool convert_to_integer(const json_t *json, json_int_t *ret_integer)
{
    double real = json_real_value(json);
    bool is_whole = json_is_real(json) && real == floor(real) && fabs(real) < 9007199254740992.0; /* 2^53 */
    *ret_integer = json_is_integer(json) ? json_integer_value(json)
                   : json_is_true(json)  ? 1
                   : is_whole            ? (json_int_t)real
                                         : 0;
    return is_whole || json_is_integer(json) || json_is_boolean(json);
}

static enum status read_integer(const json_t *json, bool converts, struct tensor *tensor, size_t at,
                                struct error *error)
{
    json_int_t integer = 0;
    int64_t least = 0;
    int64_t greatest = 0;
    dtype_integer_range(tensor->dtype, &least, &greatest);
    if (!convert_to_integer(json, &integer) || (!converts && !json_is_integer(json))) {
        return error_set(error, STATUS_INVALID, "element %zu is no %s", at, dtype_name(tensor->dtype));
    }
    if (integer < least || integer > greatest) {
        return error_set(error, STATUS_INVALID, "element %zu is %lld, no %s", at, (long long)integer,
                         dtype_name(tensor->dtype));
    }
    tensor_set_integer(tensor, at, integer);
    return STATUS_OK;
}

static enum status read_element(const json_t *json, bool converts, struct tensor *tensor, size_t at,
                                struct error *error)
{
    double number = json_number_value(json);
    if (dtype_is_integer(tensor->dtype)) {
        return read_integer(json, converts, tensor, at, error);
    }
    if (converts && (json_is_boolean(json) || (tensor->dtype == DTYPE_BOOL && json_is_number(json)))) {
        tensor_set_number(tensor, at, json_is_true(json) || number != 0 ? 1 : 0);
        return STATUS_OK;
    }
    if (tensor->dtype == DTYPE_BOOL) {
        number = json_is_true(json) ? 1 : 0;
    } else if (json_is_string(json)) {
        TRY(read_special(json_string_value(json), &number, error));
    }
    if (tensor->dtype == DTYPE_BOOL ? !json_is_boolean(json) : !json_is_number(json) && !json_is_string(json)) {
        return error_set(error, STATUS_INVALID, "element %zu is no %s", at, dtype_name(tensor->dtype));
    }
    tensor_set_number(tensor, at, number);
    return STATUS_OK;
}

static enum status shape_of_nested(const json_t *json, struct shape *ret_shape, struct error *error)
{
    struct shape shape = shape_scalar();
    while (json_is_array(json)) {
        if (shape.rank == SHAPE_RANK_MAX) {
            return error_set(error, STATUS_INVALID, "lists nested deeper than %d", SHAPE_RANK_MAX);
        }
        shape.dimensions[shape.rank++] = (int64_t)json_array_size(json);
        json = json_array_get(json, 0);
    }
    *ret_shape = shape;
    return STATUS_OK;
}

static enum status read_nested(const json_t *json, int depth, bool converts, struct tensor *tensor, size_t *at,
                               struct error *error)
{
    if (depth == tensor->shape.rank) {
        return read_element(json, converts, tensor, (*at)++, error);
    }
    if (!json_is_array(json) || (int64_t)json_array_size(json) != tensor->shape.dimensions[depth]) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "setting an array element with a sequence. The lists are ragged: at depth %d one is not "
                           "%lld long",
                           depth, (long long)tensor->shape.dimensions[depth]);
    }
    for (size_t i = 0; i < json_array_size(json); i++) {
        TRY(read_nested(json_array_get(json, i), depth + 1, converts, tensor, at, error));
    }
    return STATUS_OK;
}

static enum status read_flat(const json_t *data, bool converts, struct tensor *tensor, struct error *error)
{
    size_t count = tensor_element_count(tensor);
    if (!json_is_array(data) || json_array_size(data) != count) {
        return error_set(error, STATUS_INVALID, "\"data\" has %zu elements, the shape %zu", json_array_size(data),
                         count);
    }
    for (size_t i = 0; i < count; i++) {
        TRY(read_element(json_array_get(data, i), converts, tensor, i, error));
    }
    return STATUS_OK;
}

static enum status read_base64(const json_t *text, struct tensor *tensor, struct error *error)
{
    size_t wanted = tensor_bytes(tensor);
    size_t length = json_string_length(text);
    uint8_t *bytes = mem_allocate(BASE64_DECODE_LENGTH(length) + 1, 1);
    if (bytes == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu bytes of base64", length);
    }
    struct base64_decode_ctx decoder;
    base64_decode_init(&decoder);
    size_t decoded = BASE64_DECODE_LENGTH(length);
    bool is_good = base64_decode_update(&decoder, &decoded, bytes, length, json_string_value(text)) == 1 &&
                   base64_decode_final(&decoder) == 1;
    enum status status = STATUS_OK;
    if (!is_good) {
        status = error_set(error, STATUS_INVALID, "\"base64\" is malformed");
    } else if (decoded != wanted) {
        status = error_set(error, STATUS_INVALID, "\"base64\" holds %zu bytes, the shape %zu", decoded, wanted);
    } else {
        for (size_t i = 0; tensor->dtype == DTYPE_BOOL && i < decoded; i++) {
            bytes[i] = bytes[i] != 0;
        }
        memcpy(tensor->data, bytes, wanted);
    }
    mem_free(bytes);
    return status;
}

static enum status init_bounded(struct tensor *tensor, enum dtype dtype, const struct shape *shape, struct error *error)
{
    size_t extent = 0;
    if (!shape_is_fully_known(shape)) {
        return error_set(error, STATUS_INVALID, "a value's shape has no null in it");
    }
    if (!shape_extent(shape, &extent) || extent > TENSOR_JSON_ELEMENTS_MAX) {
        char text[SHAPE_TEXT_BYTES_MAX];
        return error_set(error, STATUS_TOO_LARGE, "a tensor of shape %s has more than %d elements",
                         shape_text(shape, text), TENSOR_JSON_ELEMENTS_MAX);
    }
    return tensor_init(tensor, dtype, shape, error);
}

static enum status read_described(const json_t *json, enum dtype dtype, bool converts, struct tensor *tensor,
                                  struct error *error)
{
    const json_t *name = json_object_get(json, "dtype");
    const json_t *data = json_object_get(json, "data");
    const json_t *base64 = json_object_get(json, "base64");
    enum dtype stated = dtype;
    struct shape shape;
    if (name != NULL && (!json_is_string(name) || !dtype_from_name(json_string_value(name), &stated))) {
        return error_set(error, STATUS_INVALID, "\"dtype\" is no dtype: float32, float64, int32, int64, bool …");
    }
    if (stated != dtype) {
        return error_set(error, STATUS_INVALID, "\"dtype\" is %s, the tensor's %s", dtype_name(stated),
                         dtype_name(dtype));
    }
    if ((data == NULL) == (base64 == NULL) || json_object_get(json, "shape") == NULL ||
        (base64 != NULL && !json_is_string(base64))) {
        return error_set(error, STATUS_INVALID, "a tensor object has \"shape\" and either \"data\" or \"base64\"");
    }
    TRY(shape_from_json(json_object_get(json, "shape"), &shape, error));
    TRY(init_bounded(tensor, dtype, &shape, error));
    return data != NULL ? read_flat(data, converts, tensor, error) : read_base64(base64, tensor, error);
}

static enum status read_tensor(const json_t *json, enum dtype dtype, bool converts, struct tensor *ret_tensor,
                               struct error *error)
{
    struct tensor tensor = {.data = NULL};
    enum status status;
    if (json_is_object(json)) {
        status = read_described(json, dtype, converts, &tensor, error);
    } else {
        struct shape shape;
        size_t at = 0;
        TRY(shape_of_nested(json, &shape, error));
        status = init_bounded(&tensor, dtype, &shape, error);
        if (status == STATUS_OK) {
            status = read_nested(json, 0, converts, &tensor, &at, error);
        }
    }
    if (status != STATUS_OK) {
        if (tensor.data != NULL) {
            tensor_release(&tensor);
        }
        return status;
    }
    *ret_tensor = tensor;
    return STATUS_OK;
}

enum status tensor_from_json(const json_t *json, enum dtype dtype, struct tensor *ret_tensor, struct error *error)
{
    return read_tensor(json, dtype, false, ret_tensor, error);
}

enum status tensor_convert_json(const json_t *json, enum dtype dtype, struct tensor *ret_tensor, struct error *error)
{
    return read_tensor(json, dtype, true, ret_tensor, error);
}

/* ---- writing ---- */

static json_t *number_to_json(double number)
{
    if (isnan(number)) {
        return json_string("NaN");
    }
    if (isinf(number)) {
        return json_string(number > 0 ? "Infinity" : "-Infinity");
    }
    return json_real(number);
}

static json_t *element_to_json(const struct tensor *tensor, size_t at)
{
    if (dtype_is_integer(tensor->dtype)) {
        return json_integer(tensor_integer(tensor, at));
    }
    return tensor->dtype == DTYPE_BOOL ? json_boolean(((const bool *)tensor->data)[at])
                                       : number_to_json(tensor_number(tensor, at));
}

/* The sub-tensor at `depth` that begins at element *at; NULL without memory. */
static json_t *nested_to_json(const struct tensor *tensor, int depth, size_t *at)
{
    if (depth == tensor->shape.rank) {
        return element_to_json(tensor, (*at)++);
    }
    json_t *list = json_array();
    for (int64_t i = 0; list != NULL && i < tensor->shape.dimensions[depth]; i++) {
        if (json_array_append_new(list, nested_to_json(tensor, depth + 1, at)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *flat_to_json(const struct tensor *tensor)
{
    json_t *list = json_array();
    size_t count = tensor_element_count(tensor);
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (json_array_append_new(list, element_to_json(tensor, i)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *base64_to_json(const struct tensor *tensor)
{
    size_t bytes = tensor_bytes(tensor);
    char *text = mem_allocate(BASE64_ENCODE_RAW_LENGTH(bytes) + 1, 1);
    if (text == NULL) {
        return NULL;
    }
    base64_encode_raw(text, bytes, tensor->data);
    json_t *json = json_stringn(text, BASE64_ENCODE_RAW_LENGTH(bytes));
    mem_free(text);
    return json;
}

enum status tensor_to_json(const struct tensor *tensor, enum tensor_encoding encoding, json_t **ret_json,
                           struct error *error)
{
    size_t at = 0;
    json_t *json = NULL;
    if (encoding == TENSOR_NESTED) {
        json = nested_to_json(tensor, 0, &at);
    } else {
        json = json_pack("{s:s, s:o, s:o}", "dtype", dtype_name(tensor->dtype), "shape", shape_to_json(&tensor->shape),
                         encoding == TENSOR_FLAT ? "data" : "base64",
                         encoding == TENSOR_FLAT ? flat_to_json(tensor) : base64_to_json(tensor));
    }
    if (json == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a tensor as JSON");
    }
    *ret_json = json;
    return STATUS_OK;
}
