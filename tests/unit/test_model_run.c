/* Runs of a model through the JSON of the HTTP API: what names mean, what is fed, what is refused and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <jansson.h>

#include "engine/base/clock.h"
#include "engine/math/gemm.h"
#include "engine/model/model.h"
#include "tests/unit/json_rig.h"

/* c = Const 3, x a placeholder, v a variable with an assignment, y = x + v. */
static const char program[] =
    "{\"program\":[{\"op\":\"constant\",\"value\":3.0,\"name\":\"c\",\"as\":\"three\"},"
    "{\"op\":\"placeholder\",\"name\":\"x\",\"dtype\":\"float32\",\"shape\":[null,2],\"as\":\"in\"},"
    "{\"op\":\"placeholder\",\"name\":\"n\",\"dtype\":\"int32\",\"shape\":[],\"as\":\"count\"},"
    "{\"op\":\"get_variable\",\"name\":\"v\",\"shape\":[2],\"initializer\":{\"constant\":0.5},\"as\":\"weights\"},"
    "{\"op\":\"add\",\"args\":[\"in\",\"weights\"],\"name\":\"y\",\"as\":\"out\"},"
    "{\"op\":\"assign\",\"var\":\"weights\",\"value\":[1.0,2.0],\"as\":\"set\"},"
    "{\"op\":\"global_variables_initializer\",\"as\":\"init_op\"}]}";

static struct model *make_model(const char *text)
{
    struct model *model = NULL;
    struct error error;
    json_t *reply = NULL;
    json_t *request = parse(text);
    assert_int_equal(model_create("m", &model, &error), STATUS_OK);
    if (model_build(model, request, NULL, &reply, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    json_decref(request);
    json_decref(reply);
    return model;
}

static enum status run(struct model *model, const char *text, json_t **ret_results, struct error *error)
{
    json_t *request = parse(text);
    json_t *reply = NULL;
    enum status status = model_run(model, request, &reply, error);
    if (status == STATUS_OK) {
        *ret_results = json_incref(json_object_get(reply, "results"));
    }
    json_decref(reply);
    json_decref(request);
    return status;
}

static void expect(struct model *model, const char *request, const char *results)
{
    struct error error;
    json_t *reply = NULL;
    json_t *wanted = parse(results);
    if (run(model, request, &reply, &error) != STATUS_OK) {
        fail_msg("%s: %s", request, error.message);
    }
    if (!json_equal(reply, wanted)) {
        char *text = json_dumps(reply, 0);
        fail_msg("%s: %s, not %s", request, text, results);
    }
    json_decref(wanted);
    json_decref(reply);
}

static void test_names(void **state)
{
    (void)state;
    struct model *model = make_model(program);
    expect(model, "{\"fetches\":[\"c:0\",\"c\",\"three\"]}", "{\"c:0\":3.0,\"c\":null,\"three\":3.0}");
    expect(model, "{\"targets\":[\"init_op\"]}", "{}");
    expect(model, "{\"fetches\":[\"v\",\"v:0\",\"weights\",\"v/read:0\"]}",
           "{\"v\":[0.5,0.5],\"v:0\":[0.5,0.5],\"weights\":[0.5,0.5],\"v/read:0\":[0.5,0.5]}");
    expect(model, "{\"feeds\":{\"x:0\":[[1,2]]},\"fetches\":[\"y:0\",\"out\"]}",
           "{\"y:0\":[[1.5,2.5]],\"out\":[[1.5,2.5]]}");
    expect(model, "{\"feeds\":{\"in\":[[true,2.0]]},\"fetches\":[\"y:0\"]}", "{\"y:0\":[[1.5,2.5]]}");
    expect(model, "{\"feeds\":{\"count\":7.0},\"fetches\":[\"n:0\"]}", "{\"n:0\":7}");
    expect(model, "{\"feeds\":{\"c:0\":4},\"fetches\":[\"c:0\"]}", "{\"c:0\":4.0}");
    expect(model, "{\"fetches\":[]}", "{}");
    model_unref(model);
}

static void test_writes_show(void **state)
{
    (void)state;
    struct model *model = make_model(program);
    expect(model, "{\"fetches\":[\"set\",\"v:0\"]}", "{\"set\":[1.0,2.0],\"v:0\":[1.0,2.0]}");
    assert_true(model_is_unsaved(model));
    expect(model, "{\"fetches\":[\"v:0\"],\"targets\":[\"init_op\"]}", "{\"v:0\":[0.5,0.5]}");
    expect(model, "{\"fetches\":[\"v\"],\"targets\":[\"set\"]}", "{\"v\":[1.0,2.0]}");
    model_unref(model);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        enum status status;
        const char *type;
        const char *message;
    } cases[] = {
        {"{\"fetches\":[\"foo:0\"]}", STATUS_NOT_FOUND, "ValueError",
         "Fetch argument 'foo:0' cannot be interpreted as a Tensor. (\"The name 'foo:0' refers to a Tensor which does "
         "not exist. The operation, 'foo', does not exist in the graph.\")"},
        {"{\"fetches\":[\"foo\"]}", STATUS_NOT_FOUND, "ValueError",
         "Fetch argument 'foo' cannot be interpreted as a Tensor. (\"The name 'foo' refers to an Operation not in the "
         "graph.\")"},
        {"{\"fetches\":[\"c:1\"]}", STATUS_NOT_FOUND, "ValueError",
         "Fetch argument 'c:1' cannot be interpreted as a Tensor. (\"The name 'c:1' refers to a Tensor which does not "
         "exist. The operation, 'c', exists but only has 1 outputs.\")"},
        {"{\"fetches\":[null]}", STATUS_INVALID, "TypeError",
         "Fetch argument None has invalid type <class 'NoneType'>"},
        {"{\"fetches\":[3]}", STATUS_INVALID, "TypeError",
         "Fetch argument 3 has invalid type <class 'int'>, must be a string or Tensor. (Can not convert a int into a "
         "Tensor or Operation.)"},
        {"{\"feeds\":{\"q:0\":1},\"fetches\":[\"foo\"]}", STATUS_NOT_FOUND, "TypeError",
         "Cannot interpret feed_dict key as Tensor: The name 'q:0' refers to a Tensor which does not exist. The "
         "operation, 'q', does not exist in the graph."},
        {"{\"feeds\":{\"c\":1},\"fetches\":[\"c:0\"]}", STATUS_INVALID, "TypeError",
         "Cannot interpret feed_dict key as Tensor: The name 'c' refers to an Operation, not a Tensor. Tensor names "
         "must be of the form \"<op_name>:<output_index>\"."},
        {"{\"feeds\":{\"n:0\":3000000000},\"fetches\":[\"n:0\"]}", STATUS_INVALID, "TypeError",
         "Type of feed value 3000000000 with type <class 'int'> is not compatible with Tensor type <class "
         "'numpy.int32'>. Try explicitly setting the type of the feed tensor to a larger type (e.g. int64)."},
        {"{\"feeds\":{\"x:0\":[[1,2,3]]},\"fetches\":[\"nope\"]}", STATUS_UNPROCESSABLE, "ValueError",
         "Cannot feed value of shape (1, 3) for Tensor 'x:0', which has shape '(?, 2)'"},
        {"{\"fetches\":[\"v:0\"]}", STATUS_UNPROCESSABLE, "FailedPreconditionError",
         "Attempting to use uninitialized value v\n\t [[{{node _retval_v_0_0}}]]"},
        {"{\"feeds\":{\"x:0\":[[1,2]]},\"fetches\":[\"y:0\"]}", STATUS_UNPROCESSABLE, "FailedPreconditionError",
         "Attempting to use uninitialized value v\n\t [[{{node v/read}}]]"},
        {"{\"fetches\":[\"y:0\"]}", STATUS_UNPROCESSABLE, "InvalidArgumentError",
         "You must feed a value for placeholder tensor 'x' with dtype float and shape [?,2]\n\t [[node x]]"},
        {"{\"fetches\":[\"n:0\"]}", STATUS_UNPROCESSABLE, "InvalidArgumentError",
         "You must feed a value for placeholder tensor 'n' with dtype int32\n\t [[node n]]"},
        {"{\"feeds\":{\"n:0\":1e19},\"fetches\":[\"n:0\"]}", STATUS_INVALID, "", "/feeds/n:0: element 0 is no int32"},
        {"{\"fetches\":\"c:0\"}", STATUS_INVALID, "", "/fetches: must be a list of names"},
        {"{\"fetches\":[\"c:0\"],\"feeds\":[]}", STATUS_INVALID, "", "/feeds: must be an object of tensors by name"},
    };
    struct model *model = make_model(program);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error;
        json_t *results = NULL;
        assert_int_equal(run(model, cases[i].request, &results, &error), cases[i].status);
        assert_string_equal(error.type, cases[i].type);
        assert_string_equal(error.message, cases[i].message);
    }
    model_unref(model);
}

