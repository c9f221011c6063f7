/* Build programs: the JSON in which graphs are built over HTTP, kept in graph.json and replayed at load. One
 * interpreter for all three. For one building thread.
 *
 * {"program":[step,…],"reuse":null|true|"auto"}; a step is an object with "op". Steps built: language_model,
 * variable_scope, get_variable, adam, sgd, finalize. */
#ifndef ENGINE_STORE_PROGRAM_H
#define ENGINE_STORE_PROGRAM_H

#include <jansson.h>

#include "engine/graph/graph.h"
#include "engine/nn/language_model.h"
#include "engine/text/vocabulary.h"

enum { PROGRAM_STEPS_MAX = 10000, PROGRAM_NESTING_MAX = 64 };

/* What applying a program leaves besides the graph. Release with program_result_release. */
struct program_result {
    json_t *handles;   /* {"w":"scope/w:0"} */
    json_t *variables; /* [{"name","shape","dtype","built":"created"|"reused"}] */
    json_t *warnings;
    size_t nodes_added;
    struct vocabulary *vocabulary; /* of a language_model step, or NULL */
};

/* Applies `request` to `graph`, a clone made for it: on failure the graph is to be dropped. `number` counts programs
 * since the reset, from 1. `vocabulary` (may be NULL) is the model's so far; a language_model step with another is
 * CONFLICT. Errors have error->param set to the step's JSON path ("/program/2/body/0") or the request's wrong field.
 * */
enum status program_apply(struct graph *graph, const json_t *request, uint32_t number, const char *request_id,
                          const struct vocabulary *vocabulary, struct program_result *ret_result,
                          struct error *error) MUST_CHECK;
void program_result_release(struct program_result *result);

/* Reads a language_model specification's sizes and heads:
 * {"cell","layers","units","embedding","tie","dropout","heads"}; an unknown field, a wrong type or value is INVALID
 * with error->param; what is not built yet UNSUPPORTED. "vocabulary" is left alone, vocabulary_size is 0. */
enum status language_model_options_from_json(const json_t *specification, struct language_model_options *ret_options,
                                             struct error *error) MUST_CHECK;

#endif
