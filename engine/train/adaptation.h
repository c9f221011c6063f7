/* Dynamic evaluation: a language model goes on learning from the text that it predicts (Krause, Kahembwe, Murray,
 * Renals 2018, "Dynamic evaluation of neural sequence models"). Segment by segment the text is first predicted, with
 * what was learned of all before it, and then learned from by one step of Adam, while the recurrent state is carried
 * along. Adam stands for their RMS step: it divides gradients by the root of their mean squares, over the text itself
 * instead of over the training text, which a served model has not; there is no decay towards the weights one began
 * with. What learns are copies: the values one begins with are read, never written. For one calling thread. */
#ifndef ENGINE_TRAIN_ADAPTATION_H
#define ENGINE_TRAIN_ADAPTATION_H

#include <stdint.h>

#include "engine/graph/values.h"
#include "engine/nn/generate_signature.h"
#include "engine/text/vocabulary.h"

/* What learns. */
enum adaptation_weights {
    ADAPTATION_OUTPUT, /* softmax/w and softmax/b; of a tied model the embedding and softmax/b */
    ADAPTATION_ALL,    /* every trainable variable */
    ADAPTATION_WEIGHTS_COUNT,
};

/* "output", "all", and the weights of that name; false when there are none. */
const char *adaptation_weights_name(enum adaptation_weights weights);
bool adaptation_weights_find(const char *name, enum adaptation_weights *ret_weights);

struct adaptation_options {
    enum adaptation_weights weights;
    double learning_rate;
    size_t segment_symbols; /* learned from at once; gradients go back no further */
};

/* The defaults for a text of such symbols: segments as the paper has them (20, of words 5), rates that did best on
 * English prose. */
struct adaptation_options adaptation_defaults(enum adaptation_weights weights, enum vocabulary_kind kind);

struct adaptation;

/* Begins with the zero state. `graph` and `values` hold a language model; the graph is copied, the values are borrowed
 * until adaptation_destroy and must not change. UNPROCESSABLE, code "no_language_model"; else errors as plan_create.
 * Owned. */
enum status adaptation_create(const struct graph *graph, const struct values *values,
                              const struct adaptation_options *options, struct adaptation **ret_adaptation,
                              struct error *error) MUST_CHECK;
void adaptation_destroy(struct adaptation *adaptation);

/* Predicts `count` symbols, the first one from the last one of the call before, and learns from them. Adds −ln p of
 * each to `nats` but for the very first symbol, which nothing comes before. A call's last segment is as short as it
 * comes. UNPROCESSABLE, code "not_finite", when loss or gradients are no numbers any more: the learning rate is too
 * high. */
enum status adaptation_read(struct adaptation *adaptation, const uint32_t *symbols, size_t count, double *nats,
                            struct error *error) MUST_CHECK;

/* ---- for a text that is also generated, beside what is learned ---- */

/* What is read next stands behind `symbol`, and the recurrent state before that is `state`: the tensors that the
 * signature below lists, each from a multiple of MEM_ALIGNMENT_BYTES. */
void adaptation_go_to(struct adaptation *adaptation, const void *state, uint32_t symbol);

/* A step of its predict head, with what was learned by now, of its graph and values: the graph is borrowed, the values
 * are views that the caller owns, to be destroyed before the adaptation. UNPROCESSABLE, code "cannot_adapt", where the
 * graph has a signature of that name, which another head may answer. */
enum status adaptation_signature(const struct adaptation *adaptation, struct generate_signature *ret_signature,
                                 struct graph **ret_graph, struct values **ret_values, struct error *error) MUST_CHECK;

/* What was asked for. */
enum adaptation_weights adaptation_kind(const struct adaptation *adaptation);
size_t adaptation_segment_symbols(const struct adaptation *adaptation);

/* Shows, in an order that depends on graph and options alone, all that it changes: the variables that learn, and their
 * slots. `each` may write the tensors' numbers. */
void adaptation_visit(const struct adaptation *adaptation, void (*each)(void *context, struct tensor *tensor),
                      void *context);

#endif
