/* One generation, stepped by hand with logits that choose each symbol: its text, its stop strings, its slow reader,
 * its end. The stream's bytes through the ring are covered on the way. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/generation_rig.h"

static void test_characters_and_length(void **state)
{
    (void)state;
    static const char *const symbols[] = {"a", "é", "€", "😀"};
    static const uint32_t prompt[] = {3, 2, 1};
    struct fixture f;
    begin(&f, make_vocabulary(VOCABULARY_CHARACTERS, symbols, 4),
          (struct generation_options){.prompt = prompt, .prompt_count = 3, .tokens_max = 4});
    assert_int_equal(generation_row_settle(f.generation, 0), GENERATION_ROW_READY);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(generation_row_symbol(f.generation), prompt[i]);
        assert_int_equal(generation_row_wants_logits(f.generation), i == 2);
        assert_int_equal(step(&f, 0), GENERATION_ROW_READY);
        assert_int_equal(generation_progress(f.generation).prompt_count, i + 1);
    }
    assert_true(generation_row_has_news(f.generation));
    assert_false(generation_row_has_news(f.generation));
    assert_int_equal(generation_row_symbol(f.generation), 0);
    assert_int_equal(step(&f, 1), GENERATION_ROW_READY);
    assert_int_equal(step(&f, 2), GENERATION_ROW_READY);
    assert_int_equal(generation_progress(f.generation).readable_bytes, 6);
    assert_int_equal(generation_progress(f.generation).finish, FINISH_NONE);
    assert_int_equal(step(&f, 3), GENERATION_ROW_ENDED);
    assert_int_equal(generation_progress(f.generation).finish, FINISH_LENGTH);
    assert_int_equal(generation_progress(f.generation).token_count, 4);
    assert_null(generation_prompt_logprobs(f.generation));
    read_all(&f, 4);
    assert_string_equal(f.text, "aé€😀");
    end(&f);
}

static void make_words(const char *const *words, size_t count, const char *last, const char *made, const char *wanted)
{
    struct fixture f;
    struct vocabulary *vocabulary = make_vocabulary(VOCABULARY_WORDS, words, count);
    uint32_t ids[16];
    size_t id_count;
    struct error error;
    assert_int_equal(vocabulary_encode(vocabulary, last, strlen(last), UNKNOWN_SYMBOLS_ERROR, ids, &id_count, &error),
                     STATUS_OK);
    begin(&f, vocabulary, (struct generation_options){.prompt = ids, .prompt_count = id_count, .tokens_max = 9});
    assert_int_equal(vocabulary_encode(vocabulary, made, strlen(made), UNKNOWN_SYMBOLS_ERROR, ids, &id_count, &error),
                     STATUS_OK);
    for (size_t i = 0; i < id_count; i++) {
        assert_int_equal(step(&f, ids[i]), GENERATION_ROW_READY);
    }
    generation_cancel(f.generation);
    assert_int_equal(generation_row_settle(f.generation, 0), GENERATION_ROW_ENDED);
    assert_int_equal(generation_progress(f.generation).finish, FINISH_CANCELLED);
    read_all(&f, 100);
    assert_string_equal(f.text, wanted);
    end(&f);
}

static void test_words_are_joined(void **state)
{
    (void)state;
    static const char *const words[] = {"the", "cat", "sat", ".", "<eos>"};
    make_words(words, 5, "the", "cat sat", " cat sat");
    make_words(words, 5, "<eos>", "the cat . <eos> the cat", "the cat .\nthe cat");
    make_words(words, 5, "cat", "<eos> <eos> the", "\n\nthe");
}

static void test_text_nobody_has_read_is_reported_once_and_again_by_the_half_ring(void **state)
{
    (void)state;
    static const char *const symbols[] = {"a", "b", "c", "d"};
    struct fixture f;
    begin(&f, make_vocabulary(VOCABULARY_CHARACTERS, symbols, 4), (struct generation_options){.tokens_max = 100000});
    assert_false(generation_row_has_news(f.generation));
    for (size_t turn = 0; turn < 3; turn++) {
        for (size_t i = 1; i < GENERATION_RING_BYTES / 2 + 200; i++) {
            assert_int_equal(step(&f, 0), GENERATION_ROW_READY);
            assert_int_equal(generation_row_has_news(f.generation), i == 1 || i == 1 + GENERATION_RING_BYTES / 2);
        }
        char text[GENERATION_RING_BYTES];
        assert_int_equal(generation_read(f.generation, text, 100), 100); /* the first report is read, not the second */
        assert_int_equal(step(&f, 0), GENERATION_ROW_READY);
        assert_false(generation_row_has_news(f.generation));
        while (generation_read(f.generation, text, sizeof text) > 0) {
        }
    }
    end(&f);
}

