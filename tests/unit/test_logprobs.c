/* Log-probabilities of a text's symbols, and the echo of its prompt: values against a sort, places in the text. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/generation_rig.h"

static void check_top(const struct symbol_logprob *entry, size_t count, size_t top_max)
{
    double total = 0.0;
    bool is_listed[SYMBOLS_MAX] = {false};
    for (size_t n = 0; n < count; n++) {
        total += exp((double)logits[n]);
    }
    assert_int_equal(entry->top_count, top_max < count ? top_max : count);
    assert_true(fabs((double)entry->logprob - ((double)logits[entry->symbol] - log(total))) < 1e-5);
    for (size_t i = 0; i < entry->top_count; i++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t n = 0; n < count; n++) {
            best = !is_listed[n] && (best == UINT32_MAX || logits[n] > logits[best]) ? n : best;
        }
        is_listed[best] = true;
        assert_int_equal(entry->top_symbols[i], best);
        assert_true(fabs((double)entry->top_logprobs[i] - ((double)logits[best] - log(total))) < 1e-5);
        assert_true(best != entry->symbol || entry->top_logprobs[i] == entry->logprob);
    }
}

static void test_values_equal_a_sort(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 3, 5, 6, 83, 300};
    struct error error;
    print_message("seed %d\n", SEED);
    for (uint64_t number = 0; number < 600; number++) {
        size_t count = counts[number % 6], top_max = number / 6 % 6;
        struct logprobs logprobs = {0};
        assert_int_equal(logprobs_init(&logprobs, count, 2, top_max, &error), STATUS_OK);
        rng_fill_uniform(SEED, number, count, -4.0f, 4.0f, logits);
        for (size_t n = 0; n < count; n++) {
            logits[n] = number % 4 == 0 ? roundf(logits[n]) : number % 4 == 1 ? 1.5f : logits[n];
        }
        logprobs_add(&logprobs, 0, (struct text_position){0}, 1);
        assert_true(logprobs_predict(&logprobs, rnn_kernels_find(NULL), logits, weights));
        logprobs_add(&logprobs, (uint32_t)(number % count), (struct text_position){.bytes = 1}, 2);
        size_t entry_count;
        const struct symbol_logprob *entries = logprobs_entries(&logprobs, &entry_count);
        assert_int_equal(entry_count, 2);
        assert_true(isnan(entries[0].logprob)); /* nothing stood before it */
        assert_int_equal(entries[0].top_count, 0);
        check_top(&entries[1], count, top_max);
        logits[count - 1] = NAN;
        assert_false(logprobs_predict(&logprobs, rnn_kernels_find(NULL), logits, weights));
        logprobs_release(&logprobs);
    }
}

/* Logits as far apart as floats are: the difference is bounded, for JSON has no infinity. */
static void test_they_are_finite(void **state)
{
    (void)state;
    struct error error;
    struct logprobs logprobs = {0};
    assert_int_equal(logprobs_init(&logprobs, 3, 1, 3, &error), STATUS_OK);
    logits[0] = FLT_MAX;
    logits[1] = -FLT_MAX;
    logits[2] = 0.0f;
    assert_true(logprobs_predict(&logprobs, rnn_kernels_find(NULL), logits, weights));
    logprobs_add(&logprobs, 1, (struct text_position){0}, 1);
    size_t count;
    const struct symbol_logprob *entry = logprobs_entries(&logprobs, &count);
    assert_true(entry->logprob == -FLT_MAX);
    assert_true(entry->top_logprobs[0] == 0.0f && entry->top_logprobs[1] == -FLT_MAX);
    assert_true(entry->top_symbols[2] == 1 && entry->top_logprobs[2] == -FLT_MAX);
    logprobs_release(&logprobs);
}

/* What a filter or penalty does to the logits is not seen. */
static void test_they_are_the_models_own(void **state)
{
    (void)state;
    static const struct penalty_bias bias[] = {{2, 50}};
    struct fixture f;
    begin(&f, decode_model_characters(4),
          (struct generation_options){.tokens_max = 2,
                                      .temperature = 1.3,
                                      .typical_p = 0.9,
                                      .want_logprobs = true,
                                      .top_logprobs = 1,
                                      .penalties = {.biases = bias, .bias_count = 1, .presence = 2}});
    step(&f, 1);
    step(&f, 1);
    size_t count;
    const struct symbol_logprob *entries = generation_logprobs(f.generation, &count);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(entries[i].symbol, 2);
        assert_int_equal(entries[i].top_symbols[0], 1);
        assert_true(fabs((double)entries[i].logprob + log(exp(1.0) + 3.0)) < 1e-6);
        assert_true(fabs((double)entries[i].top_logprobs[0] - (1.0 - log(exp(1.0) + 3.0))) < 1e-6);
    }
    end(&f);
}

struct place {
    size_t begin_bytes, begin_characters, end_bytes;
};

