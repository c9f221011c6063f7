/* Phases of items over a few threads. Thread: its own. Owns the threads and their slices.
 *
 * A slice is one atomic word, end << 32 | next: adding 1 claims the item `next`. A claim that succeeds belongs to the
 * shared phase that is current, because that cannot end before its claimed items are done; so a thread that slept
 * through phases needs no catching up. Whoever publishes a phase writes in this order: the phase, items_left, the
 * slices (release), the phase number. An item claimed (acquire) thus sees its phase, and all that came before it. What
 * a thread does alone it has to itself; what it sees, and what others see of it, goes by the lock under which all ask.
 */
#include "engine/base/thread_team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/cpu.h"
#include "engine/base/mem.h"

enum { SPIN_NS_MAX = 20000, SPINS_BETWEEN_CLOCKS = 64, CACHE_LINE_BYTES = 64 };

struct member {
    _Alignas(CACHE_LINE_BYTES) _Atomic uint64_t slice; /* end << 32 | next */
    struct thread_team *team;
    size_t index;
    pthread_t thread;
};

struct thread_team {
    thread_team_next *next;
    void *context;
    const char *name;
    struct thread_team_phase phase;                           /* the shared one */
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t phase_number; /* what sleepers wait on */
    _Atomic uint32_t sleeper_count;
    _Atomic bool has_more; /* whoever has nothing to do asks */
    _Atomic bool is_over;
    pthread_mutex_t asking; /* held by the one that asks */
    _Alignas(CACHE_LINE_BYTES) _Atomic size_t items_left;
    size_t member_count;
    struct member members[];
};

void thread_team_run_phase(const struct thread_team_phase *phase)
{
    for (size_t item = 0; item < phase->item_count; item++) {
        phase->run(phase->context, item);
    }
}

/* There is something to do for at most `thread_count` of those that have nothing to do. */
static void publish(struct thread_team *team, int thread_count)
{
    atomic_fetch_add(&team->phase_number, 1);
    if (atomic_load(&team->sleeper_count) > 0) {
        syscall(SYS_futex, &team->phase_number, FUTEX_WAKE_PRIVATE, thread_count, NULL, NULL, 0);
    }
}

/* Spins until `is_done(argument)`. Returns whether that was soon enough. */
static bool spin_until(bool (*is_done)(struct thread_team *team, uint32_t argument), struct thread_team *team,
                       uint32_t argument)
{
    uint64_t until_ns = clock_now_ns() + SPIN_NS_MAX;
    do {
        for (int spin = 0; spin < SPINS_BETWEEN_CLOCKS; spin++) {
            if (is_done(team, argument)) {
                return true;
            }
            cpu_relax();
        }
    } while (clock_now_ns() < until_ns);
    return false;
}

static bool is_later_phase(struct thread_team *team, uint32_t seen)
{
    return atomic_load_explicit(&team->phase_number, memory_order_acquire) != seen;
}

