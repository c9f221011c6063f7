/* UTF-8 by the table of well-formed byte sequences. Thread: any; no state but the caller's assembler.
 * Source: The Unicode Standard, table 3-7; WHATWG Encoding Standard, "UTF-8 decoder". */
#include "engine/text/utf8.h"

#include <stdbool.h>

#include "engine/base/check.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

enum { REPLACEMENT_BYTES = sizeof replacement - 1 };

/* The length that a first byte announces; 0 where no character begins with it. */
static size_t announced_length(unsigned char first)
{
    if (first < 0x80) {
        return 1;
    }
    if (first < 0xC2 || first > 0xF4) {
        return 0;
    }
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* Whether `byte` may stand at `index` (from 1) of a character that begins with `first`. Only the second byte's range
 * depends on the first: it shuts out overlong forms, surrogates and what lies above U+10FFFF. */
static bool may_continue(unsigned char first, size_t index, unsigned char byte)
{
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (index == 1) {
        low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : low;
        high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : high;
    }
    return byte >= low && byte <= high;
}

size_t utf8_decode(const char *bytes, size_t length, uint32_t *ret_code_point)
{
    if (length == 0) {
        return 0;
    }
    unsigned char first = (unsigned char)bytes[0];
    size_t need = announced_length(first);
    if (need == 0 || need > length) {
        return 0;
    }
    uint32_t code_point = need == 1 ? first : first & (0xFFu >> (need + 1));
    for (size_t i = 1; i < need; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (!may_continue(first, i, byte)) {
            return 0;
        }
        code_point = code_point << 6 | (byte & 0x3Fu);
    }
    *ret_code_point = code_point;
    return need;
}

size_t utf8_encode(uint32_t code_point, char bytes[UTF8_BYTES_MAX])
{
    CHECK(code_point <= 0x10FFFF && (code_point < 0xD800 || code_point > 0xDFFF));
    if (code_point < 0x80) {
        bytes[0] = (char)code_point;
        return 1;
    }
    size_t length = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (code_point & 0x3F));
        code_point >>= 6;
    }
    bytes[0] = (char)((0xF00u >> length & 0xFFu) | code_point);
    return length;
}

size_t utf8_find_malformed(const char *bytes, size_t length)
{
    size_t offset = 0;
    while (offset < length) {
        uint64_t eight;
        if (length - offset >= sizeof eight) {
            memcpy(&eight, bytes + offset, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                offset += sizeof eight;
                continue;
            }
        }
        uint32_t code_point;
        size_t step = utf8_decode(bytes + offset, length - offset, &code_point);
        if (step == 0) {
            return offset;
        }
        offset += step;
    }
    return length;
}

static bool continues(char byte)
{
    return ((unsigned char)byte & 0xC0) == 0x80;
}

size_t utf8_count(const char *bytes, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        count += !continues(bytes[i]);
    }
    return count;
}

size_t utf8_fitting(const char *bytes, size_t length, size_t room)
{
    size_t end = length < room ? length : room;
    while (end < length && end > 0 && continues(bytes[end])) {
        end--;
    }
    return end;
}

bool utf8_is_white_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t utf8_assembler_push(struct utf8_assembler *assembler, unsigned char byte,
                           char output[UTF8_ASSEMBLER_OUTPUT_BYTES_MAX])
{
    size_t written = 0;
    size_t count = assembler->pending_count;
    if (count > 0 && !may_continue(assembler->pending[0], count, byte)) {
        memcpy(output, replacement, REPLACEMENT_BYTES); /* the cut-off character; `byte` begins anew */
        written = REPLACEMENT_BYTES;
        count = 0;
    }
    if (count == 0 && announced_length(byte) == 0) {
        memcpy(output + written, replacement, REPLACEMENT_BYTES);
        assembler->pending_count = 0;
        return written + REPLACEMENT_BYTES;
    }
    CHECK(count < UTF8_BYTES_MAX); /* what waits is the beginning of a character */
    assembler->pending[count++] = byte;
    if (count == announced_length(assembler->pending[0])) {
        memcpy(output + written, assembler->pending, count);
        written += count;
        count = 0;
    }
    assembler->pending_count = count;
    return written;
}
