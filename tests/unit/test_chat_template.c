/* Chat templates: which are good, what they make of messages, and what ends the reply. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/chat_template.h"
#include "engine/base/mem.h"

static enum status apply(const char *template, const char *messages, char text[512], struct error *error)
{
    json_t *list = json_loads(messages, JSON_DECODE_ANY, NULL);
    char *made;
    size_t length;
    assert_non_null(list);
    enum status status = chat_template_apply(template, list, &made, &length, error);
    if (status == STATUS_OK) {
        assert_true(length < 512);
        snprintf(text, 512, "%.*s", (int)length, made);
        mem_free(made);
    }
    json_decref(list);
    return status;
}

static void test_good_ones(void **state)
{
    (void)state;
    assert_true(chat_template_is_good(CHAT_TEMPLATE_DEFAULT));
    assert_true(chat_template_is_good("{content}"));
    assert_true(chat_template_is_good("<{role}>{content}</>"));
    static const char *const bad[] = {
        "", "{role}", "content", "{content}{content}", "{content}{role}", "{content ", "{role}{role}{content}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(chat_template_is_good(bad[i]));
    }
    assert_string_equal(chat_template_stop("{content}"), "");
    assert_string_equal(chat_template_stop("{role}: {content}\n\n"), "\n\n");
}

static void test_messages(void **state)
{
    (void)state;
    static const char messages[] = "[{\"role\":\"developer\",\"content\":\"Be brief.\"},"
                                   "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                                   "{\"type\":\"text\",\"text\":\"{role}\"}]},"
                                   "{\"role\":\"assistant\",\"content\":\"\"},{\"role\":\"user\",\"content\":\"é\"}]";
    char text[512];
    struct error error;
    assert_int_equal(apply("{role}: {content}\n", messages, text, &error), STATUS_OK);
    assert_string_equal(text, "system: Be brief.\nuser: a{role}\nassistant: \nuser: é\nassistant: ");
    assert_int_equal(apply("{content}\n", messages, text, &error), STATUS_OK);
    assert_string_equal(text, "Be brief.\na{role}\n\né\n");
    assert_int_equal(apply("{content}", messages, text, &error), STATUS_OK);
    assert_string_equal(text, "Be brief.a{role}é");
    assert_int_equal(apply("<{role}|{content}>", "[{\"role\":\"user\",\"content\":\"x\"}]", text, &error), STATUS_OK);
    assert_string_equal(text, "<user|x><assistant|");
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *messages, *param;
    } cases[] = {
        {"[]", "messages"},
        {"{}", "messages"},
        {"\"hello\"", "messages"},
        {"[7]", "messages/0/role"},
        {"[{}]", "messages/0/role"},
        {"[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"tool\",\"content\":\"b\"}]", "messages/1/role"},
        {"[{\"role\":\"user\"}]", "messages/0/content"},
        {"[{\"role\":\"user\",\"content\":null}]", "messages/0/content"},
        {"[{\"role\":\"user\",\"content\":[]}]", "messages/0/content"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]", "messages/0/content"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":1}]}]", "messages/0/content"},
        {"[{\"role\":\"user\",\"content\":[\"a\"]}]", "messages/0/content"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        struct error error;
        assert_int_equal(apply("{content}\n", cases[i].messages, text, &error), STATUS_INVALID);
        assert_string_equal(error.param, cases[i].param);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_ones),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
