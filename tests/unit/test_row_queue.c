/* Whose turn it is: rows of one priority in turn, higher priorities first but never alone, models by the
 * time of their steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/decode/row_queue.h"

enum { STEP_ROWS = 64 };

/* Some address of its own for each plan; the queue never looks inside. */
static const struct decode_plan *plan_at(size_t index)
{
    static const char addresses[ROW_QUEUE_MODELS_MAX + 2];
    return (const struct decode_plan *)(const void *)&addresses[index];
}

/* Ready rows, whose prompt_read counts their steps here. */
static struct generation *make_rows(struct row_model *model, size_t count, enum generation_priority priority)
{
    struct generation *rows = mem_allocate_aligned(count, sizeof *rows);
    for (size_t i = 0; i < count; i++) {
        rows[i].priority = priority;
        row_model_add_ready(model, &rows[i]);
    }
    return rows;
}

static size_t take_step_of(struct row_model *model, size_t rows_max)
{
    struct generation *taken[STEP_ROWS];
    size_t count = row_model_take(model, taken, rows_max);
    for (size_t i = 0; i < count; i++) {
        taken[i]->prompt_read++;
        row_model_add_ready(model, taken[i]);
    }
    return count;
}

static size_t take_step(struct row_model *model)
{
    return take_step_of(model, STEP_ROWS);
}

static void check_steps(const struct generation *rows, size_t count, size_t least, size_t most)
{
    for (size_t i = 0; i < count; i++) {
        assert_in_range(rows[i].prompt_read, least, most);
    }
}

static void test_rows_of_one_priority_take_turns(void **state)
{
    (void)state;
    struct row_queue *queue = mem_allocate(1, sizeof *queue);
    struct row_model *model = row_queue_find_model(queue, plan_at(0));
    struct generation *rows = make_rows(model, 150, GENERATION_PRIORITY_NORMAL);
    for (size_t step = 0; step < 75; step++) {
        assert_int_equal(take_step(model), STEP_ROWS);
    }
    check_steps(rows, 150, 32, 32); /* 75 × 64 / 150 */
    mem_free(rows);
    mem_free(queue);
}

static void test_higher_priorities_come_first_but_not_alone(void **state)
{
    (void)state;
    struct row_queue *queue = mem_allocate(1, sizeof *queue);
    struct row_model *model = row_queue_find_model(queue, plan_at(0));
    struct generation *high = make_rows(model, 100, GENERATION_PRIORITY_HIGH);
    struct generation *normal = make_rows(model, 100, GENERATION_PRIORITY_NORMAL);
    struct generation *low = make_rows(model, 100, GENERATION_PRIORITY_LOW);
    for (size_t step = 0; step < 100; step++) {
        assert_int_equal(take_step(model), STEP_ROWS);
    }
    check_steps(high, 100, 56, 56); /* 64 − 4 − 4 of 100 at each step */
    check_steps(normal, 100, 4, 4);
    check_steps(low, 100, 4, 4);
    for (size_t i = 0; i < 100; i++) {
        row_model_remove(model, &high[i]);
    }
    for (size_t step = 0; step < 100; step++) {
        assert_int_equal(take_step(model), STEP_ROWS);
    }
    check_steps(normal, 100, 64, 64);
    check_steps(low, 100, 8, 8);
    for (size_t i = 0; i < 60; i++) {
        row_model_remove(model, &normal[i]);
    }
    assert_int_equal(take_step(model), STEP_ROWS);
    check_steps(normal + 60, 40, 65, 65); /* all that are left, and the low ones fill the step */
    mem_free(high);
    mem_free(normal);
    mem_free(low);
    mem_free(queue);
}

