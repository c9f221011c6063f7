/* Vocabularies: making, encoding, JSON, what is refused, memory that runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/text/symbol_table.h"
#include "engine/text/utf8.h"
#include "engine/text/vocabulary.h"
#include "tests/unit/text_vocabulary.h"

static struct vocabulary *create(enum vocabulary_kind kind, size_t count, const char *const *symbols)
{
    size_t lengths[64];
    for (size_t i = 0; i < count; i++) {
        lengths[i] = strlen(symbols[i]);
    }
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(vocabulary_create(kind, symbols, lengths, count, &vocabulary, &error), STATUS_OK);
    return vocabulary;
}

static void expect_refused(enum vocabulary_kind kind, size_t count, const char *const *symbols, const char *message)
{
    size_t lengths[64];
    for (size_t i = 0; i < count; i++) {
        lengths[i] = strlen(symbols[i]);
    }
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(vocabulary_create(kind, symbols, lengths, count, &vocabulary, &error), STATUS_INVALID);
    assert_string_equal(error.message, message);
    assert_null(vocabulary);
}

static void expect_ids(const struct vocabulary *vocabulary, const char *text, enum unknown_symbols unknown,
                       size_t count, const uint32_t *expected)
{
    uint32_t ids[256];
    size_t found = SIZE_MAX;
    struct error error;
    assert_int_equal(vocabulary_encode(vocabulary, text, strlen(text), unknown, ids, &found, &error), STATUS_OK);
    assert_int_equal(found, count);
    assert_memory_equal(ids, expected, count * sizeof *ids);
}

static void expect_unknown(const struct vocabulary *vocabulary, const char *text, const char *code, const char *message)
{
    uint32_t ids[1024];
    size_t count = 99;
    struct error error;
    assert_int_equal(vocabulary_encode(vocabulary, text, strlen(text), UNKNOWN_SYMBOLS_ERROR, ids, &count, &error),
                     STATUS_INVALID);
    assert_string_equal(error.code, code);
    assert_string_equal(error.message, message);
    assert_int_equal(count, 99);
}

static void test_kinds_are_found_by_name(void **state)
{
    (void)state;
    for (int i = 0; i < VOCABULARY_KIND_COUNT; i++) {
        enum vocabulary_kind kind = VOCABULARY_KIND_COUNT;
        assert_true(vocabulary_kind_from_name(vocabulary_kind_name((enum vocabulary_kind)i), &kind));
        assert_int_equal(kind, i);
    }
    enum vocabulary_kind kind = VOCABULARY_WORDS;
    assert_false(vocabulary_kind_from_name("letters", &kind));
    assert_int_equal(kind, VOCABULARY_WORDS);
}

static void test_bytes_are_themselves(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(vocabulary_create_bytes(&vocabulary, &error), STATUS_OK);
    assert_int_equal(vocabulary_size(vocabulary), 256);
    for (uint32_t id = 0; id < 256; id++) {
        size_t length;
        const char *symbol = vocabulary_symbol(vocabulary, id, &length);
        assert_int_equal(length, 1);
        assert_int_equal((unsigned char)*symbol, id);
    }
    const uint32_t expected[] = {0xFF, 'a', 0xC3};
    expect_ids(vocabulary,
               "\xFF"
               "a\xC3",
               UNKNOWN_SYMBOLS_ERROR, 3, expected);
    vocabulary_unref(vocabulary);
    mem_fail_after(0);
    assert_int_equal(vocabulary_create_bytes(&vocabulary, &error), STATUS_NO_MEMORY);
}

/* A model made elsewhere may know some bytes only, in an order of its own. */
static void test_some_bytes(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = NULL;
    struct vocabulary *again = NULL;
    struct error error;
    json_t *json = NULL;
    assert_int_equal(vocabulary_create_some_bytes((const unsigned char *)"b \xEC", 3, &vocabulary, &error), STATUS_OK);
    const uint32_t expected[] = {2, 0, 1};
    expect_ids(vocabulary,
               "\xEC"
               "b ",
               UNKNOWN_SYMBOLS_ERROR, 3, expected);
    expect_unknown(vocabulary, "ba", "unknown_symbol", "the model does not know the byte 0x61 at position 1");
    assert_int_equal(vocabulary_to_json(vocabulary, &json, &error), STATUS_OK);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(json, "symbols"), 2)), 0xEC);
    assert_int_equal(vocabulary_from_json(json, &again, &error), STATUS_OK);
    assert_true(vocabulary_equal(vocabulary, again));
    json_decref(json);
    vocabulary_unref(again);
    vocabulary_unref(vocabulary);
    assert_int_equal(vocabulary_create_some_bytes((const unsigned char *)"aba", 3, &vocabulary, &error),
                     STATUS_INVALID);
    assert_string_equal(error.message, "symbol 2, byte 97, is symbol 0 already");
}

