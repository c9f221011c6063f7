/* Build programs: the JSON in which graphs are built over HTTP, kept in graph.json and replayed at load; and the
 * interpreter that applies them, whole or step by step. daemon/graph-programs.md has every step with its fields. For
 * one building thread.
 *
 * {"program":[step,…],"reuse":null|true|"auto"}; a step is an object with "op". */
#ifndef ENGINE_STORE_PROGRAM_H
#define ENGINE_STORE_PROGRAM_H

#include <jansson.h>

#include "engine/graph/graph.h"
#include "engine/nn/language_model.h"
#include "engine/text/vocabulary.h"

enum { PROGRAM_STEPS_MAX = 10000, PROGRAM_NESTING_MAX = 64, PROGRAM_WARNINGS_MAX = 100, PROGRAM_RESULTS_MAX = 100000 };

/* What applying a program leaves besides the graph. Release with program_result_release. */
struct program_result {
    json_t *handles;   /* {"w":"scope/w:0"} */
    json_t *results;   /* {"w":{"kind":"variable","name","shape",…}}: handle_to_json of each when it was named */
    json_t *variables; /* [{"name","shape","dtype","built":"created"|"reused"}] */
    json_t *warnings;
    size_t nodes_added;
    struct vocabulary *vocabulary; /* of a language_model step, or NULL */
};

/* Applies `request` to `graph`, a clone made for it: on failure the graph is to be dropped. `number` counts programs
 * since the reset, from 1. `vocabulary` (may be NULL) is the model's so far; a language_model step with another is
 * CONFLICT. Errors have error->param set to the JSON path of the step ("/program/2/body/0") or of what is wrong in it
 * ("/program/2/args/1"). */
enum status program_apply(struct graph *graph, const json_t *request, uint32_t number, const char *request_id,
                          const struct vocabulary *vocabulary, struct program_result *ret_result,
                          struct error *error) MUST_CHECK;
void program_result_release(struct program_result *result);

/* ---- step by step ---- */

/* An interpreter at work. */
struct builder;

/* Borrows graph and vocabulary, which outlive it. Owned: builder_destroy, which takes NULL and leaves open contexts as
 * they are. */
enum status builder_create(struct graph *graph, uint32_t number, const char *request_id,
                           const struct vocabulary *vocabulary, struct builder **ret_builder,
                           struct error *error) MUST_CHECK;
void builder_destroy(struct builder *builder);

/* Goes on with another graph: a clone made before a step. Before the one it leaves is dropped. */
void builder_set_graph(struct builder *builder, struct graph *graph);
/* Back to the graph from before a step that failed or is not kept, without what it named and the context it opened (0:
 * none). Before the clone is dropped. */
void builder_go_back(struct builder *builder, struct graph *graph, uint32_t context);

/* Applies one step with its body, if it has one. On failure the graph is to be dropped; contexts are open as before. */
enum status builder_step(struct builder *builder, const json_t *step, const char *path, struct error *error) MUST_CHECK;

/* Opens a context (variable_scope, name_scope, control_dependencies; a step without "body") that stays open until
 * builder_exit is given its number. Leaving one that is not innermost: variable_scope_close's RuntimeError; it stays
 * open then. */
enum status builder_enter(struct builder *builder, const json_t *step, const char *path, uint32_t *ret_context,
                          struct error *error) MUST_CHECK;
enum status builder_exit(struct builder *builder, uint32_t context, struct error *error) MUST_CHECK;

/* What was done so far, handed over; the builder can go on. */
enum status builder_finish(struct builder *builder, struct program_result *ret_result, struct error *error) MUST_CHECK;

/* Reads a language_model specification's sizes and heads:
 * {"cell","layers","units","embedding","tie","residual","dropout","input_dropout","variational_dropout","forget_bias",
 * "initial_range","heads"}; an unknown field, a wrong type or value is INVALID with error->param. "vocabulary" is left
 * alone, vocabulary_size is 0. */
enum status language_model_options_from_json(const json_t *specification, struct language_model_options *ret_options,
                                             struct error *error) MUST_CHECK;
/* The same fields but "heads". New reference, NULL without memory. */
json_t *language_model_options_to_json(const struct language_model_options *options);

#endif
