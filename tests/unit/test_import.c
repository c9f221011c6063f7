/* Importing: readers and understanding on small files made here, through the bytes that one process hands another; cut
 * off at every byte, and with every allocation failing. */
#include "foreign_rig.h"

#include <math.h>

#include "engine/base/mem.h"
#include "engine/import/readers.h"
#include "engine/import/tensorflow.h"
#include "engine/import/understanding.h"
#include "engine/model/model_import.h"
#include "engine/store/safetensors.h"
#include "engine/store/version_directory.h"
#include "tests/unit/run_length.h"

static const char symbols[] = "[\"a\",\"b\",\"c\",\"d\",\"\\n\"]";

/* ---- a source in memory, and what comes of it ---- */

struct named_bytes {
    const char *name;
    const void *bytes;
    size_t length;
};

static bool take(void *context, const void *bytes, size_t length)
{
    put(context, bytes, length);
    return true;
}

/* Imports `files` (up to a NULL name) into `answer`; the status that the reply holds. */
static enum status import_files(const struct named_bytes *files, const char *const *settings, bool looks_only,
                                struct buffer *answer, struct import_reply *ret_reply, struct error *error)
{
    struct foreign_source source = {.label = "memory"};
    struct import_settings set = {.count = 0};
    const struct import_sink sink = {.write = take, .context = answer};
    enum status status = STATUS_OK;
    answer->length = 0;
    for (size_t i = 0; settings != NULL && settings[i] != NULL; i += 2) {
        assert_int_equal(import_settings_add(&set, settings[i], settings[i + 1], error), STATUS_OK);
    }
    for (size_t i = 0; files[i].name != NULL && status == STATUS_OK; i++) {
        status = foreign_source_add(&source, files[i].name, files[i].bytes, files[i].length, error);
    }
    if (status == STATUS_OK) {
        status = import_write(&source, &set, looks_only, &sink, error);
    }
    foreign_source_release(&source);
    return status == STATUS_OK ? import_reply_parse(answer->bytes, answer->length, ret_reply, error) : status;
}

static struct buffer answer;

static void expect_refusal(const struct named_bytes *files, const char *const *settings, enum status status,
                           const char *message)
{
    struct import_reply reply;
    struct error error = {.message = ""};
    assert_int_equal(import_files(files, settings, false, &answer, &reply, &error), status);
    if (strstr(error.message, message) == NULL) {
        fail_msg("'%s' does not hold '%s'", error.message, message);
    }
}

/* ---- TensorFlow ---- */

static struct buffer index_file;
static struct buffer shard_file;

static const struct named_bytes *bundle(void)
{
    static struct named_bytes files[4];
    index_file.length = shard_file.length = 0;
    put_bundle(&index_file, &shard_file);
    files[0] = (struct named_bytes){"m.index", index_file.bytes, index_file.length};
    files[1] = (struct named_bytes){"m.data-00000-of-00001", shard_file.bytes, shard_file.length};
    files[2] = (struct named_bytes){"symbols.json", symbols, sizeof symbols - 1};
    return files;
}

static const struct named_bytes *slices(bool is_split)
{
    static struct named_bytes files[3];
    index_file.length = 0;
    put_slices(&index_file, is_split);
    files[0] = (struct named_bytes){"m", index_file.bytes, index_file.length};
    files[1] = (struct named_bytes){"symbols.json", symbols, sizeof symbols - 1};
    return files;
}

/* Whether the imported variable holds rig variable `index`'s numbers. */
static void expect_variable(const struct safetensors *weights, const char *name, size_t index)
{
    float values[RIG_ELEMENTS_MAX];
    size_t count = rig_values(&rig_variables[index], values);
    const struct tensor *tensor = safetensors_find(weights, name);
    assert_non_null(tensor);
    assert_int_equal(tensor_element_count(tensor), count);
    assert_memory_equal(tensor->data, values, count * sizeof *values);
}

static void expect_rig_model(const struct import_reply *reply)
{
    struct safetensors weights;
    struct error error;
    struct model *model = NULL;
    assert_int_equal(safetensors_parse(reply->weights, reply->weights_length, &weights, &error), STATUS_OK);
    assert_int_equal(weights.count, 5);
    expect_variable(&weights, "embedding", 0);
    expect_variable(&weights, "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/bias", 2);
    expect_variable(&weights, "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel", 4);
    expect_variable(&weights, "softmax/b", 5);
    expect_variable(&weights, "softmax/w", 6);
    safetensors_release(&weights);
    assert_int_equal(model_create_imported("rig", reply, &model, &error), STATUS_OK);
    assert_true(model_makes_text(model));
    assert_true(model_is_unsaved(model));
    model_unref(model);
}

