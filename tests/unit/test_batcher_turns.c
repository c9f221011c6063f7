/* Who has the batcher's steps, and who does not cost any: rows that stall or were cancelled, models of slow steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "tests/unit/batcher_rig.h"

/* A text of its own, alone among rows that stall: returns when those do no more than that. */
static void run_until_others_stall(struct hub *hub, const struct served *served)
{
    enum { QUICK_TOKENS = 500 }; /* fit the ring: it never stalls */
    struct batcher_counters before, after;
    do {
        before = batcher_counters(hub->batcher);
        must_submit(hub, served, (struct generation_options){.tokens_max = QUICK_TOKENS, .temperature = 1.0});
        hub_wait_ended(hub, hub->ended_count + 1);
        after = batcher_counters(hub->batcher);
    } while (after.rows - before.rows != after.steps - before.steps);
}

/* However many rows wait for slow readers, and whatever wakes the batcher: only those that were read are looked at. */
static void test_stalled_rows_are_left_alone(void **state)
{
    (void)state;
    enum { SLOW = 150 };
    struct served served;
    served_init(&served, decode_model_characters(30), 0, 1, 8, NULL);
    struct hub hub;
    hub_init(&hub, 2, ROWS_MAX);
    for (size_t n = 0; n < SLOW; n++) {
        must_submit(&hub, &served, (struct generation_options){.tokens_max = 9000, .temperature = 1.0, .seed = n})
            ->is_read = false;
    }
    run_until_others_stall(&hub, &served);
    uint64_t looks = batcher_counters(hub.batcher).stalled_looks;
    for (size_t n = 0; n < 5; n++) {
        run_until_others_stall(&hub, &served); /* each of its symbols wakes the batcher */
    }
    assert_int_equal(batcher_counters(hub.batcher).stalled_looks, looks);
    size_t token_count = generation_progress(hub.rows[3].generation).token_count;
    read_row(&hub.rows[3]);
    batcher_wake(hub.batcher);
    run_until_others_stall(&hub, &served);
    assert_int_equal(batcher_counters(hub.batcher).stalled_looks, looks + 1);
    assert_true(generation_progress(hub.rows[3].generation).token_count > token_count);
    size_t ended_count = hub.ended_count;
    for (size_t n = 0; n < SLOW; n++) {
        generation_cancel(hub.rows[n].generation);
        generation_cancel(hub.rows[n].generation); /* once is as good */
    }
    batcher_wake(hub.batcher);
    hub_wait_ended(&hub, ended_count + SLOW);
    assert_int_equal(batcher_counters(hub.batcher).stalled_looks, looks + 1 + SLOW);
    hub_release(&hub);
    served_release(&served);
}

/* ---- models whose steps the test holds up ---- */

enum { STEPPED_SYMBOLS = 7, STEPPED_STATE_BYTES = 64 };

/* Steps that wait until they are let through, or that take their time. */
struct steps {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t begun_count;
    size_t let_count; /* so many may end */
    uint64_t step_ms;
};

static void steps_begin(void *context, void *state)
{
    (void)context;
    memset(state, 0, STEPPED_STATE_BYTES);
}

static enum status steps_step(void *context, const struct stepper_step *step, struct error *error)
{
    (void)error;
    struct steps *steps = context;
    pthread_mutex_lock(&steps->lock);
    size_t number = steps->begun_count++;
    pthread_cond_broadcast(&steps->changed);
    while (number >= steps->let_count) {
        pthread_cond_wait(&steps->changed, &steps->lock);
    }
    pthread_mutex_unlock(&steps->lock);
    uint64_t until_ms = clock_now_ms() + steps->step_ms;
    while (steps->step_ms > 0 && clock_now_ms() < until_ms) {
    }
    memcpy(step->next_state, step->state, STEPPED_STATE_BYTES);
    for (size_t i = 0; step->logits != NULL && i < STEPPED_SYMBOLS; i++) {
        step->logits[i] = (float)i;
    }
    return STATUS_OK;
}

static void steps_destroy(void *context)
{
    (void)context;
}

