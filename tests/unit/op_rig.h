/* What the tests of ops share: an op over values given here, and an op's gradient against central differences. */
#ifndef TESTS_UNIT_OP_RIG_H
#define TESTS_UNIT_OP_RIG_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "engine/base/rng.h"
#include "engine/graph/function.h"
#include "engine/graph/gradients.h"
#include "engine/graph/op.h"
#include "engine/graph/plan.h"
#include "engine/graph/variable.h"

enum { RIG_INPUTS_MAX = 8, RIG_ATTRIBUTES_MAX = 6, RIG_ELEMENTS_MAX = 1024 };

/* Fails with the error's message. */
static inline void must(enum status status, const struct error *error)
{
    if (status != STATUS_OK) {
        fail_msg("%s", error->message);
    }
}

/* A Const node; its tensor is copied. */
static inline struct output rig_constant(struct graph *graph, const struct tensor *tensor)
{
    struct error error;
    struct attribute value = {.name = "value", .kind = ATTRIBUTE_TENSOR, .tensor = *tensor};
    struct node_options options = {.attributes = &value, .attribute_count = 1};
    struct node *node = NULL;
    must(graph_add_node(graph, "Const", &options, &node, &error), &error);
    return (struct output){node, 0};
}

/* A Placeholder node. */
static inline struct output rig_placeholder(struct graph *graph, enum dtype dtype, const struct shape *shape)
{
    struct error error;
    struct attribute attributes[] = {{.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = dtype},
                                     {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = *shape}};
    struct node_options options = {.attributes = attributes, .attribute_count = 2};
    struct node *node = NULL;
    must(graph_add_node(graph, "Placeholder", &options, &node, &error), &error);
    return (struct output){node, 0};
}

/* ---- an op over values ---- */

struct op_call {
    const char *op;
    size_t input_count;
    struct tensor inputs[RIG_INPUTS_MAX]; /* borrowed */
    bool is_fed[RIG_INPUTS_MAX];          /* given by a placeholder of that shape; otherwise a constant */
    struct attribute attributes[RIG_ATTRIBUTES_MAX];
    size_t attribute_count;
};

/* As op_call_run, in a graph that is there. */
static inline enum status op_call_in(struct graph *graph, const struct op_call *call, struct tensor *ret_outputs,
                                     struct error *error)
{
    struct output inputs[RIG_INPUTS_MAX];
    struct output feeds[RIG_INPUTS_MAX];
    struct shape feed_shapes[RIG_INPUTS_MAX];
    struct tensor fed[RIG_INPUTS_MAX];
    size_t feed_count = 0;
    for (size_t i = 0; i < call->input_count; i++) {
        const struct tensor *value = &call->inputs[i];
        inputs[i] = call->is_fed[i] ? rig_placeholder(graph, value->dtype, &value->shape) : rig_constant(graph, value);
        if (call->is_fed[i]) {
            feeds[feed_count] = inputs[i];
            feed_shapes[feed_count] = value->shape;
            fed[feed_count++] = *value;
        }
    }
    struct node_options add = {.inputs = inputs,
                               .input_count = call->input_count,
                               .attributes = call->attributes,
                               .attribute_count = call->attribute_count};
    struct node *node = NULL;
    TRY(graph_add_node(graph, call->op, &add, &node, error));
    struct output fetches[RIG_INPUTS_MAX];
    struct tensor results[RIG_INPUTS_MAX];
    assert_true(node->output_count <= RIG_INPUTS_MAX);
    for (uint32_t i = 0; i < node->output_count; i++) {
        fetches[i] = (struct output){node, i};
    }
    struct plan_options options = {.feeds = feeds,
                                   .feed_shapes = feed_shapes,
                                   .feed_values = fed,
                                   .feed_count = feed_count,
                                   .fetches = fetches,
                                   .fetch_count = node->output_count};
    struct run_options how = {.feeds = fed, .random_key = 3};
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    struct values *values = NULL;
    TRY(plan_create(graph, &options, &plan, error));
    must(workspace_create(plan, &workspace, error), error);
    must(values_create(graph, &values, error), error);
    enum status status = plan_run(plan, workspace, values, &how, results, error);
    for (uint32_t i = 0; status == STATUS_OK && i < node->output_count; i++) {
        must(tensor_init_copy(&ret_outputs[i], &results[i], error), error);
    }
    values_destroy(values);
    workspace_destroy(workspace);
    plan_unref(plan);
    return status;
}

