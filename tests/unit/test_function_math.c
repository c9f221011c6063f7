/* Arithmetic by TensorFlow's Python names: what is added under which name, and the values. */
#include "engine/math/gemm.h"
#include "tests/unit/op_rig.h"

static struct graph *graph;

static int setup(void **state)
{
    struct error error;
    (void)state;
    must(graph_create(&graph, &error), &error);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    graph = graph_unref(graph);
    return 0;
}

static struct output constant(enum dtype dtype, struct shape shape, const double *numbers)
{
    struct error error;
    struct tensor tensor;
    must(tensor_init(&tensor, dtype, &shape, &error), &error);
    for (size_t i = 0; i < tensor_element_count(&tensor); i++) {
        tensor_set_number(&tensor, i, numbers[i]);
    }
    struct output output = rig_constant(graph, &tensor);
    tensor_release(&tensor);
    return output;
}

static struct output placeholder(enum dtype dtype, struct shape shape)
{
    return rig_placeholder(graph, dtype, &shape);
}

/* Calls with tensors, an optional number behind them, and an optional attribute. */
static struct output call(const char *function, const struct output *tensors, size_t count, const int64_t *number,
                          const struct attribute *attribute)
{
    struct error error;
    struct call_argument arguments[4] = {{.name = NULL}};
    struct call_result result;
    for (size_t i = 0; i < count; i++) {
        arguments[i].output = tensors[i];
    }
    if (number != NULL) {
        arguments[count].value = (struct tensor){DTYPE_INT64, shape_scalar(), (void *)(uintptr_t)number};
    }
    struct call options = {.function = function,
                           .arguments = arguments,
                           .argument_count = count + (number != NULL),
                           .attributes = attribute,
                           .attribute_count = attribute != NULL};
    must(graph_call(graph, &options, &result, &error), &error);
    assert_int_equal(result.output_count, 1);
    return result.outputs[0];
}

static void expect_values(struct output output, size_t count, const double *wanted)
{
    struct error error;
    struct tensor result;
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    struct values *values = NULL;
    struct plan_options options = {.fetches = &output, .fetch_count = 1};
    struct run_options how = {.random_key = 1};
    must(plan_create(graph, &options, &plan, &error), &error);
    must(workspace_create(plan, &workspace, &error), &error);
    must(values_create(graph, &values, &error), &error);
    must(plan_run(plan, workspace, values, &how, &result, &error), &error);
    assert_int_equal(tensor_element_count(&result), count);
    for (size_t i = 0; i < count; i++) {
        if (fabs(tensor_number(&result, i) - wanted[i]) > 1e-6 * (1 + fabs(wanted[i]))) {
            fail_msg("%s[%zu] is %.9g instead of %.9g", output.node->name, i, tensor_number(&result, i), wanted[i]);
        }
    }
    values_destroy(values);
    workspace_destroy(workspace);
    plan_unref(plan);
}

static void test_reductions(void **state)
{
    (void)state;
    struct output x = constant(DTYPE_FLOAT32, shape_matrix(2, 2), (double[]){1, 2, 3, 4});
    struct output all = call("reduce_sum", &x, 1, NULL, NULL);
    assert_string_equal(all.node->name, "Sum");
    assert_string_equal(all.node->inputs[1].node->name, "Const_1"); /* x itself is Const */
    assert_int_equal(output_type(all)->shape.rank, 0);
    expect_values(all, 1, (double[]){10});
    struct attribute keeps = {.name = "keepdims", .kind = ATTRIBUTE_BOOLEAN, .boolean = true};
    struct output rows = call("reduce_mean", &x, 1, (int64_t[]){-1}, &keeps);
    assert_string_equal(rows.node->name, "Mean");
    assert_string_equal(rows.node->inputs[1].node->name, "Mean/reduction_indices");
    struct shape kept = shape_matrix(2, 1);
    assert_true(shape_equal(&output_type(rows)->shape, &kept));
    expect_values(rows, 2, (double[]){1.5, 3.5});
    struct output exponents = call("reduce_logsumexp", &x, 1, (int64_t[]){1}, NULL);
    assert_string_equal(exponents.node->name, "ReduceLogSumExp");
    expect_values(exponents, 2, (double[]){log(exp(1.) + exp(2.)), log(exp(3.) + exp(4.))});
    struct output far = constant(DTYPE_FLOAT32, shape_vector(2), (double[]){1000, 1000});
    expect_values(call("reduce_logsumexp", &far, 1, NULL, NULL), 1, (double[]){1000 + log(2.)});
    expect_values(call("argmax", &x, 1, NULL, NULL), 2, (double[]){1, 1});
}

