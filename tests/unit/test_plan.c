/* Plans: what is computed ahead, what depends on feeds, where memory lies, and what writes mean for reads. */
#include "tests/unit/plan_rig.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/math/gemm.h"

struct fixture {
    struct graph *graph;
    struct values *values;
    const struct variable *v; /* scalar, 10 */
    struct error error;
};

static void begin(struct fixture *fixture)
{
    must(graph_create(&fixture->graph, &fixture->error), &fixture->error);
    struct shape scalar = shape_scalar();
    fixture->v = rig_variable(fixture->graph, "v", &scalar, 10);
}

static void initialize(struct fixture *fixture)
{
    must(values_create(fixture->graph, &fixture->values, &fixture->error), &fixture->error);
    must(values_initialize(fixture->values, fixture->graph, 1, &fixture->error), &fixture->error);
}

static void end(struct fixture *fixture)
{
    values_destroy(fixture->values);
    graph_unref(fixture->graph);
}

/* Fetches scalars and compares. */
static void expect(struct fixture *fixture, const struct output *fetches, size_t count, const float *wanted)
{
    struct rig_run run = {.options = {.fetches = fetches, .fetch_count = count}};
    must(rig_run(fixture->graph, fixture->values, &run, &fixture->error), &fixture->error);
    for (size_t i = 0; i < count; i++) {
        assert_true(rig_value(&run.results[i]) == wanted[i]);
    }
    rig_run_end(&run);
}

/* ---- writes and reads ---- */

static void test_reads_keep_what_they_read(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct output assign = rig_assign(f.graph, f.v, rig_scalar(f.graph, 3), ASSIGN_SET);
    struct output add = rig_assign(f.graph, f.v, rig_scalar(f.graph, 4), ASSIGN_ADD);
    struct output late = rig_unary(f.graph, "Neg", f.v->read);
    struct output of_assign = rig_unary(f.graph, "Neg", assign);
    initialize(&f);
    struct output fetches[] = {f.v->read, assign, add, late, of_assign, {f.v->node, 0}};
    expect(&f, fetches, 6, (const float[]){10, 3, 7, -10, -3, 7});
    end(&f);
}

/* with control_dependencies([assign_add(v, 1)]): identity(v), which counts 1, 2, 3 in TensorFlow. */
static void test_who_waits_sees_the_write(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct output before = rig_unary(f.graph, "Neg", f.v->read);
    struct output add = rig_assign(f.graph, f.v, rig_scalar(f.graph, 1), ASSIGN_ADD);
    struct output after = rig_after(f.graph, add.node, f.v->read);
    struct output after_before = rig_after(f.graph, add.node, before);
    initialize(&f);
    struct output fetches[] = {after, after_before};
    expect(&f, fetches, 2, (const float[]){11, -10});
    expect(&f, fetches, 2, (const float[]){12, -11});
    end(&f);
}

static void test_initializer_in_the_same_run(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct node *init = NULL;
    must(add_variables_initializer(f.graph, NULL, &init, &f.error), &f.error);
    struct output negative = rig_unary(f.graph, "Neg", f.v->read);
    must(values_create(f.graph, &f.values, &f.error), &f.error);
    struct rig_run alone = {.options = {.fetches = &negative, .fetch_count = 1}};
    assert_int_equal(rig_run(f.graph, f.values, &alone, &f.error), STATUS_UNPROCESSABLE);
    assert_string_equal(f.error.message, "Attempting to use uninitialized value v\n\t [[{{node v/read}}]]");
    assert_string_equal(f.error.type, "FailedPreconditionError");
    rig_run_end(&alone);
    struct rig_run both = {.options = {.fetches = &negative, .fetch_count = 1, .targets = &init, .target_count = 1}};
    must(rig_run(f.graph, f.values, &both, &f.error), &f.error);
    assert_true(plan_writes(both.plan));
    assert_true(rig_value(&both.results[0]) == -10);
    rig_run_end(&both);
    end(&f);
}

