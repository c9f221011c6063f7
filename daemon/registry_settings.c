/* What people say of a model: labels.json and settings.json, and definition.json that PUT wrote. What they may hold,
 * taking them in after a scan, and the API's calls that read and change them. Thread: loop, but for model_file_check,
 * which the scan calls on the loader thread.
 *
 * A file that is malformed or says what it cannot is never half taken: the last good one stays in force (at the start:
 * none), the log and the API say why, and nothing overwrites it until somebody mends or removes it. */
#include <time.h>

#include "daemon/generate_request.h"
#include "daemon/log.h"
#include "daemon/registry_private.h"
#include "engine/base/check.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for this request");
}

/* ---- what the files may hold ---- */

static uint64_t version_of_key(const char *key)
{
    char again[24];
    unsigned long long number = strtoull(key, NULL, 10);
    snprintf(again, sizeof again, "%llu", number);
    return strcmp(again, key) == 0 ? number : 0;
}

static enum status check_split(const json_t *split, struct error *error)
{
    const char *key;
    json_t *share;
    json_int_t total = 0;
    json_object_foreach((json_t *)(uintptr_t)split, key, share)
    {
        json_int_t percent = json_integer_value(share);
        if (version_of_key(key) == 0 || !json_is_integer(share) || percent < 1 || percent > 100) {
            return error_set(error, STATUS_INVALID,
                             "/split/%.20s must be a version's number with a whole number from 1 to 100", key);
        }
        total += percent;
    }
    return total == 100
               ? STATUS_OK
               : error_set(error, STATUS_INVALID, "/split: the shares add up to %lld, not 100", (long long)total);
}

static enum status check_label_name(const char *label, struct error *error)
{
    bool is_reserved = strcmp(label, "predict") == 0 || strcmp(label, "classify") == 0 || strcmp(label, "regress") == 0;
    return name_is_valid(label) && !is_reserved
               ? STATUS_OK
               : error_set(error, STATUS_INVALID, "'%.64s' is no name for a label", label);
}

/* The form alone: whether the model has the versions changes with its directory. */
static enum status check_target(const char *label, const json_t *target, struct error *error)
{
    const json_t *version = json_object_get(target, "version");
    const json_t *split = json_object_get(target, "split");
    if (json_object_size(target) != 1 || (version == NULL) == (split == NULL)) {
        return error_set(error, STATUS_INVALID, "a label is {\"version\":7} or {\"split\":{\"7\":90,\"8\":10}}");
    }
    if (version != NULL) {
        return json_is_integer(version) && json_integer_value(version) >= 1
                   ? STATUS_OK
                   : error_set(error, STATUS_INVALID, "/version must be a positive whole number");
    }
    if (!json_is_object(split) || json_object_size(split) == 0 || strcmp(label, "current") == 0) {
        return error_set(error, STATUS_INVALID, "/split must be an object of shares, and not for \"current\"");
    }
    return check_split(split, error);
}

enum setting_type { SETTING_OBJECT, SETTING_STRING, SETTING_WHOLE };

/* The keys of settings.json. Adding one is a row here and its use. */
static const struct model_setting {
    const char *key;
    enum setting_type type;
    bool is_built;
    const char *choices; /* of a string: words, separated and surrounded by spaces; NULL: any */
} model_settings[] = {
    {"generation", SETTING_OBJECT, true, NULL},
    {"unknown_symbols", SETTING_STRING, true, " error skip replace "},
    {"start", SETTING_STRING, true, NULL},
    {"versions_kept", SETTING_WHOLE, true, NULL},
    {"precision", SETTING_STRING, true, " fp32 "},
    {"chat_template", SETTING_STRING, false, NULL},
    {"keep_alive_seconds", SETTING_WHOLE, false, NULL},
    {"gate", SETTING_OBJECT, false, NULL},
};

static enum status refuse_setting(struct error *error, enum status status, const char *key, const char *why)
{
    error_set(error, status, "/%.60s: %s", key, why);
    error_code(error, status == STATUS_UNSUPPORTED ? "unsupported" : "invalid_setting");
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "/%.200s", key);
    }
    return status;
}

