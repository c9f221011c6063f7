/* The mailbox: what several threads post arrives on the loop, each message once and each sender's in their order. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "daemon/mailbox.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum { SENDERS = 4, MESSAGES = 20000 };

struct letter {
    struct message message; /* first */
    struct sender *sender;
    size_t number;
};

struct sender {
    pthread_t thread;
    struct letter *letters;
    size_t arrived;
    struct post_office *office;
};

struct post_office {
    struct mailbox *mailbox;
    struct sender senders[SENDERS];
    size_t left; /* letters */
};

/* The last one closes the mailbox, when nobody posts any more. */
static void on_letter(struct message *message)
{
    struct letter *letter = (struct letter *)message;
    struct post_office *office = letter->sender->office;
    assert_int_equal(letter->number, letter->sender->arrived);
    letter->sender->arrived++;
    if (--office->left > 0) {
        return;
    }
    for (size_t i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_join(office->senders[i].thread, NULL), 0);
    }
    mailbox_destroy(office->mailbox);
}

static void *send_all(void *context)
{
    struct sender *sender = context;
    for (size_t i = 0; i < MESSAGES; i++) {
        sender->letters[i] = (struct letter){.message.deliver = on_letter, .sender = sender, .number = i};
        mailbox_post(sender->office->mailbox, &sender->letters[i].message);
    }
    return NULL;
}

static void test_all_arrive_once_in_order(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct error error;
    struct post_office office = {.left = (size_t)SENDERS * MESSAGES};
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(mailbox_create(&loop, &office.mailbox, &error), STATUS_OK);
    for (size_t i = 0; i < SENDERS; i++) {
        struct sender *sender = &office.senders[i];
        sender->office = &office;
        sender->letters = mem_allocate(MESSAGES, sizeof *sender->letters);
        assert_int_equal(pthread_create(&sender->thread, NULL, send_all, sender), 0);
    }
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0); /* until the mailbox is closed */
    for (size_t i = 0; i < SENDERS; i++) {
        assert_int_equal(office.senders[i].arrived, MESSAGES);
        mem_free(office.senders[i].letters);
    }
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- a message that posts itself ---- */

struct echo {
    struct message message; /* first */
    struct mailbox *mailbox;
    size_t count;
};

static void on_echo(struct message *message)
{
    struct echo *echo = (struct echo *)message;
    if (--echo->count > 0) {
        mailbox_post(echo->mailbox, message);
    }
}

static void test_posted_again_it_comes_with_the_next_turn(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct error error;
    struct echo echo = {.message.deliver = on_echo, .count = 3};
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(mailbox_create(&loop, &echo.mailbox, &error), STATUS_OK);
    mailbox_post(echo.mailbox, &echo.message);
    for (size_t left = 3; left-- > 0;) {
        assert_false(mailbox_is_empty(echo.mailbox));
        uv_run(&loop, UV_RUN_NOWAIT);
        assert_int_equal(echo.count, left);
    }
    assert_true(mailbox_is_empty(echo.mailbox));
    uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(echo.count, 0);
    echo.count = 2;
    mailbox_post(echo.mailbox, &echo.message);
    mailbox_destroy(echo.mailbox); /* delivers what waits, also what that posts */
    assert_int_equal(echo.count, 0);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- a loop that does not get to run ---- */

/* What the loop's thread does while another one looks. */
enum moment { WAITS_BEFORE_IT_TAKES, RUNS_BEFORE_IT_TAKES, WAITS_IN_ITS_TURN, RUNS_IN_ITS_TURN };

struct caller {
    struct message message; /* first */
    struct mailbox *mailbox;
    clockid_t loop_clock;
    pthread_t thread;
    enum moment moment;
    cpu_set_t usable;
    size_t cpu_number; /* among these */
    bool must_sleep;
    _Atomic bool is_over;
};

/* Binds the calling thread to the CPU of this number among those that it may use. */
static bool bind_to(const cpu_set_t *usable, size_t number)
{
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, usable) && number-- == 0) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            return sched_setaffinity(0, sizeof one, &one) == 0;
        }
    }
    return false;
}

