/* Constraints: which symbols may follow, how far a match is, and rows that are led to one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/decode/constraint.h"
#include "tests/unit/batcher_rig.h"
#include "tests/unit/random_pattern.h"

enum { LOGITS_MAX = 512 };

static _Alignas(64) float logits[LOGITS_MAX];

static struct vocabulary *vocabulary_of(enum vocabulary_kind kind, const char *const *symbols, size_t count)
{
    size_t lengths[16];
    struct vocabulary *vocabulary = NULL;
    struct error error;
    for (size_t i = 0; i < count; i++) {
        lengths[i] = strlen(symbols[i]);
    }
    assert_int_equal(vocabulary_create(kind, symbols, lengths, count, &vocabulary, &error), STATUS_OK);
    return vocabulary;
}

static struct constraint *constrain(const char *pattern, const struct vocabulary *vocabulary)
{
    struct constraint *constraint = NULL;
    struct error error;
    if (constraint_create(pattern, strlen(pattern), vocabulary, NULL, 0, &constraint, &error) != STATUS_OK) {
        fail_msg("%s: %s", pattern, error.message);
    }
    return constraint;
}

static size_t shortest(const char *pattern, const struct vocabulary *vocabulary, bool is_line_begun)
{
    struct constraint *constraint = constrain(pattern, vocabulary);
    size_t distance = constraint_shortest(constraint, constraint_begin(constraint, is_line_begun));
    assert_null(constraint_unref(constraint));
    return distance;
}

/* The symbols that may follow, as a sum of 1 << symbol; the end of the text is 1 << 31. */
static uint32_t allowed(const struct constraint *constraint, uint32_t state, size_t left)
{
    for (size_t i = 0; i < LOGITS_MAX; i++) {
        logits[i] = (float)i;
    }
    size_t count = constraint_gather(constraint, state, left, logits);
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t at = state, symbol = 0;
        bool is_symbol = constraint_follow(constraint, &at, left, i, &symbol);
        assert_true(logits[i] == (float)symbol);
        assert_true(i == 0 || logits[i - 1] < logits[i]);
        sum += UINT32_C(1) << (is_symbol ? symbol : 31);
    }
    return sum;
}

static uint32_t follow(const struct constraint *constraint, uint32_t state, uint32_t wanted)
{
    for (size_t i = 0;; i++) {
        uint32_t at = state, symbol;
        if (constraint_follow(constraint, &at, 1000, i, &symbol) && symbol == wanted) {
            return at;
        }
    }
}

static void test_characters(void **state)
{
    (void)state;
    static const char *const symbols[] = {"a", "b", "é", "1"};
    struct vocabulary *vocabulary = vocabulary_of(VOCABULARY_CHARACTERS, symbols, 4);
    struct constraint *constraint = constrain("(ab?|é+1|x)", vocabulary);
    uint32_t at = constraint_begin(constraint, false);
    assert_int_equal(at, constraint_begin(constraint, true));
    assert_int_equal(constraint_shortest(constraint, at), 1);
    assert_int_equal(constraint_course(constraint, at, 1), CONSTRAINT_GOES_ON);
    assert_int_equal(allowed(constraint, at, 1), 1 << 0);
    assert_int_equal(allowed(constraint, at, 2), 1 << 0 | 1 << 2);
    uint32_t behind_a = follow(constraint, at, 0);
    assert_int_equal(constraint_shortest(constraint, behind_a), 0);
    assert_int_equal(constraint_course(constraint, behind_a, 0), CONSTRAINT_IS_SHORT);
    assert_int_equal(constraint_course(constraint, behind_a, 1), CONSTRAINT_GOES_ON);
    assert_int_equal(constraint_course(constraint, follow(constraint, behind_a, 1), 9), CONSTRAINT_ENDS);
    uint32_t behind_e = follow(constraint, at, 2);
    assert_int_equal(constraint_shortest(constraint, behind_e), 1);
    assert_int_equal(allowed(constraint, behind_e, 1), 1 << 3);
    assert_int_equal(allowed(constraint, behind_e, 2), 1 << 2 | 1 << 3);
    constraint_unref(constraint);
    assert_int_equal(shortest("x|é1é", vocabulary, false), 3);
    assert_int_equal(shortest("x|[^ab1é]", vocabulary, false), CONSTRAINT_NEVER);
    assert_int_equal(shortest("x*", vocabulary, false), 0);
    vocabulary_unref(vocabulary);
}

