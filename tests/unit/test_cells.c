/* Cells and RNNs: TensorFlow's numbers, names, scopes and texts. */
#include "engine/math/gemm.h"
#include "engine/nn/recurrence.h"
#include "tests/unit/cell_rig.h"

/* ---- making ---- */

static struct graph *new_graph(void)
{
    struct error error;
    struct graph *graph = NULL;
    must(graph_create(&graph, &error), &error);
    return graph;
}

static struct output floats(struct graph *graph, struct shape shape, const float *values)
{
    float copy[64];
    size_t count = 0;
    assert_true(shape_element_count(&shape, &count) && count <= 64);
    memcpy(copy, values, count * sizeof *copy);
    return rig_constant(graph, &(struct tensor){DTYPE_FLOAT32, shape, copy});
}

/* Opens a scope whose variables begin with a number. */
static struct variable_scope_frame open_constant(struct graph *graph, const char *name, double value)
{
    struct error error;
    struct variable_scope_frame frame;
    struct variable_scope_options options = {.name = name, .initializer = {.kind = INITIALIZER_CONSTANT, .low = value}};
    must(variable_scope_open(graph, &options, &frame, &error), &error);
    return frame;
}

static struct variable_scope_frame open_scope(struct graph *graph, const char *name, enum reuse reuse)
{
    struct error error;
    struct variable_scope_frame frame;
    must(variable_scope_enter(graph, name, reuse, &frame, &error), &error);
    return frame;
}

/* ---- running ---- */

struct assignment {
    const char *variable;
    const float *values;
};

/* Runs fetches after giving some variables values, and compares all elements one behind the other. */
static void expect_after(struct graph *graph, const struct assignment *assignments, size_t assignment_count,
                         const struct output *fetches, size_t fetch_count, const double *wanted, double tolerance)
{
    struct error error;
    struct network network = {.graph = graph, .dtype = DTYPE_FLOAT32};
    struct tensor found[NETWORK_FETCHES_MAX];
    must(values_create(graph, &network.values, &error), &error);
    must(values_initialize(network.values, graph, 1, &error), &error);
    for (size_t i = 0; i < assignment_count; i++) {
        const struct variable *variable = graph_find_variable(graph, assignments[i].variable);
        assert_non_null(variable);
        struct tensor *tensor = values_tensor(network.values, variable);
        memcpy(tensor->data, assignments[i].values, tensor_bytes(tensor));
    }
    network_run(&network, fetches, fetch_count, found);
    for (size_t f = 0; f < fetch_count; f++) {
        for (size_t i = 0; i < tensor_element_count(&found[f]); i++, wanted++) {
            if (!(fabs(tensor_number(&found[f], i) - *wanted) <= tolerance)) {
                fail_msg("fetch %zu, element %zu: %.9g, not %.9g", f, i, tensor_number(&found[f], i), *wanted);
            }
        }
    }
    release_tensors(found, fetch_count);
    values_destroy(network.values);
}

static void expect(struct graph *graph, const struct output *fetches, size_t fetch_count, const double *wanted,
                   double tolerance)
{
    expect_after(graph, NULL, 0, fetches, fetch_count, wanted, tolerance);
}

static void expect_variables(const struct graph *graph, const char *const *names)
{
    size_t count = 0;
    while (names[count] != NULL) {
        count++;
    }
    assert_int_equal(graph_variable_count(graph), count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(graph_variable(graph, i)->node->name, names[i]);
    }
}

static void call(struct graph *graph, uint32_t cell, struct output x, const struct output *states,
                 struct output *ret_output, struct output *ret_states)
{
    struct error error;
    must(cell_call(graph, cell, x, states, NULL, ret_output, ret_states, &error), &error);
}

/* Expects a call to be refused with a ValueError that has `text` in it. */
static void expect_call_refused(struct graph *graph, uint32_t cell, struct output x, const struct output *states,
                                const char *text)
{
    struct error error;
    struct output output;
    struct output after[CELL_STATES_MAX];
    assert_int_not_equal(cell_call(graph, cell, x, states, NULL, &output, after, &error), STATUS_OK);
    if (strstr(error.message, text) == NULL) {
        fail_msg("'%s' does not say '%s'", error.message, text);
    }
    assert_string_equal(error.type, "ValueError");
}

