/* Penalties and biases: equal to counting everything plainly, at every size of window, vocabulary and text. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/decode/penalties.h"

enum { SEED = 5, COUNT_MAX = 4096, TEXT_MAX = 1024 };

static _Alignas(64) float logits[COUNT_MAX];
static _Alignas(64) float scratch[COUNT_MAX];
static float before[COUNT_MAX];

static const struct rnn_kernels *kernels(void)
{
    return rnn_kernels_find(NULL);
}

static struct penalties start(struct penalty_options options, size_t symbol_count, const uint32_t *prompt,
                              size_t prompt_count, size_t tokens_max)
{
    struct penalties penalties;
    struct error error;
    assert_int_equal(penalties_init(&penalties, &options, symbol_count, prompt, prompt_count, tokens_max, &error),
                     STATUS_OK);
    return penalties;
}

static double bound(double value)
{
    return fmin(fmax(value, -(double)FLT_MAX), (double)FLT_MAX);
}

/* What a logit becomes; `text` holds prompt and what was made behind it. */
static float expect(const struct penalty_options *options, uint32_t symbol, const uint32_t *text, size_t prompt_count,
                    size_t length)
{
    float logit = before[symbol];
    bool is_recent = false;
    unsigned count = 0;
    for (size_t i = 0; i < options->bias_count; i++) {
        if (options->biases[i].symbol == symbol) {
            logit = (float)bound((double)logit + options->biases[i].bias);
        }
    }
    for (size_t i = 0; i < length; i++) {
        is_recent = is_recent || (text[i] == symbol && i + options->repetition_window >= length);
        count += text[i] == symbol && i >= prompt_count;
    }
    if (is_recent && options->repetition != 0.0) {
        logit = (float)bound(logit > 0 ? (double)logit / options->repetition : (double)logit * options->repetition);
    }
    if (count > 0) {
        logit = (float)bound((double)logit - count * options->frequency - options->presence);
    }
    return logit;
}

static void check_text(struct penalty_options options, size_t symbol_count, size_t prompt_count, size_t length,
                       uint64_t number)
{
    uint32_t text[TEXT_MAX] = {0};
    for (size_t i = 0; i < length; i++) { /* symbols that share their low bits, which places are found by */
        uint64_t bits = rng_bits(SEED, number, i);
        text[i] = (uint32_t)(bits % 2 == 0 ? (bits >> 8) % symbol_count : (bits >> 8) % symbol_count / 64 * 64);
    }
    struct penalties penalties = start(options, symbol_count, text, prompt_count, length - prompt_count);
    for (size_t i = prompt_count; i < length; i++) {
        rng_fill_uniform(SEED, number + i, symbol_count, -3.0f, 3.0f, logits);
        memcpy(before, logits, symbol_count * sizeof *logits);
        assert_true(penalties_apply(&penalties, kernels(), logits, scratch, symbol_count));
        for (uint32_t n = 0; n < symbol_count; n++) {
            assert_true(logits[n] == expect(&options, n, text, prompt_count, i));
        }
        penalties_add(&penalties, text[i]);
    }
    penalties_release(&penalties);
}

static void test_equal_to_counting(void **state)
{
    (void)state;
    static const size_t symbol_counts[] = {1, 2, 83, 128, 129, 1000};
    static const size_t windows[] = {0, 1, 2, 7, 64, 1000};
    print_message("seed %d\n", SEED);
    for (uint64_t number = 0; number < 180; number++) {
        struct rng_words words = rng_philox(SEED, 1, number);
        size_t symbol_count = symbol_counts[number % 6];
        struct penalty_bias biases[] = {{(uint32_t)(words.word[3] % symbol_count), 3.25}, {0, -100}};
        struct penalty_options options = {
            .repetition = number % 5 == 0 ? 0.0 : 0.5 + words.word[0] % 8 * 0.25,
            .repetition_window = windows[number / 6 % 6],
            .frequency = ((int)(words.word[1] % 9) - 4) * 0.5,
            .presence = ((int)(words.word[2] % 9) - 4) * 0.5,
            .biases = biases,
            .bias_count = number % 3,
        };
        size_t prompt_count = 1 + words.word[3] / 7 % 20;
        check_text(options, symbol_count, prompt_count, prompt_count + 1 + words.word[2] % 40, number << 16);
    }
}

static void test_a_window_slides(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {0, 1, 2, 3};
    struct penalty_options options = {.repetition = 2.0, .repetition_window = 2};
    struct penalties penalties = start(options, 6, prompt, 4, 10);
    static const float wanted[][6] = {{4, 4, 2, 2, -4, 4}, {4, 4, 4, 2, -8, 4}, {4, 4, 4, 4, -8, 4}};
    for (size_t i = 0; i < 3; i++) {
        memcpy(logits, (float[6]){4, 4, 4, 4, -4, 4}, 6 * sizeof *logits);
        assert_true(penalties_apply(&penalties, kernels(), logits, scratch, 6));
        assert_memory_equal(logits, wanted[i], sizeof wanted[i]);
        penalties_add(&penalties, 4); /* also twice in the window: once */
    }
    penalties_release(&penalties);
}

