/* tf.gradients: walks the graph backwards from the ys and adds each op's gradient nodes. Thread: the building one. */
#include "engine/graph/gradients.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"

/* One gradient that arrived at a tensor. */
struct arrival {
    struct output tensor;
    struct output gradient;
    size_t next; /* index + 1 of the next arrival at the same node, the one that came before; 0: none */
};

struct backward {
    struct graph *graph;
    const struct gradient_options *options;
    size_t *first; /* of each old node: index + 1 of its latest arrival */
    struct arrival *arrivals;
    size_t count;
    size_t capacity;
    bool *reaches_x; /* of each old node: an x, or computed from one through floating-point tensors */
    bool *is_stopped;
    size_t old_count;
};

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for gradients");
}

static enum status arrive(struct backward *backward, struct output tensor, struct output gradient, struct error *error)
{
    if (backward->count == backward->capacity) {
        size_t capacity = backward->capacity == 0 ? 64 : backward->capacity * 2;
        struct arrival *arrivals = mem_reallocate(backward->arrivals, capacity, sizeof *arrivals);
        if (arrivals == NULL) {
            return no_memory(error);
        }
        backward->arrivals = arrivals;
        backward->capacity = capacity;
    }
    backward->arrivals[backward->count] = (struct arrival){tensor, gradient, backward->first[tensor.node->id]};
    backward->first[tensor.node->id] = ++backward->count;
    return STATUS_OK;
}

/* ---- sums ---- */

static size_t count_arrivals(const struct backward *backward, struct output tensor)
{
    size_t count = 0;
    for (size_t at = backward->first[tensor.node->id]; at != 0; at = backward->arrivals[at - 1].next) {
        CHECK(backward->arrivals != NULL && at <= backward->count);
        count += output_equal(backward->arrivals[at - 1].tensor, tensor);
    }
    return count;
}

/* Adds AddN nodes until one tensor is left in `terms`. */
static enum status add_terms(struct graph *graph, struct output *terms, size_t count, struct error *error)
{
    while (count > 1) {
        size_t taken = count < NODE_INPUTS_MAX ? count : NODE_INPUTS_MAX;
        struct output sum;
        TRY(graph_add(graph, "AddN", NULL, terms, taken, &sum, error));
        terms[0] = sum;
        memmove(terms + 1, terms + taken, (count - taken) * sizeof *terms);
        count -= taken - 1;
    }
    return STATUS_OK;
}

/* The sum of what arrived at `tensor`, oldest first; .node NULL when nothing did. */
static enum status sum_arrivals(struct backward *backward, struct output tensor, struct output *ret_gradient,
                                struct error *error)
{
    size_t count = count_arrivals(backward, tensor);
    if (count == 0) {
        *ret_gradient = (struct output){NULL, 0};
        return STATUS_OK;
    }
    CHECK(backward->arrivals != NULL); /* that is where it counted */
    struct output *terms = mem_allocate(count, sizeof *terms);
    if (terms == NULL) {
        return no_memory(error);
    }
    size_t place = count;
    for (size_t at = backward->first[tensor.node->id]; at != 0; at = backward->arrivals[at - 1].next) {
        if (output_equal(backward->arrivals[at - 1].tensor, tensor)) {
            terms[--place] = backward->arrivals[at - 1].gradient;
        }
    }
    enum status status = add_terms(backward->graph, terms, count, error);
    if (status == STATUS_OK) {
        *ret_gradient = terms[0];
    }
    mem_free(terms);
    return status;
}

/* ---- the walk ---- */

/* Whether gradients flow through a tensor at all. */
static bool carries_gradient(struct output output)
{
    return dtype_is_float(output_type(output)->dtype);
}

static void mark_paths(struct backward *backward)
{
    const struct gradient_options *options = backward->options;
    for (size_t i = 0; i < options->x_count; i++) {
        backward->reaches_x[options->xs[i].node->id] = true;
    }
    for (size_t i = 0; i < options->stop_count; i++) {
        backward->is_stopped[options->stop_gradients[i].node->id] = true;
    }
    for (size_t id = 0; id < backward->old_count; id++) {
        const struct node *node = graph_node(backward->graph, id);
        for (size_t i = 0; i < node->input_count && !backward->reaches_x[id]; i++) {
            backward->reaches_x[id] =
                backward->reaches_x[node->inputs[i].node->id] && carries_gradient(node->inputs[i]);
        }
    }
}

