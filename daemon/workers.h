/* Threads that take the loop's slow work: the run threads (graph builds and runs, large JSON), the loader thread
 * (reading, packing, freeing models), and one thread for each training job. Work goes in by a bounded queue and comes
 * back by the mailbox. */
#ifndef DAEMON_WORKERS_H
#define DAEMON_WORKERS_H

#include "daemon/mailbox.h"

/* A piece of work, part of a larger thing of the submitter's. `run` is called on a worker thread, then `done` on the
 * loop thread; between submit and `done` the job belongs to the workers. */
struct job {
    struct message message;  /* private */
    struct job *next;        /* private */
    struct workers *workers; /* private */
    void (*run)(struct job *job);
    void (*done)(struct job *job);
};

struct workers_options {
    const char *name; /* of the threads, at most 12 bytes: "run" */
    size_t thread_count;
    size_t queue_max;
    bool is_nice;       /* nice 5: serving comes first */
    uint64_t linger_ns; /* a thread that has done a job looks out for the next so long before it sleeps; 0: not */
    struct mailbox *mailbox;
};

struct workers;

/* Thread: loop, as all below. Owned. */
enum status workers_create(const struct workers_options *options, struct workers **ret_workers,
                           struct error *error) MUST_CHECK;

/* Whether threads may look out for the next job (at first they may): not while others need the CPUs. */
void workers_let_linger(struct workers *workers, bool may_linger);

/* Lets the queue run empty, ends the threads and waits for them. The last `done`s are then in the mailbox. */
void workers_end(struct workers *workers);

/* Frees, after workers_end where that was not called; every `done` must have been delivered. NULL is allowed. */
void workers_destroy(struct workers *workers);

/* LIMIT, code "queue_full", when queue_max jobs wait; UNAVAILABLE after workers_end. */
enum status workers_submit(struct workers *workers, struct job *job, struct error *error) MUST_CHECK;

/* As workers_submit, above the maximum too: for work that gives memory back. After workers_end it is run and done at
 * once, here. */
void workers_submit_always(struct workers *workers, struct job *job);

/* Jobs waiting or running. */
size_t workers_pending(const struct workers *workers);

/* Starts `job` on a thread of its own; the thread has ended when `done` is called. IO when there can be no thread. */
enum status worker_start_thread(const char *name, struct mailbox *mailbox, struct job *job,
                                struct error *error) MUST_CHECK;

#endif
