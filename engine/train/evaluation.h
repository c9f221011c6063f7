/* The loss of a stretch of text under the current values: contiguous streams in up to 16 rows, state carried from
 * window to window of 128 steps, no dropout. Symbols beyond rows × ⌊(symbols − 1) / rows⌋ are left out. For one
 * calling thread. */
#ifndef ENGINE_TRAIN_EVALUATION_H
#define ENGINE_TRAIN_EVALUATION_H

#include <stdatomic.h>

#include "engine/train/shards.h"

enum { EVALUATION_ROWS = 16, EVALUATION_TIME = 128 };

struct evaluation;

struct evaluation_options {
    struct graph *graph;
    struct values *values; /* borrowed, as the corpus and the threads, until evaluation_destroy */
    const struct corpus *corpus;
    struct corpus_stretch stretch; /* at least 2 symbols */
    size_t shard_count;            /* as many as there are rows at most */
    struct trainer_threads *threads;
    const _Atomic bool *is_cancelled; /* ends a run between two windows; borrowed; NULL: nothing does */
};

/* Errors as shards_create's. Owned. */
enum status evaluation_create(const struct evaluation_options *options, struct evaluation **ret_evaluation,
                              struct error *error) MUST_CHECK;
void evaluation_destroy(struct evaluation *evaluation);

/* Mean nats per symbol. CANCELLED on all ranks once `is_cancelled` is set on one of them. Allocates nothing. */
enum status evaluation_run(struct evaluation *evaluation, double *ret_loss, struct error *error) MUST_CHECK;

#endif
