/* What the registry knows, as the API shows it. Thread: loop. */
#include "daemon/registry_private.h"

static const char *overall_status(const struct registry_model *model)
{
    if (model->is_unloaded || model->is_asleep) {
        return model->is_unloaded ? "unloaded" : "idle";
    }
    if (model_current(model) != NULL) {
        return version_status_name(VERSION_SERVING);
    }
    return model->version_count == 0 ? "no_version"
                                     : version_status_name(model->versions[model->version_count - 1].status);
}

/* One of OpenAI's models, with what `version` (NULL: none) serves. When versions were made is not kept: 0 keeps
 * OpenAI's clients content without inventing a time. */
static json_t *describe_entry(const char *id, const char *status, const struct registry_version *version)
{
    json_t *entry = json_pack("{s:s, s:s, s:i, s:s, s:s}", "id", id, "object", "model", "created", 0, "owned_by",
                              "lstmd", "status", status);
    if (entry == NULL || version == NULL || version->snapshot == NULL) {
        return entry;
    }
    const struct snapshot *snapshot = version->snapshot;
    const struct vocabulary *vocabulary = snapshot_vocabulary(snapshot);
    json_t *more =
        json_pack("{s:I, s:I, s:s, s:s, s:s?, s:I, s:{s:s, s:I}}", "version", (json_int_t)version->number, "parameters",
                  (json_int_t)snapshot_parameter_count(snapshot), "precision",
                  rnn_precision_name(snapshot_precision(snapshot)), "kernels", snapshot_kernels(snapshot), "slow_path",
                  snapshot_slow_path(snapshot), "bytes", (json_int_t)snapshot_bytes(snapshot), "vocabulary", "kind",
                  vocabulary_kind_name(vocabulary_kind(vocabulary)), "size", (json_int_t)vocabulary_size(vocabulary));
    json_object_update(entry, more);
    json_decref(more);
    return entry;
}

static json_t *describe_model(const struct registry_model *model)
{
    json_t *entry = describe_entry(model->name, overall_status(model), model_current(model));
    json_object_set_new(entry, "training", json_boolean(model->is_training));
    return entry;
}

/* A version under a name of its own: one that is loaded serves whoever asks for it. */
static json_t *describe_alone(const char *id, const struct registry_version *version)
{
    enum version_status status = version->snapshot != NULL ? VERSION_SERVING : version->status;
    return describe_entry(id, version_status_name(status), version);
}

static json_t *describe_label(const struct registry_model *model, const char *label, json_t *target)
{
    char id[2 * MODEL_NAME_BYTES_MAX];
    snprintf(id, sizeof id, "%s:%s", model->name, label);
    json_t *split = json_object_get(target, "split");
    if (split != NULL) {
        json_t *entry = describe_entry(id, overall_status(model), NULL);
        json_object_set(entry, "split", split);
        return entry;
    }
    uint64_t number = (uint64_t)json_integer_value(json_object_get(target, "version"));
    const struct registry_version *version = number == 0 ? model_current(model) : model_version(model, number);
    return version == NULL ? describe_entry(id, overall_status(model), NULL) : describe_alone(id, version);
}

enum status registry_describe_all(struct registry *registry, json_t **ret_reply, struct error *error)
{
    json_t *list = json_array();
    for (size_t i = 0; i < registry->model_count; i++) {
        const struct registry_model *model = registry->models[i];
        if (model->is_deleting) {
            continue;
        }
        json_array_append_new(list, describe_model(model));
        const char *label;
        json_t *target;
        json_object_foreach(model->labels, label, target)
        {
            if (strcmp(label, "current") != 0) { /* that is the model's name alone */
                json_array_append_new(list, describe_label(model, label, target));
            }
        }
    }
    json_t *reply = json_pack("{s:s, s:o}", "object", "list", "data", list);
    if (reply == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the list of models");
    }
    *ret_reply = reply;
    return STATUS_OK;
}

static json_t *labels_of(const struct registry_model *model, uint64_t number)
{
    json_t *labels = json_array();
    const char *label;
    json_t *target;
    json_object_foreach(model->labels, label, target)
    {
        if ((uint64_t)json_integer_value(json_object_get(target, "version")) == number) {
            json_array_append_new(labels, json_string(label));
        }
    }
    return labels;
}

