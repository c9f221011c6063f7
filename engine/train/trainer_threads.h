/* The trainer's threads: independent pieces of one step, worked off together. The thread that calls is one of them, so
 * one trainer thread means no other. Results must not depend on who does which piece. */
#ifndef ENGINE_TRAIN_TRAINER_THREADS_H
#define ENGINE_TRAIN_TRAINER_THREADS_H

#include <stddef.h>

#include "engine/base/status.h"

enum { TRAINER_THREADS_MAX = 64 };

struct trainer_threads;

/* `count` threads, the caller among them; with `is_idle` the caller and all others take only CPU time nobody else
 * wants. IO when a thread cannot be started. Owned by the calling thread. */
enum status trainer_threads_create(size_t count, bool is_idle, struct trainer_threads **ret_threads,
                                   struct error *error) MUST_CHECK;
void trainer_threads_destroy(struct trainer_threads *threads);

/* Calls work(context, i) once for each i below `count`, on all threads, and returns when all have returned. Allocates
 * nothing. */
void trainer_threads_run(struct trainer_threads *threads, size_t count, void (*work)(void *context, size_t index),
                         void *context);

#endif
