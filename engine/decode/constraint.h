/* Which symbols may follow, so that the text made matches a pattern as a whole: the pattern's automaton
 * (text/pattern.h) walked with a vocabulary's symbols instead of bytes. A state has its symbols in a list, each with
 * the state it leads to; those that lead to no match are not in it, and each state knows how few symbols complete a
 * match.
 * So a text of limited length is led to its match in time, and a step costs in proportion to the symbols that may
 * follow, with nothing to be made on a compute thread.
 *
 * Where the text matches, but could go on, an end-of-text symbol ("<eos>", of the vocabularies that have it) may be
 * chosen and ends it unwritten, unless the pattern has a place for what it writes (a word's "<eos>" is a line's end).
 *
 * Immutable, reference-counted. Thread: any. */
#ifndef ENGINE_DECODE_CONSTRAINT_H
#define ENGINE_DECODE_CONSTRAINT_H

#include <stddef.h>
#include <stdint.h>

#include "engine/decode/penalties.h"
#include "engine/text/pattern.h"
#include "engine/text/vocabulary.h"

enum {
    CONSTRAINT_STATES_MAX = 8192,
    CONSTRAINT_EDGES_MAX = 1 << 20,        /* all states' symbols: 8 bytes each */
    CONSTRAINT_SYMBOL_STEPS_MAX = 1 << 25, /* bytes of symbols looked at to make it */
};

#define CONSTRAINT_NEVER SIZE_MAX

struct constraint;

/* For that vocabulary; `biases` are those of the texts: what they ban is in no list (one of no symbol of it is
 * generation_create's to refuse). Errors of pattern_create and pattern_step; INVALID, code "pattern_too_large", beyond
 * the bounds above; NO_MEMORY. Owned by one reference. May take a good part of a second: not for the loop. */
enum status constraint_create(const char *pattern, size_t length, const struct vocabulary *vocabulary,
                              const struct penalty_bias *biases, size_t bias_count, struct constraint **ret_constraint,
                              struct error *error) MUST_CHECK;

/* One more reference, counted atomically, and its release; both take NULL, unref returns it. */
struct constraint *constraint_ref(struct constraint *constraint);
struct constraint *constraint_unref(struct constraint *constraint);

/* The state of an empty text, at the beginning of a line or not (text_position). */
uint32_t constraint_begin(const struct constraint *constraint, bool is_line_begun);

/* How many symbols a match needs from there at least; CONSTRAINT_NEVER: there is none. */
size_t constraint_shortest(const struct constraint *constraint, uint32_t state);

/* What becomes of a text in a state with room for `left` symbols more. */
enum constraint_course {
    CONSTRAINT_GOES_ON,
    CONSTRAINT_ENDS,     /* it matches, and no symbol may follow */
    CONSTRAINT_IS_SHORT, /* it matches; what may follow needs more than `left` symbols to match again */
};
enum constraint_course constraint_course(const struct constraint *constraint, uint32_t state, size_t left);

/* Where it goes on: moves the logits of the symbols that may follow to the front, in ascending order, and returns their
 * number. [0] is then the lowest symbol's; what lies behind is not defined. */
size_t constraint_gather(const struct constraint *constraint, uint32_t state, size_t left, float *logits);

/* The `index`th of them, and the state behind it. False: it is the end of the text, and not to be written. */
bool constraint_follow(const struct constraint *constraint, uint32_t *state, size_t left, size_t index,
                       uint32_t *ret_symbol) MUST_CHECK;

#endif
