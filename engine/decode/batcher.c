/* Many generations at once. Threads: submit, wake and the counters from any; everything else on the compute threads,
 * between two phases of the team, so by one thread at a time. Owns the team, one batch, and a reference of each row.
 *
 * The lock guards what other threads touch: the generations that came in, the wake-up, the counters. Rows that nobody
 * steps are looked at now and then: stalled ones when somebody woke the batcher and once a millisecond, those that wait
 * for their turn only when a deadline is over: there may be ten thousand, and each is looked at after its steps. */
#include "engine/decode/batcher.h"

#include <pthread.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/cpu.h"
#include "engine/base/mem.h"
#include "engine/decode/decode_batch.h"
#include "engine/decode/row_queue.h"

static_assert((int)BATCHER_ROWS_MAX == (int)DECODE_BATCH_ROWS_MAX, "a step has room for all its rows");
static_assert((int)BATCHER_THREADS_MAX == (int)THREAD_TEAM_THREADS_MAX, "the team has room for all threads");

enum { REPORTS_MAX = 2 * BATCHER_ROWS_MAX };

struct batcher {
    struct batcher_options options;
    struct thread_team *team;

    pthread_mutex_t lock;
    pthread_cond_t wake; /* has_work became true */
    struct row_list incoming;
    size_t generation_count; /* waiting and running */
    bool is_woken;
    bool is_idle; /* waiting for `wake` */
    bool is_ending;
    struct batcher_counters counters;

    /* The compute threads' own. */
    struct row_queue queue;
    struct row_list unplaced; /* came in, but ROW_QUEUE_MODELS_MAX other models have rows */
    struct decode_batch *batch;
    struct row_model *model;      /* whose step it is; NULL between steps */
    uint64_t scanned_ms;          /* when stalled rows were last looked at */
    uint64_t next_deadline_ms;    /* the earliest among them, UINT64_MAX for none */
    struct batcher_counters done; /* since the counters were last published; `running` and `waiting` as they stand */
    size_t ended_count;           /* likewise */
    size_t report_count;
    struct generation *reports[REPORTS_MAX]; /* each with a reference for on_progress */
};

/* ---- What happened, for the caller */

static void report(struct batcher *batcher, struct generation *row)
{
    CHECK(batcher->report_count < REPORTS_MAX);
    batcher->reports[batcher->report_count++] = row;
}

static void publish_counters(struct batcher *batcher, uint64_t now_ms)
{
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    struct batcher_counters *counters = &batcher->counters;
    counters->steps += batcher->done.steps;
    counters->rows += batcher->done.rows;
    counters->symbols_prompt += batcher->done.symbols_prompt;
    counters->symbols_made += batcher->done.symbols_made;
    counters->heartbeat_ms = now_ms;
    counters->running = batcher->done.running;
    batcher->generation_count -= batcher->ended_count;
    CHECK(pthread_mutex_unlock(&batcher->lock) == 0);
    batcher->done = (struct batcher_counters){.running = batcher->done.running};
    batcher->ended_count = 0;
}