static void test_writes_behind_constants_happen(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct output add = rig_assign(f.graph, f.v, rig_scalar(f.graph, 1), ASSIGN_ADD);
    struct output shape = rig_unary(f.graph, "Size", add);
    struct output constant = rig_after(f.graph, add.node, rig_scalar(f.graph, 5));
    initialize(&f);
    struct output size_and_value[] = {constant, {f.v->node, 0}};
    expect(&f, size_and_value, 2, (const float[]){5, 11});
    struct rig_run run = {.options = {.fetches = &shape, .fetch_count = 1}};
    must(rig_run(f.graph, f.values, &run, &f.error), &f.error);
    assert_int_equal(*(const int32_t *)run.results[0].data, 1);
    rig_run_end(&run);
    expect(&f, &(struct output){f.v->node, 0}, 1, (const float[]){12});
    end(&f);
}

/* ---- feeds ---- */

static void test_any_tensor_can_be_fed(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct shape unknown = shape_unknown();
    struct output x = rig_placeholder(f.graph, DTYPE_FLOAT32, &unknown);
    struct output three = rig_scalar(f.graph, 3);
    struct output four = rig_binary(f.graph, "Add", three, rig_scalar(f.graph, 1));
    struct output sum = rig_binary(f.graph, "Add", four, x);
    struct output negative = rig_unary(f.graph, "Neg", sum);
    initialize(&f);
    float value = 50;
    struct tensor fed = {DTYPE_FLOAT32, shape_scalar(), &value};
    const struct {
        struct output feed;
        struct output fetch;
        float result;
    } cases[] = {{sum, negative, -50}, {x, negative, -54}, {sum, sum, 50}, {three, four, 51}, {four, four, 50}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rig_run run = {
            .options = {.feeds = &cases[i].feed, .feed_count = 1, .fetches = &cases[i].fetch, .fetch_count = 1},
            .feeds = &fed};
        must(rig_run(f.graph, f.values, &run, &f.error), &f.error);
        assert_true(rig_value(&run.results[0]) == cases[i].result);
        rig_run_end(&run);
    }
    struct rig_run unfed = {.options = {.feeds = &three, .feed_count = 1, .fetches = &negative, .fetch_count = 1},
                            .feeds = &fed};
    assert_int_equal(rig_run(f.graph, f.values, &unfed, &f.error), STATUS_UNPROCESSABLE);
    assert_string_equal(f.error.message, "You must feed a value for placeholder tensor 'Placeholder' with dtype float\n"
                                         "\t [[node Placeholder]]");
    end(&f);
}

/* A fed node's other outputs are still computed; waiting for a fed placeholder is over at once. */
static void test_feeding_one_of_two_outputs(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    float pair[] = {1, 2};
    struct output both = rig_constant(f.graph, &(struct tensor){DTYPE_FLOAT32, shape_vector(2), pair});
    struct attribute count = {.name = "num", .kind = ATTRIBUTE_INTEGER, .integer = 2};
    struct node_options options = {.inputs = &both, .input_count = 1, .attributes = &count, .attribute_count = 1};
    struct node *unpack = NULL;
    must(graph_add_node(f.graph, "Unpack", &options, &unpack, &f.error), &f.error);
    struct output sum = rig_binary(f.graph, "Add", (struct output){unpack, 0}, (struct output){unpack, 1});
    struct shape scalar = shape_scalar();
    struct output x = rig_placeholder(f.graph, DTYPE_FLOAT32, &scalar);
    struct output after = rig_after(f.graph, x.node, sum);
    initialize(&f);
    float values[] = {40, 7};
    struct tensor fed[] = {{DTYPE_FLOAT32, shape_scalar(), &values[0]}, {DTYPE_FLOAT32, shape_scalar(), &values[1]}};
    struct output feeds[] = {{unpack, 1}, x};
    struct rig_run run = {.options = {.feeds = feeds, .feed_count = 2, .fetches = &after, .fetch_count = 1},
                          .feeds = fed};
    must(rig_run(f.graph, f.values, &run, &f.error), &f.error);
    assert_true(rig_value(&run.results[0]) == 41);
    rig_run_end(&run);
    end(&f);
}

