/* Building the gradient of a recurrence: the gradient of its body, and the node that runs it backwards. Thread: the
 * building one. The gradient's body belongs to the graph. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/gradients.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/ops_recurrence_fused.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a recurrence's gradient");
}

static bool is_floating(struct output output)
{
    enum dtype dtype = output_type(output)->dtype;
    return dtype == DTYPE_FLOAT32 || dtype == DTYPE_FLOAT64;
}

/* ---- the gradient's body ---- */

/* A body that is differentiated: arrays of its inputs and outputs, in the graph's arena. */
struct differentiation {
    const struct body *body;
    struct graph *inner;    /* a clone of the body's graph, which grows */
    size_t input_count;     /* of the body */
    struct output *inputs;  /* the body's, then one for the gradient of each output */
    struct output *ys;      /* floating outputs */
    struct output *grad_ys; /* their gradients, among the inputs */
    size_t y_count;
    struct output *xs;        /* floating inputs */
    struct output *gradients; /* of xs; .node NULL: none */
    size_t x_count;
    struct output *outputs; /* gradients there are */
    size_t output_count;
    char *mask; /* of the inputs: '1' where there is one */
};

static enum status add_gradient_input(struct differentiation *work, size_t index, struct error *error)
{
    struct output output = work->body->outputs[index];
    const struct output_type *type = output_type(output);
    struct attribute attributes[] = {{.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = type->shape},
                                     {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = type->dtype}};
    struct node_options options = {.name = "grad_y", .attributes = attributes, .attribute_count = 2};
    struct node *node = NULL;
    TRY(graph_add_node(work->inner, "BodyInput", &options, &node, error));
    work->inputs[work->input_count + index] = (struct output){node, 0};
    if (is_floating(output)) {
        work->ys[work->y_count] = output;
        work->grad_ys[work->y_count++] = (struct output){node, 0};
    }
    return STATUS_OK;
}

/* The gradient by input `index` of the body. A state always has one: it may be passed by. */
static enum status take_gradient(struct differentiation *work, size_t index, struct error *error)
{
    struct output input = work->inputs[index];
    bool is_state = index >= 1 && index < work->body->argument_count;
    struct output gradient = {NULL, 0};
    for (size_t x = 0; x < work->x_count; x++) {
        if (output_equal(work->xs[x], input)) {
            gradient = work->gradients[x];
        }
    }
    if (gradient.node == NULL && is_state && is_floating(input)) {
        TRY(graph_add(work->inner, "ZerosLike", NULL, &input, 1, &gradient, error));
    }
    work->mask[index] = gradient.node == NULL ? '0' : '1';
    if (gradient.node != NULL) {
        work->outputs[work->output_count++] = gradient;
    }
    return STATUS_OK;
}

static enum status differentiate(struct differentiation *work, struct error *error)
{
    memcpy(work->inputs, work->body->inputs, work->input_count * sizeof *work->inputs);
    for (size_t i = 0; i < work->body->output_count; i++) {
        TRY(add_gradient_input(work, i, error));
    }
    for (size_t i = 0; i < work->input_count; i++) {
        if (is_floating(work->inputs[i])) {
            work->xs[work->x_count++] = work->inputs[i];
        }
    }
    struct gradient_options options = {
        .ys = work->ys, .y_count = work->y_count, .xs = work->xs, .x_count = work->x_count, .grad_ys = work->grad_ys};
    TRY(graph_gradients_with(work->inner, &options, work->gradients, error));
    for (size_t i = 0; i < work->input_count; i++) {
        TRY(take_gradient(work, i, error));
    }
    return STATUS_OK;
}

static enum status allocate(struct arena *arena, struct differentiation *work, struct error *error)
{
    size_t inputs = work->input_count;
    size_t outputs = work->body->output_count;
    work->inputs = arena_allocate(arena, inputs + outputs, sizeof *work->inputs);
    work->ys = arena_allocate(arena, outputs, sizeof *work->ys);
    work->grad_ys = arena_allocate(arena, outputs, sizeof *work->grad_ys);
    work->xs = arena_allocate(arena, inputs, sizeof *work->xs);
    work->gradients = arena_allocate(arena, inputs, sizeof *work->gradients);
    work->outputs = arena_allocate(arena, inputs, sizeof *work->outputs);
    work->mask = arena_allocate(arena, inputs + 1, 1);
    bool is_complete = work->inputs != NULL && work->ys != NULL && work->grad_ys != NULL && work->xs != NULL &&
                       work->gradients != NULL && work->outputs != NULL && work->mask != NULL;
    return is_complete ? STATUS_OK : no_memory(error);
}

static enum status make_gradient_body(struct graph *graph, const struct body *body, const struct body **ret_body,
                                      const char **ret_mask, struct error *error)
{
    struct arena *arena = graph_arena(graph);
    struct differentiation work = {.body = body, .input_count = body->argument_count + body->capture_count};
    struct body *gradient = arena_allocate(arena, 1, sizeof *gradient);
    if (gradient == NULL) {
        return no_memory(error);
    }
    TRY(allocate(arena, &work, error));
    /* The copy's own nodes are about as many again; what comes to more is found when they are counted. */
    TRY(graph_check_room(graph, 2 * graph_node_count(body->graph), error));
    TRY(graph_clone(body->graph, &work.inner, error));
    TRY(graph_keep_inner(graph, work.inner, error));
    const char *previous = NULL; /* apart from the names of the body, which came from outside */
    TRY(graph_enter_name_scope(work.inner, ".backward", &previous, error));
    enum status status = differentiate(&work, error);
    graph_leave_name_scope(work.inner, previous);
    TRY(status);
    graph_charge_inner(graph, work.inner);
    graph->inner_node_count += graph_node_count(work.inner);
    TRY(graph_check_room(graph, 1, error));
    *gradient = (struct body){.graph = work.inner,
                              .argument_count = work.input_count + body->output_count,
                              .output_count = work.output_count,
                              .inputs = work.inputs,
                              .outputs = work.outputs};
    *ret_body = gradient;
    *ret_mask = work.mask;
    return STATUS_OK;
}

