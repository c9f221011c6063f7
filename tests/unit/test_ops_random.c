/* Random ops: TensorFlow's names and defaults, distributions under fixed keys, and that only key, seed and place
 * matter. */
#include "tests/unit/function_rig.h"

enum { DRAWS = 100000 };

static struct output call_with_shape(struct graph *graph, struct call_maker *maker, int64_t count)
{
    static int64_t size;
    size = count;
    struct tensor shape = {DTYPE_INT64, shape_vector(1), &size};
    maker->arguments[7] = (struct call_argument){.name = "shape", .value = shape};
    maker->arguments[maker->call.argument_count++] = maker->arguments[7];
    return make_call(graph, maker);
}

struct moments {
    double mean;
    double variance;
    double least;
    double greatest;
};

static struct moments moments_of(struct graph *graph, struct output output, uint64_t key)
{
    struct tensor result = run_of(graph, output, key);
    size_t count = tensor_element_count(&result);
    struct moments moments = {0, 0, HUGE_VAL, -HUGE_VAL};
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        double x = tensor_number(&result, i);
        moments.mean += x;
        squares += x * x;
        moments.least = fmin(moments.least, x);
        moments.greatest = fmax(moments.greatest, x);
    }
    moments.mean /= (double)count;
    moments.variance = squares / (double)count - moments.mean * moments.mean;
    tensor_release(&result);
    return moments;
}

static void test_names(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct call_maker uniform = call_of("random_uniform");
    struct output x = call_with_shape(graph, &uniform, 3);
    assert_string_equal(x.node->name, "random_uniform");
    static const char *const parts[] = {"shape", "min", "max", "RandomUniform", "sub", "mul"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char name[64];
        snprintf(name, sizeof name, "random_uniform/%s", parts[i]);
        assert_non_null(graph_find_node(graph, name));
    }
    struct shape three = shape_vector(3);
    assert_true(shape_equal(&output_type(x)->shape, &three));
    struct call_maker normal = call_of("tf.random_normal");
    x = call_with_shape(graph, &normal, 3);
    assert_string_equal(x.node->name, "random_normal");
    assert_non_null(graph_find_node(graph, "random_normal/RandomStandardNormal"));
    assert_non_null(graph_find_node(graph, "random_normal/stddev"));
    struct call_maker truncated = call_of("truncated_normal");
    x = call_with_shape(graph, &truncated, 3);
    assert_non_null(graph_find_node(graph, "truncated_normal/TruncatedNormal"));
    graph_unref(graph);
}

/* Four standard errors on each side, with a fixed key. */
static void check_distributions(enum dtype dtype)
{
    struct graph *graph = new_graph();
    struct call_maker uniform = call_of("random_uniform");
    give_dtype(&uniform, dtype);
    give_number(&uniform, "minval", -3);
    give_number(&uniform, "maxval", 5);
    struct moments moments = moments_of(graph, call_with_shape(graph, &uniform, DRAWS), 7);
    assert_true(moments.least >= -3 && moments.least < -2.99 && moments.greatest < 5 && moments.greatest > 4.99);
    assert_true(fabs(moments.mean - 1) < 4 * 8 / sqrt(12.0 * DRAWS));
    assert_true(fabs(moments.variance - 64 / 12.0) < 0.07);
    struct call_maker normal = call_of("random_normal");
    give_dtype(&normal, dtype);
    give_number(&normal, "mean", 2);
    give_number(&normal, "stddev", 3);
    moments = moments_of(graph, call_with_shape(graph, &normal, DRAWS), 7);
    assert_true(fabs(moments.mean - 2) < 4 * 3 / sqrt(DRAWS));
    assert_true(fabs(moments.variance - 9) < 4 * 9 * sqrt(2.0 / DRAWS));
    assert_true(moments.greatest > 2 + 3 * 3.5 && moments.greatest < 2 + 3 * 6);
    struct call_maker truncated = call_of("truncated_normal");
    give_dtype(&truncated, dtype);
    give_number(&truncated, "mean", 2);
    give_number(&truncated, "stddev", 3);
    moments = moments_of(graph, call_with_shape(graph, &truncated, DRAWS), 7);
    assert_true(moments.least >= -4 && moments.greatest <= 8 && moments.greatest > 7.9);
    assert_true(fabs(moments.mean - 2) < 4 * 3 / sqrt(DRAWS));
    assert_true(fabs(moments.variance - 9 * 0.7737413035499232) < 0.1);
    graph_unref(graph);
}

