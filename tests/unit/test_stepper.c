/* Plans that are stepped: rows through the batch and decode_score with a stepper of the test's own; and the stepper
 * over graphs where memory runs out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <jansson.h>
#include <cmocka.h>

#include "engine/decode/decode_batch.h"
#include "engine/decode/decode_score.h"
#include "engine/decode/generation.h"
#include "engine/decode/stepper.h"
#include "engine/math/gemm.h"
#include "engine/model/model.h"
#include "engine/model/snapshot.h"
#include "engine/store/version_directory.h"
#include "tests/unit/decode_model.h"

enum { SYMBOLS = 7, STATE_BYTES = 64, ROWS = 20, ROW_SYMBOLS = 9, FAILING_SYMBOL = 6, FAILURES_MAX = 100000 };

/* ---- a model that adds up its symbols ---- */

struct sums {
    size_t begun_count;
    size_t step_count;
    size_t scored_count;
    size_t destroyed_count;
};

static void sums_begin(void *context, void *state)
{
    ((struct sums *)context)->begun_count++;
    *(uint64_t *)state = 1;
}

/* Symbols' logits are how far they are behind the sum, in a circle. */
static enum status sums_step(void *context, const struct stepper_step *step, struct error *error)
{
    ((struct sums *)context)->step_count++;
    ((struct sums *)context)->scored_count += step->logits != NULL;
    if (step->symbol == FAILING_SYMBOL) {
        return error_set(error, STATUS_UNPROCESSABLE, "symbol %u", step->symbol);
    }
    uint64_t sum = *(const uint64_t *)step->state + step->symbol;
    *(uint64_t *)step->next_state = sum;
    for (size_t i = 0; step->logits != NULL && i < SYMBOLS; i++) {
        step->logits[i] = -(float)((i + sum) % SYMBOLS);
    }
    return STATUS_OK;
}

static void sums_destroy(void *context)
{
    ((struct sums *)context)->destroyed_count++;
}

static struct decode_plan *make_plan(struct sums *sums)
{
    *sums = (struct sums){0};
    struct stepper stepper = {.context = sums,
                              .name = "sums",
                              .symbol_count = SYMBOLS,
                              .state_bytes = STATE_BYTES,
                              .bytes = 12,
                              .begin = sums_begin,
                              .step = sums_step,
                              .destroy = sums_destroy};
    struct decode_plan *plan = NULL;
    struct error error;
    assert_int_equal(decode_plan_create_stepped(&stepper, &plan, &error), STATUS_OK);
    return plan;
}

static void test_a_plan_of_its_own(void **state)
{
    (void)state;
    struct sums sums;
    struct error error;
    struct decode_plan *plan = make_plan(&sums);
    assert_int_equal(decode_plan_warm_up(plan, &error), STATUS_OK);
    assert_true(decode_plan_is_stepped(plan));
    assert_int_equal(decode_plan_bytes(plan), 12);
    assert_int_equal(decode_plan_vocabulary_size(plan), SYMBOLS);
    assert_int_equal(decode_plan_state_bytes(plan), STATE_BYTES);
    assert_int_equal(decode_plan_precision(plan), RNN_PRECISION_FP32);
    assert_string_equal(decode_plan_kernels(plan), "sums");
    decode_plan_destroy(plan);
    assert_int_equal(sums.destroyed_count, 1);
}

