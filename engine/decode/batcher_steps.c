/* The steps of a batcher: what the next one takes, and who does it. Thread: the compute thread that asks. Owns nothing.
 *
 * A step of few rows is shared: each thread does its part of the weights, which is then all it reads of them, and all
 * wait for each other at each layer. Where there are rows enough, each thread steps rows of its own instead, with all
 * the weights, and waits for nobody: one that loses its CPU for a moment holds up its own rows alone. */
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/decode/batcher_private.h"

struct batcher_step *batcher_find_step(struct batcher *batcher, const struct decode_batch *batch)
{
    for (size_t i = 0; i < batcher->thread_count; i++) {
        if (batcher->steps[i].batch == batch) {
            return &batcher->steps[i];
        }
    }
    return NULL;
}

/* Steps under way: of threads that step rows of their own, or shared ones, of which there is one at most. */
static size_t count_steps(const struct batcher *batcher, bool is_apart)
{
    size_t count = 0;
    for (size_t i = 0; i < batcher->thread_count; i++) {
        count += batcher->steps[i].model != NULL && batcher->steps[i].is_apart == is_apart;
    }
    return count;
}

static bool is_sharing(const struct batcher *batcher)
{
    return count_steps(batcher, false) > 0;
}

bool batcher_is_at_work(const struct batcher *batcher)
{
    if (is_sharing(batcher) || count_steps(batcher, true) > 0) {
        return true;
    }
    for (size_t i = 0; i <= batcher->thread_count; i++) {
        if (batcher->news[i].is_being_told) {
            return true;
        }
    }
    return false;
}

/* How many rows of the model the next step takes at most, and whether a thread does it alone. */
static size_t choose_rows_max(const struct batcher *batcher, const struct row_model *model, bool *ret_is_apart)
{
    size_t threads = batcher->thread_count;
    size_t rows_max = decode_batch_rows_max(model->plan);
    size_t apart_min = decode_batch_rows_apart(model->plan);
    size_t each = (model->ready_count + model->stepping_count + threads - 1) / threads; /* the last may have fewer */
    *ret_is_apart = threads > 1 && each >= apart_min;
    if (!*ret_is_apart) {
        return rows_max;
    }
    size_t apart_max = rows_max / threads > apart_min ? rows_max / threads : apart_min; /* nobody waits longer */
    return each < apart_max ? each : apart_max;
}

bool batcher_has_more(const struct batcher *batcher)
{
    return !is_sharing(batcher) && row_queue_has_ready(&batcher->queue);
}

static void fill_step(struct batcher *batcher, struct batcher_step *step, struct row_model *model)
{
    struct generation *rows[BATCHER_ROWS_MAX];
    size_t rows_max = choose_rows_max(batcher, model, &step->is_apart);
    size_t count = row_model_take(model, rows, rows_max);
    step->thread_count = step->is_apart ? 1 : batcher->thread_count - count_steps(batcher, true);
    decode_batch_begin(step->batch, model->plan);
    for (size_t i = 0; i < count; i++) {
        decode_batch_add(step->batch, rows[i]);
        batcher->done.symbols_prompt += rows[i]->prompt_read < rows[i]->prompt_count;
    }
    model->stepping_count += count;
    step->model = model;
    step->began_ns = clock_now_ns();
    batcher->done.steps++;
    batcher->done.rows += count;
}

bool batcher_begin_step(struct batcher *batcher, struct thread_team_phase *ret_phase)
{
    struct row_model *model = is_sharing(batcher) ? NULL : row_queue_next_model(&batcher->queue);
    if (model == NULL) {
        return false;
    }
    struct batcher_step *step = batcher->steps;
    while (step->model != NULL) {
        step++;
        CHECK(step < batcher->steps + batcher->thread_count);
    }
    fill_step(batcher, step, model);
    if (step->is_apart) {
        *ret_phase = decode_batch_whole_phase(step->batch);
        ret_phase->has_more = batcher_has_more(batcher);
        return true;
    }
    return decode_batch_next_phase(step->batch, ret_phase);
}

void batcher_end_step(struct batcher *batcher, struct batcher_step *step, uint64_t now_ns)
{
    uint64_t now_ms = now_ns / NS_A_MS;
    struct row_model *model = step->model;
    size_t count;
    struct generation *const *rows = decode_batch_rows(step->batch, &count);
    for (size_t i = 0; i < count; i++) {
        batcher->done.symbols_made += !rows[i]->is_made_fed;
        batcher_place(batcher, model, rows[i], batcher_settle(model, rows[i], now_ms), now_ms);
    }
    row_model_charge(model, (now_ns - step->began_ns) * step->thread_count / batcher->thread_count);
    model->stepping_count -= count;
    row_queue_release_model(model);
    step->model = NULL;
    batcher->gathered->is_of_step = true;
}
