/* A loop over time as one node, op "Recurrence": what dynamic_rnn and Keras' recurrent layers become. The node holds
 * the body of one step, runs it (or a fused kernel that matches it) for every step, and has a gradient of its own. For
 * one building thread.
 *
 * Body: arguments x of one step and the states; outputs the step's output and the next states.
 * With sequence lengths, from step length[b] on row b yields zeros and keeps its states. */
#ifndef ENGINE_GRAPH_RECURRENCE_NODE_H
#define ENGINE_GRAPH_RECURRENCE_NODE_H

#include "engine/graph/graph.h"

enum { RECURRENCE_STATES_MAX = 64 };

struct recurrence_node_options {
    const char *name; /* NULL: "Recurrence" */
    const struct body *body;
    struct output x;               /* [time, batch, …], of which the body sees [batch, …] */
    struct output sequence_length; /* .node NULL: none; int32 or int64 [batch] */
    const struct output *states;   /* as many as the body has arguments after x */
    bool is_general;               /* never a fused kernel: what tests compare with */
};

/* Adds the node. `ret_outputs` is [time, batch, …]; `ret_states` as many final states as there are states. ValueError
 * when a state's type changes within a step. */
enum status recurrence_node_add(struct graph *graph, const struct recurrence_node_options *options,
                                struct output *ret_outputs, struct output *ret_states, struct error *error) MUST_CHECK;

/* How many fused layers a Recurrence node runs as, and their kernels ("lstm", "gru", "rnn"); 0: it runs its body step
 * by step. */
size_t recurrence_node_layers(const struct node *node, const char *ret_kernels[RECURRENCE_STATES_MAX]);

#endif
