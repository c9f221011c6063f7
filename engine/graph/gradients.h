/* Reverse-mode gradients as nodes of the graph: tf.gradients. For one building thread.
 * Source: TensorFlow 1.15, gradients_util.py (_GradientsHelper). */
#ifndef ENGINE_GRAPH_GRADIENTS_H
#define ENGINE_GRAPH_GRADIENTS_H

#include "engine/graph/graph.h"

struct gradient_options {
    const struct output *ys;
    size_t y_count;
    const struct output *xs; /* any tensors, also such that other xs depend on */
    size_t x_count;
    const struct output *grad_ys;        /* one for each y, .node NULL: ones; NULL: all ones */
    const struct output *stop_gradients; /* taken as constants, with all that made them */
    size_t stop_count;
    const char *unconnected; /* what an x gets that the ys do not depend on: "none" (NULL) or "zero" */
    const char *name;        /* of the name scope; NULL: "gradients" */
};

/* Adds nodes for the derivative of the sum of all elements of all ys by each of the xs. Only floating-point tensors
 * carry gradients. An x that the ys do not depend on gets .node NULL, or zeros. UNPROCESSABLE, LookupError: "No
 * gradient defined for operation 'N' (op type: T)"; ValueError "Unknown value for unconnected_gradients:
 * 'nonsense'". */
enum status graph_gradients_with(struct graph *graph, const struct gradient_options *options,
                                 struct output *ret_gradients, struct error *error) MUST_CHECK;

/* The same with ys and xs alone. */
enum status graph_gradients(struct graph *graph, const struct output *ys, size_t y_count, const struct output *xs,
                            size_t x_count, struct output *ret_gradients, struct error *error) MUST_CHECK;

#endif
