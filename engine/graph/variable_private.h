/* What get_variable and tf.Variable share: the nodes of a variable. For the files of engine/graph. */
#ifndef ENGINE_GRAPH_VARIABLE_PRIVATE_H
#define ENGINE_GRAPH_VARIABLE_PRIVATE_H

#include "engine/graph/variable.h"

/* What a variable is made from, once the checks are done. */
struct variable_plan {
    const char *name;                      /* of the name scope it opens: made unique unless it ends in a slash */
    const char *store_key;                 /* NULL: not in the store */
    const struct initializer *initializer; /* a value, a tensor, a callable, or an object for `shape` and `dtype` */
    struct shape shape;
    bool has_dtype; /* a value is converted to `dtype`; otherwise it keeps its own */
    enum dtype dtype;
    bool is_trainable;
    bool is_slot;
    bool is_resource;
    const char *const *collections; /* NULL: GLOBAL_VARIABLES */
    size_t collection_count;
};

/* Adds the nodes v, v/initial_value or v/Initializer/…, v/Assign, v/read in the current name scope, and the variable to
 * the graph's list and its collections. */
enum status variable_create(struct graph *graph, const struct variable_plan *plan, const struct variable **ret_variable,
                            struct error *error) MUST_CHECK;

/* What initialising assigns in place of `initial`: the same computed from variables' initialized_value, so that it does
 * not matter in which order variables are initialised. `initial` itself when no variable is in it. Adds nodes in the
 * current name scope, named after the ones they stand for and `variable_name`. */
enum status variable_guard_initial(struct graph *graph, struct output initial, const char *variable_name,
                                   struct output *ret_guarded, struct error *error) MUST_CHECK;

#endif
