/* Patterns: what they match, what is refused and how, and their automata against POSIX' regexec. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/text/pattern.h"
#include "engine/text/utf8.h"
#include "tests/unit/random_pattern.h"

static struct pattern *create(const char *text)
{
    struct pattern *pattern = NULL;
    struct error error;
    if (pattern_create(text, strlen(text), &pattern, &error) != STATUS_OK) {
        fail_msg("%s: %s", text, error.message);
    }
    return pattern;
}

/* Whether a text matches as a whole; where not, whether more could come to match. */
static bool matches(struct pattern *pattern, const char *text, bool *ret_is_dead)
{
    uint32_t state = PATTERN_START;
    struct error error;
    for (size_t i = 0; text[i] != '\0'; i++) {
        assert_int_equal(pattern_step(pattern, state, (unsigned char)text[i], &state, &error), STATUS_OK);
    }
    *ret_is_dead = state == PATTERN_DEAD;
    return pattern_is_accepting(pattern, state);
}

static void test_what_matches(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        const char *matching[5], *others[6];
    } rows[] = {
        {"abc", {"abc"}, {"ab", "abcd", "", "xbc"}},
        {"", {""}, {"a"}},
        {"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
        {"(a|b)*c", {"c", "abac"}, {"", "ab", "cc"}},
        {"a+b?", {"a", "aab"}, {"", "b", "abb"}},
        {"a{2}", {"aa"}, {"a", "aaa"}},
        {"a{2,}", {"aa", "aaaa"}, {"a", ""}},
        {"(ab){1,2}", {"ab", "abab"}, {"", "ababab", "aba"}},
        {"a{0}b{0,0}", {""}, {"a", "b"}},
        {"a*?b+?c??d{1,2}?", {"bd", "aabbcdd"}, {"d", "abccd"}},
        {"[a\\-z]", {"a", "-", "z"}, {"b"}},
        {"[-a]|[b-]|[c^]", {"-", "a", "b", "c", "^"}, {"d"}},
        {"[^a-z]", {"A", "é", "\n", "😀"}, {"a", "m", "", "AA"}},
        {"[\\d_]+", {"0_9"}, {"a", ""}},
        {"\\d\\D\\w\\W\\s\\S", {"1a_-\t.", "9éZ€ é"}, {"aa_-\t.", "1a--\t."}},
        {"[^\\W\\d]", {"a", "Z", "_"}, {"1", "-", "é"}},
        {".", {"a", "é", "€", "😀", "\r"}, {"\n", "", "ab", "\xC3", "\xED\xA0\x80", "\xC0\x80"}},
        {"[α-ω]+", {"λγος", "α"}, {"a", "Α"}},
        {"[\\u00e9-\\u20ac]", {"é", "€", "߿", "ࠀ"}, {"e", "₭", "\xC3"}},
        {"\\x41\\u0042\\n\\t\\r\\f\\v", {"AB\n\t\r\f\v"}, {"AB"}},
        {"\\.\\*\\(\\[\\{\\\\\\/\\_\\ ", {".*([{\\/_ "}, {"a"}},
        {"]}a", {"]}a"}, {"a"}},
        {"^a$|^b$|c", {"a", "b", "c"}, {"^a$", "ab"}},
        {"^(?:ab|(c))$", {"ab", "c"}, {"abc"}},
        {"(a*)*(b|)*", {"", "aaa", "aabb"}, {"aba"}},
        {"((((a))))", {"a"}, {""}},
        {"(){3}a", {"a"}, {""}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pattern *pattern = create(rows[i].pattern);
        bool is_dead;
        for (size_t j = 0; j < 5 && rows[i].matching[j] != NULL; j++) {
            if (!matches(pattern, rows[i].matching[j], &is_dead) || is_dead) {
                fail_msg("'%s' does not match '%s'", rows[i].pattern, rows[i].matching[j]);
            }
        }
        for (size_t j = 0; j < 6 && rows[i].others[j] != NULL; j++) {
            if (matches(pattern, rows[i].others[j], &is_dead)) {
                fail_msg("'%s' matches '%s'", rows[i].pattern, rows[i].others[j]);
            }
        }
        pattern_destroy(pattern);
    }
}

static void test_what_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *code, *message;
    } rows[] = {
        {"a(?=b)", "unsupported", "a look-ahead at character 1 is not supported"},
        {"a(?!b)", "unsupported", "a negative look-ahead at character 1"},
        {"(?<=a)b", "unsupported", "a look-behind at character 0"},
        {"(?<!a)b", "unsupported", "a negative look-behind at character 0"},
        {"é(?P<year>\\d)", "unsupported", "a named group at character 1"},
        {"(?<year>\\d)", "unsupported", "a named group at character 0"},
        {"(a)\\1", "unsupported", "a backreference at character 3"},
        {"(?P=a)", "unsupported", "a backreference at character 0"},
        {"\\k<a>", "unsupported", "a backreference at character 0"},
        {"(?i)a", "unsupported", "an inline flag at character 0"},
        {"(?>a)", "unsupported", "an atomic group at character 0"},
        {"(?(1)a)", "unsupported", "a conditional at character 0"},
        {"(?#a)", "unsupported", "a comment at character 0"},
        {"(?|a)", "unsupported", "a branch reset at character 0"},
        {"(?", "unsupported", "an inline flag at character 0"},
        {"a\\b", "unsupported", "a word boundary at character 1"},
        {"\\Aa\\Z", "unsupported", "an anchor at character 0"},
        {"\\p{L}", "unsupported", "a Unicode property at character 0"},
        {"\\Qa", "unsupported", "a quoted text at character 0"},
        {"\\0", "unsupported", "an octal escape at character 0"},
        {"\\y", "unsupported", "an unknown escape at character 0"},
        {"\\é", "unsupported", "an unknown escape at character 0"},
        {"a*+", "unsupported", "a possessive quantifier at character 2"},
        {"[[:alpha:]]", "unsupported", "a POSIX class at character 1"},
        {"a^b", "unsupported", "an anchor inside of the pattern at character 1"},
        {"a$b", "unsupported", "an anchor inside of the pattern at character 1"},
        {"(^a)", "unsupported", "an anchor inside of the pattern at character 1"},
        {"*a", "malformed", "a quantifier with nothing to repeat at character 0"},
        {"a|+", "malformed", "a quantifier with nothing to repeat at character 2"},
        {"a**", "malformed", "a quantifier with nothing to repeat at character 2"},
        {"^*", "malformed", "a quantifier with nothing to repeat at character 1"},
        {"a{", "malformed", "a '{' that begins no"},
        {"a{}", "malformed", "a '{' that begins no"},
        {"a{,2}", "malformed", "a '{' that begins no"},
        {"a{2,1}", "malformed", "a '{' that begins no"},
        {"a{1", "malformed", "a '{' that begins no"},
        {"(a", "malformed", "a group that does not end at character 0"},
        {"é)", "malformed", "a ')' that closes nothing at character 1"},
        {"[a", "malformed", "a class that does not end at character 0"},
        {"[", "malformed", "a class that does not end at character 0"},
        {"[]a]", "malformed", "an empty class"},
        {"[^]a]", "malformed", "an empty class"},
        {"[\\d\\D]|[^\\d\\D]", "malformed", "a class without any character at character 7"},
        {"[z-a]", "malformed", "a range that ends before it begins"},
        {"[\\d-z]", "malformed", "a range that ends before it begins, or at a class, at character 1"},
        {"[a-\\d]", "malformed", "a range that ends before it begins, or at a class, at character 1"},
        {"a\\", "malformed", "a backslash with nothing behind it at character 1"},
        {"\\x4", "malformed", "\\x without two hexadecimal digits at character 0"},
        {"\\u12G4", "malformed", "\\u without four hexadecimal digits at character 0"},
        {"\\ud83d", "malformed", "half of a surrogate pair at character 0"},
        {"a\xC3", "malformed", "malformed UTF-8 at character 1"},
        {"a{1001}", "too_large", "more than 1000 repetitions"},
        {"(.{1000}){1000}", "too_large", "more than 65536 nodes"},
        {"((((((){1000}){1000}){1000}){1000}){1000}){1000}", "too_large", "steps to make its automaton"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pattern *pattern;
        struct error error;
        char code[ERROR_CODE_BYTES_MAX];
        snprintf(code, sizeof code, "pattern_%s", rows[i].code);
        assert_int_equal(pattern_create(rows[i].pattern, strlen(rows[i].pattern), &pattern, &error), STATUS_INVALID);
        if (strstr(error.message, rows[i].message) == NULL || strcmp(error.code, code) != 0) {
            fail_msg("'%s': %s, %s", rows[i].pattern, error.message, error.code);
        }
        assert_string_equal(error.param, "pattern");
    }
}

