/* The registry with its loader thread, step by step: what is seen between the steps of a scan, a write and a
 * deletion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/registry_rig.h"

static size_t listed(const struct fixture *fixture)
{
    struct error error;
    json_t *list = NULL;
    assert_int_equal(registry_describe_all(fixture->registry, &list, &error), STATUS_OK);
    size_t count = json_array_size(json_object_get(list, "data"));
    json_decref(list);
    return count;
}

static void test_nobody_sees_a_model_that_is_being_deleted(void **state)
{
    struct fixture *fixture = *state;
    struct snapshot *snapshot = NULL;
    struct error error;
    make_directory(fixture, "one");
    make_directory(fixture, "two");
    scan(fixture);
    assert_int_equal(listed(fixture), 2);
    int before = fixture->answers;
    registry_delete(fixture->registry, "one", false, callback(fixture));
    assert_int_equal(fixture->answers, before);
    assert_int_equal(listed(fixture), 1);
    assert_int_equal(registry_resolve(fixture->registry, NULL, &snapshot, &error), STATUS_UNAVAILABLE);
    assert_string_equal(error.message, "model two has no version yet: train or save it first");
    await(fixture, before);
    assert_int_equal(fixture->last.status, STATUS_OK);
    assert_int_equal(listed(fixture), 1);
}

static json_t *stable_label(const struct fixture *fixture)
{
    struct error error;
    json_t *reply = NULL;
    assert_int_equal(registry_labels(fixture->registry, "one", &reply, &error), STATUS_OK);
    json_t *label = json_incref(json_object_get(json_object_get(reply, "labels"), "stable"));
    json_decref(reply);
    return label;
}

/* A scan that runs has read the file of before; so has one that comes with a change that follows. */
static void test_what_was_set_stays_while_scans_run(void **state)
{
    struct fixture *fixture = *state;
    make_directory(fixture, "one");
    make_directory(fixture, "one/1");
    scan(fixture);
    json_t *target = json_pack("{s:i}", "version", 1);
    json_t *settings = json_pack("{s:s}", "start", "Call");
    json_t *more = json_pack("{s:i}", "versions_kept", 9);
    int before = fixture->answers;
    registry_scan(fixture->registry);
    registry_put_label(fixture->registry, "one", "stable", target, callback(fixture));
    registry_patch_settings(fixture->registry, "one", settings, callback(fixture));
    bool is_patched_again = false;
    while (fixture->answers < before + 3) {
        uv_run(&fixture->loop, UV_RUN_ONCE);
        json_t *label = stable_label(fixture);
        assert_true(json_equal(label, target));
        json_decref(label);
        assert_string_equal(json_string_value(registry_setting(fixture->registry, "one", "start")), "Call");
        if (!is_patched_again) {
            is_patched_again = true;
            registry_patch_settings(fixture->registry, "one", more, callback(fixture));
        }
    }
    scan(fixture);
    assert_string_equal(json_string_value(registry_setting(fixture->registry, "one", "start")), "Call");
    assert_int_equal(json_integer_value(registry_setting(fixture->registry, "one", "versions_kept")), 9);
    registry_put_label(fixture->registry, "one", "stable", NULL, callback(fixture));
    scan(fixture);
    assert_null(stable_label(fixture));
    json_decref(target);
    json_decref(settings);
    json_decref(more);
}

/* What could not be written is not so: the next scan takes back what the answer refused. */
static void test_what_could_not_be_written_is_taken_back(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    make_directory(fixture, "one");
    make_directory(fixture, "one/1");
    scan(fixture);
    json_t *target = json_pack("{s:i}", "version", 1);
    make_directory(fixture, "one/labels.json"); /* nothing can be renamed over a directory */
    make_directory(fixture, "one/labels.json/full");
    int before = fixture->answers;
    registry_put_label(fixture->registry, "one", "stable", target, callback(fixture));
    await(fixture, before);
    assert_int_not_equal(fixture->last.status, STATUS_OK);
    snprintf(path, sizeof path, "%s/one/labels.json", fixture->models);
    struct error error;
    assert_int_equal(directory_remove(path, &error), STATUS_OK);
    scan(fixture);
    assert_null(stable_label(fixture));
    json_decref(target);
}

