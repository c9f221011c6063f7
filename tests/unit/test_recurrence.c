/* The Recurrence node on hand-made bodies: against the same steps written out one after another, with sequence lengths,
 * without steps or rows; its gradient against central differences; what is refused. */
#include "engine/graph/recurrence_node.h"
#include "engine/math/gemm.h"
#include "tests/unit/recurrence_rig.h"

enum { TIME = 4, BATCH = 3, DEPTH = 2, UNITS = 3 };

/* One step of h' = tanh(xW + hU) ∘ g, s' = s + h', output h' − s. */
struct weights {
    struct output w;
    struct output u;
    struct output g;
};

static struct output add2(struct graph *graph, const char *op, struct output a, struct output b)
{
    struct error error;
    struct output inputs[] = {a, b};
    struct output result;
    must(graph_add(graph, op, NULL, inputs, 2, &result, &error), &error);
    return result;
}

static void step(struct graph *graph, const struct weights *weights, struct output x, const struct output *states,
                 struct output *ret_output, struct output *ret_states)
{
    struct error error;
    struct output sum =
        add2(graph, "Add", add2(graph, "MatMul", x, weights->w), add2(graph, "MatMul", states[0], weights->u));
    struct output bent;
    must(graph_add(graph, "Tanh", NULL, &sum, 1, &bent, &error), &error);
    struct output h = add2(graph, "Mul", bent, weights->g);
    *ret_output = add2(graph, "Sub", h, states[1]);
    ret_states[1] = add2(graph, "Add", states[1], h);
    ret_states[0] = h;
}

struct made {
    struct output outputs;
    struct output states[2];
};

static struct weights add_weights(struct network *network)
{
    return (struct weights){network_variable(network, "w", shape_matrix(DEPTH, UNITS)),
                            network_variable(network, "u", shape_matrix(UNITS, UNITS)),
                            network_variable(network, "g", shape_vector(UNITS))};
}

/* The whole as one node; `lengths` NULL: none. */
static struct made add_recurrence(struct network *network, int64_t time, int64_t batch, const int32_t *lengths)
{
    struct error error;
    struct made made;
    struct graph *graph = network->graph;
    struct output x = network_variable(network, "x", shape_cube(time, batch, DEPTH));
    struct output initial[] = {network_variable(network, "h", shape_matrix(batch, UNITS)),
                               network_variable(network, "s", shape_matrix(batch, UNITS))};
    struct weights weights = add_weights(network);
    struct output_type types[] = {{network->dtype, shape_matrix(DIMENSION_UNKNOWN, DEPTH)},
                                  {network->dtype, shape_matrix(DIMENSION_UNKNOWN, UNITS)},
                                  {network->dtype, shape_matrix(DIMENSION_UNKNOWN, UNITS)}};
    struct output arguments[3];
    struct output yields[3];
    const struct body *body = NULL;
    must(graph_enter_body(graph, types, 3, arguments, &error), &error);
    step(graph, &weights, arguments[0], arguments + 1, &yields[0], yields + 1);
    must(graph_leave_body(graph, yields, 3, &body, &error), &error);
    struct recurrence_node_options options = {.body = body, .x = x, .states = initial};
    if (lengths != NULL) {
        options.sequence_length = network_lengths(network, lengths, batch);
    }
    must(recurrence_node_add(graph, &options, &made.outputs, made.states, &error), &error);
    return made;
}

