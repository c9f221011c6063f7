/* Published hyperparameters by the names of the programs and papers they are from: what `--preset` and the JSON field
 * "preset" stand for. Constants. Thread: any. */
#ifndef ENGINE_NN_PRESETS_H
#define ENGINE_NN_PRESETS_H

#include <jansson.h>

#include "engine/base/status.h"

struct preset {
    const char *name;
    const char *model;    /* JSON: fields of a language_model */
    const char *training; /* JSON: fields of training options */
};

/* By index; NULL behind the last. */
const struct preset *preset_at(size_t index);

enum preset_part { PRESET_MODEL, PRESET_TRAINING };

/* If `request` has a field "preset": a copy without it, with the preset's fields of that part where the request has
 * none; an object of the preset's (optimizer, schedule, vocabulary) is completed so only when the request does not name
 * another kind. Otherwise a copy. INVALID for a preset that does not exist, listing those that do (`param`: "preset");
 * NO_MEMORY. New reference. */
enum status preset_expand(const json_t *request, enum preset_part part, json_t **ret_request,
                          struct error *error) MUST_CHECK;

#endif
