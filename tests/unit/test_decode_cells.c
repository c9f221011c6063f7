/* Decoding of every kind of cell, tied or not, embedded or not, with and without residual connections: the plan's
 * logits are those of the graph's predict head, within 4e-6 in fp32, 0.01 in bf16, 0.05 in int8; twice that with
 * residual connections, whose sums are larger. */
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

enum { SEED = 17, SYMBOLS = 11, STEPS = 9 };

static uint32_t nth_symbol(size_t n)
{
    return (uint32_t)(n * n * 3 + n) % SYMBOLS;
}

static json_t *specification(const char *cell, size_t embedding, bool is_tied, size_t units, bool is_residual)
{
    json_t *symbols = json_array();
    for (size_t i = 0; i < SYMBOLS; i++) {
        const char text[] = {(char)('a' + i)};
        json_array_append_new(symbols, json_stringn(text, 1));
    }
    return json_pack("{s:s, s:i, s:b, s:I, s:o, s:b, s:{s:s, s:o}}", "cell", cell, "layers", is_residual ? 3 : 2,
                     "residual", is_residual, "units", (json_int_t)units, "embedding",
                     embedding == 0 ? json_null() : json_integer((json_int_t)embedding), "tie", is_tied, "vocabulary",
                     "kind", "characters", "symbols", symbols);
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

static void check_model(const char *cell, size_t embedding, bool is_tied, size_t units, bool is_residual)
{
    static const double tolerances[] = {4e-6, 0.01, 0.05};
    char directory[] = "/tmp/lstmd-test-cells-XXXXXX";
    char path[64];
    struct model *model = NULL;
    struct error error;
    uint64_t version = 0;
    json_t *json = specification(cell, embedding, is_tied, units, is_residual);
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
        check_logits(snapshot_decode_plan(snapshot), reply, tolerances[precision] * (is_residual ? 2 : 1));
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
        for (int is_residual = 0; is_residual < 2; is_residual++) {
            check_model(cells[c], 0, false, 20, is_residual == 1);
            check_model(cells[c], 5, false, 20, is_residual == 1);
            check_model(cells[c], 70, false, 33, is_residual == 1);
            check_model(cells[c], 24, true, 24, is_residual == 1);
        }
    }
}

int main(void)
{
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_the_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
