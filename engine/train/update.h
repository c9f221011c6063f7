/* The second half of a training step: the shards' gradients are summed and go into clipping and the optimiser. For the
 * thread that runs the shards. */
#ifndef ENGINE_TRAIN_UPDATE_H
#define ENGINE_TRAIN_UPDATE_H

#include "engine/train/shards.h"

struct update;

/* All borrowed until update_destroy. Running allocates nothing. Errors as plan_create's. Owned. */
enum status update_create(struct graph *graph, struct values *values, const struct train_step *step,
                          const struct shards *shards, struct trainer_threads *threads, struct update **ret_update,
                          struct error *error) MUST_CHECK;
void update_destroy(struct update *update);

/* Applies the gradients of the shards' last run, all ranks'. `numbers`: what to feed the step, by enum train_step_feed;
 * `random_key` keys its noise. `ret_global_norm`: the gradients', before clipping. Errors as plan_run's. */
enum status update_run(struct update *update, const double numbers[TRAIN_STEP_FEED_COUNT], uint64_t random_key,
                       double *ret_global_norm, struct error *error) MUST_CHECK;

#endif