/* ---- precisions ---- */

static const double UNHOLDABLE = 3.4028234e38; /* bf16 has no number near it but infinity */

static enum rnn_precision served_precision(struct fixture *fixture)
{
    struct snapshot *snapshot = NULL;
    struct error error;
    assert_int_equal(registry_resolve(fixture->registry, "one", &snapshot, &error), STATUS_OK);
    enum rnn_precision precision = snapshot_precision(snapshot);
    registry_release(fixture->registry, snapshot);
    return precision;
}

struct answer {
    int count;
    struct registry_reply reply; /* without its reply */
};

static void on_answer_of(void *context, const struct registry_reply *reply)
{
    struct answer *answer = context;
    json_decref(reply->reply);
    answer->reply = *reply;
    answer->count++;
}

static struct registry_callback answer_to(struct answer *answer)
{
    return (struct registry_callback){.done = on_answer_of, .context = answer};
}

static void await_both(struct fixture *fixture, const struct answer answers[2])
{
    while (answers[0].count + answers[1].count < 2) {
        uv_run(&fixture->loop, UV_RUN_ONCE);
    }
    assert_int_equal(answers[0].count, 1);
}

static void test_all_who_ask_for_a_precision_are_refused(void **state)
{
    struct fixture *fixture = *state;
    save_version(fixture, UNHOLDABLE);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    json_t *patch = parse("{\"precision\":\"int8\"}");
    for (int is_patch_first = 0; is_patch_first < 2; is_patch_first++) {
        struct answer answers[2] = {{0}};
        for (int i = 0; i < 2; i++) {
            if (i == is_patch_first) {
                registry_load(fixture->registry, "one", 0, RNN_PRECISION_INT8, answer_to(&answers[i]));
            } else {
                registry_patch_settings(fixture->registry, "one", patch, answer_to(&answers[i]));
            }
        }
        await_both(fixture, answers);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(answers[i].reply.status, STATUS_UNPROCESSABLE);
            assert_string_equal(answers[i].reply.error.code, "precision_refused");
        }
        assert_null(registry_setting(fixture->registry, "one", "precision"));
        load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
        assert_int_equal(served_precision(fixture), RNN_PRECISION_FP32);
    }
    json_decref(patch);
}

static void test_who_asked_for_another_precision_is_told(void **state)
{
    struct fixture *fixture = *state;
    struct answer answers[2] = {{0}};
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    json_t *patch = parse("{\"precision\":\"int8\"}");
    registry_patch_settings(fixture->registry, "one", patch, answer_to(&answers[0]));
    registry_load(fixture->registry, "one", 0, RNN_PRECISION_BF16, answer_to(&answers[1]));
    await_both(fixture, answers);
    assert_int_equal(answers[0].reply.status, STATUS_CONFLICT);
    assert_string_equal(answers[0].reply.error.code, "precision_changed");
    assert_int_equal(answers[1].reply.status, STATUS_OK);
    assert_null(registry_setting(fixture->registry, "one", "precision"));
    assert_int_equal(served_precision(fixture), RNN_PRECISION_BF16);
    json_decref(patch);
}

static void test_a_load_of_an_unknown_model_keeps_its_precision(void **state)
{
    struct fixture *fixture = *state;
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_BF16, STATUS_OK);
    assert_int_equal(served_precision(fixture), RNN_PRECISION_BF16);
}

static void test_a_refusal_leads_back_to_what_was_asked_for_before(void **state)
{
    struct fixture *fixture = *state;
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    load(fixture, RNN_PRECISION_BF16, STATUS_OK);
    save_version(fixture, UNHOLDABLE);
    load(fixture, RNN_PRECISION_INT8, STATUS_UNPROCESSABLE);
    load(fixture, RNN_PRECISION_COUNT, STATUS_UNPROCESSABLE);
    assert_int_equal(served_precision(fixture), RNN_PRECISION_BF16);
}

