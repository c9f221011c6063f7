/* TensorFlow 1's process, for C programs that build step by step: graphs, the stack of default ones, sessions, and
 * contexts that stay open over many steps. A daemon's model has one graph and none of this. Every step is applied whole
 * or not at all. One thread. Source: TensorFlow 1.15, framework/ops.py (default stacks), client/session.py. */
#ifndef ENGINE_MODEL_WORKBENCH_H
#define ENGINE_MODEL_WORKBENCH_H

#include <jansson.h>

#include "engine/graph/session.h"

enum { WORKBENCH_GRAPHS_MAX = 1000, WORKBENCH_SESSIONS_MAX = 1000, WORKBENCH_CONTEXTS_MAX = 1000 };

struct workbench;

/* With an empty default graph, number 0. Owned; destroying takes NULL. */
enum status workbench_create(struct workbench **ret_workbench, struct error *error) MUST_CHECK;
void workbench_destroy(struct workbench *workbench);

/* ---- graphs ---- */

/* tf.Graph(): a number. */
enum status workbench_new_graph(struct workbench *workbench, uint32_t *ret_graph, struct error *error) MUST_CHECK;
/* The default graph's number; a graph as it is now (borrowed until the next step). */
uint32_t workbench_default_graph(const struct workbench *workbench);
struct graph *workbench_graph(const struct workbench *workbench, uint32_t graph);
/* tf.reset_default_graph(): AssertionError while a graph, session or variable scope is entered. */
enum status workbench_reset_default_graph(struct workbench *workbench, struct error *error) MUST_CHECK;

/* ---- contexts: what `with` opens. Each has a number, from 1 ---- */

/* `with graph.as_default()`. */
enum status workbench_enter_graph(struct workbench *workbench, uint32_t graph, uint32_t *ret_context,
                                  struct error *error) MUST_CHECK;
/* A variable_scope, name_scope or control_dependencies step without body, in the default graph. `ret_results` (may be
 * NULL): what its "as" names, as in build replies; new reference. */
enum status workbench_open(struct workbench *workbench, const json_t *step, uint32_t *ret_context, json_t **ret_results,
                           struct error *error) MUST_CHECK;
/* `with session`: RuntimeError when it is entered already. The session is closed when it is left. */
enum status workbench_enter_session(struct workbench *workbench, uint32_t session, uint32_t *ret_context,
                                    struct error *error) MUST_CHECK;
/* `with session.as_default()`. */
enum status workbench_enter_default_session(struct workbench *workbench, uint32_t session, uint32_t *ret_context,
                                            struct error *error) MUST_CHECK;
/* Leaves a context; 0: the innermost. Out of order: AssertionError of TensorFlow's default stacks or RuntimeError of
 * its scopes, and it stays open. */
enum status workbench_leave(struct workbench *workbench, uint32_t context, struct error *error) MUST_CHECK;

/* ---- building ---- */

/* Applies one step of a build program to the default graph, whole or not at all. `ret_results` as above. */
enum status workbench_step(struct workbench *workbench, const json_t *step, json_t **ret_results,
                           struct error *error) MUST_CHECK;

/* ---- sessions ---- */

/* tf.Session(graph=…): a number from 1; it sees what is added to its graph later. */
enum status workbench_new_session(struct workbench *workbench, uint32_t graph, uint32_t *ret_session,
                                  struct error *error) MUST_CHECK;
void workbench_close_session(struct workbench *workbench, uint32_t session);
/* The session of that number, 0: the default one; NULL when there is none. Borrowed. */
struct session *workbench_session(const struct workbench *workbench, uint32_t session);

#endif
