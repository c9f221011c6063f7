/* Versions are loaded as far as models_bytes_max and the memory allow: what has no room says so, and is loaded once
 * there is some. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "tests/unit/registry_rig.h"

/* Of a version as GET tells it; release with json_decref. */
static json_t *version_of(const struct fixture *fixture, const char *name, uint64_t number)
{
    struct error error;
    json_t *reply = NULL;
    json_t *found = NULL;
    json_t *version;
    size_t i;
    assert_int_equal(registry_describe(fixture->registry, name, &reply, &error), STATUS_OK);
    json_array_foreach(json_object_get(reply, "versions"), i, version)
    {
        bool is_it = json_integer_value(json_object_get(version, "version")) == (json_int_t)number;
        found = is_it ? json_incref(version) : found;
    }
    json_decref(reply);
    assert_non_null(found);
    return found;
}

/* What a version is not loaded for; "": it has no reason. */
static void check_reason(const struct fixture *fixture, const char *name, uint64_t number, const char *code)
{
    json_t *version = version_of(fixture, name, number);
    const char *found = json_string_value(json_object_get(json_object_get(version, "reason"), "code"));
    assert_string_equal(found == NULL ? "" : found, code);
    json_decref(version);
}

static size_t bytes_of(const struct fixture *fixture, const char *name, uint64_t number)
{
    json_t *version = version_of(fixture, name, number);
    size_t bytes = (size_t)json_integer_value(json_object_get(version, "bytes"));
    json_decref(version);
    return bytes;
}

static bool is_idle(const struct fixture *fixture, const char *name)
{
    struct error error;
    json_t *reply = NULL;
    assert_int_equal(registry_describe(fixture->registry, name, &reply, &error), STATUS_OK);
    bool is_idle = strcmp(json_string_value(json_object_get(reply, "status")), "idle") == 0;
    json_decref(reply);
    return is_idle;
}

/* The version that serves, 0 with the code of why there is none. */
static uint64_t serving(const struct fixture *fixture, const char *name, char code[ERROR_CODE_BYTES_MAX])
{
    struct snapshot *snapshot = NULL;
    struct error error;
    if (registry_resolve(fixture->registry, name, &snapshot, &error) != STATUS_OK) {
        snprintf(code, ERROR_CODE_BYTES_MAX, "%s", error.code);
        return 0;
    }
    uint64_t version = snapshot_version(snapshot);
    registry_release(fixture->registry, snapshot);
    return version;
}

static void await_serving(struct fixture *fixture, const char *name, uint64_t version)
{
    char code[ERROR_CODE_BYTES_MAX];
    while (serving(fixture, name, code) != version) {
        uv_run(&fixture->loop, UV_RUN_ONCE);
    }
}

static void check_no_room(const struct fixture *fixture, const char *name)
{
    char code[ERROR_CODE_BYTES_MAX];
    assert_int_equal(serving(fixture, name, code), 0);
    assert_string_equal(code, "models_bytes_max");
}

/* Loads model "one" and allows for `halves` halves of what it takes: that. */
static size_t load_and_limit(struct fixture *fixture, size_t halves)
{
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    size_t bytes = bytes_of(fixture, "one", 1);
    assert_true(bytes > 1000);
    assert_int_equal(registry_memory(fixture->registry).held_bytes, bytes);
    fixture->settings.models_bytes_max = bytes * halves / 2;
    return bytes;
}

static void unload(struct fixture *fixture, const char *name)
{
    int before = fixture->answers;
    registry_unload(fixture->registry, name, callback(fixture));
    await(fixture, before);
}

