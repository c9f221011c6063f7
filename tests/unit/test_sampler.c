/* Sampling: frequencies follow the probabilities, every filter and all of them together equal a plain sort, extremes
 * stay defined. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

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
    static _Alignas(64) float copy[COUNT_MAX]; /* typical_p overwrites the logits */
    uint32_t symbol = UINT32_MAX;
    memcpy(copy, logits, count * sizeof *logits);
    assert_true(sampler_choose(kernels(), &options, copy, weights, count, uniform, &symbol));
    assert_true(symbol < count);
    return symbol;
}

struct candidate {
    size_t id;
    double weight;
    double logit;
    double key; /* sorted by: largest first, then lowest id */
};

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;
    if (left->key != right->key) {
        return left->key > right->key ? -1 : 1;
    }
    return (left->id > right->id) - (left->id < right->id);
}

static double sum_weights(const struct candidate *list, size_t count)
{
    double total = 0.0;
    for (size_t i = 0; i < count; i++) {
        total += list[i].weight;
    }
    return total;
}

/* Whether float sums could decide otherwise. */
static bool is_near(double a, double b)
{
    return fabs(a - b) < 1e-5;
}

/* The fewest first ones whose share of the whole reaches `share`, at least one. */
static size_t count_until(const struct candidate *list, size_t count, double share, bool *ret_is_certain)
{
    double total = sum_weights(list, count), mass = 0.0;
    size_t kept = 0;
    while (kept < count && (kept == 0 || mass < share * total)) {
        mass += list[kept++].weight;
        *ret_is_certain = *ret_is_certain && (kept == count || !is_near(mass / total, share));
    }
    bool is_tie = kept < count && is_near(list[kept - 1].key, list[kept].key);
    if (is_tie && list[kept - 1].logit != list[kept].logit) {
        *ret_is_certain = false;
    }
    return kept;
}

static bool is_banned(const struct sampler_options *options, size_t n)
{
    for (size_t i = 0; i < options->banned_count; i++) {
        if (options->banned[i] == n) {
            return true;
        }
    }
    return false;
}

/* Which symbols can be drawn, and how likely each is, by sorting. False where rounding may decide. */
static bool sort_naively(struct sampler_options options, size_t count, double probabilities[COUNT_MAX])
{
    struct candidate list[COUNT_MAX];
    size_t kept = 0;
    bool is_certain = true;
    for (size_t n = 0; n < count; n++) {
        probabilities[n] = 0.0;
        if (!is_banned(&options, n)) {
            list[kept++] = (struct candidate){.id = n, .logit = (double)logits[n], .key = (double)logits[n]};
        }
    }
    qsort(list, kept, sizeof *list, compare_candidates);
    for (size_t i = 0; i < kept; i++) {
        list[i].weight = exp((list[i].logit - list[0].logit) / options.temperature);
    }
    kept = options.top_k > 0 && options.top_k < kept ? options.top_k : kept;
    kept = options.top_p < 1.0 ? count_until(list, kept, options.top_p, &is_certain) : kept;
    for (size_t i = 0; i < kept; i++) {
        is_certain = is_certain && (options.min_p == 0.0 || i == 0 || list[i].logit == list[0].logit ||
                                    !is_near(list[i].weight, options.min_p));
        kept = list[i].weight < options.min_p ? i : kept;
    }
    if (options.typical_p > 0.0 && options.typical_p < 1.0) {
        double total = sum_weights(list, kept), entropy = 0.0;
        for (size_t i = 0; i < kept; i++) {
            double probability = list[i].weight / total;
            entropy -= probability > 0.0 ? probability * log(probability) : 0.0;
        }
        for (size_t i = 0; i < kept; i++) {
            list[i].key = -fabs(-log(list[i].weight / total) - entropy);
        }
        qsort(list, kept, sizeof *list, compare_candidates);
        kept = count_until(list, kept, options.typical_p, &is_certain);
    }
    double total = sum_weights(list, kept);
    for (size_t i = 0; i < kept; i++) {
        probabilities[list[i].id] = list[i].weight / total;
    }
    return is_certain;
}

