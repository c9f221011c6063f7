/* The interpreter step by step: contexts that stay open, failed steps on clones, results, places of errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "engine/graph/handles.h"
#include "engine/math/gemm.h"
#include "engine/model/model.h"
#include "engine/store/program.h"
#include "tests/unit/json_rig.h"

struct play {
    struct graph *graph;
    struct builder *builder;
    struct error error;
};

static struct play begin(void)
{
    struct play play = {.graph = NULL};
    assert_int_equal(graph_create(&play.graph, &play.error), STATUS_OK);
    assert_int_equal(builder_create(play.graph, 1, "req-7", NULL, &play.builder, &play.error), STATUS_OK);
    return play;
}

static void end(struct play *play)
{
    builder_destroy(play->builder);
    graph_unref(play->graph);
}

static enum status step(struct play *play, const char *text)
{
    json_t *json = parse(text);
    enum status status = builder_step(play->builder, json, "/step", &play->error);
    json_decref(json);
    return status;
}

static uint32_t enter(struct play *play, const char *text)
{
    uint32_t context = 0;
    json_t *json = parse(text);
    if (builder_enter(play->builder, json, "/step", &context, &play->error) != STATUS_OK) {
        fail_msg("%s: %s", text, play->error.message);
    }
    json_decref(json);
    return context;
}

static const char *name_of(struct play *play, const char *path)
{
    static char text[OUTPUT_NAME_BYTES_MAX];
    const struct handle *handle = graph_find_handle(play->graph, path);
    return handle == NULL ? "nothing" : handle_name(handle, text);
}

static void test_contexts_stay_open(void **state)
{
    (void)state;
    struct play play = begin();
    uint32_t outer = enter(&play, "{\"op\":\"variable_scope\",\"name\":\"outer\",\"as\":\"o\"}");
    uint32_t inner = enter(&play, "{\"op\":\"name_scope\",\"name\":\"inner\"}");
    assert_int_equal(step(&play, "{\"op\":\"constant\",\"value\":1,\"as\":\"c\"}"), STATUS_OK);
    assert_string_equal(name_of(&play, "c"), "outer/inner/Const:0");
    assert_int_equal(builder_exit(play.builder, inner, &play.error), STATUS_OK);
    assert_int_equal(step(&play, "{\"op\":\"get_variable\",\"name\":\"v\",\"shape\":[],\"as\":\"v\"}"), STATUS_OK);
    assert_string_equal(name_of(&play, "v"), "outer/v:0");
    assert_int_equal(builder_exit(play.builder, outer, &play.error), STATUS_OK);
    assert_int_equal(builder_exit(play.builder, outer, &play.error), STATUS_INVALID);
    end(&play);
}

static void test_leaving_out_of_order(void **state)
{
    (void)state;
    struct play play = begin();
    uint32_t outer = enter(&play, "{\"op\":\"variable_scope\",\"name\":\"a\"}");
    uint32_t inner = enter(&play, "{\"op\":\"variable_scope\",\"name\":\"b\"}");
    assert_int_not_equal(builder_exit(play.builder, outer, &play.error), STATUS_OK);
    assert_string_equal(play.error.type, "RuntimeError");
    assert_string_equal(play.error.message, "Improper nesting of variable_scope.");
    assert_int_equal(builder_exit(play.builder, inner, &play.error), STATUS_OK);
    assert_int_equal(builder_exit(play.builder, outer, &play.error), STATUS_OK);
    end(&play);
}

/* A failed step on a clone leaves graph, contexts and results as they were. */
static void test_a_failed_step_is_undone_by_going_back(void **state)
{
    (void)state;
    struct play play = begin();
    struct graph *clone = NULL;
    struct program_result result;
    uint32_t scope = enter(&play, "{\"op\":\"variable_scope\",\"name\":\"s\"}");
    assert_int_equal(graph_clone(play.graph, &clone, &play.error), STATUS_OK);
    builder_set_graph(play.builder, clone);
    assert_int_not_equal(step(&play, "{\"op\":\"variable_scope\",\"name\":\"t\",\"body\":[{\"op\":\"no_op\"},"
                                     "{\"op\":\"relu\",\"args\":[\"nothing\"]}]}"),
                         STATUS_OK);
    assert_string_equal(play.error.param, "/step/body/1/args/0");
    builder_set_graph(play.builder, play.graph);
    graph_unref(clone);
    assert_int_equal(step(&play, "{\"op\":\"no_op\",\"as\":\"n\"}"), STATUS_OK);
    assert_string_equal(name_of(&play, "n"), "s/NoOp");
    assert_int_equal(builder_exit(play.builder, scope, &play.error), STATUS_OK);
    assert_int_equal(builder_finish(play.builder, &result, &play.error), STATUS_OK);
    assert_int_equal(result.nodes_added, 1);
    assert_string_equal(json_string_value(json_object_get(result.handles, "n")), "s/NoOp");
    program_result_release(&result);
    end(&play);
}

