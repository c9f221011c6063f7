/* Build programs and runs made to break something: each is refused with a clear message, or bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/graph/handles.h"
#include "engine/math/gemm.h"
#include "engine/model/model.h"
#include "engine/store/graph_file.h"

struct fixture {
    struct model *model;
    struct error error;
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_allocate(1, sizeof *fixture);
    assert_non_null(fixture);
    assert_int_equal(model_create("hostile", &fixture->model, NULL), STATUS_OK);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    model_unref(fixture->model);
    mem_free(fixture);
    return 0;
}

/* Takes `program`, a list of steps. */
static enum status build(struct fixture *fixture, json_t *program)
{
    json_t *request = json_pack("{s:o}", "program", program);
    json_t *reply = NULL;
    assert_non_null(request);
    enum status status = model_build(fixture->model, request, "id", &reply, &fixture->error);
    json_decref(request);
    json_decref(reply);
    return status;
}

static enum status build_text(struct fixture *fixture, const char *steps)
{
    json_error_t where;
    json_t *program = json_loads(steps, 0, &where);
    if (program == NULL) {
        fail_msg("%s: %s", steps, where.text);
    }
    return build(fixture, program);
}

/* ---- None where a tensor has to be ---- */

static void test_none_is_no_tensor(void **state)
{
    static const char *const steps[] = {
        "[{\"op\":\"static_rnn\",\"cell\":\"cell\",\"inputs\":[\"x\",\"none\"],\"dtype\":\"float32\"}]",
        "[{\"op\":\"static_rnn\",\"cell\":\"cell\",\"inputs\":[null],\"dtype\":\"float32\"}]",
        "[{\"op\":\"gradients\",\"ys\":[null],\"xs\":[\"x\"]}]",
        "[{\"op\":\"gradients\",\"ys\":[\"x\"],\"xs\":[\"none\"]}]",
        "[{\"op\":\"gradients\",\"ys\":[\"x\"],\"xs\":[\"x\"],\"stop_gradients\":[null]}]",
        "[{\"op\":\"call_layer\",\"layer\":\"lstm\",\"input\":\"x3\",\"initial_state\":[null,null]}]",
        "[{\"op\":\"signature\",\"name\":\"s\",\"inputs\":{\"x\":[null]},\"outputs\":{}}]",
    };
    struct fixture *fixture = *state;
    assert_int_equal(build_text(fixture,
                                "[{\"op\":\"placeholder\",\"dtype\":\"float32\",\"shape\":[2,3],\"as\":\"x\"},"
                                "{\"op\":\"placeholder\",\"dtype\":\"float32\",\"shape\":[2,3,3],\"as\":\"x3\"},"
                                "{\"op\":\"constant\",\"value\":1.0,\"as\":\"y\"},"
                                "{\"op\":\"basic_lstm_cell\",\"num_units\":3,\"as\":\"cell\"},"
                                "{\"op\":\"lstm\",\"units\":3,\"as\":\"lstm\"},"
                                "{\"op\":\"gradients\",\"ys\":\"y\",\"xs\":[\"x\"],\"as\":[\"none\"]}]"),
                     STATUS_OK);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        assert_int_equal(build_text(fixture, steps[i]), STATUS_INVALID);
        assert_string_equal(fixture->error.message, "Cannot convert None to a Tensor.");
        assert_string_equal(fixture->error.type, "TypeError");
        assert_memory_equal(fixture->error.param, "/program/0/", 11);
    }
}

/* ---- memory ---- */

static void append(json_t *program, json_t *step)
{
    assert_int_equal(json_array_append_new(program, step), 0);
}

static json_t *add_to_collection(const char *key, const char *value)
{
    return json_pack("{s:s, s:s, s:s}", "op", "add_to_collection", "key", key, "value", value);
}

static json_t *get_collection(const char *key, const char *as)
{
    return json_pack("{s:s, s:s, s:s}", "op", "get_collection", "key", key, "as", as);
}

/* Lists of lists: few steps name very many items. */
static void test_lists_of_lists_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    json_t *program = json_array();
    append(program, json_pack("{s:s, s:f, s:s}", "op", "constant", "value", 1.0, "as", "list"));
    for (int level = 0; level < 3; level++) {
        const char *key = level % 2 == 0 ? "even" : "odd";
        for (int i = 0; i < 1000; i++) {
            append(program, add_to_collection(key, "list"));
        }
        append(program, get_collection(key, "list"));
    }
    assert_int_equal(build(fixture, program), STATUS_TOO_LARGE);
    assert_string_equal(fixture->error.param, "/program/2002/as");
}

