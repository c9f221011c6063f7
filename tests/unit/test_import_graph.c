/* Importing: what the graph beside a TensorFlow checkpoint says, written here node by node. */
#include "import_rig.h"

#include <math.h>

#include "engine/import/tensorflow.h"

#define CELL "rnn/while/basic_lstm_cell_1"

/* The graph beside a checkpoint: a cell's Add(CELL "/split:2", CELL "/add/y") among other nodes. */
static void put_node(struct buffer *graph, const char *name, const char *op, const char *const *inputs,
                     const struct buffer *tensor)
{
    static struct buffer node;
    static struct buffer attribute;
    static struct buffer value;
    node.length = attribute.length = value.length = 0;
    put_message(&node, 1, name, strlen(name));
    put_message(&node, 2, op, strlen(op));
    for (size_t i = 0; inputs != NULL && inputs[i] != NULL; i++) {
        put_message(&node, 3, inputs[i], strlen(inputs[i]));
    }
    if (tensor != NULL) {
        put_message(&value, 8, tensor->bytes, tensor->length);
        put_message(&attribute, 1, "value", 5);
        put_message(&attribute, 2, value.bytes, value.length);
        put_message(&node, 5, attribute.bytes, attribute.length);
    }
    put_message(graph, 1, node.bytes, node.length);
}

/* How a constant's one float may be written: content, a packed number, a bare one. */
static void put_float(struct buffer *tensor, int kind, float number)
{
    tensor->length = 0;
    put_field(tensor, 1, 1);
    if (kind == 2) {
        put_varint(tensor, 5 << 3 | 5);
        put(tensor, &number, sizeof number);
    } else {
        put_message(tensor, kind == 0 ? 4 : 5, &number, sizeof number);
    }
}

static void wrap_graph(struct buffer *meta, const struct buffer *graph)
{
    meta->length = 0;
    put_message(meta, 1, "info", 4);
    put_message(meta, 2, graph->bytes, graph->length);
}

/* The kinds of put_float; there are Adds of other splits and of other parts, too. */
static void put_meta(struct buffer *meta, int kind, float number)
{
    static struct buffer graph;
    static struct buffer tensor;
    graph.length = 0;
    put_float(&tensor, kind, 0.25f);
    put_node(&graph, "data/add", "Add", (const char *const[]){"data/split:2", "other", NULL}, NULL);
    put_node(&graph, CELL "/sum", "Add", (const char *const[]){CELL "/split:1", "other", NULL}, NULL);
    put_node(&graph, "sum", "Add", (const char *const[]){CELL "/dropout/split:2", "other", NULL}, NULL);
    put_node(&graph, "cudnn_compatible_lstm_cell/add", "Add",
             (const char *const[]){"cudnn_compatible_lstm_cell/split:2", "other", NULL}, NULL);
    put_node(&graph, "rnn/gru_cell/add", "Add", (const char *const[]){"rnn/gru_cell/split:2", "other", NULL}, NULL);
    put_node(&graph, "other", "Const", NULL, &tensor);
    put_float(&tensor, kind, number);
    put_node(&graph, CELL "/add/y", "Const", NULL, &tensor);
    put_node(&graph, CELL "/add", "Add", (const char *const[]){CELL "/split:2", CELL "/add/y", "^before", NULL}, NULL);
    wrap_graph(meta, &graph);
}

/* An operator that is a whole cell, with those attributes that are not NULL. */
static void put_whole_cell(struct buffer *graph, const char *op, const float *forget_bias, const float *cell_clip)
{
    static struct buffer node;
    static struct buffer attribute;
    static struct buffer value;
    static const char *const keys[] = {"forget_bias", "cell_clip"};
    const float *const numbers[] = {forget_bias, cell_clip};
    node.length = 0;
    put_message(&node, 1, "cell", 4);
    put_message(&node, 2, op, strlen(op));
    for (size_t i = 0; i < 2; i++) {
        attribute.length = value.length = 0;
        if (numbers[i] != NULL) {
            put_varint(&value, 4 << 3 | 5);
            put(&value, numbers[i], sizeof *numbers[i]);
            put_message(&attribute, 1, keys[i], strlen(keys[i]));
            put_message(&attribute, 2, value.bytes, value.length);
            put_message(&node, 5, attribute.bytes, attribute.length);
        }
    }
    put_message(graph, 1, node.bytes, node.length);
}