/* ---- numbers ---- */

static const float ones[] = {1, 1, 1, 1};
static const float tenths[] = {0.1f, 0.1f, 0.1f, 0.1f, 0.1f, 0.1f, 0.1f, 0.1f};

static void test_basic_rnn(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct variable_scope_frame root = open_constant(graph, "root", 0.5);
    struct output h = floats(graph, shape_matrix(1, 2), tenths);
    struct output output;
    struct output after;
    call(graph, plain(graph, CELL_BASIC_RNN, 2), floats(graph, shape_matrix(1, 2), ones), &h, &output, &after);
    variable_scope_leave(graph, &root);
    expect(graph, &output, 1, (const double[]){0.8004990218, 0.8004990218}, 1e-6);
    expect_variables(graph, (const char *[]){"root/basic_rnn_cell/kernel", "root/basic_rnn_cell/bias", NULL});
    graph_unref(graph);
}

static void test_multi_gru(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct variable_scope_frame root = open_constant(graph, "root", 0.5);
    uint32_t cell = multi(graph, plain(graph, CELL_GRU, 2), plain(graph, CELL_GRU, 2), true);
    struct output m = floats(graph, shape_matrix(1, 4), tenths);
    struct output output;
    struct output after;
    call(graph, cell, floats(graph, shape_matrix(1, 2), ones), &m, &output, &after);
    variable_scope_leave(graph, &root);
    expect(graph, &after, 1, (const double[]){0.175991, 0.175991, 0.13248, 0.13248}, 2e-6);
    expect_variables(graph, (const char *[]){"root/multi_rnn_cell/cell_0/gru_cell/gates/kernel",
                                             "root/multi_rnn_cell/cell_0/gru_cell/gates/bias",
                                             "root/multi_rnn_cell/cell_0/gru_cell/candidate/kernel",
                                             "root/multi_rnn_cell/cell_0/gru_cell/candidate/bias",
                                             "root/multi_rnn_cell/cell_1/gru_cell/gates/kernel",
                                             "root/multi_rnn_cell/cell_1/gru_cell/gates/bias",
                                             "root/multi_rnn_cell/cell_1/gru_cell/candidate/kernel",
                                             "root/multi_rnn_cell/cell_1/gru_cell/candidate/bias", NULL});
    graph_unref(graph);
}

static void test_multi_basic_lstm_of_matrices(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct cell_options lstm = {.kind = CELL_BASIC_LSTM, .units = 2, .is_state_matrix = true};
    struct variable_scope_frame root = open_constant(graph, "root", 0.5);
    uint32_t cell = multi(graph, make(graph, &lstm), make(graph, &lstm), true);
    struct output m = floats(graph, shape_matrix(1, 8), tenths);
    struct output fetches[2];
    assert_int_equal(cell_state_count(graph, cell), 1);
    assert_int_equal(cell_state_size(graph, cell, 0), 8);
    assert_int_equal(cell_output_size(graph, cell), 2);
    call(graph, cell, floats(graph, shape_matrix(1, 2), ones), &m, &fetches[0], &fetches[1]);
    variable_scope_leave(graph, &root);
    expect(graph, fetches, 2,
           (const double[]){0.24024698, 0.24024698, 0.68967271, 0.68967271, 0.44848421, 0.44848421, 0.39897051,
                            0.39897051, 0.24024698, 0.24024698},
           2e-6);
    graph_unref(graph);
}

static void test_gate_order(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    const float x[] = {2};
    const float c[] = {0.5f};
    const float h[] = {0.25f};
    const float kernel[] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 0.8f};
    const float bias[] = {0.01f, 0.02f, 0.03f, 0.04f};
    struct output before[] = {floats(graph, shape_matrix(1, 1), c), floats(graph, shape_matrix(1, 1), h)};
    struct output fetches[3];
    call(graph, plain(graph, CELL_BASIC_LSTM, 1), floats(graph, shape_matrix(1, 1), x), before, &fetches[0],
         fetches + 1);
    expect_after(graph, (const struct assignment[]){{"basic_lstm_cell/kernel", kernel}, {"basic_lstm_cell/bias", bias}},
                 2, fetches, 3, (const double[]){0.4602704895, 0.7298200555, 0.4602704895}, 1e-6);
    graph_unref(graph);
}

