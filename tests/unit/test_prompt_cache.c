/* Prompts that begin alike: what the cache gives is what reading would have computed, for whoever may find it, within
 * its bytes, from several threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/decode/decode_batch.h"
#include "engine/decode/generation.h"
#include "tests/unit/decode_model.h"

enum { SEED = 41, SYMBOLS = 50, PROMPT_MAX = 5 * PROMPT_CACHE_CHUNK, TOKENS = 40, THREADS = 4, ROUNDS = 60 };

static const struct text_origin origin = {.model = "test@1", .digest = {1}};

struct rig {
    struct decode_model model;
    struct decode_plan *plan;
    struct prompt_cache *cache;
    uint32_t prompt[PROMPT_MAX];
};

static void rig_init(struct rig *rig, enum decode_cell cell, enum rnn_precision precision, size_t bytes_max)
{
    struct error error;
    *rig = (struct rig){0};
    decode_model_init_cells(&rig->model, decode_model_characters(SYMBOLS), cell, 0, 2, 17, SEED);
    rig->model.weights.precision = precision;
    assert_int_equal(decode_plan_create(&rig->model.weights, &rig->plan, &error), STATUS_OK);
    assert_int_equal(prompt_cache_create(bytes_max, &rig->cache, &error), STATUS_OK);
    for (size_t i = 0; i < PROMPT_MAX; i++) {
        rig->prompt[i] = rng_philox(SEED, 0, i).word[0] % SYMBOLS;
    }
}

static void rig_release(struct rig *rig)
{
    prompt_cache_destroy(rig->cache);
    decode_plan_destroy(rig->plan);
    decode_model_release(&rig->model);
}

static struct generation *create(const struct rig *rig, struct prompt_cache *cache, const char *owner,
                                 const uint32_t *prompt, size_t prompt_count, uint64_t choice)
{
    struct generation *generation = NULL;
    struct generation_options options = {.prompt = prompt,
                                         .prompt_count = prompt_count,
                                         .tokens_max = TOKENS,
                                         .temperature = 1,
                                         .top_p = 1,
                                         .seed = 8,
                                         .choice = choice,
                                         .penalties = {.repetition = 1.3, .repetition_window = 100},
                                         .want_state = true,
                                         .origin = &origin,
                                         .cache = cache,
                                         .cache_owner = owner};
    assert_int_equal(generation_create(rig->plan, rig->model.vocabulary, &options, NULL, NULL, &generation, NULL),
                     STATUS_OK);
    return generation;
}

/* To their ends; returns how many steps that took. */
static size_t run(const struct rig *rig, struct generation *const *generations, size_t count)
{
    struct decode_batch *batch = NULL;
    assert_int_equal(decode_batch_create(&batch, NULL), STATUS_OK);
    size_t steps = 0;
    while (decode_batch_run(batch, rig->plan, generations, count)) {
        steps++;
    }
    decode_batch_destroy(batch);
    return steps;
}

/* Makes the text behind a prompt; returns how many of its symbols were found in the cache. */
static size_t make_text(const struct rig *rig, struct prompt_cache *cache, const char *owner, const uint32_t *prompt,
                        size_t prompt_count, char text[TOKENS + 1])
{
    struct generation *generation = create(rig, cache, owner, prompt, prompt_count, 0);
    size_t steps = run(rig, &generation, 1);
    assert_int_equal(generation_read(generation, text, TOKENS + 1), TOKENS);
    struct generation_progress progress = generation_progress(generation);
    assert_int_equal(progress.prompt_count, prompt_count);
    assert_int_equal(steps, prompt_count - progress.cached_count + TOKENS - 1);
    generation_unref(generation);
    return progress.cached_count;
}

static void check_same(const struct rig *rig, const uint32_t *prompt, size_t prompt_count, size_t wanted)
{
    char with[TOKENS + 1], without[TOKENS + 1];
    make_text(rig, NULL, NULL, prompt, prompt_count, without);
    assert_int_equal(make_text(rig, rig->cache, "ann", prompt, prompt_count, with), wanted);
    assert_memory_equal(with, without, TOKENS);
}

