/* The configuration: its table against config/lstmd.conf, values of each kind, refusals with file and line, and what a
 * reload takes over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/settings.h"
#include "tests/unit/text_file_rig.h"

static enum status read_text(struct settings *settings, const char *text, struct error *error)
{
    write_text(text);
    return settings_read(settings, path, error);
}

static void test_shipped_file_agrees_with_the_table(void **state)
{
    (void)state;
    size_t count;
    const struct setting *table = settings_table(&count);
    bool is_shown[256] = {false};
    char line[512];
    FILE *file = fopen("config/lstmd.conf", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        char name[64], value[400] = "";
        if (sscanf(line, "#%63[a-z_] =%399[^\n]", name, value) < 1 || strchr(line, '=') == NULL || line[1] == ' ') {
            continue;
        }
        size_t i = 0;
        while (i < count && strcmp(table[i].name, name) != 0) {
            i++;
        }
        assert_true(i < count);
        assert_false(is_shown[i]);
        is_shown[i] = true;
        assert_string_equal(value[0] == ' ' ? value + 1 : value, table[i].default_text);
    }
    fclose(file);
    for (size_t i = 0; i < count; i++) {
        assert_true(is_shown[i]);
    }
    struct settings settings;
    struct error error;
    assert_int_equal(settings_read(&settings, "config/lstmd.conf", &error), STATUS_OK);
}

static void test_each_kind(void **state)
{
    (void)state;
    struct settings settings;
    struct error error;
    assert_int_equal(read_text(&settings,
                               "# a comment\n"
                               "listen = 127.0.0.1:0 /run/a.sock\n"
                               "listen = [::1]:9 ; and another\n"
                               "models = /srv/some models\n"
                               "versions_kept=7\n"
                               "body_bytes_max = 2K\n"
                               "log_text = yes\n"
                               "log_level = debug\n",
                               &error),
                     STATUS_OK);
    assert_string_equal(settings.listen, "127.0.0.1:0 /run/a.sock [::1]:9");
    assert_true(settings_list_contains(settings.listen, "[::1]:9"));
    assert_false(settings_list_contains(settings.listen, "[::1]"));
    assert_string_equal(settings.models, "/srv/some models");
    assert_int_equal(settings.versions_kept, 7);
    assert_int_equal(settings.body_bytes_max, 2048);
    assert_true(settings.log_text);
    assert_int_equal(settings.log_level, 3);
    assert_int_equal(settings.settle_seconds, 2);
}

static void test_refusals_name_file_and_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"\nmodles = x\n", ":2: unknown setting 'modles'"},
        {"versions_kept = 0\n", ":1: versions_kept is '0', expected an integer of 1 to 1000"},
        {"versions_kept = 5K\n", ":1: versions_kept is '5K', expected an integer of 1 to 1000"},
        {"versions_kept = -1\n", ":1: versions_kept is '-1', expected an integer of 1 to 1000"},
        {"versions_kept = 99999999999999999999999\n", "expected an integer of 1 to 1000"},
        {"body_bytes_max = 16MB\n", ":1: body_bytes_max is '16MB', expected an integer of 1024 to 1073741824"},
        {"#\n\nlog_text = true\n", ":3: log_text is 'true', expected yes or no"},
        {"log_level = loud\n", ":1: log_level is 'loud', expected one of: error warning info debug"},
        {"models = a\nmodels = b\n", ":2: models is given twice"},
        {"[server]\nmodels = a\n", ":2: section [server]: there are none"},
        {"models = a\nnonsense\n", ":2: expected `name = value`"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct settings settings = {.versions_kept = 77};
        struct error error;
        assert_int_equal(read_text(&settings, cases[i].text, &error), STATUS_INVALID);
        assert_memory_equal(error.message, path, strlen(path));
        assert_non_null(strstr(error.message, cases[i].message));
        assert_int_equal(settings.versions_kept, 77);
    }
    struct settings settings;
    struct error error;
    char text[1024];
    memset(text, 'x', sizeof text - 1);
    memcpy(text, "models = ", 9);
    text[sizeof text - 1] = '\0';
    assert_int_equal(read_text(&settings, text, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, ":1: a line of more than"));
    assert_int_equal(settings_read(&settings, "/nonexistent/lstmd.conf", &error), STATUS_NOT_FOUND);
}

static void test_lists_have_a_maximum(void **state)
{
    (void)state;
    struct settings settings;
    struct error error;
    char text[SETTING_TEXT_BYTES_MAX + 1];
    memset(text, 'x', SETTING_TEXT_BYTES_MAX);
    text[SETTING_TEXT_BYTES_MAX] = '\0';
    settings_init(&settings);
    assert_int_equal(settings_set(&settings, "hosts", text, &error), STATUS_INVALID);
    assert_string_equal(error.message, "hosts has 2048 bytes, at most 2047");
    text[SETTING_TEXT_BYTES_MAX - 1] = '\0';
    assert_int_equal(settings_set(&settings, "hosts", text, &error), STATUS_OK);
}

static void test_reload_takes_over_what_may_change(void **state)
{
    (void)state;
    struct settings settings, fresh;
    char names[256];
    settings_init(&settings);
    settings_init(&fresh);
    assert_int_equal(settings_adopt(&settings, &fresh, names, sizeof names), 0);
    fresh.settle_seconds = 9;
    fresh.run_threads = 9;
    snprintf(fresh.default_model, sizeof fresh.default_model, "bard");
    snprintf(fresh.models, sizeof fresh.models, "/elsewhere");
    assert_int_equal(settings_adopt(&settings, &fresh, names, sizeof names), 2);
    assert_string_equal(names, "models run_threads");
    assert_int_equal(settings.settle_seconds, 9);
    assert_int_equal(settings.run_threads, 4);
    assert_string_equal(settings.default_model, "bard");
    assert_string_equal(settings.models, "/var/lib/lstmd/models");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shipped_file_agrees_with_the_table), cmocka_unit_test(test_each_kind),
        cmocka_unit_test(test_refusals_name_file_and_line),        cmocka_unit_test(test_lists_have_a_maximum),
        cmocka_unit_test(test_reload_takes_over_what_may_change),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
