/* Beam search: against all texts and their forced scores, alone and among other rows, with and without a pattern. */
#include <math.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "tests/unit/batcher_rig.h"

enum { SYMBOLS = 4, LENGTH = 4, TEXTS = 4 + 16 + 64 + 256, FIRST_OF_LENGTH = 4 + 16 + 64, FOUND_MAX = 128 };

static const uint32_t prompt[] = {2, 0, 3};
enum { PROMPT_COUNT = sizeof prompt / sizeof *prompt };

/* A text, and the sum of its symbols' log-probabilities behind the prompt. */
struct scored {
    char text[LENGTH + 1];
    double score;
};

/* Every text of one to LENGTH symbols, the shorter first; of one length in the order of their numbers. */
static void score_all(const struct served *served, struct scored *all)
{
    struct hub hub;
    hub_init(&hub, 2, TEXTS);
    for (size_t n = 0; n < TEXTS; n++) {
        size_t length = n < 4 ? 1 : n < 20 ? 2 : n < 84 ? 3 : 4;
        size_t number = n - (length == 1 ? 0 : length == 2 ? 4 : length == 3 ? 20 : 84);
        uint32_t symbols[PROMPT_COUNT + LENGTH];
        memcpy(symbols, prompt, sizeof prompt);
        for (size_t i = length; i > 0; i--, number /= SYMBOLS) {
            symbols[PROMPT_COUNT + i - 1] = (uint32_t)(number % SYMBOLS);
            all[n].text[i - 1] = (char)('!' + number % SYMBOLS);
        }
        all[n].text[length] = '\0';
        must_submit(&hub, served,
                    (struct generation_options){
                        .prompt = symbols, .prompt_count = PROMPT_COUNT + length, .want_prompt_logprobs = true});
    }
    hub_wait_ended(&hub, TEXTS);
    for (size_t n = 0; n < TEXTS; n++) {
        all[n].score = 0;
        for (size_t i = 0; i < strlen(all[n].text); i++) {
            all[n].score += (double)hub.rows[n].logprobs[PROMPT_COUNT + i];
        }
    }
    hub_release(&hub);
}

static int compare_scores(const void *a, const void *b)
{
    const struct scored *left = a, *right = b;
    return (left->score < right->score) - (left->score > right->score);
}

/* Submits a search for `count` texts of up to LENGTH symbols. */
static void submit_search(struct hub *hub, const struct served *served, size_t width, size_t count,
                          struct constraint *constraint)
{
    struct beam_options options = {.width = width, .text_count = count, .tokens_max = LENGTH, .constraint = constraint};
    struct beam *beam = NULL;
    struct error error;
    assert_int_equal(beam_create(served->plan, &options, &beam, &error), STATUS_OK);
    for (size_t rank = 0; rank < count; rank++) {
        must_submit(hub, served,
                    (struct generation_options){.prompt = prompt,
                                                .prompt_count = PROMPT_COUNT,
                                                .tokens_max = LENGTH,
                                                .constraint = constraint,
                                                .beam = beam,
                                                .beam_rank = rank,
                                                .want_logprobs = true});
    }
    beam_unref(beam);
}

static void check_row(const struct row *row, const struct scored *wanted)
{
    double sum = 0;
    assert_int_equal(row->length, strlen(wanted->text));
    assert_memory_equal(row->text, wanted->text, row->length);
    assert_int_equal(row->top_count, row->length);
    for (size_t i = 0; i < row->top_count; i++) {
        sum += (double)row->top_logprobs[i][0];
    }
    assert_true(sum == wanted->score); /* those of its forced steps, bit for bit */
}

