/* Clipping of gradients as graph builders. For one building thread. */
#ifndef ENGINE_NN_CLIP_H
#define ENGINE_NN_CLIP_H

#include "engine/graph/graph.h"

/* tf.clip_by_global_norm: `tensors` scaled so that the root of the sum of all squares is at most `clip_norm` (a scalar
 * tensor of their dtype); those without .node stay so. `ret_norm` is that root before clipping; it may be given as
 * `use_norm` (else .node NULL). An infinite norm makes all NaN. `name` NULL: TensorFlow's. */
enum status clip_by_global_norm(struct graph *graph, const struct output *tensors, size_t count,
                                struct output clip_norm, struct output use_norm, const char *name,
                                struct output *ret_tensors, struct output *ret_norm, struct error *error) MUST_CHECK;

#endif
