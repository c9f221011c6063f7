/* Where a batcher's rows stand between steps: what nobody steps now, who hears of what happened. Thread: the
 * compute thread that asks its team what to do, so one at a time; batcher_tell any. Owns nothing. */
#include "engine/decode/batcher_private.h"

#include "engine/base/check.h"
#include "engine/decode/generation_beam.h"

/* ---- What happened, for the caller */

static void report(struct batcher *batcher, struct generation *row)
{
    CHECK(batcher->gathered->count < BATCHER_REPORTS_MAX);
    batcher->gathered->rows[batcher->gathered->count++] = row;
}

/* When all compute threads had turned: the beginning of the oldest thing that one of them is at, or now. */
static uint64_t find_heartbeat_ms(const struct batcher *batcher, uint64_t now_ms)
{
    uint64_t oldest_ns = now_ms * NS_A_MS;
    for (size_t i = 0; i < batcher->thread_count; i++) {
        const struct batcher_step *step = &batcher->steps[i];
        oldest_ns = step->model != NULL && step->began_ns < oldest_ns ? step->began_ns : oldest_ns;
    }
    for (size_t i = 0; i <= batcher->thread_count; i++) {
        const struct batcher_news *news = &batcher->news[i];
        oldest_ns = news->is_being_told && news->began_ns < oldest_ns ? news->began_ns : oldest_ns;
    }
    return oldest_ns / NS_A_MS;
}

void batcher_publish_counters(struct batcher *batcher, uint64_t now_ms)
{
    CHECK(pthread_mutex_lock(&batcher->lock) == 0);
    struct batcher_counters *counters = &batcher->counters;
    counters->steps += batcher->done.steps;
    counters->rows += batcher->done.rows;
    counters->symbols_prompt += batcher->done.symbols_prompt;
    counters->symbols_made += batcher->done.symbols_made;
    counters->stalled_looks += batcher->done.stalled_looks;
    counters->heartbeat_ms = find_heartbeat_ms(batcher, now_ms);
    counters->running = batcher->done.running;
    CHECK(pthread_mutex_unlock(&batcher->lock) == 0);
    batcher->done = (struct batcher_counters){.running = batcher->done.running};
}

