/* Joining a model, a corpus and the trainer. Thread: the job's. */
#include "engine/model/training_job.h"

#include <math.h>

#include "engine/base/cpu.h"
#include "engine/base/mem.h"
#include "engine/engine.h"
#include "engine/model/model_training.h"
#include "engine/model/precision_cost.h"
#include "engine/model/training_base.h"
#include "engine/model/training_lock.h"
#include "engine/model/training_sample.h"
#include "engine/model/version_loss.h"
#include "engine/train/checkpoint.h"
#include "engine/train/ranks.h"

struct training_job {
    struct model *model;
    char name[64];
    char directory[TRAINING_JOB_PATH_BYTES_MAX - 32];
    char checkpoint_path[TRAINING_JOB_PATH_BYTES_MAX];
    struct training_lock *lock;
    bool holds_model;
    size_t threads;
    bool is_idle_priority;
    struct training_options options;
    struct checkpoint checkpoint; /* of a resume */
    char warning[256];            /* "": none */
    struct corpus *corpus;
    struct vocabulary *vocabulary;
    struct training_base base;
    struct model_training parts;
    struct version_file files[2]; /* graph.json, vocab.json */
    char *vocabulary_json;
    json_t *manifest;
    struct training *training;
};

static const char *const policy_names[] = {"fixed", "extend", "bytes"};
static_assert(sizeof policy_names / sizeof policy_names[0] == VOCABULARY_POLICY_COUNT, "one name each");

bool vocabulary_policy_find(const char *name, enum vocabulary_policy *ret_policy)
{
    for (int policy = 0; policy < VOCABULARY_POLICY_COUNT; policy++) {
        if (strcmp(policy_names[policy], name) == 0) {
            *ret_policy = (enum vocabulary_policy)policy;
            return true;
        }
    }
    return false;
}

void training_job_checkpoint_path(const char *model_directory, char path[TRAINING_JOB_PATH_BYTES_MAX])
{
    snprintf(path, TRAINING_JOB_PATH_BYTES_MAX, "%s/.training", model_directory);
}

/* ---- making ---- */

/* Whether there is a checkpoint, and where it lies. */
static bool find_checkpoint(const char *model_directory, char found[MODEL_DIRECTORY_PATH_BYTES])
{
    char path[TRAINING_JOB_PATH_BYTES_MAX];
    training_job_checkpoint_path(model_directory, path);
    return version_find(path, found);
}

bool training_job_is_unfinished(const char *model_directory)
{
    char found[MODEL_DIRECTORY_PATH_BYTES];
    return find_checkpoint(model_directory, found);
}

bool training_job_is_running(const char *model_directory)
{
    return training_lock_is_held(model_directory);
}

enum status training_job_describe_unfinished(const char *model_directory, json_t **ret_json, struct error *error)
{
    char path[TRAINING_JOB_PATH_BYTES_MAX];
    struct checkpoint checkpoint;
    if (!training_job_is_unfinished(model_directory)) {
        error_set(error, STATUS_NOT_FOUND, "%s: there is no interrupted training", model_directory);
        return error_code(error, "no_checkpoint"), STATUS_NOT_FOUND;
    }
    training_job_checkpoint_path(model_directory, path);
    TRY(checkpoint_look(path, &checkpoint, error));
    json_t *json = json_is_object(checkpoint.told) ? json_incref(checkpoint.told) : json_object();
    json_object_del(json, "event");
    bool is_whole = json_object_set(json, "options", checkpoint.options) == 0 &&
                    json_object_set(json, "history", checkpoint.history) == 0;
    checkpoint_release(&checkpoint);
    if (!is_whole) {
        json_decref(json);
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory", model_directory);
    }
    *ret_json = json;
    return STATUS_OK;
}

json_t *training_job_earlier_history(const struct training_job *job)
{
    return json_deep_copy(job->checkpoint.history);
}