/* The counters come first: who hears of an end finds its place free. */
static void hand_over_reports(struct batcher *batcher, uint64_t now_ms)
{
    publish_counters(batcher, now_ms);
    size_t count = batcher->report_count;
    batcher->report_count = 0;
    if (count > 0 && batcher->options.on_progress != NULL) {
        batcher->options.on_progress(batcher->options.context, batcher->reports, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        generation_unref(batcher->reports[i]);
    }
}

/* ---- Where rows stand */

static void note_deadline(struct batcher *batcher, const struct generation *row)
{
    if (row->deadline_ms != 0 && row->deadline_ms < batcher->next_deadline_ms) {
        batcher->next_deadline_ms = row->deadline_ms;
    }
}

/* Puts a settled row that is in no list where it belongs. An ended one is reported with the batcher's own reference. */
static void place(struct batcher *batcher, struct row_model *model, struct generation *row,
                  enum generation_row_state state)
{
    bool has_news = generation_row_has_news(row);
    switch (state) {
    case GENERATION_ROW_READY: row_model_add_ready(model, row); break;
    case GENERATION_ROW_STALLED:
        row_list_append(&model->stalled, row);
        note_deadline(batcher, row);
        break;
    case GENERATION_ROW_ENDED:
        batcher->done.running--;
        batcher->ended_count++;
        report(batcher, row);
        return;
    }
    if (has_news) {
        report(batcher, generation_ref(row));
    }
}

/* Settles again the rows of a list that nobody steps. What changed moves; the rest keeps its place. */
static void scan_list(struct batcher *batcher, struct row_model *model, struct row_list *list, uint64_t now_ms)
{
    bool is_stalled = list == &model->stalled;
    enum generation_row_state state_before = is_stalled ? GENERATION_ROW_STALLED : GENERATION_ROW_READY;
    struct generation *next;
    for (struct generation *row = list->first; row != NULL && batcher->report_count < REPORTS_MAX; row = next) {
        next = row->next;
        enum generation_row_state state = generation_row_settle(row, now_ms);
        if (state == state_before) {
            if (is_stalled) {
                note_deadline(batcher, row);
            } else {
                row_model_note_deadline(model, row);
            }
            continue;
        }
        if (is_stalled) {
            row_list_remove(list, row);
        } else {
            row_model_remove_ready(model, row);
        }
        place(batcher, model, row, state);
    }
}

/* Those that wait for their turn, when the first one's deadline is over. */
static void scan_ready(struct batcher *batcher, struct row_model *model, uint64_t now_ms)
{
    if (now_ms <= model->ready_deadline_ms) {
        return;
    }
    model->ready_deadline_ms = UINT64_MAX;
    for (size_t priority = 0; priority < ROW_PRIORITY_COUNT; priority++) {
        struct row_ready *ready = &model->ready[priority];
        for (uint64_t left = ready->waiting; left != 0; left &= left - 1) {
            scan_list(batcher, model, &ready->flows[__builtin_ctzll(left)], now_ms);
        }
    }
    if (batcher->report_count == REPORTS_MAX) {
        model->ready_deadline_ms = 0; /* some may not have been looked at */
    }
}

static void scan_rows(struct batcher *batcher, uint64_t now_ms)
{
    batcher->scanned_ms = now_ms;
    batcher->next_deadline_ms = UINT64_MAX;
    for (size_t i = 0; i < batcher->queue.model_count; i++) {
        struct row_model *model = &batcher->queue.models[i];
        if (model->plan == NULL) {
            continue;
        }
        scan_list(batcher, model, &model->stalled, now_ms);
        scan_ready(batcher, model, now_ms);
        row_queue_release_model(model);
    }
}

/* ---- Coming in */

/* Takes what was submitted. Returns whether somebody woke the batcher. */
static bool take_incoming(struct batcher *batcher, bool *ret_is_ending)
{
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    bool is_woken = batcher->is_woken;
    *ret_is_ending = batcher->is_ending;
    batcher->is_woken = false;
    struct generation *row;
    while ((row = row_list_take_first(&batcher->incoming)) != NULL) {
        row_list_append(&batcher->unplaced, row);
    }
    CHECK(pthread_mutex_unlock(&batcher->lock) == 0);
    return is_woken;
}

/* Lets rows join their models, in the order they came. What was cancelled meanwhile ends instead. */
static void place_incoming(struct batcher *batcher, uint64_t now_ms)
{
    struct generation *next;
    for (struct generation *row = batcher->unplaced.first; row != NULL && batcher->report_count < REPORTS_MAX;
         row = next) {
        next = row->next;
        struct row_model *model = row_queue_find_model(&batcher->queue, row->plan);
        enum generation_row_state state = generation_row_settle(row, now_ms);
        if (model != NULL || state == GENERATION_ROW_ENDED) {
            row_list_remove(&batcher->unplaced, row);
            batcher->done.running++;
            place(batcher, model, row, state);
        } else {
            note_deadline(batcher, row);
        }
        if (model != NULL) {
            row_queue_release_model(model);
        }
    }
}

/* ---- Steps */

static bool begin_step(struct batcher *batcher)
{
    struct row_model *model = row_queue_next_model(&batcher->queue);
    if (model == NULL) {
        return false;
    }
    struct generation *rows[BATCHER_ROWS_MAX];
    size_t count = row_model_take(model, rows, decode_batch_rows_max(model->plan));
    decode_batch_begin(batcher->batch, model->plan);
    for (size_t i = 0; i < count; i++) {
        decode_batch_add(batcher->batch, rows[i]);
        batcher->done.symbols_prompt += rows[i]->prompt_read < rows[i]->prompt_count;
    }
    model->stepping_count = count;
    batcher->model = model;
    batcher->done.steps++;
    batcher->done.rows += count;
    return true;
}

static void end_step(struct batcher *batcher, uint64_t now_ms)
{
    size_t count;
    struct generation *const *rows = decode_batch_rows(batcher->batch, &count);
    for (size_t i = 0; i < count; i++) {
        batcher->done.symbols_made += !rows[i]->is_made_fed;
        place(batcher, batcher->model, rows[i], generation_row_settle(rows[i], now_ms));
    }
    batcher->model->stepping_count = 0;
    row_queue_release_model(batcher->model);
    batcher->model = NULL;
}

/* Whether there is a reason to turn although no row is ready. Called with the lock. */
static bool has_work(const struct batcher *batcher)
{
    return batcher->is_woken || batcher->is_ending || batcher->incoming.first != NULL;
}

/* Sleeps until somebody wakes the batcher or a waiting row's deadline is over. */
static void wait_for_work(struct batcher *batcher)
{
    uint64_t until_ms = batcher->next_deadline_ms == UINT64_MAX ? UINT64_MAX : batcher->next_deadline_ms + 1;
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000), .tv_nsec = (long)(until_ms % 1000 * 1000000)};
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    batcher->is_idle = true;
    int failure = 0;
    while (!has_work(batcher) && failure == 0) {
        failure = until_ms == UINT64_MAX ? pthread_cond_wait(&batcher->wake, &batcher->lock)
                                         : pthread_cond_timedwait(&batcher->wake, &batcher->lock, &until);
    }
    CHECK(failure == 0 || failure == ETIMEDOUT);
    batcher->is_idle = false;
    batcher->is_woken |= failure == ETIMEDOUT;
    CHECK(pthread_mutex_unlock(&batcher->lock) == 0);
}

