/* What the tests of plans and sessions share: small graphs and one run of them. */
#ifndef TESTS_UNIT_PLAN_RIG_H
#define TESTS_UNIT_PLAN_RIG_H

#include "tests/unit/op_rig.h"

/* A constant of that value. */
static inline struct output rig_scalar(struct graph *graph, float value)
{
    return rig_constant(graph, &(struct tensor){DTYPE_FLOAT32, shape_scalar(), &value});
}

/* A node of any op whose attributes have defaults. */
static inline struct output rig_add(struct graph *graph, const char *op, const struct output *inputs, size_t count)
{
    struct error error;
    struct output output;
    must(graph_add(graph, op, NULL, inputs, count, &output, &error), &error);
    return output;
}

/* Of one input. */
static inline struct output rig_unary(struct graph *graph, const char *op, struct output input)
{
    return rig_add(graph, op, &input, 1);
}

/* Of two inputs. */
static inline struct output rig_binary(struct graph *graph, const char *op, struct output a, struct output b)
{
    struct output inputs[] = {a, b};
    return rig_add(graph, op, inputs, 2);
}

/* A float32 variable of that shape whose initialiser fills it with `value`. */
static inline const struct variable *rig_variable(struct graph *graph, const char *name, const struct shape *shape,
                                                  float value)
{
    struct error error;
    const struct variable *variable = NULL;
    struct variable_options options = {.name = name,
                                       .has_shape = true,
                                       .shape = *shape,
                                       .has_dtype = true,
                                       .dtype = DTYPE_FLOAT32,
                                       .initializer = {.kind = INITIALIZER_CONSTANT, .low = (double)value}};
    must(get_variable(graph, &options, &variable, NULL, &error), &error);
    return variable;
}

/* The value an assignment yields. */
static inline struct output rig_assign(struct graph *graph, const struct variable *variable, struct output value,
                                       enum assign_mode mode)
{
    struct error error;
    struct output output;
    must(assign_variable(graph, variable, value, mode, &output, &error), &error);
    return output;
}

/* `input` passed on by a node that waits for `node`. */
static inline struct output rig_after(struct graph *graph, struct node *node, struct output input)
{
    struct error error;
    struct node *result = NULL;
    struct node_options options = {.inputs = &input, .input_count = 1, .controls = &node, .control_count = 1};
    must(graph_add_node(graph, "Identity", &options, &result, &error), &error);
    return (struct output){result, 0};
}

/* A scalar's number. */
static inline float rig_value(const struct tensor *tensor)
{
    assert_int_equal(tensor->dtype, DTYPE_FLOAT32);
    return *(const float *)tensor->data;
}

/* One compiled run. */
struct rig_run {
    struct plan_options options;
    const struct tensor *feeds;
    struct plan *plan;
    struct workspace *workspace;
    struct tensor results[16];
};

/* Compiles (without feeds' shapes: those of `feeds`) and runs. rig_run_end releases, also after failure. */
static inline enum status rig_run(struct graph *graph, struct values *values, struct rig_run *run, struct error *error)
{
    struct shape shapes[16];
    struct run_options how = {.feeds = run->feeds, .random_key = 1};
    for (size_t i = 0; i < run->options.feed_count; i++) {
        shapes[i] = run->feeds[i].shape;
    }
    run->options.feed_shapes = shapes;
    run->options.feed_values = run->feeds;
    TRY(plan_create(graph, &run->options, &run->plan, error));
    must(workspace_create(run->plan, &run->workspace, error), error);
    return plan_run(run->plan, run->workspace, values, &how, run->results, error);
}

/* Releases what rig_run made. */
static inline void rig_run_end(struct rig_run *run)
{
    workspace_destroy(run->workspace);
    plan_unref(run->plan);
    run->workspace = NULL;
    run->plan = NULL;
}

#endif
