/* The insides of loops: what they capture, what they see of outer values, how they are named and kept apart, and that a
 * failure leaves the graph as it should be. */
#include "engine/graph/recurrence_node.h"
#include "engine/math/gemm.h"
#include "tests/unit/recurrence_rig.h"

static const struct output_type vector = {DTYPE_FLOAT32, {.rank = 1, .dimensions = {3}}};

static struct graph *new_graph(void)
{
    struct error error;
    struct graph *graph = NULL;
    must(graph_create(&graph, &error), &error);
    return graph;
}

static struct output add(struct graph *graph, const char *name, struct output a, struct output b)
{
    struct error error;
    struct output inputs[] = {a, b};
    struct output result;
    must(graph_add(graph, "Add", name, inputs, 2, &result, &error), &error);
    return result;
}

static struct output enter(struct graph *graph)
{
    struct error error;
    struct output argument;
    must(graph_enter_body(graph, &vector, 1, &argument, &error), &error);
    return argument;
}

static const struct body *leave(struct graph *graph, struct output output)
{
    struct error error;
    const struct body *body = NULL;
    must(graph_leave_body(graph, &output, 1, &body, &error), &error);
    return body;
}

/* Every outer tensor is captured once; nodes of the body are not the graph's. */
static void test_captures(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct output a = rig_placeholder(graph, DTYPE_FLOAT32, &vector.shape);
    struct output b = rig_placeholder(graph, DTYPE_FLOAT32, &vector.shape);
    size_t nodes = graph_node_count(graph);
    struct output argument = enter(graph);
    assert_true(graph_is_in_body(graph));
    struct output first = add(graph, NULL, argument, b);
    struct output second = add(graph, NULL, a, b);
    const struct body *body = leave(graph, add(graph, NULL, first, second));
    assert_false(graph_is_in_body(graph));
    assert_int_equal(graph_node_count(graph), nodes);
    assert_int_equal(body->argument_count, 1);
    assert_int_equal(body->capture_count, 2);
    assert_true(output_equal(body->captures[0], b));
    assert_true(output_equal(body->captures[1], a));
    assert_true(output_equal(body->inputs[0], argument));
    assert_int_equal(graph_node_count(body->graph), 3 + 3);
    graph_unref(graph);
}

/* What a turn yields may be an outer tensor, or an argument as it came. */
static void test_yields(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    struct output a = rig_placeholder(graph, DTYPE_FLOAT32, &vector.shape);
    struct output argument = enter(graph);
    struct output yields[] = {a, argument};
    const struct body *body = NULL;
    must(graph_leave_body(graph, yields, 2, &body, &error), &error);
    assert_true(output_equal(body->outputs[0], body->inputs[1]));
    assert_true(output_equal(body->outputs[1], body->inputs[0]));
    graph_unref(graph);
}

/* Names inside are unique in the whole graph, and cannot be fetched. */
static void test_names(void **state)
{
    (void)state;
    struct error error;
    struct output found;
    struct graph *graph = new_graph();
    struct output a = rig_placeholder(graph, DTYPE_FLOAT32, &vector.shape);
    add(graph, "sum", a, a);
    struct output inner = add(graph, "sum", enter(graph), a);
    leave(graph, inner);
    struct output after = add(graph, "sum", a, a);
    assert_string_equal(inner.node->name, "sum_1");
    assert_string_equal(after.node->name, "sum_2");
    assert_int_not_equal(graph_find_output(graph, "sum_1:0", &found, &error), STATUS_OK);
    assert_string_equal(error.message, "Operation 'sum_1' has been marked as not fetchable.");
    assert_string_equal(error.type, "ValueError");
    must(graph_find_output(graph, "sum_2:0", &found, &error), &error);
    graph_unref(graph);
}

/* A name as it is ("cell/tanh/") that a node inside has: refused inside and outside. */
static void test_names_inside_are_taken(void **state)
{
    (void)state;
    struct error error;
    struct output result;
    struct graph *graph = new_graph();
    struct output argument = enter(graph);
    must(graph_add(graph, "Tanh", "cell/tanh/", &argument, 1, &result, &error), &error);
    struct output again;
    assert_int_equal(graph_add(graph, "Tanh", "cell/tanh/", &argument, 1, &again, &error), STATUS_CONFLICT);
    assert_string_equal(error.message, "Duplicate node name in graph: 'cell/tanh'");
    leave(graph, result);
    assert_int_equal(graph_add_scalar(graph, "cell/tanh/", 1, &again, &error), STATUS_CONFLICT);
    graph_unref(graph);
}

/* Tensors inside stay inside, of this body and of others. */
static void test_inner_tensors_stay_inside(void **state)
{
    (void)state;
    struct error error;
    struct output result;
    struct graph *graph = new_graph();
    struct output inner = enter(graph);
    leave(graph, inner);
    assert_int_not_equal(graph_add(graph, "Tanh", NULL, &inner, 1, &result, &error), STATUS_OK);
    assert_string_equal(error.type, "ValueError");
    enter(graph);
    assert_int_not_equal(graph_add(graph, "Tanh", NULL, &inner, 1, &result, &error), STATUS_OK);
    assert_string_equal(error.type, "ValueError");
    graph_abandon_body(graph);
    graph_unref(graph);
}

