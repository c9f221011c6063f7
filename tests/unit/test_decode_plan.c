/* The decode plan: its steps equal an independent double-precision model (absolute tolerance 2e-5 after 12 steps, where
 * fp32 is summed in pairs 5e-5; test_rnn_narrow and test_rnn_pairs have single steps), the input table changes no bit,
 * wrong sizes and missing memory are refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/decode_model.h"

enum { SEED = 5, STEPS = 12, UNITS_MAX = 128, SYMBOLS_MAX = 300, LAYERS_MAX = 3 };

/* The state of the reference, and its logits after a step. */
struct reference {
    double c[LAYERS_MAX][UNITS_MAX];
    double h[LAYERS_MAX][UNITS_MAX];
    double y[LAYERS_MAX][UNITS_MAX]; /* h, or h and what the layer read */
    double logits[SYMBOLS_MAX];
};

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

/* sums = [input, h] · kernel + bias */
static void affine(const struct decode_layer_weights *layer, const double *input, const double *h, const float *kernel,
                   const float *bias, size_t columns, double *sums)
{
    for (size_t column = 0; column < columns; column++) {
        sums[column] = (double)bias[column];
        for (size_t k = 0; k < layer->input_size + layer->units; k++) {
            sums[column] +=
                (k < layer->input_size ? input[k] : h[k - layer->input_size]) * (double)kernel[k * columns + column];
        }
    }
}

static void reference_step_lstm(const struct decode_layer_weights *layer, const double *input, double *c, double *h)
{
    static double sums[4 * UNITS_MAX];
    size_t units = layer->units;
    affine(layer, input, h, layer->kernel, layer->bias, 4 * units, sums);
    for (size_t unit = 0; unit < units; unit++) {
        c[unit] = c[unit] * sigmoid(sums[2 * units + unit] + (double)layer->forget_bias) +
                  sigmoid(sums[unit]) * tanh(sums[units + unit]);
        h[unit] = sigmoid(sums[3 * units + unit]) * tanh(c[unit]);
    }
}

static void reference_step_gru(const struct decode_layer_weights *layer, const double *input, double *h)
{
    static double sums[2 * UNITS_MAX];
    static double candidate[UNITS_MAX];
    static double reset[UNITS_MAX];
    size_t units = layer->units;
    affine(layer, input, h, layer->kernel, layer->bias, 2 * units, sums);
    for (size_t unit = 0; unit < units; unit++) {
        reset[unit] = sigmoid(sums[unit]) * h[unit];
    }
    affine(layer, input, reset, layer->candidate_kernel, layer->candidate_bias, units, candidate);
    for (size_t unit = 0; unit < units; unit++) {
        double update = sigmoid(sums[units + unit]);
        h[unit] = update * h[unit] + (1 - update) * tanh(candidate[unit]);
    }
}

static void reference_step_layer(const struct decode_layer_weights *layer, const double *input, double *c, double *h)
{
    static double sums[UNITS_MAX];
    if (layer->cell == DECODE_CELL_LSTM) {
        reference_step_lstm(layer, input, c, h);
    } else if (layer->cell == DECODE_CELL_GRU) {
        reference_step_gru(layer, input, h);
    } else {
        affine(layer, input, h, layer->kernel, layer->bias, layer->units, sums);
        for (size_t unit = 0; unit < layer->units; unit++) {
            h[unit] = tanh(sums[unit]);
        }
    }
}

static void reference_step(const struct decode_weights *weights, uint32_t symbol, struct reference *r)
{
    double input[SYMBOLS_MAX] = {0};
    input[symbol] = 1.0;
    for (size_t k = 0; k < weights->embedding_size; k++) {
        input[k] = (double)weights->embedding[symbol * weights->embedding_size + k];
    }
    for (size_t i = 0; i < weights->layer_count; i++) {
        const double *x = i == 0 ? input : r->y[i - 1];
        reference_step_layer(&weights->layers[i], x, r->c[i], r->h[i]);
        for (size_t unit = 0; unit < weights->layers[i].units; unit++) {
            r->y[i][unit] = r->h[i][unit] + (weights->layers[i].is_residual ? x[unit] : 0);
        }
    }
    size_t top = weights->layer_count - 1;
    for (size_t n = 0; n < weights->vocabulary_size; n++) {
        r->logits[n] = (double)weights->softmax_b[n];
        for (size_t k = 0; k < weights->layers[top].units; k++) {
            float weight = weights->softmax_w == NULL ? weights->embedding[n * weights->embedding_size + k]
                                                      : weights->softmax_w[k * weights->vocabulary_size + n];
            r->logits[n] += r->y[top][k] * (double)weight;
        }
    }
}

