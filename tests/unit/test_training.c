/* The trainer: an interrupted training ends in the bits of an uninterrupted one, whatever the number of threads; it
 * allocates nothing while it steps; it refuses what it cannot train on; it learns. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/math/gemm.h"
#include "engine/model/training_sample.h"
#include "engine/train/checkpoint.h"
#include "engine/train/evaluation.h"
#include "engine/train/training.h"
#include "tests/unit/text_vocabulary.h"
#include "tests/unit/training_rig.h"

enum { TEXT_BYTES = 6000, UNITS = 6, LAYERS = 2, MODEL_SEED = 5 };

static char checkpoint_path[96];

struct fixture {
    struct corpus *corpus;
    struct graph *graph;
    struct values *values;
    struct train_step step;
    uint64_t stop_at;            /* an evaluation at this step or later stops the training; 0: none does */
    uint64_t stop_at_checkpoint; /* the same of a checkpoint; the step after it is made all the same */
    size_t evaluations;
    size_t checkpoints;
    size_t hand_backs;
    struct training_event last;
};

static int make_directory(void **state)
{
    (void)state;
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    if (!make_temporary("lstmd-training")) {
        return 1;
    }
    snprintf(checkpoint_path, sizeof checkpoint_path, "%s/.training", directory);
    return 0;
}

/* Text with something to learn: "abcdefg" over and over, some letters replaced, the same for the same seed. */
static struct corpus *make_corpus(size_t length, uint64_t seed)
{
    static char text[TEXT_BYTES];
    for (size_t i = 0; i < length; i++) {
        uint32_t word = rng_philox(seed, 0, i).word[0];
        text[i] = (char)('a' + (word % 10 == 0 ? word / 10 : i) % 7);
    }
    struct corpus_source source = {.parts = {{.text = text, .text_bytes = length}}, .kind = VOCABULARY_CHARACTERS};
    struct corpus *corpus = NULL;
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_ok(corpus_create(&source, &corpus, &error), error);
    assert_ok(corpus_make_vocabulary(corpus, NULL, &(struct vocabulary_limits){0}, &vocabulary, &error), error);
    assert_ok(corpus_encode(corpus, vocabulary, &error), error);
    vocabulary_unref(vocabulary);
    return corpus;
}

static struct training_options options_of(const char *text)
{
    struct training_options options;
    struct error error;
    json_t *request = json_loads(text, 0, NULL);
    assert_non_null(request);
    assert_ok(training_options_read(request, &options, &error), error);
    json_decref(request);
    return options;
}

/* A model to train as `training` says. */
static void setup_for(struct fixture *fixture, const struct training_options *training)
{
    const char *head = training->label_smoothing > 0 ? "train/smoothed_loss:0" : "train/loss:0";
    struct error error;
    struct language_model_options model = {.layers = LAYERS,
                                           .units = UNITS,
                                           .has_one_mask = training->gradient_noise > 0,
                                           .vocabulary_size = 7,
                                           .has_train_head = true,
                                           .has_predict_head = true};
    *fixture = (struct fixture){.corpus = make_corpus(TEXT_BYTES, 1)};
    struct output loss;
    assert_ok(graph_create(&fixture->graph, &error), error);
    assert_ok(language_model_build(fixture->graph, &model, &error), error);
    assert_ok(graph_find_output(fixture->graph, head, &loss, &error), error);
    assert_ok(train_step_build(fixture->graph, loss, &training->step, &fixture->step, &error), error);
    assert_ok(values_create(fixture->graph, &fixture->values, &error), error);
    assert_ok(values_initialize(fixture->values, fixture->graph, MODEL_SEED, &error), error);
}

static void setup(struct fixture *fixture, enum optimizer_kind optimizer)
{
    struct training_options options = {.step = train_step_defaults(optimizer)};
    setup_for(fixture, &options);
}

