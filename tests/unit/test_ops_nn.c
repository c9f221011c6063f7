/* Softmax, losses, dropout, clipping and what else TensorFlow's Python composes: values against numbers, gradients and
 * second gradients against central differences in float64, and TensorFlow's refusals. */
#include "engine/math/gemm.h"

#include "tests/unit/net_rig.h"

/* ---- softmax ---- */

static void test_softmax_values(void **state)
{
    (void)state;
    const double logits[] = {1, 2, 3, 1000, 1000, -1000};
    const double rows[] = {0.09003057317038046, 0.24472847105479764, 0.6652409557748219, 0.5, 0.5, 0};
    const double logs[] = {-2.40760596444438,   -1.4076059644443804, -0.4076059644443804,
                           -0.6931471805599453, -0.6931471805599453, -2000.6931471805599};
    const double columns[] = {0, 0, 1, 1, 1, 0};
    for (enum dtype dtype = DTYPE_FLOAT32; dtype <= DTYPE_FLOAT64; dtype++) {
        struct graph *graph = new_graph();
        double tolerance = dtype == DTYPE_FLOAT64 ? 1e-14 : 1e-6;
        struct output x = constant_of(graph, dtype, 2, 3, logits);
        struct call_maker softmax = call_of("nn.softmax");
        give_tensor(&softmax, NULL, x);
        struct output y = make_call(graph, &softmax);
        assert_string_equal(y.node->name, "Softmax");
        assert_numbers(graph, y, rows, 6, tolerance);
        give_integer(&softmax, "axis", 0);
        assert_numbers(graph, make_call(graph, &softmax), columns, 6, tolerance);
        struct call_maker log_softmax = call_of("log_softmax");
        give_tensor(&log_softmax, NULL, x);
        assert_numbers(graph, make_call(graph, &log_softmax), logs, 6, tolerance);
        give_integer(&log_softmax, "dim", 2);
        assert_call_refused(
            graph, &log_softmax, "InvalidArgumentError",
            "dim must be in the range [-2, 2) where 2 is the number of dimensions in the input, but is 2");
        graph_unref(graph);
    }
}

static void test_softmax_gradients(void **state)
{
    (void)state;
    static const char *const functions[] = {"softmax", "log_softmax"};
    for (size_t f = 0; f < 2; f++) {
        for (int64_t axis = -1; axis <= 2; axis++) {
            struct net net = new_net();
            struct call_maker maker = call_of(functions[f]);
            give_tensor(&maker, NULL, variable_of(&net, shape_cube(2, 3, 2)));
            give_integer(&maker, "axis", axis);
            check_gradients(&net, make_call(net.graph, &maker), -2, 2, 2);
            drop_net(&net);
        }
    }
}

/* ---- cross-entropies ---- */

static struct output sparse_loss(struct graph *graph, struct output logits, struct output labels)
{
    struct call_maker maker = call_of("sparse_softmax_cross_entropy_with_logits");
    give_tensor(&maker, "labels", labels);
    give_tensor(&maker, "logits", logits);
    return make_call(graph, &maker);
}

static void test_sparse_entropy(void **state)
{
    (void)state;
    const double logits[] = {1, 2, 3, 100, -100, 0};
    const double labels[] = {0, 1};
    const double losses[] = {2.4076059644443806, 200};
    const double backprop[] = {0.09003057317038046 - 1, 0.24472847105479764, 0.6652409557748219, 1, -1, 0};
    for (enum dtype dtype = DTYPE_FLOAT32; dtype <= DTYPE_FLOAT64; dtype++) {
        for (enum dtype of_labels = DTYPE_INT32; of_labels <= DTYPE_INT64; of_labels++) {
            struct graph *graph = new_graph();
            double tolerance = dtype == DTYPE_FLOAT64 ? 1e-14 : 1e-6;
            struct output loss = sparse_loss(graph, constant_of(graph, dtype, 2, 3, logits),
                                             constant_of(graph, of_labels, 0, 2, labels));
            assert_string_equal(loss.node->name,
                                "SparseSoftmaxCrossEntropyWithLogits/SparseSoftmaxCrossEntropyWithLogits");
            assert_numbers(graph, loss, losses, 2, tolerance);
            assert_numbers(graph, (struct output){loss.node, 1}, backprop, 6, tolerance);
            graph_unref(graph);
        }
    }
    struct net net = new_net();
    const double cube_labels[] = {2, 0, 1, 1};
    struct output loss = sparse_loss(net.graph, variable_of(&net, shape_cube(2, 2, 3)),
                                     constant_of(net.graph, DTYPE_INT32, 2, 2, cube_labels));
    assert_int_equal(output_type(loss)->shape.rank, 2);
    check_gradients(&net, loss, -2, 2, 1);
    drop_net(&net);
}

