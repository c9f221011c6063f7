/* A graph to look at: as JSON, and as a picture in Graphviz' language. Thread: any that may read the graph. */
#ifndef ENGINE_STORE_GRAPH_JSON_H
#define ENGINE_STORE_GRAPH_JSON_H

#include <jansson.h>

#include "engine/graph/graph.h"
#include "engine/graph/values.h"

/* [{"name","op","inputs":["x:0","^init"],"outputs":[{"dtype","shape"}],"scope","body":{…}}]; a body's nodes the same.
 * New reference; NULL without memory, as all below. */
json_t *graph_nodes_to_json(const struct graph *graph);
/* [{"name","shape","dtype","trainable","initialized"}], with "users" (operations that read or change it) if asked. */
json_t *graph_variables_to_json(const struct graph *graph, const struct values *values, bool with_users);
/* The variable scopes that hold variables, in order of first use. */
json_t *graph_scopes_to_json(const struct graph *graph);
/* {"variables":["w:0",…],…} */
json_t *graph_collections_to_json(const struct graph *graph);
/* {"outputs":"rnn/transpose:0",…}; the same with all there is to say of each (handle_to_json). */
json_t *graph_handles_to_json(const struct graph *graph);
json_t *graph_results_to_json(const struct graph *graph);
/* {"generate":{"inputs":{…},"outputs":{…}}} */
json_t *graph_signatures_to_json(const struct graph *graph);

enum { GRAPH_DOT_BYTES_MAX = 64 << 20 };

/* In the language of Graphviz: name scopes as nested boxes, operations in them, a variable once with all that use it.
 * Free with mem_free. TOO_LARGE above GRAPH_DOT_BYTES_MAX. */
enum status graph_to_dot(const struct graph *graph, char **ret_text, size_t *ret_length,
                         struct error *error) MUST_CHECK;

/* For each node id which variable's state or reading it is (index + 1), else 0. Free with mem_free; NULL: no memory. */
uint32_t *graph_variable_nodes(const struct graph *graph);

#endif