static void test_words(void **state)
{
    (void)state;
    static const char *const symbols[] = {"yes", "no", "<eos>", "maybe"};
    struct vocabulary *vocabulary = vocabulary_of(VOCABULARY_WORDS, symbols, 4);
    struct constraint *constraint = constrain(" ?(yes|no)( (yes|no))*\n?", vocabulary);
    uint32_t at = constraint_begin(constraint, false);
    assert_int_not_equal(at, constraint_begin(constraint, true));
    assert_int_equal(allowed(constraint, at, 5), 1 << 0 | 1 << 1);
    assert_int_equal(allowed(constraint, constraint_begin(constraint, true), 5), 1 << 0 | 1 << 1);
    at = follow(constraint, at, 0);
    assert_int_equal(allowed(constraint, at, 5), 1 << 0 | 1 << 1 | 1 << 2); /* a line's end that the pattern has */
    assert_int_equal(constraint_course(constraint, follow(constraint, at, 2), 5), CONSTRAINT_ENDS);
    constraint_unref(constraint);
    constraint = constrain(" yes( maybe)*", vocabulary);
    assert_int_equal(constraint_shortest(constraint, constraint_begin(constraint, true)), CONSTRAINT_NEVER);
    at = follow(constraint, constraint_begin(constraint, false), 0);
    assert_int_equal(allowed(constraint, at, 5), UINT32_C(1) << 3 | UINT32_C(1) << 31); /* or the end of the text */
    assert_int_equal(constraint_course(constraint, at, 5), CONSTRAINT_GOES_ON);
    assert_int_equal(constraint_course(constraint, at, 0), CONSTRAINT_IS_SHORT);
    constraint_unref(constraint);
    assert_int_equal(shortest("\n\nyes no\n", vocabulary, true), 5);
    constraint = constrain("yes|yes yes", vocabulary);
    at = follow(constraint, constraint_begin(constraint, true), 0);
    assert_int_equal(constraint_course(constraint, follow(constraint, at, 0), 9), CONSTRAINT_ENDS);
    constraint_unref(constraint);
    vocabulary_unref(vocabulary);
}

static void test_bytes(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(vocabulary_create_bytes(&vocabulary, &error), STATUS_OK);
    assert_int_equal(shortest("é😀[^\\x00-\\uffff]", vocabulary, false), 10);
    struct constraint *constraint = constrain(".", vocabulary);
    uint32_t at = constraint_begin(constraint, false);
    assert_int_equal(constraint_gather(constraint, at, 4, logits), 127 + 30 + 16 + 5); /* not "\n", C0, C1, F5 and on */
    assert_int_equal(constraint_gather(constraint, at, 1, logits), 127);
    assert_int_equal(constraint_gather(constraint, follow(constraint, at, 0xED), 9, logits), 0x20); /* no surrogates */
    constraint_unref(constraint);
    vocabulary_unref(vocabulary);
}

static void test_banned_symbols(void **state)
{
    (void)state;
    static const char *const symbols[] = {"a", "b", "c"};
    static const struct penalty_bias biases[] = {
        {0, 2.0}, {1, -(double)INFINITY}, {3, -(double)INFINITY}, {UINT32_MAX, 1.0}}; /* two are no symbols */
    struct vocabulary *vocabulary = vocabulary_of(VOCABULARY_CHARACTERS, symbols, 3);
    struct constraint *constraint;
    struct error error;
    assert_int_equal(constraint_create("b|ac", 4, vocabulary, biases, 4, &constraint, &error), STATUS_OK);
    assert_int_equal(constraint_shortest(constraint, constraint_begin(constraint, false)), 2);
    constraint_unref(constraint);
    assert_int_equal(constraint_create("[bc]b", 5, vocabulary, biases, 4, &constraint, &error), STATUS_OK);
    assert_int_equal(constraint_shortest(constraint, constraint_begin(constraint, false)), CONSTRAINT_NEVER);
    constraint_unref(constraint);
    vocabulary_unref(vocabulary);
}