static bool loop_runs_at(enum moment moment)
{
    return moment == RUNS_BEFORE_IT_TAKES || moment == RUNS_IN_ITS_TURN;
}

static bool is_before_it_takes(enum moment moment)
{
    return moment == WAITS_BEFORE_IT_TAKES || moment == RUNS_BEFORE_IT_TAKES;
}

static void wait_ns(uint64_t duration_ns)
{
    uint64_t end_ns = clock_now_ns() + duration_ns;
    while (clock_now_ns() < end_ns) {
        sched_yield();
    }
}

/* When the loop's thread has slept, or run, so long that the loop is overdue. */
static void wait_for_loop(const struct caller *caller)
{
    uint64_t seen_ns = 0;
    do {
        seen_ns = clock_read_ns(caller->loop_clock);
        wait_ns(2000000);
    } while ((clock_read_ns(caller->loop_clock) != seen_ns) != loop_runs_at(caller->moment));
}

static void *look(void *context)
{
    struct caller *caller = context;
    assert_true(bind_to(&caller->usable, caller->cpu_number));
    wait_for_loop(caller);
    assert_false(mailbox_let_loop_run(caller->mailbox)); /* nothing waits, or it has run since it was signalled */
    if (is_before_it_takes(caller->moment)) {
        mailbox_post(caller->mailbox, &caller->message);
    }
    wait_for_loop(caller);
    assert_int_equal(mailbox_let_loop_run(caller->mailbox),
                     caller->must_sleep); /* returns though it does not come on */
    wait_for_loop(caller);
    assert_false(mailbox_let_loop_run(caller->mailbox)); /* once is enough */
    caller->is_over = true;
    return NULL;
}

static void wait_for_caller(struct caller *caller)
{
    assert_int_equal(pthread_create(&caller->thread, NULL, look, caller), 0);
    while (loop_runs_at(caller->moment) && !caller->is_over) {
    }
    assert_int_equal(pthread_join(caller->thread, NULL), 0);
}

static void on_call(struct message *message)
{
    struct caller *caller = (struct caller *)message;
    if (!is_before_it_takes(caller->moment)) {
        wait_for_caller(caller);
    }
}

/* A second turn, to the end of the first. */
static void take_messages(uv_loop_t *loop)
{
    uv_run(loop, UV_RUN_NOWAIT);
    uv_run(loop, UV_RUN_NOWAIT);
}

/* The caller on the CPU of this number, the loop on the first. */
static void check_moments(size_t number)
{
    uv_loop_t loop;
    struct error error;
    struct caller caller = {.message.deliver = on_call, .cpu_number = number};
    assert_int_equal(sched_getaffinity(0, sizeof caller.usable, &caller.usable), 0);
    if (!bind_to(&caller.usable, number) || !bind_to(&caller.usable, 0)) {
        skip(); /* there is one CPU only */
    }
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(mailbox_create(&loop, &caller.mailbox, &error), STATUS_OK);
    assert_int_equal(pthread_getcpuclockid(pthread_self(), &caller.loop_clock), 0);
    for (caller.moment = WAITS_BEFORE_IT_TAKES; caller.moment <= RUNS_IN_ITS_TURN; caller.moment++) {
        caller.must_sleep = number == 0 && !loop_runs_at(caller.moment);
        caller.is_over = false;
        if (is_before_it_takes(caller.moment)) {
            wait_for_caller(&caller);
        } else {
            mailbox_post(caller.mailbox, &caller.message);
        }
        take_messages(&loop);
        assert_true(caller.is_over);
    }
    mailbox_destroy(caller.mailbox);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(sched_setaffinity(0, sizeof caller.usable, &caller.usable), 0);
}

static void test_a_loop_that_waits_for_the_callers_cpu_is_let_run_once(void **state)
{
    (void)state;
    check_moments(0);
}

static void test_a_loop_elsewhere_is_not_waited_for(void **state)
{
    (void)state;
    check_moments(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_arrive_once_in_order),
        cmocka_unit_test(test_posted_again_it_comes_with_the_next_turn),
        cmocka_unit_test(test_a_loop_that_waits_for_the_callers_cpu_is_let_run_once),
        cmocka_unit_test(test_a_loop_elsewhere_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