/* These models are near to chaos: what rounds otherwise ends elsewhere. */
static double tolerance_of(const struct decode_plan *plan)
{
    if (plan->precision == RNN_PRECISION_BF16) {
        return 0.01;
    }
    return plan->output.steps->words_product == NULL ? 2e-5 : 5e-5;
}

static void check_state(const struct decode_plan *plan, const float *slot, unsigned parity, const struct reference *r)
{
    float *state = mem_allocate(decode_plan_state_bytes(plan), 1);
    double tolerance = tolerance_of(plan);
    decode_plan_save_state(plan, slot, parity, state);
    size_t n = 0;
    for (size_t i = 0; i < plan->layer_count; i++) {
        for (size_t unit = 0; plan->layers[i].cell == DECODE_CELL_LSTM && unit < plan->layers[i].units; unit++, n++) {
            assert_true(fabs((double)state[n] - r->c[i][unit]) < tolerance);
        }
        for (size_t unit = 0; unit < plan->layers[i].units; unit++, n++) {
            assert_true(fabs((double)state[n] - r->h[i][unit]) < tolerance);
        }
    }
    assert_int_equal(n * sizeof *state, decode_plan_state_bytes(plan));
    mem_free(state);
}

static void check_model(struct decode_model *model)
{
    struct decode_plan *plan;
    struct error error;
    assert_int_equal(decode_plan_create(&model->weights, &plan, &error), STATUS_OK);
    assert_int_equal(decode_plan_warm_up(plan, &error), STATUS_OK);
    float *slot = mem_allocate_aligned(plan->slot_floats, sizeof *slot);
    float *logits = mem_allocate_aligned(plan->output.stride, sizeof *logits);
    struct reference *reference = mem_allocate(1, sizeof *reference);
    for (unsigned step = 0; step < STEPS; step++) {
        uint32_t symbol = (uint32_t)(step * 7 % model->weights.vocabulary_size);
        decode_model_step(plan, symbol, slot, step % 2, logits);
        reference_step(&model->weights, symbol, reference);
        check_state(plan, slot, (step + 1) % 2, reference);
        for (size_t n = 0; n < model->weights.vocabulary_size; n++) {
            assert_true(fabs((double)logits[n] - reference->logits[n]) <
                        tolerance_of(plan) * (1.0 + fabs(reference->logits[n])));
        }
    }
    mem_free(slot);
    mem_free(logits);
    mem_free(reference);
    decode_plan_destroy(plan);
}

/* The slot after a step from a state of nothing but `value`, as floats. */
static float *step_from(const struct decode_plan *plan, float value)
{
    struct error error;
    size_t count = decode_plan_state_bytes(plan) / sizeof(float);
    float *numbers = mem_allocate(count, sizeof *numbers);
    float *slot = mem_allocate_aligned(plan->slot_floats, sizeof *slot);
    float *logits = mem_allocate_aligned(plan->output.stride, sizeof *logits);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = value;
    }
    assert_int_equal(decode_plan_load_state(plan, numbers, slot, &error), STATUS_OK);
    assert_int_equal(decode_plan_step_alone(plan, slot, 0, 1, logits, &error), STATUS_OK);
    mem_free(numbers);
    mem_free(logits);
    return slot;
}

