/* How to train: one record for the command line, the HTTP body and the checkpoint. Plain values. Thread: any.
 *
 *   {"preset":"char-rnn","batch":64,"sequence_length":64,"epochs":50,"max_steps":N,"max_seconds":N,"shards":2,"seed":1,
 *    "optimizer":{"name":"adam","learning_rate":0.002,…},"clip_norm":5,"clip_value":null,"label_smoothing":0,
 *    "gradient_noise":0,"dropout":0.5,"validation_fraction":0.1,"test_fraction":0,
 *    "schedule":"constant"|{"name":"step","warmup_steps":0,"after_epochs":10,"every_epochs":5,"factor":0.5},
 *    "early_stopping":N,"evaluate_every_steps":N,"sample_every_steps":N,"sample_symbols":200,
 *    "checkpoint_seconds":60,"publish":"end"|"best"|"checkpoints"|"never"}
 *
 * Optimisers: adam and adamw (beta1, beta2, epsilon), sgd, momentum (momentum, use_nesterov), rmsprop (decay, momentum,
 * epsilon, centered, initial_accumulator_value), adagrad (initial_accumulator_value), all with learning_rate and
 * weight_decay. Schedules: see schedule.h. A preset (presets.h) stands for its fields; those beside it come first.
 *
 * Of epochs, max_steps and max_seconds the first one reached ends the training; without any of them 50 epochs do. */
#ifndef ENGINE_TRAIN_TRAINING_OPTIONS_H
#define ENGINE_TRAIN_TRAINING_OPTIONS_H

#include <jansson.h>
#include <stdint.h>

#include "engine/nn/train_step.h"
#include "engine/train/schedule.h"

enum {
    TRAINING_BATCH_MAX = 4096,
    TRAINING_SEQUENCE_LENGTH_MAX = 4096,
    TRAINING_SHARDS_MAX = 64,
    TRAINING_SHARDS_DEFAULT = 2,
    TRAINING_EPOCHS_DEFAULT = 50,
    TRAINING_SAMPLE_SYMBOLS_MAX = 10000,
};

enum publish { PUBLISH_END, PUBLISH_BEST, PUBLISH_CHECKPOINTS, PUBLISH_NEVER, PUBLISH_COUNT };

struct training_options {
    size_t batch; /* rows */
    size_t sequence_length;
    size_t shards;   /* parts of the batch whose gradients are summed in fixed order; at most `batch` */
    uint64_t epochs; /* 0: no limit, here and in the next two */
    uint64_t max_steps;
    double max_seconds;             /* of training, over all resumes */
    struct train_step_options step; /* the optimiser; what it must do besides follows from the numbers here */
    double learning_rate;
    double weight_decay;
    struct schedule schedule;
    double clip_norm;              /* global norm; infinity: no clipping (null in JSON) */
    double clip_value;             /* of each element; infinity: no clipping (null in JSON) */
    double label_smoothing;        /* share of a target that is spread over all symbols */
    double gradient_noise;         /* η: variance η / (1 + steps)^0.55 (Neelakantan et al. 2015); 0: none */
    double dropout;                /* NaN: the model's own (left out in JSON) */
    double validation_fraction;    /* of the symbols, before the test's; 0: none. Not where a text of its own is */
    double test_fraction;          /* of the symbols, at the end of the text; the same */
    uint64_t seed;                 /* below 2^53 */
    uint64_t early_stopping;       /* evaluations without a better loss that end the training; 0: none do */
    uint64_t evaluate_every_steps; /* besides every epoch's end; 0: only then */
    uint64_t sample_every_steps;   /* 0: no samples of what the model writes */
    size_t sample_symbols;         /* of one */
    double checkpoint_seconds;
    enum publish publish; /* for who runs the job: when to make a version */
};

/* Reads `request` and fills in what it leaves out. INVALID names an unknown field, a wrong type or a value out of range
 * with its bounds (`param`: the field); UNSUPPORTED, code "unsupported", a
 * documented one that is not built. */
enum status training_options_read(const json_t *request, struct training_options *ret_options,
                                  struct error *error) MUST_CHECK;

/* All of it as JSON, as training_options_read takes it. New reference; NULL when out of memory. */
json_t *training_options_write(const struct training_options *options);

/* As read and written: what is missing in `request` added, a preset replaced by its fields. */
enum status training_options_complete(const json_t *request, json_t **ret_options, struct error *error) MUST_CHECK;

/* What a resume goes on with: the checkpoint's options, where `request` may set new limits (epochs, max_steps,
 * max_seconds), checkpoint_seconds and publish. CONFLICT, code "resume_differs", names any other field that differs. */
enum status training_options_resume(const json_t *checkpoint, const json_t *request,
                                    struct training_options *ret_options, struct error *error) MUST_CHECK;

#endif