static void check_search(const struct served *served, size_t width, size_t count, struct constraint *constraint,
                         const struct scored *wanted)
{
    for (size_t threads = 1; threads <= 2; threads++) {
        struct hub hub;
        hub_init(&hub, threads, ROWS_MAX);
        for (size_t n = 0; threads == 2 && n < 20; n++) { /* neighbours that come and go */
            must_submit(&hub, served, (struct generation_options){.tokens_max = 3 * n, .temperature = 1.0, .seed = n});
        }
        size_t first = hub.row_count;
        submit_search(&hub, served, width, count, constraint);
        hub_wait_ended(&hub, hub.row_count);
        for (size_t rank = 0; rank < count; rank++) {
            check_row(&hub.rows[first + rank], &wanted[rank]);
        }
        assert_true(batcher_counters(hub.batcher).stalled_looks < count); /* those that wait, when it is over */
        hub_release(&hub);
    }
}

/* The same search, spelled out: beginnings of one length after another, the best ones kept. */
static void search_plainly(const struct scored *all, size_t width, struct scored *kept)
{
    static const size_t begins[] = {0, 4, 20, 84, TEXTS};
    size_t kept_count = 0;
    for (size_t length = 1; length <= LENGTH; length++) {
        struct scored candidates[TEXTS];
        size_t count = 0;
        for (size_t n = begins[length - 1]; n < begins[length]; n++) {
            bool is_kept = length == 1;
            for (size_t i = 0; i < kept_count; i++) {
                is_kept = is_kept || memcmp(all[n].text, kept[i].text, length - 1) == 0;
            }
            if (is_kept) {
                candidates[count++] = all[n];
            }
        }
        qsort(candidates, count, sizeof *candidates, compare_scores);
        kept_count = count < width ? count : width;
        memcpy(kept, candidates, kept_count * sizeof *kept);
    }
}

static void test_against_all_texts(void **state)
{
    (void)state;
    static struct scored all[TEXTS], kept[FOUND_MAX];
    static const size_t widths[] = {1, 2, 3, 7, 64, 128};
    for (size_t embedding = 0; embedding <= 3; embedding += 3) {
        struct served served;
        served_init(&served, decode_model_characters(SYMBOLS), embedding, 2, 7, NULL);
        score_all(&served, all);
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
            search_plainly(all, widths[i], kept);
            check_search(&served, widths[i], widths[i], NULL, kept);
            check_search(&served, widths[i], 1, NULL, kept);
        }
        qsort(all + FIRST_OF_LENGTH, TEXTS - FIRST_OF_LENGTH, sizeof *all, compare_scores);
        check_search(&served, 64, 64, NULL, all + FIRST_OF_LENGTH); /* room for all beginnings: it is exact */
        served_release(&served);
    }
}

static void test_with_a_pattern(void **state)
{
    (void)state;
    static const char pattern[] = "!#|\"[!#]{1,2}\\$|##\"!?\\$|#\\$";
    static struct scored all[TEXTS], matching[TEXTS];
    struct served served;
    struct vocabulary *vocabulary = decode_model_characters(SYMBOLS);
    struct constraint *constraint = NULL;
    struct error error;
    regex_t oracle;
    char whole[64];
    size_t count = 0;
    snprintf(whole, sizeof whole, "^(%s)$", pattern);
    assert_int_equal(regcomp(&oracle, whole, REG_EXTENDED | REG_NOSUB), 0);
    served_init(&served, decode_model_characters(SYMBOLS), 0, 1, 9, NULL);
    score_all(&served, all);
    for (size_t n = 0; n < TEXTS; n++) {
        if (regexec(&oracle, all[n].text, 0, NULL, 0) == 0) {
            matching[count++] = all[n];
        }
    }
    assert_int_equal(count, 9);
    qsort(matching, count, sizeof *matching, compare_scores);
    assert_int_equal(constraint_create(pattern, strlen(pattern), vocabulary, NULL, 0, &constraint, &error), STATUS_OK);
    check_search(&served, 100, count, constraint, matching);
    check_search(&served, 100, 3, constraint, matching);
    struct hub hub;
    hub_init(&hub, 2, ROWS_MAX);
    submit_search(&hub, &served, 100, count + 1, constraint); /* one more than there are */
    hub_wait_ended(&hub, count + 1);
    check_row(&hub.rows[count - 1], &matching[count - 1]);
    assert_int_equal(generation_progress(hub.rows[0].generation).finish, FINISH_STOP);
    assert_int_equal(generation_progress(hub.rows[count].generation).finish, FINISH_FAILED);
    generation_failure(hub.rows[count].generation, &error);
    assert_string_equal(error.code, "too_few_texts");
    hub_release(&hub);
    constraint_unref(constraint);
    vocabulary_unref(vocabulary);
    regfree(&oracle);
    served_release(&served);
}

