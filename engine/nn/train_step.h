/* The training step over a loss as a graph builder: gradients, clipping by global norm, an optimiser. For one building
 * thread. */
#ifndef ENGINE_NN_TRAIN_STEP_H
#define ENGINE_NN_TRAIN_STEP_H

#include "engine/nn/optimizer.h"

enum { TRAIN_STEP_VARIABLES_MAX = 256 };

/* A training step in two runs, so that several shards can add their gradients in between: (1) fetch `gradients` (and
 * the loss); (2) feed the summed gradients, learning_rate and clip_norm (infinity: no clipping) and run `apply`. */
struct train_step {
    size_t variable_count;
    const struct variable *variables[TRAIN_STEP_VARIABLES_MAX]; /* the trainable ones, in order of creation */
    struct output gradients[TRAIN_STEP_VARIABLES_MAX];          /* of the loss, one each, same shape */
    struct output learning_rate;                                /* train/learning_rate:0 scalar, to be fed */
    struct output clip_norm;                                    /* train/clip_norm:0 scalar, to be fed */
    struct output global_norm;                                  /* train/global_norm:0, before clipping */
    struct node *apply;                                         /* train/Adam, train/GradientDescent */
};

/* Adds gradients, clipping by global norm and the optimiser for `loss` over all trainable variables, or finds them if
 * this optimiser was added before. CONFLICT when the graph is finalized without them. Slots, which no other
 * optimiser shares: <variable>/Adam (m), <variable>/Adam_1 (v), beta1_power, beta2_power. */
enum status train_step_build(struct graph *graph, struct output loss, enum optimizer_kind kind,
                             struct train_step *ret_step, struct error *error) MUST_CHECK;

#endif
