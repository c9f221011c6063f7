/* What a training job needs of its model, between model.c and training_job.c only. The caller holds the training lock
 * (model_begin_training) throughout. Thread: the job's. */
#ifndef ENGINE_MODEL_MODEL_TRAINING_H
#define ENGINE_MODEL_MODEL_TRAINING_H

#include "engine/graph/values.h"
#include "engine/model/model.h"
#include "engine/nn/train_step.h"

/* What the model's text is made of. */
struct model_training_text {
    enum vocabulary_kind kind;
    struct vocabulary *vocabulary;   /* one reference more; NULL: the first training gives it one */
    struct vocabulary_limits limits; /* of the one to come */
};

/* UNPROCESSABLE when the model has no language model. */
enum status model_training_text(struct model *model, struct model_training_text *ret_text,
                                struct error *error) MUST_CHECK;

struct model_training {
    struct graph *graph;    /* with train head and optimiser; one reference */
    struct values *values;  /* a copy, all of it initialised; owned */
    struct train_step step; /* of the graph */
    char *graph_json;       /* what model_save would write; owned: mem_free */
    size_t graph_json_bytes;
};

/* Makes the model ready to be trained: builds the waiting language model over `vocabulary` and runs its initialisers
 * with `seed` (else `vocabulary` must equal the model's), adds the train head where it is missing, then the training
 * step over its loss (the smoothed one with `smooths_labels`), as ordinary builds, and initialises what is not (slots).
 * Release with model_training_release. */
enum status model_training_prepare(struct model *model, struct vocabulary *vocabulary,
                                   const struct train_step_options *step, bool smooths_labels, uint64_t seed,
                                   struct model_training *ret_training, struct error *error) MUST_CHECK;
void model_training_release(struct model_training *training);

/* Copies `values` whole, slots too, into the model's live values; the graph now counts as unsaved. */
enum status model_hand_back(struct model *model, const struct values *values, struct error *error) MUST_CHECK;

#endif
