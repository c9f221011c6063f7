/* Phases of items over a few threads. Thread: its own. Owns the threads and their slices.
 *
 * A slice is one atomic word, end << 32 | next: adding 1 claims the item `next`. A claim that succeeds belongs to the
 * phase that is current, because a phase cannot end before its claimed items are done; so a thread that slept through
 * phases needs no catching up. Whoever publishes a phase writes in this order: the phase, items_left, the slices
 * (release), the phase number. An item claimed (acquire) thus sees its phase, and all that came before it. */
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
    bool (*next)(void *context, struct thread_team_phase *ret_phase);
    void *context;
    const char *name;
    struct thread_team_phase phase;
    _Alignas(CACHE_LINE_BYTES) _Atomic uint32_t phase_number; /* what sleepers wait on */
    _Atomic uint32_t sleeper_count;
    _Atomic bool is_over;
    _Alignas(CACHE_LINE_BYTES) _Atomic size_t items_left;
    size_t member_count;
    struct member members[];
};

static void publish(struct thread_team *team)
{
    atomic_fetch_add(&team->phase_number, 1);
    if (atomic_load(&team->sleeper_count) > 0) {
        syscall(SYS_futex, &team->phase_number, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    }
}

/* Returns when the phase is no longer number `seen`. */
static void wait_for_phase(struct thread_team *team, uint32_t seen)
{
    uint64_t until_ns = clock_now_ns() + SPIN_NS_MAX;
    do {
        for (int spin = 0; spin < SPINS_BETWEEN_CLOCKS; spin++) {
            if (atomic_load_explicit(&team->phase_number, memory_order_acquire) != seen) {
                return;
            }
            cpu_relax();
        }
    } while (clock_now_ns() < until_ns);
    atomic_fetch_add(&team->sleeper_count, 1);
    while (atomic_load(&team->phase_number) == seen) {
        syscall(SYS_futex, &team->phase_number, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    }
    atomic_fetch_sub(&team->sleeper_count, 1);
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

/* Asks for phases until there is one to share; false at the end. Runs while no item is claimed or claimable. */
static bool begin_phase(struct thread_team *team)
{
    struct thread_team_phase phase = {0};
    for (;;) {
        if (!team->next(team->context, &phase)) {
            atomic_store(&team->is_over, true);
            publish(team);
            return false;
        }
        CHECK(phase.item_count > 0 && phase.item_count <= THREAD_TEAM_ITEMS_MAX);
        if (!phase.is_small && team->member_count > 1) {
            break;
        }
        for (size_t item = 0; item < phase.item_count; item++) {
            phase.run(phase.context, item);
        }
    }
    team->phase = phase;
    atomic_store_explicit(&team->items_left, phase.item_count, memory_order_relaxed);
    for (size_t i = 0; i < team->member_count; i++) {
        uint64_t begin = phase.item_count * i / team->member_count;
        uint64_t end = phase.item_count * (i + 1) / team->member_count;
        atomic_store_explicit(&team->members[i].slice, end << 32 | begin, memory_order_release);
    }
    publish(team);
    return true;
}

/* Runs items of the current phase and begins new ones as long as it is the one to finish them. */
static void run_phases(struct member *member)
{
    struct thread_team *team = member->team;
    for (;;) {
        size_t done = 0;
        for (size_t i = 0; i < team->member_count; i++) {
            done += run_slice(team, &team->members[(member->index + i) % team->member_count]);
        }
        if (done == 0 || atomic_fetch_sub(&team->items_left, done) != done) {
            return;
        }
        if (!begin_phase(team)) {
            return;
        }
    }
}

static void *run_member(void *argument)
{
    struct member *member = argument;
    struct thread_team *team = member->team;
    cpu_name_thread(team->name);
    uint32_t seen = 0;
    if (member->index == 0 && !begin_phase(team)) {
        return NULL;
    }
    while (!atomic_load(&team->is_over)) {
        seen = atomic_load_explicit(&team->phase_number, memory_order_acquire);
        run_phases(member);
        if (!atomic_load(&team->is_over)) {
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
        publish(team);
        for (size_t i = started; i < team->member_count; i++) {
            pthread_join(team->members[i].thread, NULL);
        }
    }
    return failure;
}

enum status thread_team_create(size_t thread_count, const char *name,
                               bool (*next)(void *context, struct thread_team_phase *ret_phase), void *context,
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
    for (size_t i = 0; i < thread_count; i++) {
        team->members[i].team = team;
        team->members[i].index = i;
    }
    int failure = start_members(team);
    if (failure != 0) {
        mem_free(team);
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
    mem_free(team);
}
