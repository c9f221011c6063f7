/* What is known of tensors' values before a run: constants, shapes, and small whole numbers computed from them. Shape
 * rules use it (reshape, range, tile). For one building or compiling thread. */
#ifndef ENGINE_GRAPH_CONSTANTS_H
#define ENGINE_GRAPH_CONSTANTS_H

#include "engine/graph/graph.h"

/* The value of an output as far as it is known while building, else NULL. Borrowed from the graph. */
const struct tensor *graph_constant_value(struct graph *graph, struct output output);

#endif
