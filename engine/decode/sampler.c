/* Sampling by cumulated weights. Thread: any; no state. Sums run in double over fixed blocks, so that they cost little
 * and always round the same way. */
#include "engine/decode/sampler.h"

#include <float.h>
#include <math.h>

#include "engine/base/check.h"

enum { SUM_BLOCK = 64, KEPT_BLOCKS = 256, MEAN_LANES = 8, DIGIT_BITS = 8, DIGITS = 1 << DIGIT_BITS, KEY_BITS = 32 };

static size_t block_length(size_t begin, size_t count)
{
    return count - begin < SUM_BLOCK ? count - begin : SUM_BLOCK;
}

/* The sum of all, block by block; ret_blocks: [KEPT_BLOCKS], those of the first ones, or NULL. */
static double sum(const struct rnn_kernels *kernels, const float *weights, size_t count, double *ret_blocks)
{
    double total = 0.0;
    for (size_t begin = 0; begin < count; begin += SUM_BLOCK) {
        double here = kernels->sum(weights + begin, block_length(begin, count));
        total += here;
        if (ret_blocks != NULL && begin < KEPT_BLOCKS * SUM_BLOCK) {
            ret_blocks[begin / SUM_BLOCK] = here;
        }
    }
    return total;
}

/* An unsigned number in the order of the floats (−0 and 0 alike; no NaN). */
static uint32_t ordered_key(float value)
{
    float normal = value + 0.0f;
    uint32_t bits;
    memcpy(&bits, &normal, sizeof bits);
    return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

/* What a symbol counts: its weight, or 1 where weights are NULL. */
static double amount(const float *weights, size_t n)
{
    return weights == NULL ? 1.0 : (double)weights[n];
}

/* Keeps the fewest symbols with the largest logits whose amounts together reach `target` (positive), among equal logits
 * those with the lowest ids, and sets the weights of the others to 0. `by` is `weights`, or NULL to count symbols.
 * Finds the last one's key digit by digit from the top: four passes whatever the logits. */
static void keep_top(const float *logits, float *weights, const float *by, size_t count, double target)
{
    uint32_t threshold = 0;
    double above = 0.0;
    for (int shift = KEY_BITS - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        double amounts[DIGITS] = {0};
        uint64_t prefix = (uint64_t)threshold >> shift >> DIGIT_BITS;
        for (size_t n = 0; n < count; n++) {
            uint32_t key = ordered_key(logits[n]);
            if ((uint64_t)key >> shift >> DIGIT_BITS == prefix) {
                amounts[key >> shift & (DIGITS - 1)] += amount(by, n);
            }
        }
        uint32_t digit = DIGITS - 1;
        while (digit > 0 && above + amounts[digit] < target) {
            above += amounts[digit--];
        }
        threshold |= digit << shift;
    }
    bool is_reached = false;
    for (size_t n = 0; n < count; n++) {
        uint32_t key = ordered_key(logits[n]);
        if (key < threshold || (key == threshold && is_reached)) {
            weights[n] = 0.0f;
        } else if (key == threshold) {
            above += amount(by, n);
            is_reached = above >= target;
        }
    }
}

/* The symbol at which the cumulated weights first exceed `target`. blocks: as `sum` leaves them. */
static uint32_t find_cumulated(const struct rnn_kernels *kernels, const float *weights, size_t count,
                               const double *blocks, double target)
{
    double before = 0.0;
    size_t begin = 0;
    size_t last_block = 0;
    for (; begin < count; begin += SUM_BLOCK) {
        double here = begin < KEPT_BLOCKS * SUM_BLOCK ? blocks[begin / SUM_BLOCK]
                                                      : kernels->sum(weights + begin, block_length(begin, count));
        last_block = here > 0.0 ? begin : last_block;
        if (before + here > target) {
            break;
        }
        before += here;
    }
    begin = begin < count ? begin : last_block; /* rounding can leave the target just beyond the end */
    uint32_t last = (uint32_t)begin;
    for (size_t n = begin; n < begin + block_length(begin, count); n++) {
        if (weights[n] > 0.0f) {
            before += (double)weights[n];
            last = (uint32_t)n;
            if (before > target) {
                break;
            }
        }
    }
    return last;
}

/* Keeps what has at least `share` of the largest weight. */
static void keep_share(const struct rnn_kernels *kernels, float *weights, size_t count, double share)
{
    float largest;
    CHECK(kernels->find_maximum(weights, count, &largest)); /* weights are finite */
    double least = share * (double)largest;
    for (size_t n = 0; n < count; n++) {
        weights[n] = (double)weights[n] < least ? 0.0f : weights[n];
    }
}

/* Keeps the fewest typical symbols whose weights reach `share` of their sum, `total`. Leaves in `logits` how typical
 * each is: −|−ln p − entropy|, where ln p = (logit − maximum) × scale − ln total. */
static void keep_typical(float *logits, float *weights, size_t count, float maximum, float scale, double share,
                         double total)
{
    double sums[MEAN_LANES] = {0};
    for (size_t n = 0; n < count; n++) {
        if (weights[n] > 0.0f) {
            double exponent = ((double)logits[n] - (double)maximum) * (double)scale;
            sums[n % MEAN_LANES] -= (double)weights[n] * exponent;
        }
    }
    double mean = (((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))) / total;
    for (size_t n = 0; n < count; n++) { /* ln total is part of ln p and of the entropy, and cancels out */
        double exponent = ((double)logits[n] - (double)maximum) * (double)scale;
        logits[n] = weights[n] > 0.0f ? -(float)fabs(mean + exponent) : -FLT_MAX;
    }
    keep_top(logits, weights, weights, count, fmax(share * total, DBL_MIN));
}

/* The first of the largest that is not banned. */
static uint32_t find_first(const struct sampler_options *options, const float *logits, size_t count, float maximum)
{
    size_t banned = 0;
    for (size_t n = 0; n < count; n++) {
        if (banned < options->banned_count && options->banned[banned] == n) {
            banned++;
        } else if (logits[n] == maximum) {
            return (uint32_t)n;
        }
    }
    return 0;
}

bool sampler_choose(const struct rnn_kernels *kernels, const struct sampler_options *options, float *logits,
                    float *weights, size_t count, double uniform, uint32_t *ret_symbol)
{
    float maximum;
    double blocks[KEPT_BLOCKS];
    if (!kernels->find_maximum(logits, count, &maximum)) {
        return false;
    }
    if (options->temperature == 0.0) {
        *ret_symbol = find_first(options, logits, count, maximum);
        return true;
    }
    double inverse = 1.0 / options->temperature;
    float scale = inverse < (double)FLT_MAX ? (float)inverse : FLT_MAX;
    kernels->exponentials(logits, count, maximum, scale, weights);
    for (size_t i = 0; i < options->banned_count; i++) {
        weights[options->banned[i]] = 0.0f;
    }
    if (options->top_k > 0 && options->top_k < count) {
        keep_top(logits, weights, NULL, count, (double)options->top_k);
    }
    double total = sum(kernels, weights, count, blocks);
    if (options->top_p < 1.0) {
        keep_top(logits, weights, weights, count, fmax(options->top_p * total, DBL_MIN));
        total = sum(kernels, weights, count, blocks);
    }
    if (options->min_p > 0.0) {
        keep_share(kernels, weights, count, options->min_p);
        total = sum(kernels, weights, count, blocks);
    }
    if (options->typical_p > 0.0 && options->typical_p < 1.0) {
        keep_typical(logits, weights, count, maximum, scale, options->typical_p, total);
        total = sum(kernels, weights, count, blocks);
    }
    *ret_symbol = find_cumulated(kernels, weights, count, blocks, uniform * total);
    return true;
}

bool sampler_find_normalizer(const struct rnn_kernels *kernels, const float *logits, float *weights, size_t count,
                             double *ret_normalizer)
{
    float maximum;
    if (!kernels->find_maximum(logits, count, &maximum)) {
        return false;
    }
    kernels->exponentials(logits, count, maximum, 1.0f, weights);
    *ret_normalizer = (double)maximum + log(sum(kernels, weights, count, NULL));
    return true;
}

float sampler_logprob(float logit, double normalizer)
{
    double logprob = (double)logit - normalizer;
    return logprob < -(double)FLT_MAX ? -FLT_MAX : (float)logprob;
}
