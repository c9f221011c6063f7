/* Dynamic evaluation: it predicts before it learns, gains on a text that repeats, learns what it was asked to and
 * nothing else, and leaves the weights it began with alone. */
#include <math.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/math/gemm.h"
#include "engine/train/adaptation.h"
#include "engine/train/shards.h"
#include "tests/unit/training_rig.h"

enum { SYMBOLS = 7, LENGTH = 1501, SEGMENT = 20 };

struct fixture {
    struct graph *graph;
    struct values *values;
    struct values *kept; /* as they were */
    uint32_t text[LENGTH];
};

static int start(void **state)
{
    (void)state;
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return 0;
}

static void setup(struct fixture *fixture, const struct language_model_options *more)
{
    struct language_model_options model = *more;
    struct error error;
    model.layers = 2;
    model.units = 12;
    model.initial_range = 0.8; /* states that tell symbols apart, as a trained model's do */
    model.vocabulary_size = SYMBOLS;
    model.has_predict_head = true; /* the other head is the adaptation's to add */
    *fixture = (struct fixture){.graph = NULL};
    assert_ok(graph_create(&fixture->graph, &error), error);
    assert_ok(language_model_build(fixture->graph, &model, &error), error);
    assert_ok(values_create(fixture->graph, &fixture->values, &error), error);
    assert_ok(values_initialize(fixture->values, fixture->graph, 3, &error), error);
    assert_ok(values_copy(fixture->values, &fixture->kept, &error), error);
    for (uint32_t i = 0; i < LENGTH; i++) { /* the same over and over, with a slip here and there */
        uint32_t word = rng_philox(1, 0, i).word[0];
        fixture->text[i] = (word % 20 == 0 ? word / 20 : i) % SYMBOLS;
    }
}

/* Nobody wrote the values. */
static void release(struct fixture *fixture)
{
    for (size_t i = 0; i < graph_variable_count(fixture->graph); i++) {
        const struct tensor *is = values_tensor(fixture->values, graph_variable(fixture->graph, i));
        const struct tensor *was = values_tensor(fixture->kept, graph_variable(fixture->graph, i));
        assert_memory_equal(is->data, was->data, tensor_bytes(was));
    }
    values_destroy(fixture->values);
    values_destroy(fixture->kept);
    graph_unref(fixture->graph);
}

static struct adaptation *begin(const struct fixture *fixture, enum adaptation_weights weights, double learning_rate)
{
    struct adaptation_options options = adaptation_defaults(weights, VOCABULARY_CHARACTERS);
    struct adaptation *adaptation = NULL;
    struct error error;
    assert_int_equal(options.segment_symbols, SEGMENT);
    options.learning_rate = learning_rate;
    assert_ok(adaptation_create(fixture->graph, fixture->values, &options, &adaptation, &error), error);
    return adaptation;
}

static double read_text(struct adaptation *adaptation, const uint32_t *symbols, size_t count)
{
    struct error error;
    double nats = 0;
    assert_ok(adaptation_read(adaptation, symbols, count, &nats, &error), error);
    return nats;
}

/* The whole text's nats with these weights learning. */
static double adapted(const struct fixture *fixture, enum adaptation_weights weights, double learning_rate)
{
    struct adaptation *adaptation = begin(fixture, weights, learning_rate);
    double nats = read_text(adaptation, fixture->text, LENGTH);
    adaptation_destroy(adaptation);
    return nats;
}

/* The text in one window of the train head: without learning, without segments. */
static double plain(const struct fixture *fixture)
{
    struct graph *graph = NULL;
    struct language_model_options model;
    struct carried_state state;
    struct trainer_threads *threads = NULL;
    struct shards *shards = NULL;
    struct error error;
    double loss = 0;
    assert_ok(graph_clone(fixture->graph, &graph, &error), error);
    assert_true(language_model_find(graph, &model));
    model.has_train_head = true;
    assert_ok(language_model_build(graph, &model, &error), error);
    assert_ok(carried_state_init(&state, &model, 1, &error), error);
    assert_ok(trainer_threads_create(1, false, &threads, &error), error);
    struct shards_options options = {.graph = graph,
                                     .values = fixture->values,
                                     .state = &state,
                                     .rows = 1,
                                     .time = LENGTH - 1,
                                     .count = 1,
                                     .threads = threads};
    const struct batches batches = {
        .symbols = (const int32_t *)fixture->text, .rows = 1, .row_symbols = LENGTH - 1}; /* ids are small */
    const struct shards_window window = {.batches = &batches, .keep_probability = 1};
    assert_ok(shards_create(&options, &shards, &error), error);
    assert_ok(shards_run(shards, &window, &loss, &error), error);
    shards_destroy(shards);
    carried_state_release(&state);
    trainer_threads_destroy(threads);
    graph_unref(graph);
    return loss * (LENGTH - 1);
}

