/* Dtypes, shapes and tensors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/math/tensor.h"

static void test_dtypes_are_found_by_name(void **state)
{
    (void)state;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        enum dtype dtype = (enum dtype)i;
        enum dtype found = DTYPE_COUNT;
        assert_true(dtype_from_name(dtype_name(dtype), &found));
        assert_int_equal(found, dtype);
        assert_true(dtype_bytes(dtype) > 0);
    }
    enum dtype found = DTYPE_INT64;
    assert_false(dtype_from_name("float", &found)); /* that is its C++ name */
    assert_int_equal(found, DTYPE_INT64);
    assert_string_equal(dtype_cpp_name(DTYPE_FLOAT32), "float");
    assert_string_equal(dtype_safetensors_name(DTYPE_BOOL), "BOOL");
}

static void test_shapes_print_as_tensorflow_does(void **state)
{
    (void)state;
    char text[SHAPE_TEXT_BYTES_MAX];
    struct shape shape = shape_unknown();
    assert_string_equal(shape_text(&shape, text), "<unknown>");
    assert_string_equal(shape_cpp_text(&shape, text), "<unknown>");
    shape = shape_scalar();
    assert_string_equal(shape_text(&shape, text), "()");
    assert_string_equal(shape_cpp_text(&shape, text), "[]");
    shape = shape_vector(2);
    assert_string_equal(shape_text(&shape, text), "(2,)");
    assert_string_equal(shape_cpp_text(&shape, text), "[2]");
    shape = shape_matrix(DIMENSION_UNKNOWN, 3);
    assert_string_equal(shape_text(&shape, text), "(?, 3)");
    assert_string_equal(shape_cpp_text(&shape, text), "[?,3]");
    shape = (struct shape){.rank = SHAPE_RANK_MAX};
    for (int i = 0; i < SHAPE_RANK_MAX; i++) {
        shape.dimensions[i] = INT64_MAX;
    }
    assert_int_equal(strlen(shape_text(&shape, text)), SHAPE_RANK_MAX * 21);
}

static void test_compatible_shapes_merge(void **state)
{
    (void)state;
    struct shape unknown = shape_unknown();
    struct shape left = shape_cube(DIMENSION_UNKNOWN, 3, DIMENSION_UNKNOWN);
    struct shape right = shape_cube(2, DIMENSION_UNKNOWN, DIMENSION_UNKNOWN);
    struct shape expected = shape_cube(2, 3, DIMENSION_UNKNOWN);
    struct shape other = shape_cube(2, 4, 5);
    struct shape flat = shape_matrix(2, 3);
    assert_true(shape_is_compatible(&left, &right));
    struct shape merged = shape_merge(&left, &right);
    assert_true(shape_equal(&merged, &expected));
    merged = shape_merge(&unknown, &left);
    assert_true(shape_equal(&merged, &left));
    merged = shape_merge(&left, &unknown);
    assert_true(shape_equal(&merged, &left));
    assert_false(shape_is_compatible(&left, &other));
    assert_false(shape_is_compatible(&left, &flat));
    assert_false(shape_equal(&left, &right));
    assert_false(shape_equal(&left, &flat));
    assert_false(shape_is_fully_known(&expected));
    assert_false(shape_is_fully_known(&unknown));
    assert_true(shape_is_fully_known(&other));
}

static void test_element_counts_do_not_overflow(void **state)
{
    (void)state;
    size_t count = 99;
    struct shape shape = shape_scalar();
    assert_true(shape_element_count(&shape, &count) && count == 1);
    shape = shape_cube(2, 3, 4);
    assert_true(shape_element_count(&shape, &count) && count == 24);
    shape = shape_cube(INT64_MAX, INT64_MAX, 0);
    assert_true(shape_element_count(&shape, &count) && count == 0);
    shape = shape_vector(PTRDIFF_MAX / 16);
    assert_true(shape_element_count(&shape, &count) && count == PTRDIFF_MAX / 16);
    shape = shape_vector(PTRDIFF_MAX / 16 + 1);
    assert_false(shape_element_count(&shape, &count));
    shape = shape_matrix(INT64_C(1) << 33, INT64_C(1) << 33);
    assert_false(shape_element_count(&shape, &count));
}

