/* The body of every version of the elementwise kernels: plain loops that the compiler turns into vectors of the width
 * it is told to use for the including file. POINTWISE_NAME(x) gives the version's names. No fused multiply-add: all
 * versions give the same bits. */
#include <stdint.h>

#include "engine/base/rng.h"
#include "engine/math/pointwise.h"

/* e^x, relative error below 2^-22, for any finite x (clamped to what float32 holds). Source: Cody and Waite's argument
 * reduction, degree 6 polynomial on [-ln2/2, ln2/2]. */
static inline float exponential(float x)
{
    const float rounder = 12582912.0f; /* 1.5 × 2^23: adding it rounds to an integer */
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float n = (x * 1.44269504f + rounder) - rounder;
    float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    union {
        uint32_t bits;
        float value;
    } power = {.bits = (uint32_t)((int32_t)n + 127) << 23};
    return p * power.value;
}

static inline float sigmoid_of(float x)
{
    return 1.0f / (1.0f + exponential(-x));
}

static inline float tanh_of(float x)
{
    return 1.0f - 2.0f / (1.0f + exponential(x + x));
}

static void sigmoid(size_t count, const float *x, float *y)
{
    for (size_t i = 0; i < count; i++) {
        y[i] = sigmoid_of(x[i]);
    }
}

static void hyperbolic_tangent(size_t count, const float *x, float *y)
{
    for (size_t i = 0; i < count; i++) {
        y[i] = tanh_of(x[i]);
    }
}

static void add_to(size_t count, const float *restrict x, float *restrict y)
{
    for (size_t i = 0; i < count; i++) {
        y[i] += x[i];
    }
}

static void scale(size_t count, float factor, const float *x, float *y)
{
    for (size_t i = 0; i < count; i++) {
        y[i] = factor * x[i];
    }
}

static void lstm_forward_row(size_t units, float forget_bias, float *restrict gates, const float *restrict c_before,
                             float *restrict c, float *restrict h)
{
    float *restrict input = gates;
    float *restrict fresh = gates + units;
    float *restrict forget = gates + 2 * units;
    float *restrict output = gates + 3 * units;
    for (size_t u = 0; u < units; u++) {
        float i = sigmoid_of(input[u]);
        float j = tanh_of(fresh[u]);
        float f = sigmoid_of(forget[u] + forget_bias);
        float o = sigmoid_of(output[u]);
        float cell = c_before[u] * f + i * j;
        input[u] = i;
        fresh[u] = j;
        forget[u] = f;
        output[u] = o;
        c[u] = cell;
        h[u] = o * tanh_of(cell);
    }
}

static void lstm_forward(size_t rows, size_t units, float forget_bias, float *gates, const float *c_before, float *c,
                         float *h)
{
    for (size_t row = 0; row < rows; row++) {
        lstm_forward_row(units, forget_bias, gates + row * 4 * units, c_before + row * units, c + row * units,
                         h + row * units);
    }
}

static void lstm_backward_row(size_t units, const float *restrict gates, const float *restrict c_before,
                              const float *restrict c, const float *restrict dh, float *restrict dc,
                              float *restrict d_gates)
{
    for (size_t u = 0; u < units; u++) {
        float i = gates[u];
        float j = gates[units + u];
        float f = gates[2 * units + u];
        float o = gates[3 * units + u];
        float t = tanh_of(c[u]);
        float into_c = dc[u] + dh[u] * o * (1.0f - t * t);
        d_gates[u] = into_c * j * i * (1.0f - i);
        d_gates[units + u] = into_c * i * (1.0f - j * j);
        d_gates[2 * units + u] = into_c * c_before[u] * f * (1.0f - f);
        d_gates[3 * units + u] = dh[u] * t * o * (1.0f - o);
        dc[u] = into_c * f;
    }
}

static void lstm_backward(size_t rows, size_t units, const float *gates, const float *c_before, const float *c,
                          const float *dh, float *dc, float *d_gates)
{
    for (size_t row = 0; row < rows; row++) {
        lstm_backward_row(units, gates + row * 4 * units, c_before + row * units, c + row * units, dh + row * units,
                          dc + row * units, d_gates + row * 4 * units);
    }
}

static void gru_gates_row(size_t units, float *restrict gates, const float *restrict h_before, float *restrict reset_h)
{
    for (size_t u = 0; u < units; u++) {
        gates[u] = sigmoid_of(gates[u]);
        gates[units + u] = sigmoid_of(gates[units + u]);
        reset_h[u] = gates[u] * h_before[u];
    }
}

static void gru_gates(size_t rows, size_t units, float *gates, const float *h_before, float *reset_h)
{
    for (size_t row = 0; row < rows; row++) {
        gru_gates_row(units, gates + row * 3 * units, h_before + row * units, reset_h + row * units);
    }
}

static void gru_forward_row(size_t units, float *restrict gates, const float *restrict h_before, float *restrict h)
{
    for (size_t u = 0; u < units; u++) {
        float update = gates[units + u];
        float fresh = tanh_of(gates[2 * units + u]);
        gates[2 * units + u] = fresh;
        h[u] = update * h_before[u] + (1.0f - update) * fresh;
    }
}

static void gru_forward(size_t rows, size_t units, float *gates, const float *h_before, float *h)
{
    for (size_t row = 0; row < rows; row++) {
        gru_forward_row(units, gates + row * 3 * units, h_before + row * units, h + row * units);
    }
}

