/* The gradients of the array ops against central differences. */
#include "tests/unit/array_rig.h"

/* In float64 to the last digits, in float32 roughly. */
static void check_gradient(struct op_case test)
{
    test.low = -1;
    test.high = 1;
    for (int turn = 0; turn < 2; turn++) {
        test.dtype = turn == 0 ? DTYPE_FLOAT64 : DTYPE_FLOAT32;
        check_case(&test);
    }
}

static void test_gradients_of_shapes_and_parts(void **state)
{
    (void)state;
    struct shape cube = shape_cube(2, 3, 4);
    check_gradient(
        (struct op_case){.op = "Reshape", .input_count = 2, .shapes = {cube}, .constants = {[1] = INTS(-1, 4)}});
    check_gradient(
        (struct op_case){.op = "ExpandDims", .input_count = 2, .shapes = {cube}, .constants = {[1] = INT(1)}});
    check_gradient((struct op_case){.op = "Squeeze", .input_count = 1, .shapes = {shape_cube(2, 1, 4)}});
    check_gradient(
        (struct op_case){.op = "Transpose", .input_count = 2, .shapes = {cube}, .constants = {[1] = INTS(2, 0, 1)}});
    check_gradient((struct op_case){
        .op = "Slice", .input_count = 3, .shapes = {cube}, .constants = {[1] = INTS(0, 1, 2), [2] = INTS(2, -1, 1)}});
    check_gradient((struct op_case){.op = "StridedSlice",
                                    .input_count = 4,
                                    .shapes = {cube},
                                    .constants = {[1] = INTS(1, 0, -1), [2] = INTS(2, 3, -5), [3] = INTS(1, 2, -1)},
                                    .attributes = {ATTRIBUTE_INT("shrink_axis_mask", 1)},
                                    .attribute_count = 1});
    check_gradient(
        (struct op_case){.op = "ReverseV2", .input_count = 2, .shapes = {cube}, .constants = {[1] = INTS(2, 0)}});
    check_gradient((struct op_case){.op = "ReverseSequence",
                                    .input_count = 2,
                                    .shapes = {cube},
                                    .constants = {[1] = INTS(2, 3)},
                                    .attributes = {ATTRIBUTE_INT("seq_dim", 1), ATTRIBUTE_INT("batch_dim", 0)},
                                    .attribute_count = 2});
}

static void test_gradients_of_joining(void **state)
{
    (void)state;
    check_gradient((struct op_case){.op = "ConcatV2",
                                    .input_count = 3,
                                    .shapes = {shape_matrix(2, 3), shape_matrix(2, 2)},
                                    .constants = {[2] = INT(1)}});
    check_gradient((struct op_case){.op = "Pack",
                                    .input_count = 3,
                                    .shapes = {shape_matrix(2, 3), shape_matrix(2, 3), shape_matrix(2, 3)},
                                    .attributes = {ATTRIBUTE_INT("axis", 1)},
                                    .attribute_count = 1});
    for (uint32_t output = 0; output < 2; output++) {
        check_gradient((struct op_case){.op = "Split",
                                        .input_count = 2,
                                        .shapes = {[1] = shape_matrix(3, 4)},
                                        .constants = {INT(1)},
                                        .attributes = {ATTRIBUTE_INT("num_split", 2)},
                                        .attribute_count = 1,
                                        .output = output});
        check_gradient((struct op_case){.op = "SplitV",
                                        .input_count = 3,
                                        .shapes = {shape_matrix(3, 4)},
                                        .constants = {[1] = INTS(1, 3), [2] = INT(1)},
                                        .attributes = {ATTRIBUTE_INT("num_split", 2)},
                                        .attribute_count = 1,
                                        .output = output});
        check_gradient((struct op_case){.op = "Unpack",
                                        .input_count = 1,
                                        .shapes = {shape_matrix(3, 2)},
                                        .attributes = {ATTRIBUTE_INT("axis", 1)},
                                        .attribute_count = 1,
                                        .output = output});
    }
}

