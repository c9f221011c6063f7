/* Elements of tensors as numbers, whatever their dtype. Thread: any. Owns nothing. */
#include <math.h>

#include "engine/base/check.h"
#include "engine/math/tensor.h"

void dtype_integer_range(enum dtype dtype, int64_t *ret_least, int64_t *ret_greatest)
{
    CHECK(dtype_is_integer(dtype));
    bool is_unsigned = dtype == DTYPE_UINT8 || dtype == DTYPE_UINT16;
    int bits = (int)dtype_bytes(dtype) * 8 - (is_unsigned ? 0 : 1);
    *ret_greatest = bits == 63 ? INT64_MAX : ((int64_t)1 << bits) - 1;
    *ret_least = is_unsigned ? 0 : -*ret_greatest - 1;
}

/* ---- half precision: 1 sign bit, 5 exponent bits (bias 15), 10 fraction bits ---- */

float float_from_half(uint16_t bits)
{
    int exponent = (bits >> 10) & 31;
    int fraction = bits & 1023;
    float magnitude = exponent == 31  ? (fraction == 0 ? INFINITY : NAN)
                      : exponent == 0 ? ldexpf((float)fraction, -24)
                                      : ldexpf((float)(fraction + 1024), exponent - 25);
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

uint16_t half_from_float(float number)
{
    unsigned sign = signbit(number) ? 0x8000 : 0;
    float magnitude = fabsf(number);
    if (isnan(number)) {
        return (uint16_t)(sign | 0x7e00);
    }
    if (magnitude >= 65520.0f) { /* half way from the greatest half to the next power of two */
        return (uint16_t)(sign | 0x7c00);
    }
    int exponent = 0;
    (void)frexpf(magnitude, &exponent); /* magnitude is in [2^(exponent−1), 2^exponent) */
    int shift = exponent - 1 < -14 ? -14 : exponent - 1;
    long fraction = lrintf(ldexpf(magnitude, 10 - shift)); /* 1024 … 2048 of normal numbers: may carry over */
    unsigned biased = fraction < 1024 ? 0u : (unsigned)(shift + 15);
    return (uint16_t)(sign | ((biased << 10) + (unsigned)(fraction - (fraction < 1024 ? 0 : 1024))));
}

/* ---- elements ---- */

int64_t tensor_integer(const struct tensor *tensor, size_t at)
{
    const void *data = tensor->data;
    switch (tensor->dtype) {
    case DTYPE_INT8: return ((const int8_t *)data)[at];
    case DTYPE_UINT8: return ((const uint8_t *)data)[at];
    case DTYPE_INT16: return ((const int16_t *)data)[at];
    case DTYPE_UINT16: return ((const uint16_t *)data)[at];
    case DTYPE_INT32: return ((const int32_t *)data)[at];
    case DTYPE_INT64: return ((const int64_t *)data)[at];
    case DTYPE_FLOAT32:
    case DTYPE_FLOAT64:
    case DTYPE_FLOAT16:
    case DTYPE_BOOL:
    case DTYPE_COMPLEX64:
    case DTYPE_COUNT: break;
    }
    CHECK(false);
    return 0;
}

void tensor_set_integer(struct tensor *tensor, size_t at, int64_t integer)
{
    void *data = tensor->data;
    switch (tensor->dtype) {
    case DTYPE_INT8: ((int8_t *)data)[at] = (int8_t)integer; return;
    case DTYPE_UINT8: ((uint8_t *)data)[at] = (uint8_t)integer; return;
    case DTYPE_INT16: ((int16_t *)data)[at] = (int16_t)integer; return;
    case DTYPE_UINT16: ((uint16_t *)data)[at] = (uint16_t)integer; return;
    case DTYPE_INT32: ((int32_t *)data)[at] = (int32_t)integer; return;
    case DTYPE_INT64: ((int64_t *)data)[at] = integer; return;
    case DTYPE_FLOAT32:
    case DTYPE_FLOAT64:
    case DTYPE_FLOAT16:
    case DTYPE_BOOL:
    case DTYPE_COMPLEX64:
    case DTYPE_COUNT: break;
    }
    CHECK(false);
}

double tensor_number(const struct tensor *tensor, size_t at)
{
    const void *data = tensor->data;
    switch (tensor->dtype) {
    case DTYPE_FLOAT32: return (double)((const float *)data)[at];
    case DTYPE_FLOAT64: return ((const double *)data)[at];
    case DTYPE_FLOAT16: return (double)float_from_half(((const uint16_t *)data)[at]);
    case DTYPE_BOOL: return ((const bool *)data)[at];
    case DTYPE_COMPLEX64: return (double)((const float *)data)[2 * at];
    case DTYPE_INT8:
    case DTYPE_UINT8:
    case DTYPE_INT16:
    case DTYPE_UINT16:
    case DTYPE_INT32:
    case DTYPE_INT64: return (double)tensor_integer(tensor, at);
    case DTYPE_COUNT: break;
    }
    CHECK(false);
    return 0;
}

static int64_t saturated(double number, enum dtype dtype)
{
    int64_t least = 0;
    int64_t greatest = 0;
    dtype_integer_range(dtype, &least, &greatest);
    if (isnan(number)) {
        return 0;
    }
    return number >= (double)greatest ? greatest : number <= (double)least ? least : (int64_t)number;
}

void tensor_set_number(struct tensor *tensor, size_t at, double number)
{
    void *data = tensor->data;
    switch (tensor->dtype) {
    case DTYPE_FLOAT32: ((float *)data)[at] = (float)number; return;
    case DTYPE_FLOAT64: ((double *)data)[at] = number; return;
    case DTYPE_FLOAT16: ((uint16_t *)data)[at] = half_from_float((float)number); return;
    case DTYPE_BOOL: ((bool *)data)[at] = number != 0; return;
    case DTYPE_COMPLEX64:
        ((float *)data)[2 * at] = (float)number;
        ((float *)data)[2 * at + 1] = 0;
        return;
    case DTYPE_INT8:
    case DTYPE_UINT8:
    case DTYPE_INT16:
    case DTYPE_UINT16:
    case DTYPE_INT32:
    case DTYPE_INT64: tensor_set_integer(tensor, at, saturated(number, tensor->dtype)); return;
    case DTYPE_COUNT: break;
    }
    CHECK(false);
}
