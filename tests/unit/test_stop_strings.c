/* Stop strings: examples, and a property against a search over the whole text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/text/stop_strings.h"

enum { TEXT_BYTES_MAX = 4096, CASES = 400 };

static struct stop_strings *create(const char *const *strings, size_t count)
{
    size_t lengths[STOP_STRINGS_MAX];
    for (size_t i = 0; i < count; i++) {
        lengths[i] = strlen(strings[i]);
    }
    struct stop_strings *stop = NULL;
    struct error error;
    assert_int_equal(stop_strings_create(strings, lengths, count, &stop, &error), STATUS_OK);
    return stop;
}

/* Pushes one piece and compares what comes out. */
static void expect(struct stop_strings *stop, const char *piece, bool is_stopped, const char *expected)
{
    char output[STOP_STRINGS_OUTPUT_BYTES_MAX];
    size_t length = SIZE_MAX;
    assert_int_equal(stop_strings_push(stop, piece, strlen(piece), output, &length), is_stopped);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(output, expected, length);
}

static void expect_flush(struct stop_strings *stop, const char *expected)
{
    char output[STOP_STRINGS_OUTPUT_BYTES_MAX];
    size_t length = SIZE_MAX;
    stop_strings_flush(stop, output, &length);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(output, expected, length);
}

static void test_what_could_become_a_stop_is_held_back(void **state)
{
    (void)state;
    const char *const strings[] = {"END"};
    struct stop_strings *stop = create(strings, 1);
    expect(stop, "the E", false, "the ");
    expect(stop, "N", false, "");
    expect(stop, "E", false, "EN");
    expect(stop, "N", false, "");
    expect(stop, "D!", true, "");
    expect_flush(stop, "");
    stop_strings_destroy(stop);
}

static void test_flush_gives_what_was_held(void **state)
{
    (void)state;
    const char *const strings[] = {"\n\n", "aab"};
    struct stop_strings *stop = create(strings, 2);
    expect(stop, "one\n", false, "one");
    expect(stop, "aaa", false, "\na");
    expect_flush(stop, "aa");
    expect_flush(stop, "");
    stop_strings_destroy(stop);
}

static void test_first_completed_wins_then_the_longer(void **state)
{
    (void)state;
    const char *const nested[] = {"abcdef", "cd"};
    struct stop_strings *stop = create(nested, 2);
    expect(stop, "xabcdef", true, "xab");
    stop_strings_destroy(stop);
    const char *const same_end[] = {"d", "bcd", "cd"};
    stop = create(same_end, 3);
    expect(stop, "abcd", true, "a");
    stop_strings_destroy(stop);
}

static void test_without_strings_all_passes(void **state)
{
    (void)state;
    struct stop_strings *stop = create(NULL, 0);
    expect(stop, "anything", false, "anything");
    expect(stop, "", false, "");
    expect_flush(stop, "");
    stop_strings_destroy(stop);
    stop_strings_destroy(NULL);
}

static void test_limits(void **state)
{
    (void)state;
    struct error error;
    struct stop_strings *stop = NULL;
    char text[STOP_STRING_BYTES_MAX + 1];
    memset(text, 'a', sizeof text);
    const char *strings[STOP_STRINGS_MAX + 1];
    size_t lengths[STOP_STRINGS_MAX + 1];
    for (size_t i = 0; i <= STOP_STRINGS_MAX; i++) {
        strings[i] = text;
        lengths[i] = 1;
    }
    assert_int_equal(stop_strings_create(strings, lengths, STOP_STRINGS_MAX + 1, &stop, &error), STATUS_LIMIT);
    assert_string_equal(error.message, "17 stop strings, at most 16");
    lengths[2] = STOP_STRING_BYTES_MAX + 1;
    assert_int_equal(stop_strings_create(strings, lengths, STOP_STRINGS_MAX, &stop, &error), STATUS_LIMIT);
    assert_string_equal(error.message, "stop string 2 has 257 bytes, at most 256");
    lengths[2] = 0;
    assert_int_equal(stop_strings_create(strings, lengths, STOP_STRINGS_MAX, &stop, &error), STATUS_INVALID);
    lengths[2] = STOP_STRING_BYTES_MAX;
    mem_fail_after(0);
    assert_int_equal(stop_strings_create(strings, lengths, STOP_STRINGS_MAX, &stop, &error), STATUS_NO_MEMORY);
    assert_null(stop);
    assert_int_equal(stop_strings_create(strings + 2, lengths + 2, 1, &stop, &error), STATUS_OK);
    char output[STOP_STRINGS_OUTPUT_BYTES_MAX];
    size_t length;
    assert_false(stop_strings_push(stop, text, STOP_STRING_BYTES_MAX - 1, output, &length));
    assert_int_equal(length, 0);
    char other[STOP_STRINGS_INPUT_BYTES_MAX];
    memset(other, 'b', sizeof other);
    assert_false(stop_strings_push(stop, other, sizeof other, output, &length)); /* the most there can be */
    assert_int_equal(length, STOP_STRING_BYTES_MAX - 1 + sizeof other);
    stop_strings_destroy(stop);
}

