/* What the machine allows: quotas, affinity, names, scheduling class. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/cpu.h"

static void test_quota_is_rounded_up(void **state)
{
    (void)state;
    assert_int_equal(cpu_quota_count("200000 100000\n"), 2);
    assert_int_equal(cpu_quota_count("150000 100000"), 2);
    assert_int_equal(cpu_quota_count("5000 100000"), 1);
    assert_int_equal(cpu_quota_count("0 100000"), 1);
    assert_true(cpu_quota_count("max 100000\n") == SIZE_MAX);
    assert_true(cpu_quota_count("100000 0") == SIZE_MAX);
    assert_true(cpu_quota_count("100000") == SIZE_MAX);
    assert_true(cpu_quota_count("") == SIZE_MAX);
}

/* Threads, so that what they set ends with them. */
static void *with_one_cpu(void *unused)
{
    (void)unused;
    cpu_set_t all;
    cpu_set_t one;
    CPU_ZERO(&one);
    sched_getaffinity(0, sizeof all, &all);
    for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
            CPU_SET(cpu, &one);
        }
    }
    sched_setaffinity(0, sizeof one, &one);
    return (void *)cpu_usable_count();
}

static void *named(void *name)
{
    cpu_name_thread("a-name-that-is-too-long");
    pthread_getname_np(pthread_self(), name, 16);
    return NULL;
}

static void *set_idle(void *unused)
{
    (void)unused;
    cpu_thread_set_idle();
    return (void *)(intptr_t)sched_getscheduler(0);
}

static void *set_nice(void *unused)
{
    (void)unused;
    cpu_thread_set_nice();
    return (void *)(intptr_t)getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
}

struct attributes { /* sched_getattr's answer */
    uint32_t size_bytes, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

static void *get_attributes(void *attributes)
{
    return (void *)(intptr_t)syscall(SYS_sched_getattr, 0, attributes, (unsigned)sizeof(struct attributes), 0);
}

static void *set_nice_and_prompt(void *attributes)
{
    cpu_thread_set_nice();
    cpu_thread_set_prompt();
    return get_attributes(attributes);
}

static void *set_prompt(void *attributes)
{
    cpu_thread_set_prompt();
    return get_attributes(attributes);
}

static void *run(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    void *result;
    assert_int_equal(pthread_create(&thread, NULL, function, argument), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    return result;
}

static void test_affinity_is_respected(void **state)
{
    (void)state;
    size_t count = cpu_usable_count();
    assert_true(count >= 1 && count <= (size_t)sysconf(_SC_NPROCESSORS_CONF));
    assert_ptr_equal(run(with_one_cpu, NULL), (void *)1);
    assert_int_equal(cpu_usable_count(), count);
}

static void test_thread_is_named_and_lowered(void **state)
{
    (void)state;
    char name[16];
    run(named, name);
    assert_string_equal(name, "a-name-that-is-");
    assert_ptr_equal(run(set_idle, NULL), (void *)(intptr_t)SCHED_IDLE);
    assert_ptr_equal(run(set_nice, NULL), (void *)5);
}

/* The signal that yields ends its sleep; afterwards it sleeps through. */
static void *sleep_while_yielding(void *unused)
{
    (void)unused;
    struct cpu_yielding yielding = {.is_on = false};
    cpu_thread_begin_yielding(&yielding);
    assert_true(yielding.is_on);
    assert_int_equal(clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_sec = 60}, NULL), EINTR);
    cpu_end_yielding(&yielding);
    assert_int_equal(clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = 5000000}, NULL), 0);
    cpu_end_yielding(&yielding); /* changes nothing */
    return NULL;
}

static void test_a_thread_yields_until_it_is_told_not_to(void **state)
{
    (void)state;
    assert_null(run(sleep_while_yielding, NULL));
}

/* Linux before 6.12 has no slices of their own for such threads, and says 0. */
static void assert_prompt(const struct attributes *attributes, int nice)
{
    assert_int_equal(attributes->policy, SCHED_OTHER);
    assert_int_equal(attributes->nice, nice);
    assert_int_equal(attributes->flags, 1);
    assert_true(attributes->runtime_ns == 100000 || attributes->runtime_ns == 0);
}

static void test_a_prompt_thread_keeps_the_niceness_somebody_chose(void **state)
{
    (void)state;
    struct attributes attributes = {0};
    assert_null(run(set_nice_and_prompt, &attributes));
    assert_prompt(&attributes, 5);
}

static void *start_from_prompt(void *attributes)
{
    cpu_thread_set_prompt();
    return run(get_attributes, attributes);
}

static void *is_lower_nice_permitted(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)(setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), -10) == 0);
}

static void test_a_prompt_thread_goes_first_where_that_is_permitted(void **state)
{
    (void)state;
    if (getpriority(PRIO_PROCESS, 0) != 0) {
        print_message("somebody chose another nice than 0 for the tests\n");
        skip();
    }
    struct attributes attributes = {0};
    assert_null(run(set_prompt, &attributes));
    assert_prompt(&attributes, run(is_lower_nice_permitted, NULL) != NULL ? -10 : 0);
    assert_null(run(start_from_prompt, &attributes));
    assert_int_equal(attributes.nice, 0);
    assert_int_not_equal(attributes.runtime_ns, 100000);
}

/* As of a user without privileges; the limit is the whole process's, for good. */
static void *set_prompt_without_permission(void *attributes)
{
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_NICE, &none) != 0 || (geteuid() == 0 && syscall(SYS_setresuid, 65534, 65534, 65534) != 0) ||
        is_lower_nice_permitted(NULL) != NULL || getpriority(PRIO_PROCESS, 0) != 0) {
        return (void *)1;
    }
    cpu_thread_set_prompt();
    return get_attributes(attributes);
}

static void test_a_prompt_thread_without_permission_has_its_slice(void **state)
{
    (void)state;
    struct attributes attributes = {0};
    if (run(set_prompt_without_permission, &attributes) != NULL) {
        print_message("here a permission cannot be given up: a namespace of one user, or a capability\n");
        skip();
    }
    assert_prompt(&attributes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quota_is_rounded_up),
        cmocka_unit_test(test_affinity_is_respected),
        cmocka_unit_test(test_thread_is_named_and_lowered),
        cmocka_unit_test(test_a_thread_yields_until_it_is_told_not_to),
        cmocka_unit_test(test_a_prompt_thread_keeps_the_niceness_somebody_chose),
        cmocka_unit_test(test_a_prompt_thread_goes_first_where_that_is_permitted),
        cmocka_unit_test(test_a_prompt_thread_without_permission_has_its_slice), /* the last: it gives permissions up */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
