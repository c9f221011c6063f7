/* A model's live graph: built, run, reset, saved, read back and restored through the JSON of the HTTP API. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <jansson.h>
#include <pthread.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/math/gemm.h"
#include "engine/model/model.h"
#include "engine/model/snapshot.h"
#include "engine/store/version_directory.h"
#include "tests/unit/json_rig.h"

static struct model *make_model(const char *specification)
{
    struct model *model = NULL;
    struct error error;
    json_t *json = parse(specification);
    assert_int_equal(model_create("bard", &model, &error), STATUS_OK);
    if (model_make_language_model(model, json, 5, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    json_decref(json);
    return model;
}

static const char small_model[] =
    "{\"layers\":2,\"units\":8,\"vocabulary\":{\"kind\":\"characters\",\"symbols\":[\" \",\"a\",\"b\",\"c\"]}}";

static json_t *run(struct model *model, const char *request)
{
    struct error error;
    json_t *reply = NULL;
    json_t *json = parse(request);
    if (model_run(model, json, &reply, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    json_decref(json);
    return reply;
}

static const char predict[] =
    "{\"feeds\":{\"predict/inputs:0\":[[1,2,3],[3,2,1]]},\"fetches\":[\"predict/logits:0\"],\"encoding\":\"base64\"}";

static enum status build(struct model *model, const char *request, json_t **reply, struct error *error)
{
    json_t *json = parse(request);
    enum status status = model_build(model, json, "req-1", reply, error);
    json_decref(json);
    return status;
}

static char *describe(struct model *model)
{
    struct error error;
    json_t *reply = NULL;
    assert_int_equal(model_describe_graph(model, &reply, &error), STATUS_OK);
    char *text = json_dumps(reply, JSON_SORT_KEYS);
    json_decref(reply);
    return text;
}

static void test_program_builds_and_names_handles(void **state)
{
    (void)state;
    struct model *model = NULL;
    struct error error;
    json_t *reply = NULL;
    assert_int_equal(model_create("m", &model, &error), STATUS_OK);
    assert_int_equal(
        build(
            model,
            "{\"program\":[{\"op\":\"variable_scope\",\"name\":\"a\",\"body\":[{\"op\":\"get_variable\",\"name\":\"w\","
            "\"shape\":[2,3],\"as\":\"w\"}]}]}",
            &reply, &error),
        STATUS_OK);
    assert_string_equal(json_string_value(json_object_get(json_object_get(reply, "handles"), "w")), "a/w:0");
    const json_t *variable = json_array_get(json_object_get(reply, "variables"), 0);
    assert_string_equal(json_string_value(json_object_get(variable, "name")), "a/w:0");
    assert_string_equal(json_string_value(json_object_get(variable, "built")), "created");
    json_decref(reply);
    model_unref(model);
}

static void test_a_description_stays_as_it_was(void **state)
{
    (void)state;
    struct model *model = NULL;
    struct error error;
    json_t *before = NULL;
    json_t *reply = NULL;
    assert_int_equal(model_create("m", &model, &error), STATUS_OK);
    assert_int_equal(model_describe_graph(model, &before, &error), STATUS_OK);
    assert_int_equal(build(model, "{\"program\":[{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[2],\"as\":\"w\"}]}",
                           &reply, &error),
                     STATUS_OK);
    assert_int_equal(json_object_size(json_object_get(before, "handles")), 0);
    json_decref(before);
    json_decref(reply);
    model_unref(model);
}

static void test_numbers_no_integer_holds_are_saturated(void **state)
{
    (void)state;
    struct model *model = NULL;
    struct error error;
    json_t *reply = NULL;
    assert_int_equal(model_create("m", &model, &error), STATUS_OK);
    assert_int_equal(build(model,
                           "{\"program\":[{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[],\"dtype\":\"int32\","
                           "\"initializer\":{\"constant\":1e300}}]}",
                           &reply, &error),
                     STATUS_OK);
    json_decref(reply);
    json_decref(run(model, "{\"targets\":[\"w/Assign\"]}"));
    json_t *read = run(model, "{\"fetches\":[\"w:0\"]}");
    json_t *value = json_object_get(json_object_get(read, "results"), "w:0");
    assert_int_equal(json_integer_value(value), INT32_MAX);
    json_decref(read);
    model_unref(model);
}

static void test_second_definition_is_refused_with_its_origin(void **state)
{
    (void)state;
    struct model *model = NULL;
    struct error error;
    json_t *reply = NULL;
    const char program[] = "{\"program\":[{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[2]}]}";
    assert_int_equal(model_create("m", &model, &error), STATUS_OK);
    assert_int_equal(build(model, program, &reply, &error), STATUS_OK);
    json_decref(reply);
    char *before = describe(model);
    assert_int_equal(build(model, program, &reply, &error), STATUS_CONFLICT);
    char *after = describe(model);
    assert_string_equal(before, after);
    assert_string_equal(error.type, "ValueError");
    assert_string_equal(error.code, "variable_exists");
    assert_string_equal(error.variable, "w");
    assert_string_equal(error.param, "/program/0");
    assert_int_equal(error.origin.program, 1);
    assert_string_equal(error.origin.step, "/program/0");
    assert_string_equal(error.origin.request_id, "req-1");
    assert_non_null(strstr(error.message, "Variable w already exists, disallowed."));
    assert_int_equal(build(model,
                           "{\"reuse\":\"auto\",\"program\":[{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[2]}]}",
                           &reply, &error),
                     STATUS_OK);
    json_decref(reply);
    assert_int_equal(build(model,
                           "{\"reuse\":true,\"program\":[{\"op\":\"get_variable\",\"name\":\"v\",\"shape\":[2]}]}",
                           &reply, &error),
                     STATUS_UNPROCESSABLE);
    assert_string_equal(error.code, "variable_missing");
    free(before);
    free(after);
    model_unref(model);
}

/* A step of a program. */
#define A_TENSOR "{\"op\":\"placeholder\",\"dtype\":\"float32\",\"shape\":[2,2],\"as\":\"x\"}"

