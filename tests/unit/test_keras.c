/* Keras layers: names and weights, the numbers of one step, loops, gradients, equivalence with BasicLSTMCell, and
 * Keras' refusals. */
#include "engine/math/gemm.h"
#include "engine/nn/cell.h"
#include "engine/nn/keras.h"
#include "engine/nn/recurrence.h"
#include "tests/unit/net_rig.h"

static uint32_t layer_of(struct graph *graph, struct keras_options options)
{
    struct error error;
    uint32_t layer = 0;
    must(keras_create(graph, &options, &layer, &error), &error);
    return layer;
}

static uint32_t sequential_of(struct graph *graph, const uint32_t *layers, size_t count)
{
    return layer_of(graph, (struct keras_options){.kind = KERAS_SEQUENTIAL, .children = layers, .child_count = count});
}

static struct output input_of(struct graph *graph, enum dtype dtype, struct shape shape)
{
    struct error error;
    struct tensor tensor;
    struct output output;
    must(tensor_init(&tensor, dtype, &shape, &error), &error);
    for (size_t i = 0; i < tensor_element_count(&tensor); i++) {
        tensor_set_number(&tensor, i, dtype_is_float(dtype) ? 2 * rng_uniform(4, 4, i) - 1 : (double)(i % 3));
    }
    must(graph_add_constant(graph, NULL, &tensor, &output, &error), &error);
    tensor_release(&tensor);
    return output;
}

static struct keras_result call_layer(struct graph *graph, uint32_t layer, struct output input)
{
    struct error error;
    struct keras_call call = {.input = input};
    struct keras_result result;
    must(keras_call(graph, layer, &call, &result, &error), &error);
    return result;
}

static void assert_weights(struct graph *graph, uint32_t layer, const char *const *names, size_t count)
{
    struct error error;
    static const struct variable *variables[KERAS_WEIGHTS_MAX];
    size_t found = 0;
    must(keras_weights(graph, layer, variables, &found, &error), &error);
    assert_int_equal(found, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(variables[i]->node->name, names[i]);
    }
}

static void assert_refused(enum status status, const struct error *error, const char *message)
{
    assert_int_not_equal(status, STATUS_OK);
    assert_string_equal(error->message, message);
    assert_string_equal(error->type, "ValueError");
}

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    struct keras_options dense = {.kind = KERAS_DENSE, .units = 3};
    struct keras_options named = {.kind = KERAS_DENSE, .units = 3, .name = "dense_1"};
    assert_string_equal(keras_layer_name(graph, layer_of(graph, dense)), "dense");
    assert_string_equal(keras_layer_name(graph, layer_of(graph, named)), "dense_1");
    assert_string_equal(keras_layer_name(graph, layer_of(graph, dense)), "dense_1");
    assert_string_equal(keras_layer_name(graph, layer_of(graph, dense)), "dense_2");
    uint32_t twice[] = {layer_of(graph, named), layer_of(graph, named)};
    struct keras_options model = {.kind = KERAS_SEQUENTIAL, .children = twice, .child_count = 2};
    uint32_t layer = 0;
    assert_refused(keras_create(graph, &model, &layer, &error), &error,
                   "The name \"dense_1\" is used 2 times in the model. All layer names should be unique.");
    graph_unref(graph);
}