/* Draws at evenly spaced numbers: each symbol must own just its share of [0, 1), and those left out nothing. */
static void check_shares(struct sampler_options options, size_t count)
{
    enum { DRAWS = 4000 };
    double probabilities[COUNT_MAX];
    static unsigned draws[COUNT_MAX];
    memset(draws, 0, sizeof draws);
    sort_naively(options, count, probabilities); /* where rounding decides, one draw moves */
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
    assert_true(sort_naively(options, SYMBOLS, probabilities));
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
        double normalizer;
        assert_false(sampler_choose(kernels(), &options, logits, weights, 3, 0.5, &symbol));
        assert_false(sampler_find_normalizer(kernels(), logits, weights, 3, &normalizer));
    }
}

static void test_normalizer(void **state)
{
    (void)state;
    for (size_t count = 1; count < 400; count += 33) {
        rng_fill_uniform(SEED, count, count, -9.0f, 9.0f, logits);
        double total = 0.0, normalizer;
        for (size_t n = 0; n < count; n++) {
            total += exp((double)logits[n]);
        }
        assert_true(sampler_find_normalizer(kernels(), logits, weights, count, &normalizer));
        assert_true(fabs(normalizer - log(total)) < 1e-6);
    }
}

static double pick(const double *values, size_t count, uint32_t word)
{
    return values[word % count];
}

/* One random case: spread or tied or equal logits, some symbols banned, any filters. */
static struct sampler_options make_case(uint64_t number, size_t count, uint32_t banned[COUNT_MAX])
{
    static const double temperatures[] = {0.3, 0.8, 1.0, 1.7};
    static const double top_ps[] = {1.0, 1.0, 0.0, 0.31, 0.77, 0.953};
    static const double min_ps[] = {0.0, 0.0, 0.0413, 0.3217, 1.0};
    static const double typical_ps[] = {0.0, 1.0, 0.217, 0.713, 0.9471};
    struct rng_words words = rng_philox(SEED, 1, number), more = rng_philox(SEED, 2, number);
    float spread = words.word[0] % 5 == 0 ? 0.0f : 5.0f;
    bool is_tied = words.word[0] / 5 % 3 == 0;
    rng_fill_uniform(SEED, 100 + number, count, -spread, spread, logits);
    for (size_t n = 0; n < count; n++) {
        logits[n] = is_tied ? roundf(logits[n]) : logits[n];
    }
    size_t banned_count = 0;
    for (size_t n = 0; more.word[3] % 3 == 0 && n + 1 < count; n++) {
        if (rng_bits(SEED, 3, number * COUNT_MAX + n) % 4 == 0) {
            banned[banned_count++] = (uint32_t)n;
            logits[n] = -3e38f;
        }
    }
    return (struct sampler_options){
        .temperature = pick(temperatures, 4, words.word[1]),
        .top_k = words.word[2] % 2 == 0 ? 0 : 1 + words.word[3] % (count + 2),
        .top_p = pick(top_ps, 6, more.word[0]),
        .min_p = pick(min_ps, 5, more.word[1]),
        .typical_p = pick(typical_ps, 5, more.word[2]),
        .banned = banned,
        .banned_count = banned_count,
    };
}

static void test_all_filters_together_equal_a_sort(void **state)
{
    (void)state;
    enum { CASES = 6000, DRAWS = 8 };
    static const size_t counts[] = {1, 2, 5, 16, 63, 64, 83, 257};
    static uint32_t banned[COUNT_MAX];
    size_t checked_count = 0;
    print_message("seed %d\n", SEED);
    for (uint64_t number = 0; number < CASES; number++) {
        size_t count = counts[number % 8];
        double probabilities[COUNT_MAX];
        struct sampler_options options = make_case(number, count, banned);
        if (!sort_naively(options, count, probabilities)) {
            continue;
        }
        checked_count++;
        for (uint64_t draw = 0; draw < DRAWS; draw++) {
            double uniform = rng_uniform(SEED, 4, number * DRAWS + draw), before = 0.0;
            uint32_t symbol = choose(options, count, uniform);
            assert_true(probabilities[symbol] > 0.0);
            for (size_t n = 0; n < symbol; n++) {
                before += probabilities[n];
            }
            assert_true(uniform > before - 1e-5 && uniform < before + probabilities[symbol] + 1e-5);
        }
        options.temperature = 0.0;
        uint32_t best = choose(options, count, 0.5);
        for (size_t n = 0; n < count; n++) {
            bool is_better = logits[n] > logits[best] || (logits[n] == logits[best] && n < best);
            assert_true(is_banned(&options, n) ? n != best : !is_better);
        }
    }
    assert_true(checked_count > CASES * 9 / 10);
}

