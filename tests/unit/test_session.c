/* Sessions: plans found again, workspaces shared, TensorFlow's words for what cannot be run, many threads at once. */
#include "tests/unit/plan_rig.h"

#include <pthread.h>

#include "engine/base/mem.h"
#include "engine/graph/session.h"
#include "engine/math/gemm.h"

struct fixture {
    struct graph *graph;
    struct session *session;
    struct output x;          /* placeholder, float32 [?] */
    struct output n;          /* placeholder, int32 */
    struct output y;          /* x · v */
    struct output range;      /* 0 … n − 1 */
    const struct variable *v; /* scalar, 2 */
    struct output set;        /* v = 5 */
    struct error error;
};

static void begin(struct fixture *f)
{
    must(graph_create(&f->graph, &f->error), &f->error);
    struct shape vector = shape_vector(DIMENSION_UNKNOWN);
    struct shape scalar = shape_scalar();
    int32_t ends[] = {0, 1};
    f->x = rig_placeholder(f->graph, DTYPE_FLOAT32, &vector);
    f->n = rig_placeholder(f->graph, DTYPE_INT32, &scalar);
    f->v = rig_variable(f->graph, "v", &scalar, 2);
    f->y = rig_binary(f->graph, "Mul", f->x, f->v->read);
    struct output range[] = {rig_constant(f->graph, &(struct tensor){DTYPE_INT32, scalar, &ends[0]}), f->n,
                             rig_constant(f->graph, &(struct tensor){DTYPE_INT32, scalar, &ends[1]})};
    f->range = rig_add(f->graph, "Range", range, 3);
    f->set = rig_assign(f->graph, f->v, rig_scalar(f->graph, 5), ASSIGN_SET);
    must(session_create(f->graph, &f->session, &f->error), &f->error);
    must(values_initialize(session_values(f->session), f->graph, 1, &f->error), &f->error);
}

static void end(struct fixture *f)
{
    session_destroy(f->session);
    graph_unref(f->graph);
}

/* Runs one fetch with at most one feed; the caller ends the run. */
static enum status run_one(struct session *session, struct output fetch, struct output feed, const struct tensor *value,
                           struct session_run **ret_run, struct tensor *ret_result, struct error *error)
{
    struct feed feeds[] = {{feed, value}};
    struct session_request request = {
        .feeds = feeds, .feed_count = value == NULL ? 0 : 1, .fetches = &fetch, .fetch_count = 1};
    struct session_run_options options = {.random_key = 1};
    struct session_run *run = NULL;
    TRY(session_prepare(session, &request, &run, error));
    enum status status = session_run_go(run, &options, ret_result, error);
    if (status != STATUS_OK) {
        session_run_end(run);
        return status;
    }
    *ret_run = run;
    return STATUS_OK;
}

static const struct output nothing = {.node = NULL};

static void test_running_again_allocates_nothing(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    float data[] = {1, 2, 3};
    struct tensor fed = {DTYPE_FLOAT32, shape_vector(3), data};
    struct tensor result;
    for (int i = 0; i < 3; i++) {
        uint64_t before = mem_allocation_count();
        struct session_run *run = NULL;
        must(run_one(f.session, f.y, f.x, &fed, &run, &result, &f.error), &f.error);
        assert_true(((const float *)result.data)[2] == 6);
        assert_false(session_run_writes(run));
        assert_int_equal(session_run_fetch_elements(run), 3);
        session_run_end(run);
        must(run_one(f.session, f.set, nothing, NULL, &run, &result, &f.error), &f.error);
        assert_true(session_run_writes(run));
        session_run_end(run);
        must(values_set(session_values(f.session), f.v, &(struct tensor){DTYPE_FLOAT32, shape_scalar(), &data[1]},
                        &f.error),
             &f.error);
        assert_true((mem_allocation_count() == before) == (i > 0));
    }
    end(&f);
}