static void end_list(struct batcher *batcher, struct row_list *list, uint64_t now_ms)
{
    struct generation *row;
    while ((row = row_list_take_first(list)) != NULL) {
        generation_row_end(row, row->ending != FINISH_NONE ? row->ending : FINISH_CANCELLED);
        batcher->ended_count++;
        report(batcher, row);
        if (batcher->report_count == REPORTS_MAX) {
            hand_over_reports(batcher, now_ms);
        }
    }
}

static void end_all(struct batcher *batcher, uint64_t now_ms)
{
    end_list(batcher, &batcher->unplaced, now_ms);
    for (size_t i = 0; i < batcher->queue.model_count; i++) {
        struct row_model *model = &batcher->queue.models[i];
        end_list(batcher, &model->stalled, now_ms);
        for (size_t priority = 0; priority < ROW_PRIORITY_COUNT; priority++) {
            for (size_t flow = 0; flow < GENERATION_FLOW_COUNT; flow++) {
                end_list(batcher, &model->ready[priority].flows[flow], now_ms);
            }
        }
    }
    batcher->done.running = 0;
    hand_over_reports(batcher, now_ms);
}

/* The team's next phase: of the current step, or of the next one; waits for work in between. */
static bool next_phase(void *context, struct thread_team_phase *ret_phase)
{
    struct batcher *batcher = context;
    if (batcher->model != NULL && decode_batch_next_phase(batcher->batch, ret_phase)) {
        return true;
    }
    for (;;) {
        uint64_t now_ms = clock_now_ms();
        if (batcher->model != NULL) {
            end_step(batcher, now_ms);
        }
        bool is_ending;
        bool is_woken = take_incoming(batcher, &is_ending);
        if (is_ending) {
            end_all(batcher, now_ms);
            return false;
        }
        if (is_woken || now_ms != batcher->scanned_ms) {
            scan_rows(batcher, now_ms);
        }
        place_incoming(batcher, now_ms);
        bool is_all_seen = batcher->report_count < REPORTS_MAX;
        hand_over_reports(batcher, now_ms);
        if (begin_step(batcher)) {
            return decode_batch_next_phase(batcher->batch, ret_phase);
        }
        if (is_all_seen) {
            wait_for_work(batcher);
        }
    }
}

/* ---- The border */

/* Called with the lock, before has_work becomes true. */
static void wake_if_idle(struct batcher *batcher)
{
    if (batcher->is_idle && !has_work(batcher)) {
        batcher->counters.heartbeat_ms = clock_now_ms(); /* from now on it must turn */
        CHECK(pthread_cond_signal(&batcher->wake) == 0);
    }
}

static void init_lock(struct batcher *batcher)
{
    pthread_condattr_t attributes;
    CHECK(pthread_condattr_init(&attributes) == 0);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_mutex_init(&batcher->lock, NULL) == 0);
    CHECK(pthread_cond_init(&batcher->wake, &attributes) == 0);
    CHECK(pthread_condattr_destroy(&attributes) == 0);
}

static void release(struct batcher *batcher)
{
    decode_batch_destroy(batcher->batch);
    CHECK(pthread_cond_destroy(&batcher->wake) == 0);
    CHECK(pthread_mutex_destroy(&batcher->lock) == 0);
    mem_free(batcher);
}

