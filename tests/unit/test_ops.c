/* Every differentiable op against central differences, shapes against the rules, and what is refused. */
#include "engine/math/gemm.h"
#include "engine/math/pointwise.h"
#include "tests/unit/op_rig.h"

static void test_gradients_of_losses(void **state)
{
    (void)state;
    int32_t labels[] = {3, 0, 1};
    struct op_case softmax = {.op = "Softmax", .input_count = 1, .shapes = {shape_matrix(3, 4)}, .low = -2, .high = 2};
    struct op_case entropy = {.op = "SparseSoftmaxCrossEntropyWithLogits",
                              .input_count = 2,
                              .shapes = {shape_matrix(3, 4)},
                              .low = -2,
                              .high = 2,
                              .constants = {[1] = {DTYPE_INT32, shape_vector(3), labels}}};
    check_case(&softmax);
    check_case(&entropy);
}

static void test_gradients_of_lstm(void **state)
{
    (void)state;
    int32_t steps[] = {0, 2, 1, 1, 2, 0};
    struct attribute forget = {.name = "forget_bias", .kind = ATTRIBUTE_NUMBER, .number = 1};
    struct op_case dense = {
        .op = "LstmBlock",
        .input_count = 5,
        .shapes = {shape_cube(3, 2, 3), shape_matrix(2, 4), shape_matrix(2, 4), shape_matrix(7, 16), shape_vector(16)},
        .low = -1,
        .high = 1,
        .attributes = {forget},
        .attribute_count = 1};
    struct op_case one_step = {
        .op = "LstmBlock",
        .input_count = 5,
        .shapes = {shape_cube(1, 2, 3), shape_matrix(2, 4), shape_matrix(2, 4), shape_matrix(7, 16), shape_vector(16)},
        .low = -1,
        .high = 1,
        .attributes = {forget},
        .attribute_count = 1};
    struct op_case symbols = {
        .op = "LstmBlock",
        .input_count = 5,
        .shapes = {shape_scalar(), shape_matrix(2, 4), shape_matrix(2, 4), shape_matrix(7, 16), shape_vector(16)},
        .low = -1,
        .high = 1,
        .attributes = {forget},
        .attribute_count = 1,
        .constants = {{DTYPE_INT32, shape_matrix(3, 2), steps}}};
    check_case(&dense);
    check_case(&one_step);
    check_case(&symbols);
}

static void test_shapes_that_do_not_fit_are_named(void **state)
{
    (void)state;
    struct graph *graph = NULL;
    struct error error;
    const struct variable *a = NULL;
    const struct variable *b = NULL;
    struct variable_options options = {.name = "a", .shape = shape_matrix(1, 6), .dtype = DTYPE_FLOAT32};
    struct output product;
    must(graph_create(&graph, &error), &error);
    must(get_variable(graph, &options, &a, NULL, &error), &error);
    options = (struct variable_options){.name = "b", .shape = shape_matrix(5, 8), .dtype = DTYPE_FLOAT32};
    must(get_variable(graph, &options, &b, NULL, &error), &error);
    struct output inputs[] = {a->read, b->read};
    assert_int_equal(graph_add(graph, "MatMul", NULL, inputs, 2, &product, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.type, "ValueError");
    assert_string_equal(
        error.message,
        "Dimensions must be equal, but are 6 and 5 for 'MatMul' (op: 'MatMul') with input shapes: [1,6], [5,8].");
    assert_int_equal(graph_add(graph, "NoSuchOp", NULL, inputs, 2, &product, &error), STATUS_UNSUPPORTED);
    assert_int_equal(graph_add(graph, "Neg", NULL, inputs, 2, &product, &error), STATUS_INVALID);
    graph_finalize(graph);
    assert_int_equal(graph_add(graph, "Neg", NULL, inputs, 1, &product, &error), STATUS_CONFLICT);
    assert_string_equal(error.message, "Graph is finalized and cannot be modified.");
    graph_unref(graph);
}

/* TensorFlow's unique_name: the counter starts at the name's own, skips what is taken, ignores case but keeps it. */
static void test_names_are_made_unique(void **state)
{
    (void)state;
    static const struct {
        const char *wanted;
        const char *given;
    } cases[] = {{"foo", "foo"},       {"foo", "foo_1"},   {"foo", "foo_2"}, {"foo_1", "foo_1_1"}, {"Foo", "Foo_3"},
                 {"foo_2", "foo_2_1"}, {"bar_1", "bar_1"}, {"bar", "bar"},   {"bar", "bar_2"}};
    struct graph *graph = NULL;
    struct error error;
    const char *name = NULL;
    must(graph_create(&graph, &error), &error);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        must(graph_unique_name(graph, cases[i].wanted, &name, &error), &error);
        assert_string_equal(name, cases[i].given);
    }
    const char *previous = NULL;
    must(graph_enter_name_scope(graph, "foo", &previous, &error), &error);
    assert_string_equal(graph_name_scope(graph), "foo_4");
    must(graph_unique_name(graph, "x", &name, &error), &error);
    assert_string_equal(name, "foo_4/x");
    graph_leave_name_scope(graph, previous);
    assert_int_equal(graph_add_operation(graph, "op", "no good", &(struct node *){NULL}, &error), STATUS_INVALID);
    assert_string_equal(error.message, "'no good' is not a valid node name");
    graph_unref(graph);
}

