/* The body of a score as that of a completion: what stands for what, and who goes first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/completion_private.h"

static json_t *translate(const char *body)
{
    json_t *given = json_loads(body, 0, NULL);
    json_t *made = NULL;
    struct error error;
    assert_non_null(given);
    assert_int_equal(completion_score_translate(given, &made, &error), STATUS_OK);
    json_decref(given);
    return made;
}

static void test_texts_are_prompts(void **state)
{
    (void)state;
    json_t *made = translate("{\"text\":\"ab\",\"candidates\":[\"c\",\"d\"],\"deadline_ms\":7,\"priority\":1}");
    json_t *wanted =
        json_loads("{\"prompt\":[\"ab\",\"c\",\"d\"],\"max_tokens\":0,\"deadline_ms\":7,\"priority\":1}", 0, NULL);
    assert_true(json_equal(made, wanted));
    json_decref(made);
    json_decref(wanted);
}

/* Nobody watches a score come: texts go first unless it says otherwise. */
static void test_its_priority_is_low_unless_named(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int priority;
    } rows[] = {
        {"{\"text\":\"ab\"}", GENERATION_PRIORITY_LOW},
        {"{\"text\":\"ab\",\"priority\":null}", GENERATION_PRIORITY_LOW},
        {"{\"text\":\"ab\",\"priority\":0}", GENERATION_PRIORITY_NORMAL},
        {"{\"text\":\"ab\",\"priority\":1}", GENERATION_PRIORITY_HIGH},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct generate_request request;
        struct error error;
        json_t *made = translate(rows[i].body);
        assert_int_equal(generate_request_read(&request, made, DOOR_SCORE, &error), STATUS_OK);
        assert_int_equal(request.priority, rows[i].priority);
        json_decref(made);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_are_prompts),
        cmocka_unit_test(test_its_priority_is_low_unless_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
