/* What the tests of scopes, variables, gradients, optimisers and savers share: a graph with a session over it. */
#ifndef TESTS_UNIT_GRAPH_RIG_H
#define TESTS_UNIT_GRAPH_RIG_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/graph/function.h"
#include "engine/graph/gradients.h"
#include "engine/graph/session.h"
#include "engine/graph/variable.h"

struct rig {
    struct graph *graph;
    struct session *session;
    struct error error;
};

/* Fails the test with the error. */
static inline void must(enum status status, const struct error *error)
{
    if (status != STATUS_OK) {
        fail_msg("%s: %s", error->type, error->message);
    }
}

/* An empty graph, and a session over it; closed by rig_close. */
static inline struct rig rig_open(void)
{
    struct rig rig = {0};
    must(graph_create(&rig.graph, &rig.error), &rig.error);
    must(session_create(rig.graph, &rig.session, &rig.error), &rig.error);
    return rig;
}

/* Takes what rig_open made. */
static inline void rig_close(struct rig *rig)
{
    session_destroy(rig->session);
    graph_unref(rig->graph);
}

/* The error must be this type with this very message, or one that begins so when it ends in "…". */
static inline void expect_error(enum status status, const struct error *error, const char *type, const char *message)
{
    size_t length = strlen(message);
    bool is_prefix = length > 3 && strcmp(message + length - 3, "…") == 0;
    assert_int_not_equal(status, STATUS_OK);
    assert_string_equal(error->type, type);
    if (is_prefix ? strncmp(error->message, message, length - 3) != 0 : strcmp(error->message, message) != 0) {
        fail_msg("\"%s\" is not \"%s\"", error->message, message);
    }
}

/* ---- running ---- */

/* Fetches a tensor (owned by the caller) or runs an operation, on the graph as it is now. */
static inline enum status rig_try(struct rig *rig, const struct output *fetch, struct node *target,
                                  struct tensor *ret_value)
{
    struct session_request request = {
        .fetches = fetch, .fetch_count = fetch != NULL, .targets = &target, .target_count = target != NULL};
    struct session_run *run = NULL;
    struct tensor value;
    must(session_adopt(rig->session, rig->graph, &rig->error), &rig->error);
    TRY(session_prepare(rig->session, &request, &run, &rig->error));
    struct session_run_options options = {.random_key = 7};
    enum status status = session_run_go(run, &options, &value, &rig->error);
    if (status == STATUS_OK && ret_value != NULL) {
        status = tensor_init_copy(ret_value, &value, &rig->error);
    }
    session_run_end(run);
    return status;
}

/* Runs an operation, which must succeed. */
static inline void rig_run(struct rig *rig, struct node *target)
{
    must(rig_try(rig, NULL, target, NULL), &rig->error);
}

/* Runs the initialisers of all global variables there are. */
static inline void rig_initialize(struct rig *rig)
{
    struct node *init = NULL;
    must(add_variables_initializer(rig->graph, NULL, &init, &rig->error), &rig->error);
    rig_run(rig, init);
}

/* The tensor's elements must be these numbers, to within `tolerance`. */
static inline void expect_values(struct rig *rig, struct output output, const double *values, size_t count,
                                 double tolerance)
{
    struct tensor found;
    must(rig_try(rig, &output, NULL, &found), &rig->error);
    assert_int_equal(tensor_element_count(&found), count);
    for (size_t i = 0; i < count; i++) {
        double number = tensor_number(&found, i);
        if (!(fabs(number - values[i]) <= tolerance) && !(isnan(number) && isnan(values[i])) && number != values[i]) {
            fail_msg("%s, element %zu: %.17g is not %.17g", output.node->name, i, number, values[i]);
        }
    }
    tensor_release(&found);
}

/* ---- building ---- */

/* A tensor over borrowed numbers. */
static inline struct tensor numbers(enum dtype dtype, struct shape shape, void *data)
{
    return (struct tensor){.dtype = dtype, .shape = shape, .data = data};
}

/* tf.constant of them. */
static inline struct output constant(struct rig *rig, enum dtype dtype, struct shape shape, void *data)
{
    struct output output;
    struct tensor value = numbers(dtype, shape, data);
    must(graph_add_constant(rig->graph, NULL, &value, &output, &rig->error), &rig->error);
    return output;
}

/* A function of one or two tensors by its Python name. */
static inline struct output call(struct rig *rig, const char *function, struct output a, struct output b)
{
    struct output inputs[] = {a, b};
    struct output output;
    must(graph_call_tensors(rig->graph, function, NULL, inputs, b.node == NULL ? 1 : 2, &output, &rig->error),
         &rig->error);
    return output;
}

static const struct output no_output = {NULL, 0};

/* tf.Variable of these numbers. */
static inline const struct variable *variable_of(struct rig *rig, const char *name, enum dtype dtype,
                                                 struct shape shape, void *data)
{
    const struct variable *variable = NULL;
    struct variable_options options = {
        .name = name, .initializer = {.kind = INITIALIZER_VALUE, .values = numbers(dtype, shape, data)}};
    must(make_variable(rig->graph, &options, &variable, &rig->error), &rig->error);
    return variable;
}

/* What tf.gradients takes of a variable. */
static inline struct output state_of(const struct variable *variable)
{
    return (struct output){variable->node, 0};
}

#endif
