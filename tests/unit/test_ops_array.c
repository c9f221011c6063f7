/* Ops that rearrange: values by hand, errors in TensorFlow's words. */
#include "tests/unit/array_rig.h"

#define CUBE shape_cube(2, 3, 2)
#define COUNTED 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11

/* Runs the call as it is and again with input 0 fed, and compares all outputs. */
static void check_values(const struct op_call *given, size_t count, const struct tensor *want)
{
    struct op_call call = *given;
    check_run(&call, count, want);
    call.is_fed[0] = true;
    check_run(&call, count, want);
}

#define CHECK_ONE(call, ...) check_values(&call, 1, (struct tensor[]){__VA_ARGS__})

/* Refused while building (turn 0: everything constant) with this message. */
static void check_refused(const struct op_call *call, const char *type, const char *message)
{
    struct tensor outputs[RIG_INPUTS_MAX];
    struct error error = {.status = STATUS_OK};
    enum status status = op_call_run(call, outputs, &error);
    if (status == STATUS_OK) {
        fail_msg("%s: not refused: %s", call->op, message);
    }
    assert_string_equal(error.type, type);
    if (strstr(error.message, message) == NULL) {
        fail_msg("%s: '%s' does not contain '%s'", call->op, error.message, message);
    }
}

/* ---- shapes ---- */

static void test_shapes(void **state)
{
    (void)state;
    struct tensor x = FLOATS(CUBE, COUNTED);
    CHECK_ONE(CALL("Shape", 1, x), INTS(2, 3, 2));
    CHECK_ONE(CALL("Size", 1, x), INT(12));
    CHECK_ONE(CALL("Rank", 1, x), INT(3));
    struct op_call wide = {.op = "Shape",
                           .input_count = 1,
                           .inputs = {x},
                           .attributes = {{.name = "out_type", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_INT64}},
                           .attribute_count = 1};
    CHECK_ONE(wide, LONGS(2, 3, 2));
    CHECK_ONE(CALL("Reshape", 2, x, INTS(4, -1)), FLOATS(shape_matrix(4, 3), COUNTED));
    CHECK_ONE(CALL("Reshape", 2, x, LONGS(12)), FLOATS(shape_vector(12), COUNTED));
    CHECK_ONE(CALL("ExpandDims", 2, INTS(1, 2), INT(-1)), INTS_AS(shape_matrix(2, 1), 1, 2));
    CHECK_ONE(CALL("ExpandDims", 2, INTS(1, 2), INT(0)), INTS_AS(shape_matrix(1, 2), 1, 2));
    CHECK_ONE(CALL("Squeeze", 1, INTS_AS(shape_cube(1, 2, 1), 1, 2)), INTS(1, 2));
    struct op_call last = {.op = "Squeeze",
                           .input_count = 1,
                           .inputs = {INTS_AS(shape_cube(1, 2, 1), 1, 2)},
                           .attributes = {{.name = "squeeze_dims", .kind = ATTRIBUTE_SHAPE, .shape = {1, {-1}}}},
                           .attribute_count = 1};
    CHECK_ONE(last, INTS_AS(shape_matrix(1, 2), 1, 2));
}

static void test_shapes_refused(void **state)
{
    (void)state;
    struct tensor x = FLOATS(shape_matrix(2, 3), 1, 2, 3, 4, 5, 6);
    check_refused(&CALL("Reshape", 2, x, INTS(4, 2)), "ValueError",
                  "Cannot reshape a tensor with 6 elements to shape [4,2] (8 elements) for 'Reshape' (op: 'Reshape') "
                  "with input shapes: [2,3], [2]");
    check_refused(&CALL("Reshape", 2, x, INTS(4, -1)), "ValueError",
                  "Dimension size must be evenly divisible by 4 but is 6");
    check_refused(&CALL("Reshape", 2, x, INTS(-1, -1)), "ValueError",
                  "Only one input size may be -1, not both 0 and 1");
    check_refused(&CALL("Reshape", 2, x, INTS(-2, 3)), "ValueError", "Size 0 must be non-negative, not -2");
    check_refused(&CALL("Reshape", 2, x, INTS(1, 1, 1, 1, 1, 1, 2, 3, 1)), "ValueError", "rank 9, the maximum is 8");
    check_refused(
        &(struct op_call){.op = "Reshape", .input_count = 2, .inputs = {x, INTS(4, 2)}, .is_fed = {[1] = true}},
        "InvalidArgumentError", "Input to reshape is a tensor with 6 values, but the requested shape has 8");
    check_refused(&CALL("ExpandDims", 2, x, INT(3)), "ValueError", "dim 3 not in the interval [-3, 2]");
    struct op_call squeeze = {.op = "Squeeze",
                              .input_count = 1,
                              .inputs = {x},
                              .attributes = {{.name = "squeeze_dims", .kind = ATTRIBUTE_SHAPE, .shape = {1, {0}}}},
                              .attribute_count = 1};
    check_refused(&squeeze, "ValueError", "Can not squeeze dim[0], expected a dimension of 1, got 2");
}

