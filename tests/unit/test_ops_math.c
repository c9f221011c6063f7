/* Kernels of the arithmetic ops against plain loops in double over random shapes and values, and what they refuse. */
#include "engine/base/mem.h"
#include "engine/math/gemm.h"
#include "tests/unit/op_rig.h"

enum { SEED = 20260101, ROUNDS = 60 };

static const enum dtype number_types[] = {DTYPE_FLOAT32, DTYPE_FLOAT64, DTYPE_INT32, DTYPE_INT64};

static uint64_t draws;

static size_t draw(size_t limit)
{
    return (size_t)(rng_uniform(SEED, 0, draws++) * (double)limit);
}

/* Numbers that every dtype holds, with zeros, and now and then what only floats have. */
static double draw_number(enum dtype dtype)
{
    static const double odd[] = {INFINITY, -INFINITY, NAN, 0, -0.0};
    if (dtype == DTYPE_BOOL) {
        return (double)draw(2);
    }
    if (!dtype_is_float(dtype)) {
        return (double)draw(21) - 10;
    }
    return draw(12) == 0 ? odd[draw(5)] : (double)(float)(rng_uniform(SEED, 1, draws++) * 8 - 4);
}

static struct shape draw_shape(int rank)
{
    struct shape shape = {.rank = rank};
    for (int i = 0; i < rank; i++) {
        shape.dimensions[i] = rank > 4 ? 1 + (int64_t)draw(2) : (draw(25) == 0 ? 0 : 1 + (int64_t)draw(5));
    }
    return shape;
}

static struct tensor draw_tensor(enum dtype dtype, const struct shape *shape)
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
static struct shape draw_partner(const struct shape *shape)
{
    struct shape partner = {.rank = (int)draw((size_t)shape->rank + 1)};
    for (int i = 0; i < partner.rank; i++) {
        int64_t size = shape->dimensions[shape->rank - partner.rank + i];
        partner.dimensions[i] = draw(3) == 0 ? 1 : size;
    }
    return partner;
}

/* Element of a broadcast operand that stands behind element `at` of the result: by division alone. */
static size_t operand_index(const struct shape *operand, const struct shape *result, size_t at)
{
    size_t index = 0;
    size_t step = 1;
    for (int i = result->rank - 1; i >= 0; i--) {
        int from = i - (result->rank - operand->rank);
        size_t position = at % (size_t)result->dimensions[i];
        at /= (size_t)result->dimensions[i];
        if (from >= 0) {
            index += operand->dimensions[from] == 1 ? 0 : position * step;
            step *= (size_t)operand->dimensions[from];
        }
    }
    return index;
}

static bool is_close(double a, double b, enum dtype dtype)
{
    if (isnan(a) || isnan(b) || isinf(a) || isinf(b)) {
        return (isnan(a) && isnan(b)) || a == b;
    }
    double tolerance = dtype == DTYPE_FLOAT32 ? 4e-6 : dtype == DTYPE_FLOAT64 ? 1e-13 : 0;
    return fabs(a - b) <= tolerance * (1 + fabs(b));
}

static void expect_close(const char *op, const struct tensor *result, size_t at, double wanted)
{
    if (!is_close(tensor_number(result, at), wanted, result->dtype)) {
        fail_msg("%s of %s, element %zu, seed %d: %.9g instead of %.9g", op, dtype_name(result->dtype), at, SEED,
                 tensor_number(result, at), wanted);
    }
}

/* Whole and dropped dimensions of the larger shape decide the result, which only broadcasting again can tell. */
static struct shape broadcast_reference(const struct shape *a, const struct shape *b)
{
    struct shape shape = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int i = 0; i < shape.rank; i++) {
        int64_t left = i < shape.rank - a->rank ? 1 : a->dimensions[i - (shape.rank - a->rank)];
        int64_t right = i < shape.rank - b->rank ? 1 : b->dimensions[i - (shape.rank - b->rank)];
        shape.dimensions[i] = left == 1 ? right : left;
    }
    return shape;
}

/* ---- two operands ---- */