static void test_fed_variables_cannot_be_written(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct output assign = rig_assign(f.graph, f.v, rig_scalar(f.graph, 3), ASSIGN_SET);
    initialize(&f);
    float value = 1;
    struct tensor fed = {DTYPE_FLOAT32, shape_scalar(), &value};
    struct output state_output = {f.v->node, 0};
    struct rig_run run = {.options = {.feeds = &state_output, .feed_count = 1, .fetches = &assign, .fetch_count = 1},
                          .feeds = &fed};
    assert_int_equal(rig_run(f.graph, f.values, &run, &f.error), STATUS_UNPROCESSABLE);
    assert_string_equal(f.error.message, "Input 0 of node Assign was passed float from _arg_v_0_0:0 incompatible with "
                                         "expected float_ref.");
    end(&f);
}

static void test_shapes_depend_on_small_feeds(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct shape scalar = shape_scalar();
    int32_t zero = 0;
    int32_t one = 1;
    struct output n = rig_placeholder(f.graph, DTYPE_INT32, &scalar);
    struct output unused = rig_placeholder(f.graph, DTYPE_INT32, &scalar);
    struct output limit = rig_binary(f.graph, "Mul", n, n);
    struct output range[] = {rig_constant(f.graph, &(struct tensor){DTYPE_INT32, scalar, &zero}), limit,
                             rig_constant(f.graph, &(struct tensor){DTYPE_INT32, scalar, &one})};
    struct output numbers = rig_add(f.graph, "Range", range, 3);
    struct output fetches[] = {numbers, rig_unary(f.graph, "Size", numbers), rig_unary(f.graph, "Neg", unused)};
    initialize(&f);
    int32_t three = 3;
    struct tensor fed[] = {{DTYPE_INT32, scalar, &three}, {DTYPE_INT32, scalar, &one}};
    struct output feeds[] = {n, unused};
    struct rig_run run = {.options = {.feeds = feeds, .feed_count = 2, .fetches = fetches, .fetch_count = 3},
                          .feeds = fed};
    must(rig_run(f.graph, f.values, &run, &f.error), &f.error);
    assert_int_equal(run.results[0].shape.dimensions[0], 9);
    assert_int_equal(((const int32_t *)run.results[0].data)[8], 8);
    assert_int_equal(*(const int32_t *)run.results[1].data, 9);
    assert_true(plan_depends_on_feed(run.plan, 0));
    assert_false(plan_depends_on_feed(run.plan, 1));
    rig_run_end(&run);
    end(&f);
}

static void test_unknown_shapes_name_what_they_need(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct attribute to = {.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_INT32};
    struct node_options options = {.inputs = &f.v->read, .input_count = 1, .attributes = &to, .attribute_count = 1};
    struct node *cast = NULL;
    must(graph_add_node(f.graph, "Cast", &options, &cast, &f.error), &f.error);
    int32_t zero = 0;
    int32_t one = 1;
    struct output range[] = {rig_constant(f.graph, &(struct tensor){DTYPE_INT32, shape_scalar(), &zero}),
                             {cast, 0},
                             rig_constant(f.graph, &(struct tensor){DTYPE_INT32, shape_scalar(), &one})};
    struct output numbers = rig_add(f.graph, "Range", range, 3);
    initialize(&f);
    struct rig_run run = {.options = {.fetches = &numbers, .fetch_count = 1}};
    assert_int_equal(rig_run(f.graph, f.values, &run, &f.error), STATUS_UNPROCESSABLE);
    assert_string_equal(f.error.message, "the shape of 'Range' (op: 'Range') depends on the value of its input 1, "
                                         "'Cast:0', which is not known before the run");
    end(&f);
}

/* ---- memory ---- */

