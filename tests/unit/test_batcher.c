/* The batcher: a row's bits do not depend on its neighbours, the threads or the kernels; slow readers, cancels,
 * deadlines and ends concern their own row only. The main thread is the loop thread here: it waits for reports, then
 * reads. */
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/decode/decode_batch.h"
#include "engine/math/rnn_packed.h"
#include "tests/unit/batcher_rig.h"
#include "tests/unit/rnn_rounding.h"
#include "tests/unit/run_length.h"

/* Short texts: rows join and leave at almost every step. */
enum { NTH_PROMPT_MAX = 16, NTH_TOKENS_MAX = 24 };

/* The n-th of many different generations: prompts and lengths of all sizes, all ways of sampling. */
static struct generation_options nth_options(size_t n, size_t symbols, uint32_t prompt[PROMPT_MAX])
{
    static const struct text_origin origin;
    struct rng_words words = rng_philox(SEED, 1, n);
    struct generation_options options = {
        .prompt = prompt,
        .prompt_count = 1 + words.word[0] % NTH_PROMPT_MAX,
        .tokens_max = words.word[1] % NTH_TOKENS_MAX,
        .temperature = n % 5 == 0 ? 0.0 : 0.3 * (double)(n % 7),
        .top_k = n % 3 == 0 ? 5 : 0,
        .top_p = n % 4 == 0 ? 0.8 : 1.0,
        .min_p = n % 6 == 1 ? 0.02 : 0.0,
        .typical_p = n % 7 == 2 ? 0.7 : 1.0,
        .penalties = {.repetition = n % 5 == 1 ? 1.3 : 1.0,
                      .repetition_window = n % 11,
                      .frequency = n % 5 == 2 ? 0.4 : 0.0,
                      .presence = n % 5 == 3 ? -0.3 : 0.0},
        .seed = n / 2,
        .choice = n % 2,
        .want_prompt_logprobs = n % 2 == 0,
        .want_echo = n % 3 == 1,
        .want_logprobs = n % 3 != 0,
        .top_logprobs = n % (1 + LOGPROBS_TOP_MAX),
        .want_state = true,
        .origin = &origin,
        .priority = (enum generation_priority)((int)(n % 3) - 1),
    };
    for (size_t i = 0; i < options.prompt_count; i++) {
        prompt[i] = rng_philox(SEED, n + 2, i).word[0] % (uint32_t)symbols;
    }
    return options;
}

static struct row *submit_nth(struct hub *hub, const struct served *served, size_t n)
{
    uint32_t prompt[PROMPT_MAX];
    return must_submit(hub, served, nth_options(n, served->model.weights.vocabulary_size, prompt));
}

/* What each of `count` generations gives alone, on one thread. */
static struct row *run_alone(const struct served *served, size_t count)
{
    struct row *results = mem_allocate(count, sizeof *results);
    struct hub hub;
    hub_init(&hub, 1, 2); /* an end may be seen before its report comes, so the last one may still count */
    for (size_t n = 0; n < count; n++) {
        submit_nth(&hub, served, n);
        hub_wait_ended(&hub, n + 1);
    }
    hub_stop(&hub);
    memcpy(results, hub.rows, count * sizeof *results);
    hub_release(&hub);
    return results;
}

static void assert_same(const struct row *a, const struct row *b)
{
    assert_int_equal(a->length, b->length);
    assert_memory_equal(a->text, b->text, a->length);
    assert_memory_equal(a->logprobs, b->logprobs, sizeof a->logprobs);
    assert_int_equal(a->top_count, b->top_count);
    assert_memory_equal(a->top_logprobs, b->top_logprobs, sizeof a->top_logprobs);
    assert_memory_equal(a->state, b->state, sizeof a->state);
}

/* In waves, so that neighbours come and go. */
static void check_batch(const struct served *served, const struct row *alone, size_t count, size_t threads)
{
    struct hub hub;
    hub_init(&hub, threads, count);
    for (size_t n = 0; n < count; n++) {
        submit_nth(&hub, served, n);
        if (n % 7 == 6) {
            hub_turn(&hub);
        }
    }
    hub_wait_ended(&hub, count);
    for (size_t n = 0; n < count; n++) {
        assert_same(&alone[n], &hub.rows[n]);
    }
    struct batcher_counters counters = batcher_counters(hub.batcher);
    assert_int_equal(counters.running + counters.waiting, 0);
    assert_true(counters.rows >= counters.steps && counters.steps > 0);
    size_t prompts = 0;
    size_t tokens = 0;
    for (size_t n = 0; n < count; n++) {
        uint32_t prompt[PROMPT_MAX];
        struct generation_options options = nth_options(n, 2, prompt);
        prompts += options.prompt_count;
        tokens += options.tokens_max;
    }
    assert_int_equal(counters.symbols_prompt, prompts);
    assert_int_equal(counters.symbols_made, tokens);
    hub_release(&hub);
}

