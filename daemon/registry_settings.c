/* What people say of a model: labels.json and settings.json, and definition.json that PUT wrote. What settings may
 * hold, taking the files in after a scan, and the API's calls on settings. Thread: loop, but for model_file_check,
 * which the scan calls on the loader thread.
 *
 * A file that is malformed or says what it cannot is never half taken: the last good one stays in force (at the start:
 * none), the log and the API say why, and nothing overwrites it until somebody mends or removes it. */
#include <time.h>

#include "daemon/chat_template.h"
#include "daemon/generate_request.h"
#include "daemon/log.h"
#include "daemon/registry_gate.h"
#include "daemon/registry_private.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for this request");
}

/* ---- what the files may hold ---- */

enum setting_type { SETTING_OBJECT, SETTING_STRING, SETTING_TEMPLATE, SETTING_WHOLE, SETTING_PRECISION };

/* The keys of settings.json. Adding one is a row here and its use. */
static const struct model_setting {
    const char *key;
    enum setting_type type;
    const char *choices; /* of a string: words, separated and surrounded by spaces; NULL: any */
    const char *is;      /* what its value must be */
} model_settings[] = {
    {"generation", SETTING_OBJECT, NULL, "an object of fields of requests"},
    {"unknown_symbols", SETTING_STRING, " error skip replace ", "error, skip or replace"},
    {"start", SETTING_STRING, NULL, "a string"},
    {"versions_kept", SETTING_WHOLE, NULL, "a whole number, 1 or more"},
    {"precision", SETTING_PRECISION, NULL, "fp32, bf16 or int8"},
    {"chat_template", SETTING_TEMPLATE, NULL, "a text with {content} once, and {role} at most once before it"},
    {"keep_alive_seconds", SETTING_WHOLE, NULL, "a whole number, 1 or more"},
    {"gate", SETTING_OBJECT, NULL, "an object with text and margin_nats"},
};

static enum status refuse_setting(struct error *error, const char *key, const char *why)
{
    error_set(error, STATUS_INVALID, "/%.60s: %s", key, why);
    error_code(error, "invalid_setting");
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "/%.200s", key);
    }
    return STATUS_INVALID;
}

/* The row of `key`, or NULL with INVALID. */
static const struct model_setting *find_setting(const char *key, struct error *error)
{
    for (size_t i = 0; i < sizeof model_settings / sizeof *model_settings; i++) {
        if (strcmp(model_settings[i].key, key) == 0) {
            return &model_settings[i];
        }
    }
    refuse_setting(error, key, "unknown setting");
    return NULL;
}