static void steps_init(struct steps *steps, struct served *served)
{
    struct error error;
    struct stepper stepper = {.context = steps,
                              .name = "steps",
                              .symbol_count = STEPPED_SYMBOLS,
                              .state_bytes = STEPPED_STATE_BYTES,
                              .begin = steps_begin,
                              .step = steps_step,
                              .destroy = steps_destroy};
    *steps = (struct steps){.let_count = 0};
    pthread_mutex_init(&steps->lock, NULL);
    pthread_cond_init(&steps->changed, NULL);
    *served = (struct served){.model.vocabulary = decode_model_characters(STEPPED_SYMBOLS)};
    assert_int_equal(decode_plan_create_stepped(&stepper, &served->plan, &error), STATUS_OK);
}

/* So many steps may end from now on. */
static void steps_let(struct steps *steps, size_t count)
{
    pthread_mutex_lock(&steps->lock);
    steps->let_count = count;
    pthread_cond_broadcast(&steps->changed);
    pthread_mutex_unlock(&steps->lock);
}

static void steps_wait_begun(struct steps *steps, size_t count)
{
    pthread_mutex_lock(&steps->lock);
    while (steps->begun_count < count) {
        pthread_cond_wait(&steps->changed, &steps->lock);
    }
    pthread_mutex_unlock(&steps->lock);
}

static void steps_release(struct steps *steps, struct served *served)
{
    served_release(served);
    pthread_mutex_destroy(&steps->lock);
    pthread_cond_destroy(&steps->changed);
}

/* Rows that wait for their turn end without one. */
static void test_cancelled_rows_take_no_place_in_a_step(void **state)
{
    (void)state;
    enum { ROWS = 50, STEP_ROWS = 8 };
    struct steps steps;
    struct served served;
    struct hub hub;
    steps_init(&steps, &served);
    hub_init(&hub, 1, ROWS_MAX);
    must_submit(&hub, &served, (struct generation_options){.tokens_max = 9});
    steps_wait_begun(&steps, 1);
    for (size_t n = 1; n < ROWS; n++) {
        must_submit(&hub, &served, (struct generation_options){.tokens_max = 9});
    }
    steps_let(&steps, 1);
    steps_wait_begun(&steps, 2); /* the next step has begun, all others wait for theirs */
    for (size_t n = 0; n < ROWS; n++) {
        generation_cancel(hub.rows[n].generation);
    }
    batcher_wake(hub.batcher);
    steps_let(&steps, SIZE_MAX);
    hub_wait_ended(&hub, ROWS);
    assert_int_equal(batcher_counters(hub.batcher).rows, 1 + STEP_ROWS);
    for (size_t n = 0; n < ROWS; n++) {
        assert_int_equal(generation_progress(hub.rows[n].generation).finish, FINISH_CANCELLED);
    }
    hub_release(&hub);
    steps_release(&steps, &served);
}

/* A text of quick steps does not wait for a slow model's step at each of its symbols. */
static void test_slow_models_do_not_hold_up_quick_ones(void **state)
{
    (void)state;
    enum { TOKENS = 600, STEP_MS = 3 };
    struct steps steps;
    struct served slow, quick;
    struct hub hub;
    steps_init(&steps, &slow);
    steps.step_ms = STEP_MS;
    served_init(&quick, decode_model_characters(30), 0, 1, 8, NULL);
    hub_init(&hub, 2, ROWS_MAX);
    struct row *long_row = must_submit(&hub, &slow, (struct generation_options){.tokens_max = GENERATION_TOKENS_MAX});
    steps_wait_begun(&steps, 1);
    struct row *row = must_submit(&hub, &quick, (struct generation_options){.tokens_max = TOKENS});
    long_row->is_read = false;
    steps_let(&steps, SIZE_MAX);
    hub_wait_ended(&hub, 1);
    assert_int_equal(row->length, TOKENS);
    assert_true(generation_progress(long_row->generation).token_count < TOKENS / 2);
    generation_cancel(long_row->generation);
    batcher_wake(hub.batcher);
    hub_wait_ended(&hub, 2);
    hub_release(&hub);
    served_release(&quick);
    steps_release(&steps, &slow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stalled_rows_are_left_alone),
        cmocka_unit_test(test_cancelled_rows_take_no_place_in_a_step),
        cmocka_unit_test(test_slow_models_do_not_hold_up_quick_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
