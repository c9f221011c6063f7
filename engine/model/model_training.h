/* What a training job needs of its model, between model.c and training_job.c only. Thread: the job's. */
#ifndef ENGINE_MODEL_MODEL_TRAINING_H
#define ENGINE_MODEL_MODEL_TRAINING_H

#include "engine/graph/values.h"
#include "engine/model/model.h"
#include "engine/nn/train_step.h"

struct model_training {
    struct graph *graph;    /* with train head and optimiser; one reference */
    struct values *values;  /* a copy, all of it initialised; owned */
    struct train_step step; /* of the graph */
    char *graph_json;       /* what model_save would write; owned: mem_free */
    size_t graph_json_bytes;
};

/* Makes a model ready to be trained, which nobody else has: builds the language model that waits for its vocabulary
 * over `vocabulary` (else that is the model's own) and runs its initialisers with `seed`, adds the train head where it
 * is missing, then the training step over its loss (the smoothed one with `smooths_labels`), as ordinary builds, and
 * initialises what is not (slots). What fails may leave it half built. UNPROCESSABLE, code "no_language_model"; errors
 * of a build. Release with model_training_release. */
enum status model_training_prepare(struct model *model, struct vocabulary *vocabulary,
                                   const struct train_step_options *step, bool smooths_labels, uint64_t seed,
                                   struct model_training *ret_training, struct error *error) MUST_CHECK;
void model_training_release(struct model_training *training);

/* Copies `values` whole, slots too, into the live values of the model, which the training holds; its graph now counts
 * as unsaved. */
enum status model_hand_back(struct model *model, const struct values *values, struct error *error) MUST_CHECK;

#endif
