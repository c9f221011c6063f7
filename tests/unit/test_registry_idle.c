/* Models that nobody uses are unloaded, and loaded again when they are asked for. Clocks are only waited for: no test
 * measures one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/registry_rig.h"

static bool is_idle(const struct fixture *fixture)
{
    struct error error;
    json_t *reply = NULL;
    assert_int_equal(registry_describe(fixture->registry, "one", &reply, &error), STATUS_OK);
    bool is_idle = strcmp(json_string_value(json_object_get(reply, "status")), "idle") == 0;
    json_decref(reply);
    return is_idle;
}

static void await_idle(struct fixture *fixture)
{
    while (!is_idle(fixture)) {
        uv_run(&fixture->loop, UV_RUN_ONCE);
    }
}

/* The version that a reference serves, waiting once where it has to be loaded. */
static uint64_t served_after_waiting(struct fixture *fixture, const char *reference)
{
    struct snapshot *snapshot = NULL;
    struct error error;
    assert_int_equal(registry_resolve(fixture->registry, reference, &snapshot, &error), STATUS_UNAVAILABLE);
    assert_string_equal(error.code, "model_loading");
    int before = fixture->answers;
    bool has_waited = false;
    assert_true(
        registry_wait_for_loads(fixture->registry, reference, UINT64_MAX, &error, &has_waited, callback(fixture)));
    assert_false(
        registry_wait_for_loads(fixture->registry, reference, UINT64_MAX, &error, &has_waited, callback(fixture)));
    await(fixture, before);
    assert_int_equal(registry_resolve(fixture->registry, reference, &snapshot, &error), STATUS_OK);
    unsigned long long version = strtoull(strchr(snapshot_full_name(snapshot), '@') + 1, NULL, 10);
    registry_release(fixture->registry, snapshot);
    return version;
}

static void add_bytes(void *context, const struct registry_metrics *metrics)
{
    *(size_t *)context += metrics->bytes;
}

static void test_an_unused_model_is_unloaded_until_it_is_asked_for(void **state)
{
    struct fixture *fixture = *state;
    struct snapshot *snapshot = NULL;
    struct error error;
    size_t bytes = 0;
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    assert_int_equal(registry_resolve(fixture->registry, "one", &snapshot, &error), STATUS_OK);
    patch_settings(fixture, "one", "{\"keep_alive_seconds\":1}");
    uv_sleep(1100); /* longer than it is kept: only that it is in use keeps it */
    scan(fixture);
    assert_false(is_idle(fixture));
    registry_release(fixture->registry, snapshot);
    await_idle(fixture);
    registry_visit(fixture->registry, add_bytes, &bytes);
    assert_int_equal(bytes, 0);
    assert_true(registry_serves_all(fixture->registry));
    save_version(fixture, 1);
    scan(fixture);
    assert_true(is_idle(fixture)); /* a newer version is no use of the model */
    assert_int_equal(registry_check_served(fixture->registry, "one", &error), STATUS_OK);
    assert_true(is_idle(fixture));
    assert_int_equal(served_after_waiting(fixture, "one"), 2);
    await_idle(fixture);
    assert_int_equal(served_after_waiting(fixture, "one@1"), 1);
    await_idle(fixture);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    assert_false(is_idle(fixture));
}

/* Its graph can be run at once, of the version that served. */
static void test_a_run_of_an_idle_models_graph_loads_it(void **state)
{
    struct fixture *fixture = *state;
    struct served_ticket ticket;
    struct error error;
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    patch_settings(fixture, "one", "{\"keep_alive_seconds\":1}");
    await_idle(fixture);
    assert_int_equal(registry_served_ticket(fixture->registry, "one", false, &ticket, &error), STATUS_OK);
    assert_int_equal(ticket.version, 1);
    assert_false(is_idle(fixture));
    served_ticket_release(&ticket);
    await_idle(fixture);
}