/* One plan for each shape of a feed, and for each value that shapes depend on. */
static void test_plans_are_told_apart(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    float data[] = {1, 2, 3};
    struct tensor result;
    for (int round = 0; round < 2; round++) {
        uint64_t before = mem_allocation_count();
        for (int32_t count = 0; count <= 3; count++) {
            struct session_run *run = NULL;
            struct tensor fed = {DTYPE_FLOAT32, shape_vector(count), data};
            must(run_one(f.session, f.y, f.x, &fed, &run, &result, &f.error), &f.error);
            assert_int_equal(result.shape.dimensions[0], count);
            session_run_end(run);
            struct tensor limit = {DTYPE_INT32, shape_scalar(), &count};
            must(run_one(f.session, f.range, f.n, &limit, &run, &result, &f.error), &f.error);
            assert_int_equal(result.shape.dimensions[0], count);
            session_run_end(run);
        }
        assert_true((mem_allocation_count() == before) == (round > 0));
    }
    end(&f);
}

static void test_old_plans_make_room(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct tensor result;
    for (int32_t count = 0; count < SESSION_PLANS_MAX * 2; count++) {
        struct session_run *run = NULL;
        struct tensor limit = {DTYPE_INT32, shape_scalar(), &count};
        must(run_one(f.session, f.range, f.n, &limit, &run, &result, &f.error), &f.error);
        assert_int_equal(result.shape.dimensions[0], count);
        session_run_end(run);
    }
    end(&f);
}

static void test_adopting_a_grown_graph(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    struct graph *grown = NULL;
    struct tensor result;
    struct session_run *run = NULL;
    struct shape scalar = shape_scalar();
    must(run_one(f.session, f.v->read, nothing, NULL, &run, &result, &f.error), &f.error);
    session_run_end(run);
    must(graph_clone(f.graph, &grown, &f.error), &f.error);
    const struct variable *w = rig_variable(grown, "w", &scalar, 7);
    struct output sum = rig_binary(grown, "Add", f.v->read, w->read);
    assert_int_equal(run_one(f.session, sum, nothing, NULL, &run, &result, &f.error), STATUS_NOT_FOUND);
    const struct tensor *v = values_tensor(session_values(f.session), f.v);
    must(session_adopt(f.session, grown, &f.error), &f.error);
    assert_ptr_equal(values_tensor(session_values(f.session), f.v), v); /* growing moves nothing */
    must(values_initialize(session_values(f.session), grown, 1, &f.error), &f.error);
    must(run_one(f.session, sum, nothing, NULL, &run, &result, &f.error), &f.error);
    assert_true(rig_value(&result) == 9);
    session_run_end(run);
    uint64_t before = mem_allocation_count();
    must(run_one(f.session, f.v->read, nothing, NULL, &run, &result, &f.error), &f.error);
    session_run_end(run);
    assert_int_equal(mem_allocation_count(), before);
    graph_unref(grown);
    end(&f);
}

static struct output add_random(struct graph *graph, int64_t seed)
{
    struct error error;
    int32_t three = 3;
    struct output shape = rig_constant(graph, &(struct tensor){DTYPE_INT32, shape_vector(1), &three});
    struct attribute attributes[] = {{.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = seed}};
    struct node_options options = {
        .inputs = &shape, .input_count = 1, .attributes = attributes, .attribute_count = seed < 0 ? 0 : 1};
    struct node *node = NULL;
    must(graph_add_node(graph, "RandomUniform", &options, &node, &error), &error);
    return (struct output){node, 0};
}

static float draw(struct fixture *f, struct output output)
{
    struct tensor result;
    struct session_run *run = NULL;
    must(run_one(f->session, output, nothing, NULL, &run, &result, &f->error), &f->error);
    float number = *(const float *)result.data;
    session_run_end(run);
    return number;
}

/* A node with a seed gives the same row of numbers in every session, whatever else was run in between. */
static void test_seeds(void **state)
{
    (void)state;
    struct fixture a;
    struct fixture b;
    begin(&a);
    begin(&b);
    struct output in_a = add_random(a.graph, 5);
    struct output in_b = add_random(b.graph, 5);
    struct output other = add_random(b.graph, 6);
    float first = draw(&a, in_a);
    float second = draw(&a, in_a);
    (void)draw(&b, other);
    assert_true(draw(&b, in_b) == first);
    assert_true(draw(&b, other) != second);
    assert_true(draw(&b, in_b) == second);
    assert_true(first != second);
    end(&a);
    end(&b);
}

/* ---- what is refused ---- */

