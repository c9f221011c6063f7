/* The batcher's side of a generation: one row of the batch. For engine/decode alone.
 *
 *           submit            settle: READY            settle: ENDED
 *   created ------> queued/ready ------> in a step ------> ended
 *                        ^                 |
 *                        |   settle again  | settle: STALLED (its reader is slow)
 *                        +----- stalled <--+  (when it was woken: generation_wake.h)
 *
 * A step feeds generation_row_symbol to the model, then calls generation_row_advance with the logits (NULL where it
 * wants none), on one thread at a time; settle follows between steps. */
#ifndef ENGINE_DECODE_GENERATION_ROW_H
#define ENGINE_DECODE_GENERATION_ROW_H

#include <stdatomic.h>

#include "engine/decode/generation.h"
#include "engine/decode/sampler.h"
#include "engine/decode/text_stream.h"

/* Where the batcher has a row: in no list that it need be taken from (on its way in, in a step, or ended), or in one of
 * its model's. */
enum generation_row_place {
    GENERATION_ROW_ON_ITS_WAY,
    GENERATION_ROW_IS_READY,
    GENERATION_ROW_WAITS_FOR_READER,
    GENERATION_ROW_WAITS_FOR_SEARCH,
};

/* Rows that were woken (generation_wake.h). */
struct woken_rows;

/* A moment before the symbol `symbols_made` of those made (0: before the last one of the prompt) is fed. */
struct generation_mark {
    float *slot; /* a copy; owned, NULL: never kept */
    unsigned parity;
    size_t symbols_made;
};

struct generation {
    _Atomic size_t reference_count;
    const struct decode_plan *plan; /* borrowed from lifetime, as is the vocabulary */
    void *lifetime;
    void (*release_lifetime)(void *);
    void *owner;

    /* What was asked. */
    uint32_t *prompt; /* [prompt_count], owned: first what a state has pending */
    size_t prompt_count;
    size_t carried_count;             /* of the prompt, those of the state */
    struct text_state *from;          /* one reference, or NULL */
    const struct text_origin *origin; /* borrowed from lifetime, or NULL */
    struct prompt_cache *cache;       /* borrowed; NULL: its prompt is not kept */
    struct prompt_border border;      /* in the prompt, the last one passed */
    size_t cached_count;              /* symbols of the prompt that were in the cache */
    uint64_t fed_before;              /* symbols in the state it began with */
    uint64_t made_before;             /* of those before, the ones that were made */
    size_t tokens_max;
    size_t tokens_min;
    struct sampler_options sampler; /* `banned` is the penalties' */
    uint64_t seed;
    uint64_t choice;
    uint64_t deadline_ms;
    enum generation_priority priority;
    size_t flow;
    bool want_echo;

    /* Where it stands; the compute threads' own until it has ended. */
    float *slot; /* recurrent state (decode_plan_layout.h), owned */
    unsigned parity;
    struct generation_mark prompt_mark; /* with want_state: before the last symbol of the prompt */
    struct generation_mark text_mark;   /* and with stop strings: where they last held nothing back */
    uint32_t *symbols;                  /* [symbols_made], owned, NULL unless want_state */
    struct text_position text_begin;    /* where those begin in what is written, and what stands before them of a */
    struct utf8_assembler text_begin_assembler; /* character */
    float *prompt_logprobs;                     /* [prompt_count], owned, NULL unless wanted */
    uint32_t made;                              /* the last symbol made */
    bool is_made_fed;                           /* the state is past it (true before any was made) */
    enum finish_reason ending;                  /* why it ends, known before it has ended */
    struct error failure;
    struct penalties penalties;
    struct constraint *constraint; /* one reference, or NULL */
    uint32_t constraint_state;
    struct beam *beam; /* one reference, or NULL */
    size_t beam_rank;
    const uint32_t *told; /* what the search found for it, in the beam; NULL: nothing yet */
    size_t told_count;
    bool is_told_whole;       /* its text ends there because of its constraint */
    struct logprobs logprobs; /* `entries` NULL unless wanted */
    struct text_stream stream;
    size_t prompt_read;
    size_t symbols_made;
    size_t step_count;

    /* What others may look at meanwhile. */
    _Atomic enum finish_reason finish;       /* written last */
    _Atomic unsigned wake;                   /* generation_wake.c's */
    _Atomic(struct woken_rows *) woken_rows; /* where it goes when it is woken, borrowed; NULL: no batcher has it */
    _Atomic size_t *taken_places;            /* a batcher's, borrowed, one of which is its own; NULL: it has none */
    _Atomic size_t prompt_progress;
    _Atomic size_t token_progress;
    _Atomic uint64_t joined_ns;
    _Atomic uint64_t first_ns;
    _Atomic uint64_t ended_ns;
    _Atomic bool is_cancelled;

    /* The batcher's lists. */
    struct generation *previous;
    struct generation *next;
    enum generation_row_place place;
    struct generation *woken_below; /* on the stack of those that were woken */
    size_t reported_bytes;          /* text_stream bytes written when it was last reported */
    size_t unread_bytes;            /* new bytes that are worth a report; at least 1 */
};

/* Whether it may join the next step. */
enum generation_row_state { GENERATION_ROW_READY, GENERATION_ROW_STALLED, GENERATION_ROW_ENDED };

/* Between steps: ends it where it was cancelled, is past its deadline or has all it asked for; a row whose reader is
 * slow is STALLED. Once it returned ENDED the generation is its reader's, and must not be settled again. */
enum generation_row_state generation_row_settle(struct generation *generation, uint64_t now_ms);

/* Ends it with `reason` as it stands, without another step. Its place is free before anybody can see that it ended. */
void generation_row_end(struct generation *generation, enum finish_reason reason);

/* With want_state, where the last symbol of the prompt is next: keeps that moment. At the start, too. */
void generation_row_keep_prompt(struct generation *generation);

/* It fails, since its logits are not finite. */
void generation_row_fail(struct generation *generation);

/* The symbol the next step feeds. */
uint32_t generation_row_symbol(const struct generation *generation);

/* Whether the next step must also compute logits for it. */
bool generation_row_wants_logits(const struct generation *generation);

/* After the step: counts the symbol as fed and, with logits, scores the next prompt symbol or chooses and writes a new
 * one. logits, weights: as sampler_choose; both are overwritten. */
void generation_row_advance(struct generation *generation, const struct rnn_kernels *kernels, float *logits,
                            float *weights);

/* A whole step of a row whose plan is stepped, generation_row_advance included; where it fails, so does the row.
 * logits, weights: as above, the plan's logits_stride each. */
void generation_row_step(struct generation *generation, float *logits, float *weights);

/* Whether there is something new to read since it last said so: as long as nobody has read what it said then, half a
 * ring of it, and with is_read_whole always. */
bool generation_row_has_news(struct generation *generation);

#endif