static void test_characters_of_a_text_in_order(void **state)
{
    (void)state;
    const char *text = "hé\xE2\x82\xAC\xF0\x9F\x90\x8B ahhé\n";
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(text_vocabulary(text, strlen(text), &vocabulary, &error), STATUS_OK);
    assert_int_equal(vocabulary_kind(vocabulary), VOCABULARY_CHARACTERS);
    const char *const expected[] = {"\n", " ", "a", "h", "é", "\xE2\x82\xAC", "\xF0\x9F\x90\x8B"};
    assert_int_equal(vocabulary_size(vocabulary), 7);
    for (uint32_t id = 0; id < 7; id++) {
        size_t length;
        const char *symbol = vocabulary_symbol(vocabulary, id, &length);
        assert_int_equal(length, strlen(expected[id]));
        assert_memory_equal(symbol, expected[id], length);
    }
    const uint32_t ids[] = {3, 4, 5, 6, 1, 2, 3, 3, 4, 0};
    expect_ids(vocabulary, text, UNKNOWN_SYMBOLS_ERROR, 10, ids);
    expect_unknown(vocabulary, "ah\xFF", "malformed_utf8", "not UTF-8 at byte offset 2");
    vocabulary_unref(vocabulary);
    assert_int_equal(text_vocabulary("", 0, &vocabulary, &error), STATUS_INVALID);
}

static void test_unknown_characters(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = create(VOCABULARY_CHARACTERS, 3, (const char *[]){"b", "a", " "});
    expect_unknown(vocabulary, "aé", "unknown_symbol",
                   "the model does not know the character U+00E9 \"é\" at position 1");
    expect_unknown(vocabulary, "ab\xF0\x9F\x90\x8B", "unknown_symbol",
                   "the model does not know the character U+1F40B \"\xF0\x9F\x90\x8B\" at position 2");
    expect_unknown(vocabulary, "\n", "unknown_symbol", "the model does not know the character U+000A at position 0");
    expect_unknown(vocabulary, "a\"", "unknown_symbol",
                   "the model does not know the character U+0022 '\"' at position 1");
    expect_unknown(vocabulary, "ab\xC3", "malformed_utf8", "not UTF-8 at byte offset 2");
    expect_ids(vocabulary, "aéb", UNKNOWN_SYMBOLS_SKIP, 2, (uint32_t[]){1, 0});
    expect_ids(vocabulary, "aéb", UNKNOWN_SYMBOLS_REPLACE, 3, (uint32_t[]){1, 2, 0});
    vocabulary_unref(vocabulary);
    vocabulary = create(VOCABULARY_CHARACTERS, 2, (const char *[]){"x", "y"});
    expect_ids(vocabulary, "yz", UNKNOWN_SYMBOLS_REPLACE, 2, (uint32_t[]){1, 0});
    expect_ids(vocabulary, "", UNKNOWN_SYMBOLS_ERROR, 0, (uint32_t[]){0});
    vocabulary_unref(vocabulary);
}

