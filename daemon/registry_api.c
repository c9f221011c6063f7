/* The registry as the API's routes use it: making, deleting, loading, unloading. Thread: loop; files are written by a
 * job on the loader thread, whose end answers the call. */
#include <sys/stat.h>

#include "daemon/log.h"
#include "daemon/registry_private.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for this request");
}

void registry_answer_error(struct registry_callback callback, const struct error *error)
{
    registry_answer(callback, error->status, error, NULL, false);
}

/* ---- writing on the loader thread ---- */

/* A model to make by its definition.json, a small file of a model to write, or a directory to remove, and the answer to
 * give when that is done. */
struct file_job {
    struct job job;
    struct registry *registry;
    struct registry_callback callback;
    char model[MODEL_NAME_BYTES_MAX];
    char directory[REGISTRY_PATH_BYTES_MAX];
    char file[32]; /* "": remove the directory */
    char *text;
    json_t *reply;
    bool is_new;
    enum rnn_precision precision; /* as in struct registry_write */
    enum status status;
    struct error error;
};

static enum status refuse_existing(const char *name, struct error *error)
{
    error_set(error, STATUS_CONFLICT, "model %s exists already, made otherwise", name);
    return error_code(error, "model_exists"), STATUS_CONFLICT;
}

/* Whether the file holds what the job would write. */
static bool is_written_already(const struct file_job *job, const char *path)
{
    char *bytes = NULL;
    size_t length = 0;
    if (file_read(path, MODEL_FILE_BYTES_MAX, &bytes, &length, NULL) != STATUS_OK) {
        return false;
    }
    json_t *there = json_loadb(bytes, length, 0, NULL);
    json_t *wanted = json_loads(job->text, 0, NULL);
    bool is_same = there != NULL && json_equal(there, wanted);
    json_decref(there);
    json_decref(wanted);
    mem_free(bytes);
    return is_same;
}

/* Of several PUTs at once the first makes the directory and with it the model; the others find it, as later ones do. */
static enum status make_model(struct file_job *job, const char *path)
{
    if (mkdir(job->directory, 0777) != 0) {
        int reason = errno;
        job->is_new = false;
        if (reason != EEXIST) {
            return error_set_errno(&job->error, reason, "make directory %s", job->directory);
        }
        return is_written_already(job, path) ? STATUS_OK : refuse_existing(job->model, &job->error);
    }
    enum status status = file_write_atomically(path, job->text, strlen(job->text), &job->error);
    if (status != STATUS_OK) {
        rmdir(job->directory);
    }
    return status;
}

/* A directory that was removed by hand stays away: no scan has told the loop yet. */
static enum status write_file(struct file_job *job, const char *path)
{
    enum status status = file_write_atomically(path, job->text, strlen(job->text), &job->error);
    struct stat facts;
    return status != STATUS_OK && stat(job->directory, &facts) != 0 ? registry_refuse_missing(job->model, &job->error)
                                                                    : status;
}

static void file_run(struct job *base)
{
    struct file_job *job = (struct file_job *)base;
    char path[REGISTRY_PATH_BYTES_MAX + 40];
    snprintf(path, sizeof path, "%s/%s", job->directory, job->file);
    if (job->file[0] == '\0') {
        job->status = directory_remove(job->directory, &job->error);
    } else if (strcmp(job->file, model_file_name(MODEL_FILE_DEFINITION)) == 0) {
        job->status = make_model(job, path);
    } else {
        job->status = write_file(job, path);
    }
}

/* What was written is so for every request after the answer: the answer waits for a scan that has seen it. */
static void answer_when_seen(struct file_job *job)
{
    struct registry_waiter *waiter = registry_add_waiter(job->registry, job->model, job->callback);
    if (waiter == NULL) {
        registry_answer(job->callback, STATUS_OK, NULL, job->reply, job->is_new);
    } else {
        waiter->reply = job->reply;
        waiter->is_new = job->is_new;
    }
    registry_scan(job->registry);
}

/* The settings say it now, so nobody needs to ask for it; or they do not. */
static void end_asking(struct file_job *job, struct registry_model *model)
{
    if (job->status != STATUS_OK) {
        registry_forget_precision(job->registry, model, job->precision);
    } else if (job->precision != RNN_PRECISION_COUNT && model->asked_precision == job->precision) {
        model->asked_precision = RNN_PRECISION_COUNT;
        model->held_precision = RNN_PRECISION_COUNT;
    }
}

static void finish(struct file_job *job)
{
    struct registry_model *model = registry_find(job->registry, job->model);
    if (model != NULL && job->file[0] == '\0') {
        model->is_deleting = job->status == STATUS_OK;
        model->is_deleted = job->status == STATUS_OK;
    }
    if (model != NULL) {
        end_asking(job, model);
    }
    if (job->status == STATUS_OK) {
        answer_when_seen(job);
    } else {
        json_decref(job->reply);
        registry_answer_when_back(job->registry, job->model, &job->error, job->callback);
    }
    mem_free(job->text);
}

