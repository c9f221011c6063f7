/* Choosing a symbol from logits. Pure functions: the same logits, options and random number give the same symbol on any
 * thread and any kernels. No sort: what keeps "the largest that make up so much" finds its threshold by its digits.
 *
 * The filters, in this order (Hugging Face's); each sees the probabilities of what those before it left:
 *   temperature  logits / T, before everything that reads probabilities
 *   top_k        Fan, Lewis & Dauphin, "Hierarchical neural story generation", 2018
 *   top_p        Holtzman et al., "The curious case of neural text degeneration", 2020
 *   min_p        Nguyen et al., "Turning up the heat: min-p sampling", 2024
 *   typical_p    Meister et al., "Locally typical sampling", 2022 */
#ifndef ENGINE_DECODE_SAMPLER_H
#define ENGINE_DECODE_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "engine/math/rnn_packed.h"

struct sampler_options {
    double temperature; /* finite, at least 0; 0: the largest logit, lowest id on ties, and no other filter counts */
    size_t top_k;       /* only the k largest logits, lowest ids on ties; 0: all */
    double top_p;       /* of those the fewest, largest first, whose probability reaches p; at least one; 1: all */
    double min_p;       /* of those only with at least this share of the largest probability, 0 to 1; 0: all */
    double typical_p;   /* of those the fewest whose probability reaches p, by |−ln probability − entropy| from the
                           smallest, lowest ids on ties; at least one; 0 and 1: all */
    const uint32_t *banned; /* symbols that are never chosen, ascending; not all there are */
    size_t banned_count;
};

/* Chooses a symbol. `uniform` in [0, 1). logits: [count], count at least 1, those of banned symbols at most any other,
 * overwritten where typical_p counts; weights: scratch; both aligned, with room up to the next multiple of
 * RNN_LANES_MAX. False when a logit is not finite. */
bool sampler_choose(const struct rnn_kernels *kernels, const struct sampler_options *options, float *logits,
                    float *weights, size_t count, double uniform, uint32_t *ret_symbol) MUST_CHECK;

/* ln p(symbol) under softmax(logits) = logits[symbol] − ret_normalizer; arrays as above. False when a logit is not
 * finite. */
bool sampler_find_normalizer(const struct rnn_kernels *kernels, const float *logits, float *weights, size_t count,
                             double *ret_normalizer) MUST_CHECK;

/* That ln p of one symbol, finite even where the exact one is beyond what floats hold; NaN where either is. */
float sampler_logprob(float logit, double normalizer);

#endif
