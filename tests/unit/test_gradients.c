/* tf.gradients: sums over uses, inner xs, stopped and unconnected tensors, what is refused. That each op's own
 * gradient is right, the tests of the ops show. */
#include "graph_rig.h"

#include "engine/base/mem.h"

static struct output scalar(struct rig *rig, double value)
{
    double number = value;
    return constant(rig, DTYPE_FLOAT64, shape_scalar(), &number);
}

static void gradients(struct rig *rig, const struct gradient_options *options, struct output *ret_gradients)
{
    must(graph_gradients_with(rig->graph, options, ret_gradients, &rig->error), &rig->error);
}

static void expect_scalar(struct rig *rig, struct output output, double value)
{
    assert_non_null(output.node);
    expect_values(rig, output, &value, 1, fabs(value) * 1e-12);
}

static void test_ys_that_depend_on_each_other(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct output x = scalar(&rig, 3);
    struct output y = call(&rig, "square", x, no_output);
    struct output y1 = call(&rig, "square", y, no_output);
    struct output ys[] = {y, call(&rig, "square", y1, no_output)};
    struct output gradient;
    struct gradient_options options = {.ys = ys, .y_count = 2, .xs = &x, .x_count = 1};
    gradients(&rig, &options, &gradient);
    expect_scalar(&rig, gradient, 2 * 3 + 8 * 2187); /* 2x + 8x⁷ */
    rig_close(&rig);
}

/* An x between y and another x: both get the whole derivative. */
static void test_xs_inside(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct output xs[] = {scalar(&rig, 2), no_output};
    xs[1] = call(&rig, "square", xs[0], no_output);
    struct output y = call(&rig, "multiply", xs[1], xs[0]); /* x³ */
    struct output found[2];
    struct gradient_options options = {.ys = &y, .y_count = 1, .xs = xs, .x_count = 2};
    gradients(&rig, &options, found);
    expect_scalar(&rig, found[0], 12);
    expect_scalar(&rig, found[1], 2);
    rig_close(&rig);
}

static void test_stopped_tensors_are_constants(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct output a = scalar(&rig, 5);
    struct output b = call(&rig, "add", a, a); /* 2a */
    struct output ys = call(&rig, "add", a, b);
    struct output xs[] = {a, b};
    struct output found[2];
    struct gradient_options options = {
        .ys = &ys, .y_count = 1, .xs = xs, .x_count = 2, .stop_gradients = xs, .stop_count = 2};
    gradients(&rig, &options, found);
    expect_scalar(&rig, found[0], 1); /* partial derivatives */
    expect_scalar(&rig, found[1], 1);
    options.stop_gradients = NULL;
    options.stop_count = 0;
    gradients(&rig, &options, found);
    expect_scalar(&rig, found[0], 3);
    expect_scalar(&rig, found[1], 1);
    rig_close(&rig);
}

static void test_given_gradients_of_ys(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    double room[] = {1, 2, 3};
    double weights[] = {10, 100, 1000};
    struct output x = constant(&rig, DTYPE_FLOAT64, shape_vector(3), room);
    struct output ys[] = {call(&rig, "square", x, no_output), call(&rig, "negative", x, no_output)};
    struct output grad_ys[] = {constant(&rig, DTYPE_FLOAT64, shape_vector(3), weights), no_output};
    struct output gradient;
    struct gradient_options options = {.ys = ys, .y_count = 2, .xs = &x, .x_count = 1, .grad_ys = grad_ys};
    gradients(&rig, &options, &gradient);
    expect_values(&rig, gradient, (double[]){19, 399, 5999}, 3, 1e-9);
    grad_ys[0] = scalar(&rig, 1);
    expect_error(graph_gradients_with(rig.graph, &options, &gradient, &rig.error), &rig.error, "ValueError",
                 "Gradient Tensor…");
    rig_close(&rig);
}

static void test_unconnected(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    float room[] = {1, 2, 3, 4};
    struct output x = constant(&rig, DTYPE_FLOAT32, shape_matrix(2, 2), room);
    struct output y = constant(&rig, DTYPE_FLOAT32, shape_matrix(2, 2), room);
    struct output gradient;
    struct gradient_options options = {.ys = &y, .y_count = 1, .xs = &x, .x_count = 1};
    gradients(&rig, &options, &gradient);
    assert_null(gradient.node);
    options.unconnected = "none";
    gradients(&rig, &options, &gradient);
    assert_null(gradient.node);
    options.unconnected = "zero";
    gradients(&rig, &options, &gradient);
    expect_values(&rig, gradient, (double[]){0, 0, 0, 0}, 4, 0);
    options.unconnected = "nonsense";
    expect_error(graph_gradients_with(rig.graph, &options, &gradient, &rig.error), &rig.error, "ValueError",
                 "Unknown value for unconnected_gradients: 'nonsense'");
    rig_close(&rig);
}

