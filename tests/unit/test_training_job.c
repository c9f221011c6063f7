/* A training job over a model: what fails changes nothing, one job a model and a directory, an interrupted job resumes
 * in a new model from its checkpoint, and what it hands back is what save writes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/decode/decode_score.h"
#include "engine/engine.h"
#include "tests/unit/training_rig.h"

static char model_directory[128];

static const char TEXT[] = "the quick brown fox jumps over the lazy dog. the dog sleeps; the fox runs on and on.\n"
                           "over the hills and far away the quick fox jumps, and the lazy dog sleeps again.\n"
                           "what does the fox say? the fox says nothing at all, for the dog is near.\n"
                           "the hills are green, the fox is brown, the dog is lazy and the day is long.\n";

static int make_directory(void **state)
{
    (void)state;
    assert_int_equal(engine_start(NULL), STATUS_OK);
    if (!make_temporary("lstmd-job")) {
        return 1;
    }
    snprintf(model_directory, sizeof model_directory, "%s/models/fox", directory);
    return 0;
}

static bool exists(const char *parent, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", parent, name);
    return access(path, F_OK) == 0;
}

/* `specification` NULL: an empty graph. */
static struct model *make_model_of(const char *specification_text)
{
    struct model *model = NULL;
    struct error error;
    assert_ok(model_create("fox", &model, &error), error);
    if (specification_text != NULL) {
        json_t *specification = json_loads(specification_text, 0, NULL);
        assert_ok(model_make_language_model(model, specification, 1, &error), error);
        json_decref(specification);
    }
    return model;
}

static struct model *make_model(void)
{
    return make_model_of("{\"cell\":\"lstm\",\"layers\":2,\"units\":5}");
}

struct watcher {
    uint64_t stop_at;
    struct training_job *job;
    size_t checkpoints;
};

static void on_event(void *context, struct training *training, const struct training_event *event)
{
    (void)training;
    struct watcher *watcher = context;
    watcher->checkpoints += event->kind == TRAINING_CHECKPOINT;
    if (event->is_evaluation && event->step == watcher->stop_at) {
        training_job_stop(watcher->job);
    }
}

static enum status make_job(struct model *model, const char *request_text, bool is_resume, struct watcher *watcher,
                            struct training_job **ret_job, struct error *error)
{
    json_t *request = json_loads(request_text, 0, NULL);
    assert_non_null(request);
    struct training_job_options options = {.model_directory = model_directory,
                                           .request = request,
                                           .corpus = {.text = TEXT, .text_bytes = sizeof TEXT - 1},
                                           .is_resume = is_resume,
                                           .threads = 2,
                                           .name = "train-1"};
    struct training_callbacks callbacks = {on_event, watcher};
    enum status status = training_job_create(model, &options, &callbacks, ret_job, error);
    json_decref(request);
    if (status == STATUS_OK && watcher != NULL) {
        watcher->job = *ret_job;
    }
    return status;
}

static const char REQUEST[] = "{\"batch\":4,\"sequence_length\":8,\"max_steps\":40,\"evaluate_every_steps\":5,"
                              "\"optimizer\":{\"learning_rate\":0.01},\"dropout\":0.2}";

static void refuse(struct model *model, const char *request, bool is_resume, enum status status, const char *code)
{
    struct training_job *job = NULL;
    struct error error;
    assert_int_equal(make_job(model, request, is_resume, NULL, &job, &error), status);
    assert_null(job);
    assert_string_equal(error.code, code);
}

static void test_failure_changes_nothing(void **state)
{
    (void)state;
    struct model *model = make_model();
    uint64_t generation = model_generation(model);
    refuse(model, "{\"batch\":100,\"sequence_length\":100}", false, STATUS_INVALID, "corpus_too_short");
    refuse(model, "{\"batch\":0}", false, STATUS_INVALID, "");
    refuse(model, REQUEST, true, STATUS_NOT_FOUND, "no_checkpoint");
    assert_int_equal(model_generation(model), generation);
    assert_false(exists(directory, "models"));
    /* The lock is free again, and the model still takes its vocabulary from the first good corpus. */
    struct training_job *job = NULL;
    struct error error;
    assert_ok(make_job(model, REQUEST, false, NULL, &job, &error), error);
    training_job_destroy(job);
    model_unref(model);
    assert_false(exists(directory, "models"));
}