/* No loop in a loop; after giving up, the graph goes on outside. */
static void test_nesting_and_giving_up(void **state)
{
    (void)state;
    struct error error;
    struct output ignored;
    struct graph *graph = new_graph();
    struct output a = rig_placeholder(graph, DTYPE_FLOAT32, &vector.shape);
    enter(graph);
    assert_int_equal(graph_enter_body(graph, &vector, 1, &ignored, &error), STATUS_UNSUPPORTED);
    assert_true(graph_is_in_body(graph));
    graph_abandon_body(graph);
    graph_abandon_body(graph);
    size_t nodes = graph_node_count(graph);
    add(graph, NULL, a, a);
    assert_int_equal(graph_node_count(graph), nodes + 1);
    graph_unref(graph);
}

/* Variables made inside live outside, and are read through a capture. */
static void test_variables_live_outside(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct network network = {.graph = graph, .dtype = DTYPE_FLOAT32};
    struct output argument = enter(graph);
    struct output read = network_variable(&network, "v", vector.shape);
    assert_true(graph_is_in_body(graph));
    const struct body *body = leave(graph, add(graph, NULL, argument, read));
    assert_int_equal(graph_variable_count(graph), 1);
    assert_non_null(graph_find_node(graph, "v/read"));
    assert_int_equal(body->capture_count, 1);
    assert_string_equal(body->captures[0].node->name, "v/read");
    graph_unref(graph);
}

/* A body made in a clone that is dropped leaves nothing in the graph it was cloned from; one that is kept lives on. */
static void test_clones(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    rig_placeholder(graph, DTYPE_FLOAT32, &vector.shape);
    size_t nodes = graph_node_count(graph);
    for (int round = 0; round < 2; round++) {
        struct graph *clone = NULL;
        must(graph_clone(graph, &clone, &error), &error);
        struct output outer = {graph_node(clone, 0), 0};
        struct output inner = add(clone, "inner", enter(clone), outer);
        const struct body *body = leave(clone, inner);
        struct graph *grown = NULL;
        must(graph_clone(clone, &grown, &error), &error);
        graph_unref(clone);
        struct output found;
        assert_int_not_equal(graph_find_output(grown, "inner:0", &found, &error), STATUS_OK);
        assert_string_equal(error.code, "inside_loop");
        assert_string_equal(body->outputs[0].node->name, "inner");
        graph_unref(grown);
    }
    assert_int_equal(graph_node_count(graph), nodes);
    graph_unref(graph);
}

/* Shape rules inside know outer constants, while building and while planning. */
static void test_outer_constants_are_known(void **state)
{
    (void)state;
    struct error error;
    struct network network;
    network_create(&network, DTYPE_FLOAT32);
    struct graph *graph = network.graph;
    int32_t sizes[] = {-1, 6};
    struct output shape = rig_constant(graph, &(struct tensor){DTYPE_INT32, shape_vector(2), sizes});
    struct output x = network_variable(&network, "x", (struct shape){.rank = 4, .dimensions = {2, 3, 2, 3}});
    struct output initial = network_variable(&network, "s", shape_matrix(3, 6));
    struct output_type types[] = {{DTYPE_FLOAT32, shape_cube(DIMENSION_UNKNOWN, 2, 3)},
                                  {DTYPE_FLOAT32, shape_matrix(DIMENSION_UNKNOWN, 6)}};
    struct output arguments[2];
    struct output flat;
    const struct body *body = NULL;
    must(graph_enter_body(graph, types, 2, arguments, &error), &error);
    struct output inputs[] = {arguments[0], shape};
    must(graph_add(graph, "Reshape", NULL, inputs, 2, &flat, &error), &error);
    assert_int_equal(output_type(flat)->shape.dimensions[1], 6);
    struct output sum = add(graph, NULL, flat, arguments[1]);
    struct output yields[] = {sum, sum};
    must(graph_leave_body(graph, yields, 2, &body, &error), &error);
    struct recurrence_node_options options = {.body = body, .x = x, .states = &initial};
    struct output outputs;
    struct output final;
    must(recurrence_node_add(graph, &options, &outputs, &final, &error), &error);
    network_weigh(&network, outputs);
    network_weigh(&network, final);
    network_finish(&network, 1);
    network_check_gradients(&network, 100);
    network_release(&network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_captures),
        cmocka_unit_test(test_yields),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_names_inside_are_taken),
        cmocka_unit_test(test_inner_tensors_stay_inside),
        cmocka_unit_test(test_nesting_and_giving_up),
        cmocka_unit_test(test_variables_live_outside),
        cmocka_unit_test(test_clones),
        cmocka_unit_test(test_outer_constants_are_known),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