static void test_distributions(void **state)
{
    (void)state;
    check_distributions(DTYPE_FLOAT32);
    check_distributions(DTYPE_FLOAT64);
}

static void check_whole_numbers(enum dtype dtype)
{
    struct graph *graph = new_graph();
    struct call_maker uniform = call_of("random_uniform");
    give_dtype(&uniform, dtype);
    assert_int_equal(uniform.call.attribute_count, 1);
    struct call_maker without = uniform;
    int64_t size = 4;
    struct tensor shape = {DTYPE_INT64, shape_vector(1), &size};
    give_value(&without, NULL, &shape);
    char refused[80];
    snprintf(refused, sizeof refused, "Must specify maxval for integer dtype tf.%s", dtype_name(dtype));
    assert_call_refused(graph, &without, "ValueError", refused);
    give_integer(&uniform, "minval", -2);
    give_integer(&uniform, "maxval", 3);
    struct output x = call_with_shape(graph, &uniform, DRAWS);
    assert_true(node_is(x.node, "RandomUniformInt"));
    struct tensor result = run_of(graph, x, 9);
    assert_int_equal(result.dtype, dtype);
    size_t counts[5] = {0};
    for (size_t i = 0; i < DRAWS; i++) {
        int64_t number = tensor_integer(&result, i);
        assert_true(number >= -2 && number < 3);
        counts[number + 2]++;
    }
    for (size_t i = 0; i < 5; i++) {
        assert_true(fabs((double)counts[i] - DRAWS / 5.0) < 4 * sqrt(DRAWS * 0.2 * 0.8));
    }
    tensor_release(&result);
    graph_unref(graph);
}

static void test_whole_numbers(void **state)
{
    (void)state;
    check_whole_numbers(DTYPE_INT32);
    check_whole_numbers(DTYPE_INT64);
}

static void test_only_key_and_seed_matter(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct output made[3];
    for (size_t i = 0; i < 3; i++) {
        struct call_maker normal = call_of("random_normal");
        if (i < 2) {
            give_integer(&normal, "seed", 5);
        }
        made[i] = call_with_shape(graph, &normal, 1000);
    }
    struct tensor first = run_of(graph, made[0], 1);
    struct tensor again = run_of(graph, made[1], 1);
    struct tensor other_key = run_of(graph, made[0], 2);
    struct tensor other_seed = run_of(graph, made[2], 1);
    assert_memory_equal(first.data, again.data, tensor_bytes(&first));
    assert_memory_not_equal(first.data, other_key.data, tensor_bytes(&first));
    assert_memory_not_equal(first.data, other_seed.data, tensor_bytes(&first));
    tensor_release(&first);
    tensor_release(&again);
    tensor_release(&other_key);
    tensor_release(&other_seed);
    graph_unref(graph);
}

