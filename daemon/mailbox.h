/* Messages from other threads to the loop: one signal for all. A message is part of a larger thing of the sender's,
 * so that posting allocates nothing and cannot fail. */
#ifndef DAEMON_MAILBOX_H
#define DAEMON_MAILBOX_H

#include <uv.h>

#include "engine/base/status.h"

/* Zeroed by its owner; `deliver` is called once for each post, on the loop thread. A message may be posted again after
 * (or while) it is delivered, not while it waits. */
struct message {
    struct message *next;
    void (*deliver)(struct message *message);
};

struct mailbox;

/* Thread: loop. Owned. */
enum status mailbox_create(uv_loop_t *loop, struct mailbox **ret_mailbox, struct error *error) MUST_CHECK;

/* Delivers what waits, then stops; the uv handle closes with the loop's next turn. No thread may post any more.
 * Thread: loop. */
void mailbox_destroy(struct mailbox *mailbox);

/* Whether nothing waits. Thread: loop. */
bool mailbox_is_empty(struct mailbox *mailbox);

/* Thread: any. */
void mailbox_post(struct mailbox *mailbox, struct message *message);

/* For threads that compute between their posts: where the loop was signalled MAILBOX_OVERDUE_NS ago and has not run
 * since, it may wait for the caller's CPU, to the clock's next tick (4 ms where there are 250 a second). Lets it have
 * that: sleeps until the loop takes its messages, at most MAILBOX_SLEEP_NS, once for a signal. Returns whether it
 * slept. Thread: any but the loop. */
enum { MAILBOX_OVERDUE_NS = 50000, MAILBOX_SLEEP_NS = 300000 };
bool mailbox_let_loop_run(struct mailbox *mailbox);

#endif
