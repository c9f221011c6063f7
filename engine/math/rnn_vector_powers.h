/* Exponentials, logistic functions and hyperbolic tangents of vectors, as rnn_packed_plain.c computes them, operation
 * by operation. Included by rnn_vector_update.h alone; before, a kernel file says besides what rnn_vector.h wants
 *   POWERS   POWERS_FP32 or POWERS_NARROW
 * Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_VECTOR_POWERS_H
#define ENGINE_MATH_RNN_VECTOR_POWERS_H

#include "engine/math/rnn_vector.h"

INLINE vector clamp(vector x, float limit)
{
    return vector_minimum(vector_splat(limit), vector_maximum(vector_splat(-limit), x));
}

/* Turns each x into its polynomial of `degree` (a constant), and 2^n. Every operation is done for all of `count` (a
 * constant) vectors before the next one, which waits for it: one after the other they would fill the CPU's window with
 * waiting operations. */
INLINE void split_powers(size_t count, size_t degree, const struct power *const powers[], vector x[],
                         vector ret_scales[])
{
    vector sums[RNN_VECTORS];
    UNROLLED_FOR (n, count) {
        x[n] = clamp(x[n], powers[n]->input_max);
    }
    UNROLLED_FOR (n, count) {
        sums[n] = vector_fma(x[n], vector_splat(powers[n]->factor), vector_splat(POWER_ROUNDER));
    }
    UNROLLED_FOR (n, count) {
        ret_scales[n] = (vector)(((vector_bits)sums[n] << POWER_EXPONENT_SHIFT) + POWER_ONE_BITS);
        sums[n] = sums[n] - vector_splat(POWER_ROUNDER);
    }
    UNROLLED_FOR (n, count) {
        x[n] = vector_fma(x[n], vector_splat(powers[n]->factor), -sums[n]);
        sums[n] = vector_splat(powers[n]->terms[0]);
    }
    UNROLLED_FOR (i, degree) {
        UNROLLED_FOR (n, count) {
            sums[n] = vector_fma(sums[n], x[n], vector_splat(powers[n]->terms[i + 1]));
        }
    }
    UNROLLED_FOR (n, count) {
        x[n] = sums[n];
    }
}

INLINE vector split_power(size_t degree, const struct power *power, vector x, vector *ret_scale)
{
    split_powers(1, degree, &power, &x, ret_scale);
    return x;
}

/* 1 + e^−x, of what split_powers made of x. */
INLINE vector sigmoid_divisor(vector p, vector scale)
{
    return vector_fma(scale, p, vector_splat(1.0f));
}

/* e^2x − 1, of what split_powers made of x. */
INLINE vector tangent_dividend(vector p, vector scale)
{
    return vector_fma(scale, p, scale - vector_splat(1.0f));
}

INLINE vector sigmoid(vector x)
{
    vector scale;
    vector p = split_power(POWERS.degree, &POWERS.sigmoid, x, &scale);
    return vector_splat(1.0f) / sigmoid_divisor(p, scale);
}

INLINE vector hyperbolic_tangent(vector x)
{
    vector scale;
    vector p = split_power(POWERS.degree, &POWERS.tangent, x, &scale);
    vector e = tangent_dividend(p, scale);
    return e / (e + vector_splat(2.0f));
}

#endif