static void test_tensors_are_zeroed_and_copied(void **state)
{
    (void)state;
    struct error error;
    struct tensor tensor;
    struct tensor copy;
    struct shape shape = shape_matrix(3, 5);
    assert_int_equal(tensor_init(&tensor, DTYPE_FLOAT64, &shape, &error), STATUS_OK);
    assert_int_equal(tensor_bytes(&tensor), 120);
    assert_int_equal((uintptr_t)tensor.data % MEM_ALIGNMENT_BYTES, 0);
    double *values = tensor.data;
    for (size_t i = 0; i < 15; i++) {
        assert_true(values[i] == 0);
        values[i] = (double)i;
    }
    assert_int_equal(tensor_init_copy(&copy, &tensor, &error), STATUS_OK);
    assert_true(copy.data != tensor.data && copy.dtype == DTYPE_FLOAT64 && shape_equal(&copy.shape, &shape));
    assert_memory_equal(copy.data, tensor.data, 120);
    tensor_release(&tensor);
    tensor_release(&tensor);
    tensor_release(&copy);
    tensor_release(NULL);
}

static void test_impossible_tensors_are_refused(void **state)
{
    (void)state;
    struct error error;
    struct tensor tensor = {.dtype = DTYPE_BOOL};
    struct shape huge = shape_matrix(INT64_MAX, 2);
    struct shape empty = shape_matrix(0, 2);
    assert_int_equal(tensor_init(&tensor, DTYPE_FLOAT32, &huge, &error), STATUS_LIMIT);
    assert_non_null(strstr(error.message, "(9223372036854775807, 2)"));
    mem_fail_after(0);
    assert_int_equal(tensor_init(&tensor, DTYPE_FLOAT32, &empty, &error), STATUS_NO_MEMORY);
    assert_true(tensor.data == NULL && tensor.dtype == DTYPE_BOOL); /* untouched */
    assert_int_equal(tensor_init(&tensor, DTYPE_FLOAT32, &empty, &error), STATUS_OK);
    assert_int_equal(tensor_bytes(&tensor), 0);
    struct tensor copy;
    mem_fail_after(0);
    assert_int_equal(tensor_init_copy(&copy, &tensor, &error), STATUS_NO_MEMORY);
    tensor_release(&tensor);
}

/* Every half is a float and comes back; numbers between two go to the nearer, ties to the even one. */
static void test_half_precision(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float number = float_from_half((uint16_t)bits);
        bool is_nan = (bits & 0x7c00) == 0x7c00 && (bits & 0x3ff) != 0;
        assert_true(is_nan ? number != number : half_from_float(number) == bits);
    }
    for (uint16_t bits = 0; bits < 0x7bff; bits++) {
        float low = float_from_half(bits);
        float high = float_from_half((uint16_t)(bits + 1));
        float middle = low + (high - low) / 2;
        assert_int_equal(half_from_float(middle), bits % 2 == 0 ? bits : bits + 1);
        assert_int_equal(half_from_float(__builtin_nextafterf(middle, 0)), bits);
        assert_int_equal(half_from_float(__builtin_nextafterf(middle, 1e9f)), bits + 1);
    }
    assert_int_equal(half_from_float(65519.0f), 0x7bff);
    assert_int_equal(half_from_float(65520.0f), 0x7c00);
}

static void test_numbers_of_every_dtype(void **state)
{
    (void)state;
    static const double numbers[] = {0, 1, -1, 2.75, -2.75, 127, 128, -129, 255, 256, 65536, 3e9, -3e9, 1e19, -1e19};
    struct shape one = shape_vector(1);
    for (int dtype = 0; dtype < DTYPE_COUNT; dtype++) {
        struct tensor tensor;
        struct error error;
        assert_int_equal(tensor_init(&tensor, (enum dtype)dtype, &one, &error), STATUS_OK);
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            double expected = numbers[i];
            tensor_set_number(&tensor, 0, numbers[i]);
            if (dtype_is_integer(tensor.dtype)) {
                int64_t least = 0;
                int64_t greatest = 0;
                dtype_integer_range(tensor.dtype, &least, &greatest);
                expected = __builtin_trunc(expected);
                expected = expected < (double)least      ? (double)least
                           : expected > (double)greatest ? (double)greatest
                                                         : expected;
            } else if (dtype == DTYPE_BOOL) {
                expected = expected != 0;
            } else if (dtype == DTYPE_FLOAT16) {
                expected = (double)float_from_half(half_from_float((float)expected));
            } else if (dtype != DTYPE_FLOAT64) {
                expected = (double)(float)expected;
            }
            assert_true(tensor_number(&tensor, 0) == expected);
        }
        tensor_release(&tensor);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_precision),
        cmocka_unit_test(test_numbers_of_every_dtype),
        cmocka_unit_test(test_dtypes_are_found_by_name),
        cmocka_unit_test(test_shapes_print_as_tensorflow_does),
        cmocka_unit_test(test_compatible_shapes_merge),
        cmocka_unit_test(test_element_counts_do_not_overflow),
        cmocka_unit_test(test_tensors_are_zeroed_and_copied),
        cmocka_unit_test(test_impossible_tensors_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