/* An h beyond ±1, which no cell makes, would not fit the bytes of int8, nor the units of pairs. */
static void check_clamped(enum rnn_precision precision)
{
    struct decode_model model;
    struct decode_plan *plan;
    struct error error;
    decode_model_init_cells(&model, decode_model_characters(20), DECODE_CELL_GRU, 0, 1, 33, SEED);
    model.weights.precision = precision;
    assert_int_equal(decode_plan_create(&model.weights, &plan, &error), STATUS_OK);
    for (int sign = -1; sign <= 1; sign += 2) {
        float *within = step_from(plan, (float)sign);
        float *beyond = step_from(plan, 5.0f * (float)sign);
        assert_memory_equal(within, beyond, plan->slot_floats * sizeof *within);
        mem_free(within);
        mem_free(beyond);
    }
    decode_plan_destroy(plan);
    decode_model_release(&model);
}

static void test_states_are_clamped(void **state)
{
    (void)state;
    for (int precision = 0; precision < RNN_PRECISION_COUNT; precision++) {
        check_clamped((enum rnn_precision)precision);
    }
}

static struct vocabulary *make_bytes(void)
{
    struct vocabulary *vocabulary;
    struct error error;
    assert_int_equal(vocabulary_create_bytes(&vocabulary, &error), STATUS_OK);
    return vocabulary;
}

static void check_cell(enum decode_cell cell)
{
    static const size_t units[] = {1, 5, 16, 100, 128};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
            static const size_t embeddings[] = {0, 4, 10, 40}; /* 4 and 10: without a table for many units */
            static const size_t symbols[] = {3, 0, 85, 65};    /* 0: bytes */
            for (size_t e = 0; e < sizeof embeddings / sizeof *embeddings; e++) {
                struct vocabulary *vocabulary = symbols[e] == 0 ? make_bytes() : decode_model_characters(symbols[e]);
                struct decode_model model;
                decode_model_init_cells(&model, vocabulary, cell, embeddings[e], 1 + u % LAYERS_MAX, units[u], SEED);
                model.weights.kernels = rnn_kernels_at(set)->name;
                check_model(&model);
                decode_model_release(&model);
            }
        }
    }
}

static void test_steps_equal_reference(void **state)
{
    (void)state;
    check_cell(DECODE_CELL_LSTM);
}

static void test_other_cells_equal_reference(void **state)
{
    (void)state;
    check_cell(DECODE_CELL_GRU);
    check_cell(DECODE_CELL_RNN);
}

static void test_tied_output_equals_reference(void **state)
{
    (void)state;
    static const enum decode_cell cells[] = {DECODE_CELL_LSTM, DECODE_CELL_GRU, DECODE_CELL_RNN};
    for (size_t c = 0; c < sizeof cells / sizeof *cells; c++) {
        for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
            struct decode_model model;
            decode_model_init_cells(&model, decode_model_characters(70), cells[c], 20, 2, 20, SEED);
            model.weights.kernels = rnn_kernels_at(set)->name;
            model.weights.softmax_w = NULL;
            check_model(&model);
            decode_model_release(&model);
        }
    }
}

/* Around all layers and around some; with an output tied to the embedding too. */
static void test_residual_connections_equal_reference(void **state)
{
    (void)state;
    static const enum decode_cell cells[] = {DECODE_CELL_LSTM, DECODE_CELL_GRU, DECODE_CELL_RNN};
    static const unsigned around[] = {7, 6, 2, 4, 1};
    for (size_t c = 0; c < sizeof cells / sizeof *cells; c++) {
        for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
            for (size_t n = 0; n < sizeof around / sizeof *around; n++) {
                size_t units = n == 1 ? 37 : 70;
                struct decode_model model;
                decode_model_init_cells(&model, decode_model_characters(n == 0 ? 80 : 11), cells[c], units, 3, units,
                                        SEED);
                model.weights.kernels = rnn_kernels_at(set)->name;
                model.weights.softmax_w = n == 0 ? NULL : model.weights.softmax_w;
                for (size_t i = 0; i < 3; i++) {
                    model.weights.layers[i].is_residual = (around[n] >> i & 1) != 0;
                }
                check_model(&model);
                decode_model_release(&model);
            }
        }
    }
}

