/* What a training begins with: a copy of its model, or a version's graph and weights, or none, over a vocabulary that
 * may take in the symbols of the text, or what an interrupted training had. Made aside, where nobody else sees it; the
 * model has it once training_base_adopt puts it in place, so that a training that does not begin leaves nothing behind.
 * Thread: the job's.
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
    struct model *model;             /* made aside, nobody else's; may wait for its vocabulary; NULL: none */
    bool is_replacing;               /* it takes the place of the model's graph, and is not that graph built on */
    enum vocabulary_kind kind;       /* of the text */
    struct vocabulary_limits limits; /* of a vocabulary that is waited for */
};

/* Takes a copy of what `start` names. The training holds the model. INVALID for bytes out of words or where there is no
 * vocabulary yet; UNPROCESSABLE, code "no_language_model"; errors of version_content_read. Release with
 * training_base_release. */
enum status training_base_take(struct model *model, const struct training_start *start, struct training_base *ret_base,
                               struct error *error) MUST_CHECK;
/* A base of zeroes is allowed. */
void training_base_release(struct training_base *base);

/* Takes the content of a checkpoint that is to be resumed, graph and all, unless the model's graph is the very one that
 * was trained, perhaps built on since: what else the model has become, or was made as, is no matter. The training holds
 * the model. UNPROCESSABLE, code "no_language_model"; errors of version_content_read. */
enum status training_base_take_checkpoint(struct model *model, const char *path, struct training_base *ret_base,
                                          struct error *error) MUST_CHECK;

/* The vocabulary to train with: the base's, changed as the policy says, or that of the text where it is waited for. One
 * reference. */
enum status training_base_choose(const struct training_base *base, const struct training_start *start,
                                 const struct corpus *corpus, struct vocabulary **ret_vocabulary,
                                 struct error *error) MUST_CHECK;

/* Builds the base's language model anew over `vocabulary`, if it has another one or is to begin from scratch.
 * UNPROCESSABLE, code "not_extensible", naming a trainable variable that is none of the language model's. */
enum status training_base_fit(struct training_base *base, const struct training_start *start,
                              struct vocabulary *vocabulary, uint64_t seed, struct error *error) MUST_CHECK;

/* Puts the base, as it was built on since, into the model, which the training holds: the base is empty then. Waits for
 * a build that has begun. A model whose graph is replaced is one generation up. Changed means unsaved. */
void training_base_adopt(struct training_base *base, struct model *model);

#endif
