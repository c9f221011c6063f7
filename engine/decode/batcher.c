/* Many generations at once. Threads: submit, wake and the counters from any; the caller is told on any compute thread;
 * everything else on the one that asks its team what to do, so on one at a time. Owns the team, a batch for each
 * thread, and a reference of each row.
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

/* ---- News */

static void run_tell(void *context, size_t item)
{
    (void)item;
    batcher_tell(context);
}

/* Tells the caller what was gathered: at once, or, where others are at work, by a phase of this thread, since telling
 * may take the thread's CPU away. True: that is the phase. */
static bool hand_over_news(struct batcher *batcher, uint64_t now_ns, struct thread_team_phase *ret_phase)
{
    struct batcher_news *news = batcher->gathered;
    bool is_wanted = news->count > 0 || (news->is_of_step && batcher->options.on_step != NULL);
    if (!is_wanted || !batcher_is_at_work(batcher)) {
        batcher_tell(news);
        return false;
    }
    news->is_being_told = true;
    news->began_ns = now_ns;
    batcher->gathered = batcher->news;
    while (batcher->gathered->is_being_told) {
        batcher->gathered++;
        CHECK(batcher->gathered <= batcher->news + batcher->thread_count);
    }
    *ret_phase = (struct thread_team_phase){
        .run = run_tell, .context = news, .item_count = 1, .is_alone = true, .has_more = batcher_has_more(batcher)};
    return true;
}

/* What the thread has ended: news that it told, a phase of a step, or nothing. Returns the step where it goes on. */
static struct batcher_step *take_ended(struct batcher *batcher, const struct thread_team_phase *ended)
{
    if (ended == NULL) {
        return NULL;
    }
    if (ended->run == run_tell) {
        struct batcher_news *news = ended->context;
        news->is_being_told = false;
        return NULL;
    }
    return batcher_find_step(batcher, ended->context);
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

/* Everything but steps: who comes, who goes, who waits no longer. Returns whether the batcher ends. */
static bool turn(struct batcher *batcher, uint64_t now_ms)
{
    bool is_ending = take_incoming(batcher);
    if (!is_ending) {
        batcher_look_at_woken(batcher, now_ms);
        if (now_ms != batcher->scanned_ms) {
            batcher_scan_deadlines(batcher, now_ms);
        }
        batcher_place_incoming(batcher, now_ms);
    }
    batcher_publish_counters(batcher, now_ms);
    return is_ending;
}

/* thread_team_next: the next phase of the step that the thread was at, or what it does then; waits for work where
 * nobody is at work. */
static enum thread_team_answer next_phase(void *context, const struct thread_team_phase *ended,
                                          struct thread_team_phase *ret_phase)
{
    struct batcher *batcher = context;
    struct batcher_step *step = take_ended(batcher, ended);
    if (step != NULL && decode_batch_next_phase(step->batch, ret_phase)) {
        return THREAD_TEAM_PHASE;
    }
    for (;;) {
        uint64_t now_ns = clock_now_ns();
        if (step != NULL) {
            batcher_end_step(batcher, step, now_ns);
            step = NULL;
        }
        bool is_ending = turn(batcher, now_ns / NS_A_MS);
        bool is_all_seen = batcher->gathered->count < BATCHER_REPORTS_MAX;
        if (hand_over_news(batcher, now_ns, ret_phase)) {
            return THREAD_TEAM_PHASE;
        }
        if (batcher->woken != NULL && !is_ending) {
            continue; /* who was cancelled takes no place in a step */
        }
        if (!is_ending && batcher_begin_step(batcher, ret_phase)) {
            return THREAD_TEAM_PHASE;
        }
        if (batcher_is_at_work(batcher)) {
            return THREAD_TEAM_NOTHING;
        }
        if (is_ending) {
            batcher_end_rows(batcher, now_ns / NS_A_MS);
            return THREAD_TEAM_OVER;
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

/* What the threads work with. */
static enum status allocate(struct batcher *batcher, struct error *error)
{
    batcher->steps = mem_allocate(batcher->thread_count, sizeof *batcher->steps);
    batcher->news = mem_allocate(batcher->thread_count + 1, sizeof *batcher->news);
    if (batcher->steps == NULL || batcher->news == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a batcher of %zu threads", batcher->thread_count);
    }
    batcher->gathered = batcher->news;
    for (size_t i = 0; i <= batcher->thread_count; i++) {
        batcher->news[i].batcher = batcher;
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; i < batcher->thread_count && status == STATUS_OK; i++) {
        status = decode_batch_create(&batcher->steps[i].batch, error);
    }
    return status;
}

static void release(struct batcher *batcher)
{
    for (size_t i = 0; batcher->steps != NULL && i < batcher->thread_count; i++) {
        decode_batch_destroy(batcher->steps[i].batch);
    }
    mem_free(batcher->steps);
    mem_free(batcher->news);
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
    batcher->thread_count = threads < BATCHER_THREADS_MAX ? threads : BATCHER_THREADS_MAX;
    enum status status = allocate(batcher, error);
    if (status == STATUS_OK) {
        status = thread_team_create(batcher->thread_count, "compute", next_phase, batcher, &batcher->team, error);
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
