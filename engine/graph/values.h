/* The numbers of a graph's variables: TensorFlow's session state. Runs that only read may share it between threads; a
 * writer is alone (the owner sees to that). */
#ifndef ENGINE_GRAPH_VALUES_H
#define ENGINE_GRAPH_VALUES_H

#include "engine/graph/graph.h"

struct values;

/* Room for `graph`'s variables, all uninitialised. Owned. */
enum status values_create(const struct graph *graph, struct values **ret_values, struct error *error) MUST_CHECK;
enum status values_copy(const struct values *source, struct values **ret_values, struct error *error) MUST_CHECK;
/* Values that begin as `base`'s without copying them: a variable's tensor is `base`'s until one is set here. `base` is
 * borrowed until values_destroy; no run of these values may write a variable that is not set here. */
enum status values_create_over(const struct values *base, const struct graph *graph, struct values **ret_values,
                               struct error *error) MUST_CHECK;
void values_destroy(struct values *values);

/* Makes room for the variables that `graph`, grown since, has more. */
enum status values_grow(struct values *values, const struct graph *graph, struct error *error) MUST_CHECK;

/* The variable's tensor, or NULL while it is uninitialised. Borrowed. */
struct tensor *values_tensor(const struct values *values, const struct variable *variable);

/* Copies `tensor` in and marks the variable initialised. UNPROCESSABLE when dtype or shape differ, naming both. */
enum status values_set(struct values *values, const struct variable *variable, const struct tensor *tensor,
                       struct error *error) MUST_CHECK;

/* Runs the initialiser of every variable that is not initialised yet. A variable's numbers depend on `seed` and its
 * name alone. */
enum status values_initialize(struct values *values, struct graph *graph, uint64_t seed,
                              struct error *error) MUST_CHECK;

#endif