/* Adds the op, runs it and copies its outputs (owned by the caller); an error of either is returned. */
static inline enum status op_call_run(const struct op_call *call, struct tensor *ret_outputs, struct error *error)
{
    struct graph *graph = NULL;
    must(graph_create(&graph, error), error);
    enum status status = op_call_in(graph, call, ret_outputs, error);
    graph_unref(graph);
    return status;
}

/* The op is refused, with this exception class and message. */
static inline void expect_refused(const struct op_call *call, const char *type, const char *message)
{
    struct error error;
    struct tensor results[RIG_INPUTS_MAX];
    assert_int_not_equal(op_call_run(call, results, &error), STATUS_OK);
    assert_string_equal(error.type, type);
    assert_string_equal(error.message, message);
}

/* ---- gradients ---- */

/* One op applied to variables of these shapes. */
struct op_case {
    const char *op;
    enum dtype dtype; /* FLOAT32 is checked loosely, FLOAT64 to 1e-6 */
    size_t input_count;
    struct shape shapes[RIG_INPUTS_MAX];
    struct tensor constants[RIG_INPUTS_MAX]; /* input i is this constant and not differentiated by, if it has data */
    double low;                              /* the variables' values are uniform in [low, high) */
    double high;
    struct attribute attributes[RIG_ATTRIBUTES_MAX];
    size_t attribute_count;
    uint32_t output; /* which of the op's outputs */
};

struct rig {
    const struct op_case *test;
    struct graph *graph;
    struct values *values;
    struct output inputs[RIG_INPUTS_MAX];
    const struct variable *variables[RIG_INPUTS_MAX]; /* NULL: a constant */
    struct output scalar;
    struct output result;
};

/* scalar = Σ result · weights, with fixed uneven weights, so that no error cancels. */
static inline void rig_add_scalar_on_top(struct rig *rig)
{
    struct error error;
    double data[RIG_ELEMENTS_MAX];
    struct tensor weights = {output_type(rig->result)->dtype, output_type(rig->result)->shape, data};
    size_t count = 0;
    assert_true(shape_element_count(&weights.shape, &count) && count <= RIG_ELEMENTS_MAX);
    for (size_t i = 0; i < count; i++) {
        tensor_set_number(&weights, i, 2 * rng_uniform(77, 1, i) - 1);
    }
    struct output factors[] = {rig->result, rig_constant(rig->graph, &weights)};
    struct output product;
    must(graph_add(rig->graph, "Mul", NULL, factors, 2, &product, &error), &error);
    must(graph_call_tensors(rig->graph, "reduce_sum", NULL, &product, 1, &rig->scalar, &error), &error);
}

/* A variable or a constant for each input. */
static inline void rig_add_inputs(struct rig *rig)
{
    struct error error;
    const struct op_case *test = rig->test;
    for (size_t i = 0; i < test->input_count; i++) {
        if (test->constants[i].data != NULL) {
            rig->inputs[i] = rig_constant(rig->graph, &test->constants[i]);
            continue;
        }
        char name[32];
        snprintf(name, sizeof name, "x%zu", i);
        struct variable_options options = {.name = name,
                                           .has_shape = true,
                                           .shape = test->shapes[i],
                                           .has_dtype = true,
                                           .dtype = test->dtype,
                                           .initializer = {.kind = INITIALIZER_CONSTANT, .low = test->low}};
        must(get_variable(rig->graph, &options, &rig->variables[i], NULL, &error), &error);
        rig->inputs[i] = rig->variables[i]->read;
    }
}