static json_t *describe_version(const struct registry_model *model, const struct registry_version *version)
{
    json_t *reason = json_null();
    if (version_has_reason(version) || version->is_precision_refused || version->is_postponed) {
        reason = json_pack("{s:s, s:s, s:s, s:I}", "code",
                           version->reason.code[0] == '\0' ? status_name(version->reason_status) : version->reason.code,
                           "file", version->reason.param, "message", version->reason.message, "at",
                           (json_int_t)version->reason_at);
    }
    const char *precision =
        version->snapshot == NULL ? NULL : rnn_precision_name(snapshot_precision(version->snapshot));
    json_t *bytes =
        version->snapshot == NULL ? json_null() : json_integer((json_int_t)snapshot_bytes(version->snapshot));
    return json_pack("{s:I, s:s, s:b, s:s?, s:o, s:o, s:o}", "version", (json_int_t)version->number, "status",
                     version_status_name(version->status), "loaded", version->snapshot != NULL, "precision", precision,
                     "bytes", bytes, "labels", labels_of(model, version->number), "reason", reason);
}

/* Whether it would serve, but that nobody used its model: who asks for it has it. */
static bool is_idle(const struct registry_model *model, const struct registry_version *version)
{
    return model->is_asleep && version == model_source(model);
}

/* TF Serving's GetModelStatus states. */
static json_t *tf_serving_status(const struct registry_model *model, const struct registry_version *version)
{
    bool is_bad = version->status == VERSION_INCOMPLETE || version->status == VERSION_REFUSED;
    bool is_textless = version->status == VERSION_TEXTLESS && !model->is_unloaded;
    bool is_loaded = version->snapshot != NULL || is_idle(model, version);
    const char *state = is_loaded || is_textless                       ? "AVAILABLE"
                        : version->status == VERSION_LOADING           ? "LOADING"
                        : is_bad || version->status == VERSION_RETIRED ? "END"
                                                                       : "START";
    char number[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)version->number);
    return json_pack("{s:s, s:s, s:{s:s, s:s}}", "version", number, "state", state, "status", "error_code",
                     is_bad ? "UNKNOWN" : "OK", "error_message", is_bad ? version->reason.message : "");
}

/* The files beside the versions that were not taken. */
static json_t *describe_problems(const struct registry_model *model)
{
    json_t *problems = json_array();
    for (enum model_file which = 0; which < MODEL_FILE_COUNT; which++) {
        json_t *reason = model_file_reason(model, which);
        if (reason != NULL) {
            json_array_append_new(problems, reason);
        }
    }
    return problems;
}

