/* The table of training jobs: starting, stopping, their ends. Thread: loop. Owns the table and the ping timer. */
#include "daemon/trainings.h"

#include "daemon/live_call.h"
#include "daemon/log.h"
#include "daemon/training_ending.h"
#include "daemon/training_run.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

struct trainings {
    struct server *server;
    struct training_run **runs; /* the last one of each model */
    size_t run_count;
    size_t running_count;
    uint64_t started_count;
    uv_timer_t *ping; /* closes by itself after trainings_destroy */
    bool is_ending;
};

void corpora_directory(const struct settings *settings, char path[REGISTRY_PATH_BYTES_MAX])
{
    if (settings->corpora[0] != '\0') {
        snprintf(path, REGISTRY_PATH_BYTES_MAX, "%s", settings->corpora);
    } else {
        snprintf(path, REGISTRY_PATH_BYTES_MAX, "%s/.corpora", settings->models);
    }
}

/* ---- From the thread */

static void answer_started(struct training_run *run)
{
    request_reply_json(run->request, 202, training_run_describe(run, false));
    request_release(run->request);
    run->request = NULL;
}

static void take_records(struct training_run *run)
{
    pthread_mutex_lock(&run->lock);
    struct training_record *record = run->first;
    json_t *options = run->started_options;
    bool has_started = run->has_started;
    run->first = NULL;
    run->last = &run->first;
    run->started_options = NULL;
    run->is_posted = false;
    pthread_mutex_unlock(&run->lock);
    if (options != NULL) {
        run->options = options;
    }
    if (has_started && run->request != NULL) {
        run->state = run->state == TRAINING_STARTING ? TRAINING_RUNNING : run->state;
        log_event(LOG_LEVEL_INFO, "training", NULL, "job=%s model=%s", run->id, run->name);
        answer_started(run);
        training_run_unref(run->before);
        run->before = NULL;
    }
    while (record != NULL) {
        struct training_record *next = record->next;
        training_run_keep(run, record);
        record = next;
    }
    training_run_changed(run, false);
}

static void on_message(struct message *message)
{
    struct training_run *run =
        (struct training_run *)(void *)((char *)message - offsetof(struct training_run, message));
    take_records(run);
}

/* The last checkpoint's record, or NULL. */
static const json_t *find_checkpoint(const struct training_run *run)
{
    for (size_t i = run->record_count; i > 0; i--) {
        const char *event = json_string_value(json_object_get(run->records[i - 1]->json, "event"));
        if (event != NULL && strcmp(event, "checkpoint") == 0) {
            return run->records[i - 1]->json;
        }
    }
    return NULL;
}

/* Why it ended before it was done. */
static void keep_ending(struct training_run *run)
{
    struct training_record *record = mem_allocate(1, sizeof *record);
    json_t *json = training_ending_record(&run->error, find_checkpoint(run));
    if (record == NULL || json == NULL) {
        mem_free(record);
        json_decref(json);
        return;
    }
    record->json = json;
    training_run_keep(run, record);
}

static void remove_run(struct trainings *trainings, const struct training_run *run)
{
    for (size_t i = 0; i < trainings->run_count; i++) {
        if (trainings->runs[i] == run) {
            training_run_unref(trainings->runs[i]);
            trainings->runs[i] = trainings->runs[--trainings->run_count];
            return;
        }
    }
}

/* A job that was refused leaves the one before it as it was. */
static void put_back(struct trainings *trainings, struct training_run *run)
{
    remove_run(trainings, run);
    if (run->before != NULL) {
        trainings->runs[trainings->run_count++] = run->before;
        run->before = NULL;
    }
}

static void tell_over(struct training_run *run)
{
    struct training_over *over = run->over;
    run->over = NULL;
    while (over != NULL) {
        struct training_over *next = over->next;
        over->on_over(over->context);
        mem_free(over);
        over = next;
    }
}

