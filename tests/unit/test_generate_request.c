/* The fields of a text request: defaults, bounds, the neutral values of what is not built, unknown fields, queries. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/generate_request.h"
#include "tests/unit/text_vocabulary.h"

static struct generate_request request;

static enum status read_text(const char *text, enum generate_door door, json_t **ret_object, struct error *error)
{
    *ret_object = json_loads(text, 0, NULL);
    assert_non_null(*ret_object);
    memset(error, 0, sizeof *error);
    return generate_request_read(&request, *ret_object, door, error);
}

static void test_defaults(void **state)
{
    (void)state;
    json_t *object;
    struct error error;
    assert_int_equal(read_text("{\"model\":null,\"stop\":null,\"logprobs\":null}", DOOR_COMPLETIONS, &object, &error),
                     STATUS_OK);
    assert_null(request.model);
    assert_int_equal(request.prompt_count, 0);
    assert_int_equal(request.max_tokens, 16);
    assert_int_equal(request.n, 1);
    assert_true(request.temperature == 1 && request.top_p == 1 && request.typical_p == 1 && request.min_p == 0);
    assert_true(request.repetition_penalty == 1 && request.frequency_penalty == 0 && request.presence_penalty == 0);
    assert_int_equal(request.repetition_window, 64);
    assert_int_equal(request.top_k, 0);
    assert_int_equal(request.flush_ms, 20);
    assert_false(generate_request_is_given(&request, "seed"));
    json_decref(object);
    assert_int_equal(read_text("{}", DOOR_GENERATE, &object, &error), STATUS_OK);
    assert_int_equal(request.max_tokens, 500);
    json_decref(object);
}

static void test_prompts(void **state)
{
    (void)state;
    json_t *object;
    struct error error;
    assert_int_equal(
        read_text("{\"prompt\":[\"a\",\"bcd\"],\"stop\":[\"x\",\"yz\"]}", DOOR_COMPLETIONS, &object, &error),
        STATUS_OK);
    assert_int_equal(request.prompt_count, 2);
    assert_int_equal(generate_request_prompt(&request, 1).length, 3);
    assert_int_equal(request.prompt_bytes, 4);
    assert_int_equal(request.stop_count, 2);
    assert_int_equal(request.stop_lengths[1], 2);
    json_decref(object);
    assert_int_equal(read_text("{\"prompt\":[1,2,3]}", DOOR_COMPLETIONS, &object, &error), STATUS_OK);
    assert_int_equal(request.prompt_count, 1);
    assert_int_equal(json_array_size(generate_request_prompt(&request, 0).symbols), 3);
    json_decref(object);
    assert_int_equal(read_text("{\"prompt\":[[1],[2,3]]}", DOOR_COMPLETIONS, &object, &error), STATUS_OK);
    assert_int_equal(request.prompt_count, 2);
    json_decref(object);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum status status;
        const char *param;
        const char *message;
    } cases[] = {
        {"{\"temperature\":2.5}", STATUS_INVALID, "temperature", "temperature must be a number of 0 to 2"},
        {"{\"temperature\":\"hot\"}", STATUS_INVALID, "temperature", "temperature must be a number of 0 to 2"},
        {"{\"max_tokens\":-1}", STATUS_INVALID, "max_tokens", "max_tokens must be an integer of 0 to 1048576"},
        {"{\"max_tokens\":1.5}", STATUS_INVALID, "max_tokens", "max_tokens must be an integer of 0 to 1048576"},
        {"{\"max_tokens\":true}", STATUS_INVALID, "max_tokens", "max_tokens must be an integer of 0 to 1048576"},
        {"{\"n\":0}", STATUS_INVALID, "n", "n must be an integer of 1 to 128"},
        {"{\"n\":129}", STATUS_INVALID, "n", "n must be an integer of 1 to 128"},
        {"{\"seed\":\"x\"}", STATUS_INVALID, "seed", "seed must be an integer of 64 bits"},
        {"{\"top_p\":1.01}", STATUS_INVALID, "top_p", "top_p must be a number of 0 to 1"},
        {"{\"top_k\":-1}", STATUS_INVALID, "top_k", "top_k must be an integer of 0 to 2147483647"},
        {"{\"stream\":1}", STATUS_INVALID, "stream", "stream must be true or false"},
        {"{\"stop\":[\"\"]}", STATUS_INVALID, "stop", "stop must be a string"},
        {"{\"stop\":[1]}", STATUS_INVALID, "stop", "stop must be a string"},
        {"{\"prompt\":7}", STATUS_INVALID, "prompt", "prompt must be a string"},
        {"{\"prompt\":[]}", STATUS_INVALID, "prompt", "prompt must be a string"},
        {"{\"prompt\":[-1]}", STATUS_INVALID, "prompt", "prompt must be a string"},
        {"{\"prompt\":[\"a\",1.5]}", STATUS_INVALID, "prompt", "prompt must be a string"},
        {"{\"stream_options\":{}}", STATUS_INVALID, "stream_options", "stream_options is only for stream: true"},
        {"{\"unknown_symbols\":\"maybe\"}", STATUS_INVALID, "unknown_symbols", "unknown_symbols must be"},
        {"{\"deadline_ms\":0}", STATUS_INVALID, "deadline_ms", "deadline_ms must be an integer of 1"},
        {"{\"min_p\":-0.1}", STATUS_INVALID, "min_p", "min_p must be a number of 0 to 1"},
        {"{\"typical_p\":2}", STATUS_INVALID, "typical_p", "typical_p must be a number of 0 to 1"},
        {"{\"repetition_penalty\":0}", STATUS_INVALID, "repetition_penalty",
         "repetition_penalty must be a number of 0.01"},
        {"{\"repetition_window\":4097}", STATUS_INVALID, "repetition_window",
         "repetition_window must be an integer of 0 to 4096"},
        {"{\"frequency_penalty\":3}", STATUS_INVALID, "frequency_penalty",
         "frequency_penalty must be a number of -2 to 2"},
        {"{\"presence_penalty\":\"0\"}", STATUS_INVALID, "presence_penalty",
         "presence_penalty must be a number of -2 to"},
        {"{\"min_tokens\":-1}", STATUS_INVALID, "min_tokens", "min_tokens must be an integer of 0 to 1048576"},
        {"{\"priority\":2}", STATUS_INVALID, "priority", "priority must be an integer of -1 to 1"},
        {"{\"logit_bias\":{\"\":1}}", STATUS_INVALID, "logit_bias", "logit_bias must be an object of at most 1024"},
        {"{\"logit_bias\":{\"1048576\":1}}", STATUS_INVALID, "logit_bias", "logit_bias must be an object"},
        {"{\"logit_bias\":{\"1\":-101}}", STATUS_INVALID, "logit_bias", "logit_bias must be an object"},
        {"{\"logprobs\":6}", STATUS_INVALID, "logprobs", "logprobs must be an integer of 0 to 5"},
        {"{\"echo\":1}", STATUS_INVALID, "echo", "echo must be true or false"},
        {"{\"best_of\":0}", STATUS_INVALID, "best_of", "best_of must be an integer of 1 to 128"},
        {"{\"best_of\":2,\"n\":3}", STATUS_INVALID, "best_of", "best_of is 2, it must be at least n, which is 3"},
        {"{\"suffix\":\"x\"}", STATUS_UNSUPPORTED, "suffix", "suffix is not supported"},
        {"{\"suffix\":1}", STATUS_UNSUPPORTED, "suffix", "suffix is not supported"},
        {"{\"session\":7}", STATUS_INVALID, "session", "session must be"},
        {"{\"adapt\":\"some\"}", STATUS_INVALID, "adapt", "adapt must be false, \"output\" or \"all\""},
        {"{\"adapt\":true}", STATUS_INVALID, "adapt", "adapt must be"},
        {"{\"state\":\"\"}", STATUS_INVALID, "state", "state must be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *object;
        struct error error;
        assert_int_equal(read_text(cases[i].text, DOOR_COMPLETIONS, &object, &error), cases[i].status);
        assert_string_equal(error.param, cases[i].param);
        assert_memory_equal(error.message, cases[i].message, strlen(cases[i].message));
        if (cases[i].status == STATUS_UNSUPPORTED) {
            assert_memory_equal(error.code, "unsupported", strlen("unsupported"));
        }
        json_decref(object);
    }
}

static void test_neutral_values(void **state)
{
    (void)state;
    json_t *object;
    struct error error;
    assert_int_equal(
        read_text("{\"echo\":false,\"best_of\":1,\"suffix\":\"\",\"session\":null,\"use_beam_search\":false,"
                  "\"adapt\":false,\"user\":\"me\"}",
                  DOOR_COMPLETIONS, &object, &error),
        STATUS_OK);
    assert_int_equal(request.warning_count, 0);
    json_decref(object);
}

static void test_logit_bias(void **state)
{
    (void)state;
    json_t *object;
    struct error error;
    struct vocabulary *vocabulary;
    struct penalty_bias biases[PENALTIES_BIASES_MAX];
    size_t count;
    assert_int_equal(text_vocabulary("ab7", 3, &vocabulary, &error), STATUS_OK); /* 7, a, b */
    assert_int_equal(read_text("{}", DOOR_COMPLETIONS, &object, &error), STATUS_OK);
    assert_int_equal(generate_request_biases(&request, vocabulary, biases, &count, &error), STATUS_OK);
    assert_int_equal(count, 0);
    json_decref(object);
    object = json_object();
    assert_int_equal(
        generate_request_add_query(object, "logit_bias", "{\"7\":-1.5,\"b\":false,\"1048575\":100}", &error),
        STATUS_OK);
    assert_int_equal(generate_request_read(&request, object, DOOR_GENERATE, &error), STATUS_OK);
    assert_int_equal(generate_request_biases(&request, vocabulary, biases, &count, &error), STATUS_OK);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < 3; i++) { /* in any order; a number is a number, whatever symbol looks like it */
        double wanted = biases[i].symbol == 7 ? -1.5 : biases[i].symbol == 2 ? -(double)INFINITY : 100;
        assert_true(biases[i].bias == wanted);
        assert_true(biases[i].symbol == 7 || biases[i].symbol == 2 || biases[i].symbol == 1048575);
    }
    json_decref(object);
    static const char *const unknown[] = {"c", "ab", "01", "-1", "1.5", " "};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        object = json_pack("{s:{s:i}}", "logit_bias", unknown[i], 1);
        assert_int_equal(generate_request_read(&request, object, DOOR_GENERATE, &error), STATUS_OK);
        assert_int_equal(generate_request_biases(&request, vocabulary, biases, &count, &error), STATUS_INVALID);
        assert_string_equal(error.param, "logit_bias");
        json_decref(object);
    }
    vocabulary_unref(vocabulary);
    static const char *const wrong[] = {"{\"7\":1,\"7\":2}", "7", "[]", "{", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        object = json_object();
        assert_int_equal(generate_request_add_query(object, "logit_bias", wrong[i], &error), STATUS_OK);
        assert_int_equal(generate_request_read(&request, object, DOOR_GENERATE, &error), STATUS_INVALID);
        assert_string_equal(error.param, "logit_bias");
        json_decref(object);
    }
}

