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

struct caller {
    struct echo echo;
    clockid_t loop_clock;
    _Atomic bool must_run; /* whether the loop's thread runs while the caller looks */
    _Atomic bool is_over;
};

static void wait_ns(uint64_t duration_ns)
{
    uint64_t end_ns = clock_now_ns() + duration_ns;
    while (clock_now_ns() < end_ns) {
        sched_yield();
    }
}

/* Posts when the loop's thread sleeps, or runs, and is so long about it that the loop is overdue. */
static void *post_and_look(void *context)
{
    struct caller *caller = context;
    struct mailbox *mailbox = caller->echo.mailbox;
    uint64_t seen_ns = 0;
    assert_false(mailbox_let_loop_run(mailbox)); /* nothing waits */
    do {
        seen_ns = clock_read_ns(caller->loop_clock);
        wait_ns(2000000);
    } while ((clock_read_ns(caller->loop_clock) != seen_ns) != caller->must_run);
    mailbox_post(mailbox, &caller->echo.message);
    seen_ns = clock_read_ns(caller->loop_clock);
    do {
        wait_ns(MAILBOX_OVERDUE_NS);
    } while (caller->must_run && clock_read_ns(caller->loop_clock) == seen_ns);
    assert_int_equal(mailbox_let_loop_run(mailbox), !caller->must_run); /* returns though the loop takes nothing */
    assert_false(mailbox_let_loop_run(mailbox));
    caller->is_over = true;
    return NULL;
}

static void test_a_loop_that_waits_for_a_cpu_is_let_run_once_for_a_signal(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct error error;
    struct caller caller = {.echo = {.message.deliver = on_echo}};
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(mailbox_create(&loop, &caller.echo.mailbox, &error), STATUS_OK);
    assert_int_equal(pthread_getcpuclockid(pthread_self(), &caller.loop_clock), 0);
    for (size_t turn = 0; turn < 4; turn++) {
        pthread_t thread;
        caller.echo.count = 1;
        caller.must_run = turn % 2 == 1;
        caller.is_over = false;
        assert_int_equal(pthread_create(&thread, NULL, post_and_look, &caller), 0);
        while (caller.must_run && !caller.is_over) {
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(caller.echo.count, 1);
        uv_run(&loop, UV_RUN_NOWAIT);
        assert_int_equal(caller.echo.count, 0);
    }
    mailbox_destroy(caller.echo.mailbox);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_arrive_once_in_order),
        cmocka_unit_test(test_posted_again_it_comes_with_the_next_turn),
        cmocka_unit_test(test_a_loop_that_waits_for_a_cpu_is_let_run_once_for_a_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
