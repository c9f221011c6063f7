/* Strings and known calls of pickles. Thread: any, one at a time. */
#include "engine/import/pickle_private.h"
#include "engine/text/utf8.h"

/* ---- strings ---- */

static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    char lower = (char)(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
}

/* Reads exactly `count` digits; false when they are not there. */
static bool read_digits(const char *text, size_t length, size_t count, int base, uint32_t *ret_number)
{
    uint32_t number = 0;
    if (count > length) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        int digit = digit_value(text[i]);
        if (digit >= base) {
            return false;
        }
        number = number * (uint32_t)base + (uint32_t)digit;
    }
    *ret_number = number;
    return true;
}

/* Writes what the escape behind a backslash stands for; returns how many characters it has, 0 when it is none. */
static size_t read_escape(const char *text, size_t length, char *ret_byte)
{
    static const char plain[] = "\\'\"abfnrtv";
    static const char meaning[] = "\\'\"\a\b\f\n\r\t\v";
    uint32_t number = 0;
    const char *found = length == 0 || text[0] == '\0' ? NULL : strchr(plain, text[0]);
    if (found != NULL) {
        *ret_byte = meaning[found - plain];
        return 1;
    }
    if (length > 0 && text[0] == 'x') {
        bool is_hex = read_digits(text + 1, length - 1, 2, 16, &number);
        *ret_byte = (char)(unsigned char)number;
        return is_hex ? 3 : 0;
    }
    size_t digits = 0;
    while (digits < 3 && digits < length && text[digits] >= '0' && text[digits] <= '7') {
        digits++;
    }
    if (!read_digits(text, length, digits, 8, &number)) {
        return 0;
    }
    *ret_byte = (char)(unsigned char)number;
    return digits;
}

enum status pickle_unescape(struct pickle_reader *reader, const char *text, size_t length, struct plain **ret_value)
{
    char *bytes = arena_allocate(reader->arena, length + 1, 1);
    if (bytes == NULL) {
        return pickle_no_memory(reader);
    }
    size_t count = 0;
    for (size_t i = 0; i < length; count++) {
        bytes[count] = text[i++];
        if (bytes[count] == '\\') {
            size_t step = read_escape(text + i, length - i, &bytes[count]);
            if (step == 0) {
                /* As Python: a backslash that begins no escape stands for itself. */
                bytes[count] = '\\';
            }
            i += step;
        }
    }
    *ret_value = plain_create_text(reader->arena, PLAIN_BYTES, bytes, count);
    return *ret_value == NULL ? pickle_no_memory(reader) : STATUS_OK;
}

enum status pickle_unescape_unicode(struct pickle_reader *reader, const char *text, size_t length,
                                    struct plain **ret_value)
{
    char *bytes = arena_allocate(reader->arena, length * 2 + 1, 1);
    if (bytes == NULL) {
        return pickle_no_memory(reader);
    }
    size_t count = 0;
    for (size_t i = 0; i < length;) {
        uint32_t code_point = (unsigned char)text[i];
        size_t digits = 0;
        if (text[i] == '\\' && i + 1 < length) {
            digits = text[i + 1] == 'u' ? 4 : text[i + 1] == 'U' ? 8 : 0;
        }
        if (digits > 0 && !read_digits(text + i + 2, length - i - 2, digits, 16, &code_point)) {
            return pickle_corrupt(reader, "a \\u without its digits");
        }
        if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000)) {
            return pickle_corrupt(reader, "a code point that is no character");
        }
        count += utf8_encode(code_point, bytes + count);
        i += digits > 0 ? 2 + digits : 1;
    }
    *ret_value = plain_create_text(reader->arena, PLAIN_TEXT, bytes, count);
    return *ret_value == NULL ? pickle_no_memory(reader) : STATUS_OK;
}

/* ---- known calls ---- */

static enum status make_list(struct pickle_reader *reader, const struct plain *arguments, struct plain **ret_value)
{
    const struct plain *items = plain_item(arguments, 0);
    struct plain *list = plain_create(reader->arena, PLAIN_LIST);
    bool is_made = list != NULL;
    for (uint32_t i = 0; is_made && items != NULL && items->kind == PLAIN_LIST && i < items->count; i++) {
        is_made = plain_append(reader->arena, list, items->items[i]);
    }
    *ret_value = list;
    return is_made ? STATUS_OK : pickle_no_memory(reader);
}

static enum status make_set(struct pickle_reader *reader, const struct plain *arguments, struct plain **ret_value)
{
    TRY(make_list(reader, arguments, ret_value));
    (*ret_value)->kind = PLAIN_SET;
    return STATUS_OK;
}

