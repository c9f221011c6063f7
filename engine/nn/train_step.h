/* The training step over a loss as a graph builder: gradients, clipping, noise, weight decay, an optimiser. For one
 * building thread. */
#ifndef ENGINE_NN_TRAIN_STEP_H
#define ENGINE_NN_TRAIN_STEP_H

#include "engine/nn/optimizer.h"

enum { TRAIN_STEP_VARIABLES_MAX = 256 };

/* What a step does. Numbers that may change from run to run are fed; these decide what is built. */
struct train_step_options {
    struct optimizer_options optimizer; /* kind and its numbers; rate, name and slots are the step's own */
    bool clips_values;                  /* each element of the gradients, besides their norm */
    bool decays_weights;                /* always of adamw */
    bool adds_noise;
};

/* An optimiser of that kind, clipping by norm alone. As optimizer_defaults, but Momentum's momentum is 0.9. */
struct train_step_options train_step_defaults(enum optimizer_kind kind);

/* The fields of options by the names that build programs give them ("beta1", "use_nesterov", "clips_values"), in order;
 * NULL behind the last. `is_flag` says of which type it is. */
const char *train_step_field(size_t index, bool *ret_is_flag);
/* A field's value; a flag's is 0 or 1. */
double train_step_get(const struct train_step_options *options, size_t field);
void train_step_set(struct train_step_options *options, size_t field, double value);

/* The scalars to feed, train/learning_rate:0 and so on; those that the step does not use have no node. */
enum train_step_feed {
    TRAIN_STEP_LEARNING_RATE,
    TRAIN_STEP_CLIP_NORM,    /* infinity: no clipping */
    TRAIN_STEP_CLIP_VALUE,   /* clips_values: every element goes to at most this, and at least minus this */
    TRAIN_STEP_WEIGHT_DECAY, /* decays_weights */
    TRAIN_STEP_NOISE,        /* adds_noise: the standard deviation */
    TRAIN_STEP_FEED_COUNT
};

/* A training step in two runs, so that several shards can add their gradients in between: (1) fetch `gradients` (and
 * the loss); (2) feed the summed gradients and the scalars and run `apply`. */
struct train_step {
    size_t variable_count;
    const struct variable *variables[TRAIN_STEP_VARIABLES_MAX]; /* the trainable ones, in order of creation */
    struct output gradients[TRAIN_STEP_VARIABLES_MAX];          /* of the loss, one each, same shape */
    struct output feeds[TRAIN_STEP_FEED_COUNT];
    struct output global_norm; /* train/global_norm:0, before clipping */
    struct node *apply;        /* train/Adam, train/GradientDescent */
};

/* Adds to `loss`, over all trainable variables, or finds if a step of these options was added before, in this order:
 * gradients g; clipping by global norm, g·min(1, clip_norm/‖g‖), and by value; noise, g + stddev·N(0, 1) (Neelakantan
 * et al. 2015); weight decay d: g + d·var, but of adamw var −= rate·d·var (Loshchilov & Hutter 2019, as PyTorch has it:
 * both decay every variable, biases too); the optimiser. CONFLICT when the graph is finalized without them. Slots,
 * which no other optimiser shares: <variable>/Adam (m), <variable>/Adam_1 (v), beta1_power, beta2_power. Steps over
 * train/loss fetch train/gradients/<variable>, over another loss <loss>/gradients/<variable>. */
enum status train_step_build(struct graph *graph, struct output loss, const struct train_step_options *options,
                             struct train_step *ret_step, struct error *error) MUST_CHECK;

#endif