static void test_neutral_options_change_and_hold_nothing(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {0};
    uint64_t allocations = mem_allocation_count();
    struct penalties penalties =
        start((struct penalty_options){.repetition = 1.0, .repetition_window = 64}, 3, prompt, 1, 10);
    assert_int_equal(mem_allocation_count(), allocations);
    penalties_add(&penalties, 2);
    memcpy(logits, (float[3]){1, 2, 3}, 3 * sizeof *logits);
    assert_true(penalties_apply(&penalties, kernels(), logits, scratch, 3));
    assert_memory_equal(logits, ((float[3]){1, 2, 3}), 3 * sizeof *logits);
    penalties_release(&penalties);
}

static void test_extremes_stay_finite(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {0, 1};
    static const struct penalty_bias biases[] = {{2, -(double)INFINITY}, {2, 5}, {2, -(double)INFINITY}};
    struct penalty_options options = {
        .repetition = 0.01, .repetition_window = PENALTIES_WINDOW_MAX, .biases = biases, .bias_count = 3};
    struct penalties penalties = start(options, 4, prompt, 2, 1);
    assert_int_equal(penalties.banned_count, 1);
    memcpy(logits, (float[4]){3e38f, -3e38f, 9, 1}, 4 * sizeof *logits);
    assert_true(penalties_apply(&penalties, kernels(), logits, scratch, 4));
    assert_memory_equal(logits, ((float[4]){FLT_MAX, -3e36f, -FLT_MAX, 1}), 4 * sizeof *logits);
    memcpy(logits, (float[4]){1, 1, NAN, 1}, 4 * sizeof *logits); /* a ban hides no broken model */
    assert_false(penalties_apply(&penalties, kernels(), logits, scratch, 4));
    penalties_release(&penalties);
}

static void refuse(struct penalty_options options, const char *param, const char *message)
{
    static const uint32_t prompt[] = {0};
    struct penalties penalties;
    struct error error;
    assert_int_equal(penalties_init(&penalties, &options, 4, prompt, 1, 9, &error), STATUS_INVALID);
    assert_string_equal(error.param, param);
    assert_string_equal(error.message, message);
}

static void test_wrong_options_are_refused(void **state)
{
    (void)state;
    struct penalty_bias biases[PENALTIES_BIASES_MAX + 1] = {{4, 0}};
    refuse((struct penalty_options){.repetition = -1}, "repetition_penalty",
           "repetition_penalty is -1, not 0.01 to 100");
    refuse((struct penalty_options){.repetition = (double)NAN}, "repetition_penalty",
           "repetition_penalty is nan, not 0.01 to 100");
    refuse((struct penalty_options){.repetition_window = 4097}, "repetition_window",
           "repetition_window is 4097, not 0 to 4096");
    refuse((struct penalty_options){.frequency = 2.5}, "frequency_penalty", "frequency_penalty is 2.5, not -2 to 2");
    refuse((struct penalty_options){.presence = -3}, "presence_penalty", "presence_penalty is -3, not -2 to 2");
    refuse((struct penalty_options){.biases = biases, .bias_count = 1}, "logit_bias",
           "logit_bias names symbol 4, but the vocabulary has 4");
    refuse((struct penalty_options){.biases = biases, .bias_count = PENALTIES_BIASES_MAX + 1}, "logit_bias",
           "logit_bias names 1025 symbols, at most 1024");
    biases[0] = (struct penalty_bias){1, 100.5};
    refuse((struct penalty_options){.biases = biases, .bias_count = 1}, "logit_bias",
           "logit_bias is 100.5, not -100 to 100");
    for (uint32_t i = 0; i < 5; i++) {
        biases[i] = (struct penalty_bias){i % 4, -(double)INFINITY};
    }
    refuse((struct penalty_options){.biases = biases, .bias_count = 5}, "logit_bias",
           "logit_bias leaves none of the 4 symbols");
}

static void test_without_memory(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {0};
    static const struct penalty_bias biases[] = {{2, 1}};
    struct penalty_options options = {
        .repetition = 2, .repetition_window = 4, .presence = 1, .biases = biases, .bias_count = 1};
    enum status status = STATUS_NO_MEMORY;
    uint64_t failing = 0;
    for (; status == STATUS_NO_MEMORY && failing < 20; failing++) {
        struct penalties penalties;
        mem_fail_after(failing);
        status = penalties_init(&penalties, &options, 4, prompt, 1, 9, NULL);
        mem_fail_after(UINT64_MAX);
        if (status == STATUS_OK) {
            penalties_release(&penalties);
        }
    }
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(failing, 6); /* each of five allocations failed once */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_to_counting),
        cmocka_unit_test(test_a_window_slides),
        cmocka_unit_test(test_neutral_options_change_and_hold_nothing),
        cmocka_unit_test(test_extremes_stay_finite),
        cmocka_unit_test(test_wrong_options_are_refused),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
