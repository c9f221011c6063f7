/* Sampling: frequencies follow the probabilities, top_k and top_p equal a naive sort, extremes stay defined. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/rng.h"
#include "engine/decode/sampler.h"

enum { SEED = 3, COUNT_MAX = 1024 };

static _Alignas(64) float logits[COUNT_MAX];
static _Alignas(64) float weights[COUNT_MAX];

static const struct rnn_kernels *kernels(void)
{
    return rnn_kernels_find(NULL);
}

static uint32_t choose(struct sampler_options options, size_t count, double uniform)
{
    uint32_t symbol = UINT32_MAX;
    assert_true(sampler_choose(kernels(), &options, logits, weights, count, uniform, &symbol));
    assert_true(symbol < count);
    return symbol;
}

/* Which symbols can be drawn, and how likely each is, by sorting. */
static void sort_naively(struct sampler_options options, size_t count, double probabilities[COUNT_MAX])
{
    size_t order[COUNT_MAX];
    double total = 0.0;
    for (size_t n = 0; n < count; n++) {
        size_t place = n;
        for (; place > 0 && logits[order[place - 1]] < logits[n]; place--) {
            order[place] = order[place - 1];
        }
        order[place] = n;
    }
    size_t kept = options.top_k > 0 && options.top_k < count ? options.top_k : count;
    for (size_t i = 0; i < kept; i++) {
        total += exp(((double)logits[order[i]] - (double)logits[order[0]]) / options.temperature);
    }
    double mass = 0.0;
    size_t end = 0;
    while (end < kept && (end == 0 || mass < options.top_p * total)) {
        mass += exp(((double)logits[order[end++]] - (double)logits[order[0]]) / options.temperature);
    }
    for (size_t n = 0; n < count; n++) {
        probabilities[n] = 0.0;
    }
    for (size_t i = 0; i < end; i++) {
        probabilities[order[i]] =
            exp(((double)logits[order[i]] - (double)logits[order[0]]) / options.temperature) / mass;
    }
}

/* Draws at evenly spaced numbers: each symbol must own just its share of [0, 1), and those left out nothing. */
static void check_shares(struct sampler_options options, size_t count)
{
    enum { DRAWS = 4000 };
    double probabilities[COUNT_MAX];
    static unsigned draws[COUNT_MAX];
    memset(draws, 0, sizeof draws);
    sort_naively(options, count, probabilities);
    for (size_t draw = 0; draw < DRAWS; draw++) {
        draws[choose(options, count, ((double)draw + 0.5) / DRAWS)]++;
    }
    for (size_t n = 0; n < count; n++) {
        assert_true(fabs(draws[n] - probabilities[n] * DRAWS) <= 1.01);
        assert_true(probabilities[n] > 0.0 || draws[n] == 0);
    }
}

static void test_top_k_and_top_p_equal_a_sort(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 2, 3, 63, 64, 65, 83, 300, 1000};
    static const double top_ps[] = {0.0, 0.1, 0.53, 0.9, 0.999, 1.0};
    print_message("seed %d\n", SEED);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        rng_fill_uniform(SEED, c, counts[c], -4.0f, 4.0f, logits);
        for (size_t p = 0; p < sizeof top_ps / sizeof *top_ps; p++) {
            check_shares((struct sampler_options){.temperature = 0.8, .top_p = top_ps[p]}, counts[c]);
            check_shares((struct sampler_options){.temperature = 2.0, .top_p = top_ps[p], .top_k = 7}, counts[c]);
            check_shares((struct sampler_options){.temperature = 1.0, .top_p = top_ps[p], .top_k = 100}, counts[c]);
        }
        check_shares((struct sampler_options){.temperature = 1.0, .top_p = 1.0, .top_k = 1}, counts[c]);
    }
}

static void test_ties_go_to_the_lowest_id(void **state)
{
    (void)state;
    static const float values[] = {1.0f, 2.0f, -0.0f, 2.0f, 0.0f, 2.0f, 1.0f, 2.0f};
    memcpy(logits, values, sizeof values);
    assert_int_equal(choose((struct sampler_options){.temperature = 0.0, .top_p = 1.0}, 8, 0.99), 1);
    check_shares((struct sampler_options){.temperature = 1.0, .top_p = 1.0, .top_k = 3}, 8);
    check_shares((struct sampler_options){.temperature = 1.0, .top_p = 1.0, .top_k = 5}, 8);
    check_shares((struct sampler_options){.temperature = 1.0, .top_p = 1.0, .top_k = 7}, 8);
    check_shares((struct sampler_options){.temperature = 1.0, .top_p = 0.3}, 8);
    for (size_t n = 0; n < 100; n++) {
        logits[n] = 0.25f;
    }
    check_shares((struct sampler_options){.temperature = 1.0, .top_p = 0.495}, 100);
    check_shares((struct sampler_options){.temperature = 1.0, .top_p = 1.0, .top_k = 9}, 100);
}