/* Each is refused with its place, and leaves the graph as it was. */
static void test_bad_programs_change_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        enum status status;
        const char *param;
    } cases[] = {
        {"[]", STATUS_INVALID, "/program"},
        {"{\"program\":{}}", STATUS_INVALID, "/program"},
        {"{\"program\":[],\"x\":1}", STATUS_INVALID, "/x"},
        {"{\"program\":[],\"reuse\":\"maybe\"}", STATUS_INVALID, "/reuse"},
        {"{\"program\":[7]}", STATUS_INVALID, "/program/0/op"},
        {"{\"program\":[{\"op\":\"dance\"}]}", STATUS_UNSUPPORTED, "/program/0"},
        {"{\"program\":[{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[2]},{\"op\":\"get_variable\"}]}",
         STATUS_INVALID, "/program/1/name"},
        {"{\"program\":[{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[2],\"colour\":1}]}", STATUS_INVALID,
         "/program/0/colour"},
        {"{\"program\":[{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[null,2]}]}", STATUS_UNPROCESSABLE,
         "/program/0"},
        {"{\"program\":[{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[1000000000000,1000000000000]}]}",
         STATUS_TOO_LARGE, "/program/0"},
        {"{\"program\":[{\"op\":\"get_variable\",\"name\":\"w w\",\"shape\":[2]}]}", STATUS_INVALID, "/program/0"},
        {"{\"program\":[{\"op\":\"variable_scope\",\"name\":\"s\",\"body\":["
         "{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[2]},"
         "{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[2]}]}]}",
         STATUS_CONFLICT, "/program/0/body/1"},
        {"{\"program\":[{\"op\":\"language_model\",\"vocabulary\":\"bytes\",\"cell\":\"gated\"}]}", STATUS_INVALID,
         "/program/0/cell"},
        {"{\"program\":[{\"op\":\"language_model\",\"vocabulary\":\"bytes\",\"layers\":0}]}", STATUS_INVALID,
         "/program/0/layers"},
        {"{\"program\":[{\"op\":\"language_model\",\"layers\":1}]}", STATUS_INVALID, "/program/0/vocabulary"},
        {"{\"program\":[" A_TENSOR ",{\"op\":\"gradients\",\"ys\":[null],\"xs\":[\"x\"]}]}", STATUS_INVALID,
         "/program/1/ys/0"},
        {"{\"program\":[" A_TENSOR ",{\"op\":\"gradients\",\"ys\":[\"x\"],\"xs\":[null]}]}", STATUS_INVALID,
         "/program/1/xs/0"},
        {"{\"program\":[" A_TENSOR ",{\"op\":\"gradients\",\"ys\":[\"x\"],\"xs\":[\"x\"],\"stop_gradients\":[null]}]}",
         STATUS_INVALID, "/program/1/stop_gradients/0"},
        {"{\"program\":[" A_TENSOR ",{\"op\":\"basic_rnn_cell\",\"num_units\":2,\"as\":\"c\"},"
         "{\"op\":\"static_rnn\",\"cell\":\"c\",\"inputs\":[null],\"dtype\":\"float32\"}]}",
         STATUS_INVALID, "/program/2/inputs/0"},
        {"{\"program\":[" A_TENSOR ",{\"op\":\"constant\",\"value\":1.0,\"as\":\"k\"},"
         "{\"op\":\"gradients\",\"ys\":[\"k\"],\"xs\":[\"x\"],\"as\":\"g\"},"
         "{\"op\":\"gradients\",\"ys\":[\"x\"],\"xs\":\"g.list\"}]}",
         STATUS_INVALID, "/program/3/xs"}, /* a list in which a gradient is None */
    };
    struct model *model = NULL;
    struct error error;
    assert_int_equal(model_create("m", &model, &error), STATUS_OK);
    char *before = describe(model);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *reply = NULL;
        memset(&error, 0, sizeof error);
        enum status status = build(model, cases[i].request, &reply, &error);
        if (status != cases[i].status || strcmp(error.param, cases[i].param) != 0) {
            fail_msg("%s: %s, at %s: %s", cases[i].request, status_name(status), error.param, error.message);
        }
        char *after = describe(model);
        assert_string_equal(before, after);
        free(after);
    }
    free(before);
    model_unref(model);
}