/* The first line of the text ends with a byte that UTF-8 has not. */
static void test_malformed_text(void **state)
{
    (void)state;
    struct model *model = make_model();
    struct training_job *job = NULL;
    struct error error;
    json_t *request = json_object();
    struct training_job_options options = {.model_directory = model_directory,
                                           .request = request,
                                           .corpus = {.text = "one\ntwo\xff\n", .text_bytes = 9},
                                           .name = "train-2"};
    assert_int_equal(training_job_create(model, &options, NULL, &job, &error), STATUS_INVALID);
    assert_string_equal(error.message, "corpus: the text: line 2: invalid UTF-8 at byte offset 7 (0xff)");
    options.corpus.text_bytes = 0;
    assert_int_equal(training_job_create(model, &options, NULL, &job, &error), STATUS_INVALID);
    assert_string_equal(error.code, "empty_corpus");
    json_decref(request);
    model_unref(model);
}

/* The values of what has any; NULL: nothing has. */
static json_t *fetch_values(struct model *model, const json_t *variables)
{
    json_t *names = json_array();
    json_t *reply = NULL;
    struct error error;
    for (size_t i = 0; i < json_array_size(variables); i++) {
        const json_t *variable = json_array_get(variables, i);
        if (json_is_true(json_object_get(variable, "initialized"))) {
            json_array_append(names, json_object_get(variable, "name"));
        }
    }
    json_t *request = json_pack("{s:O}", "fetches", names);
    if (json_array_size(names) > 0) {
        assert_ok(model_run(model, request, &reply, &error), error);
        json_object_del(reply, "time_us");
    }
    json_decref(request);
    json_decref(names);
    return reply;
}

/* All that can be seen of a model. */
static json_t *describe(struct model *model)
{
    json_t *graph = NULL;
    json_t *variables = NULL;
    json_t *architecture = NULL;
    struct error error;
    assert_ok(model_describe_graph(model, &graph, &error), error);
    assert_ok(model_list_variables(model, &variables, &error), error);
    assert_ok(model_describe_architecture(model, &architecture, &error), error);
    json_t *values = fetch_values(model, json_object_get(variables, "variables"));
    json_t *json = json_pack("{s:o, s:o, s:o, s:o*, s:b}", "graph", graph, "variables", variables, "architecture",
                             architecture, "values", values, "is_unsaved", model_is_unsaved(model));
    assert_non_null(json);
    return json;
}

/* Allocations of making a job on a model, every `stride`th, fail once: a status each time (or the job does without, as
 * planning does without what it would only have computed ahead), the model is what it was, the same job can be made on
 * it, no file is left, and nothing leaks. `changes`: a job that is made does change the model. */
static void make_without_memory(struct model *(*make_the_model)(void), const struct training_job_options *options,
                                uint64_t stride, bool changes)
{
    uint64_t failing = 0;
    bool had_files = exists(directory, "models");
    for (bool has_failed = true; has_failed; failing += stride) {
        struct model *model = make_the_model();
        struct training_job *job = NULL;
        struct error error;
        json_t *earlier = describe(model);
        uint64_t before = mem_allocation_count();
        mem_fail_after(failing);
        enum status status = training_job_create(model, options, NULL, &job, &error);
        mem_fail_after(UINT64_MAX);
        has_failed = mem_allocation_count() - before > failing;
        assert_true(has_failed || status == STATUS_OK);
        if (status != STATUS_OK && status != STATUS_NO_MEMORY) {
            fail_msg("allocation %llu: %s", (unsigned long long)failing, error.message);
        }
        json_t *later = describe(model);
        assert_int_equal(json_equal(earlier, later), status != STATUS_OK || !changes);
        training_job_destroy(job);
        assert_int_equal(exists(directory, "models"), had_files);
        assert_ok(training_job_create(model, options, NULL, &job, &error), error);
        training_job_destroy(job);
        json_decref(earlier);
        json_decref(later);
        model_unref(model);
    }
    assert_true(failing > 200);
}