/* Whether differentiating `node` leads anywhere: one of its inputs depends on an x. */
static bool leads_to_x(const struct backward *backward, const struct node *node)
{
    for (size_t i = 0; i < node->input_count; i++) {
        if (backward->reaches_x[node->inputs[i].node->id] && carries_gradient(node->inputs[i])) {
            return true;
        }
    }
    return false;
}

/* Adds the gradients of a node's inputs, in a name scope of their own, and hands them on. */
static enum status pass_on(struct backward *backward, const struct node *node, const struct output *gradients,
                           struct error *error)
{
    char scope[GRAPH_NAME_BYTES_MAX + 8];
    const char *previous = NULL;
    struct output *inputs = mem_allocate(node->input_count, sizeof *inputs);
    if (inputs == NULL) {
        return no_memory(error);
    }
    snprintf(scope, sizeof scope, "%s_grad", node->name);
    enum status status = graph_enter_name_scope(backward->graph, scope, &previous, error);
    if (status == STATUS_OK) {
        status = node->op->gradient(backward->graph, node, gradients, inputs, error);
        graph_leave_name_scope(backward->graph, previous);
    }
    for (size_t i = 0; status == STATUS_OK && i < node->input_count; i++) {
        if (inputs[i].node != NULL && backward->reaches_x[node->inputs[i].node->id] &&
            carries_gradient(node->inputs[i])) {
            status = arrive(backward, node->inputs[i], inputs[i], error);
        }
    }
    mem_free(inputs);
    return status;
}

/* `gradients` is room for those of the node's outputs. */
static enum status differentiate(struct backward *backward, const struct node *node, struct output *gradients,
                                 struct error *error)
{
    bool has_any = false;
    for (uint32_t i = 0; i < node->output_count; i++) {
        struct output own = {graph_node(backward->graph, node->id), i};
        TRY(sum_arrivals(backward, own, &gradients[i], error));
        has_any = has_any || gradients[i].node != NULL;
    }
    if (!has_any) {
        return STATUS_OK;
    }
    if (node->op->gradient == NULL) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_LOOKUP,
                           "No gradient defined for operation '%s' (op type: %s)", node->name, node->op->name);
    }
    return pass_on(backward, node, gradients, error);
}

/* The gradient that a y starts with. */
static enum status start(struct backward *backward, size_t index, struct error *error)
{
    const struct gradient_options *options = backward->options;
    struct output y = options->ys[index];
    if (options->grad_ys != NULL && options->grad_ys[index].node != NULL) {
        struct output given = options->grad_ys[index];
        if (!shape_is_compatible(&output_type(y)->shape, &output_type(given)->shape) ||
            output_type(y)->dtype != output_type(given)->dtype) {
            char y_text[OUTPUT_TEXT_BYTES_MAX];
            char given_text[OUTPUT_TEXT_BYTES_MAX];
            return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                               "Gradient %s does not fit what it is the gradient of: %s",
                               output_text(given, given_text), output_text(y, y_text));
        }
        return arrive(backward, y, given, error);
    }
    char name[32];
    snprintf(name, sizeof name, "grad_ys_%zu", index);
    struct attribute one = {.name = "value", .kind = ATTRIBUTE_NUMBER, .number = 1};
    struct node_options add = {.name = name, .inputs = &y, .input_count = 1, .attributes = &one, .attribute_count = 1};
    struct node *ones = NULL;
    TRY(graph_add_node(backward->graph, "FillLike", &add, &ones, error));
    return arrive(backward, y, (struct output){ones, 0}, error);
}

/* What an x gets. */
static enum status collect(struct backward *backward, struct output x, struct output *ret_gradient, struct error *error)
{
    const char *unconnected = backward->options->unconnected;
    TRY(sum_arrivals(backward, x, ret_gradient, error));
    if (ret_gradient->node == NULL && unconnected != NULL && strcmp(unconnected, "zero") == 0) {
        return graph_add(backward->graph, "FillLike", "zeros_like", &x, 1, ret_gradient, error);
    }
    return STATUS_OK;
}

