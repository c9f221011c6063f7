/* Many generations at once: rows join and leave the batch at every step, models take turns, prompts are forced steps.
 * Owns the compute threads. Create and destroy on one thread; submit and the counters from any thread. */
#ifndef ENGINE_DECODE_BATCHER_H
#define ENGINE_DECODE_BATCHER_H

#include "engine/decode/generation.h"

enum { BATCHER_ROWS_MAX = 256, BATCHER_THREADS_MAX = 256 };

struct batcher_options {
    size_t threads;   /* compute threads; 0: as many as cpu_usable_count() */
    size_t queue_max; /* generations waiting or running at most, all models together */
    /* Called on a compute thread when generations advanced: after a step in which text became readable or one ended,
     * and where one ends without a step (cancelled, over its deadline). The next step of that thread waits for it.
     * Steps that others are at do not, so it may be called on several threads at once, and a generation's end may be
     * told before what was reported of it earlier; where nobody else is at work, all wait. It may call whatever any
     * thread may. The generations are referenced: the callee takes over one reference of each. May be NULL. */
    void (*on_progress)(void *context, struct generation **generations, size_t count);
    void (*on_step)(void *context); /* the same after every step, before that; may be NULL */
    void *context;
};

struct batcher;

/* Starts the compute threads. INVALID names the option and its bounds; NO_MEMORY, IO when a thread does not start.
 * Owned. Thread: any. */
enum status batcher_create(const struct batcher_options *options, struct batcher **ret_batcher,
                           struct error *error) MUST_CHECK;

/* Ends what waits or runs with FINISH_CANCELLED, reported as usual, and waits for the threads to end. NULL is allowed.
 * Nothing may be submitted, read or cancelled meanwhile but by on_progress. Not on a compute thread. */
void batcher_destroy(struct batcher *batcher);

/* Queues a generation, once (the batcher takes its own reference, and gives it to on_progress at the end). LIMIT, code
 * "queue_full", naming the maximum. Never waits for a step. */
enum status batcher_submit(struct batcher *batcher, struct generation *generation, struct error *error) MUST_CHECK;

/* Room for `count` generations, all or none, each of which must be submitted: LIMIT, as batcher_submit; TOO_LARGE, code
 * "too_many_texts", where there is never room for so many. Thread: any. */
enum status batcher_reserve(struct batcher *batcher, size_t count, struct error *error) MUST_CHECK;

/* batcher_submit of one that has its room. Thread: any. */
void batcher_submit_reserved(struct batcher *batcher, struct generation *generation);

/* Whether batcher_reserve would say OK now. Thread: any. */
enum status batcher_check_room(const struct batcher *batcher, size_t count, struct error *error) MUST_CHECK;

/* Sees to it that the compute threads turn, and find the rows that can go on or end: call after generation_read made
 * room in a ring, or after generation_cancel. Cheap, and no row is looked at but these. Any thread. */
void batcher_wake(struct batcher *batcher);

struct batcher_counters {
    uint64_t steps;          /* decode steps done, all models together */
    uint64_t rows;           /* rows summed over steps */
    uint64_t symbols_prompt; /* forced symbols */
    uint64_t symbols_made;   /* sampled symbols */
    uint64_t heartbeat_ms;   /* clock_now_ms() when all compute threads had turned; while they are idle, now */
    uint64_t stalled_looks;  /* at rows that stalled, for a slow reader or a search, to see whether they go on */
    size_t running;          /* generations that take part in steps, or are paused by a full ring */
    size_t waiting;          /* submitted, not yet among those */
};
/* What was done so far and what there is to do. Any thread. */
struct batcher_counters batcher_counters(const struct batcher *batcher);

/* Whether the compute threads still turn: true when they are idle, or when none has been at the same step, or at
 * telling the caller, for longer than `stall_ms`. Any thread. */
bool batcher_is_alive(const struct batcher *batcher, uint64_t stall_ms);

#endif
