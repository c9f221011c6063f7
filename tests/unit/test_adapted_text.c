/* Texts that adapt: they predict and learn as an adaptation that reads the same symbols does, from prompts alone; what
 * they learned is theirs, goes on elsewhere, and fits nothing else. */
#include <math.h>
#include <stdlib.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/graph/session.h"
#include "engine/math/gemm.h"
#include "engine/model/adapted_text.h"
#include "engine/model/model.h"
#include "tests/unit/text_vocabulary.h"
#include "tests/unit/training_rig.h"

enum { SYMBOLS = 7, LENGTH = 207, FIRST = 111, ALLOCATIONS_MAX = 100000 };

static const struct text_origin origin = {.model = "parrot@1"};

static struct served_graph *graph;
static struct vocabulary *vocabulary;
static uint32_t symbols[LENGTH]; /* the same over and over, with a slip here and there */

static struct served_graph *open_program(const char *text)
{
    char path[128];
    uint64_t version = 0;
    json_t *reply = NULL;
    struct model *model = NULL;
    struct served_graph *opened = NULL;
    struct error error;
    json_t *program = json_loads(text, 0, NULL);
    json_t *init = json_pack("{s:[s]}", "targets", "init");
    assert_ok(model_create("parrot", &model, &error), error);
    assert_ok(model_build(model, program, NULL, &reply, &error), error);
    json_decref(reply);
    assert_ok(model_run(model, init, &reply, &error), error);
    json_decref(reply);
    assert_ok(model_save(model, directory, NULL, NULL, &version, &error), error);
    snprintf(path, sizeof path, "%s/%llu", directory, (unsigned long long)version);
    assert_ok(served_graph_open(path, &opened, &error), error);
    model_unref(model);
    json_decref(program);
    json_decref(init);
    return opened;
}

static int start(void **state)
{
    (void)state;
    struct error error;
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    if (!make_temporary("lstmd-test-adapted")) {
        return 1;
    }
    graph = open_program("{\"program\":[{\"op\":\"language_model\",\"cell\":\"lstm\",\"layers\":2,\"units\":12,"
                         "\"vocabulary\":{\"symbols\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\"]},"
                         "\"heads\":[\"train\",\"predict\"]},"
                         "{\"op\":\"global_variables_initializer\",\"as\":\"init\"}]}");
    for (uint32_t i = 0; i < LENGTH; i++) {
        uint32_t word = rng_philox(1, 0, i).word[0];
        symbols[i] = (word % 20 == 0 ? word / 20 : i) % SYMBOLS;
    }
    return text_vocabulary("abcdefg", SYMBOLS, &vocabulary, &error) != STATUS_OK;
}

static int end(void **state)
{
    served_graph_unref(graph);
    vocabulary_unref(vocabulary);
    return remove_directory(state);
}

/* ---- requests ---- */

struct request {
    enum adaptation_weights weights;
    struct adapted_weights *learned; /* before, and then behind it; owned */
    struct text_state *state;        /* likewise */
    size_t begin, count;             /* of the symbols: the prompt */
    size_t tokens_max;
    bool is_cancelled;
    double nats; /* of the prompt */
    size_t news_count;
    char text[GENERATION_RING_BYTES];
};

static void on_progress(void *context, struct generation **generations, size_t count)
{
    assert_int_equal(count, 1);
    ++*(size_t *)context;
    generation_unref(generations[0]);
}

static void make(struct request *request, struct adapted_text *text, struct generation **ret_generation)
{
    struct error error;
    struct generation_options options = {.prompt = symbols + request->begin,
                                         .prompt_count = request->count,
                                         .state = request->state,
                                         .origin = &origin,
                                         .tokens_max = request->tokens_max,
                                         .temperature = 1,
                                         .top_p = 1,
                                         .seed = 4,
                                         .want_state = true,
                                         .want_prompt_logprobs = true};
    size_t carried = request->state == NULL ? 0 : text_state_head(request->state)->pending_count;
    assert_ok(generation_create(adapted_text_plan(text), vocabulary, &options, NULL, NULL, ret_generation, &error),
              error);
    adapted_text_begin(text, carried + request->count, carried);
}

