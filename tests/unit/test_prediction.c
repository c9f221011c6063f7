/* Runs of a served version's signatures: values as nested JSON, flat JSON and bytes, and what is refused; whole infer
 * requests without memory and in parallel. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/oip_request.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "tests/unit/json_rig.h"
#include "tests/unit/served_rig.h"

enum { CALLERS = 8, CALLS = 50, RANDOM_CASES = 200, ELEMENTS_MAX = 1 << 20, RUN_MS_MAX = 60 * 1000 };

static struct served_graph *graph;

static int open_graph(void **state)
{
    (void)state;
    graph = served_rig_open();
    return 0;
}

static int close_graph(void **state)
{
    (void)state;
    graph = served_graph_unref(graph);
    return 0;
}

static struct prediction begin(const char *signature)
{
    struct prediction prediction = {.graph = NULL};
    struct error error;
    assert_int_equal(prediction_begin(graph, signature, &prediction, &error), STATUS_OK);
    return prediction;
}

static size_t input_of(const struct prediction *prediction, const char *name)
{
    struct error error;
    size_t input = 0;
    assert_int_equal(prediction_find_input(prediction, name, &input, &error), STATUS_OK);
    return input;
}

static void give(struct prediction *prediction, const char *name, const char *value)
{
    struct error error;
    json_t *json = json_loads(value, JSON_DECODE_ANY, NULL);
    if (prediction_set_json(prediction, input_of(prediction, name), json, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    json_decref(json);
}

static void give_all(struct prediction *prediction)
{
    give(prediction, "f", "[[1,2],[3,4]]");
    give(prediction, "d", "0.1");
    give(prediction, "i", "[[-7]]");
    give(prediction, "l", "[9007199254740993]");
    give(prediction, "b", "[true,false]");
}

static void expect_output(const struct prediction *prediction, const char *name, const char *wanted)
{
    struct error error;
    for (size_t i = 0; i < prediction->told_count; i++) {
        if (strcmp(prediction_output(prediction, i)->name, name) == 0) {
            json_t *json = NULL;
            assert_int_equal(tensor_to_json(prediction_value(prediction, i), TENSOR_NESTED, &json, &error), STATUS_OK);
            json_t *expected = json_loads(wanted, JSON_DECODE_ANY, NULL);
            assert_true(json_equal(json, expected));
            json_decref(json);
            json_decref(expected);
            return;
        }
    }
    fail_msg("there is no output %s", name);
}

static void run(struct prediction *prediction)
{
    struct error error;
    if (prediction_run(prediction, ELEMENTS_MAX, RUN_MS_MAX, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
}

static void refuse_run(struct prediction *prediction, size_t elements_max, const char *text)
{
    struct error error;
    assert_int_not_equal(prediction_run(prediction, elements_max, RUN_MS_MAX, &error), STATUS_OK);
    if (strstr(error.message, text) == NULL) {
        fail_msg("'%s' is not in '%s'", text, error.message);
    }
    prediction_release(prediction);
}

static void test_all_outputs(void **state)
{
    (void)state;
    struct prediction prediction = begin(NULL);
    give_all(&prediction);
    run(&prediction);
    assert_int_equal(prediction.told_count, 6);
    expect_output(&prediction, "sum", "[[2.0,4.0],[4.0,6.0]]");
    expect_output(&prediction, "d", "0.1");
    expect_output(&prediction, "i", "[[-7]]");
    expect_output(&prediction, "l", "[9007199254740993]");
    expect_output(&prediction, "b", "[true,false]");
    prediction_release(&prediction);
}

static void test_an_input_with_a_value_of_its_own(void **state)
{
    (void)state;
    struct error error;
    struct prediction prediction = begin("serving_default");
    give_all(&prediction);
    give(&prediction, "v", "[10,20]");
    assert_int_equal(prediction_ask_for(&prediction, "sum", &error), STATUS_OK);
    run(&prediction);
    assert_int_equal(prediction.told_count, 1);
    expect_output(&prediction, "sum", "[[11.0,22.0],[13.0,24.0]]");
    prediction_release(&prediction);
    prediction = begin("serving_default"); /* what one run was fed, the next is not */
    give_all(&prediction);
    run(&prediction);
    expect_output(&prediction, "sum", "[[2.0,4.0],[4.0,6.0]]");
    prediction_release(&prediction);
}

