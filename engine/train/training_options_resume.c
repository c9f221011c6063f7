/* What a resume goes on with. Thread: any. */
#include <math.h>

#include "engine/nn/presets.h"
#include "engine/train/training_options.h"

/* Nothing of these changes weights. */
static bool may_change_on_resume(const char *key)
{
    static const char *const keys[] = {"epochs",  "max_steps",          "max_seconds",   "checkpoint_seconds",
                                       "publish", "sample_every_steps", "sample_symbols"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(key, keys[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether `asked` says something else than `kept`, which is complete; an object only with the fields it has, a string
 * for an object its name, null what is left out. */
static bool differs(const json_t *asked, const json_t *kept)
{
    if (json_is_number(asked) && json_is_number(kept)) {
        return !(fabs(json_number_value(asked) - json_number_value(kept)) <= 0);
    }
    if (json_is_string(asked) && json_is_object(kept)) {
        return differs(asked, json_object_get(kept, "name"));
    }
    if (!json_is_object(asked) || !json_is_object(kept)) {
        return !json_equal(asked, kept) && !(json_is_null(asked) && !kept);
    }
    const char *key;
    const json_t *item;
    json_object_foreach((json_t *)(uintptr_t)asked, key, item)
    {
        if (differs(item, json_object_get(kept, key))) {
            return true;
        }
    }
    return false;
}

/* Puts into `merged`, a copy of the checkpoint's options, what `request` may change. */
static enum status merge(const json_t *request, json_t *merged, struct error *error)
{
    static const char *const limits[] = {"epochs", "max_steps", "max_seconds"};
    enum { LIMIT_COUNT = sizeof limits / sizeof limits[0] };
    bool has_limit = false;
    int failed = 0;
    const char *key;
    const json_t *value;
    for (size_t i = 0; i < LIMIT_COUNT; i++) {
        has_limit = has_limit || json_object_get(request, limits[i]);
    }
    for (size_t i = 0; i < LIMIT_COUNT && has_limit; i++) {
        json_object_del(merged, limits[i]);
    }
    json_object_foreach((json_t *)(uintptr_t)request, key, value)
    {
        if (may_change_on_resume(key)) {
            failed |= json_object_set(merged, key, (json_t *)(uintptr_t)value);
        } else if (differs(value, json_object_get(merged, key))) {
            error_set(error, STATUS_CONFLICT, "%s differs from the interrupted training's: leave it out to resume",
                      key);
            if (error) {
                snprintf(error->param, sizeof error->param, "%s", key);
            }
            return error_code(error, "resume_differs"), STATUS_CONFLICT;
        }
    }
    return failed == 0 ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "training options: no memory");
}

enum status training_options_resume(const json_t *checkpoint, const json_t *request,
                                    struct training_options *ret_options, struct error *error)
{
    struct training_options asked;
    json_t *whole;
    TRY(training_options_read(request, &asked, error));
    TRY(preset_expand(request, PRESET_TRAINING, &whole, error));
    json_t *merged = json_copy((json_t *)(uintptr_t)checkpoint);
    enum status status = merge(whole, merged, error);
    if (status == STATUS_OK) {
        status = training_options_read(merged, ret_options, error);
    }
    json_decref(whole);
    json_decref(merged);
    return status;
}
