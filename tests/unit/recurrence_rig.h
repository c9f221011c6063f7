/* What the tests of recurrences share: networks over variables with random values, their runs, and gradients against
 * central differences. */
#ifndef TESTS_UNIT_RECURRENCE_RIG_H
#define TESTS_UNIT_RECURRENCE_RIG_H

#include "tests/unit/op_rig.h"

enum { NETWORK_VARIABLES_MAX = 32, NETWORK_FETCHES_MAX = 48 };

/* A graph whose inputs and weights are all variables, and a number computed from them. */
struct network {
    enum dtype dtype;
    struct graph *graph;
    struct values *values;
    struct output scalar;
    struct output terms[NETWORK_FETCHES_MAX];
    size_t term_count;
};

/* An empty one; released with network_release. */
static inline void network_create(struct network *network, enum dtype dtype)
{
    struct error error;
    *network = (struct network){.dtype = dtype};
    must(graph_create(&network->graph, &error), &error);
}

/* See above. */
static inline void network_release(struct network *network)
{
    values_destroy(network->values);
    graph_unref(network->graph);
}

/* Adds a variable; its values come with network_finish. */
static inline struct output network_variable(struct network *network, const char *name, struct shape shape)
{
    struct error error;
    const struct variable *variable = NULL;
    struct variable_options options = {.name = name,
                                       .shape = shape,
                                       .has_shape = true,
                                       .has_dtype = true,
                                       .dtype = network->dtype,
                                       .initializer = {.kind = INITIALIZER_ZEROS}};
    must(get_variable(network->graph, &options, &variable, NULL, &error), &error);
    return variable->read;
}

/* A constant vector of whole numbers. */
static inline struct output network_lengths(struct network *network, const int32_t *lengths, int64_t count)
{
    int32_t copy[512];
    assert_true((size_t)count <= sizeof copy / sizeof *copy);
    memcpy(copy, lengths, (size_t)count * sizeof *copy);
    struct tensor tensor = {DTYPE_INT32, shape_vector(count), copy};
    return rig_constant(network->graph, &tensor);
}

/* Adds Σ output · weights to the network's number, with fixed uneven weights. */
static inline void network_weigh(struct network *network, struct output output)
{
    struct error error;
    struct shape shape = output_type(output)->shape;
    size_t count = 0;
    assert_true(shape_is_fully_known(&shape) && shape_element_count(&shape, &count));
    struct tensor weights;
    must(tensor_init(&weights, network->dtype, &shape, &error), &error);
    for (size_t i = 0; i < count; i++) {
        tensor_set_number(&weights, i, 2 * rng_uniform(77, network->term_count, i) - 1);
    }
    struct output factors[] = {output, rig_constant(network->graph, &weights)};
    tensor_release(&weights);
    struct output product;
    must(graph_add(network->graph, "Mul", NULL, factors, 2, &product, &error), &error);
    must(graph_call_tensors(network->graph, "reduce_sum", NULL, &product, 1, &network->terms[network->term_count++],
                            &error),
         &error);
}

/* Sums up what was weighed and gives every variable random values in [-range, range): the same for the same name. */
static inline void network_finish(struct network *network, double range)
{
    struct error error;
    must(graph_add(network->graph, "AddN", NULL, network->terms, network->term_count, &network->scalar, &error),
         &error);
    must(values_create(network->graph, &network->values, &error), &error);
    must(values_initialize(network->values, network->graph, 1, &error), &error);
    for (size_t v = 0; v < graph_variable_count(network->graph); v++) {
        const struct variable *variable = graph_variable(network->graph, v);
        struct tensor *tensor = values_tensor(network->values, variable);
        uint64_t stream = rng_key(variable->node->name);
        for (size_t i = 0; i < tensor_element_count(tensor); i++) {
            tensor_set_number(tensor, i, range * (2 * rng_uniform(5, stream, i) - 1));
        }
    }
}