/* Returns when the phase is no longer number `seen`. */
static void wait_for_phase(struct thread_team *team, uint32_t seen)
{
    if (spin_until(is_later_phase, team, seen)) {
        return;
    }
    atomic_fetch_add(&team->sleeper_count, 1);
    while (atomic_load(&team->phase_number) == seen) {
        syscall(SYS_futex, &team->phase_number, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    }
    atomic_fetch_sub(&team->sleeper_count, 1);
}

static bool has_asking(struct thread_team *team, uint32_t unused)
{
    (void)unused;
    return pthread_mutex_trylock(&team->asking) == 0;
}

/* Whoever asks is mostly done within microseconds. */
static void begin_asking(struct thread_team *team)
{
    if (!has_asking(team, 0) && !spin_until(has_asking, team, 0)) {
        CHECK(pthread_mutex_lock(&team->asking) == 0);
    }
}

/* Runs what it can claim of one slice; returns the number of items done. */
static size_t run_slice(struct thread_team *team, struct member *member)
{
    size_t done = 0;
    for (;;) {
        uint64_t slice = atomic_load_explicit(&member->slice, memory_order_relaxed);
        if ((uint32_t)slice >= slice >> 32) {
            return done; /* looked at first, so that idle looks never count it up */
        }
        slice = atomic_fetch_add_explicit(&member->slice, 1, memory_order_acquire);
        if ((uint32_t)slice >= slice >> 32) {
            return done;
        }
        team->phase.run(team->phase.context, (uint32_t)slice);
        done++;
    }
}

/* For all threads to take items of. Nobody works on the one before any more. */
static void share(struct thread_team *team, const struct thread_team_phase *phase)
{
    CHECK(atomic_load_explicit(&team->items_left, memory_order_relaxed) == 0);
    team->phase = *phase;
    atomic_store_explicit(&team->items_left, phase->item_count, memory_order_relaxed);
    for (size_t i = 0; i < team->member_count; i++) {
        uint64_t begin = phase->item_count * i / team->member_count;
        uint64_t end = phase->item_count * (i + 1) / team->member_count;
        atomic_store_explicit(&team->members[i].slice, end << 32 | begin, memory_order_release);
    }
}

/* Asks once, and tells the others what that means for them. True: the thread has `ret_phase` to do alone. */
static bool ask(struct thread_team *team, const struct thread_team_phase *ended, struct thread_team_phase *ret_phase)
{
    enum thread_team_answer answer = THREAD_TEAM_NOTHING;
    *ret_phase = (struct thread_team_phase){0};
    begin_asking(team);
    if (!atomic_load(&team->is_over)) {
        answer = team->next(team->context, ended, ret_phase);
    }
    bool is_phase = answer == THREAD_TEAM_PHASE;
    CHECK(!is_phase || (ret_phase->item_count > 0 && ret_phase->item_count <= THREAD_TEAM_ITEMS_MAX));
    bool is_alone = is_phase && (ret_phase->is_alone || team->member_count == 1);
    bool has_more = is_alone && ret_phase->has_more;
    if (is_phase && !is_alone) {
        share(team, ret_phase);
    }
    atomic_store(&team->has_more, has_more);
    if (answer == THREAD_TEAM_OVER) {
        atomic_store(&team->is_over, true);
    }
    if (has_more) {
        publish(team, 1); /* who, where there is still more, says so again */
    } else if ((is_phase && !is_alone) || answer == THREAD_TEAM_OVER) {
        publish(team, INT32_MAX);
    }
    CHECK(pthread_mutex_unlock(&team->asking) == 0);
    return is_alone;
}

/* Asks, and does what there is to do alone, until there is something to share or nothing to do. */
static void ask_and_run(struct thread_team *team, const struct thread_team_phase *ended)
{
    struct thread_team_phase phase;
    struct thread_team_phase before;
    while (ask(team, ended, &phase)) {
        thread_team_run_phase(&phase);
        before = phase;
        ended = &before;
    }
}

/* Takes items of the shared phase as long as there are any. True where it ended the phase. */
static bool run_shared(struct member *member)
{
    struct thread_team *team = member->team;
    size_t done = 0;
    for (size_t i = 0; i < team->member_count; i++) {
        done += run_slice(team, &team->members[(member->index + i) % team->member_count]);
    }
    return done > 0 && atomic_fetch_sub(&team->items_left, done) == done;
}

static void *run_member(void *argument)
{
    struct member *member = argument;
    struct thread_team *team = member->team;
    cpu_name_thread(team->name);
    if (member->index == 0) {
        ask_and_run(team, NULL);
    }
    while (!atomic_load(&team->is_over)) {
        uint32_t seen = atomic_load_explicit(&team->phase_number, memory_order_acquire);
        if (run_shared(member)) {
            struct thread_team_phase ended = team->phase;
            ask_and_run(team, &ended);
        } else if (atomic_load(&team->has_more)) {
            ask_and_run(team, NULL);
        } else if (!atomic_load(
                       &team->is_over)) { /* which comes before its own number: not missed, with `seen` older */
            wait_for_phase(team, seen);
        }
    }
    return NULL;
}

/* Starts the others before member 0, which begins the first phase. Returns an errno value. */
static int start_members(struct thread_team *team)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    int failure = 0;
    size_t started = team->member_count;
    while (started > 0 && failure == 0) {
        struct member *member = &team->members[started - 1];
        failure = pthread_create(&member->thread, NULL, run_member, member);
        started -= failure == 0;
    }
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    if (failure != 0) {
        atomic_store(&team->is_over, true);
        publish(team, INT32_MAX);
        for (size_t i = started; i < team->member_count; i++) {
            pthread_join(team->members[i].thread, NULL);
        }
    }
    return failure;
}

static void release(struct thread_team *team)
{
    CHECK(pthread_mutex_destroy(&team->asking) == 0);
    mem_free(team);
}

enum status thread_team_create(size_t thread_count, const char *name, thread_team_next *next, void *context,
                               struct thread_team **ret_team, struct error *error)
{
    CHECK(thread_count > 0 && thread_count <= THREAD_TEAM_THREADS_MAX);
    struct thread_team *team = mem_allocate_aligned(1, sizeof *team + thread_count * sizeof *team->members);
    if (team == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a team of %zu threads", thread_count);
    }
    team->next = next;
    team->context = context;
    team->name = name;
    team->member_count = thread_count;
    CHECK(pthread_mutex_init(&team->asking, NULL) == 0);
    for (size_t i = 0; i < thread_count; i++) {
        team->members[i].team = team;
        team->members[i].index = i;
    }
    int failure = start_members(team);
    if (failure != 0) {
        release(team);
        return error_set_errno(error, failure, "starting %zu compute threads", thread_count);
    }
    *ret_team = team;
    return STATUS_OK;
}

void thread_team_destroy(struct thread_team *team)
{
    if (team == NULL) {
        return;
    }
    for (size_t i = 0; i < team->member_count; i++) {
        CHECK(pthread_join(team->members[i].thread, NULL) == 0);
    }
    release(team);
}