static void expect_refusal(struct fixture *f, struct output fetch, struct output feed, const struct tensor *value,
                           const char *type, const char *message)
{
    struct session_run *run = NULL;
    struct tensor result;
    assert_int_not_equal(run_one(f->session, fetch, feed, value, &run, &result, &f->error), STATUS_OK);
    assert_string_equal(f->error.message, message);
    assert_string_equal(f->error.type, type);
}

static void test_refusals(void **state)
{
    (void)state;
    struct fixture f;
    struct fixture other;
    begin(&f);
    begin(&other);
    struct shape two = shape_vector(2);
    struct output c = rig_placeholder(other.graph, DTYPE_FLOAT32, &two);
    float data[] = {1, 2};
    struct tensor vector = {DTYPE_FLOAT32, shape_vector(2), data};
    struct tensor scalar = {DTYPE_FLOAT32, shape_scalar(), data};
    expect_refusal(&f, c, nothing, NULL, "ValueError",
                   "Fetch argument <tf.Tensor 'Placeholder_2:0' shape=(2,) dtype=float32> cannot be interpreted as a "
                   "Tensor. (Tensor Tensor(\"Placeholder_2:0\", shape=(2,), dtype=float32) is not an element of this "
                   "graph.)");
    expect_refusal(&f, f.y, other.x, &vector, "TypeError",
                   "Cannot interpret feed_dict key as Tensor: Tensor Tensor(\"Placeholder:0\", shape=(?,), "
                   "dtype=float32) is not an element of this graph.");
    expect_refusal(&f, f.y, f.x, &scalar, "ValueError",
                   "Cannot feed value of shape () for Tensor 'Placeholder:0', which has shape '(?,)'");
    expect_refusal(&f, f.range, f.n, &scalar, "", "Tensor 'Placeholder_1:0' is fed float32, its dtype is int32");
    session_close(f.session);
    expect_refusal(&f, f.y, f.x, &scalar, "RuntimeError", "Attempted to use a closed Session.");
    end(&other);
    end(&f);
    struct graph *graph = NULL;
    struct session *session = NULL;
    must(graph_create(&graph, &f.error), &f.error);
    must(session_create(graph, &session, &f.error), &f.error);
    assert_int_equal(session_check(session, &f.error), STATUS_UNPROCESSABLE);
    assert_string_equal(f.error.message,
                        "The Session graph is empty.  Add operations to the graph before calling run().");
    session_destroy(session);
    graph_unref(graph);
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        bool is_feed;
        const char *name;
        const char *message;
    } cases[] = {
        {false, "q:0",
         "Fetch argument 'q:0' cannot be interpreted as a Tensor. (\"The name 'q:0' refers to a Tensor which does not "
         "exist. The operation, 'q', does not exist in the graph.\")"},
        {false, "v:7",
         "Fetch argument 'v:7' cannot be interpreted as a Tensor. (\"The name 'v:7' refers to a Tensor which does not "
         "exist. The operation, 'v', exists but only has 1 outputs.\")"},
        {false, "q",
         "Fetch argument 'q' cannot be interpreted as a Tensor. (\"The name 'q' refers to an Operation not in the "
         "graph.\")"},
        {false, "v:x",
         "Fetch argument 'v:x' cannot be interpreted as a Tensor. (The name 'v:x' looks a like a Tensor name, but is "
         "not a valid one. Tensor names must be of the form \"<op_name>:<output_index>\".)"},
        {false, "it's",
         "Fetch argument \"it's\" cannot be interpreted as a Tensor. ('The name \"it\\'s\" refers to an Operation not "
         "in the graph.')"},
        {false, "a\nb\x01\\",
         "Fetch argument 'a\\nb\\x01\\\\' cannot be interpreted as a Tensor. (\"The name 'a\\\\nb\\\\x01\\\\\\\\' "
         "refers to an Operation not in the graph.\")"},
        {true, "v",
         "Cannot interpret feed_dict key as Tensor: The name 'v' refers to an Operation, not a Tensor. Tensor names "
         "must be of the form \"<op_name>:<output_index>\"."},
        {true, "q",
         "Cannot interpret feed_dict key as Tensor: The name 'q' looks like an (invalid) Operation name, not a Tensor. "
         "Tensor names must be of the form \"<op_name>:<output_index>\"."},
        {true, "q:0",
         "Cannot interpret feed_dict key as Tensor: The name 'q:0' refers to a Tensor which does not exist. The "
         "operation, 'q', does not exist in the graph."},
    };
    struct fixture f;
    struct output output;
    struct node *node = NULL;
    begin(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum status status = cases[i].is_feed ? session_find_feed(f.graph, cases[i].name, &output, &f.error)
                                              : session_find_fetch(f.graph, cases[i].name, &output, &node, &f.error);
        assert_int_not_equal(status, STATUS_OK);
        assert_string_equal(f.error.message, cases[i].message);
        assert_string_equal(f.error.type, cases[i].is_feed ? "TypeError" : "ValueError");
    }
    must(session_find_fetch(f.graph, "v/read:0", &output, &node, &f.error), &f.error);
    assert_true(output_equal(output, f.v->read) && node == NULL);
    must(session_find_fetch(f.graph, "v", &output, &node, &f.error), &f.error);
    assert_ptr_equal(node, f.v->node);
    must(session_find_feed(f.graph, "v/read:0", &output, &f.error), &f.error);
    char long_name[4096];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(session_find_fetch(f.graph, long_name, &output, &node, &f.error), STATUS_NOT_FOUND);
    assert_int_equal(session_find_feed(f.graph, long_name, &output, &f.error), STATUS_INVALID);
    end(&f);
}

