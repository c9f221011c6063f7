/* A text that a language model generates with a copy of its weights, which learns from what the text is given: each
 * symbol of the prompt is predicted first, with what was learned of all before it, and then learned from, segment by
 * segment (train/adaptation.h); the last segment of a prompt is as short as it comes. What it makes itself teaches it
 * nothing. Each step is an ordinary run of the graph, in fp32, on the thread that calls: no batcher sees it.
 *
 * What it has learned is kept apart from it, as adapted_weights: another adapted text of the same version, from these
 * and from the state in which the first one's generation ended, goes on as the first one would have.
 *
 * Made on run threads, since it compiles a graph; for one calling thread at a time. */
#ifndef ENGINE_MODEL_ADAPTED_TEXT_H
#define ENGINE_MODEL_ADAPTED_TEXT_H

#include "engine/decode/generation.h"
#include "engine/model/served_graph.h"
#include "engine/train/adapted_weights.h"

struct adapted_text;

struct adapted_text_options {
    enum adaptation_weights weights; /* what learns */
    struct adapted_weights *from;    /* what was learned before, referenced; NULL: nothing yet */
    enum vocabulary_kind kind;
    size_t symbol_count;
};

/* References the graph. UNPROCESSABLE: code "no_language_model" or "cannot_adapt" where the graph is none that could
 * adapt, "adapted_mismatch" where `from` is not of this graph; else errors as plan_create's. Owned. */
enum status adapted_text_create(struct served_graph *graph, const struct adapted_text_options *options,
                                struct adapted_text **ret_text, struct error *error) MUST_CHECK;
/* Its generation must be gone. NULL is allowed. */
void adapted_text_destroy(struct adapted_text *text);

/* What its one generation is made of; its states are for adapted texts alone. Its stepper learns from step to step, so
 * that nothing but adapted_text_run may step it. */
const struct decode_plan *adapted_text_plan(const struct adapted_text *text);

/* Bytes that what it learned will have. */
size_t adapted_text_weights_bytes(const struct adapted_text *text);

/* Before its generation's first step: that reads so many symbols, of which so many come of the state it goes on from
 * and teach nothing. */
void adapted_text_begin(struct adapted_text *text, size_t prompt_count, size_t carried_count);

enum adapted_text_course { ADAPTED_TEXT_GOES_ON, ADAPTED_TEXT_WAITS /* for its reader */, ADAPTED_TEXT_ENDED };

/* Steps its generation, always the same one, for about so long. What is new goes to `on_progress` as a batcher's would
 * (batcher.h), which takes one reference with each call; at the end it is called last. A segment that makes no sense
 * any more to learn from fails the generation, UNPROCESSABLE, code "not_finite". */
enum adapted_text_course adapted_text_run(struct adapted_text *text, struct generation *generation, uint32_t maximum_ms,
                                          void (*on_progress)(void *context, struct generation **generations,
                                                              size_t count),
                                          void *context);

/* What it has learned once its prompt was read whole, borrowed; NULL before. Any thread that has seen its generation
 * end. */
struct adapted_weights *adapted_text_weights(const struct adapted_text *text);

#endif
