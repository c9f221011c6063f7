/* Nodes with many outputs, and with gradients for many inputs: more than an inference has room for by itself, up to the
 * maximum. */
#include "engine/base/mem.h"
#include "engine/graph/op.h"
#include "engine/graph/recurrence_node.h"
#include "tests/unit/graph_rig.h"

enum { MANY = 1500, CAPTURES = 700 };

static struct output node_of(struct rig *rig, const char *op, const struct output *inputs, size_t input_count,
                             const char *attribute, int64_t value)
{
    struct attribute given = {.name = attribute, .kind = ATTRIBUTE_INTEGER, .integer = value};
    struct node_options options = {
        .inputs = inputs, .input_count = input_count, .attributes = &given, .attribute_count = attribute != NULL};
    struct node *node = NULL;
    must(graph_add_node(rig->graph, op, &options, &node, &rig->error), &rig->error);
    return (struct output){node, 0};
}

/* 0, 1, 2, … */
static struct output counting(struct rig *rig, float numbers_of[MANY])
{
    for (int i = 0; i < MANY; i++) {
        numbers_of[i] = (float)i;
    }
    return constant(rig, DTYPE_FLOAT32, shape_vector(MANY), numbers_of);
}

/* The gradient of Σ i · part i by the whole must count up. */
static void check_gradient_counts(struct rig *rig, const struct output *parts, struct output x)
{
    static struct output terms[MANY];
    static double wanted[MANY];
    struct output gradient;
    for (int i = 0; i < MANY; i++) {
        float factor = (float)i;
        struct output product[] = {parts[i], constant(rig, DTYPE_FLOAT32, shape_scalar(), &factor)};
        terms[i] = node_of(rig, "Mul", product, 2, NULL, 0);
        wanted[i] = i;
    }
    struct output sum = node_of(rig, "AddN", terms, MANY, NULL, 0);
    must(graph_gradients(rig->graph, &sum, 1, &x, 1, &gradient, &rig->error), &rig->error);
    expect_values(rig, gradient, wanted, MANY, 0);
}

static void test_unstack_and_split(void **state)
{
    (void)state;
    static float data[MANY];
    static struct output parts[MANY];
    int32_t zero = 0;
    for (int turn = 0; turn < 2; turn++) {
        struct rig rig = rig_open();
        struct output x = counting(&rig, data);
        struct output axis = constant(&rig, DTYPE_INT32, shape_scalar(), &zero);
        struct output node = turn == 0 ? node_of(&rig, "Unpack", &x, 1, "num", MANY)
                                       : node_of(&rig, "Split", (struct output[]){axis, x}, 2, "num_split", MANY);
        assert_int_equal(node.node->output_count, MANY);
        for (uint32_t i = 0; i < MANY; i++) {
            parts[i] = (struct output){node.node, i};
        }
        expect_values(&rig, parts[MANY - 1], (double[]){MANY - 1}, 1, 0);
        check_gradient_counts(&rig, parts, x);
        rig_close(&rig);
    }
}

static void test_gradient_of_concat(void **state)
{
    (void)state;
    static float data[MANY];
    static struct output parts[MANY + 1];
    static struct output gradients[MANY];
    int32_t zero = 0;
    struct rig rig = rig_open();
    struct output weights = counting(&rig, data);
    for (int i = 0; i < MANY; i++) {
        parts[i] = constant(&rig, DTYPE_FLOAT32, shape_vector(1), &data[i]);
    }
    parts[MANY] = constant(&rig, DTYPE_INT32, shape_scalar(), &zero);
    struct output joined = node_of(&rig, "ConcatV2", parts, MANY + 1, NULL, 0);
    struct output weighed = node_of(&rig, "Mul", (struct output[]){joined, weights}, 2, NULL, 0);
    must(graph_gradients(rig.graph, &weighed, 1, parts, MANY, gradients, &rig.error), &rig.error);
    expect_values(&rig, gradients[MANY - 1], (double[]){MANY - 1}, 1, 0);
    expect_values(&rig, gradients[1], (double[]){1}, 1, 0);
    rig_close(&rig);
}