static bool has_table(const struct decode_model *model)
{
    struct decode_plan *plan;
    struct error error;
    assert_int_equal(decode_plan_create(&model->weights, &plan, &error), STATUS_OK);
    bool has = plan->table != NULL;
    decode_plan_destroy(plan);
    return has;
}

/* A model without a table of symbols adds the embedding itself, which narrow weights keep as they do kernels. A small
 * layer as wide as its embedding has one with fp32, and of tanh cells with any weights. */
static void test_residual_connection_adds_gathered_embedding(void **state)
{
    (void)state;
    static const enum decode_cell cells[] = {DECODE_CELL_LSTM, DECODE_CELL_GRU};
    for (size_t c = 0; c < sizeof cells / sizeof *cells; c++) {
        for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
            struct decode_model model;
            decode_model_init_cells(&model, decode_model_characters(85), cells[c], 10, 1, 10, SEED);
            model.weights.kernels = rnn_kernels_at(set)->name;
            model.weights.precision = RNN_PRECISION_BF16;
            model.weights.layers[0].is_residual = true;
            assert_false(has_table(&model));
            check_model(&model);
            decode_model_release(&model);
        }
    }
}

/* For fewer symbols the table is worth its memory: the same model with some of its symbols left out must make the same
 * bits as with all of them, which gathers the embedding instead. */
static void check_table(enum decode_cell cell)
{
    enum { EMBEDDING = 8, UNITS = 26 };
    struct decode_model model;
    decode_model_init_cells(&model, decode_model_characters(85), cell, EMBEDDING, 1, UNITS, SEED);
    struct decode_plan *plan;
    struct error error;
    assert_int_equal(decode_plan_create(&model.weights, &plan, &error), STATUS_OK);
    assert_null(plan->table); /* 85 × 78 floats (GRU) would replace 85 × 8 + 8 × 78, less than a quarter */
    struct decode_model narrow = model;
    narrow.weights.vocabulary_size = 30; /* 30 × 78 replace 30 × 8 + 8 × 78 */
    struct decode_plan *tabled;
    assert_int_equal(decode_plan_create(&narrow.weights, &tabled, &error), STATUS_OK);
    assert_non_null(tabled->table);
    float *slots = mem_allocate_aligned(2 * plan->slot_floats, sizeof *slots);
    float *logits = mem_allocate_aligned(plan->output.stride, sizeof *logits);
    for (unsigned step = 0; step < STEPS; step++) {
        decode_model_step(plan, step * 2, slots, step % 2, logits);
        decode_model_step(tabled, step * 2, slots + plan->slot_floats, step % 2, logits);
        assert_memory_equal(slots, slots + plan->slot_floats, plan->slot_floats * sizeof *slots);
    }
    mem_free(slots);
    mem_free(logits);
    decode_plan_destroy(plan);
    decode_plan_destroy(tabled);
    decode_model_release(&model);
}

static void test_table_changes_no_bit(void **state)
{
    (void)state;
    check_table(DECODE_CELL_LSTM);
    check_table(DECODE_CELL_GRU);
}

static size_t measure(enum rnn_precision precision, size_t size, size_t units, size_t symbols)
{
    struct decode_weights sizes = {.vocabulary_size = symbols,
                                   .embedding_size = size,
                                   .layer_count = 1,
                                   .layers = {{.cell = DECODE_CELL_LSTM, .input_size = size, .units = units}},
                                   .precision = precision};
    return decode_plan_measure(&sizes);
}

