/* What is known of values before a run: constants, shapes in part, what is computed from them; and what is not. */
#include "engine/base/mem.h"
#include "engine/graph/constants.h"
#include "tests/unit/function_rig.h"

static struct output add(struct graph *graph, const char *op, const struct output *inputs, size_t count)
{
    struct error error;
    struct output output;
    must(graph_add(graph, op, NULL, inputs, count, &output, &error), &error);
    return output;
}

static struct output whole(struct graph *graph, int64_t value)
{
    return scalar_of(graph, DTYPE_INT32, (double)value);
}

static struct output wholes(struct graph *graph, const int64_t *values, size_t count)
{
    struct error error;
    struct output output;
    must(graph_add_integers(graph, NULL, values, count, &output, &error), &error);
    return output;
}

/* x[at] of a vector */
static struct output element(struct graph *graph, struct output vector, int64_t at)
{
    struct call_maker call = call_of("strided_slice");
    give_tensor(&call, NULL, vector);
    give_tensor(&call, NULL, wholes(graph, (int64_t[]){at}, 1));
    give_tensor(&call, NULL, wholes(graph, (int64_t[]){at + 1}, 1));
    give_tensor(&call, NULL, wholes(graph, (int64_t[]){1}, 1));
    give_attribute(&call, (struct attribute){.name = "shrink_axis_mask", .kind = ATTRIBUTE_INTEGER, .integer = 1});
    return make_call(graph, &call);
}

static void assert_known(const struct graph *graph, struct output output, const int64_t *want, size_t count)
{
    const struct tensor *value = graph_constant_value(graph, output);
    if (value == NULL) {
        fail_msg("%s is not known", output.node->name);
        return;
    }
    assert_int_equal(tensor_element_count(value), count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(tensor_integer(value, i), want[i]);
    }
}

static void assert_shape(struct output output, struct shape shape)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    if (!shape_equal(&output_type(output)->shape, &shape)) {
        fail_msg("%s has shape %s", output.node->name, shape_text(&output_type(output)->shape, text));
    }
}

static void test_what_is_known(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct shape full = shape_cube(2, 3, 4);
    struct shape open = shape_cube(DIMENSION_UNKNOWN, 3, 4);
    struct output x = rig_placeholder(graph, DTYPE_FLOAT32, &full);
    struct output y = rig_placeholder(graph, DTYPE_FLOAT32, &open);
    assert_known(graph, add(graph, "Shape", &x, 1), (int64_t[]){2, 3, 4}, 3);
    assert_known(graph, add(graph, "Size", &x, 1), (int64_t[]){24}, 1);
    assert_known(graph, add(graph, "Rank", &y, 1), (int64_t[]){3}, 1);
    struct output dims = add(graph, "Shape", &y, 1);
    assert_null(graph_constant_value(graph, dims));
    assert_null(graph_constant_value(graph, x));
    /* elements that are known of a shape that is not */
    assert_known(graph, element(graph, dims, 1), (int64_t[]){3}, 1);
    assert_known(graph, element(graph, dims, -2), (int64_t[]){3}, 1);
    assert_null(graph_constant_value(graph, element(graph, dims, 0)));
    struct error error;
    struct call_result parts;
    struct call_maker unstack = call_of("unstack");
    give_tensor(&unstack, NULL, dims);
    must(try_call(graph, &unstack, &parts, &error), &error);
    assert_null(graph_constant_value(graph, parts.outputs[0]));
    assert_known(graph, parts.outputs[2], (int64_t[]){4}, 1);
    /* arithmetic on them */
    struct output product = add(graph, "Mul", (struct output[]){element(graph, dims, 1), element(graph, dims, 2)}, 2);
    assert_known(graph, product, (int64_t[]){12}, 1);
    struct output range = add(graph, "Range", (struct output[]){whole(graph, 0), product, whole(graph, 5)}, 3);
    assert_known(graph, range, (int64_t[]){0, 5, 10}, 3);
    graph_unref(graph);
}

