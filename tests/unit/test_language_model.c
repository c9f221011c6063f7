/* The language model as a graph: its gradients equal central differences for every cell, its recurrences
 * run fused, its heads share variables, a second model over the same names is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/graph/ops_recurrence_fused.h"
#include "engine/graph/plan.h"
#include "engine/graph/variable.h"
#include "engine/math/gemm.h"
#include "engine/nn/language_model.h"
#include "engine/nn/train_step.h"

enum { BATCH = 3, TIME = 4, SYMBOLS = 5 };

struct fixture {
    struct graph *graph;
    struct values *values;
    struct error error;
};

static void build_model(struct fixture *fixture, struct language_model_options options)
{
    options.vocabulary_size = SYMBOLS;
    options.has_train_head = options.has_predict_head = true;
    assert_int_equal(graph_create(&fixture->graph, &fixture->error), STATUS_OK);
    if (language_model_build(fixture->graph, &options, &fixture->error) != STATUS_OK) {
        fail_msg("%s", fixture->error.message);
    }
    assert_int_equal(values_create(fixture->graph, &fixture->values, &fixture->error), STATUS_OK);
    assert_int_equal(values_initialize(fixture->values, fixture->graph, 7, &fixture->error), STATUS_OK);
}

static void build(struct fixture *fixture, size_t layers, size_t units, size_t embedding, double dropout)
{
    build_model(fixture, (struct language_model_options){
                             .layers = layers, .units = units, .embedding = embedding, .dropout = dropout});
}

static void release(struct fixture *fixture)
{
    values_destroy(fixture->values);
    graph_unref(fixture->graph);
}

static struct output output_of(const struct fixture *fixture, const char *name)
{
    struct output output;
    struct error error;
    if (graph_find_output(fixture->graph, name, &output, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return output;
}

static int32_t symbols_in[BATCH * TIME];
static int32_t symbols_out[BATCH * TIME];

static void make_symbols(void)
{
    for (size_t i = 0; i < BATCH * TIME; i++) {
        symbols_in[i] = (int32_t)(rng_philox(3, 0, i).word[0] % SYMBOLS);
        symbols_out[i] = (int32_t)(rng_philox(3, 1, i).word[0] % SYMBOLS);
    }
}

/* Makes a plan with the train head's feeds, runs it once, and hands plan and workspace to the caller. */
static void run_train(struct fixture *fixture, const struct output *fetches, size_t fetch_count, struct plan **ret_plan,
                      struct workspace **ret_workspace, struct tensor *results)
{
    struct output feeds[] = {output_of(fixture, "train/inputs:0"), output_of(fixture, "train/targets:0")};
    struct shape shapes[] = {shape_matrix(BATCH, TIME), shape_matrix(BATCH, TIME)};
    struct tensor values[] = {{DTYPE_INT32, shapes[0], symbols_in}, {DTYPE_INT32, shapes[1], symbols_out}};
    struct plan_options options = {
        .feeds = feeds, .feed_shapes = shapes, .feed_count = 2, .fetches = fetches, .fetch_count = fetch_count};
    struct run_options run = {.feeds = values, .random_key = 11};
    if (*ret_plan == NULL) {
        if (plan_create(fixture->graph, &options, ret_plan, &fixture->error) != STATUS_OK) {
            fail_msg("%s", fixture->error.message);
        }
        assert_int_equal(workspace_create(*ret_plan, ret_workspace, &fixture->error), STATUS_OK);
    }
    if (plan_run(*ret_plan, *ret_workspace, fixture->values, &run, results, &fixture->error) != STATUS_OK) {
        fail_msg("%s", fixture->error.message);
    }
}

