/* Reductions, scans, argmax and broadcasts against plain loops over random shapes, and what they refuse. */
#include "engine/base/mem.h"
#include "tests/unit/op_rig.h"

enum { SEED = 20260102, ROUNDS = 80 };

static uint64_t draws;

static size_t draw(size_t limit)
{
    return (size_t)(rng_uniform(SEED, 0, draws++) * (double)limit);
}

static struct shape draw_shape(int rank)
{
    struct shape shape = {.rank = rank};
    for (int i = 0; i < rank; i++) {
        shape.dimensions[i] = draw(20) == 0 ? 0 : 1 + (int64_t)draw(rank > 4 ? 2 : 5);
    }
    return shape;
}

/* Small whole numbers, so that sums and products are exact in any order; some NaN for what compares. */
static struct tensor draw_tensor(enum dtype dtype, const struct shape *shape, bool with_nan)
{
    struct error error;
    struct tensor tensor;
    must(tensor_init(&tensor, dtype, shape, &error), &error);
    for (size_t i = 0; i < tensor_element_count(&tensor); i++) {
        bool is_nan = with_nan && dtype_is_float(dtype) && draw(15) == 0;
        tensor_set_number(&tensor, i,
                          is_nan                ? (double)NAN
                          : dtype == DTYPE_BOOL ? (double)draw(2)
                                                : (double)draw(7) - 3);
    }
    return tensor;
}

/* The element's place in a tensor of `to`, whose dimensions are those of `from` or 1. */
static size_t place_in(const struct shape *from, const struct shape *to, size_t at)
{
    size_t index = 0;
    size_t step = 1;
    for (int i = from->rank - 1; i >= 0; i--) {
        size_t size = from->dimensions[i] == 0 ? 1 : (size_t)from->dimensions[i];
        size_t position = at % size;
        at /= size;
        index += to->dimensions[i] == 1 ? 0 : position * step;
        step *= (size_t)to->dimensions[i];
    }
    return index;
}

static void expect_number(const char *op, const struct tensor *result, size_t at, double wanted)
{
    double number = tensor_number(result, at);
    bool is_same = isnan(wanted) ? isnan(number) != 0 : number == wanted;
    if (!is_same && !(fabs(number - wanted) <= 1e-6 * fabs(wanted))) {
        fail_msg("%s of %s, element %zu, seed %d: %.9g instead of %.9g", op, dtype_name(result->dtype), at, SEED,
                 number, wanted);
    }
}

/* ---- reductions ---- */

static const struct reduction_case {
    const char *op;
    bool is_of_bools;
    bool compares;
} reduction_cases[] = {{"Sum", false, false}, {"Mean", false, false}, {"Prod", false, false}, {"Max", false, true},
                       {"Min", false, true},  {"All", true, false},   {"Any", true, false}};

static double fold_start(const char *op, enum dtype dtype)
{
    int64_t least = -1;
    int64_t greatest = 1;
    if (dtype_is_integer(dtype)) {
        dtype_integer_range(dtype, &least, &greatest);
    }
    double far = dtype_is_float(dtype) ? (double)INFINITY : 0;
    return strcmp(op, "Prod") == 0 || strcmp(op, "All") == 0 ? 1
           : strcmp(op, "Max") == 0                          ? (far > 0 ? -far : (double)least)
           : strcmp(op, "Min") == 0                          ? (far > 0 ? far : (double)greatest)
                                                             : 0;
}

static double fold_step(const char *op, double a, double x)
{
    return strcmp(op, "Prod") == 0  ? a * x
           : strcmp(op, "All") == 0 ? (double)(a != 0 && x != 0)
           : strcmp(op, "Any") == 0 ? (double)(a != 0 || x != 0)
           : strcmp(op, "Max") == 0 ? (isnan(a) || a > x ? a : x)
           : strcmp(op, "Min") == 0 ? (isnan(a) || a < x ? a : x)
                                    : a + x;
}

static double fold_end(const char *op, enum dtype dtype, double a, size_t count)
{
    if (strcmp(op, "Mean") != 0) {
        return a;
    }
    return dtype_is_float(dtype) ? a / (double)count : count == 0 ? 0 : trunc(a / (double)count);
}