static void test_reducing_what_has_no_known_rank(void **state)
{
    (void)state;
    struct output x = placeholder(DTYPE_FLOAT32, shape_unknown());
    struct output sum = call("reduce_sum", &x, 1, NULL, NULL);
    assert_string_equal(sum.node->name, "Sum");
    assert_string_equal(sum.node->inputs[1].node->name, "range");
    assert_non_null(graph_find_node(graph, "Rank"));
    assert_non_null(graph_find_node(graph, "range/start"));
    assert_non_null(graph_find_node(graph, "range/delta"));
}

static void test_products(void **state)
{
    (void)state;
    struct output a = constant(DTYPE_FLOAT64, shape_cube(2, 1, 2), (double[]){1, 2, 3, 4});
    struct output b = constant(DTYPE_FLOAT64, shape_matrix(2, 1), (double[]){10, 100});
    struct output batched = call("matmul", (struct output[]){a, b}, 2, NULL, NULL);
    assert_string_equal(batched.node->name, "MatMul");
    assert_string_equal(node_op_name(batched.node), "BatchMatMulV2");
    expect_values(batched, 2, (double[]){210, 430});
    struct attribute transpose = {.name = "transpose_a", .kind = ATTRIBUTE_BOOLEAN, .boolean = true};
    struct output plain = call("matmul", (struct output[]){b, b}, 2, NULL, &transpose);
    assert_string_equal(node_op_name(plain.node), "MatMul");
    assert_string_equal(plain.node->name, "MatMul_1");
    expect_values(plain, 1, (double[]){10100});
}

static void test_division(void **state)
{
    (void)state;
    struct output a = constant(DTYPE_INT32, shape_vector(2), (double[]){7, -7});
    struct output quotient = call("divide", &a, 1, (int64_t[]){2}, NULL);
    assert_string_equal(quotient.node->name, "truediv");
    assert_int_equal(output_type(quotient)->dtype, DTYPE_FLOAT64);
    expect_values(quotient, 2, (double[]){3.5, -3.5});
    expect_values(call("div", &a, 1, (int64_t[]){2}, NULL), 2, (double[]){3, -4});
    expect_values(call("floordiv", &a, 1, (int64_t[]){2}, NULL), 2, (double[]){3, -4});
    assert_non_null(graph_find_node(graph, "floordiv/y"));
    expect_values(call("mod", &a, 1, (int64_t[]){4}, NULL), 2, (double[]){3, 1});
    struct output x = constant(DTYPE_FLOAT32, shape_vector(2), (double[]){7, -7});
    expect_values(call("div", &x, 1, (int64_t[]){2}, NULL), 2, (double[]){3.5, -3.5});
}

static void test_casts(void **state)
{
    (void)state;
    struct output x = constant(DTYPE_FLOAT32, shape_vector(2), (double[]){1.7, -1.7});
    struct attribute to = {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_INT32};
    struct output whole = call("cast", &x, 1, NULL, &to);
    assert_string_equal(whole.node->name, "Cast");
    expect_values(whole, 2, (double[]){1, -1});
    struct output same = call("cast", &whole, 1, NULL, &to);
    assert_true(output_equal(same, whole));
    assert_true(output_type(call("to_float", &whole, 1, NULL, NULL))->dtype == DTYPE_FLOAT32);
}

static void test_logic(void **state)
{
    (void)state;
    struct output a = constant(DTYPE_BOOL, shape_vector(4), (double[]){0, 0, 1, 1});
    struct output b = constant(DTYPE_BOOL, shape_vector(4), (double[]){0, 1, 0, 1});
    struct output pair[] = {a, b};
    expect_values(call("logical_xor", pair, 2, NULL, NULL), 4, (double[]){0, 1, 1, 0});
    expect_values(call("logical_and", pair, 2, NULL, NULL), 4, (double[]){0, 0, 0, 1});
    assert_non_null(graph_find_node(graph, "LogicalAnd"));
    expect_values(call("reduce_any", &a, 1, NULL, NULL), 1, (double[]){1});
}

int main(void)
{
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reductions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reducing_what_has_no_known_rank, setup, teardown),
        cmocka_unit_test_setup_teardown(test_products, setup, teardown),
        cmocka_unit_test_setup_teardown(test_division, setup, teardown),
        cmocka_unit_test_setup_teardown(test_casts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_logic, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