/* Of nothing, or of a list of pairs. */
static enum status make_dict(struct pickle_reader *reader, const struct plain *arguments, struct plain **ret_value)
{
    const struct plain *pairs = plain_item(arguments, 0);
    struct plain *dict = plain_create(reader->arena, PLAIN_DICT);
    bool is_made = dict != NULL;
    for (uint32_t i = 0; is_made && pairs != NULL && pairs->kind == PLAIN_LIST && i < pairs->count; i++) {
        const struct plain *pair = pairs->items[i];
        if (pair->kind == PLAIN_LIST && pair->count == 2) {
            is_made =
                plain_append(reader->arena, dict, pair->items[0]) && plain_append(reader->arena, dict, pair->items[1]);
        }
    }
    *ret_value = dict;
    return is_made ? STATUS_OK : pickle_no_memory(reader);
}

/* _codecs.encode(text, "latin1"): each character is a byte. */
static enum status encode(struct pickle_reader *reader, const struct plain *arguments, struct plain **ret_value)
{
    const struct plain *text = plain_item(arguments, 0);
    if (text == NULL || text->kind != PLAIN_TEXT) {
        return pickle_corrupt(reader, "_codecs.encode without a text");
    }
    char *bytes = arena_allocate(reader->arena, text->length + 1, 1);
    if (bytes == NULL) {
        return pickle_no_memory(reader);
    }
    size_t count = 0;
    for (size_t i = 0; i < text->length;) {
        uint32_t code_point = 0;
        size_t step = utf8_decode(text->text + i, text->length - i, &code_point);
        if (step == 0 || code_point > 0xFF) {
            return pickle_corrupt(reader, "_codecs.encode of what is no byte");
        }
        bytes[count++] = (char)(unsigned char)code_point;
        i += step;
    }
    *ret_value = plain_create_text(reader->arena, PLAIN_BYTES, bytes, count);
    return *ret_value == NULL ? pickle_no_memory(reader) : STATUS_OK;
}

/* bytes() and bytearray(), of bytes or of text with an encoding. */
static enum status make_bytes(struct pickle_reader *reader, const struct plain *arguments, struct plain **ret_value)
{
    const struct plain *content = plain_item(arguments, 0);
    if (content != NULL && content->kind == PLAIN_TEXT) {
        return encode(reader, arguments, ret_value);
    }
    bool is_given = content != NULL && content->kind == PLAIN_BYTES;
    *ret_value =
        plain_create_text(reader->arena, PLAIN_BYTES, is_given ? content->text : "", is_given ? content->length : 0);
    return *ret_value == NULL ? pickle_no_memory(reader) : STATUS_OK;
}

static enum status make_counted_dict(struct pickle_reader *reader, const struct plain *arguments,
                                     struct plain **ret_value)
{
    (void)arguments; /* a factory, or what is counted */
    return make_dict(reader, NULL, ret_value);
}

static const struct known_call {
    const char *global;
    enum status (*make)(struct pickle_reader *reader, const struct plain *arguments, struct plain **ret_value);
} known_calls[] = {
    {"collections OrderedDict", make_dict},
    {"collections defaultdict", make_counted_dict},
    {"builtins dict", make_dict},
    {"builtins list", make_list},
    {"builtins tuple", make_list},
    {"builtins set", make_set},
    {"builtins frozenset", make_set},
    {"builtins bytes", make_bytes},
    {"builtins bytearray", make_bytes},
    {"_codecs encode", encode},
    {"numpy.core.multiarray scalar", pickle_make_scalar},
    {"numpy._core.multiarray scalar", pickle_make_scalar},
    {"numpy.core.numeric _frombuffer", pickle_make_array},
    {"numpy._core.numeric _frombuffer", pickle_make_array},
};

enum status pickle_call(struct pickle_reader *reader, const struct plain *global, struct plain *arguments,
                        struct plain **ret_value)
{
    if (global->kind != PLAIN_GLOBAL) {
        /* What another call would have returned is called. */
        *ret_value = plain_create(reader->arena, PLAIN_CALL);
        if (*ret_value == NULL) {
            return pickle_no_memory(reader);
        }
        (*ret_value)->global = "";
        (*ret_value)->arguments = arguments;
        return STATUS_OK;
    }
    const char *name = global->text;
    char builtin[64];
    if (strncmp(name, "__builtin__ ", 12) == 0) { /* Python 2's name of it */
        snprintf(builtin, sizeof builtin, "builtins %s", name + 12);
        name = builtin;
    }
    for (size_t i = 0; i < sizeof known_calls / sizeof *known_calls; i++) {
        if (strcmp(known_calls[i].global, name) == 0) {
            return known_calls[i].make(reader, arguments, ret_value);
        }
    }
    *ret_value = plain_create(reader->arena, PLAIN_CALL);
    if (*ret_value == NULL) {
        return pickle_no_memory(reader);
    }
    (*ret_value)->global = global->text;
    (*ret_value)->arguments = arguments;
    return STATUS_OK;
}