/* It has its vocabulary, and neither a train head nor an optimiser. */
static struct model *make_model_to_predict(void)
{
    return make_model_of("{\"units\":5,\"vocabulary\":\"bytes\",\"heads\":[\"predict\"]}");
}

static char version_path[TRAINING_JOB_PATH_BYTES_MAX];

static struct model *load_version(void)
{
    struct model *model = NULL;
    struct error error;
    assert_ok(model_create_from_version("fox", version_path, 1, &model, &error), error);
    return model;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    json_t *request = json_loads(REQUEST, 0, NULL);
    struct training_job_options options = {.model_directory = model_directory,
                                           .request = request,
                                           .corpus = {.text = TEXT, .text_bytes = sizeof TEXT - 1},
                                           .threads = 2,
                                           .name = "train-1"};
    make_without_memory(make_model, &options, 7, true);
    make_without_memory(make_model_to_predict, &options, 7, true);
    json_decref(request);
}

static void test_one_job_at_a_time(void **state)
{
    (void)state;
    struct model *model = make_model();
    struct model *other = make_model();
    struct training_job *job = NULL;
    struct error error;
    assert_ok(make_job(model, REQUEST, false, NULL, &job, &error), error);
    struct training_job *second = NULL;
    assert_int_equal(make_job(model, REQUEST, false, NULL, &second, &error), STATUS_CONFLICT);
    assert_non_null(strstr(error.message, "train-1"));
    refuse(other, REQUEST, false, STATUS_CONFLICT, "training_locked");
    training_job_destroy(job);
    model_unref(other);
    model_unref(model);
}

/* The saved weights as bytes. */
static void read_weights(uint64_t version, struct version_files *ret_files, const struct version_file **ret_weights)
{
    char path[256];
    struct error error;
    snprintf(path, sizeof path, "%s/%llu", model_directory, (unsigned long long)version);
    assert_ok(version_read(path, ret_files, &error), error);
    *ret_weights = version_files_find(ret_files, "weights.safetensors");
    assert_non_null(*ret_weights);
}

static void expect_same_weights(uint64_t one, uint64_t other)
{
    struct version_files files[2];
    const struct version_file *weights[2];
    read_weights(one, &files[0], &weights[0]);
    read_weights(other, &files[1], &weights[1]);
    assert_int_equal(weights[0]->length, weights[1]->length);
    assert_memory_equal(weights[0]->bytes, weights[1]->bytes, weights[0]->length);
    version_files_release(&files[0]);
    version_files_release(&files[1]);
}

static uint64_t save(struct model *model, struct training_job *job)
{
    uint64_t version = 0;
    struct error error;
    json_t *origin = training_job_origin(job);
    json_t *evaluation = training_job_evaluation(job);
    assert_non_null(origin);
    assert_true(isfinite(json_number_value(json_object_get(evaluation, "validation_loss"))));
    training_job_add_precisions(job, evaluation);
    assert_ok(model_save(model, model_directory, origin, evaluation, &version, &error), error);
    assert_ok(training_job_finish(job, &error), error);
    assert_false(exists(model_directory, ".training"));
    json_decref(evaluation);
    json_decref(origin);
    training_job_destroy(job);
    return version;
}

/* A job that has run to its end, and is not finished. */
static struct training_job *run_to_the_end(struct model *model, const char *request, bool is_resume)
{
    struct watcher watcher = {0};
    struct training_job *job = NULL;
    struct error error;
    assert_ok(make_job(model, request, is_resume, &watcher, &job, &error), error);
    assert_ok(training_job_run(job, &error), error);
    return job;
}

static uint64_t train_straight(void)
{
    struct model *model = make_model();
    uint64_t version = save(model, run_to_the_end(model, REQUEST, false));
    model_unref(model);
    return version;
}

static void stop_at(uint64_t step)
{
    struct watcher watcher = {.stop_at = step};
    struct training_job *job = NULL;
    struct error error;
    struct model *model = make_model();
    assert_ok(make_job(model, REQUEST, false, &watcher, &job, &error), error);
    assert_int_equal(training_job_run(job, &error), STATUS_CANCELLED);
    assert_int_equal(watcher.checkpoints, 1);
    assert_true(model_is_unsaved(model));
    training_job_destroy(job);
    refuse(model, REQUEST, false, STATUS_CONFLICT, "unfinished_job");
    model_unref(model);
    assert_true(training_job_is_unfinished(model_directory));
}