static void test_a_cancelled_search_ends_those_that_wait(void **state)
{
    (void)state;
    struct served served;
    served_init(&served, decode_model_characters(30), 0, 1, 20, NULL);
    struct beam_options options = {.width = 100, .text_count = 2, .tokens_max = 10000};
    struct beam *beam = NULL;
    struct error error;
    struct hub hub;
    hub_init(&hub, 2, ROWS_MAX);
    assert_int_equal(beam_create(served.plan, &options, &beam, &error), STATUS_OK);
    for (size_t rank = 0; rank < 2; rank++) {
        must_submit(&hub, &served, (struct generation_options){.tokens_max = 10000, .beam = beam, .beam_rank = rank});
    }
    beam_unref(beam);
    generation_cancel(hub.rows[0].generation);
    batcher_wake(hub.batcher);
    hub_wait_ended(&hub, 2);
    assert_int_equal(generation_progress(hub.rows[1].generation).finish, FINISH_CANCELLED);
    assert_int_equal(hub.rows[0].length + hub.rows[1].length, 0);
    hub_release(&hub);
    served_release(&served);
}

static void test_logits_that_are_not_finite(void **state)
{
    (void)state;
    struct served served;
    decode_model_init(&served.model, decode_model_characters(SYMBOLS), 0, 1, 5, SEED);
    served.model.values[served.model.weights.softmax_b - served.model.values] = NAN;
    served_pack(&served, RNN_PRECISION_FP32, NULL);
    struct hub hub;
    hub_init(&hub, 1, ROWS_MAX);
    submit_search(&hub, &served, 3, 2, NULL);
    hub_wait_ended(&hub, 2);
    assert_int_equal(generation_progress(hub.rows[0].generation).finish, FINISH_FAILED);
    assert_int_equal(generation_progress(hub.rows[1].generation).finish, FINISH_CANCELLED);
    hub_release(&hub);
    served_release(&served);
}

static void test_bounds_and_memory(void **state)
{
    (void)state;
    static const struct {
        struct beam_options options;
        const char *param;
    } rows[] = {
        {{.width = 0, .text_count = 0, .tokens_max = 1}, "best_of"},
        {{.width = BEAM_WIDTH_MAX + 1, .text_count = 1, .tokens_max = 1}, "best_of"},
        {{.width = 2, .text_count = 3, .tokens_max = 1}, "best_of"},
        {{.width = 1, .text_count = 1, .tokens_max = 0}, "max_tokens"},
        {{.width = 128, .text_count = 1, .tokens_max = BEAM_NODES_MAX / 128 + 1}, "max_tokens"},
    };
    struct served served;
    struct beam *beam = NULL;
    struct error error;
    served_init(&served, decode_model_characters(SYMBOLS), 0, 1, 5, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(beam_create(served.plan, &rows[i].options, &beam, &error), STATUS_INVALID);
        assert_string_equal(error.param, rows[i].param);
    }
    struct beam_options options = {.width = 3, .text_count = 2, .tokens_max = 5};
    enum status status = STATUS_NO_MEMORY;
    for (uint64_t n = 0; status != STATUS_OK; n++) {
        mem_fail_after(n);
        status = beam_create(served.plan, &options, &beam, &error);
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || (status == STATUS_NO_MEMORY && n < 5));
    }
    beam_unref(beam);
    assert_null(beam_unref(NULL));
    served_release(&served);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_all_texts),
        cmocka_unit_test(test_with_a_pattern),
        cmocka_unit_test(test_a_cancelled_search_ends_those_that_wait),
        cmocka_unit_test(test_logits_that_are_not_finite),
        cmocka_unit_test(test_bounds_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