static double floor_mod(double a, double b)
{
    double rest = fmod(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

static double add(double a, double b)
{
    return a + b;
}
static double sub(double a, double b)
{
    return a - b;
}
static double mul(double a, double b)
{
    return a * b;
}
static double divide(double a, double b)
{
    return a / b;
}
static double floor_divide(double a, double b)
{
    return floor(a / b);
}
static double truncate_divide(double a, double b)
{
    return trunc(a / b);
}
static double squared_difference(double a, double b)
{
    return (a - b) * (a - b);
}
static double least(double a, double b)
{
    return isnan(a) || a < b ? a : b;
}
static double greatest(double a, double b)
{
    return isnan(a) || a > b ? a : b;
}
static double equal(double a, double b)
{
    return a == b;
}
static double not_equal(double a, double b)
{
    return a != b;
}
static double less(double a, double b)
{
    return a < b;
}
static double less_equal(double a, double b)
{
    return a <= b;
}
static double greater(double a, double b)
{
    return a > b;
}
static double greater_equal(double a, double b)
{
    return a >= b;
}
static double both(double a, double b)
{
    return a != 0 && b != 0;
}
static double either(double a, double b)
{
    return a != 0 || b != 0;
}

enum { FLOATS = 1, WHOLE = 2, BOOLS = 4, NUMBERS = FLOATS | WHOLE };

static const struct binary_case {
    const char *op;
    double (*reference)(double a, double b);
    unsigned types;
    bool is_division;
    bool gives_bool;
} binary_cases[] = {
    {"Add", add, NUMBERS, false, false},
    {"Sub", sub, NUMBERS, false, false},
    {"Mul", mul, NUMBERS, false, false},
    {"RealDiv", divide, FLOATS, false, false},
    {"Div", divide, FLOATS, false, false},
    {"Div", truncate_divide, WHOLE, true, false},
    {"FloorDiv", floor_divide, NUMBERS, true, false},
    {"TruncateDiv", truncate_divide, NUMBERS, true, false},
    {"FloorMod", floor_mod, NUMBERS, true, false},
    {"TruncateMod", fmod, NUMBERS, true, false},
    {"Mod", fmod, NUMBERS, true, false},
    {"SquaredDifference", squared_difference, NUMBERS, false, false},
    {"Minimum", least, NUMBERS, false, false},
    {"Maximum", greatest, NUMBERS, false, false},
    {"Pow", pow, FLOATS, false, false},
    {"Atan2", atan2, FLOATS, false, false},
    {"Equal", equal, NUMBERS | BOOLS, false, true},
    {"NotEqual", not_equal, NUMBERS | BOOLS, false, true},
    {"Less", less, NUMBERS, false, true},
    {"LessEqual", less_equal, NUMBERS, false, true},
    {"Greater", greater, NUMBERS, false, true},
    {"GreaterEqual", greater_equal, NUMBERS, false, true},
    {"LogicalAnd", both, BOOLS, false, true},
    {"LogicalOr", either, BOOLS, false, true},
};

static bool takes(unsigned types, enum dtype dtype)
{
    return (types & (dtype == DTYPE_BOOL ? BOOLS : dtype_is_float(dtype) ? FLOATS : WHOLE)) != 0;
}

static void check_binary(const struct binary_case *test, enum dtype dtype)
{
    struct error error;
    struct tensor result;
    struct shape shape = draw_shape((int)draw(draw(4) == 0 ? SHAPE_RANK_MAX + 1 : 5));
    struct shape partner = draw_partner(&shape);
    struct tensor a = draw_tensor(dtype, draw(2) == 0 ? &shape : &partner);
    struct tensor b = draw_tensor(dtype, a.shape.rank == shape.rank ? &partner : &shape);
    for (size_t i = 0; test->is_division && i < tensor_element_count(&b); i++) {
        tensor_set_number(&b, i, tensor_number(&b, i) == 0 ? 3 : tensor_number(&b, i));
    }
    struct op_call call = {.op = test->op, .input_count = 2, .inputs = {a, b}, .is_fed = {draw(2) == 0, draw(2) == 0}};
    must(op_call_run(&call, &result, &error), &error);
    struct shape wanted = broadcast_reference(&a.shape, &b.shape);
    assert_true(shape_equal(&result.shape, &wanted));
    assert_int_equal(result.dtype, test->gives_bool ? DTYPE_BOOL : dtype);
    for (size_t i = 0; i < tensor_element_count(&result); i++) {
        double left = tensor_number(&a, operand_index(&a.shape, &wanted, i));
        double right = tensor_number(&b, operand_index(&b.shape, &wanted, i));
        double quotient = left / right;
        bool is_edge = dtype == DTYPE_FLOAT32 && test->is_division && quotient != floor(quotient) &&
                       fabs(quotient - nearbyint(quotient)) < 1e-5; /* rounding decides: no business of the reference */
        if (!is_edge) {
            expect_close(test->op, &result, i, test->reference(left, right));
        }
    }
    tensor_release(&a);
    tensor_release(&b);
    tensor_release(&result);
}

static void test_two_operands(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof binary_cases / sizeof *binary_cases; i++) {
        for (int dtype = DTYPE_FLOAT32; dtype <= DTYPE_BOOL; dtype++) {
            for (size_t round = 0; takes(binary_cases[i].types, (enum dtype)dtype) && round < ROUNDS; round++) {
                check_binary(&binary_cases[i], (enum dtype)dtype);
            }
        }
    }
}

/* ---- one operand ---- */

static double negative(double x)
{
    return -x;
}
static double sign(double x)
{
    return isnan(x) ? x : (x > 0) - (x < 0);
}
static double square(double x)
{
    return x * x;
}
static double rsqrt(double x)
{
    return 1 / sqrt(x);
}
static double reciprocal(double x)
{
    return 1 / x;
}
static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}
static double relu(double x)
{
    return x < 0 ? 0 : x;
}
static double relu6(double x)
{
    return x < 0 ? 0 : x > 6 ? 6 : x;
}
static double leaky_relu(double x)
{
    return x > 0 ? x : 0.2 * x;
}
static double elu(double x)
{
    return x < 0 ? expm1(x) : x;
}
static double selu(double x)
{
    return 1.0507009873554805 * (x < 0 ? 1.6732632423543772 * expm1(x) : x);
}
static double softplus(double x)
{
    return x > 30 ? x : log1p(exp(x));
}
static double softsign(double x)
{
    return isinf(x) ? (double)NAN : x / (1 + fabs(x));
}
static double is_nan(double x)
{
    return isnan(x) != 0;
}
static double is_inf(double x)
{
    return isinf(x) != 0;
}
static double is_finite(double x)
{
    return isfinite(x) != 0;
}
static double no(double x)
{
    return x == 0;
}

