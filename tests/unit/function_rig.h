/* What the tests of functions share: calling one with tensors and numbers, running its results, and gradients against
 * central differences. */
#ifndef TESTS_UNIT_FUNCTION_RIG_H
#define TESTS_UNIT_FUNCTION_RIG_H

#include "engine/graph/function.h"
#include "tests/unit/op_rig.h"

/* An empty graph. */
static inline struct graph *new_graph(void)
{
    struct error error;
    struct graph *graph = NULL;
    must(graph_create(&graph, &error), &error);
    return graph;
}

/* A call that is put together argument by argument, by position unless `name` says which. */
struct call_maker {
    struct call call;
    struct call_argument arguments[8];
    struct attribute attributes[8];
    double numbers[8];
    int64_t integers[8];
};

/* Begins a call without arguments. */
static inline struct call_maker call_of(const char *function)
{
    return (struct call_maker){.call = {.function = function}};
}

/* A tensor. */
static inline void give_tensor(struct call_maker *maker, const char *name, struct output output)
{
    assert_true(maker->call.argument_count < 8);
    maker->arguments[maker->call.argument_count++] = (struct call_argument){.name = name, .output = output};
}

/* A list of tensors; borrowed. */
static inline void give_list(struct call_maker *maker, const char *name, const struct output *items, size_t count)
{
    assert_true(maker->call.argument_count < 8);
    maker->arguments[maker->call.argument_count++] =
        (struct call_argument){.name = name, .is_list = true, .items = items, .item_count = count};
}

/* Numbers, borrowed. */
static inline void give_value(struct call_maker *maker, const char *name, const struct tensor *value)
{
    assert_true(maker->call.argument_count < 8);
    maker->arguments[maker->call.argument_count++] = (struct call_argument){.name = name, .value = *value};
}

/* One number, as Python has it. */
static inline void give_number(struct call_maker *maker, const char *name, double number)
{
    double *at = &maker->numbers[maker->call.argument_count];
    *at = number;
    struct tensor value = {DTYPE_FLOAT64, shape_scalar(), at};
    give_value(maker, name, &value);
}

/* One whole number. */
static inline void give_integer(struct call_maker *maker, const char *name, int64_t number)
{
    int64_t *at = &maker->integers[maker->call.argument_count];
    *at = number;
    struct tensor value = {DTYPE_INT64, shape_scalar(), at};
    give_value(maker, name, &value);
}

/* An attribute; texts and tensors in it are borrowed. */
static inline void give_attribute(struct call_maker *maker, struct attribute attribute)
{
    assert_true(maker->call.attribute_count < 8);
    maker->attributes[maker->call.attribute_count++] = attribute;
}

/* The attribute dtype. */
static inline void give_dtype(struct call_maker *maker, enum dtype dtype)
{
    give_attribute(maker, (struct attribute){.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = dtype});
}

/* Calls; an error is returned. */
static inline enum status try_call(struct graph *graph, struct call_maker *maker, struct call_result *ret_result,
                                   struct error *error)
{
    maker->call.arguments = maker->arguments;
    maker->call.attributes = maker->attributes;
    return graph_call(graph, &maker->call, ret_result, error);
}

/* Calls what must succeed and returns its first result. */
static inline struct output make_call(struct graph *graph, struct call_maker *maker)
{
    struct error error;
    static struct call_result result;
    must(try_call(graph, maker, &result, &error), &error);
    assert_true(result.output_count > 0);
    return result.outputs[0];
}

/* Calls what must fail so, and leave the name scope as it was. */
static inline void assert_call_refused(struct graph *graph, struct call_maker *maker, const char *type,
                                       const char *message)
{
    struct error error = {.message = ""};
    static struct call_result result;
    char scope[GRAPH_NAME_BYTES_MAX];
    snprintf(scope, sizeof scope, "%s", graph_name_scope(graph));
    assert_int_not_equal(try_call(graph, maker, &result, &error), STATUS_OK);
    assert_string_equal(error.message, message);
    assert_string_equal(error.type, type);
    assert_string_equal(graph_name_scope(graph), scope);
}

/* A constant matrix, or vector when `rows` is 0. */
static inline struct output constant_of(struct graph *graph, enum dtype dtype, size_t rows, size_t columns,
                                        const double *numbers)
{
    struct error error;
    struct tensor tensor;
    struct output output;
    struct shape shape = rows == 0 ? shape_vector((int64_t)columns) : shape_matrix((int64_t)rows, (int64_t)columns);
    must(tensor_init(&tensor, dtype, &shape, &error), &error);
    for (size_t i = 0; i < tensor_element_count(&tensor); i++) {
        tensor_set_number(&tensor, i, numbers[i]);
    }
    must(graph_add_constant(graph, NULL, &tensor, &output, &error), &error);
    tensor_release(&tensor);
    return output;
}

/* A constant scalar. */
static inline struct output scalar_of(struct graph *graph, enum dtype dtype, double number)
{
    struct error error;
    struct output output;
    must(graph_add_number(graph, NULL, dtype, number, &output, &error), &error);
    return output;
}

/* Runs with a key; `ret_result` (owned by the caller) is a copy. */
static inline enum status try_run(struct graph *graph, struct values *values, struct output fetch, uint64_t key,
                                  struct tensor *ret_result, struct error *error)
{
    struct plan_options options = {.fetches = &fetch, .fetch_count = 1};
    struct run_options how = {.random_key = key};
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    struct values *own = NULL;
    struct tensor result;
    enum status status = plan_create(graph, &options, &plan, error);
    if (status == STATUS_OK) {
        must(workspace_create(plan, &workspace, error), error);
        must(values_create(graph, &own, error), error);
        status = plan_run(plan, workspace, values == NULL ? own : values, &how, &result, error);
    }
    if (status == STATUS_OK) {
        must(tensor_init_copy(ret_result, &result, error), error);
    }
    values_destroy(own);
    workspace_destroy(workspace);
    plan_unref(plan);
    return status;
}

/* Runs what must succeed; owned by the caller. */
static inline struct tensor run_of(struct graph *graph, struct output fetch, uint64_t key)
{
    struct error error;
    struct tensor result;
    must(try_run(graph, NULL, fetch, key, &result, &error), &error);
    return result;
}

/* Runs and compares, to a tolerance relative to 1 + |expected|. */
static inline void assert_numbers(struct graph *graph, struct output fetch, const double *expected, size_t count,
                                  double tolerance)
{
    struct tensor result = run_of(graph, fetch, 3);
    assert_int_equal(tensor_element_count(&result), count);
    for (size_t i = 0; i < count; i++) {
        double got = tensor_number(&result, i);
        if (!(fabs(got - expected[i]) <= tolerance * (1 + fabs(expected[i])))) {
            fail_msg("%s, element %zu: %.12g instead of %.12g", fetch.node->name, i, got, expected[i]);
        }
    }
    tensor_release(&result);
}

#endif
