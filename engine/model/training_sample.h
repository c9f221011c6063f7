/* What a model in training writes, on the calling thread alone: for people to look at. Thread: any; owns nothing. */
#ifndef ENGINE_MODEL_TRAINING_SAMPLE_H
#define ENGINE_MODEL_TRAINING_SAMPLE_H

#include "engine/graph/values.h"
#include "engine/text/vocabulary.h"

struct training_sample {
    struct graph *graph;
    struct values *values;
    struct vocabulary *vocabulary;
    uint32_t first_symbol; /* the prompt; not part of the text */
    size_t symbols;        /* to make */
    uint64_t seed;
    const _Atomic bool *is_cancelled; /* ends it early, with the text so far */
};

/* Drawn at temperature 1, the same for the same seed. `ret_text` is UTF-8, owned: mem_free. Errors as
 * version_content_plan's and generation_create's; UNPROCESSABLE, code "not_finite". */
enum status training_sample_make(const struct training_sample *sample, char **ret_text, struct error *error) MUST_CHECK;

#endif
