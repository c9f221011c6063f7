/* Decoding of every kind of cell, tied or not, embedded or not: the kernels of each part give the same bits whatever
 * the rows of a call, and in fp32 and int8 those of the plain kernels; the plan's logits are those of the graph's
 * predict head (within 4e-6 in fp32, 0.01 in bf16, 0.05 in int8). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <jansson.h>
#include <cmocka.h>

#include "engine/math/gemm.h"
#include "engine/model/model.h"
#include "engine/model/snapshot.h"
#include "engine/store/version_directory.h"
#include "tests/unit/decode_model.h"

enum { SEED = 17, ROWS_MAX = 13, UNITS_MAX = 130, INPUTS = 21, SYMBOLS = 11, STEPS = 9 };

/* ---- kernels ---- */

/* What one row brings to a part, and what it takes away: as a slot of a plan has it. */
struct cell_row {
    _Alignas(64) char input[INPUTS * 4 + 64];
    _Alignas(64) char hidden[2][256 * 4];
    _Alignas(64) float cell[256];
    _Alignas(64) float update[256];
};

static void fill_row(enum rnn_precision precision, size_t index, size_t units, struct cell_row *row)
{
    float values[2][256] = {{0}};
    rng_fill_uniform(SEED, index, INPUTS, -1.0f, 1.0f, values[0]);
    rng_fill_uniform(SEED, 100 + index, units, -1.0f, 1.0f, values[1]);
    memset(row, 0, sizeof *row);
    memset(row->input, precision == RNN_PRECISION_INT8 ? RNN_INT8_ZERO : 0, sizeof row->input);
    memset(row->hidden, precision == RNN_PRECISION_INT8 ? RNN_INT8_ZERO : 0, sizeof row->hidden);
    rnn_write_hidden(precision, values[0], INPUTS, row->input);
    rnn_write_hidden(precision, values[1], units, row->hidden[0]);
    memcpy(row->cell, values[1], units * sizeof(float));
    rng_fill_uniform(SEED, 200 + index, units, 0.0f, 1.0f, row->update);
}

/* One part of a step of ROWS_MAX rows in calls of at most `rows_a_call`. */
static void run_part(const struct rnn_steps *steps, const struct rnn_layer_weights *weights, size_t rows_a_call,
                     struct cell_row *own)
{
    struct rnn_layer layer;
    struct error error;
    struct rnn_layer_row rows[ROWS_MAX];
    assert_int_equal(rnn_layer_init(&layer, steps, weights, &error), STATUS_OK);
    for (size_t i = 0; i < ROWS_MAX; i++) {
        fill_row(steps->precision, i, weights->units, &own[i]);
        rows[i] = (struct rnn_layer_row){.start = layer.start,
                                         .input = own[i].input,
                                         .hidden = own[i].hidden[0],
                                         .hidden_next = own[i].hidden[1],
                                         .cell = own[i].cell,
                                         .update = own[i].update};
    }
    for (size_t block = 0; block < layer.block_count; block++) {
        for (size_t row = 0; row < ROWS_MAX; row += rows_a_call) {
            size_t left = ROWS_MAX - row;
            steps->layer(&layer, block, rows + row, left < rows_a_call ? left : rows_a_call);
        }
    }
    rnn_layer_release(&layer);
}

static void assert_same_rows(const struct cell_row *a, const struct cell_row *b, enum rnn_precision precision,
                             size_t units)
{
    for (size_t i = 0; i < ROWS_MAX; i++) {
        assert_memory_equal(a[i].hidden[1], b[i].hidden[1], rnn_hidden_bytes(precision, units));
        assert_memory_equal(a[i].cell, b[i].cell, units * sizeof(float));
        assert_memory_equal(a[i].update, b[i].update, units * sizeof(float));
    }
}

static void check_kernels(const struct rnn_layer_weights *weights, enum rnn_precision precision)
{
    static struct cell_row wanted[ROWS_MAX];
    static struct cell_row got[ROWS_MAX];
    run_part(rnn_kernels_steps(rnn_kernels_find("plain"), precision), weights, ROWS_MAX, wanted);
    for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
        const struct rnn_steps *steps = rnn_kernels_steps(rnn_kernels_at(set), precision);
        if (precision == RNN_PRECISION_BF16) {
            run_part(steps, weights, ROWS_MAX, wanted);
        }
        for (size_t rows_a_call = 1; rows_a_call <= ROWS_MAX; rows_a_call += 2) {
            run_part(steps, weights, rows_a_call, got);
            assert_same_rows(wanted, got, precision, weights->units);
        }
    }
}