static void test_a_shared_beginning_is_read_once(void **state)
{
    (void)state;
    static const enum decode_cell cells[] = {DECODE_CELL_LSTM, DECODE_CELL_GRU, DECODE_CELL_RNN};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        for (int precision = 0; precision < RNN_PRECISION_COUNT; precision++) {
            struct rig rig;
            rig_init(&rig, cells[i], (enum rnn_precision)precision, 1 << 20);
            check_same(&rig, rig.prompt, 3 * PROMPT_CACHE_CHUNK, 0);
            check_same(&rig, rig.prompt, 3 * PROMPT_CACHE_CHUNK, 2 * PROMPT_CACHE_CHUNK);
            check_same(&rig, rig.prompt, 3 * PROMPT_CACHE_CHUNK, 3 * PROMPT_CACHE_CHUNK - 1); /* its end, seen twice */
            check_same(&rig, rig.prompt, 3 * PROMPT_CACHE_CHUNK + 1, 3 * PROMPT_CACHE_CHUNK); /* one left to be read */
            check_same(&rig, rig.prompt, PROMPT_MAX, 3 * PROMPT_CACHE_CHUNK);
            check_same(&rig, rig.prompt, PROMPT_CACHE_CHUNK, 0);
            rig.prompt[2 * PROMPT_CACHE_CHUNK - 1] = (rig.prompt[2 * PROMPT_CACHE_CHUNK - 1] + 1) % SYMBOLS;
            check_same(&rig, rig.prompt, PROMPT_MAX, PROMPT_CACHE_CHUNK);
            rig_release(&rig);
        }
    }
}

/* What a text leaves for whoever goes on from it: [text_state_bytes] from mem_allocate. */
static void *make_state(const struct rig *rig, struct prompt_cache *cache, size_t prompt_count, size_t *ret_bytes)
{
    struct text_state *state = NULL;
    struct generation *generation = create(rig, cache, "ann", rig->prompt, prompt_count, 0);
    run(rig, &generation, 1);
    /* nothing of the text was sent: the state at the prompt's end, kept when its last symbol was next */
    assert_int_equal(generation_make_state(generation, 0, &state, NULL), STATUS_OK);
    *ret_bytes = text_state_bytes(state);
    void *bytes = mem_allocate(*ret_bytes, 1);
    text_state_write(state, bytes);
    text_state_unref(state);
    generation_unref(generation);
    return bytes;
}

static void test_states_are_the_same_with_it(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, DECODE_CELL_GRU, RNN_PRECISION_FP32, 1 << 20);
    for (size_t count = 1; count <= 3 * PROMPT_CACHE_CHUNK; count += 13) {
        size_t wanted_bytes;
        void *wanted = make_state(&rig, NULL, count, &wanted_bytes);
        for (int time = 0; time < 3; time++) {
            size_t bytes;
            void *given = make_state(&rig, rig.cache, count, &bytes);
            assert_int_equal(bytes, wanted_bytes);
            assert_memory_equal(given, wanted, bytes);
            mem_free(given);
        }
        mem_free(wanted);
    }
    assert_true(prompt_cache_counters(rig.cache).symbols_found > 0);
    rig_release(&rig);
}

/* Both begin before either has read anything. */
static void test_two_texts_of_a_request_are_one_time(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, DECODE_CELL_LSTM, RNN_PRECISION_FP32, 1 << 20);
    for (size_t time = 0; time < 2; time++) {
        struct generation *texts[2];
        for (size_t i = 0; i < 2; i++) {
            texts[i] = create(&rig, rig.cache, "ann", rig.prompt, 4, i);
        }
        run(&rig, texts, 2);
        assert_int_equal(prompt_cache_counters(rig.cache).count, time);
        generation_unref(texts[0]);
        generation_unref(texts[1]);
    }
    check_same(&rig, rig.prompt, 4, 3);
    rig_release(&rig);
}