/* Models that are stepped take few rows at a time: a sixteenth of them is one row in some of the steps. */
static void test_lower_priorities_get_their_share_of_small_steps(void **state)
{
    (void)state;
    enum { SMALL_STEP_ROWS = 8, ROWS = 20, STEPS = 400 };
    struct row_queue *queue = mem_allocate(1, sizeof *queue);
    struct row_model *model = row_queue_find_model(queue, plan_at(0));
    struct generation *high = make_rows(model, ROWS, GENERATION_PRIORITY_HIGH);
    struct generation *normal = make_rows(model, ROWS, GENERATION_PRIORITY_NORMAL);
    struct generation *low = make_rows(model, 1, GENERATION_PRIORITY_LOW);
    for (size_t step = 0; step < STEPS; step++) {
        assert_int_equal(take_step_of(model, SMALL_STEP_ROWS), SMALL_STEP_ROWS);
    }
    check_steps(low, 1, 200, 200); /* 400 × 8 / 16 */
    check_steps(normal, ROWS, 10, 10);
    check_steps(high, ROWS, 140, 140);
    mem_free(high);
    mem_free(normal);
    mem_free(low);
    mem_free(queue);
}

/* What is kept for a lower priority is no more than it has, and it saves nothing up while it has less. */
static void test_no_row_of_a_step_is_kept_for_nobody(void **state)
{
    (void)state;
    struct row_queue *queue = mem_allocate(1, sizeof *queue);
    struct row_model *model = row_queue_find_model(queue, plan_at(0));
    struct generation *high = make_rows(model, 2 * STEP_ROWS, GENERATION_PRIORITY_HIGH);
    struct generation *low = make_rows(model, 1, GENERATION_PRIORITY_LOW);
    for (size_t step = 0; step < 100; step++) {
        assert_int_equal(take_step(model), STEP_ROWS);
    }
    check_steps(low, 1, 100, 100);
    struct generation *more = make_rows(model, 100, GENERATION_PRIORITY_LOW);
    assert_int_equal(take_step(model), STEP_ROWS);
    size_t taken = 0;
    for (size_t i = 0; i < 100; i++) {
        taken += more[i].prompt_read;
    }
    assert_int_equal(taken + low->prompt_read, 100 + STEP_ROWS / 16);
    mem_free(high);
    mem_free(low);
    mem_free(more);
    mem_free(queue);
}

/* One who asks for a hundred texts gets no more steps than one who asks for forty, and none of them makes another
 * wait. */
static void test_flows_take_turns(void **state)
{
    (void)state;
    struct row_queue *queue = mem_allocate(1, sizeof *queue);
    struct row_model *model = row_queue_find_model(queue, plan_at(0));
    struct generation *greedy = make_rows(model, 100, GENERATION_PRIORITY_NORMAL);
    for (size_t i = 0; i < 100; i++) {
        row_model_remove(model, &greedy[i]);
    }
    struct generation *modest = make_rows(model, 40, GENERATION_PRIORITY_NORMAL);
    struct generation *single = make_rows(model, 1, GENERATION_PRIORITY_NORMAL);
    row_model_remove(model, single);
    single->flow = GENERATION_FLOW_COUNT - 1; /* the last one */
    row_model_add_ready(model, single);
    for (size_t i = 0; i < 100; i++) {
        greedy[i].flow = 7;
        row_model_add_ready(model, &greedy[i]);
    }
    for (size_t step = 0; step < 400; step++) {
        assert_int_equal(take_step(model), STEP_ROWS);
    }
    check_steps(single, 1, 400, 400);   /* at each step */
    check_steps(modest, 40, 314, 316);  /* half of the other 63 rows: 400 × 31.5 / 40 */
    check_steps(greedy, 100, 126, 127); /* 400 × 31.5 / 100 */
    for (size_t i = 0; i < 40; i++) {
        row_model_remove(model, &modest[i]);
    }
    row_model_remove(model, single);
    for (size_t step = 0; step < 100; step++) {
        assert_int_equal(take_step(model), STEP_ROWS);
    }
    check_steps(greedy, 100, 190, 191); /* 64 more of each: nobody else asks */
    assert_int_equal(model->ready_count, 100);
    mem_free(greedy);
    mem_free(modest);
    mem_free(single);
    mem_free(queue);
}