static void check_gain(const struct language_model_options *model)
{
    struct fixture fixture;
    setup(&fixture, model);
    double without = plain(&fixture);
    assert_true(without > 0.9 * log(SYMBOLS) * (LENGTH - 1));
    for (int weights = 0; weights < ADAPTATION_WEIGHTS_COUNT; weights++) {
        double still = adapted(&fixture, (enum adaptation_weights)weights, 1e-30);
        double with = adapted(&fixture, (enum adaptation_weights)weights, 0.1);
        print_message("%s: %.4f nats a symbol without, %.4f with\n",
                      adaptation_weights_name((enum adaptation_weights)weights), without / (LENGTH - 1),
                      with / (LENGTH - 1));
        assert_true(fabs(still - without) < 1e-4 * without);
        assert_true(with < (weights == ADAPTATION_ALL ? 0.5 : 0.9) * without);
    }
    release(&fixture);
}

static void test_gain(void **state)
{
    (void)state;
    check_gain(&(struct language_model_options){.cell = RECURRENT_CELL_LSTM});
    check_gain(&(struct language_model_options){.cell = RECURRENT_CELL_GRU, .embedding = 12, .is_tied = true});
}

static void test_first_segment_is_predicted_before_it_is_learned(void **state)
{
    (void)state;
    struct fixture fixture;
    setup(&fixture, &(struct language_model_options){.cell = RECURRENT_CELL_LSTM});
    struct adaptation *still = begin(&fixture, ADAPTATION_ALL, 1e-30);
    struct adaptation *quick = begin(&fixture, ADAPTATION_ALL, 0.1);
    double first[] = {read_text(still, fixture.text, SEGMENT + 1), read_text(quick, fixture.text, SEGMENT + 1)};
    double second[] = {read_text(still, fixture.text + SEGMENT + 1, SEGMENT),
                       read_text(quick, fixture.text + SEGMENT + 1, SEGMENT)};
    assert_true(fabs(first[0] - first[1]) <= 0);
    assert_true(second[1] < second[0]);
    adaptation_destroy(still);
    adaptation_destroy(quick);
    release(&fixture);
}

/* Context, state and what was learned are carried from call to call. */
static void test_pieces(void **state)
{
    (void)state;
    struct fixture fixture;
    setup(&fixture, &(struct language_model_options){.cell = RECURRENT_CELL_LSTM});
    struct adaptation *adaptation = begin(&fixture, ADAPTATION_OUTPUT, 0.1);
    double nats = read_text(adaptation, fixture.text, 0) + read_text(adaptation, fixture.text, 1);
    assert_true(fabs(nats) <= 0);
    for (size_t done = 1; done < LENGTH; done += SEGMENT) {
        nats += read_text(adaptation, fixture.text + done, SEGMENT);
    }
    adaptation_destroy(adaptation);
    assert_true(fabs(nats - adapted(&fixture, ADAPTATION_OUTPUT, 0.1)) < 1e-9 * nats);
    adaptation = begin(&fixture, ADAPTATION_OUTPUT, 0.1);
    nats = 0;
    for (size_t done = 0; done < LENGTH; done += 7) { /* segments of 6, then of 7 */
        nats += read_text(adaptation, fixture.text + done, LENGTH - done < 7 ? LENGTH - done : 7);
    }
    adaptation_destroy(adaptation);
    assert_true(nats < 0.9 * plain(&fixture));
    release(&fixture);
}

static void test_refusals(void **state)
{
    (void)state;
    struct fixture fixture;
    struct error error;
    struct graph *empty = NULL;
    struct adaptation *adaptation = NULL;
    enum adaptation_weights weights = ADAPTATION_OUTPUT;
    double nats = 0;
    setup(&fixture, &(struct language_model_options){.cell = RECURRENT_CELL_LSTM});
    struct adaptation_options options = adaptation_defaults(ADAPTATION_ALL, VOCABULARY_WORDS);
    assert_int_equal(options.segment_symbols, 5);
    assert_ok(graph_create(&empty, &error), error);
    assert_int_equal(adaptation_create(empty, fixture.values, &options, &adaptation, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.code, "no_language_model");
    graph_unref(empty);
    adaptation = begin(&fixture, ADAPTATION_ALL, 3e38);
    assert_int_equal(adaptation_read(adaptation, fixture.text, LENGTH, &nats, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.code, "not_finite");
    adaptation_destroy(adaptation);
    assert_true(adaptation_weights_find("all", &weights));
    assert_int_equal(weights, ADAPTATION_ALL);
    assert_false(adaptation_weights_find("some", &weights));
    release(&fixture);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct fixture fixture;
    struct error error;
    setup(&fixture, &(struct language_model_options){.cell = RECURRENT_CELL_LSTM});
    struct adaptation_options options = adaptation_defaults(ADAPTATION_ALL, VOCABULARY_CHARACTERS);
    uint64_t failing = 0;
    for (enum status status = STATUS_NO_MEMORY; status != STATUS_OK; failing++) {
        struct adaptation *adaptation = NULL;
        double nats = 0;
        mem_fail_after(failing);
        status = adaptation_create(fixture.graph, fixture.values, &options, &adaptation, &error);
        if (status == STATUS_OK) { /* a call's last segment has a plan of its own */
            status = adaptation_read(adaptation, fixture.text, SEGMENT + 5, &nats, &error);
        }
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        adaptation_destroy(adaptation);
    }
    assert_true(failing > 20);
    release(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gain),          cmocka_unit_test(test_first_segment_is_predicted_before_it_is_learned),
        cmocka_unit_test(test_pieces),        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
