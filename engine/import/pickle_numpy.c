/* What NumPy leaves in pickles and in .npy files, as plain data: texts and whole numbers. Thread: any, one at a time.
 *
 * An array is numpy.core.multiarray._reconstruct(…) with the state (version, shape, dtype, is_fortran, content), one
 * value numpy.core.multiarray.scalar(dtype, content); dtype is numpy.dtype("U1", …) with the state (version, order, …).
 * Protocol 5 has arrays as numpy.core.numeric._frombuffer(content, dtype, shape, order).
 * An element of "U3" is three UTF-32 code points, filled up with zeros, of "S3" three bytes.
 * Source: NumPy, numpy/core/src/multiarray/methods.c (array_reduce) and descriptor.c; numpy/lib/format.py. */
#include "engine/import/pickle_private.h"
#include "engine/text/utf8.h"

enum { CODE_POINT_BYTES = 4, WIDTH_MAX = 1000, HEADER_AT = 10, HEADER_BYTES_MAX = 4096, TYPE_BYTES_MAX = 16 };

/* Elements that are texts. */
struct text_type {
    bool is_wide; /* of code points, not of bytes */
    size_t bytes; /* of an element */
};

/* Whether a type is one of texts: "<U3", "|S3". */
static bool parse_type(const char *type, struct text_type *ret_type)
{
    char *end = NULL;
    type += *type == '<' || *type == '|' || *type == '=' ? 1 : 0;
    bool is_wide = *type == 'U';
    if ((!is_wide && *type != 'S') || type[1] < '1' || type[1] > '9') {
        return false;
    }
    size_t width = strtoul(type + 1, &end, 10);
    *ret_type = (struct text_type){is_wide, is_wide ? width * CODE_POINT_BYTES : width};
    return *end == '\0' && width <= WIDTH_MAX;
}

/* Writes one element as UTF-8 to `text`, of WIDTH_MAX * UTF8_BYTES_MAX bytes; false: it has what is no character. */
static bool write_text(bool is_wide, const unsigned char *bytes, size_t size, char *text, size_t *ret_length)
{
    size_t length = 0;
    for (size_t i = 0; i < size; i += is_wide ? CODE_POINT_BYTES : 1) {
        uint32_t code_point = bytes[i];
        if (is_wide) {
            memcpy(&code_point, bytes + i, sizeof code_point);
        }
        if (code_point == 0) {
            break;
        }
        if (is_wide && (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000))) {
            return false;
        }
        if (is_wide) {
            length += utf8_encode(code_point, text + length);
        } else {
            text[length++] = (char)bytes[i];
        }
    }
    *ret_length = length;
    return true;
}

static enum status no_memory(const struct arena *arena, struct error *error)
{
    return arena->is_full
               ? error_set(error, STATUS_LIMIT, "an array's values take more than %zu bytes", arena->bytes_max)
               : error_set(error, STATUS_NO_MEMORY, "no memory for an array");
}

/* An array's elements. UNSUPPORTED: no texts; CORRUPT; LIMIT, NO_MEMORY. */
static enum status read_texts(struct arena *arena, const char *type, const void *bytes, size_t length,
                              struct plain **ret_list, struct error *error)
{
    struct text_type text_type;
    if (!parse_type(type, &text_type)) {
        return error_set(error, STATUS_UNSUPPORTED, "an array of '%s', not of texts", type);
    }
    size_t size = text_type.bytes;
    bool is_wide = text_type.is_wide;
    if (length % size != 0) {
        return error_set(error, STATUS_CORRUPT, "%zu bytes of elements of %zu", length, size);
    }
    struct plain *list = plain_create(arena, PLAIN_LIST);
    for (size_t at = 0; list != NULL && at < length; at += size) {
        char content[WIDTH_MAX * UTF8_BYTES_MAX];
        size_t content_bytes = 0;
        if (!write_text(is_wide, (const unsigned char *)bytes + at, size, content, &content_bytes)) {
            return error_set(error, STATUS_CORRUPT, "element %zu has a code point that is no character", at / size);
        }
        struct plain *text = plain_create_text(arena, is_wide ? PLAIN_TEXT : PLAIN_BYTES, content, content_bytes);
        list = text != NULL && plain_append(arena, list, text) ? list : NULL;
    }
    if (list == NULL) {
        return no_memory(arena, error);
    }
    *ret_list = list;
    return STATUS_OK;
}

static bool is_out_of_memory(enum status status)
{
    return status == STATUS_LIMIT || status == STATUS_NO_MEMORY;
}

/* The type's name, if it is NumPy's and little-endian. */
static const char *type_of(const struct plain *dtype)
{
    if (dtype == NULL || dtype->kind != PLAIN_CALL || strcmp(dtype->global, "numpy dtype") != 0) {
        return "";
    }
    const struct plain *name = plain_item(dtype->arguments, 0);
    return plain_is_string(name) && !plain_equals(plain_item(dtype->state, 1), ">") ? name->text : "";
}

enum status pickle_build_array(struct pickle_reader *reader, struct plain *object, const struct plain *state)
{
    const struct plain *content = plain_item(state, 4);
    struct plain *texts = NULL;
    struct error ignored;
    if (object->global == NULL || strstr(object->global, "multiarray _reconstruct") == NULL || content == NULL ||
        content->kind != PLAIN_BYTES) {
        return STATUS_OK;
    }
    enum status status =
        read_texts(reader->arena, type_of(plain_item(state, 2)), content->text, content->length, &texts, &ignored);
    if (status == STATUS_OK) {
        *object = *texts;
    }
    return is_out_of_memory(status) ? pickle_no_memory(reader) : STATUS_OK;
}