static void test_bounds(void **state)
{
    (void)state;
    static char text[PATTERN_BYTES_MAX + 2];
    struct pattern *pattern;
    struct error error;
    memset(text, 'a', PATTERN_BYTES_MAX + 1);
    assert_int_equal(pattern_create(text, PATTERN_BYTES_MAX + 1, &pattern, &error), STATUS_INVALID);
    assert_string_equal(error.message, "the pattern is too large: more than 4096 bytes");
    text[1000] = '\0';
    pattern_destroy(create(text));
    memset(text, '(', PATTERN_DEPTH_MAX);
    memset(text + PATTERN_DEPTH_MAX, ')', PATTERN_DEPTH_MAX);
    text[2 * PATTERN_DEPTH_MAX] = '\0';
    pattern_destroy(create(text));
    memset(text, '(', PATTERN_DEPTH_MAX + 1);
    assert_int_equal(pattern_create(text, PATTERN_DEPTH_MAX + 1, &pattern, &error), STATUS_INVALID);
    assert_string_equal(error.message, "the pattern is too large: more than 100 groups in groups");
    /* a state for every way in which the last 13 characters can have been */
    pattern = create("(a|b)*a(a|b){13}");
    enum status status = STATUS_OK;
    uint32_t place = PATTERN_START;
    for (size_t i = 0; i < 100000 && status == STATUS_OK; i++) {
        status = pattern_step(pattern, place, (unsigned char)('a' + rng_bits(1, 2, i) % 2), &place, &error);
    }
    assert_int_equal(status, STATUS_INVALID);
    assert_string_equal(error.message, "the pattern is too large: more than 4096 states in its automaton");
    pattern_destroy(pattern);
    pattern_destroy(NULL);
}

