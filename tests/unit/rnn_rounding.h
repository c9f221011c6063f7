/* What the narrow precisions make of numbers, in double precision: for the tests of the packed kernels. Thread: any. */
#ifndef TESTS_UNIT_RNN_ROUNDING_H
#define TESTS_UNIT_RNN_ROUNDING_H

#include <math.h>
#include <stddef.h>

#include "engine/math/rnn_packed.h"

/* Whether these steps' sums round otherwise than the plain ones of their precision. */
static inline bool has_own_bits(const struct rnn_steps *steps)
{
    return steps->precision == RNN_PRECISION_BF16 ||
           (steps->precision == RNN_PRECISION_FP32 && steps->words_product != NULL);
}

/* The nearest multiple of maximum / count. */
static inline double round_int8(double value, double maximum, int count)
{
    return maximum > 0 ? rint(value * count / maximum) * maximum / count : 0;
}

/* x, an h where the maximum is 1. */
static inline double round_int8_input(double value, double maximum)
{
    return round_int8(value, maximum, 63);
}

/* A weight whose column's largest is `maximum`. */
static inline double round_int8_weight(double value, double maximum)
{
    return round_int8(value, maximum, 64);
}

/* The nearest number of 8 significant bits, ties to even. */
static inline double round_bf16(double value)
{
    int exponent;
    double fraction = frexp(value, &exponent);
    return ldexp(rint(ldexp(fraction, 8)), exponent - 8);
}

/* The largest magnitude among `count` values, so many apart. */
static inline double largest(const float *values, size_t count, size_t step)
{
    double maximum = 0;
    for (size_t n = 0; n < count; n++) {
        maximum = fmax(maximum, fabs((double)values[n * step]));
    }
    return maximum;
}

#endif
