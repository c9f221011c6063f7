/* Random regular expressions that mean the same to POSIX, whose regexec is the tests' oracle. Included after
 * cmocka.h. */
#ifndef TESTS_UNIT_RANDOM_PATTERN_H
#define TESTS_UNIT_RANDOM_PATTERN_H

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/rng.h"

enum { RANDOM_PATTERN_BYTES_MAX = 1024 };

/* Random numbers one behind the other, and the expression so far. */
struct random_pattern {
    uint64_t seed, stream, counter;
    char text[RANDOM_PATTERN_BYTES_MAX];
    size_t length;
};

/* $TEST_SEED, or a constant; printed. */
static inline uint64_t random_pattern_seed(void)
{
    const char *text = getenv("TEST_SEED");
    uint64_t seed = text == NULL ? 71 : strtoull(text, NULL, 10);
    print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* One of `count` numbers from 0. */
static inline uint32_t random_pattern_pick(struct random_pattern *random, uint32_t count)
{
    return (uint32_t)(rng_bits(random->seed, random->stream, random->counter++) % count);
}

/* Adds text to the expression. */
static inline void random_pattern_write(struct random_pattern *random, const char *text)
{
    random->length += (size_t)snprintf(random->text + random->length, sizeof random->text - random->length, "%s", text);
    assert_true(random->length < sizeof random->text);
}

/* Adds a random expression over the characters a, b and c, groups at most so deep. */
static inline void random_pattern_add(struct random_pattern *random, uint32_t depth)
{
    static const char *const atoms[] = {"a", "b", "c", "ab", ".", "[ab]", "[^b]", "[a-c]", "[^a-b]", "cb"};
    static const char *const repeats[] = {"*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "", "", "", ""};
    uint32_t count = 1 + random_pattern_pick(random, 4);
    for (uint32_t i = 0; i < count; i++) {
        if (depth > 0 && random_pattern_pick(random, 3) == 0) {
            random_pattern_write(random, "(");
            random_pattern_add(random, depth - 1);
            random_pattern_write(random, random_pattern_pick(random, 2) == 0 ? "|" : "");
            random_pattern_add(random, depth - 1);
            random_pattern_write(random, ")");
        } else {
            random_pattern_write(random, atoms[random_pattern_pick(random, sizeof atoms / sizeof *atoms)]);
        }
        random_pattern_write(random, repeats[random_pattern_pick(random, sizeof repeats / sizeof *repeats)]);
    }
}

/* Makes the n-th expression of a seed, and POSIX' reading of it, for whole texts: regfree. */
static inline void random_pattern_make(struct random_pattern *random, uint64_t seed, uint64_t n, regex_t *ret_oracle)
{
    char whole[RANDOM_PATTERN_BYTES_MAX + 8];
    *random = (struct random_pattern){.seed = seed, .stream = n};
    random_pattern_add(random, 2);
    snprintf(whole, sizeof whole, "^(%s)$", random->text);
    assert_int_equal(regcomp(ret_oracle, whole, REG_EXTENDED | REG_NOSUB), 0);
}

/* The n-th text over a, b and c, the shortest first. */
static inline void random_pattern_spell(size_t n, char text[16])
{
    size_t length = 0, count = 1;
    for (; n >= count; count *= 3) {
        n -= count;
        length++;
    }
    for (size_t i = 0; i < length; i++, n /= 3) {
        text[i] = "abc"[n % 3];
    }
    text[length] = '\0';
}

#endif