/* The checkpoint with that graph beside it. */
static const struct named_bytes *bundle_beside(const struct buffer *meta)
{
    static struct named_bytes files[5];
    memcpy(files, bundle(), 4 * sizeof *files);
    files[3] = (struct named_bytes){"m.meta", meta->bytes, meta->length};
    return files;
}

static void expect_unbuilt(const struct buffer *meta, const char *reason)
{
    expect_refusal(bundle_beside(meta), NULL, STATUS_UNPROCESSABLE, reason);
    expect_forget_bias(bundle_beside(meta), (const char *const[]){"graph", "ignored", NULL}, 1);
}

static void test_the_graph_says_the_forget_bias(void **state)
{
    (void)state;
    static struct buffer meta;
    for (int kind = 0; kind < 3; kind++) {
        put_meta(&meta, kind, 0.5f);
        expect_forget_bias(bundle_beside(&meta), NULL, 0.5f);
        expect_forget_bias(bundle_beside(&meta), (const char *const[]){"forget_bias", "1", NULL}, 1);
    }
}

/* There is no usual number where a program may have said another one. */
static void test_a_graph_that_says_no_forget_bias(void **state)
{
    (void)state;
    static struct buffer meta;
    static const char reason[] = "the graph beside the checkpoint does not tell what LSTMs add to their forget gates";
    put_meta(&meta, 0, 0.5f);
    size_t whole = meta.length;
    for (meta.length = 0; meta.length < whole; meta.length++) { /* the graph is one field: it is there by its end */
        expect_refusal(bundle_beside(&meta), NULL, STATUS_UNPROCESSABLE, "m.meta is damaged: there is no graph in it");
        expect_refusal(bundle_beside(&meta), (const char *const[]){"graph", "ignored", NULL}, STATUS_UNPROCESSABLE,
                       reason);
    }
    put_meta(&meta, 0, 1000);
    expect_refusal(bundle_beside(&meta), NULL, STATUS_UNPROCESSABLE, reason);
    put_meta(&meta, 0, NAN);
    expect_refusal(bundle_beside(&meta), NULL, STATUS_UNPROCESSABLE, "say --set forget_bias=NUMBER");
    expect_forget_bias(bundle_beside(&meta), (const char *const[]){"forget_bias", "1", NULL}, 1);
}

/* tf.contrib.rnn's LSTMBlockCell and LSTMBlockFusedCell. */
static void test_operators_that_are_whole_cells(void **state)
{
    (void)state;
    static struct buffer graph;
    static struct buffer meta;
    static const char *const ops[] = {"LSTMBlockCell", "BlockLSTM"};
    const float zero = 0;
    const float half = 0.5f;
    const float none = -1;
    for (size_t i = 0; i < 2; i++) {
        graph.length = 0;
        put_whole_cell(&graph, ops[i], &zero, &none);
        put_whole_cell(&graph, ops[i], &zero, &zero);
        wrap_graph(&meta, &graph);
        expect_forget_bias(bundle_beside(&meta), NULL, 0);
        put_whole_cell(&graph, ops[1 - i], &half, &none);
        wrap_graph(&meta, &graph);
        expect_refusal(bundle_beside(&meta), NULL, STATUS_UNPROCESSABLE, "add different numbers to their forget gates");
        graph.length = 0;
        put_whole_cell(&graph, ops[i], NULL, &none); /* what it usually is need not be written */
        wrap_graph(&meta, &graph);
        expect_forget_bias(bundle_beside(&meta), NULL, 1);
        put_whole_cell(&graph, ops[i], NULL, NULL);
        wrap_graph(&meta, &graph);
        expect_unbuilt(&meta, "in the graph beside the checkpoint cell limits a cell's state (cell_clip), which");
        graph.length = 0;
        put_whole_cell(&graph, ops[i], NULL, &half);
        wrap_graph(&meta, &graph);
        expect_unbuilt(&meta, "in the graph beside the checkpoint cell limits a cell's state (cell_clip), which");
    }
}

