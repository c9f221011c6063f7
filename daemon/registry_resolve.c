/* From a model reference to the snapshot that serves it. Thread: loop. */
#include "daemon/registry_private.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

/* ---- references ---- */

struct reference {
    char name[MODEL_NAME_BYTES_MAX];
    char label[MODEL_NAME_BYTES_MAX]; /* "": none */
    uint64_t version;                 /* 0: none */
};

static enum status refuse_reference(const char *text, struct error *error)
{
    error_set(error, STATUS_NOT_FOUND, "The model '%.100s' does not exist", text);
    return error_code(error, "model_not_found"), STATUS_NOT_FOUND;
}

static enum status parse_reference(const char *text, struct reference *ret_reference, struct error *error)
{
    struct reference reference = {.version = 0};
    size_t length = strcspn(text, "@:");
    if (length >= sizeof reference.name) {
        return refuse_reference(text, error);
    }
    memcpy(reference.name, text, length);
    if (text[length] == '@') {
        char *end = NULL;
        unsigned long long number = strtoull(text + length + 1, &end, 10);
        if (end == text + length + 1 || *end != '\0' || number == 0 || number > VERSION_NUMBER_MAX) {
            return refuse_reference(text, error);
        }
        reference.version = number;
    } else if (text[length] == ':') {
        if (!name_is_valid(text + length + 1)) {
            return refuse_reference(text, error);
        }
        snprintf(reference.label, sizeof reference.label, "%s", text + length + 1);
    }
    if (!name_is_valid(reference.name)) {
        return refuse_reference(text, error);
    }
    *ret_reference = reference;
    return STATUS_OK;
}

const char *registry_default_name(const struct registry *registry)
{
    if (registry->settings->default_model[0] != '\0') {
        return registry->settings->default_model;
    }
    const char *name = NULL;
    for (size_t i = 0; i < registry->model_count; i++) {
        if (!registry->models[i]->is_deleting) {
            if (name != NULL) {
                return NULL;
            }
            name = registry->models[i]->name;
        }
    }
    return name;
}

struct registry_model *registry_find_referred(const struct registry *registry, const char *reference)
{
    const char *given = reference == NULL || reference[0] == '\0' ? registry_default_name(registry) : reference;
    char name[MODEL_NAME_BYTES_MAX];
    if (given == NULL) {
        return NULL;
    }
    snprintf(name, sizeof name, "%.*s", (int)strcspn(given, "@:"), given);
    return registry_find(registry, name);
}

/* ---- labels ---- */

/* One of a split's versions, by chance in its proportions. */
static uint64_t draw(const json_t *split)
{
    const char *key;
    json_t *share;
    json_int_t total = 0;
    json_object_foreach((json_t *)(uintptr_t)split, key, share)
    {
        total += json_integer_value(share);
    }
    json_int_t at = total > 0 ? (json_int_t)(rng_system() % (uint64_t)total) : 0;
    uint64_t version = 0;
    json_object_foreach((json_t *)(uintptr_t)split, key, share)
    {
        version = strtoull(key, NULL, 10);
        at -= json_integer_value(share);
        if (at < 0) {
            break;
        }
    }
    return version;
}

static enum status version_of_label(const struct registry_model *model, const char *label, uint64_t *ret_version,
                                    struct error *error)
{
    const json_t *target = json_object_get(model->labels, label);
    if (target == NULL && strcmp(label, "current") == 0) {
        *ret_version = 0;
        return STATUS_OK;
    }
    if (target == NULL) {
        error_set(error, STATUS_NOT_FOUND, "model %s has no label %s", model->name, label);
        return error_code(error, "label_not_found"), STATUS_NOT_FOUND;
    }
    const json_t *split = json_object_get(target, "split");
    *ret_version = split != NULL ? draw(split) : (uint64_t)json_integer_value(json_object_get(target, "version"));
    return STATUS_OK;
}

/* ---- resolving ---- */

static enum status unavailable(struct error *error, const char *code, const char *text)
{
    error_set(error, STATUS_UNAVAILABLE, "%s", text);
    return error_code(error, code), STATUS_UNAVAILABLE;
}

void registry_hint_at_pin(const struct registry_model *model, const struct registry_version *version,
                          struct error *error)
{
    if (error != NULL && version_is_kept_out(version)) {
        snprintf(error->hint, sizeof error->hint,
                 "PUT /v1/models/%s/labels/current with {\"version\":%llu} serves it whatever the gate says",
                 model->name, (unsigned long long)version->number);
    }
}

enum status registry_refuse_version(const struct registry_model *model, const struct registry_version *version,
                                    struct error *error)
{
    error_set(error, STATUS_UNPROCESSABLE, "version %llu of %s is %s: %.700s", (unsigned long long)version->number,
              model->name, version_status_name(version->status), version->reason.message);
    registry_hint_at_pin(model, version, error);
    return error_code(error, version->status == VERSION_TEXTLESS ? version->reason.code : "version_refused");
}

