/* What this process may use of the machine. Thread: any. */
#ifndef ENGINE_BASE_CPU_H
#define ENGINE_BASE_CPU_H

#include <stddef.h>

/* CPUs this process may keep busy: the smaller of its affinity mask and its cgroup's cpu.max, at least 1. */
size_t cpu_usable_count(void);

/* Gives the calling thread a name for top and gdb (at most 15 bytes). */
void cpu_name_thread(const char *name);

/* Lets the calling thread run only on CPU time nobody else wants (SCHED_IDLE), or at nice 5. Best effort. */
void cpu_thread_set_idle(void);
void cpu_thread_set_nice(void);

#endif