static void test_what_has_no_room_is_loaded_once_it_has(void **state)
{
    struct fixture *fixture = *state;
    char numbers[128];
    size_t bytes = load_and_limit(fixture, 3);
    save_version_of(fixture, "two", 1);
    load_model(fixture, "two", RNN_PRECISION_COUNT, STATUS_UNAVAILABLE);
    assert_string_equal(fixture->last.error.code, "models_bytes_max");
    snprintf(numbers, sizeof numbers,
             "it needs %zu bytes, and of models_bytes_max, %zu bytes, %zu are held by 1 models", bytes, bytes * 3 / 2,
             bytes);
    assert_non_null(strstr(fixture->last.error.message, numbers));
    check_no_room(fixture, "two");
    check_reason(fixture, "two", 1, "models_bytes_max");
    await_serving(fixture, "one", 1);
    unload(fixture, "one");
    await_serving(fixture, "two", 1);
    check_reason(fixture, "two", 1, "");
    load(fixture, RNN_PRECISION_COUNT, STATUS_UNAVAILABLE);
    fixture->settings.models_bytes_max = 2 * bytes;
    scan(fixture);
    await_serving(fixture, "one", 1);
    assert_int_equal(registry_memory(fixture->registry).held_bytes, 2 * bytes);
    unload(fixture, "one");
    unload(fixture, "two");
    assert_int_equal(registry_memory(fixture->registry).held_bytes, 0);
}

/* Old and new are held side by side. */
static void test_without_room_for_both_the_old_version_serves_on(void **state)
{
    struct fixture *fixture = *state;
    struct snapshot *snapshot = NULL;
    struct error error;
    size_t bytes = load_and_limit(fixture, 3);
    save_version(fixture, 2);
    load(fixture, RNN_PRECISION_COUNT, STATUS_UNAVAILABLE);
    assert_non_null(strstr(fixture->last.error.message, "version 1 serves on"));
    await_serving(fixture, "one", 1);
    check_reason(fixture, "one", 2, "models_bytes_max");
    fixture->settings.models_bytes_max = 2 * bytes;
    assert_int_equal(registry_resolve(fixture->registry, "one", &snapshot, &error), STATUS_OK);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    await_serving(fixture, "one", 2);
    assert_int_equal(registry_memory(fixture->registry).held_bytes, 2 * bytes); /* a request has the old one */
    registry_release(fixture->registry, snapshot);
    assert_int_equal(registry_memory(fixture->registry).held_bytes, bytes);
}

/* The next version of model "one", which takes many times as much. */
static void save_large_version(const struct fixture *fixture)
{
    char path[128];
    struct model *model = NULL;
    struct error error;
    uint64_t version;
    json_t *specification = parse("{\"layers\":1,\"units\":256,\"vocabulary\":{\"kind\":\"characters\","
                                  "\"symbols\":[\" \",\"a\",\"b\",\"c\"]}}");
    snprintf(path, sizeof path, "%s/one", fixture->models);
    assert_int_equal(model_create("one", &model, &error), STATUS_OK);
    assert_int_equal(model_make_language_model(model, specification, 1, &error), STATUS_OK);
    assert_int_equal(model_save(model, path, NULL, NULL, &version, &error), STATUS_OK);
    json_decref(specification);
    model_unref(model);
}

/* Also where nothing serves, as at a start: what would have served on before it serves now. */
static void test_without_room_for_the_newest_an_older_version_serves(void **state)
{
    struct fixture *fixture = *state;
    load_and_limit(fixture, 3);
    save_version(fixture, 2);
    save_large_version(fixture);
    unload(fixture, "one");
    scan(fixture);
    load(fixture, RNN_PRECISION_COUNT, STATUS_UNAVAILABLE);
    assert_string_equal(fixture->last.error.code, "models_bytes_max");
    assert_non_null(strstr(fixture->last.error.message, "version 2 serves on"));
    await_serving(fixture, "one", 2);
    check_reason(fixture, "one", 3, "models_bytes_max");
    check_reason(fixture, "one", 1, "");
    fixture->settings.models_bytes_max = 0;
    scan(fixture);
    await_serving(fixture, "one", 3);
    check_reason(fixture, "one", 3, "");
}

/* A label holds it, but its files are gone. */
static void test_what_vanished_is_not_waited_for(void **state)
{
    struct fixture *fixture = *state;
    char path[128], code[ERROR_CODE_BYTES_MAX];
    struct error error;
    load_and_limit(fixture, 3);
    save_version_of(fixture, "two", 1);
    load_model(fixture, "two", RNN_PRECISION_COUNT, STATUS_UNAVAILABLE);
    json_t *target = json_pack("{s:i}", "version", 1);
    int before = fixture->answers;
    registry_put_label(fixture->registry, "two", "current", target, callback(fixture));
    await(fixture, before);
    json_decref(target);
    check_no_room(fixture, "two");
    snprintf(path, sizeof path, "%s/two/1", fixture->models);
    assert_int_equal(directory_remove(path, &error), STATUS_OK);
    scan(fixture);
    assert_int_equal(serving(fixture, "two", code), 0);
    assert_string_not_equal(code, "models_bytes_max");
}