static const struct unary_case {
    const char *op;
    double (*reference)(double x);
    unsigned types;
    bool gives_bool;
} unary_cases[] = {
    {"Neg", negative, NUMBERS, false},
    {"Abs", fabs, NUMBERS, false},
    {"Sign", sign, NUMBERS, false},
    {"Square", square, NUMBERS, false},
    {"Sqrt", sqrt, FLOATS, false},
    {"Rsqrt", rsqrt, FLOATS, false},
    {"Exp", exp, FLOATS, false},
    {"Expm1", expm1, FLOATS, false},
    {"Log", log, FLOATS, false},
    {"Log1p", log1p, FLOATS, false},
    {"Reciprocal", reciprocal, FLOATS, false},
    {"Sin", sin, FLOATS, false},
    {"Cos", cos, FLOATS, false},
    {"Tan", tan, FLOATS, false},
    {"Asin", asin, FLOATS, false},
    {"Acos", acos, FLOATS, false},
    {"Atan", atan, FLOATS, false},
    {"Sinh", sinh, FLOATS, false},
    {"Cosh", cosh, FLOATS, false},
    {"Erf", erf, FLOATS, false},
    {"Erfc", erfc, FLOATS, false},
    {"Floor", floor, FLOATS, false},
    {"Ceil", ceil, FLOATS, false},
    {"Round", nearbyint, NUMBERS, false},
    {"Rint", nearbyint, FLOATS, false},
    {"Sigmoid", sigmoid, FLOATS, false},
    {"Tanh", tanh, FLOATS, false},
    {"Relu", relu, NUMBERS, false},
    {"Relu6", relu6, NUMBERS, false},
    {"LeakyRelu", leaky_relu, FLOATS, false},
    {"Elu", elu, FLOATS, false},
    {"Selu", selu, FLOATS, false},
    {"Softplus", softplus, FLOATS, false},
    {"Softsign", softsign, FLOATS, false},
    {"IsNan", is_nan, FLOATS, true},
    {"IsInf", is_inf, FLOATS, true},
    {"IsFinite", is_finite, FLOATS, true},
    {"LogicalNot", no, BOOLS, true},
};

