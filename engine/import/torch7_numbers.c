/* Numbers and strings of Torch7's files, binary and ascii. Thread: any, one at a time. Owns nothing. */
#include <errno.h>

#include "engine/import/torch7_private.h"

enum { DIGITS_MAX = 64 };

enum status torch7_corrupt(const struct torch7_cursor *cursor, const char *what)
{
    return error_set(cursor->error, STATUS_CORRUPT, "%.200s, byte %zu: %s", cursor->name, cursor->at, what);
}

/* ---- bytes ---- */

static enum status take(struct torch7_cursor *cursor, uint64_t count, const unsigned char **ret_bytes)
{
    if (count > cursor->length - cursor->at) {
        return error_set(cursor->error, STATUS_CORRUPT, "%.200s, byte %zu: %llu bytes are stated, %zu are left",
                         cursor->name, cursor->at, (unsigned long long)count, cursor->length - cursor->at);
    }
    *ret_bytes = cursor->bytes + cursor->at;
    cursor->at += (size_t)count;
    return STATUS_OK;
}

/* What stands behind the numbers of one call, or bytes, in ascii files. */
static enum status skip_line_end(struct torch7_cursor *cursor)
{
    if (!cursor->is_ascii) {
        return STATUS_OK;
    }
    if (cursor->at == cursor->length || cursor->bytes[cursor->at] != '\n') {
        return torch7_corrupt(cursor, "no end of the line");
    }
    cursor->at++;
    return STATUS_OK;
}

static enum status take_raw(struct torch7_cursor *cursor, uint64_t count, const unsigned char **ret_bytes)
{
    TRY(take(cursor, count, ret_bytes));
    return count > 0 ? skip_line_end(cursor) : STATUS_OK;
}

/* ---- decimal numbers ---- */

