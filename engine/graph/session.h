/* TensorFlow's session: a graph, the values of its variables, and the plans of earlier runs, least recently used out at
 * a limit. Running something again compiles and allocates nothing but its reply.
 *
 * Thread: any. Runs that only read may go in parallel, each with a workspace borrowed from the plan's pool; the caller
 * sees to it that one that writes (session_prepare tells) is alone. */
#ifndef ENGINE_GRAPH_SESSION_H
#define ENGINE_GRAPH_SESSION_H

#include "engine/graph/plan.h"

enum { SESSION_PLANS_MAX = 256, SESSION_WORKSPACES_MAX = 16 /* idle ones of a plan */ };
#define SESSION_BYTES_MAX ((size_t)1 << 30) /* of plans and idle workspaces */

struct session;
struct session_run;

/* Owned; keeps a reference to the graph. Its variables are uninitialised. */
enum status session_create(struct graph *graph, struct session **ret_session, struct error *error) MUST_CHECK;
void session_destroy(struct session *session);

/* Closing: later runs are refused, UNPROCESSABLE, RuntimeError "Attempted to use a closed Session.". */
void session_close(struct session *session);

/* Takes a grown clone of its graph instead: room for its new variables; plans stay. NO_MEMORY leaves all as it was;
 * it cannot happen after session_reserve, which only makes the room. */
enum status session_reserve(struct session *session, const struct graph *graph, struct error *error) MUST_CHECK;
enum status session_adopt(struct session *session, struct graph *graph, struct error *error) MUST_CHECK;
/* Begins again with another graph and its values, which change places with the session's: earlier plans are dropped. */
void session_reset(struct session *session, struct graph **graph, struct values **values);
/* Puts other values of the same graph in their place (the session's from then on); returns the earlier ones, the
 * caller's to destroy. */
struct values *session_swap_values(struct session *session, struct values *values) MUST_CHECK;
/* None of the four above while a run lasts. Graph and values are borrowed until the next of them. */
struct graph *session_graph(const struct session *session);
struct values *session_values(const struct session *session);

struct feed {
    struct output output;
    const struct tensor *value; /* of the output's dtype; borrowed until the run is over */
};

struct session_request {
    const struct feed *feeds;
    size_t feed_count;
    const struct output *fetches;
    size_t fetch_count;
    struct node *const *targets;
    size_t target_count;
};

/* Whether anything can be run: the first two of session_prepare's errors, for who looks at names before. */
enum status session_check(struct session *session, struct error *error) MUST_CHECK;

/* Finds or compiles the plan and borrows a workspace; feeds are checked here. Errors in TensorFlow's order and texts:
 * closed session; "The Session graph is empty.  Add operations to the graph before calling run()."; feeds; then
 * plan_create's. Owned: session_run_end. */
enum status session_prepare(struct session *session, const struct session_request *request,
                            struct session_run **ret_run, struct error *error) MUST_CHECK;
bool session_run_writes(const struct session_run *run);
/* As plan_fetch_elements. */
size_t session_run_fetch_elements(const struct session_run *run);

struct session_run_options {
    uint64_t random_key;        /* as in run_options */
    const _Atomic bool *cancel; /* may be NULL */
    uint64_t deadline_ms;       /* 0: never */
};

/* Runs; `ret_fetches` borrow until session_run_end. A variable that is fetched shows its value at the run's end. */
enum status session_run_go(struct session_run *run, const struct session_run_options *options,
                           struct tensor *ret_fetches, struct error *error) MUST_CHECK;
void session_run_end(struct session_run *run); /* takes NULL */

/* By name, with TensorFlow's texts: "Fetch argument 'foo:0' cannot be interpreted as a Tensor. (\"The name …\")", an
 * operation's name is a target (ret_node); "Cannot interpret feed_dict key as Tensor: …" (TypeError). */
enum status session_find_fetch(const struct graph *graph, const char *name, struct output *ret_output,
                               struct node **ret_node, struct error *error) MUST_CHECK;
enum status session_find_feed(const struct graph *graph, const char *name, struct output *ret_output,
                              struct error *error) MUST_CHECK;

#endif
