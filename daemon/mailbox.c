/* One queue into the loop. uv_async_send coalesces, so the callback takes the whole queue at once and delivers it in
 * the order of arrival; what is posted meanwhile comes with the next turn, so that sockets get theirs. Owns its
 * handle; the lock is held for pointer moves only. */
#include "daemon/mailbox.h"

#include <pthread.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

struct mailbox {
    uv_async_t async;
    pthread_mutex_t lock;
    struct message *first, **last; /* under lock */
};

static void deliver_all(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    struct message *message = mailbox->first;
    mailbox->first = NULL;
    mailbox->last = &mailbox->first;
    pthread_mutex_unlock(&mailbox->lock);
    while (message != NULL) {
        struct message *next = message->next; /* deliver may free or post it */
        message->next = NULL;
        message->deliver(message);
        message = next;
    }
}

static void on_async(uv_async_t *async)
{
    deliver_all(async->data);
}

enum status mailbox_create(uv_loop_t *loop, struct mailbox **ret_mailbox, struct error *error)
{
    struct mailbox *mailbox = mem_allocate(1, sizeof *mailbox);
    if (mailbox == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the mailbox");
    }
    int failed = uv_async_init(loop, &mailbox->async, on_async);
    if (failed != 0) {
        mem_free(mailbox);
        return error_set(error, STATUS_IO, "uv_async_init: %s", uv_strerror(failed));
    }
    CHECK(pthread_mutex_init(&mailbox->lock, NULL) == 0);
    mailbox->async.data = mailbox;
    mailbox->last = &mailbox->first;
    *ret_mailbox = mailbox;
    return STATUS_OK;
}

static void on_closed(uv_handle_t *handle)
{
    struct mailbox *mailbox = handle->data;
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
    uv_close((uv_handle_t *)&mailbox->async, on_closed);
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
    pthread_mutex_unlock(&mailbox->lock);
    uv_async_send(&mailbox->async); /* fails only for a closing handle, and then nobody waits */
}
