/* Gradients of the arithmetic ops against central differences. Gradient ops are differentiated too, which is how
 * second derivatives are made. */
#include "engine/math/gemm.h"
#include "tests/unit/op_rig.h"

static const enum dtype float_types[] = {DTYPE_FLOAT64, DTYPE_FLOAT32};

/* All pairs of shapes that broadcast in a way of their own. */
static void check_binary(const char *op, double low, double high)
{
    const struct shape pairs[][2] = {{shape_matrix(2, 3), shape_matrix(2, 3)},  {shape_matrix(2, 3), shape_vector(3)},
                                     {shape_matrix(2, 1), shape_cube(2, 1, 3)}, {shape_scalar(), shape_matrix(2, 3)},
                                     {shape_matrix(2, 3), shape_scalar()},      {shape_vector(1), shape_vector(4)},
                                     {shape_scalar(), shape_scalar()}};
    for (size_t type = 0; type < 2; type++) {
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
            struct op_case test = {.op = op,
                                   .dtype = float_types[type],
                                   .input_count = 2,
                                   .shapes = {pairs[i][0], pairs[i][1]},
                                   .low = low,
                                   .high = high};
            check_case(&test);
        }
    }
}

static void test_two_operands(void **state)
{
    (void)state;
    static const char *const ops[] = {"Add",   "AddV2",   "Sub",     "Mul", "RealDiv",
                                      "Div",   "Maximum", "Minimum", "Pow", "SquaredDifference",
                                      "Atan2", "FloorMod"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        check_binary(ops[i], 0.5, 2);
    }
    check_binary("Atan2", -2, -0.5);
    check_binary("SquaredDifference", -1, 1);
}

static void check_unary(const char *op, double low, double high)
{
    for (size_t type = 0; type < 2; type++) {
        struct op_case test = {.op = op,
                               .dtype = float_types[type],
                               .input_count = 1,
                               .shapes = {shape_matrix(3, 4)},
                               .low = low,
                               .high = high};
        check_case(&test);
    }
}

static void test_one_operand(void **state)
{
    (void)state;
    static const char *const anywhere[] = {"Neg",  "Square",   "Exp",  "Expm1", "Erf",       "Erfc", "Sin", "Cos",
                                           "Atan", "Sinh",     "Cosh", "Tanh",  "Sigmoid",   "Selu", "Elu", "Softplus",
                                           "Tan",  "Softsign", "Relu", "Relu6", "LeakyRelu", "Abs",  "Sign"};
    for (size_t i = 0; i < sizeof anywhere / sizeof *anywhere; i++) {
        check_unary(anywhere[i], 0.1, 1.2);
        check_unary(anywhere[i], -1.2, -0.1);
    }
    static const char *const positive[] = {"Sqrt", "Rsqrt", "Reciprocal", "Log", "Log1p"};
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++) {
        check_unary(positive[i], 0.5, 2);
    }
    check_unary("Asin", -0.6, 0.6);
    check_unary("Acos", -0.6, 0.6);
    check_unary("Relu6", 6.1, 7);
    check_unary("Relu6", 5, 5.9);
}

/* Second derivatives: the gradient ops as ops of their own. */
static void test_gradient_ops(void **state)
{
    (void)state;
    static const char *const ops[] = {"SigmoidGrad", "TanhGrad"};
    static const char *const by_first[] = {"ReluGrad", "Relu6Grad", "LeakyReluGrad"};
    static const char *const by_both[] = {"EluGrad", "SeluGrad"};
    double numbers[] = {-0.8, -0.3, 0.4, 0.9, 7, 2};
    struct tensor features = {DTYPE_FLOAT64, shape_vector(6), numbers};
    for (size_t i = 0; i < 2; i++) {
        struct op_case test = {.op = ops[i],
                               .dtype = DTYPE_FLOAT64,
                               .input_count = 2,
                               .shapes = {shape_vector(5), shape_vector(5)},
                               .low = -0.9,
                               .high = 0.9};
        check_case(&test);
    }
    for (size_t i = 0; i < 3; i++) {
        struct op_case test = {.op = by_first[i],
                               .dtype = DTYPE_FLOAT64,
                               .input_count = 2,
                               .shapes = {shape_vector(6)},
                               .constants = {[1] = features},
                               .low = -1,
                               .high = 1};
        check_case(&test);
    }
    for (size_t i = 0; i < 4; i++) {
        struct op_case test = {.op = by_both[i / 2],
                               .dtype = DTYPE_FLOAT64,
                               .input_count = 2,
                               .shapes = {shape_vector(5), shape_vector(5)},
                               .low = i % 2 == 0 ? -0.9 : 0.1,
                               .high = i % 2 == 0 ? -0.1 : 0.9};
        check_case(&test);
    }
}

