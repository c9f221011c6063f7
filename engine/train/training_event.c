/* Progress records as JSON. Thread: any. */
#include <math.h>

#include "engine/train/training.h"

static const char *const KIND_NAMES[] = {"progress", "checkpoint", "done"};
static_assert(sizeof KIND_NAMES / sizeof KIND_NAMES[0] == TRAINING_EVENT_KIND_COUNT, "one name each");

static json_t *number_or_null(double number)
{
    return isfinite(number) ? json_real(number) : json_null();
}

json_t *training_event_to_json(const struct training_event *event)
{
    json_t *json = json_pack("{s:s, s:I}", "event", KIND_NAMES[event->kind], "step", (json_int_t)event->step);
    const struct {
        const char *name;
        double number;
    } fields[] = {
        {"epoch", event->epoch},
        {"train_loss", event->train_loss},
        {"validation_loss", event->validation_loss},
        {"best_validation_loss", event->best_loss},
        {"bits_per_character", event->bits_per_character},
        {"perplexity", event->perplexity},
        {"learning_rate", event->learning_rate},
        {"symbols_per_second", event->symbols_per_second},
        {"seconds_left", event->seconds_left},
        {"seconds", event->seconds},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        failed |= json_object_set_new(json, fields[i].name, number_or_null(fields[i].number));
    }
    if (failed != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}
