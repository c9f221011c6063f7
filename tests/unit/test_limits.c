/* Limits of keys: buckets that fill by the clock, debts, texts at a time, addresses, and accounts that go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/limits.h"

static struct limits *limits;

static int make_limits(void **state)
{
    struct error error;
    (void)state;
    return limits_create(&limits, &error) == STATUS_OK ? 0 : -1;
}

static int free_limits(void **state)
{
    (void)state;
    limits_destroy(limits);
    return 0;
}

static void test_requests_a_minute(void **state)
{
    (void)state;
    struct error error;
    struct key_limits allowed = {.requests_per_minute = 6}; /* one in ten seconds */
    struct limit_holder page = {.key = "page", .address = "", .limits = &allowed};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(limits_take_request(limits, &page, 1000, &error), STATUS_OK);
    }
    assert_int_equal(limits_take_request(limits, &page, 1000, &error), STATUS_LIMIT);
    assert_string_equal(error.code, "requests_per_minute");
    assert_string_equal(error.message, "key page: 6 requests a minute; free in 10.0 s");
    assert_int_equal(error.retry_after_seconds, 10);
    assert_int_equal(limits_take_request(limits, &page, 10000, &error), STATUS_LIMIT);
    assert_int_equal(error.retry_after_seconds, 1);
    assert_int_equal(limits_take_request(limits, &page, 11000, &error), STATUS_OK);
    assert_int_equal(limits_take_request(limits, &page, 11000, &error), STATUS_LIMIT);
    for (int i = 0; i < 6; i++) { /* never more than a minute's */
        assert_int_equal(limits_take_request(limits, &page, 1000000, &error), STATUS_OK);
    }
    assert_int_equal(limits_take_request(limits, &page, 1000000, &error), STATUS_LIMIT);
    assert_int_equal(limits_take_request(limits, &page, 500000, &error), STATUS_LIMIT); /* a clock that went back */
}

static void test_symbols_a_second(void **state)
{
    (void)state;
    struct error error;
    struct limit_account *account, *other;
    struct key_limits allowed = {.symbols_per_second = 100};
    struct limit_holder page = {.key = "page", .address = "", .limits = &allowed};
    assert_int_equal(limits_take_texts(limits, &page, 1, 60, 1000, &account, &error), STATUS_OK);
    assert_int_equal(limits_take_texts(limits, &page, 1, 1000, 1000, &other, &error), STATUS_OK); /* owes 960 */
    struct limit_account *none = NULL;
    assert_int_equal(limits_take_texts(limits, &page, 1, 1, 1000, &none, &error), STATUS_LIMIT);
    assert_string_equal(error.code, "symbols_per_second");
    assert_string_equal(error.message, "key page: 100 symbols a second; free in 9.7 s");
    assert_int_equal(error.retry_after_seconds, 10);
    limits_return_texts(other, 1, 900); /* it stopped early: 60 are owed */
    assert_int_equal(limits_take_texts(limits, &page, 1, 1, 1500, &none, &error), STATUS_LIMIT);
    assert_int_equal(limits_take_texts(limits, &page, 1, 1, 1700, &none, &error), STATUS_OK);
    limits_return_texts(none, 1, 0);
    limits_return_texts(account, 1, 60);
    assert_int_equal(limits_take_texts(limits, &page, 1, 1000000, 1000000, &none, &error),
                     STATUS_OK); /* once in a while */
    limits_return_texts(none, 1, 0);
    assert_int_equal(limits_take_texts(limits, &page, 1, 1, 1000000, &account, &error), STATUS_LIMIT);
    assert_int_equal(error.retry_after_seconds, 3600);
}

static void test_texts_at_a_time(void **state)
{
    (void)state;
    struct error error;
    struct limit_account *first, *second, *third;
    struct key_limits allowed = {.streams = 2};
    struct limit_holder page = {.key = "page", .address = "", .limits = &allowed};
    struct limit_holder other = {.key = "other", .address = "", .limits = &allowed};
    assert_int_equal(limits_take_texts(limits, &page, 1, 5, 1, &first, &error), STATUS_OK);
    assert_int_equal(limits_take_texts(limits, &page, 1, 5, 1, &second, &error), STATUS_OK);
    assert_int_equal(limits_take_texts(limits, &page, 1, 5, 1, &third, &error), STATUS_LIMIT);
    assert_string_equal(error.code, "streams");
    assert_int_equal(limits_take_texts(limits, &other, 1, 5, 1, &third, &error), STATUS_OK);
    limits_return_texts(third, 1, 0);
    limits_return_texts(first, 1, 0);
    assert_int_equal(limits_take_texts(limits, &page, 1, 5, 1, &third, &error), STATUS_OK);
    limits_return_texts(second, 1, 0);
    limits_return_texts(third, 1, 0);
}

static void test_less_than_one_a_minute(void **state)
{
    (void)state;
    struct error error;
    struct key_limits allowed = {.requests_per_minute = 0.5};
    struct limit_holder page = {.key = "page", .address = "", .limits = &allowed};
    assert_int_equal(limits_take_request(limits, &page, 1000, &error), STATUS_OK);
    assert_int_equal(limits_take_request(limits, &page, 1000, &error), STATUS_LIMIT);
    assert_int_equal(error.retry_after_seconds, 120);
    assert_int_equal(limits_take_request(limits, &page, 120000, &error), STATUS_LIMIT);
    assert_int_equal(limits_take_request(limits, &page, 121000, &error), STATUS_OK);
    assert_int_equal(limits_take_request(limits, &page, 121000, &error), STATUS_LIMIT);
}