/* More uses of one tensor than a node has inputs. */
static void test_any_number_of_uses(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    enum { USES = NODE_INPUTS_MAX + 10 };
    struct output x = scalar(&rig, 2);
    struct output *ys = mem_allocate(USES, sizeof *ys);
    assert_non_null(ys);
    for (size_t i = 0; i < USES; i++) {
        ys[i] = call(&rig, "negative", x, no_output);
    }
    struct output gradient;
    struct gradient_options options = {.ys = ys, .y_count = USES, .xs = &x, .x_count = 1};
    gradients(&rig, &options, &gradient);
    expect_scalar(&rig, gradient, -(double)USES);
    mem_free(ys);
    rig_close(&rig);
}

static void test_whole_numbers_carry_none(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    int32_t three = 3;
    struct output x = constant(&rig, DTYPE_INT32, shape_scalar(), &three);
    struct output y = call(&rig, "square", x, no_output);
    struct output gradient;
    struct gradient_options options = {.ys = &y, .y_count = 1, .xs = &x, .x_count = 1};
    gradients(&rig, &options, &gradient);
    assert_null(gradient.node);
    rig_close(&rig);
}

static void test_variables_and_second_derivatives(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    double number = 3;
    const struct variable *v = variable_of(&rig, "v", DTYPE_FLOAT64, shape_scalar(), &number);
    struct output x = state_of(v);
    struct output y = call(&rig, "multiply", call(&rig, "square", v->read, no_output), v->read);
    struct output first;
    struct output second;
    struct gradient_options options = {.ys = &y, .y_count = 1, .xs = &x, .x_count = 1};
    gradients(&rig, &options, &first);
    options.ys = &first;
    gradients(&rig, &options, &second);
    rig_initialize(&rig);
    expect_scalar(&rig, first, 27);
    expect_scalar(&rig, second, 18);
    assert_non_null(graph_find_node(rig.graph, "gradients/grad_ys_0"));
    assert_non_null(graph_find_node(rig.graph, "gradients_1/grad_ys_0"));
    rig_close(&rig);
}

static void test_an_op_without_gradient(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    double number = 3;
    const struct variable *v = variable_of(&rig, "v", DTYPE_FLOAT64, shape_scalar(), &number);
    struct output x = scalar(&rig, 1);
    struct output y;
    struct output gradient;
    must(assign_variable(rig.graph, v, x, ASSIGN_SET, &y, &rig.error), &rig.error);
    struct gradient_options options = {.ys = &y, .y_count = 1, .xs = &x, .x_count = 1};
    expect_error(graph_gradients_with(rig.graph, &options, &gradient, &rig.error), &rig.error, "LookupError",
                 "No gradient defined for operation 'Assign' (op type: Assign)");
    options.stop_gradients = &y; /* nobody asks it then */
    options.stop_count = 1;
    gradients(&rig, &options, &gradient);
    assert_null(gradient.node);
    rig_close(&rig);
}

static void test_tensors_of_another_graph(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct rig other = rig_open();
    struct output x = scalar(&rig, 1);
    struct output y = scalar(&other, 1);
    struct output gradient;
    struct gradient_options options = {.ys = &y, .y_count = 1, .xs = &x, .x_count = 1};
    expect_error(graph_gradients_with(rig.graph, &options, &gradient, &rig.error), &rig.error, "ValueError",
                 "Tensor Tensor(\"Const:0\", shape=(), dtype=float64) is not an element of this graph.");
    rig_close(&other);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ys_that_depend_on_each_other),
        cmocka_unit_test(test_xs_inside),
        cmocka_unit_test(test_stopped_tensors_are_constants),
        cmocka_unit_test(test_given_gradients_of_ys),
        cmocka_unit_test(test_unconnected),
        cmocka_unit_test(test_any_number_of_uses),
        cmocka_unit_test(test_whole_numbers_carry_none),
        cmocka_unit_test(test_variables_and_second_derivatives),
        cmocka_unit_test(test_an_op_without_gradient),
        cmocka_unit_test(test_tensors_of_another_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
