/* Generating by running a graph: each step of a row is an ordinary run of the signature "generate", one row and one
 * symbol at a time, so that rows cannot influence one another. For any graph; slower than packed weights.
 * Thread: made on the loader thread or wherever a plan is; steps on any. */
#ifndef ENGINE_MODEL_GRAPH_STEPPER_H
#define ENGINE_MODEL_GRAPH_STEPPER_H

#include "engine/decode/decode_plan.h"
#include "engine/graph/values.h"
#include "engine/nn/generate_signature.h"

/* A step takes at most so long, measured once (the best of a few) when the plan is made: what a step computes is always
 * as much. */
enum { GRAPH_STEPPER_STEP_MS_MAX = 1000 };

/* Compiles the step and makes the first state. The plan keeps the graph's nodes; `values` are its own from then on, on
 * failure they stay the caller's. UNPROCESSABLE, code "cannot_generate", says what is wrong: a placeholder that is not
 * fed, shapes that do not go together, other than `symbol_count` scores, a step that changes variables or takes too
 * long; NO_MEMORY. Owned. */
enum status graph_stepper_plan(struct graph *graph, struct values *values, const struct generate_signature *signature,
                               size_t symbol_count, struct decode_plan **ret_plan, struct error *error) MUST_CHECK;

/* The same, but for the plan: the stepper alone, its owner's to destroy. */
struct stepper;
enum status graph_stepper_create(struct graph *graph, struct values *values, const struct generate_signature *signature,
                                 size_t symbol_count, struct stepper *ret_stepper, struct error *error) MUST_CHECK;

/* Bytes that such a plan holds, values among them, without having these: by the shapes of the graph. Errors as
 * graph_stepper_plan, as far as the shapes show. */
enum status graph_stepper_measure(struct graph *graph, const struct generate_signature *signature, size_t *ret_bytes,
                                  struct error *error) MUST_CHECK;

#endif