/* A clone's additions stay out of what it was cloned from. */
static void test_clone_leaves_its_parent_alone(void **state)
{
    (void)state;
    struct graph *graph = NULL;
    struct graph *clone = NULL;
    struct error error;
    struct output output;
    must(graph_create(&graph, &error), &error);
    must(graph_add_scalar(graph, "c", 1, &output, &error), &error);
    must(graph_clone(graph, &clone, &error), &error);
    must(graph_add_scalar(clone, "c", 2, &output, &error), &error);
    assert_string_equal(output.node->name, "c_1");
    assert_int_equal(graph_node_count(graph), 1);
    assert_null(graph_find_node(graph, "c_1"));
    graph_unref(graph);
    assert_non_null(graph_find_node(clone, "c"));
    graph_unref(clone);
}

static void test_pointwise_versions_give_the_same_bits(void **state)
{
    (void)state;
    enum { UNITS = 37, ROWS = 3, COUNT = ROWS * 4 * UNITS };
    float gates[COUNT];
    float reference[COUNT];
    float c[ROWS * UNITS];
    float c_next[2][ROWS * UNITS];
    float h[2][ROWS * UNITS];
    rng_fill_uniform(5, 0, COUNT, -12, 12, gates);
    rng_fill_uniform(5, 1, ROWS * UNITS, -2, 2, c);
    memcpy(reference, gates, sizeof gates);
    pointwise_version(0)->lstm_forward(ROWS, UNITS, 1, reference, c, c_next[0], h[0]);
    for (size_t i = 0; i < ROWS * UNITS; i++) {
        assert_true(fabsf(h[0][i]) <= 1);
    }
    for (size_t v = 1; pointwise_version(v) != NULL; v++) {
        float own[COUNT];
        memcpy(own, gates, sizeof gates);
        pointwise_version(v)->lstm_forward(ROWS, UNITS, 1, own, c, c_next[1], h[1]);
        assert_memory_equal(own, reference, sizeof own);
        assert_memory_equal(c_next[0], c_next[1], sizeof c_next[0]);
        assert_memory_equal(h[0], h[1], sizeof h[0]);
    }
    for (float x = -100; x < 100; x += 0.37f) {
        float y;
        pointwise()->sigmoid(1, &x, &y);
        assert_true(fabs((double)y - 1 / (1 + exp(-(double)x))) < 2e-7);
        pointwise()->tanh(1, &x, &y);
        assert_true(fabs((double)y - tanh((double)x)) < 3e-7);
    }
}

/* Of every version, and of any part of a vector's length, the numbers that the words say one by one. */
static void test_dropout_follows_its_words(void **state)
{
    (void)state;
    enum { COUNT = 203 };
    const struct dropout_draw draw = {.seed = UINT64_C(0x123456789ABCDEF0),
                                      .stream = UINT64_C(0xFEDCBA987654321),
                                      .kept_below = 1U << 23,
                                      .factor = 2};
    float x[COUNT];
    rng_fill_uniform(6, 0, COUNT, 1, 2, x);
    for (size_t v = 0; pointwise_version(v) != NULL; v++) {
        for (size_t count = 0; count <= COUNT; count += 7) {
            float y[COUNT] = {0};
            pointwise_version(v)->dropout(count, &draw, x, y);
            for (size_t i = 0; i < COUNT; i++) {
                struct rng_words words = rng_philox(draw.seed, draw.stream, i / 4);
                bool is_kept = i < count && words.word[i % 4] >> 8 < draw.kept_below;
                assert_true(y[i] == (is_kept ? 2 * x[i] : 0));
            }
        }
    }
}

static void test_op_table_is_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < op_count(); i++) {
        const struct op *op = op_at(i);
        assert_non_null(op->infer);
        assert_ptr_equal(op_find(op->name), op); /* no name twice */
        bool needs_no_kernel =
            (op->flags & (OP_ALIAS | OP_VARIABLE | OP_FEED_ONLY)) != 0 || op == &op_const || op == &op_no_op;
        assert_true(needs_no_kernel || op->compute != NULL);
    }
}

int main(void)
{
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_of_losses),
        cmocka_unit_test(test_gradients_of_lstm),
        cmocka_unit_test(test_shapes_that_do_not_fit_are_named),
        cmocka_unit_test(test_names_are_made_unique),
        cmocka_unit_test(test_clone_leaves_its_parent_alone),
        cmocka_unit_test(test_pointwise_versions_give_the_same_bits),
        cmocka_unit_test(test_dropout_follows_its_words),
        cmocka_unit_test(test_op_table_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
