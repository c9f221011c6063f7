/* Every cell's and wrapper's gradient against central differences, through bodies and through fused kernels; static and
 * bidirectional RNNs against dynamic ones. */
#include "engine/math/gemm.h"
#include "engine/nn/recurrence.h"
#include "tests/unit/cell_rig.h"

/* ---- gradients ---- */

enum { STEPS = 3, ROWS = 2, COLUMNS = 3, UNITS = 3 };

/* A cell to differentiate: its options, and what is put around it. */
struct gradient_case {
    struct cell_options options;
    bool is_residual;
    bool is_multi;
    double keep; /* of input, state and output; 0: no dropout */
    bool is_variational;
};

static uint32_t make_case(struct network *network, const struct gradient_case *test)
{
    struct graph *graph = network->graph;
    uint32_t cell = make(graph, &test->options);
    if (test->keep > 0) {
        float single = (float)test->keep;
        struct tensor number = {DTYPE_FLOAT32, shape_scalar(), &single};
        struct output keep = rig_constant(graph, &number);
        cell = make(graph, &(struct cell_options){.kind = CELL_DROPOUT_WRAPPER,
                                                  .children = {cell},
                                                  .child_count = 1,
                                                  .input_keep = keep,
                                                  .input_keep_value = test->keep,
                                                  .state_keep = keep,
                                                  .state_keep_value = test->keep,
                                                  .output_keep = keep,
                                                  .output_keep_value = test->keep,
                                                  .is_variational = test->is_variational});
    }
    if (test->is_residual) {
        cell = make(graph, &(struct cell_options){.kind = CELL_RESIDUAL_WRAPPER, .children = {cell}, .child_count = 1});
    }
    return test->is_multi ? multi(graph, cell, make(graph, &test->options), test->options.is_state_matrix) : cell;
}

static void check_gradients(const struct gradient_case *test, enum dtype dtype, bool is_general, bool has_lengths)
{
    struct error error;
    struct network network;
    struct output outputs;
    struct output initial[CELL_STATES_MAX];
    struct output states[CELL_STATES_MAX];
    network_create(&network, dtype);
    uint32_t cell = make_case(&network, test);
    struct recurrence_options options = {.inputs = network_variable(&network, "x", shape_cube(ROWS, STEPS, COLUMNS)),
                                         .initial_states = initial,
                                         .is_general = is_general};
    if (has_lengths) {
        options.sequence_length = network_lengths(&network, (const int32_t[]){STEPS, 1}, ROWS);
    }
    size_t count = cell_state_count(network.graph, cell);
    for (size_t k = 0; k < count; k++) {
        char name[32];
        snprintf(name, sizeof name, "s%zu", k);
        initial[k] =
            network_variable(&network, name, shape_matrix(ROWS, (int64_t)cell_state_size(network.graph, cell, k)));
    }
    must(dynamic_rnn(network.graph, cell, &options, &outputs, states, &error), &error);
    network_weigh(&network, outputs);
    for (size_t k = 0; k < count; k++) {
        network_weigh(&network, states[k]);
    }
    network_finish(&network, 0.9);
    network_check_gradients(&network, 12);
    network_release(&network);
}

static const struct gradient_case gradient_cases[] = {
    {.options = {.kind = CELL_BASIC_RNN, .units = UNITS}},
    {.options = {.kind = CELL_GRU, .units = UNITS}},
    {.options = {.kind = CELL_BASIC_LSTM, .units = UNITS}},
    {.options = {.kind = CELL_BASIC_LSTM, .units = UNITS, .activation = "sigmoid"}},
    {.options = {.kind = CELL_BASIC_LSTM, .units = UNITS, .is_state_matrix = true}, .is_multi = true},
    {.options = {.kind = CELL_LSTM, .units = UNITS}},
    {.options = {.kind = CELL_LSTM,
                 .units = UNITS,
                 .has_peepholes = true,
                 .projection = 2,
                 .cell_clip = 0.7,
                 .projection_clip = 0.4}},
    {.options = {.kind = CELL_LSTM, .units = UNITS, .projection = 2, .is_state_matrix = true}},
    {.options = {.kind = CELL_GRU, .units = UNITS}, .is_residual = true, .is_multi = true},
    {.options = {.kind = CELL_BASIC_LSTM, .units = UNITS}, .keep = 0.6, .is_multi = true},
    {.options = {.kind = CELL_BASIC_LSTM, .units = UNITS}, .keep = 0.6, .is_variational = true},
};

static void test_gradients_of_bodies(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof gradient_cases / sizeof *gradient_cases; i++) {
        check_gradients(&gradient_cases[i], DTYPE_FLOAT64, true, false);
        check_gradients(&gradient_cases[i], DTYPE_FLOAT64, true, true);
    }
}

