/* tf.gradients: walks the graph backwards from the ys and adds each op's gradient nodes. Thread: the building one. */
#include "engine/graph/gradients.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"

/* The gradients that arrived at one tensor so far. */
struct arrival {
    struct output tensor;
    struct output gradient;
    size_t next; /* index + 1 of the next arrival at the same node; 0: none */
};

struct backward {
    struct graph *graph;
    size_t *first; /* of each old node: index + 1 of its first arrival */
    struct arrival *arrivals;
    size_t count;
    size_t capacity;
    bool *reaches_x; /* of each old node */
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

/* The sum of what arrived at `tensor`, oldest first; .node NULL when nothing did. */
static enum status sum_arrivals(struct backward *backward, struct output tensor, struct output *ret_gradient,
                                struct error *error)
{
    struct output found[64];
    size_t count = 0;
    for (size_t at = backward->first[tensor.node->id]; at != 0; at = backward->arrivals[at - 1].next) {
        CHECK(backward->arrivals != NULL && at <= backward->count);
        if (output_equal(backward->arrivals[at - 1].tensor, tensor)) {
            if (count == sizeof found / sizeof *found) {
                return error_set(error, STATUS_LIMIT, "more than %zu uses of one tensor to differentiate", count);
            }
            found[count++] = backward->arrivals[at - 1].gradient;
        }
    }
    for (size_t i = 0; i < count / 2; i++) {
        struct output swapped = found[i];
        found[i] = found[count - 1 - i];
        found[count - 1 - i] = swapped;
    }
    if (count <= 1) {
        *ret_gradient = count == 0 ? (struct output){NULL, 0} : found[0];
        return STATUS_OK;
    }
    return graph_add(backward->graph, "AddN", NULL, found, count, ret_gradient, error);
}

static void mark_paths(struct backward *backward, const struct output *xs, size_t x_count)
{
    for (size_t i = 0; i < x_count; i++) {
        backward->reaches_x[xs[i].node->id] = true;
    }
    for (size_t id = 0; id < backward->old_count; id++) {
        const struct node *node = graph_node(backward->graph, id);
        for (size_t i = 0; i < node->input_count && !backward->reaches_x[id]; i++) {
            backward->reaches_x[id] = backward->reaches_x[node->inputs[i].node->id];
        }
    }
}

/* Whether differentiating `node` leads anywhere: one of its inputs depends on an x. */
static bool leads_to_x(const struct backward *backward, const struct node *node)
{
    for (size_t i = 0; i < node->input_count; i++) {
        if (backward->reaches_x[node->inputs[i].node->id]) {
            return true;
        }
    }
    return false;
}

static enum status differentiate(struct backward *backward, const struct node *node, struct error *error)
{
    struct output gradients[OP_OUTPUTS_MAX];
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
        error_set(error, STATUS_UNPROCESSABLE, "No gradient defined for operation '%s' (op type: %s)", node->name,
                  node->op->name);
        error_type(error, "LookupError");
        return STATUS_UNPROCESSABLE;
    }
    struct output *inputs = mem_allocate(node->input_count, sizeof *inputs);
    if (inputs == NULL) {
        return no_memory(error);
    }
    enum status status = node->op->gradient(backward->graph, node, gradients, inputs, error);
    for (size_t i = 0; status == STATUS_OK && i < node->input_count; i++) {
        if (inputs[i].node != NULL && backward->reaches_x[node->inputs[i].node->id]) {
            status = arrive(backward, node->inputs[i], inputs[i], error);
        }
    }
    mem_free(inputs);
    return status;
}

static enum status walk(struct backward *backward, const struct output *ys, size_t y_count, const struct output *xs,
                        size_t x_count, struct output *ret_gradients, struct error *error)
{
    mark_paths(backward, xs, x_count);
    for (size_t i = 0; i < y_count; i++) {
        struct attribute one = {.name = "value", .kind = ATTRIBUTE_NUMBER, .number = 1};
        struct node_options options = {
            .name = "grad_ys", .inputs = &ys[i], .input_count = 1, .attributes = &one, .attribute_count = 1};
        struct node *ones = NULL;
        TRY(graph_add_node(backward->graph, "FillLike", &options, &ones, error));
        TRY(arrive(backward, ys[i], (struct output){ones, 0}, error));
    }
    for (size_t id = backward->old_count; id-- > 0;) {
        if (backward->first[id] != 0 && leads_to_x(backward, graph_node(backward->graph, id))) {
            TRY(differentiate(backward, graph_node(backward->graph, id), error));
        }
    }
    for (size_t i = 0; i < x_count; i++) {
        TRY(sum_arrivals(backward, xs[i], &ret_gradients[i], error));
    }
    return STATUS_OK;
}

enum status graph_gradients(struct graph *graph, const struct output *ys, size_t y_count, const struct output *xs,
                            size_t x_count, struct output *ret_gradients, struct error *error)
{
    struct backward backward = {.graph = graph, .old_count = graph_node_count(graph)};
    backward.first = mem_allocate(backward.old_count + 1, sizeof *backward.first);
    backward.reaches_x = mem_allocate(backward.old_count + 1, sizeof *backward.reaches_x);
    const char *previous = NULL;
    enum status status = backward.first == NULL || backward.reaches_x == NULL ? no_memory(error) : STATUS_OK;
    if (status == STATUS_OK) {
        status = graph_enter_name_scope(graph, "gradients", &previous, error);
    }
    if (status == STATUS_OK) {
        status = walk(&backward, ys, y_count, xs, x_count, ret_gradients, error);
        graph_leave_name_scope(graph, previous);
    }
    mem_free(backward.first);
    mem_free(backward.reaches_x);
    mem_free(backward.arrivals);
    return status;
}