static void test_deep_nesting_is_refused(void **state)
{
    (void)state;
    struct model *model = NULL;
    struct error error;
    json_t *reply = NULL;
    json_t *step = json_pack("{s:s, s:s, s:[i]}", "op", "get_variable", "name", "w", "shape", 2);
    for (int i = 0; i < 70; i++) {
        step = json_pack("{s:s, s:s, s:[o]}", "op", "variable_scope", "name", "s", "body", step);
    }
    json_t *request = json_pack("{s:[o]}", "program", step);
    assert_int_equal(model_create("m", &model, &error), STATUS_OK);
    assert_int_not_equal(model_build(model, request, NULL, &reply, &error), STATUS_OK);
    json_decref(request);
    model_unref(model);
}

static void test_training_head_and_predicting_in_one_process(void **state)
{
    (void)state;
    struct model *model = make_model(small_model);
    json_t *loss =
        run(model,
            "{\"feeds\":{\"train/inputs:0\":[[1,2,3]],\"train/targets:0\":[[2,3,0]]},\"fetches\":[\"train/loss:0\"]}");
    assert_true(json_number_value(json_object_get(json_object_get(loss, "results"), "train/loss:0")) > 0);
    json_t *reply = run(model, predict);
    assert_non_null(json_object_get(json_object_get(json_object_get(reply, "results"), "predict/logits:0"), "base64"));
    json_decref(loss);
    json_decref(reply);
    model_unref(model);
}

