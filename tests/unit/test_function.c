/* Calling functions by their Python name: where arguments go, names, dtypes of numbers, and what is refused how. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/graph/function.h"
#include "engine/graph/variable.h"

static void must(enum status status, const struct error *error)
{
    if (status != STATUS_OK) {
        fail_msg("%s", error->message);
    }
}

static struct graph *new_graph(void)
{
    struct error error;
    struct graph *graph = NULL;
    must(graph_create(&graph, &error), &error);
    return graph;
}

static struct output placeholder(struct graph *graph, const char *name, enum dtype dtype, struct shape shape)
{
    struct error error;
    struct attribute attributes[] = {{.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = dtype},
                                     {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = shape}};
    struct call call = {.function = "placeholder", .name = name, .attributes = attributes, .attribute_count = 2};
    struct call_result result;
    must(graph_call(graph, &call, &result, &error), &error);
    assert_int_equal(result.output_count, 1);
    return result.outputs[0];
}

static void assert_refused(struct graph *graph, const struct call *call, const char *type, const char *message)
{
    struct error error;
    struct call_result result;
    size_t before = graph_node_count(graph);
    char scope[GRAPH_NAME_BYTES_MAX];
    snprintf(scope, sizeof scope, "%s", graph_name_scope(graph));
    assert_int_not_equal(graph_call(graph, call, &result, &error), STATUS_OK);
    assert_string_equal(error.message, message);
    assert_string_equal(error.type, type);
    assert_string_equal(graph_name_scope(graph), scope);
    assert_true(graph_node_count(graph) >= before);
}

/* Every row can be read, and says as much of each argument as of the next. */
static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < op_count(); i++) {
        const struct op *op = op_at(i);
        if (op->call == NULL) {
            continue;
        }
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(op->call, "|"), op->call);
        assert_true(function_exists(name));
        size_t words = op->arguments == NULL ? 0 : 1;
        bool has_list = false;
        for (const char *at = op->arguments; at != NULL && *at != '\0'; at++) {
            words += *at == ' ';
            has_list = has_list || *at == '*' || *at == '?';
        }
        if (op->argument_types != NULL && strlen(op->argument_types) != words) {
            fail_msg("%s has %zu arguments and the types %s", op->name, words, op->argument_types);
        }
        if (!has_list && op->input_count != (int)words) {
            fail_msg("%s has %zu arguments and %d inputs", op->name, words, op->input_count);
        }
    }
    enum attribute_kind kind = ATTRIBUTE_BODY;
    assert_false(function_exists("matmull"));
    assert_true(function_exists("tf.identity"));
    assert_int_equal(function_parameter("identity", "input", &kind), PARAMETER_TENSOR);
    assert_int_equal(function_parameter("group", "inputs", &kind), PARAMETER_TENSORS);
    assert_int_equal(function_parameter("placeholder", "shape", &kind), PARAMETER_ATTRIBUTE);
    assert_int_equal(kind, ATTRIBUTE_SHAPE);
    assert_int_equal(function_parameter("placeholder", "axis", &kind), PARAMETER_NONE);
    assert_int_equal(function_parameter("nothing", "axis", &kind), PARAMETER_NONE);
}

static void test_names_and_scopes(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    double number = 1.5;
    struct call_argument argument = {.value = {DTYPE_FLOAT64, shape_scalar(), &number}};
    struct call call = {.function = "identity", .arguments = &argument, .argument_count = 1};
    struct call_result result;
    must(graph_call(graph, &call, &result, &error), &error);
    assert_string_equal(result.operation->name, "Identity");
    assert_non_null(graph_find_node(graph, "Identity/input"));
    assert_int_equal(output_type(result.outputs[0])->dtype, DTYPE_FLOAT32);
    must(graph_call(graph, &call, &result, &error), &error);
    assert_string_equal(result.operation->name, "Identity_1");
    assert_non_null(graph_find_node(graph, "Identity_1/input"));
    call.name = "a/b";
    must(graph_call(graph, &call, &result, &error), &error);
    assert_string_equal(result.operation->name, "a/b");
    const char *previous = NULL;
    must(graph_enter_name_scope(graph, "outer", &previous, &error), &error);
    call.name = "inner";
    must(graph_call(graph, &call, &result, &error), &error);
    assert_string_equal(result.operation->name, "outer/inner");
    assert_non_null(graph_find_node(graph, "outer/inner/input"));
    assert_string_equal(graph_name_scope(graph), "outer");
    graph_leave_name_scope(graph, previous);
    graph_unref(graph);
}

