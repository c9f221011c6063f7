/* Instructions of pickles that push one number or string. Thread: any, one at a time. */
#include "engine/base/mem.h"
#include "engine/import/pickle_private.h"

/* ---- scalars ---- */

static enum status push_integer(struct pickle_reader *reader, int64_t integer)
{
    if (reader->integers == NULL) {
        reader->integers = mem_allocate(PICKLE_INTEGERS, sizeof(struct plain *));
    }
    if (reader->integers == NULL) {
        return pickle_no_memory(reader);
    }
    struct plain **shared = &reader->integers[(uint64_t)integer % PICKLE_INTEGERS];
    if (*shared == NULL || (*shared)->integer != integer) {
        struct plain *value = plain_create(reader->arena, PLAIN_INTEGER);
        if (value == NULL) {
            return pickle_no_memory(reader);
        }
        value->integer = integer;
        *shared = value;
    }
    return pickle_push(reader, *shared);
}

static enum status push_boolean(struct pickle_reader *reader, bool boolean)
{
    struct plain *value = plain_create(reader->arena, PLAIN_BOOLEAN);
    if (value != NULL) {
        value->boolean = boolean;
    }
    return pickle_push(reader, value);
}

static enum status push_real(struct pickle_reader *reader, double real)
{
    struct plain *value = plain_create(reader->arena, PLAIN_REAL);
    if (value != NULL) {
        value->real = real;
    }
    return pickle_push(reader, value);
}

enum status pickle_do_none(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return pickle_push(reader, plain_create(reader->arena, PLAIN_NONE));
}

enum status pickle_do_true(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return push_boolean(reader, true);
}

enum status pickle_do_false(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    (void)argument;
    return push_boolean(reader, false);
}

enum status pickle_do_unsigned(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    return push_integer(reader, (int64_t)argument->number);
}

enum status pickle_do_signed(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    return push_integer(reader, (int32_t)(uint32_t)argument->number);
}

/* A number in decimal, perhaps with Python 2's L behind it; "01" and "00" are the booleans of protocol 0 and 1. */
enum status pickle_do_decimal(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    char text[32];
    size_t length = argument->length;
    if (length == 2 && argument->text[0] == '0' && (argument->text[1] == '0' || argument->text[1] == '1')) {
        return push_boolean(reader, argument->text[1] == '1');
    }
    length -= length > 1 && argument->text[length - 1] == 'L' ? 1 : 0;
    if (length == 0 || length >= sizeof text) {
        return pickle_corrupt(reader, "no number, or one beyond 64 bits");
    }
    memcpy(text, argument->text, length);
    text[length] = '\0';
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text) {
        return pickle_corrupt(reader, "no number, or one beyond 64 bits");
    }
    return push_integer(reader, number);
}

enum status pickle_do_long(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    uint64_t bits = 0;
    if (argument->length > sizeof bits) {
        return pickle_push(reader, plain_create_text(reader->arena, PLAIN_BIG, argument->text, argument->length));
    }
    bool is_negative = argument->length > 0 && (argument->text[argument->length - 1] & 0x80) != 0;
    bits = is_negative ? UINT64_MAX : 0;
    memcpy(&bits, argument->text, argument->length);
    return push_integer(reader, (int64_t)bits);
}

enum status pickle_do_real(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    return push_real(reader, argument->real);
}

enum status pickle_do_decimal_real(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    char text[64];
    if (argument->length == 0 || argument->length >= sizeof text) {
        return pickle_corrupt(reader, "no number");
    }
    memcpy(text, argument->text, argument->length);
    text[argument->length] = '\0';
    char *end;
    double real = strtod(text, &end);
    return *end == '\0' ? push_real(reader, real) : pickle_corrupt(reader, "no number");
}

/* ---- strings ---- */

enum status pickle_do_bytes(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    return pickle_push(reader, plain_create_text(reader->arena, PLAIN_BYTES, argument->text, argument->length));
}

enum status pickle_do_text(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    return pickle_push(reader, plain_create_text(reader->arena, PLAIN_TEXT, argument->text, argument->length));
}

enum status pickle_do_quoted(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    size_t length = argument->length;
    bool is_quoted = length >= 2 && (argument->text[0] == '\'' || argument->text[0] == '"') &&
                     argument->text[length - 1] == argument->text[0];
    struct plain *value = NULL;
    if (!is_quoted) {
        return pickle_corrupt(reader, "a string without its quotes");
    }
    TRY(pickle_unescape(reader, argument->text + 1, length - 2, &value));
    return pickle_push(reader, value);
}

enum status pickle_do_escaped_text(struct pickle_reader *reader, const struct pickle_argument *argument)
{
    struct plain *value = NULL;
    TRY(pickle_unescape_unicode(reader, argument->text, argument->length, &value));
    return pickle_push(reader, value);
}