static void test_words_lie_between_white_space(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = create(VOCABULARY_WORDS, 4, (const char *[]){"the", "whale", "<unk>", "thé"});
    expect_ids(vocabulary, " the\twhale\n\nthé\xE3\x80\x80the", UNKNOWN_SYMBOLS_ERROR, 4, (uint32_t[]){0, 1, 3, 0});
    expect_ids(vocabulary, " \n ", UNKNOWN_SYMBOLS_ERROR, 0, (uint32_t[]){0});
    expect_ids(vocabulary, "the whale ", UNKNOWN_SYMBOLS_ERROR, 2, (uint32_t[]){0, 1}); /* the last one once */
    expect_ids(vocabulary, "the white whale", UNKNOWN_SYMBOLS_SKIP, 2, (uint32_t[]){0, 1});
    expect_ids(vocabulary, "the white whale", UNKNOWN_SYMBOLS_REPLACE, 3, (uint32_t[]){0, 2, 1});
    expect_ids(vocabulary, "thé white", UNKNOWN_SYMBOLS_ERROR, 2, (uint32_t[]){3, 2}); /* "<unk>" stands for it */
    assert_int_equal(vocabulary_unknown(vocabulary), 2);
    assert_int_equal(vocabulary_end_of_line(vocabulary), SYMBOL_NONE);
    vocabulary_unref(vocabulary);
    vocabulary = create(VOCABULARY_WORDS, 2, (const char *[]){"the", "thé"});
    expect_unknown(vocabulary, "thé\u2003 white", "unknown_symbol",
                   "the model does not know the word \"white\" at position 5");
    expect_unknown(vocabulary, "the \xFF", "malformed_utf8", "not UTF-8 at byte offset 4");
    char text[301];
    memset(text, 'x', 300);
    memcpy(text + 199, "é", 2); /* the limit falls into it */
    text[300] = '\0';
    char message[300];
    snprintf(message, sizeof message, "the model does not know the word \"%.199s\"… at position 0", text);
    expect_unknown(vocabulary, text, "unknown_symbol", message);
    vocabulary_unref(vocabulary);
}

/* "<eos>", else "\n", stands for every line feed, wherever white space is around it. */
static void test_line_ends_are_words(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = create(VOCABULARY_WORDS, 4, (const char *[]){"\n", "<eos>", "the", "whale"});
    assert_int_equal(vocabulary_end_of_line(vocabulary), 1);
    expect_ids(vocabulary, "\n the\nwhale \r\n\n", UNKNOWN_SYMBOLS_ERROR, 6, (uint32_t[]){1, 2, 1, 3, 1, 1});
    expect_ids(vocabulary, "the\n", UNKNOWN_SYMBOLS_ERROR, 2, (uint32_t[]){2, 1});
    expect_ids(vocabulary, "the <eos> whale", UNKNOWN_SYMBOLS_ERROR, 3, (uint32_t[]){2, 1, 3});
    vocabulary_unref(vocabulary);
    vocabulary = create(VOCABULARY_WORDS, 2, (const char *[]){"the", "\n"});
    expect_ids(vocabulary, "the\n\u2028the", UNKNOWN_SYMBOLS_ERROR, 3, (uint32_t[]){0, 1, 0});
    vocabulary_unref(vocabulary);
    vocabulary = create(VOCABULARY_CHARACTERS, 2, (const char *[]){"e", "\n"});
    assert_int_equal(vocabulary_end_of_line(vocabulary), 1);
    assert_int_equal(vocabulary_unknown(vocabulary), SYMBOL_NONE);
    vocabulary_unref(vocabulary);
}

/* A word as long as a symbol can be is one; a longer one is none, whatever a symbol begins with. */
static void test_words_of_any_length(void **state)
{
    (void)state;
    char text[2 * VOCABULARY_SYMBOL_BYTES_MAX];
    memset(text, 'x', sizeof text);
    text[VOCABULARY_SYMBOL_BYTES_MAX] = '\0';
    struct vocabulary *vocabulary = create(VOCABULARY_WORDS, 2, (const char *[]){text, "<unk>"});
    expect_ids(vocabulary, text, UNKNOWN_SYMBOLS_ERROR, 1, (uint32_t[]){0});
    text[VOCABULARY_SYMBOL_BYTES_MAX] = 'x';
    text[sizeof text - 1] = '\0';
    expect_ids(vocabulary, text, UNKNOWN_SYMBOLS_ERROR, 1, (uint32_t[]){1});
    vocabulary_unref(vocabulary);
}

