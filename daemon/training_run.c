/* A training job's thread: request → corpus → engine's job → versions. Thread: the job's own; it gives records to the
 * loop and never touches what is the loop's. Owns the model and the engine's job while it runs. */
#include "daemon/training_run.h"

#include <math.h>

#include "daemon/fields.h"
#include "daemon/model_reference.h"
#include "daemon/train_texts.h"
#include "engine/base/mem.h"

/* What the body says besides the engine's options. */
struct train_request {
    json_t *options; /* the rest: owned */
    struct train_texts texts;
    struct training_start start;
    char version_path[MODEL_REFERENCE_PATH_BYTES_MAX + 32]; /* start's */
    bool is_resume;
    bool discards_unfinished;
    json_t *body;
};

void training_record_free(struct training_record *record)
{
    if (record != NULL) {
        json_decref(record->json);
        mem_free(record);
    }
}

/* ---- Telling the loop */

static void post(struct training_run *run)
{
    bool must_post = !run->is_posted;
    run->is_posted = true;
    pthread_mutex_unlock(&run->lock);
    if (must_post) {
        mailbox_post(run->mailbox, &run->message);
    }
}

/* Takes `json`. A record that finds no memory is lost; the job goes on. */
static void tell(struct training_run *run, json_t *json, bool is_progress, uint64_t version)
{
    struct training_record *record = json == NULL ? NULL : mem_allocate(1, sizeof *record);
    if (record == NULL) {
        json_decref(json);
        return;
    }
    *record = (struct training_record){.json = json, .is_progress = is_progress, .version = version};
    pthread_mutex_lock(&run->lock);
    *run->last = record;
    run->last = &record->next;
    post(run);
}

/* A resume's history begins where the interrupted training's did. */
static void tell_earlier_history(struct training_run *run, const struct training_job *job)
{
    json_t *history = training_job_earlier_history(job);
    for (size_t i = 0; i < json_array_size(history); i++) {
        tell(run, json_deep_copy(json_array_get(history, i)), true, 0); /* its own: counts are not atomic everywhere */
    }
    json_decref(history);
}

/* ---- Publishing */

/* Adds to `evaluation` what precisions cost. */
static enum status publish(struct training_run *run, json_t *evaluation, struct error *error)
{
    uint64_t version;
    training_job_add_precisions(run->training, evaluation);
    json_t *origin = training_job_origin(run->training);
    enum status status = model_save(run->model, run->ticket.model_path, origin, evaluation, &version, error);
    json_decref(origin);
    TRY(status);
    live_note_saved(&run->ticket, version);
    run->last_version = version;
    run->published_step = json_integer_value(json_object_get(evaluation, "step"));
    tell(run,
         json_pack("{s:s, s:I, s:I}", "event", "published", "step", (json_int_t)run->last_step, "version",
                   (json_int_t)version),
         false, version);
    return STATUS_OK;
}

static bool is_to_publish(const struct training_run *run, const struct training_event *event)
{
    if (run->publish == PUBLISH_CHECKPOINTS) {
        return true;
    }
    return run->publish == PUBLISH_BEST && event->is_evaluation && event->is_best &&
           !(event->validation_loss >= run->published_loss);
}

static void publish_checkpoint(struct training_run *run, const struct training_event *event)
{
    json_t *evaluation = training_event_to_json(event);
    json_object_del(evaluation, "event");
    run->publish_status = publish(run, evaluation, &run->publish_error);
    json_decref(evaluation);
    if (run->publish_status != STATUS_OK) {
        training_job_stop(run->training);
    } else if (event->is_evaluation) {
        run->published_loss = event->validation_loss;
    }
}

static void on_event(void *context, struct training *training, const struct training_event *event)
{
    struct training_run *run = context;
    (void)training;
    run->last_step = event->step;
    json_t *json = training_event_to_json(event);
    if (event->kind == TRAINING_DONE) {
        json_decref(run->done);
        run->done = json;
        return;
    }
    tell(run, json, event->kind == TRAINING_PROGRESS, 0);
    if (event->kind == TRAINING_CHECKPOINT && run->publish_status == STATUS_OK && is_to_publish(run, event)) {
        publish_checkpoint(run, event);
    }
}