/* However short; one that does not come again takes no room. */
static void test_a_prompt_that_comes_again_is_found_from_the_third_time_on(void **state)
{
    (void)state;
    char text[TOKENS + 1];
    for (int precision = 0; precision < RNN_PRECISION_COUNT; precision++) {
        struct rig rig;
        rig_init(&rig, DECODE_CELL_LSTM, (enum rnn_precision)precision, 1 << 20);
        for (size_t count = 2; count <= 4; count++) {
            check_same(&rig, rig.prompt, count, 0);
            check_same(&rig, rig.prompt, count, 0);
            check_same(&rig, rig.prompt, count, count - 1);
            check_same(&rig, rig.prompt, count, count - 1);
            assert_int_equal(prompt_cache_counters(rig.cache).count, count - 1);
            assert_int_equal(make_text(&rig, rig.cache, "bob", rig.prompt, count, text), 0);
        }
        for (uint32_t other = 0; other < 6 * SYMBOLS; other++) {
            const uint32_t once[] = {other / SYMBOLS, other % SYMBOLS, (rig.prompt[2] + 1) % SYMBOLS, 0};
            assert_int_equal(make_text(&rig, rig.cache, "cid", once, 4, text), 0);
        }
        assert_int_equal(prompt_cache_counters(rig.cache).count, 3);
        check_same(&rig, rig.prompt, 1, 0); /* nothing stands before its last symbol */
        assert_int_equal(prompt_cache_counters(rig.cache).count, 3);
        rig_release(&rig);
    }
}

static void test_it_is_each_owners_and_models_own(void **state)
{
    (void)state;
    char text[TOKENS + 1];
    struct rig rig;
    rig_init(&rig, DECODE_CELL_LSTM, RNN_PRECISION_FP32, 1 << 20);
    assert_int_equal(make_text(&rig, rig.cache, "ann", rig.prompt, 200, text), 0);
    assert_int_equal(make_text(&rig, rig.cache, "bob", rig.prompt, 200, text), 0);
    assert_int_equal(make_text(&rig, rig.cache, "", rig.prompt, 200, text), 0);
    assert_int_equal(make_text(&rig, rig.cache, "bob", rig.prompt, 200, text), 192);
    struct text_origin other = origin;
    struct prompt_border border;
    float *slot = mem_allocate_aligned(rig.plan->slot_floats, sizeof *slot);
    assert_true(prompt_cache_load(rig.cache, rig.plan, &origin, "ann", rig.prompt, 200, slot, &border));
    other.digest[31] = 1;
    assert_false(prompt_cache_load(rig.cache, rig.plan, &other, "ann", rig.prompt, 200, slot, &border));
    struct rnn_steps steps = *rig.plan->output.steps;
    struct decode_plan renamed = *rig.plan;
    steps.name = "others";
    renamed.output.steps = &steps;
    assert_false(prompt_cache_load(rig.cache, &renamed, &origin, "ann", rig.prompt, 200, slot, &border));
    mem_free(slot);
    assert_int_equal(prompt_cache_counters(rig.cache).count, 10);
    rig_release(&rig);
}

/* Precisions of the same weights give other states of the same size. */
static void test_it_is_each_precisions_own(void **state)
{
    (void)state;
    char text[TOKENS + 1];
    struct rig rig;
    rig_init(&rig, DECODE_CELL_LSTM, RNN_PRECISION_FP32, 1 << 20);
    for (int precision = 0; precision < RNN_PRECISION_COUNT; precision++) {
        struct error error;
        struct rig other = rig;
        other.model.weights.precision = (enum rnn_precision)precision;
        assert_int_equal(decode_plan_create(&other.model.weights, &other.plan, &error), STATUS_OK);
        assert_int_equal(decode_plan_state_bytes(other.plan), decode_plan_state_bytes(rig.plan));
        assert_int_equal(make_text(&other, rig.cache, "ann", rig.prompt, 200, text), 0);
        assert_int_equal(make_text(&other, rig.cache, "ann", rig.prompt, 200, text), 192);
        decode_plan_destroy(other.plan);
    }
    rig_release(&rig);
}