/* What a cell's body names is its own; what is made after it still has the origin of the step that called it. */
static void test_names_inside_a_cell(void **state)
{
    (void)state;
    struct play play = begin();
    assert_int_equal(step(&play, "{\"op\":\"constant\",\"value\":[[1.0,2.0]],\"as\":\"y\"}"), STATUS_OK);
    assert_int_equal(step(&play, "{\"op\":\"cell\",\"num_units\":2,\"input\":\"i\",\"states\":[\"s\"],\"output\":\"y\","
                                 "\"next_states\":[\"t\"],\"as\":\"c\",\"body\":["
                                 "{\"op\":\"add\",\"args\":[\"s\",\"i\"],\"as\":\"t\"},"
                                 "{\"op\":\"tanh\",\"args\":[\"t\"],\"as\":\"y\"}]}"),
                     STATUS_OK);
    assert_int_equal(step(&play, "{\"op\":\"call_cell\",\"cell\":\"c\",\"input\":\"y\",\"state\":\"y\",\"as\":\"r\"}"),
                     STATUS_OK);
    assert_string_equal(name_of(&play, "y"), "Const:0");
    assert_string_equal(name_of(&play, "r.output"), "Tanh:0");
    assert_null(graph_find_handle(play.graph, "t"));
    assert_int_equal(step(&play, "{\"op\":\"zeros\",\"args\":[[1,3,2]],\"as\":\"x\"}"), STATUS_OK);
    assert_int_equal(step(&play, "{\"op\":\"static_rnn\",\"cell\":\"c\",\"inputs\":[\"y\",\"y\"],\"dtype\":\"float32\","
                                 "\"as\":\"r\"}"),
                     STATUS_OK);
    const struct handle *last = graph_find_handle(play.graph, "r.outputs.1");
    assert_non_null(last);
    assert_string_equal(last->output.node->origin.op, "tanh");
    assert_string_equal(graph_node(play.graph, graph_node_count(play.graph) - 1)->origin.request_id, "req-7");
    end(&play);
}

/* Dotted paths lead into what the body itself named. */
static void test_paths_inside_a_cell(void **state)
{
    (void)state;
    struct play play = begin();
    assert_int_equal(step(&play, "{\"op\":\"constant\",\"value\":[[1.0,2.0]],\"as\":\"y\"}"), STATUS_OK);
    assert_int_equal(step(&play, "{\"op\":\"cell\",\"num_units\":2,\"input\":\"i\",\"states\":[\"s\"],"
                                 "\"output\":\"sum\",\"next_states\":[\"parts.1\"],\"as\":\"c\",\"body\":["
                                 "{\"op\":\"stack\",\"args\":[[\"i\",\"s\"]],\"as\":\"both\"},"
                                 "{\"op\":\"unstack\",\"args\":[\"both\"],\"as\":\"parts\"},"
                                 "{\"op\":\"add\",\"args\":[\"parts.0\",\"parts.1\"],\"as\":\"sum\"}]}"),
                     STATUS_OK);
    if (step(&play, "{\"op\":\"call_cell\",\"cell\":\"c\",\"input\":\"y\",\"state\":\"y\",\"as\":\"r\"}") !=
        STATUS_OK) {
        fail_msg("%s", play.error.message);
    }
    assert_string_equal(name_of(&play, "r.output"), "Add:0");
    assert_string_equal(name_of(&play, "r.state"), "unstack:1");
    assert_int_equal(step(&play, "{\"op\":\"cell\",\"num_units\":2,\"input\":\"i.j\",\"states\":[\"s\"],"
                                 "\"output\":\"s\",\"next_states\":[\"s\"],\"body\":[]}"),
                     STATUS_INVALID);
    assert_string_equal(play.error.param, "/step/input");
    end(&play);
}