static void test_arguments_are_sorted(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct output x = placeholder(graph, "x", DTYPE_FLOAT32, shape_vector(2));
    struct call_argument two[] = {{.output = x}, {.output = x}};
    struct call call = {.function = "identity", .arguments = two, .argument_count = 2};
    assert_refused(graph, &call, "TypeError", "identity() takes 1 positional arguments but 2 were given");
    two[1].name = "input";
    assert_refused(graph, &call, "TypeError", "identity() got multiple values for argument 'input'");
    two[1].name = "inputs";
    assert_refused(graph, &call, "TypeError", "identity() got an unexpected keyword argument 'inputs'");
    call.argument_count = 0;
    assert_refused(graph, &call, "TypeError", "identity() missing 1 required positional argument: 'input'");
    struct attribute unknown = {.name = "axis", .kind = ATTRIBUTE_INTEGER, .integer = 1};
    struct call with_attribute = {.function = "placeholder", .attributes = &unknown, .attribute_count = 1};
    assert_refused(graph, &with_attribute, "TypeError", "placeholder() got an unexpected keyword argument 'axis'");
    struct attribute wrong = {.name = "dtype", .kind = ATTRIBUTE_NUMBER, .number = 1.5};
    with_attribute.attributes = &wrong;
    assert_refused(graph, &with_attribute, "TypeError", "Expected DataType for argument 'dtype' not 1.5.");
    with_attribute.attribute_count = 0;
    assert_refused(graph, &with_attribute, "TypeError",
                   "placeholder() missing 1 required positional argument: 'dtype'");
    call.function = "matmull";
    assert_refused(graph, &call, "", "there is no function 'matmull'");
    graph_unref(graph);
}

static enum status call_two(struct graph *graph, const char *function, struct call_argument a, struct call_argument b,
                            struct call_result *ret_result, struct error *error)
{
    struct call_argument arguments[] = {a, b};
    struct call call = {.function = function, .arguments = arguments, .argument_count = 2};
    return graph_call(graph, &call, ret_result, error);
}

static void assert_two_refused(struct graph *graph, const char *function, struct call_argument a,
                               struct call_argument b, const char *type, const char *message)
{
    struct call_argument arguments[] = {a, b};
    struct call call = {.function = function, .arguments = arguments, .argument_count = 2};
    assert_refused(graph, &call, type, message);
}