/* A random case: few letters, so that strings overlap themselves and each other. */
struct example {
    char text[TEXT_BYTES_MAX];
    size_t length;
    char strings[STOP_STRINGS_MAX][8];
    const char *pointers[STOP_STRINGS_MAX];
    size_t count;
};

static uint32_t draw(uint64_t seed, uint64_t *counter, uint32_t below)
{
    return rng_philox(seed, 1, (*counter)++).word[0] % below;
}

static void make_example(uint64_t seed, uint64_t *counter, struct example *example)
{
    example->length = draw(seed, counter, 200);
    for (size_t i = 0; i < example->length; i++) {
        example->text[i] = (char)('a' + draw(seed, counter, 2));
    }
    example->count = draw(seed, counter, 4);
    for (size_t i = 0; i < example->count; i++) {
        size_t length = 1 + draw(seed, counter, 7);
        for (size_t at = 0; at < length; at++) {
            example->strings[i][at] = (char)('a' + draw(seed, counter, 2));
        }
        example->strings[i][length] = '\0';
        example->pointers[i] = example->strings[i];
    }
}

/* Where the text ends by the definition: before the longest of the strings that are complete first. */
static size_t find_end(const struct example *example, bool *ret_is_stopped)
{
    for (size_t end = 1; end <= example->length; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < example->count; i++) {
            size_t length = strlen(example->strings[i]);
            if (length <= end && length > longest &&
                memcmp(example->text + end - length, example->strings[i], length) == 0) {
                longest = length;
            }
        }
        if (longest > 0) {
            *ret_is_stopped = true;
            return end - longest;
        }
    }
    *ret_is_stopped = false;
    return example->length;
}

static void test_any_cutting_gives_the_text_before_the_stop(void **state)
{
    (void)state;
    const char *text = getenv("TEST_SEED");
    uint64_t seed = text == NULL ? 1 : strtoull(text, NULL, 10);
    print_message("seed %llu\n", (unsigned long long)seed);
    uint64_t counter = 0;
    for (int i = 0; i < CASES; i++) {
        struct example example;
        make_example(seed, &counter, &example);
        bool must_stop;
        size_t end = find_end(&example, &must_stop);
        struct stop_strings *stop = create(example.pointers, example.count);
        char collected[TEXT_BYTES_MAX + STOP_STRINGS_OUTPUT_BYTES_MAX];
        size_t used = 0;
        bool is_stopped = false;
        size_t written;
        for (size_t at = 0; at < example.length && !is_stopped;) {
            size_t step = 1 + draw(seed, &counter, 5);
            step = step < example.length - at ? step : example.length - at;
            is_stopped = stop_strings_push(stop, example.text + at, step, collected + used, &written);
            used += written;
            at += step;
        }
        stop_strings_flush(stop, collected + used, &written);
        used += written;
        assert_int_equal(is_stopped, must_stop);
        assert_int_equal(used, end);
        assert_memory_equal(collected, example.text, used);
        stop_strings_destroy(stop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_could_become_a_stop_is_held_back),
        cmocka_unit_test(test_flush_gives_what_was_held),
        cmocka_unit_test(test_first_completed_wins_then_the_longer),
        cmocka_unit_test(test_without_strings_all_passes),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_any_cutting_gives_the_text_before_the_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
