/* Random numbers: Philox against its authors' vectors, and what is derived from it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/rng.h"

/* Source: Random123, tests/kat_vectors, philox4x32 10. The counter's low half is our counter, its high half our
 * stream. */
static void test_known_answers(void **state)
{
    (void)state;
    const struct {
        uint64_t seed;
        uint64_t stream;
        uint64_t counter;
        uint32_t word[4];
    } vectors[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct rng_words words = rng_philox(vectors[i].seed, vectors[i].stream, vectors[i].counter);
        assert_memory_equal(words.word, vectors[i].word, sizeof words.word);
    }
}

static void test_uniform_is_uniform(void **state)
{
    (void)state;
    enum { DRAWS = 160000, BINS = 16 };
    size_t counts[BINS] = {0};
    double sum = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        double value = rng_uniform(11, 3, i);
        assert_true(value >= 0 && value < 1);
        counts[(size_t)(value * BINS)]++;
        sum += value;
    }
    assert_true(sum / DRAWS > 0.497 && sum / DRAWS < 0.503); /* four standard errors of 1/sqrt(12 n) */
    double chi_squared = 0;
    for (size_t i = 0; i < BINS; i++) {
        double difference = (double)counts[i] - (double)DRAWS / BINS;
        chi_squared += difference * difference / ((double)DRAWS / BINS);
    }
    assert_true(chi_squared < 37.7); /* 15 degrees of freedom, p = 0.001 */
}

/* Source: Python's statistics.NormalDist().inv_cdf. */
static void test_normal_quantiles(void **state)
{
    (void)state;
    const double known[][2] = {{1e-10, -6.361340902404056},
                               {0.001, -3.090232306167813},
                               {0.0227501319481792, -2.0},
                               {0.2, -0.8416212335729142},
                               {0.5, 0.0},
                               {0.925, 1.4395314709384563},
                               {0.9999, 3.7190164854557084}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_true(fabs(rng_normal_quantile(known[i][0]) - known[i][1]) <= 4e-15 * fabs(known[i][1]));
    }
}

/* Four standard errors on each side. */
static void test_normal_is_normal(void **state)
{
    (void)state;
    enum { DRAWS = 160000 };
    double sum = 0;
    double squares = 0;
    size_t beyond = 0;
    double truncated_sum = 0;
    double truncated_squares = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        double x = rng_normal(11, 5, i);
        double y = rng_truncated_normal(11, 6, i);
        assert_true(y >= -2 && y <= 2);
        sum += x;
        squares += x * x;
        beyond += fabs(x) > 1.959963984540054;
        truncated_sum += y;
        truncated_squares += y * y;
    }
    assert_true(fabs(sum / DRAWS) < 0.01);
    assert_true(fabs(squares / DRAWS - 1) < 0.0142);
    assert_true(fabs((double)beyond / DRAWS - 0.05) < 0.0022);
    assert_true(fabs(truncated_sum / DRAWS) < 0.0088);
    assert_true(fabs(truncated_squares / DRAWS - 0.7737413035499232) < 0.0095); /* 1 − 4 φ(2) / (2 Φ(2) − 1) */
}

static void test_fill_is_a_prefix_of_a_longer_fill(void **state)
{
    (void)state;
    float longer[23];
    rng_fill_uniform(5, 9, 23, -0.5f, 0.25f, longer);
    for (size_t count = 0; count < 23; count++) {
        float shorter[23] = {9};
        rng_fill_uniform(5, 9, count, -0.5f, 0.25f, shorter);
        assert_memory_equal(shorter, longer, count * sizeof *shorter);
    }
    for (size_t i = 0; i < 23; i++) {
        assert_true(longer[i] >= -0.5f && longer[i] < 0.25f);
    }
    float other[23];
    rng_fill_uniform(5, 10, 23, -0.5f, 0.25f, other);
    assert_memory_not_equal(longer, other, sizeof other);
}

static void test_keys_differ_by_name(void **state)
{
    (void)state;
    assert_true(rng_key("kernel") == rng_key("kernel"));
    assert_true(rng_key("kernel") != rng_key("kerne1"));
    assert_true(rng_key("") != rng_key("a"));
    assert_true(rng_system() != rng_system());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_uniform_is_uniform),
        cmocka_unit_test(test_normal_quantiles),
        cmocka_unit_test(test_normal_is_normal),
        cmocka_unit_test(test_fill_is_a_prefix_of_a_longer_fill),
        cmocka_unit_test(test_keys_differ_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