static void test_kernels_give_the_same_bits(void **state)
{
    (void)state;
    static const size_t units[] = {1, 8, 17, 33, 64, UNITS_MAX};
    size_t count = (INPUTS + UNITS_MAX) * 4 * UNITS_MAX;
    float *values = mem_allocate(count, sizeof *values);
    rng_fill_uniform(SEED, 1, count, -0.3f, 0.3f, values);
    for (int kind = 0; kind < RNN_KIND_COUNT; kind++) {
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            for (int precision = 0; precision < RNN_PRECISION_COUNT; precision++) {
                struct rnn_layer_weights weights = {.kind = (enum rnn_kind)kind,
                                                    .input_size = INPUTS,
                                                    .units = units[u],
                                                    .kernel = values,
                                                    .bias = values,
                                                    .forget_bias = 1.0f};
                check_kernels(&weights, (enum rnn_precision)precision);
            }
        }
    }
    mem_free(values);
}

/* ---- against the graph ---- */

static uint32_t nth_symbol(size_t n)
{
    return (uint32_t)(n * n * 3 + n) % SYMBOLS;
}

static json_t *specification(const char *cell, size_t embedding, bool is_tied, size_t units)
{
    json_t *symbols = json_array();
    for (size_t i = 0; i < SYMBOLS; i++) {
        const char text[] = {(char)('a' + i)};
        json_array_append_new(symbols, json_stringn(text, 1));
    }
    return json_pack("{s:s, s:i, s:I, s:o, s:b, s:{s:s, s:o}}", "cell", cell, "layers", 2, "units", (json_int_t)units,
                     "embedding", embedding == 0 ? json_null() : json_integer((json_int_t)embedding), "tie", is_tied,
                     "vocabulary", "kind", "characters", "symbols", symbols);
}

/* The graph's logits after each of STEPS symbols, from a state of zeros. */
static json_t *run_graph(struct model *model)
{
    json_t *symbols = json_array();
    json_t *reply = NULL;
    struct error error;
    for (size_t n = 0; n < STEPS; n++) {
        json_array_append_new(symbols, json_integer(nth_symbol(n)));
    }
    json_t *request =
        json_pack("{s:{s:[o]}, s:[s]}", "feeds", "predict/inputs:0", symbols, "fetches", "predict/logits:0");
    if (model_run(model, request, &reply, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    json_decref(request);
    return reply;
}

static void check_logits(const struct decode_plan *plan, const json_t *reply, double tolerance)
{
    const json_t *rows = json_array_get(json_object_get(json_object_get(reply, "results"), "predict/logits:0"), 0);
    float *slot = mem_allocate_aligned(plan->slot_floats, sizeof *slot);
    float *logits = mem_allocate_aligned(plan->output.stride, sizeof *logits);
    decode_plan_reset_slot(plan, slot);
    assert_int_equal(json_array_size(rows), STEPS);
    for (size_t n = 0; n < STEPS; n++) {
        decode_model_step(plan, nth_symbol(n), slot, n % 2, logits);
        for (size_t i = 0; i < SYMBOLS; i++) {
            double wanted = json_number_value(json_array_get(json_array_get(rows, n), i));
            if (!(fabs((double)logits[i] - wanted) <= tolerance)) {
                fail_msg("step %zu, symbol %zu: %g, the graph has %g", n, i, (double)logits[i], wanted);
            }
        }
    }
    mem_free(slot);
    mem_free(logits);
}

static void check_model(const char *cell, size_t embedding, bool is_tied, size_t units)
{
    static const double tolerances[] = {4e-6, 0.01, 0.05};
    char directory[] = "/tmp/lstmd-test-cells-XXXXXX";
    char path[64];
    struct model *model = NULL;
    struct error error;
    uint64_t version = 0;
    json_t *json = specification(cell, embedding, is_tied, units);
    assert_non_null(mkdtemp(directory));
    assert_int_equal(model_create("bard", &model, &error), STATUS_OK);
    if (model_make_language_model(model, json, SEED, &error) != STATUS_OK ||
        model_save(model, directory, NULL, NULL, &version, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    json_decref(json);
    json_t *reply = run_graph(model);
    snprintf(path, sizeof path, "%s/1", directory);
    for (int precision = 0; precision < RNN_PRECISION_COUNT; precision++) {
        struct snapshot *snapshot = NULL;
        if (snapshot_load(path, "bard", 1, (enum rnn_precision)precision, &snapshot, &error) != STATUS_OK) {
            fail_msg("%s", error.message);
        }
        check_logits(snapshot_decode_plan(snapshot), reply, tolerances[precision]);
        snapshot_unref(snapshot);
    }
    json_decref(reply);
    model_unref(model);
    assert_int_equal(directory_remove(directory, &error), STATUS_OK);
}

static void test_logits_are_the_graphs(void **state)
{
    (void)state;
    static const char *const cells[] = {"lstm", "gru", "rnn"};
    for (size_t c = 0; c < sizeof cells / sizeof *cells; c++) {
        check_model(cells[c], 0, false, 20);
        check_model(cells[c], 5, false, 20);
        check_model(cells[c], 70, false, 33);
        check_model(cells[c], 24, true, 24);
    }
}

int main(void)
{
    gemm_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_give_the_same_bits),
        cmocka_unit_test(test_logits_are_the_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
