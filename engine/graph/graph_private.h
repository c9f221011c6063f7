/* The inside of a graph, for the files of engine/graph that build one. */
#ifndef ENGINE_GRAPH_GRAPH_PRIVATE_H
#define ENGINE_GRAPH_GRAPH_PRIVATE_H

#include "engine/graph/graph.h"
#include "engine/graph/handles.h"
#include "engine/graph/variable_scope.h"

/* A body's graph, dropped with the segment it was made in. */
struct body_link {
    struct graph *graph;
    struct body_link *next;
};

/* Memory of the nodes one build added. A clone's segment keeps its parent's, whose nodes it shares. */
struct graph_segment {
    _Atomic size_t references;
    struct graph_segment *parent;
    struct body_link *bodies;
    struct arena arena;
};

/* An entry of the object list. `data` is an arena's; only an own one may be changed. */
struct object {
    enum object_kind kind;
    bool is_own;
    size_t bytes;
    void *data;
};

struct collection {
    const char *key;
    const struct handle **items;
    size_t count;
    size_t capacity;
};

/* A body that is being made. */
struct body_builder {
    struct graph *graph;
    uint32_t number;
    size_t argument_count;
    struct output *inputs; /* BodyInput outputs: arguments, then captures */
    size_t input_count;
    size_t input_capacity;
    struct output *captures;
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

/* What a scope count was before it changed, while a scope entered by object is open. */
struct count_change {
    const char *key;
    uint64_t count;
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
    struct name_counts inner_names;   /* of ops inside loops */
    struct name_counts store;         /* get_variable's name → variable index */
    struct name_counts scope_counts;  /* variable scope name → times opened */
    struct count_change *count_changes;
    size_t count_change_count;
    size_t count_change_capacity;
    size_t jump_count;               /* scopes entered by object that are open */
    struct name_counts handle_names; /* → index in handles */
    const char **handle_keys;
    const struct handle **handles;
    size_t handle_count;
    size_t handle_capacity;
    struct collection *collections;
    size_t collection_count;
    struct object *objects;
    size_t object_count;
    size_t object_capacity;
    struct builder *builder;
    uint32_t *uses; /* indices of variables that were shared, for graph_take_uses */
    size_t use_count;
    size_t use_capacity;
    struct body_builder *body; /* being made, or NULL */
    bool is_suspended;
    uint32_t body_count;
    size_t inner_node_count; /* in bodies and their gradients: they count against the maximum, too */
    uint32_t scope;          /* the current variable scope's object */
    enum reuse root_reuse;   /* what a program asked for, REUSE_INHERIT: nothing */
    const char *name_scope;
    const struct control_list *controls; /* what new nodes run after, or NULL */
    struct origin origin;
    bool is_finalized;
};

/* Keeps all nodes, variables and bodies that a graph has now; unref takes NULL. */
struct graph_segment *graph_segment_ref(struct graph_segment *segment);
void graph_segment_unref(struct graph_segment *segment);

/* A copy of its own, and its release. NO_MEMORY. */
enum status name_counts_copy(const struct name_counts *source, struct name_counts *ret_counts,
                             struct error *error) MUST_CHECK;
void name_counts_release(struct name_counts *counts);
/* The entry of `key` (exact), or NULL. */
struct name_count *name_counts_find(const struct name_counts *counts, const char *key);
/* The entry of `key`, added with count 0 if it was not there; `key` must live as long as the graph. NULL: no memory. */
struct name_count *name_counts_add(struct name_counts *counts, const char *key) MUST_CHECK;

/* The tensor a node inside the current body uses for `output`: itself, or the capture of an outer one. INVALID when it
 * belongs to another body. Outside bodies, `output` itself unless it belongs to one. */
enum status graph_body_resolve(struct graph *graph, struct output output, struct output *ret_output,
                               struct error *error) MUST_CHECK;

/* LIMIT when `count` more nodes, inside or outside of bodies, would be more than GRAPH_NODES_MAX. */
enum status graph_check_room(const struct graph *graph, size_t count, struct error *error) MUST_CHECK;

/* Hands the graph of a body over to `graph`, which drops it with its nodes; on failure it is dropped at once. */
enum status graph_keep_inner(struct graph *graph, struct graph *inner, struct error *error) MUST_CHECK;

/* Takes what the graph of a body holds from the room there is for its outer graph; when it is whole. */
void graph_charge_inner(struct graph *graph, const struct graph *inner);

/* Copies what graph_clone copies of objects, handles and collections; releases it. */
enum status graph_copy_things(const struct graph *source, struct graph *graph, struct error *error) MUST_CHECK;
void graph_release_things(struct graph *graph);

/* The name of a new node: unique, or with a trailing slash as it is, minus the slash. ValueError "'N' is not a valid
 * node name". */
enum status graph_name_node(struct graph *graph, const char *name, const char **ret_name,
                            struct error *error) MUST_CHECK;

/* Appends a finished node to the graph's list and registers its name. */
enum status graph_append_node(struct graph *graph, struct node *node, struct error *error) MUST_CHECK;

/* Fills a new node's control inputs: those of `options` and of the contexts around that belong to its body
 * (what is outside a loop has run before its first turn anyway). */
enum status graph_copy_controls(const struct graph *graph, struct arena *arena, const struct node_options *options,
                                struct node *node, struct error *error) MUST_CHECK;

/* CONFLICT, RuntimeError when finalized. */
enum status graph_check_not_finalized(const struct graph *graph, struct error *error) MUST_CHECK;

/* Notes for the builder, if there is one, that a variable was shared. */
enum status graph_note_use(struct graph *graph, uint32_t variable, struct error *error) MUST_CHECK;

/* Appends to the list of variables. */
enum status graph_add_variable(struct graph *graph, const struct variable *variable, struct error *error) MUST_CHECK;

#endif
