/* The numbers of narrow precisions, for the files that pack them. Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_NUMBERS_H
#define ENGINE_MATH_RNN_NUMBERS_H

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/math/rnn_packed.h"

/* Terms of a word. */
static inline size_t word_terms(enum rnn_precision precision)
{
    static const size_t terms[] = {1, 2, 4};
    static_assert(sizeof terms / sizeof *terms == RNN_PRECISION_COUNT, "terms of a word");
    return terms[precision];
}

/* To the nearest, ties to even; a value above the largest bf16 becomes an infinity. */
static inline uint16_t bf16_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/* value · largest / maximum, to the nearest, ties to even; NaN is `largest`. No calls, no branches: loading a model is
 * a loop over this. */
static inline int8_t int8_of_float(float value, float maximum, double largest)
{
    const double rounder = 0x1.8p52; /* what is added to it keeps no bits behind the point */
    double scaled = (double)value * largest / (maximum > 0 ? (double)maximum : HUGE_VAL);
    double clamped = scaled < largest ? (scaled > -largest ? scaled : -largest) : largest;
    return (int8_t)(int32_t)(clamped + rounder - rounder);
}

#endif
