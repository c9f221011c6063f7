/* The team: every item of every phase runs once, phases see what earlier ones wrote, what is to be done alone stays on
 * one thread, and does not keep the others from doing something else. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>
#include <time.h>
#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/base/thread_team.h"
#include "tests/unit/run_length.h"

enum { SEED = 11, PHASES = 3000, ITEMS_MAX = 100, THREADS_MAX = 4, SHORT_PHASES = 4 };

/* A phase under way; all without a lock: what is written while it runs belongs to one thread, item by item. */
struct task {
    struct work *work;
    bool is_under_way;
    bool is_alone;
    pthread_t asker;
    size_t item_count;
    unsigned runs[ITEMS_MAX];
};

struct work {
    size_t begun_count; /* written by next alone, without a lock */
    size_t under_way_count;
    bool is_sharing;
    struct task tasks[THREADS_MAX + 1];
    _Atomic size_t wrong_count;
    _Atomic size_t item_total;
};

static void run_item(void *context, size_t item)
{
    struct task *task = context;
    struct work *work = task->work;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    bool is_wrong = item >= task->item_count || sigismember(&blocked, SIGTERM) != 1 ||
                    (task->is_alone && !pthread_equal(task->asker, pthread_self()));
    atomic_fetch_add(&work->wrong_count, is_wrong);
    if (item < ITEMS_MAX) {
        task->runs[item]++;
    }
    atomic_fetch_add(&work->item_total, 1);
}

static void end_task(struct work *work, struct task *task)
{
    for (size_t item = 0; item < task->item_count; item++) {
        atomic_fetch_add(&work->wrong_count, task->runs[item] != 1);
    }
    atomic_fetch_add(&work->wrong_count, !task->is_under_way);
    task->is_under_way = false;
    work->under_way_count--;
    work->is_sharing = work->is_sharing && task->is_alone;
}

static size_t items_of(uint64_t phase)
{
    return 1 + rng_philox(SEED, 0, phase).word[0] % ITEMS_MAX;
}

/* Phases of all kinds, beside each other wherever that may be. */
static enum thread_team_answer next_phase(void *context, const struct thread_team_phase *ended,
                                          struct thread_team_phase *ret_phase)
{
    struct work *work = context;
    if (ended != NULL) {
        end_task(work, ended->context);
    }
    if (work->is_sharing) {
        return THREAD_TEAM_NOTHING;
    }
    if (work->begun_count == PHASES) {
        return work->under_way_count > 0 ? THREAD_TEAM_NOTHING : THREAD_TEAM_OVER;
    }
    struct rng_words words = rng_philox(SEED, 0, work->begun_count);
    struct task *task = work->tasks;
    while (task->is_under_way) {
        task++;
    }
    *task = (struct task){.work = work, .is_under_way = true, .asker = pthread_self()};
    task->item_count = items_of(work->begun_count++);
    task->is_alone = words.word[1] % 4 != 0;
    work->is_sharing = !task->is_alone;
    work->under_way_count++;
    if (words.word[2] % 64 == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL); /* long enough for the others to fall asleep */
    }
    *ret_phase = (struct thread_team_phase){.run = run_item,
                                            .context = task,
                                            .item_count = task->item_count,
                                            .is_alone = task->is_alone,
                                            .has_more = words.word[1] % 4 > 1};
    return THREAD_TEAM_PHASE;
}

static void test_every_item_runs_once(void **state)
{
    (void)state;
    size_t item_total = 0;
    for (uint64_t phase = 0; phase < PHASES; phase++) {
        item_total += items_of(phase);
    }
    for (size_t threads = 1; threads <= THREADS_MAX; threads++) {
        struct work work = {0};
        struct thread_team *team;
        struct error error;
        assert_int_equal(thread_team_create(threads, "test", next_phase, &work, &team, &error), STATUS_OK);
        thread_team_destroy(team);
        assert_int_equal(work.begun_count, PHASES);
        assert_int_equal(work.wrong_count, 0);
        assert_int_equal(work.item_total, item_total);
    }
}

/* Three phases: two that are done alone and wait for each other, then a shared one of two items that do. */
struct meeting {
    size_t begun_count;
    size_t under_way_count;
    _Atomic size_t there_count;
    _Atomic size_t alone_count; /* who waited in vain */
};

static void meet(void *context, size_t item)
{
    (void)item;
    struct meeting *meeting = context;
    uint64_t until_ns = clock_now_ns() + UINT64_C(60000000000);
    size_t wanted = (atomic_fetch_add(&meeting->there_count, 1) / 2 + 1) * 2;
    while (atomic_load(&meeting->there_count) < wanted) {
        if (clock_now_ns() > until_ns) {
            atomic_fetch_add(&meeting->alone_count, 1);
            return;
        }
    }
}