/* Goes on with the model, which it takes. */
static uint64_t resume_with(struct model *model)
{
    refuse(model, "{\"batch\":5}", true, STATUS_CONFLICT, "resume_differs");
    uint64_t version = save(model, run_to_the_end(model, "{}", true));
    model_unref(model);
    return version;
}

static struct model *make_interrupted(void)
{
    char path[TRAINING_JOB_PATH_BYTES_MAX];
    struct model *model = NULL;
    struct error error;
    training_job_checkpoint_path(model_directory, path);
    assert_ok(model_create_from_version("fox", path, 0, &model, &error), error);
    return model;
}

static uint64_t resume(void)
{
    return resume_with(make_interrupted());
}

/* The validation text through the version as it is served: what the manifest says of each precision. */
static void check_precisions(uint64_t version)
{
    enum { VALIDATION_SYMBOLS = 32 }; /* a tenth of the text */
    char path[256];
    snprintf(path, sizeof path, "%s/%llu", model_directory, (unsigned long long)version);
    double wide = 0;
    for (enum rnn_precision precision = RNN_PRECISION_FP32; precision < RNN_PRECISION_COUNT; precision++) {
        struct snapshot *snapshot = NULL;
        struct error error;
        uint32_t symbols[sizeof TEXT];
        size_t count;
        double nats;
        assert_ok(snapshot_load(path, "fox", version, precision, &snapshot, &error), error);
        struct vocabulary *vocabulary = snapshot_vocabulary(snapshot);
        assert_ok(vocabulary_encode(vocabulary, TEXT, sizeof TEXT - 1, UNKNOWN_SYMBOLS_ERROR, symbols, &count, &error),
                  error);
        assert_int_equal(count - (size_t)(0.9 * (double)count), VALIDATION_SYMBOLS);
        assert_ok(decode_score(snapshot_decode_plan(snapshot), vocabulary, symbols + count - VALIDATION_SYMBOLS, 1,
                               VALIDATION_SYMBOLS, NULL, &nats, &error),
                  error);
        wide = precision == RNN_PRECISION_FP32 ? nats : wide;
        const json_t *report = json_object_get(snapshot_manifest(snapshot), "evaluation");
        report = json_object_get(report, "precisions");
        assert_int_equal(json_integer_value(json_object_get(report, "symbols")), VALIDATION_SYMBOLS - 1);
        report = json_object_get(report, rnn_precision_name(precision));
        double bits = json_number_value(json_object_get(report, "bits_per_character"));
        assert_true(bits > 0 && fabs(bits - nats / log(2)) < 1e-9);
        assert_int_equal(json_object_get(report, "change") == NULL, precision == RNN_PRECISION_FP32);
        assert_true(fabs(json_number_value(json_object_get(report, "change")) - (nats / wide - 1)) < 1e-9);
        snapshot_unref(snapshot);
    }
}

/* What a training begins with in place of the model's own is adopted by one that begins alone. */
static void test_out_of_memory_from_elsewhere(void **state)
{
    (void)state;
    char longer[sizeof TEXT + 16];
    snprintf(version_path, sizeof version_path, "%s/%llu", model_directory, (unsigned long long)train_straight());
    json_t *request = json_loads(REQUEST, 0, NULL);
    struct training_job_options options = {.model_directory = model_directory,
                                           .request = request,
                                           .corpus = {.text = TEXT, .text_bytes = sizeof TEXT - 1},
                                           .start.is_scratch = true,
                                           .threads = 2,
                                           .name = "train-1"};
    make_without_memory(load_version, &options, 13, true);
    options.start = (struct training_start){.version_path = version_path};
    make_without_memory(make_model, &options, 13, true);
    options.start = (struct training_start){.policy = VOCABULARY_POLICY_EXTEND}; /* without a new symbol */
    make_without_memory(load_version, &options, 7, true);
    options.corpus.text_bytes = (size_t)snprintf(longer, sizeof longer, "%s1234567890\n", TEXT);
    options.corpus.text = longer;
    make_without_memory(load_version, &options, 13, true);
    options.start = (struct training_start){.policy = VOCABULARY_POLICY_BYTES};
    make_without_memory(load_version, &options, 13, true);
    json_decref(request);
}