/* Makes the text, slice by slice, and takes what it leaves. */
static void run(struct request *request)
{
    const struct adapted_text_options options = {
        .weights = request->weights, .from = request->learned, .kind = VOCABULARY_CHARACTERS, .symbol_count = SYMBOLS};
    struct adapted_text *text = NULL;
    struct generation *generation = NULL;
    struct error error;
    size_t carried = request->state == NULL ? 0 : text_state_head(request->state)->pending_count;
    assert_ok(adapted_text_create(graph, &options, &text, &error), error);
    make(request, text, &generation);
    if (request->is_cancelled) {
        assert_int_equal(adapted_text_run(text, generation, 0, on_progress, &request->news_count),
                         ADAPTED_TEXT_GOES_ON);
        generation_cancel(generation);
    }
    while (adapted_text_run(text, generation, 1, on_progress, &request->news_count) != ADAPTED_TEXT_ENDED) {
    }
    assert_true(request->news_count > 0);
    const float *logprobs = generation_prompt_logprobs(generation);
    for (size_t i = carried == 0 ? 1 : carried; !request->is_cancelled && i < carried + request->count; i++) {
        request->nats -= (double)logprobs[i];
    }
    request->text[generation_read(generation, request->text, sizeof request->text - 1)] = '\0';
    adapted_weights_unref(request->learned);
    text_state_unref(request->state);
    request->state = NULL;
    request->learned = adapted_weights_ref(adapted_text_weights(text));
    assert_int_equal(request->learned == NULL, request->is_cancelled);
    if (!request->is_cancelled) {
        assert_int_equal(adapted_weights_bytes(request->learned), adapted_text_weights_bytes(text));
    }
    assert_ok(generation_make_state(generation, SIZE_MAX, &request->state, &error), error);
    generation_unref(generation);
    adapted_text_destroy(text);
}

static void release(struct request *request)
{
    adapted_weights_unref(request->learned);
    text_state_unref(request->state);
}

static bool is_same(const struct adapted_weights *a, const struct adapted_weights *b)
{
    return adapted_weights_bytes(a) == adapted_weights_bytes(b) &&
           memcmp(adapted_weights_content(a), adapted_weights_content(b), adapted_weights_bytes(a)) == 0;
}

/* ---- tests ---- */

/* In two requests that make nothing, too: the second's first segment begins where the first one ended. */
static void test_it_reads_as_an_adaptation_does(void **state)
{
    (void)state;
    for (int weights = 0; weights < ADAPTATION_WEIGHTS_COUNT; weights++) {
        const struct session *session = served_graph_session(graph);
        struct adaptation_options options =
            adaptation_defaults((enum adaptation_weights)weights, VOCABULARY_CHARACTERS);
        struct adaptation *adaptation = NULL;
        struct error error;
        double nats[2] = {0, 0};
        assert_ok(adaptation_create(session_graph(session), session_values(session), &options, &adaptation, &error),
                  error);
        assert_ok(adaptation_read(adaptation, symbols, FIRST, &nats[0], &error), error);
        assert_ok(adaptation_read(adaptation, symbols + FIRST, LENGTH - FIRST, &nats[1], &error), error);
        adaptation_destroy(adaptation);
        struct request request = {.weights = (enum adaptation_weights)weights, .count = FIRST};
        run(&request);
        assert_true(fabs(request.nats - nats[0]) < 1e-4 * nats[0]);
        request.nats = 0;
        request.begin = FIRST;
        request.count = LENGTH - FIRST;
        run(&request);
        assert_true(fabs(request.nats - nats[1]) < 1e-4 * nats[1]);
        release(&request);
    }
}

/* What was learned of a text, and then how well it is predicted again. */
static void test_it_learns(void **state)
{
    (void)state;
    for (int weights = 0; weights < ADAPTATION_WEIGHTS_COUNT; weights++) {
        struct request request = {.weights = (enum adaptation_weights)weights, .count = LENGTH};
        double before = HUGE_VAL;
        for (int round = 0; round < 3; round++) {
            request.nats = 0;
            run(&request);
            double mean = request.nats / (round == 0 ? LENGTH - 1 : LENGTH); /* the very first is not predicted */
            assert_true(mean < before);
            before = mean;
        }
        release(&request);
    }
}

static void test_what_it_makes_teaches_nothing(void **state)
{
    (void)state;
    struct request silent = {.count = FIRST};
    struct request telling = {.count = FIRST, .tokens_max = 60};
    run(&silent);
    run(&telling);
    assert_int_equal(strlen(telling.text), 60);
    assert_true(is_same(silent.learned, telling.learned));
    struct adapted_weights *learned = adapted_weights_ref(telling.learned);
    telling.count = 0;
    run(&telling);
    assert_ptr_equal(telling.learned, learned); /* not even a copy */
    adapted_weights_unref(learned);
    release(&silent);
    release(&telling);
}

static void test_same_histories_are_the_same(void **state)
{
    (void)state;
    struct request requests[2] = {{.weights = ADAPTATION_ALL}, {.weights = ADAPTATION_ALL}};
    for (size_t piece = 0; piece < 4; piece++) {
        for (size_t i = 0; i < 2; i++) {
            requests[i].begin = piece * 50;
            requests[i].count = 50 - piece;
            requests[i].tokens_max = 20;
            run(&requests[i]);
        }
        assert_string_equal(requests[0].text, requests[1].text);
        assert_true(is_same(requests[0].learned, requests[1].learned));
    }
    /* out of the process and back */
    struct adapted_weights *read = NULL;
    struct error error;
    assert_ok(adapted_weights_read(adapted_weights_content(requests[1].learned),
                                   adapted_weights_bytes(requests[1].learned), &read, &error),
              error);
    adapted_weights_unref(requests[1].learned);
    requests[1].learned = read;
    run(&requests[0]);
    run(&requests[1]);
    assert_string_equal(requests[0].text, requests[1].text);
    assert_true(is_same(requests[0].learned, requests[1].learned));
    release(&requests[0]);
    release(&requests[1]);
}

