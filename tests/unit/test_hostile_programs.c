/* Build programs and runs made to break something: each is refused with a clear message, or bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/graph/handles.h"
#include "engine/model/model.h"

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
    assert_int_equal(build_text(fixture, "[{\"op\":\"placeholder\",\"dtype\":\"float32\",\"shape\":[2,3],\"as\":\"x\"},"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_none_is_no_tensor, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