/* ---- joining ---- */

static void test_concat_and_split(void **state)
{
    (void)state;
    struct tensor a = FLOATS(shape_matrix(2, 2), 1, 2, 3, 4);
    struct tensor b = FLOATS(shape_matrix(2, 1), 5, 6);
    CHECK_ONE(CALL("ConcatV2", 3, a, b, INT(1)), FLOATS(shape_matrix(2, 3), 1, 2, 5, 3, 4, 6));
    CHECK_ONE(CALL("ConcatV2", 3, a, b, INT(-1)), FLOATS(shape_matrix(2, 3), 1, 2, 5, 3, 4, 6));
    CHECK_ONE(CALL("ConcatV2", 3, a, a, INT(0)), FLOATS(shape_matrix(4, 2), 1, 2, 3, 4, 1, 2, 3, 4));
    CHECK_ONE(CALL("ConcatV2", 4, INTS(1), INTS_AS(shape_vector(0), 0), INTS(2, 3), INT(0)), INTS(1, 2, 3));
    struct op_call split = {.op = "Split",
                            .input_count = 2,
                            .inputs = {INT(1), FLOATS(shape_matrix(2, 4), 1, 2, 3, 4, 5, 6, 7, 8)},
                            .attributes = {ATTRIBUTE_INT("num_split", 2)},
                            .attribute_count = 1};
    struct tensor halves[] = {FLOATS(shape_matrix(2, 2), 1, 2, 5, 6), FLOATS(shape_matrix(2, 2), 3, 4, 7, 8)};
    check_values(&split, 2, halves);
    struct op_call uneven = {.op = "SplitV",
                             .input_count = 3,
                             .inputs = {INTS(1, 2, 3, 4, 5), INTS(1, -1, 2), INT(0)},
                             .attributes = {ATTRIBUTE_INT("num_split", 3)},
                             .attribute_count = 1};
    struct tensor parts[] = {INTS(1), INTS(2, 3), INTS(4, 5)};
    check_values(&uneven, 3, parts);
    check_refused(&CALL("ConcatV2", 3, a, b, INT(0)), "ValueError",
                  "Dimension 0 in both shapes must be equal, but are 2 and 1. Shapes are [2] and [1].");
    check_refused(&CALL("ConcatV2", 3, a, INTS_AS(shape_matrix(2, 1), 1, 2), INT(1)), "TypeError",
                  "have types [float32, int32] that don't all match.");
    check_refused(&CALL("ConcatV2", 3, a, b, INT(2)), "ValueError", "Shape must be at least rank 3 but is rank 2");
    split.attributes[0].integer = 3;
    check_refused(&split, "ValueError", "Dimension size must be evenly divisible by 3 but is 4");
    uneven.inputs[1] = INTS(1, 1, 2);
    check_refused(&uneven, "ValueError", "can't split axis of size 5 into pieces of size 4");
}