static void test_a_prompt_that_was_not_read_leaves_nothing(void **state)
{
    (void)state;
    struct request request = {.count = LENGTH, .is_cancelled = true};
    run(&request);
    assert_null(request.learned);
    release(&request);
}

static void refuse_read(const void *bytes, size_t length, enum status status, const char *code)
{
    struct adapted_weights *read = NULL;
    struct error error;
    assert_int_equal(adapted_weights_read(bytes, length, &read, &error), status);
    assert_string_equal(error.code, code);
    assert_null(read);
}

static void refuse_text(struct served_graph *served, const struct adapted_text_options *options, const char *code)
{
    struct adapted_text *text = NULL;
    struct error error;
    assert_int_equal(adapted_text_create(served, options, &text, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.code, code);
    assert_null(text);
}

static void test_what_does_not_fit(void **state)
{
    (void)state;
    struct request request = {.weights = ADAPTATION_OUTPUT, .count = FIRST};
    struct adapted_weights *shorter = NULL;
    struct error error;
    run(&request);
    const char *content = adapted_weights_content(request.learned);
    size_t length = adapted_weights_bytes(request.learned);
    struct adapted_text_options options = {
        .weights = ADAPTATION_ALL, .from = request.learned, .kind = VOCABULARY_CHARACTERS, .symbol_count = SYMBOLS};
    refuse_text(graph, &options, "adapted_mismatch");
    assert_ok(adapted_weights_read(content, length - 4, &shorter, &error), error);
    options.weights = ADAPTATION_OUTPUT;
    options.from = shorter;
    refuse_text(graph, &options, "adapted_mismatch");
    adapted_weights_unref(shorter);
    const uint32_t newer[] = {2, 0}, strange[] = {1, ADAPTATION_WEIGHTS_COUNT}, none[] = {0, 0};
    refuse_read(newer, sizeof newer, STATUS_UNSUPPORTED, "newer_format");
    refuse_read(strange, sizeof strange, STATUS_INVALID, "adapted_malformed");
    refuse_read(none, sizeof none, STATUS_INVALID, "adapted_malformed");
    refuse_read(content, 7, STATUS_INVALID, "adapted_malformed");
    release(&request);
}

/* No language model, and one whose text another signature makes. */
static void test_graphs_that_cannot(void **state)
{
    (void)state;
    struct adapted_text_options options = {.kind = VOCABULARY_CHARACTERS, .symbol_count = SYMBOLS};
    struct served_graph *plain = open_program("{\"program\":[{\"op\":\"variable\",\"initial_value\":[1.0]},"
                                              "{\"op\":\"global_variables_initializer\",\"as\":\"init\"}]}");
    refuse_text(plain, &options, "no_language_model");
    served_graph_unref(plain);
    struct served_graph *signed_one =
        open_program("{\"program\":[{\"op\":\"language_model\",\"cell\":\"rnn\",\"layers\":1,\"units\":3,"
                     "\"vocabulary\":{\"symbols\":[\"a\",\"b\"]},\"heads\":[\"predict\"]},"
                     "{\"op\":\"signature\",\"name\":\"generate\",\"inputs\":{\"symbol\":\"predict/inputs:0\","
                     "\"state\":\"predict/initial_state/0:0\"},\"outputs\":{\"logits\":\"predict/logits:0\","
                     "\"state\":\"predict/final_state/0:0\"},\"vocabulary\":{\"symbols\":[\"a\",\"b\"]}},"
                     "{\"op\":\"global_variables_initializer\",\"as\":\"init\"}]}");
    options.symbol_count = 2;
    refuse_text(signed_one, &options, "cannot_adapt");
    served_graph_unref(signed_one);
}

static void test_without_memory(void **state)
{
    (void)state;
    struct request request = {.count = FIRST};
    run(&request);
    struct adapted_text_options options = {
        .from = request.learned, .kind = VOCABULARY_CHARACTERS, .symbol_count = SYMBOLS};
    struct adapted_text *text = NULL;
    struct error error;
    enum status status = STATUS_NO_MEMORY;
    size_t failures = 0;
    while (status != STATUS_OK && failures < ALLOCATIONS_MAX) {
        mem_fail_after(failures++);
        status = adapted_text_create(graph, &options, &text, &error);
        mem_fail_after(UINT64_MAX);
        if (status != STATUS_OK && status != STATUS_NO_MEMORY) {
            fail_msg("allocation %zu: %s", failures, error.message);
        }
    }
    assert_int_equal(status, STATUS_OK);
    assert_true(failures > 10);
    adapted_text_destroy(text);
    release(&request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_reads_as_an_adaptation_does),
        cmocka_unit_test(test_it_learns),
        cmocka_unit_test(test_what_it_makes_teaches_nothing),
        cmocka_unit_test(test_same_histories_are_the_same),
        cmocka_unit_test(test_a_prompt_that_was_not_read_leaves_nothing),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_graphs_that_cannot),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, start, end);
}