static void test_stop_strings_end_the_text(void **state)
{
    (void)state;
    static const char *const stop[] = {"bca", "zz"};
    static const size_t lengths[] = {3, 2};
    static const char *const symbols[] = {"a", "b", "c", "z"};
    struct generation_options options = {.tokens_max = 100, .stop = stop, .stop_lengths = lengths, .stop_count = 2};
    struct fixture f;
    begin(&f, make_vocabulary(VOCABULARY_CHARACTERS, symbols, 4), options);
    assert_int_equal(step(&f, 0), GENERATION_ROW_READY);
    assert_true(generation_row_has_news(f.generation));
    read_all(&f, 100);
    assert_int_equal(step(&f, 1), GENERATION_ROW_READY);
    assert_int_equal(step(&f, 2), GENERATION_ROW_READY);
    assert_false(generation_row_has_news(f.generation)); /* "bc" is held back */
    assert_int_equal(step(&f, 2), GENERATION_ROW_READY);
    assert_true(generation_row_has_news(f.generation));
    read_all(&f, 100);
    assert_string_equal(f.text, "abcc");
    assert_int_equal(step(&f, 1), GENERATION_ROW_READY);
    assert_int_equal(step(&f, 2), GENERATION_ROW_READY);
    assert_int_equal(step(&f, 0), GENERATION_ROW_ENDED);
    assert_int_equal(generation_progress(f.generation).finish, FINISH_STOP);
    read_all(&f, 100);
    assert_string_equal(f.text, "abcc");
    end(&f);
    options.tokens_max = 2;
    begin(&f, make_vocabulary(VOCABULARY_CHARACTERS, symbols, 4), options);
    assert_int_equal(step(&f, 1), GENERATION_ROW_READY);
    assert_int_equal(step(&f, 3), GENERATION_ROW_ENDED);
    read_all(&f, 100);
    assert_string_equal(f.text, "bz"); /* what was held back is flushed */
    end(&f);
    begin(&f, make_vocabulary(VOCABULARY_CHARACTERS, symbols, 4), options);
    assert_int_equal(step(&f, 3), GENERATION_ROW_READY);
    assert_int_equal(step(&f, 3), GENERATION_ROW_ENDED); /* length and stop at once: stop */
    assert_int_equal(generation_progress(f.generation).finish, FINISH_STOP);
    assert_int_equal(generation_progress(f.generation).readable_bytes, 0);
    end(&f);
}

/* Stop strings count only behind min_tokens symbols; what lies across that border is none. */
static void test_stop_strings_wait_for_tokens_min(void **state)
{
    (void)state;
    static const char *const stop[] = {"bb"};
    static const size_t lengths[] = {2};
    static const char *const symbols[] = {"a", "b"};
    struct fixture f;
    begin(&f, make_vocabulary(VOCABULARY_CHARACTERS, symbols, 2),
          (struct generation_options){
              .tokens_max = 100, .tokens_min = 3, .stop = stop, .stop_lengths = lengths, .stop_count = 1});
    static const uint32_t made[] = {1, 1, 1, 1, 0, 1};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        assert_int_equal(step(&f, made[i]), GENERATION_ROW_READY);
    }
    assert_int_equal(step(&f, 1), GENERATION_ROW_ENDED);
    assert_int_equal(generation_progress(f.generation).finish, FINISH_STOP);
    read_all(&f, 100);
    assert_string_equal(f.text, "bbbba");
    end(&f);
}

/* A row's own words make them less likely: logits are equal but for the one that was already said. */
static void test_penalties_follow_the_text(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {1};
    struct fixture f;
    begin(&f, decode_model_characters(4),
          (struct generation_options){.prompt = prompt,
                                      .prompt_count = 1,
                                      .tokens_max = 6,
                                      .penalties = {.repetition = 4.0, .repetition_window = 2, .presence = 0.5}});
    for (size_t i = 0; i < 6; i++) { /* 1 and its penalties against the others, which are 0 */
        step(&f, 1);
    }
    read_all(&f, 100);
    assert_string_equal(f.text, "\"!#\"$\"");
    end(&f);
}

