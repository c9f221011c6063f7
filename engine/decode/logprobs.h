/* The log-probabilities of a row's symbols under the model's own distribution: before temperature, penalties and every
 * filter. Owned by the row; threads: one appends (a compute thread), one reads what is there (logprobs_entries). */
#ifndef ENGINE_DECODE_LOGPROBS_H
#define ENGINE_DECODE_LOGPROBS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/math/rnn_packed.h"

enum { LOGPROBS_TOP_MAX = 5 };

/* A place in a text. */
struct text_position {
    size_t bytes;
    size_t characters;
    bool is_line_begun; /* a word that follows has no space before it */
};

/* One symbol of the text. */
struct symbol_logprob {
    uint32_t symbol;
    float logprob;                          /* ln p(symbol | what stood before), finite; NaN for a text's first */
    uint32_t top_symbols[LOGPROBS_TOP_MAX]; /* the likeliest, lowest ids on ties; the symbol itself may be another */
    float top_logprobs[LOGPROBS_TOP_MAX];   /* equal to `logprob` where it is the same symbol */
    size_t top_count;                       /* 0 for a text's first symbol */
    struct text_position begin;             /* of what it wrote, as if no stop string held anything back */
    size_t end_bytes;                       /* as `begin` for part of a character: what completes it writes it */
};

struct logprobs {
    struct symbol_logprob *entries; /* owned; NULL: nobody wants them */
    size_t entry_max;
    _Atomic size_t entry_count;
    float *logits; /* [symbol_count]: the current step's; owned */
    size_t symbol_count;
    double normalizer; /* of the current step: logit − logprob; NaN before the first */
    uint32_t top_symbols[LOGPROBS_TOP_MAX];
    size_t top_count;
    size_t top_max;
};

/* Room for `entry_max` symbols of `symbol_count`, each with the `top_count` (at most LOGPROBS_TOP_MAX) likeliest.
 * NO_MEMORY. Owned: logprobs_release. */
enum status logprobs_init(struct logprobs *logprobs, size_t symbol_count, size_t entry_max, size_t top_count,
                          struct error *error) MUST_CHECK;
void logprobs_release(struct logprobs *logprobs);

/* Remembers the distribution of the next symbol. Arrays as sampler_choose, logits unchanged. False when one is not
 * finite. */
bool logprobs_predict(struct logprobs *logprobs, const struct rnn_kernels *kernels, const float *logits,
                      float *weights) MUST_CHECK;

/* Appends the next symbol, which wrote from `begin` to `end_bytes`. */
void logprobs_add(struct logprobs *logprobs, uint32_t symbol, struct text_position begin, size_t end_bytes);

/* All so far; those that are there do not change. Reading thread. */
const struct symbol_logprob *logprobs_entries(const struct logprobs *logprobs, size_t *ret_count);

#endif