static void test_peepholes(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    const float x[] = {2};
    const float c[] = {0.5f};
    const float h[] = {0.25f};
    const float kernel[] = {0.1f, -0.2f, 0.3f, 0.4f, 0.5f, 0.6f, -0.7f, 0.8f};
    const float bias[] = {0.01f, 0.02f, 0.03f, 0.04f};
    const float f_diag[] = {0.3f};
    const float i_diag[] = {-0.4f};
    const float o_diag[] = {0.6f};
    struct output before[] = {floats(graph, shape_matrix(1, 1), c), floats(graph, shape_matrix(1, 1), h)};
    struct output fetches[3];
    uint32_t cell = make(graph, &(struct cell_options){.kind = CELL_LSTM, .units = 1, .has_peepholes = true});
    call(graph, cell, floats(graph, shape_matrix(1, 1), x), before, &fetches[0], fetches + 1);
    const struct assignment assignments[] = {{"lstm_cell/kernel", kernel},
                                             {"lstm_cell/bias", bias},
                                             {"lstm_cell/w_f_diag", f_diag},
                                             {"lstm_cell/w_i_diag", i_diag},
                                             {"lstm_cell/w_o_diag", o_diag}};
    expect_after(graph, assignments, 5, fetches, 2, (const double[]){0.2217592504, 0.2957269538}, 1e-6);
    graph_unref(graph);
}

static void test_gru(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    const float x[] = {2};
    const float h[] = {0.5f};
    const float gates[] = {0.1f, -0.4f, 0.7f, 0.2f};
    const float candidate[] = {0.6f, -0.9f};
    struct output before = floats(graph, shape_matrix(1, 1), h);
    struct output output;
    struct output after;
    call(graph, plain(graph, CELL_GRU, 1), floats(graph, shape_matrix(1, 1), x), &before, &output, &after);
    expect_after(
        graph, (const struct assignment[]){{"gru_cell/gates/kernel", gates}, {"gru_cell/candidate/kernel", candidate}},
        2, &output, 1, (const double[]){0.5765259273}, 1e-6);
    graph_unref(graph);
}

static void test_residual(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    const struct initializer half = {.kind = INITIALIZER_CONSTANT, .low = 0.5};
    uint32_t cell = make(
        graph, &(struct cell_options){.kind = CELL_GRU, .units = 3, .initializer = half, .bias_initializer = half});
    uint32_t wrapper =
        make(graph, &(struct cell_options){.kind = CELL_RESIDUAL_WRAPPER, .children = {cell}, .child_count = 1});
    struct output x = floats(graph, shape_matrix(1, 3), ones);
    struct output m = floats(graph, shape_matrix(1, 3), tenths);
    struct output fetches[4];
    call(graph, cell, x, &m, &fetches[0], &fetches[1]);
    call(graph, wrapper, x, &m, &fetches[2], &fetches[3]);
    const double h = 0.1910171674;
    expect(graph, fetches, 4, (const double[]){h, h, h, h, h, h, h + 1, h + 1, h + 1, h, h, h}, 1e-6);
    assert_int_equal(graph_variable_count(graph), 4);
    graph_unref(graph);
}

/* ---- over time ---- */

struct over_time {
    const int32_t *lengths;
    bool has_initial_state;
    const double *wanted; /* outputs, c, h */
};

static void check_over_time(const struct over_time *test)
{
    struct error error;
    struct graph *graph = new_graph();
    const float x[] = {1, -1, 0.5f, 0.2f, 0.4f, 0.6f};
    const float kernel[] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 0.8f};
    const float bias[] = {0, 0.1f, 0.2f, -0.1f};
    const float c[] = {1, -1};
    const float h[] = {0.5f, 0};
    struct output initial[] = {floats(graph, shape_matrix(2, 1), c), floats(graph, shape_matrix(2, 1), h)};
    struct recurrence_options options = {.inputs = floats(graph, shape_cube(2, 3, 1), x),
                                         .initial_states = test->has_initial_state ? initial : NULL,
                                         .has_dtype = true,
                                         .dtype = DTYPE_FLOAT32};
    struct network lengths = {.graph = graph};
    if (test->lengths != NULL) {
        options.sequence_length = network_lengths(&lengths, test->lengths, 2);
    }
    struct output fetches[3];
    must(dynamic_rnn(graph, plain(graph, CELL_BASIC_LSTM, 1), &options, &fetches[0], fetches + 1, &error), &error);
    const struct assignment assignments[] = {{"rnn/basic_lstm_cell/kernel", kernel},
                                             {"rnn/basic_lstm_cell/bias", bias}};
    expect_after(graph, assignments, 2, fetches, test->has_initial_state ? 2 : 3, test->wanted, 1e-6);
    graph_unref(graph);
}

