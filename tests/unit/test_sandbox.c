/* The sandbox: what a shut-in process still can do, and that the kernel ends it at anything else. Each case is a
 * process of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/sandbox.h"
#include "engine/base/mem.h"

enum { EXIT_NOT_ENTERED = 90, MEMORY_BYTES = 64 << 20 };

static int opened;

static int compute_and_read(void)
{
    char byte;
    void *block = mem_allocate(1 << 20, 1);
    bool is_read = pread(opened, &byte, 1, 0) == 1;
    mem_free(block);
    return block != NULL && is_read ? 0 : 1;
}

static int take_too_much_memory(void)
{
    return mem_allocate(2 * (size_t)MEMORY_BYTES, 1) == NULL ? 0 : 1;
}

static int open_file(void)
{
    return open("/etc/passwd", O_RDONLY);
}

static int connect_somewhere(void)
{
    return socket(AF_INET, SOCK_STREAM, 0);
}

static int start_process(void)
{
    return fork() >= 0 ? 0 : 1;
}

static int map_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

static int write_elsewhere(void)
{
    return (int)write(opened, "", 1);
}

/* What systemd's SystemCallFilter=@system-service does to the call that loads filters. */
static bool deny_seccomp(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    bool is_loaded = filter != NULL && seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(seccomp), 0) == 0 &&
                     seccomp_load(filter) == 0;
    seccomp_release(filter);
    return is_loaded && seccomp_reset(NULL, 0) == 0; /* libseccomp asks the kernel again what it can */
}

/* How a process that enters the sandbox and does one thing ends; perhaps within the filter of a service manager. */
static int end_within(int (*act)(void), bool is_within_filter, uint64_t cpu_seconds)
{
    pid_t process = fork();
    assert_true(process >= 0);
    if (process == 0) {
        struct error error;
        if (is_within_filter && !deny_seccomp()) {
            _exit(EXIT_NOT_ENTERED);
        }
        const struct sandbox_limits limits = {
            .memory_bytes = MEMORY_BYTES, .cpu_seconds = cpu_seconds, .elapsed_seconds = 20};
        enum status status = sandbox_enter(&limits, &error);
        _exit(status == STATUS_OK ? act() : EXIT_NOT_ENTERED);
    }
    int state = 0;
    assert_int_equal(waitpid(process, &state, 0), process);
    return state;
}

static int end_of(int (*act)(void), bool is_within_filter)
{
    return end_within(act, is_within_filter, 10);
}

static int compute_on(void)
{
    volatile bool goes_on = true;
    while (goes_on) {
    }
    return 0;
}

static void test_the_end_of_cpu_time_has_its_signal(void **state)
{
    (void)state;
    int end = end_within(compute_on, false, 1);
    assert_true(WIFSIGNALED(end));
    assert_int_equal(WTERMSIG(end), SIGXCPU);
}

static void test_what_is_left(void **state)
{
    (void)state;
    int end = end_of(compute_and_read, false);
    assert_true(WIFEXITED(end));
    assert_int_equal(WEXITSTATUS(end), 0);
}

static void test_memory_is_limited(void **state)
{
    (void)state;
    if (!sandbox_limits_memory()) {
        print_message("a sanitizer's shadow takes terabytes of address space, which the limit counts\n");
        skip();
    }
    int end = end_of(take_too_much_memory, false);
    assert_true(WIFEXITED(end));
    assert_int_equal(WEXITSTATUS(end), 0);
}

/* Whether a process that was forked has one thread: the thread sanitizer may begin another there. */
static bool is_alone(void)
{
    pid_t process = fork();
    assert_true(process >= 0);
    if (process == 0) {
        struct stat tasks;
        _exit(stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink == 2 + 1 ? 0 : 1);
    }
    int state = 0;
    assert_int_equal(waitpid(process, &state, 0), process);
    return WIFEXITED(state) && WEXITSTATUS(state) == 0;
}

static void test_what_is_gone(void **state)
{
    (void)state;
    /* Within a filter that denies the newer call, the kernel can only end a thread: where others are, the process
     * stays. */
    size_t filters = is_alone() ? 2 : 1;
    static int (*const acts[])(void) = {open_file, connect_somewhere, start_process, map_code, write_elsewhere};
    for (size_t i = 0; i < filters * (sizeof acts / sizeof *acts); i++) {
        int end = end_of(acts[i / filters], i % filters == 1);
        assert_true(WIFSIGNALED(end));
        assert_int_equal(WTERMSIG(end), SIGSYS);
    }
    int end = end_of(compute_and_read, true);
    assert_true(WIFEXITED(end));
    assert_int_equal(WEXITSTATUS(end), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_is_left), cmocka_unit_test(test_memory_is_limited),
                                       cmocka_unit_test(test_what_is_gone),
                                       cmocka_unit_test(test_the_end_of_cpu_time_has_its_signal)};
    opened = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