static void release(struct fixture *fixture)
{
    corpus_destroy(fixture->corpus);
    values_destroy(fixture->values);
    graph_unref(fixture->graph);
}

static void on_event(void *context, struct training *training, const struct training_event *event)
{
    struct fixture *fixture = context;
    fixture->checkpoints += event->kind == TRAINING_CHECKPOINT;
    fixture->evaluations += event->kind == TRAINING_PROGRESS && event->is_evaluation;
    fixture->last = *event;
    bool is_there = event->is_evaluation && fixture->stop_at > 0 && event->step >= fixture->stop_at;
    bool is_kept = event->kind == TRAINING_CHECKPOINT && event->step == fixture->stop_at_checkpoint;
    if (is_there || is_kept) {
        training_stop(training);
    }
}

static enum status on_hand_back(void *context, const struct values *values, struct error *error)
{
    (void)error;
    struct fixture *fixture = context;
    assert_ptr_equal(values, fixture->values);
    fixture->hand_backs++;
    return STATUS_OK;
}

static struct training_parts parts_of(struct fixture *fixture, size_t threads)
{
    return (struct training_parts){.graph = fixture->graph,
                                   .values = fixture->values,
                                   .step = &fixture->step,
                                   .corpus = fixture->corpus,
                                   .checkpoint_path = checkpoint_path,
                                   .threads = threads,
                                   .hand_back = on_hand_back,
                                   .context = fixture,
                                   .callbacks = {on_event, fixture}};
}

/* Trains from the beginning; returns training_run's status. */
static enum status train(struct fixture *fixture, const char *text, size_t threads, struct error *error)
{
    struct training_parts parts = parts_of(fixture, threads);
    struct training_options options = options_of(text);
    struct training *training = NULL;
    assert_ok(training_create(&parts, &options, &training, error), *error);
    enum status status = training_run(training, error);
    training_destroy(training);
    return status;
}

static enum status resume(struct fixture *fixture, size_t threads, struct error *error)
{
    struct checkpoint checkpoint;
    struct training_options options;
    struct training *training = NULL;
    json_t *nothing = json_object();
    struct training_parts parts = parts_of(fixture, threads);
    assert_ok(checkpoint_read(checkpoint_path, &checkpoint, error), *error);
    assert_ok(training_options_resume(checkpoint.options, nothing, &options, error), *error);
    enum status status = training_create_resumed(&parts, &options, &checkpoint, &training, error);
    if (status == STATUS_OK) {
        status = training_run(training, error);
    }
    training_destroy(training);
    checkpoint_release(&checkpoint);
    json_decref(nothing);
    return status;
}

static void assert_same_values(const struct fixture *a, const struct fixture *b)
{
    for (size_t i = 0; i < graph_variable_count(a->graph); i++) {
        const struct tensor *x = values_tensor(a->values, graph_variable(a->graph, i));
        const struct tensor *y = values_tensor(b->values, graph_variable(b->graph, i));
        assert_non_null(x);
        assert_non_null(y);
        if (memcmp(x->data, y->data, tensor_bytes(x)) != 0) {
            fail_msg("%s differs", graph_variable(a->graph, i)->node->name);
        }
    }
}

static void check_resume(const char *options, uint64_t stop_at, uint64_t stop_again_at)
{
    struct fixture straight;
    struct fixture broken;
    struct fixture resumed;
    struct error error;
    struct training_options training = options_of(options);
    setup_for(&straight, &training);
    assert_ok(train(&straight, options, 1, &error), error);
    setup_for(&broken, &training);
    broken.stop_at = stop_at;
    assert_int_equal(train(&broken, options, 3, &error), STATUS_CANCELLED);
    broken.stop_at = stop_again_at;
    assert_int_equal(resume(&broken, 2, &error), STATUS_CANCELLED);
    setup_for(&resumed, &training); /* another process would begin like this */
    assert_ok(resume(&resumed, 3, &error), error);
    assert_int_equal(resumed.last.kind, TRAINING_DONE);
    assert_int_equal(resumed.last.step, straight.last.step);
    assert_true(fabs(resumed.last.train_loss - straight.last.train_loss) <= 0);
    assert_true(fabs(resumed.last.best_loss - straight.last.best_loss) <= 0);
    assert_same_values(&straight, &resumed);
    release(&resumed);
    release(&broken);
    release(&straight);
}

