/* Models written as ONNX: what stands in the file, for each cell, and with every allocation failing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "engine/export/onnx_write.h"
#include "engine/import/onnx.pb-c.h"
#include "tests/unit/decode_model.h"
#include "tests/unit/text_vocabulary.h"

enum { UNITS = 5, LAYERS = 2, EMBEDDING = 3 };

static void make(struct decode_model *model, enum decode_cell cell, size_t embedding)
{
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(text_vocabulary("Ahab é", 7, &vocabulary, &error), STATUS_OK);
    decode_model_init_cells(model, vocabulary, cell, embedding, LAYERS, UNITS, 3);
}

static enum status write_onnx(const struct decode_model *model, void **bytes, size_t *length)
{
    struct error error;
    const struct onnx_write_options options = {
        .weights = &model->weights, .vocabulary = model->vocabulary, .description = "ahab@1", .producer_version = "1"};
    return onnx_write(&options, bytes, length, &error);
}

static Onnx__ModelProto *read_back(const struct decode_model *model)
{
    void *bytes = NULL;
    size_t length = 0;
    assert_int_equal(write_onnx(model, &bytes, &length), STATUS_OK);
    Onnx__ModelProto *read = onnx__model_proto__unpack(NULL, length, bytes);
    mem_free(bytes);
    assert_non_null(read);
    return read;
}

static const float *tensor(const Onnx__ModelProto *model, const char *name, size_t count)
{
    for (size_t i = 0; i < model->graph->n_initializer; i++) {
        const Onnx__TensorProto *found = model->graph->initializer[i];
        if (strcmp(found->name, name) == 0) {
            assert_int_equal(found->raw_data.len, count * sizeof(float));
            return (const float *)(const void *)found->raw_data.data;
        }
    }
    fail_msg("no initializer %s", name);
    return NULL;
}

/* Where TensorFlow keeps ONNX's gates, in its order; a GRU's third one is the candidate. */
static void expect_layer(const Onnx__ModelProto *read, const struct decode_layer_weights *layer, size_t index)
{
    static const size_t lstm[] = {0, 3, 2, 1};
    static const size_t gru[] = {1, 0, 0};
    static const size_t rnn[] = {0};
    static const size_t *const orders[] = {lstm, gru, rnn};
    static const size_t gate_counts[] = {4, 3, 1};
    size_t gates = gate_counts[layer->cell];
    char name[32];
    snprintf(name, sizeof name, "layer_%zu.W", index);
    const float *w = tensor(read, name, gates * UNITS * layer->input_size);
    snprintf(name, sizeof name, "layer_%zu.R", index);
    const float *r = tensor(read, name, gates * UNITS * UNITS);
    snprintf(name, sizeof name, "layer_%zu.B", index);
    const float *b = tensor(read, name, 2 * gates * UNITS);
    for (size_t row = 0; row < gates * UNITS; row++) {
        bool is_candidate = layer->cell == DECODE_CELL_GRU && row / UNITS == 2;
        size_t column = orders[layer->cell][row / UNITS] * UNITS + row % UNITS;
        size_t columns = is_candidate ? UNITS : (layer->cell == DECODE_CELL_GRU ? 2 : gates) * UNITS;
        const float *kernel = is_candidate ? layer->candidate_kernel : layer->kernel;
        const float *bias = is_candidate ? layer->candidate_bias : layer->bias;
        bool is_forget = layer->cell == DECODE_CELL_LSTM && row / UNITS == 2;
        for (size_t i = 0; i < layer->input_size; i++) {
            assert_float_equal(w[row * layer->input_size + i], kernel[i * columns + column], 0);
        }
        for (size_t i = 0; i < UNITS; i++) {
            assert_float_equal(r[row * UNITS + i], kernel[(layer->input_size + i) * columns + column], 0);
        }
        assert_float_equal(b[row], bias[column] + (is_forget ? layer->forget_bias : 0), 0);
        assert_float_equal(b[gates * UNITS + row], 0, 0);
    }
}

static void expect_nodes(const Onnx__ModelProto *read, const char *const *ops)
{
    for (size_t i = 0; i < read->graph->n_node; i++) {
        assert_non_null(ops[i]);
        assert_string_equal(read->graph->node[i]->op_type, ops[i]);
    }
    assert_null(ops[read->graph->n_node]);
}

static void test_each_cell(void **state)
{
    (void)state;
    static const char *const names[] = {"LSTM", "GRU", "RNN"};
    for (int cell = DECODE_CELL_LSTM; cell <= DECODE_CELL_RNN; cell++) {
        struct decode_model model;
        make(&model, (enum decode_cell)cell, 0);
        Onnx__ModelProto *read = read_back(&model);
        const char *const ops[] = {"OneHot", names[cell], "Squeeze", names[cell], "Squeeze",
                                   "MatMul", "Add",       "Softmax", NULL};
        expect_nodes(read, ops);
        for (size_t i = 0; i < LAYERS; i++) {
            expect_layer(read, &model.weights.layers[i], i);
        }
        size_t states = cell == DECODE_CELL_LSTM ? 2 : 1;
        assert_int_equal(read->graph->n_input, 1 + LAYERS * states);
        assert_int_equal(read->graph->n_output, 2 + LAYERS * states);
        assert_string_equal(read->metadata_props[0]->key, "vocabulary");
        assert_string_equal(read->metadata_props[0]->value,
                            "{\"kind\":\"characters\",\"symbols\":[\" \",\"A\",\"a\",\"b\",\"h\",\"é\"]}");
        onnx__model_proto__free_unpacked(read, NULL);
        decode_model_release(&model);
    }
}

static void test_residual_and_tied(void **state)
{
    (void)state;
    struct decode_model model;
    make(&model, DECODE_CELL_LSTM, UNITS);
    model.weights.softmax_w = NULL;
    model.weights.layers[1].is_residual = true;
    Onnx__ModelProto *read = read_back(&model);
    expect_nodes(read, (const char *const[]){"Gather", "LSTM", "Squeeze", "LSTM", "Squeeze", "Add", "Transpose",
                                             "MatMul", "Add", "Softmax", NULL});
    size_t count = model.weights.vocabulary_size * UNITS;
    assert_memory_equal(tensor(read, "embedding", count), model.weights.embedding, count * sizeof(float));
    onnx__model_proto__free_unpacked(read, NULL);
    decode_model_release(&model);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct decode_model model;
    make(&model, DECODE_CELL_GRU, EMBEDDING);
    enum status status = STATUS_NO_MEMORY;
    for (uint64_t count = 0; status != STATUS_OK; count++) {
        void *bytes = NULL;
        size_t length = 0;
        mem_fail_after(count);
        status = write_onnx(&model, &bytes, &length);
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        mem_free(bytes);
    }
    decode_model_release(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_cell),
        cmocka_unit_test(test_residual_and_tied),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
