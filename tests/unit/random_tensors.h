/* Random tensors for the tests of kernels, the same in every run, and how broadcasting goes by division alone. */
#ifndef TESTS_UNIT_RANDOM_TENSORS_H
#define TESTS_UNIT_RANDOM_TENSORS_H

#include "tests/unit/op_rig.h"

enum { SEED = 20260101 };

static uint64_t draws;

/* A number below `limit`. */
static inline size_t draw(size_t limit)
{
    return (size_t)(rng_uniform(SEED, 0, draws++) * (double)limit);
}

/* Numbers that every dtype holds, with zeros, and now and then what only floats have. */
static inline double draw_number(enum dtype dtype)
{
    static const double odd[] = {(double)INFINITY, -(double)INFINITY, (double)NAN, 0, -0.0};
    if (dtype == DTYPE_BOOL) {
        return (double)draw(2);
    }
    if (!dtype_is_float(dtype)) {
        return (double)draw(21) - 10;
    }
    return draw(12) == 0 ? odd[draw(5)] : (double)(float)(rng_uniform(SEED, 1, draws++) * 8 - 4);
}

/* A shape of `rank` small dimensions, now and then empty. */
static inline struct shape draw_shape(int rank)
{
    struct shape shape = {.rank = rank};
    for (int i = 0; i < rank; i++) {
        shape.dimensions[i] = rank > 4 ? 1 + (int64_t)draw(2) : (draw(25) == 0 ? 0 : 1 + (int64_t)draw(5));
    }
    return shape;
}

/* A tensor of drawn numbers; the caller releases it. */
static inline struct tensor draw_tensor(enum dtype dtype, const struct shape *shape)
{
    struct error error;
    struct tensor tensor;
    must(tensor_init(&tensor, dtype, shape, &error), &error);
    for (size_t i = 0; i < tensor_element_count(&tensor); i++) {
        tensor_set_number(&tensor, i, draw_number(dtype));
    }
    return tensor;
}

/* Two shapes that broadcast: of one, some dimensions become 1 or go away. */
static inline struct shape draw_partner(const struct shape *shape)
{
    struct shape partner = {.rank = (int)draw((size_t)shape->rank + 1)};
    for (int i = 0; i < partner.rank; i++) {
        int64_t size = shape->dimensions[shape->rank - partner.rank + i];
        partner.dimensions[i] = draw(3) == 0 ? 1 : size;
    }
    return partner;
}

/* Element of a broadcast operand that stands behind element `at` of the result: by division alone. */
static inline size_t operand_index(const struct shape *operand, const struct shape *result, size_t at)
{
    size_t index = 0;
    size_t step = 1;
    for (int i = result->rank - 1; i >= 0; i--) {
        int from = i - (result->rank - operand->rank);
        size_t size = result->dimensions[i] == 0 ? 1 : (size_t)result->dimensions[i];
        size_t position = at % size;
        at /= size;
        if (from >= 0) {
            index += operand->dimensions[from] == 1 ? 0 : position * step;
            step *= (size_t)operand->dimensions[from];
        }
    }
    return index;
}

/* Whether two results of `dtype` are equal but for rounding; NaN equals NaN. */
static inline bool is_close(double a, double b, enum dtype dtype)
{
    if (isnan(a) || isnan(b) || isinf(a) || isinf(b)) {
        return (isnan(a) && isnan(b)) || a == b;
    }
    double tolerance = dtype == DTYPE_FLOAT32 ? 4e-6 : dtype == DTYPE_FLOAT64 ? 1e-13 : 0;
    return fabs(a - b) <= tolerance * (1 + fabs(b));
}

/* Fails, naming op, element and seed, unless element `at` of `result` is close to `wanted`. */
static inline void expect_close(const char *op, const struct tensor *result, size_t at, double wanted)
{
    if (!is_close(tensor_number(result, at), wanted, result->dtype)) {
        fail_msg("%s of %s, element %zu, seed %d: %.9g instead of %.9g", op, dtype_name(result->dtype), at, SEED,
                 tensor_number(result, at), wanted);
    }
}

/* Whole and dropped dimensions of the larger shape decide the result, which only broadcasting again can tell. */
static inline struct shape broadcast_reference(const struct shape *a, const struct shape *b)
{
    struct shape shape = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int i = 0; i < shape.rank; i++) {
        int64_t left = i < shape.rank - a->rank ? 1 : a->dimensions[i - (shape.rank - a->rank)];
        int64_t right = i < shape.rank - b->rank ? 1 : b->dimensions[i - (shape.rank - b->rank)];
        shape.dimensions[i] = left == 1 ? right : left;
    }
    return shape;
}

#endif