/* Every weight's derivative of the loss against (loss(w + e) − loss(w − e)) / 2e. */
static void check_gradients(struct language_model_options options)
{
    struct fixture fixture = {0};
    make_symbols();
    build_model(&fixture, options);
    struct output loss = output_of(&fixture, "train/loss:0");
    struct train_step_options sgd = train_step_defaults(OPTIMIZER_SGD);
    struct train_step step;
    if (train_step_build(fixture.graph, loss, &sgd, &step, &fixture.error) != STATUS_OK) {
        fail_msg("%s", fixture.error.message);
    }
    struct plan *plan = NULL;
    struct plan *loss_plan = NULL;
    struct workspace *workspace = NULL;
    struct workspace *loss_workspace = NULL;
    struct tensor gradients[TRAIN_STEP_VARIABLES_MAX];
    struct tensor result;
    run_train(&fixture, step.gradients, step.variable_count, &plan, &workspace, gradients);
    size_t checked = 0;
    for (size_t v = 0; v < step.variable_count; v++) {
        struct tensor *tensor = values_tensor(fixture.values, step.variables[v]);
        size_t count = tensor_element_count(tensor);
        for (size_t i = 0; i < count; i++) {
            float *weight = (float *)tensor->data + i;
            float before = *weight;
            const float epsilon = 0.01f;
            *weight = before + epsilon;
            run_train(&fixture, &loss, 1, &loss_plan, &loss_workspace, &result);
            double above = (double)*(float *)result.data;
            *weight = before - epsilon;
            run_train(&fixture, &loss, 1, &loss_plan, &loss_workspace, &result);
            double below = (double)*(float *)result.data;
            *weight = before;
            double difference = (above - below) / 0.02;
            double gradient = (double)((float *)gradients[v].data)[i];
            if (fabs(difference - gradient) > 1e-4 + 0.01 * fabs(gradient)) {
                fail_msg("%s[%zu]: gradient %g, central difference %g", step.variables[v]->node->name, i, gradient,
                         difference);
            }
            checked++;
        }
    }
    assert_true(checked > 50);
    workspace_destroy(workspace);
    workspace_destroy(loss_workspace);
    plan_unref(plan);
    plan_unref(loss_plan);
    release(&fixture);
}

static void test_gradients_one_hot(void **state)
{
    (void)state;
    check_gradients((struct language_model_options){.layers = 1, .units = 4});
    check_gradients((struct language_model_options){.layers = 2, .units = 3});
}

static void test_gradients_embedding_and_dropout(void **state)
{
    (void)state;
    check_gradients((struct language_model_options){.layers = 2, .units = 3, .embedding = 4});
    check_gradients((struct language_model_options){.layers = 2, .units = 4, .dropout = 0.3});
}

/* Numbers that differentiate the loss agree with its gradient only if both drop the same. */
static void test_gradients_with_one_mask(void **state)
{
    (void)state;
    for (int cell = 0; cell < RECURRENT_CELL_COUNT; cell++) {
        check_gradients((struct language_model_options){.cell = (enum recurrent_cell)cell,
                                                        .layers = 2,
                                                        .units = 4,
                                                        .embedding = 4,
                                                        .dropout = 0.4,
                                                        .has_input_dropout = true,
                                                        .has_one_mask = true});
    }
}

static void test_gradients_of_other_cells(void **state)
{
    (void)state;
    for (int i = RECURRENT_CELL_GRU; i <= RECURRENT_CELL_RNN; i++) {
        enum recurrent_cell cell = (enum recurrent_cell)i;
        check_gradients((struct language_model_options){.cell = cell, .layers = 1, .units = 4});
        check_gradients((struct language_model_options){.cell = cell, .layers = 2, .units = 3, .embedding = 4});
        check_gradients((struct language_model_options){.cell = cell, .layers = 2, .units = 4, .dropout = 0.3});
    }
}

static void test_gradients_tied(void **state)
{
    (void)state;
    for (int i = 0; i < RECURRENT_CELL_COUNT; i++) {
        check_gradients((struct language_model_options){
            .cell = (enum recurrent_cell)i, .layers = 2, .units = 4, .embedding = 4, .is_tied = true});
    }
}

