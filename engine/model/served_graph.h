/* A version's graph as it is served: its signatures, run with tensors by name. Immutable once opened and
 * reference-counted; any number of runs in parallel. Opened on run threads: that reads and verifies files.
 *
 * A signature is what a step "signature" made, of several of one name the last; a list of tensors in it goes by number:
 * "state.0". A language_model's predict head has one more, SERVED_DEFAULT_NAME, unless a step made one of that name:
 * inputs "tokens" and "state.N", outputs "logits", "probabilities" and "state.N". An input "state" or "state.N" with an
 * output of the same name is what a run carries over to the next one. */
#ifndef ENGINE_MODEL_SERVED_GRAPH_H
#define ENGINE_MODEL_SERVED_GRAPH_H

#include "engine/base/status.h"
#include "engine/graph/graph.h"
#include "engine/math/tensor.h"

#define SERVED_DEFAULT_NAME "serving_default"

struct served_graph;
struct served_run;

/* A tensor that a signature names. */
struct served_end {
    const char *name;   /* as the signature calls it: "tokens" */
    const char *tensor; /* as the graph does: "predict/inputs:0" */
    enum dtype dtype;
    struct shape shape; /* as far as it is known */
    bool is_optional;   /* an input that has a value where nothing is fed */
    bool is_carried;    /* an input, with an output of its name that is its next value */
    size_t next;        /* that output, where is_carried */
    struct output output;
};

struct served_signature {
    const char *name;
    const struct served_end *inputs;
    size_t input_count;
    const struct served_end *outputs;
    size_t output_count;
};

/* Reads the version directory `path`. Errors as snapshot_load's for files, graph and weights; that a graph makes no
 * text is none. Owned by one reference. */
enum status served_graph_open(const char *path, struct served_graph **ret_graph, struct error *error) MUST_CHECK;
struct served_graph *served_graph_ref(struct served_graph *graph);
/* The last release frees megabytes. Returns NULL. */
struct served_graph *served_graph_unref(struct served_graph *graph);

/* Its signatures, borrowed from the graph. */
size_t served_graph_signature_count(const struct served_graph *graph);
const struct served_signature *served_graph_signature(const struct served_graph *graph, size_t index);

/* A signature by its name. NULL means SERVED_DEFAULT_NAME, without one of that name the only one, or "generate".
 * INVALID, code "signature_not_found", names those there are. */
enum status served_graph_find(const struct served_graph *graph, const char *name,
                              const struct served_signature **ret_signature, struct error *error) MUST_CHECK;

/* Its graph and values, which nobody may change; for engine/model alone. Borrowed. */
struct session;
const struct session *served_graph_session(const struct served_graph *graph);

/* The end of that name; SIZE_MAX: there is none. */
size_t served_end_find(const struct served_end *ends, size_t count, const char *name);

struct served_request {
    const struct served_signature *signature;
    const struct tensor *const *inputs; /* one for each of its inputs, NULL: not fed; borrowed until the run's end */
    const size_t *outputs;              /* of its outputs, by number */
    size_t output_count;
    size_t elements_max; /* of all outputs together */
    uint32_t maximum_ms;
};

/* Runs. Errors name the signature's input: INVALID for one that is missing, of another dtype or shape; UNPROCESSABLE
 * for a run that would change variables, with code "read_only", that takes too long, or that the graph refuses;
 * TOO_LARGE above `elements_max`. Owned: served_run_end. */
enum status served_graph_run(struct served_graph *graph, const struct served_request *request,
                             struct served_run **ret_run, struct error *error) MUST_CHECK;
/* The value of output `index` of the request; borrowed until the end. */
const struct tensor *served_run_output(const struct served_run *run, size_t index);
void served_run_end(struct served_run *run); /* takes NULL */

#endif