static void file_done(struct job *job)
{
    finish((struct file_job *)job);
    mem_free(job);
}

void registry_submit_file(struct registry *registry, const struct registry_write *write,
                          struct registry_callback callback)
{
    char *dumped = write->json == NULL ? NULL : json_dumps(write->json, JSON_INDENT(1));
    struct file_job job = {.registry = registry,
                           .callback = callback,
                           .text = dumped == NULL ? NULL : mem_copy_string(dumped),
                           .reply = write->reply,
                           .is_new = write->is_new,
                           .precision = write->precision};
    free(dumped);
    snprintf(job.model, sizeof job.model, "%s", write->model);
    snprintf(job.directory, sizeof job.directory, "%s", write->directory);
    snprintf(job.file, sizeof job.file, "%s", write->file);
    job.job.run = file_run;
    job.job.done = file_done;
    struct file_job *submitted = mem_allocate(1, sizeof *submitted);
    if (submitted == NULL || job.reply == NULL || (write->json != NULL && job.text == NULL)) {
        mem_free(submitted);
        job.status = no_memory(&job.error);
        finish(&job);
        return;
    }
    *submitted = job;
    workers_submit_always(registry->loader, &submitted->job);
}

/* ---- making and deleting ---- */

enum status registry_refuse_read_only(const struct registry_model *model, struct error *error)
{
    error_set(error, STATUS_CONFLICT,
              "model %s belongs to the installation and cannot be changed; copy it under the models directory",
              model->name);
    return error_code(error, "read_only"), STATUS_CONFLICT;
}

enum status registry_refuse_deleting(const char *name, struct error *error)
{
    error_set(error, STATUS_CONFLICT, "model %s is being deleted", name);
    return error_code(error, "model_in_use"), STATUS_CONFLICT;
}

static json_t *describe_put(const char *name, const json_t *definition)
{
    return json_pack("{s:s, s:s, s:O}", "id", name, "object", "model", "definition", definition);
}

bool registry_answer_known(struct registry *registry, const char *name, const json_t *definition,
                           struct registry_callback callback)
{
    struct error error;
    const struct registry_model *model = registry_find(registry, name);
    if (model == NULL) {
        return false;
    }
    if (!model->is_deleting && json_equal(model->definition, definition)) {
        registry_answer(callback, STATUS_OK, NULL, describe_put(name, definition), false);
        return true;
    }
    if (model->is_deleting) {
        registry_refuse_deleting(name, &error);
    } else {
        refuse_existing(name, &error);
    }
    registry_answer_error(callback, &error);
    return true;
}

enum status registry_write_definition(const char *directory, const json_t *definition, struct error *error)
{
    char path[REGISTRY_PATH_BYTES_MAX + 40];
    char *text = json_dumps(definition, JSON_INDENT(1));
    if (text == NULL) {
        return no_memory(error);
    }
    snprintf(path, sizeof path, "%.4095s/%s", directory, model_file_name(MODEL_FILE_DEFINITION));
    enum status status = file_write_atomically(path, text, strlen(text), error);
    free(text);
    return status;
}

void registry_put(struct registry *registry, const char *name, const json_t *definition,
                  struct registry_callback callback)
{
    struct error error;
    if (registry_answer_known(registry, name, definition, callback)) {
        return;
    }
    json_t *reply = describe_put(name, definition);
    if (registry->model_count >= REGISTRY_MODELS_MAX) {
        json_decref(reply);
        error_set(&error, STATUS_LIMIT, "there are %d models, the maximum", REGISTRY_MODELS_MAX);
        registry_answer_error(callback, &error);
        return;
    }
    char directory[REGISTRY_PATH_BYTES_MAX];
    snprintf(directory, sizeof directory, "%.4000s/%s", registry->models_path, name);
    struct registry_write write = {.model = name,
                                   .directory = directory,
                                   .file = model_file_name(MODEL_FILE_DEFINITION),
                                   .json = definition,
                                   .reply = reply,
                                   .is_new = true,
                                   .precision = RNN_PRECISION_COUNT};
    registry_submit_file(registry, &write, callback);
}

static enum status check_deletable(const struct registry_model *model, bool force, struct error *error)
{
    size_t in_use = 0;
    for (size_t i = 0; i < model->use_count; i++) {
        in_use += model->uses[i].count;
    }
    if (model->is_read_only) {
        return registry_refuse_read_only(model, error);
    }
    if (!force && (in_use > 0 || model->is_training)) {
        error_set(error, STATUS_CONFLICT, "model %s is in use by %zu requests%s; ?force=true ends them", model->name,
                  in_use, model->is_training ? " and a training job" : "");
        return error_code(error, "model_in_use"), STATUS_CONFLICT;
    }
    return STATUS_OK;
}