static void test_the_oldest_go(void **state)
{
    (void)state;
    char text[TOKENS + 1];
    struct rig rig;
    rig_init(&rig, DECODE_CELL_LSTM, RNN_PRECISION_FP32, 4096);
    for (size_t round = 0; round < 50; round++) {
        rig.prompt[0] = (uint32_t)round % SYMBOLS;
        assert_int_equal(make_text(&rig, rig.cache, "", rig.prompt, 3 * PROMPT_CACHE_CHUNK + 1, text), 0);
        assert_int_equal(make_text(&rig, rig.cache, "", rig.prompt, 3 * PROMPT_CACHE_CHUNK + 1, text),
                         3 * PROMPT_CACHE_CHUNK);
        struct prompt_cache_counters counters = prompt_cache_counters(rig.cache);
        assert_true(counters.bytes <= 4096 && counters.count >= 3);
    }
    rig_release(&rig);
    rig_init(&rig, DECODE_CELL_LSTM, RNN_PRECISION_FP32, 10); /* no room for one */
    assert_int_equal(make_text(&rig, rig.cache, "", rig.prompt, 200, text), 0);
    assert_int_equal(make_text(&rig, rig.cache, "", rig.prompt, 200, text), 0);
    assert_int_equal(prompt_cache_counters(rig.cache).bytes, 0);
    rig_release(&rig);
}

struct worker {
    const struct rig *rig;
    uint64_t number;
    char texts[ROUNDS][TOKENS + 1];
};

/* Prompts of all lengths that leave the common beginning somewhere; cmocka is not for other threads. */
static size_t nth_prompt(const struct rig *rig, uint64_t number, uint32_t prompt[PROMPT_MAX])
{
    struct rng_words words = rng_philox(SEED, 1, number);
    size_t count = 1 + words.word[0] % PROMPT_MAX;
    memcpy(prompt, rig->prompt, count * sizeof *prompt);
    prompt[words.word[1] % count] = words.word[2] % SYMBOLS;
    return count;
}

static void *work(void *context)
{
    struct worker *worker = context;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint32_t prompt[PROMPT_MAX];
        size_t count = nth_prompt(worker->rig, worker->number * ROUNDS + round, prompt);
        make_text(worker->rig, worker->rig->cache, "", prompt, count, worker->texts[round]);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    static struct worker workers[THREADS];
    pthread_t threads[THREADS];
    struct rig rig;
    rig_init(&rig, DECODE_CELL_GRU, RNN_PRECISION_FP32, 6000);
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.rig = &rig, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (size_t i = 0; i < THREADS * ROUNDS; i++) {
        uint32_t prompt[PROMPT_MAX];
        char text[TOKENS + 1];
        size_t count = nth_prompt(&rig, i, prompt);
        make_text(&rig, NULL, NULL, prompt, count, text);
        assert_memory_equal(workers[i / ROUNDS].texts[i % ROUNDS], text, TOKENS);
    }
    assert_true(prompt_cache_counters(rig.cache).symbols_found > 0);
    rig_release(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_shared_beginning_is_read_once),
        cmocka_unit_test(test_a_prompt_that_comes_again_is_found_from_the_third_time_on),
        cmocka_unit_test(test_states_are_the_same_with_it),
        cmocka_unit_test(test_two_texts_of_a_request_are_one_time),
        cmocka_unit_test(test_it_is_each_owners_and_models_own),
        cmocka_unit_test(test_it_is_each_precisions_own),
        cmocka_unit_test(test_the_oldest_go),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
