/* Names of models, labels and corpora, on the command line, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/model_reference.h"

static void test_names(void **state)
{
    (void)state;
    assert_true(name_is_valid("a"));
    assert_true(name_is_valid("7.b-C_d"));
    assert_false(name_is_valid(""));
    assert_false(name_is_valid(".a"));
    assert_false(name_is_valid("a/b"));
    assert_false(name_is_valid("é"));
    assert_false(name_is_valid("a:b"));
    assert_false(name_is_valid("a b"));
    char name[66];
    memset(name, 'x', sizeof name);
    name[65] = '\0';
    assert_false(name_is_valid(name));
    name[64] = '\0';
    assert_true(name_is_valid(name));

    struct model_reference reference;
    struct error error;
    assert_int_equal(model_reference_parse(name, &reference, &error), STATUS_OK);
    assert_string_equal(reference.name, name);
    assert_int_equal(model_reference_parse("models/.a", &reference, &error), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