/* A variable that has a layer's name already: Keras' own becomes kernel_1. */
static void test_variables_of_a_model(void **state)
{
    (void)state;
    static const char *const names[] = {"my_lstm/kernel_1", "my_lstm/recurrent_kernel", "my_lstm/bias", "dense/kernel",
                                        "dense/bias"};
    struct error error;
    struct graph *graph = new_graph();
    uint32_t layers[] = {
        layer_of(graph,
                 (struct keras_options){.kind = KERAS_LSTM, .units = 64, .name = "my_lstm", .returns_sequences = true}),
        layer_of(graph, (struct keras_options){.kind = KERAS_DENSE, .units = 10})};
    uint32_t model = sequential_of(graph, layers, 2);
    assert_string_equal(keras_layer_name(graph, model), "sequential");
    static const struct variable *variables[KERAS_WEIGHTS_MAX];
    size_t count = 9;
    assert_refused(
        keras_weights(graph, model, variables, &count, &error), &error,
        "Weights for model sequential have not yet been created. Weights are created when the Model is first "
        "called on inputs or `build()` is called with an `input_shape`.");
    must(keras_weights(graph, layers[0], variables, &count, &error), &error);
    assert_int_equal(count, 0);
    struct variable_options mine = {.name = "my_lstm/kernel",
                                    .shape = shape_matrix(3, 2),
                                    .has_shape = true,
                                    .initializer = {.kind = INITIALIZER_ZEROS}};
    const struct variable *variable = NULL;
    must(make_variable(graph, &mine, &variable, &error), &error);
    struct shape input = shape_cube(DIMENSION_UNKNOWN, 5, 8);
    must(keras_build(graph, model, &input, &error), &error);
    must(keras_build(graph, model, &input, &error), &error);
    assert_weights(graph, model, names, 5);
    assert_int_equal(graph_variable_count(graph), 6);
    must(keras_weights(graph, layers[0], variables, &count, &error), &error);
    struct shape kernel = shape_matrix(8, 256);
    assert_int_equal(count, 3);
    assert_true(shape_equal(&variables[0]->node->outputs[0].shape, &kernel));
    uint32_t found = 0;
    must(keras_get_layer(graph, model, "my_lstm", 0, &found, &error), &error);
    assert_int_equal(found, layers[0]);
    must(keras_get_layer(graph, model, NULL, -1, &found, &error), &error);
    assert_int_equal(found, layers[1]);
    assert_refused(keras_get_layer(graph, model, "nope", 0, &found, &error), &error, "No such layer: nope");
    assert_refused(keras_get_layer(graph, model, NULL, 2, &found, &error), &error,
                   "Was asked to retrieve layer at index 2 but model only has 2 layers.");
    assert_int_equal(keras_get_layer(graph, model, NULL, -3, &found, &error), STATUS_INVALID);
    assert_true(error_is(&error, EXCEPTION_INDEX));
    graph_unref(graph);
}

static void test_scopes_of_calls(void **state)
{
    (void)state;
    static const char *const called[] = {"sequential/dense/kernel", "sequential/dense/bias"};
    static const char *const first[] = {"lstm/kernel", "lstm/recurrent_kernel", "lstm/bias"};
    struct graph *graph = new_graph();
    uint32_t dense = layer_of(graph, (struct keras_options){.kind = KERAS_DENSE, .units = 2});
    uint32_t model = sequential_of(graph, &dense, 1);
    call_layer(graph, model, input_of(graph, DTYPE_FLOAT32, shape_matrix(2, 3)));
    assert_weights(graph, model, called, 2);
    struct keras_result again = call_layer(graph, model, input_of(graph, DTYPE_FLOAT32, shape_matrix(4, 3)));
    assert_string_equal(again.outputs[0].node->name, "sequential_1/dense/BiasAdd");
    assert_int_equal(graph_variable_count(graph), 2);
    uint32_t lstm = layer_of(graph, (struct keras_options){.kind = KERAS_LSTM,
                                                           .units = 4,
                                                           .has_input_shape = true,
                                                           .input_shape = shape_matrix(DIMENSION_UNKNOWN, 3)});
    uint32_t built = sequential_of(graph, &lstm, 1);
    struct output in;
    struct output out;
    assert_true(keras_model_tensors(graph, built, &in, &out));
    assert_string_equal(in.node->name, "lstm_input");
    struct shape shape = shape_matrix(DIMENSION_UNKNOWN, 4);
    assert_true(shape_equal(&output_type(out)->shape, &shape));
    assert_weights(graph, built, first, 3);
    graph_unref(graph);
}

static void test_set_weights_checks(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    uint32_t dense = layer_of(graph, (struct keras_options){.kind = KERAS_DENSE, .units = 4, .name = "x"});
    struct shape input = shape_matrix(DIMENSION_UNKNOWN, 3);
    must(keras_build(graph, dense, &input, &error), &error);
    struct tensor weights[] = {{DTYPE_FLOAT32, shape_matrix(3, 4), NULL}, {DTYPE_FLOAT32, shape_vector(4), NULL}};
    must(keras_check_weights(graph, dense, weights, 2, &error), &error);
    assert_refused(
        keras_check_weights(graph, dense, weights, 1, &error), &error,
        "You called `set_weights(weights)` on layer \"x\" with a  weight list of length 1, but the layer was "
        "expecting 2 weights. Provided weights: [array of shape (3, 4)...");
    weights[1].shape = shape_vector(5);
    assert_refused(keras_check_weights(graph, dense, weights, 2, &error), &error,
                   "Layer weight shape (4,) not compatible with provided weight shape (5,)");
    graph_unref(graph);
}

/* ---- numbers ---- */