static void test_sparse_entropy_refusals(void **state)
{
    (void)state;
    struct error error;
    struct tensor result;
    struct graph *graph = new_graph();
    const double logits[] = {1, 2, 3, 4, 5, 6};
    const double labels[] = {0, 3};
    struct output x = constant_of(graph, DTYPE_FLOAT32, 2, 3, logits);
    struct output z = constant_of(graph, DTYPE_INT32, 0, 2, labels);
    struct output loss = sparse_loss(graph, x, z);
    assert_int_equal(try_run(graph, NULL, loss, 1, &result, &error), STATUS_UNPROCESSABLE);
    assert_non_null(strstr(error.message, "Received a label value of 3 which is outside the valid range of [0, 3)."));
    assert_string_equal(error.type, "InvalidArgumentError");
    struct call_maker unnamed = call_of("sparse_softmax_cross_entropy_with_logits");
    give_tensor(&unnamed, NULL, z);
    give_tensor(&unnamed, "logits", x);
    assert_call_refused(graph, &unnamed, "ValueError",
                        "Only call `sparse_softmax_cross_entropy_with_logits` with named arguments (labels=..., "
                        "logits=..., ...)");
    struct call_maker half = call_of("sparse_softmax_cross_entropy_with_logits");
    give_tensor(&half, "logits", x);
    assert_call_refused(graph, &half, "ValueError", "Both labels and logits must be provided.");
    struct call_maker rank = call_of("sparse_softmax_cross_entropy_with_logits");
    give_tensor(&rank, "labels", constant_of(graph, DTYPE_INT32, 1, 2, labels));
    give_tensor(&rank, "logits", x);
    assert_call_refused(graph, &rank, "ValueError",
                        "Rank mismatch: Rank of labels (received 2) should equal rank of logits minus 1 (received 2).");
    struct call_maker shape = call_of("sparse_softmax_cross_entropy_with_logits");
    give_tensor(&shape, "labels", constant_of(graph, DTYPE_INT32, 0, 1, labels));
    give_tensor(&shape, "logits", x);
    assert_call_refused(
        graph, &shape, "ValueError",
        "Shape mismatch: The shape of labels (received (1,)) should equal the shape of logits except for "
        "the last dimension (received (2, 3)).");
    struct call_maker floats = call_of("sparse_softmax_cross_entropy_with_logits");
    give_tensor(&floats, "labels", x);
    give_tensor(&floats, "logits", x);
    assert_call_refused(graph, &floats, "TypeError",
                        "Value passed to parameter 'labels' has DataType float32 not in list of allowed values: int32, "
                        "int64");
    graph_unref(graph);
}

static void test_dense_entropy(void **state)
{
    (void)state;
    const double logits[] = {1, 2, 3, 100, -100, 0};
    const double labels[] = {0.5, 0.5, 0, 0, 1, 0};
    const double losses[] = {1.9076059644443802, 200};
    for (enum dtype dtype = DTYPE_FLOAT32; dtype <= DTYPE_FLOAT64; dtype++) {
        struct graph *graph = new_graph();
        struct call_maker maker = call_of("softmax_cross_entropy_with_logits");
        give_tensor(&maker, "labels", constant_of(graph, dtype, 2, 3, labels));
        give_tensor(&maker, "logits", constant_of(graph, dtype, 2, 3, logits));
        struct output loss = make_call(graph, &maker);
        assert_string_equal(loss.node->name, "softmax_cross_entropy_with_logits_sg");
        assert_non_null(graph_find_node(graph, "softmax_cross_entropy_with_logits_sg/labels_stop_gradient"));
        assert_numbers(graph, loss, losses, 2, dtype == DTYPE_FLOAT64 ? 1e-14 : 1e-6);
        graph_unref(graph);
    }
    for (int64_t axis = -1; axis <= 1; axis++) {
        struct net net = new_net();
        struct call_maker chances = call_of("softmax"); /* a label's elements add up to 1 */
        give_tensor(&chances, NULL, variable_of(&net, shape_matrix(2, 3)));
        give_integer(&chances, "axis", axis);
        struct call_maker maker = call_of("softmax_cross_entropy_with_logits_v2");
        give_tensor(&maker, "labels", make_call(net.graph, &chances));
        give_tensor(&maker, "logits", variable_of(&net, shape_matrix(2, 3)));
        give_integer(&maker, "axis", axis);
        check_gradients(&net, make_call(net.graph, &maker), 0.1, 1, 2);
        drop_net(&net);
    }
}

