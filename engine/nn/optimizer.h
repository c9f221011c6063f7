/* Optimisers and clipping as graph builders: the training step over a loss, with TensorFlow's slot names. For one
 * building thread.
 *
 * Adam: m = b1 m + (1 − b1) g; v = b2 v + (1 − b2) g²; var −= lr·√(1 − b2^t)/(1 − b1^t) · m/(√v + ε).
 * Source: Kingma and Ba 2015, in TensorFlow 1.15's form. */
#ifndef ENGINE_NN_OPTIMIZER_H
#define ENGINE_NN_OPTIMIZER_H

#include "engine/graph/graph.h"

enum optimizer_kind { OPTIMIZER_SGD, OPTIMIZER_ADAM, OPTIMIZER_KIND_COUNT };

/* Its name in requests. */
const char *optimizer_name(enum optimizer_kind kind); /* "sgd", "adam" */

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
 * this optimiser was added before. CONFLICT when the graph is finalized without them. Slots: <variable>/Adam (m),
 * <variable>/Adam_1 (v), beta1_power, beta2_power. */
enum status train_step_build(struct graph *graph, struct output loss, enum optimizer_kind kind,
                             struct train_step *ret_step, struct error *error) MUST_CHECK;

#endif
