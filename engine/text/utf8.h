/* UTF-8: checking it, walking it, and putting it together from bytes. Thread: any. Source: RFC 3629. */
#ifndef ENGINE_TEXT_UTF8_H
#define ENGINE_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UTF8_BYTES_MAX = 4 };

/* The length in bytes (1 to 4) of the well-formed character at `bytes`, and its code point; 0 where it is malformed or
 * cut off. Overlong forms, surrogates and values above U+10FFFF are malformed. */
size_t utf8_decode(const char *bytes, size_t length, uint32_t *ret_code_point);

/* Writes `code_point` and returns its length in bytes. The code point must be a Unicode scalar value. */
size_t utf8_encode(uint32_t code_point, char bytes[UTF8_BYTES_MAX]);

/* The offset of the first malformed byte, or `length` when all is well. */
size_t utf8_find_malformed(const char *bytes, size_t length);

/* Characters of well-formed text: each has one byte that continues none. */
size_t utf8_count(const char *bytes, size_t length);

/* The bytes of the whole characters of well-formed text that fit into `room` bytes. */
size_t utf8_fitting(const char *bytes, size_t length, size_t room);

/* Whether the character has Unicode's White_Space property. */
bool utf8_is_white_space(uint32_t code_point);

/* Puts well-formed text together from a byte-level model's symbols. Zeroed at start; plain value, no memory of its
 * own. */
struct utf8_assembler {
    unsigned char pending[UTF8_BYTES_MAX];
    size_t pending_count;
};

enum { UTF8_ASSEMBLER_OUTPUT_BYTES_MAX = 16 };

/* Takes one byte; writes what is now certain to `output` and returns its length (0 while a character is unfinished).
 * Every maximal malformed part becomes one U+FFFD, as WHATWG's decoder does. */
size_t utf8_assembler_push(struct utf8_assembler *assembler, unsigned char byte,
                           char output[UTF8_ASSEMBLER_OUTPUT_BYTES_MAX]);

#endif
