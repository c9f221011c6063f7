/* The recurrent kernels in plain C: the reference the vector ones must equal to the bit (but in
 * bf16 and pairs), and the way out on a CPU
 * without their instructions, in fp32, bf16 and int8. Vectors of 16 columns, one row at a time. Thread: any; no
 * state. */
#include <math.h>
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/math/rnn_packed_sets.h"

enum { LANES = 16, BLOCK = RNN_VECTORS * LANES, HALF = RNN_HALF_VECTORS * LANES };

/* Where a block's column n lies among the words of one term, when each half of the block has `word_count` of them. */
static size_t column_word(size_t n, size_t word_count)
{
    return n / HALF * word_count * HALF + n % HALF;
}

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

/* 2^r, or 2^r − 1, of x · factor = n + r; ret_scale is 2^n. */
static float split_power(const struct power *power, float x, float *ret_scale)
{
    x = clamp(x, power->input_max);
    float rounded = fmaf(x, power->factor, WHOLE_ROUNDER);
    float n = rounded - WHOLE_ROUNDER;
    *ret_scale = float_of_bits((float_bits(rounded) << FLOAT_EXPONENT_SHIFT) + FLOAT_ONE_BITS);
    float r = fmaf(x, power->factor, -n);
    float value = power->coefficients[0];
    for (size_t i = 0; i < power->degree; i++) {
        value = fmaf(value, r, power->coefficients[i + 1]);
    }
    return value;
}

/* 1 + e^−x = 1 / σ(x). */
static float sigmoid_divisor(const struct powers *powers, float x)
{
    float scale;
    float p = split_power(&powers->sigmoid, x, &scale);
    return fmaf(scale, p, 1.0f);
}

static float sigmoid(const struct powers *powers, float x)
{
    return 1.0f / sigmoid_divisor(powers, x);
}

/* E = e^2x − 1: tanh x = E / (E + 2), which keeps the relative error of small x small. */
static float tanh_dividend(const struct powers *powers, float x)
{
    float scale;
    float p = split_power(&powers->tanh, x, &scale);
    return fmaf(scale, p, scale - 1.0f);
}

static float hyperbolic_tangent(const struct powers *powers, float x)
{
    float e = tanh_dividend(powers, x);
    return e / (e + 2.0f);
}

static const float *accumulate(float sums[BLOCK], const float *weights, size_t word_count, const float *input,
                               size_t count)
{
    for (size_t k = 0; k < count; k++, weights += HALF) {
        for (size_t n = 0; n < BLOCK; n++) {
            sums[n] = fmaf(input[k], weights[column_word(n, word_count)], sums[n]);
        }
    }
    return weights;
}

/* c' and h' over one common divisor each: divisions cost as much as all else here. */
static void update_lstm(const struct powers *powers, float *cell, const float sums[BLOCK], float *ret_hidden)
{
    for (size_t n = 0; n < LANES; n++) {
        float made = tanh_dividend(powers, sums[LANES + n]);
        float made_divisor = sigmoid_divisor(powers, sums[n]) * (made + 2.0f);
        float kept_divisor = sigmoid_divisor(powers, sums[2 * LANES + n]);
        cell[n] = fmaf(cell[n], made_divisor, made * kept_divisor) / (made_divisor * kept_divisor);
        float shown = tanh_dividend(powers, cell[n]);
        ret_hidden[n] = shown / (sigmoid_divisor(powers, sums[3 * LANES + n]) * (shown + 2.0f));
    }
}

static void update_gru_gates(const struct powers *powers, const float *cell, const float sums[BLOCK], float *update,
                             float *ret_hidden)
{
    for (size_t n = 0; n < 2 * LANES; n++) {
        ret_hidden[n] = sigmoid(powers, sums[n]) * cell[n];
        update[n] = sigmoid(powers, sums[2 * LANES + n]);
    }
}

static void update_gru_candidate(const struct powers *powers, float *cell, const float sums[BLOCK], const float *update,
                                 float *ret_hidden)
{
    for (size_t n = 0; n < BLOCK; n++) {
        float fresh = (1.0f - update[n]) * hyperbolic_tangent(powers, sums[n]);
        cell[n] = ret_hidden[n] = fmaf(update[n], cell[n], fresh);
    }
}