/* The largest vocabularies with a table: the one after gathers the embedding, which takes less memory. */
static void test_table_is_limited(void **state)
{
    (void)state;
    static const struct {
        enum rnn_precision precision;
        size_t embedding_size, units, symbols;
    } limits[] = {
        {RNN_PRECISION_FP32, 8, 26, 46},         /* 46 · 104 ≤ 4 · 8 · (46 + 104) */
        {RNN_PRECISION_BF16, 24, 26, 89},        /* 89 · 104 ≤ 4 · 24 / 2 · (89 + 104) */
        {RNN_PRECISION_INT8, 24, 26, 31},        /* 31 · 104 ≤ 4 · 24 / 4 · (31 + 104) */
        {RNN_PRECISION_FP32, 1000, 1000, 16777}, /* 16,777 · 4,000 · 4 ≤ 256 Mi */
    };
    for (size_t n = 0; n < sizeof limits / sizeof *limits; n++) {
        size_t most = limits[n].symbols;
        size_t bytes = measure(limits[n].precision, limits[n].embedding_size, limits[n].units, most);
        assert_true(bytes > measure(limits[n].precision, limits[n].embedding_size, limits[n].units, most / 2));
        assert_true(bytes > measure(limits[n].precision, limits[n].embedding_size, limits[n].units, most + 1));
    }
    size_t units = DECODE_UNITS_MAX; /* larger than any limit, but smaller than what it replaces */
    size_t more = measure(RNN_PRECISION_FP32, units, units, 8640) - measure(RNN_PRECISION_FP32, units, units, 8000);
    assert_true(more > 640 * 4 * units * sizeof(float)); /* embedding and output alone: half of that */
}

/* 23 MB are more than a last cache gives at every step. Fetching them further ahead changes no bit. */
static void test_far_weights_change_no_bit(void **state)
{
    (void)state;
    struct decode_model model;
    struct decode_plan *plan;
    struct error error;
    decode_model_init(&model, decode_model_characters(3), 0, 1, 1200, SEED);
    assert_int_equal(decode_plan_create(&model.weights, &plan, &error), STATUS_OK);
    assert_true(plan->parts[0].weights.is_far && plan->output.is_far);
    float *slots = mem_allocate_aligned(2 * plan->slot_floats, sizeof *slots);
    float *logits = mem_allocate_aligned(2 * plan->logits_stride, sizeof *logits);
    for (unsigned near = 0; near < 2; near++) {
        plan->parts[0].weights.is_far = plan->output.is_far = near == 0;
        for (unsigned step = 0; step < 4; step++) {
            decode_model_step(plan, step % 3, slots + near * plan->slot_floats, step % 2,
                              logits + near * plan->logits_stride);
        }
    }
    assert_memory_equal(slots, slots + plan->slot_floats, plan->slot_floats * sizeof *slots);
    assert_memory_equal(logits, logits + plan->logits_stride, plan->logits_stride * sizeof *logits);
    mem_free(slots);
    mem_free(logits);
    decode_plan_destroy(plan);
    decode_model_release(&model);
}

static void refuse(struct decode_weights weights, enum status wanted, const char *message)
{
    struct decode_plan *plan;
    struct error error;
    assert_int_equal(decode_plan_create(&weights, &plan, &error), wanted);
    assert_non_null(strstr(error.message, message));
}

static void test_wrong_sizes_are_refused(void **state)
{
    (void)state;
    struct decode_model model;
    decode_model_init(&model, decode_model_characters(10), 4, 2, 8, SEED);
    struct decode_weights weights = model.weights;
    weights.layers[1].input_size = 9;
    refuse(weights, STATUS_INVALID, "layer 1 reads 9 inputs, but there are 8");
    weights = model.weights;
    weights.layers[0].units = DECODE_UNITS_MAX + 1;
    refuse(weights, STATUS_LIMIT, "layer 0 has 16385 units");
    weights = model.weights;
    weights.layers[1].units = 0;
    refuse(weights, STATUS_INVALID, "layer 1 has 0 units");
    weights = model.weights;
    weights.embedding = NULL;
    refuse(weights, STATUS_INVALID, "embedding size 4 without");
    weights = model.weights;
    weights.layer_count = DECODE_LAYERS_MAX + 1;
    refuse(weights, STATUS_LIMIT, "17 layers");
    weights.layer_count = 0;
    refuse(weights, STATUS_INVALID, "0 layers");
    weights = model.weights;
    weights.vocabulary_size = DECODE_SYMBOLS_MAX + 1;
    refuse(weights, STATUS_LIMIT, "1048577 symbols");
    weights = model.weights;
    weights.softmax_w = NULL;
    refuse(weights, STATUS_INVALID, "embedding size 4 cannot be tied to an output of 8 units");
    weights = model.weights;
    weights.layers[0].is_residual = true;
    refuse(weights, STATUS_INVALID, "layer 0 has 8 units, but its residual connection 4 inputs");
    weights = model.weights;
    weights.kernels = "abacus";
    refuse(weights, STATUS_UNSUPPORTED, "abacus");
    decode_model_release(&model);
}