/* "<s>" among characters is one symbol, also in texts; what only looks like the beginning of one is characters. */
static void test_marks_stand_among_characters(void **state)
{
    (void)state;
    struct vocabulary *vocabulary =
        create(VOCABULARY_CHARACTERS, 6, (const char *[]){"<pad>", "a", "<", ">", "s", "<s>"});
    expect_ids(vocabulary, "a<s>a", UNKNOWN_SYMBOLS_ERROR, 3, (uint32_t[]){1, 5, 1});
    expect_ids(vocabulary, "<s<s>", UNKNOWN_SYMBOLS_ERROR, 3, (uint32_t[]){2, 4, 5});
    expect_ids(vocabulary, "<a>", UNKNOWN_SYMBOLS_ERROR, 3, (uint32_t[]){2, 1, 3});
    expect_ids(vocabulary, "<><pad>", UNKNOWN_SYMBOLS_ERROR, 3, (uint32_t[]){2, 3, 0});
    vocabulary_unref(vocabulary);
    expect_refused(VOCABULARY_CHARACTERS, 1, (const char *[]){"<é>"}, "symbol 0, \"<é>\", is more than one character");
    expect_refused(VOCABULARY_CHARACTERS, 1, (const char *[]){"<>"}, "symbol 0, \"<>\", is more than one character");
}

static void test_bad_symbols_are_refused(void **state)
{
    (void)state;
    expect_refused(VOCABULARY_CHARACTERS, 0, NULL, "a vocabulary of no symbols");
    expect_refused(VOCABULARY_CHARACTERS, 3, (const char *[]){"a", "b", "a"}, "symbol 2, \"a\", is symbol 0 already");
    expect_refused(VOCABULARY_CHARACTERS, 2, (const char *[]){"a", ""}, "symbol 1 is empty");
    expect_refused(VOCABULARY_CHARACTERS, 1, (const char *[]){"ab"}, "symbol 0, \"ab\", is more than one character");
    expect_refused(VOCABULARY_WORDS, 2, (const char *[]){"ab", "b\xFF"}, "symbol 1 is not UTF-8 at byte 1");
    struct error error;
    struct vocabulary *vocabulary = NULL;
    const char *const word = "a\0b";
    assert_int_equal(vocabulary_create(VOCABULARY_WORDS, &word, (size_t[]){3}, 1, &vocabulary, &error), STATUS_INVALID);
    char long_word[VOCABULARY_SYMBOL_BYTES_MAX + 1];
    memset(long_word, 'w', sizeof long_word);
    const char *const pointer = long_word;
    assert_int_equal(
        vocabulary_create(VOCABULARY_WORDS, &pointer, (size_t[]){sizeof long_word}, 1, &vocabulary, &error),
        STATUS_LIMIT);
    assert_int_equal(
        vocabulary_create(VOCABULARY_WORDS, &pointer, (size_t[]){sizeof long_word - 1}, 1, &vocabulary, &error),
        STATUS_OK);
    vocabulary_unref(vocabulary);
    vocabulary = NULL;
    assert_int_equal(vocabulary_create(VOCABULARY_WORDS, NULL, NULL, VOCABULARY_SYMBOLS_MAX + 1, &vocabulary, &error),
                     STATUS_LIMIT);
    assert_null(vocabulary);
}

static struct vocabulary *from_text(const char *text)
{
    struct error error;
    struct vocabulary *vocabulary = NULL;
    json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(json);
    assert_int_equal(vocabulary_from_json(json, &vocabulary, &error), STATUS_OK);
    json_decref(json);
    return vocabulary;
}

