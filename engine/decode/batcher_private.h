/* What a batcher is made of, for batcher.c and batcher_rows.c alone.
 *
 * The lock guards what other threads touch: the generations that came in, the wake-up, the counters. All functions run
 * on a compute thread, between two phases of the team. */
#ifndef ENGINE_DECODE_BATCHER_PRIVATE_H
#define ENGINE_DECODE_BATCHER_PRIVATE_H

#include <pthread.h>

#include "engine/decode/batcher.h"
#include "engine/decode/decode_batch.h"
#include "engine/decode/generation_wake.h"
#include "engine/decode/row_queue.h"

enum { BATCHER_REPORTS_MAX = 2 * BATCHER_ROWS_MAX };

struct batcher {
    struct batcher_options options;
    struct thread_team *team;

    pthread_mutex_t lock;
    pthread_cond_t wake; /* has_work became true */
    struct row_list incoming;
    bool is_woken;
    bool is_idle; /* waiting for `wake` */
    bool is_ending;
    struct batcher_counters counters;

    struct woken_rows woken_rows; /* any thread adds to them, without the lock */
    _Atomic size_t taken_places;  /* waiting and running; grows under the lock, falls as generations end */

    /* The compute threads' own. */
    struct row_queue queue;
    struct row_list unplaced; /* came in, but ROW_QUEUE_MODELS_MAX other models have rows */
    struct generation *woken; /* taken of woken_rows, not yet looked at */
    struct decode_batch *batch;
    struct row_model *model; /* whose step it is; NULL between steps */
    uint64_t step_began_ns;
    uint64_t scanned_ms;          /* when deadlines were last looked at */
    uint64_t next_deadline_ms;    /* the earliest among stalled and unplaced rows, UINT64_MAX for none */
    struct batcher_counters done; /* since the counters were last published; `running` and `waiting` as they stand */
    size_t report_count;
    struct generation *reports[BATCHER_REPORTS_MAX]; /* each with a reference for on_progress */
};

/* Where a row stands now that nobody steps it. The model is NULL where it has no place; then only GENERATION_ROW_ENDED
 * is worth anything. */
enum generation_row_state batcher_settle(const struct row_model *model, struct generation *row, uint64_t now_ms);

/* Puts a settled row that is in no list where it belongs. An ended one is reported with the batcher's own reference. */
void batcher_place(struct batcher *batcher, struct row_model *model, struct generation *row,
                   enum generation_row_state state, uint64_t now_ms);

/* Looks at those that were woken: by their reader, by who cancelled them, by the end of a search. What there is no room
 * to report of stays in `woken`. */
void batcher_look_at_woken(struct batcher *batcher, uint64_t now_ms);

/* Ends rows that nobody steps when a deadline is over. */
void batcher_scan_deadlines(struct batcher *batcher, uint64_t now_ms);

/* Lets rows join their models, in the order they came. What was cancelled meanwhile ends instead. */
void batcher_place_incoming(struct batcher *batcher, uint64_t now_ms);

/* Publishes the counters, then tells the caller what happened. */
void batcher_hand_over_reports(struct batcher *batcher, uint64_t now_ms);

/* Ends all rows, and reports them. */
void batcher_end_rows(struct batcher *batcher, uint64_t now_ms);

#endif
