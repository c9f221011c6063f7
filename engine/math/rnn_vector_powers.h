/* Exponentials, logistic functions and hyperbolic tangents of vectors, as rnn_packed_plain.c computes them, operation
 * by operation. Included by what follows of a kernel file; rnn_packed_vector.h and rnn_narrow_vector.h say before
 *   POWERS   POWERS_FP32 or POWERS_NARROW
 * Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_VECTOR_POWERS_H
#define ENGINE_MATH_RNN_VECTOR_POWERS_H

#include "engine/math/rnn_vector.h"

INLINE vector clamp(vector x, float limit)
{
    return vector_minimum(vector_splat(limit), vector_maximum(vector_splat(-limit), x));
}

/* Turns each x into the polynomial of its r, and gives 2^n; `powers` (constants) are of one degree. Every operation is
 * done for all of `count` (a constant) vectors before the next one, which waits for it: one after the other they would
 * fill the CPU's window with waiting operations. */
INLINE void split_powers(size_t count, const struct power *const powers[], vector x[], vector ret_scales[])
{
    vector wholes[RNN_VECTORS];
    vector values[RNN_VECTORS];
    UNROLLED_FOR (n, count) {
        x[n] = clamp(x[n], powers[n]->input_max);
    }
    UNROLLED_FOR (n, count) {
        wholes[n] = vector_fma(x[n], vector_splat(powers[n]->factor), vector_splat(WHOLE_ROUNDER));
    }
    UNROLLED_FOR (n, count) {
        ret_scales[n] = (vector)(((vector_bits)wholes[n] << FLOAT_EXPONENT_SHIFT) + FLOAT_ONE_BITS);
        wholes[n] = wholes[n] - vector_splat(WHOLE_ROUNDER);
    }
    UNROLLED_FOR (n, count) {
        x[n] = vector_fma(x[n], vector_splat(powers[n]->factor), -wholes[n]);
        values[n] = vector_splat(powers[n]->coefficients[0]);
    }
    UNROLLED_FOR (i, powers[0]->degree) {
        UNROLLED_FOR (n, count) {
            values[n] = vector_fma(values[n], x[n], vector_splat(powers[n]->coefficients[i + 1]));
        }
    }
    UNROLLED_FOR (n, count) {
        x[n] = values[n];
    }
}

INLINE vector split_power(const struct power *power, vector x, vector *ret_scale)
{
    split_powers(1, &power, &x, ret_scale);
    return x;
}

/* 1 + e^−x, of what split_powers made of x. */
INLINE vector sigmoid_divisor(vector p, vector scale)
{
    return vector_fma(scale, p, vector_splat(1.0f));
}

/* e^2x − 1, of what split_powers made of x. */
INLINE vector tanh_dividend(vector p, vector scale)
{
    return vector_fma(scale, p, scale - vector_splat(1.0f));
}

INLINE vector sigmoid(vector x)
{
    vector scale;
    vector p = split_power(&POWERS.sigmoid, x, &scale);
    return vector_splat(1.0f) / sigmoid_divisor(p, scale);
}

INLINE vector hyperbolic_tangent(vector x)
{
    vector scale;
    vector p = split_power(&POWERS.tanh, x, &scale);
    vector e = tanh_dividend(p, scale);
    return e / (e + vector_splat(2.0f));
}

#endif
