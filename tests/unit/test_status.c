/* Errors: what they hold, how they are cut, and that NULL takes none of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/status.h"

static void test_every_status_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int a = 0; a < STATUS_COUNT; a++) {
        assert_true(strlen(status_name((enum status)a)) > 0);
        for (int b = 0; b < a; b++) {
            assert_string_not_equal(status_name((enum status)a), status_name((enum status)b));
        }
    }
    assert_string_equal(status_name(STATUS_NOT_FOUND), "not_found");
}

static void test_error_set_empties_what_was_there(void **state)
{
    (void)state;
    struct error error = {.status = STATUS_OK};
    memset(&error, 'x', sizeof error);
    assert_int_equal(error_set(&error, STATUS_LIMIT, "%s has %d, at most %d", "queue", 7, 5), STATUS_LIMIT);
    assert_int_equal(error.status, STATUS_LIMIT);
    assert_string_equal(error.message, "queue has 7, at most 5");
    assert_string_equal(error.type, "");
    assert_string_equal(error.code, "");
    assert_string_equal(error.param, "");
    assert_string_equal(error.variable, "");
    assert_int_equal(error.origin.program, 0);
    assert_string_equal(error.hint, "");
    assert_true(error.expired_at == 0 && error.retry_after_seconds == 0);
}

static void test_a_raised_error_bears_its_exception(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(error_raise(&error, STATUS_CONFLICT, EXCEPTION_VALUE, "%d graphs", 2), STATUS_CONFLICT);
    assert_int_equal(error.status, STATUS_CONFLICT);
    assert_string_equal(error.message, "2 graphs");
    assert_string_equal(error.type, "ValueError");
    assert_true(error_is(&error, EXCEPTION_VALUE));
    assert_false(error_is(&error, EXCEPTION_TYPE));
    error_type(&error, EXCEPTION_INVALID_ARGUMENT);
    assert_string_equal(error.type, "InvalidArgumentError");
    assert_string_equal(error.message, "2 graphs");
}

static void test_errno_becomes_status_and_reason(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(error_set_errno(&error, ENOENT, "open '%s'", "a"), STATUS_NOT_FOUND);
    assert_string_equal(error.message, "open 'a': No such file or directory");
    assert_int_equal(error_set_errno(&error, ENOMEM, "x"), STATUS_NO_MEMORY);
    assert_int_equal(error_set_errno(&error, EACCES, "x"), STATUS_IO);
    assert_int_equal(error.status, STATUS_IO);
}

static void test_code_and_prefix(void **state)
{
    (void)state;
    struct error error;
    error_set(&error, STATUS_CORRUPT, "3 bytes, expected 4");
    assert_int_equal(error_code(&error, "corrupt"), STATUS_CORRUPT);
    error_prefix(&error, "model %s@%d", "moby", 2);
    assert_string_equal(error.message, "model moby@2: 3 bytes, expected 4");
    assert_string_equal(error.code, "corrupt");
    assert_int_equal(error.status, STATUS_CORRUPT);
}

static void test_null_error_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, STATUS_IO, "x"), STATUS_IO);
    assert_int_equal(error_raise(NULL, STATUS_IO, EXCEPTION_KEY, "x"), STATUS_IO);
    error_type(NULL, EXCEPTION_KEY);
    assert_false(error_is(NULL, EXCEPTION_KEY));
    assert_int_equal(error_set_errno(NULL, ENOENT, "x"), STATUS_NOT_FOUND);
    assert_int_equal(error_code(NULL, "x"), STATUS_INVALID);
    error_prefix(NULL, "x");
}

/* However the characters fall on the limit, the message holds whole ones. */
static void test_a_long_message_is_cut_between_characters(void **state)
{
    (void)state;
    for (int lead = 0; lead < 4; lead++) {
        char text[2 * ERROR_MESSAGE_BYTES_MAX] = "aaaa";
        size_t used = (size_t)lead;
        while (used + 4 < sizeof text) {
            memcpy(text + used, "\xF0\x9F\x90\x8B", 4);
            used += 4;
        }
        text[used] = '\0';
        struct error error;
        error_set(&error, STATUS_INVALID, "%s", text);
        size_t length = strlen(error.message);
        assert_in_range(length, ERROR_MESSAGE_BYTES_MAX - 5, ERROR_MESSAGE_BYTES_MAX - 1);
        assert_int_equal((length - (size_t)lead) % 4, 0);
        error_prefix(&error, "%s", text);
        assert_int_equal((strlen(error.message) - (size_t)lead) % 4, 0);
        error_set_errno(&error, EIO, "%s", text);
        assert_int_equal((strlen(error.message) - (size_t)lead) % 4, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_has_a_name_of_its_own),
        cmocka_unit_test(test_error_set_empties_what_was_there),
        cmocka_unit_test(test_a_raised_error_bears_its_exception),
        cmocka_unit_test(test_errno_becomes_status_and_reason),
        cmocka_unit_test(test_code_and_prefix),
        cmocka_unit_test(test_null_error_is_allowed),
        cmocka_unit_test(test_a_long_message_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