/* 20 rows of 269 symbols: windows of 12 steps, 22 an epoch. */
static void test_resume_is_exact(void **state)
{
    (void)state;
    check_resume("{\"batch\":20,\"sequence_length\":12,\"shards\":3,\"max_steps\":60,\"evaluate_every_steps\":7,"
                 "\"dropout\":0.3,\"optimizer\":{\"learning_rate\":0.01}}",
                 14, 36);
    /* Stopped exactly where an epoch ends: there the state is zeroed and the rate changes. */
    check_resume("{\"batch\":20,\"sequence_length\":12,\"shards\":2,\"epochs\":3,\"validation_fraction\":0.05,"
                 "\"schedule\":{\"name\":\"step\",\"after_epochs\":1,\"every_epochs\":1},\"clip_norm\":0.1}",
                 1, 25);
    /* What remembers evaluations, and every other random number. */
    check_resume(
        "{\"batch\":20,\"sequence_length\":12,\"epochs\":40,\"evaluate_every_steps\":3,\"gradient_noise\":1e-4,"
        "\"label_smoothing\":0.1,\"clip_value\":0.1,\"dropout\":0.3,\"early_stopping\":9,"
        "\"optimizer\":{\"name\":\"adamw\",\"learning_rate\":0.05},"
        "\"schedule\":{\"name\":\"plateau\",\"patience\":0,\"factor\":0.7,\"warmup_steps\":20}}",
        13, 29);
    check_resume("{\"batch\":20,\"sequence_length\":12,\"max_steps\":50,\"evaluate_every_steps\":7,"
                 "\"optimizer\":{\"name\":\"rmsprop\",\"learning_rate\":0.01,\"centered\":true,\"momentum\":0.5},"
                 "\"schedule\":{\"name\":\"cosine\"}}",
                 14, 36);
}

/* A stop that comes in the middle of an evaluation: it is not in the record, and a resume makes it first. */
static void check_broken_evaluation(const char *options, uint64_t stop_at)
{
    struct fixture straight;
    struct fixture broken;
    struct error error;
    struct training_options training = options_of(options);
    setup_for(&straight, &training);
    assert_ok(train(&straight, options, 1, &error), error);
    setup_for(&broken, &training);
    broken.stop_at_checkpoint = stop_at - 1;
    assert_int_equal(train(&broken, options, 2, &error), STATUS_CANCELLED);
    assert_string_equal(error.code, "stopped");
    assert_int_equal(broken.last.kind, TRAINING_CHECKPOINT);
    assert_int_equal(broken.last.step, stop_at);
    assert_false(broken.last.is_evaluation);
    size_t before = broken.evaluations;
    broken.stop_at_checkpoint = 0;
    assert_ok(resume(&broken, 2, &error), error);
    assert_int_equal(broken.evaluations, straight.evaluations);
    assert_true(before < broken.evaluations);
    assert_int_equal(broken.last.step, straight.last.step);
    assert_int_equal(broken.last.best_step, straight.last.best_step);
    assert_true(fabs(broken.last.best_loss - straight.last.best_loss) <= 0);
    assert_same_values(&straight, &broken);
    release(&broken);
    release(&straight);
}