/* Whether the job's best, which is its result, is published: a version beats it, or is it. */
static bool is_published(const struct training_run *run, const json_t *evaluation)
{
    const json_t *loss = json_object_get(evaluation, "validation_loss");
    if (run->publish == PUBLISH_BEST) {
        return json_is_number(loss) && json_number_value(loss) >= run->published_loss;
    }
    return run->last_version != 0 && json_object_get(evaluation, "test_loss") == NULL &&
           json_integer_value(json_object_get(evaluation, "step")) == run->published_step;
}

/* The handed-back values are now the job's best, or its last ones. */
static enum status publish_end(struct training_run *run, struct error *error)
{
    json_t *evaluation = training_job_evaluation(run->training);
    if (evaluation == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the evaluation");
    }
    enum status status = STATUS_OK;
    if (run->publish != PUBLISH_NEVER && !is_published(run, evaluation)) {
        status = publish(run, evaluation, error);
    }
    json_decref(evaluation);
    return status;
}

/* What `best` has to beat: the version that serves, on this job's validation text. Where that cannot be said, the best
 * is published, with a warning. */
static void measure_serving(struct training_run *run, const struct training_job *job)
{
    struct error reason;
    char message[ERROR_MESSAGE_BYTES_MAX + 128];
    run->published_loss = (double)NAN;
    if (run->publish != PUBLISH_BEST || run->ticket.version == 0) {
        return;
    }
    enum status status = training_job_measure_version(job, run->ticket.version_path, &run->published_loss, &reason);
    if (status == STATUS_OK || status == STATUS_CANCELLED) { /* stopped: nothing is published */
        return;
    }
    snprintf(message, sizeof message, "the best weights are published without comparing them with %s@%llu: %s",
             run->name, (unsigned long long)run->ticket.version, reason.message);
    tell(run, json_pack("{s:s, s:s}", "event", "warning", "message", message), false, 0);
}

/* ---- Reading the request */

static enum status refuse(struct error *error, const char *field)
{
    snprintf(error->param, sizeof error->param, "/%s", field);
    return error->status;
}

/* "code@1", "code": the newest version that is whole. */
static enum status find_version(const struct training_run *run, const char *from, struct train_request *request,
                                struct error *error)
{
    char text[MODEL_REFERENCE_PATH_BYTES_MAX];
    struct model_reference reference;
    struct snapshot *snapshot = NULL;
    const char *slash = strrchr(run->ticket.model_path, '/');
    int length = slash == NULL ? 0 : (int)(slash - run->ticket.model_path);
    if (strchr(from, '/') != NULL) {
        return error_set(error, STATUS_INVALID, "from must be \"scratch\", a model's name, or name@version");
    }
    snprintf(text, sizeof text, "%.*s/%.200s", length, run->ticket.model_path, from);
    TRY(model_reference_parse(text, &reference, error));
    TRY(model_reference_load(&reference, &snapshot, error));
    model_reference_version_path(&reference, snapshot_version(snapshot), request->version_path);
    snapshot_unref(snapshot);
    request->start.version_path = request->version_path;
    return STATUS_OK;
}

/* Where the training begins, if not at the graph's own weights. */
static enum status read_start(const struct training_run *run, struct train_request *request, struct error *error)
{
    const char *from = NULL;
    const char *policy = "fixed";
    TRY(fields_text(request->body, "from", &from, error));
    TRY(fields_text(request->body, "vocabulary_policy", &policy, error));
    if (!vocabulary_policy_find(policy, &request->start.policy)) {
        error_set(error, STATUS_INVALID, "vocabulary_policy must be \"fixed\", \"extend\" or \"bytes\"");
        return refuse(error, "vocabulary_policy");
    }
    if (request->is_resume && (from != NULL || request->start.policy != VOCABULARY_POLICY_FIXED)) {
        error_set(error, STATUS_INVALID, "a resume goes on as it began: leave from and vocabulary_policy out");
        return refuse(error, "from");
    }
    request->start.is_scratch = from != NULL && strcmp(from, "scratch") == 0;
    if (from != NULL && !request->start.is_scratch && find_version(run, from, request, error) != STATUS_OK) {
        return refuse(error, "from");
    }
    return STATUS_OK;
}