/* What is resumed is adopted where it is not the model's graph, which has all of it. */
static void test_out_of_memory_in_a_resume(void **state)
{
    (void)state;
    json_t *request = json_object();
    struct training_job_options options = {.model_directory = model_directory,
                                           .request = request,
                                           .corpus = {.text = TEXT, .text_bytes = sizeof TEXT - 1},
                                           .is_resume = true,
                                           .threads = 2,
                                           .name = "train-1"};
    stop_at(15);
    training_job_checkpoint_path(model_directory, version_path);
    make_without_memory(load_version, &options, 13, false);
    make_without_memory(make_model, &options, 13, true);
    struct error error;
    assert_ok(version_remove(version_path, &error), error);
    json_decref(request);
}

/* A loss so large that no perplexity can be said is a loss all the same. */
static void test_what_has_diverged_is_described(void **state)
{
    (void)state;
    struct error error;
    struct model *model = make_model();
    struct training_job *job =
        run_to_the_end(model,
                       "{\"batch\":4,\"sequence_length\":8,\"max_steps\":3,"
                       "\"optimizer\":{\"name\":\"adam\",\"learning_rate\":1000},\"evaluate_every_steps\":3}",
                       false);
    json_t *evaluation = training_job_evaluation(job);
    assert_true(json_number_value(json_object_get(evaluation, "validation_loss")) > 710);
    assert_true(json_is_null(json_object_get(evaluation, "perplexity")));
    json_decref(evaluation);
    assert_ok(training_job_finish(job, &error), error);
    training_job_destroy(job);
    model_unref(model);
}

/* Nothing is done with what a training came to once it is asked to stop; a resume goes on from there. */
static void test_a_stop_at_the_limit_keeps_the_checkpoint(void **state)
{
    (void)state;
    uint64_t straight = train_straight();
    struct watcher watcher = {0};
    struct training_job *job = NULL;
    struct error error;
    struct model *model = make_model();
    training_job_destroy(run_to_the_end(model, REQUEST, false)); /* as where saving it failed */
    model_unref(model);
    model = make_interrupted();
    assert_ok(make_job(model, "{}", true, &watcher, &job, &error), error);
    training_job_stop(job);
    assert_int_equal(training_job_run(job, &error), STATUS_CANCELLED);
    assert_string_equal(error.code, "stopped");
    training_job_destroy(job);
    expect_same_weights(straight, resume_with(model));
}

static void test_nothing_is_measured_without_text(void **state)
{
    (void)state;
    struct training_job *job = NULL;
    struct error error;
    struct model *model = make_model();
    assert_ok(make_job(model, "{\"batch\":4,\"sequence_length\":8,\"max_steps\":1,\"validation_fraction\":0}", false,
                       NULL, &job, &error),
              error);
    json_t *evaluation = json_object();
    training_job_add_precisions(job, evaluation);
    assert_int_equal(json_object_size(evaluation), 0);
    json_decref(evaluation);
    training_job_destroy(job);
    model_unref(model);
}

static void test_nothing_is_measured_once_stopped(void **state)
{
    (void)state;
    struct training_job *job = NULL;
    struct error error;
    struct model *model = make_model();
    assert_ok(make_job(model, REQUEST, false, NULL, &job, &error), error);
    for (int is_stopped = 0; is_stopped < 2; is_stopped++) {
        json_t *evaluation = json_object();
        training_job_add_precisions(job, evaluation);
        assert_int_equal(json_object_size(evaluation), is_stopped ? 0 : 1);
        json_decref(evaluation);
        training_job_stop(job);
    }
    training_job_destroy(job);
    model_unref(model);
}

