/* How to train: one record for the command line, the HTTP body and the checkpoint. Plain values. Thread: any.
 *
 *   {"batch":64,"sequence_length":64,"epochs":50,"max_steps":N,"max_seconds":N,"shards":2,"seed":1,
 *    "optimizer":{"name":"adam"|"sgd","learning_rate":0.002},"clip_norm":5,"dropout":0.5,"validation_fraction":0.1,
 *    "schedule":"constant"|{"name":"step","after_epochs":10,"every_epochs":5,"factor":0.5},
 *    "evaluate_every_steps":N,"checkpoint_seconds":60,"publish":"end"|"best"|"checkpoints"|"never"}
 *
 * Of epochs, max_steps and max_seconds the first one reached ends the training; without any of them 50 epochs do. */
#ifndef ENGINE_TRAIN_TRAINING_OPTIONS_H
#define ENGINE_TRAIN_TRAINING_OPTIONS_H

#include <jansson.h>
#include <stdint.h>

#include "engine/nn/train_step.h"

enum {
    TRAINING_BATCH_MAX = 4096,
    TRAINING_SEQUENCE_LENGTH_MAX = 4096,
    TRAINING_SHARDS_MAX = 64,
    TRAINING_SHARDS_DEFAULT = 2,
    TRAINING_EPOCHS_DEFAULT = 50,
};

enum publish { PUBLISH_END, PUBLISH_BEST, PUBLISH_CHECKPOINTS, PUBLISH_NEVER, PUBLISH_COUNT };

/* The rate is multiplied by `factor` every `every_epochs` after `after_epochs`. every_epochs 0: constant. */
struct schedule {
    uint64_t after_epochs;
    uint64_t every_epochs;
    double factor;
};

struct training_options {
    size_t batch; /* rows */
    size_t sequence_length;
    size_t shards;   /* parts of the batch whose gradients are summed in fixed order; at most `batch` */
    uint64_t epochs; /* 0: no limit, here and in the next two */
    uint64_t max_steps;
    double max_seconds; /* of training, over all resumes */
    enum optimizer_kind optimizer;
    double learning_rate;
    struct schedule schedule;
    double clip_norm;              /* global norm; infinity: no clipping (null in JSON) */
    double dropout;                /* NaN: the model's own (left out in JSON) */
    double validation_fraction;    /* of the symbols, at the end of the text; 0: no validation */
    uint64_t seed;                 /* below 2^53 */
    uint64_t evaluate_every_steps; /* besides every epoch's end; 0: only then */
    double checkpoint_seconds;
    enum publish publish; /* for who runs the job: when to make a version */
};

/* Reads `request` and fills in what it leaves out. INVALID names an unknown field, a wrong type or a value out of range
 * with its bounds (`param`: the field); UNSUPPORTED, code "unsupported", a documented one that is not built. */
enum status training_options_read(const json_t *request, struct training_options *ret_options,
                                  struct error *error) MUST_CHECK;

/* All of it as JSON, as training_options_read takes it. New reference; NULL when out of memory. */
json_t *training_options_write(const struct training_options *options);

/* As read and written: what is missing in `request` added. */
enum status training_options_complete(const json_t *request, json_t **ret_options, struct error *error) MUST_CHECK;

/* What a resume goes on with: the checkpoint's options, where `request` may set new limits (epochs, max_steps,
 * max_seconds), checkpoint_seconds and publish. CONFLICT, code "resume_differs", names any other field that differs. */
enum status training_options_resume(const json_t *checkpoint, const json_t *request,
                                    struct training_options *ret_options, struct error *error) MUST_CHECK;

/* The learning rate in an epoch, counted from 1:
 * learning_rate · factor^⌊max(0, epoch − after_epochs) / every_epochs⌋. */
double training_learning_rate(const struct training_options *options, uint64_t epoch);

/* As in JSON: "end", "best", … */
const char *publish_name(enum publish publish);

#endif