void batcher_tell(struct batcher_news *news)
{
    const struct batcher_options *options = &news->batcher->options;
    size_t count = news->count;
    if (news->is_of_step && options->on_step != NULL) {
        options->on_step(options->context);
    }
    news->is_of_step = false;
    news->count = 0;
    if (count > 0 && options->on_progress != NULL) {
        options->on_progress(options->context, news->rows, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        generation_unref(news->rows[i]);
    }
}

/* ---- Where rows stand */

static void note_deadline(struct batcher *batcher, const struct generation *row)
{
    if (row->deadline_ms != 0 && row->deadline_ms < batcher->next_deadline_ms) {
        batcher->next_deadline_ms = row->deadline_ms;
    }
}

/* What waits for a search learns that it is over. */
static void wake_waiting(const struct row_model *model, const struct beam *beam)
{
    for (struct generation *row = model->waiting.first; row != NULL; row = row->next) {
        if (row->beam == beam) {
            generation_wake(row);
        }
    }
}

enum generation_row_state batcher_settle(const struct row_model *model, struct generation *row, uint64_t now_ms)
{
    bool is_searching = generation_beam_is_searching(row);
    enum generation_row_state state = generation_row_settle(row, now_ms);
    if (is_searching && model != NULL && beam_course(row->beam) != BEAM_SEARCHES) {
        wake_waiting(model, row->beam);
    }
    return state;
}

void batcher_place(struct batcher *batcher, struct row_model *model, struct generation *row,
                   enum generation_row_state state, uint64_t now_ms)
{
    if (state == GENERATION_ROW_STALLED) {
        generation_wake_sleep(row);
        state = batcher_settle(model, row, now_ms); /* it may have been read meanwhile */
        if (state != GENERATION_ROW_STALLED) {
            generation_wake_rise(row);
        }
    }
    bool has_news = generation_row_has_news(row);
    switch (state) {
    case GENERATION_ROW_READY: row_model_add_ready(model, row); break;
    case GENERATION_ROW_STALLED:
        row_model_add_stalled(model, row);
        note_deadline(batcher, row);
        break;
    case GENERATION_ROW_ENDED:
        generation_wake_leave(row);
        batcher->done.running--;
        report(batcher, row);
        return;
    }
    if (has_news) {
        report(batcher, generation_ref(row));
    }
}

/* Settles a row again that nobody steps. Where nothing has changed it keeps its place. */
static void look_at(struct batcher *batcher, struct row_model *model, struct generation *row, uint64_t now_ms)
{
    bool is_ready = row->place == GENERATION_ROW_IS_READY;
    enum generation_row_state state = batcher_settle(model, row, now_ms);
    batcher->done.stalled_looks += !is_ready;
    if (is_ready && state == GENERATION_ROW_READY) {
        row_model_note_deadline(model, row);
    } else if (!is_ready && state == GENERATION_ROW_STALLED) {
        note_deadline(batcher, row);
    } else {
        row_model_remove(model, row);
        generation_wake_rise(row);
        batcher_place(batcher, model, row, state, now_ms);
    }
}

void batcher_look_at_woken(struct batcher *batcher, uint64_t now_ms)
{
    if (batcher->woken == NULL) {
        batcher->woken = woken_rows_take(&batcher->woken_rows);
    }
    while (batcher->woken != NULL && batcher->gathered->count < BATCHER_REPORTS_MAX) {
        struct generation *row = generation_wake_take(&batcher->woken);
        if (row->place != GENERATION_ROW_ON_ITS_WAY) { /* else it is looked at when it comes in, or has ended */
            struct row_model *model = row_queue_find_model(&batcher->queue, row->plan);
            CHECK(model != NULL);
            look_at(batcher, model, row, now_ms);
            row_queue_release_model(model);
        }
        generation_unref(row);
    }
}

/* ---- Deadlines */

static void scan_list(struct batcher *batcher, struct row_model *model, struct row_list *list, uint64_t now_ms)
{
    struct generation *next;
    for (struct generation *row = list->first; row != NULL && batcher->gathered->count < BATCHER_REPORTS_MAX;
         row = next) {
        next = row->next;
        look_at(batcher, model, row, now_ms);
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
    if (batcher->gathered->count == BATCHER_REPORTS_MAX) {
        model->ready_deadline_ms = 0; /* some may not have been looked at */
    }
}

void batcher_scan_deadlines(struct batcher *batcher, uint64_t now_ms)
{
    bool is_stalled_late = now_ms > batcher->next_deadline_ms;
    batcher->scanned_ms = now_ms;
    batcher->next_deadline_ms = is_stalled_late ? UINT64_MAX : batcher->next_deadline_ms;
    for (size_t i = 0; i < batcher->queue.model_count; i++) {
        struct row_model *model = &batcher->queue.models[i];
        if (model->plan == NULL) {
            continue;
        }
        if (is_stalled_late) {
            scan_list(batcher, model, &model->stalled, now_ms);
            scan_list(batcher, model, &model->waiting, now_ms);
        }
        scan_ready(batcher, model, now_ms);
        row_queue_release_model(model);
    }
    if (is_stalled_late && batcher->gathered->count == BATCHER_REPORTS_MAX) {
        batcher->next_deadline_ms = 0; /* some may not have been looked at */
    }
}

/* ---- Coming in and ending */

void batcher_place_incoming(struct batcher *batcher, uint64_t now_ms)
{
    struct generation *next;
    for (struct generation *row = batcher->unplaced.first;
         row != NULL && batcher->gathered->count < BATCHER_REPORTS_MAX; row = next) {
        next = row->next;
        struct row_model *model = row_queue_find_model(&batcher->queue, row->plan);
        enum generation_row_state state = batcher_settle(model, row, now_ms);
        if (model != NULL || state == GENERATION_ROW_ENDED) {
            row_list_remove(&batcher->unplaced, row);
            batcher->done.running++;
            batcher_place(batcher, model, row, state, now_ms);
        } else {
            note_deadline(batcher, row);
        }
        if (model != NULL) {
            row_queue_release_model(model);
        }
    }
}

static void end_list(struct batcher *batcher, struct row_list *list)
{
    struct generation *row;
    while ((row = row_list_take_first(list)) != NULL) {
        generation_row_end(row, row->ending != FINISH_NONE ? row->ending : FINISH_CANCELLED);
        generation_wake_leave(row);
        report(batcher, row);
        if (batcher->gathered->count == BATCHER_REPORTS_MAX) {
            batcher_tell(batcher->gathered);
        }
    }
}

/* After all have ended. */
static void forget_woken(struct batcher *batcher)
{
    do {
        while (batcher->woken != NULL) {
            generation_unref(generation_wake_take(&batcher->woken));
        }
        batcher->woken = woken_rows_take(&batcher->woken_rows);
    } while (batcher->woken != NULL);
}

void batcher_end_rows(struct batcher *batcher, uint64_t now_ms)
{
    end_list(batcher, &batcher->unplaced);
    for (size_t i = 0; i < batcher->queue.model_count; i++) {
        struct row_model *model = &batcher->queue.models[i];
        end_list(batcher, &model->stalled);
        end_list(batcher, &model->waiting);
        for (size_t priority = 0; priority < ROW_PRIORITY_COUNT; priority++) {
            for (size_t flow = 0; flow < GENERATION_FLOW_COUNT; flow++) {
                end_list(batcher, &model->ready[priority].flows[flow]);
            }
        }
    }
    batcher->done.running = 0;
    batcher_publish_counters(batcher, now_ms);
    batcher_tell(batcher->gathered);
    forget_woken(batcher);
}
