/* TensorFlow 1's variable scopes and get_variable: which variable a name means, and the guard that a second definition
 * is either a checked reuse or refused with the place of the first. For one building thread.
 * Source: TensorFlow 1.15, variable_scope.py. */
#ifndef ENGINE_GRAPH_VARIABLE_SCOPE_H
#define ENGINE_GRAPH_VARIABLE_SCOPE_H

#include "engine/graph/graph.h"

enum reuse { REUSE_INHERIT, REUSE_TRUE, REUSE_AUTO };

/* What was current before a scope was opened; given back to variable_scope_leave. */
struct variable_scope_frame {
    const char *scope_name;
    enum reuse reuse;
    const char *name_scope;
};

/* Opens variable_scope(name) below the current one, with its name scope. */
enum status variable_scope_enter(struct graph *graph, const char *name, enum reuse reuse,
                                 struct variable_scope_frame *ret_frame, struct error *error) MUST_CHECK;

/* Opens variable_scope(None, default_name): made unique among the scopes opened below the current one. */
enum status variable_scope_enter_default(struct graph *graph, const char *default_name,
                                         struct variable_scope_frame *ret_frame, struct error *error) MUST_CHECK;
void variable_scope_leave(struct graph *graph, const struct variable_scope_frame *frame);

/* "" at the root. */
const char *variable_scope_name(const struct graph *graph);
enum reuse variable_scope_reuse(const struct graph *graph);
/* Sets the root scope's reuse for a program: {"program":…,"reuse":"auto"}. */
void variable_scope_set_reuse(struct graph *graph, enum reuse reuse);

enum initializer_kind {
    INITIALIZER_DEFAULT, /* glorot_uniform for floats, zeros otherwise */
    INITIALIZER_ZEROS,
    INITIALIZER_ONES,
    INITIALIZER_CONSTANT, /* `low` everywhere */
    INITIALIZER_UNIFORM,  /* [low, high) */
    INITIALIZER_GLOROT_UNIFORM,
};

struct initializer {
    enum initializer_kind kind;
    double low;
    double high;
};

struct variable_options {
    const char *name;
    struct shape shape;
    enum dtype dtype;
    struct initializer initializer;
    bool is_untrainable;
    bool is_slot;
};

/* tf.get_variable: creates, fetches or refuses, in TensorFlow's order of checks and with its texts: CONFLICT,
 * ValueError, codes "variable_exists", "variable_shape", "variable_dtype", with variable, origin and hint;
 * UNPROCESSABLE, ValueError, code "variable_missing". `ret_is_new` (may be NULL) tells whether it was created. The
 * variable is the graph's. */
enum status get_variable(struct graph *graph, const struct variable_options *options,
                         const struct variable **ret_variable, bool *ret_is_new, struct error *error) MUST_CHECK;

#endif