static void test_unknown_fields(void **state)
{
    (void)state;
    json_t *object;
    struct error error;
    assert_int_equal(read_text("{\"frobnicate\":1,\"prompt\":\"a\"}", DOOR_COMPLETIONS, &object, &error), STATUS_OK);
    assert_int_equal(request.warning_count, 1);
    assert_string_equal(request.warnings[0], "frobnicate");
    json_decref(object);
    assert_int_equal(read_text("{\"frobnicate\":1}", DOOR_GENERATE, &object, &error), STATUS_INVALID);
    assert_string_equal(error.code, "unknown_field");
    assert_string_equal(error.param, "/frobnicate");
    json_decref(object);
    assert_int_equal(read_text("{\"model\":\"m\"}", DOOR_GENERATE, &object, &error), STATUS_INVALID);
    json_decref(object);
    json_t *many = json_object();
    for (int i = 0; i < 2 * GENERATE_WARNINGS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        json_object_set_new(many, name, json_true());
    }
    assert_int_equal(generate_request_read(&request, many, DOOR_COMPLETIONS, &error), STATUS_OK);
    assert_int_equal(request.warning_count, GENERATE_WARNINGS_MAX);
    json_decref(many);
}

static void test_maxima(void **state)
{
    (void)state;
    struct error error;
    json_t *object = json_pack("{s:[]}", "prompt");
    for (int i = 0; i < GENERATE_PROMPTS_MAX; i++) {
        json_array_append_new(json_object_get(object, "prompt"), json_string("a"));
    }
    assert_int_equal(generate_request_read(&request, object, DOOR_COMPLETIONS, &error), STATUS_OK);
    json_array_append_new(json_object_get(object, "prompt"), json_string("a"));
    assert_int_equal(generate_request_read(&request, object, DOOR_COMPLETIONS, &error), STATUS_INVALID);
    json_decref(object);
    object = json_pack("{s:[]}", "stop");
    for (int i = 0; i <= STOP_STRINGS_MAX; i++) {
        json_array_append_new(json_object_get(object, "stop"), json_string("a"));
    }
    assert_int_equal(generate_request_read(&request, object, DOOR_COMPLETIONS, &error), STATUS_INVALID);
    assert_string_equal(error.message, "stop takes at most 16 strings of at most 256 bytes");
    json_decref(object);
}