/* Each class as often as its probability says; logits that are not finite never. */
static void check_multinomial(enum dtype dtype)
{
    struct graph *graph = new_graph();
    const double logits[] = {log(0.1), log(0.2), log(0.3), log(0.4), 5, -HUGE_VAL, (double)NAN, 5};
    struct call_maker maker = call_of("multinomial");
    give_tensor(&maker, NULL, constant_of(graph, dtype, 2, 4, logits));
    give_integer(&maker, NULL, DRAWS);
    struct output drawn = make_call(graph, &maker);
    assert_string_equal(drawn.node->name, "multinomial/Multinomial");
    struct shape shape = shape_matrix(2, DRAWS);
    assert_true(shape_equal(&output_type(drawn)->shape, &shape));
    struct tensor result = run_of(graph, drawn, 5);
    assert_int_equal(result.dtype, DTYPE_INT64);
    size_t counts[2][4] = {{0}};
    for (size_t i = 0; i < 2 * (size_t)DRAWS; i++) {
        int64_t class = tensor_integer(&result, i);
        assert_true(class >= 0 && class < 4);
        counts[i / DRAWS][class]++;
    }
    const double chances[2][4] = {{0.1, 0.2, 0.3, 0.4}, {0.5, 0, 0, 0.5}};
    for (size_t row = 0; row < 2; row++) {
        for (size_t i = 0; i < 4; i++) {
            double chance = chances[row][i];
            assert_true(fabs((double)counts[row][i] - DRAWS * chance) <= 4 * sqrt(DRAWS * chance * (1 - chance)));
        }
    }
    tensor_release(&result);
    graph_unref(graph);
}

static void test_multinomial(void **state)
{
    (void)state;
    check_multinomial(DTYPE_FLOAT32);
    check_multinomial(DTYPE_FLOAT64);
    struct graph *graph = new_graph();
    const double numbers[] = {1, 2};
    struct call_maker vector = call_of("categorical");
    give_tensor(&vector, NULL, constant_of(graph, DTYPE_FLOAT32, 0, 2, numbers));
    give_integer(&vector, NULL, 3);
    assert_call_refused(
        graph, &vector, "ValueError",
        "Shape must be rank 2 but is rank 1 for 'categorical/Multinomial' (op: 'Multinomial') with input "
        "shapes: [2], [].");
    graph_unref(graph);
}

static void test_shuffle_keeps_everything(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    double numbers[60];
    for (size_t i = 0; i < 60; i++) {
        numbers[i] = (double)i;
    }
    struct call_maker maker = call_of("random_shuffle");
    give_tensor(&maker, NULL, constant_of(graph, DTYPE_INT32, 20, 3, numbers));
    struct output shuffled = make_call(graph, &maker);
    struct tensor result = run_of(graph, shuffled, 1);
    bool has[20] = {false};
    size_t moved = 0;
    for (size_t row = 0; row < 20; row++) {
        int64_t first = tensor_integer(&result, row * 3);
        assert_true(first % 3 == 0 && first >= 0 && first < 60 && !has[first / 3]);
        has[first / 3] = true;
        moved += first / 3 != (int64_t)row;
        assert_int_equal(tensor_integer(&result, row * 3 + 2), first + 2);
    }
    assert_true(moved > 10);
    tensor_release(&result);
    graph_unref(graph);
}

static void test_refusals(void **state)
{
    (void)state;
    struct error error;
    struct tensor result;
    struct graph *graph = new_graph();
    struct call_maker empty = call_of("random_uniform");
    give_dtype(&empty, DTYPE_INT32);
    give_integer(&empty, "minval", 4);
    give_integer(&empty, "maxval", 4);
    struct output x = call_with_shape(graph, &empty, 2);
    assert_int_equal(try_run(graph, NULL, x, 1, &result, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.type, "InvalidArgumentError");
    assert_string_equal(error.message, "Need minval < maxval, got 4 >= 4\n\t [[node random_uniform]]");
    struct call_maker fraction = call_of("random_uniform");
    give_number(&fraction, NULL, 1.5);
    assert_call_refused(graph, &fraction, "TypeError", "Expected int32, got 1.5 of type 'float' instead.");
    graph_unref(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),         cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_whole_numbers), cmocka_unit_test(test_only_key_and_seed_matter),
        cmocka_unit_test(test_multinomial),   cmocka_unit_test(test_shuffle_keeps_everything),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