static void test_empty_tensors(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct shape any = {2, {DIMENSION_UNKNOWN, 3}};
    struct output x = rig_placeholder(f.graph, DTYPE_FLOAT32, &any);
    struct output y = rig_binary(f.graph, "Add", rig_unary(f.graph, "Neg", x), f.v->read);
    initialize(&f);
    struct tensor fed = {DTYPE_FLOAT32, shape_matrix(0, 3), NULL};
    struct rig_run run = {.options = {.feeds = &x, .feed_count = 1, .fetches = &y, .fetch_count = 1}, .feeds = &fed};
    must(rig_run(f.graph, f.values, &run, &f.error), &f.error);
    assert_int_equal(tensor_element_count(&run.results[0]), 0);
    rig_run_end(&run);
    end(&f);
}

static void test_workspace_in_memory_of_the_caller(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct shape matrix = shape_matrix(5, 7);
    struct output x = rig_placeholder(f.graph, DTYPE_FLOAT32, &matrix);
    struct output y = rig_unary(f.graph, "Neg", rig_unary(f.graph, "Square", rig_unary(f.graph, "Neg", x)));
    initialize(&f);
    struct plan_options options = {
        .feeds = &x, .feed_shapes = &matrix, .feed_count = 1, .fetches = &y, .fetch_count = 1};
    struct plan *plan = NULL;
    must(plan_create(f.graph, &options, &plan, &f.error), &f.error);
    size_t bytes = plan_workspace_bytes(plan);
    unsigned char *memory = mem_allocate_aligned_raw(bytes + 128, 1);
    memset(memory, 0xa5, bytes + 128);
    float data[35] = {2};
    struct tensor fed = {DTYPE_FLOAT32, matrix, data};
    struct run_options run = {.feeds = &fed};
    struct tensor result;
    struct workspace *workspace = workspace_place(plan, memory + 64);
    must(plan_run(plan, workspace, f.values, &run, &result, &f.error), &f.error);
    assert_true(rig_value(&result) == -4);
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(memory[i], 0xa5);
        assert_int_equal(memory[64 + bytes + i], 0xa5);
    }
    mem_free(memory);
    plan_unref(plan);
    end(&f);
}

static void test_too_large_a_run_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct shape any = {2, {DIMENSION_UNKNOWN, DIMENSION_UNKNOWN}};
    struct output a = rig_placeholder(f.graph, DTYPE_FLOAT32, &any);
    struct output b = rig_placeholder(f.graph, DTYPE_FLOAT32, &any);
    struct output sum = rig_binary(f.graph, "Add", a, b); /* [40000, 1] + [1, 40000] */
    initialize(&f);
    struct output feeds[] = {a, b};
    struct shape shapes[] = {shape_matrix(40000, 1), shape_matrix(1, 40000)};
    struct plan_options options = {
        .feeds = feeds, .feed_shapes = shapes, .feed_count = 2, .fetches = &sum, .fetch_count = 1};
    struct plan *plan = NULL;
    assert_int_equal(plan_create(f.graph, &options, &plan, &f.error), STATUS_TOO_LARGE);
    assert_non_null(strstr(f.error.message, "needs more than 4294967296 bytes"));
    end(&f);
}

/* Each allocation of compiling and of making a workspace fails once. */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct output add =
        rig_assign(f.graph, f.v, rig_binary(f.graph, "Add", rig_scalar(f.graph, 1), f.v->read), ASSIGN_ADD);
    struct output fetches[] = {add, f.v->read};
    initialize(&f);
    struct plan_options options = {.fetches = fetches, .fetch_count = 2};
    uint64_t failing = 0;
    for (bool has_failed = true; has_failed; failing++) {
        struct plan *plan = NULL;
        struct workspace *workspace = NULL;
        uint64_t before = mem_allocation_count();
        mem_fail_after(failing);
        enum status status = plan_create(f.graph, &options, &plan, &f.error);
        if (status == STATUS_OK) {
            status = workspace_create(plan, &workspace, &f.error);
        }
        mem_fail_after(UINT64_MAX);
        has_failed = mem_allocation_count() - before > failing;
        assert_true(status == STATUS_NO_MEMORY || status == STATUS_OK);
        assert_true(has_failed || status == STATUS_OK);
        workspace_destroy(workspace);
        plan_unref(plan);
    }
    assert_true(failing > 10);
    end(&f);
}