static enum thread_team_answer next_meeting(void *context, const struct thread_team_phase *ended,
                                            struct thread_team_phase *ret_phase)
{
    struct meeting *meeting = context;
    meeting->under_way_count -= ended != NULL;
    if (meeting->begun_count == 3) {
        return meeting->under_way_count > 0 ? THREAD_TEAM_NOTHING : THREAD_TEAM_OVER;
    }
    if (meeting->begun_count == 2 && meeting->under_way_count > 0) {
        return THREAD_TEAM_NOTHING;
    }
    bool is_alone = ++meeting->begun_count < 3;
    meeting->under_way_count++;
    *ret_phase = (struct thread_team_phase){.run = meet,
                                            .context = meeting,
                                            .item_count = is_alone ? 1 : 2,
                                            .is_alone = is_alone,
                                            .has_more = meeting->begun_count == 1};
    return THREAD_TEAM_PHASE;
}

static void test_phases_run_beside_each_other(void **state)
{
    (void)state;
    for (size_t round = 0; round < 50; round++) {
        struct meeting meeting = {0};
        struct thread_team *team;
        struct error error;
        assert_int_equal(thread_team_create(2, "test", next_meeting, &meeting, &team, &error), STATUS_OK);
        thread_team_destroy(team);
        assert_int_equal(meeting.begun_count, 3);
        assert_int_equal(meeting.there_count, 4);
        assert_int_equal(meeting.alone_count, 0);
    }
}

/* A few phases that are done alone, then the end: a thread that has just found nothing to do must see it. */
struct short_work {
    size_t begun_count;
    size_t under_way_count;
};

static void run_nothing(void *context, size_t item)
{
    (void)context;
    (void)item;
}

static enum thread_team_answer next_short(void *context, const struct thread_team_phase *ended,
                                          struct thread_team_phase *ret_phase)
{
    struct short_work *work = context;
    work->under_way_count -= ended != NULL;
    if (work->begun_count == SHORT_PHASES) {
        return work->under_way_count > 0 ? THREAD_TEAM_NOTHING : THREAD_TEAM_OVER;
    }
    work->begun_count++;
    work->under_way_count++;
    *ret_phase = (struct thread_team_phase){
        .run = run_nothing, .item_count = 1, .is_alone = true, .has_more = work->begun_count < SHORT_PHASES};
    return THREAD_TEAM_PHASE;
}

static void test_nobody_misses_the_end(void **state)
{
    (void)state;
    size_t rounds = run_is_whole() ? 20000 : 2000;
    for (size_t round = 0; round < rounds; round++) {
        struct short_work work = {0};
        struct thread_team *team;
        struct error error;
        assert_int_equal(thread_team_create(2 + round % 3, "test", next_short, &work, &team, &error), STATUS_OK);
        thread_team_destroy(team);
        assert_int_equal(work.begun_count, SHORT_PHASES);
        assert_int_equal(work.under_way_count, 0);
    }
}

static enum thread_team_answer end_at_once(void *context, const struct thread_team_phase *ended,
                                           struct thread_team_phase *ret_phase)
{
    (void)ended;
    (void)ret_phase;
    atomic_fetch_add((_Atomic size_t *)context, 1);
    return THREAD_TEAM_OVER;
}

static void test_a_team_may_end_at_once(void **state)
{
    (void)state;
    for (size_t round = 0; round < 50; round++) {
        _Atomic size_t asked = 0;
        struct thread_team *team;
        struct error error;
        assert_int_equal(thread_team_create(3, "test", end_at_once, &asked, &team, &error), STATUS_OK);
        thread_team_destroy(team);
        assert_int_equal(asked, 1);
    }
    thread_team_destroy(NULL);
}

static void test_no_memory_is_reported(void **state)
{
    (void)state;
    _Atomic size_t asked = 0;
    struct thread_team *team;
    struct error error;
    mem_fail_after(0);
    assert_int_equal(thread_team_create(2, "test", end_at_once, &asked, &team, &error), STATUS_NO_MEMORY);
    assert_int_equal(asked, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_item_runs_once),  cmocka_unit_test(test_phases_run_beside_each_other),
        cmocka_unit_test(test_nobody_misses_the_end), cmocka_unit_test(test_a_team_may_end_at_once),
        cmocka_unit_test(test_no_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