static void test_queries(void **state)
{
    (void)state;
    struct error error;
    json_t *object = json_object();
    static const char *const pairs[][2] = {{"prompt", "12"},   {"max_tokens", "7"}, {"temperature", "0.5"},
                                           {"stream", "true"}, {"stop", "a"},       {"stop", "3"},
                                           {"echo", "false"},  {"min_p", "0"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        assert_int_equal(generate_request_add_query(object, pairs[i][0], pairs[i][1], &error), STATUS_OK);
    }
    assert_int_equal(generate_request_add_query(object, "prompt", "again", &error), STATUS_INVALID);
    assert_int_equal(generate_request_read(&request, object, DOOR_GENERATE, &error), STATUS_OK);
    assert_string_equal(generate_request_prompt(&request, 0).text, "12");
    assert_int_equal(request.max_tokens, 7);
    assert_true(request.temperature == 0.5);
    assert_true(request.stream);
    assert_int_equal(request.stop_count, 2);
    json_decref(object);
    object = json_object();
    assert_int_equal(generate_request_add_query(object, "max_tokens", "many", &error), STATUS_OK);
    assert_int_equal(generate_request_read(&request, object, DOOR_GENERATE, &error), STATUS_INVALID);
    assert_string_equal(error.param, "max_tokens");
    json_decref(object);
}

static void test_model_defaults(void **state)
{
    (void)state;
    struct error error;
    json_t *object, *half = json_real(0.5), *high = json_integer(9);
    assert_int_equal(read_text("{\"max_tokens\":3}", DOOR_COMPLETIONS, &object, &error), STATUS_OK);
    assert_int_equal(generate_request_default(&request, "temperature", half, &error), STATUS_OK);
    assert_int_equal(generate_request_default(&request, "max_tokens", high, &error), STATUS_OK);
    assert_true(request.temperature == 0.5);
    assert_int_equal(request.max_tokens, 3);
    assert_int_equal(generate_request_default(&request, "top_p", high, &error), STATUS_INVALID);
    json_decref(half);
    json_decref(high);
    json_decref(object);
}

static void test_crowds_get_larger_pieces(void **state)
{
    (void)state;
    static const struct {
        int64_t asked_ms;
        size_t text_count;
        uint64_t wanted_ms;
    } rows[] = {{20, 1, 20},     {20, 1000, 20},      {20, 1001, 40},    {20, 10000, 400},
                {0, 10000, 400}, {1000, 10000, 1000}, {60000, 1, 60000}, {0, 1, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        request.flush_ms = rows[i].asked_ms;
        assert_true(generate_request_flush_ms(&request, rows[i].text_count) == rows[i].wanted_ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),       cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_neutral_values),
        cmocka_unit_test(test_logit_bias),     cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_maxima),         cmocka_unit_test(test_queries),
        cmocka_unit_test(test_model_defaults), cmocka_unit_test(test_crowds_get_larger_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