static void test_gradients_of_growth(void **state)
{
    (void)state;
    check_gradient((struct op_case){
        .op = "Tile", .input_count = 2, .shapes = {shape_matrix(2, 3)}, .constants = {[1] = INTS(3, 2)}});
    check_gradient((struct op_case){.op = "Pad",
                                    .input_count = 2,
                                    .shapes = {shape_matrix(2, 3)},
                                    .constants = {[1] = INTS_AS(shape_matrix(2, 2), 1, 0, 2, 1)}});
    struct op_case with_value = {
        .op = "PadV2",
        .dtype = DTYPE_FLOAT64,
        .low = -1,
        .high = 1,
        .input_count = 3,
        .shapes = {shape_matrix(2, 3)},
        .constants = {[1] = INTS_AS(shape_matrix(2, 2), 1, 0, 2, 1), [2] = DOUBLES(shape_scalar(), 3)}};
    check_case(&with_value);
    static const char *const modes[] = {"REFLECT", "SYMMETRIC"};
    for (int i = 0; i < 2; i++) {
        check_gradient((struct op_case){.op = "MirrorPad",
                                        .input_count = 2,
                                        .shapes = {shape_matrix(2, 3)},
                                        .constants = {[1] = INTS_AS(shape_matrix(2, 2), 1, 0, 2, 1)},
                                        .attributes = {{.name = "mode", .kind = ATTRIBUTE_TEXT, .text = modes[i]}},
                                        .attribute_count = 1});
    }
    check_gradient(
        (struct op_case){.op = "Fill", .input_count = 2, .shapes = {[1] = shape_scalar()}, .constants = {INTS(2, 3)}});
}

static void test_gradients_of_look_ups(void **state)
{
    (void)state;
    struct tensor indices = INTS_AS(shape_matrix(2, 2), 1, 0, 1, 2);
    for (int axis = 0; axis < 2; axis++) {
        check_gradient((struct op_case){.op = "GatherV2",
                                        .input_count = 3,
                                        .shapes = {shape_matrix(3, 4)},
                                        .constants = {[1] = indices, [2] = INT(axis)}});
    }
    check_gradient((struct op_case){.op = "Select",
                                    .input_count = 3,
                                    .shapes = {[1] = shape_matrix(2, 2), [2] = shape_matrix(2, 2)},
                                    .constants = {BOOLS(shape_matrix(2, 2), true, false, false, true)}});
    check_gradient((struct op_case){.op = "Select",
                                    .input_count = 3,
                                    .shapes = {[1] = shape_matrix(2, 2), [2] = shape_matrix(2, 2)},
                                    .constants = {BOOLS(shape_vector(2), true, false)}});
}

/* What the gradients are made of can be differentiated again. */
static void test_gradients_of_gradients(void **state)
{
    (void)state;
    struct tensor indices = INTS_AS(shape_matrix(2, 2), 1, 0, 1, 2);
    struct tensor sides = INTS_AS(shape_matrix(2, 2), 1, 0, 2, 1);
    check_gradient((struct op_case){.op = "GatherGrad",
                                    .input_count = 4,
                                    .shapes = {[3] = shape_cube(2, 2, 4)},
                                    .constants = {INTS_AS(shape_matrix(3, 4), [11] = 0), indices, INT(0)}});
    check_gradient(
        (struct op_case){.op = "TileGrad",
                         .input_count = 3,
                         .shapes = {shape_matrix(6, 6)},
                         .constants = {[1] = INTS_AS(shape_matrix(2, 3), 1, 2, 3, 4, 5, 6), [2] = INTS(3, 2)}});
    check_gradient((struct op_case){.op = "MirrorPadGradLike",
                                    .input_count = 3,
                                    .shapes = {shape_matrix(3, 6)},
                                    .constants = {[1] = sides, [2] = INTS_AS(shape_matrix(2, 3), 1, 2, 3, 4, 5, 6)},
                                    .attributes = {{.name = "mode", .kind = ATTRIBUTE_TEXT, .text = "REFLECT"}},
                                    .attribute_count = 1});
    check_gradient((struct op_case){.op = "SliceGrad",
                                    .input_count = 3,
                                    .shapes = {[2] = shape_matrix(2, 3)},
                                    .constants = {INTS(4, 5), INTS(1, 2)}});
    check_gradient((struct op_case){.op = "StridedSliceGrad",
                                    .input_count = 5,
                                    .shapes = {[4] = shape_matrix(2, 3)},
                                    .constants = {INTS(4, 5), INTS(3, 0), INTS(0, 5), INTS(-2, 2)}});
    for (uint32_t output = 0; output < 2; output++) {
        check_gradient((struct op_case){
            .op = "SplitLike",
            .input_count = 4,
            .shapes = {shape_matrix(2, 3)},
            .constants =
                {[1] = INT(1), [2] = INTS_AS(shape_matrix(2, 1), 1, 2), [3] = INTS_AS(shape_matrix(2, 2), 1, 2, 3, 4)},
            .output = output});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_of_shapes_and_parts), cmocka_unit_test(test_gradients_of_joining),
        cmocka_unit_test(test_gradients_of_growth),           cmocka_unit_test(test_gradients_of_look_ups),
        cmocka_unit_test(test_gradients_of_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