static void test_variables_have_tensorflow_names(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    build(&fixture, 2, 4, 3, 0);
    const char *const names[] = {"embedding",
                                 "softmax/w",
                                 "softmax/b",
                                 "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel",
                                 "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/bias",
                                 "rnn/multi_rnn_cell/cell_1/basic_lstm_cell/kernel",
                                 "rnn/multi_rnn_cell/cell_1/basic_lstm_cell/bias"};
    assert_int_equal(graph_variable_count(fixture.graph), 7);
    for (size_t i = 0; i < 7; i++) {
        assert_non_null(graph_find_variable(fixture.graph, names[i]));
    }
    const struct variable *kernel = graph_find_variable(fixture.graph, names[3]);
    assert_int_equal(kernel->node->outputs[0].shape.dimensions[0], 3 + 4);
    assert_int_equal(kernel->node->outputs[0].shape.dimensions[1], 16);
    release(&fixture);
}

static void check_names(struct fixture *fixture, const char *const *names, size_t count)
{
    assert_int_equal(graph_variable_count(fixture->graph), count);
    for (size_t i = 0; i < count; i++) {
        if (graph_find_variable(fixture->graph, names[i]) == NULL) {
            fail_msg("no variable %s", names[i]);
        }
    }
}

static void test_other_cells_have_tensorflow_names(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    build_model(&fixture, (struct language_model_options){.cell = RECURRENT_CELL_GRU, .layers = 2, .units = 4});
    check_names(
        &fixture,
        (const char *const[]){
            "softmax/w", "softmax/b", "rnn/multi_rnn_cell/cell_0/gru_cell/gates/kernel",
            "rnn/multi_rnn_cell/cell_0/gru_cell/gates/bias", "rnn/multi_rnn_cell/cell_0/gru_cell/candidate/kernel",
            "rnn/multi_rnn_cell/cell_0/gru_cell/candidate/bias", "rnn/multi_rnn_cell/cell_1/gru_cell/gates/kernel",
            "rnn/multi_rnn_cell/cell_1/gru_cell/gates/bias", "rnn/multi_rnn_cell/cell_1/gru_cell/candidate/kernel",
            "rnn/multi_rnn_cell/cell_1/gru_cell/candidate/bias"},
        10);
    const struct variable *gates = graph_find_variable(fixture.graph, "rnn/multi_rnn_cell/cell_1/gru_cell/gates/bias");
    for (size_t i = 0; i < 8; i++) {
        assert_true(((const float *)values_tensor(fixture.values, gates)->data)[i] == 1.0f);
    }
    const char *const states[] = {"train/initial_state/0:0", "train/final_state/1:0", "predict/initial_state/1:0",
                                  "predict/final_state/0:0"};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        assert_non_null(output_of(&fixture, states[i]).node);
    }
    release(&fixture);
    build_model(&fixture, (struct language_model_options){
                              .cell = RECURRENT_CELL_RNN, .layers = 1, .units = 4, .embedding = 4, .is_tied = true});
    check_names(&fixture,
                (const char *const[]){"embedding", "softmax/b", "rnn/multi_rnn_cell/cell_0/basic_rnn_cell/kernel",
                                      "rnn/multi_rnn_cell/cell_0/basic_rnn_cell/bias"},
                4);
    release(&fixture);
}

static void test_recurrences_run_fused(void **state)
{
    (void)state;
    for (int cell = RECURRENT_CELL_GRU; cell <= RECURRENT_CELL_RNN; cell++) {
        struct fixture fixture = {0};
        size_t found = 0;
        build_model(&fixture, (struct language_model_options){
                                  .cell = (enum recurrent_cell)cell, .layers = 2, .units = 4, .dropout = 0.3});
        for (size_t i = 0; i < graph_node_count(fixture.graph); i++) {
            const struct node *node = graph_node(fixture.graph, i);
            if (strcmp(node->op->name, "Recurrence") == 0) {
                struct recurrence_stack stack;
                assert_true(recurrence_match(node, &stack));
                assert_int_equal(stack.layer_count, 2);
                found++;
            }
        }
        assert_int_equal(found, 2); /* of the train head and of the predict head */
        release(&fixture);
    }
}