static void update_tanh(const struct powers *powers, const float sums[BLOCK], float *ret_hidden)
{
    for (size_t n = 0; n < BLOCK; n++) {
        ret_hidden[n] = hyperbolic_tangent(powers, sums[n]);
    }
}

/* One step of the block's units from their sums. */
static void update_units(const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *row,
                         const float sums[BLOCK])
{
    size_t count = BLOCK / rnn_gate_count(layer->kind);
    size_t at = block * count;
    enum rnn_precision precision = layer->steps->precision;
    const struct powers *powers = precision == RNN_PRECISION_FP32 ? &POWERS_FP32 : &POWERS_NARROW;
    float hidden[BLOCK];
    switch (layer->kind) {
    case RNN_KIND_LSTM: update_lstm(powers, row->cell + at, sums, hidden); break;
    case RNN_KIND_GRU_GATES: update_gru_gates(powers, row->cell + at, sums, row->update + at, hidden); break;
    case RNN_KIND_GRU_CANDIDATE: update_gru_candidate(powers, row->cell + at, sums, row->update + at, hidden); break;
    case RNN_KIND_TANH: update_tanh(powers, sums, hidden); break;
    case RNN_KIND_COUNT: CHECK(false);
    }
    rnn_write_hidden(precision, hidden, count, (char *)row->hidden_next + rnn_hidden_bytes(precision, at));
}

static void layer_fp32(const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows, size_t row_count)
{
    for (size_t row = 0; row < row_count; row++) {
        float sums[BLOCK];
        memcpy(sums, rows[row].start + block * BLOCK, sizeof sums);
        const float *weights = layer->weights;
        size_t word_count = layer->input_words + layer->hidden_words;
        weights += block * word_count * BLOCK;
        weights = accumulate(sums, weights, word_count, rows[row].input, layer->input_size);
        accumulate(sums, weights, word_count, rows[row].hidden, layer->units);
        update_units(layer, block, &rows[row], sums);
    }
}

static void dense(const struct rnn_dense *layer, size_t block, const struct rnn_dense_row *rows, size_t row_count)
{
    for (size_t row = 0; row < row_count; row++) {
        float *output = rows[row].output + block * BLOCK;
        memcpy(output, layer->start + block * BLOCK, BLOCK * sizeof *output);
        const float *weights = layer->weights;
        weights += block * layer->input_words * BLOCK;
        accumulate(output, weights, layer->input_words, rows[row].input, layer->input_size);
    }
}

/* ---- bf16 ---- */

static float float_of_bf16(uint16_t half)
{
    return float_of_bits((uint32_t)half << 16);
}

/* Adds `count` words of 2 terms, the second one first, as VDPBF16PS does. */
static const uint16_t *accumulate_bf16(float sums[BLOCK], const uint16_t *weights, size_t word_count,
                                       const uint16_t *input, size_t count)
{
    for (size_t k = 0; k < count; k++, weights += 2 * HALF, input += 2) {
        for (size_t n = 0; n < BLOCK; n++) {
            const uint16_t *pair = weights + 2 * column_word(n, word_count);
            sums[n] = fmaf(float_of_bf16(input[1]), float_of_bf16(pair[1]), sums[n]);
            sums[n] = fmaf(float_of_bf16(input[0]), float_of_bf16(pair[0]), sums[n]);
        }
    }
    return weights;
}

static void layer_bf16(const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows, size_t row_count)
{
    for (size_t row = 0; row < row_count; row++) {
        float sums[BLOCK];
        memcpy(sums, rows[row].start + block * BLOCK, sizeof sums);
        const uint16_t *weights = layer->weights;
        size_t word_count = layer->input_words + layer->hidden_words;
        weights += block * word_count * BLOCK * 2;
        weights = accumulate_bf16(sums, weights, word_count, rows[row].input, layer->input_words);
        accumulate_bf16(sums, weights, word_count, rows[row].hidden, layer->hidden_words);
        update_units(layer, block, &rows[row], sums);
    }
}

static void dense_bf16(const struct rnn_dense *layer, size_t block, const struct rnn_dense_row *rows, size_t row_count)
{
    for (size_t row = 0; row < row_count; row++) {
        float *output = rows[row].output + block * BLOCK;
        memcpy(output, layer->start + block * BLOCK, BLOCK * sizeof *output);
        const uint16_t *weights = layer->weights;
        weights += block * layer->input_words * BLOCK * 2;
        accumulate_bf16(output, weights, layer->input_words, rows[row].input, layer->input_words);
    }
}

