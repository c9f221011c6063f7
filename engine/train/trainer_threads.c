/* A turn is announced by its number under the lock; pieces are taken from an atomic counter, so that a thread whose CPU
 * is busy with something else does not hold up the others. */
#include "engine/train/trainer_threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/base/cpu.h"
#include "engine/base/mem.h"

struct trainer_threads {
    pthread_t threads[TRAINER_THREADS_MAX];
    size_t count; /* started, without the caller */
    bool is_idle;
    struct cpu_yielding yielding; /* the caller's */
    pthread_mutex_t lock;
    pthread_cond_t turn_begins;
    pthread_cond_t turn_ends;
    uint64_t turn;  /* below: under the lock */
    size_t working; /* threads that have not finished the turn */
    bool is_ending;
    void (*work)(void *context, size_t index); /* of this turn */
    void *context;
    size_t piece_count;
    _Atomic size_t next_piece;
};

static void work_off(struct trainer_threads *threads)
{
    for (;;) {
        size_t piece = atomic_fetch_add_explicit(&threads->next_piece, 1, memory_order_relaxed);
        if (piece >= threads->piece_count) {
            return;
        }
        threads->work(threads->context, piece);
    }
}

static void lower(const struct trainer_threads *threads, struct cpu_yielding *yielding)
{
    if (threads->is_idle) {
        cpu_thread_set_idle();
        cpu_thread_begin_yielding(yielding);
    }
}

static void *thread_main(void *argument)
{
    struct trainer_threads *threads = argument;
    cpu_name_thread("lstmd-train");
    struct cpu_yielding yielding = {.is_on = false};
    lower(threads, &yielding);
    uint64_t seen = 0;
    pthread_mutex_lock(&threads->lock);
    while (!threads->is_ending) {
        if (threads->turn == seen) {
            pthread_cond_wait(&threads->turn_begins, &threads->lock);
            continue;
        }
        seen = threads->turn;
        pthread_mutex_unlock(&threads->lock);
        work_off(threads);
        pthread_mutex_lock(&threads->lock);
        if (--threads->working == 0) {
            pthread_cond_signal(&threads->turn_ends);
        }
    }
    pthread_mutex_unlock(&threads->lock);
    cpu_end_yielding(&yielding);
    return NULL;
}

/* Signals stay with the thread that started us. */
static enum status start_threads(struct trainer_threads *threads, size_t count, struct error *error)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = 0;
    while (threads->count + 1 < count && failed == 0) {
        failed = pthread_create(&threads->threads[threads->count], NULL, thread_main, threads);
        threads->count += failed == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        return error_set_errno(error, failed, "trainer thread %zu of %zu cannot be started", threads->count + 2, count);
    }
    return STATUS_OK;
}

enum status trainer_threads_create(size_t count, bool is_idle, struct trainer_threads **ret_threads,
                                   struct error *error)
{
    CHECK(count >= 1 && count <= TRAINER_THREADS_MAX);
    struct trainer_threads *threads = mem_allocate(1, sizeof *threads);
    if (!threads) {
        return error_set(error, STATUS_NO_MEMORY, "trainer threads: no memory");
    }
    threads->is_idle = is_idle;
    pthread_mutex_init(&threads->lock, NULL);
    pthread_cond_init(&threads->turn_begins, NULL);
    pthread_cond_init(&threads->turn_ends, NULL);
    lower(threads, &threads->yielding);
    enum status status = start_threads(threads, count, error);
    if (status != STATUS_OK) {
        trainer_threads_destroy(threads);
        return status;
    }
    *ret_threads = threads;
    return STATUS_OK;
}

void trainer_threads_destroy(struct trainer_threads *threads)
{
    if (!threads) {
        return;
    }
    pthread_mutex_lock(&threads->lock);
    threads->is_ending = true;
    pthread_cond_broadcast(&threads->turn_begins);
    pthread_mutex_unlock(&threads->lock);
    for (size_t i = 0; i < threads->count; i++) {
        pthread_join(threads->threads[i], NULL);
    }
    cpu_end_yielding(&threads->yielding);
    pthread_cond_destroy(&threads->turn_ends);
    pthread_cond_destroy(&threads->turn_begins);
    pthread_mutex_destroy(&threads->lock);
    mem_free(threads);
}

void trainer_threads_run(struct trainer_threads *threads, size_t count, void (*work)(void *context, size_t index),
                         void *context)
{
    pthread_mutex_lock(&threads->lock);
    threads->work = work;
    threads->context = context;
    threads->piece_count = count;
    atomic_store_explicit(&threads->next_piece, 0, memory_order_relaxed);
    threads->working = threads->count;
    threads->turn++;
    pthread_cond_broadcast(&threads->turn_begins);
    pthread_mutex_unlock(&threads->lock);
    work_off(threads);
    pthread_mutex_lock(&threads->lock);
    while (threads->working > 0) {
        pthread_cond_wait(&threads->turn_ends, &threads->lock);
    }
    pthread_mutex_unlock(&threads->lock);
}
