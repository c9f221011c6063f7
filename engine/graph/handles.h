/* What a build calls its results: "outputs", "cell", "state". Kept with the graph, so that a later program can use what
 * an earlier one named. For one building thread. */
#ifndef ENGINE_GRAPH_HANDLES_H
#define ENGINE_GRAPH_HANDLES_H

#include "engine/graph/graph.h"

enum handle_kind {
    HANDLE_NONE, /* Python's None: the gradient by something unconnected */
    HANDLE_TENSOR,
    HANDLE_OPERATION,
    HANDLE_VARIABLE,
    HANDLE_OBJECT, /* a scope, cell, optimiser, saver, layer */
    HANDLE_TEXT,
    HANDLE_LIST, /* of handles, by number and, where `names` are given, by name */
};

enum {
    HANDLE_PATH_BYTES_MAX = 256,
    HANDLE_NESTING_MAX = 16,
    HANDLE_ITEMS_MAX = 4096,            /* of one list */
    HANDLE_ITEMS_IN_ALL_MAX = 4 * 4096, /* of a list and the lists in it */
};

/* Immutable once it is in a graph. */
struct handle {
    enum handle_kind kind;
    struct output output;            /* TENSOR */
    struct node *node;               /* OPERATION */
    const struct variable *variable; /* VARIABLE */
    enum object_kind object_kind;    /* OBJECT */
    uint32_t object_id;
    const char *text; /* TEXT */
    size_t count;     /* LIST */
    const struct handle *items;
    const char *const *names; /* count of them (each may be NULL), or NULL */
};

/* Shorthands. */
struct handle handle_tensor(struct output output);
struct handle handle_operation(struct node *node);
struct handle handle_variable(const struct variable *variable);
struct handle handle_object(enum object_kind kind, uint32_t id);

/* Names a result; naming again replaces. The handle and all below it are copied. LIMIT when it nests too deep
 * or has too many items. */
enum status graph_set_handle(struct graph *graph, const char *name, const struct handle *handle,
                             struct error *error) MUST_CHECK;

/* The part of a handle that a dotted path below it means (".state.c", ".list.0"; "": the handle itself), or NULL. */
const struct handle *handle_part(const struct handle *handle, const char *path);

/* The handle a dotted path means ("r.state.c", "g.list.0"), or NULL. Borrowed from the graph. */
const struct handle *graph_find_handle(const struct graph *graph, const char *path);

/* How many handles that are no lists are in it. */
size_t handle_leaf_count(const struct handle *handle);

/* All names and their handles, in the order they were first given. */
size_t graph_handle_count(const struct graph *graph);
const struct handle *graph_handle_at(const struct graph *graph, size_t index, const char **ret_name);

/* ---- collections: tf.add_to_collection, tf.get_collection ---- */

#define COLLECTION_GLOBAL_VARIABLES "variables"
#define COLLECTION_TRAINABLE_VARIABLES "trainable_variables"
#define COLLECTION_LOCAL_VARIABLES "local_variables"
#define COLLECTION_REGULARIZATION_LOSSES "regularization_losses"
#define COLLECTION_TRAIN_OP "train_op"
#define COLLECTION_SIGNATURES "signatures"      /* ours: what a graph is for, one list a signature */
#define COLLECTION_KERAS_LAYERS "_keras_layers" /* ours: every layer */

/* Appends to one of our collections, whose items nobody else may add. As graph_add_to_collection. */
enum status graph_add_to_own_collection(struct graph *graph, const char *key, const struct handle *value,
                                        struct error *error) MUST_CHECK;

/* Appends to a collection, which is made when there is none; duplicates stay. CONFLICT when finalized; INVALID for one
 * of ours. */
enum status graph_add_to_collection(struct graph *graph, const char *key, const struct handle *value,
                                    struct error *error) MUST_CHECK;
/* A collection's length, 0 when there is none; item `index` below it. */
size_t graph_collection_count(const struct graph *graph, const char *key);
const struct handle *graph_collection_at(const struct graph *graph, const char *key, size_t index);

/* The key of a collection, by number; NULL behind the last. */
const char *graph_collection_key(const struct graph *graph, size_t index);

/* The name TensorFlow's scope filter looks at: "a/v:0" of a tensor or variable, "init" of an operation, NULL of
 * others. `text` may be used. */
const char *handle_name(const struct handle *handle, char text[OUTPUT_NAME_BYTES_MAX]);

#endif