static void test_pack_and_unpack(void **state)
{
    (void)state;
    struct tensor a = INTS(1, 2, 3);
    struct tensor b = INTS(4, 5, 6);
    CHECK_ONE(CALL("Pack", 2, a, b), INTS_AS(shape_matrix(2, 3), 1, 2, 3, 4, 5, 6));
    struct op_call columns = {.op = "Pack",
                              .input_count = 2,
                              .inputs = {a, b},
                              .attributes = {ATTRIBUTE_INT("axis", -1)},
                              .attribute_count = 1};
    CHECK_ONE(columns, INTS_AS(shape_matrix(3, 2), 1, 4, 2, 5, 3, 6));
    struct op_call unpack = {.op = "Unpack",
                             .input_count = 1,
                             .inputs = {INTS_AS(shape_matrix(3, 2), 1, 4, 2, 5, 3, 6)},
                             .attributes = {ATTRIBUTE_INT("axis", 1)},
                             .attribute_count = 1};
    struct tensor parts[] = {a, b};
    check_values(&unpack, 2, parts);
    columns.attributes[0].integer = 2;
    check_refused(&columns, "ValueError", "axis = 2 not in [-2, 2)");
    check_refused(&CALL("Pack", 2, a, INTS(1)), "ValueError",
                  "Dimension 0 in both shapes must be equal, but are 3 and 1. Shapes are [3] and [1].");
}

/* ---- parts ---- */

static void test_slice(void **state)
{
    (void)state;
    struct tensor x = FLOATS(CUBE, COUNTED);
    CHECK_ONE(CALL("Slice", 3, x, INTS(0, 1, 0), INTS(2, 1, -1)), FLOATS(shape_cube(2, 1, 2), 2, 3, 8, 9));
    CHECK_ONE(CALL("Slice", 3, x, LONGS(1, 0, 1), LONGS(1, 3, 1)), FLOATS(shape_cube(1, 3, 1), 7, 9, 11));
    check_refused(&CALL("Slice", 3, x, INTS(0, 1, 0), INTS(2, 3, -1)), "ValueError",
                  "Expected size[1] in [0, 2], but got 3");
    check_refused(&CALL("Slice", 3, x, INTS(3, 0, 0), INTS(1, 1, 1)), "ValueError",
                  "Expected begin[0] in [0, 2], but got 3");
    /* A begin that is only known in the run. */
    struct op_call fed = {
        .op = "Slice", .input_count = 3, .inputs = {INTS(1, 2, 3, 4), INTS(1), INTS(2)}, .is_fed = {[1] = true}};
    CHECK_ONE(fed, INTS(2, 3));
    fed.inputs[1] = INTS(3);
    check_refused(&fed, "InvalidArgumentError", "Expected ");
}

struct index_case {
    struct tensor begin, end, strides;
    int64_t masks[5]; /* begin, end, ellipsis, new_axis, shrink_axis */
    struct tensor want;
};

static struct op_call index_call(const struct tensor *x, const struct index_case *test)
{
    static const char *const names[] = {"begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"};
    struct op_call call = {.op = "StridedSlice",
                           .input_count = 4,
                           .inputs = {*x, test->begin, test->end, test->strides},
                           .attribute_count = 5};
    for (int i = 0; i < 5; i++) {
        call.attributes[i] = (struct attribute){.name = names[i], .kind = ATTRIBUTE_INTEGER, .integer = test->masks[i]};
    }
    return call;
}