static enum status walk(struct backward *backward, struct output *ret_gradients, struct error *error)
{
    const struct gradient_options *options = backward->options;
    mark_paths(backward);
    for (size_t i = 0; i < options->y_count; i++) {
        TRY(start(backward, i, error));
    }
    for (size_t id = backward->old_count; id-- > 0;) {
        const struct node *node = graph_node(backward->graph, id);
        if (backward->first[id] != 0 && !backward->is_stopped[id] && leads_to_x(backward, node)) {
            struct output *gradients = mem_allocate(node->output_count, sizeof *gradients);
            enum status status = gradients == NULL ? no_memory(error) : differentiate(backward, node, gradients, error);
            mem_free(gradients);
            TRY(status);
        }
    }
    for (size_t i = 0; i < options->x_count; i++) {
        TRY(collect(backward, options->xs[i], &ret_gradients[i], error));
    }
    return STATUS_OK;
}

/* ---- what is asked for ---- */

static enum status check_tensors(const struct graph *graph, const struct output *outputs, size_t count,
                                 struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        const struct node *node = outputs[i].node;
        if (node != NULL && (node->id >= graph_node_count(graph) || graph_node(graph, node->id) != node)) {
            char text[OUTPUT_TEXT_BYTES_MAX];
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Tensor %s is not an element of this graph.",
                               output_text(outputs[i], text));
        }
    }
    return STATUS_OK;
}

static enum status check_options(const struct graph *graph, const struct gradient_options *options, struct error *error)
{
    const char *unconnected = options->unconnected;
    if (unconnected != NULL && strcmp(unconnected, "none") != 0 && strcmp(unconnected, "zero") != 0) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Unknown value for unconnected_gradients: '%s'",
                           unconnected);
    }
    if (graph_is_in_body(graph)) {
        return error_set(error, STATUS_UNSUPPORTED, "gradients inside a recurrence's cell");
    }
    TRY(check_tensors(graph, options->ys, options->y_count, error));
    TRY(check_tensors(graph, options->xs, options->x_count, error));
    TRY(check_tensors(graph, options->stop_gradients, options->stop_count, error));
    return check_tensors(graph, options->grad_ys, options->grad_ys == NULL ? 0 : options->y_count, error);
}

enum status graph_gradients_with(struct graph *graph, const struct gradient_options *options,
                                 struct output *ret_gradients, struct error *error)
{
    TRY(check_options(graph, options, error));
    struct backward backward = {.graph = graph, .options = options, .old_count = graph_node_count(graph)};
    backward.first = mem_allocate(backward.old_count + 1, sizeof *backward.first);
    backward.reaches_x = mem_allocate(backward.old_count + 1, sizeof *backward.reaches_x);
    backward.is_stopped = mem_allocate(backward.old_count + 1, sizeof *backward.is_stopped);
    const char *previous = NULL;
    bool has_memory = backward.first != NULL && backward.reaches_x != NULL && backward.is_stopped != NULL;
    enum status status = has_memory ? STATUS_OK : no_memory(error);
    if (status == STATUS_OK) {
        status = graph_enter_name_scope(graph, options->name == NULL ? "gradients" : options->name, &previous, error);
    }
    if (status == STATUS_OK) {
        status = walk(&backward, ret_gradients, error);
        graph_leave_name_scope(graph, previous);
    }
    mem_free(backward.first);
    mem_free(backward.reaches_x);
    mem_free(backward.is_stopped);
    mem_free(backward.arrivals);
    return status;
}

enum status graph_gradients(struct graph *graph, const struct output *ys, size_t y_count, const struct output *xs,
                            size_t x_count, struct output *ret_gradients, struct error *error)
{
    struct gradient_options options = {.ys = ys, .y_count = y_count, .xs = xs, .x_count = x_count};
    return graph_gradients_with(graph, &options, ret_gradients, error);
}
