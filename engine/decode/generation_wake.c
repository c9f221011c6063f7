/* Rows on their way back to the batcher. Threads: any pushes, the batcher's takes. Owns a reference of each row pushed.
 *
 * `wake` of a row changes by read-modify-writes alone, which have one order for all threads: either a reader finds that
 * the row sleeps, and pushes it, or the batcher, which settles it again behind its own, finds what was read. */
#include "engine/decode/generation_wake.h"

#include "engine/base/check.h"

enum { SLEEPS = 1, IS_PUSHED = 2 };

void generation_wake_join(struct generation *row, struct woken_rows *rows)
{
    CHECK(atomic_exchange(&row->woken_rows, rows) == NULL);
}

void generation_wake_leave(struct generation *row)
{
    atomic_store(&row->woken_rows, NULL);
}

void generation_wake_sleep(struct generation *row)
{
    atomic_fetch_or(&row->wake, SLEEPS);
}

void generation_wake_rise(struct generation *row)
{
    atomic_fetch_and(&row->wake, ~(unsigned)SLEEPS);
}

static void push(struct woken_rows *rows, struct generation *row)
{
    struct generation *below = atomic_load(&rows->top);
    do {
        row->woken_below = below;
    } while (!atomic_compare_exchange_weak(&rows->top, &below, row));
}

/* Pushes it where it is not there already; unless it sleeps only if `is_always`. */
static void wake(struct generation *row, bool is_always)
{
    struct woken_rows *rows = atomic_load(&row->woken_rows);
    if (rows == NULL) {
        return;
    }
    unsigned before = atomic_load(&row->wake);
    unsigned after;
    do {
        bool is_wanted = is_always || (before & SLEEPS) != 0;
        after = is_wanted ? before | IS_PUSHED : before;
    } while (!atomic_compare_exchange_weak(&row->wake, &before, after));
    if (before != after) {
        push(rows, generation_ref(row));
    }
}

void generation_wake_for_room(struct generation *row)
{
    wake(row, false);
}

void generation_wake(struct generation *row)
{
    wake(row, true);
}

bool woken_rows_are_none(const struct woken_rows *rows)
{
    return atomic_load(&rows->top) == NULL;
}

struct generation *woken_rows_take(struct woken_rows *rows)
{
    return woken_rows_are_none(rows) ? NULL : atomic_exchange(&rows->top, NULL);
}

struct generation *generation_wake_take(struct generation **chain)
{
    struct generation *row = *chain;
    *chain = row->woken_below;
    row->woken_below = NULL;
    atomic_fetch_and(&row->wake, ~(unsigned)IS_PUSHED);
    return row;
}