/* Numbers take the dtype of the tensor beside them; tensors must agree. */
static void test_dtypes_of_numbers(void **state)
{
    (void)state;
    struct error error;
    static struct call_result result;
    struct graph *graph = new_graph();
    int64_t two = 2;
    int64_t big = 3000000000;
    double half = 0.5;
    bool yes = true;
    struct call_argument whole = {.value = {DTYPE_INT64, shape_scalar(), &two}};
    struct call_argument large = {.value = {DTYPE_INT64, shape_scalar(), &big}};
    struct call_argument fraction = {.value = {DTYPE_FLOAT64, shape_scalar(), &half}};
    struct call_argument truth = {.value = {DTYPE_BOOL, shape_scalar(), &yes}};
    struct call_argument floats = {.output = placeholder(graph, "f", DTYPE_FLOAT32, shape_vector(2))};
    struct call_argument doubles = {.output = placeholder(graph, "d", DTYPE_FLOAT64, shape_vector(2))};
    struct call_argument ints = {.output = placeholder(graph, "i", DTYPE_INT32, shape_vector(2))};
    const struct {
        struct call_argument a;
        struct call_argument b;
        enum dtype result;
    } fine[] = {{floats, whole, DTYPE_FLOAT32}, {doubles, fraction, DTYPE_FLOAT64}, {whole, doubles, DTYPE_FLOAT64},
                {ints, whole, DTYPE_INT32},     {whole, whole, DTYPE_INT32},        {fraction, whole, DTYPE_FLOAT32},
                {large, whole, DTYPE_INT64},    {floats, fraction, DTYPE_FLOAT32}};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        must(call_two(graph, "add", fine[i].a, fine[i].b, &result, &error), &error);
        assert_int_equal(output_type(result.outputs[0])->dtype, fine[i].result);
    }
    assert_non_null(graph_find_node(graph, "Add/y"));
    assert_non_null(graph_find_node(graph, "Add_2/x"));
    assert_two_refused(graph, "add", ints, floats, "TypeError",
                       "Input 'y' of 'Add' Op has type float32 that does not match type int32 of argument 'x'.");
    assert_two_refused(graph, "add", ints, fraction, "TypeError", "Expected int32, got 0.5 of type 'float' instead.");
    assert_two_refused(graph, "add", floats, truth, "TypeError", "Expected float32, got True of type 'bool' instead.");
    assert_two_refused(graph, "add", ints, large, "ValueError", "3000000000 is out of the range of int32");
    assert_two_refused(graph, "add", whole, fraction, "TypeError", "Expected int32, got 0.5 of type 'float' instead.");
    assert_two_refused(graph, "reshape", floats, floats, "TypeError",
                       "Value passed to parameter 'shape' has DataType float32 not in list of allowed values: int32, "
                       "int64");
    assert_two_refused(graph, "logical_and", floats, truth, "TypeError",
                       "Input 'x' of 'LogicalAnd' Op has type float32 that does not match expected type of bool.");
    graph_unref(graph);
}

static void test_numbers_in_errors(void **state)
{
    (void)state;
    static const struct {
        double number;
        const char *text;
    } numbers[] = {
        {1e16, "1e+16"},      {0.1, "0.1"},       {100000, "100000.0"}, {1.0 / 3, "0.3333333333333333"},
        {-2, "-2.0"},         {1e-5, "1e-05"},    {0.0001, "0.0001"},   {1234567890123456, "1234567890123456.0"},
        {(double)NAN, "nan"}, {-HUGE_VAL, "-inf"}};
    struct graph *graph = new_graph();
    struct call_argument ints = {.output = placeholder(graph, "i", DTYPE_INT32, shape_vector(2))};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double number = numbers[i].number;
        char message[96];
        snprintf(message, sizeof message, "Expected int32, got %s of type 'float' instead.", numbers[i].text);
        assert_two_refused(graph, "add", ints,
                           (struct call_argument){.value = {DTYPE_FLOAT64, shape_scalar(), &number}}, "TypeError",
                           message);
    }
    graph_unref(graph);
}

/* Lists: a node's many inputs, of tensors or of numbers; and a list where one tensor is wanted. */
static void test_lists(void **state)
{
    (void)state;
    struct error error;
    static struct call_result result;
    struct graph *graph = new_graph();
    struct output items[] = {placeholder(graph, "a", DTYPE_FLOAT32, shape_vector(2)),
                             placeholder(graph, "b", DTYPE_FLOAT32, shape_vector(2))};
    struct call_argument list = {.is_list = true, .items = items, .item_count = 2};
    struct call call = {.function = "add_n", .arguments = &list, .argument_count = 1};
    must(graph_call(graph, &call, &result, &error), &error);
    assert_int_equal(result.operation->input_count, 2);
    double numbers[] = {1, 2, 3, 4};
    struct call_argument rows = {.value = {DTYPE_FLOAT64, shape_matrix(2, 2), numbers}};
    call.arguments = &rows;
    must(graph_call(graph, &call, &result, &error), &error);
    assert_string_equal(result.operation->inputs[1].node->name, "AddN_1/inputs_1");
    struct shape pair = shape_vector(2);
    assert_true(shape_equal(&output_type(result.operation->inputs[1])->shape, &pair));
    struct output mixed[] = {items[0], placeholder(graph, "c", DTYPE_INT32, shape_vector(2))};
    struct call_argument wrong = {.is_list = true, .items = mixed, .item_count = 2};
    call.arguments = &wrong;
    assert_refused(graph, &call, "TypeError",
                   "Tensors in list passed to 'inputs' of 'AddN' Op have types [float32, int32] that don't all match.");
    mixed[1].node = NULL;
    assert_refused(graph, &call, "ValueError", "None values not supported.");
    struct output sizes[] = {placeholder(graph, "n", DTYPE_INT32, shape_scalar()),
                             placeholder(graph, "m", DTYPE_INT32, shape_scalar())};
    must(call_two(graph, "reshape", (struct call_argument){.output = items[0]},
                  (struct call_argument){.is_list = true, .items = sizes, .item_count = 2}, &result, &error),
         &error);
    assert_true(node_is(result.operation->inputs[1].node, "Pack"));
    assert_string_equal(result.operation->inputs[1].node->name, "Reshape/shape");
    assert_int_equal(output_type(result.outputs[0])->shape.rank, 2);
    graph_unref(graph);
}

