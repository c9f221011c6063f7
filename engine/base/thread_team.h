/* A few threads that go through phases of work together; made for decode steps, whose phases take microseconds.
 *
 * A phase is a number of items. Each thread takes the items of its own slice first (always the same part of the
 * weights: its cache may hold them), then those left in the others' slices. The thread that finishes a phase's last
 * item asks `next` for the following phase while the others wait: they spin at most 20 µs, then sleep. A thread that
 * sleeps, or was preempted between items, holds nobody up. Owns its threads, which block all signals. Create and
 * destroy on one thread. */
#ifndef ENGINE_BASE_THREAD_TEAM_H
#define ENGINE_BASE_THREAD_TEAM_H

#include <stddef.h>

#include "engine/base/status.h"

enum { THREAD_TEAM_THREADS_MAX = 256, THREAD_TEAM_ITEMS_MAX = 1 << 30 };

struct thread_team_phase {
    void (*run)(void *context, size_t item); /* on any thread of the team, once for each item, in any order */
    void *context;
    size_t item_count; /* 1 to THREAD_TEAM_ITEMS_MAX */
    bool is_small;     /* not worth waking anybody: the thread that asked does all of it */
};

struct thread_team;

/* Starts `thread_count` threads (1 to THREAD_TEAM_THREADS_MAX) named `name` (borrowed). `next` fills the following
 * phase, or returns false to end the team; it runs on one thread at a time, sees everything earlier phases wrote, and
 * may block (the team then sleeps). Owned. NO_MEMORY, or IO when a thread cannot be started. */
enum status thread_team_create(size_t thread_count, const char *name,
                               bool (*next)(void *context, struct thread_team_phase *ret_phase), void *context,
                               struct thread_team **ret_team, struct error *error) MUST_CHECK;

/* Waits until `next` has returned false and the threads have ended. NULL is allowed. */
void thread_team_destroy(struct thread_team *team);

#endif
