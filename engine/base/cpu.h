/* What this process may use of the machine. Thread: any. */
#ifndef ENGINE_BASE_CPU_H
#define ENGINE_BASE_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

/* CPUs this process may keep busy: the smaller of its affinity mask and the cpu.max quotas of its cgroup and of those
 * above it (rounded up), at least 1. Reads files: at start, not on the loop. */
size_t cpu_usable_count(void);

/* CPUs that a line of cpu.max ("200000 100000", "max 100000") allows, rounded up, at least 1; SIZE_MAX without a
 * quota. */
size_t cpu_quota_count(const char *cpu_max_line);

/* Gives the calling thread a name for top and gdb (cut to 15 bytes). */
void cpu_name_thread(const char *name);

/* Lets the calling thread run only on CPU time nobody else wants (SCHED_IDLE), or at nice 5. Best effort. */
void cpu_thread_set_idle(void);
void cpu_thread_set_nice(void);

/* Has the calling thread offer its CPU to others every 0.5 ms, from a signal handler. Without it a thread of the lowest
 * priority, once it runs, may keep a CPU to the clock's next tick (4 ms where there are 250 a second), though others
 * wait: to Linux' scheduler (EEVDF, from 6.6) they are not eligible while they have had more than their share. Its
 * system calls are restarted, or end with EINTR. Ended by any thread, before or after that one ends. Best effort. */
struct cpu_yielding {
    bool is_on;
    timer_t timer;
};
void cpu_thread_begin_yielding(struct cpu_yielding *yielding);
void cpu_end_yielding(struct cpu_yielding *yielding);

/* Lets the calling thread run soon after it wakes, for a short time, where all CPUs are busy: its slice of CPU time is
 * 0.1 ms (sched_setattr(2), sched_runtime of a SCHED_OTHER thread, from Linux 6.12; before, it changes nothing). Where
 * that is permitted (CAP_SYS_NICE, RLIMIT_NICE), and nobody chose another nice than 0, its nice is −10: a thread that
 * has had its share of a busy CPU would otherwise wait for the slices of others. That share is larger then, too: for a
 * thread that sleeps as soon as it can. Threads and processes that it starts have neither. Best effort. */
void cpu_thread_set_prompt(void);

/* Inside a loop that waits for another thread: leaves the core's resources to its sibling. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
