/* What the caller wishes for and what a row has said, as changes of its logits before a symbol is chosen.
 *
 * In this order, as vLLM and llama.cpp do:
 *   bias        l + bias (OpenAI's logit_bias)
 *   repetition  l > 0 ? l / p : l · p for each symbol among the last `repetition_window` of prompt and text, however
 *               often it stands there (Keskar et al., "CTRL", 2019; the product for negative ones is Hugging Face's)
 *   frequency, presence  l − count · frequency − presence for each symbol made so far (OpenAI; the prompt does not
 *               count)
 * Memory: 4 bytes for each symbol of the window, and at most 24 for each that can be made, which is never more than the
 * vocabulary has; what is neutral costs nothing. All of it is taken at the start. A step costs in proportion to the
 * window and to the different symbols made, not to the vocabulary.
 * Thread: one at a time (a compute thread). */
#ifndef ENGINE_DECODE_PENALTIES_H
#define ENGINE_DECODE_PENALTIES_H

#include <stddef.h>
#include <stdint.h>

#include "engine/math/rnn_packed.h"

enum {
    PENALTIES_WINDOW_MAX = 4096,
    PENALTIES_BIASES_MAX = 1024,
    PENALTIES_BIAS_MAX = 100, /* and as far below 0 */
    PENALTIES_TAKEN_MAX = 2,  /* frequency's and presence's, and as far below 0 */
    PENALTIES_REPETITION_MAX = 100,
};
#define PENALTIES_REPETITION_MIN 0.01

struct penalty_bias {
    uint32_t symbol;
    double bias; /* −INFINITY: never chosen */
};

/* All zero: nothing changes. */
struct penalty_options {
    double repetition; /* 0 and 1: off */
    size_t repetition_window;
    double frequency;
    double presence;
    const struct penalty_bias *biases;
    size_t bias_count;
};

struct made_symbol {
    uint32_t symbol;
    uint32_t count;
};

struct penalties {
    struct penalty_options options; /* without `biases` */
    struct penalty_bias *biases;    /* owned; those that are finite */
    size_t bias_count;
    uint32_t *banned; /* the others, ascending; owned */
    size_t banned_count;
    uint32_t *recent; /* ring of the last symbols; owned, NULL where repetition is off */
    size_t recent_count;
    size_t recent_next;
    struct made_symbol *made; /* in order of first appearance; owned, NULL where nothing counts them */
    size_t made_count;
    uint32_t *places; /* symbol → index in `made` + 1, 0: free; open addressing; owned */
    size_t place_mask;
};

/* Starts after `prompt`, with at most `tokens_max` symbols to come of `symbol_count`. INVALID names the
 * option and its bounds, with `error->param` its name in the API ("logit_bias"); NO_MEMORY. Owned. */
enum status penalties_init(struct penalties *penalties, const struct penalty_options *options, size_t symbol_count,
                           const uint32_t *prompt, size_t prompt_count, size_t tokens_max,
                           struct error *error) MUST_CHECK;
void penalties_release(struct penalties *penalties);

/* Changes `logits` [count], those of banned symbols to the lowest there is. scratch: as large. False when a logit is
 * not finite, as far as anything is on. */
bool penalties_apply(const struct penalties *penalties, const struct rnn_kernels *kernels, float *logits,
                     float *scratch, size_t count) MUST_CHECK;

/* Before any symbol is made: counts one that was made `count` times earlier; `tokens_max` had room for it. Where
 * nothing counts them this does nothing. */
void penalties_count_earlier(struct penalties *penalties, struct made_symbol earlier);

/* Counts a symbol that was made. */
void penalties_add(struct penalties *penalties, uint32_t symbol);

/* A symbol's index in `made`; made_count for one that is not there. */
size_t penalties_find_made(const struct penalties *penalties, uint32_t symbol);

#endif
