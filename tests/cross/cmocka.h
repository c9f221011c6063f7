/* As much of cmocka as the tests of the kernels use, for processors whose cmocka is not at hand: `make aarch64` puts
 * this folder before the system's. Reports in TAP; the first failure ends the test. Thread: one. */
#ifndef TESTS_CROSS_CMOCKA_H
#define TESTS_CROSS_CMOCKA_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(function) ((struct CMUnitTest){#function, function})
#define cmocka_run_group_tests(tests, setup, teardown) cross_run(tests, sizeof(tests) / sizeof *(tests))
#define print_message(...) printf("# " __VA_ARGS__)

/* Set while a test runs. */
static jmp_buf cross_end_of_test;

/* Here, as in cmocka, an assertion does not return. */
#define cross_assert(holds, ...)                                                                                       \
    do {                                                                                                               \
        if (!(holds)) {                                                                                                \
            printf("# %s:%d: ", __FILE__, __LINE__);                                                                   \
            printf(__VA_ARGS__);                                                                                       \
            putchar('\n');                                                                                             \
            longjmp(cross_end_of_test, 1);                                                                             \
        }                                                                                                              \
    } while (0)

#define assert_true(condition) cross_assert(condition, "%s", #condition)
#define assert_false(condition) cross_assert(!(condition), "not: %s", #condition)
#define assert_null(pointer) cross_assert((pointer) == NULL, "%s is not NULL", #pointer)
#define assert_non_null(pointer) cross_assert((pointer) != NULL, "%s is NULL", #pointer)
#define assert_ptr_equal(a, b) cross_assert((const void *)(a) == (const void *)(b), "%s != %s", #a, #b)
#define assert_int_equal(a, b) cross_assert((long long)(a) == (long long)(b), "%s is %lld", #a, (long long)(a))
#define assert_int_not_equal(a, b) cross_assert((long long)(a) != (long long)(b), "%s is %lld", #a, (long long)(a))
#define assert_string_equal(a, b) cross_assert(strcmp(a, b) == 0, "%s is '%s'", #a, a)
#define assert_memory_equal(a, b, bytes) cross_assert(memcmp(a, b, bytes) == 0, "%s is not %s", #a, #b)

/* Runs one test; false when an assertion ended it. */
static bool cross_passes(const struct CMUnitTest *test)
{
    void *state = NULL;
    if (setjmp(cross_end_of_test) != 0) {
        return false;
    }
    test->run(&state);
    return true;
}

/* Runs them all; the number that failed. */
static inline int cross_run(const struct CMUnitTest *tests, size_t count)
{
    int failed = 0;
    printf("1..%zu\n", count);
    for (size_t i = 0; i < count; i++) {
        bool passes = cross_passes(&tests[i]);
        failed += !passes;
        printf("%s %zu - %s\n", passes ? "ok" : "not ok", i + 1, tests[i].name);
        fflush(stdout);
    }
    return failed;
}

#endif
