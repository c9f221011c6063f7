/* Every allocation of building, differentiating, compiling and running recurrences fails once: each time that is said,
 * and nothing leaks (the sanitizers tell). Running again allocates nothing. */
#include "engine/base/mem.h"
#include "engine/math/gemm.h"
#include "engine/nn/recurrence.h"
#include "tests/unit/recurrence_rig.h"

enum { TIME = 3, BATCH = 2, DEPTH = 3, UNITS = 3 };

/* What an attempt makes, to be given back whatever happened. */
struct attempt {
    bool is_general;
    struct graph *graph;
    struct values *values;
    struct plan *plan;
    struct workspace *workspace;
    struct output x;
    struct output fetches[3];
};

static enum status build(struct attempt *attempt, struct error *error)
{
    struct graph *graph = attempt->graph;
    struct attribute attributes[] = {
        {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_FLOAT32},
        {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = shape_cube(DIMENSION_UNKNOWN, TIME, DEPTH)}};
    struct node_options placeholder = {.name = "x", .attributes = attributes, .attribute_count = 2};
    struct node *node = NULL;
    struct cell_options lstm = {.kind = CELL_BASIC_LSTM, .units = UNITS};
    struct cell_options gru = {.kind = CELL_GRU, .units = UNITS};
    struct cell_options multi = {.kind = CELL_MULTI, .child_count = 2};
    uint32_t cell = 0;
    struct output outputs;
    struct output states[3];
    TRY(graph_add_node(graph, "Placeholder", &placeholder, &node, error));
    attempt->x = (struct output){node, 0};
    TRY(cell_create(graph, &lstm, &multi.children[0], error));
    TRY(cell_create(graph, &gru, &multi.children[1], error));
    TRY(cell_create(graph, &multi, &cell, error));
    struct recurrence_options options = {
        .inputs = attempt->x, .has_dtype = true, .dtype = DTYPE_FLOAT32, .is_general = attempt->is_general};
    TRY(dynamic_rnn(graph, cell, &options, &outputs, states, error));
    struct output xs[] = {graph_variable(graph, 0)->read, graph_variable(graph, 2)->read};
    attempt->fetches[0] = outputs;
    return graph_gradients(graph, &outputs, 1, xs, 2, attempt->fetches + 1, error);
}

static enum status run(const struct attempt *attempt, struct error *error)
{
    float zeros[BATCH * TIME * DEPTH] = {0};
    struct tensor feed = {DTYPE_FLOAT32, shape_cube(BATCH, TIME, DEPTH), zeros};
    struct run_options options = {.feeds = &feed, .random_key = 1};
    struct tensor results[3];
    return plan_run(attempt->plan, attempt->workspace, attempt->values, &options, results, error);
}

static enum status make(struct attempt *attempt, struct error *error)
{
    struct shape shape = shape_cube(BATCH, TIME, DEPTH);
    TRY(graph_create(&attempt->graph, error));
    TRY(build(attempt, error));
    TRY(values_create(attempt->graph, &attempt->values, error));
    TRY(values_initialize(attempt->values, attempt->graph, 1, error));
    struct plan_options options = {
        .feeds = &attempt->x, .feed_shapes = &shape, .feed_count = 1, .fetches = attempt->fetches, .fetch_count = 3};
    TRY(plan_create(attempt->graph, &options, &attempt->plan, error));
    TRY(workspace_create(attempt->plan, &attempt->workspace, error));
    return run(attempt, error);
}

static void give_back(const struct attempt *attempt)
{
    workspace_destroy(attempt->workspace);
    plan_unref(attempt->plan);
    values_destroy(attempt->values);
    graph_unref(attempt->graph);
}

static void check_every_failure(bool is_general)
{
    enum status status = STATUS_NO_MEMORY;
    for (uint64_t n = 0; status != STATUS_OK; n++) {
        struct attempt attempt = {.is_general = is_general};
        struct error error;
        mem_fail_after(n);
        status = make(&attempt, &error);
        mem_fail_after(UINT64_MAX);
        if (status != STATUS_OK && status != STATUS_NO_MEMORY) {
            fail_msg("allocation %llu: %s", (unsigned long long)n, error.message);
        }
        give_back(&attempt);
    }
}

static void test_every_allocation_fails_once(void **state)
{
    (void)state;
    check_every_failure(false);
    check_every_failure(true);
}

static void test_running_again_allocates_nothing(void **state)
{
    (void)state;
    for (int general = 0; general < 2; general++) {
        struct attempt attempt = {.is_general = general == 1};
        struct error error;
        must(make(&attempt, &error), &error);
        uint64_t before = mem_allocation_count();
        must(run(&attempt, &error), &error);
        assert_true(mem_allocation_count() == before);
        give_back(&attempt);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation_fails_once),
        cmocka_unit_test(test_running_again_allocates_nothing),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