static void test_casts(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct op_case test = {.op = "Cast",
                               .dtype = float_types[i],
                               .input_count = 1,
                               .shapes = {shape_matrix(2, 3)},
                               .low = -1,
                               .high = 1,
                               .attributes = {{.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_FLOAT64}},
                               .attribute_count = 1};
        check_case(&test);
    }
}

/* Every way to reduce a tensor of three dimensions. */
static void check_reduction(const char *op, double low)
{
    static const struct {
        size_t count;
        int32_t axes[3];
    } ways[] = {{0, {0}}, {1, {0}}, {1, {1}}, {1, {-1}}, {2, {0, 2}}, {2, {1, -3}}, {3, {0, 1, 2}}};
    for (size_t i = 0; i < 2 * sizeof ways / sizeof *ways; i++) {
        int32_t axes[3];
        memcpy(axes, ways[i / 2].axes, sizeof axes);
        struct op_case test = {.op = op,
                               .dtype = DTYPE_FLOAT64,
                               .input_count = 2,
                               .shapes = {shape_cube(2, 3, 4)},
                               .constants = {[1] = {DTYPE_INT32, shape_vector((int64_t)ways[i / 2].count), axes}},
                               .low = low,
                               .high = 2,
                               .attributes = {{.name = "keep_dims", .kind = ATTRIBUTE_BOOLEAN, .boolean = i % 2 == 1}},
                               .attribute_count = 1};
        check_case(&test);
    }
}

static void test_reductions(void **state)
{
    (void)state;
    static const char *const ops[] = {"Sum", "Mean", "Prod", "Max", "Min"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        check_reduction(ops[i], 0.5);
        check_reduction(ops[i], -2);
    }
}

static void check_scan(const char *op, bool is_exclusive, bool is_reverse, int32_t axis)
{
    struct op_case test = {.op = op,
                           .dtype = DTYPE_FLOAT64,
                           .input_count = 2,
                           .shapes = {shape_cube(2, 3, 2)},
                           .constants = {[1] = {DTYPE_INT32, shape_scalar(), &axis}},
                           .low = 0.5,
                           .high = 1.5,
                           .attributes = {{.name = "exclusive", .kind = ATTRIBUTE_BOOLEAN, .boolean = is_exclusive},
                                          {.name = "reverse", .kind = ATTRIBUTE_BOOLEAN, .boolean = is_reverse}},
                           .attribute_count = 2};
    check_case(&test);
}

static void test_scans(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        for (int32_t axis = -1; axis < 3; axis++) {
            check_scan("Cumsum", way % 2 == 1, way / 2 == 1, axis);
            check_scan("Cumprod", way % 2 == 1, way / 2 == 1, axis);
        }
    }
}

static void check_product(const char *op, const char *transpose_a, const char *transpose_b, const struct shape *a,
                          const struct shape *b)
{
    for (int way = 0; way < 4; way++) {
        struct shape shapes[] = {*a, *b};
        for (int i = 0; i < 2; i++) {
            if (way >> i & 1) {
                int64_t *last = &shapes[i].dimensions[shapes[i].rank - 2];
                int64_t swapped = last[0];
                last[0] = last[1];
                last[1] = swapped;
            }
        }
        struct op_case test = {.op = op,
                               .dtype = DTYPE_FLOAT64,
                               .input_count = 2,
                               .shapes = {shapes[0], shapes[1]},
                               .low = -1,
                               .high = 1,
                               .attributes = {{.name = transpose_a, .kind = ATTRIBUTE_BOOLEAN, .boolean = way & 1},
                                              {.name = transpose_b, .kind = ATTRIBUTE_BOOLEAN, .boolean = way >> 1}},
                               .attribute_count = 2};
        check_case(&test);
        test.dtype = DTYPE_FLOAT32;
        check_case(&test);
    }
}