/* Whatever allocation fails, the evaluation stays good: at most it says what could not be measured. */
static void test_what_cannot_be_measured_is_said(void **state)
{
    (void)state;
    enum { ALLOCATIONS_BETWEEN = 3, FAILURES = 100 };
    struct training_job *job = NULL;
    struct error error;
    struct model *model = make_model();
    size_t refused = 0;
    assert_ok(make_job(model, REQUEST, false, NULL, &job, &error), error);
    for (uint64_t i = 0; i < FAILURES; i++) {
        json_t *evaluation = json_pack("{s:i}", "step", 1);
        mem_fail_after(i * ALLOCATIONS_BETWEEN);
        training_job_add_precisions(job, evaluation);
        mem_fail_after(UINT64_MAX);
        const json_t *report = json_object_get(evaluation, "precisions");
        for (int precision = RNN_PRECISION_FP32; report != NULL && precision < RNN_PRECISION_COUNT; precision++) {
            const json_t *entry = json_object_get(report, rnn_precision_name((enum rnn_precision)precision));
            assert_non_null(entry);
            refused += json_object_get(entry, "refused") != NULL ? 1 : 0;
        }
        assert_int_equal(json_integer_value(json_object_get(evaluation, "step")), 1);
        json_decref(evaluation);
    }
    assert_true(refused > 0);
    training_job_destroy(job);
    model_unref(model);
}

static void test_resume_ends_in_the_same_version(void **state)
{
    (void)state;
    uint64_t straight = train_straight();
    check_precisions(straight);
    stop_at(15);
    uint64_t resumed = resume();
    assert_int_equal(resumed, straight + 1);
    expect_same_weights(straight, resumed);
}

/* The model that goes on is the one that was interrupted, whatever this one was made as. */
static void test_resume_takes_the_interrupted_graph(void **state)
{
    (void)state;
    static const char *const others[] = {
        NULL,
        "{\"layers\":2,\"units\":5}",
        "{\"cell\":\"gru\",\"layers\":1,\"units\":7,\"embedding\":3}",
        "{\"layers\":2,\"units\":5,\"residual\":true}",
        "{\"layers\":2,\"units\":5,\"forget_bias\":0}",
        "{\"layers\":2,\"units\":5,\"variational_dropout\":true}",
        "{\"layers\":2,\"units\":5,\"vocabulary\":\"bytes\"}",
    };
    uint64_t straight = train_straight();
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        stop_at(15);
        expect_same_weights(straight, resume_with(make_model_of(others[i])));
    }
}

/* One with the interrupted one's sizes and vocabulary, which were all that was looked at once. */
static void test_resume_takes_the_interrupted_graph_for_one_of_its_size(void **state)
{
    (void)state;
    char path[256];
    struct watcher watcher = {0};
    struct training_job *job = NULL;
    struct error error;
    uint64_t straight = train_straight();
    struct model *model = make_model_of("{\"layers\":2,\"units\":5,\"residual\":true}");
    assert_ok(make_job(model, REQUEST, false, &watcher, &job, &error), error);
    assert_ok(training_job_run(job, &error), error);
    uint64_t residual = save(model, job);
    model_unref(model);
    stop_at(15);
    snprintf(path, sizeof path, "%s/%llu", model_directory, (unsigned long long)residual);
    assert_ok(model_create_from_version("fox", path, residual, &model, &error), error);
    expect_same_weights(straight, resume_with(model));
}

/* What an interrupted training came to, without the model. */
static void test_an_interrupted_training_is_described(void **state)
{
    (void)state;
    json_t *json = NULL;
    struct error error;
    assert_int_equal(training_job_describe_unfinished(model_directory, &json, &error), STATUS_NOT_FOUND);
    assert_string_equal(error.code, "no_checkpoint");
    stop_at(15);
    assert_ok(training_job_describe_unfinished(model_directory, &json, &error), error);
    assert_int_equal(json_integer_value(json_object_get(json, "step")), 15);
    assert_true(json_number_value(json_object_get(json, "epoch")) > 1);
    assert_true(json_number_value(json_object_get(json, "train_loss")) > 0);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "options"), "batch")), 4);
    json_t *history = json_object_get(json, "history");
    assert_true(json_array_size(history) >= 3);
    assert_true(json_equal(json_object_get(json_array_get(history, json_array_size(history) - 1), "validation_loss"),
                           json_object_get(json, "validation_loss")));
    json_decref(json);
    resume();
}

