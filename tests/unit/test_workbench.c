/* The stack of default graphs, sessions and open contexts: what TensorFlow's process has besides a graph. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/model/workbench.h"

struct fixture {
    struct workbench *workbench;
    struct error error;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.workbench = NULL};
    *state = &fixture;
    return workbench_create(&fixture.workbench, &fixture.error) == STATUS_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    workbench_destroy(((struct fixture *)*state)->workbench);
    return 0;
}

static void must(const struct fixture *fixture, enum status status)
{
    if (status != STATUS_OK) {
        fail_msg("%s", fixture->error.message);
    }
}

/* Opens a step's scope, or applies it; fails the test when that fails. */
static uint32_t open_scope(struct fixture *fixture, const char *text)
{
    json_t *step = json_loads(text, 0, NULL);
    uint32_t context = 0;
    assert_non_null(step);
    must(fixture, workbench_open(fixture->workbench, step, &context, NULL, &fixture->error));
    json_decref(step);
    return context;
}

static enum status apply(struct fixture *fixture, const char *text)
{
    json_t *step = json_loads(text, 0, NULL);
    assert_non_null(step);
    enum status status = workbench_step(fixture->workbench, step, NULL, &fixture->error);
    json_decref(step);
    return status;
}

static const char variable_step[] = "{\"op\":\"get_variable\",\"name\":\"v\",\"shape\":[2]}";

static void test_the_default_graph_is_the_one_entered_last(void **state)
{
    struct fixture *fixture = *state;
    uint32_t graphs[2];
    uint32_t contexts[2];
    uint32_t first = workbench_default_graph(fixture->workbench);
    for (size_t i = 0; i < 2; i++) {
        must(fixture, workbench_new_graph(fixture->workbench, &graphs[i], &fixture->error));
        assert_int_not_equal(workbench_default_graph(fixture->workbench), graphs[i]);
        must(fixture, workbench_enter_graph(fixture->workbench, graphs[i], &contexts[i], &fixture->error));
        assert_int_equal(workbench_default_graph(fixture->workbench), graphs[i]);
        must(fixture, apply(fixture, variable_step)); /* each graph has a v of its own */
    }
    assert_int_not_equal(workbench_leave(fixture->workbench, contexts[0], &fixture->error), STATUS_OK);
    assert_string_equal(fixture->error.type, "AssertionError");
    assert_string_equal(fixture->error.message, "Nesting violated for default stack of <class "
                                                "'tensorflow.python.framework.ops.Graph'> objects");
    must(fixture, workbench_leave(fixture->workbench, 0, &fixture->error));
    assert_int_equal(workbench_default_graph(fixture->workbench), graphs[0]);
    must(fixture, workbench_leave(fixture->workbench, contexts[0], &fixture->error));
    assert_int_equal(workbench_default_graph(fixture->workbench), first);
    assert_int_equal(workbench_leave(fixture->workbench, 0, &fixture->error), STATUS_NOT_FOUND);
}

static void test_reset_is_refused_while_something_is_entered(void **state)
{
    struct fixture *fixture = *state;
    uint32_t context = open_scope(fixture, "{\"op\":\"variable_scope\",\"name\":\"a\"}");
    assert_int_not_equal(workbench_reset_default_graph(fixture->workbench, &fixture->error), STATUS_OK);
    assert_string_equal(fixture->error.type, "AssertionError");
    must(fixture, workbench_leave(fixture->workbench, context, &fixture->error));
    must(fixture, apply(fixture, variable_step));
    open_scope(fixture, "{\"op\":\"name_scope\",\"name\":\"n\"}"); /* pushes no graph */
    uint32_t before = workbench_default_graph(fixture->workbench);
    must(fixture, workbench_reset_default_graph(fixture->workbench, &fixture->error));
    assert_int_not_equal(workbench_default_graph(fixture->workbench), before);
    must(fixture, apply(fixture, variable_step)); /* the new graph knows no v */
    assert_int_equal(apply(fixture, variable_step), STATUS_CONFLICT);
}