/* A directory stands where settings.json would be renamed to. */
static void test_a_precision_that_could_not_be_written_is_taken_back(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/one/settings.json", fixture->models);
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    json_t *patch = parse("{\"precision\":\"int8\"}");
    for (int is_asked_before = 0; is_asked_before < 2; is_asked_before++) {
        if (is_asked_before) {
            load(fixture, RNN_PRECISION_BF16, STATUS_OK);
        }
        make_directory(fixture, "one/settings.json");
        make_directory(fixture, "one/settings.json/full");
        struct answer answer = {0};
        struct error error;
        registry_patch_settings(fixture->registry, "one", patch, answer_to(&answer));
        while (answer.count == 0) {
            uv_run(&fixture->loop, UV_RUN_ONCE);
        }
        assert_int_not_equal(answer.reply.status, STATUS_OK);
        assert_int_equal(served_precision(fixture), is_asked_before ? RNN_PRECISION_BF16 : RNN_PRECISION_FP32);
        assert_null(registry_setting(fixture->registry, "one", "precision"));
        assert_int_equal(directory_remove(path, &error), STATUS_OK);
        scan(fixture);
    }
    json_decref(patch);
}

static void test_who_waits_for_a_load_is_told_of_an_unload(void **state)
{
    struct fixture *fixture = *state;
    json_t *patch = parse("{\"precision\":\"int8\"}");
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    for (int is_first_load = 0; is_first_load < 2; is_first_load++) {
        struct answer answers[2] = {{0}};
        if (is_first_load) {
            registry_load(fixture->registry, "one", 0, RNN_PRECISION_COUNT, answer_to(&answers[0]));
        } else {
            registry_patch_settings(fixture->registry, "one", patch, answer_to(&answers[0]));
        }
        registry_unload(fixture->registry, "one", answer_to(&answers[1]));
        await_both(fixture, answers);
        assert_int_equal(answers[0].reply.status, STATUS_CONFLICT);
        assert_string_equal(answers[0].reply.error.code, "model_unloaded");
        assert_int_equal(answers[1].reply.status, STATUS_OK);
        assert_null(registry_setting(fixture->registry, "one", "precision"));
    }
    json_decref(patch);
}

static void test_who_waits_for_a_load_is_told_of_a_deletion(void **state)
{
    struct fixture *fixture = *state;
    struct answer answers[2] = {{0}};
    struct answer unloaded = {0};
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    registry_unload(fixture->registry, "one", answer_to(&unloaded));
    registry_load(fixture->registry, "one", 0, RNN_PRECISION_COUNT, answer_to(&answers[0]));
    registry_delete(fixture->registry, "one", false, answer_to(&answers[1]));
    await_both(fixture, answers);
    assert_int_equal(answers[0].reply.status, STATUS_CONFLICT);
    assert_string_equal(answers[0].reply.error.message, "model one is being deleted");
    assert_int_equal(answers[1].reply.status, STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nobody_sees_a_model_that_is_being_deleted, start, stop),
        cmocka_unit_test_setup_teardown(test_what_was_set_stays_while_scans_run, start, stop),
        cmocka_unit_test_setup_teardown(test_what_could_not_be_written_is_taken_back, start, stop),
        cmocka_unit_test_setup_teardown(test_all_who_ask_for_a_precision_are_refused, start, stop),
        cmocka_unit_test_setup_teardown(test_who_asked_for_another_precision_is_told, start, stop),
        cmocka_unit_test_setup_teardown(test_a_load_of_an_unknown_model_keeps_its_precision, start, stop),
        cmocka_unit_test_setup_teardown(test_a_precision_that_could_not_be_written_is_taken_back, start, stop),
        cmocka_unit_test_setup_teardown(test_who_waits_for_a_load_is_told_of_an_unload, start, stop),
        cmocka_unit_test_setup_teardown(test_who_waits_for_a_load_is_told_of_a_deletion, start, stop),
        cmocka_unit_test_setup_teardown(test_a_refusal_leads_back_to_what_was_asked_for_before, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