static void test_shapes_in_part(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct shape open = shape_cube(DIMENSION_UNKNOWN, 3, 4);
    struct output y = rig_placeholder(graph, DTYPE_FLOAT32, &open);
    struct output dims = add(graph, "Shape", &y, 1);
    struct output batch = element(graph, dims, 0);
    struct output packed = add(graph, "Pack", (struct output[]){batch, whole(graph, 12)}, 2);
    assert_shape(add(graph, "Reshape", (struct output[]){y, packed}, 2), shape_matrix(DIMENSION_UNKNOWN, 12));
    struct output back = add(graph, "Pack", (struct output[]){whole(graph, -1), element(graph, dims, 1)}, 2);
    assert_shape(add(graph, "Reshape", (struct output[]){y, back}, 2), shape_matrix(DIMENSION_UNKNOWN, 3));
    struct output tail[] = {wholes(graph, (int64_t[]){7}, 1), dims, whole(graph, 0)};
    struct output joined = add(graph, "ConcatV2", tail, 3);
    struct output number = scalar_of(graph, DTYPE_FLOAT32, 1);
    assert_shape(add(graph, "Fill", (struct output[]){joined, number}, 2),
                 (struct shape){.rank = 4, .dimensions = {7, DIMENSION_UNKNOWN, 3, 4}});
    struct output begin[] = {joined, wholes(graph, (int64_t[]){1}, 1), wholes(graph, (int64_t[]){2}, 1)};
    assert_shape(add(graph, "Fill", (struct output[]){add(graph, "Slice", begin, 3), number}, 2),
                 shape_matrix(DIMENSION_UNKNOWN, 3));
    /* only the length is known */
    struct shape three = shape_vector(3);
    struct output fed = rig_placeholder(graph, DTYPE_INT32, &three);
    assert_shape(add(graph, "Fill", (struct output[]){fed, number}, 2),
                 shape_cube(DIMENSION_UNKNOWN, DIMENSION_UNKNOWN, DIMENSION_UNKNOWN));
    graph_unref(graph);
}

static void test_what_is_never_known(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct error error;
    struct output one = scalar_of(graph, DTYPE_FLOAT32, 1);
    struct output default_value = add(graph, "PlaceholderWithDefault", &one, 1);
    assert_null(graph_constant_value(graph, default_value));
    struct call_maker random = call_of("random_uniform");
    give_tensor(&random, NULL, wholes(graph, (int64_t[]){2}, 1));
    assert_null(graph_constant_value(graph, make_call(graph, &random)));
    const struct variable *variable = NULL;
    struct variable_options options = {.name = "v", .has_shape = true, .dtype = DTYPE_FLOAT32};
    must(get_variable(graph, &options, &variable, NULL, &error), &error);
    assert_null(graph_constant_value(graph, variable->read));
    /* too large to compute ahead */
    struct output dims = wholes(graph, (int64_t[]){CONSTANTS_ELEMENTS_MAX + 1}, 1);
    assert_null(graph_constant_value(graph, add(graph, "Fill", (struct output[]){dims, one}, 2)));
    /* what the kernel refuses is refused by the run */
    struct output twice = wholes(graph, (int64_t[]){0, 0}, 2);
    assert_null(graph_constant_value(graph, add(graph, "InvertPermutation", &twice, 1)));
    graph_unref(graph);
}

/* Neither long chains nor wide ones of shapes known in part take stack or time. */
static void test_long_chains(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct output sum = whole(graph, 0);
    struct output one = whole(graph, 1);
    for (int i = 0; i < 10000; i++) {
        sum = add(graph, "Add", (struct output[]){sum, one}, 2);
    }
    assert_known(graph, sum, (int64_t[]){10000}, 1);
    struct shape open = shape_vector(DIMENSION_UNKNOWN);
    struct output y = rig_placeholder(graph, DTYPE_FLOAT32, &open);
    struct output dims = add(graph, "Shape", &y, 1);
    struct output axis = whole(graph, 0);
    for (int i = 0; i < 2000; i++) {
        dims = add(graph, "Identity", &dims, 1);
    }
    struct output none = wholes(graph, NULL, 0);
    for (int i = 0; i < 200; i++) {
        struct output inputs[8] = {dims, none, none, none, none, none, none, axis};
        dims = add(graph, "ConcatV2", inputs, 8);
    }
    struct output fill[] = {dims, one};
    assert_shape(add(graph, "Fill", fill, 2), shape_vector(DIMENSION_UNKNOWN));
    graph_unref(graph);
}

/* Without memory there is no node: never one that knows less than it would. */
static void test_no_memory_is_told(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct error error;
    struct output shape = wholes(graph, (int64_t[]){3, 4, 5}, 3);
    struct output one = whole(graph, 1);
    struct output sum;
    enum status status = STATUS_NO_MEMORY;
    uint64_t failed = 0;
    for (uint64_t after = 0; status != STATUS_OK && after < 1000; after++) {
        struct graph *clone = NULL;
        must(graph_clone(graph, &clone, &error), &error);
        mem_fail_after(after);
        status = graph_add(clone, "Add", NULL, (struct output[]){shape, one}, 2, &sum, &error);
        mem_fail_after(UINT64_MAX);
        if (status == STATUS_OK) {
            assert_known(clone, sum, (int64_t[]){4, 5, 6}, 3);
        } else {
            assert_int_equal(status, STATUS_NO_MEMORY);
            failed++;
        }
        graph_unref(clone);
    }
    assert_int_equal(status, STATUS_OK);
    assert_true(failed > 0);
    graph_unref(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_known),       cmocka_unit_test(test_shapes_in_part),
        cmocka_unit_test(test_what_is_never_known), cmocka_unit_test(test_long_chains),
        cmocka_unit_test(test_no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