static void test_like_steps_written_out(void **state)
{
    (void)state;
    struct network network;
    network_create(&network, DTYPE_FLOAT32);
    struct made made = add_recurrence(&network, TIME, BATCH, NULL);
    struct output fetches[] = {made.outputs, made.states[0], made.states[1]};
    network_weigh(&network, made.outputs);
    network_finish(&network, 1);
    struct tensor found[3];
    network_run(&network, fetches, 3, found);
    struct tensor *x = values_tensor(network.values, graph_find_variable(network.graph, "x"));
    struct tensor *w = values_tensor(network.values, graph_find_variable(network.graph, "w"));
    struct tensor *u = values_tensor(network.values, graph_find_variable(network.graph, "u"));
    struct tensor *g = values_tensor(network.values, graph_find_variable(network.graph, "g"));
    for (size_t b = 0; b < BATCH; b++) {
        double h[UNITS];
        double s[UNITS];
        for (size_t n = 0; n < UNITS; n++) {
            h[n] = tensor_number(values_tensor(network.values, graph_find_variable(network.graph, "h")), b * UNITS + n);
            s[n] = tensor_number(values_tensor(network.values, graph_find_variable(network.graph, "s")), b * UNITS + n);
        }
        for (size_t t = 0; t < TIME; t++) {
            double next[UNITS];
            for (size_t n = 0; n < UNITS; n++) {
                double sum = 0;
                for (size_t d = 0; d < DEPTH; d++) {
                    sum += tensor_number(x, (t * BATCH + b) * DEPTH + d) * tensor_number(w, d * UNITS + n);
                }
                for (size_t m = 0; m < UNITS; m++) {
                    sum += h[m] * tensor_number(u, m * UNITS + n);
                }
                next[n] = tanh(sum) * tensor_number(g, n);
                double output = tensor_number(&found[0], (t * BATCH + b) * UNITS + n);
                assert_true(fabs(output - (next[n] - s[n])) < 1e-5);
            }
            for (size_t n = 0; n < UNITS; n++) {
                h[n] = next[n];
                s[n] += next[n];
            }
        }
        for (size_t n = 0; n < UNITS; n++) {
            assert_true(fabs(tensor_number(&found[1], b * UNITS + n) - h[n]) < 1e-5);
            assert_true(fabs(tensor_number(&found[2], b * UNITS + n) - s[n]) < 1e-5);
        }
    }
    release_tensors(found, 3);
    network_release(&network);
}

/* Rows end at their lengths: what comes after is zero, and the states are those of a shorter run. */
static void test_lengths(void **state)
{
    (void)state;
    const int32_t lengths[] = {2, 9, 0};
    struct network network;
    network_create(&network, DTYPE_FLOAT32);
    struct made ended = add_recurrence(&network, TIME, BATCH, lengths);
    network_weigh(&network, ended.outputs);
    network_finish(&network, 1);
    struct output fetches[] = {ended.outputs,
                               ended.states[0],
                               ended.states[1],
                               {ended.outputs.node, 3},
                               graph_find_variable(network.graph, "h")->read};
    struct tensor found[5];
    network_run(&network, fetches, 5, found);
    for (size_t n = 0; n < UNITS; n++) {
        for (size_t t = 0; t < TIME; t++) {
            assert_true((tensor_number(&found[0], (t * BATCH + 0) * UNITS + n) == 0) == (t >= 2));
            assert_true(tensor_number(&found[0], (t * BATCH + 1) * UNITS + n) != 0);
            assert_true(tensor_number(&found[0], (t * BATCH + 2) * UNITS + n) == 0);
        }
        double after_two = tensor_number(&found[3], (1 * BATCH + 0) * UNITS + n);
        assert_true(tensor_number(&found[1], 0 * UNITS + n) == after_two);
        assert_true(tensor_number(&found[1], 2 * UNITS + n) == tensor_number(&found[4], 2 * UNITS + n));
    }
    release_tensors(found, 5);
    network_release(&network);
}

static void check_gradients(enum dtype dtype, const int32_t *lengths)
{
    struct network network;
    network_create(&network, dtype);
    struct made made = add_recurrence(&network, TIME, BATCH, lengths);
    network_weigh(&network, made.outputs);
    network_weigh(&network, made.states[0]);
    network_weigh(&network, made.states[1]);
    network_finish(&network, 1);
    network_check_gradients(&network, 1000);
    network_release(&network);
}