static void check_unary(const struct unary_case *test, enum dtype dtype)
{
    struct error error;
    struct tensor result;
    struct shape shape = draw_shape((int)draw(SHAPE_RANK_MAX + 1));
    struct tensor x = draw_tensor(dtype, &shape);
    struct op_call call = {.op = test->op, .input_count = 1, .inputs = {x}, .is_fed = {draw(2) == 0}};
    must(op_call_run(&call, &result, &error), &error);
    assert_true(shape_equal(&result.shape, &shape));
    assert_int_equal(result.dtype, test->gives_bool ? DTYPE_BOOL : dtype);
    for (size_t i = 0; i < tensor_element_count(&result); i++) {
        expect_close(test->op, &result, i, test->reference(tensor_number(&x, i)));
    }
    tensor_release(&x);
    tensor_release(&result);
}

static void test_one_operand(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof unary_cases / sizeof *unary_cases; i++) {
        for (int dtype = DTYPE_FLOAT32; dtype <= DTYPE_BOOL; dtype++) {
            for (size_t round = 0; takes(unary_cases[i].types, (enum dtype)dtype) && round < ROUNDS / 2; round++) {
                check_unary(&unary_cases[i], (enum dtype)dtype);
            }
        }
    }
}

/* ---- whole numbers ---- */

static int64_t whole(const char *op, enum dtype dtype, int64_t a, int64_t b)
{
    struct error error;
    int64_t data[2];
    struct tensor result;
    struct op_call call = {
        .op = op, .input_count = 2, .inputs = {{dtype, shape_scalar(), &data[0]}, {dtype, shape_scalar(), &data[1]}}};
    tensor_set_integer(&call.inputs[0], 0, a);
    tensor_set_integer(&call.inputs[1], 0, b);
    must(op_call_run(&call, &result, &error), &error);
    int64_t value = tensor_integer(&result, 0);
    tensor_release(&result);
    return value;
}

static void test_whole_numbers_wrap_around(void **state)
{
    (void)state;
    assert_int_equal(whole("Add", DTYPE_INT32, INT32_MAX, 1), INT32_MIN);
    assert_int_equal(whole("Sub", DTYPE_INT64, INT64_MIN, 1), INT64_MAX);
    assert_int_equal(whole("Mul", DTYPE_INT32, 65536, 65537), 65536);
    assert_int_equal(whole("FloorDiv", DTYPE_INT32, INT32_MIN, -1), INT32_MIN);
    assert_int_equal(whole("FloorDiv", DTYPE_INT64, INT64_MIN, -1), INT64_MIN);
    assert_int_equal(whole("TruncateDiv", DTYPE_INT32, INT32_MIN, -1), INT32_MIN);
    assert_int_equal(whole("FloorMod", DTYPE_INT32, INT32_MIN, -1), 0);
    assert_int_equal(whole("TruncateMod", DTYPE_INT64, INT64_MIN, -1), 0);
    assert_int_equal(whole("FloorDiv", DTYPE_INT32, -7, 2), -4);
    assert_int_equal(whole("TruncateDiv", DTYPE_INT32, -7, 2), -3);
    assert_int_equal(whole("FloorMod", DTYPE_INT32, -7, 3), 2);
    assert_int_equal(whole("FloorMod", DTYPE_INT32, 7, -3), -2);
    assert_int_equal(whole("TruncateMod", DTYPE_INT32, -7, 3), -1);
    assert_int_equal(whole("Pow", DTYPE_INT32, -3, 3), -27);
    assert_int_equal(whole("Pow", DTYPE_INT64, 7, 0), 1);
    assert_int_equal(whole("Pow", DTYPE_INT32, 2, 32), 0);
}

static void expect_refused(const struct op_call *call, const char *type, const char *message)
{
    struct error error;
    struct tensor results[RIG_INPUTS_MAX];
    assert_int_not_equal(op_call_run(call, results, &error), STATUS_OK);
    assert_string_equal(error.type, type);
    assert_string_equal(error.message, message);
}

static void test_dividing_whole_numbers_by_zero(void **state)
{
    (void)state;
    static const char *const ops[] = {"Div", "FloorDiv", "TruncateDiv", "FloorMod", "TruncateMod", "Mod"};
    int32_t a[] = {1, 2};
    int32_t b[] = {1, 0};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        char message[80];
        snprintf(message, sizeof message, "Integer division by zero\n\t [[node %s]]", ops[i]);
        struct op_call call = {.op = ops[i],
                               .input_count = 2,
                               .inputs = {{DTYPE_INT32, shape_vector(2), a}, {DTYPE_INT32, shape_vector(2), b}}};
        expect_refused(&call, "InvalidArgumentError", message);
    }
    struct op_call power = {
        .op = "Pow",
        .input_count = 2,
        .inputs = {{DTYPE_INT32, shape_vector(1), a}, {DTYPE_INT32, shape_vector(1), &(int32_t){-1}}}};
    expect_refused(&power, "InvalidArgumentError",
                   "Integers to negative integer powers are not allowed\n\t [[node Pow]]");
}