/* The next model, charged for its step. */
static struct row_model *take_turn(struct row_queue *queue, uint64_t step_ns)
{
    struct row_model *model = row_queue_next_model(queue);
    row_model_charge(model, step_ns);
    return model;
}

static void test_models_take_turns(void **state)
{
    (void)state;
    struct row_queue *queue = mem_allocate(1, sizeof *queue);
    struct row_model *models[3];
    struct generation *rows[3];
    for (size_t i = 0; i < 3; i++) {
        models[i] = row_queue_find_model(queue, plan_at(i));
        rows[i] = make_rows(models[i], 1, GENERATION_PRIORITY_NORMAL);
        assert_ptr_equal(row_queue_find_model(queue, plan_at(i)), models[i]);
    }
    for (size_t turn = 0; turn < 9; turn++) {
        assert_ptr_equal(take_turn(queue, 5), models[turn % 3]);
    }
    row_model_remove(models[1], rows[1]);
    assert_ptr_equal(take_turn(queue, 5), models[0]);
    assert_ptr_equal(take_turn(queue, 5), models[2]);
    row_model_add_stalled(models[1], rows[1]);
    row_queue_release_model(models[1]);
    assert_ptr_equal(models[1]->plan, plan_at(1)); /* a stalled row keeps the place */
    row_model_remove(models[1], rows[1]);
    row_queue_release_model(models[1]);
    assert_ptr_equal(row_queue_find_model(queue, plan_at(3)), models[1]);
    for (size_t i = 4; i <= ROW_QUEUE_MODELS_MAX; i++) {
        assert_non_null(row_queue_find_model(queue, plan_at(i)));
    }
    assert_null(row_queue_find_model(queue, plan_at(ROW_QUEUE_MODELS_MAX + 1)));
    for (size_t i = 0; i < 3; i++) {
        mem_free(rows[i]);
    }
    mem_free(queue);
}

/* A model of slow steps and one of quick ones have the same time. */
static void test_turns_are_by_time(void **state)
{
    (void)state;
    enum { SLOW_NS = 3000000, QUICK_NS = 50000, TURNS = 61 * 10 };
    struct row_queue *queue = mem_allocate(1, sizeof *queue);
    struct row_model *slow = row_queue_find_model(queue, plan_at(0));
    struct row_model *quick = row_queue_find_model(queue, plan_at(1));
    struct generation *rows[] = {make_rows(slow, 1, GENERATION_PRIORITY_NORMAL),
                                 make_rows(quick, 1, GENERATION_PRIORITY_NORMAL)};
    size_t slow_turns = 0;
    for (size_t turn = 0; turn < TURNS; turn++) {
        const struct row_model *next = row_queue_next_model(queue);
        slow_turns += next == slow;
        row_model_charge(next == slow ? slow : quick, next == slow ? SLOW_NS : QUICK_NS);
    }
    assert_int_equal(slow_turns, 10);
    mem_free(rows[0]);
    mem_free(rows[1]);
    mem_free(queue);
}

/* Whoever had nothing to do, or comes anew, has as much to come as the others; who has used more has that to wait for,
 * although its texts have ended meanwhile. */
