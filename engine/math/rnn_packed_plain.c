/* The recurrent kernels in plain C: the reference the vector ones must equal to the bit, and the way out on a CPU
 * without their instructions. Thread: any; no state. Blocks of 16 units, one row at a time. */
#include <math.h>
#include <stdint.h>

#include "engine/math/rnn_packed_sets.h"

enum { LANES = 16, BLOCK = RNN_GATES * LANES };

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* NaN stays NaN. */
static float clamp(float x, float limit)
{
    x = x < -limit ? -limit : x;
    return x > limit ? limit : x;
}

/* e^x − 1 = ret_scale · (1 + p) − 1; returns p. |x| ≤ EXP_INPUT_MAX. */
static float split_exp(float x, float *ret_scale)
{
    float rounded = fmaf(x, EXP_LOG2_E, EXP_ROUNDER);
    float n = rounded - EXP_ROUNDER;
    *ret_scale = float_of_bits((float_bits(rounded) << 23) + EXP_ONE_BITS);
    float r = fmaf(n, -EXP_LN2_LOW, fmaf(n, -EXP_LN2_HIGH, x));
    float q = fmaf(EXP_C5, r, EXP_C4);
    q = fmaf(q, r, EXP_C3);
    q = fmaf(q, r, EXP_C2);
    q = fmaf(q, r, EXP_C1);
    q = fmaf(q, r, EXP_C0);
    return fmaf(r * r, q, r);
}

static float sigmoid(float x)
{
    float scale;
    float p = split_exp(clamp(-x, EXP_INPUT_MAX), &scale);
    return 1.0f / (1.0f + fmaf(scale, p, scale));
}

/* tanh x = E / (E + 2) with E = e^2x − 1, which keeps small x exact. */
static float hyperbolic_tangent(float x)
{
    float scale;
    float p = split_exp(clamp(x + x, TANH_INPUT_MAX), &scale);
    float e = fmaf(scale, p, scale - 1.0f);
    return e / (e + 2.0f);
}

static const float *accumulate(float sums[BLOCK], const float *weights, const float *input, size_t count)
{
    for (size_t k = 0; k < count; k++, weights += BLOCK) {
        for (size_t n = 0; n < BLOCK; n++) {
            sums[n] = fmaf(input[k], weights[n], sums[n]);
        }
    }
    return weights;
}

static void lstm(const struct rnn_lstm *layer, size_t block, const struct rnn_lstm_row *rows, size_t row_count)
{
    for (size_t row = 0; row < row_count; row++) {
        float sums[BLOCK];
        memcpy(sums, rows[row].start + block * BLOCK, sizeof sums);
        const float *weights = layer->weights + block * (layer->input_size + layer->units) * BLOCK;
        weights = accumulate(sums, weights, rows[row].input, layer->input_size);
        accumulate(sums, weights, rows[row].hidden, layer->units);
        float *cell = rows[row].cell + block * LANES;
        float *hidden = rows[row].hidden_next + block * LANES;
        for (size_t n = 0; n < LANES; n++) {
            float made = sigmoid(sums[n]) * hyperbolic_tangent(sums[LANES + n]);
            cell[n] = fmaf(cell[n], sigmoid(sums[2 * LANES + n]), made);
            hidden[n] = sigmoid(sums[3 * LANES + n]) * hyperbolic_tangent(cell[n]);
        }
    }
}

static void dense(const struct rnn_dense *layer, size_t block, const struct rnn_dense_row *rows, size_t row_count)
{
    for (size_t row = 0; row < row_count; row++) {
        float *output = rows[row].output + block * BLOCK;
        memcpy(output, layer->start + block * BLOCK, BLOCK * sizeof *output);
        accumulate(output, layer->weights + block * layer->input_size * BLOCK, rows[row].input, layer->input_size);
    }
}

static bool find_maximum(const float *values, size_t count, float *ret_maximum)
{
    float maximum = values[0];
    for (size_t n = 0; n < count; n++) {
        if ((float_bits(values[n]) & EXP_BITS_MASK) == EXP_BITS_MASK) {
            return false;
        }
        maximum = values[n] > maximum ? values[n] : maximum;
    }
    *ret_maximum = maximum;
    return true;
}

static void exponentials(const float *values, size_t count, float maximum, float scale, float *results)
{
    for (size_t n = 0; n < count; n++) {
        float x = (values[n] - maximum) * scale;
        float power;
        float p = split_exp(clamp(x, EXP_INPUT_MAX), &power);
        results[n] = x >= -EXP_INPUT_MAX ? fmaf(power, p, power) : 0.0f;
    }
}

const struct rnn_kernels rnn_kernels_plain = {
    .name = "plain",
    .lanes = LANES,
    .tile_rows = 1,
    .lstm = lstm,
    .dense = dense,
    .find_maximum = find_maximum,
    .exponentials = exponentials,
};
