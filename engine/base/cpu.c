/* What this process may use of the machine: affinity, cgroup quota, scheduling class. Thread: any. Owns nothing. */
#include "engine/base/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/check.h"

#ifndef sigev_notify_thread_id /* timer_create(2) names it; not every C library does */
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { CPUS_MAX = 8192, PATH_BYTES_MAX = 4096, THREAD_NAME_BYTES = 16, NICE_RUN_THREAD = 5, NICE_PROMPT_THREAD = -10 };
enum { YIELD_PERIOD_NS = 500000, PROMPT_SLICE_NS = 100000, RESET_ON_FORK = 1 /* SCHED_FLAG_RESET_ON_FORK */ };

static size_t affinity_count(void)
{
    static_assert(CPUS_MAX % 8 == 0, "a mask is whole bytes");
    unsigned char mask[CPUS_MAX / 8] = {0};
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    size_t count = 0;
    for (long i = 0; i < bytes; i++) {
        count += (size_t)__builtin_popcount(mask[i]);
    }
    return count > 0 ? count : 1;
}

/* Reads the first line of a small file; false when there is none. */
static bool read_line(const char *path, char *line, size_t line_bytes)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    bool is_read = fgets(line, (int)line_bytes, file) != NULL;
    fclose(file);
    return is_read;
}

size_t cpu_quota_count(const char *cpu_max_line)
{
    char *end;
    unsigned long long quota = strtoull(cpu_max_line, &end, 10);
    if (end == cpu_max_line) {
        return SIZE_MAX; /* "max": no quota */
    }
    unsigned long long period = strtoull(end, NULL, 10);
    if (period == 0) {
        return SIZE_MAX;
    }
    size_t count = (size_t)(quota / period + (quota % period != 0));
    return count > 0 ? count : 1;
}

/* The path of this process's cgroup (version 2) below its mount point; false when there is none. */
static bool find_cgroup(char path[PATH_BYTES_MAX])
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL) {
        return false;
    }
    bool is_found = false;
    while (!is_found && fgets(path, PATH_BYTES_MAX, file) != NULL) {
        if (strncmp(path, "0::/", 4) == 0) {
            path[strcspn(path, "\n")] = '\0';
            memmove(path, path + 3, strlen(path + 3) + 1);
            is_found = true;
        }
    }
    fclose(file);
    return is_found;
}

/* The smallest quota of this process's cgroup and those above it. */
static size_t cgroup_count(void)
{
    char group[PATH_BYTES_MAX];
    if (!find_cgroup(group)) {
        return SIZE_MAX;
    }
    size_t count = SIZE_MAX;
    for (;;) {
        char path[PATH_BYTES_MAX + 32];
        char line[64];
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
        if (read_line(path, line, sizeof line)) {
            size_t quota = cpu_quota_count(line);
            count = quota < count ? quota : count;
        }
        char *last = strrchr(group, '/');
        if (last == NULL) {
            return count;
        }
        *last = '\0';
    }
}

size_t cpu_usable_count(void)
{
    size_t affinity = affinity_count();
    size_t quota = cgroup_count();
    return quota < affinity ? quota : affinity;
}

void cpu_name_thread(const char *name)
{
    char cut[THREAD_NAME_BYTES];
    snprintf(cut, sizeof cut, "%s", name);
    pthread_setname_np(pthread_self(), cut);
}

void cpu_thread_set_idle(void)
{
    struct sched_param parameters = {0};
    sched_setscheduler(0, SCHED_IDLE, &parameters); /* 0: the calling thread; best effort */
}

/* A real-time signal of which nothing else here is known to make use. */
static int yield_signal(void)
{
    return SIGRTMIN + 5;
}

static void yield(int signal_number)
{
    (void)signal_number;
    sched_yield();
}

void cpu_thread_begin_yielding(struct cpu_yielding *yielding)
{
    struct sigaction action = {.sa_handler = yield, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = yield_signal()};
    const struct timespec period = {.tv_nsec = YIELD_PERIOD_NS};
    sigset_t signals;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    sigemptyset(&signals);
    sigaddset(&signals, yield_signal());
    yielding->is_on =
        sigaction(yield_signal(), &action, NULL) == 0 && timer_create(CLOCK_MONOTONIC, &event, &yielding->timer) == 0;
    if (yielding->is_on) {
        pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
        timer_settime(yielding->timer, 0, &(struct itimerspec){period, period}, NULL);
    }
}

void cpu_end_yielding(struct cpu_yielding *yielding)
{
    if (yielding->is_on) {
        timer_delete(yielding->timer);
        yielding->is_on = false;
    }
}

void cpu_thread_set_nice(void)
{
    /* A Linux thread has its own nice. Best effort. */
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE_RUN_THREAD);
}

/* struct sched_attr of sched_setattr(2), which some C libraries lack and others declare. */
struct scheduling {
    uint32_t size_bytes;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};
static_assert(sizeof(struct scheduling) == 48, "SCHED_ATTR_SIZE_VER0");

void cpu_thread_set_prompt(void)
{
    struct scheduling scheduling;
    if (syscall(SYS_sched_getattr, 0, &scheduling, (unsigned)sizeof scheduling, 0) != 0 ||
        scheduling.policy != SCHED_OTHER) {
        return;
    }
    bool is_nice_free = scheduling.nice == 0;
    scheduling.flags = RESET_ON_FORK;
    scheduling.runtime_ns = PROMPT_SLICE_NS;
    scheduling.nice = is_nice_free ? NICE_PROMPT_THREAD : scheduling.nice;
    if (syscall(SYS_sched_setattr, 0, &scheduling, 0) != 0 && is_nice_free) {
        scheduling.nice = 0; /* not permitted: the slice alone */
        syscall(SYS_sched_setattr, 0, &scheduling, 0);
    }
}