static enum status read_request(struct training_run *run, struct train_request *request, struct error *error)
{
    size_t length;
    struct training_options options; /* of a resume not all: the checkpoint has the others */
    const char *body = request_body(run->request, &length);
    TRY(fields_parse(body, length, &request->body, error));
    const json_t *resume = json_object_get(request->body, "resume");
    TRY(fields_flag(request->body, "resume", &request->is_resume, error));
    request->discards_unfinished = json_is_false(resume);
    TRY(read_start(run, request, error));
    struct train_texts_folders folders = {.corpora_path = run->corpora_path, .corpora_roots = run->corpora_roots};
    TRY(train_texts_read(request->body, &folders, &request->texts, error));
    request->options = json_copy(request->body);
    if (request->options == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a training job");
    }
    static const char *const own[] = {"corpus", "validation", "test", "resume", "from", "vocabulary_policy"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        json_object_del(request->options, own[i]);
    }
    return training_options_read(request->options, &options, error);
}

/* ---- The job */

static enum status create(struct training_run *run, struct train_request *request, struct training_job **ret_job,
                          struct error *error)
{
    struct training_callbacks callbacks = {.on_event = on_event, .context = run};
    TRY(read_request(run, request, error));
    struct training_job_options options = {.model_directory = run->ticket.model_path,
                                           .request = request->options,
                                           .corpus = request->texts.parts[CORPUS_TRAIN],
                                           .validation = request->texts.parts[CORPUS_VALIDATION],
                                           .test = request->texts.parts[CORPUS_TEST],
                                           .has_kept_files = !request->texts.has_paths,
                                           .start = request->start,
                                           .is_resume = request->is_resume,
                                           .discards_unfinished = request->discards_unfinished,
                                           .is_idle_priority = true,
                                           .is_cancelled = &run->must_stop,
                                           .threads = run->thread_count,
                                           .name = run->id};
    TRY(live_open(&run->ticket, &run->model, error));
    return training_job_create(run->model, &options, &callbacks, ret_job, error);
}

static void announce(struct training_run *run, json_t *options)
{
    pthread_mutex_lock(&run->lock);
    run->started_options = options;
    run->has_started = true;
    if (run->must_stop) {
        training_job_stop(run->training);
    }
    post(run);
}

static enum status train(struct training_run *run, struct error *error)
{
    enum status status = training_job_run(run->training, error);
    if (run->publish_status != STATUS_OK) {
        *error = run->publish_error;
        return run->publish_status;
    }
    TRY(status);
    TRY(publish_end(run, error));
    TRY(training_job_finish(run->training, error));
    if (run->last_version != 0) {
        json_object_set_new(run->done, "version", json_integer((json_int_t)run->last_version));
    }
    tell(run, run->done, false, 0);
    run->done = NULL;
    return STATUS_OK;
}

static enum status create_and_train(struct training_run *run, struct error *error)
{
    struct train_request request = {.options = NULL};
    struct training_job *job = NULL;
    json_t *options = NULL;
    enum status status = create(run, &request, &job, error);
    if (status == STATUS_OK) {
        json_t *origin = training_job_origin(job);
        run->publish = training_job_publish(job);
        options = json_deep_copy(json_object_get(origin, "options"));
        json_decref(origin);
    }
    json_decref(request.options);
    json_decref(request.body);
    train_texts_release(&request.texts);
    TRY(status);
    pthread_mutex_lock(&run->lock);
    run->training = job;
    pthread_mutex_unlock(&run->lock);
    announce(run, options);
    tell_earlier_history(run, job);
    if (training_job_warning(job) != NULL) {
        tell(run, json_pack("{s:s, s:s}", "event", "warning", "message", training_job_warning(job)), false, 0);
    }
    tell(run, training_job_describe_corpus(job), false, 0);
    measure_serving(run, job);
    status = train(run, error);
    pthread_mutex_lock(&run->lock);
    run->training = NULL;
    pthread_mutex_unlock(&run->lock);
    training_job_destroy(job);
    return status;
}

void training_run_thread(struct job *job)
{
    struct training_run *run = (struct training_run *)job;
    run->status = create_and_train(run, &run->error);
    model_unref(run->model);
    run->model = NULL;
    json_decref(run->done);
    run->done = NULL;
}