static void check_reduction(const struct reduction_case *test, enum dtype dtype)
{
    struct error error;
    struct tensor result = {0};
    struct shape shape = draw_shape((int)draw(SHAPE_RANK_MAX + 1));
    struct shape kept = shape;
    struct shape squeezed = shape_scalar();
    int32_t axes[SHAPE_RANK_MAX];
    size_t axis_count = 0;
    size_t folded = 1;
    for (int i = 0; i < shape.rank; i++) {
        if (draw(2) == 0) {
            axes[axis_count++] = draw(2) == 0 ? i : i - shape.rank;
            folded *= (size_t)shape.dimensions[i];
            kept.dimensions[i] = 1;
        } else {
            squeezed.dimensions[squeezed.rank++] = shape.dimensions[i];
        }
    }
    bool keeps = draw(2) == 0;
    struct tensor x = draw_tensor(dtype, &shape, test->compares);
    struct op_call call = {.op = test->op,
                           .input_count = 2,
                           .inputs = {x, {DTYPE_INT32, shape_vector((int64_t)axis_count), axes}},
                           .is_fed = {draw(2) == 0, draw(3) == 0},
                           .attributes = {{.name = "keep_dims", .kind = ATTRIBUTE_BOOLEAN, .boolean = keeps}},
                           .attribute_count = 1};
    must(op_call_run(&call, &result, &error), &error);
    assert_true(shape_equal(&result.shape, keeps ? &kept : &squeezed));
    size_t count = tensor_element_count(&result);
    double *wanted = mem_allocate(count + 1, sizeof *wanted);
    for (size_t i = 0; i < count; i++) {
        wanted[i] = fold_start(test->op, dtype);
    }
    for (size_t i = 0; i < tensor_element_count(&x); i++) {
        double *to = &wanted[place_in(&shape, &kept, i)];
        *to = fold_step(test->op, *to, tensor_number(&x, i));
    }
    for (size_t i = 0; i < count; i++) {
        expect_number(test->op, &result, i, fold_end(test->op, dtype, wanted[i], folded));
    }
    mem_free(wanted);
    tensor_release(&x);
    tensor_release(&result);
}

static void test_reductions(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof reduction_cases / sizeof *reduction_cases; i++) {
        for (int dtype = DTYPE_FLOAT32; dtype <= DTYPE_BOOL; dtype++) {
            bool fits = reduction_cases[i].is_of_bools == (dtype == DTYPE_BOOL);
            for (size_t round = 0; fits && round < ROUNDS; round++) {
                check_reduction(&reduction_cases[i], (enum dtype)dtype);
            }
        }
    }
}

/* Longer than a block of the kernel, along rows and down columns. */
static void test_long_reductions(void **state)
{
    (void)state;
    struct error error;
    struct shape shape = shape_cube(3, 7, 300);
    struct tensor x = draw_tensor(DTYPE_FLOAT32, &shape, false);
    for (int32_t axis = 0; axis < 3; axis++) {
        struct tensor result = {0};
        struct shape kept = shape;
        kept.dimensions[axis] = 1;
        struct op_call call = {
            .op = "Sum", .input_count = 2, .inputs = {x, {DTYPE_INT32, shape_scalar(), &axis}}, .is_fed = {true}};
        must(op_call_run(&call, &result, &error), &error);
        double wanted[7 * 300] = {0};
        for (size_t i = 0; i < tensor_element_count(&x); i++) {
            wanted[place_in(&shape, &kept, i)] += tensor_number(&x, i);
        }
        for (size_t i = 0; i < tensor_element_count(&result); i++) {
            expect_number("Sum", &result, i, wanted[i]);
        }
        tensor_release(&result);
    }
    tensor_release(&x);
}

static void test_wrong_axes(void **state)
{
    (void)state;
    float data[6] = {0};
    int32_t axes[] = {2, 0, 0};
    struct op_call call = {.op = "Sum",
                           .input_count = 2,
                           .inputs = {{DTYPE_FLOAT32, shape_matrix(2, 3), data}, {DTYPE_INT32, shape_scalar(), axes}}};
    expect_refused(
        &call, "ValueError",
        "Invalid reduction dimension 2 for input with 2 dimensions. for 'Sum' (op: 'Sum') with input shapes: "
        "[2,3], [].");
    call.is_fed[1] = true;
    expect_refused(&call, "InvalidArgumentError",
                   "Invalid reduction dimension 2 for input with 2 dimensions.\n\t [[node Sum]]");
    call.inputs[1] = (struct tensor){DTYPE_INT32, shape_vector(2), axes + 1};
    expect_refused(&call, "InvalidArgumentError",
                   "Invalid reduction arguments: Axes contains duplicate dimension: 0\n\t [[node Sum]]");
    call.inputs[1] = (struct tensor){DTYPE_FLOAT32, shape_vector(1), data};
    expect_refused(&call, "TypeError",
                   "Value passed to parameter 'reduction_indices' has DataType float32 not in list of allowed values: "
                   "int32, int64");
    struct op_call arg = {.op = "ArgMax",
                          .input_count = 2,
                          .inputs = {{DTYPE_FLOAT32, shape_matrix(2, 3), data}, {DTYPE_INT32, shape_scalar(), axes}}};
    expect_refused(&arg, "ValueError",
                   "Dimension (2) must be in the range [-2, 2), where 2 is the number of dimensions in the input. for "
                   "'ArgMax' (op: 'ArgMax') with input shapes: [2,3], [].");
    arg.inputs[0].shape = shape_vector(0);
    arg.inputs[1].data = axes + 1;
    expect_refused(&arg, "InvalidArgumentError", "Reduction axis 0 is empty in shape [0]\n\t [[node ArgMax]]");
    struct op_call scan = {.op = "Cumsum",
                           .input_count = 2,
                           .inputs = {{DTYPE_FLOAT32, shape_matrix(2, 3), data}, {DTYPE_INT32, shape_scalar(), axes}}};
    expect_refused(&scan, "InvalidArgumentError",
                   "ScanOp: Expected scan axis in the range [-2, 2), but got 2\n\t [[node Cumsum]]");
}