void registry_delete(struct registry *registry, const char *name, bool force, struct registry_callback callback)
{
    struct error error;
    struct registry_model *model = registry_need(registry, name, &error);
    if (model == NULL || check_deletable(model, force, &error) != STATUS_OK) {
        registry_answer_error(callback, &error);
        return;
    }
    model->is_deleting = true;
    struct registry_write write = {.model = name,
                                   .directory = model->path,
                                   .file = "",
                                   .reply =
                                       json_pack("{s:s, s:s, s:b}", "id", name, "object", "model", "deleted", true),
                                   .precision = RNN_PRECISION_COUNT};
    registry_submit_file(registry, &write, callback);
}

/* ---- loading and unloading ---- */

/* A refused precision gets another chance, too. */
static void ask_for_precision(struct registry_model *model, enum rnn_precision precision)
{
    if (precision != RNN_PRECISION_COUNT) {
        model->asked_precision = precision;
    }
    for (size_t i = 0; i < model->version_count; i++) {
        model->versions[i].is_precision_refused = false;
    }
}

static void ask_for_load(struct registry *registry, struct registry_model *model, uint64_t version,
                         enum rnn_precision precision)
{
    model->is_unloaded = false;
    model->is_asleep = false;
    registry_note_use(registry, model);
    ask_for_precision(model, precision);
    for (size_t i = 0; i < model->version_count; i++) {
        struct registry_version *known = &model->versions[i];
        bool is_asked = version == 0 ? i + 1 == model->version_count : known->number == version;
        if (is_asked && version_has_reason(known)) {
            known->status = VERSION_READY; /* asked for by name: it gets another chance at once */
        }
        if (is_asked && version != 0) {
            known->is_wanted = true;
        }
    }
    registry_retry(registry, model);
    registry_load_model(registry, model);
}

void registry_load(struct registry *registry, const char *name, uint64_t version, enum rnn_precision precision,
                   struct registry_callback callback)
{
    struct error error;
    /* A model that is not known yet may have been copied in a moment ago: the scan will tell. */
    struct registry_model *model = registry_find(registry, name);
    struct registry_waiter *waiter = registry_add_waiter(registry, name, callback);
    if (waiter == NULL) {
        no_memory(&error);
        registry_answer_error(callback, &error);
        return;
    }
    const struct registry_version *current = model == NULL ? NULL : model_current(model);
    waiter->version = version;
    waiter->precision = precision;
    waiter->previous = current == NULL ? 0 : current->number;
    if (model != NULL) {
        ask_for_load(registry, model, version, precision);
    }
    registry_scan(registry);
}

void registry_try_precision(struct registry *registry, struct registry_model *model, enum rnn_precision precision,
                            struct registry_callback callback)
{
    struct error error;
    struct registry_waiter *waiter = registry_add_waiter(registry, model->name, callback);
    if (waiter == NULL) {
        no_memory(&error);
        registry_answer_error(callback, &error);
        return;
    }
    waiter->is_trial = true;
    waiter->precision = precision;
    ask_for_precision(model, precision);
    registry_load_model(registry, model);
    registry_scan(registry);
}

void registry_rescan(struct registry *registry, struct registry_callback callback)
{
    struct error error;
    json_t *reply = json_pack("{s:b}", "reloaded", true);
    struct registry_waiter *waiter = reply == NULL ? NULL : registry_add_waiter(registry, "", callback);
    if (waiter == NULL) {
        json_decref(reply);
        no_memory(&error);
        registry_answer_error(callback, &error);
        return;
    }
    waiter->reply = reply;
    registry_scan(registry);
}

void registry_unload(struct registry *registry, const char *name, struct registry_callback callback)
{
    struct error error;
    struct registry_model *model = registry_need(registry, name, &error);
    if (model == NULL) {
        registry_answer_error(callback, &error);
        return;
    }
    model->is_unloaded = true;
    model->asked_precision = RNN_PRECISION_COUNT;
    model->held_precision = RNN_PRECISION_COUNT;
    model->is_asleep = false;
    model->slept_version = 0;
    for (size_t i = 0; i < model->version_count; i++) {
        model->versions[i].is_wanted = false;
    }
    registry_drop_versions(registry, model);
    log_event(LOG_LEVEL_INFO, "unloaded", NULL, "model=%s", name);
    registry_answer(callback, STATUS_OK, NULL, json_pack("{s:s, s:b}", "model", name, "unloaded", true), false);
    registry_changed(registry);
}

void registry_set_training(struct registry *registry, const char *name, bool is_training)
{
    struct registry_model *model = registry_find(registry, name);
    if (model != NULL) {
        model->is_training = is_training;
    }
}