/* The first 256 at once, the full batch; each one that ends lets the next in, so that neighbours come and go until few
 * are left. Every other row is read only at its end. */
static void check_full_batch(const struct served *served, const struct row *alone, size_t count, size_t threads)
{
    enum { FULL = 256 };
    struct hub hub;
    hub_init(&hub, threads, count);
    for (size_t n = 0; n < count; n++) {
        while (n - hub.ended_count >= FULL) {
            hub_turn(&hub);
        }
        submit_nth(&hub, served, n)->is_read = n % 2 == 0;
    }
    hub_wait_ended(&hub, count);
    for (size_t n = 0; n < count; n++) {
        if (n % 2 == 1) {
            read_row(&hub.rows[n]);
        }
        assert_same(&alone[n], &hub.rows[n]);
    }
    hub_release(&hub);
}

enum form { PLAIN, TIED, RESIDUAL };

/* One-hot, with a table, and with a gathered embedding; TIED: which is the output's too; RESIDUAL: around all layers.
 * Kernels give the same bits but in bf16 and where fp32 is summed in pairs. */
static void check_rows(enum decode_cell cell, enum rnn_precision precision, size_t embedding_size, enum form form)
{
    enum { COUNT = 60, FULL_COUNT = 320 };
    struct row *alone = NULL;
    bool is_of_all = false; /* `alone` */
    for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
        struct served served;
        decode_model_init_cells(&served.model, decode_model_characters(40), cell, embedding_size, 2, 21, SEED);
        served.model.weights.softmax_w = form == TIED ? NULL : served.model.weights.softmax_w;
        served.model.weights.layers[0].is_residual = served.model.weights.layers[1].is_residual = form == RESIDUAL;
        served_pack(&served, precision, rnn_kernels_at(set)->name);
        bool has_own = has_own_bits(rnn_kernels_steps(rnn_kernels_at(set), precision));
        if (!is_of_all || has_own) {
            mem_free(alone);
            is_of_all = !has_own;
            alone = run_alone(&served, run_is_whole() ? FULL_COUNT : COUNT);
        }
        check_batch(&served, alone, COUNT, 2);
        if (run_is_whole()) {
            check_batch(&served, alone, COUNT, 1);
            check_batch(&served, alone, COUNT, 3);
            check_full_batch(&served, alone, FULL_COUNT, 1);
            check_full_batch(&served, alone, FULL_COUNT, 2);
        }
        served_release(&served);
    }
    mem_free(alone);
}

static void test_rows_do_not_depend_on_anything(void **state)
{
    (void)state;
    print_message("seed %d\n", SEED);
    for (int precision = RNN_PRECISION_FP32; precision < RNN_PRECISION_COUNT; precision++) {
        check_rows(DECODE_CELL_LSTM, (enum rnn_precision)precision, 0, PLAIN);
        check_rows(DECODE_CELL_LSTM, (enum rnn_precision)precision, 6, PLAIN);
    }
}

static void test_rows_of_other_cells_do_not_depend_on_anything(void **state)
{
    (void)state;
    for (int precision = RNN_PRECISION_FP32; precision < RNN_PRECISION_COUNT; precision++) {
        check_rows(DECODE_CELL_GRU, (enum rnn_precision)precision, 0, PLAIN);
        check_rows(DECODE_CELL_RNN, (enum rnn_precision)precision, 21, TIED);
    }
}

static void test_rows_with_residual_connections_do_not_depend_on_anything(void **state)
{
    (void)state;
    for (int precision = RNN_PRECISION_FP32; precision < RNN_PRECISION_COUNT; precision++) {
        check_rows(DECODE_CELL_LSTM, (enum rnn_precision)precision, 21, RESIDUAL);
        check_rows(DECODE_CELL_GRU, (enum rnn_precision)precision, 21, RESIDUAL);
    }
}