static void test_idle_models_save_nothing_up(void **state)
{
    (void)state;
    struct row_queue *queue = mem_allocate(1, sizeof *queue);
    struct row_model *models[3];
    struct generation *rows[3];
    for (size_t i = 0; i < 2; i++) {
        models[i] = row_queue_find_model(queue, plan_at(i));
        rows[i] = make_rows(models[i], 1, GENERATION_PRIORITY_NORMAL);
    }
    row_model_remove(models[1], rows[1]);
    row_model_add_stalled(models[1], rows[1]);
    for (size_t turn = 0; turn < 100; turn++) {
        assert_ptr_equal(take_turn(queue, 7), models[0]);
    }
    row_model_remove(models[1], rows[1]);
    row_model_add_ready(models[1], rows[1]);
    models[2] = row_queue_find_model(queue, plan_at(2));
    rows[2] = make_rows(models[2], 1, GENERATION_PRIORITY_NORMAL);
    size_t turns[3] = {0};
    for (size_t turn = 0; turn < 30; turn++) {
        turns[take_turn(queue, 7) - queue->models]++;
    }
    assert_in_range(turns[0], 9, 10);
    assert_in_range(turns[1], 10, 11);
    assert_in_range(turns[2], 10, 11);
    while (row_queue_next_model(queue) != models[0]) {
        take_turn(queue, 7);
    }
    take_turn(queue, 7000); /* a long step, and its text is over */
    row_model_remove(models[0], rows[0]);
    row_queue_release_model(models[0]);
    assert_null(models[0]->plan);
    for (size_t turn = 0; turn < 10; turn++) {
        take_turn(queue, 7);
    }
    assert_ptr_equal(row_queue_find_model(queue, plan_at(0)), models[0]);
    row_model_add_ready(models[0], rows[0]);
    for (size_t turn = 0; turn < 100; turn++) {
        assert_ptr_not_equal(take_turn(queue, 7), models[0]);
    }
    for (size_t i = 0; i < 3; i++) {
        mem_free(rows[i]);
    }
    mem_free(queue);
}

static void test_lists_keep_their_order(void **state)
{
    (void)state;
    struct row_list list = {0};
    struct generation *rows = mem_allocate_aligned(4, sizeof *rows);
    for (size_t i = 0; i < 4; i++) {
        row_list_append(&list, &rows[i]);
    }
    row_list_remove(&list, &rows[2]);
    assert_ptr_equal(row_list_take_first(&list), &rows[0]);
    row_list_remove(&list, &rows[3]);
    assert_ptr_equal(row_list_take_first(&list), &rows[1]);
    assert_null(row_list_take_first(&list));
    assert_null(list.last);
    mem_free(rows);
}

static void test_earliest_deadline_is_noted(void **state)
{
    (void)state;
    struct row_queue *queue = mem_allocate(1, sizeof *queue);
    struct row_model *model = row_queue_find_model(queue, plan_at(0));
    struct generation *rows = mem_allocate_aligned(3, sizeof *rows);
    rows[1].deadline_ms = 700;
    rows[2].deadline_ms = 900;
    row_model_add_ready(model, &rows[0]); /* has none */
    assert_true(model->ready_deadline_ms == UINT64_MAX);
    row_model_add_ready(model, &rows[2]);
    assert_true(model->ready_deadline_ms == 900);
    row_model_add_ready(model, &rows[1]);
    assert_true(model->ready_deadline_ms == 700);
    row_model_remove(model, &rows[1]);
    assert_true(model->ready_deadline_ms == 700); /* too early may be, too late never */
    model->ready_deadline_ms = UINT64_MAX;
    row_model_note_deadline(model, &rows[2]);
    assert_true(model->ready_deadline_ms == 900);
    row_model_remove(model, &rows[0]);
    row_model_remove(model, &rows[2]);
    row_queue_release_model(model);
    assert_ptr_equal(row_queue_find_model(queue, plan_at(1)), model);
    assert_true(model->ready_deadline_ms == UINT64_MAX);
    mem_free(rows);
    mem_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_of_one_priority_take_turns),
        cmocka_unit_test(test_higher_priorities_come_first_but_not_alone),
        cmocka_unit_test(test_lower_priorities_get_their_share_of_small_steps),
        cmocka_unit_test(test_no_row_of_a_step_is_kept_for_nobody),
        cmocka_unit_test(test_flows_take_turns),
        cmocka_unit_test(test_models_take_turns),
        cmocka_unit_test(test_turns_are_by_time),
        cmocka_unit_test(test_idle_models_save_nothing_up),
        cmocka_unit_test(test_lists_keep_their_order),
        cmocka_unit_test(test_earliest_deadline_is_noted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