/* The thread has ended, every record is in the mailbox before this. */
static void on_ended(struct job *job)
{
    struct training_run *run = (struct training_run *)job;
    struct trainings *trainings = run->trainings;
    bool is_stopped = run->status == STATUS_CANCELLED;
    bool was_begun = run->request == NULL;
    take_records(run);
    was_begun = was_begun || run->request == NULL;
    run->state = run->status == STATUS_OK ? TRAINING_FINISHED : is_stopped ? TRAINING_STOPPED : TRAINING_FAILED;
    log_event(run->state == TRAINING_FAILED && was_begun ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "training ended", NULL,
              "job=%s model=%s state=%s%s%s", run->id, run->name, training_run_state(run),
              run->state == TRAINING_FAILED ? " reason=" : "", run->state == TRAINING_FAILED ? run->error.message : "");
    trainings->running_count--;
    registry_set_training(run->registry, run->name, false);
    live_ticket_release(&run->ticket);
    if (run->state != TRAINING_FINISHED) {
        keep_ending(run); /* of one that was refused, too, for whoever watches it */
    }
    if (!was_begun) {
        request_reply_error(run->request, &run->error);
        request_release(run->request);
        run->request = NULL;
        put_back(trainings, run);
    }
    training_run_changed(run, false);
    tell_over(run);
    training_run_unref(run);
}

/* ---- Starting */

static struct training_run *find(const struct trainings *trainings, const char *name)
{
    for (size_t i = 0; i < trainings->run_count; i++) {
        if (strcmp(trainings->runs[i]->name, name) == 0) {
            return trainings->runs[i];
        }
    }
    return NULL;
}

static enum status check_start(const struct trainings *trainings, const char *name, struct error *error)
{
    const struct training_run *other = find(trainings, name);
    uint64_t max = trainings->server->settings.training_jobs_max;
    if (other != NULL && !training_run_is_over(other)) {
        error_set(error, STATUS_CONFLICT, "model %s is being trained by job %s", name, other->id);
        error_code(error, "training");
        return STATUS_CONFLICT;
    }
    if (trainings->is_ending) {
        return error_set(error, STATUS_UNAVAILABLE, "lstmd is shutting down");
    }
    if (trainings->running_count >= max) {
        error_set(error, STATUS_LIMIT, "%zu training jobs run, training_jobs_max is %llu", trainings->running_count,
                  (unsigned long long)max);
        error_code(error, "training_jobs_max");
        return STATUS_LIMIT;
    }
    return STATUS_OK;
}

static enum status make_run(struct trainings *trainings, const char *name, struct training_run **ret_run,
                            struct error *error)
{
    const struct settings *settings = &trainings->server->settings;
    struct training_run *run = mem_allocate(1, sizeof *run);
    struct training_record **records = mem_allocate(TRAINING_RECORDS_MAX, sizeof(struct training_record *));
    struct training_run **runs =
        mem_reallocate(trainings->runs, trainings->run_count + 1, sizeof(struct training_run *));
    trainings->runs = runs == NULL ? trainings->runs : runs;
    if (run == NULL || records == NULL || runs == NULL || pthread_mutex_init(&run->lock, NULL) != 0) {
        mem_free(run);
        mem_free(records);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a training job");
    }
    run->references = 1;
    run->trainings = trainings;
    run->registry = trainings->server->registry;
    run->mailbox = trainings->server->mailbox;
    run->records = records;
    run->last = &run->first;
    run->message.deliver = on_message;
    run->job.run = training_run_thread;
    run->job.done = on_ended;
    run->thread_count = settings->training_threads;
    snprintf(run->name, sizeof run->name, "%s", name);
    snprintf(run->id, sizeof run->id, "train-%llu", (unsigned long long)++trainings->started_count);
    snprintf(run->corpora_roots, sizeof run->corpora_roots, "%s", settings->corpora_roots);
    corpora_directory(settings, run->corpora_path);
    *ret_run = run;
    return STATUS_OK;
}

static enum status start(struct trainings *trainings, const char *name, struct request *request, struct error *error)
{
    struct live_ticket ticket;
    struct training_run *run = NULL;
    TRY(registry_live_ticket(trainings->server->registry, name, &ticket, error));
    enum status status = live_ticket_check_writable(&ticket, name, error);
    if (status == STATUS_OK) {
        status = check_start(trainings, name, error);
    }
    if (status == STATUS_OK) {
        status = make_run(trainings, name, &run, error);
    }
    if (status != STATUS_OK) {
        live_ticket_release(&ticket);
        return status;
    }
    run->ticket = ticket;
    run->request = request;
    status = worker_start_thread("train", run->mailbox, &run->job, error);
    if (status != STATUS_OK) {
        run->request = NULL;
        live_ticket_release(&run->ticket);
        training_run_unref(run);
        return status;
    }
    struct training_run *before = find(trainings, name);
    if (before != NULL) {
        run->before = training_run_ref(before);
        remove_run(trainings, before);
    }
    trainings->runs[trainings->run_count++] = training_run_ref(run); /* the table's; the first is the thread's */
    trainings->running_count++;
    registry_set_training(trainings->server->registry, name, true);
    return STATUS_OK;
}