static void test_broken_bytes_make_valid_text(void **state)
{
    (void)state;
    static const unsigned char bytes[] = {'a',  0xC3, 0xA9, 0xE2, 0x82, 'b',  0xFF,
                                          0x80, 0xF0, 0x9F, 0x98, 0x80, 0xE2, 0x82};
    struct fixture f;
    begin(&f, make_bytes(), (struct generation_options){.tokens_max = sizeof bytes});
    for (size_t i = 0; i < sizeof bytes; i++) {
        assert_int_equal(step(&f, bytes[i]), i + 1 < sizeof bytes ? GENERATION_ROW_READY : GENERATION_ROW_ENDED);
    }
    read_all(&f, 100);
    assert_string_equal(f.text, "aé\uFFFDb\uFFFD\uFFFD😀"); /* the unfinished tail is dropped */
    end(&f);
    print_message("seed %d\n", SEED);
    begin(&f, make_bytes(), (struct generation_options){.tokens_max = 20000});
    for (uint64_t i = 0; i < 20000; i++) {
        struct rng_words words = rng_philox(SEED, 1, i);
        step(&f, words.word[0] % 4 == 0 ? words.word[1] % 256 : 0x80 | words.word[1] % 128);
        read_all(&f, 4 + words.word[2] % 9);
        f.length = 0;
    }
    end(&f);
}

static void test_slow_reader_stalls_and_loses_nothing(void **state)
{
    (void)state;
    enum { TOKENS = 6000 };
    struct fixture f;
    begin(&f, decode_model_characters(90), (struct generation_options){.tokens_max = TOKENS});
    size_t stall_count = 0;
    for (uint32_t i = 0; i < TOKENS;) {
        if (generation_row_settle(f.generation, 0) == GENERATION_ROW_STALLED) {
            stall_count++;
            assert_int_equal(generation_row_settle(f.generation, 0), GENERATION_ROW_STALLED);
            assert_true(generation_progress(f.generation).readable_bytes > GENERATION_RING_BYTES / 2);
            f.length += generation_read(f.generation, f.text + f.length, 1500);
        } else {
            step(&f, i++ % 90);
        }
    }
    assert_true(stall_count >= 2);
    assert_int_equal(generation_progress(f.generation).finish, FINISH_LENGTH);
    read_all(&f, 1000);
    assert_int_equal(f.length, TOKENS);
    for (size_t i = 0; i < TOKENS; i++) {
        assert_int_equal(f.text[i], '!' + i % 90);
    }
    end(&f);
}

/* The longest words there may be, with the longest stop strings that nearly match, always find room. */
static void test_longest_symbols_fit(void **state)
{
    (void)state;
    enum { TOKENS = 40, LENGTH = VOCABULARY_SYMBOL_BYTES_MAX };
    static char word[LENGTH + 1];
    static char stop_string[STOP_STRING_BYTES_MAX];
    memset(word, 'x', LENGTH);
    memset(stop_string, 'x', STOP_STRING_BYTES_MAX - 1);
    stop_string[STOP_STRING_BYTES_MAX - 1] = '!';
    const char *const words[] = {"y", word};
    const char *const stop[] = {stop_string};
    const size_t lengths[] = {STOP_STRING_BYTES_MAX};
    struct fixture f;
    begin(&f, make_vocabulary(VOCABULARY_WORDS, words, 2),
          (struct generation_options){.tokens_max = TOKENS, .stop = stop, .stop_lengths = lengths, .stop_count = 1});
    size_t made = 0;
    for (enum generation_row_state row_state = GENERATION_ROW_READY; row_state != GENERATION_ROW_ENDED;) {
        if (row_state == GENERATION_ROW_READY) {
            row_state = step(&f, 1);
            made++;
        } else {
            f.length += generation_read(f.generation, f.text + f.length, 700);
            row_state = generation_row_settle(f.generation, 0);
        }
    }
    assert_int_equal(made, TOKENS);
    read_all(&f, 700);
    assert_int_equal(f.length, TOKENS * (LENGTH + 1));
    end(&f);
}

