/* Counting symbols and choosing vocabularies: the stated order, what is left out, "<unk>", what extends a vocabulary.
 * */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/text/symbol_counts.h"
#include "engine/text/symbol_table.h"

static struct symbol_counts *count(const char *const *words)
{
    struct symbol_counts *counts = NULL;
    struct error error;
    assert_int_equal(symbol_counts_create(VOCABULARY_WORDS, &counts, &error), STATUS_OK);
    for (uint32_t i = 0; words[i] != NULL; i++) {
        uint32_t number;
        struct symbol_place place = {.file = i, .line = i + 1};
        assert_int_equal(symbol_counts_add_word(counts, words[i], strlen(words[i]), &place, &number, &error),
                         STATUS_OK);
    }
    return counts;
}

static struct vocabulary *choose(const struct symbol_counts *counts, const struct vocabulary *base, uint64_t min_count,
                                 uint64_t max_size)
{
    struct vocabulary *vocabulary = NULL;
    struct vocabulary_limits limits = {.min_count = min_count, .max_size = max_size};
    struct error error;
    if (symbol_counts_make_vocabulary(counts, base, &limits, &vocabulary, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return vocabulary;
}

/* `expected`: the symbols with spaces between them. Takes the reference. */
static void expect_symbols(struct vocabulary *vocabulary, const char *expected)
{
    char text[1024] = "";
    for (uint32_t id = 0; id < vocabulary_size(vocabulary); id++) {
        size_t length;
        const char *symbol = vocabulary_symbol(vocabulary, id, &length);
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%.*s", id == 0 ? "" : " ", (int)length, symbol);
    }
    assert_string_equal(text, expected);
    vocabulary_unref(vocabulary);
}

static const char *const WORDS[] = {"of",    "a",  "<eos>", "the", "sea", "the", "é", "z",
                                    "<eos>", "of", "the",   "sea", "é",   "Z",   NULL};

static void test_by_falling_count_then_code_point(void **state)
{
    (void)state;
    struct symbol_counts *counts = count(WORDS);
    assert_int_equal(symbol_counts_size(counts), 8);
    struct counted_symbol the = symbol_counts_get(counts, 3);
    assert_memory_equal(the.text, "the", 3);
    assert_int_equal(the.count, 3);
    assert_int_equal(the.place.line, 4);
    expect_symbols(choose(counts, NULL, 0, 0), "the <eos> of sea é Z a z");
    expect_symbols(choose(counts, NULL, 1, 8), "the <eos> of sea é Z a z");
    symbol_counts_destroy(counts);
}

static void test_what_is_left_out_is_unknown(void **state)
{
    (void)state;
    struct symbol_counts *counts = count(WORDS);
    expect_symbols(choose(counts, NULL, 2, 0), "<unk> the <eos> of sea é"); /* 3 were left out: before "the" */
    expect_symbols(choose(counts, NULL, 3, 0), "<unk> the <eos>");          /* a line's end always is one */
    expect_symbols(choose(counts, NULL, 0, 7), "the <eos> <unk> of sea é Z");
    expect_symbols(choose(counts, NULL, 0, 2), "<unk> <eos>");
    struct vocabulary *vocabulary = NULL;
    struct vocabulary_limits limits = {.max_size = 1};
    struct error error;
    assert_int_equal(symbol_counts_make_vocabulary(counts, NULL, &limits, &vocabulary, &error), STATUS_INVALID);
    assert_string_equal(error.message, "max_size is 1, and 0 symbols are there already: at least 2");
    symbol_counts_destroy(counts);
    /* A text that has "<unk>" already, as the Penn Treebank does, adds to it. */
    counts = count((const char *[]){"<unk>", "b", "b", "b", "a", "a", "N", NULL});
    expect_symbols(choose(counts, NULL, 0, 0), "b a <unk> N");
    expect_symbols(choose(counts, NULL, 2, 0), "b <unk> a");
    symbol_counts_destroy(counts);
}

static void test_words_that_are_no_symbols(void **state)
{
    (void)state;
    char longest[VOCABULARY_SYMBOL_BYTES_MAX + 2];
    memset(longest, 'x', sizeof longest);
    longest[VOCABULARY_SYMBOL_BYTES_MAX + 1] = '\0';
    struct symbol_counts *counts = count((const char *[]){"a", longest, NULL});
    struct symbol_place place = {.line = 1};
    uint32_t number;
    struct error error;
    assert_int_equal(symbol_counts_add_word(counts, "n\0l", 3, &place, &number, &error), STATUS_OK);
    expect_symbols(choose(counts, NULL, 0, 0), "<unk> a");
    symbol_counts_destroy(counts);
}

static void test_a_vocabulary_is_extended(void **state)
{
    (void)state;
    struct symbol_counts *counts = count(WORDS);
    struct vocabulary *base = choose(counts, NULL, 2, 0);
    symbol_counts_destroy(counts);
    counts = count((const char *[]){"new", "b", "the", "new", "a", "<unk>", NULL});
    expect_symbols(choose(counts, base, 0, 0), "<unk> the <eos> of sea é new a b");
    expect_symbols(choose(counts, base, 2, 0), "<unk> the <eos> of sea é new");
    expect_symbols(choose(counts, base, 0, 8), "<unk> the <eos> of sea é new a");
    vocabulary_unref(base);
    symbol_counts_destroy(counts);
}

static void test_what_comes_after_the_text_does_not_count(void **state)
{
    (void)state;
    struct symbol_counts *counts = count((const char *[]){"a", "b", "b", NULL});
    struct symbol_place place = {.line = 1};
    uint32_t number;
    struct error error;
    symbol_counts_stop(counts);
    assert_int_equal(symbol_counts_add_word(counts, "c", 1, &place, &number, &error), STATUS_OK);
    assert_int_equal(number, 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(symbol_counts_add_word(counts, "a", 1, &place, &number, &error), STATUS_OK);
    }
    expect_symbols(choose(counts, NULL, 0, 0), "b a <unk>"); /* which stands for "c" */
    symbol_counts_destroy(counts);
    counts = count((const char *[]){"a", "b", "b", NULL});
    symbol_counts_stop(counts);
    assert_int_equal(symbol_counts_add_word(counts, "a", 1, &place, &number, &error), STATUS_OK);
    expect_symbols(choose(counts, NULL, 0, 0), "b a");
    symbol_counts_destroy(counts);
}

/* Against a plain count of random words: each symbol's count is no smaller than the next one's, equal ones are in
 * order, and with its limits a vocabulary is as large as it may be. */
static void test_random_words(void **state)
{
    (void)state;
    const char *seed_text = getenv("TEST_SEED");
    uint64_t seed = seed_text == NULL ? 1 : strtoull(seed_text, NULL, 10);
    print_message("seed %llu\n", (unsigned long long)seed);
    enum { CASES = 200, DISTINCT = 600, WORDS_MAX = 3000 };
    for (uint64_t round = 0; round < CASES; round++) {
        uint64_t plain[DISTINCT] = {0};
        struct symbol_counts *counts = count((const char *[]){NULL});
        struct error error;
        for (uint64_t i = 0; i < rng_philox(seed, round, 0).word[0] % WORDS_MAX + 1; i++) {
            struct rng_words words = rng_philox(seed, round, 1 + i);
            uint32_t which = words.word[0] % (words.word[1] % DISTINCT + 1);
            char word[16];
            snprintf(word, sizeof word, "%u", which);
            struct symbol_place place = {.line = i + 1};
            uint32_t number;
            assert_int_equal(symbol_counts_add_word(counts, word, strlen(word), &place, &number, &error), STATUS_OK);
            plain[which]++;
        }
        uint64_t min_count = rng_philox(seed, round, 0).word[1] % 4;
        uint64_t max_size = 2 + rng_philox(seed, round, 0).word[2] % 100;
        struct vocabulary *vocabulary = choose(counts, NULL, min_count, max_size);
        size_t possible = 0;
        uint64_t left_out = 0;
        for (uint32_t which = 0; which < DISTINCT; which++) {
            char word[16];
            snprintf(word, sizeof word, "%u", which);
            possible += plain[which] > 0 && plain[which] >= min_count;
            bool is_in = vocabulary_find(vocabulary, word, strlen(word)) != SYMBOL_NONE;
            left_out += is_in ? 0 : plain[which];
        }
        assert_int_equal(vocabulary_unknown(vocabulary) != SYMBOL_NONE, left_out > 0);
        size_t most = possible + (left_out > 0);
        assert_int_equal(vocabulary_size(vocabulary), most < max_size ? most : max_size);
        uint64_t last = UINT64_MAX;
        char last_word[16] = "";
        for (uint32_t id = 0; id < vocabulary_size(vocabulary); id++) {
            size_t length;
            const char *symbol = vocabulary_symbol(vocabulary, id, &length);
            char word[16] = "";
            memcpy(word, symbol, length);
            uint64_t times = id == vocabulary_unknown(vocabulary) ? left_out : plain[strtoul(word, NULL, 10)];
            assert_true(times < last || (times == last && strcmp(last_word, word) < 0));
            last = times;
            memcpy(last_word, word, sizeof word);
        }
        vocabulary_unref(vocabulary);
        symbol_counts_destroy(counts);
    }
}

static void test_running_out_of_memory(void **state)
{
    (void)state;
    uint64_t failing = 0;
    for (enum status status = STATUS_NO_MEMORY; status != STATUS_OK; failing++) {
        struct symbol_counts *counts = NULL;
        struct vocabulary *vocabulary = NULL;
        struct vocabulary_limits limits = {0};
        struct error error;
        mem_fail_after(failing);
        status = symbol_counts_create(VOCABULARY_WORDS, &counts, &error);
        for (int i = 0; i < 100 && status == STATUS_OK; i++) {
            char word[16];
            struct symbol_place place = {.line = 1};
            uint32_t number;
            snprintf(word, sizeof word, "%d", i);
            status = symbol_counts_add_word(counts, word, strlen(word), &place, &number, &error);
        }
        if (status == STATUS_OK) {
            status = symbol_counts_make_vocabulary(counts, NULL, &limits, &vocabulary, &error);
        }
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        vocabulary_unref(vocabulary);
        symbol_counts_destroy(counts);
    }
    assert_true(failing > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_falling_count_then_code_point),
        cmocka_unit_test(test_what_is_left_out_is_unknown),
        cmocka_unit_test(test_words_that_are_no_symbols),
        cmocka_unit_test(test_a_vocabulary_is_extended),
        cmocka_unit_test(test_what_comes_after_the_text_does_not_count),
        cmocka_unit_test(test_random_words),
        cmocka_unit_test(test_running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