static void test_building_again_adds_nothing(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    build(&fixture, 2, 4, 0, 0);
    size_t nodes = graph_node_count(fixture.graph);
    struct language_model_options same = {.layers = 2, .units = 4, .vocabulary_size = SYMBOLS, .has_train_head = true};
    assert_int_equal(language_model_build(fixture.graph, &same, &fixture.error), STATUS_OK);
    assert_int_equal(graph_node_count(fixture.graph), nodes);
    release(&fixture);
}

static void test_another_architecture_is_refused(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    build(&fixture, 2, 4, 0, 0);
    struct language_model_options wider = {.layers = 2, .units = 8, .vocabulary_size = SYMBOLS, .has_train_head = true};
    assert_int_equal(language_model_build(fixture.graph, &wider, &fixture.error), STATUS_CONFLICT);
    assert_string_equal(fixture.error.code, "variable_shape");
    assert_string_equal(fixture.error.message,
                        "Trying to share variable softmax/w, but specified shape (8, 5) and found shape (4, 5).");
    struct language_model_options deeper = {
        .layers = 3, .units = 4, .vocabulary_size = SYMBOLS, .has_train_head = true};
    assert_int_equal(language_model_build(fixture.graph, &deeper, &fixture.error), STATUS_CONFLICT);
    assert_string_equal(fixture.error.code, "architecture_exists");
    struct language_model_options other = {
        .cell = RECURRENT_CELL_GRU, .layers = 2, .units = 4, .vocabulary_size = SYMBOLS, .has_train_head = true};
    assert_int_equal(language_model_build(fixture.graph, &other, &fixture.error), STATUS_CONFLICT);
    assert_string_equal(fixture.error.code, "architecture_exists");
    assert_non_null(strstr(fixture.error.message, "2 layers × 4 units (lstm), embedding 0, 5 symbols; refusing one of "
                                                  "2 layers × 4 units (gru)"));
    release(&fixture);
}

static void test_sizes_have_limits(void **state)
{
    (void)state;
    struct graph *graph = NULL;
    struct error error;
    struct language_model_options huge = {.layers = 16, .units = 16384, .vocabulary_size = 256, .has_train_head = true};
    struct language_model_options none = {.layers = 0, .units = 16, .vocabulary_size = 256, .has_train_head = true};
    assert_int_equal(graph_create(&graph, &error), STATUS_OK);
    assert_int_equal(language_model_build(graph, &huge, &error), STATUS_TOO_LARGE);
    assert_non_null(strstr(error.message, "at most 268435456"));
    assert_int_equal(language_model_build(graph, &none, &error), STATUS_INVALID);
    struct language_model_options tied = {
        .layers = 1, .units = 16, .embedding = 8, .is_tied = true, .vocabulary_size = 9, .has_train_head = true};
    assert_int_equal(language_model_build(graph, &tied, &error), STATUS_INVALID);
    assert_string_equal(error.message, "a tied output needs an embedding of 16, the units of the top layer, not 8");
    assert_int_equal(graph_node_count(graph), 0);
    graph_unref(graph);
}

static void test_parameters_are_counted(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * RECURRENT_CELL_COUNT; i++) {
        struct fixture fixture = {0};
        bool is_tied = i >= RECURRENT_CELL_COUNT;
        build_model(&fixture, (struct language_model_options){.cell = (enum recurrent_cell)(i % RECURRENT_CELL_COUNT),
                                                              .layers = 2,
                                                              .units = 4,
                                                              .embedding = is_tied ? 4 : 3,
                                                              .is_tied = is_tied});
        struct language_model_options built;
        assert_true(language_model_find(fixture.graph, &built));
        assert_int_equal(built.cell, i % RECURRENT_CELL_COUNT);
        assert_int_equal(built.is_tied, is_tied);
        size_t count = 0;
        for (size_t v = 0; v < graph_variable_count(fixture.graph); v++) {
            count += tensor_element_count(values_tensor(fixture.values, graph_variable(fixture.graph, v)));
        }
        assert_int_equal(language_model_parameter_count(&built), count);
        release(&fixture);
    }
}