enum status pickle_make_array(struct pickle_reader *reader, const struct plain *arguments, struct plain **ret_value)
{
    const struct plain *content = plain_item(arguments, 0);
    struct plain *texts = NULL;
    struct error ignored;
    if (content != NULL && content->kind == PLAIN_BYTES &&
        is_out_of_memory(read_texts(reader->arena, type_of(plain_item(arguments, 1)), content->text, content->length,
                                    &texts, &ignored))) {
        return pickle_no_memory(reader);
    }
    *ret_value = texts != NULL ? texts : plain_create(reader->arena, PLAIN_NONE);
    return *ret_value == NULL ? pickle_no_memory(reader) : STATUS_OK;
}

enum status pickle_make_scalar(struct pickle_reader *reader, const struct plain *arguments, struct plain **ret_value)
{
    const char *type = type_of(plain_item(arguments, 0));
    const struct plain *content = plain_item(arguments, 1);
    bool is_whole = (type[0] == 'i' || type[0] == 'u') && content != NULL && content->kind == PLAIN_BYTES &&
                    content->length > 0 && content->length <= sizeof(int64_t) && type[1] == '0' + (char)content->length;
    struct plain *texts = NULL;
    struct error ignored;
    if (!is_whole && content != NULL && content->kind == PLAIN_BYTES &&
        is_out_of_memory(read_texts(reader->arena, type, content->text, content->length, &texts, &ignored))) {
        return pickle_no_memory(reader);
    }
    *ret_value = texts != NULL && texts->count == 1
                     ? texts->items[0]
                     : plain_create(reader->arena, is_whole ? PLAIN_INTEGER : PLAIN_NONE);
    if (*ret_value == NULL) {
        return pickle_no_memory(reader);
    }
    if (is_whole) {
        uint64_t bits = 0;
        size_t unused = 64 - 8 * content->length;
        memcpy(&bits, content->text, content->length);
        (*ret_value)->integer = type[0] == 'u' ? (int64_t)bits : (int64_t)(bits << unused) >> unused;
    }
    return STATUS_OK;
}

bool numpy_begins(const unsigned char *bytes, size_t length)
{
    return length > HEADER_AT && memcmp(bytes, "\x93NUMPY", 6) == 0;
}

/* How many elements "(2, 3)" are; SIZE_MAX where it says none, or too many. */
static size_t element_count(const char *shape)
{
    size_t count = 1;
    for (shape += strspn(shape, "( "); *shape >= '0' && *shape <= '9'; shape += strspn(shape, ", ")) {
        char *end;
        unsigned long long dimension = strtoull(shape, &end, 10);
        if (__builtin_mul_overflow(count, dimension, &count)) {
            return SIZE_MAX;
        }
        shape = end;
    }
    return *shape == ')' ? count : SIZE_MAX;
}

/* The header is {'descr': '<U1', 'fortran_order': False, 'shape': (65,), } behind its length, which has two bytes, from
 * version 2 on four. */
static enum status read_header(const unsigned char *bytes, size_t length, char type[TYPE_BYTES_MAX], size_t *ret_count,
                               size_t *ret_end, struct error *error)
{
    char header[HEADER_BYTES_MAX + 1];
    size_t begin = HEADER_AT + (bytes[6] == 1 ? 0 : 2);
    size_t header_bytes = bytes[8] + 256U * bytes[9];
    if (begin <= length && bytes[6] != 1) {
        header_bytes += ((size_t)bytes[10] << 16) + ((size_t)bytes[11] << 24);
    }
    if (begin > length || header_bytes > length - begin || header_bytes > HEADER_BYTES_MAX) {
        return error_set(error, STATUS_CORRUPT, "a header of %zu bytes", header_bytes);
    }
    memcpy(header, bytes + begin, header_bytes);
    header[header_bytes] = '\0';
    const char *described = strstr(header, "'descr': ");
    const char *shape = strstr(header, "'shape': (");
    if (described == NULL || shape == NULL) {
        return error_set(error, STATUS_CORRUPT, "a header without type or shape");
    }
    if (sscanf(described, "'descr': '%15[^']'", type) != 1) {
        return error_set(error, STATUS_UNSUPPORTED, "an array of structures, not of texts");
    }
    *ret_count = element_count(shape + strlen("'shape': "));
    *ret_end = begin + header_bytes;
    return STATUS_OK;
}

enum status numpy_read(const unsigned char *bytes, size_t length, struct arena *arena, struct plain **ret_value,
                       struct error *error)
{
    char type[TYPE_BYTES_MAX];
    size_t count = 0;
    size_t end = 0;
    struct plain *texts = NULL;
    TRY(read_header(bytes, length, type, &count, &end, error));
    if (strcmp(type, "|O") == 0) {
        return pickle_read(bytes + end, length - end, arena, ret_value, &length, error);
    }
    TRY(read_texts(arena, type, bytes + end, length - end, &texts, error));
    if (texts->count != count) {
        return error_set(error, STATUS_CORRUPT, "%u elements, which is not what its shape says", texts->count);
    }
    *ret_value = texts;
    return STATUS_OK;
}
