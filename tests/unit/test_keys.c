/* The key file: its entries, what is refused with file and line, and finding a key by its text or its user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "daemon/keys.h"
#include "engine/engine.h"
#include "tests/unit/text_file_rig.h"

#define HASH_OF_A "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" /* SHA-256 of "a" */
#define HASH_OF_B "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"

static enum status read_text(const char *text, struct keys **ret_keys, struct error *error)
{
    write_text(text);
    return keys_read(path, ret_keys, error);
}

static void test_entries(void **state)
{
    (void)state;
    struct keys *keys = NULL;
    struct error error;
    assert_int_equal(read_text("# keys\n"
                               "[key page]\nsha256 = " HASH_OF_A "\nmodels = bard shelley\nmodels = keats\n"
                               "[key boss]\nsha256=" HASH_OF_B "\nscope=admin\n"
                               "[key local]\nusers = 1001 root\nscope = admin\n"
                               "requests_per_minute = 0.5\nsymbols_per_second=2000\nstreams = 4\nper_address = yes\n",
                               &keys, &error),
                     STATUS_OK);
    assert_int_equal(keys_count(keys), 3);
    const struct key *page = keys_find(keys, "a", 1);
    assert_non_null(page);
    assert_string_equal(page->name, "page");
    assert_int_equal(page->scope, SCOPE_GENERATE);
    assert_string_equal(page->models, "bard shelley keats");
    const struct key *boss = keys_find(keys, "b", 1);
    assert_non_null(boss);
    assert_string_equal(boss->name, "boss");
    assert_int_equal(boss->scope, SCOPE_ADMIN);
    assert_string_equal(boss->models, "");
    assert_null(keys_find(keys, "c", 1));
    assert_null(keys_find(keys, "", 0));
    assert_null(keys_find(keys, "a ", 2));
    assert_null(keys_find(keys, HASH_OF_A, strlen(HASH_OF_A)));
    const struct key *local = keys_find_user(keys, 1001);
    assert_string_equal(local->name, "local");
    assert_true(local->limits.requests_per_minute == 0.5 && local->limits.symbols_per_second == 2000);
    assert_true(local->limits.streams == 4 && local->limits.per_address);
    assert_true(page->limits.requests_per_minute == 0 && page->limits.streams == 0 && !page->limits.per_address);
    assert_string_equal(keys_find_user(keys, 0)->name, "local");
    assert_null(keys_find_user(keys, 1002));
    keys_destroy(keys);
}

/* A hash of zeros, as an entry without one has, is not found either. */
static void test_an_entry_for_users_has_no_key(void **state)
{
    (void)state;
    struct keys *keys = NULL;
    struct error error;
    assert_int_equal(read_text("[key local]\nusers = 0\n", &keys, &error), STATUS_OK);
    for (int i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        assert_null(keys_find(keys, text, strlen(text)));
    }
    keys_destroy(keys);
}

static void test_as_many_as_there_may_be(void **state)
{
    (void)state;
    struct keys *keys = NULL;
    struct error error;
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i <= KEYS_MAX; i++) {
        char text[16], sha256[SHA256_TEXT_BYTES];
        snprintf(text, sizeof text, "key %d", i);
        sha256_text(text, strlen(text), sha256);
        fprintf(file, "[key k%d]\nsha256 = %s\n", i, sha256);
        if (i + 1 == KEYS_MAX) {
            fflush(file);
            assert_int_equal(keys_read(path, &keys, &error), STATUS_OK);
        }
    }
    fclose(file);
    assert_string_equal(keys_find(keys, "key 0", 5)->name, "k0");
    assert_string_equal(keys_find(keys, "key 1023", 8)->name, "k1023");
    assert_null(keys_find(keys, "key 1024", 8));
    keys_destroy(keys);
    assert_int_equal(keys_read(path, &keys, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "more than 1024 keys"));
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"sha256 = " HASH_OF_A "\n", ":1: section [], expected [key NAME]"},
        {"[page]\nsha256 = " HASH_OF_A "\n", ":2: section [page], expected [key NAME]"},
        {"[key ]\nsha256 = " HASH_OF_A "\n", ":2: '' is no name"},
        {"[key a b]\nsha256 = " HASH_OF_A "\n", ":2: 'a b' is no name"},
        {"[key a]\nsha256 = 12\n", ":2: sha256 takes 64 hexadecimal digits"},
        {"[key a]\nsha256 = " HASH_OF_A "0\n", ":2: sha256 takes 64 hexadecimal digits"},
        {"[key a]\nsha256 = CA978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb\n",
         ":2: sha256 takes 64 hexadecimal digits in lower case"},
        {"[key a]\nsha256 = " HASH_OF_A "\nsha256 = " HASH_OF_B "\n", ":3: sha256 is given twice"},
        {"[key a]\nscope = all\n", ":2: scope is 'all', expected generate or admin"},
        {"[key a]\nmodels = ../x\n", ":2: '../x' is no name"},
        {"[key a]\nmodels =\n", ":2: models is empty; left out it means all"},
        {"[key a]\nmodels = bard\nmodels = \t\n", ":3: models is empty; left out it means all"},
        {"[key a]\nusers = no-such-user-here\n", ":2: there is no user 'no-such-user-here'"},
        {"[key a]\nusers = 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n", ":2: more than 16 users"},
        {"[key a]\nrequests_per_minute = 0\n", ":2: requests_per_minute is '0', expected a number above 0"},
        {"[key a]\nsymbols_per_second = many\n", ":2: symbols_per_second is 'many'"},
        {"[key a]\nstreams = 1.5\n", ":2: streams is '1.5', expected an integer above 0"},
        {"[key a]\nper_address = maybe\n", ":2: per_address is 'maybe', expected yes or no"},
        {"[key a]\ncolour = red\n", ":2: a key has no 'colour'"},
        {"[key a]\nscope = admin\n", ": [key a] has neither sha256 nor users"},
        {"[key a]\nusers = 1\n[key b]\nusers = 2\n[key a]\nscope = admin\n", ":6: [key a] stands there twice"},
        {"[key a]\nsha256 = " HASH_OF_A "\n[key b]\nsha256 = " HASH_OF_A "\n", ": [key a] and [key b] are the same"},
        {"[key a]\nnonsense\n", ":2: expected `name = value`"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct keys *keys = NULL;
        struct error error;
        assert_int_equal(read_text(cases[i].text, &keys, &error), STATUS_INVALID);
        assert_int_equal(strncmp(error.message, path, strlen(path)), 0);
        assert_int_equal(strncmp(error.message + strlen(path), cases[i].message, strlen(cases[i].message)), 0);
    }
}

static void test_the_file_itself(void **state)
{
    (void)state;
    struct keys *keys = NULL;
    struct error error;
    assert_int_equal(keys_read("/nonexistent/keys", &keys, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.message, "open key file '/nonexistent/keys'"));
    assert_int_equal(read_text("[key a]\nusers = 1\n", &keys, &error), STATUS_OK);
    keys_destroy(keys);
    assert_int_equal(chmod(path, 0606), 0);
    assert_int_equal(keys_read(path, &keys, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "may be written by everybody"));
    assert_int_equal(chmod(path, 0600), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_an_entry_for_users_has_no_key),
        cmocka_unit_test(test_as_many_as_there_may_be),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_the_file_itself),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