static void test_bounds(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = NULL;
    struct constraint *constraint;
    struct error error;
    assert_int_equal(vocabulary_create_bytes(&vocabulary, &error), STATUS_OK);
    static const char *const large[] = {"(a|b)*a(a|b){13}", "[^a]{999}[^b]{999}[^c]{999}[^d]{999}[^e]{999}"};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        assert_int_equal(constraint_create(large[i], strlen(large[i]), vocabulary, NULL, 0, &constraint, &error),
                         STATUS_INVALID);
        assert_string_equal(error.code, "pattern_too_large");
        assert_string_equal(error.param, "pattern");
    }
    assert_int_equal(constraint_create("a(", 2, vocabulary, NULL, 0, &constraint, &error), STATUS_INVALID);
    vocabulary_unref(vocabulary);
}

/* The shortest match is as short as regexec's among all texts; whoever takes any allowed symbol ends in a match. */
static void test_random_patterns(void **state)
{
    (void)state;
    enum { PATTERNS = 300, TEXTS = 1 + 3 + 9 + 27 + 81 + 243 };
    static const char *const symbols[] = {"a", "b", "c"};
    struct vocabulary *vocabulary = vocabulary_of(VOCABULARY_CHARACTERS, symbols, 3);
    uint64_t seed = random_pattern_seed();
    size_t large_count = 0;
    for (size_t n = 0; n < PATTERNS; n++) {
        struct random_pattern random;
        regex_t oracle;
        char text[64];
        struct constraint *constraint;
        struct error error;
        random_pattern_make(&random, seed, n, &oracle);
        if (constraint_create(random.text, random.length, vocabulary, NULL, 0, &constraint, &error) != STATUS_OK) {
            assert_string_equal(error.code, "pattern_too_large");
            large_count++;
            regfree(&oracle);
            continue;
        }
        uint32_t begin = constraint_begin(constraint, false);
        size_t distance = constraint_shortest(constraint, begin), found = SIZE_MAX;
        for (size_t i = 0; i < TEXTS && found == SIZE_MAX; i++) {
            random_pattern_spell(i, text);
            found = regexec(&oracle, text, 0, NULL, 0) == 0 ? strlen(text) : SIZE_MAX;
        }
        assert_true(found == distance || (found == SIZE_MAX && distance > 5));
        for (size_t walk = 0; walk < 8 && distance < 40; walk++) {
            size_t left = distance + walk, length = 0;
            uint32_t at = begin;
            while (constraint_course(constraint, at, left) == CONSTRAINT_GOES_ON) {
                uint32_t symbol;
                size_t count = constraint_gather(constraint, at, left, logits);
                size_t index = random_pattern_pick(&random, (uint32_t)count);
                assert_true(constraint_follow(constraint, &at, left, index, &symbol));
                text[length++] = symbols[symbol][0];
                left--;
            }
            text[length] = '\0';
            if (regexec(&oracle, text, 0, NULL, 0) != 0) {
                fail_msg("'%s' was led to '%s'", random.text, text);
            }
        }
        constraint_unref(constraint);
        regfree(&oracle);
    }
    assert_true(large_count < PATTERNS / 4);
    vocabulary_unref(vocabulary);
}

/* ---- rows */

static const char *const row_patterns[] = {"[!-D]+", "(!|\"#)*$", "%{3}.{5}[A-D]*", ".*!!.*", "()"};
enum { ROW_PATTERNS = sizeof row_patterns / sizeof *row_patterns, ROWS = 80 };