/* Of version 1, which is being loaded. */
static bool wait_for_the_load_until(struct fixture *fixture, uint64_t deadline_ms, struct registry_callback callback,
                                    struct error *error)
{
    struct snapshot *snapshot = NULL;
    bool has_waited = false;
    assert_int_equal(registry_resolve(fixture->registry, "one@1", &snapshot, error), STATUS_UNAVAILABLE);
    return registry_wait_for_loads(fixture->registry, "one@1", deadline_ms, error, &has_waited, callback);
}

static bool wait_for_the_load(struct fixture *fixture, struct error *error)
{
    return wait_for_the_load_until(fixture, UINT64_MAX, callback(fixture), error);
}

static void keep_reply(void *context, const struct registry_reply *reply)
{
    json_decref(reply->reply);
    *(struct registry_reply *)context = *reply;
}

static void test_a_request_waits_until_its_deadline(void **state)
{
    struct fixture *fixture = *state;
    struct error error;
    save_version(fixture, 1);
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    struct registry_reply late = {.status = STATUS_OK};
    struct registry_callback keep_late = {.done = keep_reply, .context = &late};
    int before = fixture->answers;
    assert_true(wait_for_the_load(fixture, &error));
    assert_true(wait_for_the_load_until(fixture, 0, keep_late, &error));
    uv_run(&fixture->loop, UV_RUN_NOWAIT); /* timers come before the loader's messages */
    assert_int_equal(late.status, STATUS_UNAVAILABLE);
    assert_string_equal(late.error.code, "deadline");
    while (fixture->answers == before) {
        uv_run(&fixture->loop, UV_RUN_ONCE);
    }
    assert_int_equal(fixture->last.status, STATUS_OK);
}

static void test_no_more_requests_wait_than_there_may_be(void **state)
{
    struct fixture *fixture = *state;
    struct error error;
    save_version(fixture, 1);
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    fixture->settings.generations_max = 2;
    int before = fixture->answers;
    assert_true(wait_for_the_load(fixture, &error));
    assert_true(wait_for_the_load(fixture, &error));
    assert_false(wait_for_the_load(fixture, &error));
    assert_int_equal(error.status, STATUS_LIMIT);
    assert_string_equal(error.code, "queue_full");
    registry_stop_waiting(fixture->registry, fixture); /* one of them */
    assert_true(wait_for_the_load(fixture, &error));
    assert_false(wait_for_the_load(fixture, &error));
    registry_stop_waiting(fixture->registry, &error);
    while (fixture->answers < before + 2) {
        uv_run(&fixture->loop, UV_RUN_ONCE);
    }
    scan(fixture);
    assert_int_equal(fixture->answers, before + 3);
}

static void test_without_the_files_an_unused_model_stays(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    struct error error;
    save_version(fixture, 1);
    load(fixture, RNN_PRECISION_COUNT, STATUS_OK);
    patch_settings(fixture, "one", "{\"keep_alive_seconds\":1}");
    snprintf(path, sizeof path, "%s/one/1", fixture->models);
    assert_int_equal(directory_remove(path, &error), STATUS_OK);
    scan(fixture);
    uv_sleep(1100); /* longer than it is kept */
    scan(fixture);
    uv_run(&fixture->loop, UV_RUN_NOWAIT);
    assert_false(is_idle(fixture));
    struct snapshot *snapshot = NULL;
    assert_int_equal(registry_resolve(fixture->registry, "one", &snapshot, &error), STATUS_OK);
    registry_release(fixture->registry, snapshot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_unused_model_is_unloaded_until_it_is_asked_for, start, stop),
        cmocka_unit_test_setup_teardown(test_a_run_of_an_idle_models_graph_loads_it, start, stop),
        cmocka_unit_test_setup_teardown(test_no_more_requests_wait_than_there_may_be, start, stop),
        cmocka_unit_test_setup_teardown(test_a_request_waits_until_its_deadline, start, stop),
        cmocka_unit_test_setup_teardown(test_without_the_files_an_unused_model_stays, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
