/* Array ops over random shapes, dtypes and indices, against plain loops. */
#include "tests/unit/array_rig.h"

enum { SEED = 20200, ROUNDS = 300 };

struct dice {
    uint64_t count;
};

/* A whole number in [least, most]. */
static int64_t roll(struct dice *dice, int64_t least, int64_t most)
{
    return least + (int64_t)(rng_uniform(SEED, 9, dice->count++) * (double)(most - least + 1));
}

/* A tensor of a random shape and dtype whose elements are all different (of bools: mixed). Owned by the caller. */
static struct tensor random_tensor(struct dice *dice)
{
    static const enum dtype dtypes[] = {DTYPE_FLOAT32, DTYPE_FLOAT64, DTYPE_INT32, DTYPE_INT64, DTYPE_BOOL};
    struct error error;
    struct tensor tensor;
    struct shape shape = {.rank = (int)roll(dice, 1, 4)};
    for (int i = 0; i < shape.rank; i++) {
        shape.dimensions[i] = roll(dice, 0, 20) == 0 ? 0 : roll(dice, 1, shape.rank < 3 ? 40 : 6);
    }
    must(tensor_init(&tensor, dtypes[roll(dice, 0, 4)], &shape, &error), &error);
    for (size_t i = 0; i < tensor_element_count(&tensor); i++) {
        tensor_set_number(&tensor, i, tensor.dtype == DTYPE_BOOL ? (double)(i % 3 == 0) : (double)i + 1);
    }
    return tensor;
}

static size_t flat_index(const struct shape *shape, const int64_t *index)
{
    size_t at = 0;
    for (int i = 0; i < shape->rank; i++) {
        at = at * (size_t)shape->dimensions[i] + (size_t)index[i];
    }
    return at;
}

/* Where element `index` of the result comes from: into `ret_source`, which has `x`'s rank; false: it is 0. */

static bool transposed_source(const int64_t *index, const struct shape *x, const int64_t *values, int64_t *ret_source)
{
    for (int i = 0; i < x->rank; i++) {
        ret_source[values[i]] = index[i];
    }
    return true;
}

static bool tiled_source(const int64_t *index, const struct shape *x, const int64_t *values, int64_t *ret_source)
{
    (void)values;
    for (int i = 0; i < x->rank; i++) {
        ret_source[i] = index[i] % x->dimensions[i];
    }
    return true;
}

static bool padded_source(const int64_t *index, const struct shape *x, const int64_t *values, int64_t *ret_source)
{
    for (int i = 0; i < x->rank; i++) {
        ret_source[i] = index[i] - values[2 * i];
        if (ret_source[i] < 0 || ret_source[i] >= x->dimensions[i]) {
            return false;
        }
    }
    return true;
}

static bool reversed_source(const int64_t *index, const struct shape *x, const int64_t *values, int64_t *ret_source)
{
    memcpy(ret_source, index, (size_t)x->rank * sizeof *index);
    ret_source[values[0]] = x->dimensions[values[0]] - 1 - index[values[0]];
    return true;
}

static void check_sources(const char *op, const struct tensor *x, const struct tensor *values,
                          bool (*rule)(const int64_t *, const struct shape *, const int64_t *, int64_t *))
{
    struct error error;
    struct tensor result;
    struct op_call call = {.op = op, .input_count = 2, .inputs = {*x, *values}, .is_fed = {true, false}};
    must(op_call_run(&call, &result, &error), &error);
    int64_t index[SHAPE_RANK_MAX] = {0};
    for (size_t i = 0; i < tensor_element_count(&result); i++) {
        int64_t source[SHAPE_RANK_MAX] = {0};
        size_t rest = i;
        for (int d = result.shape.rank; d-- > 0;) {
            index[d] = (int64_t)(rest % (size_t)result.shape.dimensions[d]);
            rest /= (size_t)result.shape.dimensions[d];
        }
        bool is_there = rule(index, &x->shape, values->data, source);
        double want = is_there ? tensor_number(x, flat_index(&x->shape, source)) : 0;
        if (tensor_number(&result, i) != want) {
            fail_msg("seed %d, %s, element %zu: %g, expected %g", SEED, op, i, tensor_number(&result, i), want);
        }
    }
    tensor_release(&result);
}

static void test_random_shapes(void **state)
{
    (void)state;
    struct dice dice = {0};
    for (int round = 0; round < ROUNDS; round++) {
        struct tensor x = random_tensor(&dice);
        int rank = x.shape.rank;
        int64_t numbers[2 * SHAPE_RANK_MAX];
        struct tensor values = {DTYPE_INT64, shape_vector(rank), numbers};
        for (int i = 0; i < rank; i++) {
            numbers[i] = i;
        }
        for (int i = rank - 1; i > 0; i--) {
            int64_t other = roll(&dice, 0, i);
            int64_t kept = numbers[i];
            numbers[i] = numbers[other];
            numbers[other] = kept;
        }
        check_sources("Transpose", &x, &values, transposed_source);
        for (int i = 0; i < rank; i++) {
            numbers[i] = roll(&dice, 0, 3);
        }
        check_sources("Tile", &x, &values, tiled_source);
        for (int i = 0; i < 2 * rank; i++) {
            numbers[i] = roll(&dice, 0, 3);
        }
        values.shape = shape_matrix(rank, 2);
        check_sources("Pad", &x, &values, padded_source);
        numbers[0] = roll(&dice, 0, rank - 1);
        values.shape = shape_vector(1);
        check_sources("ReverseV2", &x, &values, reversed_source);
        tensor_release(&x);
    }
}

/* x[begin:end:stride] of a vector, as Python does it. */
static void test_random_indices(void **state)
{
    (void)state;
    struct dice dice = {1000000};
    int32_t data[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    for (int round = 0; round < 4 * ROUNDS; round++) {
        int64_t length = roll(&dice, 0, 8);
        int64_t stride = roll(&dice, 0, 1) == 0 ? roll(&dice, 1, 3) : -roll(&dice, 1, 3);
        int64_t begin = roll(&dice, -11, 11);
        int64_t end = roll(&dice, -11, 11);
        int64_t masks = roll(&dice, 0, 3);
        int64_t least = stride > 0 ? 0 : -1;
        int64_t most = stride > 0 ? length : length - 1;
        int64_t from = begin < 0 ? begin + length : begin;
        int64_t to = end < 0 ? end + length : end;
        from = (masks & 1) != 0 ? (stride > 0 ? least : most) : from < least ? least : from > most ? most : from;
        to = (masks & 2) != 0 ? (stride > 0 ? most : least) : to < least ? least : to > most ? most : to;
        int32_t picked[8];
        int64_t count = 0;
        for (int64_t i = from; stride > 0 ? i < to : i > to; i += stride) {
            picked[count++] = data[i];
        }
        struct op_call call = {
            .op = "StridedSlice",
            .input_count = 4,
            .inputs = {{DTYPE_INT32, shape_vector(length), data},
                       {DTYPE_INT64, shape_vector(1), &begin},
                       {DTYPE_INT64, shape_vector(1), &end},
                       {DTYPE_INT64, shape_vector(1), &stride}},
            .attributes = {ATTRIBUTE_INT("begin_mask", masks & 1), ATTRIBUTE_INT("end_mask", (masks & 2) / 2)},
            .attribute_count = 2};
        check_run(&call, 1, &(struct tensor){DTYPE_INT32, shape_vector(count), picked});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_shapes),
        cmocka_unit_test(test_random_indices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