static void test_bad_runs_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        const char *type;
        const char *message;
    } cases[] = {
        {"{\"fetches\":[\"predict/logits:0\"]}", "InvalidArgumentError",
         "You must feed a value for placeholder tensor 'predict/inputs' with dtype int32 and shape [?,?]"},
        {"{\"feeds\":{\"predict/inputs:0\":[1]},\"fetches\":[\"predict/logits:0\"]}", "ValueError",
         "Cannot feed value of shape (1,) for Tensor 'predict/inputs:0', which has shape '(?, ?)'"},
        {"{\"feeds\":{\"predict/inputs:0\":[[9]]},\"fetches\":[\"predict/logits:0\"]}", "InvalidArgumentError",
         "indices[0] = 9 is not in [0, 4)"},
        {"{\"fetches\":[\"nope:0\"]}", "ValueError", "The operation, 'nope', does not exist in the graph."},
        {"{\"fetches\":[\"softmax/w:0\"],\"generation\":9}", "ValueError", "is not an element of this graph"},
        {"{\"feeds\":{\"predict/inputs:0\":[[1],[1,2]]},\"fetches\":[\"predict/logits:0\"]}", "ValueError",
         "setting an array element with a sequence. The lists are ragged"},
        {"{\"feeds\":{\"predict/inputs:0\":[[1.5]]},\"fetches\":[\"predict/logits:0\"]}", "", "no int32"},
        {"{}", "", "a run needs"},
    };
    struct model *model = make_model(small_model);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error;
        json_t *reply = NULL;
        json_t *request = parse(cases[i].request);
        assert_int_not_equal(model_run(model, request, &reply, &error), STATUS_OK);
        if (strcmp(error.type, cases[i].type) != 0 || strstr(error.message, cases[i].message) == NULL) {
            fail_msg("%s: %s: %s", cases[i].request, error.type, error.message);
        }
        json_decref(request);
    }
    model_unref(model);
}

static void test_reset_makes_old_names_strange(void **state)
{
    (void)state;
    struct model *model = make_model(small_model);
    struct error error;
    json_t *reply = NULL;
    assert_int_equal(model_reset(model, false, NULL, 0, &reply, &error), STATUS_OK);
    assert_int_equal(json_integer_value(json_object_get(reply, "generation")), 2);
    json_decref(reply);
    json_t *request = parse("{\"fetches\":[\"softmax/w:0\"],\"generation\":1}");
    assert_int_equal(model_run(model, request, &reply, &error), STATUS_CONFLICT);
    assert_string_equal(error.message, "Tensor softmax/w:0 is not an element of this graph (generation 1 was reset)");
    json_decref(request);
    model_unref(model);
}

struct caller {
    struct model *model;
    json_t *request;
    json_t *expected;
    pthread_t thread;
    bool is_right;
};

static void *run_often(void *argument)
{
    struct caller *caller = argument;
    caller->is_right = true;
    for (int i = 0; i < 20; i++) {
        struct error error;
        json_t *reply = NULL;
        bool has_run = model_run(caller->model, caller->request, &reply, &error) == STATUS_OK;
        caller->is_right = caller->is_right && has_run && json_equal(caller->expected, reply);
        json_decref(reply);
    }
    return NULL;
}

static void test_parallel_callers_see_the_same(void **state)
{
    (void)state;
    enum { CALLERS = 8 };
    struct model *model = make_model(small_model);
    struct caller callers[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.model = model, .request = parse(predict), .expected = run(model, predict)};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, run_often, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
        assert_true(callers[i].is_right);
        json_decref(callers[i].request);
        json_decref(callers[i].expected);
    }
    model_unref(model);
}