static void test_stop_in_an_evaluation(void **state)
{
    (void)state;
    /* What the evaluation changes: the rate, the end, the best. 22 windows are an epoch. */
    static const char often[] =
        "{\"batch\":20,\"sequence_length\":12,\"epochs\":40,\"evaluate_every_steps\":3,\"early_stopping\":9,"
        "\"dropout\":0.3,\"checkpoint_seconds\":1e-9,\"optimizer\":{\"learning_rate\":0.05},"
        "\"schedule\":{\"name\":\"plateau\",\"patience\":0,\"factor\":0.7}}";
    check_broken_evaluation(often, 9);
    check_broken_evaluation(often, 22);
    /* At the very end, and not due there but for the end. */
    static const char short_run[] = "{\"batch\":20,\"sequence_length\":12,\"max_steps\":10,\"test_fraction\":0.1,"
                                    "\"evaluate_every_steps\":4,\"checkpoint_seconds\":1e-9}";
    check_broken_evaluation(short_run, 10);
}

/* Evaluations without a better loss are counted, and end it. */
static void test_early_stopping(void **state)
{
    (void)state;
    struct fixture fixture;
    struct error error;
    setup(&fixture, OPTIMIZER_SGD);
    assert_ok(
        train(&fixture,
              "{\"batch\":20,\"sequence_length\":12,\"epochs\":90,\"evaluate_every_steps\":4,\"early_stopping\":3,"
              "\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":1e-30}}",
              1, &error),
        error);
    assert_int_equal(fixture.last.best_step, 4);
    assert_int_equal(fixture.last.step, 16);
    release(&fixture);
}

/* The same options find the same step; others make one with slots of its own. */
static void test_steps_are_told_apart(void **state)
{
    (void)state;
    struct fixture fixture;
    struct error error;
    struct output loss;
    struct train_step same;
    struct train_step other;
    setup(&fixture, OPTIMIZER_ADAM);
    struct train_step_options options = train_step_defaults(OPTIMIZER_ADAM);
    size_t variables = graph_variable_count(fixture.graph);
    assert_ok(graph_find_output(fixture.graph, "train/loss:0", &loss, &error), error);
    assert_ok(train_step_build(fixture.graph, loss, &options, &same, &error), error);
    assert_ptr_equal(same.apply, fixture.step.apply);
    assert_string_equal(same.apply->name, "train/Adam");
    assert_int_equal(graph_variable_count(fixture.graph), variables);
    options.optimizer.beta1 = 0.5;
    assert_ok(train_step_build(fixture.graph, loss, &options, &other, &error), error);
    assert_string_equal(other.apply->name, "train/Adam_1");
    assert_int_equal(graph_variable_count(fixture.graph), variables + 2 * other.variable_count + 2);
    assert_true(output_equal(other.gradients[0], same.gradients[0]));
    assert_null(other.feeds[TRAIN_STEP_NOISE].node);
    options.adds_noise = true;
    assert_ok(train_step_build(fixture.graph, loss, &options, &same, &error), error);
    assert_non_null(same.feeds[TRAIN_STEP_NOISE].node);
    assert_ptr_not_equal(same.apply, other.apply);
    release(&fixture);
}

static void test_threads_do_not_matter(void **state)
{
    (void)state;
    static const char options[] = "{\"batch\":9,\"sequence_length\":10,\"shards\":4,\"max_steps\":30,\"dropout\":0.5,"
                                  "\"validation_fraction\":0}";
    struct fixture one;
    struct fixture four;
    struct error error;
    setup(&one, OPTIMIZER_ADAM);
    setup(&four, OPTIMIZER_ADAM);
    assert_ok(train(&one, options, 1, &error), error);
    assert_ok(train(&four, options, 4, &error), error);
    assert_true(isnan(one.last.validation_loss));
    assert_same_values(&one, &four);
    release(&one);
    release(&four);
}

