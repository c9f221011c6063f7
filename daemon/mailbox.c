/* One queue into the loop. The first message signals an eventfd that the loop watches; the loop takes the whole queue
 * at once and delivers it in the order of arrival; what is posted meanwhile comes with the next turn, so that sockets
 * get theirs. Not uv_async: the loop that it wakes spins until the sender is done with its write, and where the loop
 * woke on the sender's CPU that is the sender's next slice. Owns its handles and descriptor; the lock is held for
 * pointer moves and looks at clocks only. */
#include "daemon/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

struct mailbox {
    uv_poll_t poll;
    uv_prepare_t before_poll;
    size_t open_handles;
    int descriptor;
    clockid_t loop_clock; /* the loop's CPU time */
    pthread_mutex_t lock;
    pthread_cond_t has_come_on;
    struct message *first, **last; /* under lock, as what follows */
    bool is_signalled;             /* by whoever found it false; the loop has not taken the messages yet */
    bool has_work;                 /* it is signalled, or at the turn in which it took messages */
    bool has_slept;                /* somebody, since the loop was seen to run */
    size_t sleeper_count;
    size_t step_count;  /* of the loop: messages taken, turns ended */
    int loop_cpu;       /* where it took the last of these steps */
    uint64_t looked_ns; /* when it got work, or was last looked at */
    uint64_t loop_ns;   /* what it had run by then */
};

/* The loop has come on. `has_work`: and there is more. Takes the lock off. */
static void end_step(struct mailbox *mailbox, bool has_work)
{
    mailbox->has_work = has_work;
    mailbox->loop_cpu = sched_getcpu();
    mailbox->step_count++;
    bool has_sleepers = mailbox->sleeper_count > 0;
    pthread_mutex_unlock(&mailbox->lock);
    if (has_sleepers) {
        CHECK(pthread_cond_broadcast(&mailbox->has_come_on) == 0);
    }
}

static void deliver_all(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    struct message *message = mailbox->first;
    mailbox->first = NULL;
    mailbox->last = &mailbox->first;
    mailbox->is_signalled = false;
    end_step(mailbox, true);
    while (message != NULL) {
        struct message *next = message->next; /* deliver may free or post it */
        message->next = NULL;
        message->deliver(message);
        message = next;
    }
}

/* The signal goes before the messages: whoever posts behind them signals again. */
static void on_signal(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct mailbox *mailbox = poll->data;
    eventfd_t count;
    CHECK(eventfd_read(mailbox->descriptor, &count) == 0 || errno == EAGAIN);
    deliver_all(mailbox);
}

/* A turn of the loop has ended. */
static void on_before_poll(uv_prepare_t *prepare)
{
    struct mailbox *mailbox = prepare->data;
    pthread_mutex_lock(&mailbox->lock);
    end_step(mailbox, mailbox->is_signalled);
}

/* Watches a new eventfd. Returns 0 or libuv's error. */
static int watch(uv_loop_t *loop, struct mailbox *mailbox)
{
    mailbox->descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mailbox->descriptor < 0) {
        return uv_translate_sys_error(errno);
    }
    int failed = uv_poll_init(loop, &mailbox->poll, mailbox->descriptor);
    if (failed != 0) {
        close(mailbox->descriptor);
        return failed;
    }
    mailbox->poll.data = mailbox;
    CHECK(uv_poll_start(&mailbox->poll, UV_READABLE, on_signal) == 0);
    uv_prepare_init(loop, &mailbox->before_poll);
    mailbox->before_poll.data = mailbox;
    uv_prepare_start(&mailbox->before_poll, on_before_poll);
    uv_unref((uv_handle_t *)&mailbox->before_poll);
    mailbox->open_handles = 2;
    return 0;
}

