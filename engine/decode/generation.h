/* One text being generated (or scored): its parameters, its recurrent state, and the bytes that are ready to be sent.
 * Created and read by the loop thread, advanced by the batcher's compute threads. Reference-counted. */
#ifndef ENGINE_DECODE_GENERATION_H
#define ENGINE_DECODE_GENERATION_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/decode/beam.h"
#include "engine/decode/constraint.h"
#include "engine/decode/decode_plan.h"
#include "engine/decode/logprobs.h"
#include "engine/decode/penalties.h"
#include "engine/decode/prompt_cache.h"
#include "engine/decode/text_state.h"
#include "engine/text/stop_strings.h"
#include "engine/text/vocabulary.h"

enum {
    GENERATION_PROMPT_SYMBOLS_MAX = 1 << 20,
    GENERATION_TOKENS_MAX = 1 << 20,
    GENERATION_LOGPROBS_MAX = 1 << 14, /* symbols of a text with logprobs */
    GENERATION_SYMBOL_BYTES_MAX = 1 + VOCABULARY_SYMBOL_BYTES_MAX,
    GENERATION_RING_BYTES = 4096, /* text waiting for a slow reader; a full ring pauses the row */
};

enum { GENERATION_FLOW_COUNT = 64 };
enum generation_priority { GENERATION_PRIORITY_LOW = -1, GENERATION_PRIORITY_NORMAL, GENERATION_PRIORITY_HIGH };

struct generation_options {
    const uint32_t *prompt; /* symbols fed first, copied; at least one, or none with a state */
    size_t prompt_count;
    struct text_state *state;         /* what it goes on from, referenced; NULL: from the beginning */
    const struct text_origin *origin; /* whose states; borrowed from the lifetime. NULL: no states, and no cache */
    struct prompt_cache *cache; /* where states of prompts are kept; borrowed, outlives the generation. NULL: nowhere */
    const char *cache_owner;    /* for whom the prompt is read: others do not find it */
    size_t tokens_max;          /* symbols to make at most; 0: only read the prompt */
    double temperature;         /* 0: argmax, lowest id on ties */
    size_t top_k;               /* 0: off */
    double top_p;               /* 1: off */
    double min_p;               /* 0: off */
    double typical_p;           /* 0 and 1: off */
    struct penalty_options penalties; /* copied */
    struct constraint *constraint;    /* what the text made matches, with those biases; referenced. NULL: anything */
    struct beam
        *beam; /* its text is found by that search, of this plan, constraint and tokens_max; nothing is sampled, and
                          there are no penalties or stop strings. Referenced; NULL: none */
    size_t beam_rank; /* below the search's text_count. Rank 0 searches, the others wait for it: submitted later */
    uint64_t seed;
    uint64_t choice; /* index among n choices; keys the random numbers with the seed and the symbols made so far */
    const char *const *stop; /* copied; see stop_strings_create */
    const size_t *stop_lengths;
    size_t stop_count;
    size_t tokens_min;                 /* stop strings are only looked for behind that many symbols made */
    bool want_echo;                    /* the prompt is part of the text, as the vocabulary spells it */
    bool want_logprobs;                /* of each symbol of the text; see generation_logprobs */
    size_t top_logprobs;               /* and of so many of the likeliest beside it, at most LOGPROBS_TOP_MAX */
    bool want_prompt_logprobs;         /* scoring: keep log p(prompt[i] | prompt[..i]) */
    bool want_state;                   /* for generation_make_state: 4 bytes for each symbol, two copies of the state */
    bool is_read_whole;                /* progress is reported for each half ring and at the end alone */
    uint64_t deadline_ms;              /* clock_now_ms() after which it ends with FINISH_DEADLINE; 0: none */
    enum generation_priority priority; /* higher first when rows are scarce */
    size_t flow; /* whose it is, below GENERATION_FLOW_COUNT: when rows are scarce, each flow gets as many */
    void *owner; /* the caller's, returned by generation_owner */
};

enum finish_reason {
    FINISH_NONE, /* still going */
    FINISH_LENGTH,
    FINISH_STOP, /* a stop string; or its constraint lets nothing follow */
    FINISH_CANCELLED,
    FINISH_DEADLINE,
    FINISH_FAILED, /* the engine could not go on (logits not finite); generation_failure says more */
    FINISH_REASON_COUNT,
};

struct generation;

