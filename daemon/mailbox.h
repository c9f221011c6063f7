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

#endif
