/* Choosing a symbol from logits. Pure functions: the same logits, options and random number give the same symbol on any
 * thread and any kernels. No sort: top_k and top_p find their threshold by its digits. */
#ifndef ENGINE_DECODE_SAMPLER_H
#define ENGINE_DECODE_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "engine/math/rnn_packed.h"

struct sampler_options {
    double temperature; /* finite, at least 0; 0: the largest logit, lowest id on ties */
    size_t top_k;       /* only the k largest logits, lowest ids on ties; 0: all */
    double top_p;       /* of those the fewest, largest first, whose probability reaches p; at least one; 1: all */
};

/* Chooses by logits / temperature, then top_k, then top_p over what is left. `uniform` in [0, 1).
 * logits: [count], count at least 1; weights: scratch; both aligned, with room up to the next multiple of
 * RNN_LANES_MAX. False when a logit is not finite. */
bool sampler_choose(const struct rnn_kernels *kernels, const struct sampler_options *options, const float *logits,
                    float *weights, size_t count, double uniform, uint32_t *ret_symbol) MUST_CHECK;

/* ln p(symbol) under softmax(logits); arrays as above. False when a logit is not finite. */
bool sampler_log_probability(const struct rnn_kernels *kernels, const float *logits, float *weights, size_t count,
                             uint32_t symbol, double *ret_log_probability) MUST_CHECK;

#endif
