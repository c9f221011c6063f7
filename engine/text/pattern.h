/* Regular expressions, for saying which texts may be written: an automaton over the bytes of UTF-8 that reads a text
 * from its beginning and tells whether the whole of it matches so far, or can still come to match.
 *
 * The syntax is what Python's `re`, RE2 and ECMAScript have in common:
 *   x              a character other than \ . [ ( ) | * + ? { ^ $
 *   .              any character but a line feed
 *   [a-z_] [^0-9]  one of a class, one of all others; ranges, escapes and \d \w \s in it
 *   \d \w \s       [0-9], [0-9A-Za-z_], [ \t\n\v\f\r]; \D \W \S all others
 *   \n \t \r \f \v, \xHH, \uHHHH, and \ before any other ASCII sign: that character
 *   (…) (?:…)      a group
 *   a|b            either; each may be empty
 *   * + ? {m} {m,} {m,n}, each with a ? behind it, which changes nothing of what matches as a whole
 *   ^ $            at the beginning and the end of an alternative outside of groups, where they change nothing
 * What is not in this list is refused by its name and place.
 *
 * States of the automaton are made when they are first asked for (McNaughton & Yamada 1960; Thompson, "Regular
 * expression search algorithm", 1968), within bounds. One thread at a time. */
#ifndef ENGINE_TEXT_PATTERN_H
#define ENGINE_TEXT_PATTERN_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum {
    PATTERN_BYTES_MAX = 4096,
    PATTERN_DEPTH_MAX = 100,     /* groups in groups */
    PATTERN_REPEATS_MAX = 1000,  /* m and n of {m,n} */
    PATTERN_NODES_MAX = 1 << 16, /* of the automaton before it is made deterministic: ranges of bytes and branches */
    PATTERN_STATES_MAX = 4096,
    PATTERN_STEPS_MAX = 1 << 26, /* what making all states may cost: nodes looked at */
};

enum { PATTERN_DEAD = 1, PATTERN_START = 2 };

struct pattern;

/* Reads an expression. INVALID, param "pattern": code "pattern_malformed" or "pattern_unsupported" names what is wrong
 * or not taken, and the character where (from 0); "pattern_too_large" the bound. NO_MEMORY. Owned: pattern_destroy,
 * which takes NULL. */
enum status pattern_create(const char *text, size_t length, struct pattern **ret_pattern,
                           struct error *error) MUST_CHECK;
void pattern_destroy(struct pattern *pattern);

/* The state behind one byte more: PATTERN_DEAD where no text that begins so matches. `state` is PATTERN_START or came
 * from here. INVALID, code "pattern_too_large", where the automaton outgrows a bound; it is then of no more use. */
enum status pattern_step(struct pattern *pattern, uint32_t state, unsigned char byte, uint32_t *ret_next,
                         struct error *error) MUST_CHECK;

/* Whether a text that leads there matches as a whole. */
bool pattern_is_accepting(const struct pattern *pattern, uint32_t state);

#endif
