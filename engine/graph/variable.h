/* Making variables: tf.get_variable with TensorFlow's checks and the guard that a second definition is either a checked
 * reuse or refused with the place of the first; and tf.Variable. For one building thread.
 * Source: TensorFlow 1.15, variable_scope.py (_VariableStore), variables.py (RefVariable). */
#ifndef ENGINE_GRAPH_VARIABLE_H
#define ENGINE_GRAPH_VARIABLE_H

#include "engine/graph/variable_scope.h"

enum trainable { TRAINABLE_DEFAULT, TRAINABLE_YES, TRAINABLE_NO };

struct variable_options {
    const char *name;
    struct shape shape; /* shape_unknown(): not given */
    bool has_shape;
    bool has_dtype; /* otherwise the scope's */
    enum dtype dtype;
    struct initializer initializer;
    struct regularizer regularizer;
    enum trainable trainable;
    bool is_on_read;                /* synchronization ON_READ: untrainable unless said */
    const char *const *collections; /* NULL: GLOBAL_VARIABLES */
    size_t collection_count;
    bool is_slot; /* an optimiser's: not part of a saved version */
};

/* tf.get_variable: creates, fetches or refuses, in TensorFlow's order of checks and with its texts: CONFLICT,
 * ValueError, codes "variable_exists", "variable_shape", "variable_dtype", with variable, origin and hint;
 * UNPROCESSABLE, ValueError, code "variable_missing". `ret_is_new` (may be NULL) tells whether it was created. The
 * variable is the graph's. */
enum status get_variable(struct graph *graph, const struct variable_options *options,
                         const struct variable **ret_variable, bool *ret_is_new, struct error *error) MUST_CHECK;

/* tf.Variable: named through the name scope, never shared. `name` NULL: "Variable". The initial value is
 * options->initializer: VALUE, TENSOR or CALLABLE; ValueError "initial_value must be specified." without. */
enum status make_variable(struct graph *graph, const struct variable_options *options,
                          const struct variable **ret_variable, struct error *error) MUST_CHECK;

/* tf.assign, assign_add, assign_sub. */
enum assign_mode { ASSIGN_SET, ASSIGN_ADD, ASSIGN_SUB };
enum status assign_variable(struct graph *graph, const struct variable *variable, struct output value,
                            enum assign_mode mode, struct output *ret_output, struct error *error) MUST_CHECK;

/* tf.global_variables_initializer: a NoOp "init" after the initialisers of the variables there are now. */
enum status add_variables_initializer(struct graph *graph, const char *name, struct node **ret_node,
                                      struct error *error) MUST_CHECK;

#endif
