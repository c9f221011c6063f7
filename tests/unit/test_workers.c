/* Worker threads and the mailbox: jobs run elsewhere and are done on the loop, the queue has its maximum, and a thread
 * of its own ends before its job is done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>
#include <cmocka.h>

#include "daemon/workers.h"

struct count_job {
    struct job job;
    pthread_t loop_thread;
    pthread_mutex_t *gate; /* locked by the test while jobs have to wait */
    int *done_count;
    bool has_run;
};

static void run(struct job *job)
{
    struct count_job *counted = (struct count_job *)job;
    if (counted->gate != NULL) {
        pthread_mutex_lock(counted->gate);
        pthread_mutex_unlock(counted->gate);
    }
    counted->has_run = !pthread_equal(pthread_self(), counted->loop_thread);
}

static void done(struct job *job)
{
    struct count_job *counted = (struct count_job *)job;
    assert_true(pthread_equal(pthread_self(), counted->loop_thread));
    assert_true(counted->has_run);
    ++*counted->done_count;
}

static void test_jobs_are_done_on_the_loop(void **state)
{
    (void)state;
    enum { JOB_COUNT = 100, QUEUE_MAX = 3 };
    uv_loop_t loop;
    struct mailbox *mailbox;
    struct workers *workers;
    struct error error;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    int done_count = 0;
    static struct count_job jobs[JOB_COUNT];
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(mailbox_create(&loop, &mailbox, &error), STATUS_OK);
    struct workers_options options = {.name = "test", .thread_count = 1, .queue_max = QUEUE_MAX, .mailbox = mailbox};
    assert_int_equal(workers_create(&options, &workers, &error), STATUS_OK);

    pthread_mutex_lock(&gate);
    int accepted = 0;
    for (int i = 0; i < JOB_COUNT; i++) {
        jobs[i] = (struct count_job){
            .job = {.run = run, .done = done}, .loop_thread = pthread_self(), .gate = &gate, .done_count = &done_count};
        if (workers_submit(workers, &jobs[i].job, &error) != STATUS_OK) {
            assert_int_equal(error.status, STATUS_LIMIT);
            assert_string_equal(error.code, "queue_full");
            assert_string_equal(error.message, "3 jobs wait for the test threads, at most 3");
            workers_submit_always(workers, &jobs[i].job);
            break;
        }
        accepted++;
    }
    assert_in_range(accepted, QUEUE_MAX, QUEUE_MAX + 1); /* one may already be running */
    assert_int_equal(workers_pending(workers), accepted + 1);
    pthread_mutex_unlock(&gate);
    while (done_count < accepted + 1) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_equal(workers_pending(workers), 0);

    static struct count_job single;
    single =
        (struct count_job){.job = {.run = run, .done = done}, .loop_thread = pthread_self(), .done_count = &done_count};
    assert_int_equal(worker_start_thread("single", mailbox, &single.job, &error), STATUS_OK);
    while (done_count < accepted + 2) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    workers_destroy(workers);
    mailbox_destroy(mailbox);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_a_queue_runs_empty_at_the_end(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct mailbox *mailbox;
    struct workers *workers;
    struct error error;
    int done_count = 0;
    static struct count_job jobs[10];
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(mailbox_create(&loop, &mailbox, &error), STATUS_OK);
    struct workers_options options = {.name = "test", .thread_count = 4, .queue_max = 10, .mailbox = mailbox};
    assert_int_equal(workers_create(&options, &workers, &error), STATUS_OK);
    for (int i = 0; i < 10; i++) {
        jobs[i] = (struct count_job){
            .job = {.run = run, .done = done}, .loop_thread = pthread_self(), .done_count = &done_count};
        workers_submit_always(workers, &jobs[i].job);
    }
    workers_end(workers);
    while (done_count < 10) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    workers_destroy(workers);
    mailbox_destroy(mailbox);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* One to three jobs at a time, each round when the threads may just be falling asleep or still look out: whoever is
 * not woken must have seen its job, or the loop would turn for ever. */
static void look_out(size_t thread_count, bool may_change)
{
    enum { ROUNDS = 10000, JOBS_MAX = 3 };
    uv_loop_t loop;
    struct mailbox *mailbox;
    struct workers *workers;
    struct error error;
    static struct count_job jobs[JOBS_MAX];
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(mailbox_create(&loop, &mailbox, &error), STATUS_OK);
    struct workers_options options = {
        .name = "test", .thread_count = thread_count, .queue_max = JOBS_MAX, .linger_ns = 20000, .mailbox = mailbox};
    assert_int_equal(workers_create(&options, &workers, &error), STATUS_OK);
    for (int round = 0; round < ROUNDS; round++) {
        int done_count = 0;
        int count = 1 + round % JOBS_MAX;
        if (may_change) {
            workers_let_linger(workers, round % 5 != 0);
        }
        for (int i = 0; i < count; i++) {
            jobs[i] = (struct count_job){
                .job = {.run = run, .done = done}, .loop_thread = pthread_self(), .done_count = &done_count};
            assert_int_equal(workers_submit(workers, &jobs[i].job, &error), STATUS_OK);
        }
        while (done_count < count) {
            uv_run(&loop, UV_RUN_ONCE);
        }
    }
    workers_destroy(workers);
    mailbox_destroy(mailbox);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_threads_that_look_out_miss_nothing(void **state)
{
    (void)state;
    look_out(1, false);
    look_out(4, false);
    look_out(4, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_that_look_out_miss_nothing),
        cmocka_unit_test(test_jobs_are_done_on_the_loop),
        cmocka_unit_test(test_a_queue_runs_empty_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