/* What the old graph's handles are called, the new graph does not know. */
static void test_handles_of_a_reset_graph(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *name;
        const char *step;
    } uses[] = {
        {"'t'", "{\"op\":\"identity\",\"args\":[\"t\"]}"},
        {"'sc'", "{\"op\":\"variable_scope\",\"scope\":\"sc\",\"body\":[]}"},
        {"'cell'", "{\"op\":\"zero_state\",\"cell\":\"cell\",\"batch_size\":1}"},
    };
    must(fixture, apply(fixture, "{\"op\":\"constant\",\"value\":1.0,\"as\":\"t\"}"));
    must(fixture, apply(fixture, "{\"op\":\"variable_scope\",\"name\":\"s\",\"as\":\"sc\",\"body\":[]}"));
    must(fixture, apply(fixture, "{\"op\":\"basic_lstm_cell\",\"num_units\":2,\"as\":\"cell\"}"));
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        must(fixture, apply(fixture, uses[i].step));
    }
    must(fixture, workbench_reset_default_graph(fixture->workbench, &fixture->error));
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        assert_int_equal(apply(fixture, uses[i].step), STATUS_INVALID);
        assert_non_null(strstr(fixture->error.message, uses[i].name));
    }
}

static void test_scopes_stay_open_over_steps_and_close_in_order(void **state)
{
    struct fixture *fixture = *state;
    uint32_t outer = open_scope(fixture, "{\"op\":\"variable_scope\",\"name\":\"a\"}");
    open_scope(fixture, "{\"op\":\"variable_scope\",\"name\":\"b\"}");
    must(fixture, apply(fixture, variable_step));
    assert_non_null(graph_find_node(workbench_graph(fixture->workbench, 0), "a/b/v"));
    assert_int_not_equal(workbench_leave(fixture->workbench, outer, &fixture->error), STATUS_OK);
    assert_string_equal(fixture->error.type, "RuntimeError");
    assert_string_equal(fixture->error.message, "Improper nesting of variable_scope.");
    must(fixture, workbench_leave(fixture->workbench, 0, &fixture->error));
    must(fixture, workbench_leave(fixture->workbench, outer, &fixture->error));
    must(fixture, apply(fixture, variable_step));
    assert_non_null(graph_find_node(workbench_graph(fixture->workbench, 0), "v"));
}

static void test_a_failed_step_leaves_nothing(void **state)
{
    struct fixture *fixture = *state;
    open_scope(fixture, "{\"op\":\"variable_scope\",\"name\":\"a\"}");
    must(fixture, apply(fixture, variable_step));
    size_t nodes = graph_node_count(workbench_graph(fixture->workbench, 0));
    assert_int_equal(apply(fixture, "{\"op\":\"variable_scope\",\"name\":\"b\",\"body\":["
                                    "{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[2]},"
                                    "{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[2]}]}"),
                     STATUS_CONFLICT);
    assert_int_equal(graph_node_count(workbench_graph(fixture->workbench, 0)), nodes);
    must(fixture, apply(fixture, "{\"op\":\"get_variable\",\"name\":\"u\",\"shape\":[2]}"));
    assert_non_null(graph_find_node(workbench_graph(fixture->workbench, 0), "a/u")); /* the scope is still open */
}

static void test_sessions(void **state)
{
    struct fixture *fixture = *state;
    uint32_t session = 0;
    uint32_t context = 0;
    uint32_t again = 0;
    must(fixture, workbench_new_session(fixture->workbench, 0, &session, &fixture->error));
    assert_null(workbench_session(fixture->workbench, 0));
    must(fixture, workbench_enter_session(fixture->workbench, session, &context, &fixture->error));
    assert_ptr_equal(workbench_session(fixture->workbench, 0), workbench_session(fixture->workbench, session));
    assert_int_not_equal(workbench_enter_session(fixture->workbench, session, &again, &fixture->error), STATUS_OK);
    assert_string_equal(fixture->error.type, "RuntimeError");
    must(fixture, workbench_enter_default_session(fixture->workbench, session, &again, &fixture->error));
    assert_int_not_equal(workbench_leave(fixture->workbench, context, &fixture->error), STATUS_OK);
    assert_string_equal(fixture->error.type, "AssertionError");
    must(fixture, apply(fixture, variable_step)); /* a session sees what its graph gains */
    assert_ptr_equal(session_graph(workbench_session(fixture->workbench, session)),
                     workbench_graph(fixture->workbench, 0));
    must(fixture, workbench_leave(fixture->workbench, again, &fixture->error));
    must(fixture, workbench_leave(fixture->workbench, context, &fixture->error));
    assert_null(workbench_session(fixture->workbench, 0));
    struct node *variable = graph_find_node(workbench_graph(fixture->workbench, 0), "v");
    struct output fetch = {variable, 0};
    struct session_request request = {.fetches = &fetch, .fetch_count = 1};
    struct session_run *run = NULL;
    assert_int_not_equal(
        session_prepare(workbench_session(fixture->workbench, session), &request, &run, &fixture->error), STATUS_OK);
    assert_string_equal(fixture->error.message, "Attempted to use a closed Session.");
}