/* The gradient of the whole batch is the sum over shards: one shard or five make the same step but for rounding. */
static void test_shards_agree(void **state)
{
    (void)state;
    struct fixture one;
    struct fixture five;
    struct error error;
    setup(&one, OPTIMIZER_SGD);
    setup(&five, OPTIMIZER_SGD);
    static const char format[] = "{\"batch\":11,\"sequence_length\":10,\"shards\":%d,\"max_steps\":20,"
                                 "\"validation_fraction\":0,\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":0.5}}";
    char options[256];
    snprintf(options, sizeof options, format, 1);
    assert_ok(train(&one, options, 1, &error), error);
    snprintf(options, sizeof options, format, 5);
    assert_ok(train(&five, options, 2, &error), error);
    for (size_t i = 0; i < graph_variable_count(one.graph); i++) {
        const struct tensor *x = values_tensor(one.values, graph_variable(one.graph, i));
        const struct tensor *y = values_tensor(five.values, graph_variable(five.graph, i));
        for (size_t k = 0; k < tensor_element_count(x); k++) {
            assert_float_equal(((const float *)x->data)[k], ((const float *)y->data)[k], 1e-4);
        }
    }
    release(&one);
    release(&five);
}

static uint64_t allocations_of_steps(unsigned steps)
{
    struct fixture fixture;
    struct error error;
    char text[160];
    snprintf(text, sizeof text,
             "{\"batch\":8,\"sequence_length\":10,\"max_steps\":%u,\"validation_fraction\":0,\"dropout\":0.1}", steps);
    setup(&fixture, OPTIMIZER_ADAM);
    struct training_parts parts = parts_of(&fixture, 2);
    struct training_options options = options_of(text);
    struct training *training = NULL;
    assert_ok(training_create(&parts, &options, &training, &error), error);
    uint64_t before = mem_allocation_count();
    assert_ok(training_run(training, &error), error);
    uint64_t count = mem_allocation_count() - before;
    training_destroy(training);
    release(&fixture);
    return count;
}

static void test_steps_allocate_nothing(void **state)
{
    (void)state;
    assert_int_equal(allocations_of_steps(2), allocations_of_steps(200));
}

static void test_it_learns(void **state)
{
    (void)state;
    struct fixture fixture;
    struct error error;
    setup(&fixture, OPTIMIZER_ADAM);
    assert_ok(train(&fixture,
                    "{\"batch\":16,\"sequence_length\":20,\"epochs\":25,\"optimizer\":{\"learning_rate\":0.02},"
                    "\"checkpoint_seconds\":1000}",
                    2, &error),
              error);
    /* One symbol in ten is uniform over seven: its entropy is 0.533 nats. */
    assert_true(fixture.last.best_loss < 0.65 && fixture.last.best_loss > 0.45);
    assert_true(fabs(fixture.last.fraction_done - 1) <= 0);
    assert_int_equal(fixture.checkpoints, 1);
    bool was_better = fixture.last.best_step != fixture.last.step;
    assert_int_equal(fixture.hand_backs, 1 + was_better); /* the checkpoint's, and those that were better */
    release(&fixture);
}