/* Rows with a pattern and rows without one, with all ways of sampling. */
static struct row *submit_nth(struct hub *hub, const struct served *served, struct constraint *const *constraints,
                              size_t n)
{
    uint32_t prompt[3] = {(uint32_t)n % 36, 1, 2};
    struct generation_options options = {
        .prompt = prompt,
        .prompt_count = 3,
        .tokens_max = 10 + n % 40,
        .temperature = n % 4 == 0 ? 0.0 : 0.5 * (double)(n % 5),
        .top_k = n % 3 == 0 ? 5 : 0,
        .top_p = n % 6 == 1 ? 0.8 : 1.0,
        .min_p = n % 5 == 2 ? 0.05 : 0.0,
        .typical_p = n % 7 == 3 ? 0.7 : 1.0,
        .penalties = {.repetition = n % 2 == 0 ? 1.3 : 1.0, .repetition_window = 8, .presence = 0.1},
        .constraint = n % 6 == ROW_PATTERNS ? NULL : constraints[n % 6],
        .seed = n,
        .want_logprobs = n % 2 == 1,
    };
    return must_submit(hub, served, options);
}

static void test_rows_match_and_do_not_depend_on_neighbours(void **state)
{
    (void)state;
    struct served served;
    served_init(&served, decode_model_characters(36), 0, 1, 12, NULL);
    struct vocabulary *vocabulary = decode_model_characters(36);
    struct constraint *constraints[ROW_PATTERNS];
    regex_t oracles[ROW_PATTERNS];
    for (size_t i = 0; i < ROW_PATTERNS; i++) {
        char whole[64];
        snprintf(whole, sizeof whole, "^(%s)$", i == 1 ? "(!|\"#)*" : row_patterns[i]);
        assert_int_equal(regcomp(&oracles[i], whole, REG_EXTENDED | REG_NOSUB), 0);
        constraints[i] = constrain(row_patterns[i], vocabulary);
    }
    struct hub together, alone;
    hub_init(&together, 2, ROWS);
    hub_init(&alone, 1, 2);
    for (size_t n = 0; n < ROWS; n++) {
        submit_nth(&together, &served, constraints, n);
        submit_nth(&alone, &served, constraints, n);
        hub_wait_ended(&alone, n + 1);
    }
    hub_wait_ended(&together, ROWS);
    for (size_t n = 0; n < ROWS; n++) {
        const struct row *row = &alone.rows[n];
        char text[TEXT_BYTES_MAX + 1] = "";
        memcpy(text, row->text, row->length);
        assert_int_equal(together.rows[n].length, row->length);
        assert_memory_equal(together.rows[n].text, row->text, row->length);
        assert_memory_equal(together.rows[n].top_logprobs, row->top_logprobs, sizeof row->top_logprobs);
        if (n % 6 < ROW_PATTERNS && regexec(&oracles[n % 6], text, 0, NULL, 0) != 0) {
            fail_msg("'%s' was led to '%s'", row_patterns[n % 6], text);
        }
    }
    hub_release(&together);
    hub_release(&alone);
    for (size_t i = 0; i < ROW_PATTERNS; i++) {
        constraint_unref(constraints[i]);
        regfree(&oracles[i]);
    }
    vocabulary_unref(vocabulary);
    served_release(&served);
}

static void test_running_out_of_memory(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = decode_model_characters(36);
    for (uint64_t n = 0;; n++) {
        struct constraint *constraint = NULL;
        struct error error = {.status = STATUS_OK};
        mem_fail_after(n);
        enum status status = constraint_create(".{100}", 6, vocabulary, NULL, 0, &constraint, &error);
        mem_fail_after(UINT64_MAX);
        if (status == STATUS_OK && n > 14) { /* the last allocation only gives memory back, and may fail */
            constraint_unref(constraint);
            break;
        }
        constraint_unref(constraint);
        assert_true(status == STATUS_OK || (status == STATUS_NO_MEMORY && error.status == STATUS_NO_MEMORY));
    }
    vocabulary_unref(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_banned_symbols),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_random_patterns),
        cmocka_unit_test(test_rows_match_and_do_not_depend_on_neighbours),
        cmocka_unit_test(test_running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
