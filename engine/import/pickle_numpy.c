/* What NumPy leaves in pickles and in .npy files, as plain data: texts and whole numbers. Thread: any, one at a time.
 *
 * An array is numpy.core.multiarray._reconstruct(…) with the state (version, shape, dtype, is_fortran, content), one
 * value numpy.core.multiarray.scalar(dtype, content); dtype is numpy.dtype("U1", …) with the state (version, order, …).
 * An element of "U3" is three UTF-32 code points, filled up with zeros, of "S3" three bytes.
 * Source: NumPy, numpy/core/src/multiarray/methods.c (array_reduce) and descriptor.c; numpy/lib/format.py. */
#include "engine/import/pickle_private.h"
#include "engine/text/utf8.h"

enum { CODE_POINT_BYTES = 4, WIDTH_MAX = 1000, HEADER_AT = 10, HEADER_BYTES_MAX = 4096 };

/* Bytes of an element of texts; 0: it holds none. */
static size_t text_bytes(const char *type)
{
    type += *type == '<' || *type == '|' || *type == '=' ? 1 : 0;
    size_t width = (*type == 'U' || *type == 'S') && type[1] >= '1' && type[1] <= '9' ? strtoul(type + 1, NULL, 10) : 0;
    return width > WIDTH_MAX ? 0 : *type == 'U' ? width * CODE_POINT_BYTES : width;
}

/* One element as a text; NULL: no memory, or no character. */
static struct plain *make_text(struct arena *arena, bool is_wide, const unsigned char *bytes, size_t size)
{
    char text[WIDTH_MAX * UTF8_BYTES_MAX];
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
            return NULL;
        }
        if (is_wide) {
            length += utf8_encode(code_point, text + length);
        } else {
            text[length++] = (char)bytes[i];
        }
    }
    return plain_create_text(arena, is_wide ? PLAIN_TEXT : PLAIN_BYTES, text, length);
}

/* An array's elements; NULL: no texts, or no memory. */
static struct plain *numpy_texts(struct arena *arena, const char *type, const void *bytes, size_t length)
{
    size_t size = text_bytes(type);
    struct plain *list = size == 0 || length % size != 0 ? NULL : plain_create(arena, PLAIN_LIST);
    for (size_t at = 0; list != NULL && at < length; at += size) {
        struct plain *text = make_text(arena, strchr(type, 'U') != NULL, (const unsigned char *)bytes + at, size);
        list = text != NULL && plain_append(arena, list, text) ? list : NULL;
    }
    return list;
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

void pickle_build_array(struct arena *arena, struct plain *object, const struct plain *state)
{
    const struct plain *content = plain_item(state, 4);
    if (object->global == NULL || strstr(object->global, "multiarray _reconstruct") == NULL || content == NULL ||
        content->kind != PLAIN_BYTES) {
        return;
    }
    const struct plain *texts = numpy_texts(arena, type_of(plain_item(state, 2)), content->text, content->length);
    if (texts != NULL) {
        *object = *texts;
    }
}

enum status pickle_make_scalar(struct pickle_reader *reader, const struct plain *arguments, struct plain **ret_value)
{
    const char *type = type_of(plain_item(arguments, 0));
    const struct plain *content = plain_item(arguments, 1);
    bool is_whole = (type[0] == 'i' || type[0] == 'u') && content != NULL && content->kind == PLAIN_BYTES &&
                    content->length > 0 && content->length <= sizeof(int64_t) && type[1] == '0' + (char)content->length;
    const struct plain *texts = NULL;
    if (!is_whole && content != NULL && content->kind == PLAIN_BYTES) {
        texts = numpy_texts(reader->arena, type, content->text, content->length);
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

/* The header is {'descr': '<U1', …} behind its length. */
enum status numpy_read(const unsigned char *bytes, size_t length, struct arena *arena, struct plain **ret_value,
                       struct error *error)
{
    char header[HEADER_BYTES_MAX + 1];
    char type[16];
    size_t begin = HEADER_AT + (bytes[6] == 1 ? 0 : 2);
    size_t header_bytes = bytes[8] + 256U * bytes[9];
    if (begin > length || header_bytes > length - begin || header_bytes > HEADER_BYTES_MAX) {
        return error_set(error, STATUS_CORRUPT, "a header of %zu bytes", header_bytes);
    }
    memcpy(header, bytes + begin, header_bytes);
    header[header_bytes] = '\0';
    const char *described = strstr(header, "'descr': '");
    if (described == NULL || sscanf(described, "'descr': '%15[^']", type) != 1) {
        return error_set(error, STATUS_CORRUPT, "a header without the type of its elements");
    }
    bytes += begin + header_bytes;
    length -= begin + header_bytes;
    if (strcmp(type, "|O") == 0) {
        return pickle_read(bytes, length, arena, ret_value, &length, error);
    }
    *ret_value = numpy_texts(arena, type, bytes, length);
    return *ret_value == NULL ? error_set(error, STATUS_UNSUPPORTED, "an array of '%s', not of texts", type)
                              : STATUS_OK;
}