/* Rows of different symbols, alone and together, against what the logits say. */
static void test_rows_keep_apart(void **state)
{
    (void)state;
    struct sums sums;
    struct error error;
    uint32_t symbols[ROWS * ROW_SYMBOLS];
    struct decode_plan *plan = make_plan(&sums);
    struct vocabulary *vocabulary = decode_model_characters(SYMBOLS);
    double total = 0;
    double norm = 0;
    for (size_t i = 0; i < SYMBOLS; i++) {
        norm += exp(-(double)i);
    }
    for (size_t row = 0; row < ROWS; row++) {
        uint32_t *own = symbols + row * ROW_SYMBOLS;
        uint64_t sum = 1;
        double wanted = 0;
        for (size_t i = 0; i < ROW_SYMBOLS; i++) {
            own[i] = (uint32_t)(row * 5 + i * i) % FAILING_SYMBOL;
            wanted += i == 0 ? 0 : (double)((own[i] + sum) % SYMBOLS) + log(norm);
            sum += own[i];
        }
        double nats = 0;
        assert_int_equal(decode_score(plan, vocabulary, own, 1, ROW_SYMBOLS, NULL, &nats, &error), STATUS_OK);
        assert_true(fabs(nats - wanted / (ROW_SYMBOLS - 1)) < 1e-5);
        total += nats;
    }
    double nats = 0;
    assert_int_equal(decode_score(plan, vocabulary, symbols, ROWS, ROW_SYMBOLS, NULL, &nats, &error), STATUS_OK);
    assert_true(fabs(nats - total / ROWS) < 1e-6);
    assert_int_equal(sums.begun_count, 2 * ROWS);
    assert_int_equal(sums.step_count, 2 * ROWS * ROW_SYMBOLS);
    assert_int_equal(sums.scored_count, 2 * ROWS * (ROW_SYMBOLS - 1)); /* nobody asks what follows the last */
    symbols[ROW_SYMBOLS + 3] = FAILING_SYMBOL;
    assert_int_equal(decode_score(plan, vocabulary, symbols, ROWS, ROW_SYMBOLS, NULL, &nats, &error),
                     STATUS_UNPROCESSABLE);
    assert_string_equal(error.message, "symbol 6");
    decode_plan_destroy(plan);
    vocabulary_unref(vocabulary);
}

/* Of a prompt, the last symbol's alone. */
static void test_scores_are_asked_for_where_they_are_read(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {1, 2, 3, 4, 5};
    struct sums sums;
    struct error error;
    struct decode_plan *plan = make_plan(&sums);
    struct vocabulary *vocabulary = decode_model_characters(SYMBOLS);
    struct generation *generation = NULL;
    struct decode_batch *batch = NULL;
    struct generation_options options = {.prompt = prompt, .prompt_count = 5, .tokens_max = 3, .top_p = 1};
    assert_int_equal(generation_create(plan, vocabulary, &options, NULL, NULL, &generation, &error), STATUS_OK);
    assert_int_equal(decode_batch_create(&batch, &error), STATUS_OK);
    while (decode_batch_run(batch, plan, &generation, 1)) {
    }
    assert_int_equal(generation_progress(generation).token_count, 3);
    assert_int_equal(sums.step_count, 5 + 2);
    assert_int_equal(sums.scored_count, 1 + 2);
    decode_batch_destroy(batch);
    generation_unref(generation);
    decode_plan_destroy(plan);
    vocabulary_unref(vocabulary);
}

/* ---- graphs ---- */

/* One that is run, and one that is packed. */
static const char run_program[] =
    "{\"program\":["
    "{\"op\":\"placeholder\",\"name\":\"x\",\"dtype\":\"int32\",\"shape\":[1],\"as\":\"x\"},"
    "{\"op\":\"get_variable\",\"name\":\"first\",\"shape\":[1,3],\"as\":\"first\"},"
    "{\"op\":\"identity\",\"args\":[\"first\"],\"as\":\"s\"},"
    "{\"op\":\"one_hot\",\"args\":[\"x\",3],\"as\":\"hot\"},"
    "{\"op\":\"add\",\"args\":[\"s\",\"hot\"],\"as\":\"next\"},"
    "{\"op\":\"signature\",\"name\":\"generate\",\"inputs\":{\"symbol\":\"x\",\"state\":\"s\"},"
    "\"outputs\":{\"logits\":\"next\",\"state\":\"next\"},\"vocabulary\":{\"symbols\":[\"a\",\"b\",\"c\"]}},"
    "{\"op\":\"global_variables_initializer\",\"as\":\"init\"}]}";

