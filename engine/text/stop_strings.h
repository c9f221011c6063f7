/* Finding stop strings in text that is still being made, and holding back what could become one.
 * Not thread-safe: one owner at a time.
 *
 * The result does not depend on how the text is cut into pieces: the string that is complete first stops the text, of
 * two complete with the same byte the longer one. Text and strings of whole characters give pieces of whole
 * characters. */
#ifndef ENGINE_TEXT_STOP_STRINGS_H
#define ENGINE_TEXT_STOP_STRINGS_H

#include <stddef.h>

#include "engine/base/status.h"

enum { STOP_STRINGS_MAX = 16, STOP_STRING_BYTES_MAX = 256 };

struct stop_strings;

/* Copies the strings. LIMIT when there are too many or one is too long; INVALID for an empty one. `count` may be 0.
 * Owned: stop_strings_destroy. */
enum status stop_strings_create(const char *const *strings, const size_t *lengths, size_t count,
                                struct stop_strings **ret_stop, struct error *error) MUST_CHECK;
void stop_strings_destroy(struct stop_strings *stop);

/* Room for what push and flush may write: the longest stop string and one symbol. */
enum { STOP_STRINGS_OUTPUT_BYTES_MAX = 2048, STOP_STRINGS_INPUT_BYTES_MAX = 1024 };

/* Takes the next `length` (at most STOP_STRINGS_INPUT_BYTES_MAX) bytes of text, writes the bytes that are certain to
 * lie before any stop string to `output` and their number to `ret_length`. Returns true when a stop string was
 * completed: the text before it is out, nothing more may be pushed, flush writes nothing. */
bool stop_strings_push(struct stop_strings *stop, const char *bytes, size_t length,
                       char output[STOP_STRINGS_OUTPUT_BYTES_MAX], size_t *ret_length) MUST_CHECK;

/* At the end of generation: writes what was held back. Nothing may be pushed after it. */
void stop_strings_flush(struct stop_strings *stop, char output[STOP_STRINGS_OUTPUT_BYTES_MAX], size_t *ret_length);

#endif
