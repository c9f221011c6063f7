/* The command line's table: values, defaults, lists, and each refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/options.h"

static const struct option_row rows[] = {
    {"models", OPTION_TEXT, "DIR", "models", "where models are"},
    {"listen", OPTION_LIST, "ADDRESS", NULL, "where to listen"},
    {"seed", OPTION_COUNT, "N", "7", "a number"},
    {"rate", OPTION_NUMBER, "X", "0.5", "a number"},
    {"check", OPTION_FLAG, NULL, NULL, "only look"},
};
enum { ROW_COUNT = sizeof rows / sizeof *rows };

static enum status parse(struct options *options, struct error *error, int argc, char *const *argv)
{
    return options_parse(options, rows, ROW_COUNT, argc, argv, error);
}

static void test_defaults(void **state)
{
    (void)state;
    struct options options;
    struct error error;
    char *argv[] = {(char[]){"x"}};
    assert_int_equal(parse(&options, &error, 1, argv), STATUS_OK);
    assert_string_equal(options_text(&options, "models"), "models");
    assert_null(options_list(&options, "listen", 0));
    assert_int_equal(options_count(&options, "seed"), 7);
    assert_true(options_number(&options, "rate") == 0.5);
    assert_false(options_is_given(&options, "check"));
    assert_int_equal(options.positional_count, 0);
}

static void test_values(void **state)
{
    (void)state;
    struct options options;
    struct error error;
    char *argv[] = {(char[]){"x"},       (char[]){"--models=a=b"}, (char[]){"first"},        (char[]){"--listen"},
                    (char[]){"[::1]:0"}, (char[]){"--listen"},     (char[]){"/sock"},        (char[]){"--check"},
                    (char[]){"--seed"},  (char[]){"42"},           (char[]){"--rate=-1e-3"}, (char[]){"--"},
                    (char[]){"--second"}};
    assert_int_equal(parse(&options, &error, 13, argv), STATUS_OK);
    assert_string_equal(options_text(&options, "models"), "a=b");
    assert_string_equal(options_list(&options, "listen", 0), "[::1]:0");
    assert_string_equal(options_list(&options, "listen", 1), "/sock");
    assert_null(options_list(&options, "listen", 2));
    assert_true(options_is_given(&options, "check"));
    assert_int_equal(options_count(&options, "seed"), 42);
    assert_true(options_number(&options, "rate") == -1e-3);
    assert_int_equal(options.positional_count, 2);
    assert_string_equal(options.positional[0], "first");
    assert_string_equal(options.positional[1], "--second");
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *argument;
        const char *message;
    } cases[] = {
        {"--modles=x", "unknown option --modles"},
        {"--mod", "unknown option --mod"},
        {"-m", "unknown option -m: options begin with two dashes"},
        {"--check=yes", "--check takes no value"},
        {"--seed", "--seed needs a value: N"},
        {"--models=", "--models: the DIR is empty"},
        {"--seed=-1", "--seed: '-1' is not an integer of 0 to 2^53"},
        {"--seed=", "--seed: '' is not an integer of 0 to 2^53"},
        {"--seed=9007199254740993", "--seed: '9007199254740993' is not an integer of 0 to 2^53"},
        {"--seed=99999999999999999999999", "--seed: '99999999999999999999999' is not an integer of 0 to 2^53"},
        {"--rate=nan", "--rate: 'nan' is not a number"},
        {"--rate=1e999", "--rate: '1e999' is not a number"},
        {"--rate=1x", "--rate: '1x' is not a number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct options options;
        struct error error;
        char argument[64];
        snprintf(argument, sizeof argument, "%s", cases[i].argument);
        char *argv[] = {(char[]){"x"}, argument};
        assert_int_equal(parse(&options, &error, 2, argv), STATUS_INVALID);
        assert_string_equal(error.message, cases[i].message);
    }
}

static void test_maxima(void **state)
{
    (void)state;
    static char *argv[OPTIONS_VALUES_MAX + 3];
    char flag[] = "--check";
    char text[] = "text";
    struct options options;
    struct error error;
    argv[0] = (char[]){"x"};
    for (size_t i = 1; i <= OPTIONS_VALUES_MAX + 1; i++) {
        argv[i] = flag;
    }
    assert_int_equal(parse(&options, &error, OPTIONS_VALUES_MAX + 1, argv), STATUS_OK);
    assert_int_equal(parse(&options, &error, OPTIONS_VALUES_MAX + 2, argv), STATUS_INVALID);
    for (size_t i = 1; i <= OPTIONS_POSITIONAL_MAX + 1; i++) {
        argv[i] = text;
    }
    assert_int_equal(parse(&options, &error, OPTIONS_POSITIONAL_MAX + 1, argv), STATUS_OK);
    assert_int_equal(parse(&options, &error, OPTIONS_POSITIONAL_MAX + 2, argv), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_maxima),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