static void test_dynamic_rnn(void **state)
{
    (void)state;
    const int32_t lengths[] = {1, 3};
    check_over_time(&(struct over_time){
        .wanted = (const double[]){0.08717269495, 0.03437813172, 0.09573949284, 0.03471256432, 0.08160270917,
                                   0.1428905754, 0.1820014225, 0.2653183052, 0.09573949284, 0.1428905754}});
    check_over_time(
        &(struct over_time){.lengths = lengths,
                            .wanted = (const double[]){0.08717269495, 0, 0, 0.03471256432, 0.08160270917, 0.1428905754,
                                                       0.1529330586, 0.2653183052, 0.08717269495, 0.1428905754}});
    check_over_time(
        &(struct over_time){.has_initial_state = true,
                            .wanted = (const double[]){0.5527180131, 0.3791918892, 0.4798320423, -0.3019075436,
                                                       -0.2219247141, -0.1737135705, 1.099713978, -0.3700920858}});
}

/* keep_prob 1e-6 stands for "drop everything". */
static void check_dropout(bool is_of_state, const double *wanted)
{
    struct error error;
    struct graph *graph = new_graph();
    const float x[] = {2, 2, 2, 1, 1, 1};
    float keep = 1e-6f;
    struct cell_options lstm = {
        .kind = CELL_LSTM, .units = 3, .initializer = {.kind = INITIALIZER_CONSTANT, .low = 0.5}};
    struct cell_options wrapper = {.kind = CELL_DROPOUT_WRAPPER, .children = {make(graph, &lstm)}, .child_count = 1};
    struct output tensor = rig_constant(graph, &(struct tensor){DTYPE_FLOAT32, shape_scalar(), &keep});
    *(is_of_state ? &wrapper.state_keep : &wrapper.output_keep) = tensor;
    *(is_of_state ? &wrapper.state_keep_value : &wrapper.output_keep_value) = (double)keep;
    struct output initial[] = {floats(graph, shape_matrix(1, 3), tenths), floats(graph, shape_matrix(1, 3), tenths)};
    struct recurrence_options options = {
        .inputs = floats(graph, shape_cube(2, 1, 3), x), .is_time_major = true, .initial_states = initial};
    struct output fetches[3];
    must(dynamic_rnn(graph, make(graph, &wrapper), &options, &fetches[0], fetches + 1, &error), &error);
    expect(graph, fetches + (is_of_state ? 1 : 0), is_of_state ? 2 : 3, wanted, 2e-6);
    graph_unref(graph);
}

static void test_dropout_wrapper(void **state)
{
    (void)state;
    check_dropout(false,
                  (const double[]){0, 0, 0, 0, 0, 0, 1.949385, 1.949385, 1.949385, 0.895509, 0.895509, 0.895509});
    check_dropout(true, (const double[]){1.713925, 1.713925, 1.713925, 0, 0, 0});
}

/* ---- names and scopes ---- */

static void expect_nodes(const struct graph *graph, const char *const *names)
{
    for (size_t i = 0; names[i] != NULL; i++) {
        if (graph_find_node(graph, names[i]) == NULL) {
            fail_msg("there is no node %s", names[i]);
        }
    }
}