/* What `reference`, "m@7" or "m:label", means. */
static enum status describe_reference(struct registry *registry, const char *reference, json_t **ret_reply,
                                      struct error *error)
{
    struct registry_model *model = NULL;
    uint64_t number = 0;
    TRY(registry_find_reference(registry, reference, &model, &number, error));
    const char *label = strchr(reference, ':');
    const struct registry_version *version = model_version(model, number);
    if (label == NULL && version == NULL) {
        error_set(error, STATUS_NOT_FOUND, "model %s has no version %llu", model->name, (unsigned long long)number);
        return error_code(error, "version_not_found"), STATUS_NOT_FOUND;
    }
    json_t *reply = label == NULL ? describe_alone(reference, version)
                                  : describe_label(model, label + 1, json_object_get(model->labels, label + 1));
    if (reply == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to describe %s", reference);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

enum status registry_describe(struct registry *registry, const char *name, json_t **ret_reply, struct error *error)
{
    if (strpbrk(name, "@:") != NULL) {
        return describe_reference(registry, name, ret_reply, error);
    }
    const struct registry_model *model = registry_need(registry, name, error);
    if (model == NULL) {
        return STATUS_NOT_FOUND;
    }
    json_t *reply = describe_model(model);
    json_t *versions = json_array();
    json_t *states = json_array();
    for (size_t i = model->version_count; i-- > 0;) {
        json_array_append_new(versions, describe_version(model, &model->versions[i]));
        json_array_append_new(states, tf_serving_status(model, &model->versions[i]));
    }
    json_object_set_new(reply, "versions", versions);
    json_object_set_new(reply, "model_version_status", states);
    json_object_set_new(reply, "read_only", json_boolean(model->is_read_only));
    json_object_set_new(reply, "problems", describe_problems(model));
    const struct registry_version *current = model_current(model);
    const json_t *manifest = current == NULL ? NULL : snapshot_manifest(current->snapshot);
    static const char *const shown[] = {"architecture", "evaluation", "origin"};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        json_t *part = json_object_get(manifest, shown[i]);
        json_object_set(reply, shown[i], part == NULL ? json_null() : part);
    }
    if (model->definition != NULL) {
        json_object_set(reply, "definition", model->definition);
    }
    if (reply == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to describe model %s", name);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

enum status registry_describe_version(struct registry *registry, const char *reference, json_t **ret_reply,
                                      struct error *error)
{
    struct registry_model *model = NULL;
    uint64_t number = 0;
    TRY(registry_find_reference(registry, reference, &model, &number, error));
    const struct registry_version *version = number == 0 ? model_source(model) : model_version(model, number);
    if (version == NULL) {
        error_set(error, STATUS_NOT_FOUND, "there is no version '%.100s'", reference);
        return error_code(error, "version_not_found");
    }
    json_t *reply = json_pack("{s:[o]}", "model_version_status", tf_serving_status(model, version));
    if (reply == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to describe %s", reference);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

/* Whether requests can use a version as it is. */
static bool is_usable(const struct registry_model *model, const struct registry_version *version)
{
    return version->snapshot != NULL || is_idle(model, version) ||
           (version->status == VERSION_TEXTLESS && !model->is_unloaded);
}

static json_t *index_version(const struct registry_model *model, const struct registry_version *version)
{
    const char *state = is_usable(model, version)            ? "READY"
                        : version->status == VERSION_LOADING ? "LOADING"
                                                             : "UNAVAILABLE";
    const char *reason = is_usable(model, version) || version->status == VERSION_LOADING      ? ""
                         : version_has_reason(version) && version->status != VERSION_TEXTLESS ? version->reason.message
                         : version->is_postponed                                              ? version->reason.message
                         : model->is_unloaded                                                 ? "unloaded"
                                                                                              : "not loaded";
    return json_pack("{s:s, s:o, s:s, s:s}", "name", model->name, "version",
                     json_sprintf("%llu", (unsigned long long)version->number), "state", state, "reason", reason);
}

json_t *registry_index(const struct registry *registry, bool only_ready,
                       bool (*sees)(const void *context, const char *model), const void *context)
{
    json_t *list = json_array();
    for (size_t i = 0; i < registry->model_count; i++) {
        const struct registry_model *model = registry->models[i];
        bool is_seen = !model->is_deleting && sees(context, model->name);
        for (size_t v = 0; is_seen && v < model->version_count; v++) {
            const struct registry_version *version = &model->versions[v];
            if (version->status != VERSION_RETIRED && (is_usable(model, version) || !only_ready)) {
                json_array_append_new(list, index_version(model, version));
            }
        }
        if (is_seen && model->version_count == 0 && !only_ready) {
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "name", model->name, "version", "", "state",
                                                  "UNAVAILABLE", "reason", "no version yet"));
        }
    }
    return list;
}

json_t *registry_version_names(const struct registry *registry, const char *reference)
{
    const struct registry_model *model = registry_find_referred(registry, reference);
    json_t *list = json_array();
    for (size_t i = 0; model != NULL && i < model->version_count; i++) {
        const struct registry_version *version = &model->versions[i];
        if (version->status != VERSION_RETIRED &&
            (!version_has_reason(version) || version->status == VERSION_TEXTLESS)) {
            json_array_append_new(list, json_sprintf("%llu", (unsigned long long)version->number));
        }
    }
    return list;
}

bool registry_serves_all(const struct registry *registry)
{
    for (size_t i = 0; i < registry->model_count; i++) {
        const struct registry_model *model = registry->models[i];
        if (!model->is_deleting && !model->is_unloaded && model->version_count > 0 && model_source(model) == NULL) {
            return false;
        }
    }
    return true;
}

json_t *registry_refused(struct registry *registry)
{
    json_t *names = json_array();
    for (size_t i = 0; i < registry->model_count; i++) {
        const struct registry_model *model = registry->models[i];
        if (!model->is_deleting && model->version_count > 0 &&
            model->versions[model->version_count - 1].status == VERSION_REFUSED) {
            json_array_append_new(names, json_string(model->name));
        }
    }
    return names;
}

void registry_visit(const struct registry *registry,
                    void (*visit)(void *context, const struct registry_metrics *metrics), void *context)
{
    for (size_t i = 0; i < registry->model_count; i++) {
        const struct registry_model *model = registry->models[i];
        const struct registry_version *current = model_current(model);
        struct registry_metrics metrics = {.name = model->name,
                                           .version = current == NULL ? 0 : current->number,
                                           .reloads_ok = model->reloads_ok,
                                           .reloads_failed = model->reloads_failed};
        for (size_t v = 0; v < model->version_count; v++) {
            metrics.bytes += model->versions[v].snapshot == NULL ? 0 : snapshot_bytes(model->versions[v].snapshot);
        }
        visit(context, &metrics);
    }
}

void registry_visit_paths(const struct registry *registry, void (*visit)(void *context, const char *path),
                          void *context)
{
    visit(context, registry->models_path);
    for (size_t i = 0; i < registry->model_count; i++) {
        const struct registry_model *model = registry->models[i];
        visit(context, model->path);
        for (size_t v = 0; v < model->version_count; v++) {
            if (model->versions[v].status == VERSION_INCOMPLETE) {
                char path[REGISTRY_PATH_BYTES_MAX];
                version_path(model, model->versions[v].number, path);
                visit(context, path);
            }
        }
    }
}
