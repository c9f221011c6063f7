/* Labels: what labels.json may hold, and the API's calls on them. Thread: loop, but for label_check, which the scan
 * calls on the loader thread. */
#include "daemon/registry_private.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for this request");
}

/* ---- what they may be ---- */

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

static enum status check_name(const char *label, struct error *error)
{
    bool is_reserved = strcmp(label, "predict") == 0 || strcmp(label, "classify") == 0 || strcmp(label, "regress") == 0;
    return name_is_valid(label) && !is_reserved
               ? STATUS_OK
               : error_set(error, STATUS_INVALID, "'%.64s' is no name for a label", label);
}

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

enum status label_check(const char *label, const json_t *target, struct error *error)
{
    TRY(check_name(label, error));
    return check_target(label, target, error);
}

bool model_is_labelled(const struct registry_model *model, uint64_t number)
{
    const char *label;
    json_t *target;
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    json_object_foreach(model->labels, label, target)
    {
        if (json_integer_value(json_object_get(target, "version")) == (json_int_t)number ||
            json_object_get(json_object_get(target, "split"), text) != NULL) {
            return true;
        }
    }
    return false;
}

/* ---- the API's calls ---- */

enum status registry_labels(struct registry *registry, const char *name, json_t **ret_reply, struct error *error)
{
    const struct registry_model *model = registry_need(registry, name, error);
    if (model == NULL) {
        return STATUS_NOT_FOUND;
    }
    json_t *reply = json_pack("{s:O}", "labels", model->labels);
    if (reply == NULL || model_file_add_reason(model, MODEL_FILE_LABELS, reply, error) != STATUS_OK) {
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
    TRY(model_file_check_writable(model, MODEL_FILE_LABELS, error));
    if (target != NULL) {
        TRY(label_check(label, target, error));
        return check_target_versions(model, target, error);
    }
    TRY(check_name(label, error));
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
    model_file_set(registry, model, MODEL_FILE_LABELS, labels);
    registry_wake(registry, model);
    registry_load_model(registry, model);
    struct registry_write write = {.model = name,
                                   .directory = model->path,
                                   .file = model_file_name(MODEL_FILE_LABELS),
                                   .json = labels,
                                   .reply = json_pack("{s:O}", "labels", labels),
                                   .is_new = is_new,
                                   .precision = RNN_PRECISION_COUNT};
    registry_submit_file(registry, &write, callback);
}
