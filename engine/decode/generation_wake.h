/* How a row that nobody steps comes back to its batcher. There may be ten thousand, so that none is looked at to see
 * whether it can go on: its reader brings it back where it stalls, whoever cancels it wherever it stands, and the
 * search that it waits for. Rows that were brought back stand on a stack, each with a reference: any thread pushes, the
 * batcher takes all, and nobody holds a lock. For engine/decode alone. */
#ifndef ENGINE_DECODE_GENERATION_WAKE_H
#define ENGINE_DECODE_GENERATION_WAKE_H

#include "engine/decode/generation_row.h"

/* All zero at start. */
struct woken_rows {
    _Atomic(struct generation *) top; /* linked through woken_below */
};

/* ---- Of the batcher */

/* Before the batcher's thread sees the row: from now on it can be woken, into `rows`, which is borrowed. */
void generation_wake_join(struct generation *row, struct woken_rows *rows);

/* It has ended: nobody wakes it any more. */
void generation_wake_leave(struct generation *row);

/* It stalls, and reads wake it. What was read before may not have: settle it once more. */
void generation_wake_sleep(struct generation *row);

/* It stalls no longer. */
void generation_wake_rise(struct generation *row);

/* Takes all that were woken, as a chain from which generation_wake_take takes them one by one, until it is NULL. */
struct generation *woken_rows_take(struct woken_rows *rows);

/* Whether nobody was woken since; a moment old. */
bool woken_rows_are_none(const struct woken_rows *rows);

/* The next of a chain, with its reference; it can be woken again from here on. */
struct generation *generation_wake_take(struct generation **chain);

/* ---- Of any thread that has a reference */

/* Something was read. Nothing happens where the row does not stall, or has no batcher. */
void generation_wake_for_room(struct generation *row);

/* It has to be looked at, wherever it stands. Nothing happens where it has no batcher. */
void generation_wake(struct generation *row);

#endif