static void test_sigmoid_entropy(void **state)
{
    (void)state;
    const double logits[] = {-1000, -2, 0, 1.5, 1000};
    const double labels[] = {0, 1, 0.5, 0.25, 0};
    const double losses[] = {0, 2.1269280110429727, 0.6931471805599453, 1.3264132779827525, 1000};
    for (enum dtype dtype = DTYPE_FLOAT32; dtype <= DTYPE_FLOAT64; dtype++) {
        struct graph *graph = new_graph();
        struct call_maker maker = call_of("sigmoid_cross_entropy_with_logits");
        give_tensor(&maker, "labels", constant_of(graph, dtype, 0, 5, labels));
        give_tensor(&maker, "logits", constant_of(graph, dtype, 0, 5, logits));
        struct output loss = make_call(graph, &maker);
        assert_string_equal(loss.node->name, "logistic_loss");
        assert_numbers(graph, loss, losses, 5, dtype == DTYPE_FLOAT64 ? 1e-14 : 1e-6);
        graph_unref(graph);
    }
    struct net net = new_net();
    struct call_maker maker = call_of("sigmoid_cross_entropy_with_logits");
    give_tensor(&maker, "labels", variable_of(&net, shape_vector(6)));
    give_tensor(&maker, "logits", variable_of(&net, shape_vector(6)));
    check_gradients(&net, make_call(net.graph, &maker), -2, 2, 2);
    drop_net(&net);
    net = new_net();
    struct call_maker weighted = call_of("weighted_cross_entropy_with_logits");
    give_tensor(&weighted, NULL, variable_of(&net, shape_vector(6)));
    give_tensor(&weighted, NULL, variable_of(&net, shape_vector(6)));
    give_number(&weighted, NULL, 2.5);
    check_gradients(&net, make_call(net.graph, &weighted), -2, 2, 2);
    drop_net(&net);
}

static void test_plain_losses(void **state)
{
    (void)state;
    const double numbers[] = {1, -2, 3, 0.5};
    const double half_squares[] = {7.125};
    struct net net = new_net();
    struct call_maker l2 = call_of("l2_loss");
    give_tensor(&l2, NULL, constant_of(net.graph, DTYPE_FLOAT32, 2, 2, numbers));
    assert_numbers(net.graph, make_call(net.graph, &l2), half_squares, 1, 1e-7);
    struct call_maker again = call_of("l2_loss");
    give_tensor(&again, NULL, variable_of(&net, shape_matrix(2, 3)));
    check_gradients(&net, make_call(net.graph, &again), -2, 2, 2);
    drop_net(&net);
    net = new_net();
    struct call_maker squares = call_of("losses.mean_squared_error");
    give_tensor(&squares, NULL, variable_of(&net, shape_matrix(2, 3)));
    give_tensor(&squares, NULL, variable_of(&net, shape_matrix(2, 3)));
    struct output loss = make_call(net.graph, &squares);
    assert_string_equal(loss.node->name, "mean_squared_error/value");
    check_gradients(&net, loss, -2, 2, 2);
    drop_net(&net);
}

/* ---- dropout ---- */

static void check_dropout(enum dtype dtype)
{
    enum { COUNT = 20000 };
    struct graph *graph = new_graph();
    static double numbers[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        numbers[i] = (double)i + 1;
    }
    struct call_maker maker = call_of("dropout");
    give_tensor(&maker, NULL, constant_of(graph, dtype, 0, COUNT, numbers));
    give_number(&maker, NULL, 0.8);
    struct output y = make_call(graph, &maker);
    assert_string_equal(y.node->name, "dropout/mul_1");
    struct tensor result = run_of(graph, y, 6);
    size_t kept = 0;
    for (size_t i = 0; i < COUNT; i++) {
        double number = tensor_number(&result, i);
        kept += number != 0;
        assert_true(number == 0 || fabs(number - numbers[i] / 0.8) <= 1e-6 * number);
    }
    assert_true(fabs((double)kept / COUNT - 0.8) < 4 * sqrt(0.8 * 0.2 / COUNT));
    struct tensor other = run_of(graph, y, 7);
    assert_memory_not_equal(result.data, other.data, tensor_bytes(&result));
    tensor_release(&result);
    tensor_release(&other);
    graph_unref(graph);
}

