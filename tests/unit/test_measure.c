/* What a version will take in memory, found by its graph alone: what the loaded one says that it holds, and what the
 * allocator says, but for the few kilobytes of its manifest and, where it is run step by step, of its graph's nodes. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/math/gemm.h"
#include "engine/model/model.h"
#include "engine/model/snapshot.h"
#include "engine/store/version_directory.h"
#include "tests/unit/json_rig.h"
#include "tests/unit/run_length.h"

enum { NOT_COUNTED_BYTES_MAX = 48 << 10, NODES_BYTES_MAX = 256 << 10 };

static const char LSTM[] =
    "{\"op\":\"basic_lstm_cell\",\"num_units\":48,\"as\":\"cell\"},"
    "{\"op\":\"dynamic_rnn\",\"cell\":\"cell\",\"inputs\":\"hot\",\"initial_state\":[\"c0\",\"h0\"],\"as\":\"r\"},";
static const char PEEPHOLES[] =
    "{\"op\":\"lstm_cell\",\"num_units\":48,\"use_peepholes\":true,\"as\":\"cell\"},"
    "{\"op\":\"dynamic_rnn\",\"cell\":\"cell\",\"inputs\":\"hot\",\"initial_state\":[\"c0\",\"h0\"],\"as\":\"r\"},";

/* Builds a program, and runs its handle `init`. */
static void build_program(struct model *model, const char *text)
{
    struct error error;
    json_t *reply = NULL;
    json_t *program = parse(text);
    json_t *run = parse("{\"targets\":[\"init\"]}");
    if (model_build(model, program, NULL, &reply, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    json_decref(reply);
    assert_int_equal(model_run(model, run, &reply, &error), STATUS_OK);
    json_decref(reply);
    json_decref(program);
    json_decref(run);
}

/* A graph of ordinary steps that makes text by `cell`, its variables initialised. */
static void build(struct model *model, const char *cell)
{
    char text[4096];
    snprintf(text, sizeof text,
             "{\"program\":["
             "{\"op\":\"placeholder\",\"name\":\"x\",\"dtype\":\"int32\",\"shape\":[1,null],\"as\":\"x\"},"
             "{\"op\":\"one_hot\",\"args\":[\"x\",4],\"as\":\"hot\"},"
             "{\"op\":\"placeholder\",\"name\":\"c0\",\"dtype\":\"float32\",\"shape\":[1,48],\"as\":\"c0\"},"
             "{\"op\":\"placeholder\",\"name\":\"h0\",\"dtype\":\"float32\",\"shape\":[1,48],\"as\":\"h0\"},%s"
             "{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[48,4],\"as\":\"w\"},"
             "{\"op\":\"reshape\",\"args\":[\"r.outputs\",[-1,48]],\"as\":\"flat\"},"
             "{\"op\":\"matmul\",\"args\":[\"flat\",\"w\"],\"name\":\"logits\",\"as\":\"logits\"},"
             "{\"op\":\"signature\",\"name\":\"generate\","
             "\"inputs\":{\"symbol\":\"x\",\"state\":[\"c0\",\"h0\"]},"
             "\"outputs\":{\"logits\":\"logits\",\"state\":[\"r.state.c\",\"r.state.h\"]},"
             "\"vocabulary\":{\"symbols\":[\"a\",\"b\",\"c\",\"d\"]}},"
             "{\"op\":\"global_variables_initializer\",\"as\":\"init\"}]}",
             cell);
    build_program(model, text);
}

/* What is allocated; 0: a sanitizer counts otherwise. */
static size_t allocated_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return IS_SANITIZED ? 0 : info.uordblks + info.hblkhd;
}

static void check_version(const char *path, enum rnn_precision precision, size_t not_counted_max)
{
    struct snapshot *snapshot = NULL;
    struct error error;
    size_t bytes = 0;
    if (snapshot_measure(path, precision, &bytes, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    size_t before = allocated_bytes();
    if (snapshot_load(path, "bard", 1, precision, &snapshot, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    size_t held = allocated_bytes() - before;
    assert_int_equal(bytes, snapshot_bytes(snapshot));
    if (!IS_SANITIZED && (held < bytes || held > bytes + not_counted_max)) {
        fail_msg("%s: %zu bytes are measured, %zu allocated", rnn_precision_name(precision), bytes, held);
    }
    snapshot_unref(snapshot);
}

/* Saves the model's only version and looks at it; the model ends. Only what is packed has narrow precisions. */
static void check_model(struct model *model, bool is_packed)
{
    char directory[] = "/tmp/lstmd-test-measure-XXXXXX";
    char path[64];
    struct error error;
    uint64_t version = 0;
    assert_non_null(mkdtemp(directory));
    if (model_save(model, directory, NULL, NULL, &version, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    model_unref(model);
    snprintf(path, sizeof path, "%s/1", directory);
    for (int precision = 0; precision < (is_packed ? RNN_PRECISION_COUNT : 1); precision++) {
        check_version(path, (enum rnn_precision)precision, NOT_COUNTED_BYTES_MAX + (is_packed ? 0 : NODES_BYTES_MAX));
    }
    assert_int_equal(directory_remove(directory, &error), STATUS_OK);
}

static void check_language_model(const char *specification)
{
    struct model *model = NULL;
    struct error error;
    json_t *json = parse(specification);
    assert_int_equal(model_create("bard", &model, &error), STATUS_OK);
    if (model_make_language_model(model, json, 1, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    json_decref(json);
    check_model(model, true);
}

static void test_language_models(void **state)
{
    (void)state;
    static const char *const specifications[] = {
        "{\"layers\":1,\"units\":20,\"vocabulary\":\"bytes\"}",
        "{\"layers\":2,\"units\":130,\"vocabulary\":\"bytes\"}",
        "{\"layers\":2,\"units\":64,\"embedding\":64,\"tie\":true,\"vocabulary\":\"bytes\"}",
        "{\"layers\":3,\"units\":48,\"embedding\":7,\"residual\":true,\"vocabulary\":\"bytes\"}",
        "{\"cell\":\"gru\",\"layers\":2,\"units\":70,\"vocabulary\":\"bytes\"}",
        "{\"cell\":\"rnn\",\"layers\":2,\"units\":70,\"embedding\":12,\"vocabulary\":\"bytes\"}",
    };
    for (size_t i = 0; i < sizeof specifications / sizeof *specifications; i++) {
        check_language_model(specifications[i]);
    }
}

/* Packed where it can be, else run step by step. */
static void test_graphs_with_a_signature(void **state)
{
    (void)state;
    for (int is_packed = 0; is_packed < 2; is_packed++) {
        struct model *model = NULL;
        struct error error;
        assert_int_equal(model_create("bard", &model, &error), STATUS_OK);
        build(model, is_packed ? LSTM : PEEPHOLES);
        check_model(model, is_packed);
    }
}

static void test_what_makes_no_text_has_no_measure(void **state)
{
    (void)state;
    char directory[] = "/tmp/lstmd-test-measure-XXXXXX";
    char path[64];
    struct model *model = NULL;
    struct error error;
    size_t bytes = 7;
    uint64_t version = 0;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/1", directory);
    assert_int_equal(snapshot_measure(path, RNN_PRECISION_FP32, &bytes, &error), STATUS_NOT_FOUND);
    assert_int_equal(model_create("bard", &model, &error), STATUS_OK);
    build_program(model, "{\"program\":[{\"op\":\"variable\",\"initial_value\":[1.0]},"
                         "{\"op\":\"global_variables_initializer\",\"as\":\"init\"}]}");
    if (model_save(model, directory, NULL, NULL, &version, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    model_unref(model);
    assert_int_equal(snapshot_measure(path, RNN_PRECISION_FP32, &bytes, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.code, "no_language_model");
    assert_int_equal(bytes, 7);
    assert_int_equal(directory_remove(directory, &error), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language_models),
        cmocka_unit_test(test_graphs_with_a_signature),
        cmocka_unit_test(test_what_makes_no_text_has_no_measure),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