static void test_json_goes_round(void **state)
{
    (void)state;
    const char *const texts[] = {
        "\"bytes\"",
        "{\"kind\":\"bytes\"}",
        "{\"symbols\":[\"\\u0000\",\"a\",\"\\n\"]}",
        "{\"kind\":\"characters\",\"symbols\":[\"b\",\"\\u20ac\",\"a\"]}",
        "{\"kind\":\"words\",\"symbols\":[\"<unk>\",\"the\",\"New York\"]}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct vocabulary *first = from_text(texts[i]);
        json_t *json = NULL;
        struct error error;
        assert_int_equal(vocabulary_to_json(first, &json, &error), STATUS_OK);
        struct vocabulary *second = NULL;
        assert_int_equal(vocabulary_from_json(json, &second, &error), STATUS_OK);
        assert_true(vocabulary_equal(first, second));
        json_decref(json);
        vocabulary_unref(second);
        vocabulary_unref(first);
    }
}

static void test_bad_json_is_refused(void **state)
{
    (void)state;
    const struct {
        const char *text;
        const char *param;
    } cases[] = {
        {"17", ""},
        {"\"letters\"", ""},
        {"[]", ""},
        {"\"characters\"", "/symbols"},
        {"{\"kind\":3}", "/kind"},
        {"{\"kind\":\"letters\",\"symbols\":[]}", "/kind"},
        {"{\"kind\":\"words\"}", "/symbols"},
        {"{}", "/symbols"},
        {"{\"symbols\":{}}", "/symbols"},
        {"{\"symbols\":[\"a\",1]}", "/symbols/1"},
        {"{\"symbols\":[]}", ""},
        {"{\"symbols\":[\"a\",\"a\"]}", ""},
        {"{\"kind\":\"bytes\",\"symbols\":[]}", "/symbols"},
        {"{\"symbols\":[\"a\"],\"size\":1}", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error;
        struct vocabulary *vocabulary = NULL;
        json_t *json = json_loads(cases[i].text, JSON_DECODE_ANY, NULL);
        assert_non_null(json);
        assert_int_equal(vocabulary_from_json(json, &vocabulary, &error), STATUS_INVALID);
        assert_string_equal(error.param, cases[i].param);
        assert_null(vocabulary);
        json_decref(json);
    }
}

static void test_equal_means_kind_symbols_and_order(void **state)
{
    (void)state;
    struct vocabulary *a = create(VOCABULARY_CHARACTERS, 2, (const char *[]){"a", "b"});
    struct vocabulary *same = create(VOCABULARY_CHARACTERS, 2, (const char *[]){"a", "b"});
    struct vocabulary *turned = create(VOCABULARY_CHARACTERS, 2, (const char *[]){"b", "a"});
    struct vocabulary *words = create(VOCABULARY_WORDS, 2, (const char *[]){"a", "b"});
    struct vocabulary *split = create(VOCABULARY_WORDS, 2, (const char *[]){"ab", "c"});
    struct vocabulary *other_split = create(VOCABULARY_WORDS, 2, (const char *[]){"a", "bc"});
    assert_true(vocabulary_equal(a, same));
    assert_false(vocabulary_equal(a, turned));
    assert_false(vocabulary_equal(a, words));
    assert_false(vocabulary_equal(split, other_split));
    struct vocabulary *second = vocabulary_ref(a);
    vocabulary_unref(a);
    assert_true(vocabulary_equal(second, same)); /* still alive */
    vocabulary_unref(second);
    vocabulary_unref(same);
    vocabulary_unref(turned);
    vocabulary_unref(words);
    vocabulary_unref(split);
    vocabulary_unref(other_split);
    vocabulary_unref(NULL);
}

/* Whatever text made a vocabulary, its ids' symbols put together are the text again. */
static void test_encoding_loses_nothing(void **state)
{
    (void)state;
    const char *seed_text = getenv("TEST_SEED");
    uint64_t seed = seed_text == NULL ? 1 : strtoull(seed_text, NULL, 10);
    print_message("seed %llu\n", (unsigned long long)seed);
    enum { CASES = 200, CHARACTERS_MAX = 300 };
    for (uint64_t i = 0; i < CASES; i++) {
        char text[CHARACTERS_MAX * UTF8_BYTES_MAX];
        size_t length = 0;
        size_t characters = 1 + rng_philox(seed, i, 0).word[0] % (CHARACTERS_MAX - 1);
        uint32_t range = 1u << (1 + rng_philox(seed, i, 0).word[1] % 20);
        for (uint64_t at = 1; at <= characters; at++) {
            uint32_t code_point = rng_philox(seed, i, at).word[0] % range;
            bool is_surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
            length += utf8_encode(is_surrogate ? 'x' : code_point, text + length);
        }
        struct vocabulary *vocabulary = NULL;
        struct error error;
        assert_int_equal(text_vocabulary(text, length, &vocabulary, &error), STATUS_OK);
        uint32_t ids[CHARACTERS_MAX * UTF8_BYTES_MAX];
        size_t count;
        assert_int_equal(vocabulary_encode(vocabulary, text, length, UNKNOWN_SYMBOLS_ERROR, ids, &count, &error),
                         STATUS_OK);
        assert_int_equal(count, characters);
        char back[CHARACTERS_MAX * UTF8_BYTES_MAX];
        size_t used = 0;
        for (size_t at = 0; at < count; at++) {
            size_t symbol_length;
            const char *symbol = vocabulary_symbol(vocabulary, ids[at], &symbol_length);
            memcpy(back + used, symbol, symbol_length);
            used += symbol_length;
        }
        assert_int_equal(used, length);
        assert_memory_equal(back, text, length);
        vocabulary_unref(vocabulary);
    }
}

/* Every allocation in turn fails; a sanitizer sees whether one before it was forgotten. */
static void test_running_out_of_memory(void **state)
{
    (void)state;
    struct error error;
    enum status status = STATUS_NO_MEMORY;
    uint64_t failures = 0;
    for (uint64_t after = 0; status == STATUS_NO_MEMORY; after++) {
        struct vocabulary *vocabulary = NULL;
        mem_fail_after(after);
        status = text_vocabulary("call me", 7, &vocabulary, &error);
        mem_fail_after(UINT64_MAX);
        assert_int_equal(vocabulary == NULL, status != STATUS_OK);
        failures += status != STATUS_OK;
        vocabulary_unref(vocabulary);
    }
    assert_int_equal(status, STATUS_OK);
    assert_true(failures >= 4);
    json_t *json = json_pack("{s:s,s:[s,s]}", "kind", "words", "symbols", "call", "me");
    status = STATUS_NO_MEMORY;
    for (uint64_t after = 0; status == STATUS_NO_MEMORY; after++) {
        struct vocabulary *vocabulary = NULL;
        mem_fail_after(after);
        status = vocabulary_from_json(json, &vocabulary, &error);
        mem_fail_after(UINT64_MAX);
        vocabulary_unref(vocabulary);
    }
    assert_int_equal(status, STATUS_OK);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_are_found_by_name),
        cmocka_unit_test(test_bytes_are_themselves),
        cmocka_unit_test(test_some_bytes),
        cmocka_unit_test(test_characters_of_a_text_in_order),
        cmocka_unit_test(test_unknown_characters),
        cmocka_unit_test(test_words_lie_between_white_space),
        cmocka_unit_test(test_line_ends_are_words),
        cmocka_unit_test(test_words_of_any_length),
        cmocka_unit_test(test_marks_stand_among_characters),
        cmocka_unit_test(test_bad_symbols_are_refused),
        cmocka_unit_test(test_json_goes_round),
        cmocka_unit_test(test_bad_json_is_refused),
        cmocka_unit_test(test_equal_means_kind_symbols_and_order),
        cmocka_unit_test(test_encoding_loses_nothing),
        cmocka_unit_test(test_running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