static void test_states_are_carried(void **state)
{
    (void)state;
    const struct served_signature *signature = NULL;
    struct error error;
    assert_int_equal(served_graph_find(graph, "count", &signature, &error), STATUS_OK);
    size_t at = served_end_find(signature->inputs, signature->input_count, "state.0");
    assert_int_not_equal(at, SIZE_MAX);
    assert_true(signature->inputs[at].is_carried && !signature->inputs[at].is_optional);
    assert_string_equal(signature->outputs[signature->inputs[at].next].name, "state.0");
    assert_false(signature->inputs[served_end_find(signature->inputs, signature->input_count, "x")].is_carried);
}

static void test_a_language_model_has_a_signature(void **state)
{
    (void)state;
    struct served_graph *moby = NULL;
    const struct served_signature *signature = NULL;
    struct error error;
    assert_int_equal(served_graph_open("config/demo/moby/1", &moby, &error), STATUS_OK);
    assert_int_equal(served_graph_signature_count(moby), 1);
    assert_int_equal(served_graph_find(moby, NULL, &signature, &error), STATUS_OK);
    assert_string_equal(signature->name, SERVED_DEFAULT_NAME);
    assert_string_equal(signature->inputs[0].name, "tokens");
    assert_string_equal(signature->inputs[0].tensor, "predict/inputs:0");
    assert_true(signature->input_count > 1 && signature->output_count == signature->input_count + 1);
    for (size_t i = 1; i < signature->input_count; i++) {
        assert_true(signature->inputs[i].is_optional && signature->inputs[i].is_carried);
    }
    served_graph_unref(moby);
}

static void test_runs_that_cannot_be(void **state)
{
    (void)state;
    struct prediction prediction = begin(NULL);
    refuse_run(&prediction, ELEMENTS_MAX, "the input 'f' (float32, shape (?, 2)) is missing");
    prediction = begin(NULL);
    give(&prediction, "f", "[[1,2,3]]");
    refuse_run(&prediction, ELEMENTS_MAX, "the input 'f' has shape (?, 2), but was given shape (1, 3)");
    prediction = begin(NULL);
    give_all(&prediction);
    refuse_run(&prediction, 3, "elements, a reply at most 3");
}

static void test_names_that_are_not_there(void **state)
{
    (void)state;
    struct error error;
    size_t input;
    struct prediction prediction = {.graph = NULL};
    assert_int_equal(prediction_begin(graph, "none", &prediction, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "there are: serving_default, count"));
    prediction_release(&prediction);
    prediction = begin(NULL);
    assert_int_equal(prediction_find_input(&prediction, "x", &input, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "no input 'x'; there are: f, d, i, l, b, v"));
    give(&prediction, "d", "1");
    assert_int_equal(prediction_find_input(&prediction, "d", &input, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "given twice"));
    assert_int_equal(prediction_find_only_input(&prediction, &input, &error), STATUS_INVALID);
    assert_int_equal(prediction_ask_for(&prediction, "x", &error), STATUS_INVALID);
    assert_int_equal(prediction_ask_for(&prediction, "f", &error), STATUS_OK);
    assert_int_equal(prediction_ask_for(&prediction, "f", &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "asked for twice"));
    prediction_release(&prediction);
}

static void test_shapes_that_are_none(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{}", "x: shape must be a list"},
        {"[1,2,3,4,5,6,7,8,9]", "at most 8"},
        {"[1.5]", "dimension 0 of the shape is no whole number"},
        {"[2,null]", "dimension 1 of the shape is no whole number"},
        {"[2,-1]", "dimension 1 of the shape is -1, below 0"},
        {"[67108865]", "more than 67108864 elements"},
        {"[9223372036854775807]", "more than 67108864 elements"},
        {"[65536,65536]", "with dimension 1, 65536, the shape has more"},
        {"[0,67108864,2]", "with dimension 2, 2, the shape has more"},
        {"[4294967296,4294967296]", "more than 67108864 elements"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct shape shape;
        struct error error;
        json_t *json = parse(cases[i][0]);
        assert_int_equal(prediction_read_shape(json, "x", &shape, &error), STATUS_INVALID);
        if (strstr(error.message, cases[i][1]) == NULL) {
            fail_msg("%s: %s", cases[i][0], error.message);
        }
        json_decref(json);
    }
}