static void check_places(struct fixture *f, const struct place *places, size_t wanted_count)
{
    size_t count;
    const struct symbol_logprob *entries = generation_logprobs(f->generation, &count);
    assert_int_equal(count, wanted_count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(entries[i].begin.bytes, places[i].begin_bytes);
        assert_int_equal(entries[i].begin.characters, places[i].begin_characters);
        assert_int_equal(entries[i].end_bytes, places[i].end_bytes);
    }
}

static void test_places_of_characters_with_echo(void **state)
{
    (void)state;
    static const char *const symbols[] = {"a", "é", "€", "😀"};
    static const uint32_t prompt[] = {3, 2, 0};
    static const struct place places[] = {{0, 0, 4}, {4, 1, 7}, {7, 2, 8}, {8, 3, 10}, {10, 4, 13}};
    static const char *const stop[] = {"é€"};
    static const size_t lengths[] = {5};
    struct fixture f;
    begin(&f, make_vocabulary(VOCABULARY_CHARACTERS, symbols, 4),
          (struct generation_options){.prompt = prompt,
                                      .prompt_count = 3,
                                      .tokens_max = 9,
                                      .stop = stop,
                                      .stop_lengths = lengths,
                                      .stop_count = 1,
                                      .want_echo = true,
                                      .want_logprobs = true});
    assert_true(generation_row_wants_logits(f.generation));
    step(&f, 2);
    step(&f, 1);
    assert_int_equal(step(&f, 1), GENERATION_ROW_READY);
    assert_int_equal(step(&f, 2), GENERATION_ROW_ENDED);
    assert_int_equal(generation_progress(f.generation).finish, FINISH_STOP);
    read_all(&f, 100);
    assert_string_equal(f.text, "😀€a");
    check_places(&f, places, 5); /* also what the stop string cut off */
    size_t count;
    const struct symbol_logprob *entries = generation_logprobs(f.generation, &count);
    double likely = 1.0 - log(exp(1.0) + 3.0);
    assert_true(isnan(entries[0].logprob));
    assert_true(fabs((double)entries[1].logprob - likely) < 1e-6);
    assert_true(fabs((double)entries[2].logprob - (likely - 1.0)) < 1e-6);
    assert_true(fabs((double)entries[3].logprob - likely) < 1e-6);
    end(&f);
}

/* A symbol whose logits are no numbers was not predicted: it is neither told nor written. */
static void test_echo_ends_where_logits_are_not_finite(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {1, 2, 3};
    static const struct place places[] = {{0, 0, 1}, {1, 1, 2}};
    struct fixture f;
    begin(&f, decode_model_characters(5),
          (struct generation_options){.prompt = prompt, .prompt_count = 3, .want_echo = true, .want_logprobs = true});
    assert_int_equal(step(&f, 2), GENERATION_ROW_READY);
    logits[4] = NAN;
    generation_row_advance(f.generation, rnn_kernels_find(NULL), logits, weights);
    assert_int_equal(generation_row_settle(f.generation, 0), GENERATION_ROW_ENDED);
    assert_int_equal(generation_progress(f.generation).finish, FINISH_FAILED);
    check_places(&f, places, 2);
    read_all(&f, 100);
    assert_string_equal(f.text, "\"#");
    end(&f);
}

static void test_places_of_bytes(void **state)
{
    (void)state;
    static const unsigned char bytes[] = {'a', 0xC3, 0xA9, 0xFF, 'b', 0xE2};
    static const struct place places[] = {{0, 0, 1}, {1, 1, 1}, {1, 1, 3}, {3, 2, 6}, {6, 3, 7}, {7, 4, 7}};
    struct fixture f;
    begin(&f, make_bytes(), (struct generation_options){.tokens_max = sizeof bytes, .want_logprobs = true});
    for (size_t i = 0; i < sizeof bytes; i++) {
        step(&f, bytes[i]);
    }
    read_all(&f, 100);
    assert_string_equal(f.text, "aé\uFFFDb");
    check_places(&f, places, 6);
    end(&f);
}

/* Spelled one by one, where they stand, words are the text. */
static void test_words_spell_the_text(void **state)
{
    (void)state;
    static const char *const words[] = {"the", "cat", "<eos>", "."};
    static const uint32_t prompt[] = {0, 1, 3, 2};
    static const uint32_t made[] = {0, 1, 2, 2, 3, 0};
    struct fixture f;
    begin(&f, make_vocabulary(VOCABULARY_WORDS, words, 4),
          (struct generation_options){
              .prompt = prompt, .prompt_count = 4, .tokens_max = 6, .want_echo = true, .want_logprobs = true});
    for (size_t i = 0; i < 3; i++) {
        step(&f, 0);
    }
    for (size_t i = 0; i < 6; i++) {
        step(&f, made[i]);
    }
    read_all(&f, 100);
    assert_string_equal(f.text, "the cat .\nthe cat\n\n. the");
    size_t count, length = 0;
    const struct symbol_logprob *entries = generation_logprobs(f.generation, &count);
    char text[GENERATION_SYMBOL_BYTES_MAX];
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(entries[i].begin.bytes, length);
        size_t spelled = generation_spell(f.model.vocabulary, entries[i].symbol, entries[i].begin, text);
        assert_memory_equal(text, f.text + length, spelled);
        length += spelled;
        assert_int_equal(entries[i].end_bytes, length);
    }
    assert_int_equal(length, f.length);
    end(&f);
}