/* Large enough for phases that the team shares, by as many rows as share a step at most, and by one more for a thread,
 * which then steps its own. */
static void test_shared_phases_change_nothing(void **state)
{
    (void)state;
    enum { THREADS_MAX = 4 };
    struct served served;
    served_init(&served, decode_model_characters(80), 30, 1, 300, NULL);
    size_t apart = decode_batch_rows_apart(served.plan);
    assert_true(apart > 5 && apart < 20);
    struct row *alone = run_alone(&served, THREADS_MAX * apart);
    for (size_t threads = 2; threads <= THREADS_MAX; threads++) {
        check_batch(&served, alone, threads * (apart - 1), threads);
        check_batch(&served, alone, threads * apart, threads);
    }
    mem_free(alone);
    served_release(&served);
}

/* batcher_options.on_step: the first step ends when everything has been submitted. */
static void wait_for_gate(void *context)
{
    const atomic_bool *is_open = context;
    while (!atomic_load(is_open)) {
        sched_yield();
    }
}

/* How many rows had a step, on two threads, of `row_count` rows that were all there from the third step on. */
static double measure_step_rows(const struct served *served, size_t row_count)
{
    enum { TOKENS = 100 };
    atomic_bool is_open = false;
    struct batcher_options options = {
        .threads = 2, .queue_max = row_count, .on_step = wait_for_gate, .context = &is_open};
    struct generation_options wanted = {
        .prompt = (uint32_t[]){1}, .prompt_count = 1, .tokens_max = TOKENS, .temperature = 1, .top_p = 1};
    struct batcher *batcher;
    struct error error;
    assert_int_equal(batcher_create(&options, &batcher, &error), STATUS_OK);
    for (size_t i = 0; i < row_count; i++) {
        struct generation *row;
        assert_int_equal(generation_create(served->plan, served->model.vocabulary, &wanted, NULL, NULL, &row, &error),
                         STATUS_OK);
        assert_int_equal(batcher_submit(batcher, row, &error), STATUS_OK);
        generation_unref(row);
    }
    atomic_store(&is_open, true);
    struct batcher_counters counters;
    do {
        sched_yield();
        counters = batcher_counters(batcher);
    } while (counters.symbols_made < row_count * TOKENS);
    batcher_destroy(batcher);
    return (double)counters.rows / (double)counters.steps;
}

static void test_threads_step_their_own_rows_where_there_are_enough(void **state)
{
    (void)state;
    struct served served;
    served_init(&served, decode_model_characters(80), 30, 1, 300, NULL);
    size_t apart = decode_batch_rows_apart(served.plan);
    assert_true(measure_step_rows(&served, 2 * apart) <= (double)apart);
    assert_true(measure_step_rows(&served, 2 * apart - 2) > (double)apart);
    served_release(&served);
}

static void test_more_rows_than_a_step_takes(void **state)
{
    (void)state;
    struct served served;
    served_init(&served, decode_model_characters(9), 0, 1, 4, NULL);
    struct row *alone = run_alone(&served, ROWS_MAX);
    check_batch(&served, alone, ROWS_MAX, 2);
    mem_free(alone);
    served_release(&served);
}

static struct vocabulary *make_words(size_t count)
{
    char(*texts)[8] = mem_allocate(count, sizeof *texts);
    const char **symbols = mem_allocate(count, sizeof *symbols);
    size_t *lengths = mem_allocate(count, sizeof *lengths);
    for (size_t i = 0; i < count; i++) {
        lengths[i] = (size_t)snprintf(texts[i], sizeof *texts, "w%zu", i);
        symbols[i] = texts[i];
    }
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(vocabulary_create(VOCABULARY_WORDS, symbols, lengths, count, &vocabulary, &error), STATUS_OK);
    mem_free(texts);
    mem_free(symbols);
    mem_free(lengths);
    return vocabulary;
}

/* With 30,000 words the logits' workspace holds 34 rows: they come in chunks, also where each thread has a half. */
static void test_large_vocabularies_come_in_chunks(void **state)
{
    (void)state;
    enum { COUNT = 80 };
    struct served served;
    served_init(&served, make_words(30000), 3, 1, 3, NULL);
    struct row *alone = run_alone(&served, COUNT);
    check_batch(&served, alone, COUNT, 1);
    check_batch(&served, alone, COUNT, 2);
    mem_free(alone);
    served_release(&served);
}

