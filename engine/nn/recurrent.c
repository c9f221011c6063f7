/* Stacks of recurrent cells. Thread: the building one. */
#include "engine/nn/recurrent.h"

#include "engine/base/check.h"
#include "engine/base/rng.h"
#include "engine/graph/variable.h"

struct lstm_weights {
    struct output kernel;
    struct output bias;
};

static enum status get_weights(struct graph *graph, size_t inputs, size_t units, struct lstm_weights *ret_weights,
                               struct error *error)
{
    const struct variable *kernel = NULL;
    const struct variable *bias = NULL;
    struct variable_options options = {.name = "kernel",
                                       .dtype = DTYPE_FLOAT32,
                                       .shape = shape_matrix((int64_t)(inputs + units), (int64_t)(4 * units))};
    TRY(get_variable(graph, &options, &kernel, NULL, error));
    options = (struct variable_options){.name = "bias",
                                        .dtype = DTYPE_FLOAT32,
                                        .shape = shape_vector((int64_t)(4 * units)),
                                        .initializer = {.kind = INITIALIZER_ZEROS}};
    TRY(get_variable(graph, &options, &bias, NULL, error));
    *ret_weights = (struct lstm_weights){kernel->read, bias->read};
    return STATUS_OK;
}

/* The variables of layer `layer`, inside its scopes. */
static enum status enter_and_get_weights(struct graph *graph, size_t layer, size_t inputs, size_t units,
                                         struct lstm_weights *ret_weights, struct error *error)
{
    const char *const scopes[] = {"rnn", "multi_rnn_cell", "cell_", "basic_lstm_cell"};
    enum { SCOPE_COUNT = sizeof scopes / sizeof *scopes };
    struct variable_scope_frame frames[SCOPE_COUNT];
    size_t open = 0;
    enum status status = STATUS_OK;
    while (open < SCOPE_COUNT && status == STATUS_OK) {
        char name[32];
        snprintf(name, sizeof name, open == 2 ? "%s%zu" : "%s", scopes[open], layer);
        status = variable_scope_enter(graph, name, REUSE_INHERIT, &frames[open], error);
        open += status == STATUS_OK;
    }
    if (status == STATUS_OK) {
        status = get_weights(graph, inputs, units, ret_weights, error);
    }
    while (open > 0) {
        variable_scope_leave(graph, &frames[--open]);
    }
    return status;
}

static enum status add_dropout(struct graph *graph, struct output x, struct output keep, size_t layer,
                               struct output *ret_output, struct error *error)
{
    char key[GRAPH_NAME_BYTES_MAX + 32];
    snprintf(key, sizeof key, "%s/dropout/%zu", graph_name_scope(graph), layer);
    struct attribute seed = {.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)(rng_key(key) >> 1)};
    struct output inputs[] = {x, keep};
    struct node_options options = {
        .name = "dropout", .inputs = inputs, .input_count = 2, .attributes = &seed, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Dropout", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

enum status lstm_stack_build(struct graph *graph, const struct lstm_stack *stack,
                             struct lstm_stack_outputs *ret_outputs, struct error *error)
{
    CHECK(stack->layers >= 1 && stack->layers <= RECURRENT_LAYERS_MAX);
    struct output x = stack->inputs;
    for (size_t layer = 0; layer < stack->layers; layer++) {
        struct lstm_weights weights;
        TRY(enter_and_get_weights(graph, layer, layer == 0 ? stack->depth : stack->units, stack->units, &weights,
                                  error));
        struct output inputs[] = {x, stack->initial_c[layer], stack->initial_h[layer], weights.kernel, weights.bias};
        struct attribute forget = {.name = "forget_bias", .kind = ATTRIBUTE_NUMBER, .number = stack->forget_bias};
        struct node_options options = {
            .name = "rnn", .inputs = inputs, .input_count = 5, .attributes = &forget, .attribute_count = 1};
        struct node *node = NULL;
        TRY(graph_add_node(graph, "LstmBlock", &options, &node, error));
        x = (struct output){node, 0};
        ret_outputs->last_c[layer] = (struct output){node, 1};
        ret_outputs->last_h[layer] = (struct output){node, 2};
        if (stack->keep_probability.node != NULL) {
            TRY(add_dropout(graph, x, stack->keep_probability, layer, &x, error));
        }
    }
    ret_outputs->outputs = x;
    return STATUS_OK;
}