static void test_lists_that_do_not_fit(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"[2,2]", "[1,2,3]", "the input 'f': its data has 3 elements, its shape (2, 2) 4"},
        {"[67108864]", "[1]", "its data has 1 elements, its shape (67108864,) 67108864"},
        {"[2,2]", "[[1,2]]", "the input 'f': its data has shape (1, 2), not (2, 2)"},
        {"[2]", "[1,\"x\"]", "the input 'f': \"x\" is not a number"},
        {"[2]", "[1,[2]]", "the input 'f': element 1 is no float32"},
        {"[2,1]", "[[1],2]", "ragged"},
        {"[1]", "1", "the input 'f': data must be a list"},
        {"[1]", "{}", "the input 'f': data must be a list"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct prediction prediction = begin(NULL);
        struct shape shape;
        struct error error;
        json_t *stated = parse(cases[i][0]);
        json_t *data = json_loads(cases[i][1], JSON_DECODE_ANY, NULL);
        uint64_t allocated = mem_allocation_count();
        assert_int_equal(prediction_read_shape(stated, "f", &shape, &error), STATUS_OK);
        assert_int_equal(prediction_set_listed(&prediction, input_of(&prediction, "f"), &shape, data, &error),
                         STATUS_INVALID);
        assert_true(mem_allocation_count() - allocated <= 1); /* what the data brought, never what the shape said */
        if (strstr(error.message, cases[i][2]) == NULL) {
            fail_msg("%s: %s", cases[i][1], error.message);
        }
        json_decref(stated);
        json_decref(data);
        prediction_release(&prediction);
    }
}

static void test_bytes_that_do_not_fit(void **state)
{
    (void)state;
    struct prediction prediction = begin(NULL);
    struct error error;
    struct shape shape = shape_matrix(1 << 13, 1 << 13);
    uint64_t allocated = mem_allocation_count();
    assert_int_equal(prediction_set_bytes(&prediction, input_of(&prediction, "l"), &shape, "12345678", 8, &error),
                     STATUS_INVALID);
    assert_int_equal(mem_allocation_count(), allocated);
    assert_string_equal(error.message,
                        "the input 'l': 8 bytes were given, its shape (8192, 8192) of int64 takes 536870912");
    prediction_release(&prediction);
}

static void test_truth_in_bytes(void **state)
{
    (void)state;
    struct prediction prediction = begin(NULL);
    struct error error;
    struct shape shape = shape_vector(3);
    size_t input = input_of(&prediction, "b");
    assert_int_equal(prediction_set_bytes(&prediction, input, &shape, "\x00\x01\xff", 3, &error), STATUS_OK);
    give(&prediction, "f", "[[1,2]]");
    give(&prediction, "d", "1");
    give(&prediction, "i", "1");
    give(&prediction, "l", "1");
    run(&prediction);
    expect_output(&prediction, "b", "[false,true,true]");
    prediction_release(&prediction);
}

/* ---- random values: the three forms agree ---- */

static uint64_t seed, draws;

static uint64_t draw(uint64_t limit)
{
    return (uint64_t)(rng_uniform(seed, 0, draws++) * (double)limit);
}

static json_t *draw_element(enum dtype dtype)
{
    if (dtype == DTYPE_BOOL) {
        return json_boolean(draw(2));
    }
    return dtype_is_float(dtype) ? json_real((double)((int64_t)draw(2001) - 1000) / 8)
                                 : json_integer((json_int_t)draw(1 << 20) - (1 << 19));
}

static void compare_forms(const char *name, enum dtype dtype)
{
    struct prediction listed = begin(NULL);
    struct prediction nested = begin(NULL);
    struct prediction raw = begin(NULL);
    struct error error;
    struct shape shape = shape_matrix((int64_t)draw(4), 2);
    size_t input = input_of(&listed, name);
    json_t *data = json_array();
    for (int64_t i = 0; i < shape.dimensions[0] * 2; i++) {
        json_array_append_new(data, draw_element(dtype));
    }
    assert_int_equal(prediction_set_listed(&listed, input, &shape, data, &error), STATUS_OK);
    const struct tensor *value = listed.inputs[input];
    assert_int_equal(prediction_set_bytes(&raw, input, &shape, value->data, tensor_bytes(value), &error), STATUS_OK);
    assert_memory_equal(raw.inputs[input]->data, value->data, tensor_bytes(value));
    json_t *lists = NULL;
    assert_int_equal(tensor_to_json(value, TENSOR_NESTED, &lists, &error), STATUS_OK);
    if (shape.dimensions[0] > 0) { /* [] says nothing of the second dimension */
        assert_int_equal(prediction_set_listed(&nested, input, &shape, lists, &error), STATUS_OK);
        assert_memory_equal(nested.inputs[input]->data, value->data, tensor_bytes(value));
    }
    json_decref(lists);
    json_decref(data);
    prediction_release(&listed);
    prediction_release(&nested);
    prediction_release(&raw);
}