/* ---- a version on a job's validation text ---- */

static struct training_job *make_job_on(struct model *model, const char *text, const char *validation)
{
    struct training_job *job = NULL;
    struct error error;
    json_t *request = json_loads("{\"batch\":4,\"sequence_length\":8,\"max_steps\":30}", 0, NULL);
    struct training_job_options options = {.model_directory = model_directory,
                                           .request = request,
                                           .corpus = {.text = text, .text_bytes = strlen(text)},
                                           .validation = {.text = validation, .text_bytes = strlen(validation)},
                                           .threads = 2,
                                           .name = "train-3"};
    assert_ok(training_job_create(model, &options, NULL, &job, &error), error);
    json_decref(request);
    return job;
}

/* Trains a model on TEXT with this validation text; its path, and its loss on that. */
static double make_version(const char *specification, const char *validation, char path[256])
{
    struct error error;
    struct model *model = make_model_of(specification);
    struct training_job *job = make_job_on(model, TEXT, validation);
    assert_ok(training_job_run(job, &error), error);
    json_t *evaluation = training_job_evaluation(job);
    double loss = json_number_value(json_object_get(evaluation, "validation_loss"));
    json_decref(evaluation);
    snprintf(path, 256, "%s/%llu", model_directory, (unsigned long long)save(model, job));
    model_unref(model);
    return loss;
}

static enum status measure(const char *specification, const char *text, const char *validation, const char *path,
                           double *ret_loss, struct error *error)
{
    struct model *model = make_model_of(specification);
    struct training_job *job = make_job_on(model, text, validation);
    enum status status = training_job_measure_version(job, path, ret_loss, error);
    training_job_destroy(job);
    model_unref(model);
    return status;
}

static void expect_loss(const char *specification, const char *text, const char *validation, const char *path,
                        double expected)
{
    double loss = 0;
    struct error error;
    assert_ok(measure(specification, text, validation, path, &loss, &error), error);
    if (!(fabs(loss - expected) <= 1e-5 * expected)) {
        fail_msg("%s: %.9g, not %.9g", specification, loss, expected);
    }
}

static void test_a_version_is_measured_as_the_job_measures(void **state)
{
    (void)state;
    static const char VALIDATION[] = "the fox and the dog are far away, and the hills are green. the fox is near.\n";
    static const char CHARACTERS[] = "{\"layers\":1,\"units\":6}";
    static const char BYTES[] = "{\"layers\":2,\"units\":5,\"vocabulary\":\"bytes\"}";
    static const char WORDS[] = "{\"units\":5,\"vocabulary\":{\"kind\":\"words\",\"min_count\":2}}";
    static const char SAID[] = "the fox is lazy\nthe dog is lazy\n";
    char path[256];
    double loss = make_version(CHARACTERS, VALIDATION, path);
    expect_loss(CHARACTERS, TEXT, VALIDATION, path, loss);
    expect_loss("{\"cell\":\"gru\",\"units\":9}", TEXT + 80, VALIDATION, path, loss); /* another training text */
    expect_loss(BYTES, TEXT, VALIDATION, path, loss);
    struct error error;
    double ignored;
    assert_int_equal(measure(BYTES, TEXT, "the fo\xc3\xabx\n", path, &ignored, &error), STATUS_INVALID);
    assert_string_equal(error.code, "unknown_symbol");
    assert_int_equal(measure(WORDS, TEXT, "the lynx says nothing\n", path, &ignored, &error), STATUS_UNPROCESSABLE);
    assert_string_equal(error.code, "not_comparable");
    /* Of 10 words and ends of lines, 32 characters. */
    double per_word = 0;
    assert_ok(measure(WORDS, TEXT, SAID, path, &per_word, &error), error);
    assert_ok(measure(CHARACTERS, TEXT, SAID, path, &loss, &error), error);
    assert_true(fabs(per_word - loss * 32 / 10) < 1e-5 * per_word);
}

