/* Products of matrices against plain loops over random shapes, and what they and other ops refuse. */
#include "engine/math/gemm.h"
#include "tests/unit/random_tensors.h"

enum { ROUNDS = 240 };

static const enum dtype number_types[] = {DTYPE_FLOAT32, DTYPE_FLOAT64, DTYPE_INT32, DTYPE_INT64};

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
    struct tensor result = {0};
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
    for (size_t round = 0; round < ROUNDS; round++) {
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
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_products_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