static void test_results_of_a_program_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    json_t *program = json_array();
    append(program, json_pack("{s:s, s:f, s:s}", "op", "constant", "value", 1.0, "as", "one"));
    for (int i = 0; i < 4000; i++) {
        append(program, add_to_collection("k", "one"));
    }
    for (int i = 0; i < 100; i++) {
        append(program, get_collection("k", "list"));
    }
    assert_int_equal(build(fixture, program), STATUS_TOO_LARGE);
    assert_string_equal(fixture->error.param, "/program/4025/as");
}

/* What the engine itself files and reads there is of one kind only. */
static void test_own_collections_take_nothing_else(void **state)
{
    struct fixture *fixture = *state;
    static const char *const keys[] = {"signatures", "_keras_layers"};
    for (size_t i = 0; i < 2; i++) {
        json_t *program = json_array();
        append(program, json_pack("{s:s, s:f, s:s}", "op", "constant", "value", 1.0, "as", "one"));
        append(program, add_to_collection(keys[i], "one"));
        append(program, json_pack("{s:s, s:i}", "op", "dense", "units", 3));
        assert_int_equal(build(fixture, program), STATUS_INVALID);
        program = json_array();
        append(program, json_pack("{s:s, s:s, s:[i], s:[s]}", "op", "get_variable", "name", "v", "shape", 2,
                                  "collections", keys[i]));
        append(program, json_pack("{s:s, s:i}", "op", "dense", "units", 3));
        assert_int_equal(build(fixture, program), STATUS_INVALID);
    }
}

/* A graph has one maximum, however many programs, and cells' bodies, it grows by. */
static void test_a_graph_that_is_full(void **state)
{
    static const char step[] =
        "[{\"op\":\"placeholder\",\"dtype\":\"float32\",\"shape\":[2,3,4],\"as\":\"x\"},"
        "{\"op\":\"cell\",\"num_units\":4,\"input\":\"i\",\"states\":[\"s\"],\"output\":\"i\",\"next_states\":[\"s\"],"
        "\"body\":[{\"op\":\"constant\",\"value\":1,\"shape\":[12000000]}],\"as\":\"cell\"},"
        "{\"op\":\"dynamic_rnn\",\"cell\":\"cell\",\"inputs\":\"x\",\"dtype\":\"float32\"}]";
    static const char constant[] = "[{\"op\":\"constant\",\"value\":1.0,\"shape\":[12000000]}]";
    struct fixture *fixture = *state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(build_text(fixture, i == 1 ? constant : step), STATUS_OK);
    }
    size_t full = 0;
    for (int i = 0; i < 3; i++) {
        full += build_text(fixture, step) == STATUS_TOO_LARGE && build_text(fixture, constant) == STATUS_TOO_LARGE;
    }
    assert_true(full >= 1);
    assert_string_equal(fixture->error.message, "the graph needs more than 268435456 bytes, the maximum");
    assert_string_equal(fixture->error.param, "/program/0");
}

/* Each names the variable anew: a program more in graph.json, not a node more. No graph has more programs than it is
 * read back with. */
static void test_programs_have_the_maximum_of_the_file(void **state)
{
    struct fixture *fixture = *state;
    json_t *program = json_loads("{\"program\":[{\"op\":\"get_variable\",\"name\":\"v\",\"shape\":[1],"
                                 "\"as\":\"v\"}],\"reuse\":\"auto\"}",
                                 0, NULL);
    enum status status = STATUS_OK;
    int count = 0;
    for (; status == STATUS_OK && count <= GRAPH_FILE_PROGRAMS_MAX; count++) {
        json_t *reply = NULL;
        status = model_build(fixture->model, program, NULL, &reply, &fixture->error);
        json_decref(reply);
    }
    assert_int_equal(count, GRAPH_FILE_PROGRAMS_MAX + 1);
    assert_int_equal(status, STATUS_TOO_LARGE);
    assert_string_equal(fixture->error.type, "ResourceExhaustedError");
    json_decref(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_none_is_no_tensor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lists_of_lists_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_results_of_a_program_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_own_collections_take_nothing_else, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_graph_that_is_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_programs_have_the_maximum_of_the_file, set_up, tear_down),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