static void test_strided_slice(void **state)
{
    (void)state;
    struct tensor x = INTS_AS(CUBE, COUNTED);
    struct index_case cases[] = {
        /* x[1] */ {INTS(1), INTS(2), INTS(1), {0, 0, 0, 0, 1}, INTS_AS(shape_matrix(3, 2), 6, 7, 8, 9, 10, 11)},
        /* x[-1] */ {INTS(-1), INTS(0), INTS(1), {0, 0, 0, 0, 1}, INTS_AS(shape_matrix(3, 2), 6, 7, 8, 9, 10, 11)},
        /* x[:, 1:3, 0] */
        {INTS(0, 1, 0), INTS(0, 3, 1), INTS(1, 1, 1), {1, 1, 0, 0, 4}, INTS_AS(shape_matrix(2, 2), 2, 4, 8, 10)},
        /* x[..., ::-1] */
        {INTS(0, 0), INTS(0, 0), INTS(1, -1), {2, 2, 1, 0, 0}, INTS_AS(CUBE, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10)},
        /* x[::-1, ::2, 1] */
        {INTS(0, 0, 1), INTS(0, 0, 2), INTS(-1, 2, 1), {3, 3, 0, 0, 4}, INTS_AS(shape_matrix(2, 2), 7, 11, 1, 5)},
        /* x[0, newaxis, ..., 1] */
        {INTS(0, 0, 0, 1), INTS(1, 0, 0, 2), INTS(1, 1, 1, 1), {0, 0, 4, 2, 9}, INTS_AS(shape_matrix(1, 3), 1, 3, 5)},
        /* x[5:, :, :]: nothing is there */
        {INTS(5, 0, 0), INTS(9, 0, 0), INTS(1, 1, 1), {6, 6, 0, 0, 0}, INTS_AS(shape_cube(0, 3, 2), 0)},
        /* x[1:0:-1, 2:-4:-1, 0:1] */
        {INTS(1, 2, 0), INTS(0, -4, 1), INTS(-1, -1, 1), {0, 0, 0, 0, 0}, INTS_AS(shape_cube(1, 3, 1), 10, 8, 6)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct op_call call = index_call(&x, &cases[i]);
        check_values(&call, 1, &cases[i].want);
    }
    struct index_case outside = {INTS(2), INTS(3), INTS(1), {0, 0, 0, 0, 1}, INT(0)};
    struct op_call call = index_call(&x, &outside);
    check_refused(&call, "ValueError", "slice index 2 of dimension 0 out of bounds.");
    call.is_fed[1] = true;
    check_refused(&call, "InvalidArgumentError", "slice index 2 of dimension 0 out of bounds.");
    struct index_case still = {INTS(0), INTS(1), INTS(0), {0, 0, 0, 0, 0}, INT(0)};
    call = index_call(&x, &still);
    check_refused(&call, "ValueError", "strides[0] must be non-zero");
    struct index_case deep = {INTS(0, 0, 0, 0), INTS(1, 1, 1, 1), INTS(1, 1, 1, 1), {0, 0, 0, 0, 0}, INT(0)};
    call = index_call(&x, &deep);
    check_refused(&call, "ValueError", "Index out of range using input dim 3; input has only 3 dims");
}

/* ---- order ---- */

static void test_transpose_and_reverse(void **state)
{
    (void)state;
    struct tensor x = FLOATS(CUBE, COUNTED);
    CHECK_ONE(CALL("Transpose", 2, x, INTS(1, 0, 2)),
              FLOATS(shape_cube(3, 2, 2), 0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11));
    CHECK_ONE(CALL("Transpose", 2, x, LONGS(2, 1, 0)), FLOATS(CUBE, 0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11));
    CHECK_ONE(CALL("Transpose", 2, BOOLS(shape_matrix(2, 2), true, true, false, false), INTS(1, 0)),
              BOOLS(shape_matrix(2, 2), true, false, true, false));
    CHECK_ONE(CALL("InvertPermutation", 1, INTS(3, 4, 0, 2, 1)), INTS(2, 4, 3, 0, 1));
    CHECK_ONE(CALL("ReverseV2", 2, x, INTS(-1, 0)), FLOATS(CUBE, 7, 6, 9, 8, 11, 10, 1, 0, 3, 2, 5, 4));
    struct op_call sequence = {.op = "ReverseSequence",
                               .input_count = 2,
                               .inputs = {INTS_AS(shape_matrix(3, 4), COUNTED), INTS(4, 0, 2)},
                               .attributes = {ATTRIBUTE_INT("seq_dim", 1), ATTRIBUTE_INT("batch_dim", 0)},
                               .attribute_count = 2};
    CHECK_ONE(sequence, INTS_AS(shape_matrix(3, 4), 3, 2, 1, 0, 4, 5, 6, 7, 9, 8, 10, 11));
    check_refused(&CALL("Transpose", 2, x, INTS(1, 0)), "ValueError", "Dimension must be 3 but is 2");
    check_refused(&CALL("Transpose", 2, x, INTS(0, 1, 3)), "ValueError", "perm dim 3 is out of range of input rank 3");
    check_refused(&CALL("InvertPermutation", 1, INTS(0, 0)), "InvalidArgumentError", "0 is duplicated in the input.");
    sequence.inputs[1] = INTS(5, 0, 2);
    check_refused(&sequence, "InvalidArgumentError", "seq_lens(0) > input.dims(1)");
}

/* ---- growth ---- */

static void test_tile_and_pad(void **state)
{
    (void)state;
    struct tensor x = INTS_AS(shape_matrix(2, 2), 1, 2, 3, 4);
    CHECK_ONE(CALL("Tile", 2, x, INTS(2, 2)),
              INTS_AS(shape_matrix(4, 4), 1, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4));
    CHECK_ONE(CALL("Tile", 2, x, INTS(1, 0)), INTS_AS(shape_matrix(2, 0), 0));
    struct tensor sides = INTS_AS(shape_matrix(2, 2), 1, 0, 0, 2);
    CHECK_ONE(CALL("Pad", 2, x, sides), INTS_AS(shape_matrix(3, 4), 0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 0, 0));
    CHECK_ONE(CALL("PadV2", 3, x, sides, INT(9)), INTS_AS(shape_matrix(3, 4), 9, 9, 9, 9, 1, 2, 9, 9, 3, 4, 9, 9));
    struct op_call mirror = {.op = "MirrorPad",
                             .input_count = 2,
                             .inputs = {INTS(1, 2, 3), INTS_AS(shape_matrix(1, 2), 2, 1)},
                             .attributes = {{.name = "mode", .kind = ATTRIBUTE_TEXT, .text = "REFLECT"}},
                             .attribute_count = 1};
    CHECK_ONE(mirror, INTS(3, 2, 1, 2, 3, 2));
    mirror.attributes[0].text = "SYMMETRIC";
    CHECK_ONE(mirror, INTS(2, 1, 1, 2, 3, 3));
    mirror.inputs[1] = INTS_AS(shape_matrix(1, 2), 4, 0);
    check_refused(&mirror, "ValueError", "paddings must be no greater than the dimension size: 4, 0 greater than 3");
    check_refused(&CALL("Tile", 2, x, INTS(-1, 1)), "ValueError", "Expected multiples[0] >= 0, but got -1");
    check_refused(&CALL("Pad", 2, x, INTS_AS(shape_matrix(2, 2), 0, 0, 0, -1)), "ValueError",
                  "Paddings must be non-negative: 0 -1");
    check_refused(&CALL("Tile", 2, x, INTS(1000000, 1000000)), "ResourceExhaustedError",
                  "OOM when allocating tensor with shape[2000000,2000000] and type int32");
}

/* ---- look-ups ---- */

static void test_gather_and_one_hot(void **state)
{
    (void)state;
    struct tensor x = FLOATS(shape_matrix(3, 2), 0, 1, 2, 3, 4, 5);
    CHECK_ONE(CALL("GatherV2", 3, x, INTS(2, 0), INT(0)), FLOATS(shape_matrix(2, 2), 4, 5, 0, 1));
    CHECK_ONE(CALL("GatherV2", 3, x, LONGS(1), INT(-1)), FLOATS(shape_matrix(3, 1), 1, 3, 5));
    CHECK_ONE(CALL("GatherV2", 3, x, INT(1), INT(0)), FLOATS(shape_vector(2), 2, 3));
    check_refused(&CALL("GatherV2", 3, x, INTS_AS(shape_matrix(2, 1), 1, 3), INT(0)), "InvalidArgumentError",
                  "indices[1,0] = 3 is not in [0, 3)");
    check_refused(&CALL("GatherV2", 3, x, INT(-1), INT(0)), "InvalidArgumentError", "indices = -1 is not in [0, 3)");
    struct op_call hot = {
        .op = "OneHot", .input_count = 4, .inputs = {INTS(1, -1, 3, 0), INT(3), NUMBER(1), NUMBER(0)}};
    CHECK_ONE(hot, FLOATS(shape_matrix(4, 3), 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0));
    hot.attributes[0] = (struct attribute)ATTRIBUTE_INT("axis", 0);
    hot.attribute_count = 1;
    hot.inputs[2] = INT(5);
    hot.inputs[3] = INT(-1);
    CHECK_ONE(hot, INTS_AS(shape_matrix(3, 4), -1, -1, -1, 5, 5, -1, -1, -1, -1, -1, -1, -1));
    hot.inputs[1] = INT(-2);
    check_refused(&hot, "ValueError", "depth must be non-negative, got: -2");
}

/* ---- making ---- */

static void test_making(void **state)
{
    (void)state;
    CHECK_ONE(CALL("Fill", 2, INTS(2, 2), INT(7)), INTS_AS(shape_matrix(2, 2), 7, 7, 7, 7));
    CHECK_ONE(CALL("Fill", 2, INTS_AS(shape_vector(0), 0), NUMBER(7)), NUMBER(7));
    CHECK_ONE(CALL("ZerosLike", 1, INTS(2, 3)), INTS(0, 0));
    CHECK_ONE(CALL("OnesLike", 1, BOOLS(shape_vector(2), false, true)), BOOLS(shape_vector(2), true, true));
    CHECK_ONE(CALL("Range", 3, INT(3), INT(18), INT(6)), INTS(3, 9, 15));
    CHECK_ONE(CALL("Range", 3, INT(3), INT(-2), INT(-2)), INTS(3, 1, -1));
    check_run(&CALL("Range", 3, NUMBER(0), NUMBER(1), NUMBER(0.25f)), 1,
              &FLOATS(shape_vector(4), 0, 0.25f, 0.5f, 0.75f));
    CHECK_ONE(CALL("LinSpace", 3, NUMBER(10), NUMBER(12), INT(3)), FLOATS(shape_vector(3), 10, 11, 12));
    CHECK_ONE(CALL("LinSpace", 3, NUMBER(10), NUMBER(12), INT(1)), FLOATS(shape_vector(1), 10));
    check_refused(&CALL("Range", 3, INT(0), INT(5), INT(-1)), "ValueError",
                  "Requires start >= limit when delta < 0: 0/5");
    check_refused(&CALL("Range", 3, INT(0), INT(5), INT(0)), "ValueError", "Requires delta != 0");
    check_refused(&CALL("Fill", 2, INTS(2, -2), INT(7)), "ValueError", "Dimension -2 must be >= 0");
    check_refused(&CALL("Fill", 2, LONGS(1000000, 1000000), INT(7)), "ResourceExhaustedError",
                  "OOM when allocating tensor with shape[1000000,1000000] and type int32");
    check_refused(&CALL("LinSpace", 3, NUMBER(10), NUMBER(12), INT(0)), "ValueError", "Requires num > 0: 0");
}

static void test_select(void **state)
{
    (void)state;
    struct tensor x = INTS_AS(shape_matrix(2, 2), 1, 2, 3, 4);
    struct tensor y = INTS_AS(shape_matrix(2, 2), 5, 6, 7, 8);
    CHECK_ONE(CALL("Select", 3, BOOLS(shape_matrix(2, 2), true, false, false, true), x, y),
              INTS_AS(shape_matrix(2, 2), 1, 6, 7, 4));
    CHECK_ONE(CALL("Select", 3, BOOLS(shape_vector(2), false, true), x, y), INTS_AS(shape_matrix(2, 2), 5, 6, 3, 4));
    CHECK_ONE(CALL("Select", 3, BOOLS(shape_scalar(), false), x, y), y);
    check_refused(&CALL("Select", 3, BOOLS(shape_vector(3), false, true, true), x, y), "ValueError",
                  "Number of batches of 'then' must match size of 'cond', but saw: 2 vs. 3");
    check_refused(&CALL("Select", 3, INTS(1, 0), x, y), "TypeError", "expected type of bool");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_shapes_refused),
        cmocka_unit_test(test_concat_and_split),
        cmocka_unit_test(test_pack_and_unpack),
        cmocka_unit_test(test_slice),
        cmocka_unit_test(test_strided_slice),
        cmocka_unit_test(test_transpose_and_reverse),
        cmocka_unit_test(test_tile_and_pad),
        cmocka_unit_test(test_gather_and_one_hot),
        cmocka_unit_test(test_making),
        cmocka_unit_test(test_select),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
