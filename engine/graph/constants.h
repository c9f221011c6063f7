/* What is known of tensors' values before a run: constants, shapes, and small tensors computed from such. Shape rules
 * use it (reshape, range, tile). A node's known values are found when it is added and kept with it, so that chains of
 * any length cost one step each. */
#ifndef ENGINE_GRAPH_CONSTANTS_H
#define ENGINE_GRAPH_CONSTANTS_H

#include "engine/graph/op.h"

enum {
    CONSTANTS_ELEMENTS_MAX = 1024, /* of one output that is computed ahead */
    CONSTANTS_VISITS_MAX = 256,    /* nodes looked at for one partly known shape */
};

/* The value of an output as far as it is known while building, else NULL. Borrowed from the graph. Thread: any. */
const struct tensor *graph_constant_value(const struct graph *graph, struct output output);

/* Computes a node ahead of any run, by its own kernel: `inference` after its shape rule has run, with the inputs'
 * values in `constants` (those of ops that only look at shapes may be missing). Not known when the op or its size does
 * not allow it, an input is missing, or the kernel refuses (then the run will say so). `ret_outputs`, one for each
 * output, get data in `arena`, or share an input's. NO_MEMORY. Thread: any. */
enum status constants_compute(const struct inference *inference, struct arena *arena, struct tensor *ret_outputs,
                              bool *ret_is_known, struct error *error) MUST_CHECK;

/* What graph_add_node remembers with a node: the value of each output (the array or its entries NULL where unknown),
 * in `arena`. While building, it knows more than constants_compute: elements of shapes that are known in part.
 * NO_MEMORY. */
enum status constants_of_node(const struct inference *inference, struct arena *arena,
                              const struct tensor *const **ret_constants, struct error *error) MUST_CHECK;

/* An input's value taken as a shape, TensorFlow's constant_value_as_shape: whole numbers below 0 and what is not known
 * become unknown dimensions. Rank unknown when not even the length is known or it is above SHAPE_RANK_MAX. */
struct shape constants_as_shape(const struct inference *inference, size_t input);

#endif