static void test_products(void **state)
{
    (void)state;
    struct shape a = shape_matrix(3, 4);
    struct shape b = shape_matrix(4, 5);
    check_product("MatMul", "transpose_a", "transpose_b", &a, &b);
    check_product("BatchMatMulV2", "adj_x", "adj_y", &a, &b);
    struct shape batch_a = shape_cube(2, 3, 4);
    struct shape batch_b = shape_cube(2, 4, 2);
    check_product("BatchMatMul", "adj_x", "adj_y", &batch_a, &batch_b);
    struct shape repeated_a = {4, {2, 1, 3, 2}};
    struct shape repeated_b = shape_cube(3, 2, 2);
    check_product("BatchMatMulV2", "adj_x", "adj_y", &repeated_a, &repeated_b);
}

static void test_sums_and_broadcasts(void **state)
{
    (void)state;
    int32_t shape[] = {2, 3, 4};
    for (size_t type = 0; type < 2; type++) {
        struct op_case cases[] = {
            {.op = "AddN", .input_count = 3, .shapes = {shape_matrix(2, 2), shape_matrix(2, 2), shape_matrix(2, 2)}},
            {.op = "BiasAdd", .input_count = 2, .shapes = {shape_cube(2, 3, 4), shape_vector(4)}},
            {.op = "BiasAddGrad", .input_count = 1, .shapes = {shape_cube(2, 3, 4)}},
            {.op = "GlobalNorm", .input_count = 2, .shapes = {shape_matrix(2, 2), shape_vector(3)}},
            {.op = "BroadcastTo",
             .input_count = 2,
             .shapes = {shape_matrix(3, 1)},
             .constants = {[1] = {DTYPE_INT32, shape_vector(3), shape}}},
        };
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            cases[i].dtype = float_types[type];
            cases[i].low = -1;
            cases[i].high = 1;
            check_case(&cases[i]);
        }
    }
}

/* SumToShape and BroadcastLike, and with divide_by_count their means. */
static void test_there_and_back(void **state)
{
    (void)state;
    double data[24] = {0};
    struct tensor small = {DTYPE_FLOAT64, shape_matrix(3, 1), data};
    struct tensor large = {DTYPE_FLOAT64, shape_cube(2, 3, 4), data};
    for (int divides = 0; divides < 2; divides++) {
        struct op_case sum = {
            .op = "SumToShape",
            .dtype = DTYPE_FLOAT64,
            .input_count = 2,
            .shapes = {large.shape},
            .constants = {[1] = small},
            .low = -1,
            .high = 1,
            .attributes = {{.name = "divide_by_count", .kind = ATTRIBUTE_BOOLEAN, .boolean = divides}},
            .attribute_count = 1};
        struct op_case broadcast = sum;
        broadcast.op = "BroadcastLike";
        broadcast.shapes[0] = small.shape;
        broadcast.constants[1] = large;
        check_case(&sum);
        check_case(&broadcast);
    }
}

static void test_masks(void **state)
{
    (void)state;
    bool mask[] = {true, false, false, true};
    struct op_case test = {.op = "Masked",
                           .dtype = DTYPE_FLOAT64,
                           .input_count = 2,
                           .shapes = {[1] = shape_vector(4)},
                           .constants = {{DTYPE_BOOL, shape_vector(4), mask}},
                           .low = -1,
                           .high = 1};
    check_case(&test);
}

int main(void)
{
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_operands),   cmocka_unit_test(test_one_operand),
        cmocka_unit_test(test_gradient_ops),   cmocka_unit_test(test_casts),
        cmocka_unit_test(test_reductions),     cmocka_unit_test(test_scans),
        cmocka_unit_test(test_products),       cmocka_unit_test(test_sums_and_broadcasts),
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_masks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
