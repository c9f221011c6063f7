/* A few threads that go through phases of work together, or one beside the other; made for decode steps, whose phases
 * take microseconds.
 *
 * A phase is a number of items. Of one that is shared each thread takes the items of its own slice first (always the
 * same part of the weights: its cache may hold them), then those left in the others' slices; the thread that finishes
 * its last item asks `next` for what follows. One that a thread does alone holds nobody up: the thread asks again when
 * it is done, and where there is more to do meanwhile, so do the others. A thread that has nothing to do spins at most
 * 20 µs, then sleeps. One that sleeps, or was preempted between items, holds nobody up. Owns its threads, which block
 * all signals. Create and destroy on one thread. */
#ifndef ENGINE_BASE_THREAD_TEAM_H
#define ENGINE_BASE_THREAD_TEAM_H

#include <stddef.h>

#include "engine/base/status.h"

enum { THREAD_TEAM_THREADS_MAX = 256, THREAD_TEAM_ITEMS_MAX = 1 << 30 };

struct thread_team_phase {
    void (*run)(void *context, size_t item); /* once for each item, in any order, on any thread of the team */
    void *context;
    size_t item_count; /* 1 to THREAD_TEAM_ITEMS_MAX */
    bool is_alone;     /* the thread that asked does all of it. Otherwise it is shared, by one thread, too */
    bool has_more;     /* with is_alone: the others should ask meanwhile */
};

enum thread_team_answer {
    THREAD_TEAM_PHASE,   /* there is a phase; a shared one only where none is under way */
    THREAD_TEAM_NOTHING, /* not for this thread, as long as others are at work: one of them has to ask again */
    THREAD_TEAM_OVER,    /* the team ends; nobody may be at work */
};

/* What a thread does next. `ended` is the phase that it has ended, NULL where it comes to see whether there is
 * something to do. Runs on one thread at a time, sees everything that phases that have ended wrote. It may block unless
 * others are at work; those that ask then wait. */
typedef enum thread_team_answer thread_team_next(void *context, const struct thread_team_phase *ended,
                                                 struct thread_team_phase *ret_phase);

/* Does all items of a phase on the calling thread, which may be any: no team takes part, and how it would share the
 * phase does not matter. */
void thread_team_run_phase(const struct thread_team_phase *phase);

struct thread_team;

/* Starts `thread_count` threads (1 to THREAD_TEAM_THREADS_MAX) named `name` (borrowed). Owned. NO_MEMORY, or IO when a
 * thread cannot be started. */
enum status thread_team_create(size_t thread_count, const char *name, thread_team_next *next, void *context,
                               struct thread_team **ret_team, struct error *error) MUST_CHECK;

/* Waits until `next` has said that it is over and the threads have ended. NULL is allowed. */
void thread_team_destroy(struct thread_team *team);

#endif
