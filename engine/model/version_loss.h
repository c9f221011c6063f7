/* What a version's loss is on the text that a training is measured with, found as the training finds its own
 * (evaluation.h), so that the two can be compared. Thread: the job's. */
#ifndef ENGINE_MODEL_VERSION_LOSS_H
#define ENGINE_MODEL_VERSION_LOSS_H

#include "engine/train/corpus.h"

struct version_loss_options {
    const char *version_path;
    const struct corpus *corpus;         /* encoded with */
    const struct vocabulary *vocabulary; /* which need not be the version's */
    struct corpus_stretch stretch;       /* of the corpus: the text; at least 2 symbols */
    const char *directory;               /* for a file without a name, as corpus_source's */
    size_t shards;                       /* as the training's, for the same bits */
    size_t threads;
    bool is_idle_priority;
    const _Atomic bool *is_cancelled; /* ends it soon, CANCELLED; borrowed; NULL: nothing does */
};

/* In nats per symbol of the corpus. Where the version has other symbols, the text is read anew in these, and what the
 * version takes for a character is what it would take for as many of the corpus'. UNPROCESSABLE, code "not_comparable",
 * where the text cannot be had in its symbols, or "<unk>" would stand for words that one of both can tell;
 * "no_language_model"; else errors as version_content_read, corpus_create, corpus_encode and evaluation_create. As slow
 * as one evaluation. */
enum status version_loss_measure(const struct version_loss_options *options, double *ret_loss,
                                 struct error *error) MUST_CHECK;

#endif