/* Attributes among the arguments, by name and by position; numbers among the attributes. */
static void test_attributes(void **state)
{
    (void)state;
    struct error error;
    static struct call_result result;
    struct graph *graph = new_graph();
    int64_t axis = 1;
    bool yes = true;
    struct call_argument x = {.output = placeholder(graph, "x", DTYPE_FLOAT32, shape_matrix(2, 3))};
    struct call_argument by_position[] = {
        x, {.value = {DTYPE_INT64, shape_scalar(), &axis}}, {.value = {DTYPE_BOOL, shape_scalar(), &yes}}};
    struct call call = {.function = "reduce_sum", .arguments = by_position, .argument_count = 3};
    must(graph_call(graph, &call, &result, &error), &error);
    assert_true(node_attribute_boolean(result.operation, "keep_dims", false));
    assert_string_equal(result.operation->inputs[1].node->name, "Sum/reduction_indices");
    struct attribute attributes[] = {{.name = "axis", .kind = ATTRIBUTE_INTEGER, .integer = 1},
                                     {.name = "keepdims", .kind = ATTRIBUTE_BOOLEAN, .boolean = true}};
    struct call by_attribute = {
        .function = "reduce_sum", .arguments = &x, .argument_count = 1, .attributes = attributes, .attribute_count = 2};
    must(graph_call(graph, &by_attribute, &result, &error), &error);
    struct shape kept = shape_matrix(2, 1);
    assert_true(shape_equal(&output_type(result.outputs[0])->shape, &kept));
    by_position[2].value = (struct tensor){DTYPE_INT64, shape_scalar(), &axis};
    assert_refused(graph, &call, "TypeError", "Expected bool for argument 'keepdims' not 1.");
    graph_unref(graph);
}

/* Every allocation of a call fails once: nothing leaks, and the name scope is as it was. */
static void test_memory_runs_out(void **state)
{
    (void)state;
    static struct call_result result;
    double half = 0.5;
    enum status status = STATUS_NO_MEMORY;
    for (uint64_t allocation = 0; status != STATUS_OK; allocation++) {
        struct error error = {.message = ""};
        struct graph *graph = new_graph();
        struct call_argument x = {.output = placeholder(graph, "x", DTYPE_FLOAT32, shape_matrix(200, 3))};
        struct call_argument number = {.value = {DTYPE_FLOAT64, shape_scalar(), &half}};
        assert_true(allocation < 1000);
        mem_fail_after(allocation);
        status = call_two(graph, "add", x, number, &result, &error);
        if (status == STATUS_OK) {
            status = call_two(graph, "dropout", x, number, &result, &error);
        }
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        assert_string_equal(graph_name_scope(graph), "");
        graph_unref(graph);
    }
}

