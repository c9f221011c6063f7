/* The signature "generate": what of a graph makes text, one symbol a step. Any graph may have one; builds check it, and
 * serving reads it (engine/model). Thread: any that may read the graph. Owns nothing.
 *
 *   {"op":"signature","name":"generate","inputs":{"symbol":"x","state":["c0","h0"]},
 *    "outputs":{"logits":"l","state":["c1","h1"]},"vocabulary":…}
 *
 * inputs.symbol   the symbol that is fed: whole numbers of one element, ids of the vocabulary; or float32 with as many
 *                 columns as there are symbols, which is fed a one-hot vector
 * inputs.state    what a step carries over from the one before: one tensor or a list; none for a model without state
 * outputs.logits  float32, a score for each symbol in its last dimension; or outputs.probabilities, whose logarithms
 *                 are then the logits (of 0 that of the smallest normal float). Where both are given, logits count
 * outputs.state   the next state, tensor by tensor of the same dtype and shape
 * A step has one row and one symbol: a dimension that is not known counts as 1, and all known ones of symbol and scores
 * but the last are 1. The first step's state is what the graph makes of inputs.state where nothing is fed to it, with
 * symbol 0; zeros for placeholders. */
#ifndef ENGINE_NN_GENERATE_SIGNATURE_H
#define ENGINE_NN_GENERATE_SIGNATURE_H

#include "engine/graph/graph.h"

#define GENERATE_SIGNATURE_NAME "generate"

enum { GENERATE_STATES_MAX = 256 };

struct generate_signature {
    struct output symbol;
    struct shape symbol_shape; /* of what is fed: fully known, as all shapes here */
    bool is_one_hot;           /* symbol is float32 */
    struct output scores;
    bool is_probabilities;
    size_t symbol_count; /* columns of the scores; 0 where the graph does not say */
    size_t state_count;
    struct output states[GENERATE_STATES_MAX];
    struct output next_states[GENERATE_STATES_MAX];
    struct shape state_shapes[GENERATE_STATES_MAX];
};

/* Whether the graph has such a signature. */
bool generate_signature_exists(const struct graph *graph);

/* Reads the last one built. UNPROCESSABLE, code "cannot_generate", names the part of it and what is wrong, also where
 * there is none. */
enum status generate_signature_read(const struct graph *graph, struct generate_signature *ret_signature,
                                    struct error *error) MUST_CHECK;

#endif
