/* The inside of plans and workspaces, for the plan*.c files. A plan never changes once plan_create has returned it. */
#ifndef ENGINE_GRAPH_PLAN_PRIVATE_H
#define ENGINE_GRAPH_PLAN_PRIVATE_H

#include "engine/base/arena.h"
#include "engine/graph/op.h"
#include "engine/graph/plan.h"

/* Every tensor of a plan is a slot. Its memory is a feed, a constant, a variable's own, another slot's (ops that only
 * change the shape), or a place in the workspace, reused once the last reader has run. */
enum slot_kind { SLOT_FEED, SLOT_CONSTANT, SLOT_VARIABLE, SLOT_ALIAS, SLOT_MEMORY };

struct slot {
    enum slot_kind kind;
    uint32_t root;        /* the slot whose memory it shows: itself unless it is an alias */
    uint32_t last_use;    /* step after which its memory is free */
    struct tensor tensor; /* dtype and full shape; data of constants */
    size_t offset;        /* in the workspace's memory */
    const struct variable *variable;
};

struct step {
    const struct node *node;
    const struct variable *variable; /* of VariableV2 and of ops that write */
    uint32_t *inputs;                /* slots */
    uint32_t input_count;
    uint32_t output; /* first of its slots */
    uint32_t output_count;
    void *prepared; /* by the op's prepare, for its compute */
};

struct plan {
    _Atomic size_t references;
    struct graph *graph;
    struct arena arena;
    struct slot *slots;
    size_t slot_count;
    struct step *steps;
    size_t step_count;
    uint32_t *fetches; /* slots */
    size_t fetch_count;
    uint32_t *feed_slots;
    size_t feed_count;
    size_t inputs_max; /* of one step */
    size_t memory_bytes;
    size_t scratch_bytes;
    bool writes;
};

/* Lies at the beginning of its own block; the rest follows it there. */
struct workspace {
    struct tensor *tensors; /* one for each slot */
    struct tensor *inputs;  /* of the step that runs */
    char *memory;
    char *scratch;
};

/* What compiling needs only meanwhile. */
struct compiler {
    const struct plan_options *options;
    struct plan *plan;
    uint32_t *first_slot; /* of each node + 1; 0: not computed */
    uint32_t *first_feed; /* of each node + 1; 0: none of its outputs is fed */
    uint32_t *next_feed;  /* of each feed: the next one of the same node + 1 */
    bool *is_needed;      /* each node */
    struct inference *inference;
    struct output_type *input_types; /* of the node that is inferred */
    const struct tensor **constants;
};

/* A size rounded up to MEM_ALIGNMENT_BYTES. */
size_t plan_rounded(size_t bytes);

enum status plan_no_memory(struct error *error);

/* LIMIT when the workspace of the plan as it stands would exceed its maximum. */
enum status plan_check_bytes(const struct plan *plan, struct error *error) MUST_CHECK;

/* Fills a plan whose graph and counts are set: steps and slots. The caller destroys the plan on failure. */
enum status plan_compile(struct plan *plan, const struct plan_options *options, struct error *error) MUST_CHECK;

/* Gives every slot that needs it a place in the workspace. */
enum status plan_place_memory(struct plan *plan, struct error *error) MUST_CHECK;

#endif
