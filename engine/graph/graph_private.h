/* The inside of a graph, for the files of engine/graph that build one. */
#ifndef ENGINE_GRAPH_GRAPH_PRIVATE_H
#define ENGINE_GRAPH_GRAPH_PRIVATE_H

#include "engine/graph/graph.h"
#include "engine/graph/variable_scope.h"

/* Memory of the nodes one build added. A clone's segment keeps its parent's, whose nodes it shares. */
struct graph_segment {
    _Atomic size_t references;
    struct graph_segment *parent;
    struct arena arena;
};

/* name (lower case) → count, with open addressing: names in use, and scope counts. Keys are the graph's texts. */
struct name_counts {
    struct name_count {
        const char *key;
        uint64_t count;
    } * slots;
    size_t slot_count;
    size_t used_count;
};

struct graph {
    _Atomic size_t references;
    struct graph_segment *segment;
    struct node **nodes;
    size_t node_count;
    size_t node_capacity;
    const struct variable **variables;
    size_t variable_count;
    size_t variable_capacity;
    struct name_counts names;         /* of ops and name scopes */
    struct name_counts nodes_by_name; /* op name → node id */
    struct name_counts store;         /* get_variable's name → variable index */
    struct name_counts scope_counts;  /* variable scope name → times opened */
    const char *name_scope;
    const char *variable_scope;
    enum reuse reuse;
    struct origin origin;
    bool is_finalized;
};

/* A copy of its own, and its release. NO_MEMORY. */
enum status name_counts_copy(const struct name_counts *source, struct name_counts *ret_counts,
                             struct error *error) MUST_CHECK;
void name_counts_release(struct name_counts *counts);
/* The entry of `key` (exact), or NULL. */
struct name_count *name_counts_find(const struct name_counts *counts, const char *key);
/* The entry of `key`, added with count 0 if it was not there; `key` must live as long as the graph. NULL: no memory. */
struct name_count *name_counts_add(struct name_counts *counts, const char *key) MUST_CHECK;

/* Appends to the list of variables. */
enum status graph_add_variable(struct graph *graph, const struct variable *variable, struct error *error) MUST_CHECK;

#endif
