/* A graph with variables, and gradients by all of them against central differences in float64, also of gradients. */
#ifndef TESTS_UNIT_NET_RIG_H
#define TESTS_UNIT_NET_RIG_H

#include "tests/unit/function_rig.h"

enum { VARIABLES_MAX = 16 };

/* A graph with variables to differentiate by. */
struct net {
    struct graph *graph;
    struct values *values;
    const struct variable *variables[VARIABLES_MAX];
    size_t count;
};

/* An empty graph. */
static inline struct net new_net(void)
{
    return (struct net){.graph = new_graph()};
}

/* Takes a net that was never started, too. */
static inline void drop_net(struct net *net)
{
    values_destroy(net->values);
    graph_unref(net->graph);
}

/* A float64 variable to differentiate by; returns what reads it. */
static inline struct output variable_of(struct net *net, struct shape shape)
{
    struct error error;
    char name[16];
    snprintf(name, sizeof name, "x%zu", net->count);
    struct variable_options options = {.name = name,
                                       .shape = shape,
                                       .has_shape = true,
                                       .has_dtype = true,
                                       .dtype = DTYPE_FLOAT64,
                                       .initializer = {.kind = INITIALIZER_ZEROS}};
    must(get_variable(net->graph, &options, &net->variables[net->count], NULL, &error), &error);
    return net->variables[net->count++]->read;
}

/* Gives the variables values in [low, high), the same whenever it is called. */
static inline void start(struct net *net, double low, double high)
{
    struct error error;
    must(values_create(net->graph, &net->values, &error), &error);
    must(values_initialize(net->values, net->graph, 21, &error), &error);
    for (size_t v = 0; v < net->count; v++) {
        struct tensor *tensor = values_tensor(net->values, net->variables[v]);
        for (size_t i = 0; i < tensor_element_count(tensor); i++) {
            tensor_set_number(tensor, i, low + (high - low) * rng_uniform(21, v, i));
        }
    }
}

/* Σ y · weights, with fixed uneven weights, so that no error cancels. */
static inline struct output weighted_sum(struct graph *graph, struct output y)
{
    struct error error;
    struct tensor weights;
    struct output factors[2] = {y};
    struct output sum;
    must(tensor_init(&weights, DTYPE_FLOAT64, &output_type(y)->shape, &error), &error);
    for (size_t i = 0; i < tensor_element_count(&weights); i++) {
        tensor_set_number(&weights, i, 2 * rng_uniform(77, 1, i) - 1);
    }
    must(graph_add_constant(graph, NULL, &weights, &factors[1], &error), &error);
    tensor_release(&weights);
    must(graph_call_tensors(graph, "multiply", NULL, factors, 2, &sum, &error), &error);
    must(graph_call_tensors(graph, "reduce_sum", NULL, &sum, 1, &sum, &error), &error);
    return sum;
}

/* Runs a scalar. */
static inline double scalar_value(const struct net *net, struct output scalar)
{
    struct error error;
    struct tensor result;
    must(try_run(net->graph, net->values, scalar, 3, &result, &error), &error);
    double value = tensor_number(&result, 0);
    tensor_release(&result);
    return value;
}

/* Compares gradients of `scalar`, one a variable, with what moving each element does to it. */
static inline void compare(const struct net *net, struct output scalar, const struct output *gradients)
{
    const double step = 1e-5;
    for (size_t v = 0; v < net->count; v++) {
        struct error error;
        struct tensor gradient;
        struct tensor *x = values_tensor(net->values, net->variables[v]);
        if (gradients[v].node == NULL) {
            continue;
        }
        must(try_run(net->graph, net->values, gradients[v], 3, &gradient, &error), &error);
        assert_true(shape_equal(&gradient.shape, &x->shape));
        for (size_t i = 0; i < tensor_element_count(x); i++) {
            double before = tensor_number(x, i);
            tensor_set_number(x, i, before + step);
            double above = scalar_value(net, scalar);
            tensor_set_number(x, i, before - step);
            double below = scalar_value(net, scalar);
            tensor_set_number(x, i, before);
            double difference = (above - below) / (2 * step);
            double analytic = tensor_number(&gradient, i);
            if (!(fabs(difference - analytic) <= 1e-6 * (1 + fabs(analytic)))) {
                fail_msg("%s, variable %zu, element %zu: gradient %.9g, central difference %.9g", scalar.node->name, v,
                         i, analytic, difference);
            }
        }
        tensor_release(&gradient);
    }
}

/* Gradients of y by every variable; with `orders` 2, also those of these gradients. */
static inline void check_gradients(struct net *net, struct output y, double low, double high, int orders)
{
    struct error error;
    struct output xs[VARIABLES_MAX];
    struct output first[VARIABLES_MAX];
    struct output second[VARIABLES_MAX];
    struct output scalar = weighted_sum(net->graph, y);
    struct output scalars[VARIABLES_MAX];
    size_t scalar_count = 0;
    for (size_t v = 0; v < net->count; v++) {
        xs[v] = net->variables[v]->read;
    }
    must(graph_gradients(net->graph, &scalar, 1, xs, net->count, first, &error), &error);
    for (size_t v = 0; v < net->count && orders == 2; v++) {
        if (first[v].node != NULL) {
            scalars[scalar_count++] = weighted_sum(net->graph, first[v]);
        }
    }
    struct output total = scalar;
    if (orders == 2) {
        must(graph_call_tensors(net->graph, "add_n", NULL, scalars, scalar_count, &total, &error), &error);
        must(graph_gradients(net->graph, &total, 1, xs, net->count, second, &error), &error);
    }
    start(net, low, high);
    compare(net, scalar, first);
    if (orders == 2) {
        compare(net, total, second);
    }
}

#endif