static void test_dropout(void **state)
{
    (void)state;
    check_dropout(DTYPE_FLOAT32);
    check_dropout(DTYPE_FLOAT64);
    for (int form = 0; form < 3; form++) {
        struct net net = new_net();
        struct call_maker maker = call_of("dropout");
        give_tensor(&maker, NULL, variable_of(&net, shape_matrix(4, 5)));
        if (form == 0) {
            give_number(&maker, "rate", 0.4);
        } else {
            give_tensor(&maker, form == 1 ? "keep_prob" : "rate", scalar_of(net.graph, DTYPE_FLOAT64, 0.6));
        }
        check_gradients(&net, make_call(net.graph, &maker), -2, 2, 1);
        drop_net(&net);
    }
}

/* [time, batch, columns]: each row has a mask of its own, the same at every step. */
static void test_dropout_with_one_mask(void **state)
{
    (void)state;
    enum { TIME = 5, BATCH = 3, COLUMNS = 41, STEP = BATCH * COLUMNS };
    struct net net = new_net();
    struct error error;
    double ones[TIME * STEP];
    for (size_t i = 0; i < TIME * STEP; i++) {
        ones[i] = 1;
    }
    struct output inputs[] = {constant_of(net.graph, DTYPE_FLOAT32, TIME, STEP, ones), {NULL, 0}};
    int64_t sizes[] = {TIME, BATCH, COLUMNS};
    struct attribute one_mask = {.name = "one_mask", .kind = ATTRIBUTE_BOOLEAN, .boolean = true};
    struct node_options options = {.inputs = inputs, .input_count = 2, .attributes = &one_mask, .attribute_count = 1};
    struct node *node = NULL;
    assert_int_equal(graph_add_integers(net.graph, NULL, sizes, 3, &inputs[1], &error), STATUS_OK);
    assert_int_equal(graph_add(net.graph, "Reshape", NULL, inputs, 2, &inputs[0], &error), STATUS_OK);
    inputs[1] = scalar_of(net.graph, DTYPE_FLOAT32, 0.5);
    assert_int_equal(graph_add_node(net.graph, "Dropout", &options, &node, &error), STATUS_OK);
    struct tensor result = run_of(net.graph, (struct output){node, 0}, 1);
    size_t kept = 0;
    size_t alike = 0;
    for (size_t i = 0; i < STEP; i++) {
        double first = tensor_number(&result, i);
        kept += first != 0;
        alike += first == tensor_number(&result, i % COLUMNS);
        for (size_t t = 1; t < TIME; t++) {
            assert_true(first == tensor_number(&result, t * STEP + i));
        }
    }
    assert_true(kept > 40 && kept < 83);
    assert_true(alike < STEP - 20); /* rows differ */
    tensor_release(&result);
    drop_net(&net);
}

/* One number a row: a row is kept or dropped whole. */
static void test_dropout_of_rows(void **state)
{
    (void)state;
    struct net net = new_net();
    const int64_t sizes[] = {200, 1};
    struct tensor shape = {DTYPE_INT64, shape_vector(2), (void *)(uintptr_t)sizes};
    struct call_maker maker = call_of("dropout");
    double ones[400];
    for (size_t i = 0; i < 400; i++) {
        ones[i] = 1;
    }
    give_tensor(&maker, NULL, constant_of(net.graph, DTYPE_FLOAT32, 200, 2, ones));
    give_number(&maker, NULL, 0.5);
    give_value(&maker, "noise_shape", &shape);
    struct tensor result = run_of(net.graph, make_call(net.graph, &maker), 1);
    size_t kept = 0;
    for (size_t row = 0; row < 200; row++) {
        double first = tensor_number(&result, 2 * row);
        assert_true((first == 0 || first == 2) && first == tensor_number(&result, 2 * row + 1));
        kept += first != 0;
    }
    assert_true(kept > 72 && kept < 128);
    tensor_release(&result);
    drop_net(&net);
}