static void test_nan_ends_it(void **state)
{
    (void)state;
    struct fixture fixture;
    struct error error;
    setup(&fixture, OPTIMIZER_SGD);
    fixture.stop_at = 5;
    assert_int_equal(train(&fixture, "{\"batch\":8,\"sequence_length\":10,\"evaluate_every_steps\":5}", 1, &error),
                     STATUS_CANCELLED);
    uint64_t fingerprint = version_fingerprint(checkpoint_path);
    assert_int_not_equal(fingerprint, 0);
    struct tensor *bias = values_tensor(fixture.values, graph_find_variable(fixture.graph, "softmax/b"));
    ((float *)bias->data)[0] = NAN;
    assert_int_equal(train(&fixture, "{\"batch\":8,\"sequence_length\":10}", 1, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.code, "not_finite");
    assert_non_null(strstr(error.message, "step 1: the loss is"));
    assert_int_equal(version_fingerprint(checkpoint_path), fingerprint);
    release(&fixture);
}

static void test_refusals(void **state)
{
    (void)state;
    struct fixture fixture;
    struct error error;
    setup(&fixture, OPTIMIZER_ADAM);
    struct training_parts parts = parts_of(&fixture, 1);
    struct training_options options = options_of("{\"batch\":64,\"sequence_length\":100}");
    struct training *training = NULL;
    assert_int_equal(training_create(&parts, &options, &training, &error), STATUS_INVALID);
    assert_string_equal(error.code, "corpus_too_short");
    assert_non_null(strstr(error.message, "5400 of its 6000 symbols are for training, and one batch of 64 rows × 100 "
                                          "steps takes 6401"));
    options = options_of("{\"batch\":2,\"sequence_length\":2,\"validation_fraction\":0.0001}");
    assert_int_equal(training_create(&parts, &options, &training, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "1 of its 6000 symbols are left for validation"));
    static const char *const needing[][2] = {{"early_stopping", "2"}, {"schedule", "{\"name\":\"plateau\"}"}};
    for (size_t i = 0; i < 2; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"batch\":2,\"sequence_length\":2,\"validation_fraction\":0,\"%s\":%s}",
                 needing[i][0], needing[i][1]);
        options = options_of(text);
        assert_int_equal(training_create(&parts, &options, &training, &error), STATUS_INVALID);
        assert_string_equal(error.param, needing[i][0]);
    }
    fixture.stop_at = 1;
    assert_int_equal(train(&fixture, "{\"batch\":8,\"sequence_length\":10,\"evaluate_every_steps\":1}", 1, &error),
                     STATUS_CANCELLED);
    struct corpus *own = fixture.corpus;
    fixture.corpus = make_corpus(TEXT_BYTES, 2);
    assert_int_equal(resume(&fixture, 1, &error), STATUS_CONFLICT);
    assert_string_equal(error.code, "resume_differs");
    assert_non_null(strstr(error.message, corpus_report(own).sha256));
    corpus_destroy(fixture.corpus);
    fixture.corpus = own;
    release(&fixture);
}

/* Every allocation of making a training fails once: a status each time, and nothing leaks (the sanitizers look). */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct fixture fixture;
    struct error error;
    setup(&fixture, OPTIMIZER_ADAM);
    struct training_parts parts = parts_of(&fixture, 2);
    struct training_options options = options_of("{\"batch\":8,\"sequence_length\":10,\"shards\":2}");
    struct training *training = NULL;
    uint64_t failing = 0;
    for (enum status status = STATUS_NO_MEMORY; status != STATUS_OK; failing++) {
        mem_fail_after(failing);
        status = training_create(&parts, &options, &training, &error);
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        assert_true(status == STATUS_OK || training == NULL);
    }
    assert_true(failing > 20);
    training_destroy(training);
    release(&fixture);
}

