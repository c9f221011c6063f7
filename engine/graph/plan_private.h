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
    uint32_t maker;       /* the step it is an output of; none of feeds */
    uint32_t last_use;    /* step after which its memory is free */
    struct tensor tensor; /* dtype and full shape; data of constants */
    size_t offset;        /* in the workspace's memory */
    const struct variable *variable;
};

struct step {
    const struct node *node;         /* NULL: copies its input, a variable that is about to change */
    const struct variable *variable; /* of VariableV2 and of ops that write */
    uint32_t *inputs;                /* slots */
    uint32_t input_count;
    uint32_t output; /* first of its slots */
    uint32_t output_count;
    size_t scratch_bytes;
    uint32_t seeded; /* its place in the plan's list + 1; 0: no seed of its own */
    bool is_folded;  /* all its outputs are constants: nothing to run */
    void *prepared;  /* by the op's prepare, for its compute */
};

struct plan {
    _Atomic size_t references;
    struct graph_segment *segment; /* keeps the nodes */
    struct arena arena;
    struct slot *slots;
    size_t slot_count;
    struct step *steps;
    size_t step_count;
    uint32_t *fetches; /* slots */
    size_t fetch_count;
    uint32_t *feed_slots;
    size_t feed_count;
    uint64_t depends; /* bit i: on the value of feed i, one of the first PLAN_VALUE_FEEDS_MAX */
    uint32_t *seeded; /* steps */
    size_t seeded_count;
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

/* A slot's value as far as it is known while planning. */
struct known {
    struct tensor tensor; /* data NULL: not known */
    uint64_t feeds;       /* bit i: it was computed from feed i and holds for runs that feed the same */
};

#define NO_STEP UINT32_MAX

/* What compiling needs only meanwhile. */
struct compiler {
    const struct plan_options *options;
    const struct graph *graph;
    struct plan *plan;
    uint32_t *first_slot; /* of each node + 1; 0: not computed */
    uint32_t *step_of;    /* of each node + 1; 0: not computed */
    uint32_t *first_feed; /* of each node + 1; 0: none of its outputs is fed */
    uint32_t *next_feed;  /* of each feed: the next one of the same node + 1 */
    bool *is_needed;      /* each node */
    struct known *known;  /* each slot */
    struct arena arena;   /* values known for some feeds only */
    struct inference inference;
    struct output_type *input_types; /* of the node that is inferred */
    const struct tensor **constants;
    struct tensor *computed; /* outputs of one node */
};

/* A size rounded up to MEM_ALIGNMENT_BYTES. */
size_t plan_rounded(size_t bytes);

/* NO_MEMORY, with the message of all these files. */
enum status plan_no_memory(struct error *error);

/* TOO_LARGE (ResourceExhaustedError) when the workspace of the plan as it stands would exceed its maximum. */
enum status plan_check_bytes(const struct plan *plan, struct error *error) MUST_CHECK;

/* Whether the node changes the variable behind its input `index`. */
bool plan_is_written(const struct node *node, size_t index);

/* Fills a plan whose counts are set: steps and slots. The caller destroys the plan on failure. */
enum status plan_compile(struct plan *plan, const struct graph *graph, const struct plan_options *options,
                         struct error *error) MUST_CHECK;

/* Takes what is known of the fed values. */
void plan_know_feeds(struct compiler *compiler);

/* Finds a step's output types, and their values where these are known ahead: such a step is folded. Lets the op
 * prepare. UNPROCESSABLE names the op and the input whose value it would need. */
enum status plan_infer_step(struct compiler *compiler, struct step *step, struct error *error) MUST_CHECK;

/* Inserts copies of variables that are read before and used after a write. */
enum status plan_keep_reads(struct compiler *compiler, struct error *error) MUST_CHECK;

/* Drops the steps whose results nobody reads. */
enum status plan_drop_unused(struct compiler *compiler, struct error *error) MUST_CHECK;

/* Gives every slot that needs it a place in the workspace. */
enum status plan_place_memory(struct plan *plan, struct error *error) MUST_CHECK;

#endif