/* All texts of a request count: those that wait for room are told apart from those that never have it. */
static void test_several_texts(void **state)
{
    (void)state;
    struct error error;
    struct limit_account *account, *none;
    struct key_limits allowed = {.streams = 4};
    struct limit_holder page = {.key = "page", .address = "", .limits = &allowed};
    assert_int_equal(limits_take_texts(limits, &page, 5, 5, 1, &none, &error), STATUS_TOO_LARGE);
    assert_string_equal(error.code, "streams");
    assert_int_equal(limits_take_texts(limits, &page, 3, 5, 1, &account, &error), STATUS_OK);
    assert_int_equal(limits_take_texts(limits, &page, 2, 5, 1, &none, &error), STATUS_LIMIT);
    assert_string_equal(error.message, "key page: 4 texts at a time; 3 are being made, here are 2");
    limits_return_texts(account, 3, 0);
    assert_int_equal(limits_take_texts(limits, &page, 4, 5, 1, &account, &error), STATUS_OK);
    limits_return_texts(account, 4, 0);
}

/* A limit that the key file gets later begins full: what was used before it is not owed. */
static void test_limits_that_come_later(void **state)
{
    (void)state;
    struct error error;
    struct limit_account *account;
    struct key_limits allowed = {.streams = 1};
    struct limit_holder page = {.key = "page", .address = "", .limits = &allowed};
    assert_int_equal(limits_take_texts(limits, &page, 1, 1000000, 1000, &account, &error), STATUS_OK);
    limits_return_texts(account, 1, 0);
    allowed.symbols_per_second = 10;
    allowed.requests_per_minute = 2;
    assert_int_equal(limits_take_request(limits, &page, 1000, &error), STATUS_OK);
    assert_int_equal(limits_take_request(limits, &page, 1000, &error), STATUS_OK);
    assert_int_equal(limits_take_request(limits, &page, 1000, &error), STATUS_LIMIT);
    assert_int_equal(limits_take_texts(limits, &page, 1, 10, 1000, &account, &error), STATUS_OK);
    limits_return_texts(account, 1, 0);
    assert_int_equal(limits_take_texts(limits, &page, 1, 10, 1000, &account, &error), STATUS_LIMIT);
}

/* An address longer than what is kept of it has one account, not one for each request. */
static void test_a_long_address(void **state)
{
    (void)state;
    struct error error;
    char address[2 * LIMITS_ADDRESS_BYTES_MAX];
    struct key_limits allowed = {.requests_per_minute = 1};
    struct limit_holder page = {.key = "page", .address = address, .limits = &allowed};
    memset(address, 'x', sizeof address);
    address[sizeof address - 1] = '\0';
    assert_int_equal(limits_take_request(limits, &page, 1000, &error), STATUS_OK);
    assert_int_equal(limits_take_request(limits, &page, 1000, &error), STATUS_LIMIT);
}

static void test_nothing_is_limited(void **state)
{
    (void)state;
    struct error error;
    struct key_limits allowed = {.per_address = true};
    struct limit_holder holder = {.key = "", .address = "", .limits = &allowed};
    for (int i = 0; i < 10000; i++) {
        struct limit_account *account;
        assert_int_equal(limits_take_request(limits, &holder, 1, &error), STATUS_OK);
        assert_int_equal(limits_take_texts(limits, &holder, 1, 1 << 20, 1, &account, &error), STATUS_OK);
        assert_null(account);
        limits_return_texts(account, 1, 0);
    }
}

/* More addresses than there are accounts: the longest unused goes, one that makes a text stays. */
static void test_addresses(void **state)
{
    (void)state;
    struct error error;
    struct limit_account *account;
    struct key_limits allowed = {.requests_per_minute = 1, .streams = 1};
    struct limit_holder holder = {.key = "page", .address = "busy", .limits = &allowed};
    assert_int_equal(limits_take_texts(limits, &holder, 1, 1, 1, &account, &error), STATUS_OK);
    for (unsigned i = 0; i < 2 * LIMITS_ACCOUNTS_MAX; i++) {
        char address[LIMITS_ADDRESS_BYTES_MAX];
        snprintf(address, sizeof address, "10.0.%u.%u", i / 256, i % 256);
        holder.address = address;
        assert_int_equal(limits_take_request(limits, &holder, 2 + i, &error), STATUS_OK);
        assert_int_equal(limits_take_request(limits, &holder, 2 + i, &error), STATUS_LIMIT);
    }
    struct limit_account *second;
    holder.address = "busy";
    assert_int_equal(limits_take_texts(limits, &holder, 1, 1, 5, &second, &error), STATUS_LIMIT);
    holder.address = "10.0.0.0"; /* forgotten */
    assert_int_equal(limits_take_request(limits, &holder, 20000, &error), STATUS_OK);
    limits_return_texts(account, 1, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_requests_a_minute, make_limits, free_limits),
        cmocka_unit_test_setup_teardown(test_symbols_a_second, make_limits, free_limits),
        cmocka_unit_test_setup_teardown(test_texts_at_a_time, make_limits, free_limits),
        cmocka_unit_test_setup_teardown(test_less_than_one_a_minute, make_limits, free_limits),
        cmocka_unit_test_setup_teardown(test_several_texts, make_limits, free_limits),
        cmocka_unit_test_setup_teardown(test_limits_that_come_later, make_limits, free_limits),
        cmocka_unit_test_setup_teardown(test_a_long_address, make_limits, free_limits),
        cmocka_unit_test_setup_teardown(test_nothing_is_limited, make_limits, free_limits),
        cmocka_unit_test_setup_teardown(test_addresses, make_limits, free_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
