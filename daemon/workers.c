/* A pool of threads around one queue under one lock, which is never held while a job runs. Signals are blocked in
 * every thread made here, so that the loop alone gets them. Owns its threads; jobs stay their submitters'. */
#include "daemon/workers.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/cpu.h"
#include "engine/base/mem.h"

enum { WORKER_THREADS_MAX = 64, WORKER_STACK_BYTES = 2 << 20 };

struct workers {
    struct workers_options options;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job *first, **last; /* under lock */
    atomic_size_t waiting;     /* written under lock */
    atomic_bool is_ending;     /* written under lock, by the loop thread alone */
    atomic_bool may_linger;
    atomic_bool is_lingering; /* one thread at a time; it will look at the queue once more before it sleeps */
    size_t pending;           /* loop thread only */
    pthread_t threads[WORKER_THREADS_MAX];
    size_t thread_count;
};

static void on_done(struct message *message)
{
    struct job *job = (struct job *)message; /* its first member */
    if (job->workers != NULL) {
        job->workers->pending--;
    }
    job->done(job);
}

/* Looks out for the next job before sleeping: waking a thread whose CPU has halted takes longer than a small job. One
 * thread does; it looks by itself, so nobody has to wake it. */
static void linger(struct workers *workers)
{
    if (!workers->may_linger || atomic_exchange(&workers->is_lingering, true)) {
        return;
    }
    uint64_t until_ns = clock_now_ns() + workers->options.linger_ns;
    while (workers->may_linger && workers->waiting == 0 && !workers->is_ending && clock_now_ns() < until_ns) {
        sched_yield();
    }
    workers->is_lingering = false;
}

static struct job *take_job(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    while (workers->first == NULL && !workers->is_ending) {
        pthread_cond_wait(&workers->wake, &workers->lock);
    }
    struct job *job = workers->first;
    if (job != NULL) {
        workers->first = job->next;
        workers->last = workers->first == NULL ? &workers->first : workers->last;
        workers->waiting--;
    }
    pthread_mutex_unlock(&workers->lock);
    return job;
}

static void *run_thread(void *context)
{
    struct workers *workers = context;
    cpu_name_thread(workers->options.name);
    if (workers->options.is_nice) {
        cpu_thread_set_nice();
    }
    for (struct job *job = take_job(workers); job != NULL; job = take_job(workers)) {
        job->run(job);
        job->message.deliver = on_done;
        mailbox_post(workers->options.mailbox, &job->message);
        linger(workers);
    }
    return NULL;
}

/* pthread_create with all signals blocked in the new thread. */
static int start_thread(pthread_t *thread, void *(*function)(void *), void *context)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    int failed = pthread_create(thread, &attributes, function, context);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    pthread_attr_destroy(&attributes);
    return failed;
}

enum status workers_create(const struct workers_options *options, struct workers **ret_workers, struct error *error)
{
    CHECK(options->thread_count > 0 && options->thread_count <= WORKER_THREADS_MAX);
    struct workers *workers = mem_allocate(1, sizeof *workers);
    if (workers == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the %s threads", options->name);
    }
    workers->options = *options;
    workers->last = &workers->first;
    workers_let_linger(workers, true);
    CHECK(pthread_mutex_init(&workers->lock, NULL) == 0);
    CHECK(pthread_cond_init(&workers->wake, NULL) == 0);
    while (workers->thread_count < options->thread_count) {
        int failed = start_thread(&workers->threads[workers->thread_count], run_thread, workers);
        if (failed != 0) {
            workers_destroy(workers);
            return error_set_errno(error, failed, "start a %s thread", options->name);
        }
        workers->thread_count++;
    }
    *ret_workers = workers;
    return STATUS_OK;
}

void workers_let_linger(struct workers *workers, bool may_linger)
{
    workers->may_linger = may_linger && workers->options.linger_ns > 0;
}

void workers_end(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    workers->is_ending = true;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    for (size_t i = 0; i < workers->thread_count; i++) {
        CHECK(pthread_join(workers->threads[i], NULL) == 0);
    }
    workers->thread_count = 0;
}

void workers_destroy(struct workers *workers)
{
    if (workers == NULL) {
        return;
    }
    workers_end(workers);
    CHECK(workers->pending == 0);
    pthread_cond_destroy(&workers->wake);
    pthread_mutex_destroy(&workers->lock);
    mem_free(workers);
}

static bool queue(struct workers *workers, struct job *job, size_t waiting_max)
{
    CHECK(job->run != NULL && job->done != NULL);
    job->workers = workers;
    job->next = NULL;
    pthread_mutex_lock(&workers->lock);
    bool has_room = workers->waiting < waiting_max;
    if (has_room) {
        *workers->last = job;
        workers->last = &job->next;
        if (workers->waiting++ > 0 || !workers->is_lingering) {
            pthread_cond_signal(&workers->wake);
        }
    }
    pthread_mutex_unlock(&workers->lock);
    workers->pending += has_room;
    return has_room;
}

enum status workers_submit(struct workers *workers, struct job *job, struct error *error)
{
    if (workers->is_ending) {
        return error_set(error, STATUS_UNAVAILABLE, "lstmd is shutting down");
    }
    if (!queue(workers, job, workers->options.queue_max)) {
        error_set(error, STATUS_LIMIT, "%zu jobs wait for the %s threads, at most %zu", workers->options.queue_max,
                  workers->options.name, workers->options.queue_max);
        error_code(error, "queue_full");
        return STATUS_LIMIT;
    }
    return STATUS_OK;
}

void workers_submit_always(struct workers *workers, struct job *job)
{
    if (workers->is_ending) {
        job->run(job);
        job->done(job);
        return;
    }
    CHECK(queue(workers, job, SIZE_MAX));
}

size_t workers_pending(const struct workers *workers)
{
    return workers->pending;
}

/* A thread for one job: kept until the thread has taken what it needs. */
struct single {
    struct message message;
    pthread_t thread;
    char name[16];
    struct mailbox *mailbox;
    struct job *job;
};

static void on_single_done(struct message *message)
{
    struct single *single = (struct single *)message; /* its first member */
    struct job *job = single->job;
    CHECK(pthread_join(single->thread, NULL) == 0);
    mem_free(single);
    job->done(job);
}

static void *run_single(void *context)
{
    struct single *single = context;
    cpu_name_thread(single->name);
    single->job->run(single->job);
    mailbox_post(single->mailbox, &single->message);
    return NULL;
}

enum status worker_start_thread(const char *name, struct mailbox *mailbox, struct job *job, struct error *error)
{
    struct single *single = mem_allocate(1, sizeof *single);
    if (single == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for thread %s", name);
    }
    job->workers = NULL;
    single->message.deliver = on_single_done;
    single->mailbox = mailbox;
    single->job = job;
    snprintf(single->name, sizeof single->name, "%s", name);
    int failed = start_thread(&single->thread, run_single, single);
    if (failed != 0) {
        mem_free(single);
        return error_set_errno(error, failed, "start thread %s", name);
    }
    return STATUS_OK;
}