static void test_results_are_described(void **state)
{
    (void)state;
    struct play play = begin();
    struct program_result result;
    assert_int_equal(step(&play, "{\"op\":\"lstm_cell\",\"num_units\":3,\"num_proj\":4,\"as\":\"a\"}"), STATUS_OK);
    assert_int_equal(step(&play, "{\"op\":\"multi_rnn_cell\",\"cells\":[\"a\"],\"as\":\"m\"}"), STATUS_OK);
    assert_int_equal(step(&play, "{\"op\":\"split\",\"args\":[[1,2,3,4],2],\"as\":[\"l\",\"r\"]}"), STATUS_OK);
    assert_int_equal(
        step(&play, "{\"op\":\"variable_scope\",\"name\":\"s\",\"reuse\":\"auto\",\"as\":\"s\",\"body\":[]}"),
        STATUS_OK);
    assert_int_equal(builder_finish(play.builder, &result, &play.error), STATUS_OK);
    json_t *wanted = parse("[{\"c\":3,\"h\":4}]");
    const json_t *m = json_object_get(result.results, "m");
    assert_true(json_equal(json_object_get(m, "state_size"), wanted));
    assert_int_equal(json_integer_value(json_object_get(m, "output_size")), 4);
    assert_string_equal(json_string_value(json_object_get(result.handles, "r")), "split:1");
    const json_t *scope = json_object_get(result.results, "s");
    assert_string_equal(json_string_value(json_object_get(scope, "reuse")), "auto");
    assert_string_equal(json_string_value(json_object_get(scope, "original_name_scope")), "s/");
    json_decref(wanted);
    program_result_release(&result);
    end(&play);
}

static void test_variables_are_not_set_during_training(void **state)
{
    (void)state;
    struct model *model = NULL;
    struct error error;
    json_t *reply = NULL;
    json_t *program = parse("{\"program\":[{\"op\":\"variable\",\"name\":\"v\",\"initial_value\":1.0}]}");
    json_t *value = json_real(2);
    assert_int_equal(model_create("m", &model, &error), STATUS_OK);
    assert_int_equal(model_build(model, program, NULL, &reply, &error), STATUS_OK);
    json_decref(reply);
    assert_int_equal(model_begin_training(model, "job-1", &error), STATUS_OK);
    assert_int_equal(model_set_variable(model, "v", value, &reply, &error), STATUS_CONFLICT);
    assert_string_equal(error.code, "training");
    model_end_training(model);
    assert_int_equal(model_set_variable(model, "v:0", value, &reply, &error), STATUS_OK);
    json_decref(reply);
    json_decref(value);
    json_decref(program);
    model_unref(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contexts_stay_open),
        cmocka_unit_test(test_leaving_out_of_order),
        cmocka_unit_test(test_a_failed_step_is_undone_by_going_back),
        cmocka_unit_test(test_names_inside_a_cell),
        cmocka_unit_test(test_paths_inside_a_cell),
        cmocka_unit_test(test_results_are_described),
        cmocka_unit_test(test_variables_are_not_set_during_training),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