static void test_checkpoints(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct import_reply reply;
        struct error error;
        const struct named_bytes *files = kind == 0 ? bundle() : slices(kind == 2);
        assert_int_equal(import_files(files, NULL, false, &answer, &reply, &error), STATUS_OK);
        assert_string_equal(json_string_value(json_object_get(reply.facts, "format")),
                            kind == 0 ? "TensorFlow V2 checkpoint" : "TensorFlow V1 checkpoint");
        expect_rig_model(&reply);
        import_reply_release(&reply);
    }
}

static void expect_forget_bias(const struct named_bytes *files, const char *const *settings, float forget_bias)
{
    struct import_reply reply;
    struct safetensors weights;
    struct error error;
    float values[RIG_ELEMENTS_MAX];
    size_t count = rig_values(&rig_variables[2], values);
    assert_int_equal(import_files(files, settings, false, &answer, &reply, &error), STATUS_OK);
    assert_int_equal(safetensors_parse(reply.weights, reply.weights_length, &weights, &error), STATUS_OK);
    const float *bias = safetensors_find(&weights, "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/bias")->data;
    for (size_t i = 0; i < count; i++) {
        bool is_forget_gate = i / RIG_UNITS == 2;
        assert_float_equal(bias[i], values[i] + (is_forget_gate ? forget_bias - 1 : 0), 1e-7);
    }
    safetensors_release(&weights);
    import_reply_release(&reply);
}

static void test_forget_bias(void **state)
{
    (void)state;
    expect_forget_bias(bundle(), NULL, 1);
    expect_forget_bias(bundle(), (const char *const[]){"forget_bias", "0.5", NULL}, 0.5f);
}

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
        expect_refusal(bundle_beside(&meta), NULL, STATUS_UNPROCESSABLE, reason);
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
#define ADDS "is a residual connection around a cell"

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