static void set_variable(struct net *net, const struct variable *variable, const double *numbers)
{
    struct tensor *tensor = values_tensor(net->values, variable);
    for (size_t i = 0; i < tensor_element_count(tensor); i++) {
        tensor_set_number(tensor, i, numbers[i]);
    }
}

/* Takes all the graph's variables and initialises them. */
static void take_variables(struct net *net)
{
    struct error error;
    net->count = graph_variable_count(net->graph);
    assert_true(net->count <= VARIABLES_MAX);
    for (size_t i = 0; i < net->count; i++) {
        net->variables[i] = graph_variable(net->graph, i);
    }
    must(values_create(net->graph, &net->values, &error), &error);
    must(values_initialize(net->values, net->graph, 5, &error), &error);
}

static void assert_value(struct net *net, struct output output, const double *expected, size_t count, double tolerance)
{
    struct error error;
    struct tensor result;
    must(try_run(net->graph, net->values, output, 3, &result, &error), &error);
    assert_int_equal(tensor_element_count(&result), count);
    for (size_t i = 0; i < count; i++) {
        if (!(fabs(tensor_number(&result, i) - expected[i]) <= tolerance)) {
            fail_msg("%s, element %zu: %.12g instead of %.12g", output.node->name, i, tensor_number(&result, i),
                     expected[i]);
        }
    }
    tensor_release(&result);
}

