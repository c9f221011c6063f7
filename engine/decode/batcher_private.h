/* What a batcher is made of, for batcher.c, batcher_steps.c and batcher_rows.c alone.
 *
 * The lock guards what other threads touch: the generations that came in, the wake-up, the counters. All functions but
 * batcher_tell run on the compute thread that asks its team what to do, so on one at a time. */
#ifndef ENGINE_DECODE_BATCHER_PRIVATE_H
#define ENGINE_DECODE_BATCHER_PRIVATE_H

#include <pthread.h>

#include "engine/decode/batcher.h"
#include "engine/decode/decode_batch.h"
#include "engine/decode/generation_wake.h"
#include "engine/decode/row_queue.h"

enum { BATCHER_REPORTS_MAX = 2 * BATCHER_ROWS_MAX, NS_A_MS = 1000000 };

/* A step: of all threads together, or of one of them, while others do their own of other rows. */
struct batcher_step {
    struct decode_batch *batch; /* owned */
    struct row_model *model;    /* whose rows; NULL: it is not under way */
    uint64_t began_ns;
    bool is_apart;
    size_t thread_count; /* as it begins, all but those that step rows of their own */
};

/* What the caller is to be told. */
struct batcher_news {
    struct batcher *batcher;
    bool is_being_told; /* by a thread, without holding up the others; */
    uint64_t began_ns;  /* since then */
    bool is_of_step;
    size_t count;
    struct generation *rows[BATCHER_REPORTS_MAX]; /* each with a reference for on_progress */
};

struct batcher {
    struct batcher_options options;
    struct thread_team *team;
    size_t thread_count;

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
    struct batcher_step
        *steps; /* [thread_count]: where one is begun, those under way are apart, each of another thread */
    struct batcher_news *news;     /* [thread_count + 1] */
    struct batcher_news *gathered; /* of those, the one that reports are gathered in */
    uint64_t scanned_ms;           /* when deadlines were last looked at */
    uint64_t next_deadline_ms;     /* the earliest among stalled and unplaced rows, UINT64_MAX for none */
    struct batcher_counters done;  /* since the counters were last published; `running` and `waiting` as they stand */
};

/* The step of that batch. */
struct batcher_step *batcher_find_step(struct batcher *batcher, const struct decode_batch *batch);

/* Whether a thread steps rows or tells the caller something; it asks when it is done. */
bool batcher_is_at_work(const struct batcher *batcher);

/* Begins a step, and says what the thread does of it. False: no row is ready, or it had better help with the step that
 * is shared. */
bool batcher_begin_step(struct batcher *batcher, struct thread_team_phase *ret_phase);

/* Whether another thread could begin a step meanwhile. */
bool batcher_has_more(const struct batcher *batcher);

/* Its rows go where they belong now; what there is to be told of them is gathered. */
void batcher_end_step(struct batcher *batcher, struct batcher_step *step, uint64_t now_ns);

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

/* Makes what was counted visible to others. */
void batcher_publish_counters(struct batcher *batcher, uint64_t now_ms);

/* Tells the caller; nothing is left in `news`. Any compute thread, several at once. */
void batcher_tell(struct batcher_news *news);

/* Ends all rows, and reports them. */
void batcher_end_rows(struct batcher *batcher, uint64_t now_ms);

#endif
