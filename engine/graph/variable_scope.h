/* TensorFlow 1's variable scopes: opening by name, by scope object and by default name, reuse and what else is
 * inherited, the counts of default names. For one building thread; everything belongs to the graph.
 * Source: TensorFlow 1.15, variable_scope.py (variable_scope, _pure_variable_scope, _VariableScopeStore). */
#ifndef ENGINE_GRAPH_VARIABLE_SCOPE_H
#define ENGINE_GRAPH_VARIABLE_SCOPE_H

#include "engine/graph/initializer.h"

enum reuse { REUSE_INHERIT, REUSE_TRUE, REUSE_AUTO };

/* A VariableScope: OBJECT_SCOPE of the graph. Opening one makes a new object. */
struct variable_scope {
    const char *name;                /* "" at the root */
    const char *original_name_scope; /* "outer/inner/"; "" at the root */
    enum reuse reuse;
    enum dtype dtype;
    struct initializer initializer; /* INITIALIZER_DEFAULT: none */
    struct regularizer regularizer;
    const char *constraint; /* what the caller calls it, or NULL; kept, not applied */
};

/* How to open one: exactly one of `name`, `scope` (with is_scope) and `default_name` says which (a default_name beside
 * another is ignored); the rest may be left zero. */
struct variable_scope_options {
    const char *name;
    bool is_scope;
    uint32_t scope;
    const char *default_name;
    enum reuse reuse;
    bool has_dtype;
    enum dtype dtype;
    struct initializer initializer;
    struct regularizer regularizer;
    const char *constraint; /* copied */
    bool keeps_name_scope;  /* auxiliary_name_scope=False */
};

/* What was current before; given back to variable_scope_leave. */
struct variable_scope_frame {
    uint32_t scope; /* the one opened */
    uint32_t previous;
    const char *previous_name_scope;
    bool is_jump;        /* opened by object */
    size_t change_count; /* then: where the counts of default names stood */
};

/* Opens; `ret_frame->scope` is the object opened. TypeError "If default_name is None then name_or_scope is required";
 * ValueError "reuse=True cannot be used without a name_or_scope". */
enum status variable_scope_open(struct graph *graph, const struct variable_scope_options *options,
                                struct variable_scope_frame *ret_frame, struct error *error) MUST_CHECK;
/* RuntimeError "Improper nesting of variable_scope." when another is current: nothing is left then. */
enum status variable_scope_close(struct graph *graph, const struct variable_scope_frame *frame,
                                 struct error *error) MUST_CHECK;

/* Shorthands for builders: by name; by default name; leaving what is known to be current. */
enum status variable_scope_enter(struct graph *graph, const char *name, enum reuse reuse,
                                 struct variable_scope_frame *ret_frame, struct error *error) MUST_CHECK;
enum status variable_scope_enter_default(struct graph *graph, const char *default_name,
                                         struct variable_scope_frame *ret_frame, struct error *error) MUST_CHECK;
void variable_scope_leave(struct graph *graph, const struct variable_scope_frame *frame);
/* The current scope once more under another reuse, its name scope kept. */
enum status variable_scope_reopen(struct graph *graph, enum reuse reuse, struct variable_scope_frame *ret_frame,
                                  struct error *error) MUST_CHECK;

/* The current scope object's id (get_variable_scope), and a scope to read. */
uint32_t variable_scope_current(const struct graph *graph);
const struct variable_scope *variable_scope_at(const struct graph *graph, uint32_t scope);

/* VariableScope.reuse_variables, set_initializer, set_regularizer, set_dtype, on that object alone. */
enum status variable_scope_reuse_variables(struct graph *graph, uint32_t scope, struct error *error) MUST_CHECK;
enum status variable_scope_set_initializer(struct graph *graph, uint32_t scope, const struct initializer *initializer,
                                           struct error *error) MUST_CHECK;
enum status variable_scope_set_regularizer(struct graph *graph, uint32_t scope, const struct regularizer *regularizer,
                                           struct error *error) MUST_CHECK;
enum status variable_scope_set_dtype(struct graph *graph, uint32_t scope, enum dtype dtype,
                                     struct error *error) MUST_CHECK;

/* Of the current scope: "" at the root. */
const char *variable_scope_name(const struct graph *graph);
enum reuse variable_scope_reuse(const struct graph *graph);
/* Sets the root scope's reuse for a program ({"program":…,"reuse":"auto"}); REUSE_INHERIT afterwards restores what
 * reuse_variables may have set. */
void variable_scope_set_reuse(struct graph *graph, enum reuse reuse);

#endif