static void test_models_take_turns(void **state)
{
    (void)state;
    enum { COUNT = 30, MODELS = 3 };
    struct served served[MODELS];
    struct row *alone[MODELS];
    for (size_t m = 0; m < MODELS; m++) {
        served_init(&served[m], decode_model_characters(20 + m), m * 5, 1 + m, 10 + m, NULL);
        alone[m] = run_alone(&served[m], COUNT);
    }
    struct hub hub;
    hub_init(&hub, 2, ROWS_MAX);
    for (size_t n = 0; n < COUNT; n++) {
        for (size_t m = 0; m < MODELS; m++) {
            submit_nth(&hub, &served[m], n);
        }
    }
    hub_wait_ended(&hub, COUNT * MODELS);
    for (size_t n = 0; n < COUNT * MODELS; n++) {
        assert_same(&alone[n % MODELS][n / MODELS], &hub.rows[n]);
    }
    hub_release(&hub);
    for (size_t m = 0; m < MODELS; m++) {
        mem_free(alone[m]);
        served_release(&served[m]);
    }
}

static void test_more_models_than_places(void **state)
{
    (void)state;
    enum { MODELS = 300 };
    struct hub hub;
    hub_init(&hub, 2, ROWS_MAX);
    struct served *served = mem_allocate(MODELS, sizeof *served);
    static char long_word[VOCABULARY_SYMBOL_BYTES_MAX + 1]; /* fills a ring in three steps */
    memset(long_word, 'x', VOCABULARY_SYMBOL_BYTES_MAX);
    const char *words[] = {long_word};
    const size_t lengths[] = {VOCABULARY_SYMBOL_BYTES_MAX};
    for (size_t m = 0; m < MODELS; m++) {
        struct vocabulary *vocabulary = NULL;
        struct error error;
        assert_int_equal(vocabulary_create(VOCABULARY_WORDS, words, lengths, 1, &vocabulary, &error), STATUS_OK);
        served_init(&served[m], vocabulary, 0, 1, 3, NULL);
        struct row *row =
            must_submit(&hub, &served[m], (struct generation_options){.tokens_max = 3000, .temperature = 1.0});
        row->is_read = false; /* they stall, and keep their model's place */
    }
    for (size_t n = 0; n < 40; n++) {
        generation_cancel(hub.rows[MODELS - 1 - n].generation); /* no place for them */
    }
    batcher_wake(hub.batcher);
    hub_wait_ended(&hub, 40);
    for (size_t m = 0; m < MODELS; m++) {
        generation_cancel(hub.rows[m].generation);
    }
    batcher_wake(hub.batcher);
    hub_wait_ended(&hub, MODELS);
    hub_release(&hub);
    for (size_t m = 0; m < MODELS; m++) {
        served_release(&served[m]);
    }
    mem_free(served);
}

static void test_a_slow_reader_pauses_its_own_row_only(void **state)
{
    (void)state;
    struct served served;
    served_init(&served, decode_model_characters(30), 0, 1, 8, NULL);
    struct hub hub;
    hub_init(&hub, 2, 10);
    struct generation_options options = {.tokens_max = 4000, .temperature = 1.0, .seed = 5};
    struct row *slow = must_submit(&hub, &served, options);
    slow->is_read = false;
    struct row *quick = must_submit(&hub, &served, options);
    hub_wait_ended(&hub, 1);
    assert_true(quick->has_ended && !slow->has_ended);
    assert_int_equal(quick->length, 4000);
    struct generation_progress progress = generation_progress(slow->generation);
    assert_true(progress.token_count < 4000);
    slow->is_read = true;
    read_row(slow);
    batcher_wake(hub.batcher);
    hub_wait_ended(&hub, 2);
    assert_int_equal(slow->length, 4000);
    assert_memory_equal(slow->text, quick->text, 4000);
    hub_release(&hub);
    served_release(&served);
}

