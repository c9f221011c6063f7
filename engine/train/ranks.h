/* The processes that train together: a training's shards are dealt out to them, and whatever all must know goes through
 * here. Two files supply it: ranks_mpi.c, in a build with MPI=1, by the Message Passing Interface; ranks_alone.c in any
 * other, where a process is alone and all of this does nothing. Rank 0 is the one that writes files and reports.
 *
 * All of a call's ranks must make it, in the same order. Thread: the one that called ranks_start. */
#ifndef ENGINE_TRAIN_RANKS_H
#define ENGINE_TRAIN_RANKS_H

#include <stddef.h>

#include "engine/base/status.h"

/* Joins the processes that mpirun started, before any call below; without mpirun, and in a build without MPI, a process
 * is rank 0 of 1, and need not call it. */
enum status ranks_start(struct error *error) MUST_CHECK;
/* Leaves them, when all do. */
void ranks_end(void);
/* Ends all of them at once, since this one failed. Does nothing where it is alone. */
void ranks_abort(void);

/* This process' number, below ranks_count, and how many there are. */
size_t ranks_index(void);
size_t ranks_count(void);

/* Adds up what every rank has, element by element, in place: all ranks end with the same bits. */
void ranks_sum(float *values, size_t count);
void ranks_sum_numbers(double *values, size_t count);

/* What all came to: OK when everybody's `status` is. Else the lowest rank that failed gets its own status back, and all
 * others CANCELLED, code "other_rank". */
enum status ranks_agree(enum status status, struct error *error) MUST_CHECK;

/* INVALID where `text` is not what it is on rank 0, which is shown beside it; `what` names it. At most
 * RANKS_TEXT_BYTES_MAX bytes count. Only this rank's result: ranks_agree comes next. */
enum { RANKS_TEXT_BYTES_MAX = 256 };
enum status ranks_compare(const char *what, const char *text, struct error *error) MUST_CHECK;

#endif