/* The graph of an LSTM cell, but for what is not built. */
static void put_cell(struct buffer *graph)
{
    static struct buffer tensor;
    graph->length = 0;
    put_float(&tensor, 0, 1);
    put_node(graph, CELL "/MatMul", "MatMul", (const char *const[]){CELL "/concat", CELL "/kernel/read", NULL}, NULL);
    put_node(graph, CELL "/add/y", "Const", NULL, &tensor);
    put_node(graph, CELL "/Add", "Add", (const char *const[]){CELL "/split:2", CELL "/add/y", NULL}, NULL);
    put_node(graph, CELL "/Add_1", "Add", (const char *const[]){CELL "/Mul", CELL "/Mul_1", NULL}, NULL);
}

#define CLIPS "limits a cell's state (cell_clip)"
#define ACTIVATES "belongs to a cell with another activation than tanh"
#define ADDS "adds to a cell's output (a residual connection)"

/* Each with what an LSTM cell or the rest of a graph has that looks alike. */
static void test_a_graph_that_does_what_is_not_built(void **state)
{
    (void)state;
    static struct buffer graph;
    static struct buffer meta;
    static const struct {
        const char *name, *op, *input, *reason;
    } nodes[] = {
        {CELL "/clip_by_value/Minimum", "Minimum", CELL "/add_1", CLIPS},
        {CELL "/clip_by_value_1/Minimum", "Minimum", CELL "/add_1", CLIPS},
        {"", "LSTMBlockCell", "x", CLIPS},
        {CELL "/Relu_1", "Relu", CELL "/add_1", ACTIVATES},
        {"rnn/while/cell_0/add", "AddV2", CELL "/mul_2", ADDS},
        {"rnn/while/cell_0/add", "Add", CELL "/Mul_2", ADDS},
        {"add", "Add", "rnn/lstm_cell/LSTMBlockCell:6", ADDS},
        {"add", "Add", "rnn/cudnn_compatible_lstm_cell/mul_2", ADDS},
        {"clip_by_value/Minimum", "Minimum", "global_norm", NULL},
        {CELL "/kernel/clip_by_value/Minimum", "Minimum", "AdaBound/x", NULL},
        {CELL "/dense/Relu", "Relu", CELL "/dense/BiasAdd", NULL},
        {"gradients/" CELL "/Relu_grad/ReluGrad", "ReluGrad", "x", NULL},
        {CELL "/add_1", "Add", CELL "/mul_1", NULL},
        {CELL "/kernel/add", "Add", CELL "/kernel/mul_2", NULL},
        {"dense/add", "Add", "dense/mul_2", NULL},
        {"concat", "ConcatV2", CELL "/mul_2", NULL},
        {"rnn/gru_cell/Softsign", "Softsign", "rnn/gru_cell/BiasAdd_1", NULL}, /* this model has no GRU */
    };
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        put_cell(&graph);
        put_node(&graph, CELL "/Tanh", "Tanh", (const char *const[]){CELL "/split:1", NULL}, NULL);
        put_node(&graph, nodes[i].name, nodes[i].op, (const char *const[]){"x", nodes[i].input, NULL}, NULL);
        wrap_graph(&meta, &graph);
        if (nodes[i].reason == NULL) {
            expect_forget_bias(bundle_beside(&meta), NULL, 1);
        } else {
            char reason[200];
            snprintf(reason, sizeof reason, "in the graph beside the checkpoint %s %s, which is not built here",
                     *nodes[i].name == '\0' ? "a node without a name" : nodes[i].name, nodes[i].reason);
            expect_unbuilt(&meta, reason);
        }
    }
}