/* Whoever wants all of a text at once is not woken for every symbol. */
static void test_a_text_read_whole_is_reported_seldom(void **state)
{
    (void)state;
    struct served served;
    served_init(&served, decode_model_characters(30), 0, 1, 8, NULL);
    struct hub hub;
    hub_init(&hub, 2, 10);
    struct generation_options options = {.tokens_max = 10000, .temperature = 1.0, .seed = 5}; /* more than two rings */
    struct row *stepwise = must_submit(&hub, &served, options);
    options.is_read_whole = true;
    struct row *whole = must_submit(&hub, &served, options);
    hub_wait_ended(&hub, 2);
    /* each half ring and the end; fewer where the next one came before the last one was read */
    assert_true(whole->report_count >= 3 && whole->report_count <= 6);
    assert_int_equal(whole->length, 10000);
    assert_memory_equal(whole->text, stepwise->text, 10000);
    hub_release(&hub);
    served_release(&served);
}

static void test_queue_has_its_maximum(void **state)
{
    (void)state;
    struct served served;
    served_init(&served, decode_model_characters(30), 0, 1, 8, NULL);
    struct hub hub;
    hub_init(&hub, 1, 2);
    struct generation_options options = {.tokens_max = GENERATION_TOKENS_MAX};
    struct row *row;
    struct error error;
    assert_int_equal(batcher_check_room(hub.batcher, 3, &error), STATUS_TOO_LARGE);
    assert_string_equal(error.code, "too_many_texts");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(batcher_reserve(hub.batcher, i == 0 ? 3 : 2, &error),
                         i == 0 ? STATUS_TOO_LARGE : STATUS_LIMIT);
        assert_int_equal(batcher_check_room(hub.batcher, 2 - i, &error), STATUS_OK); /* all or none */
        must_submit(&hub, &served, options)->is_read = false;
        assert_int_equal(batcher_check_room(hub.batcher, 2 - i, &error), STATUS_LIMIT);
    }
    assert_int_equal(submit(&hub, &served, options, &row, &error), STATUS_LIMIT);
    assert_string_equal(error.code, "queue_full");
    assert_non_null(strstr(error.message, "2 generations"));
    generation_cancel(hub.rows[1].generation);
    batcher_wake(hub.batcher);
    hub_wait_ended(&hub, 1);
    assert_int_equal(generation_progress(hub.rows[1].generation).finish, FINISH_CANCELLED);
    must_submit(&hub, &served,
                (struct generation_options){.tokens_max = 3}); /* an end is heard of after its place is free */
    hub_wait_ended(&hub, 2);
    assert_int_equal(hub.rows[2].length, 3);
    hub_release(&hub); /* cancels the one that stalls */
    served_release(&served);
}

static void test_cancel_while_running(void **state)
{
    (void)state;
    struct served served;
    served_init(&served, decode_model_characters(30), 0, 1, 8, NULL);
    struct hub hub;
    hub_init(&hub, 2, 10);
    uint32_t *prompt = mem_allocate(GENERATION_PROMPT_SYMBOLS_MAX, sizeof *prompt);
    struct row *row = must_submit(
        &hub, &served,
        (struct generation_options){.prompt = prompt, .prompt_count = GENERATION_PROMPT_SYMBOLS_MAX, .tokens_max = 1});
    mem_free(prompt);
    while (generation_progress(row->generation).prompt_count == 0) {
        batcher_wake(hub.batcher);
    }
    generation_cancel(row->generation);
    hub_wait_ended(&hub, 1);
    struct generation_progress progress = generation_progress(row->generation);
    assert_int_equal(progress.finish, FINISH_CANCELLED);
    assert_true(progress.prompt_count < GENERATION_PROMPT_SYMBOLS_MAX && progress.token_count == 0);
    struct row *queued = &hub.rows[hub.row_count];
    struct error error;
    struct generation_options options = {
        .prompt = (uint32_t[]){1}, .prompt_count = 1, .tokens_max = 9, .owner = queued};
    *queued = (struct row){.is_read = true};
    assert_int_equal(
        generation_create(served.plan, served.model.vocabulary, &options, NULL, NULL, &queued->generation, &error),
        STATUS_OK);
    generation_cancel(queued->generation); /* before its first step */
    assert_int_equal(batcher_submit(hub.batcher, queued->generation, &error), STATUS_OK);
    hub.row_count++;
    hub_wait_ended(&hub, 2);
    assert_int_equal(generation_progress(queued->generation).finish, FINISH_CANCELLED);
    assert_int_equal(generation_progress(queued->generation).prompt_count, 0);
    hub_release(&hub);
    served_release(&served);
}