static void test_empty_graph(void **state)
{
    (void)state;
    struct model *model = NULL;
    struct error error;
    json_t *results = NULL;
    assert_int_equal(model_create("m", &model, &error), STATUS_OK);
    assert_int_equal(run(model, "{\"fetches\":[\"foo\"]}", &results, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.message,
                        "The Session graph is empty.  Add operations to the graph before calling run().");
    assert_string_equal(error.type, "RuntimeError");
    model_unref(model);
}

/* No time at all: the run ends before its first node. */
static void test_time_is_limited(void **state)
{
    (void)state;
    struct model *model = make_model(program);
    struct error error;
    json_t *reply = NULL;
    json_t *request = parse("{\"fetches\":[\"set\"]}");
    assert_int_equal(model_run_within(model, request, 0, &reply, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.message, "the run took longer than 0 seconds, the maximum");
    assert_string_equal(error.type, "DeadlineExceededError");
    assert_int_equal(model_run_within(model, request, 600000, &reply, &error), STATUS_OK);
    json_decref(reply);
    json_decref(request);
    model_unref(model);
}

/* What a fetched constant costs in the engine; printed, not judged. */
static void test_empty_run(void **state)
{
    (void)state;
    enum { RUNS = 2000 };
    struct model *model = make_model(program);
    json_t *request = parse("{\"fetches\":[\"c:0\"]}");
    uint64_t begin_ns = clock_now_ns();
    for (int i = 0; i < RUNS; i++) {
        struct error error;
        json_t *reply = NULL;
        assert_int_equal(model_run(model, request, &reply, &error), STATUS_OK);
        json_decref(reply);
    }
    print_message("an empty run: %.2f us\n", (double)(clock_now_ns() - begin_ns) / 1e3 / RUNS);
    json_decref(request);
    model_unref(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),       cmocka_unit_test(test_writes_show),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_empty_graph), cmocka_unit_test(test_time_is_limited), cmocka_unit_test(test_empty_run),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
