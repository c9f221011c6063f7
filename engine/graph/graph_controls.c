/* Control dependencies: what new nodes run after. Thread: the building one. Lists are the graph's. */
#include "engine/graph/graph_private.h"

struct control_list {
    size_t count;
    struct node **nodes;
};

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for control dependencies");
}

enum status graph_enter_controls(struct graph *graph, struct node *const *nodes, size_t node_count,
                                 const struct control_list **ret_previous, struct error *error)
{
    const struct control_list *previous = graph->controls;
    if (node_count == 0) {
        graph->controls = NULL;
        *ret_previous = previous;
        return STATUS_OK;
    }
    size_t before = previous == NULL ? 0 : previous->count;
    if (before + node_count > NODE_INPUTS_MAX) {
        return error_set(error, STATUS_LIMIT, "%zu control dependencies, at most %d", before + node_count,
                         NODE_INPUTS_MAX);
    }
    struct control_list *list = arena_allocate(graph_arena(graph), 1, sizeof *list);
    struct node **all = arena_allocate(graph_arena(graph), before + node_count, sizeof(struct node *));
    if (list == NULL || all == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < before; i++) {
        all[i] = previous->nodes[i];
    }
    memcpy(all + before, nodes, node_count * sizeof *all);
    *list = (struct control_list){before + node_count, all};
    graph->controls = list;
    *ret_previous = previous;
    return STATUS_OK;
}

void graph_leave_controls(struct graph *graph, const struct control_list *previous)
{
    graph->controls = previous;
}

static void add_control(struct node *node, struct node *control)
{
    if (control->body == node->body) {
        node->controls[node->control_count++] = control;
    }
}

enum status graph_copy_controls(const struct graph *graph, struct arena *arena, const struct node_options *options,
                                struct node *node, struct error *error)
{
    size_t around = graph->controls == NULL || graph->is_suspended ? 0 : graph->controls->count;
    node->controls = arena_allocate(arena, options->control_count + around, sizeof *node->controls);
    if (node->controls == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < around; i++) {
        add_control(node, graph->controls->nodes[i]);
    }
    for (size_t i = 0; i < options->control_count; i++) {
        add_control(node, options->controls[i]);
    }
    return STATUS_OK;
}
