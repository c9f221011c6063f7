/* Initial values that depend on other variables. Thread: the building one; everything made belongs to the graph.
 * Source: TensorFlow 1.15, variables.py (_try_guard_against_uninitialized_dependencies). */
#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"
#include "engine/graph/variable_private.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for an initial value");
}

enum status initialized_value(struct graph *graph, const struct variable *variable, struct output *ret_value,
                              struct error *error)
{
    struct output inputs[] = {{variable->node, 0}, variable->initializer->inputs[1]};
    return graph_add(graph, "InitializedValue", "cond/Merge", inputs, 2, ret_value, error);
}

/* Of the nodes below some number: which matter, and what stands for them. */
struct guard {
    struct graph *graph;
    const char *variable_name;
    bool *is_ancestor;
    struct node **copies; /* NULL: the node itself */
};

/* Marks what `initial` is computed from. What writes or looks at a variable's state is left alone, as are loops. */
static void mark_ancestors(struct guard *guard, struct output initial)
{
    guard->is_ancestor[initial.node->id] = true;
    for (size_t id = initial.node->id + 1; id-- > 0;) {
        const struct node *node = graph_node(guard->graph, id);
        bool is_end = (node->op->flags & (OP_WRITES | OP_TAKES_UNINITIALIZED)) != 0;
        for (size_t i = 0; guard->is_ancestor[id] && !is_end && i < node->input_count; i++) {
            guard->is_ancestor[node->inputs[i].node->id] = true;
        }
    }
}

/* The copy of a node with inputs that were replaced. */
static enum status copy_node(struct guard *guard, const struct node *node, struct error *error)
{
    struct output *inputs = mem_allocate(node->input_count, sizeof *inputs);
    char name[GRAPH_NAME_BYTES_MAX * 2];
    if (inputs == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < node->input_count; i++) {
        struct node *copy = guard->copies[node->inputs[i].node->id];
        inputs[i] = (struct output){copy == NULL ? node->inputs[i].node : copy, node->inputs[i].index};
    }
    snprintf(name, sizeof name, "%s_%s", node->name, guard->variable_name);
    struct node_options options = {.name = name,
                                   .inputs = inputs,
                                   .input_count = node->input_count,
                                   .attributes = node->attributes,
                                   .attribute_count = node->attribute_count};
    enum status status = graph_add_node(guard->graph, node->op->name, &options, &guard->copies[node->id], error);
    mem_free(inputs);
    return status;
}

/* In the order of ids, which is one in which inputs come first. */
static enum status replace(struct guard *guard, size_t id, struct error *error)
{
    const struct node *node = graph_node(guard->graph, id);
    if ((node->op->flags & OP_VARIABLE) != 0) {
        const struct variable *variable = graph_variable_of_node(guard->graph, node);
        struct output value;
        if (variable == NULL) {
            return STATUS_OK;
        }
        TRY(initialized_value(guard->graph, variable, &value, error));
        guard->copies[id] = value.node;
        return STATUS_OK;
    }
    if ((node->op->flags & (OP_WRITES | OP_TAKES_UNINITIALIZED)) != 0) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < node->input_count; i++) {
        if (guard->copies[node->inputs[i].node->id] != NULL) {
            return copy_node(guard, node, error);
        }
    }
    return STATUS_OK;
}

enum status variable_guard_initial(struct graph *graph, struct output initial, const char *variable_name,
                                   struct output *ret_guarded, struct error *error)
{
    size_t count = initial.node->id + (size_t)1;
    struct guard guard = {.graph = graph, .variable_name = variable_name};
    enum status status = STATUS_OK;
    *ret_guarded = initial;
    if (initial.node->input_count == 0 && (initial.node->op->flags & OP_VARIABLE) == 0) {
        return STATUS_OK;
    }
    guard.is_ancestor = mem_allocate(count, sizeof *guard.is_ancestor);
    guard.copies = mem_allocate(count, sizeof *guard.copies);
    if (guard.is_ancestor == NULL || guard.copies == NULL) {
        status = no_memory(error);
    } else {
        mark_ancestors(&guard, initial);
    }
    for (size_t id = 0; status == STATUS_OK && id < count; id++) {
        if (guard.is_ancestor[id]) {
            status = replace(&guard, id, error);
        }
    }
    if (status == STATUS_OK && guard.copies[initial.node->id] != NULL) {
        *ret_guarded = (struct output){guard.copies[initial.node->id], initial.index};
    }
    mem_free(guard.is_ancestor);
    mem_free(guard.copies);
    return status;
}