static void test_cancel_and_deadline_end_a_stalled_row(void **state)
{
    (void)state;
    for (int with_deadline = 0; with_deadline < 2; with_deadline++) {
        static const char *const stop[] = {"#\"!"};
        static const size_t lengths[] = {3};
        struct fixture f;
        begin(&f, decode_model_characters(90),
              (struct generation_options){.tokens_max = 9999,
                                          .deadline_ms = with_deadline ? 1000 : 0,
                                          .stop = stop,
                                          .stop_lengths = lengths,
                                          .stop_count = 1});
        size_t count = 0;
        enum generation_row_state row_state;
        do {
            row_state = step(&f, 1 + count % 2); /* ends with a piece of the stop string */
            count++;
        } while (row_state == GENERATION_ROW_READY);
        assert_int_equal(generation_row_settle(f.generation, 1000), GENERATION_ROW_STALLED);
        assert_true(generation_progress(f.generation).readable_bytes < count);
        if (!with_deadline) {
            generation_cancel(f.generation);
        }
        assert_int_equal(generation_row_settle(f.generation, 1001), GENERATION_ROW_ENDED);
        assert_int_equal(generation_progress(f.generation).finish, with_deadline ? FINISH_DEADLINE : FINISH_CANCELLED);
        assert_int_equal(generation_progress(f.generation).readable_bytes, count);
        end(&f);
    }
}

static void test_logits_that_are_not_finite_end_it(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, decode_model_characters(5), (struct generation_options){.tokens_max = 9});
    assert_int_equal(step(&f, 1), GENERATION_ROW_READY);
    logits[3] = NAN;
    generation_row_advance(f.generation, rnn_kernels_find(NULL), logits, weights);
    assert_int_equal(generation_row_settle(f.generation, 0), GENERATION_ROW_ENDED);
    assert_int_equal(generation_progress(f.generation).finish, FINISH_FAILED);
    struct error error;
    generation_failure(f.generation, &error);
    assert_string_equal(error.message, "the model's logits are not finite after 1 prompt symbols and 1 made");
    assert_string_equal(error.code, "not_finite");
    read_all(&f, 100);
    assert_string_equal(f.text, "\"");
    end(&f);
}

static void test_prompt_is_scored(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {0, 2, 1};
    struct fixture f;
    begin(&f, decode_model_characters(4),
          (struct generation_options){.prompt = prompt, .prompt_count = 3, .want_prompt_logprobs = true});
    assert_int_equal(step(&f, 2), GENERATION_ROW_READY);
    assert_int_equal(step(&f, 3), GENERATION_ROW_READY);
    assert_false(generation_row_wants_logits(f.generation));
    assert_int_equal(step(&f, 0), GENERATION_ROW_ENDED);
    assert_int_equal(generation_progress(f.generation).finish, FINISH_LENGTH);
    const float *logprobs = generation_prompt_logprobs(f.generation);
    assert_true(isnan(logprobs[0]));
    assert_true(fabs((double)logprobs[1] - (1.0 - log(exp(1.0) + 3.0))) < 1e-6);
    assert_true(fabs((double)logprobs[2] + log(exp(1.0) + 3.0)) < 1e-6);
    end(&f);
}

static void refuse(struct generation_options options, enum status wanted, const char *param)
{
    struct decode_model model;
    struct decode_plan *plan;
    struct error error;
    decode_model_init(&model, decode_model_characters(4), 0, 1, 3, SEED);
    assert_int_equal(decode_plan_create(&model.weights, &plan, &error), STATUS_OK);
    struct generation *generation;
    assert_int_equal(generation_create(plan, model.vocabulary, &options, NULL, NULL, &generation, &error), wanted);
    assert_string_equal(error.param, param);
    decode_plan_destroy(plan);
    decode_model_release(&model);
}

static void test_wrong_options_are_refused(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {0, 4};
    static const char *const stop[] = {"\xC3", ""};
    static const size_t lengths[] = {1, 0};
    struct generation_options good = {.prompt = prompt, .prompt_count = 1, .tokens_max = 1, .top_p = 1.0};
    struct generation_options options = good;
    options.prompt_count = 2;
    refuse(options, STATUS_INVALID, "prompt");
    options.prompt_count = 0;
    refuse(options, STATUS_INVALID, "prompt");
    options = good;
    options.tokens_max = GENERATION_TOKENS_MAX + 1;
    refuse(options, STATUS_INVALID, "max_tokens");
    options = good;
    options.temperature = -0.1;
    refuse(options, STATUS_INVALID, "temperature");
    options.temperature = (double)NAN;
    refuse(options, STATUS_INVALID, "temperature");
    options = good;
    options.top_p = 1.5;
    refuse(options, STATUS_INVALID, "top_p");
    options.top_p = (double)NAN;
    refuse(options, STATUS_INVALID, "top_p");
    options = good;
    options.min_p = 1.5;
    refuse(options, STATUS_INVALID, "min_p");
    options = good;
    options.typical_p = -0.1;
    refuse(options, STATUS_INVALID, "typical_p");
    options = good;
    options.priority = (enum generation_priority)(GENERATION_PRIORITY_HIGH + 1);
    refuse(options, STATUS_INVALID, "priority");
    options.priority = (enum generation_priority)(GENERATION_PRIORITY_LOW - 1);
    refuse(options, STATUS_INVALID, "priority");
    options = good;
    options.penalties.presence = 2.5;
    refuse(options, STATUS_INVALID, "presence_penalty");
    options = good;
    options.stop = stop;
    options.stop_lengths = lengths;
    options.stop_count = 1;
    refuse(options, STATUS_INVALID, "stop");
    options.stop = stop + 1;
    options.stop_lengths = lengths + 1;
    refuse(options, STATUS_INVALID, "stop");
}

