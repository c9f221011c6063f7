/* One window of the train head over all rows of a batch, cut by rows into shards that trainer threads run side by side:
 * loss, final state and, for training, the gradients. How the batch is cut decides the bits of the result, so it is
 * fixed for a whole training; how many threads there are does not. Where several processes train together (ranks.h),
 * each makes and runs its own shards alone, those whose index leaves its rank when divided by their number. For one
 * calling thread. */
#ifndef ENGINE_TRAIN_SHARDS_H
#define ENGINE_TRAIN_SHARDS_H

#include "engine/graph/plan.h"
#include "engine/nn/language_model.h"
#include "engine/nn/train_step.h"
#include "engine/train/batches.h"
#include "engine/train/trainer_threads.h"
#include "engine/train/training_options.h"

/* The recurrent state of every row between two windows. */
struct carried_state {
    enum recurrent_cell cell;
    size_t count;
    struct tensor tensors[RECURRENT_STATES_MAX * LANGUAGE_MODEL_LAYERS_MAX]; /* layer by layer: [rows, units] */
};

/* Zeroes for `rows` rows. NO_MEMORY. */
enum status carried_state_init(struct carried_state *state, const struct language_model_options *model, size_t rows,
                               struct error *error) MUST_CHECK;
void carried_state_zero(struct carried_state *state);
void carried_state_release(struct carried_state *state);

struct shards;

struct shards_options {
    struct graph *graph;           /* holds a language model with its train head */
    struct values *values;         /* borrowed, as all below, until shards_destroy */
    const struct train_step *step; /* whose gradients to take; NULL: the loss alone */
    struct carried_state *state;   /* read at a window's beginning, written at its end */
    size_t rows;
    size_t time;  /* steps of a window */
    size_t count; /* shards, at most `rows`; the first ones have one row more where it does not divide */
    struct trainer_threads *threads;
};

/* Compiles the plans and makes the workspaces: running allocates nothing. Errors as plan_create's. Owned. */
enum status shards_create(const struct shards_options *options, struct shards **ret_shards,
                          struct error *error) MUST_CHECK;
void shards_destroy(struct shards *shards);

struct shards_window {
    const struct batches *batches;
    size_t time_begin;
    float keep_probability;
    float label_smoothing;
    uint64_t seed; /* with `step` and the shard: keys dropout */
    uint64_t step;
};

/* Runs one window; the mean loss in nats per symbol, of all ranks. Errors as plan_run's. */
enum status shards_run(struct shards *shards, const struct shards_window *window, double *ret_loss,
                       struct error *error) MUST_CHECK;

/* Brings each row's state from the rank that has it to all. */
void shards_gather_state(struct shards *shards);

/* How many there are on this rank, and the weight of the one at `index` of these: its part of the rows. Its gradient of
 * variable `variable` of the step: borrowed until the next run. */
size_t shards_count(const struct shards *shards);
float shards_weight(const struct shards *shards, size_t index);
const float *shards_gradient(const struct shards *shards, size_t index, size_t variable);

#endif