/* ---- int8 ---- */

static const int8_t *accumulate_int8(int32_t sums[BLOCK], const int8_t *weights, size_t word_count,
                                     const uint8_t *input, size_t count)
{
    for (size_t k = 0; k < count; k++, weights += 4 * HALF, input += 4) {
        for (size_t n = 0; n < BLOCK; n++) {
            const int8_t *word = weights + 4 * column_word(n, word_count);
            for (size_t i = 0; i < 4; i++) {
                sums[n] += (input[i] - RNN_INT8_ZERO) * word[i];
            }
        }
    }
    return weights;
}

/* Adds to `to` what the whole-number sums count for, and clears them. */
static void finish_sums(int32_t sums[BLOCK], const float *scales, float input_scale, const float *begun, float *to)
{
    for (size_t n = 0; n < BLOCK; n++) {
        to[n] = fmaf((float)sums[n], scales[n] * input_scale, begun[n]);
        sums[n] = 0;
    }
}

static void layer_int8(const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows, size_t row_count)
{
    for (size_t row = 0; row < row_count; row++) {
        int32_t sums[BLOCK] = {0};
        float gates[BLOCK];
        const float *scales = layer->scales + block * BLOCK;
        const int8_t *weights = layer->weights;
        size_t word_count = layer->input_words + layer->hidden_words;
        weights += block * word_count * BLOCK * 4;
        memcpy(gates, rows[row].start + block * BLOCK, sizeof gates);
        weights = accumulate_int8(sums, weights, word_count, rows[row].input, layer->input_words);
        if (layer->is_input_apart) {
            finish_sums(sums, scales, rows[row].input_scale, gates, gates);
        }
        accumulate_int8(sums, weights, word_count, rows[row].hidden, layer->hidden_words);
        finish_sums(sums, scales, 1.0f, gates, gates);
        update_units(layer, block, &rows[row], gates);
    }
}

static void dense_int8(const struct rnn_dense *layer, size_t block, const struct rnn_dense_row *rows, size_t row_count)
{
    for (size_t row = 0; row < row_count; row++) {
        int32_t sums[BLOCK] = {0};
        const int8_t *weights = layer->weights;
        weights += block * layer->input_words * BLOCK * 4;
        accumulate_int8(sums, weights, layer->input_words, rows[row].input, layer->input_words);
        finish_sums(sums, layer->scales + block * BLOCK, layer->is_input_apart ? rows[row].input_scale : 1.0f,
                    layer->start + block * BLOCK, rows[row].output + block * BLOCK);
    }
}

/* ---- logits ---- */

static bool find_maximum(const float *values, size_t count, float *ret_maximum)
{
    float maximum = values[0];
    for (size_t n = 0; n < count; n++) {
        if ((float_bits(values[n]) & FLOAT_EXPONENT_BITS) == FLOAT_EXPONENT_BITS) {
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
        float power_scale;
        float p = split_power(&POWER_SOFTMAX, x, &power_scale);
        results[n] = x >= -SOFTMAX_INPUT_MAX ? power_scale * p : 0.0f;
    }
}

static double sum(const float *values, size_t count)
{
    double sums[RNN_SUM_LANES] = {0};
    for (size_t n = 0; n < count; n++) {
        sums[n % RNN_SUM_LANES] += (double)values[n];
    }
    return sum_pairwise(sums);
}

const struct rnn_kernels rnn_kernels_plain = {
    .name = "plain",
    .fp32 = {.name = "plain",
             .precision = RNN_PRECISION_FP32,
             .lanes = LANES,
             .tile_rows = 1,
             .layer = layer_fp32,
             .dense = dense},
    .find_maximum = find_maximum,
    .exponentials = exponentials,
    .sum = sum,
};

const struct rnn_steps rnn_steps_plain_bf16 = {
    .name = "plain-bf16",
    .precision = RNN_PRECISION_BF16,
    .lanes = LANES,
    .tile_rows = 1,
    .layer = layer_bf16,
    .dense = dense_bf16,
};

const struct rnn_steps rnn_steps_plain_int8 = {
    .name = "plain-int8",
    .precision = RNN_PRECISION_INT8,
    .lanes = LANES,
    .tile_rows = 1,
    .layer = layer_int8,
    .dense = dense_int8,
};
