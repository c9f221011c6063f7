/* A training job's thread: request → corpus → engine's job → versions. Thread: the job's own; it gives records to the
 * loop and never touches what is the loop's. Owns the model and the engine's job while it runs. */
#include "daemon/training_run.h"

#include <math.h>

#include "daemon/fields.h"
#include "engine/base/mem.h"

/* What the body says besides the engine's options. */
struct train_request {
    json_t *options;  /* the rest: owned */
    const char *text; /* the corpus, borrowed from `body` */
    size_t text_bytes;
    char path[PATH_MAX];
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

/* The handed-back values are now the job's best, or its last ones. */
static enum status publish_end(struct training_run *run, struct error *error)
{
    json_t *evaluation = training_job_evaluation(run->training);
    const json_t *loss = json_object_get(evaluation, "validation_loss");
    bool is_beaten = json_is_number(loss) && json_number_value(loss) >= run->published_loss;
    enum status status = STATUS_OK;
    if (run->publish != PUBLISH_NEVER && !(run->publish == PUBLISH_BEST && is_beaten)) {
        status = publish(run, evaluation, error);
    }
    json_decref(evaluation);
    return status;
}

/* The validation loss of the version that serves, if it was measured on the same text; else NaN. */
static double serving_loss(const struct training_run *run, const json_t *options)
{
    char path[REGISTRY_PATH_BYTES_MAX + 32];
    char *text;
    size_t length;
    if (run->ticket.version == 0) {
        return (double)NAN;
    }
    snprintf(path, sizeof path, "%s/manifest.json", run->ticket.version_path);
    if (file_read(path, VERSION_MANIFEST_BYTES_MAX, &text, &length, NULL) != STATUS_OK) {
        return (double)NAN;
    }
    json_t *manifest = json_loadb(text, length, 0, NULL);
    mem_free(text);
    const json_t *origin = json_object_get(manifest, "origin");
    const char *sha256 = json_string_value(json_object_get(json_object_get(origin, "corpus"), "sha256"));
    const json_t *fraction = json_object_get(json_object_get(origin, "options"), "validation_fraction");
    const json_t *loss = json_object_get(json_object_get(manifest, "evaluation"), "validation_loss");
    bool is_same = sha256 != NULL && strcmp(sha256, training_job_corpus_report(run->training).sha256) == 0 &&
                   json_number_value(fraction) == json_number_value(json_object_get(options, "validation_fraction"));
    double value = is_same && json_is_number(loss) ? json_number_value(loss) : (double)NAN;
    json_decref(manifest);
    return value;
}

/* ---- Reading the request */

static enum status refuse(struct error *error, enum status status, const char *code, const char *param)
{
    error_code(error, code);
    snprintf(error->param, sizeof error->param, "%s", param);
    return status;
}

static enum status find_kept_corpus(const struct training_run *run, const char *name, char path[PATH_MAX],
                                    struct error *error)
{
    char kept[PATH_MAX * 2];
    snprintf(kept, sizeof kept, "%s/%s", run->corpora_path, name);
    if (!name_is_valid(name) || access(kept, R_OK) != 0 || strlen(kept) >= PATH_MAX) {
        error_set(error, STATUS_NOT_FOUND, "there is no corpus '%.64s'", name);
        return refuse(error, STATUS_NOT_FOUND, "corpus_not_found", "/corpus/name");
    }
    memcpy(path, kept, strlen(kept) + 1);
    return STATUS_OK;
}

/* Symbolic links are followed before the path is compared with the roots. */
static enum status find_corpus_file(const struct training_run *run, const char *given, char path[PATH_MAX],
                                    struct error *error)
{
    char item[SETTING_TEXT_BYTES_MAX];
    char root[PATH_MAX];
    char found[PATH_MAX];
    bool is_there = given[0] == '/' && realpath(given, found) != NULL;
    for (size_t i = 0; is_there && settings_list_item(run->corpora_roots, i, item); i++) {
        size_t length = realpath(item, root) == NULL ? 0 : strlen(root);
        if (length > 0 && strncmp(found, root, length) == 0 && (found[length] == '/' || length == 1)) {
            memcpy(path, found, sizeof found);
            return STATUS_OK;
        }
    }
    error_set(error, STATUS_INVALID, "'%.200s' is not a file under corpora_roots", given);
    return refuse(error, STATUS_INVALID, "corpus_path", "/corpus/path");
}

static enum status read_corpus(const struct training_run *run, const json_t *corpus, struct train_request *request,
                               struct error *error)
{
    const char *name = NULL;
    const char *path = NULL;
    const json_t *text = json_object_get(corpus, "text");
    if (!json_is_object(corpus) || json_object_size(corpus) != 1) {
        error_set(error, STATUS_INVALID, "corpus must be {\"name\":…}, {\"text\":…} or {\"path\":…}");
        return refuse(error, STATUS_INVALID, "invalid_corpus", "/corpus");
    }
    TRY(fields_only(corpus, "name text path", error));
    TRY(fields_text(corpus, "name", &name, error));
    TRY(fields_text(corpus, "path", &path, error));
    TRY(fields_text(corpus, "text", &request->text, error));
    request->text_bytes = json_string_length(text);
    if (name != NULL) {
        return find_kept_corpus(run, name, request->path, error);
    }
    if (path != NULL) {
        return find_corpus_file(run, path, request->path, error);
    }
    if (request->text == NULL) {
        error_set(error, STATUS_INVALID, "corpus has no text");
        return refuse(error, STATUS_INVALID, "invalid_corpus", "/corpus");
    }
    return STATUS_OK;
}

static enum status read_request(struct training_run *run, struct train_request *request, struct error *error)
{
    size_t length;
    struct training_options options;
    const char *body = request_body(run->request, &length);
    TRY(fields_parse(body, length, &request->body, error));
    const json_t *resume = json_object_get(request->body, "resume");
    TRY(fields_flag(request->body, "resume", &request->is_resume, error));
    request->discards_unfinished = json_is_false(resume);
    TRY(read_corpus(run, json_object_get(request->body, "corpus"), request, error));
    request->options = json_copy(request->body);
    if (request->options == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a training job");
    }
    json_object_del(request->options, "corpus");
    json_object_del(request->options, "resume");
    TRY(training_options_read(request->options, &options, error));
    run->publish = options.publish;
    return STATUS_OK;
}

/* ---- The job */

static enum status create(struct training_run *run, struct train_request *request, struct training_job **ret_job,
                          struct error *error)
{
    const char *const paths[] = {request->path};
    struct training_callbacks callbacks = {.on_event = on_event, .context = run};
    TRY(read_request(run, request, error));
    bool is_file = request->path[0] != '\0';
    struct training_job_options options = {.model_directory = run->ticket.model_path,
                                           .request = request->options,
                                           .corpus_paths = is_file ? paths : NULL,
                                           .corpus_path_count = is_file ? 1 : 0,
                                           .corpus_text = request->text,
                                           .corpus_text_bytes = request->text_bytes,
                                           .is_resume = request->is_resume,
                                           .discards_unfinished = request->discards_unfinished,
                                           .is_idle_priority = true,
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
    struct train_request request = {.path = ""};
    struct training_job *job = NULL;
    json_t *options = NULL;
    enum status status = create(run, &request, &job, error);
    if (status == STATUS_OK) {
        json_t *origin = training_job_origin(job);
        options = json_deep_copy(json_object_get(origin, "options"));
        json_decref(origin);
    }
    json_decref(request.options);
    json_decref(request.body);
    TRY(status);
    pthread_mutex_lock(&run->lock);
    run->training = job;
    pthread_mutex_unlock(&run->lock);
    run->published_loss = run->publish == PUBLISH_BEST ? serving_loss(run, options) : (double)NAN;
    announce(run, options);
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