static const char packed_program[] =
    "{\"program\":["
    "{\"op\":\"placeholder\",\"name\":\"x\",\"dtype\":\"int32\",\"shape\":[1,1],\"as\":\"x\"},"
    "{\"op\":\"placeholder\",\"name\":\"h\",\"dtype\":\"float32\",\"shape\":[1,3],\"as\":\"h\"},"
    "{\"op\":\"one_hot\",\"args\":[\"x\",3],\"as\":\"hot\"},"
    "{\"op\":\"basic_rnn_cell\",\"num_units\":3,\"as\":\"cell\"},"
    "{\"op\":\"dynamic_rnn\",\"cell\":\"cell\",\"inputs\":\"hot\",\"initial_state\":\"h\",\"as\":\"r\"},"
    "{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[3,3],\"as\":\"w\"},"
    "{\"op\":\"reshape\",\"args\":[\"r.outputs\",[-1,3]],\"as\":\"flat\"},"
    "{\"op\":\"matmul\",\"args\":[\"flat\",\"w\"],\"as\":\"logits\"},"
    "{\"op\":\"signature\",\"name\":\"generate\",\"inputs\":{\"symbol\":\"x\",\"state\":\"h\"},"
    "\"outputs\":{\"logits\":\"logits\",\"state\":\"r.state\"},\"vocabulary\":{\"symbols\":[\"a\",\"b\",\"c\"]}},"
    "{\"op\":\"global_variables_initializer\",\"as\":\"init\"}]}";

static void call(enum status (*function)(struct model *, json_t *, json_t **, struct error *), struct model *model,
                 const char *text)
{
    struct error error;
    json_t *reply = NULL;
    json_t *request = json_loads(text, 0, NULL);
    assert_non_null(request);
    if (function(model, request, &reply, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    json_decref(request);
    json_decref(reply);
}

static enum status build(struct model *model, json_t *request, json_t **ret_reply, struct error *error)
{
    return model_build(model, request, NULL, ret_reply, error);
}

static enum status go(struct model *model, json_t *request, json_t **ret_reply, struct error *error)
{
    return model_run(model, request, ret_reply, error);
}

static void load_without_memory(const char *program, bool is_packed)
{
    char directory[] = "/tmp/lstmd-test-stepper-XXXXXX";
    char path[64];
    struct model *model = NULL;
    struct snapshot *snapshot = NULL;
    struct error error;
    uint64_t version = 0;
    size_t failures = 0;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(model_create("sums", &model, &error), STATUS_OK);
    call(build, model, program);
    call(go, model, "{\"targets\":[\"init\"]}");
    assert_true(model_makes_text(model));
    assert_int_equal(model_save(model, directory, NULL, NULL, &version, &error), STATUS_OK);
    snprintf(path, sizeof path, "%s/1", directory);
    enum status status = STATUS_NO_MEMORY;
    while (status != STATUS_OK && failures < FAILURES_MAX) {
        mem_fail_after(failures++);
        status = snapshot_load(path, "sums", version, RNN_PRECISION_FP32, &snapshot, &error);
        mem_fail_after(UINT64_MAX);
        if (status != STATUS_OK && status != STATUS_NO_MEMORY) {
            fail_msg("allocation %zu: %s", failures, error.message);
        }
    }
    assert_int_equal(status, STATUS_OK);
    assert_true(failures > 10);
    assert_int_equal(strcmp(snapshot_kernels(snapshot), "graph") != 0, is_packed);
    assert_int_equal(snapshot_slow_path(snapshot) == NULL, is_packed);
    assert_int_equal(decode_plan_state_bytes(snapshot_decode_plan(snapshot)) == 3 * sizeof(float), is_packed);
    snapshot_unref(snapshot);
    model_unref(model);
    assert_int_equal(directory_remove(directory, &error), STATUS_OK);
}

static void test_of_graphs_without_memory(void **state)
{
    (void)state;
    load_without_memory(run_program, false);
    load_without_memory(packed_program, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_plan_of_its_own),
        cmocka_unit_test(test_rows_keep_apart),
        cmocka_unit_test(test_scores_are_asked_for_where_they_are_read),
        cmocka_unit_test(test_of_graphs_without_memory),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