void trainings_start(struct trainings *trainings, const char *name, struct request *request)
{
    struct error error;
    request_hold(request, NULL, NULL);
    if (start(trainings, name, request, &error) != STATUS_OK) {
        request_reply_error(request, &error);
        request_release(request);
    }
}

/* ---- Stopping */

static void stop(struct training_run *run)
{
    pthread_mutex_lock(&run->lock);
    run->must_stop = true;
    if (run->training != NULL) {
        training_job_stop(run->training);
    }
    pthread_mutex_unlock(&run->lock);
    run->state = training_run_is_over(run) ? run->state : TRAINING_STOPPING;
}

void trainings_stop(struct trainings *trainings, const char *name, void (*on_over)(void *context), void *context)
{
    struct training_run *run = find(trainings, name);
    if (run == NULL || training_run_is_over(run)) {
        on_over(context);
        return;
    }
    stop(run);
    struct training_over *over = mem_allocate(1, sizeof *over);
    if (over == NULL) {
        on_over(context);
        return;
    }
    *over = (struct training_over){.next = run->over, .on_over = on_over, .context = context};
    run->over = over;
}

void trainings_stop_all(struct trainings *trainings)
{
    if (trainings == NULL) {
        return;
    }
    trainings->is_ending = true;
    for (size_t i = 0; i < trainings->run_count; i++) {
        stop(trainings->runs[i]);
    }
}

void trainings_forget(struct trainings *trainings, const char *name)
{
    const struct training_run *run = find(trainings, name);
    if (run != NULL && training_run_is_over(run)) {
        remove_run(trainings, run);
    }
}

void trainings_visit(const struct trainings *trainings,
                     void (*visit)(void *context, const char *model, double train_loss), void *context)
{
    for (size_t i = 0; i < trainings->run_count; i++) {
        const struct training_run *run = trainings->runs[i];
        for (size_t j = run->record_count; j > 0; j--) {
            const json_t *loss = json_object_get(run->records[j - 1]->json, "train_loss");
            if (json_is_number(loss)) {
                visit(context, run->name, json_number_value(loss));
                break;
            }
        }
    }
}

size_t trainings_running(const struct trainings *trainings)
{
    return trainings == NULL ? 0 : trainings->running_count;
}

/* ---- Looking */

enum status trainings_refuse(const char *name, struct error *error)
{
    error_set(error, STATUS_NOT_FOUND, "model %s has not been trained since lstmd started", name);
    return error_code(error, "no_training"), STATUS_NOT_FOUND;
}

enum status trainings_find(struct trainings *trainings, const char *name, struct training_run **ret_run,
                           struct error *error)
{
    struct training_run *run = find(trainings, name);
    if (run == NULL) {
        return trainings_refuse(name, error);
    }
    *ret_run = training_run_ref(run);
    return STATUS_OK;
}

/* ---- The table */

static void on_ping(uv_timer_t *timer)
{
    struct trainings *trainings = timer->data;
    for (size_t i = 0; i < trainings->run_count; i++) {
        training_run_changed(trainings->runs[i], true);
    }
}

static void on_ping_closed(uv_handle_t *handle)
{
    mem_free(handle);
}

enum status trainings_create(struct server *server, struct trainings **ret_trainings, struct error *error)
{
    struct trainings *trainings = mem_allocate(1, sizeof *trainings);
    uv_timer_t *ping = mem_allocate(1, sizeof *ping);
    if (trainings == NULL || ping == NULL) {
        mem_free(trainings);
        mem_free(ping);
        return error_set(error, STATUS_NO_MEMORY, "no memory for the training jobs");
    }
    uint64_t ping_ms = server->settings.ping_seconds * 1000;
    trainings->server = server;
    trainings->ping = ping;
    CHECK(uv_timer_init(&server->loop, ping) == 0);
    ping->data = trainings;
    CHECK(uv_timer_start(ping, on_ping, ping_ms, ping_ms) == 0);
    uv_unref((uv_handle_t *)ping);
    *ret_trainings = trainings;
    return STATUS_OK;
}

void trainings_destroy(struct trainings *trainings)
{
    if (trainings == NULL) {
        return;
    }
    CHECK(trainings->running_count == 0);
    while (trainings->run_count > 0) {
        remove_run(trainings, trainings->runs[0]);
    }
    uv_close((uv_handle_t *)trainings->ping, on_ping_closed);
    mem_free(trainings->runs);
    mem_free(trainings);
}