static void test_another_precision_needs_room_beside(void **state)
{
    struct fixture *fixture = *state;
    load_and_limit(fixture, 2);
    load(fixture, RNN_PRECISION_INT8, STATUS_UNAVAILABLE);
    assert_string_equal(fixture->last.error.code, "models_bytes_max");
    await_serving(fixture, "one", 1);
    check_reason(fixture, "one", 1, "");
    fixture->settings.models_bytes_max *= 2;
    load(fixture, RNN_PRECISION_INT8, STATUS_OK);
}

/* Those that may sleep make room, what was not used for longest first; none that is in use, and none in vain. */
static void test_models_that_nobody_uses_make_room(void **state)
{
    struct fixture *fixture = *state;
    struct snapshot *snapshot = NULL;
    struct error error;
    static const char *const names[] = {"one", "two", "three"};
    size_t bytes = load_and_limit(fixture, 7);
    for (size_t i = 0; i < 3; i++) {
        if (i > 0) {
            save_version_of(fixture, names[i], 1);
            load_model(fixture, names[i], RNN_PRECISION_COUNT, STATUS_OK);
        }
        patch_settings(fixture, names[i], "{\"keep_alive_seconds\":3600}");
        uv_sleep(5); /* so that one use is before the other */
    }
    assert_int_equal(registry_resolve(fixture->registry, "one", &snapshot, &error), STATUS_OK);
    save_version_of(fixture, "four", 1);
    load_model(fixture, "four", RNN_PRECISION_COUNT, STATUS_OK);
    assert_false(is_idle(fixture, "one"));
    assert_true(is_idle(fixture, "two"));
    assert_false(is_idle(fixture, "three"));
    registry_release(fixture->registry, snapshot);
    fixture->settings.models_bytes_max = bytes / 2;
    check_no_room(fixture, "two");
    assert_false(is_idle(fixture, "one"));
    assert_false(is_idle(fixture, "three"));
    fixture->settings.models_bytes_max = 2 * bytes;
    await_serving(fixture, "two", 1); /* beside four, which has no keep_alive_seconds */
    await_serving(fixture, "four", 1);
    assert_true(is_idle(fixture, "one"));
    assert_true(is_idle(fixture, "three"));
}

static void fail_run(struct job *job)
{
    (void)job;
    mem_fail_after(0);
}

static void fail_done(struct job *job)
{
    (void)job;
}

static void test_what_failed_for_want_of_memory_is_tried_again(void **state)
{
    struct fixture *fixture = *state;
    struct job job = {.run = fail_run, .done = fail_done};
    char code[ERROR_CODE_BYTES_MAX];
    save_version(fixture, 1);
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    workers_submit_always(fixture->loader, &job);
    do {
        assert_int_equal(serving(fixture, "one@1", code), 0);
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
    } while (strcmp(code, "model_loading") == 0);
    assert_string_equal(code, "no_memory");
    check_reason(fixture, "one", 1, "no_memory");
    scan(fixture);
    await_serving(fixture, "one@1", 1);
    check_reason(fixture, "one", 1, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_has_no_room_is_loaded_once_it_has, start, stop),
        cmocka_unit_test_setup_teardown(test_without_room_for_both_the_old_version_serves_on, start, stop),
        cmocka_unit_test_setup_teardown(test_without_room_for_the_newest_an_older_version_serves, start, stop),
        cmocka_unit_test_setup_teardown(test_what_vanished_is_not_waited_for, start, stop),
        cmocka_unit_test_setup_teardown(test_another_precision_needs_room_beside, start, stop),
        cmocka_unit_test_setup_teardown(test_models_that_nobody_uses_make_room, start, stop),
        cmocka_unit_test_setup_teardown(test_what_failed_for_want_of_memory_is_tried_again, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