static void test_dropout_refusals(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    const double numbers[] = {1, 2};
    struct output x = constant_of(graph, DTYPE_FLOAT32, 0, 2, numbers);
    struct call_maker all = call_of("dropout");
    give_tensor(&all, NULL, x);
    give_number(&all, NULL, 1);
    size_t before = graph_node_count(graph);
    assert_true(output_equal(make_call(graph, &all), x));
    assert_int_equal(graph_node_count(graph), before);
    struct call_maker much = call_of("dropout");
    give_tensor(&much, NULL, x);
    give_number(&much, NULL, 1.5);
    assert_call_refused(graph, &much, "ValueError",
                        "keep_prob must be a scalar tensor or a float in the range (0, 1], got 1.5");
    struct call_maker rate = call_of("dropout");
    give_tensor(&rate, NULL, x);
    give_number(&rate, "rate", 1);
    assert_call_refused(graph, &rate, "ValueError",
                        "rate must be a scalar tensor or a float in the range [0, 1), got 1");
    struct tensor list = {DTYPE_FLOAT64, shape_vector(2), (void *)(uintptr_t)numbers};
    struct call_maker several = call_of("dropout");
    give_tensor(&several, NULL, x);
    give_value(&several, NULL, &list);
    assert_call_refused(graph, &several, "ValueError",
                        "keep_prob must be a scalar tensor or a float, got an array of shape (2,)");
    struct call_maker none = call_of("dropout");
    give_tensor(&none, NULL, x);
    assert_call_refused(graph, &none, "ValueError", "You must provide a rate to dropout.");
    struct call_maker whole = call_of("dropout");
    give_tensor(&whole, NULL, constant_of(graph, DTYPE_INT32, 0, 2, numbers));
    give_number(&whole, NULL, 0.5);
    assert_call_refused(graph, &whole, "ValueError",
                        "x has to be a floating point tensor since it's going to be scaled. Got a <dtype: 'int32'> "
                        "tensor instead.");
    graph_unref(graph);
}

/* ---- clipping, norms, moments ---- */

static void test_clipping(void **state)
{
    (void)state;
    const double numbers[] = {3, -4, 0, 0.5};
    const double between[] = {2, -1, 0, 0.5};
    struct net net = new_net();
    struct output x = constant_of(net.graph, DTYPE_FLOAT32, 0, 4, numbers);
    struct call_maker value = call_of("clip_by_value");
    give_tensor(&value, NULL, x);
    give_integer(&value, NULL, -1);
    give_integer(&value, NULL, 2);
    struct output y = make_call(net.graph, &value);
    assert_string_equal(y.node->name, "clip_by_value");
    assert_numbers(net.graph, y, between, 4, 1e-7);
    const double pair[] = {3, -4};
    const double short_pair[] = {1.5, -2};
    struct call_maker norm = call_of("clip_by_norm");
    give_tensor(&norm, NULL, constant_of(net.graph, DTYPE_FLOAT64, 0, 2, pair));
    give_number(&norm, NULL, 2.5);
    assert_numbers(net.graph, make_call(net.graph, &norm), short_pair, 2, 1e-14);
    const double zeros[] = {0, 0};
    struct call_maker of_zeros = call_of("clip_by_norm");
    give_tensor(&of_zeros, NULL, constant_of(net.graph, DTYPE_FLOAT64, 0, 2, zeros));
    give_number(&of_zeros, NULL, 2.5);
    assert_numbers(net.graph, make_call(net.graph, &of_zeros), zeros, 2, 0);
    struct call_maker again = call_of("clip_by_norm");
    give_tensor(&again, NULL, variable_of(&net, shape_matrix(2, 3)));
    give_number(&again, NULL, 0.5);
    check_gradients(&net, make_call(net.graph, &again), 0.5, 2, 1);
    drop_net(&net);
}

static void test_norms(void **state)
{
    (void)state;
    struct net net = new_net();
    const double five[] = {5};
    const double ones[] = {3};
    const double rest[] = {4, 0};
    struct output items[] = {constant_of(net.graph, DTYPE_FLOAT32, 0, 1, ones),
                             constant_of(net.graph, DTYPE_FLOAT32, 0, 2, rest)};
    struct call_maker global = call_of("global_norm");
    give_list(&global, NULL, items, 2);
    struct output norm = make_call(net.graph, &global);
    assert_string_equal(norm.node->name, "global_norm/global_norm");
    assert_numbers(net.graph, norm, five, 1, 1e-6);
    struct call_maker plain = call_of("norm");
    give_tensor(&plain, NULL, variable_of(&net, shape_matrix(2, 3)));
    give_integer(&plain, "axis", 1);
    check_gradients(&net, make_call(net.graph, &plain), 0.5, 2, 2);
    drop_net(&net);
    net = new_net();
    struct call_maker unit = call_of("nn.l2_normalize");
    give_tensor(&unit, NULL, variable_of(&net, shape_matrix(2, 3)));
    give_integer(&unit, "dim", 1);
    struct output y = make_call(net.graph, &unit);
    assert_string_equal(y.node->name, "l2_normalize");
    check_gradients(&net, y, 0.5, 2, 2);
    drop_net(&net);
}