static void test_node_names(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    uint32_t cell = plain(graph, CELL_BASIC_LSTM, 2);
    struct output zeros[2];
    struct output output;
    struct output after[2];
    must(cell_zero_state(graph, cell, (struct output){NULL, 0}, 1, DTYPE_FLOAT32, zeros, &error), &error);
    call(graph, cell, floats(graph, shape_matrix(1, 2), ones), zeros, &output, after);
    call(graph, cell, floats(graph, shape_matrix(1, 2), ones), zeros, &output, after);
    expect_nodes(
        graph,
        (const char *[]){"BasicLSTMCellZeroState/zeros", "BasicLSTMCellZeroState/zeros_1", "basic_lstm_cell/Const",
                         "basic_lstm_cell/concat/axis",  "basic_lstm_cell/concat",         "basic_lstm_cell/MatMul",
                         "basic_lstm_cell/BiasAdd",      "basic_lstm_cell/split",          "basic_lstm_cell/Const_2",
                         "basic_lstm_cell/Add",          "basic_lstm_cell/Sigmoid",        "basic_lstm_cell/Mul",
                         "basic_lstm_cell/Sigmoid_1",    "basic_lstm_cell/Tanh",           "basic_lstm_cell/Mul_1",
                         "basic_lstm_cell/Add_1",        "basic_lstm_cell/Tanh_1",         "basic_lstm_cell/Sigmoid_2",
                         "basic_lstm_cell/Mul_2",        "basic_lstm_cell/MatMul_1",       NULL});
    graph_unref(graph);
}

static struct output placeholder(struct graph *graph, struct shape shape)
{
    return rig_placeholder(graph, DTYPE_FLOAT32, &shape);
}

static void test_dynamic_rnn_names(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    struct recurrence_options options = {
        .inputs = placeholder(graph, shape_cube(DIMENSION_UNKNOWN, 10, 20)), .has_dtype = true, .dtype = DTYPE_FLOAT32};
    struct output outputs;
    struct output states[4];
    uint32_t cell = multi(graph, plain(graph, CELL_LSTM, 4), plain(graph, CELL_LSTM, 5), false);
    must(dynamic_rnn(graph, cell, &options, &outputs, states, &error), &error);
    char name[OUTPUT_NAME_BYTES_MAX];
    char shape[SHAPE_TEXT_BYTES_MAX];
    assert_string_equal(output_name(outputs, name), "rnn/transpose_1:0");
    assert_string_equal(shape_text(&output_type(outputs)->shape, shape), "(?, 10, 5)");
    assert_string_equal(output_name(states[0], name), "rnn/while/Exit_3:0");
    assert_string_equal(output_name(states[3], name), "rnn/while/Exit_6:0");
    expect_nodes(graph, (const char *[]){"rnn/transpose", "rnn/TensorArrayStack/TensorArrayGatherV3",
                                         "rnn/MultiRNNCellZeroState/LSTMCellZeroState/zeros",
                                         "rnn/MultiRNNCellZeroState/LSTMCellZeroState_1/zeros_1", NULL});
    expect_variables(graph, (const char *[]){"rnn/multi_rnn_cell/cell_0/lstm_cell/kernel",
                                             "rnn/multi_rnn_cell/cell_0/lstm_cell/bias",
                                             "rnn/multi_rnn_cell/cell_1/lstm_cell/kernel",
                                             "rnn/multi_rnn_cell/cell_1/lstm_cell/bias", NULL});
    struct output inner;
    const char *matmul = "rnn/while/rnn/multi_rnn_cell/cell_0/lstm_cell/MatMul:0";
    assert_int_not_equal(graph_find_output(graph, matmul, &inner, &error), STATUS_OK);
    assert_non_null(strstr(error.message, "has been marked as not fetchable."));
    graph_unref(graph);
}

/* A built cell keeps its variables wherever it is called again; another cell of the same name gets its own. */
static void test_scopes(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    uint32_t a = plain(graph, CELL_BASIC_LSTM, 2);
    uint32_t b = plain(graph, CELL_BASIC_LSTM, 2);
    struct output x = floats(graph, shape_matrix(1, 2), ones);
    struct output z[2];
    struct output output;
    struct output after[2];
    must(cell_zero_state(graph, a, (struct output){NULL, 0}, 1, DTYPE_FLOAT32, z, &error), &error);
    call(graph, a, x, z, &output, after);
    call(graph, b, x, z, &output, after);
    struct variable_scope_frame elsewhere = open_scope(graph, "elsewhere", REUSE_TRUE);
    call(graph, a, x, z, &output, after);
    assert_string_equal(output.node->name, "basic_lstm_cell/Mul_5");
    variable_scope_leave(graph, &elsewhere);
    uint32_t c = plain(graph, CELL_BASIC_LSTM, 2);
    struct variable_scope_options foo = {.name = "foo"};
    must(cell_call(graph, c, x, z, &foo, &output, after, &error), &error);
    expect_variables(graph,
                     (const char *[]){"basic_lstm_cell/kernel", "basic_lstm_cell/bias", "basic_lstm_cell_1/kernel",
                                      "basic_lstm_cell_1/bias", "foo/kernel", "foo/bias", NULL});
    const struct variable *variables[4];
    assert_int_equal(cell_variables(graph, b, 4, variables), 2);
    assert_string_equal(variables[0]->node->name, "basic_lstm_cell_1/kernel");
    graph_unref(graph);
}