/* Every text of up to seven characters: it matches as for regexec, and one that is dead is the beginning of none. */
static void test_random_patterns(void **state)
{
    (void)state;
    enum { PATTERNS = 300, TEXTS = 1 + 3 + 9 + 27 + 81 + 243 + 729 + 2187 };
    uint64_t seed = random_pattern_seed();
    size_t match_count = 0;
    for (size_t n = 0; n < PATTERNS; n++) {
        struct random_pattern random;
        regex_t oracle;
        random_pattern_make(&random, seed, n, &oracle);
        struct pattern *pattern = create(random.text);
        for (size_t i = 0; i < TEXTS; i++) {
            char text[16];
            random_pattern_spell(i, text);
            bool is_dead, is_wanted = regexec(&oracle, text, 0, NULL, 0) == 0;
            bool is_matching = matches(pattern, text, &is_dead);
            if (is_matching != is_wanted || (is_dead && is_wanted)) {
                fail_msg("'%s' and '%s': %d, not %d", random.text, text, is_matching, is_wanted);
            }
            match_count += is_wanted;
        }
        pattern_destroy(pattern);
        regfree(&oracle);
    }
    assert_true(match_count > 1000);
}

/* Classes of random ranges against the characters themselves, around every border of their encodings. */
static void test_random_classes(void **state)
{
    (void)state;
    static const uint32_t borders[] = {0,      0x41,   0x7F,    0x80,    0x7FF,   0x800,   0xFFF,    0x1000,  0xD7FF,
                                       0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0xFFFFF, 0x100000, 0x10FFFF};
    enum { BORDERS = sizeof borders / sizeof *borders };
    struct random_pattern random = {.seed = random_pattern_seed(), .stream = 1000000};
    for (size_t n = 0; n < 300; n++) {
        uint32_t ends[2];
        for (size_t i = 0; i < 2; i++) {
            ends[i] = borders[random_pattern_pick(&random, BORDERS)] + random_pattern_pick(&random, 3);
            ends[i] = ends[i] > 0x10FFFF || (ends[i] >= 0xD800 && ends[i] < 0xE000) ? 'a' : ends[i];
            ends[i] = ends[i] == '^' || ends[i] == ']' || ends[i] == '\\' || ends[i] == '-' ? 'b' : ends[i];
        }
        uint32_t low = ends[0] < ends[1] ? ends[0] : ends[1], high = ends[0] < ends[1] ? ends[1] : ends[0];
        bool is_negated = random_pattern_pick(&random, 2) == 0;
        char text[32] = "[^";
        size_t length = is_negated ? 2 : 1;
        length += utf8_encode(low, text + length);
        text[length++] = '-';
        length += utf8_encode(high, text + length);
        text[length++] = ']';
        struct pattern *pattern;
        struct error error;
        assert_int_equal(pattern_create(text, length, &pattern, &error),
                         is_negated && low == 0 && high == 0x10FFFF ? STATUS_INVALID : STATUS_OK);
        for (size_t i = 0; i < 3 * BORDERS && (!is_negated || low > 0 || high < 0x10FFFF); i++) {
            uint32_t character = borders[i / 3] + (uint32_t)(i % 3) - 1;
            char bytes[UTF8_BYTES_MAX];
            if (character > 0x10FFFF || (character >= 0xD800 && character < 0xE000)) {
                continue;
            }
            uint32_t place = PATTERN_START;
            size_t byte_count = utf8_encode(character, bytes);
            for (size_t j = 0; j < byte_count; j++) {
                assert_int_equal(pattern_step(pattern, place, (unsigned char)bytes[j], &place, &error), STATUS_OK);
            }
            bool is_in = character >= low && character <= high;
            assert_int_equal(pattern_is_accepting(pattern, place), is_in != is_negated);
        }
        if (!is_negated || low > 0 || high < 0x10FFFF) {
            pattern_destroy(pattern);
        }
    }
}

static void test_running_out_of_memory(void **state)
{
    (void)state;
    static const char text[] = "(a|[^b-d]{2,5})*\\d";
    for (uint64_t n = 0;; n++) {
        struct pattern *pattern = NULL;
        struct error error = {.status = STATUS_OK};
        mem_fail_after(n);
        enum status status = pattern_create(text, strlen(text), &pattern, &error);
        mem_fail_after(UINT64_MAX);
        if (status == STATUS_OK) {
            assert_true(n > 5);
            pattern_destroy(pattern);
            return;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
        assert_int_equal(error.status, STATUS_NO_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_matches),   cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_bounds),         cmocka_unit_test(test_random_patterns),
        cmocka_unit_test(test_random_classes), cmocka_unit_test(test_running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
