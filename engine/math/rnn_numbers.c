/* What vectors are in each precision: sizes, inputs and h as numbers and as packed words. Thread: any; no state. */
#include "engine/math/rnn_numbers.h"

#include "engine/base/check.h"

static const char *const PRECISION_NAMES[] = {"fp32", "bf16", "int8"};
static_assert(sizeof PRECISION_NAMES / sizeof *PRECISION_NAMES == RNN_PRECISION_COUNT, "a name for each precision");

const char *rnn_precision_name(enum rnn_precision precision)
{
    CHECK(precision < RNN_PRECISION_COUNT);
    return PRECISION_NAMES[precision];
}

bool rnn_precision_find(const char *name, enum rnn_precision *ret_precision)
{
    for (size_t i = 0; i < RNN_PRECISION_COUNT; i++) {
        if (strcmp(PRECISION_NAMES[i], name) == 0) {
            *ret_precision = (enum rnn_precision)i;
            return true;
        }
    }
    return false;
}

size_t rnn_words(enum rnn_precision precision, size_t count)
{
    return (count + word_terms(precision) - 1) / word_terms(precision);
}

size_t rnn_hidden_bytes(enum rnn_precision precision, size_t count)
{
    return count * (RNN_WORD_BYTES / word_terms(precision));
}

static float float_of_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Rounded once, as the vector kernels do: a product rounded before might stand at a tie that the exact one misses. In
 * double it is exact. */
static uint8_t byte_of_hidden(float value)
{
    float clamped = value < -1 ? -1 : value > 1 ? 1 : value; /* inline, where fminf(3) may be a call */
    return (uint8_t)(lrint((double)clamped * RNN_INT8_INPUT_MAX) + RNN_INT8_ZERO);
}

float rnn_pack_input(enum rnn_precision precision, const float *values, size_t count, void *words)
{
    float maximum = 0;
    if (precision == RNN_PRECISION_INT8) {
        uint8_t *bytes = words;
        for (size_t i = 0; i < count; i++) {
            maximum = fmaxf(maximum, fabsf(values[i]));
        }
        memset(bytes, RNN_INT8_ZERO, rnn_words(precision, count) * RNN_WORD_BYTES);
        for (size_t i = 0; i < count; i++) {
            bytes[i] = (uint8_t)(int8_of_float(values[i], maximum, RNN_INT8_INPUT_MAX) + RNN_INT8_ZERO);
        }
        return maximum;
    }
    memset(words, 0, rnn_words(precision, count) * RNN_WORD_BYTES);
    rnn_write_hidden(precision, values, count, words);
    return 1;
}

void rnn_write_hidden(enum rnn_precision precision, const float *values, size_t count, void *hidden)
{
    uint16_t *halves = hidden;
    uint8_t *bytes = hidden;
    switch (precision) {
    case RNN_PRECISION_FP32: memcpy(hidden, values, count * sizeof *values); break;
    case RNN_PRECISION_BF16:
        for (size_t i = 0; i < count; i++) {
            halves[i] = bf16_of_float(values[i]);
        }
        break;
    case RNN_PRECISION_INT8:
        for (size_t i = 0; i < count; i++) {
            bytes[i] = byte_of_hidden(values[i]);
        }
        break;
    case RNN_PRECISION_COUNT: CHECK(false);
    }
}

void rnn_read_hidden(enum rnn_precision precision, const void *hidden, size_t count, float *values)
{
    const uint16_t *halves = hidden;
    const uint8_t *bytes = hidden;
    switch (precision) {
    case RNN_PRECISION_FP32: memcpy(values, hidden, count * sizeof *values); break;
    case RNN_PRECISION_BF16:
        for (size_t i = 0; i < count; i++) {
            values[i] = float_of_bf16(halves[i]);
        }
        break;
    case RNN_PRECISION_INT8:
        for (size_t i = 0; i < count; i++) {
            values[i] = (float)(bytes[i] - RNN_INT8_ZERO) / RNN_INT8_INPUT_MAX;
        }
        break;
    case RNN_PRECISION_COUNT: CHECK(false);
    }
}