static void gru_backward_row(size_t units, const float *restrict gates, const float *restrict h_before,
                             float *restrict dh, float *restrict d_gates)
{
    for (size_t u = 0; u < units; u++) {
        float update = gates[units + u];
        float fresh = gates[2 * units + u];
        d_gates[units + u] = dh[u] * (h_before[u] - fresh) * update * (1.0f - update);
        d_gates[2 * units + u] = dh[u] * (1.0f - update) * (1.0f - fresh * fresh);
        dh[u] *= update;
    }
}

static void gru_backward(size_t rows, size_t units, const float *gates, const float *h_before, float *dh,
                         float *d_gates)
{
    for (size_t row = 0; row < rows; row++) {
        gru_backward_row(units, gates + row * 3 * units, h_before + row * units, dh + row * units,
                         d_gates + row * 3 * units);
    }
}

static void gru_gates_backward_row(size_t units, const float *restrict gates, const float *restrict h_before,
                                   const float *restrict d_reset_h, float *restrict dh, float *restrict d_gates)
{
    for (size_t u = 0; u < units; u++) {
        float reset = gates[u];
        d_gates[u] = d_reset_h[u] * h_before[u] * reset * (1.0f - reset);
        dh[u] += d_reset_h[u] * reset;
    }
}

static void gru_gates_backward(size_t rows, size_t units, const float *gates, const float *h_before,
                               const float *d_reset_h, float *dh, float *d_gates)
{
    for (size_t row = 0; row < rows; row++) {
        gru_gates_backward_row(units, gates + row * 3 * units, h_before + row * units, d_reset_h + row * units,
                               dh + row * units, d_gates + row * 3 * units);
    }
}

static void softmax(size_t rows, size_t columns, const float *x, float *y)
{
    for (size_t row = 0; row < rows; row++) {
        const float *from = x + row * columns;
        float *to = y + row * columns;
        float largest = from[0];
        for (size_t i = 1; i < columns; i++) {
            largest = from[i] > largest ? from[i] : largest;
        }
        for (size_t i = 0; i < columns; i++) {
            to[i] = exponential(from[i] - largest);
        }
        double sum = 0;
        for (size_t i = 0; i < columns; i++) {
            sum += (double)to[i];
        }
        float factor = (float)(1.0 / sum);
        for (size_t i = 0; i < columns; i++) {
            to[i] *= factor;
        }
    }
}

enum { COUNTERS_AT_ONCE = 64 };

/* The words of `count` counters from `counter` on, four a counter. */
static void random_words(const struct dropout_draw *draw, uint64_t counter, size_t count, uint32_t *restrict words)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t c0 = (uint32_t)(counter + i);
        uint32_t c1 = (uint32_t)((counter + i) >> 32);
        uint32_t c2 = (uint32_t)draw->stream;
        uint32_t c3 = (uint32_t)(draw->stream >> 32);
        uint32_t key0 = (uint32_t)draw->seed;
        uint32_t key1 = (uint32_t)(draw->seed >> 32);
        for (int round = 0; round < RNG_PHILOX_ROUNDS; round++) {
            rng_philox_round(&c0, &c1, &c2, &c3, key0, key1);
            key0 += RNG_PHILOX_KEY0;
            key1 += RNG_PHILOX_KEY1;
        }
        words[4 * i] = c0;
        words[4 * i + 1] = c1;
        words[4 * i + 2] = c2;
        words[4 * i + 3] = c3;
    }
}

static void dropout(size_t count, const struct dropout_draw *draw, const float *x, float *y)
{
    uint32_t words[4 * COUNTERS_AT_ONCE];
    uint32_t kept_below = draw->kept_below;
    float factor = draw->factor;
    for (size_t begin = 0; begin < count; begin += 4 * COUNTERS_AT_ONCE) {
        size_t some = count - begin < 4 * COUNTERS_AT_ONCE ? count - begin : 4 * COUNTERS_AT_ONCE;
        random_words(draw, begin / 4, (some + 3) / 4, words);
        for (size_t i = 0; i < some; i++) {
            float scaled = x[begin + i] * factor;
            y[begin + i] = words[i] >> 8 < kept_below ? scaled : 0.0f;
        }
    }
}

static void adam(size_t count, struct adam_step step, const float *restrict gradient, float *restrict m,
                 float *restrict v, float *restrict variable)
{
    for (size_t i = 0; i < count; i++) {
        float g = gradient[i];
        m[i] = step.beta1 * m[i] + (1.0f - step.beta1) * g;
        v[i] = step.beta2 * v[i] + (1.0f - step.beta2) * (g * g);
        variable[i] -= step.rate * m[i] / (__builtin_sqrtf(v[i]) + step.epsilon);
    }
}

const struct pointwise_kernels POINTWISE_TABLE = {
    .name = POINTWISE_VERSION,
    .sigmoid = sigmoid,
    .tanh = hyperbolic_tangent,
    .add_to = add_to,
    .scale = scale,
    .lstm_forward = lstm_forward,
    .lstm_backward = lstm_backward,
    .gru_gates = gru_gates,
    .gru_forward = gru_forward,
    .gru_backward = gru_backward,
    .gru_gates_backward = gru_gates_backward,
    .softmax = softmax,
    .dropout = dropout,
    .adam = adam,
};