static void test_long_chains(void **state)
{
    (void)state;
    enum { NODES = 10000 };
    struct fixture f;
    begin(&f);
    struct output at = f.v->read;
    for (int i = 0; i < NODES; i++) {
        at = rig_unary(f.graph, i % 3 == 0 ? "Neg" : "Identity", at);
    }
    initialize(&f);
    struct rig_run run = {.options = {.fetches = &at, .fetch_count = 1}};
    uint64_t begin_ns = clock_now_ns();
    must(rig_run(f.graph, f.values, &run, &f.error), &f.error);
    print_message("%d nodes compiled and run in %.1f ms\n", NODES, (double)(clock_now_ns() - begin_ns) / 1e6);
    assert_true(rig_value(&run.results[0]) == (NODES / 3 % 2 == 0 ? -10.0f : 10.0f));
    assert_true(plan_workspace_bytes(run.plan) < 4 << 20); /* places are used again */
    rig_run_end(&run);
    end(&f);
}

/* A plan of a clone runs on when the clone and its parent are gone. */
static void test_plans_keep_their_nodes(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    initialize(&f);
    struct graph *clone = NULL;
    must(graph_clone(f.graph, &clone, &f.error), &f.error);
    struct output negative = rig_unary(clone, "Neg", f.v->read);
    struct plan_options options = {.fetches = &negative, .fetch_count = 1};
    struct run_options run = {.random_key = 1};
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    struct tensor result;
    must(plan_create(clone, &options, &plan, &f.error), &f.error);
    must(workspace_create(plan, &workspace, &f.error), &f.error);
    graph_unref(clone);
    f.graph = graph_unref(f.graph);
    must(plan_run(plan, workspace, f.values, &run, &result, &f.error), &f.error);
    assert_true(rig_value(&result) == -10);
    workspace_destroy(workspace);
    plan_unref(plan);
    end(&f);
}

static void test_cancelling(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    initialize(&f);
    _Atomic bool cancel = true;
    struct plan_options options = {.fetches = &f.v->read, .fetch_count = 1};
    struct run_options run = {.cancel = &cancel};
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    struct tensor result;
    must(plan_create(f.graph, &options, &plan, &f.error), &f.error);
    must(workspace_create(plan, &workspace, &f.error), &f.error);
    assert_int_equal(plan_run(plan, workspace, f.values, &run, &result, &f.error), STATUS_CANCELLED);
    cancel = false;
    run.deadline_ms = 1;
    assert_int_equal(plan_run(plan, workspace, f.values, &run, &result, &f.error), STATUS_CANCELLED);
    run.deadline_ms = UINT64_MAX;
    must(plan_run(plan, workspace, f.values, &run, &result, &f.error), &f.error);
    workspace_destroy(workspace);
    plan_unref(plan);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_keep_what_they_read),
        cmocka_unit_test(test_who_waits_sees_the_write),
        cmocka_unit_test(test_initializer_in_the_same_run),
        cmocka_unit_test(test_writes_behind_constants_happen),
        cmocka_unit_test(test_any_tensor_can_be_fed),
        cmocka_unit_test(test_feeding_one_of_two_outputs),
        cmocka_unit_test(test_fed_variables_cannot_be_written),
        cmocka_unit_test(test_shapes_depend_on_small_feeds),
        cmocka_unit_test(test_unknown_shapes_name_what_they_need),
        cmocka_unit_test(test_empty_tensors),
        cmocka_unit_test(test_workspace_in_memory_of_the_caller),
        cmocka_unit_test(test_too_large_a_run_is_refused),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_long_chains),
        cmocka_unit_test(test_plans_keep_their_nodes),
        cmocka_unit_test(test_cancelling),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