/* Why nothing serves under the model's name. */
static enum status no_current(const struct registry_model *model, struct error *error)
{
    char text[256];
    if (model->is_unloaded) {
        snprintf(text, sizeof text, "model %s is unloaded; POST /v1/models/%s/load loads it", model->name, model->name);
        return unavailable(error, "model_unloaded", text);
    }
    bool is_coming = model_is_loading(model);
    for (size_t i = 0; i < model->version_count && !model_is_loading(model); i++) {
        if (model->versions[i].is_postponed) {
            return registry_refuse_postponed(model, &model->versions[i], error);
        }
        is_coming = is_coming || model->versions[i].status == VERSION_READY;
    }
    if (is_coming) {
        snprintf(text, sizeof text, "model %s is loading", model->name);
        return unavailable(error, "model_loading", text);
    }
    if (model->version_count > 0) {
        return registry_refuse_version(model, &model->versions[model->version_count - 1], error);
    }
    snprintf(text, sizeof text, "model %s has no version yet: train or save it first", model->name);
    return unavailable(error, "no_version", text);
}

/* Why nothing is loaded of version `number` (0: the current one; `version` NULL: not known); it begins to load where
 * that helps. */
static enum status refuse_missing(struct registry *registry, struct registry_model *model, uint64_t number,
                                  struct registry_version *version, struct error *error)
{
    if (number == 0) {
        registry_load_model(registry, model); /* where that could not begin before */
        return no_current(model, error);
    }
    if (version == NULL || version->status == VERSION_RETIRED) {
        error_set(error, STATUS_NOT_FOUND, "model %s has no version %llu", model->name, (unsigned long long)number);
        return error_code(error, "version_not_found"), STATUS_NOT_FOUND;
    }
    if (version_has_reason(version)) {
        return registry_refuse_version(model, version, error);
    }
    if (model->is_unloaded) {
        return no_current(model, error);
    }
    char text[128];
    version->is_wanted = version->is_wanted || version->status != VERSION_LOADING;
    registry_load_model(registry, model);
    if (version->is_postponed) {
        return registry_refuse_postponed(model, version, error);
    }
    snprintf(text, sizeof text, "version %llu of %s is loading", (unsigned long long)number, model->name);
    return unavailable(error, "model_loading", text);
}

/* ---- what is in use ---- */

static struct registry_use *find_use(struct registry_model *model, const struct snapshot *snapshot)
{
    for (size_t i = 0; model != NULL && i < model->use_count; i++) {
        if (model->uses[i].snapshot == snapshot) {
            return &model->uses[i];
        }
    }
    return NULL;
}

static enum status note_use(struct registry_model *model, struct snapshot *snapshot, struct error *error)
{
    struct registry_use *use = find_use(model, snapshot);
    if (use == NULL) {
        struct registry_use *uses = mem_reallocate(model->uses, model->use_count + 1, sizeof *uses);
        if (uses == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
        }
        model->uses = uses;
        use = &uses[model->use_count++];
        *use = (struct registry_use){.snapshot = snapshot};
    }
    use->count++;
    return STATUS_OK;
}

enum status registry_find_reference(const struct registry *registry, const char *text,
                                    struct registry_model **ret_model, uint64_t *ret_version, struct error *error)
{
    struct reference parts;
    TRY(parse_reference(text, &parts, error));
    struct registry_model *model = registry_need(registry, parts.name, error);
    if (model == NULL) {
        return STATUS_NOT_FOUND;
    }
    if (parts.label[0] != '\0') {
        TRY(version_of_label(model, parts.label, &parts.version, error));
    }
    *ret_model = model;
    *ret_version = parts.version;
    return STATUS_OK;
}

enum status registry_find_version(struct registry *registry, const char *reference, struct registry_model **ret_model,
                                  struct registry_version **ret_version, struct error *error)
{
    struct registry_model *model = NULL;
    uint64_t number = 0;
    TRY(registry_find_reference(registry, reference, &model, &number, error));
    struct registry_version *version = number == 0 ? model_source(model) : model_version(model, number);
    if (version == NULL || version->status == VERSION_RETIRED || model->is_unloaded) {
        return refuse_missing(registry, model, number, version, error);
    }
    *ret_model = model;
    *ret_version = version;
    return STATUS_OK;
}

enum status registry_resolve(struct registry *registry, const char *reference, struct snapshot **ret_snapshot,
                             struct error *error)
{
    const char *given = reference == NULL || reference[0] == '\0' ? registry_default_name(registry) : reference;
    struct registry_model *model = NULL;
    uint64_t number = 0;
    if (given == NULL) {
        error_set(error, STATUS_INVALID, "there are %zu models: \"model\" must say which", registry->model_count);
        error_code(error, "model_required");
        if (error != NULL) {
            snprintf(error->param, sizeof error->param, "model");
        }
        return STATUS_INVALID;
    }
    TRY(registry_find_reference(registry, given, &model, &number, error));
    registry_wake(registry, model);
    struct registry_version *version = number == 0 ? model_current(model) : model_version(model, number);
    if (version == NULL || version->snapshot == NULL) {
        return refuse_missing(registry, model, number, version, error);
    }
    TRY(note_use(model, version->snapshot, error));
    *ret_snapshot = snapshot_ref(version->snapshot);
    return STATUS_OK;
}

void registry_release(struct registry *registry, struct snapshot *snapshot)
{
    struct registry_model *model = registry_find(registry, snapshot_model_name(snapshot));
    struct registry_use *use = find_use(model, snapshot);
    if (use != NULL && --use->count == 0) {
        *use = model->uses[--model->use_count];
        registry_note_use(registry, model);
    }
    registry_drop(registry, snapshot);
}
