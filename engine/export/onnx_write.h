/* A text model as an ONNX file, for ONNX Runtime and whatever else reads ONNX (opset 13). Thread: any but the loop.
 *
 * symbols [time, batch] int64 and for each layer N h_N, of an LSTM c_N too, [1, batch, units] go in; logits and
 * probabilities [time, batch, vocabulary] and the next states, h_N_next and c_N_next, come out. One step is a time of
 * 1; a text begins with states of zeros. Initializers: embedding, or no such; layer_N.W, .R and .B in ONNX's order of
 * gates; output.weight unless it is the embedding, output.bias. metadata_props: vocabulary, as vocab.json has it.
 * Source of operators and their equations: onnx/onnx, docs/Operators.md. */
#ifndef ENGINE_EXPORT_ONNX_WRITE_H
#define ENGINE_EXPORT_ONNX_WRITE_H

#include "engine/decode/decode_plan.h"
#include "engine/text/vocabulary.h"

struct onnx_write_options {
    const struct decode_weights *weights;
    const struct vocabulary *vocabulary;
    const char *description; /* for people: "moby@3" */
    const char *producer_version;
};

/* The file as a new block: free with mem_free. TOO_LARGE where it would have 2 GiB or more, which no reader of ONNX
 * takes; NO_MEMORY. */
enum status onnx_write(const struct onnx_write_options *options, void **ret_bytes, size_t *ret_length,
                       struct error *error) MUST_CHECK;

#endif
