/* Many generations at once. Threads: submit, wake and the counters from any; everything else on the compute threads,
 * between two phases of the team, so by one thread at a time. Owns the team, one batch, and a reference of each row.
 *
 * Rows that nobody steps are looked at only where somebody woke them (generation_wake.h), all of them only when a
 * deadline is over: there may be ten thousand, and each is looked at after its steps. */
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/cpu.h"
#include "engine/base/mem.h"
#include "engine/decode/batcher_private.h"

static_assert((int)BATCHER_ROWS_MAX == (int)DECODE_BATCH_ROWS_MAX, "a step has room for all its rows");
static_assert((int)BATCHER_THREADS_MAX == (int)THREAD_TEAM_THREADS_MAX, "the team has room for all threads");

enum { NS_A_MS = 1000000 };

/* ---- Coming in */

/* Takes what was submitted. Returns whether the batcher ends. */
static bool take_incoming(struct batcher *batcher)
{
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    bool is_ending = batcher->is_ending;
    batcher->is_woken = false;
    struct generation *row;
    while ((row = row_list_take_first(&batcher->incoming)) != NULL) {
        row_list_append(&batcher->unplaced, row);
    }
    CHECK(pthread_mutex_unlock(&batcher->lock) == 0);
    return is_ending;
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
    batcher->step_began_ns = clock_now_ns();
    batcher->done.steps++;
    batcher->done.rows += count;
    return true;
}

static void end_step(struct batcher *batcher, uint64_t now_ns)
{
    uint64_t now_ms = now_ns / NS_A_MS;
    size_t count;
    struct generation *const *rows = decode_batch_rows(batcher->batch, &count);
    for (size_t i = 0; i < count; i++) {
        batcher->done.symbols_made += !rows[i]->is_made_fed;
        batcher_place(batcher, batcher->model, rows[i], batcher_settle(batcher->model, rows[i], now_ms), now_ms);
    }
    row_model_charge(batcher->model, now_ns - batcher->step_began_ns);
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
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000), .tv_nsec = (long)(until_ms % 1000 * NS_A_MS)};
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    batcher->is_idle = true;
    int failure = 0;
    while (!has_work(batcher) && failure == 0) {
        failure = until_ms == UINT64_MAX ? pthread_cond_wait(&batcher->wake, &batcher->lock)
                                         : pthread_cond_timedwait(&batcher->wake, &batcher->lock, &until);
    }
    CHECK(failure == 0 || failure == ETIMEDOUT);
    batcher->is_idle = false;
    CHECK(pthread_mutex_unlock(&batcher->lock) == 0);
}

/* The team's next phase: of the current step, or of the next one; waits for work in between. */
static bool next_phase(void *context, struct thread_team_phase *ret_phase)
{
    struct batcher *batcher = context;
    if (batcher->model != NULL && decode_batch_next_phase(batcher->batch, ret_phase)) {
        return true;
    }
    for (;;) {
        uint64_t now_ns = clock_now_ns();
        uint64_t now_ms = now_ns / NS_A_MS;
        if (batcher->model != NULL) {
            end_step(batcher, now_ns);
            if (batcher->options.on_step != NULL) {
                batcher->options.on_step(batcher->options.context);
            }
        }
        if (take_incoming(batcher)) {
            batcher_end_rows(batcher, now_ms);
            return false;
        }
        batcher_look_at_woken(batcher, now_ms);
        if (now_ms != batcher->scanned_ms) {
            batcher_scan_deadlines(batcher, now_ms);
        }
        batcher_place_incoming(batcher, now_ms);
        bool is_all_seen = batcher->report_count < BATCHER_REPORTS_MAX;
        batcher_hand_over_reports(batcher, now_ms);
        if (batcher->woken != NULL) {
            continue; /* who was cancelled takes no place in a step */
        }
        if (begin_step(batcher)) {
            return decode_batch_next_phase(batcher->batch, ret_phase);
        }
        if (is_all_seen && woken_rows_are_none(&batcher->woken_rows)) {
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
    size_t taken = atomic_load(&batcher->taken_places);
    if (taken + count > queue_max) {
        error_set(error, STATUS_LIMIT, "%zu generations are waiting or running, %zu more are over the maximum, %zu",
                  taken, count, queue_max);
        return error_code(error, "queue_full");
    }
    return STATUS_OK;
}

enum status batcher_reserve(struct batcher *batcher, size_t count, struct error *error)
{
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    enum status status = check_room(batcher, count, error);
    atomic_fetch_add(&batcher->taken_places, status == STATUS_OK ? count : 0);
    CHECK(pthread_mutex_unlock(&batcher->lock) == 0);
    return status;
}

void batcher_submit_reserved(struct batcher *batcher, struct generation *generation)
{
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    CHECK(!batcher->is_ending);
    wake_if_idle(batcher);
    generation->taken_places = &batcher->taken_places;
    generation_wake_join(generation, &batcher->woken_rows);
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
    size_t taken = atomic_load(&locked->taken_places); /* falls before those that ended are no longer running */
    counters.waiting = taken > counters.running ? taken - counters.running : 0;
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
