/* Making variables: tf.get_variable with TensorFlow's checks and the guard that a second definition is either a checked
 * reuse or refused with the place of the first; and tf.Variable. For one building thread.
 * Source: TensorFlow 1.15, variable_scope.py (_VariableStore), variables.py (RefVariable). */
#ifndef ENGINE_GRAPH_VARIABLE_H
#define ENGINE_GRAPH_VARIABLE_H

#include "engine/graph/handles.h"
#include "engine/graph/values.h"
#include "engine/graph/variable_scope.h"

enum trainable { TRAINABLE_DEFAULT, TRAINABLE_YES, TRAINABLE_NO };

struct variable_options {
    const char *name;
    struct shape shape; /* given when has_shape, or when its rank is above 0 */
    bool has_shape;
    bool has_dtype; /* otherwise the scope's; of tf.Variable, its value's */
    enum dtype dtype;
    struct initializer initializer;
    struct regularizer regularizer;
    enum trainable trainable;
    bool is_on_read;                /* synchronization ON_READ: untrainable unless said */
    const char *const *collections; /* NULL: GLOBAL_VARIABLES */
    size_t collection_count;
    bool is_slot;     /* an optimiser's: not part of a saved version */
    bool is_resource; /* Keras': errors about it speak of a resource variable */
};

/* tf.get_variable: creates, fetches or refuses, in TensorFlow's order of checks and with its texts: CONFLICT,
 * ValueError, codes "variable_exists", "variable_shape", "variable_dtype", with variable, origin and hint;
 * UNPROCESSABLE, ValueError, code "variable_missing". `ret_is_new` (may be NULL) tells whether it was created. The
 * variable is the graph's. */
enum status get_variable(struct graph *graph, const struct variable_options *options,
                         const struct variable **ret_variable, bool *ret_is_new, struct error *error) MUST_CHECK;

/* tf.get_local_variable: the same, untrainable, in LOCAL_VARIABLES beside the collections given. */
enum status get_local_variable(struct graph *graph, const struct variable_options *options,
                               const struct variable **ret_variable, bool *ret_is_new, struct error *error) MUST_CHECK;

/* tf.Variable: named through the name scope, never shared. `name` NULL: "Variable". The initial value is
 * options->initializer, of which shape and dtype come; ValueError "initial_value must be specified." when it is
 * DEFAULT. An initializer object needs options->shape. */
enum status make_variable(struct graph *graph, const struct variable_options *options,
                          const struct variable **ret_variable, struct error *error) MUST_CHECK;

/* Variable.initialized_value: the variable's value, or its initial one while it has none. */
enum status initialized_value(struct graph *graph, const struct variable *variable, struct output *ret_value,
                              struct error *error) MUST_CHECK;

/* tf.assign, assign_add, assign_sub. The value is a tensor of the variable's dtype. */
enum assign_mode { ASSIGN_SET, ASSIGN_ADD, ASSIGN_SUB };
enum status assign_variable(struct graph *graph, const struct variable *variable, struct output value,
                            enum assign_mode mode, struct output *ret_output, struct error *error) MUST_CHECK;

/* tf.variables_initializer: a NoOp after the initialisers of these variables. `name` NULL: "init". */
enum status add_initializer_of(struct graph *graph, const struct variable *const *variables, size_t variable_count,
                               const char *name, struct node **ret_node, struct error *error) MUST_CHECK;

/* tf.global_variables_initializer, tf.local_variables_initializer: of those that are in the collection now. `name`
 * NULL: "init". */
enum status add_variables_initializer(struct graph *graph, const char *name, struct node **ret_node,
                                      struct error *error) MUST_CHECK;
enum status add_collection_initializer(struct graph *graph, const char *collection, const char *name,
                                       struct node **ret_node, struct error *error) MUST_CHECK;

/* The variables of GLOBAL_VARIABLES and LOCAL_VARIABLES without a value, what tf.report_uninitialized_variables
 * tells by op name. `ret_variables` has room for both collections; returns how many there are. */
size_t list_uninitialized_variables(const struct graph *graph, const struct values *values,
                                    const struct variable **ret_variables);

#endif