/* ---- along one dimension ---- */

static void check_arg(enum dtype dtype, bool wants_max)
{
    struct error error;
    struct tensor result = {0};
    struct shape shape = draw_shape(1 + (int)draw(SHAPE_RANK_MAX));
    int32_t axis = (int32_t)draw((size_t)shape.rank);
    shape.dimensions[axis] = 1 + (int64_t)draw(5);
    struct shape kept = shape;
    kept.dimensions[axis] = 1;
    struct tensor x = draw_tensor(dtype, &shape, true);
    int32_t given = draw(2) == 0 ? axis : axis - shape.rank;
    enum dtype wanted_dtype = draw(2) == 0 ? DTYPE_INT32 : DTYPE_INT64;
    struct op_call call = {.op = wants_max ? "ArgMax" : "ArgMin",
                           .input_count = 2,
                           .inputs = {x, {DTYPE_INT32, shape_scalar(), &given}},
                           .attributes = {{.name = "output_type", .kind = ATTRIBUTE_DTYPE, .dtype = wanted_dtype}},
                           .attribute_count = 1};
    must(op_call_run(&call, &result, &error), &error);
    assert_int_equal(result.dtype, wanted_dtype);
    assert_int_equal(result.shape.rank, shape.rank - 1);
    size_t count = tensor_element_count(&result);
    double *best = mem_allocate(count + 1, sizeof *best);
    double *index = mem_allocate(count + 1, sizeof *index);
    size_t step = 1;
    for (int i = axis + 1; i < shape.rank; i++) {
        step *= (size_t)shape.dimensions[i];
    }
    for (size_t i = 0; i < count; i++) {
        best[i] = (double)NAN;
    }
    for (size_t i = 0; i < tensor_element_count(&x); i++) {
        size_t to = place_in(&shape, &kept, i);
        double value = tensor_number(&x, i);
        if (!isnan(value) && (isnan(best[to]) || (wants_max ? value > best[to] : value < best[to]))) {
            best[to] = value;
            index[to] = (double)(i / step % (size_t)shape.dimensions[axis]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        expect_number(call.op, &result, i, index[i]);
    }
    mem_free(best);
    mem_free(index);
    tensor_release(&x);
    tensor_release(&result);
}

static void test_argmax(void **state)
{
    (void)state;
    for (size_t round = 0; round < 4 * ROUNDS; round++) {
        check_arg((enum dtype)(round % 4), round / 4 % 2 == 0);
    }
}

static void check_scan(enum dtype dtype, bool is_product)
{
    struct error error;
    struct tensor result = {0};
    struct shape shape = draw_shape(1 + (int)draw(5));
    int64_t axis = (int64_t)draw((size_t)shape.rank);
    bool is_exclusive = draw(2) == 0;
    bool is_reverse = draw(2) == 0;
    struct tensor x = draw_tensor(dtype, &shape, false);
    int64_t given = draw(2) == 0 ? axis : axis - shape.rank;
    struct op_call call = {.op = is_product ? "Cumprod" : "Cumsum",
                           .input_count = 2,
                           .inputs = {x, {DTYPE_INT64, shape_scalar(), &given}},
                           .is_fed = {draw(2) == 0},
                           .attributes = {{.name = "exclusive", .kind = ATTRIBUTE_BOOLEAN, .boolean = is_exclusive},
                                          {.name = "reverse", .kind = ATTRIBUTE_BOOLEAN, .boolean = is_reverse}},
                           .attribute_count = 2};
    must(op_call_run(&call, &result, &error), &error);
    size_t step = 1;
    for (int64_t i = axis + 1; i < shape.rank; i++) {
        step *= (size_t)shape.dimensions[i];
    }
    size_t size = (size_t)shape.dimensions[axis];
    for (size_t i = 0; i < tensor_element_count(&result); i++) {
        size_t position = i / step % size;
        double total = is_product ? 1 : 0;
        for (size_t other = 0; other < size; other++) {
            bool is_before = is_reverse ? other > position : other < position;
            if (is_before || (other == position && !is_exclusive)) {
                double value = tensor_number(&x, i - position * step + other * step);
                total = is_product ? total * value : total + value;
            }
        }
        expect_number(call.op, &result, i, total);
    }
    tensor_release(&x);
    tensor_release(&result);
}

static void test_scans(void **state)
{
    (void)state;
    for (size_t round = 0; round < 4 * ROUNDS; round++) {
        check_scan((enum dtype)(round % 4), round / 4 % 2 == 0);
    }
}

/* ---- broadcasts and sums ---- */

/* There and back: a broadcast repeats, and summing over it multiplies by how often. */
static void check_broadcast(enum dtype dtype)
{
    struct error error;
    struct tensor large = {0};
    struct tensor back = {0};
    struct shape shape = draw_shape((int)draw(SHAPE_RANK_MAX + 1));
    struct shape small = shape;
    size_t repeats = 1;
    for (int i = 0; i < shape.rank; i++) {
        if (draw(2) == 0) {
            repeats *= (size_t)small.dimensions[i];
            small.dimensions[i] = 1;
        }
    }
    struct tensor x = draw_tensor(dtype, &small, false);
    int64_t dimensions[SHAPE_RANK_MAX];
    memcpy(dimensions, shape.dimensions, sizeof dimensions);
    struct op_call call = {.op = "BroadcastTo",
                           .input_count = 2,
                           .inputs = {x, {DTYPE_INT64, shape_vector(shape.rank), dimensions}},
                           .is_fed = {draw(2) == 0, draw(2) == 0}};
    must(op_call_run(&call, &large, &error), &error);
    assert_true(shape_equal(&large.shape, &shape));
    for (size_t i = 0; i < tensor_element_count(&large); i++) {
        expect_number(call.op, &large, i, tensor_number(&x, place_in(&shape, &small, i)));
    }
    if (dtype != DTYPE_BOOL) {
        struct op_call sum = {.op = "SumToShape", .input_count = 2, .inputs = {large, x}};
        must(op_call_run(&sum, &back, &error), &error);
        for (size_t i = 0; i < tensor_element_count(&back); i++) {
            expect_number(sum.op, &back, i, (double)repeats * tensor_number(&x, i));
        }
        tensor_release(&back);
    }
    tensor_release(&x);
    tensor_release(&large);
}

static void test_broadcasts(void **state)
{
    (void)state;
    for (size_t round = 0; round < 5 * ROUNDS; round++) {
        check_broadcast((enum dtype)(round % 5));
    }
    float data[6] = {0};
    int32_t to[] = {2, 2};
    struct op_call call = {.op = "BroadcastTo",
                           .input_count = 2,
                           .inputs = {{DTYPE_FLOAT32, shape_vector(3), data}, {DTYPE_INT32, shape_vector(2), to}}};
    expect_refused(&call, "ValueError",
                   "Incompatible shapes: [3] vs. [2,2] for 'BroadcastTo' (op: 'BroadcastTo') with input shapes: [3], "
                   "[2].");
}

static void test_sums_of_tensors(void **state)
{
    (void)state;
    struct error error;
    for (int dtype = DTYPE_FLOAT32; dtype <= DTYPE_INT64; dtype++) {
        struct tensor result = {0};
        struct shape shape = shape_matrix(3, 5);
        struct op_call call = {.op = "AddN", .input_count = 3};
        for (size_t i = 0; i < 3; i++) {
            call.inputs[i] = draw_tensor((enum dtype)dtype, &shape, false);
        }
        must(op_call_run(&call, &result, &error), &error);
        for (size_t i = 0; i < 15; i++) {
            expect_number("AddN", &result, i,
                          tensor_number(&call.inputs[0], i) + tensor_number(&call.inputs[1], i) +
                              tensor_number(&call.inputs[2], i));
        }
        tensor_release(&result);
        if (dtype_is_float((enum dtype)dtype)) {
            double sum = 0;
            for (size_t i = 0; i < 45; i++) {
                sum += tensor_number(&call.inputs[i / 15], i % 15) * tensor_number(&call.inputs[i / 15], i % 15);
            }
            call.op = "GlobalNorm";
            must(op_call_run(&call, &result, &error), &error);
            expect_number("GlobalNorm", &result, 0, sqrt(sum));
            tensor_release(&result);
        }
        for (size_t i = 0; i < 3; i++) {
            tensor_release(&call.inputs[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reductions),      cmocka_unit_test(test_long_reductions),
        cmocka_unit_test(test_wrong_axes),      cmocka_unit_test(test_argmax),
        cmocka_unit_test(test_scans),           cmocka_unit_test(test_broadcasts),
        cmocka_unit_test(test_sums_of_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
