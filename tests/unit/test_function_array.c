/* Array functions by their Python names: what they return, and what TensorFlow calls it. */
#include "tests/unit/function_rig.h"

static const double counted[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

static struct output matrix(struct graph *graph)
{
    return constant_of(graph, DTYPE_FLOAT32, 3, 4, counted);
}

static void give_integers(struct call_maker *maker, const char *name, int64_t *values, size_t count)
{
    struct tensor value = {DTYPE_INT64, shape_vector((int64_t)count), values};
    give_value(maker, name, &value);
}

static void assert_output(struct output output, const char *name, const char *op, struct shape shape)
{
    char have[OUTPUT_NAME_BYTES_MAX];
    char text[SHAPE_TEXT_BYTES_MAX];
    assert_string_equal(output_name(output, have), name);
    assert_string_equal(node_op_name(output.node), op);
    if (!shape_equal(&output_type(output)->shape, &shape)) {
        fail_msg("%s has shape %s", name, shape_text(&output_type(output)->shape, text));
    }
}

static void assert_has_node(const struct graph *graph, const char *name)
{
    if (graph_find_node(graph, name) == NULL) {
        fail_msg("there is no %s", name);
    }
}

/* Functions that are one op: its name and those of the constants made of numbers. */
static void test_names_of_ops(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct output x = matrix(graph);
    struct one {
        const char *function, *name, *op, *constant;
        int64_t values[2];
        size_t count;
        struct shape shape;
    } cases[] = {
        {"reshape", "Reshape:0", "Reshape", "Reshape/shape", {2, -1}, 2, shape_matrix(2, 6)},
        {"transpose", "transpose:0", "Transpose", "transpose/perm", {1, 0}, 2, shape_matrix(4, 3)},
        {"tile", "Tile:0", "Tile", "Tile/multiples", {2, 1}, 2, shape_matrix(6, 4)},
        {"reverse", "ReverseV2:0", "ReverseV2", "ReverseV2/axis", {0}, 1, shape_matrix(3, 4)},
        {"gather", "GatherV2:0", "GatherV2", "GatherV2/axis", {2, 2}, 2, shape_matrix(2, 4)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct call_maker call = call_of(cases[i].function);
        give_tensor(&call, NULL, x);
        give_integers(&call, NULL, cases[i].values, cases[i].count);
        assert_output(make_call(graph, &call), cases[i].name, cases[i].op, cases[i].shape);
        assert_has_node(graph, cases[i].constant);
    }
    struct call_maker call = call_of("expand_dims");
    give_tensor(&call, NULL, x);
    give_integer(&call, "axis", -1);
    assert_output(make_call(graph, &call), "ExpandDims:0", "ExpandDims", shape_cube(3, 4, 1));
    assert_has_node(graph, "ExpandDims/dim");
    call = call_of("transpose");
    give_tensor(&call, NULL, x);
    assert_output(make_call(graph, &call), "transpose_1:0", "Transpose", shape_matrix(4, 3));
    call = call_of("slice");
    give_tensor(&call, NULL, x);
    give_integers(&call, NULL, (int64_t[]){1, 0}, 2);
    give_integers(&call, NULL, (int64_t[]){2, -1}, 2);
    struct output sliced = make_call(graph, &call);
    assert_output(sliced, "Slice:0", "Slice", shape_matrix(2, 4));
    assert_has_node(graph, "Slice/begin");
    assert_has_node(graph, "Slice/size");
    assert_numbers(graph, sliced, counted + 4, 8, 0);
    call = call_of("strided_slice");
    give_tensor(&call, NULL, x);
    give_integers(&call, NULL, (int64_t[]){0, 1}, 2);
    give_integers(&call, NULL, (int64_t[]){3, 2}, 2);
    give_attribute(&call, (struct attribute){.name = "shrink_axis_mask", .kind = ATTRIBUTE_INTEGER, .integer = 2});
    struct output column = make_call(graph, &call);
    assert_output(column, "StridedSlice:0", "StridedSlice", shape_vector(3));
    assert_numbers(graph, column, (double[]){1, 5, 9}, 3, 0);
    call = call_of("shape");
    give_tensor(&call, NULL, x);
    assert_numbers(graph, make_call(graph, &call), (double[]){3, 4}, 2, 0);
    graph_unref(graph);
}

static void test_lists(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct output x = matrix(graph);
    struct output items[] = {x, x};
    struct error error;
    struct call_result result;
    struct call_maker call = call_of("stack");
    give_list(&call, NULL, items, 2);
    give_attribute(&call, (struct attribute){.name = "axis", .kind = ATTRIBUTE_INTEGER, .integer = 1});
    struct output stacked = make_call(graph, &call);
    assert_output(stacked, "stack:0", "Pack", shape_cube(3, 2, 4));
    call = call_of("unstack");
    give_tensor(&call, NULL, stacked);
    must(try_call(graph, &call, &result, &error), &error);
    assert_int_equal(result.output_count, 3);
    assert_true(result.is_list);
    assert_output(result.outputs[2], "unstack:2", "Unpack", shape_matrix(2, 4));
    call = call_of("concat");
    give_list(&call, NULL, items, 2);
    give_integer(&call, NULL, 1);
    assert_output(make_call(graph, &call), "concat:0", "ConcatV2", shape_matrix(3, 8));
    assert_has_node(graph, "concat/axis");
    call = call_of("concat");
    give_list(&call, NULL, items, 1);
    give_integer(&call, NULL, 1);
    assert_output(make_call(graph, &call), "concat_1:0", "Identity", shape_matrix(3, 4));
    call = call_of("split");
    give_tensor(&call, NULL, x);
    give_integer(&call, NULL, 2);
    give_integer(&call, "axis", 1);
    must(try_call(graph, &call, &result, &error), &error);
    assert_int_equal(result.output_count, 2);
    assert_output(result.outputs[1], "split:1", "Split", shape_matrix(3, 2));
    assert_has_node(graph, "split/split_dim");
    assert_numbers(graph, result.outputs[1], (double[]){2, 3, 6, 7, 10, 11}, 6, 0);
    call = call_of("split");
    give_tensor(&call, NULL, x);
    give_integers(&call, "num_or_size_splits", (int64_t[]){1, 2}, 2);
    must(try_call(graph, &call, &result, &error), &error);
    assert_int_equal(result.output_count, 2);
    assert_output(result.outputs[1], "split_1:1", "SplitV", shape_matrix(2, 4));
    graph_unref(graph);
}

static void test_zeros_and_ones(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct call_maker call = call_of("zeros");
    give_integers(&call, NULL, (int64_t[]){2, 3}, 2);
    assert_output(make_call(graph, &call), "zeros:0", "Const", shape_matrix(2, 3));
    call = call_of("ones");
    give_integers(&call, NULL, (int64_t[]){50, 30}, 2);
    give_dtype(&call, DTYPE_INT32);
    struct output many = make_call(graph, &call);
    assert_output(many, "ones:0", "Fill", shape_matrix(50, 30));
    assert_int_equal(output_type(many)->dtype, DTYPE_INT32);
    assert_has_node(graph, "ones/shape_as_tensor");
    assert_has_node(graph, "ones/Const");
    struct shape open = shape_matrix(DIMENSION_UNKNOWN, 3);
    struct output fed = rig_placeholder(graph, DTYPE_FLOAT32, &open);
    call = call_of("zeros_like");
    give_tensor(&call, NULL, fed);
    assert_output(make_call(graph, &call), "zeros_like:0", "ZerosLike", open);
    call = call_of("ones_like");
    give_tensor(&call, NULL, fed);
    give_dtype(&call, DTYPE_BOOL);
    struct output like = make_call(graph, &call);
    assert_output(like, "ones_like:0", "Fill", open);
    assert_int_equal(output_type(like)->dtype, DTYPE_BOOL);
    call = call_of("fill");
    give_integers(&call, NULL, (int64_t[]){2}, 1);
    give_number(&call, NULL, 2.5);
    struct output filled = make_call(graph, &call);
    assert_output(filled, "Fill:0", "Fill", shape_vector(2));
    assert_numbers(graph, filled, (double[]){2.5, 2.5}, 2, 0);
    /* [batch, 5] of which the batch is only known in the run */
    struct output dims[] = {{NULL, 0}, {NULL, 0}};
    must(graph_add(graph, "Shape", NULL, &fed, 1, &dims[0], &(struct error){0}), &(struct error){0});
    call = call_of("strided_slice");
    give_tensor(&call, NULL, dims[0]);
    give_integers(&call, NULL, (int64_t[]){0}, 1);
    give_integers(&call, NULL, (int64_t[]){1}, 1);
    give_attribute(&call, (struct attribute){.name = "shrink_axis_mask", .kind = ATTRIBUTE_INTEGER, .integer = 1});
    dims[0] = make_call(graph, &call);
    dims[1] = scalar_of(graph, DTYPE_INT32, 5);
    call = call_of("zeros");
    give_list(&call, "shape", dims, 2);
    assert_output(make_call(graph, &call), "zeros_1:0", "Fill", shape_matrix(DIMENSION_UNKNOWN, 5));
    graph_unref(graph);
}

static void test_range_and_masks(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct call_maker call = call_of("range");
    give_integer(&call, NULL, 4);
    struct output range = make_call(graph, &call);
    assert_output(range, "range:0", "Range", shape_vector(4));
    assert_has_node(graph, "range/start");
    assert_has_node(graph, "range/limit");
    assert_has_node(graph, "range/delta");
    assert_numbers(graph, range, counted, 4, 0);
    call = call_of("range");
    give_integer(&call, NULL, 1);
    give_number(&call, "limit", 2);
    give_number(&call, "delta", 0.5);
    range = make_call(graph, &call);
    assert_int_equal(output_type(range)->dtype, DTYPE_FLOAT32);
    assert_numbers(graph, range, (double[]){1, 1.5}, 2, 0);
    call = call_of("range");
    give_integer(&call, NULL, 2);
    give_dtype(&call, DTYPE_FLOAT64);
    assert_int_equal(output_type(make_call(graph, &call))->dtype, DTYPE_FLOAT64);
    call = call_of("sequence_mask");
    give_integers(&call, NULL, (int64_t[]){1, 3, 0}, 3);
    struct output mask = make_call(graph, &call);
    assert_int_equal(output_type(mask)->dtype, DTYPE_BOOL);
    assert_numbers(graph, mask, (double[]){1, 0, 0, 1, 1, 1, 0, 0, 0}, 9, 0);
    call = call_of("sequence_mask");
    give_integers(&call, NULL, (int64_t[]){1, 3}, 2);
    give_integer(&call, "maxlen", 2);
    give_dtype(&call, DTYPE_FLOAT32);
    assert_numbers(graph, make_call(graph, &call), (double[]){1, 0, 1, 1}, 4, 0);
    graph_unref(graph);
}

static void test_look_ups(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct output x = matrix(graph);
    struct call_maker call = call_of("embedding_lookup");
    give_tensor(&call, NULL, x);
    give_integers(&call, NULL, (int64_t[]){2, 0}, 2);
    struct output rows = make_call(graph, &call);
    assert_output(rows, "embedding_lookup/Identity:0", "Identity", shape_matrix(2, 4));
    assert_has_node(graph, "embedding_lookup");
    assert_has_node(graph, "embedding_lookup/axis");
    assert_numbers(graph, rows, (double[]){8, 9, 10, 11, 0, 1, 2, 3}, 8, 0);
    call = call_of("one_hot");
    give_integers(&call, NULL, (int64_t[]){1, 0}, 2);
    give_integer(&call, NULL, 2);
    struct output hot = make_call(graph, &call);
    assert_output(hot, "one_hot:0", "OneHot", shape_matrix(2, 2));
    assert_has_node(graph, "one_hot/depth");
    assert_numbers(graph, hot, (double[]){0, 1, 1, 0}, 4, 0);
    call = call_of("one_hot");
    give_integers(&call, NULL, (int64_t[]){1, 0}, 2);
    give_integer(&call, NULL, 2);
    give_integer(&call, "on_value", 5);
    give_dtype(&call, DTYPE_FLOAT32);
    assert_call_refused(graph, &call, "TypeError",
                        "dtype <dtype: 'int32'> of on_value does not match dtype parameter <dtype: 'float32'>");
    graph_unref(graph);
}

static void test_pad_and_where(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct output x = constant_of(graph, DTYPE_FLOAT32, 0, 2, counted + 1);
    struct tensor sides = {DTYPE_INT64, shape_matrix(1, 2), (int64_t[]){1, 2}};
    struct call_maker call = call_of("pad");
    give_tensor(&call, NULL, x);
    give_value(&call, NULL, &sides);
    struct output padded = make_call(graph, &call);
    assert_output(padded, "Pad:0", "Pad", shape_vector(5));
    assert_has_node(graph, "Pad/paddings");
    assert_numbers(graph, padded, (double[]){0, 1, 2, 0, 0}, 5, 0);
    call = call_of("pad");
    give_tensor(&call, NULL, x);
    give_value(&call, NULL, &sides);
    give_number(&call, "constant_values", 7);
    padded = make_call(graph, &call);
    assert_output(padded, "PadV2:0", "PadV2", shape_vector(5));
    assert_numbers(graph, padded, (double[]){7, 1, 2, 7, 7}, 5, 0);
    call = call_of("pad");
    give_tensor(&call, NULL, x);
    give_value(&call, NULL, &sides);
    give_attribute(&call, (struct attribute){.name = "mode", .kind = ATTRIBUTE_TEXT, .text = "symmetric"});
    call.call.name = "mirror";
    padded = make_call(graph, &call);
    assert_output(padded, "mirror:0", "MirrorPad", shape_vector(5));
    assert_has_node(graph, "mirror/paddings");
    assert_numbers(graph, padded, (double[]){1, 1, 2, 2, 1}, 5, 0);
    call = call_of("pad");
    give_tensor(&call, NULL, x);
    give_value(&call, NULL, &sides);
    give_attribute(&call, (struct attribute){.name = "mode", .kind = ATTRIBUTE_TEXT, .text = "WRAP"});
    assert_call_refused(graph, &call, "ValueError", "Unknown padding mode: WRAP");
    struct output condition = constant_of(graph, DTYPE_BOOL, 0, 2, counted);
    call = call_of("where");
    give_tensor(&call, NULL, condition);
    give_tensor(&call, NULL, x);
    give_tensor(&call, NULL, x);
    assert_output(make_call(graph, &call), "Select:0", "Select", shape_vector(2));
    call = call_of("where");
    give_tensor(&call, NULL, condition);
    give_tensor(&call, NULL, x);
    assert_call_refused(graph, &call, "ValueError", "x and y must both be non-None or both be None.");
    call = call_of("where");
    give_tensor(&call, NULL, condition);
    assert_call_refused(graph, &call, "",
                        "where(condition) without x and y: the shape of its result depends on the values of the run, "
                        "and shapes are known before a run here");
    graph_unref(graph);
}

static struct output item(struct graph *graph, struct output x, const char *index)
{
    struct call_maker call = call_of("getitem");
    give_tensor(&call, NULL, x);
    give_attribute(&call, (struct attribute){.name = "index", .kind = ATTRIBUTE_TEXT, .text = index});
    return make_call(graph, &call);
}

static void test_indices_as_python_writes_them(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct output x = matrix(graph);
    struct output row = item(graph, x, "1");
    assert_output(row, "strided_slice:0", "StridedSlice", shape_vector(4));
    assert_has_node(graph, "strided_slice/stack");
    assert_has_node(graph, "strided_slice/stack_1");
    assert_has_node(graph, "strided_slice/stack_2");
    assert_numbers(graph, row, counted + 4, 4, 0);
    assert_numbers(graph, item(graph, x, "..., -1"), (double[]){3, 7, 11}, 3, 0);
    assert_numbers(graph, item(graph, x, "::-1, 0"), (double[]){8, 4, 0}, 3, 0);
    assert_numbers(graph, item(graph, x, "1:, 1:4:2"), (double[]){5, 7, 9, 11}, 4, 0);
    assert_numbers(graph, item(graph, x, ":-2,:2 ,"), (double[]){0, 1}, 2, 0);
    assert_output(item(graph, x, "None, :, newaxis, 0"), "strided_slice_5:0", "StridedSlice", shape_cube(1, 3, 1));
    assert_output(item(graph, x, ""), "strided_slice_6:0", "StridedSlice", shape_matrix(3, 4));
    static const char *const wrong[] = {"a", "1 2", ",", "1:2:3:4", "--1", "99999999999", "0:9999999999", "[1]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct error error;
        static struct call_result result;
        struct call_maker call = call_of("getitem");
        give_tensor(&call, NULL, x);
        give_attribute(&call, (struct attribute){.name = "index", .kind = ATTRIBUTE_TEXT, .text = wrong[i]});
        if (try_call(graph, &call, &result, &error) == STATUS_OK) {
            fail_msg("[%s] is not refused", wrong[i]);
        }
        assert_string_equal(error.type, "TypeError");
    }
    graph_unref(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_indices_as_python_writes_them),
        cmocka_unit_test(test_names_of_ops),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_zeros_and_ones),
        cmocka_unit_test(test_range_and_masks),
        cmocka_unit_test(test_look_ups),
        cmocka_unit_test(test_pad_and_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