/* Sums are rounded otherwise by other kernels. */
static void compare_kernels(struct training_job *job)
{
    struct engine_info info = engine_info();
    const char *kernels = json_string_value(json_object_get(job->checkpoint.origin, "kernels"));
    const char *blas = json_string_value(json_object_get(job->checkpoint.origin, "blas"));
    if (kernels && blas && (strcmp(kernels, info.kernels) != 0 || strcmp(blas, info.blas) != 0)) {
        snprintf(
            job->warning, sizeof job->warning,
            "the interrupted training had kernels %.40s and OpenBLAS for %.40s, it goes on with %s and %s: it will "
            "not end in the same bits",
            kernels, blas, info.kernels, info.blas);
    }
}

const char *training_job_warning(const struct training_job *job)
{
    return job->warning[0] == '\0' ? NULL : job->warning;
}

static enum status check_unfinished(struct training_job *job, const struct training_job_options *options,
                                    struct error *error)
{
    char found[MODEL_DIRECTORY_PATH_BYTES];
    bool is_there = find_checkpoint(job->directory, found);
    if (options->is_resume && !is_there) {
        error_set(error, STATUS_NOT_FOUND, "%s: there is no interrupted training to resume", job->directory);
        return error_code(error, "no_checkpoint"), STATUS_NOT_FOUND;
    }
    if (!options->is_resume && is_there && !options->discards_unfinished) {
        error_set(error, STATUS_CONFLICT, "%s: an interrupted training is there: resume it, or remove %s",
                  job->directory, found);
        return error_code(error, "unfinished_job"), STATUS_CONFLICT;
    }
    if (options->is_resume) {
        TRY(checkpoint_read(job->checkpoint_path, &job->checkpoint, error));
        compare_kernels(job);
        return training_options_resume(job->checkpoint.options, options->request, &job->options, error);
    }
    return training_options_read(options->request, &job->options, error);
}