static void test_deadlines_end_rows_by_themselves(void **state)
{
    (void)state;
    struct served served;
    served_init(&served, decode_model_characters(30), 0, 1, 8, NULL);
    struct hub hub;
    hub_init(&hub, 2, 10);
    struct generation_options options = {.tokens_max = GENERATION_TOKENS_MAX, .deadline_ms = 1};
    struct row *late = must_submit(&hub, &served, options);
    options.deadline_ms = clock_now_ms() + 30;
    struct row *stalled = must_submit(&hub, &served, options); /* ends although nobody wakes the batcher then */
    stalled->is_read = false;
    hub_wait_ended(&hub, 2);
    assert_int_equal(generation_progress(late->generation).finish, FINISH_DEADLINE);
    assert_int_equal(generation_progress(late->generation).token_count, 0);
    assert_int_equal(generation_progress(stalled->generation).finish, FINISH_DEADLINE);
    assert_true(clock_now_ms() > options.deadline_ms);
    assert_true(stalled->report_count > 0);
    hub_release(&hub);
    served_release(&served);
}

static void test_stop_strings_end_rows(void **state)
{
    (void)state;
    static const char *const stop[] = {"\"", "#"};
    static const size_t lengths[] = {1, 1};
    struct served served;
    served_init(&served, decode_model_characters(6), 0, 1, 8, NULL);
    struct hub hub;
    hub_init(&hub, 2, 50);
    for (size_t n = 0; n < 50; n++) {
        must_submit(&hub, &served,
                    (struct generation_options){.tokens_max = 500,
                                                .temperature = 2.0,
                                                .seed = n,
                                                .stop = stop,
                                                .stop_lengths = lengths,
                                                .stop_count = 2});
    }
    hub_wait_ended(&hub, 50);
    for (size_t n = 0; n < 50; n++) {
        assert_int_equal(generation_progress(hub.rows[n].generation).finish, FINISH_STOP);
        assert_int_equal(generation_progress(hub.rows[n].generation).token_count, hub.rows[n].length + 1);
        assert_null(memchr(hub.rows[n].text, '"', hub.rows[n].length));
        assert_null(memchr(hub.rows[n].text, '#', hub.rows[n].length));
    }
    hub_release(&hub);
    served_release(&served);
}

static void test_byte_models_make_valid_text(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(vocabulary_create_bytes(&vocabulary, &error), STATUS_OK);
    struct served served;
    served_init(&served, vocabulary, 0, 1, 8, NULL);
    struct hub hub;
    hub_init(&hub, 2, 20);
    for (size_t n = 0; n < 20; n++) {
        must_submit(&hub, &served, (struct generation_options){.tokens_max = 1000, .temperature = 5.0, .seed = n});
    }
    hub_wait_ended(&hub, 20);
    for (size_t n = 0; n < 20; n++) {
        assert_true(hub.rows[n].length > 500);
        assert_int_equal(utf8_find_malformed(hub.rows[n].text, hub.rows[n].length), hub.rows[n].length);
    }
    hub_release(&hub);
    served_release(&served);
}

static void test_a_broken_model_fails_alone(void **state)
{
    (void)state;
    struct served broken;
    struct served good;
    struct error error;
    served_init(&good, decode_model_characters(30), 0, 1, 8, NULL);
    decode_model_init(&broken.model, decode_model_characters(30), 0, 1, 8, SEED);
    broken.model.values[3 * 32] = INFINITY; /* layer 0's kernel, gate i of unit 0 after symbol 3 */
    broken.model.values[3 * 32 + 8] = NAN;  /* gate j */
    assert_int_equal(decode_plan_create(&broken.model.weights, &broken.plan, &error), STATUS_OK);
    struct hub hub;
    hub_init(&hub, 2, 10);
    struct row *fails = must_submit(
        &hub, &broken, (struct generation_options){.prompt = (uint32_t[]){1, 3}, .prompt_count = 2, .tokens_max = 5});
    struct row *goes_on = must_submit(&hub, &good, (struct generation_options){.tokens_max = 50});
    hub_wait_ended(&hub, 2);
    assert_int_equal(generation_progress(fails->generation).finish, FINISH_FAILED);
    generation_failure(fails->generation, &error);
    assert_string_equal(error.code, "not_finite");
    assert_int_equal(generation_progress(goes_on->generation).finish, FINISH_LENGTH);
    hub_release(&hub);
    served_release(&broken);
    served_release(&good);
}

