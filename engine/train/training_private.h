/* The inside of a training, for the files of engine/train that make one up. Thread: the training's. */
#ifndef ENGINE_TRAIN_TRAINING_PRIVATE_H
#define ENGINE_TRAIN_TRAINING_PRIVATE_H

#include <stdatomic.h>

#include "engine/train/checkpoint.h"
#include "engine/train/evaluation.h"
#include "engine/train/training.h"
#include "engine/train/update.h"

/* Speed over the last one to two windows of time. */
struct speed {
    double symbols; /* in the current window */
    double seconds;
    double symbols_before; /* in the one before */
    double seconds_before;
};

struct training {
    struct training_parts parts;
    struct training_options options;
    struct language_model_options model;
    float keep_probability;
    struct trainer_threads *threads;
    struct carried_state state;
    struct shards *shards;
    struct update *update;
    struct batches batches;
    uint64_t windows;              /* in an epoch */
    struct evaluation *evaluation; /* NULL: no validation text */
    struct values *best;
    struct corpus_split split;
    double symbols_per_character; /* of the text that the reported loss is of */
    double test_loss;             /* NaN: not measured */
    struct checkpoint record;     /* position, options, history */
    struct speed speed;
    double seconds_before;  /* of earlier runs */
    uint64_t began_ns;      /* this run */
    uint64_t event_ns;      /* the last progress event */
    uint64_t files_ns;      /* the last look at the corpus' files */
    uint64_t checkpoint_ns; /* the last checkpoint, or the beginning */
    double gradient_norm;   /* of the last step; NaN before the first of this run */
    const char *sample;     /* of the event that is being told; NULL: it is none */
    bool is_evaluated;      /* at this very step */
    bool is_best;
    _Atomic bool is_stopping;
};

/* Makes what measures a part of the text, which has one; training_stop ends its runs. Owned. */
enum status training_make_evaluation(struct training *training, enum corpus_part part,
                                     struct evaluation **ret_evaluation, struct error *error) MUST_CHECK;

/* What a checkpoint is written of and restored into; borrowed from the training. */
struct checkpoint_files training_checkpoint_files(struct training *training);

/* Counts symbols that took so many seconds. */
void training_speed_add(struct speed *speed, double symbols, double seconds);

/* The learning rate of the step that comes next. */
double training_rate(const struct training *training);

#endif