static void test_no_memory_is_reported(void **state)
{
    (void)state;
    static const uint32_t prompt[] = {0};
    struct decode_model model;
    struct decode_plan *plan;
    struct error error;
    decode_model_init(&model, decode_model_characters(4), 0, 1, 3, SEED);
    assert_int_equal(decode_plan_create(&model.weights, &plan, &error), STATUS_OK);
    struct generation_options options = {
        .prompt = prompt, .prompt_count = 1, .top_p = 1.0, .want_prompt_logprobs = true};
    struct generation *generation = NULL;
    enum status status = STATUS_NO_MEMORY;
    for (uint64_t n = 0; status != STATUS_OK; n++) {
        assert_true(n < 20);
        mem_fail_after(n);
        status = generation_create(plan, model.vocabulary, &options, NULL, NULL, &generation, &error);
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
    }
    generation_unref(generation);
    generation_unref(NULL);
    decode_plan_destroy(plan);
    decode_model_release(&model);
}

static enum status never_step(void *context, const struct stepper_step *step, struct error *error)
{
    (void)context;
    (void)step;
    return error_set(error, STATUS_CORRUPT, "nothing is stepped");
}

/* States that could never be read back are not begun: a plan may have them, from 4 GiB on past what a state can say. */
static void test_states_too_large_to_be_given_out(void **state)
{
    (void)state;
    static const size_t sizes[] = {TEXT_STATE_NUMBER_BYTES_MAX + 64, ((size_t)1 << 32) + 64};
    static const uint32_t prompt[] = {0};
    static const struct text_origin origin = {.model = "large@1"};
    const struct generation_options options = {
        .prompt = prompt, .prompt_count = 1, .tokens_max = 1, .top_p = 1.0, .want_state = true, .origin = &origin};
    struct vocabulary *vocabulary = make_bytes();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct decode_plan plan = {.stepper = {.step = never_step, .state_bytes = sizes[i]}, .vocabulary_size = 256};
        struct generation *generation = NULL;
        struct error error = {.message = ""};
        char want[80];
        snprintf(want, sizeof want, "has %zu bytes, one that is given out at most %d", sizes[i],
                 TEXT_STATE_NUMBER_BYTES_MAX);
        assert_int_equal(generation_create(&plan, vocabulary, &options, NULL, NULL, &generation, &error),
                         STATUS_TOO_LARGE);
        assert_non_null(strstr(error.message, want));
        assert_null(generation);
    }
    vocabulary_unref(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters_and_length),
        cmocka_unit_test(test_words_are_joined),
        cmocka_unit_test(test_text_nobody_has_read_is_reported_once_and_again_by_the_half_ring),
        cmocka_unit_test(test_stop_strings_end_the_text),
        cmocka_unit_test(test_stop_strings_wait_for_tokens_min),
        cmocka_unit_test(test_penalties_follow_the_text),
        cmocka_unit_test(test_broken_bytes_make_valid_text),
        cmocka_unit_test(test_slow_reader_stalls_and_loses_nothing),
        cmocka_unit_test(test_longest_symbols_fit),
        cmocka_unit_test(test_cancel_and_deadline_end_a_stalled_row),
        cmocka_unit_test(test_logits_that_are_not_finite_end_it),
        cmocka_unit_test(test_prompt_is_scored),
        cmocka_unit_test(test_wrong_options_are_refused),
        cmocka_unit_test(test_states_too_large_to_be_given_out),
        cmocka_unit_test(test_no_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
