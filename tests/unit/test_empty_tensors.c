/* Tensors without elements whose other dimensions are large: no kernel may count through them for ever. */
#include <unistd.h>

#include "tests/unit/graph_rig.h"

static enum status fetch_of_empty(struct rig *rig, const char *function, struct shape shape)
{
    float none = 0;
    struct attribute attributes[] = {{.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = shape_unknown()},
                                     {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_FLOAT32}};
    struct node_options options = {.attributes = attributes, .attribute_count = 2};
    struct node *placeholder = NULL;
    must(graph_add_node(rig->graph, "Placeholder", &options, &placeholder, &rig->error), &rig->error);
    struct output x = {placeholder, 0};
    struct output y;
    must(graph_add(rig->graph, function, NULL, &x, 1, &y, &rig->error), &rig->error);
    must(session_adopt(rig->session, rig->graph, &rig->error), &rig->error);
    struct tensor value = numbers(DTYPE_FLOAT32, shape, &none);
    struct feed feed = {x, &value};
    struct session_request request = {.feeds = &feed, .feed_count = 1, .fetches = &y, .fetch_count = 1};
    struct session_run *run = NULL;
    struct session_run_options how = {.random_key = 1};
    struct tensor result;
    TRY(session_prepare(rig->session, &request, &run, &rig->error));
    enum status status = session_run_go(run, &how, &result, &rig->error);
    session_run_end(run);
    return status;
}

static void test_large_empty_feeds_are_refused(void **state)
{
    (void)state;
    static const char *const functions[] = {"Softmax", "LogSoftmax", "L2Loss", "Tanh"};
    alarm(60); /* a kernel that counts to 2^60 ends the test */
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        struct rig rig = rig_open();
        expect_error(fetch_of_empty(&rig, functions[i], shape_matrix((int64_t)1 << 60, 0)), &rig.error,
                     "ResourceExhaustedError",
                     "OOM when allocating tensor with shape[1152921504606846976,0] and type "
                     "float for Placeholder:0: its dimensions may come to at most "
                     "2147483648 elements");
        must(fetch_of_empty(&rig, functions[i], shape_matrix(1000, 0)), &rig.error);
        rig_close(&rig);
    }
    alarm(0);
}

/* The same of what a node is known to make. */
static void test_large_empty_constants_are_refused(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    float none = 0;
    struct output output;
    struct tensor value = numbers(DTYPE_FLOAT32, shape_matrix(0, (int64_t)1 << 40), &none);
    assert_int_equal(graph_add_constant(rig.graph, NULL, &value, &output, &rig.error), STATUS_TOO_LARGE);
    assert_string_equal(rig.error.type, "ResourceExhaustedError");
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_empty_feeds_are_refused),
        cmocka_unit_test(test_large_empty_constants_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