/* ---- casts ---- */

static void test_casts(void **state)
{
    (void)state;
    struct error error;
    double numbers[] = {0, 1, -1, 2.9, -2.9, 255, 300, 3e9, -3e9, 1e30, -1e30, NAN, INFINITY, -INFINITY};
    enum { COUNT = sizeof numbers / sizeof *numbers };
    struct tensor from = {DTYPE_FLOAT64, shape_vector(COUNT), numbers};
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        struct tensor result;
        struct op_call call = {.op = "Cast",
                               .input_count = 1,
                               .inputs = {from},
                               .attributes = {{.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = (enum dtype)dtype}},
                               .attribute_count = 1};
        must(op_call_run(&call, &result, &error), &error);
        for (size_t i = 0; i < COUNT; i++) {
            double wanted = numbers[i];
            int64_t low;
            int64_t high;
            if (dtype == DTYPE_BOOL) {
                wanted = wanted != 0;
            } else if (dtype_is_integer((enum dtype)dtype)) {
                dtype_integer_range((enum dtype)dtype, &low, &high);
                wanted = isnan(wanted) ? 0 : trunc(fmin(fmax(wanted, (double)low), (double)high));
            } else if (dtype == DTYPE_FLOAT16) {
                wanted = (double)float_from_half(half_from_float((float)wanted));
            }
            expect_close("Cast", &result, i,
                         dtype == DTYPE_FLOAT64 || dtype_is_integer((enum dtype)dtype) ? wanted
                                                                                       : (double)(float)wanted);
        }
        tensor_release(&result);
    }
    /* Whole numbers lose their upper bits. */
    int64_t wide[] = {((int64_t)1 << 40) + 7, -1, 300};
    static const struct {
        enum dtype dtype;
        int64_t values[3];
    } narrow[] = {{DTYPE_INT32, {7, -1, 300}}, {DTYPE_UINT8, {7, 255, 44}}, {DTYPE_INT8, {7, -1, 44}}};
    for (size_t n = 0; n < 3; n++) {
        struct tensor result;
        struct op_call call = {.op = "Cast",
                               .input_count = 1,
                               .inputs = {{DTYPE_INT64, shape_vector(3), wide}},
                               .attributes = {{.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = narrow[n].dtype}},
                               .attribute_count = 1};
        must(op_call_run(&call, &result, &error), &error);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(tensor_integer(&result, i), narrow[n].values[i]);
        }
        tensor_release(&result);
    }
}

/* ---- products ---- */

static double matrix_number(const struct tensor *tensor, size_t batch, size_t row, size_t column, bool is_transposed)
{
    size_t rows = (size_t)tensor->shape.dimensions[tensor->shape.rank - 2];
    size_t columns = (size_t)tensor->shape.dimensions[tensor->shape.rank - 1];
    return tensor_number(tensor,
                         batch * rows * columns + (is_transposed ? column * columns + row : row * columns + column));
}

static struct tensor draw_matrices(enum dtype dtype, const struct shape *batch, size_t rows, size_t columns,
                                   bool is_transposed)
{
    struct shape shape = *batch;
    shape.dimensions[shape.rank++] = (int64_t)(is_transposed ? columns : rows);
    shape.dimensions[shape.rank++] = (int64_t)(is_transposed ? rows : columns);
    struct tensor tensor = draw_tensor(dtype, &shape);
    for (size_t i = 0; i < tensor_element_count(&tensor); i++) {
        tensor_set_number(&tensor, i, (double)draw(9) - 4); /* exact in every dtype, whatever the order of a sum */
    }
    return tensor;
}