static void test_not_finite_is_seen_at_warm_up(void **state)
{
    (void)state;
    struct decode_model model;
    decode_model_init(&model, decode_model_characters(10), 0, 1, 8, SEED);
    model.values[0] = NAN; /* layer 0's kernel, row of symbol 0 */
    struct decode_plan *plan;
    struct error error;
    assert_int_equal(decode_plan_create(&model.weights, &plan, &error), STATUS_OK);
    assert_int_equal(decode_plan_warm_up(plan, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.code, "not_finite");
    decode_plan_destroy(plan);
    decode_model_release(&model);
}

static void test_no_memory_is_reported(void **state)
{
    (void)state;
    for (size_t embedding_size = 0; embedding_size <= 40; embedding_size += 20) {
        struct decode_model model;
        decode_model_init_cells(&model, decode_model_characters(20),
                                embedding_size == 40 ? DECODE_CELL_GRU : DECODE_CELL_LSTM, embedding_size, 2,
                                embedding_size == 20 ? 20 : 4, SEED);
        model.weights.softmax_w = embedding_size == 20 ? NULL : model.weights.softmax_w;
        enum status status = STATUS_NO_MEMORY;
        for (uint64_t n = 0; status != STATUS_OK; n++) {
            struct decode_plan *plan = NULL;
            struct error error;
            mem_fail_after(n);
            status = decode_plan_create(&model.weights, &plan, &error);
            mem_fail_after(UINT64_MAX);
            assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
            assert_true(n < 50);
            decode_plan_destroy(plan);
        }
        decode_model_release(&model);
    }
}

static void test_bytes_are_counted(void **state)
{
    (void)state;
    struct decode_model model;
    decode_model_init(&model, decode_model_characters(64), 0, 2, 128, SEED);
    struct decode_plan *plan;
    struct error error;
    assert_int_equal(decode_plan_create(&model.weights, &plan, &error), STATUS_OK);
    size_t weights = 64 * 512 + 128 * 512 + 512 + 256 * 512 + 512 + 128 * 64 + 64;
    size_t sums = 3 * (512 + 512) + 2 * 64; /* scales and offsets */
    sums = plan->parts[0].weights.scales == NULL ? 0 : sums;
    assert_int_equal(decode_plan_bytes(plan), sizeof *plan + (weights + sums) * sizeof(float));
    assert_int_equal(plan->step_bytes, (weights + sums - 64 * 512) * sizeof(float)); /* without the table */
    assert_false(plan->output.is_far);
    assert_int_equal(decode_plan_vocabulary_size(plan), 64);
    assert_string_equal(decode_plan_kernels(plan), rnn_kernels_steps(rnn_kernels_find(NULL), RNN_PRECISION_FP32)->name);
    decode_plan_destroy(plan);
    decode_plan_destroy(NULL);
    decode_model_release(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states_are_clamped),
        cmocka_unit_test(test_steps_equal_reference),
        cmocka_unit_test(test_other_cells_equal_reference),
        cmocka_unit_test(test_tied_output_equals_reference),
        cmocka_unit_test(test_residual_connections_equal_reference),
        cmocka_unit_test(test_residual_connection_adds_gathered_embedding),
        cmocka_unit_test(test_table_changes_no_bit),
        cmocka_unit_test(test_table_is_limited),
        cmocka_unit_test(test_far_weights_change_no_bit),
        cmocka_unit_test(test_wrong_sizes_are_refused),
        cmocka_unit_test(test_not_finite_is_seen_at_warm_up),
        cmocka_unit_test(test_no_memory_is_reported),
        cmocka_unit_test(test_bytes_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
