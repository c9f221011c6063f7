/* Errors: what a message keeps, where it is cut, and what an errno becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/status.h"

static void test_setting_fills_the_message_and_empties_the_rest(void **state)
{
    (void)state;
    struct error error = {.code = "old", .param = "old", .hint = "old", .type = "old"};
    assert_int_equal(error_set(&error, STATUS_LIMIT, "%s: %d", "layers", 9), STATUS_LIMIT);
    assert_int_equal(error.status, STATUS_LIMIT);
    assert_string_equal(error.message, "layers: 9");
    assert_string_equal(error.code, "");
    assert_string_equal(error.param, "");
    assert_string_equal(error.hint, "");
    assert_string_equal(error.type, "");
    assert_int_equal(error_set(NULL, STATUS_IO, "x"), STATUS_IO);
}

static void test_code_and_prefix_add_to_it(void **state)
{
    (void)state;
    struct error error;
    error_set(&error, STATUS_CORRUPT, "12 bytes");
    error_prefix(&error, "%s", "weights");
    assert_int_equal(error_code(&error, "corrupt"), STATUS_CORRUPT);
    assert_string_equal(error.message, "weights: 12 bytes");
    assert_string_equal(error.code, "corrupt");
    error_prefix(NULL, "x");
    error_code(NULL, "x");
}

static void test_a_long_message_is_cut_between_characters(void **state)
{
    (void)state;
    char text[2 * ERROR_MESSAGE_BYTES_MAX];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 3 < sizeof text; i += 3) {
            memcpy(text + i, "\xe2\x80\x94", 4);
        }
        struct error error;
        error_set(&error, STATUS_INVALID, "%s", text);
        size_t length = strlen(error.message);
        assert_true(length < ERROR_MESSAGE_BYTES_MAX && length > ERROR_MESSAGE_BYTES_MAX - 8);
        assert_int_equal((length - shift) % 3, 0);
        error_prefix(&error, "%s", "a prefix");
        length = strlen(error.message);
        assert_int_equal((length - shift - strlen("a prefix: ")) % 3, 0);
    }
}

static void test_errno_becomes_a_status(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(error_set_errno(&error, ENOENT, "open '%s'", "x"), STATUS_NOT_FOUND);
    assert_string_equal(error.message, "open 'x': No such file or directory");
    assert_int_equal(error_set_errno(&error, ENOMEM, "x"), STATUS_NO_MEMORY);
    assert_int_equal(error_set_errno(&error, EACCES, "x"), STATUS_IO);
    assert_int_equal(error_set_errno(NULL, EIO, "x"), STATUS_IO);
}

static void test_every_status_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int a = 0; a < STATUS_COUNT; a++) {
        for (int b = 0; b < a; b++) {
            assert_string_not_equal(status_name((enum status)a), status_name((enum status)b));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_setting_fills_the_message_and_empties_the_rest),
        cmocka_unit_test(test_code_and_prefix_add_to_it),
        cmocka_unit_test(test_a_long_message_is_cut_between_characters),
        cmocka_unit_test(test_errno_becomes_a_status),
        cmocka_unit_test(test_every_status_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