static void test_destroy_ends_everything(void **state)
{
    (void)state;
    struct served served;
    served_init(&served, decode_model_characters(30), 0, 1, 8, NULL);
    for (size_t count = 0; count < ROWS_MAX; count += 233) {
        struct hub hub;
        hub_init(&hub, 2, ROWS_MAX);
        for (size_t n = 0; n < count; n++) {
            must_submit(&hub, &served, (struct generation_options){.tokens_max = GENERATION_TOKENS_MAX, .seed = n});
        }
        hub_release(&hub); /* counts the ends */
    }
    struct batcher_options options = {.threads = 2, .queue_max = 3}; /* nobody listens */
    struct batcher *batcher;
    struct error error;
    assert_int_equal(batcher_create(&options, &batcher, &error), STATUS_OK);
    struct generation *generation;
    struct generation_options wanted = {.prompt = (uint32_t[]){1}, .prompt_count = 1, .tokens_max = 9999};
    assert_int_equal(generation_create(served.plan, served.model.vocabulary, &wanted, NULL, NULL, &generation, &error),
                     STATUS_OK);
    assert_int_equal(batcher_submit(batcher, generation, &error), STATUS_OK);
    batcher_destroy(batcher);
    assert_int_equal(generation_progress(generation).finish, FINISH_CANCELLED);
    generation_unref(generation);
    batcher_destroy(NULL);
    served_release(&served);
}

/* What a step's end is asked for: whether a place is free as soon as its generation is seen to have ended. */
struct watch {
    struct batcher *_Atomic batcher;
    struct generation *generation;
    atomic_int seen; /* 1: it was free, 2: it was not */
};

static void on_step(void *context)
{
    struct watch *watch = context;
    struct error error;
    if (atomic_load(&watch->seen) == 0 && generation_progress(watch->generation).finish != FINISH_NONE) {
        atomic_store(&watch->seen, batcher_check_room(watch->batcher, 1, &error) == STATUS_OK ? 1 : 2);
    }
}

static void test_the_place_of_what_has_ended_is_free(void **state)
{
    (void)state;
    struct served served;
    struct error error;
    struct watch watch = {.seen = 0};
    struct batcher_options options = {.threads = 1, .queue_max = 1, .on_step = on_step, .context = &watch};
    struct generation_options wanted = {.prompt = (uint32_t[]){1}, .prompt_count = 1, .tokens_max = 3};
    struct batcher *batcher;
    served_init(&served, decode_model_characters(30), 0, 1, 8, NULL);
    assert_int_equal(
        generation_create(served.plan, served.model.vocabulary, &wanted, NULL, NULL, &watch.generation, &error),
        STATUS_OK);
    assert_int_equal(batcher_create(&options, &batcher, &error), STATUS_OK);
    atomic_store(&watch.batcher, batcher);
    assert_int_equal(batcher_submit(batcher, watch.generation, &error), STATUS_OK);
    while (atomic_load(&watch.seen) == 0) {
        sched_yield();
    }
    assert_int_equal(atomic_load(&watch.seen), 1);
    batcher_destroy(batcher);
    generation_unref(watch.generation);
    served_release(&served);
}

enum { CALL_THAT_HANGS = 100 };

/* Of those who are told, one hangs; the others read what there is. */
struct hanging {
    atomic_int call_count;
    atomic_bool is_released;
    pthread_mutex_t reading;
};

static void hang_once(void *context, struct generation **generations, size_t count)
{
    struct hanging *hanging = context;
    bool hangs = atomic_fetch_add(&hanging->call_count, 1) == CALL_THAT_HANGS;
    while (hangs && !atomic_load(&hanging->is_released)) {
        sched_yield();
    }
    pthread_mutex_lock(&hanging->reading);
    for (size_t i = 0; i < count; i++) {
        char bytes[GENERATION_RING_BYTES];
        while (!hangs && generation_read(generations[i], bytes, sizeof bytes) > 0) {
        }
        generation_unref(generations[i]);
    }
    pthread_mutex_unlock(&hanging->reading);
}