/* The row of `key`, or NULL with INVALID. */
static const struct model_setting *find_setting(const char *key, struct error *error)
{
    for (size_t i = 0; i < sizeof model_settings / sizeof *model_settings; i++) {
        if (strcmp(model_settings[i].key, key) == 0) {
            return &model_settings[i];
        }
    }
    refuse_setting(error, STATUS_INVALID, key, "unknown setting");
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
            return refuse_setting(error, STATUS_INVALID, key, "unknown setting");
        }
        if (generate_request_default(&request, name, value, &reason) != STATUS_OK) {
            return refuse_setting(error, STATUS_INVALID, key, reason.message);
        }
    }
    return STATUS_OK;
}

static enum status check_setting(const char *key, const json_t *value, struct error *error)
{
    const struct model_setting *setting = find_setting(key, error);
    if (setting == NULL) {
        return STATUS_INVALID;
    }
    char word[64];
    snprintf(word, sizeof word, " %.60s ", json_is_string(value) ? json_string_value(value) : "");
    if (!setting->is_built || (strcmp(key, "precision") == 0 && strcmp(word, " fp32 ") != 0)) {
        return refuse_setting(error, STATUS_UNSUPPORTED, key, "not built yet");
    }
    bool fits = setting->type == SETTING_OBJECT ? json_is_object(value)
                : setting->type == SETTING_STRING
                    ? json_is_string(value) && (setting->choices == NULL || strstr(setting->choices, word))
                    : json_is_integer(value) && json_integer_value(value) >= 1;
    if (!fits) {
        return refuse_setting(error, STATUS_INVALID, key, "has a value it cannot take");
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
        enum status status = STATUS_OK;
        if (which == MODEL_FILE_SETTINGS) {
            TRY(check_setting(key, value, error));
        } else if (which == MODEL_FILE_LABELS) {
            TRY(check_label_name(key, error));
            status = check_target(key, value, error);
        }
        if (status != STATUS_OK) {
            error_prefix(error, "label %.64s", key);
            return status;
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

/* What is about to be written is in force at once. The loader thread writes it before it begins another scan. */
static void set_file(const struct registry *registry, struct registry_model *model, enum model_file which, json_t *json)
{
    json_t **place = place_of(model, which);
    json_decref(*place);
    *place = json;
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
        json_decref(*place);
        *place = json_incref(found->json);
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

/* What somebody wrote by hand is not thrown away because it has a mistake. */
static enum status check_writable(const struct registry_model *model, enum model_file which, struct error *error)
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

/* The values in force, and why the file's are not. */
static enum status add_reason(const struct registry_model *model, enum model_file which, json_t *reply,
                              struct error *error)
{
    json_t *reason = model_file_reason(model, which);
    bool is_bad = model->problems[which].message[0] != '\0';
    return is_bad && json_object_set_new(reply, "reason", reason) != 0 ? no_memory(error) : STATUS_OK;
}

/* ---- labels ---- */

enum status registry_labels(struct registry *registry, const char *name, json_t **ret_reply, struct error *error)
{
    const struct registry_model *model = registry_need(registry, name, error);
    if (model == NULL) {
        return STATUS_NOT_FOUND;
    }
    json_t *reply = json_pack("{s:O}", "labels", model->labels);
    if (reply == NULL || add_reason(model, MODEL_FILE_LABELS, reply, error) != STATUS_OK) {
        json_decref(reply);
        return no_memory(error);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

static enum status check_label_version(const struct registry_model *model, uint64_t number, struct error *error)
{
    const struct registry_version *version = model_version(model, number);
    if (version == NULL || version->status == VERSION_RETIRED) {
        error_set(error, STATUS_NOT_FOUND, "model %s has no version %llu", model->name, (unsigned long long)number);
        return error_code(error, "version_not_found"), STATUS_NOT_FOUND;
    }
    return STATUS_OK;
}

static enum status check_target_versions(const struct registry_model *model, const json_t *target, struct error *error)
{
    const json_t *version = json_object_get(target, "version");
    const char *key;
    json_t *share;
    if (version != NULL) {
        return check_label_version(model, (uint64_t)json_integer_value(version), error);
    }
    json_object_foreach(json_object_get(target, "split"), key, share)
    {
        TRY(check_label_version(model, version_of_key(key), error));
    }
    return STATUS_OK;
}

static enum status check_label(const struct registry_model *model, const char *label, const json_t *target,
                               struct error *error)
{
    TRY(check_writable(model, MODEL_FILE_LABELS, error));
    TRY(check_label_name(label, error));
    if (target != NULL) {
        TRY(check_target(label, target, error));
        return check_target_versions(model, target, error);
    }
    if (json_object_get(model->labels, label) == NULL) {
        error_set(error, STATUS_NOT_FOUND, "model %s has no label %s", model->name, label);
        return error_code(error, "label_not_found"), STATUS_NOT_FOUND;
    }
    return STATUS_OK;
}

void registry_put_label(struct registry *registry, const char *name, const char *label, const json_t *json,
                        struct registry_callback callback)
{
    struct error error;
    struct registry_model *model = registry_need(registry, name, &error);
    if (model == NULL || check_label(model, label, json, &error) != STATUS_OK) {
        registry_answer_error(callback, &error);
        return;
    }
    json_t *labels = json_deep_copy(model->labels);
    int failed = labels == NULL || (json == NULL ? json_object_del(labels, label)
                                                 : json_object_set_new(labels, label, json_deep_copy(json)));
    if (failed) {
        json_decref(labels);
        no_memory(&error);
        registry_answer_error(callback, &error);
        return;
    }
    bool is_new = json != NULL && json_object_get(model->labels, label) == NULL;
    set_file(registry, model, MODEL_FILE_LABELS, labels);
    registry_load_model(registry, model);
    registry_submit_file(registry, name, model->path, model_file_name(MODEL_FILE_LABELS), labels,
                         json_pack("{s:O}", "labels", labels), is_new, callback);
}

/* ---- settings ---- */

enum status registry_settings(struct registry *registry, const char *name, json_t **ret_reply, struct error *error)
{
    const struct registry_model *model = registry_need(registry, name, error);
    if (model == NULL) {
        return STATUS_NOT_FOUND;
    }
    json_t *reply =
        json_pack("{s:s, s:s, s:{}, s:I, s:s}", "precision", "fp32", "unknown_symbols", "error", "generation",
                  "versions_kept", (json_int_t)registry->settings->versions_kept, "start", "");
    if (reply == NULL || json_object_update(reply, model->settings) != 0 ||
        add_reason(model, MODEL_FILE_SETTINGS, reply, error) != STATUS_OK) {
        json_decref(reply);
        return no_memory(error);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

void registry_patch_settings(struct registry *registry, const char *name, const json_t *patch,
                             struct registry_callback callback)
{
    struct error error;
    struct registry_model *model = registry_need(registry, name, &error);
    enum status status = model == NULL ? STATUS_NOT_FOUND : check_writable(model, MODEL_FILE_SETTINGS, &error);
    json_t *settings = model == NULL ? NULL : json_deep_copy(model->settings);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)patch, key, value)
    {
        if (status == STATUS_OK) {
            bool is_known = find_setting(key, &error) != NULL; /* null takes a setting away, whatever it holds */
            status = !is_known ? STATUS_INVALID : json_is_null(value) ? STATUS_OK : check_setting(key, value, &error);
        }
        if (status == STATUS_OK && json_is_null(value)) {
            json_object_del(settings, key);
        } else if (status == STATUS_OK && json_object_set_new(settings, key, json_deep_copy(value)) != 0) {
            status = no_memory(&error);
        }
    }
    if (status != STATUS_OK) {
        json_decref(settings);
        registry_answer_error(callback, &error);
        return;
    }
    set_file(registry, model, MODEL_FILE_SETTINGS, settings);
    json_t *reply = NULL;
    status = registry_settings(registry, name, &reply, &error);
    registry_submit_file(registry, name, model->path, model_file_name(MODEL_FILE_SETTINGS), settings,
                         status == STATUS_OK ? reply : NULL, false, callback);
}

const json_t *registry_setting(const struct registry *registry, const char *name, const char *key)
{
    const struct registry_model *model = registry_find(registry, name);
    return model == NULL ? NULL : json_object_get(model->settings, key);
}