/* Pearson's chi-square over 10 symbols: 9 degrees of freedom, 99.99 % below 33.7. */
static void test_frequencies_follow_probabilities(void **state)
{
    (void)state;
    enum { SYMBOLS = 10, DRAWS = 100000 };
    struct sampler_options options = {.temperature = 0.7, .top_p = 1.0};
    double probabilities[COUNT_MAX];
    unsigned draws[SYMBOLS] = {0};
    rng_fill_uniform(SEED, 99, SYMBOLS, -1.0f, 1.0f, logits);
    sort_naively(options, SYMBOLS, probabilities);
    for (uint64_t draw = 0; draw < DRAWS; draw++) {
        draws[choose(options, SYMBOLS, rng_uniform(SEED, 5, draw))]++;
    }
    double chi_square = 0.0;
    for (size_t n = 0; n < SYMBOLS; n++) {
        double wanted = probabilities[n] * DRAWS;
        chi_square += (draws[n] - wanted) * (draws[n] - wanted) / wanted;
    }
    assert_true(chi_square < 33.7);
}

static void test_extremes_stay_defined(void **state)
{
    (void)state;
    static const float values[] = {-3e38f, 3e38f, 0.0f, 3e38f};
    memcpy(logits, values, sizeof values);
    for (double uniform = 0.0; uniform < 1.0; uniform += 0.124) {
        uint32_t likely = uniform < 0.5 ? 1 : 3;
        assert_int_equal(choose((struct sampler_options){.temperature = 1.0, .top_p = 1.0}, 4, uniform), likely);
        assert_int_equal(choose((struct sampler_options){.temperature = 1e-300, .top_p = 1.0}, 4, uniform), likely);
        assert_int_equal(choose((struct sampler_options){.temperature = 1.0, .top_p = 0.0}, 4, uniform), 1);
        assert_int_equal(choose((struct sampler_options){.temperature = 1.0, .top_p = 1.0, .top_k = 9}, 4, uniform),
                         likely);
    }
    assert_int_equal(choose((struct sampler_options){.temperature = 1.0, .top_p = 1.0}, 4, 1.0 - 0x1p-53), 3);
    memcpy(logits, (float[4]){1.0f, 2.0f, 3.0f, 4.0f}, 4 * sizeof(float));
    assert_int_equal(choose((struct sampler_options){.temperature = 1e300, .top_p = 1.0}, 4, 0.6), 2);
    assert_int_equal(choose((struct sampler_options){.temperature = 1e-5, .top_p = 1.0}, 4, 0.0), 3);
}

static void test_not_finite_is_refused(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t n = 0; n < 3; n++) {
        memcpy(logits, (float[3]){1.0f, 2.0f, bad[n]}, 3 * sizeof(float));
        struct sampler_options options = {.temperature = 1.0, .top_p = 1.0};
        uint32_t symbol;
        double log_probability;
        assert_false(sampler_choose(kernels(), &options, logits, weights, 3, 0.5, &symbol));
        assert_false(sampler_log_probability(kernels(), logits, weights, 3, 0, &log_probability));
    }
}

static void test_log_probabilities(void **state)
{
    (void)state;
    for (size_t count = 1; count < 400; count += 33) {
        rng_fill_uniform(SEED, count, count, -9.0f, 9.0f, logits);
        double total = 0.0;
        for (size_t n = 0; n < count; n++) {
            total += exp((double)logits[n]);
        }
        for (size_t n = 0; n < count; n++) {
            double log_probability;
            assert_true(sampler_log_probability(kernels(), logits, weights, count, (uint32_t)n, &log_probability));
            assert_true(fabs(log_probability - ((double)logits[n] - log(total))) < 1e-6);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_top_k_and_top_p_equal_a_sort),
        cmocka_unit_test(test_ties_go_to_the_lowest_id),
        cmocka_unit_test(test_frequencies_follow_probabilities),
        cmocka_unit_test(test_extremes_stay_defined),
        cmocka_unit_test(test_not_finite_is_refused),
        cmocka_unit_test(test_log_probabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