static void test_moments(void **state)
{
    (void)state;
    static struct call_result result;
    struct error error;
    struct graph *graph = new_graph();
    const double numbers[] = {1, 2, 6, 2, 4, 9};
    const double means[] = {3, 5};
    const double variances[] = {14.0 / 3, 26.0 / 3};
    struct call_maker maker = call_of("moments");
    const int64_t axis[] = {1};
    struct tensor axes = {DTYPE_INT64, shape_vector(1), (void *)(uintptr_t)axis};
    give_tensor(&maker, NULL, constant_of(graph, DTYPE_FLOAT64, 2, 3, numbers));
    give_value(&maker, NULL, &axes);
    must(try_call(graph, &maker, &result, &error), &error);
    assert_int_equal(result.output_count, 2);
    assert_false(result.is_list);
    struct shape pair = shape_vector(2);
    assert_true(shape_equal(&output_type(result.outputs[0])->shape, &pair));
    assert_numbers(graph, result.outputs[0], means, 2, 1e-14);
    assert_numbers(graph, result.outputs[1], variances, 2, 1e-14);
    graph_unref(graph);
}

/* ---- layers' helpers, schedules ---- */

static void test_helpers(void **state)
{
    (void)state;
    struct net net = new_net();
    const double ids[] = {2, 0, 2};
    struct call_maker lookup = call_of("nn.embedding_lookup");
    give_tensor(&lookup, NULL, variable_of(&net, shape_matrix(3, 2)));
    give_tensor(&lookup, NULL, constant_of(net.graph, DTYPE_INT32, 0, 3, ids));
    struct output rows = make_call(net.graph, &lookup);
    assert_string_equal(rows.node->name, "embedding_lookup/Identity");
    struct call_maker layer = call_of("xw_plus_b");
    give_tensor(&layer, NULL, rows);
    give_tensor(&layer, NULL, variable_of(&net, shape_matrix(2, 4)));
    give_tensor(&layer, NULL, variable_of(&net, shape_vector(4)));
    struct output y = make_call(net.graph, &layer);
    assert_string_equal(y.node->name, "xw_plus_b");
    check_gradients(&net, y, -1, 1, 1);
    drop_net(&net);
}

static void test_exponential_decay(void **state)
{
    (void)state;
    const double smooth[] = {0.1 * 0.7745966692414834}; /* 0.6 ^ (5 / 10) */
    const double stairs[] = {0.1 * 0.6};
    struct graph *graph = new_graph();
    struct call_maker maker = call_of("train.exponential_decay");
    give_number(&maker, NULL, 0.1);
    give_tensor(&maker, NULL, scalar_of(graph, DTYPE_INT64, 5));
    give_integer(&maker, NULL, 10);
    give_number(&maker, NULL, 0.6);
    struct output rate = make_call(graph, &maker);
    assert_string_equal(rate.node->name, "ExponentialDecay");
    assert_numbers(graph, rate, smooth, 1, 1e-6);
    struct call_maker steps = call_of("exponential_decay");
    give_number(&steps, NULL, 0.1);
    give_tensor(&steps, NULL, scalar_of(graph, DTYPE_INT32, 19));
    give_integer(&steps, NULL, 10);
    give_number(&steps, NULL, 0.6);
    give_attribute(&steps, (struct attribute){.name = "staircase", .kind = ATTRIBUTE_BOOLEAN, .boolean = true});
    assert_numbers(graph, make_call(graph, &steps), stairs, 1, 1e-6);
    graph_unref(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_softmax_values),
        cmocka_unit_test(test_softmax_gradients),
        cmocka_unit_test(test_sparse_entropy),
        cmocka_unit_test(test_sparse_entropy_refusals),
        cmocka_unit_test(test_dense_entropy),
        cmocka_unit_test(test_sigmoid_entropy),
        cmocka_unit_test(test_plain_losses),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_dropout_with_one_mask),
        cmocka_unit_test(test_dropout_of_rows),
        cmocka_unit_test(test_dropout_refusals),
        cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_helpers),
        cmocka_unit_test(test_exponential_decay),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