static void test_groups(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    struct output items[] = {placeholder(graph, "x", DTYPE_FLOAT32, shape_vector(2)),
                             placeholder(graph, "y", DTYPE_INT32, shape_unknown())};
    struct call_argument argument = {.is_list = true, .items = items, .item_count = 2};
    struct call call = {.function = "group", .arguments = &argument, .argument_count = 1};
    struct call_result result;
    must(graph_call(graph, &call, &result, &error), &error);
    assert_string_equal(result.operation->name, "group_deps");
    assert_int_equal(result.output_count, 0);
    assert_int_equal(result.operation->control_count, 2);
    assert_ptr_equal(result.operation->controls[1], items[1].node);
    call.function = "tuple";
    must(graph_call(graph, &call, &result, &error), &error);
    assert_true(result.is_list);
    assert_int_equal(result.output_count, 2);
    assert_string_equal(result.outputs[0].node->name, "tuple/control_dependency");
    assert_string_equal(result.outputs[1].node->name, "tuple/control_dependency_1");
    assert_string_equal(result.outputs[0].node->controls[0]->name, "tuple/group_deps");
    graph_unref(graph);
}

static void test_control_contexts(void **state)
{
    (void)state;
    struct error error;
    struct graph *graph = new_graph();
    struct output x = placeholder(graph, "x", DTYPE_FLOAT32, shape_vector(2));
    struct output y = placeholder(graph, "y", DTYPE_FLOAT32, shape_vector(2));
    const struct control_list *outer = NULL;
    const struct control_list *inner = NULL;
    const struct control_list *none = NULL;
    struct output made[4];
    must(graph_enter_controls(graph, &x.node, 1, &outer, &error), &error);
    must(graph_enter_controls(graph, &y.node, 1, &inner, &error), &error);
    must(graph_call_tensors(graph, "identity", NULL, &x, 1, &made[0], &error), &error);
    must(graph_enter_controls(graph, NULL, 0, &none, &error), &error);
    must(graph_call_tensors(graph, "identity", NULL, &x, 1, &made[1], &error), &error);
    graph_leave_controls(graph, none);
    graph_leave_controls(graph, inner);
    must(graph_call_tensors(graph, "identity", NULL, &x, 1, &made[2], &error), &error);
    graph_leave_controls(graph, outer);
    must(graph_call_tensors(graph, "identity", NULL, &x, 1, &made[3], &error), &error);
    assert_int_equal(made[0].node->control_count, 2);
    assert_ptr_equal(made[0].node->controls[1], y.node);
    assert_int_equal(made[1].node->control_count, 0);
    assert_int_equal(made[2].node->control_count, 1);
    assert_ptr_equal(made[2].node->controls[0], x.node);
    assert_int_equal(made[3].node->control_count, 0);
    const struct variable *variable = NULL;
    struct variable_options options = {.name = "v", .initializer = {.kind = INITIALIZER_ZEROS}, .has_shape = true};
    must(graph_enter_controls(graph, &x.node, 1, &outer, &error), &error);
    must(get_variable(graph, &options, &variable, NULL, &error), &error);
    graph_leave_controls(graph, outer);
    assert_int_equal(variable->initializer->control_count, 0);
    graph_unref(graph);
}

static void test_graphs_do_not_mix(void **state)
{
    (void)state;
    struct graph *graph = new_graph();
    struct graph *other = new_graph();
    struct output items[] = {placeholder(graph, "x", DTYPE_FLOAT32, shape_vector(2)),
                             placeholder(other, "x", DTYPE_FLOAT32, shape_vector(3))};
    struct call_argument argument = {.is_list = true, .items = items, .item_count = 2};
    struct call call = {.function = "tuple", .arguments = &argument, .argument_count = 1};
    assert_refused(graph, &call, "ValueError",
                   "Tensor(\"x:0\", shape=(3,), dtype=float32) must be from the same graph as "
                   "Tensor(\"x:0\", shape=(2,), dtype=float32).");
    graph_unref(other);
    graph_unref(graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_names_and_scopes),
        cmocka_unit_test(test_arguments_are_sorted),
        cmocka_unit_test(test_dtypes_of_numbers),
        cmocka_unit_test(test_numbers_in_errors),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_control_contexts),
        cmocka_unit_test(test_graphs_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