enum status batcher_create(const struct batcher_options *options, struct batcher **ret_batcher, struct error *error)
{
    if (options->queue_max == 0) {
        return error_set(error, STATUS_INVALID, "a batcher for 0 generations");
    }
    if (options->threads > BATCHER_THREADS_MAX) {
        return error_set(error, STATUS_INVALID, "%zu compute threads, at most %d", options->threads,
                         BATCHER_THREADS_MAX);
    }
    struct batcher *batcher = mem_allocate(1, sizeof *batcher);
    if (batcher == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a batcher");
    }
    batcher->options = *options;
    batcher->next_deadline_ms = UINT64_MAX;
    batcher->counters.heartbeat_ms = clock_now_ms();
    init_lock(batcher);
    size_t threads = options->threads > 0 ? options->threads : cpu_usable_count();
    threads = threads < BATCHER_THREADS_MAX ? threads : BATCHER_THREADS_MAX;
    enum status status = decode_batch_create(&batcher->batch, error);
    if (status == STATUS_OK) {
        status = thread_team_create(threads, "compute", next_phase, batcher, &batcher->team, error);
    }
    if (status != STATUS_OK) {
        release(batcher);
        return status;
    }
    *ret_batcher = batcher;
    return STATUS_OK;
}

void batcher_destroy(struct batcher *batcher)
{
    if (batcher == NULL) {
        return;
    }
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    wake_if_idle(batcher);
    batcher->is_ending = true;
    CHECK(pthread_mutex_unlock(&batcher->lock) == 0);
    thread_team_destroy(batcher->team);
    release(batcher);
}

/* Under the lock. */
static enum status check_room(const struct batcher *batcher, size_t count, struct error *error)
{
    size_t queue_max = batcher->options.queue_max;
    if (count > queue_max) {
        error_set(error, STATUS_TOO_LARGE, "%zu texts at a time, at most %zu", count, queue_max);
        return error_code(error, "too_many_texts");
    }
    if (batcher->generation_count + count > queue_max) {
        error_set(error, STATUS_LIMIT, "%zu generations are waiting or running, %zu more are over the maximum, %zu",
                  batcher->generation_count, count, queue_max);
        return error_code(error, "queue_full");
    }
    return STATUS_OK;
}

enum status batcher_reserve(struct batcher *batcher, size_t count, struct error *error)
{
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    enum status status = check_room(batcher, count, error);
    batcher->generation_count += status == STATUS_OK ? count : 0;
    CHECK(pthread_mutex_unlock(&batcher->lock) == 0);
    return status;
}

void batcher_submit_reserved(struct batcher *batcher, struct generation *generation)
{
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    CHECK(!batcher->is_ending);
    wake_if_idle(batcher);
    row_list_append(&batcher->incoming, generation_ref(generation));
    CHECK(pthread_mutex_unlock(&batcher->lock) == 0);
}

enum status batcher_submit(struct batcher *batcher, struct generation *generation, struct error *error)
{
    TRY(batcher_reserve(batcher, 1, error));
    batcher_submit_reserved(batcher, generation);
    return STATUS_OK;
}

void batcher_wake(struct batcher *batcher)
{
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    wake_if_idle(batcher);
    batcher->is_woken = true;
    CHECK(pthread_mutex_unlock(&batcher->lock) == 0);
}

/* The lock is no part of what callers see as const. */
static struct batcher *lock_const(const struct batcher *batcher)
{
    struct batcher *writable;
    memcpy(&writable, &batcher, sizeof writable);
    CHECK(pthread_mutex_lock(&writable->lock) == 0);
    return writable;
}

enum status batcher_check_room(const struct batcher *batcher, size_t count, struct error *error)
{
    struct batcher *locked = lock_const(batcher);
    enum status status = check_room(locked, count, error);
    CHECK(pthread_mutex_unlock(&locked->lock) == 0);
    return status;
}

struct batcher_counters batcher_counters(const struct batcher *batcher)
{
    struct batcher *locked = lock_const(batcher);
    struct batcher_counters counters = locked->counters;
    counters.waiting = locked->generation_count - counters.running;
    if (locked->is_idle && !has_work(locked)) {
        counters.heartbeat_ms = clock_now_ms();
    }
    CHECK(pthread_mutex_unlock(&locked->lock) == 0);
    return counters;
}

bool batcher_is_alive(const struct batcher *batcher, uint64_t stall_ms)
{
    uint64_t heartbeat_ms = batcher_counters(batcher).heartbeat_ms;
    return clock_now_ms() - heartbeat_ms <= stall_ms;
}