/* Fused kernels have gradients by x that is no symbols, the states and the weights. */
static enum status make_fused_mask(struct graph *graph, const struct recurrence *recurrence,
                                   const struct recurrence_stack *stack, const char **ret_mask, struct error *error)
{
    size_t count = recurrence_gradient_count(recurrence);
    char *mask = arena_allocate(graph_arena(graph), count + 1, 1);
    if (mask == NULL) {
        return no_memory(error);
    }
    memset(mask, '0', count);
    memset(mask + stack->takes_symbols, '1', 1 + recurrence->state_count - stack->takes_symbols);
    for (size_t l = 0; l < stack->layer_count; l++) {
        for (size_t w = 0; w < stack->layers[l].row->weight_count; w++) {
            mask[1 + recurrence->state_count + stack->layers[l].captures[w]] = '1';
        }
    }
    *ret_mask = mask;
    return STATUS_OK;
}

/* ---- the node ---- */

/* The gradient of one output, or zeros in its shape. */
static enum status gradient_or_zeros(struct graph *graph, struct output gradient, struct output like,
                                     struct output *ret_output, struct error *error)
{
    if (gradient.node != NULL) {
        *ret_output = gradient;
        return STATUS_OK;
    }
    return graph_add(graph, "ZerosLike", NULL, &like, 1, ret_output, error);
}

static enum status refuse_inner(const struct node *node, const struct recurrence *recurrence,
                                const struct output *gradients, struct error *error)
{
    for (size_t i = recurrence_history(recurrence, 0); i <= recurrence_saved(recurrence); i++) {
        if (gradients[i].node != NULL) {
            return error_set(error, STATUS_UNSUPPORTED,
                             "'%s' (op: 'Recurrence'): only its outputs and final states are differentiated",
                             node->name);
        }
    }
    return STATUS_OK;
}

/* Fills the inputs of the gradient's node; returns how many by `ret_count`. */
static enum status fill_inputs(struct graph *graph, const struct node *node, const struct recurrence *recurrence,
                               const struct output *gradients, struct output *inputs, size_t *ret_count,
                               struct error *error)
{
    struct node *own = graph_node(graph, node->id);
    size_t count = recurrence->input_count;
    memcpy(inputs, node->inputs, count * sizeof *inputs);
    for (size_t i = recurrence_history(recurrence, 0); i <= recurrence_saved(recurrence); i++) {
        inputs[count++] = (struct output){own, (uint32_t)i};
    }
    for (size_t i = 0; i <= recurrence->state_count; i++) {
        struct output output = {own, (uint32_t)i};
        TRY(gradient_or_zeros(graph, gradients[i], output, &inputs[count++], error));
    }
    *ret_count = count;
    return STATUS_OK;
}

static enum status add_gradient(struct graph *graph, const struct node *node, const struct recurrence *recurrence,
                                const struct output *gradients, struct output *inputs, struct output *ret,
                                struct error *error)
{
    const struct body *gradient_body = NULL;
    const char *mask = NULL;
    size_t count = 0;
    struct recurrence_stack stack;
    bool is_fused = recurrence_match(node, &stack);
    if (is_fused) {
        TRY(make_fused_mask(graph, recurrence, &stack, &mask, error));
    } else {
        TRY(make_gradient_body(graph, recurrence->body, &gradient_body, &mask, error));
    }
    CHECK(mask != NULL);
    TRY(fill_inputs(graph, node, recurrence, gradients, inputs, &count, error));
    struct attribute attributes[] = {
        {.name = "body", .kind = ATTRIBUTE_BODY, .body = recurrence->body},
        {.name = "has_lengths", .kind = ATTRIBUTE_BOOLEAN, .boolean = recurrence->has_lengths},
        {.name = "is_general", .kind = ATTRIBUTE_BOOLEAN, .boolean = recurrence->is_general},
        {.name = "mask", .kind = ATTRIBUTE_TEXT, .text = mask},
        {.name = "gradient_body", .kind = ATTRIBUTE_BODY, .body = gradient_body}};
    struct node_options options = {
        .inputs = inputs, .input_count = count, .attributes = attributes, .attribute_count = is_fused ? 4 : 5};
    struct node *grad = NULL;
    TRY(graph_add_node(graph, "RecurrenceGrad", &options, &grad, error));
    for (uint32_t i = 0; i < grad->output_count; i++) {
        size_t input = i == 0 ? 0 : recurrence->first_state + i - 1;
        ret[input] = mask[i] == '1' ? (struct output){grad, i} : (struct output){NULL, 0};
    }
    return STATUS_OK;
}

enum status recurrence_gradient(struct graph *graph, const struct node *node, const struct output *output_gradients,
                                struct output *ret_input_gradients, struct error *error)
{
    struct recurrence recurrence = recurrence_of(node);
    TRY(refuse_inner(node, &recurrence, output_gradients, error));
    struct output *inputs = mem_allocate(recurrence.input_count + 2 * recurrence.state_count + 2, sizeof *inputs);
    if (inputs == NULL) {
        return no_memory(error);
    }
    enum status status = add_gradient(graph, node, &recurrence, output_gradients, inputs, ret_input_gradients, error);
    mem_free(inputs);
    return status;
}