/* Every symbol at the lowest float, where banned ones are: still none of those. */
static void test_banned_among_the_lowest(void **state)
{
    (void)state;
    static const uint32_t banned[] = {0, 2};
    for (size_t n = 0; n < 5; n++) {
        logits[n] = -FLT_MAX;
    }
    struct sampler_options options = {.temperature = 1.0, .top_p = 1.0, .banned = banned, .banned_count = 2};
    for (double uniform = 0.0; uniform < 1.0; uniform += 0.09) {
        assert_int_equal(choose(options, 5, uniform), uniform < 1.0 / 3 ? 1 : uniform < 2.0 / 3 ? 3 : 4);
    }
    options.temperature = 0.0;
    assert_int_equal(choose(options, 5, 0.9), 1);
}

/* Words by the thousand, whose sums run over many blocks. */
static void test_large_vocabulary(void **state)
{
    (void)state;
    rng_fill_uniform(SEED, 77, COUNT_MAX, -3.0f, 3.0f, logits);
    check_shares((struct sampler_options){.temperature = 1.0, .top_p = 1.0, .min_p = 0.5013}, COUNT_MAX);
    check_shares((struct sampler_options){.temperature = 1.0, .top_p = 1.0, .typical_p = 0.513}, COUNT_MAX);
    check_shares((struct sampler_options){.temperature = 0.9, .top_p = 0.917, .top_k = 500, .typical_p = 0.2},
                 COUNT_MAX);
}

/* More symbols than have the sums of their blocks kept: whatever is drawn, the probability before it is at most the
 * number drawn, and with it at least that. */
static void test_very_large_vocabulary(void **state)
{
    (void)state;
    enum { SYMBOLS = 40001, DRAWS = 2000 };
    static _Alignas(64) float many_logits[SYMBOLS + RNN_LANES_MAX];
    static _Alignas(64) float many_weights[SYMBOLS + RNN_LANES_MAX];
    static double cumulated[SYMBOLS + 1];
    rng_fill_uniform(SEED, 78, SYMBOLS, -3.0f, 3.0f, many_logits);
    for (size_t n = 0; n < SYMBOLS; n++) {
        cumulated[n + 1] = cumulated[n] + exp((double)many_logits[n]);
    }
    const struct sampler_options options = {.temperature = 1.0, .top_p = 1.0};
    size_t late_count = 0;
    for (size_t draw = 0; draw < DRAWS; draw++) {
        double uniform = ((double)draw + 0.5) / DRAWS;
        uint32_t symbol = UINT32_MAX;
        assert_true(sampler_choose(kernels(), &options, many_logits, many_weights, SYMBOLS, uniform, &symbol));
        assert_true(symbol < SYMBOLS);
        assert_true(cumulated[symbol] / cumulated[SYMBOLS] <= uniform + 1e-7);
        assert_true(cumulated[symbol + 1] / cumulated[SYMBOLS] >= uniform - 1e-7);
        late_count += symbol > SYMBOLS / 2;
    }
    assert_true(late_count > DRAWS / 3);
}

static void test_log_probabilities_are_finite(void **state)
{
    (void)state;
    assert_true(sampler_logprob(-FLT_MAX, (double)FLT_MAX) == -FLT_MAX);
    assert_true(sampler_logprob(-1.5f, 2.0) == -3.5f);
    assert_true(isnan(sampler_logprob(1.0f, (double)NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_top_k_and_top_p_equal_a_sort),
        cmocka_unit_test(test_ties_go_to_the_lowest_id),
        cmocka_unit_test(test_frequencies_follow_probabilities),
        cmocka_unit_test(test_extremes_stay_defined),
        cmocka_unit_test(test_not_finite_is_refused),
        cmocka_unit_test(test_normalizer),
        cmocka_unit_test(test_all_filters_together_equal_a_sort),
        cmocka_unit_test(test_banned_among_the_lowest),
        cmocka_unit_test(test_large_vocabulary),
        cmocka_unit_test(test_very_large_vocabulary),
        cmocka_unit_test(test_log_probabilities_are_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