static void test_raw_second_build_is_refused(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    build(&fixture, 1, 4, 0, 0);
    struct variable_options options = {.name = "softmax/w", .shape = shape_matrix(4, SYMBOLS), .dtype = DTYPE_FLOAT32};
    const struct variable *variable = NULL;
    assert_int_equal(get_variable(fixture.graph, &options, &variable, NULL, &fixture.error), STATUS_CONFLICT);
    assert_string_equal(fixture.error.type, "ValueError");
    assert_string_equal(fixture.error.code, "variable_exists");
    assert_non_null(strstr(fixture.error.message,
                           "Variable softmax/w already exists, disallowed. Did you mean to set reuse=True or "
                           "reuse=tf.AUTO_REUSE in VarScope? Originally defined at:"));
    release(&fixture);
}

/* −log of the predict head's probability of each target averages to the train head's loss: one mathematics, two
 * heads. */
static void check_heads(enum recurrent_cell cell)
{
    struct fixture fixture = {0};
    make_symbols();
    build_model(&fixture, (struct language_model_options){.cell = cell, .layers = 2, .units = 6});
    struct plan *train = NULL;
    struct workspace *train_workspace = NULL;
    struct tensor loss;
    struct output loss_output = output_of(&fixture, "train/loss:0");
    run_train(&fixture, &loss_output, 1, &train, &train_workspace, &loss);
    struct output feed = output_of(&fixture, "predict/inputs:0");
    struct output fetch = output_of(&fixture, "predict/probabilities:0");
    struct shape shape = shape_matrix(BATCH, TIME);
    struct plan_options options = {
        .feeds = &feed, .feed_shapes = &shape, .feed_count = 1, .fetches = &fetch, .fetch_count = 1};
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    struct tensor inputs = {DTYPE_INT32, shape, symbols_in};
    struct tensor probabilities;
    assert_int_equal(plan_create(fixture.graph, &options, &plan, &fixture.error), STATUS_OK);
    assert_int_equal(workspace_create(plan, &workspace, &fixture.error), STATUS_OK);
    struct run_options run = {.feeds = &inputs};
    assert_int_equal(plan_run(plan, workspace, fixture.values, &run, &probabilities, &fixture.error), STATUS_OK);
    assert_int_equal(probabilities.shape.rank, 3);
    double sum = 0;
    for (size_t i = 0; i < BATCH * TIME; i++) {
        sum -= log((double)((float *)probabilities.data)[i * SYMBOLS + (size_t)symbols_out[i]]);
    }
    assert_true(fabs(sum / (BATCH * TIME) - (double)*(float *)loss.data) < 1e-5);
    uint64_t allocations = mem_allocation_count();
    assert_int_equal(plan_run(plan, workspace, fixture.values, &run, &probabilities, &fixture.error), STATUS_OK);
    assert_int_equal(mem_allocation_count(), allocations);
    workspace_destroy(workspace);
    workspace_destroy(train_workspace);
    plan_unref(plan);
    plan_unref(train);
    release(&fixture);
}

static void test_heads_agree(void **state)
{
    (void)state;
    for (int cell = 0; cell < RECURRENT_CELL_COUNT; cell++) {
        check_heads((enum recurrent_cell)cell);
    }
}

