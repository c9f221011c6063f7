/* A compiled run: which nodes to compute for these fetches given these feeds of these shapes, in which order, in which
 * memory. A plan is immutable and shared by threads; a run borrows a workspace, which one thread uses at a time.
 * Running again allocates nothing. */
#ifndef ENGINE_GRAPH_PLAN_H
#define ENGINE_GRAPH_PLAN_H

#include "engine/graph/graph.h"
#include "engine/graph/values.h"

enum {
    PLAN_FEEDS_MAX = 4096,
    PLAN_FETCHES_MAX = 4096,
    PLAN_VALUE_FEEDS_MAX = 64,    /* feeds, from the first, whose values shapes may depend on */
    PLAN_VALUE_ELEMENTS_MAX = 64, /* of such a feed */
};
#define PLAN_WORKSPACE_BYTES_MAX ((size_t)4 << 30)

struct plan_options {
    const struct output *feeds;
    const struct shape *feed_shapes;  /* fully known; must fit the fed tensor's static shape */
    const struct tensor *feed_values; /* NULL, or the fed values: shapes may depend on small whole ones of them */
    size_t feed_count;
    const struct output *fetches;
    size_t fetch_count;
    struct node *const *targets; /* computed without a result */
    size_t target_count;
};

struct plan;
struct workspace;

/* Compiles. Keeps the graph's nodes, not the graph. UNPROCESSABLE, ValueError for a feed whose shape does not fit
 * ("Cannot feed value of shape (1, 2) for Tensor 'x:0', which has shape '(?, 3)'"); UNPROCESSABLE, InvalidArgumentError
 * for a placeholder that is needed and not fed, or for shapes that do not go together; TOO_LARGE when the workspace
 * would exceed its maximum. */
enum status plan_create(struct graph *graph, const struct plan_options *options, struct plan **ret_plan,
                        struct error *error) MUST_CHECK;
struct plan *plan_ref(struct plan *plan);
struct plan *plan_unref(struct plan *plan);

/* Whether the plan's shapes depend on the value of feed `index` (it was in feed_values), so that it only serves runs
 * that feed the same. */
bool plan_depends_on_feed(const struct plan *plan, size_t index);

/* Refuses a value of a shape that does not fit the tensor it is fed to: plan_create's first error. */
enum status plan_check_feed(struct output output, const struct shape *shape, struct error *error) MUST_CHECK;

/* Whether a run changes variables (assign, optimiser). */
bool plan_writes(const struct plan *plan);
/* The nodes that have seeds of their own (OP_SEEDED), in the order they run. */
size_t plan_seeded_count(const struct plan *plan);
const struct node *plan_seeded_node(const struct plan *plan, size_t index);

/* Elements of all that is fetched; dimensions that are 0 count as 1, since a reply lists what is inside the others. */
size_t plan_fetch_elements(const struct plan *plan);

/* What the plan itself holds, and what each workspace of it takes. */
size_t plan_bytes(const struct plan *plan);
size_t plan_workspace_bytes(const struct plan *plan);

/* The memory of one run at a time: made once, sized for the plan. NO_MEMORY. Destroying takes NULL. */
enum status workspace_create(const struct plan *plan, struct workspace **ret_workspace, struct error *error) MUST_CHECK;
void workspace_destroy(struct workspace *workspace);

/* The same inside memory of the caller's, at least plan_workspace_bytes, aligned to MEM_ALIGNMENT_BYTES: for ops that
 * run plans of their own in their scratch. Nothing to destroy. */
struct workspace *workspace_place(const struct plan *plan, void *memory);

struct run_options {
    const struct tensor *feeds;  /* one for each of the plan's feeds, same dtype and shape; borrowed during the run */
    uint64_t random_key;         /* keys the random ops of this run: same key, same numbers */
    const uint64_t *loop_key;    /* of a loop's body, the key of the run that the loop is in; NULL: no loop */
    const uint64_t *seeded_keys; /* one for each of plan_seeded_node; NULL: random_key for them, too */
    const _Atomic bool *cancel;  /* looked at between nodes; may be NULL */
    uint64_t deadline_ms;        /* by clock_now_ms; when it has passed, the run is cancelled; 0: never */
};

/* Runs. `ret_fetches` (one for each fetch, may be NULL without any) borrow from the workspace, a feed or a variable
 * until the next run. Errors: UNPROCESSABLE, FailedPreconditionError "Attempting to use uninitialized value N";
 * CANCELLED. */
enum status plan_run(const struct plan *plan, struct workspace *workspace, struct values *values,
                     const struct run_options *options, struct tensor *ret_fetches, struct error *error) MUST_CHECK;

#endif