static void test_echo_of_a_long_prompt_waits_for_its_reader(void **state)
{
    (void)state;
    enum { PROMPT = 9000 };
    static uint32_t prompt[PROMPT];
    for (uint32_t i = 0; i < PROMPT; i++) {
        prompt[i] = i % 89;
    }
    struct fixture f;
    begin(&f, decode_model_characters(90),
          (struct generation_options){.prompt = prompt, .prompt_count = PROMPT, .want_echo = true});
    size_t stall_count = 0;
    enum generation_row_state row_state = GENERATION_ROW_READY;
    while (row_state != GENERATION_ROW_ENDED) {
        if (row_state == GENERATION_ROW_STALLED) {
            stall_count++;
            f.length += generation_read(f.generation, f.text + f.length, 700);
            row_state = generation_row_settle(f.generation, 0);
        } else {
            row_state = step(&f, 0);
        }
    }
    assert_true(stall_count > 2);
    read_all(&f, 1000);
    assert_int_equal(f.length, PROMPT);
    for (size_t i = 0; i < PROMPT; i++) {
        assert_int_equal(f.text[i], '!' + prompt[i]);
    }
    end(&f);
}

/* The first step writes the prompt's first symbol and one more: both as long as can be. */
static void test_echo_of_the_longest_words(void **state)
{
    (void)state;
    static char word[VOCABULARY_SYMBOL_BYTES_MAX + 1];
    memset(word, 'x', VOCABULARY_SYMBOL_BYTES_MAX);
    const char *const words[] = {word, "y"};
    static const uint32_t prompt[] = {0, 0};
    for (size_t count = 1; count <= 2; count++) {
        struct fixture f;
        begin(&f, make_vocabulary(VOCABULARY_WORDS, words, 2),
              (struct generation_options){.prompt = prompt, .prompt_count = count, .tokens_max = 1, .want_echo = true});
        for (size_t i = 0; i < count; i++) {
            step(&f, 0);
        }
        read_all(&f, 4096);
        assert_int_equal(f.length, VOCABULARY_SYMBOL_BYTES_MAX + count * (1 + VOCABULARY_SYMBOL_BYTES_MAX));
        end(&f);
    }
}

static void test_limits_and_memory(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {0, 1};
    struct generation_options options = {.prompt = prompt,
                                         .prompt_count = 2,
                                         .tokens_max = GENERATION_LOGPROBS_MAX - 1,
                                         .top_p = 1.0,
                                         .top_logprobs = LOGPROBS_TOP_MAX,
                                         .want_echo = true,
                                         .want_logprobs = true};
    struct fixture f;
    struct generation *generation;
    struct error error;
    begin(&f, decode_model_characters(4), (struct generation_options){.tokens_max = 1});
    enum status status = generation_create(f.plan, f.model.vocabulary, &options, NULL, NULL, &generation, &error);
    assert_int_equal(status, STATUS_INVALID);
    assert_string_equal(error.param, "logprobs");
    options.tokens_max--;
    options.top_logprobs++;
    status = generation_create(f.plan, f.model.vocabulary, &options, NULL, NULL, &generation, &error);
    assert_int_equal(status, STATUS_INVALID);
    options.top_logprobs--;
    uint64_t failing = 0;
    for (status = STATUS_NO_MEMORY; status == STATUS_NO_MEMORY && failing < 50; failing++) {
        mem_fail_after(failing);
        status = generation_create(f.plan, f.model.vocabulary, &options, NULL, NULL, &generation, &error);
        mem_fail_after(UINT64_MAX);
    }
    assert_int_equal(status, STATUS_OK);
    assert_true(failing > 5);
    generation_unref(generation);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_equal_a_sort),
        cmocka_unit_test(test_they_are_finite),
        cmocka_unit_test(test_they_are_the_models_own),
        cmocka_unit_test(test_places_of_characters_with_echo),
        cmocka_unit_test(test_echo_ends_where_logits_are_not_finite),
        cmocka_unit_test(test_places_of_bytes),
        cmocka_unit_test(test_words_spell_the_text),
        cmocka_unit_test(test_echo_of_a_long_prompt_waits_for_its_reader),
        cmocka_unit_test(test_echo_of_the_longest_words),
        cmocka_unit_test(test_limits_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