/* What adds to a cell's output need not take it from the cell itself. */
static void test_a_graph_that_adds_to_what_came_out_of_cells(void **state)
{
    (void)state;
    static struct buffer graph;
    static struct buffer meta;
    static const struct {
        const char *input;
        bool is_residual;
    } rows[] = {
        {"rnn/while/cell_0/dropout_2/mul_1", true},
        {"rnn/transpose_1", true},
        {"rnn/TensorArrayStack/TensorArrayGatherV3", true},
        {"rnn/while/cell_0/dropout/mul", false}, /* of something else */
        {"dropout/one", false},                  /* of another, which is of the first */
        {"rn/transpose_1", false},
        {"rnn2/transpose_1", false},
        {"rnn/while/transpose", false},
        {"transpose", false},
        {"/transpose", false},
        {"/TensorArrayStack/TensorArrayGatherV3", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_cell(&graph);
        put_node(&graph, CELL "/Tanh", "Tanh", (const char *const[]){CELL "/split:1", NULL}, NULL);
        put_node(&graph, "rnn/while/cell_0/dropout_2/mul_1", "Mul",
                 (const char *const[]){"rnn/while/cell_0/dropout_2/mul", "mask", NULL}, NULL);
        put_node(&graph, "rnn/while/cell_0/dropout_2/mul", "Mul", (const char *const[]){CELL "/mul_2", "x", NULL},
                 NULL);
        put_node(&graph, "rnn/while/cell_0/dropout/mul", "Mul", (const char *const[]){"inputs", "x", NULL}, NULL);
        put_node(&graph, "dropout/one", "Mul", (const char *const[]){"dropout/two", "x", NULL}, NULL);
        put_node(&graph, "dropout/two", "Mul", (const char *const[]){"dropout/one", "x", NULL}, NULL);
        put_node(&graph, "sum", "AddV2", (const char *const[]){rows[i].input, "inputs", NULL}, NULL);
        wrap_graph(&meta, &graph);
        if (rows[i].is_residual) {
            expect_unbuilt(&meta, "in the graph beside the checkpoint sum " ADDS ", which is not built here");
        } else {
            expect_forget_bias(bundle_beside(&meta), NULL, 1);
        }
    }
}

/* Products stand in scopes that cells open for them, and each cell has activations of its own. */
static void test_a_graph_whose_cells_have_no_tanh(void **state)
{
    (void)state;
    static struct buffer graph;
    static struct buffer meta;
    static const struct {
        const char *product, *tanh, *reason;
    } rows[] = {
        {"rnn/basic_lstm_cell/MatMul", "rnn/basic_lstm_cell/Tanh", NULL},
        {"RNN/BasicLSTMCell/Linear/MatMul", "RNN/BasicLSTMCell/Tanh", NULL},
        {"rnn/basic_lstm_cell_4/basic_lstm_cell/MatMul", "rnn/basic_lstm_cell_4/Tanh_1", NULL},
        {"rnn/basic_lstm_cell/kernel/MatMul", "Tanh", NULL},
        {"rnn/basic_lstm_cell/MatMul", "Tanh", "rnn/basic_lstm_cell/MatMul " ACTIVATES},
        {"RNN/BasicLSTMCell/Linear/MatMul", "RNN/Tanh", "RNN/BasicLSTMCell/Linear/MatMul " ACTIVATES},
        {"rnn/cell_1/lstm_cell/MatMul", "rnn/cell_0/lstm_cell/Tanh", "rnn/cell_1/lstm_cell/MatMul " ACTIVATES},
        {"rnn/basic_lstm_cell_4/basic_lstm_cell/MatMul", "rnn/basic_lstm_cell_5/Tanh",
         "rnn/basic_lstm_cell_4/basic_lstm_cell/MatMul " ACTIVATES},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_cell(&graph);
        put_node(&graph, CELL "/Tanh", "Tanh", (const char *const[]){CELL "/split:1", NULL}, NULL);
        put_node(&graph, rows[i].product, "MatMul", (const char *const[]){"x", "y", NULL}, NULL);
        put_node(&graph, rows[i].tanh, "Tanh", (const char *const[]){"x", NULL}, NULL);
        wrap_graph(&meta, &graph);
        if (rows[i].reason != NULL) {
            expect_unbuilt(&meta, rows[i].reason);
        } else {
            expect_forget_bias(bundle_beside(&meta), NULL, 1);
        }
    }
}

/* Cells whose state is one matrix split that first. */
static void test_cells_that_split_their_state(void **state)
{
    (void)state;
    static struct buffer graph;
    static struct buffer meta;
    static struct buffer tensor;
    static const struct {
        const char *split;
        bool is_gate;
    } rows[] = {
        {CELL "/split_1:2", true},  {CELL "/split_12:2", true}, {CELL "/split_:2", false}, {CELL "/split1:2", false},
        {CELL "/unsplit:2", false}, {CELL "/split_1:3", false}, {"split_1:2", false},      {CELL "/_1:2", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        graph.length = 0;
        put_float(&tensor, 0, 0);
        put_node(&graph, CELL "/add/y", "Const", NULL, &tensor);
        put_node(&graph, CELL "/add", "Add", (const char *const[]){rows[i].split, CELL "/add/y", NULL}, NULL);
        wrap_graph(&meta, &graph);
        if (rows[i].is_gate) {
            expect_forget_bias(bundle_beside(&meta), NULL, 0);
        } else {
            expect_refusal(bundle_beside(&meta), NULL, STATUS_UNPROCESSABLE, "does not tell what LSTMs add");
        }
    }
}

static void test_what_stands_in_a_cell(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *scope; /* the cell's; NULL: it stands in none */
        enum foreign_cell kind;
        bool adds;
    } rows[] = {
        {"rnn/while/lstm_cell/Tanh", "rnn/while/lstm_cell", FOREIGN_CELL_LSTM, true},
        {"basic_rnn_cell_2/Tanh", "basic_rnn_cell_2", FOREIGN_CELL_RNN, false},
        {"rnn/gru_cell/candidate/Tanh", "rnn/gru_cell", FOREIGN_CELL_GRU, false},
        {"rnn/gru_cell/gates/gates_1/MatMul", "rnn/gru_cell", FOREIGN_CELL_GRU, false},
        {"RNN/GRUCell/Candidate/Tanh", "RNN/GRUCell", FOREIGN_CELL_GRU, false},
        {"RNN/BasicLSTMCell/Linear/MatMul", "RNN/BasicLSTMCell", FOREIGN_CELL_LSTM, true},
        {"rnn/basic_lstm_cell_3/basic_lstm_cell/MatMul", "rnn/basic_lstm_cell_3", FOREIGN_CELL_LSTM, true},
        {"lstm_cell/lstm_cell/lstm_cell_1/MatMul", "lstm_cell", FOREIGN_CELL_LSTM, true},
        {"rnn/lstm_cell/gru_cell/MatMul", "rnn/lstm_cell/gru_cell", FOREIGN_CELL_GRU, false},
        {"cudnn_compatible_lstm_cell/Tanh", "cudnn_compatible_lstm_cell", FOREIGN_CELL_LSTM, false},
        {"rnn/lstm_cell/dense/Tanh", NULL, 0, false},
        {"rnn/lstm_cell/gates/dense/Tanh", NULL, 0, false},
        {"rnn/lstm_cell/MatMul_grad/MatMul", NULL, 0, false},
        {"rnn/gru_cell", NULL, 0, false},
        {"rnn/gru_cell/", "rnn/gru_cell", FOREIGN_CELL_GRU, false},
        {"rnn/Tanh", NULL, 0, false},
        {"", NULL, 0, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tensorflow_cell cell = {.scope_length = 0};
        assert_int_equal(tensorflow_cell_around(rows[i].name, strlen(rows[i].name), &cell), rows[i].scope != NULL);
        if (rows[i].scope != NULL) {
            assert_int_equal(cell.kind, rows[i].kind);
            assert_int_equal(cell.adds_to_forget_gate, rows[i].adds);
            assert_int_equal(cell.scope_length, strlen(rows[i].scope));
            assert_memory_equal(rows[i].name, rows[i].scope, cell.scope_length);
        }
    }
}

static void test_all_that_is_not_built_is_said(void **state)
{
    (void)state;
    static struct buffer graph;
    static struct buffer meta;
    put_cell(&graph);
    wrap_graph(&meta, &graph);
    expect_unbuilt(&meta, CELL "/MatMul " ACTIVATES ", which"); /* it has no tanh */
    put_node(&graph, "sum", "Add", (const char *const[]){CELL "/Mul_2", "x", NULL}, NULL);
    put_node(&graph, "sum_1", "Add", (const char *const[]){CELL "/Mul_2", "x", NULL}, NULL);
    put_whole_cell(&graph, "LSTMBlockCell", NULL, NULL);
    wrap_graph(&meta, &graph);
    expect_unbuilt(&meta, "cell " CLIPS ", " CELL "/MatMul " ACTIVATES ", sum " ADDS ", which is not built here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_graph_says_the_forget_bias),
        cmocka_unit_test(test_a_graph_that_says_no_forget_bias),
        cmocka_unit_test(test_operators_that_are_whole_cells),
        cmocka_unit_test(test_a_graph_that_does_what_is_not_built),
        cmocka_unit_test(test_a_graph_that_adds_to_what_came_out_of_cells),
        cmocka_unit_test(test_a_graph_whose_cells_have_no_tanh),
        cmocka_unit_test(test_cells_that_split_their_state),
        cmocka_unit_test(test_what_stands_in_a_cell),
        cmocka_unit_test(test_all_that_is_not_built_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