static bool is_default_name(const char *name)
{
    const char *known;
    for (size_t i = 0; (known = generate_request_default_name(i)) != NULL; i++) {
        if (strcmp(known, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The defaults that a request's fields take from the model. */
static enum status check_generation(const json_t *generation, struct error *error)
{
    struct generate_request request = {.given = 0};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)generation, name, value)
    {
        char key[64];
        struct error reason;
        snprintf(key, sizeof key, "generation/%.48s", name);
        if (!is_default_name(name)) {
            return refuse_setting(error, key, "unknown setting");
        }
        if (generate_request_default(&request, name, value, &reason) != STATUS_OK) {
            return refuse_setting(error, key, reason.message);
        }
    }
    return STATUS_OK;
}

static bool fits_type(const struct model_setting *setting, const json_t *value)
{
    const char *text = json_string_value(value);
    enum rnn_precision precision;
    char word[64];
    switch (setting->type) {
    case SETTING_OBJECT: return json_is_object(value);
    case SETTING_STRING:
        snprintf(word, sizeof word, " %.60s ", text == NULL ? "" : text);
        return text != NULL && (setting->choices == NULL || strstr(setting->choices, word) != NULL);
    case SETTING_TEMPLATE: return text != NULL && chat_template_is_good(text);
    case SETTING_WHOLE: return json_is_integer(value) && json_integer_value(value) >= 1;
    case SETTING_PRECISION: return text != NULL && rnn_precision_find(text, &precision);
    }
    return false;
}

static enum status check_setting(const char *key, const json_t *value, struct error *error)
{
    const struct model_setting *setting = find_setting(key, error);
    if (setting == NULL) {
        return STATUS_INVALID;
    }
    if (!fits_type(setting, value)) {
        char why[96];
        snprintf(why, sizeof why, "must be %s", setting->is);
        return refuse_setting(error, key, why);
    }
    struct error reason;
    if (strcmp(key, "gate") == 0 && gate_check_setting(value, &reason) != STATUS_OK) {
        return refuse_setting(error, key, reason.message);
    }
    return strcmp(key, "generation") == 0 ? check_generation(value, error) : STATUS_OK;
}

static const char *const file_names[] = {
    [MODEL_FILE_LABELS] = "labels.json",
    [MODEL_FILE_SETTINGS] = "settings.json",
    [MODEL_FILE_DEFINITION] = "definition.json",
};
static_assert(sizeof file_names / sizeof *file_names == MODEL_FILE_COUNT, "one name for each file");

const char *model_file_name(enum model_file which)
{
    CHECK(which < MODEL_FILE_COUNT);
    return file_names[which];
}

enum status model_file_check(enum model_file which, const json_t *json, struct error *error)
{
    const char *key;
    json_t *value;
    if (!json_is_object(json)) {
        return error_set(error, STATUS_INVALID, "it must be a JSON object");
    }
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        if (which == MODEL_FILE_SETTINGS) {
            TRY(check_setting(key, value, error));
        } else if (which == MODEL_FILE_LABELS && label_check(key, value, error) != STATUS_OK) {
            error_prefix(error, "label %.64s", key);
            return STATUS_INVALID;
        }
    }
    return STATUS_OK;
}

/* ---- taking them in ---- */

static json_t **place_of(struct registry_model *model, enum model_file which)
{
    switch (which) {
    case MODEL_FILE_LABELS: return &model->labels;
    case MODEL_FILE_SETTINGS: return &model->settings;
    case MODEL_FILE_DEFINITION:
    case MODEL_FILE_COUNT: break;
    }
    return &model->definition;
}

/* Told once for each change of the file, not with every scan. */
static void note_problem(struct registry_model *model, enum model_file which, const struct file_problem *found)
{
    struct file_problem *problem = &model->problems[which];
    if (strcmp(problem->message, found->message) != 0 || problem->changed_ns != found->changed_ns) {
        *problem = *found;
        problem->at = (int64_t)time(NULL);
        log_event(LOG_LEVEL_WARNING, "file_refused", problem->message, "model=%s file=%s", model->name,
                  model_file_name(which));
    }
}

/* What the gate kept out gets another chance: the gate is another one, or people chose the version. */
static void forgive(struct registry_version *version)
{
    if (version_is_kept_out(version)) {
        version->status = VERSION_READY;
    }
}

/* Puts `json`, taken, in place of what the file said. */
static void put_file(struct registry_model *model, enum model_file which, json_t *json)
{
    json_t **place = place_of(model, which);
    const json_t *gate = json_object_get(json, "gate");
    bool is_gate_new = which == MODEL_FILE_SETTINGS && !json_equal(json_object_get(*place, "gate"), gate) &&
                       (gate != NULL || json_object_get(*place, "gate") != NULL);
    json_decref(*place);
    *place = json;
    for (size_t i = 0; is_gate_new && i < model->version_count; i++) {
        forgive(&model->versions[i]);
    }
    struct registry_version *pinned = model_version(model, model_pin(model));
    if (pinned != NULL) {
        forgive(pinned);
    }
}

void model_file_set(const struct registry *registry, struct registry_model *model, enum model_file which, json_t *json)
{
    put_file(model, which, json);
    model->written_scan[which] = registry->scans_started + 1;
}

void model_take_file(const struct registry *registry, struct registry_model *model, enum model_file which,
                     const struct found_file *found)
{
    json_t **place = place_of(model, which);
    if (registry->scans_started < model->written_scan[which]) {
        return; /* it read the file of before */
    }
    if (found->problem.message[0] != '\0') {
        note_problem(model, which, &found->problem);
    } else {
        if (model->problems[which].message[0] != '\0') {
            log_event(LOG_LEVEL_INFO, "file_mended", NULL, "model=%s file=%s", model->name, model_file_name(which));
        }
        model->problems[which] = (struct file_problem){.at = 0};
        put_file(model, which, json_incref(found->json));
    }
    if (*place == NULL && which != MODEL_FILE_DEFINITION) {
        *place = json_object();
    }
}

bool model_has_problem(const struct registry_model *model)
{
    return model->problems[MODEL_FILE_LABELS].message[0] != '\0' ||
           model->problems[MODEL_FILE_SETTINGS].message[0] != '\0';
}

json_t *model_file_reason(const struct registry_model *model, enum model_file which)
{
    const struct file_problem *problem = &model->problems[which];
    return problem->message[0] == '\0'
               ? NULL
               : json_pack("{s:s, s:s, s:s, s:I}", "code", "bad_file", "file", model_file_name(which), "message",
                           problem->message, "at", (json_int_t)problem->at);
}

enum status model_file_check_writable(const struct registry_model *model, enum model_file which, struct error *error)
{
    if (model->is_read_only) {
        return registry_refuse_read_only(model, error);
    }
    if (model->problems[which].message[0] != '\0') {
        error_set(error, STATUS_UNPROCESSABLE, "%s of model %s was not taken: %s; mend or remove it first",
                  model_file_name(which), model->name, model->problems[which].message);
        error_code(error, "bad_file");
        return STATUS_UNPROCESSABLE;
    }
    return STATUS_OK;
}

enum status model_file_add_reason(const struct registry_model *model, enum model_file which, json_t *reply,
                                  struct error *error)
{
    json_t *reason = model_file_reason(model, which);
    bool is_bad = model->problems[which].message[0] != '\0';
    return is_bad && json_object_set_new(reply, "reason", reason) != 0 ? no_memory(error) : STATUS_OK;
}

/* ---- settings ---- */

static enum rnn_precision settings_precision(const json_t *settings)
{
    const char *name = json_string_value(json_object_get(settings, "precision"));
    enum rnn_precision precision;
    return name != NULL && rnn_precision_find(name, &precision) ? precision : RNN_PRECISION_FP32;
}

enum status registry_settings(struct registry *registry, const char *name, json_t **ret_reply, struct error *error)
{
    const struct registry_model *model = registry_need(registry, name, error);
    if (model == NULL) {
        return STATUS_NOT_FOUND;
    }
    json_t *reply =
        json_pack("{s:s, s:s, s:{}, s:I, s:s, s:n}", "precision",
                  rnn_precision_name(settings_precision(model->settings)), "unknown_symbols", "error", "generation",
                  "versions_kept", (json_int_t)registry->settings->versions_kept, "start", "", "keep_alive_seconds");
    if (reply == NULL || json_object_update(reply, model->settings) != 0 ||
        model_file_add_reason(model, MODEL_FILE_SETTINGS, reply, error) != STATUS_OK) {
        json_decref(reply);
        return no_memory(error);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

enum rnn_precision model_precision(const struct registry_model *model)
{
    return model->asked_precision != RNN_PRECISION_COUNT ? model->asked_precision : settings_precision(model->settings);
}

/* A gate's text, `patch` having been checked, must be one that the serving version can read. */
static enum status check_gate_text(const struct registry_model *model, const json_t *patch, struct error *error)
{
    const struct registry_version *current = model_current(model);
    const json_t *gate = json_object_get(patch, "gate");
    struct error reason;
    bool is_good =
        !json_is_object(gate) || current == NULL || gate_check_text(gate, current->snapshot, &reason) == STATUS_OK;
    return is_good ? STATUS_OK : refuse_setting(error, "gate/text", reason.message);
}

/* What settings.json will hold: new reference. */
static enum status merge_settings(const struct registry_model *model, const json_t *patch, json_t **ret_settings,
                                  struct error *error)
{
    TRY(model_file_check_writable(model, MODEL_FILE_SETTINGS, error));
    json_t *settings = json_deep_copy(model->settings);
    enum status status = settings == NULL ? no_memory(error) : STATUS_OK;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)patch, key, value)
    {
        if (status == STATUS_OK) {
            bool is_known = find_setting(key, error) != NULL; /* null takes a setting away, whatever it holds */
            status = !is_known ? STATUS_INVALID : json_is_null(value) ? STATUS_OK : check_setting(key, value, error);
        }
        if (status == STATUS_OK && json_is_null(value)) {
            json_object_del(settings, key);
        } else if (status == STATUS_OK && json_object_set_new(settings, key, json_deep_copy(value)) != 0) {
            status = no_memory(error);
        }
    }
    status = status == STATUS_OK ? check_gate_text(model, patch, error) : status;
    if (status != STATUS_OK) {
        json_decref(settings);
        return status;
    }
    *ret_settings = settings;
    return STATUS_OK;
}

/* Another precision than what serves is packed in, or about to be, and something serves. */
static bool must_try(const struct registry_model *model, const json_t *patch, const json_t *settings)
{
    const struct registry_version *current = model_current(model);
    enum rnn_precision precision = settings_precision(settings);
    return json_object_get(patch, "precision") != NULL && current != NULL &&
           (precision != snapshot_precision(current->snapshot) || precision != model_precision(model));
}

/* Takes `settings`. */
static void write_settings(struct registry *registry, struct registry_model *model, const json_t *patch,
                           json_t *settings, struct registry_callback callback)
{
    struct error error;
    json_t *reply = NULL;
    model_file_set(registry, model, MODEL_FILE_SETTINGS, settings);
    bool is_precise = json_object_get(patch, "precision") != NULL;
    enum rnn_precision precision = is_precise ? settings_precision(settings) : RNN_PRECISION_COUNT;
    if (is_precise) {
        model->asked_precision = precision;
    }
    enum status status = registry_settings(registry, model->name, &reply, &error);
    struct registry_write write = {.model = model->name,
                                   .directory = model->path,
                                   .file = model_file_name(MODEL_FILE_SETTINGS),
                                   .json = settings,
                                   .reply = status == STATUS_OK ? reply : NULL,
                                   .precision = precision};
    registry_submit_file(registry, &write, callback);
}

/* A patch whose precision is being tried. */
struct trial {
    struct registry *registry;
    char name[MODEL_NAME_BYTES_MAX];
    json_t *patch;
    enum rnn_precision precision;
    struct registry_callback callback;
};

/* What else was set meanwhile stays. */
static void on_tried(void *context, const struct registry_reply *tried)
{
    struct trial *trial = context;
    struct error error = tried->error;
    json_t *settings = NULL;
    struct registry_model *model =
        tried->status == STATUS_OK ? registry_need(trial->registry, trial->name, &error) : NULL;
    if (model == NULL) {
        registry_answer_error(trial->callback, &error);
    } else if (merge_settings(model, trial->patch, &settings, &error) != STATUS_OK) {
        registry_forget_precision(trial->registry, model, trial->precision);
        registry_answer_when_back(trial->registry, trial->name, &error, trial->callback);
    } else {
        write_settings(trial->registry, model, trial->patch, settings, trial->callback);
    }
    json_decref(tried->reply);
    json_decref(trial->patch);
    mem_free(trial);
}

static void on_woken(void *context, const struct registry_reply *woken)
{
    struct trial *trial = context;
    if (woken->status == STATUS_OK) {
        registry_patch_settings(trial->registry, trial->name, trial->patch, trial->callback);
    } else {
        registry_answer_error(trial->callback, &woken->error);
    }
    json_decref(woken->reply);
    json_decref(trial->patch);
    mem_free(trial);
}

/* A precision is tried by what serves: an idle model is loaded first, as it is. */
static void wake_for_trial(struct registry *registry, struct registry_model *model, struct trial *trial)
{
    struct registry_callback callback = {.done = on_woken, .context = trial};
    json_t *reply = json_object();
    struct registry_waiter *waiter = reply == NULL ? NULL : registry_add_waiter(registry, model->name, callback);
    if (waiter == NULL) {
        struct error error;
        json_decref(reply);
        no_memory(&error);
        registry_answer_error(callback, &error);
        return;
    }
    waiter->reply = reply;
    registry_wake(registry, model);
    registry_scan(registry);
}

void registry_patch_settings(struct registry *registry, const char *name, const json_t *patch,
                             struct registry_callback callback)
{
    struct error error;
    json_t *settings = NULL;
    struct registry_model *model = registry_need(registry, name, &error);
    if (model == NULL || merge_settings(model, patch, &settings, &error) != STATUS_OK) {
        registry_answer_error(callback, &error);
        return;
    }
    bool must_wake = model->is_asleep && json_object_get(patch, "precision") != NULL;
    if (!must_wake && !must_try(model, patch, settings)) {
        write_settings(registry, model, patch, settings, callback);
        return;
    }
    enum rnn_precision precision = settings_precision(settings);
    json_decref(settings);
    struct trial *trial = mem_allocate(1, sizeof *trial);
    json_t *copy = trial == NULL ? NULL : json_deep_copy(patch);
    if (copy == NULL) {
        mem_free(trial);
        no_memory(&error);
        registry_answer_error(callback, &error);
        return;
    }
    *trial = (struct trial){.registry = registry, .patch = copy, .precision = precision, .callback = callback};
    snprintf(trial->name, sizeof trial->name, "%s", name);
    if (must_wake) {
        wake_for_trial(registry, model, trial);
        return;
    }
    registry_try_precision(registry, model, precision, (struct registry_callback){.done = on_tried, .context = trial});
}

const json_t *registry_setting(const struct registry *registry, const char *name, const char *key)
{
    const struct registry_model *model = registry_find(registry, name);
    return model == NULL ? NULL : json_object_get(model->settings, key);
}
