/* Shutting a process in with libseccomp and resource limits. Thread: the only one of its process. */
#include "daemon/sandbox.h"

#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The sanitizers reserve terabytes of address space. */
#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool has_shadow_memory = true;
#elif __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
static const bool has_shadow_memory = true;
#else
static const bool has_shadow_memory = false;
#endif

/* ---- system calls ---- */

static const int allowed_calls[] = {
    SCMP_SYS(read),         SCMP_SYS(pread64),       SCMP_SYS(close),        SCMP_SYS(munmap),
    SCMP_SYS(mremap),       SCMP_SYS(brk),           SCMP_SYS(madvise),      SCMP_SYS(futex),
    SCMP_SYS(exit),         SCMP_SYS(exit_group),    SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction), SCMP_SYS(clock_gettime), SCMP_SYS(getrandom),    SCMP_SYS(sched_yield),
    SCMP_SYS(getpid),       SCMP_SYS(gettid),        SCMP_SYS(lseek),        SCMP_SYS(sigaltstack),
    SCMP_SYS(fstat),        SCMP_SYS(newfstatat),    SCMP_SYS(sysinfo), /* qsort asks for the memory there is */
};

/* A signal to oneself is how abort ends a process: by a CHECK, or a sanitizer. */
static int allow_abort(scmp_filter_ctx filter)
{
    scmp_datum_t own = (scmp_datum_t)getpid();
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, own, 0));
}

/* Memory that cannot become code. */
static int allow_memory(scmp_filter_ctx filter)
{
    static const int calls[] = {SCMP_SYS(mmap), SCMP_SYS(mprotect)};
    int failed = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls && failed == 0; i++) {
        failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    }
    return failed;
}

static int allow_output(scmp_filter_ctx filter)
{
    static const int calls[] = {SCMP_SYS(write), SCMP_SYS(writev)};
    int failed = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls && failed == 0; i++) {
        for (scmp_datum_t descriptor = STDOUT_FILENO; descriptor <= STDERR_FILENO && failed == 0; descriptor++) {
            failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 1, SCMP_A0(SCMP_CMP_EQ, descriptor, 0));
        }
    }
    return failed;
}

static enum status load_filter(struct error *error)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (filter == NULL) {
        /* Where a filter of the service manager's denies seccomp(2), prctl's older interface is left, which ends a
         * thread; this process has one. */
        filter = seccomp_init(SCMP_ACT_KILL);
    }
    if (filter == NULL) {
        return error_set(error, STATUS_UNSUPPORTED, "this kernel has no seccomp filters");
    }
    int failed = 0;
    for (size_t i = 0; i < sizeof allowed_calls / sizeof *allowed_calls && failed == 0; i++) {
        failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_calls[i], 0);
    }
    failed = failed != 0 ? failed : allow_memory(filter);
    failed = failed != 0 ? failed : allow_output(filter);
    failed = failed != 0 ? failed : allow_abort(filter);
    failed = failed != 0 ? failed : seccomp_load(filter);
    seccomp_release(filter);
    return failed == 0 ? STATUS_OK : error_set_errno(error, -failed, "the process cannot be shut in (seccomp)");
}

/* ---- limits ---- */

/* Address space that the process has now. */
static uint64_t address_space_bytes(void)
{
    char text[64] = "";
    int descriptor = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor < 0 ? 0 : read(descriptor, text, sizeof text - 1);
    if (descriptor >= 0) {
        close(descriptor);
    }
    return length <= 0 ? 0 : (uint64_t)strtoull(text, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool limit(__rlimit_resource_t resource, uint64_t most)
{
    const struct rlimit both = {.rlim_cur = most, .rlim_max = most};
    return setrlimit(resource, &both) == 0;
}

/* Where both limits are one, the kernel kills at once (SIGKILL), without SIGXCPU, which says why. */
static bool limit_cpu(uint64_t seconds)
{
    const struct rlimit limits = {.rlim_cur = seconds, .rlim_max = seconds + 1};
    return setrlimit(RLIMIT_CPU, &limits) == 0;
}

bool sandbox_limits_memory(void)
{
    return !has_shadow_memory;
}

enum status sandbox_enter(const struct sandbox_limits *limits, struct error *error)
{
    bool is_limited = limit(RLIMIT_CORE, 0) && limit_cpu(limits->cpu_seconds) && limit(RLIMIT_FSIZE, 0) &&
                      (!sandbox_limits_memory() || limit(RLIMIT_AS, address_space_bytes() + limits->memory_bytes)) &&
                      prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
    if (!is_limited) {
        return error_set_errno(error, errno, "the process cannot be limited");
    }
    alarm((unsigned)limits->elapsed_seconds);
    return load_filter(error);
}