/* 16 rows of 299 symbols are two whole windows and a rest; all in one window is the same loss. */
static void test_evaluation(void **state)
{
    (void)state;
    struct fixture fixture;
    struct error error;
    setup(&fixture, OPTIMIZER_ADAM);
    struct trainer_threads *threads = NULL;
    assert_ok(trainer_threads_create(2, false, &threads, &error), error);
    struct evaluation_options options = {.graph = fixture.graph,
                                         .values = fixture.values,
                                         .corpus = fixture.corpus,
                                         .stretch = {100, 299 * 16 + 9},
                                         .shard_count = 3,
                                         .threads = threads};
    struct evaluation *evaluation = NULL;
    double loss = 0;
    assert_ok(evaluation_create(&options, &evaluation, &error), error);
    assert_ok(evaluation_run(evaluation, &loss, &error), error);
    double again = 0;
    uint64_t allocations = mem_allocation_count();
    assert_ok(evaluation_run(evaluation, &again, &error), error);
    assert_int_equal(mem_allocation_count(), allocations);
    assert_true(fabs(loss - again) <= 0);
    evaluation_destroy(evaluation);
    _Atomic bool is_cancelled = false;
    options.is_cancelled = &is_cancelled;
    assert_ok(evaluation_create(&options, &evaluation, &error), error);
    assert_ok(evaluation_run(evaluation, &again, &error), error);
    atomic_store(&is_cancelled, true);
    assert_int_equal(evaluation_run(evaluation, &again, &error), STATUS_CANCELLED);
    evaluation_destroy(evaluation);

    struct language_model_options model;
    struct carried_state carried;
    assert_true(language_model_find(fixture.graph, &model));
    assert_ok(carried_state_init(&carried, &model, 16, &error), error);
    struct shards_options whole = {.graph = fixture.graph,
                                   .values = fixture.values,
                                   .state = &carried,
                                   .rows = 16,
                                   .time = 299,
                                   .count = 1,
                                   .threads = threads};
    struct shards *shards = NULL;
    struct batches batches = batches_make(fixture.corpus, options.stretch, 16);
    struct shards_window window = {.batches = &batches, .keep_probability = 1};
    double expected = 0;
    assert_ok(shards_create(&whole, &shards, &error), error);
    assert_ok(shards_run(shards, &window, &expected, &error), error);
    assert_true(fabs(loss - expected) < 1e-5);
    shards_destroy(shards);
    carried_state_release(&carried);
    trainer_threads_destroy(threads);
    release(&fixture);
}

/* The same seed writes the same; without memory there is no text, and nothing leaks. */
static void test_samples(void **state)
{
    (void)state;
    enum { SYMBOLS = 5000 }; /* more than a row's ring holds */
    struct fixture fixture;
    struct error error;
    struct vocabulary *vocabulary = NULL;
    _Atomic bool is_cancelled = false;
    char *texts[3] = {NULL};
    setup(&fixture, OPTIMIZER_SGD);
    assert_ok(text_vocabulary("abcdefg", 7, &vocabulary, &error), error);
    struct training_sample sample = {.graph = fixture.graph,
                                     .values = fixture.values,
                                     .vocabulary = vocabulary,
                                     .symbols = SYMBOLS,
                                     .seed = 1,
                                     .is_cancelled = &is_cancelled};
    for (size_t i = 0; i < 3; i++) {
        sample.seed = i == 2 ? 2 : 1;
        assert_ok(training_sample_make(&sample, &texts[i], &error), error);
        assert_int_equal(strspn(texts[i], "abcdefg"), SYMBOLS);
        assert_int_equal(strlen(texts[i]), SYMBOLS);
    }
    assert_string_equal(texts[0], texts[1]);
    assert_string_not_equal(texts[0], texts[2]);
    for (size_t i = 0; i < 3; i++) {
        mem_free(texts[i]);
    }
    sample.symbols = 20;
    uint64_t failing = 0;
    for (enum status status = STATUS_NO_MEMORY; status != STATUS_OK; failing++) {
        char *text = NULL;
        mem_fail_after(failing);
        status = training_sample_make(&sample, &text, &error);
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        assert_true((status == STATUS_OK) == (text != NULL));
        mem_free(text);
    }
    assert_true(failing > 10);
    is_cancelled = true;
    sample.symbols = SYMBOLS;
    char *cut = NULL;
    assert_ok(training_sample_make(&sample, &cut, &error), error);
    assert_true(strlen(cut) < SYMBOLS);
    mem_free(cut);
    vocabulary_unref(vocabulary);
    release(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume_is_exact),
        cmocka_unit_test(test_stop_in_an_evaluation),
        cmocka_unit_test(test_early_stopping),
        cmocka_unit_test(test_steps_are_told_apart),
        cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_shards_agree),
        cmocka_unit_test(test_steps_allocate_nothing),
        cmocka_unit_test(test_it_learns),
        cmocka_unit_test(test_nan_ends_it),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_evaluation),
        cmocka_unit_test(test_samples),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
