/* The header `traceparent`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/trace.h"

#define ID "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

static void test_good(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "00-" ID "-" PARENT "-01",  "00-" ID "-" PARENT "-ff",
        "01-" ID "-" PARENT "-00",  "cc-" ID "-" PARENT "-01-more-of_it",
        "fe-" ID "-" PARENT "-01-",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct trace trace;
        assert_true(trace_parse(headers[i], &trace));
        assert_string_equal(trace.id, ID);
        assert_string_equal(trace.parent, PARENT);
    }
}

static void test_bad(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "",
        "-",
        "00",
        "00-" ID,
        "00-" ID "-" PARENT,
        "00-" ID "-" PARENT "-",
        "00-" ID "-" PARENT "-1",
        "00-" ID "-" PARENT "-012",
        "00-" ID "-" PARENT "-01-",
        "00-" ID "-" PARENT "-01-more",
        "00-" ID "-" PARENT "-01 ",
        " 00-" ID "-" PARENT "-01",
        "cc-" ID "-" PARENT "-01.more",
        "cc-" ID "-" PARENT "-01-more, 00-" ID "-" PARENT "-01",
        "00-" ID "-" PARENT "-01, 00-" ID "-" PARENT "-01",
        "ff-" ID "-" PARENT "-01",
        "0-" ID "-" PARENT "-01",
        "000-" ID "-" PARENT "-01",
        "0x-" ID "-" PARENT "-01",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" ID "-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
        "00-" ID "-00F067AA0BA902B7-01",
        "00-" ID "0-" PARENT "-01",
        "00-" PARENT "-" ID "-01",
        "00_" ID "_" PARENT "_01",
        "00-" ID "-" PARENT "-0g",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct trace trace;
        memset(&trace, 'x', sizeof trace);
        assert_false(trace_parse(headers[i], &trace));
        assert_string_equal(trace.id, "");
        assert_string_equal(trace.parent, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
