/* A run of a served version's signature with tensors as requests bring them: nested JSON, flat JSON with a shape, or
 * bytes. What TF Serving's predict and the Open Inference Protocol's infer share.
 *
 *   prediction_begin → prediction_set_… for each input, prediction_ask_for → prediction_run → outputs → release
 *
 * Errors name the tensor and the number; nothing of a size that a request states is allocated before that size was
 * held against what the request brings. Thread: run threads. */
#ifndef DAEMON_PREDICTION_H
#define DAEMON_PREDICTION_H

#include <jansson.h>

#include "engine/engine.h"

struct prediction {
    struct served_graph *graph;               /* borrowed */
    const struct served_signature *signature; /* of the graph */
    struct tensor *values;                    /* one for each input */
    const struct tensor **inputs;             /* into `values`; NULL: not given */
    size_t *outputs;                          /* those asked for, in order, then those kept for a next run */
    size_t output_count;
    size_t told_count; /* of those: asked for */
    struct served_run *run;
    uint64_t begun_ns, ran_ns, done_ns; /* when it began, its run did, and that was over; 0: not yet */
};

/* Finds the signature (NULL: served_graph_find's default). INVALID. Release also after failure: starts as all
 * zeroes. */
enum status prediction_begin(struct served_graph *graph, const char *signature_name, struct prediction *prediction,
                             struct error *error) MUST_CHECK;
void prediction_release(struct prediction *prediction);

/* An input by its name. INVALID when there is none, with the names of all, and when it has a value already. */
enum status prediction_find_input(const struct prediction *prediction, const char *name, size_t *ret_input,
                                  struct error *error) MUST_CHECK;
/* The only one, or the only one that needs a value. INVALID with the names of all when it is not plain which. */
enum status prediction_find_only_input(const struct prediction *prediction, size_t *ret_input,
                                       struct error *error) MUST_CHECK;

/* Each gives an input its value. INVALID says what is wrong, and where.
 * Nested lists of numbers; `value` may also be a number. */
enum status prediction_set_json(struct prediction *prediction, size_t input, const json_t *value,
                                struct error *error) MUST_CHECK;
/* A list of `shape`'s elements in row-major order, or nested to the shape. */
enum status prediction_set_listed(struct prediction *prediction, size_t input, const struct shape *shape,
                                  const json_t *data, struct error *error) MUST_CHECK;
/* Little-endian elements; a bool is a byte, any but 0 true. */
enum status prediction_set_bytes(struct prediction *prediction, size_t input, const struct shape *shape,
                                 const char *bytes, size_t length, struct error *error) MUST_CHECK;

/* Gives an input of a state that is not given another's value, which is copied. NO_MEMORY. */
enum status prediction_set_state(struct prediction *prediction, size_t input, const struct tensor *value,
                                 struct error *error) MUST_CHECK;
/* Gives an input that needs a value zeros, dimensions that are not known being 1. */
enum status prediction_set_zeros(struct prediction *prediction, size_t input, struct error *error) MUST_CHECK;

/* Asks for an output; none asked for: all. INVALID when there is none of that name, or it was asked for. */
enum status prediction_ask_for(struct prediction *prediction, const char *name, struct error *error) MUST_CHECK;

/* Has a run give the next value of every state that is carried over, told or not; after all was asked for. */
void prediction_keep_states(struct prediction *prediction);
/* The next value of input `input`, after the run; borrowed. */
const struct tensor *prediction_next_state(const struct prediction *prediction, size_t input);

/* Errors as served_graph_run. */
enum status prediction_run(struct prediction *prediction, size_t elements_max, uint32_t maximum_ms,
                           struct error *error) MUST_CHECK;
/* Output number `index` of those asked for (told_count), after the run: what it is and its value, borrowed. */
const struct served_end *prediction_output(const struct prediction *prediction, size_t index);
const struct tensor *prediction_value(const struct prediction *prediction, size_t index);

/* A shape as a request states it: whole numbers of 0 or more, at most SHAPE_RANK_MAX, whose product is an element count
 * (TENSOR_JSON_ELEMENTS_MAX). INVALID names `what` and the number. */
enum status prediction_read_shape(const json_t *json, const char *what, struct shape *ret_shape,
                                  struct error *error) MUST_CHECK;

/* Element types as the Open Inference Protocol ("FP32") and TensorFlow's protocol buffers ("DT_FLOAT") spell them; NULL
 * where the protocol has none. */
const char *dtype_oip_name(enum dtype dtype);
const char *dtype_tf_name(enum dtype dtype);

#endif