/* The graph that two sessions have is the graph there is. */
static void assert_in_step(const struct fixture *fixture, const uint32_t sessions[2])
{
    for (int i = 0; i < 2; i++) {
        assert_ptr_equal(session_graph(workbench_session(fixture->workbench, sessions[i])),
                         workbench_graph(fixture->workbench, 0));
    }
}

/* Without memory a step is done nowhere: not in one of two sessions, not with a scope left open. */
static void test_no_memory_leaves_all_as_it_was(void **state)
{
    struct fixture *fixture = *state;
    json_t *fill = json_loads("{\"op\":\"get_variable\",\"name\":\"w\",\"shape\":[2],\"as\":\"w\"}", 0, NULL);
    json_t *scope = json_loads("{\"op\":\"variable_scope\",\"name\":\"s\",\"as\":\"s\"}", 0, NULL);
    uint32_t sessions[2];
    uint32_t context = 0;
    enum status status = STATUS_NO_MEMORY;
    for (int i = 0; i < 2; i++) {
        must(fixture, workbench_new_session(fixture->workbench, 0, &sessions[i], &fixture->error));
    }
    for (uint64_t after = 0; status != STATUS_OK && after < 10000; after++) {
        size_t node_count = graph_node_count(workbench_graph(fixture->workbench, 0));
        mem_fail_after(after);
        status = workbench_step(fixture->workbench, fill, NULL, &fixture->error);
        mem_fail_after(UINT64_MAX);
        assert_in_step(fixture, sessions);
        assert_true(status == STATUS_OK || graph_node_count(workbench_graph(fixture->workbench, 0)) == node_count);
    }
    assert_int_equal(status, STATUS_OK);
    status = STATUS_NO_MEMORY;
    for (uint64_t after = 0; status != STATUS_OK && after < 10000; after++) {
        mem_fail_after(after);
        status = workbench_open(fixture->workbench, scope, &context, NULL, &fixture->error);
        mem_fail_after(UINT64_MAX);
        assert_in_step(fixture, sessions);
    }
    assert_int_equal(status, STATUS_OK);
    must(fixture, workbench_leave(fixture->workbench, context, &fixture->error));
    assert_int_equal(apply(fixture, variable_step), STATUS_OK); /* at the root: no scope was left open */
    assert_non_null(graph_find_node(workbench_graph(fixture->workbench, 0), "v"));
    json_decref(fill);
    json_decref(scope);
}

static void test_contexts_have_a_maximum(void **state)
{
    struct fixture *fixture = *state;
    json_t *scope = json_loads("{\"op\":\"variable_scope\",\"name\":\"s\"}", 0, NULL);
    uint32_t context = 0;
    for (int i = 0; i < WORKBENCH_CONTEXTS_MAX; i++) {
        must(fixture, workbench_enter_graph(fixture->workbench, 0, &context, &fixture->error));
    }
    assert_int_equal(workbench_open(fixture->workbench, scope, &context, NULL, &fixture->error), STATUS_LIMIT);
    for (int i = 0; i < WORKBENCH_CONTEXTS_MAX; i++) {
        must(fixture, workbench_leave(fixture->workbench, 0, &fixture->error));
    }
    assert_int_equal(apply(fixture, variable_step), STATUS_OK);
    assert_non_null(graph_find_node(workbench_graph(fixture->workbench, 0), "v")); /* not "s/v" */
    json_decref(scope);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_default_graph_is_the_one_entered_last, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reset_is_refused_while_something_is_entered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_handles_of_a_reset_graph, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_scopes_stay_open_over_steps_and_close_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_failed_step_leaves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sessions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_memory_leaves_all_as_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_contexts_have_a_maximum, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
