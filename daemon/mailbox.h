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

/* For threads that compute between their posts: a loop that has messages, or is at the turn in which it took some, and
 * has not run for MAILBOX_OVERDUE_NS may wait for the CPU that the caller has, to the clock's next tick (4 ms where
 * there are 250 a second). Where it ran last on that CPU, lets it have it: sleeps until the loop has taken its messages
 * or ended its turn, at most MAILBOX_SLEEP_NS, and not again before the loop has run. Returns whether it slept.
 * Thread: any but the loop. */
enum { MAILBOX_OVERDUE_NS = 50000, MAILBOX_SLEEP_NS = 300000 };
bool mailbox_let_loop_run(struct mailbox *mailbox);

#endif