/* `plan` and `vocabulary` are borrowed from `lifetime`, a reference-counted thing that `release_lifetime` (may be NULL)
 * gives back with the generation's last reference (called once, on whatever thread that is). On failure the lifetime is
 * not taken. INVALID names the option and its bounds, with `error->param` its name in the API ("top_p"; "pattern" for
 * the constraint, where it has no match; "max_tokens" where the shortest is longer); UNPROCESSABLE,
 * code "state_mismatch", for a state of another version, naming it; LIMIT for stop strings, and where a
 * state is wanted and the plan's has more than TEXT_STATE_NUMBER_BYTES_MAX; NO_MEMORY. Holds the prompt, the recurrent
 * state and the ring until the last unref. Any thread. */
enum status generation_create(const struct decode_plan *plan, struct vocabulary *vocabulary,
                              const struct generation_options *options, void *lifetime,
                              void (*release_lifetime)(void *), struct generation **ret_generation,
                              struct error *error) MUST_CHECK;

/* One more reference, counted atomically, and its release; unref takes NULL and returns NULL. Any thread. */
struct generation *generation_ref(struct generation *generation);
struct generation *generation_unref(struct generation *generation);

/* The `owner` of its options. */
void *generation_owner(const struct generation *generation);

/* What is known now; counters never go back. */
struct generation_progress {
    enum finish_reason finish; /* set only after the last byte is in the ring */
    size_t prompt_count;       /* prompt symbols read so far, without those of a state */
    size_t cached_count;       /* of those, found in the cache instead */
    size_t token_count;        /* symbols made so far */
    uint64_t joined_ns;        /* clock_now_ns() of its first step; 0 before */
    uint64_t first_ns;         /* of its first symbol; 0 before */
    uint64_t ended_ns;         /* of its end; 0 before */
    size_t readable_bytes;     /* bytes waiting in the ring */
};
struct generation_progress generation_progress(const struct generation *generation);

/* Moves up to `bytes_max` (at least 4) ready bytes out and returns their number; only whole UTF-8 characters are ever
 * ready, and never part of a stop string. A character that does not fit whole stays for the next call. Text that comes
 * before what was reported is read is not reported by itself: whoever reads looks afterwards whether
 * generation_progress has readable_bytes. One reader (the loop thread). A row that was paused by its full ring goes on
 * after batcher_wake. */
size_t generation_read(struct generation *generation, char *bytes, size_t bytes_max);

/* Asks it to end before the next step with FINISH_CANCELLED, wherever it waits; batcher_wake makes that soon where no
 * step is due. Any thread. */
void generation_cancel(struct generation *generation);

/* With want_logprobs: those of all symbols written so far, in the text's order, also of what stop strings hold back or
 * cut off; those of what generation_read gave are there. Entries that are there do not change; after the end it is all
 * of them. Borrowed. One reader. */
const struct symbol_logprob *generation_logprobs(const struct generation *generation, size_t *ret_count);

/* What a symbol writes where it stands alone behind `begin`: a word with the space before it; a byte as that byte.
 * Returns its length. Any thread. */
size_t generation_spell(const struct vocabulary *vocabulary, uint32_t symbol, struct text_position begin,
                        char text[GENERATION_SYMBOL_BYTES_MAX]);

/* After the end, with want_prompt_logprobs: natural-log probabilities of prompt symbols 1…; entry 0 is NaN (it had no
 * context), as are those that were not reached. NULL without the option. Borrowed. */
const float *generation_prompt_logprobs(const struct generation *generation);

/* After FINISH_FAILED: why. */
void generation_failure(const struct generation *generation, struct error *ret_error);

/* Whether a generation of this plan can begin from the state: UNPROCESSABLE, code "state_mismatch", where it is another
 * version's; INVALID, code "state_malformed", names what does not fit; NO_MEMORY. Any thread. */
enum status generation_check_state(const struct decode_plan *plan, const struct text_origin *origin,
                                   const struct text_state *state, struct error *error) MUST_CHECK;

/* After the end, with want_state: where the text stands behind the last symbol of which the first `sent_bytes` bytes of
 * what generation_read gave, or would give, have everything (SIZE_MAX: all of it). Of what follows, a stop string for
 * one, there is nothing in the state. Where it stands cannot be fed backwards: symbols from a copy of the state on are
 * then pending, at most as many as were made. NO_MEMORY. Owned by one reference. One reader. */
enum status generation_make_state(const struct generation *generation, size_t sent_bytes, struct text_state **ret_state,
                                  struct error *error) MUST_CHECK;

#endif