/* ---- many at once ---- */

enum { CALLERS = 64, CALLS = 20 };

struct caller {
    struct fixture *fixture;
    pthread_t thread;
    int32_t number;
    bool is_right;
};

static void *call(void *context)
{
    struct caller *caller = context;
    struct fixture *f = caller->fixture;
    caller->is_right = true;
    for (int32_t i = 0; i < CALLS; i++) {
        float data[4] = {(float)caller->number, (float)i};
        struct tensor fed = {DTYPE_FLOAT32, shape_vector(2 + i % 3), data};
        int32_t count = (caller->number + i) % 7;
        struct tensor limit = {DTYPE_INT32, shape_scalar(), &count};
        struct error error;
        struct tensor result;
        struct session_run *run = NULL;
        bool is_right = run_one(f->session, f->y, f->x, &fed, &run, &result, &error) == STATUS_OK;
        is_right = is_right && ((const float *)result.data)[0] == (float)caller->number * 2 &&
                   ((const float *)result.data)[1] == (float)i * 2;
        session_run_end(run);
        run = NULL;
        is_right = is_right && run_one(f->session, f->range, f->n, &limit, &run, &result, &error) == STATUS_OK &&
                   result.shape.dimensions[0] == count;
        session_run_end(run);
        caller->is_right = caller->is_right && is_right;
    }
    return NULL;
}

static void test_many_callers(void **state)
{
    (void)state;
    struct fixture f;
    struct caller callers[CALLERS];
    begin(&f);
    for (int32_t i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.fixture = &f, .number = i};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
    for (size_t i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
        assert_true(callers[i].is_right);
    }
    end(&f);
}

/* Each allocation of a first run fails once; the next run is a good one. */
static void test_out_of_memory(void **state)
{
    (void)state;
    uint64_t failing = 0;
    for (bool has_failed = true; has_failed; failing++) {
        struct fixture f;
        begin(&f);
        float data[] = {1, 2, 3};
        struct tensor fed = {DTYPE_FLOAT32, shape_vector(3), data};
        struct tensor result;
        struct session_run *run = NULL;
        uint64_t before = mem_allocation_count();
        mem_fail_after(failing);
        enum status status = run_one(f.session, f.y, f.x, &fed, &run, &result, &f.error);
        mem_fail_after(UINT64_MAX);
        has_failed = mem_allocation_count() - before > failing;
        assert_true(status == STATUS_OK || (has_failed && status == STATUS_NO_MEMORY));
        session_run_end(status == STATUS_OK ? run : NULL);
        must(run_one(f.session, f.y, f.x, &fed, &run, &result, &f.error), &f.error);
        session_run_end(run);
        end(&f);
    }
    assert_true(failing > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_running_again_allocates_nothing),
        cmocka_unit_test(test_plans_are_told_apart),
        cmocka_unit_test(test_old_plans_make_room),
        cmocka_unit_test(test_adopting_a_grown_graph),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_many_callers),
        cmocka_unit_test(test_out_of_memory),
    };
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