/* Source: the same numbers as TensorFlow's BasicLSTMCell with the columns in Keras' order. */
static void test_lstm_step(void **state)
{
    (void)state;
    const double kernel[] = {0.1, 0.3, 0.2, 0.4};
    const double recurrent[] = {0.5, 0.7, 0.6, 0.8};
    const double bias[] = {0.01, 1.03, 0.02, 0.04};
    const double x[] = {2};
    const double h[] = {0.25};
    const double c[] = {0.5};
    const double next_h[] = {0.4602704895};
    const double next_c[] = {0.7298200555};
    struct error error;
    struct net net = new_net();
    uint32_t lstm = layer_of(net.graph, (struct keras_options){.kind = KERAS_LSTM,
                                                               .units = 1,
                                                               .has_dtype = true,
                                                               .dtype = DTYPE_FLOAT64,
                                                               .recurrent_activation = "sigmoid"});
    struct shape input = shape_cube(1, 1, 1);
    must(keras_build(net.graph, lstm, &input, &error), &error);
    struct output states[] = {constant_of(net.graph, DTYPE_FLOAT64, 1, 1, h),
                              constant_of(net.graph, DTYPE_FLOAT64, 1, 1, c)};
    struct output next[2];
    assert_int_equal(keras_state_count(net.graph, lstm), 2);
    must(keras_step(net.graph, lstm, constant_of(net.graph, DTYPE_FLOAT64, 1, 1, x), states, next, &error), &error);
    take_variables(&net);
    set_variable(&net, net.variables[0], kernel);
    set_variable(&net, net.variables[1], recurrent);
    set_variable(&net, net.variables[2], bias);
    assert_value(&net, next[0], next_h, 1, 1e-10);
    assert_value(&net, next[1], next_c, 1, 1e-10);
    drop_net(&net);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double hard_sigmoid(double x)
{
    return fmin(fmax(0.2 * x + 0.5, 0), 1);
}

/* GRU and SimpleRNN of one unit over two steps, worked out here. */
static void test_gru_steps(void **state)
{
    (void)state;
    const double kernel[] = {0.4, -0.3, 0.7};
    const double recurrent[] = {0.2, 0.9, -0.6};
    const double bias[] = {0.1, -0.2, 0.3, 0.05, 0.15, -0.4};
    const double x[] = {1.5, -0.5};
    for (int form = 0; form < 4; form++) {
        bool resets_after = form % 2 == 1;
        bool is_hard = form < 2;
        struct error error;
        struct net net = new_net();
        uint32_t gru = layer_of(net.graph, (struct keras_options){.kind = KERAS_GRU,
                                                                  .units = 1,
                                                                  .has_dtype = true,
                                                                  .dtype = DTYPE_FLOAT64,
                                                                  .recurrent_activation = is_hard ? NULL : "sigmoid",
                                                                  .resets_after = resets_after,
                                                                  .returns_sequences = true});
        struct tensor tensor = {DTYPE_FLOAT64, shape_cube(1, 2, 1), (void *)(uintptr_t)x};
        struct output input;
        must(graph_add_constant(net.graph, NULL, &tensor, &input, &error), &error);
        struct output output = call_layer(net.graph, gru, input).outputs[0];
        double h = 0;
        double expected[2];
        double (*gate)(double) = is_hard ? hard_sigmoid : sigmoid;
        for (int t = 0; t < 2; t++) {
            const double *inner = resets_after ? bias + 3 : (const double[]){0, 0, 0};
            double z = gate(x[t] * kernel[0] + bias[0] + h * recurrent[0] + inner[0]);
            double r = gate(x[t] * kernel[1] + bias[1] + h * recurrent[1] + inner[1]);
            double from_h = resets_after ? r * (h * recurrent[2] + inner[2]) : r * h * recurrent[2];
            double candidate = tanh(x[t] * kernel[2] + bias[2] + from_h);
            h = z * h + (1 - z) * candidate;
            expected[t] = h;
        }
        take_variables(&net);
        assert_int_equal(net.count, 3);
        set_variable(&net, net.variables[0], kernel);
        set_variable(&net, net.variables[1], recurrent);
        set_variable(&net, net.variables[2], bias);
        assert_value(&net, output, expected, 2, 1e-12);
        drop_net(&net);
    }
}

static void assert_same(struct net *net, struct output output, struct output other)
{
    struct error error;
    struct tensor result;
    must(try_run(net->graph, net->values, other, 3, &result, &error), &error);
    assert_value(net, output, result.data, tensor_element_count(&result), 1e-12);
    tensor_release(&result);
}

/* Calls a float64 layer of one unit on these steps, which begin with states of 0.25. */
static struct keras_result call_steps(struct graph *graph, uint32_t layer, const double *x, const bool *mask,
                                      int64_t steps)
{
    struct error error;
    struct tensor tensor = {DTYPE_FLOAT64, shape_cube(1, steps, 1), (void *)(uintptr_t)x};
    struct tensor mask_tensor = {DTYPE_BOOL, shape_matrix(1, steps), (void *)(uintptr_t)mask};
    struct output states[] = {constant_of(graph, DTYPE_FLOAT64, 1, 1, (const double[]){0.25}),
                              constant_of(graph, DTYPE_FLOAT64, 1, 1, (const double[]){0.25})};
    struct keras_call call = {.initial_states = states, .initial_state_count = keras_state_count(graph, layer)};
    struct keras_result result;
    must(graph_add_constant(graph, NULL, &tensor, &call.input, &error), &error);
    if (mask != NULL) {
        must(graph_add_constant(graph, NULL, &mask_tensor, &call.mask, &error), &error);
    }
    must(keras_call(graph, layer, &call, &result, &error), &error);
    return result;
}

/* Masked steps change nothing: the others are as if the masked ones had not been there; outputs before the first are
 * zeros, whatever state it began with. Forwards and backwards, of every kind. */
static void test_masks(void **state)
{
    (void)state;
    static const enum keras_kind kinds[] = {KERAS_LSTM, KERAS_GRU, KERAS_SIMPLE_RNN};
    enum { STEPS = 4, KEPT = 2 };
    const double x[STEPS] = {0.7, 1.5, -0.3, -0.5};
    const double kept_x[KEPT] = {1.5, -0.5};
    const bool mask[STEPS] = {false, true, false, true};
    for (size_t form = 0; form < 2 * sizeof kinds / sizeof *kinds; form++) {
        bool goes_backwards = form % 2 == 1;
        struct error error;
        struct net net = new_net();
        struct tensor kept;
        uint32_t layer = layer_of(net.graph, (struct keras_options){.kind = kinds[form / 2],
                                                                    .units = 1,
                                                                    .has_dtype = true,
                                                                    .dtype = DTYPE_FLOAT64,
                                                                    .goes_backwards = goes_backwards,
                                                                    .returns_state = true,
                                                                    .returns_sequences = true});
        struct keras_result masked = call_steps(net.graph, layer, x, mask, STEPS);
        struct keras_result plain = call_steps(net.graph, layer, kept_x, NULL, KEPT);
        take_variables(&net);
        must(try_run(net.graph, net.values, plain.outputs[0], 3, &kept, &error), &error);
        const double *y = kept.data;
        const double expected[2][STEPS] = {{0, y[0], y[0], y[1]}, {y[0], y[0], y[1], y[1]}};
        assert_true(fabs(y[0] - y[1]) > 1e-3);
        assert_value(&net, masked.outputs[0], expected[goes_backwards ? 1 : 0], STEPS, 1e-12);
        for (size_t k = 1; k < plain.output_count; k++) {
            assert_same(&net, masked.outputs[k], plain.outputs[k]);
        }
        tensor_release(&kept);
        drop_net(&net);
    }
}

static void test_gradients_through_masks(void **state)
{
    (void)state;
    const double x[] = {0.7, 1.5, -0.3};
    const bool mask[] = {false, true, false};
    struct net net = new_net();
    uint32_t layer = layer_of(net.graph, (struct keras_options){.kind = KERAS_LSTM,
                                                                .units = 1,
                                                                .has_dtype = true,
                                                                .dtype = DTYPE_FLOAT64,
                                                                .recurrent_activation = "sigmoid",
                                                                .returns_sequences = true});
    struct output y = call_steps(net.graph, layer, x, mask, 3).outputs[0];
    for (; net.count < graph_variable_count(net.graph); net.count++) {
        net.variables[net.count] = graph_variable(net.graph, net.count);
    }
    check_gradients(&net, y, -0.5, 0.5, 1);
    drop_net(&net);
}

/* Keras' weights made of BasicLSTMCell's: columns i|j|f|o become i|f|j|o, rows are divided, forget_bias goes into the
 * bias; then both give the same numbers. */
static void test_equals_basic_lstm_cell(void **state)
{
    (void)state;
    enum { BATCH = 3, TIME = 4, DEPTH = 2, UNITS = 3 };
    static const size_t block_of[] = {0, 2, 1, 3};
    struct error error;
    struct net net = new_net();
    struct output x = input_of(net.graph, DTYPE_FLOAT64, shape_cube(BATCH, TIME, DEPTH));
    uint32_t lstm = layer_of(net.graph, (struct keras_options){.kind = KERAS_LSTM,
                                                               .units = UNITS,
                                                               .has_dtype = true,
                                                               .dtype = DTYPE_FLOAT64,
                                                               .recurrent_activation = "sigmoid",
                                                               .returns_sequences = true,
                                                               .returns_state = true});
    struct keras_result keras = call_layer(net.graph, lstm, x);
    assert_int_equal(keras.output_count, 3);
    struct cell_options options = {.kind = CELL_BASIC_LSTM, .units = UNITS, .has_dtype = true, .dtype = DTYPE_FLOAT64};
    struct recurrence_options how = {.inputs = x, .has_dtype = true, .dtype = DTYPE_FLOAT64};
    uint32_t cell = 0;
    struct output outputs;
    struct output states[2];
    must(cell_create(net.graph, &options, &cell, &error), &error);
    must(dynamic_rnn(net.graph, cell, &how, &outputs, states, &error), &error);
    take_variables(&net);
    assert_int_equal(net.count, 5);
    struct tensor *kernel = values_tensor(net.values, net.variables[3]);
    struct tensor *bias = values_tensor(net.values, net.variables[4]);
    for (size_t row = 0; row <= DEPTH + UNITS; row++) {
        bool is_bias = row == DEPTH + UNITS;
        struct tensor *to = values_tensor(net.values, net.variables[is_bias ? 2 : row < DEPTH ? 0 : 1]);
        size_t to_row = is_bias ? 0 : row < DEPTH ? row : row - DEPTH;
        for (size_t column = 0; column < 4 * UNITS; column++) {
            size_t block = block_of[column / UNITS];
            size_t from = block * UNITS + column % UNITS;
            if (is_bias) {
                tensor_set_number(bias, from, 0.3 * (double)from - 1);
                tensor_set_number(to, column, tensor_number(bias, from) + (block == 2 ? 1 : 0));
            } else {
                tensor_set_number(to, to_row * 4 * UNITS + column, tensor_number(kernel, row * 4 * UNITS + from));
            }
        }
    }
    const struct output theirs[] = {outputs, states[1], states[0]}; /* their state is c, h; Keras' is h, c */
    for (size_t i = 0; i < 3; i++) {
        struct tensor expected;
        must(try_run(net.graph, net.values, theirs[i], 3, &expected, &error), &error);
        assert_value(&net, keras.outputs[i], expected.data, tensor_element_count(&expected), 1e-12);
        tensor_release(&expected);
    }
    drop_net(&net);
}

static void test_initial_bias(void **state)
{
    (void)state;
    const double bias[] = {0, 0, 1, 1, 0, 0, 0, 0};
    struct error error;
    struct net net = new_net();
    uint32_t lstm = layer_of(net.graph, (struct keras_options){.kind = KERAS_LSTM, .units = 2});
    struct shape input = shape_cube(1, 1, 3);
    must(keras_build(net.graph, lstm, &input, &error), &error);
    take_variables(&net);
    assert_value(&net, net.variables[2]->read, bias, 8, 0);
    struct tensor *recurrent = values_tensor(net.values, net.variables[1]);
    double dot = 0;
    double norm = 0;
    for (size_t i = 0; i < 8; i++) { /* orthogonal rows */
        dot += tensor_number(recurrent, i) * tensor_number(recurrent, 8 + i);
        norm += tensor_number(recurrent, i) * tensor_number(recurrent, i);
    }
    assert_true(fabs(dot) < 1e-6 && fabs(norm - 1) < 1e-6);
    drop_net(&net);
}

/* ---- gradients of everything ---- */

static void check_layer(struct keras_options options, const uint32_t *children, size_t child_count, struct net *net,
                        struct shape input)
{
    if (net->graph == NULL) {
        *net = new_net();
    }
    options.children = children;
    options.child_count = child_count;
    uint32_t layer = layer_of(net->graph, options);
    struct output y = call_layer(net->graph, layer, input_of(net->graph, DTYPE_FLOAT64, input)).outputs[0];
    net->count = graph_variable_count(net->graph);
    for (size_t i = 0; i < net->count; i++) {
        net->variables[i] = graph_variable(net->graph, i);
    }
    check_gradients(net, y, -1, 1, 1);
    drop_net(net);
    *net = (struct net){.graph = NULL};
}

static void test_gradients(void **state)
{
    (void)state;
    static const enum keras_kind recurrent[] = {KERAS_LSTM, KERAS_GRU, KERAS_GRU, KERAS_SIMPLE_RNN};
    struct net net = {.graph = NULL};
    for (size_t i = 0; i < 8; i++) {
        struct keras_options options = {.kind = recurrent[i % 4],
                                        .units = 2,
                                        .has_dtype = true,
                                        .dtype = DTYPE_FLOAT64,
                                        .recurrent_activation = "sigmoid",
                                        .resets_after = i % 4 == 2,
                                        .returns_sequences = i >= 4,
                                        .goes_backwards = i % 2 == 1,
                                        .has_no_bias = i == 5};
        check_layer(options, NULL, 0, &net, shape_cube(2, 3, 2));
    }
    struct keras_options dense = {
        .kind = KERAS_DENSE, .units = 3, .has_dtype = true, .dtype = DTYPE_FLOAT64, .activation = "softmax"};
    check_layer(dense, NULL, 0, &net, shape_cube(2, 3, 2));
}

static void test_gradients_of_wrappers(void **state)
{
    (void)state;
    static const char *const modes[] = {"concat", "sum", "mul", "ave"};
    for (size_t i = 0; i < 8; i++) {
        struct net net = new_net();
        uint32_t inner = layer_of(net.graph, (struct keras_options){.kind = i % 2 == 0 ? KERAS_GRU : KERAS_LSTM,
                                                                    .units = 2,
                                                                    .has_dtype = true,
                                                                    .dtype = DTYPE_FLOAT64,
                                                                    .returns_sequences = i >= 4});
        struct keras_options both = {.kind = KERAS_BIDIRECTIONAL, .merge_mode = modes[i % 4]};
        check_layer(both, &inner, 1, &net, shape_cube(2, 3, 2));
    }
    struct net net = new_net();
    uint32_t dense = layer_of(
        net.graph, (struct keras_options){.kind = KERAS_DENSE, .units = 2, .has_dtype = true, .dtype = DTYPE_FLOAT64});
    struct keras_options distributed = {.kind = KERAS_TIME_DISTRIBUTED};
    check_layer(distributed, &dense, 1, &net, shape_cube(2, 3, 2));
}

/* ---- shapes, wrappers, refusals ---- */

static void test_bidirectional(void **state)
{
    (void)state;
    static const char *const names[] = {"bidirectional/forward_lstm/kernel",
                                        "bidirectional/forward_lstm/recurrent_kernel",
                                        "bidirectional/forward_lstm/bias",
                                        "bidirectional/backward_lstm/kernel",
                                        "bidirectional/backward_lstm/recurrent_kernel",
                                        "bidirectional/backward_lstm/bias"};
    struct error error;
    struct net net = new_net();
    uint32_t inner = layer_of(
        net.graph,
        (struct keras_options){.kind = KERAS_LSTM, .units = 2, .returns_sequences = true, .returns_state = true});
    uint32_t both =
        layer_of(net.graph, (struct keras_options){.kind = KERAS_BIDIRECTIONAL, .children = &inner, .child_count = 1});
    struct output x = input_of(net.graph, DTYPE_FLOAT32, shape_cube(2, 5, 3));
    struct keras_result result = call_layer(net.graph, both, x);
    struct shape shape = shape_cube(2, 5, 4);
    assert_int_equal(result.output_count, 5);
    assert_true(shape_equal(&output_type(result.outputs[0])->shape, &shape));
    assert_weights(net.graph, both, names, 6);
    /* the backward half at time 0 is its final state */
    take_variables(&net);
    struct tensor sequence;
    struct tensor final;
    must(try_run(net.graph, net.values, result.outputs[0], 3, &sequence, &error), &error);
    must(try_run(net.graph, net.values, result.outputs[3], 3, &final, &error), &error);
    assert_true(tensor_number(&sequence, 2) == tensor_number(&final, 0));
    assert_true(tensor_number(&sequence, 23) == tensor_number(&final, 3));
    tensor_release(&sequence);
    tensor_release(&final);
    drop_net(&net);
}

static void test_text_model(void **state)
{
    (void)state;
    static const char *const names[] = {"embedding/embeddings",    "gru/kernel",
                                        "gru/recurrent_kernel",    "gru/bias",
                                        "time_distributed/kernel", "time_distributed/bias"};
    struct error error;
    struct graph *graph = new_graph();
    uint32_t dense = layer_of(graph, (struct keras_options){.kind = KERAS_DENSE, .units = 7, .activation = "softmax"});
    uint32_t layers[] = {
        layer_of(graph, (struct keras_options){.kind = KERAS_EMBEDDING,
                                               .input_dim = 7,
                                               .output_dim = 4,
                                               .has_input_shape = true,
                                               .input_shape = shape_vector(6)}),
        layer_of(graph, (struct keras_options){.kind = KERAS_GRU, .units = 5, .returns_sequences = true}),
        layer_of(graph, (struct keras_options){.kind = KERAS_DROPOUT, .rate = 0.5}),
        layer_of(graph, (struct keras_options){.kind = KERAS_TIME_DISTRIBUTED, .children = &dense, .child_count = 1}),
    };
    uint32_t model = sequential_of(graph, layers, 4);
    struct output in;
    struct output out;
    assert_true(keras_model_tensors(graph, model, &in, &out));
    assert_string_equal(in.node->name, "embedding_input");
    struct shape shape = shape_cube(DIMENSION_UNKNOWN, 6, 7);
    assert_true(shape_equal(&output_type(out)->shape, &shape));
    assert_weights(graph, model, names, 6);
    uint32_t flat[] = {
        layer_of(graph, (struct keras_options){.kind = KERAS_FLATTEN}),
        layer_of(graph, (struct keras_options){.kind = KERAS_RESHAPE, .target = {2, {DIMENSION_UNKNOWN, 6}}})};
    uint32_t shapes = sequential_of(graph, flat, 2);
    struct keras_call call = {.input = out};
    struct keras_result result;
    must(keras_call(graph, shapes, &call, &result, &error), &error);
    struct shape reshaped = shape_cube(DIMENSION_UNKNOWN, 7, 6);
    assert_true(shape_equal(&output_type(result.outputs[0])->shape, &reshaped));
    graph_unref(graph);
}

static void test_refusals(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    uint32_t lstm = layer_of(graph, (struct keras_options){.kind = KERAS_LSTM, .units = 2});
    struct shape flat = shape_matrix(DIMENSION_UNKNOWN, 5);
    assert_refused(keras_build(graph, lstm, &flat, &error), &error,
                   "Input 0 of layer lstm is incompatible with the layer: expected ndim=3, found ndim=2. Full shape "
                   "received: [None, 5]");
    struct shape open = shape_cube(DIMENSION_UNKNOWN, 4, DIMENSION_UNKNOWN);
    assert_refused(keras_build(graph, lstm, &open, &error), &error,
                   "The last dimension of the inputs to `LSTM` should be defined. Found `None`.");
    struct shape right = shape_cube(DIMENSION_UNKNOWN, 4, 3);
    struct shape wrong = shape_cube(DIMENSION_UNKNOWN, 4, 2);
    must(keras_build(graph, lstm, &right, &error), &error);
    assert_refused(
        keras_build(graph, lstm, &wrong, &error), &error,
        "Input 0 of layer lstm is incompatible with the layer: expected axis -1 of input shape to have value "
        "3 but received input with shape [None, 4, 2]");
    uint32_t layer = 0;
    struct keras_options unknown = {.kind = KERAS_DENSE, .units = 2, .activation = "nope"};
    assert_refused(keras_create(graph, &unknown, &layer, &error), &error, "Unknown activation function:nope");
    struct keras_options stateful = {.kind = KERAS_LSTM, .units = 2, .is_stateful = true};
    assert_int_equal(keras_create(graph, &stateful, &layer, &error), STATUS_UNSUPPORTED);
    struct keras_options mode = {.kind = KERAS_BIDIRECTIONAL, .merge_mode = "all", .children = &lstm, .child_count = 1};
    assert_refused(keras_create(graph, &mode, &layer, &error), &error,
                   "Invalid merge mode. Merge mode should be one of {\"sum\", \"mul\", \"ave\", \"concat\", None}");
    struct output x = input_of(graph, DTYPE_FLOAT32, shape_cube(2, 4, 3));
    struct output state_of_h = input_of(graph, DTYPE_FLOAT32, shape_matrix(2, 2));
    struct keras_call call = {.input = x, .initial_states = &state_of_h, .initial_state_count = 1};
    struct keras_result result;
    assert_refused(keras_call(graph, lstm, &call, &result, &error), &error,
                   "Layer lstm expects 2 states, but it received 1 state values. Input received: initial_state");
    call = (struct keras_call){.input = x, .mask = state_of_h};
    assert_refused(keras_call(graph, lstm, &call, &result, &error), &error,
                   "The mask of layer lstm must be bool of shape (batch, time), but it is float32 (2, 2)");
    uint32_t dense = layer_of(graph, (struct keras_options){.kind = KERAS_DENSE, .units = 2});
    assert_refused(keras_call(graph, dense, &call, &result, &error), &error, "\"dense\" takes no mask");
    assert_string_equal(graph_name_scope(graph), "");
    graph_unref(graph);
}

/* Models in models: their number grows with every use, so that is what is bounded. */
static void test_limits(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    uint32_t layer = layer_of(graph, (struct keras_options){.kind = KERAS_FLATTEN});
    enum status status = STATUS_OK;
    size_t models = 0;
    while (status == STATUS_OK) {
        struct keras_options model = {.kind = KERAS_SEQUENTIAL, .children = &layer, .child_count = 1};
        status = keras_create(graph, &model, &layer, &error);
        models += status == STATUS_OK;
    }
    assert_int_equal(status, STATUS_LIMIT);
    assert_int_equal(models, KERAS_NESTING_MAX - 1);
    uint32_t leaves[100];
    for (size_t i = 0; i < 100; i++) {
        leaves[i] = layer_of(graph, (struct keras_options){.kind = KERAS_FLATTEN});
    }
    uint32_t wide[20];
    for (size_t i = 0; i < 20; i++) {
        wide[i] = sequential_of(graph, leaves, 100);
    }
    struct keras_options all = {.kind = KERAS_SEQUENTIAL, .children = wide, .child_count = 20};
    assert_int_equal(keras_create(graph, &all, &layer, &error), STATUS_LIMIT);
    assert_string_equal(error.message, "layers nest 3 deep and are 2021, at most 8 and 1024");
    graph_unref(graph);
}

/* Reading a variable of Keras' before it has a value. */
static void test_uninitialized(void **state)
{
    (void)state;
    struct error error;
    struct tensor tensor;
    struct graph *graph = new_graph();
    uint32_t dense = layer_of(graph, (struct keras_options){.kind = KERAS_DENSE, .units = 2});
    struct output y = call_layer(graph, dense, input_of(graph, DTYPE_FLOAT32, shape_matrix(2, 3))).outputs[0];
    assert_int_not_equal(try_run(graph, NULL, y, 1, &tensor, &error), STATUS_OK);
    assert_string_equal(error.type, "FailedPreconditionError");
    assert_non_null(strstr(error.message,
                           "Error while reading resource variable dense/kernel from Container: localhost. "
                           "This could mean that the variable was uninitialized. Not found: Resource "
                           "localhost/dense/kernel/"));
    graph_unref(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_variables_of_a_model),
        cmocka_unit_test(test_scopes_of_calls),
        cmocka_unit_test(test_set_weights_checks),
        cmocka_unit_test(test_lstm_step),
        cmocka_unit_test(test_gru_steps),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_gradients_through_masks),
        cmocka_unit_test(test_equals_basic_lstm_cell),
        cmocka_unit_test(test_initial_bias),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_gradients_of_wrappers),
        cmocka_unit_test(test_bidirectional),
        cmocka_unit_test(test_text_model),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_uninitialized),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