/* A part that has a text of its own is no fraction of the corpus. */
static enum status check_fraction(const struct training_job_options *options, const struct corpus_text *text,
                                  const char *field, struct error *error)
{
    if (!text->paths && !text->text) {
        return STATUS_OK;
    }
    if (json_number_value(json_object_get(options->request, field)) > 0) {
        error_set(error, STATUS_INVALID, "%s: there is a text of its own for that", field);
        if (error) {
            snprintf(error->param, sizeof error->param, "%s", field);
        }
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

static enum status encode(struct training_job *job, struct error *error)
{
    enum status status = corpus_encode(job->corpus, job->vocabulary, error);
    if (status != STATUS_OK && error && strcmp(error->code, "unknown_symbol") == 0) {
        snprintf(error->hint, sizeof error->hint, "vocabulary_policy \"extend\" takes it in");
    }
    return status;
}

static enum status check_ranks(const struct training_job *job, struct error *error)
{
    if (job->options.shards >= ranks_count()) {
        return STATUS_OK;
    }
    error_set(error, STATUS_INVALID, "shards is %zu, and %zu ranks train: at least one for each", job->options.shards,
              ranks_count());
    if (error) {
        snprintf(error->param, sizeof error->param, "shards");
    }
    return STATUS_INVALID;
}

static enum status read_corpus(struct training_job *job, const struct training_job_options *options,
                               struct error *error)
{
    struct corpus_source source = {.parts = {options->corpus, options->validation, options->test},
                                   .directory = ranks_index() == 0 ? job->directory : P_tmpdir,
                                   .is_cancelled = options->is_cancelled};
    TRY(check_fraction(options, &options->validation, "validation_fraction", error));
    TRY(check_fraction(options, &options->test, "test_fraction", error));
    TRY(options->is_resume ? training_base_take_checkpoint(job->model, job->checkpoint_path, &job->base, error)
                           : training_base_take(job->model, &options->start, &job->base, error));
    source.kind = job->base.kind;
    TRY(corpus_create(&source, &job->corpus, error));
    if (options->is_resume) {
        TRY(checkpoint_check_corpus(&job->checkpoint, corpus_report(job->corpus).sha256, error));
    }
    TRY(training_base_choose(&job->base, &options->start, job->corpus, &job->vocabulary, error));
    TRY(encode(job, error));
    return training_check_corpus(job->corpus, &job->options, error);
}

static enum status make_model_files(struct training_job *job, struct error *error)
{
    json_t *json;
    TRY(vocabulary_to_json(job->vocabulary, &json, error));
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    job->vocabulary_json = text ? mem_copy_string(text) : NULL;
    free(text); /* jansson's own */
    job->manifest = json_pack("{s:o}", "origin", training_job_origin(job));
    if (!job->vocabulary_json || !job->manifest) {
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory", job->name);
    }
    job->files[0] = (struct version_file){"graph.json", job->parts.graph_json, job->parts.graph_json_bytes};
    job->files[1] = (struct version_file){"vocab.json", job->vocabulary_json, strlen(job->vocabulary_json)};
    return STATUS_OK;
}

static enum status hand_back(void *context, const struct values *values, struct error *error)
{
    struct training_job *job = context;
    return model_hand_back(job->model, values, error);
}

/* Begins as the text does. */
static enum status make_sample(void *context, uint64_t step, char **ret_text, struct error *error)
{
    const struct training_job *job = context;
    int32_t first;
    TRY(corpus_copy_symbols(job->corpus, 0, 1, &first, error));
    struct training_sample sample = {.graph = job->parts.graph,
                                     .values = job->parts.values,
                                     .vocabulary = job->vocabulary,
                                     .first_symbol = (uint32_t)first,
                                     .symbols = job->options.sample_symbols,
                                     .seed = job->options.seed + step,
                                     .is_cancelled = training_stop_flag(job->training)};
    return training_sample_make(&sample, ret_text, error);
}

static enum status make_training(struct training_job *job, const struct training_job_options *options,
                                 const struct training_callbacks *callbacks, struct error *error)
{
    struct training_parts parts = {.graph = job->parts.graph,
                                   .values = job->parts.values,
                                   .step = &job->parts.step,
                                   .corpus = job->corpus,
                                   .is_watched = !options->has_kept_files,
                                   .checkpoint_path = job->checkpoint_path,
                                   .model_files = job->files,
                                   .model_file_count = 2,
                                   .manifest = job->manifest,
                                   .is_idle_priority = job->is_idle_priority,
                                   .threads = job->threads,
                                   .hand_back = hand_back,
                                   .make_sample = make_sample,
                                   .context = job};
    if (callbacks) {
        parts.callbacks = *callbacks;
    }
    if (options->is_resume) {
        return training_create_resumed(&parts, &job->options, &job->checkpoint, &job->training, error);
    }
    return training_create(&parts, &job->options, &job->training, error);
}

static enum status make(struct training_job *job, const struct training_job_options *options,
                        const struct training_callbacks *callbacks, struct error *error)
{
    if (options->is_idle_priority) {
        cpu_thread_set_idle();
    }
    TRY(model_begin_training(job->model, job->name, error));
    job->holds_model = true;
    TRY(ranks_index() == 0 ? training_lock_take(job->directory, &job->lock, error) : STATUS_OK);
    TRY(check_unfinished(job, options, error));
    TRY(check_ranks(job, error));
    TRY(read_corpus(job, options, error));
    TRY(training_base_fit(&job->base, &options->start, job->vocabulary, job->options.seed, error));
    TRY(model_training_prepare(job->base.model, job->vocabulary, &job->options.step, job->options.label_smoothing > 0,
                               job->options.seed, &job->parts, error));
    TRY(make_model_files(job, error));
    return make_training(job, options, callbacks, error);
}

/* With the other ranks: all or none. Other kernels would let their weights drift apart. The model changes last. */
static enum status make_together(struct training_job *job, const struct training_job_options *options,
                                 const struct training_callbacks *callbacks, struct error *error)
{
    char text[RANKS_TEXT_BYTES_MAX];
    TRY(ranks_agree(make(job, options, callbacks, error), error));
    snprintf(text, sizeof text, "%s, for kernels %.40s,", corpus_report(job->corpus).sha256, engine_info().kernels);
    TRY(ranks_agree(ranks_compare("the text's SHA-256", text, error), error));
    training_base_adopt(&job->base, job->model);
    return STATUS_OK;
}

enum status training_job_create(struct model *model, const struct training_job_options *options,
                                const struct training_callbacks *callbacks, struct training_job **ret_job,
                                struct error *error)
{
    struct training_job *job = mem_allocate(1, sizeof *job);
    if (!job) {
        return error_set(error, STATUS_NO_MEMORY, "training: no memory");
    }
    job->model = model_ref(model);
    snprintf(job->name, sizeof job->name, "%s", options->name);
    job->threads = options->threads ? options->threads : cpu_usable_count();
    job->is_idle_priority = options->is_idle_priority;
    enum status status = STATUS_OK;
    if (strlen(options->model_directory) >= sizeof job->directory) {
        status = error_set(error, STATUS_LIMIT, "the model directory's path has %zu bytes, at most %zu",
                           strlen(options->model_directory), sizeof job->directory - 1);
    } else {
        snprintf(job->directory, sizeof job->directory, "%s", options->model_directory);
        training_job_checkpoint_path(options->model_directory, job->checkpoint_path);
        status = make_together(job, options, callbacks, error);
    }
    if (status != STATUS_OK) {
        training_job_destroy(job);
        return status;
    }
    *ret_job = job;
    return STATUS_OK;
}

void training_job_destroy(struct training_job *job)
{
    if (!job) {
        return;
    }
    training_destroy(job->training);
    training_base_release(&job->base);
    model_training_release(&job->parts);
    corpus_destroy(job->corpus);
    vocabulary_unref(job->vocabulary);
    checkpoint_release(&job->checkpoint);
    json_decref(job->manifest);
    mem_free(job->vocabulary_json);
    training_lock_release(job->lock);
    if (job->holds_model) {
        model_end_training(job->model);
    }
    model_unref(job->model);
    mem_free(job);
}

/* ---- running ---- */

enum status training_job_run(struct training_job *job, struct error *error)
{
    return training_run(job->training, error);
}

void training_job_stop(struct training_job *job)
{
    training_stop(job->training);
}

enum status training_job_finish(struct training_job *job, struct error *error)
{
    return version_remove(job->checkpoint_path, error);
}

enum publish training_job_publish(const struct training_job *job)
{
    return job->options.publish;
}

uint64_t training_job_step(const struct training_job *job)
{
    struct training_event event;
    training_describe(job->training, &event);
    return event.step;
}

const struct corpus *training_job_corpus(const struct training_job *job)
{
    return job->corpus;
}

struct vocabulary *training_job_vocabulary(const struct training_job *job)
{
    return job->vocabulary;
}

json_t *training_job_describe_corpus(const struct training_job *job)
{
    struct corpus_report report = corpus_report(job->corpus);
    json_t *changed = json_array();
    for (size_t i = 0; i < report.file_count && json_array_size(changed) < TRAINING_JOB_FILES_MAX; i++) {
        struct corpus_file_report file = corpus_file_report(job->corpus, i);
        if (file.marks > 0 || file.line_endings > 0) {
            json_array_append_new(changed, json_pack("{s:s, s:I, s:I}", "name", file.name, "byte_order_marks_dropped",
                                                     (json_int_t)file.marks, "line_endings_changed",
                                                     (json_int_t)file.line_endings));
        }
    }
    json_t *json = json_pack("{s:s, s:I, s:I, s:I, s:{s:s, s:I}, s:I, s:I, s:o, s:s}", "event", "corpus", "files",
                             (json_int_t)report.file_count, "bytes", (json_int_t)report.bytes, "symbols",
                             (json_int_t)corpus_symbol_count(job->corpus), "vocabulary", "kind",
                             vocabulary_kind_name(vocabulary_kind(job->vocabulary)), "size",
                             (json_int_t)vocabulary_size(job->vocabulary), "byte_order_marks_dropped",
                             (json_int_t)report.marks, "line_endings_changed", (json_int_t)report.line_endings,
                             "changed_files", changed, "sha256", report.sha256);
    if (json != NULL && vocabulary_kind(job->vocabulary) == VOCABULARY_WORDS) {
        json_object_set_new(json, "unknown_words", json_integer((json_int_t)report.unknown_words));
        json_object_set_new(json, "unseen_words", json_integer((json_int_t)report.unseen_words));
        json_object_set_new(json, "trains_unknown", json_boolean(report.trains_unknown));
    }
    return json;
}

static struct corpus_split split(const struct training_job *job)
{
    return corpus_split(job->corpus, job->options.validation_fraction, job->options.test_fraction);
}

enum status training_job_measure_version(const struct training_job *job, const char *version_path, double *ret_loss,
                                         struct error *error)
{
    struct version_loss_options options = {.version_path = version_path,
                                           .corpus = job->corpus,
                                           .vocabulary = job->vocabulary,
                                           .stretch = split(job).parts[CORPUS_VALIDATION],
                                           .directory = job->directory,
                                           .shards = job->options.shards,
                                           .threads = job->threads,
                                           .is_idle_priority = job->is_idle_priority,
                                           .is_cancelled = training_stop_flag(job->training)};
    if (options.stretch.count == 0) {
        *ret_loss = (double)NAN;
        return STATUS_OK;
    }
    return version_loss_measure(&options, ret_loss, error);
}

/* ---- what the manifest says ---- */

json_t *training_job_evaluation(const struct training_job *job)
{
    struct training_event event;
    training_describe(job->training, &event);
    bool is_best = isfinite(event.best_loss);
    double loss = is_best ? event.best_loss : event.train_loss;
    json_t *json = json_pack("{s:o, s:f, s:f, s:o, s:I, s:I, s:f, s:f}", "validation_loss",
                             is_best ? json_real(loss) : json_null(), "train_loss", event.train_loss,
                             "bits_per_character", loss / log(2) * event.symbols_per_character, "perplexity",
                             checkpoint_number(exp(loss)), "step", (json_int_t)(is_best ? event.best_step : event.step),
                             "steps", (json_int_t)event.step, "epochs", event.epoch, "seconds", event.seconds);
    if (isfinite(event.test_loss)) {
        json_object_set_new(json, "test_loss", json_real(event.test_loss));
        json_object_set_new(json, "test_perplexity", checkpoint_number(exp(event.test_loss)));
    }
    return json;
}

void training_job_add_precisions(const struct training_job *job, json_t *evaluation)
{
    json_t *report = NULL;
    struct error error;
    struct corpus_stretch stretch = split(job).parts[CORPUS_VALIDATION];
    enum status status = precision_cost_measure(job->parts.graph, job->parts.values, job->vocabulary, job->corpus,
                                                stretch, training_stop_flag(job->training), &report, &error);
    if (status == STATUS_OK && report != NULL) {
        json_object_set_new(evaluation, "precisions", report);
    }
}

json_t *training_job_origin(const struct training_job *job)
{
    struct engine_info info = engine_info();
    struct corpus_report report = corpus_report(job->corpus);
    struct corpus_split parts = split(job);
    return json_pack("{s:s, s:{s:s, s:I, s:I, s:I, s:I, s:I, s:I}, s:o, s:s, s:s}", "kind", "training", "corpus",
                     "sha256", report.sha256, "bytes", (json_int_t)report.bytes, "symbols",
                     (json_int_t)corpus_symbol_count(job->corpus), "training_symbols",
                     (json_int_t)parts.parts[CORPUS_TRAIN].count, "validation_symbols",
                     (json_int_t)parts.parts[CORPUS_VALIDATION].count, "test_symbols",
                     (json_int_t)parts.parts[CORPUS_TEST].count, "files", (json_int_t)report.file_count, "options",
                     training_options_write(&job->options), "kernels", info.kernels, "blas", info.blas);
}