/* The graph of a case: inputs, the op, a scalar on top; the variables' values are drawn. */
static inline void rig_build(struct rig *rig, const struct op_case *test)
{
    struct error error;
    *rig = (struct rig){.test = test};
    must(graph_create(&rig->graph, &error), &error);
    rig_add_inputs(rig);
    struct node_options options = {.inputs = rig->inputs,
                                   .input_count = test->input_count,
                                   .attributes = test->attributes,
                                   .attribute_count = test->attribute_count};
    struct node *node = NULL;
    must(graph_add_node(rig->graph, test->op, &options, &node, &error), &error);
    rig->result = (struct output){node, test->output};
    rig_add_scalar_on_top(rig);
    must(values_create(rig->graph, &rig->values, &error), &error);
    must(values_initialize(rig->values, rig->graph, 21, &error), &error);
    for (size_t i = 0; i < test->input_count; i++) {
        struct tensor *tensor = rig->variables[i] == NULL ? NULL : values_tensor(rig->values, rig->variables[i]);
        for (size_t e = 0; tensor != NULL && e < tensor_element_count(tensor); e++) {
            tensor_set_number(tensor, e, test->low + (test->high - test->low) * rng_uniform(21, i, e));
        }
    }
}

/* Releases what rig_build made. */
static inline void rig_release(struct rig *rig)
{
    values_destroy(rig->values);
    graph_unref(rig->graph);
}

/* Compares the gradient by one variable, element by element, with what moving the element does to the scalar. */
static inline void rig_check_variable(const struct rig *rig, size_t input, const struct tensor *gradient)
{
    struct error error;
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    struct plan_options options = {.fetches = &rig->scalar, .fetch_count = 1};
    struct run_options how = {.random_key = 3};
    must(plan_create(rig->graph, &options, &plan, &error), &error);
    must(workspace_create(plan, &workspace, &error), &error);
    bool is_double = rig->test->dtype == DTYPE_FLOAT64;
    double step = is_double ? 1e-5 : 0.01;
    struct tensor *x = values_tensor(rig->values, rig->variables[input]);
    assert_true(shape_equal(&gradient->shape, &x->shape));
    for (size_t i = 0; i < tensor_element_count(x); i++) {
        double before = tensor_number(x, i);
        double scalars[2];
        for (int side = 0; side < 2; side++) {
            struct tensor result;
            tensor_set_number(x, i, before + (side == 0 ? step : -step));
            must(plan_run(plan, workspace, rig->values, &how, &result, &error), &error);
            scalars[side] = tensor_number(&result, 0);
        }
        tensor_set_number(x, i, before);
        double difference = (scalars[0] - scalars[1]) / (2 * step);
        double analytic = tensor_number(gradient, i);
        double tolerance = is_double ? 1e-6 * (1 + fabs(analytic)) : 2e-3 + 0.01 * fabs(analytic);
        if (!(fabs(difference - analytic) <= tolerance)) {
            fail_msg("%s, input %zu, element %zu: gradient %.9g, central difference %.9g", rig->test->op, input, i,
                     analytic, difference);
        }
    }
    workspace_destroy(workspace);
    plan_unref(plan);
}

/* The gradients by all the variables, from one run. */
static inline void check_case(const struct op_case *test)
{
    struct rig rig;
    struct error error;
    struct output xs[RIG_INPUTS_MAX];
    struct output gradients[RIG_INPUTS_MAX];
    struct tensor results[RIG_INPUTS_MAX];
    size_t which[RIG_INPUTS_MAX];
    size_t count = 0;
    rig_build(&rig, test);
    for (size_t i = 0; i < test->input_count; i++) {
        if (rig.variables[i] != NULL) {
            which[count] = i;
            xs[count++] = (struct output){rig.variables[i]->node, 0};
        }
    }
    must(graph_gradients(rig.graph, &rig.scalar, 1, xs, count, gradients, &error), &error);
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    struct plan_options options = {.fetches = gradients, .fetch_count = count};
    struct run_options how = {.random_key = 3};
    for (size_t i = 0; i < count; i++) {
        if (gradients[i].node == NULL) {
            fail_msg("%s: no gradient by input %zu", test->op, which[i]);
        }
    }
    must(plan_create(rig.graph, &options, &plan, &error), &error);
    must(workspace_create(plan, &workspace, &error), &error);
    must(plan_run(plan, workspace, rig.values, &how, results, &error), &error);
    for (size_t i = 0; i < count; i++) {
        assert_true(shape_is_compatible(&output_type(gradients[i])->shape, &results[i].shape));
        rig_check_variable(&rig, which[i], &results[i]);
    }
    workspace_destroy(workspace);
    plan_unref(plan);
    rig_release(&rig);
}

#endif