/* An LSTM with peepholes and a projection over static steps: its variables' order; shared by the same cell. */
static void test_static_rnn_shares(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    struct cell_options lstm = {
        .kind = CELL_LSTM, .units = 3, .has_peepholes = true, .projection = 4, .is_state_matrix = true};
    uint32_t cell = make(graph, &lstm);
    struct output x = placeholder(graph, shape_matrix(DIMENSION_UNKNOWN, 5));
    struct output inputs[] = {x, x};
    struct output outputs[2];
    struct output states[1];
    struct recurrence_options options = {.has_dtype = true, .dtype = DTYPE_FLOAT32};
    for (int again = 0; again < 2; again++) {
        struct variable_scope_frame frame = open_scope(graph, "share", again == 1 ? REUSE_TRUE : REUSE_INHERIT);
        must(static_rnn(graph, cell, inputs, 2, &options, outputs, states, &error), &error);
        variable_scope_leave(graph, &frame);
    }
    assert_int_equal(cell_state_size(graph, cell, 0), 7);
    expect_variables(graph,
                     (const char *[]){"share/rnn/lstm_cell/kernel", "share/rnn/lstm_cell/bias",
                                      "share/rnn/lstm_cell/w_f_diag", "share/rnn/lstm_cell/w_i_diag",
                                      "share/rnn/lstm_cell/w_o_diag", "share/rnn/lstm_cell/projection/kernel", NULL});
    graph_unref(graph);
}

static void test_bidirectional_names(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    struct recurrence_options options = {
        .inputs = placeholder(graph, shape_cube(2, 8, 5)), .has_dtype = true, .dtype = DTYPE_FLOAT32};
    struct output outputs[2];
    struct output forward[2];
    struct output backward[2];
    must(bidirectional_dynamic_rnn(graph, plain(graph, CELL_BASIC_LSTM, 3), plain(graph, CELL_GRU, 4), &options, NULL,
                                   outputs, forward, backward, &error),
         &error);
    char shape[SHAPE_TEXT_BYTES_MAX];
    assert_string_equal(shape_text(&output_type(outputs[0])->shape, shape), "(2, 8, 3)");
    assert_string_equal(shape_text(&output_type(outputs[1])->shape, shape), "(2, 8, 4)");
    assert_string_equal(graph_variable(graph, 0)->node->name, "bidirectional_rnn/fw/basic_lstm_cell/kernel");
    assert_string_equal(graph_variable(graph, 2)->node->name, "bidirectional_rnn/bw/gru_cell/gates/kernel");
    graph_unref(graph);
}

/* ---- what is refused ---- */

static void test_cell_refusals(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    uint32_t cell = 0;
    float two = 2;
    struct output keep = rig_constant(graph, &(struct tensor){DTYPE_FLOAT32, shape_scalar(), &two});
    struct cell_options whole = {.kind = CELL_BASIC_LSTM, .units = 2, .has_dtype = true, .dtype = DTYPE_INT32};
    struct cell_options empty = {.kind = CELL_MULTI};
    struct cell_options matrix = {.kind = CELL_MULTI, .child_count = 1, .is_state_matrix = true};
    struct cell_options often = {
        .kind = CELL_DROPOUT_WRAPPER, .child_count = 1, .input_keep = keep, .input_keep_value = 2};
    matrix.children[0] = plain(graph, CELL_BASIC_LSTM, 2);
    often.children[0] = matrix.children[0];
    assert_int_not_equal(cell_create(graph, &whole, &cell, &error), STATUS_OK);
    assert_string_equal(error.message, "RNN cell only supports floating point inputs, but saw dtype: <dtype: 'int32'>");
    assert_int_not_equal(cell_create(graph, &empty, &cell, &error), STATUS_OK);
    assert_string_equal(error.message, "Must specify at least one cell for MultiRNNCell.");
    assert_int_not_equal(cell_create(graph, &matrix, &cell, &error), STATUS_OK);
    assert_string_equal(error.message, "Some cells return tuples of states, but the flag state_is_tuple is not set.  "
                                       "State sizes are: [LSTMStateTuple(c=2, h=2)]");
    assert_int_not_equal(cell_create(graph, &often, &cell, &error), STATUS_OK);
    assert_string_equal(error.message, "Parameter input_keep_prob must be between 0 and 1: 2");
    graph_unref(graph);
}

