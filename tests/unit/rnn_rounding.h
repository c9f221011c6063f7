/* What the narrow precisions make of numbers, in double precision: for the tests of the packed kernels. Thread: any. */
#ifndef TESTS_UNIT_RNN_ROUNDING_H
#define TESTS_UNIT_RNN_ROUNDING_H

#include <math.h>
#include <stddef.h>

/* The nearest multiple of maximum / 127. */
static inline double round_int8(double value, double maximum)
{
    return maximum > 0 ? rint(value * 127 / maximum) * maximum / 127 : 0;
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