static void test_gradients(void **state)
{
    (void)state;
    const int32_t lengths[] = {2, 4, 0};
    const int32_t all_short[] = {1, 2, 1};
    check_gradients(DTYPE_FLOAT32, NULL);
    check_gradients(DTYPE_FLOAT32, lengths);
    check_gradients(DTYPE_FLOAT32, all_short);
}

/* No steps: the final states are the first ones, and so are their gradients. No rows: nothing at all. */
static void test_no_steps_no_rows(void **state)
{
    (void)state;
    for (int what = 0; what < 2; what++) {
        struct network network;
        network_create(&network, DTYPE_FLOAT32);
        struct made made = add_recurrence(&network, what == 0 ? 0 : TIME, what == 0 ? BATCH : 0, NULL);
        struct output gradients[NETWORK_VARIABLES_MAX];
        struct tensor found[NETWORK_VARIABLES_MAX];
        network_weigh(&network, made.outputs);
        network_weigh(&network, made.states[0]);
        network_weigh(&network, made.states[1]);
        network_finish(&network, 1);
        struct output fetches[] = {made.states[0], graph_find_variable(network.graph, "h")->read};
        network_run(&network, fetches, 2, found);
        assert_tensors_near(&found[0], &found[1], 0, "final state");
        release_tensors(found, 2);
        size_t count = network_gradients(&network, gradients);
        network_run(&network, gradients, count, found);
        for (size_t v = 0; v < count; v++) {
            const char *name = graph_variable(network.graph, v)->node->name;
            bool is_state = strcmp(name, "h") == 0 || strcmp(name, "s") == 0;
            for (size_t i = 0; i < tensor_element_count(&found[v]); i++) {
                assert_true((tensor_number(&found[v], i) != 0) == is_state);
            }
        }
        release_tensors(found, count);
        network_release(&network);
    }
}

static void test_second_gradients_are_refused(void **state)
{
    (void)state;
    struct error error;
    struct network network;
    struct output gradients[NETWORK_VARIABLES_MAX];
    struct output again;
    network_create(&network, DTYPE_FLOAT32);
    struct made made = add_recurrence(&network, TIME, BATCH, NULL);
    network_weigh(&network, made.outputs);
    network_finish(&network, 1);
    network_gradients(&network, gradients);
    struct output x = graph_find_variable(network.graph, "x")->read;
    assert_int_not_equal(graph_gradients(network.graph, &gradients[0], 1, &x, 1, &again, &error), STATUS_OK);
    assert_string_equal(error.type, "LookupError");
    assert_non_null(strstr(error.message, "(op type: RecurrenceGrad)"));
    network_release(&network);
}

/* A state whose shape changes within a step; lengths of another batch. */
static void test_refused(void **state)
{
    (void)state;
    struct error error;
    struct network network;
    network_create(&network, DTYPE_FLOAT32);
    struct output x = network_variable(&network, "x", shape_cube(2, 3, 4));
    struct output initial = network_variable(&network, "h", shape_matrix(3, 5));
    struct output_type types[] = {{DTYPE_FLOAT32, shape_matrix(3, 4)}, {DTYPE_FLOAT32, shape_matrix(3, 5)}};
    struct output arguments[2];
    const struct body *body = NULL;
    must(graph_enter_body(network.graph, types, 2, arguments, &error), &error);
    struct output yields[] = {arguments[1], arguments[0]};
    must(graph_leave_body(network.graph, yields, 2, &body, &error), &error);
    struct recurrence_node_options options = {.body = body, .x = x, .states = &initial};
    struct output outputs;
    struct output states[1];
    assert_int_not_equal(recurrence_node_add(network.graph, &options, &outputs, states, &error), STATUS_OK);
    assert_string_equal(error.type, "ValueError");
    assert_non_null(strstr(error.message, "is not an invariant for the loop"));
    network_release(&network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_steps_written_out),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_no_steps_no_rows),
        cmocka_unit_test(test_second_gradients_are_refused),
        cmocka_unit_test(test_refused),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