static void test_gradients_of_kernels(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof gradient_cases / sizeof *gradient_cases; i++) {
        if (gradient_cases[i].options.cell_clip == 0) { /* float32's wide steps would cross the clipping's corners */
            check_gradients(&gradient_cases[i], DTYPE_FLOAT32, false, false);
            check_gradients(&gradient_cases[i], DTYPE_FLOAT32, false, true);
        }
    }
}

/* static_rnn and dynamic_rnn give the same, with and without lengths. */
static void check_static(bool has_lengths)
{
    struct error error;
    struct network network;
    network_create(&network, DTYPE_FLOAT32);
    struct graph *graph = network.graph;
    uint32_t cell = plain(graph, CELL_BASIC_LSTM, UNITS);
    struct output x = network_variable(&network, "x", shape_cube(STEPS, ROWS, COLUMNS));
    struct output steps[STEPS];
    struct output outputs[STEPS];
    struct output fetches[6];
    struct attribute num = {.name = "num", .kind = ATTRIBUTE_INTEGER, .integer = STEPS};
    struct node_options unpack = {.inputs = &x, .input_count = 1, .attributes = &num, .attribute_count = 1};
    struct node *node = NULL;
    must(graph_add_node(graph, "Unpack", &unpack, &node, &error), &error);
    for (uint32_t t = 0; t < STEPS; t++) {
        steps[t] = (struct output){node, t};
    }
    struct recurrence_options options = {.inputs = x, .is_time_major = true, .has_dtype = true, .dtype = DTYPE_FLOAT32};
    if (has_lengths) {
        options.sequence_length = network_lengths(&network, (const int32_t[]){2, 1}, ROWS);
    }
    must(dynamic_rnn(graph, cell, &options, &fetches[0], fetches + 1, &error), &error);
    must(static_rnn(graph, cell, steps, STEPS, &options, outputs, fetches + 4, &error), &error);
    must(graph_add(graph, "Pack", NULL, outputs, STEPS, &fetches[3], &error), &error);
    network_weigh(&network, fetches[0]);
    network_finish(&network, 1);
    struct tensor found[6];
    network_run(&network, fetches, 6, found);
    for (size_t i = 0; i < 3; i++) {
        assert_tensors_near(&found[i], &found[i + 3], 1e-6, "static against dynamic");
    }
    release_tensors(found, 6);
    network_release(&network);
}

static void test_static_rnn(void **state)
{
    (void)state;
    check_static(false);
    check_static(true);
}

/* The backward outputs are those of a forward run over what is reversed, reversed again. */
static void check_bidirectional(bool has_lengths)
{
    struct error error;
    struct network network;
    network_create(&network, DTYPE_FLOAT32);
    struct graph *graph = network.graph;
    uint32_t cell = plain(graph, CELL_GRU, UNITS);
    const int32_t lengths[] = {2, STEPS};
    struct recurrence_options options = {.inputs = network_variable(&network, "x", shape_cube(ROWS, STEPS, COLUMNS)),
                                         .has_dtype = true,
                                         .dtype = DTYPE_FLOAT32};
    if (has_lengths) {
        options.sequence_length = network_lengths(&network, lengths, ROWS);
    }
    struct output fetches[4]; /* outputs of both, final state of the backward one; the same of a run by hand */
    struct output forward;
    must(bidirectional_dynamic_rnn(graph, cell, cell, &options, NULL, fetches, &forward, &fetches[2], &error), &error);
    options.sequence_length = (struct output){NULL, 0};
    network_weigh(&network, fetches[0]);
    network_finish(&network, 1);
    struct tensor found[3];
    network_run(&network, fetches, 3, found);
    for (size_t row = 0; row < ROWS; row++) {
        size_t length = has_lengths ? (size_t)lengths[row] : STEPS;
        for (size_t n = 0; n < UNITS; n++) {
            /* read backwards, the last step is the first in time */
            double first = tensor_number(&found[1], (row * STEPS + 0) * UNITS + n);
            assert_true(first == tensor_number(&found[2], row * UNITS + n));
            for (size_t t = length; t < STEPS; t++) {
                assert_true(tensor_number(&found[1], (row * STEPS + t) * UNITS + n) == 0);
            }
        }
    }
    release_tensors(found, 3);
    network_release(&network);
}

static void test_bidirectional(void **state)
{
    (void)state;
    check_bidirectional(false);
    check_bidirectional(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_of_bodies),
        cmocka_unit_test(test_gradients_of_kernels),
        cmocka_unit_test(test_static_rnn),
        cmocka_unit_test(test_bidirectional),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