/* Runs fetches; copies belong to the caller. */
static inline void network_run(const struct network *network, const struct output *fetches, size_t count,
                               struct tensor *ret_copies)
{
    struct error error;
    struct plan *plan = NULL;
    struct workspace *workspace = NULL;
    struct tensor results[NETWORK_FETCHES_MAX];
    struct plan_options options = {.fetches = fetches, .fetch_count = count};
    struct run_options how = {.random_key = 3};
    must(plan_create(network->graph, &options, &plan, &error), &error);
    must(workspace_create(plan, &workspace, &error), &error);
    must(plan_run(plan, workspace, network->values, &how, results, &error), &error);
    for (size_t i = 0; i < count; i++) {
        must(tensor_init_copy(&ret_copies[i], &results[i], &error), &error);
    }
    workspace_destroy(workspace);
    plan_unref(plan);
}

/* The network's number. */
static inline double network_scalar(const struct network *network)
{
    struct tensor result;
    network_run(network, &network->scalar, 1, &result);
    double value = tensor_number(&result, 0);
    tensor_release(&result);
    return value;
}

/* Releases what network_run copied. */
static inline void release_tensors(struct tensor *tensors, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        tensor_release(&tensors[i]);
    }
}

/* Compares element by element, relative beyond 1. */
static inline void assert_tensors_near(const struct tensor *a, const struct tensor *b, double tolerance,
                                       const char *what)
{
    assert_true(shape_equal(&a->shape, &b->shape));
    for (size_t i = 0; i < tensor_element_count(a); i++) {
        double one = tensor_number(a, i);
        double other = tensor_number(b, i);
        if (!(fabs(one - other) <= tolerance * (1 + fabs(other)))) {
            fail_msg("%s, element %zu: %.9g against %.9g", what, i, one, other);
        }
    }
}

/* The gradients of the network's number by all its variables. */
static inline size_t network_gradients(struct network *network, struct output *ret_gradients)
{
    struct error error;
    struct output xs[NETWORK_VARIABLES_MAX];
    size_t count = graph_variable_count(network->graph);
    assert_true(count <= NETWORK_VARIABLES_MAX);
    for (size_t v = 0; v < count; v++) {
        xs[v] = graph_variable(network->graph, v)->read;
    }
    must(graph_gradients(network->graph, &network->scalar, 1, xs, count, ret_gradients, &error), &error);
    return count;
}

/* Compares the gradients by all variables, element by element (at most `elements_max` of each), with what moving the
 * element does to the number. */
static inline void network_check_gradients(struct network *network, size_t elements_max)
{
    struct output gradients[NETWORK_VARIABLES_MAX];
    struct tensor found[NETWORK_VARIABLES_MAX];
    size_t count = network_gradients(network, gradients);
    bool is_double = network->dtype == DTYPE_FLOAT64;
    double step = is_double ? 1e-5 : 0.01;
    for (size_t v = 0; v < count; v++) {
        if (gradients[v].node == NULL) {
            fail_msg("no gradient by %s", graph_variable(network->graph, v)->node->name);
        }
    }
    network_run(network, gradients, count, found);
    for (size_t v = 0; v < count; v++) {
        const struct variable *variable = graph_variable(network->graph, v);
        struct tensor *x = values_tensor(network->values, variable);
        size_t elements = tensor_element_count(x);
        for (size_t i = 0; i<elements; i += elements> elements_max ? elements / elements_max : 1) {
            double before = tensor_number(x, i);
            tensor_set_number(x, i, before + step);
            double above = network_scalar(network);
            tensor_set_number(x, i, before - step);
            double below = network_scalar(network);
            tensor_set_number(x, i, before);
            double difference = (above - below) / (2 * step);
            double analytic = tensor_number(&found[v], i);
            double tolerance = is_double ? 1e-7 * (1 + fabs(analytic)) : 3e-3 + 0.01 * fabs(analytic);
            if (!(fabs(difference - analytic) <= tolerance)) {
                fail_msg("%s, element %zu: gradient %.9g, central difference %.9g", variable->node->name, i, analytic,
                         difference);
            }
        }
    }
    release_tensors(found, count);
}

#endif