/* Allocations of reading and measuring a version fail, each seventh once: a status each time, and nothing leaks. */
static void test_a_version_cannot_be_measured_without_memory(void **state)
{
    (void)state;
    static const char VALIDATION[] = "the fox and the dog are far away, and the hills are green. the fox is near.\n";
    char path[256];
    uint64_t failing = 0;
    double loss = make_version("{\"layers\":1,\"units\":6}", VALIDATION, path);
    struct model *model = make_model_of("{\"units\":5,\"vocabulary\":\"bytes\"}");
    struct training_job *job = make_job_on(model, TEXT, VALIDATION);
    for (bool has_failed = true; has_failed; failing += 7) {
        double measured = 0;
        struct error error;
        uint64_t before = mem_allocation_count();
        mem_fail_after(failing);
        enum status status = training_job_measure_version(job, path, &measured, &error);
        mem_fail_after(UINT64_MAX);
        has_failed = mem_allocation_count() - before > failing;
        if (status != STATUS_OK && status != STATUS_NO_MEMORY) {
            fail_msg("allocation %llu: %s", (unsigned long long)failing, error.message);
        }
        assert_true(has_failed || status == STATUS_OK);
        assert_true(status != STATUS_OK || fabs(measured - loss) < 1e-5);
    }
    assert_true(failing > 100);
    training_job_destroy(job);
    model_unref(model);
}

static void test_a_stop_ends_the_measuring_of_a_version(void **state)
{
    (void)state;
    char path[256];
    double loss = make_version("{\"layers\":1,\"units\":6}", TEXT, path);
    for (size_t i = 0; i < 2; i++) { /* with the version's symbols, and read anew in others */
        struct model *model = make_model_of(i == 0 ? "{\"units\":5}" : "{\"units\":5,\"vocabulary\":\"bytes\"}");
        struct training_job *job = make_job_on(model, TEXT, TEXT);
        struct error error;
        training_job_stop(job);
        assert_int_equal(training_job_measure_version(job, path, &loss, &error), STATUS_CANCELLED);
        training_job_destroy(job);
        model_unref(model);
    }
}

/* A character of two bytes costs as much as both of them. */
static void test_a_version_is_measured_by_the_character(void **state)
{
    (void)state;
    static const char TWO[] = "\xd0\xbb\xd0\xb8\xd1\x81\xd0\xb0 \xd1\x81\xd0\xbf\xd0\xb8\xd1\x82\n";
    char text[1024] = "";
    char path[256];
    struct error error;
    for (size_t i = 0; i < 40; i++) {
        memcpy(text + strlen(text), TWO, sizeof TWO);
    }
    struct model *model = make_model();
    struct training_job *job = make_job_on(model, text, text);
    assert_ok(training_job_run(job, &error), error);
    json_t *evaluation = training_job_evaluation(job);
    double loss = json_number_value(json_object_get(evaluation, "validation_loss"));
    json_decref(evaluation);
    snprintf(path, sizeof path, "%s/%llu", model_directory, (unsigned long long)save(model, job));
    model_unref(model);
    expect_loss("{\"units\":5,\"vocabulary\":\"bytes\"}", text, text, path, loss * 10 / 18);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failure_changes_nothing),
        cmocka_unit_test(test_malformed_text),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_out_of_memory_from_elsewhere),
        cmocka_unit_test(test_out_of_memory_in_a_resume),
        cmocka_unit_test(test_what_has_diverged_is_described),
        cmocka_unit_test(test_a_stop_at_the_limit_keeps_the_checkpoint),
        cmocka_unit_test(test_one_job_at_a_time),
        cmocka_unit_test(test_nothing_is_measured_without_text),
        cmocka_unit_test(test_nothing_is_measured_once_stopped),
        cmocka_unit_test(test_what_cannot_be_measured_is_said),
        cmocka_unit_test(test_resume_ends_in_the_same_version),
        cmocka_unit_test(test_resume_takes_the_interrupted_graph),
        cmocka_unit_test(test_resume_takes_the_interrupted_graph_for_one_of_its_size),
        cmocka_unit_test(test_an_interrupted_training_is_described),
        cmocka_unit_test(test_a_version_is_measured_as_the_job_measures),
        cmocka_unit_test(test_a_stop_ends_the_measuring_of_a_version),
        cmocka_unit_test(test_a_version_is_measured_by_the_character),
        cmocka_unit_test(test_a_version_cannot_be_measured_without_memory),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