/* Whoever hangs is noticed, whether the other thread waits for it or goes on with rows of its own. */
static void test_a_thread_that_hangs_is_noticed(void **state)
{
    (void)state;
    enum { ROWS = 30, STALL_MS = 200, WAIT_MS = 20000 };
    struct served served;
    struct error error;
    struct hanging hanging = {.reading = PTHREAD_MUTEX_INITIALIZER};
    struct generation *rows[ROWS];
    struct batcher *batcher;
    struct batcher_options options = {.threads = 2, .queue_max = ROWS, .on_progress = hang_once, .context = &hanging};
    struct generation_options wanted = {.prompt = (uint32_t[]){1},
                                        .prompt_count = 1,
                                        .tokens_max = GENERATION_TOKENS_MAX,
                                        .temperature = 1,
                                        .top_p = 1};
    served_init(&served, decode_model_characters(80), 30, 1, 64, NULL);
    assert_int_equal(batcher_create(&options, &batcher, &error), STATUS_OK);
    for (size_t i = 0; i < ROWS; i++) {
        assert_int_equal(generation_create(served.plan, served.model.vocabulary, &wanted, NULL, NULL, &rows[i], &error),
                         STATUS_OK);
        assert_int_equal(batcher_submit(batcher, rows[i], &error), STATUS_OK);
    }
    uint64_t until_ms = clock_now_ms() + WAIT_MS;
    bool is_alive = true;
    while (is_alive && clock_now_ms() < until_ms) {
        is_alive = batcher_is_alive(batcher, STALL_MS) || atomic_load(&hanging.call_count) <= CALL_THAT_HANGS;
        sched_yield();
    }
    atomic_store(&hanging.is_released, true);
    batcher_destroy(batcher);
    assert_false(is_alive);
    for (size_t i = 0; i < ROWS; i++) {
        generation_unref(rows[i]);
    }
    served_release(&served);
}

static void test_an_idle_batcher_is_alive(void **state)
{
    (void)state;
    struct hub hub;
    hub_init(&hub, 0, 1);
    struct batcher_counters counters = batcher_counters(hub.batcher);
    assert_int_equal(counters.steps + counters.running + counters.waiting, 0);
    assert_true(batcher_is_alive(hub.batcher, 60000));
    hub_release(&hub);
}

static void test_wrong_options_and_no_memory(void **state)
{
    (void)state;
    struct batcher *batcher;
    struct error error;
    struct batcher_options options = {.threads = 1};
    assert_int_equal(batcher_create(&options, &batcher, &error), STATUS_INVALID);
    options = (struct batcher_options){.threads = BATCHER_THREADS_MAX + 1, .queue_max = 1};
    assert_int_equal(batcher_create(&options, &batcher, &error), STATUS_INVALID);
    options.threads = 2;
    for (uint64_t n = 0; n < 4; n++) {
        mem_fail_after(n);
        assert_int_equal(batcher_create(&options, &batcher, &error), STATUS_NO_MEMORY);
    }
    mem_fail_after(UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_do_not_depend_on_anything),
        cmocka_unit_test(test_rows_of_other_cells_do_not_depend_on_anything),
        cmocka_unit_test(test_rows_with_residual_connections_do_not_depend_on_anything),
        cmocka_unit_test(test_shared_phases_change_nothing),
        cmocka_unit_test(test_threads_step_their_own_rows_where_there_are_enough),
        cmocka_unit_test(test_more_rows_than_a_step_takes),
        cmocka_unit_test(test_large_vocabularies_come_in_chunks),
        cmocka_unit_test(test_models_take_turns),
        cmocka_unit_test(test_more_models_than_places),
        cmocka_unit_test(test_a_slow_reader_pauses_its_own_row_only),
        cmocka_unit_test(test_a_text_read_whole_is_reported_seldom),
        cmocka_unit_test(test_queue_has_its_maximum),
        cmocka_unit_test(test_cancel_while_running),
        cmocka_unit_test(test_deadlines_end_rows_by_themselves),
        cmocka_unit_test(test_stop_strings_end_rows),
        cmocka_unit_test(test_byte_models_make_valid_text),
        cmocka_unit_test(test_a_broken_model_fails_alone),
        cmocka_unit_test(test_destroy_ends_everything),
        cmocka_unit_test(test_the_place_of_what_has_ended_is_free),
        cmocka_unit_test(test_a_thread_that_hangs_is_noticed),
        cmocka_unit_test(test_an_idle_batcher_is_alive),
        cmocka_unit_test(test_wrong_options_and_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