static void test_call_refusals(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct output output;
    struct output after[2];
    struct output z[] = {floats(graph, shape_matrix(1, 2), tenths), floats(graph, shape_matrix(1, 2), tenths)};
    expect_call_refused(
        graph, plain(graph, CELL_BASIC_LSTM, 2), placeholder(graph, shape_cube(1, 2, 3)), z,
        "Input 0 of layer basic_lstm_cell is incompatible with the layer: expected ndim=2, found ndim=3. "
        "Full shape received: [1, 2, 3]");
    expect_call_refused(graph, plain(graph, CELL_BASIC_LSTM, 2),
                        placeholder(graph, shape_matrix(DIMENSION_UNKNOWN, DIMENSION_UNKNOWN)), z,
                        "Expected inputs.shape[-1] to be known, saw shape: (None, None)");
    uint32_t cell = plain(graph, CELL_BASIC_LSTM, 2);
    call(graph, cell, placeholder(graph, shape_matrix(1, 3)), z, &output, after);
    expect_call_refused(graph, cell, placeholder(graph, shape_matrix(1, 4)), z,
                        "Dimensions must be equal, but are 6 and 5 for ");
    expect_call_refused(graph, cell, placeholder(graph, shape_matrix(3, 3)), z,
                        "Dimension 0 in both shapes must be equal");
    graph_unref(graph);
}

static void expect_rnn_refused(struct graph *graph, const struct recurrence_options *options, const char *message)
{
    struct error error;
    struct output outputs;
    struct output states[2];
    uint32_t cell = plain(graph, CELL_BASIC_LSTM, 4);
    assert_int_not_equal(dynamic_rnn(graph, cell, options, &outputs, states, &error), STATUS_OK);
    assert_string_equal(error.message, message);
    assert_string_equal(error.type, "ValueError");
}

static void test_rnn_refusals(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct output x = placeholder(graph, shape_cube(DIMENSION_UNKNOWN, 10, 20));
    int32_t four = 4;
    struct output lengths = rig_constant(graph, &(struct tensor){DTYPE_INT32, shape_matrix(1, 1), &four});
    struct recurrence_options options = {.inputs = x};
    expect_rnn_refused(graph, &options, "If there is no initial_state, you must give a dtype.");
    options = (struct recurrence_options){
        .inputs = placeholder(graph, shape_matrix(DIMENSION_UNKNOWN, 10)), .has_dtype = true, .dtype = DTYPE_FLOAT32};
    expect_rnn_refused(graph, &options, "Shape (10, ?) must have rank at least 3");
    options.inputs = placeholder(graph, shape_cube(2, 3, DIMENSION_UNKNOWN));
    expect_rnn_refused(graph, &options,
                       "Input size (depth of inputs) must be accessible via shape inference, but saw value None.");
    options.inputs = x;
    options.sequence_length = lengths;
    expect_rnn_refused(graph, &options, "sequence_length must be a vector of length batch_size, but saw shape: (1, 1)");
    struct error error;
    struct output none;
    assert_int_not_equal(static_rnn(graph, plain(graph, CELL_GRU, 2), &x, 0, &options, &none, &none, &error),
                         STATUS_OK);
    assert_string_equal(error.message, "inputs must not be empty");
    assert_string_equal(variable_scope_name(graph), "");
    assert_string_equal(graph_name_scope(graph), "");
    assert_false(graph_is_in_body(graph));
    graph_unref(graph);
}