static void test_what_stands_in_a_cell(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool stands;
        enum foreign_cell cell;
    } rows[] = {
        {"rnn/while/lstm_cell/Tanh", true, FOREIGN_CELL_LSTM},
        {"basic_rnn_cell_2/Tanh", true, FOREIGN_CELL_RNN},
        {"rnn/gru_cell/candidate/Tanh", true, FOREIGN_CELL_GRU},
        {"RNN/GRUCell/Candidate/Tanh", true, FOREIGN_CELL_GRU},
        {"rnn/gru_cell/gates/Tanh", false, 0},
        {"rnn/lstm_cell/candidate/Tanh", false, 0},
        {"rnn/gru_cell", false, 0},
        {"rnn/gru_cell/", true, FOREIGN_CELL_GRU},
        {"rnn/Tanh", false, 0},
        {"", false, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum foreign_cell cell = FOREIGN_CELL_COUNT;
        assert_int_equal(tensorflow_cell_around(rows[i].name, strlen(rows[i].name), &cell), rows[i].stands);
        assert_int_equal(cell, rows[i].stands ? rows[i].cell : FOREIGN_CELL_COUNT);
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

static void test_refusals(void **state)
{
    (void)state;
    struct named_bytes files[4];
    memcpy(files, bundle(), sizeof files);
    files[2] = (struct named_bytes){"symbols.json", "[\"a\",\"b\",\"c\"]", 13};
    expect_refusal(files, NULL, STATUS_UNPROCESSABLE, "symbols.json has 3 symbols, the matrices have 5");
    files[2] = (struct named_bytes){"symbols.json", "{\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"e\":3}", 31};
    expect_refusal(files, NULL, STATUS_UNPROCESSABLE, "two symbols have the number 3");
    files[2] = (struct named_bytes){"symbols.json", "[\"a\",\"b\",\"c\",\"d\",\"  \"]", 22};
    expect_refusal(files, NULL, STATUS_UNPROCESSABLE, "symbol 4 is \"  \", while 4 of 5 symbols are one character");
    files[2].name = NULL;
    expect_refusal(files, NULL, STATUS_UNPROCESSABLE, "no vocabulary lies in or beside it");
    expect_refusal(files, (const char *const[]){"vocabulary", "bytes", NULL}, STATUS_UNPROCESSABLE,
                   "has 256 symbols, the matrices have 5");
    files[1].name = NULL;
    expect_refusal(files, NULL, STATUS_NOT_FOUND, "needs the shard m.data-00000-of-00001");
    memcpy(files, bundle(), sizeof files);
    shard_file.bytes[100] ^= 1;
    expect_refusal(files, NULL, STATUS_CORRUPT, "have another checksum");
    memcpy(files, bundle(), sizeof files);
    index_file.bytes[20] ^= 1;
    expect_refusal(files, NULL, STATUS_CORRUPT, "its checksum is another");
    struct import_settings set = {.count = 0};
    struct error error;
    assert_int_equal(import_settings_add(&set, "shape", "round", &error), STATUS_INVALID);
}

static void test_looking(void **state)
{
    (void)state;
    struct import_reply reply;
    struct error error;
    struct named_bytes files[4];
    memcpy(files, bundle(), sizeof files);
    files[2].name = NULL;
    assert_int_equal(import_files(files, NULL, true, &answer, &reply, &error), STATUS_OK);
    assert_int_equal(json_array_size(json_object_get(reply.facts, "tensors")), RIG_VARIABLES);
    assert_non_null(json_object_get(reply.facts, "problem"));
    assert_null(reply.weights);
    import_reply_release(&reply);
}

/* Cut off anywhere, a file is refused with a message, whatever is behind it. */
static void test_cut_off_everywhere(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct named_bytes files[4];
        memcpy(files, kind == 0 ? bundle() : slices(true), kind == 0 ? sizeof files : 3 * sizeof *files);
        for (size_t which = 0; which < 2 - (size_t)kind; which++) {
            size_t whole = files[which].length;
            for (size_t length = 0; length < whole; length++) {
                struct import_reply reply;
                struct error error = {.message = ""};
                unsigned char *exact = (unsigned char *)mem_copy_bytes(files[which].bytes, length);
                const void *bytes = files[which].bytes;
                files[which].bytes = exact;
                files[which].length = length;
                assert_int_not_equal(import_files(files, NULL, false, &answer, &reply, &error), STATUS_OK);
                assert_true(error.message[0] != '\0');
                files[which].bytes = bytes;
                mem_free(exact);
            }
            files[which].length = whole;
        }
    }
}

static void test_out_of_memory(void **state)
{
    (void)state;
    const struct named_bytes *files = bundle();
    for (uint64_t count = 0;; count++) {
        struct import_reply reply;
        struct error error;
        mem_fail_after(count);
        enum status status = import_files(files, NULL, false, &answer, &reply, &error);
        mem_fail_after(UINT64_MAX);
        if (status == STATUS_OK) {
            import_reply_release(&reply);
            assert_true(count > 5);
            return;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
    }
}

/* ---- the other formats: files that are inputs of the fuzz targets too ---- */

static const char *const whole_files[] = {
    "torch/zip",
    "torch/zip_swapped",
    "torch/zip_copies",
    "torch/zip_list",
    "torch/legacy",
    "torch7/torch_rnn",
    "torch7/torch_rnn_ascii",
    "torch7/char_rnn",
    "foreign_safetensors/tensorflow",
    "foreign_safetensors/torch",
    "onnx/torch",
    "onnx/folded",
    "onnx/lstm",
    "onnx/stack",
    "onnx/shapes",
    "onnx/gru",
    "onnx/rnn",
    "keras_zip/lstm",
    "keras_h5/lstm",
    "keras_h5/functional",
    "keras_h5/gru_stateful",
    "keras_h5/keras_1",
    "keras_h5/textgenrnn",
    "keras_h5/weights_keras_1",
    "keras_h5/weights_keras_3",
    "keras_h5/weights_names",
};

/* What is asked for where there are weights alone. */
static const char *const *settings_of(const char *name)
{
    static const char *const window[] = {"window", "4", NULL};
    return strncmp(name, "keras_h5/weights", 16) == 0 ? window : NULL;
}

static void read_input(const char *name, struct named_bytes files[3], char **ret_content)
{
    char path[128];
    struct error error;
    size_t length = 0;
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", name);
    if (file_read(path, 1 << 20, ret_content, &length, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    files[0] = (struct named_bytes){"model", *ret_content, length};
    files[1] = (struct named_bytes){"symbols.json", symbols, sizeof symbols - 1}; /* of those that have none inside */
    files[2] = (struct named_bytes){NULL, NULL, 0};
}

static void test_other_formats_cut_off_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof whole_files / sizeof *whole_files; i++) {
        struct named_bytes files[3];
        struct import_reply reply;
        struct error error = {.message = ""};
        char *content = NULL;
        read_input(whole_files[i], files, &content);
        if (import_files(files, settings_of(whole_files[i]), false, &answer, &reply, &error) != STATUS_OK) {
            fail_msg("%s: %s", whole_files[i], error.message);
        }
        import_reply_release(&reply);
        size_t whole = files[0].length;
        bool is_sampled = !run_is_whole() && strncmp(whole_files[i], "keras_h5/", 9) == 0; /* libhdf5 clears much */
        for (size_t length = 0; length < whole; length += is_sampled ? 13 : 1) {
            char *exact = mem_copy_bytes(content, length);
            error.message[0] = '\0';
            files[0] = (struct named_bytes){"model", exact, length};
            assert_int_not_equal(import_files(files, settings_of(whole_files[i]), false, &answer, &reply, &error),
                                 STATUS_OK);
            assert_true(error.message[0] != '\0');
            mem_free(exact);
        }
        mem_free(content);
    }
}

static void test_other_formats_out_of_memory(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof whole_files / sizeof *whole_files; i++) {
        struct named_bytes files[3];
        struct import_reply reply;
        struct error error;
        char *content = NULL;
        read_input(whole_files[i], files, &content);
        enum status status = STATUS_NO_MEMORY;
        for (uint64_t count = 0; status == STATUS_NO_MEMORY; count++) {
            mem_fail_after(count);
            status = import_files(files, settings_of(whole_files[i]), false, &answer, &reply, &error);
            mem_fail_after(UINT64_MAX);
        }
        if (status != STATUS_OK) {
            fail_msg("%s: %s", whole_files[i], error.message);
        }
        import_reply_release(&reply);
        mem_free(content);
    }
}

/* What was unpacked is not held twice: the file's own bytes are given up. */
static void test_unpacked_files_are_given_up(void **state)
{
    (void)state;
    static const char *const names[] = {"torch/zip", "keras_zip/lstm", "keras_h5/lstm", "onnx/torch"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        struct error error = {.message = ""};
        struct foreign_source source;
        struct foreign_model foreign = {.arena = {.bytes_max = 1 << 20}};
        snprintf(path, sizeof path, "tests/fuzz/corpus/%s", names[i]);
        assert_int_equal(foreign_source_open(path, NULL, &source, &error), STATUS_OK);
        struct source_file *file = foreign_source_find(&source, source.chosen);
        assert_non_null(file);
        foreign.entry = file->name;
        if (foreign_format_of(file)->read(&source, file, &foreign, &error) != STATUS_OK) {
            fail_msg("%s: %s", names[i], error.message);
        }
        assert_null(file->content);
        assert_true(foreign.tensor_count > 0);
        foreign_model_release(&foreign);
        foreign_source_release(&source);
    }
}

/* What a reading process writes is a stranger's. */
static void test_replies(void **state)
{
    (void)state;
    struct import_reply reply;
    struct error error;
    assert_int_equal(import_files(bundle(), NULL, false, &answer, &reply, &error), STATUS_OK);
    import_reply_release(&reply);
    for (size_t length = 0; length < answer.length; length++) {
        assert_int_not_equal(import_reply_parse(answer.bytes, length, &reply, &error), STATUS_OK);
    }
    answer.bytes[0] = 'L';
    assert_int_equal(import_reply_parse(answer.bytes, answer.length, &reply, &error), STATUS_CORRUPT);
    answer.bytes[0] = 'l';
    memset(answer.bytes + 8, 0xFF, 8);
    assert_int_equal(import_reply_parse(answer.bytes, answer.length, &reply, &error), STATUS_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoints),
        cmocka_unit_test(test_forget_bias),
        cmocka_unit_test(test_the_graph_says_the_forget_bias),
        cmocka_unit_test(test_a_graph_that_says_no_forget_bias),
        cmocka_unit_test(test_operators_that_are_whole_cells),
        cmocka_unit_test(test_a_graph_that_does_what_is_not_built),
        cmocka_unit_test(test_what_stands_in_a_cell),
        cmocka_unit_test(test_all_that_is_not_built_is_said),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_looking),
        cmocka_unit_test(test_cut_off_everywhere),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_other_formats_cut_off_everywhere),
        cmocka_unit_test(test_other_formats_out_of_memory),
        cmocka_unit_test(test_unpacked_files_are_given_up),
        cmocka_unit_test(test_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