static bool is_white(unsigned char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* The next word, with a NUL behind it. */
static enum status read_word(struct torch7_cursor *cursor, char word[DIGITS_MAX])
{
    size_t length = 0;
    while (cursor->at < cursor->length && is_white(cursor->bytes[cursor->at])) {
        cursor->at++;
    }
    size_t at = cursor->at;
    for (; at < cursor->length && !is_white(cursor->bytes[at]) && length < DIGITS_MAX; at++) {
        word[length++] = (char)cursor->bytes[at];
    }
    if (length == 0 || length == DIGITS_MAX) {
        return torch7_corrupt(cursor, length == 0 ? "cut off before a number" : "no number");
    }
    word[length] = '\0';
    return STATUS_OK;
}

static enum status parse_whole(struct torch7_cursor *cursor, int64_t least, int64_t most, int64_t *ret_number)
{
    char word[DIGITS_MAX];
    char *end;
    TRY(read_word(cursor, word));
    errno = 0;
    long long number = strtoll(word, &end, 10);
    if (*end != '\0' || errno != 0 || number < least || number > most) {
        return torch7_corrupt(cursor, "no whole number, or one beyond its type");
    }
    cursor->at += (size_t)(end - word);
    *ret_number = number;
    return STATUS_OK;
}

static enum status parse_real(struct torch7_cursor *cursor, double *ret_number)
{
    char word[DIGITS_MAX];
    char *end;
    TRY(read_word(cursor, word));
    *ret_number = strtod(word, &end);
    if (*end != '\0') {
        return torch7_corrupt(cursor, "no number");
    }
    cursor->at += (size_t)(end - word);
    return STATUS_OK;
}

/* ---- one number ---- */

/* A whole number of 4 or 8 bytes. */
static enum status read_whole(struct torch7_cursor *cursor, size_t size, int64_t *ret_number)
{
    bool is_int = size == sizeof(int32_t);
    const unsigned char *bytes = NULL;
    int32_t narrow;
    if (cursor->is_ascii) {
        TRY(parse_whole(cursor, is_int ? INT32_MIN : INT64_MIN, is_int ? INT32_MAX : INT64_MAX, ret_number));
        return skip_line_end(cursor);
    }
    TRY(take(cursor, size, &bytes));
    if (is_int) {
        memcpy(&narrow, bytes, sizeof narrow);
        *ret_number = narrow;
    } else {
        memcpy(ret_number, bytes, sizeof *ret_number);
    }
    return STATUS_OK;
}

enum status torch7_read_int(struct torch7_cursor *cursor, int32_t *ret_number)
{
    int64_t number = 0;
    TRY(read_whole(cursor, sizeof *ret_number, &number));
    *ret_number = (int32_t)number;
    return STATUS_OK;
}

enum status torch7_read_long(struct torch7_cursor *cursor, int64_t *ret_number)
{
    return read_whole(cursor, sizeof *ret_number, ret_number);
}

enum status torch7_read_double(struct torch7_cursor *cursor, double *ret_number)
{
    const unsigned char *bytes = NULL;
    if (cursor->is_ascii) {
        TRY(parse_real(cursor, ret_number));
        return skip_line_end(cursor);
    }
    TRY(take(cursor, sizeof *ret_number, &bytes));
    memcpy(ret_number, bytes, sizeof *ret_number);
    return STATUS_OK;
}

enum status torch7_read_string(struct torch7_cursor *cursor, const char **ret_text, size_t *ret_length)
{
    int32_t length = 0;
    const unsigned char *bytes = NULL;
    TRY(torch7_read_int(cursor, &length));
    if (length < 0) {
        return torch7_corrupt(cursor, "a string of negative length");
    }
    TRY(take_raw(cursor, (uint64_t)length, &bytes));
    *ret_text = (const char *)bytes;
    *ret_length = (size_t)length;
    return STATUS_OK;
}

/* ---- many ---- */

/* One element of an ascii file into `target`. */
static enum status parse_element(struct torch7_cursor *cursor, enum dtype dtype, unsigned char *target)
{
    size_t size = dtype_bytes(dtype);
    int64_t most = INT64_MAX >> (64 - 8 * size);
    int64_t whole = 0;
    double real = 0;
    if (dtype == DTYPE_INT16 || dtype == DTYPE_INT32 || dtype == DTYPE_INT64) {
        TRY(parse_whole(cursor, -most - 1, most, &whole));
        memcpy(target, &whole, size); /* little-endian */
        return STATUS_OK;
    }
    if (dtype != DTYPE_FLOAT32 && dtype != DTYPE_FLOAT64) {
        return torch7_corrupt(cursor, "a storage whose elements are not written in decimal");
    }
    TRY(parse_real(cursor, &real));
    float narrow = (float)real;
    memcpy(target, dtype == DTYPE_FLOAT32 ? (const void *)&narrow : &real, size);
    return STATUS_OK;
}

enum status torch7_read_elements(struct torch7_cursor *cursor, enum dtype dtype, uint64_t count,
                                 const unsigned char **ret_bytes, size_t *ret_length)
{
    size_t size = dtype_bytes(dtype);
    uint64_t need = 0;
    if (__builtin_mul_overflow(count, (uint64_t)size, &need) || count > cursor->length - cursor->at) {
        return error_set(cursor->error, STATUS_CORRUPT, "%.200s, byte %zu: a storage of %llu elements, %zu bytes left",
                         cursor->name, cursor->at, (unsigned long long)count, cursor->length - cursor->at);
    }
    *ret_length = (size_t)need;
    if (!cursor->is_ascii || size == 1) {
        return take_raw(cursor, need, ret_bytes);
    }
    unsigned char *copy = arena_allocate(&cursor->model->arena, (size_t)count, size);
    if (copy == NULL) {
        return foreign_no_memory(cursor->model, cursor->error);
    }
    for (uint64_t i = 0; i < count; i++) {
        TRY(parse_element(cursor, dtype, copy + i * size));
    }
    *ret_bytes = copy;
    return count > 0 ? skip_line_end(cursor) : STATUS_OK;
}