static void test_forms_agree(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum dtype dtype;
    } inputs[] = {
        {"f", DTYPE_FLOAT32}, {"d", DTYPE_FLOAT64}, {"i", DTYPE_INT32}, {"l", DTYPE_INT64}, {"b", DTYPE_BOOL}};
    const char *text = getenv("TEST_SEED");
    seed = text == NULL ? 20261121 : strtoull(text, NULL, 10);
    print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
    for (int i = 0; i < RANDOM_CASES; i++) {
        compare_forms(inputs[i % 5].name, inputs[i % 5].dtype);
    }
}

/* ---- memory and threads ---- */

/* An infer request, read, run and replied to: OK, or what failed on the way. */
static enum status serve(const char *body, json_t **ret_reply, struct error *error)
{
    struct oip_request request = {.body = NULL};
    struct prediction prediction = {.graph = NULL};
    char *bytes = NULL;
    size_t length = 0;
    size_t json_length = 0;
    enum status status = oip_request_read(body, strlen(body), SIZE_MAX, &request, error);
    if (status == STATUS_OK) {
        status = prediction_begin(graph, request.signature, &prediction, error);
    }
    if (status == STATUS_OK) {
        status = oip_request_feed(&request, &prediction, error);
    }
    if (status == STATUS_OK) {
        prediction_keep_states(&prediction);
        status = prediction_run(&prediction, ELEMENTS_MAX, RUN_MS_MAX, error);
    }
    if (status == STATUS_OK) {
        status = oip_request_reply(&request, &prediction, "m", 1, &bytes, &length, &json_length, error);
    }
    if (status == STATUS_OK) {
        *ret_reply = json_loadb(bytes, length, 0, NULL);
    }
    mem_free(bytes);
    prediction_release(&prediction);
    oip_request_release(&request);
    return status;
}

#define COUNT_REQUEST(x)                                                                                               \
    "{\"parameters\":{\"signature_name\":\"count\"},\"outputs\":[{\"name\":\"y\"}],\"inputs\":["                       \
    "{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[" x ",0]},"                                       \
    "{\"name\":\"state.0\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[5,6]}]}"

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    enum status status = STATUS_NO_MEMORY;
    json_t *reply = NULL;
    for (uint64_t n = 0; status != STATUS_OK; n++) {
        struct error error;
        struct served_graph *opened = NULL;
        mem_fail_after(n);
        status = served_graph_open("config/demo/moby/1", &opened, &error);
        mem_fail_after(n);
        status = status == STATUS_OK ? serve(COUNT_REQUEST("1"), &reply, &error) : status;
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        served_graph_unref(opened);
    }
    json_decref(reply);
}

struct caller {
    pthread_t thread;
    json_t *expected;
    char body[sizeof COUNT_REQUEST("-1234567890")];
    bool is_right;
};

static void *call(void *context)
{
    struct caller *caller = context;
    caller->is_right = true;
    for (int i = 0; i < CALLS; i++) {
        struct error error;
        json_t *reply = NULL;
        bool is_served = serve(caller->body, &reply, &error) == STATUS_OK;
        caller->is_right = caller->is_right && is_served && json_equal(reply, caller->expected);
        json_decref(reply);
    }
    return NULL;
}

static void test_runs_in_parallel(void **state)
{
    (void)state;
    struct caller callers[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        struct error error;
        snprintf(callers[i].body, sizeof callers[i].body, COUNT_REQUEST("%d"), i);
        assert_int_equal(serve(callers[i].body, &callers[i].expected, &error), STATUS_OK);
    }
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
        assert_true(callers[i].is_right);
        json_decref(callers[i].expected);
    }
}

static void test_type_names(void **state)
{
    (void)state;
    assert_string_equal(dtype_oip_name(DTYPE_FLOAT32), "FP32");
    assert_string_equal(dtype_tf_name(DTYPE_FLOAT32), "DT_FLOAT");
    assert_null(dtype_oip_name(DTYPE_COMPLEX64));
    for (int i = 0; i < DTYPE_COUNT; i++) {
        assert_non_null(dtype_tf_name((enum dtype)i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_outputs),           cmocka_unit_test(test_an_input_with_a_value_of_its_own),
        cmocka_unit_test(test_states_are_carried),    cmocka_unit_test(test_a_language_model_has_a_signature),
        cmocka_unit_test(test_runs_that_cannot_be),   cmocka_unit_test(test_names_that_are_not_there),
        cmocka_unit_test(test_shapes_that_are_none),  cmocka_unit_test(test_lists_that_do_not_fit),
        cmocka_unit_test(test_bytes_that_do_not_fit), cmocka_unit_test(test_truth_in_bytes),
        cmocka_unit_test(test_forms_agree),           cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_runs_in_parallel),      cmocka_unit_test(test_type_names),
    };
    return cmocka_run_group_tests(tests, open_graph, close_graph);
}