/* Lengths of another number of rows are found when they are run. */
static void test_lengths_of_another_batch(void **state)
{
    (void)state;
    struct error error;
    struct network network;
    struct output outputs;
    struct output states[1];
    network_create(&network, DTYPE_FLOAT32);
    struct recurrence_options options = {.inputs = network_variable(&network, "x", shape_cube(2, 3, 4)),
                                         .sequence_length = network_lengths(&network, (const int32_t[]){1, 2, 3}, 3),
                                         .has_dtype = true,
                                         .dtype = DTYPE_FLOAT32};
    must(dynamic_rnn(network.graph, plain(network.graph, CELL_GRU, 2), &options, &outputs, states, &error), &error);
    network_weigh(&network, states[0]);
    network_finish(&network, 1);
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    struct tensor result;
    struct plan_options fetch = {.fetches = &outputs, .fetch_count = 1};
    struct run_options how = {.random_key = 3};
    must(plan_create(network.graph, &fetch, &plan, &error), &error);
    must(workspace_create(plan, &workspace, &error), &error);
    assert_int_not_equal(plan_run(plan, workspace, network.values, &how, &result, &error), STATUS_OK);
    assert_string_equal(error.type, "InvalidArgumentError");
    assert_non_null(strstr(error.message, "assertion failed: [Expected shape for Tensor rnn/sequence_length:0 is ] [2] "
                                          "[ but saw shape: ] [3]"));
    workspace_destroy(workspace);
    plan_unref(plan);
    network_release(&network);
}

/* ---- states as handles ---- */

static void test_state_handles(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    uint32_t cell = multi(graph, plain(graph, CELL_BASIC_LSTM, 2), plain(graph, CELL_GRU, 3), false);
    struct output states[] = {floats(graph, shape_matrix(1, 2), ones), floats(graph, shape_matrix(1, 2), tenths),
                              floats(graph, shape_matrix(1, 3), ones)};
    struct output again[3];
    struct handle handle;
    must(cell_pack_state(graph, cell, states, &handle, &error), &error);
    assert_int_equal(handle.count, 2);
    assert_string_equal(handle.items[0].names[1], "h");
    assert_true(output_equal(handle.items[0].items[1].output, states[1]));
    assert_true(output_equal(handle.items[1].output, states[2]));
    must(cell_unpack_state(graph, cell, &handle, again, &error), &error);
    assert_memory_equal(again, states, sizeof again);
    struct handle h_first[] = {handle_tensor(states[1]), handle_tensor(states[0])};
    const char *const names[] = {"h", "c"};
    struct handle parts[] = {{.kind = HANDLE_LIST, .count = 2, .items = h_first, .names = names},
                             handle_tensor(states[2])};
    struct handle by_name = {.kind = HANDLE_LIST, .count = 2, .items = parts};
    must(cell_unpack_state(graph, cell, &by_name, again, &error), &error);
    assert_memory_equal(again, states, sizeof again);
    struct handle tensor = handle_tensor(states[0]);
    assert_int_not_equal(cell_unpack_state(graph, cell, &tensor, again, &error), STATUS_OK);
    assert_string_equal(error.message, "Expected state to be a tuple of length 2, but received: Tensor(\"Const:0\", "
                                       "shape=(1, 2), dtype=float32)");
    graph_unref(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basic_rnn),
        cmocka_unit_test(test_multi_gru),
        cmocka_unit_test(test_multi_basic_lstm_of_matrices),
        cmocka_unit_test(test_gate_order),
        cmocka_unit_test(test_peepholes),
        cmocka_unit_test(test_gru),
        cmocka_unit_test(test_residual),
        cmocka_unit_test(test_dynamic_rnn),
        cmocka_unit_test(test_dropout_wrapper),
        cmocka_unit_test(test_node_names),
        cmocka_unit_test(test_dynamic_rnn_names),
        cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_static_rnn_shares),
        cmocka_unit_test(test_bidirectional_names),
        cmocka_unit_test(test_cell_refusals),
        cmocka_unit_test(test_call_refusals),
        cmocka_unit_test(test_rnn_refusals),
        cmocka_unit_test(test_lengths_of_another_batch),
        cmocka_unit_test(test_state_handles),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