/* Adam against the equations written out in double. */
static void test_adam_follows_its_equations(void **state)
{
    (void)state;
    struct fixture fixture = {0};
    make_symbols();
    build(&fixture, 1, 4, 0, 0);
    struct train_step_options adam = train_step_defaults(OPTIMIZER_ADAM);
    struct train_step step;
    assert_int_equal(train_step_build(fixture.graph, output_of(&fixture, "train/loss:0"), &adam, &step, &fixture.error),
                     STATUS_OK);
    assert_non_null(graph_find_variable(fixture.graph, "softmax/w/Adam"));
    assert_non_null(graph_find_variable(fixture.graph, "softmax/w/Adam_1"));
    assert_int_equal(values_grow(fixture.values, fixture.graph, &fixture.error), STATUS_OK);
    assert_int_equal(values_initialize(fixture.values, fixture.graph, 7, &fixture.error), STATUS_OK);
    struct output feeds[TRAIN_STEP_VARIABLES_MAX];
    struct shape shapes[TRAIN_STEP_VARIABLES_MAX];
    struct tensor tensors[TRAIN_STEP_VARIABLES_MAX];
    float rate = 0.01f;
    float clip = INFINITY;
    float gradient[256];
    for (size_t i = 0; i < 256; i++) {
        gradient[i] = 0.25f;
    }
    for (size_t i = 0; i < step.variable_count; i++) {
        feeds[i] = step.gradients[i];
        shapes[i] = step.variables[i]->node->outputs[0].shape;
        tensors[i] = (struct tensor){DTYPE_FLOAT32, shapes[i], gradient};
    }
    size_t n = step.variable_count;
    feeds[n] = step.feeds[TRAIN_STEP_LEARNING_RATE];
    feeds[n + 1] = step.feeds[TRAIN_STEP_CLIP_NORM];
    shapes[n] = shapes[n + 1] = shape_scalar();
    tensors[n] = (struct tensor){DTYPE_FLOAT32, shapes[n], &rate};
    tensors[n + 1] = (struct tensor){DTYPE_FLOAT32, shapes[n], &clip};
    struct plan_options options = {
        .feeds = feeds, .feed_shapes = shapes, .feed_count = n + 2, .targets = &step.apply, .target_count = 1};
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    if (plan_create(fixture.graph, &options, &plan, &fixture.error) != STATUS_OK) {
        fail_msg("%s", fixture.error.message);
    }
    assert_true(plan_writes(plan));
    assert_int_equal(workspace_create(plan, &workspace, &fixture.error), STATUS_OK);
    float *weight = values_tensor(fixture.values, step.variables[0])->data;
    double expected = (double)*weight;
    double m = 0;
    double v = 0;
    for (int t = 1; t <= 3; t++) {
        struct run_options run = {.feeds = tensors};
        assert_int_equal(plan_run(plan, workspace, fixture.values, &run, NULL, &fixture.error), STATUS_OK);
        m = 0.9 * m + 0.1 * 0.25;
        v = 0.999 * v + 0.001 * 0.0625;
        expected -= 0.01 * sqrt(1 - pow(0.999, t)) / (1 - pow(0.9, t)) * m / (sqrt(v) + 1e-8);
        assert_true(fabs((double)*weight - expected) < 1e-5);
    }
    struct train_step again;
    size_t nodes = graph_node_count(fixture.graph);
    assert_int_equal(
        train_step_build(fixture.graph, output_of(&fixture, "train/loss:0"), &adam, &again, &fixture.error), STATUS_OK);
    assert_int_equal(graph_node_count(fixture.graph), nodes);
    assert_ptr_equal(again.apply, step.apply);
    workspace_destroy(workspace);
    plan_unref(plan);
    release(&fixture);
}

int main(void)
{
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients_one_hot),
        cmocka_unit_test(test_gradients_embedding_and_dropout),
        cmocka_unit_test(test_gradients_with_one_mask),
        cmocka_unit_test(test_gradients_of_other_cells),
        cmocka_unit_test(test_gradients_tied),
        cmocka_unit_test(test_variables_have_tensorflow_names),
        cmocka_unit_test(test_other_cells_have_tensorflow_names),
        cmocka_unit_test(test_recurrences_run_fused),
        cmocka_unit_test(test_building_again_adds_nothing),
        cmocka_unit_test(test_another_architecture_is_refused),
        cmocka_unit_test(test_sizes_have_limits),
        cmocka_unit_test(test_parameters_are_counted),
        cmocka_unit_test(test_raw_second_build_is_refused),
        cmocka_unit_test(test_heads_agree),
        cmocka_unit_test(test_adam_follows_its_equations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
