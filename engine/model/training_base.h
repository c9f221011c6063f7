/* What a training begins with, where that is not the model's graph as it is: a version's weights, none, a vocabulary
 * that takes in the symbols of the text, or what an interrupted training had. Made aside; the model has it once
 * training_base_adopt puts it in place. Thread: the job's.
 *
 * A graph over another vocabulary is the language model built anew over it, with initial values from the seed, then the
 * weights there were: row by row of the embedding (or of the first layer's kernel, where symbols go in one-hot), of
 * softmax/w and of softmax/b for every symbol that both vocabularies have; all other variables whole. So a new symbol
 * begins as in a new model. Optimisers begin anew. */
#ifndef ENGINE_MODEL_TRAINING_BASE_H
#define ENGINE_MODEL_TRAINING_BASE_H

#include "engine/model/model_private.h"
#include "engine/model/training_job.h"

struct training_base {
    struct version_content content; /* owned; without a graph: the model's own, as it is. Once adopted, what it was */
    enum vocabulary_kind kind;      /* of the text */
    /* Once adopted, what else the model was. */
    bool is_adopted;
    bool was_unsaved;
    uint64_t base_version;
    json_t *waiting_specification; /* owned */
};

/* Takes a copy of what `start` names. A model that waits for its first vocabulary has nothing to take. INVALID for
 * bytes out of words or where there is no vocabulary yet; UNPROCESSABLE, code "no_language_model"; errors of
 * version_content_read. Release with training_base_release. */
enum status training_base_take(struct model *model, const struct training_start *start, struct training_base *ret_base,
                               struct error *error) MUST_CHECK;
/* A base of zeroes is allowed. */
void training_base_release(struct training_base *base);

/* Takes the content of a checkpoint that is to be resumed, graph and all, unless the model's graph is the very one that
 * was trained, perhaps built on since: what else the model has become, or was made as, is no matter.
 * UNPROCESSABLE, code "no_language_model"; errors of version_content_read. */
enum status training_base_take_checkpoint(struct model *model, const char *path, struct training_base *ret_base,
                                          struct error *error) MUST_CHECK;

/* The vocabulary to train with: the base's, changed as the policy says. One reference. */
enum status training_base_choose(const struct training_base *base, const struct training_start *start,
                                 const struct corpus *corpus, struct vocabulary **ret_vocabulary,
                                 struct error *error) MUST_CHECK;

/* Builds the base's language model anew over `vocabulary`, if it has another one or is to begin from scratch.
 * UNPROCESSABLE, code "not_extensible", naming a trainable variable that is none of the language model's. */
enum status training_base_fit(struct training_base *base, const struct training_start *start,
                              struct vocabulary *vocabulary, uint64_t seed, struct error *error) MUST_CHECK;

/* Puts the base into the model, which a training holds; a base without a graph changes nothing. The model is one
 * generation up, and unsaved. */
void training_base_adopt(struct training_base *base, struct model *model);

/* Where a training that adopted its base does not begin after all: the model has its own again, and is one more
 * generation up. The training still holds it. */
void training_base_put_back(struct training_base *base, struct model *model);

#endif