/* A directory that is gone after the test. */
static void make_directory(char path[64])
{
    snprintf(path, 64, "/tmp/lstmd-test-model-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static void remove_directory(const char *path)
{
    struct error error;
    assert_int_equal(directory_remove(path, &error), STATUS_OK);
}

static void test_saved_version_gives_the_same_numbers(void **state)
{
    (void)state;
    char directory[64];
    char version_path[96];
    make_directory(directory);
    struct model *model = make_model(small_model);
    struct model *copy = NULL;
    struct error error;
    uint64_t version = 0;
    assert_true(model_is_unsaved(model));
    if (model_save(model, directory, NULL, NULL, &version, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(version, 1);
    assert_false(model_is_unsaved(model));
    snprintf(version_path, sizeof version_path, "%s/1", directory);
    if (model_create_from_version("copy", version_path, 1, &copy, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    json_t *one = run(model, predict);
    json_t *other = run(copy, predict);
    assert_true(json_equal(one, other));
    json_decref(one);
    json_decref(other);
    struct snapshot *snapshot = NULL;
    if (snapshot_load(version_path, "bard", 1, RNN_PRECISION_FP32, &snapshot, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    assert_string_equal(snapshot_full_name(snapshot), "bard@1");
    assert_int_equal(snapshot_parameter_count(snapshot), (4 + 8) * 32 + 32 + (8 + 8) * 32 + 32 + 8 * 4 + 4);
    snapshot_unref(snapshot);
    model_unref(copy);
    model_unref(model);
    remove_directory(directory);
}

static void test_restore_maps_names_and_refuses_strangers(void **state)
{
    (void)state;
    char directory[64];
    char version_path[96];
    make_directory(directory);
    struct model *model = make_model(small_model);
    struct model *other = NULL;
    struct error error;
    uint64_t version = 0;
    json_t *reply = NULL;
    assert_int_equal(model_save(model, directory, NULL, NULL, &version, &error), STATUS_OK);
    snprintf(version_path, sizeof version_path, "%s/1", directory);
    assert_int_equal(model_create("other", &other, &error), STATUS_OK);
    assert_int_equal(
        build(other,
              "{\"program\":[{\"op\":\"variable_scope\",\"name\":\"mine\",\"body\":[{\"op\":\"get_variable\","
              "\"name\":\"w\",\"shape\":[8,4]}]}]}",
              &reply, &error),
        STATUS_OK);
    json_decref(reply);
    assert_int_equal(model_restore(other, version_path, NULL, &reply, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.type, "NotFoundError");
    assert_non_null(strstr(error.message, "Key mine/w not found in checkpoint"));
    json_t *names = parse("{\"softmax\":\"mine\"}");
    if (model_restore(other, version_path, names, &reply, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(json_integer_value(json_object_get(reply, "restored")), 1);
    json_decref(reply);
    json_decref(names);
    json_t *saved = run(model, "{\"fetches\":[\"softmax/w:0\"]}");
    json_t *restored = run(other, "{\"fetches\":[\"mine/w:0\"]}");
    assert_true(json_equal(json_object_get(json_object_get(saved, "results"), "softmax/w:0"),
                           json_object_get(json_object_get(restored, "results"), "mine/w:0")));
    json_decref(saved);
    json_decref(restored);
    model_unref(other);
    model_unref(model);
    remove_directory(directory);
}

static void test_uninitialised_is_not_saved_nor_read(void **state)
{
    (void)state;
    struct model *model = NULL;
    struct error error;
    json_t *reply = NULL;
    uint64_t version = 0;
    assert_int_equal(model_create("m", &model, &error), STATUS_OK);
    assert_int_equal(
        build(model, "{\"program\":[{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[2]}]}", &reply, &error),
        STATUS_OK);
    json_decref(reply);
    assert_int_equal(model_save(model, "/tmp/lstmd-test-never-made", NULL, NULL, &version, &error),
                     STATUS_UNPROCESSABLE);
    assert_string_equal(error.message, "Attempting to use uninitialized value w");
    json_t *request = parse("{\"fetches\":[\"w:0\"]}");
    assert_int_equal(model_run(model, request, &reply, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.type, "FailedPreconditionError");
    json_decref(request);
    json_t *assign = run(model, "{\"fetches\":[\"w/Assign:0\"]}");
    json_decref(assign);
    json_t *after = run(model, "{\"fetches\":[\"w:0\"]}");
    json_decref(after);
    model_unref(model);
}

int main(void)
{
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program_builds_and_names_handles),
        cmocka_unit_test(test_a_description_stays_as_it_was),
        cmocka_unit_test(test_numbers_no_integer_holds_are_saturated),
        cmocka_unit_test(test_second_definition_is_refused_with_its_origin),
        cmocka_unit_test(test_bad_programs_change_nothing),
        cmocka_unit_test(test_deep_nesting_is_refused),
        cmocka_unit_test(test_training_head_and_predicting_in_one_process),
        cmocka_unit_test(test_bad_runs_are_named),
        cmocka_unit_test(test_reset_makes_old_names_strange),
        cmocka_unit_test(test_parallel_callers_see_the_same),
        cmocka_unit_test(test_saved_version_gives_the_same_numbers),
        cmocka_unit_test(test_restore_maps_names_and_refuses_strangers),
        cmocka_unit_test(test_uninitialised_is_not_saved_nor_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
