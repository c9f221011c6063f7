/* Routes: patterns and parameters, percent-decoding, and which hosts and origins are ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/routes.h"

static enum status match(const char *pattern, const char *path, const char *parameters[ROUTE_PARAMETERS_MAX],
                         struct arena *arena)
{
    struct error error;
    memset(parameters, 0, ROUTE_PARAMETERS_MAX * sizeof *parameters);
    return route_match(pattern, path, arena, parameters, &error);
}

static void test_patterns(void **state)
{
    (void)state;
    struct arena arena = {0};
    const char *p[ROUTE_PARAMETERS_MAX];
    assert_int_equal(match("/v1/models", "/v1/models", p, &arena), STATUS_OK);
    assert_int_equal(match("/v1/models", "/v1/models/", p, &arena), STATUS_NOT_FOUND);
    assert_int_equal(match("/v1/models", "/v1/model", p, &arena), STATUS_NOT_FOUND);
    assert_int_equal(match("/", "/", p, &arena), STATUS_OK);
    assert_int_equal(match("/v1/models/{m}", "/v1/models/", p, &arena), STATUS_NOT_FOUND);
    assert_int_equal(match("/v1/models/{m}", "/v1/models/a/b", p, &arena), STATUS_NOT_FOUND);
    assert_int_equal(match("/v1/models/{m}/labels/{l}", "/v1/models/b@7/labels/a%20%C3%A9", p, &arena), STATUS_OK);
    assert_string_equal(p[0], "b@7");
    assert_string_equal(p[1], "a é");
    assert_int_equal(match("/v/{m}/x", "/v/a%2Fb/x", p, &arena), STATUS_OK);
    assert_string_equal(p[0], "a/b");
    assert_int_equal(match("/v/{m}/{name…}", "/v/a/b/c:0", p, &arena), STATUS_OK);
    assert_string_equal(p[0], "a");
    assert_string_equal(p[1], "b/c:0");
    static const char *const bad[] = {"/v/%", "/v/%4", "/v/%zz", "/v/%00", "/v/%ff", "/v/%C3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(match("/v/{m}", bad[i], p, &arena), STATUS_INVALID);
    }
    arena_release(&arena);
}

static void test_table_is_sound(void **state)
{
    (void)state;
    size_t count;
    const struct route *table = routes_table(&count);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        assert_non_null(table[i].handler);
        assert_int_equal(table[i].pattern[0], '/');
        for (size_t j = 0; j < i; j++) {
            assert_true(strcmp(table[i].method, table[j].method) != 0 ||
                        strcmp(table[i].pattern, table[j].pattern) != 0);
        }
    }
}

static void test_hosts_and_origins(void **state)
{
    (void)state;
    assert_true(is_host_local(NULL, ""));
    assert_true(is_host_local("localhost:8080", ""));
    assert_true(is_host_local("LOCALHOST", ""));
    assert_true(is_host_local("a.localhost:1", ""));
    assert_true(is_host_local("127.0.0.1:8080", ""));
    assert_true(is_host_local("[::1]:8080", ""));
    assert_true(is_host_local("box.lan:8080", "other box.lan"));
    assert_false(is_host_local("box.lan:8080", "other"));
    assert_false(is_host_local("evil.example", ""));
    assert_false(is_host_local("127.0.0.1.evil.example", ""));
    assert_false(is_host_local("localhost.evil.example", ""));
    assert_false(is_host_local("", ""));
    assert_true(is_origin_allowed(NULL, "localhost:8080", ""));
    assert_true(is_origin_allowed("http://localhost:8080", "localhost:8080", ""));
    assert_true(is_origin_allowed("https://a.example", "localhost:8080", "https://b.example https://a.example"));
    assert_false(is_origin_allowed("https://a.example", "localhost:8080", "https://b.example"));
    assert_false(is_origin_allowed("http://localhost:3000", "localhost:8080", ""));
    assert_false(is_origin_allowed("null", "localhost:8080", ""));
    assert_false(is_origin_allowed("http://localhost:8080.evil.example", "localhost:8080", ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_table_is_sound),
        cmocka_unit_test(test_hosts_and_origins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