static void check_product(enum dtype dtype, bool is_batched)
{
    struct error error;
    struct tensor result;
    bool swaps[] = {draw(2) == 0, draw(2) == 0};
    size_t m = draw(5);
    size_t n = draw(5);
    size_t k = draw(5);
    struct shape batch = draw_shape(is_batched ? (int)draw(4) : 0);
    struct shape partner = draw_partner(&batch);
    struct tensor a = draw_matrices(dtype, &batch, m, k, swaps[0]);
    struct tensor b = draw_matrices(dtype, &partner, k, n, swaps[1]);
    struct op_call call = {
        .op = is_batched ? "BatchMatMulV2" : "MatMul",
        .input_count = 2,
        .inputs = {a, b},
        .is_fed = {draw(2) == 0, draw(2) == 0},
        .attributes = {{.name = is_batched ? "adj_x" : "transpose_a", .kind = ATTRIBUTE_BOOLEAN, .boolean = swaps[0]},
                       {.name = is_batched ? "adj_y" : "transpose_b", .kind = ATTRIBUTE_BOOLEAN, .boolean = swaps[1]}},
        .attribute_count = 2};
    must(op_call_run(&call, &result, &error), &error);
    struct shape batches = broadcast_reference(&batch, &partner);
    assert_int_equal(result.shape.rank, batches.rank + 2);
    for (size_t i = 0; i < tensor_element_count(&result); i++) {
        size_t at = i / (m * n);
        double sum = 0;
        for (size_t inner = 0; inner < k; inner++) {
            sum += matrix_number(&a, operand_index(&batch, &batches, at), i / n % m, inner, swaps[0]) *
                   matrix_number(&b, operand_index(&partner, &batches, at), inner, i % n, swaps[1]);
        }
        expect_close(call.op, &result, i, sum);
    }
    tensor_release(&a);
    tensor_release(&b);
    tensor_release(&result);
}

static void test_products(void **state)
{
    (void)state;
    for (size_t round = 0; round < 4 * ROUNDS; round++) {
        check_product(number_types[round % 4], round / 4 % 2 == 0);
    }
}

static void test_products_that_do_not_fit(void **state)
{
    (void)state;
    float data[64] = {0};
    struct op_call call = {
        .op = "MatMul",
        .input_count = 2,
        .inputs = {{DTYPE_FLOAT32, shape_matrix(1, 6), data}, {DTYPE_FLOAT32, shape_matrix(5, 8), data}}};
    expect_refused(&call, "ValueError",
                   "Dimensions must be equal, but are 6 and 5 for 'MatMul' (op: 'MatMul') with input shapes: [1,6], "
                   "[5,8].");
    call.inputs[0].shape = shape_cube(1, 1, 5);
    expect_refused(&call, "ValueError",
                   "Shape must be rank 2 but is rank 3 for 'MatMul' (op: 'MatMul') with input shapes: [1,1,5], [5,8].");
    call.inputs[0].shape = shape_matrix(1, 5);
    call.inputs[0].dtype = DTYPE_INT32;
    expect_refused(&call, "TypeError",
                   "Input 'b' of 'MatMul' Op has type float32 that does not match type int32 of argument 'a'.");
    struct op_call sum = {.op = "Add",
                          .input_count = 2,
                          .inputs = {{DTYPE_FLOAT32, shape_vector(2), data}, {DTYPE_FLOAT32, shape_vector(3), data}}};
    expect_refused(&sum, "ValueError",
                   "Dimensions must be equal, but are 2 and 3 for 'Add' (op: 'Add') with input shapes: [2], [3].");
    bool flags[4] = {false};
    struct op_call types = {.op = "Exp", .input_count = 1, .inputs = {{DTYPE_BOOL, shape_vector(2), flags}}};
    expect_refused(&types, "TypeError",
                   "Value passed to parameter 'x' has DataType bool not in list of allowed values: float32, float64");
    struct op_call bias = {
        .op = "BiasAdd",
        .input_count = 2,
        .inputs = {{DTYPE_FLOAT32, shape_matrix(1, 3), data}, {DTYPE_FLOAT32, shape_vector(2), data}}};
    expect_refused(&bias, "ValueError",
                   "Dimensions must be equal, but are 3 and 2 for 'BiasAdd' (op: 'BiasAdd') with input shapes: [1,3], "
                   "[2].");
    struct op_call sums = {.op = "AddN",
                           .input_count = 2,
                           .inputs = {{DTYPE_FLOAT32, shape_vector(2), data}, {DTYPE_FLOAT32, shape_vector(3), data}}};
    expect_refused(&sums, "ValueError",
                   "Dimension 0 in both shapes must be equal, but are 2 and 3. Shapes are [2] and [3].\n\tFrom merging "
                   "shape 0 with other shapes. for 'AddN' (op: 'AddN') with input shapes: [2], [3].");
}

int main(void)
{
    gemm_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_operands),
        cmocka_unit_test(test_one_operand),
        cmocka_unit_test(test_whole_numbers_wrap_around),
        cmocka_unit_test(test_dividing_whole_numbers_by_zero),
        cmocka_unit_test(test_casts),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_products_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
