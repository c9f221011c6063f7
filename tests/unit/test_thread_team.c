/* The team: every item of every phase runs once, phases see what earlier ones wrote, small phases stay on one
 * thread. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>
#include <time.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/base/thread_team.h"

enum { SEED = 11, PHASES = 3000, ITEMS_MAX = 100 };

struct work {
    size_t phase; /* written by next alone, without a lock */
    size_t item_count;
    unsigned runs[ITEMS_MAX]; /* each item's, without a lock: an item belongs to one thread */
    bool is_small;
    pthread_t asker;
    _Atomic size_t wrong_count;
    _Atomic size_t item_total;
};

static void run_item(void *context, size_t item)
{
    struct work *work = context;
    work->runs[item]++;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    bool is_wrong = item >= work->item_count || sigismember(&blocked, SIGTERM) != 1 ||
                    (work->is_small && !pthread_equal(work->asker, pthread_self()));
    atomic_fetch_add(&work->wrong_count, is_wrong);
    atomic_fetch_add(&work->item_total, 1);
}

static bool next_phase(void *context, struct thread_team_phase *ret_phase)
{
    struct work *work = context;
    for (size_t item = 0; item < work->item_count; item++) {
        atomic_fetch_add(&work->wrong_count, work->runs[item] != 1);
        work->runs[item] = 0;
    }
    if (work->phase == PHASES) {
        return false;
    }
    struct rng_words words = rng_philox(SEED, 0, work->phase);
    work->phase++;
    work->item_count = 1 + words.word[0] % ITEMS_MAX;
    work->is_small = words.word[1] % 4 == 0;
    work->asker = pthread_self();
    if (words.word[2] % 64 == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL); /* long enough for the others to fall asleep */
    }
    *ret_phase = (struct thread_team_phase){
        .run = run_item, .context = work, .item_count = work->item_count, .is_small = work->is_small};
    return true;
}

static void test_every_item_runs_once(void **state)
{
    (void)state;
    size_t item_total = 0;
    for (uint64_t phase = 0; phase < PHASES; phase++) {
        item_total += 1 + rng_philox(SEED, 0, phase).word[0] % ITEMS_MAX;
    }
    for (size_t threads = 1; threads <= 4; threads++) {
        struct work work = {0};
        struct thread_team *team;
        struct error error;
        assert_int_equal(thread_team_create(threads, "test", next_phase, &work, &team, &error), STATUS_OK);
        thread_team_destroy(team);
        assert_int_equal(work.phase, PHASES);
        assert_int_equal(work.wrong_count, 0);
        assert_int_equal(work.item_total, item_total);
    }
}

static bool end_at_once(void *context, struct thread_team_phase *ret_phase)
{
    (void)ret_phase;
    atomic_fetch_add((_Atomic size_t *)context, 1);
    return false;
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
        cmocka_unit_test(test_every_item_runs_once),
        cmocka_unit_test(test_a_team_may_end_at_once),
        cmocka_unit_test(test_no_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