enum status mailbox_create(uv_loop_t *loop, struct mailbox **ret_mailbox, struct error *error)
{
    struct mailbox *mailbox = mem_allocate(1, sizeof *mailbox);
    if (mailbox == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the mailbox");
    }
    int failed = watch(loop, mailbox);
    if (failed != 0) {
        mem_free(mailbox);
        return error_set(error, STATUS_IO, "no descriptor for the mailbox: %s", uv_strerror(failed));
    }
    pthread_condattr_t attributes;
    CHECK(pthread_condattr_init(&attributes) == 0 && pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_mutex_init(&mailbox->lock, NULL) == 0 && pthread_cond_init(&mailbox->has_come_on, &attributes) == 0);
    CHECK(pthread_condattr_destroy(&attributes) == 0 &&
          pthread_getcpuclockid(pthread_self(), &mailbox->loop_clock) == 0);
    mailbox->last = &mailbox->first;
    mailbox->loop_cpu = sched_getcpu();
    *ret_mailbox = mailbox;
    return STATUS_OK;
}

static void on_closed(uv_handle_t *handle)
{
    struct mailbox *mailbox = handle->data;
    if (--mailbox->open_handles > 0) {
        return;
    }
    close(mailbox->descriptor);
    pthread_cond_destroy(&mailbox->has_come_on);
    pthread_mutex_destroy(&mailbox->lock);
    mem_free(mailbox);
}

void mailbox_destroy(struct mailbox *mailbox)
{
    if (mailbox == NULL) {
        return;
    }
    while (mailbox->first != NULL) {
        deliver_all(mailbox);
    }
    uv_close((uv_handle_t *)&mailbox->poll, on_closed);
    uv_close((uv_handle_t *)&mailbox->before_poll, on_closed);
}

bool mailbox_is_empty(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    bool is_empty = mailbox->first == NULL;
    pthread_mutex_unlock(&mailbox->lock);
    return is_empty;
}

void mailbox_post(struct mailbox *mailbox, struct message *message)
{
    CHECK(message->deliver != NULL);
    pthread_mutex_lock(&mailbox->lock);
    message->next = NULL;
    *mailbox->last = message;
    mailbox->last = &message->next;
    bool must_signal = !mailbox->is_signalled;
    mailbox->is_signalled = true;
    if (!mailbox->has_work) {
        mailbox->has_work = true;
        mailbox->has_slept = false;
        mailbox->looked_ns = clock_now_ns();
        mailbox->loop_ns = clock_read_ns(mailbox->loop_clock);
    }
    pthread_mutex_unlock(&mailbox->lock);
    if (must_signal) {
        CHECK(eventfd_write(mailbox->descriptor, 1) == 0);
    }
}

/* Under the lock: whether the loop has work, but as far as can be told waits for the caller's CPU, and nobody has slept
 * for it yet. */
static bool waits_for_this_cpu(struct mailbox *mailbox, uint64_t now_ns)
{
    if (!mailbox->has_work || now_ns - mailbox->looked_ns < MAILBOX_OVERDUE_NS || mailbox->loop_cpu != sched_getcpu()) {
        return false;
    }
    uint64_t loop_ns = clock_read_ns(mailbox->loop_clock);
    bool has_run = loop_ns != mailbox->loop_ns;
    mailbox->looked_ns = now_ns;
    mailbox->loop_ns = loop_ns;
    mailbox->has_slept = mailbox->has_slept && !has_run;
    return !has_run && !mailbox->has_slept;
}

bool mailbox_let_loop_run(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    uint64_t now_ns = clock_now_ns();
    bool must_sleep = waits_for_this_cpu(mailbox, now_ns);
    if (must_sleep) {
        uint64_t until_ns = now_ns + MAILBOX_SLEEP_NS;
        const struct timespec until = {(time_t)(until_ns / 1000000000U), (long)(until_ns % 1000000000U)};
        size_t seen = mailbox->step_count;
        mailbox->has_slept = true;
        mailbox->sleeper_count++;
        while (mailbox->step_count == seen &&
               pthread_cond_timedwait(&mailbox->has_come_on, &mailbox->lock, &until) == 0) {
        }
        mailbox->sleeper_count--;
    }
    pthread_mutex_unlock(&mailbox->lock);
    return must_sleep;
}
