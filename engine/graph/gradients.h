/* Reverse-mode gradients as nodes of the graph: tf.gradients. For one building thread. */
#ifndef ENGINE_GRAPH_GRADIENTS_H
#define ENGINE_GRAPH_GRADIENTS_H

#include "engine/graph/graph.h"

/* Adds nodes (name scope "gradients") for the derivative of the sum of all elements of all `ys` by each of `xs`. An x
 * that the ys do not depend on gets .node NULL. UNPROCESSABLE, LookupError: "No gradient defined for operation 'N' (op
 * type: T)". */
enum status graph_gradients(struct graph *graph, const struct output *ys, size_t y_count, const struct output *xs,
                            size_t x_count, struct output *ret_gradients, struct error *error) MUST_CHECK;

#endif
