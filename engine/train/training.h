/* Training a language model on a text: corpus → batches → steps → evaluation → checkpoints. Runs on the thread that
 * calls training_run and on trainer threads it starts itself (lowest priority when asked). The mathematics is the
 * ordinary graph with its train head. */
#ifndef ENGINE_TRAIN_TRAINING_H
#define ENGINE_TRAIN_TRAINING_H

#include <jansson.h>
#include <stdint.h>

#include "engine/base/status.h"

struct training;

/* One record of progress; the same for --json lines, HTTP and history. Numbers not known yet are NaN (counts 0). */
enum training_event_kind { TRAINING_PROGRESS, TRAINING_CHECKPOINT, TRAINING_DONE, TRAINING_EVENT_KIND_COUNT };

struct training_event {
    enum training_event_kind kind;
    uint64_t step;
    double epoch;              /* fractional */
    double train_loss;         /* nats per symbol, smoothed over the last steps */
    double validation_loss;    /* nats per symbol, of the last evaluation; NaN before the first */
    double bits_per_character; /* of the validation loss, else of the train loss */
    double perplexity;
    double learning_rate;
    double symbols_per_second;
    double seconds_left;  /* NaN when the end is not known */
    double seconds;       /* since the job began, over all its resumes */
    bool is_best;         /* this evaluation is the job's best */
    double fraction_done; /* 0 to 1 */
};

struct training_callbacks {
    /* Called on the training thread. `training` can be asked for weights inside CHECKPOINT and DONE events. */
    void (*on_event)(void *context, struct training *training, const struct training_event *event);
    void *context;
};

/* Adds what is left out of `request` (the HTTP train body and the command line's options share these names) and refuses
 * unknown fields and bad values by name:
 *   {"batch":64,"sequence_length":64,"epochs"|"max_steps"|"max_seconds","optimizer":{"name":"adam",
 *    "learning_rate":0.002},"clip_norm":5,"dropout":0,"validation_fraction":0.1,"seed":1,"checkpoint_seconds":60,…}
 * Documented ones not built yet: UNSUPPORTED naming the field. */
enum status training_options_complete(const json_t *request, json_t **ret_options, struct error *error) MUST_CHECK;

/* The job's event as a JSON object with http-api.md's field names; new reference or NULL when out of memory. */
json_t *training_event_to_json(const struct training_event *event);

#endif