/* A loop whose body uses many outer tensors: state + c0 + c1 + … each step. */
static void test_gradient_of_captures(void **state)
{
    (void)state;
    static struct output captures[CAPTURES];
    static struct output gradients[CAPTURES];
    struct rig rig = rig_open();
    struct output_type types[] = {{DTYPE_FLOAT32, shape_vector(1)}, {DTYPE_FLOAT32, shape_vector(1)}};
    struct output arguments[2];
    const struct body *body = NULL;
    float data[3] = {1, 2, 3};
    struct output x = constant(&rig, DTYPE_FLOAT32, shape_matrix(3, 1), data);
    struct output initial = constant(&rig, DTYPE_FLOAT32, shape_vector(1), data);
    for (int i = 0; i < CAPTURES; i++) {
        captures[i] = constant(&rig, DTYPE_FLOAT32, shape_vector(1), data);
    }
    must(graph_enter_body(rig.graph, types, 2, arguments, &rig.error), &rig.error);
    struct output sum = node_of(&rig, "AddN", captures, CAPTURES, NULL, 0);
    struct output next = node_of(&rig, "Add", (struct output[]){arguments[1], sum}, 2, NULL, 0);
    struct output yields[] = {node_of(&rig, "Mul", (struct output[]){arguments[0], next}, 2, NULL, 0), next};
    must(graph_leave_body(rig.graph, yields, 2, &body, &rig.error), &rig.error);
    struct recurrence_node_options options = {.body = body, .x = x, .states = &initial, .is_general = true};
    struct output outputs;
    struct output last;
    must(recurrence_node_add(rig.graph, &options, &outputs, &last, &rig.error), &rig.error);
    must(graph_gradients(rig.graph, &last, 1, captures, CAPTURES, gradients, &rig.error), &rig.error);
    expect_values(&rig, gradients[CAPTURES - 1], (double[]){3}, 1, 0);
    rig_close(&rig);
}

/* One more than the maximum is refused, in words. */
static void test_maximum(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct node *node = NULL;
    struct attribute num = {.name = "num", .kind = ATTRIBUTE_INTEGER, .integer = OP_OUTPUTS_MAX + 1};
    static float data[OP_OUTPUTS_MAX + 1];
    struct output x = constant(&rig, DTYPE_FLOAT32, shape_vector(OP_OUTPUTS_MAX + 1), data);
    struct node_options options = {.inputs = &x, .input_count = 1, .attributes = &num, .attribute_count = 1};
    assert_int_equal(graph_add_node(rig.graph, "Unpack", &options, &node, &rig.error), STATUS_TOO_LARGE);
    assert_string_equal(rig.error.message, "'Unpack' (op: 'Unpack') would have 4097 outputs, the maximum is 4096");
    static struct output inputs[NODE_INPUTS_MAX + 1];
    for (size_t i = 0; i <= NODE_INPUTS_MAX; i++) {
        inputs[i] = x;
    }
    options = (struct node_options){.inputs = inputs, .input_count = NODE_INPUTS_MAX + 1};
    assert_int_equal(graph_add_node(rig.graph, "AddN", &options, &node, &rig.error), STATUS_LIMIT);
    assert_string_equal(rig.error.message, "op 'AddN' is given 4097 inputs, the maximum is 4096");
    rig_close(&rig);
}

/* No memory for the outputs is an error like any other. */
static void test_no_memory(void **state)
{
    (void)state;
    static float data[MANY];
    enum status status = STATUS_NO_MEMORY;
    for (uint64_t count = 0; status == STATUS_NO_MEMORY; count++) {
        struct rig rig = rig_open();
        struct node *node = NULL;
        struct output x = counting(&rig, data);
        struct attribute num = {.name = "num", .kind = ATTRIBUTE_INTEGER, .integer = MANY};
        struct node_options options = {.inputs = &x, .input_count = 1, .attributes = &num, .attribute_count = 1};
        mem_fail_after(count);
        status = graph_add_node(rig.graph, "Unpack", &options, &node, &rig.error);
        mem_fail_after(UINT64_MAX);
        rig_close(&rig);
        assert_true(status == STATUS_OK ? count > 1 : status == STATUS_NO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unstack_and_split),
        cmocka_unit_test(test_gradient_of_concat),
        cmocka_unit_test(test_gradient_of_captures),
        cmocka_unit_test(test_maximum),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
