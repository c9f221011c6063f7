/* From a graph with a signature "generate" to packed weights, where its step is a stack of cells (step_match.h).
 * Thread: loader, run threads. Owns nothing. */
#ifndef ENGINE_MODEL_GRAPH_PACK_H
#define ENGINE_MODEL_GRAPH_PACK_H

#include "engine/decode/decode_plan.h"
#include "engine/graph/values.h"
#include "engine/model/step_view.h"

/* Who gets a model's weights in fp32; they are borrowed for the call. */
struct weights_use {
    enum status (*take)(void *context, const struct decode_weights *weights, struct error *error);
    void *context;
};

struct graph_pack_options {
    struct graph *graph;
    struct values *values;
    const struct generate_signature *signature;
    size_t symbol_count;
    enum rnn_precision precision;
    /* A plan that runs the graph: what is packed must say the same as this, within what rounding does. */
    const struct decode_plan *reference;
    const struct weights_use *use; /* gets the weights once they have been compared; NULL: nobody does */
};

/* `*ret_plan` stays NULL, and `reason` says why in a sentence that names a node, when the graph cannot be packed.
 * Errors are a narrow precision that cannot hold a weight (decode_plan_create), those of `use`, and NO_MEMORY.
 * Owned. */
enum status graph_pack(const struct graph_pack_options *options, struct decode_plan **ret_plan,
                       char reason[STEP_VIEW_REASON_BYTES_MAX], struct error *error) MUST_CHECK;

/* Bytes of the plan that graph_pack would make, by the shapes of the graph alone: neither values nor a reference are
 * needed. 0 where it cannot be packed; one whose values are at fault is not told apart. NO_MEMORY. */
enum status graph_pack_measure(const struct graph_pack_options *options, size_t *ret_bytes,
                               struct error *error) MUST_CHECK;

#endif
