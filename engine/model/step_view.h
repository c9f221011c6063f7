/* A graph as one step of one row and one symbol: what its signature "generate" computes, seen through everything that
 * only changes shapes, since each tensor is then one vector; and through loops, which turn once. What depends neither
 * on the symbol nor on the state is free: weights, or made of weights. For the files that look for packed layers in a
 * graph. One thread. */
#ifndef ENGINE_MODEL_STEP_VIEW_H
#define ENGINE_MODEL_STEP_VIEW_H

#include "engine/graph/graph.h"
#include "engine/nn/generate_signature.h"

enum { STEP_VIEW_LOOPS_MAX = 64, STEP_VIEW_REASON_BYTES_MAX = 512 };

/* The inside of a loop that was looked into. */
struct step_loop {
    const struct node *node;
    const struct body *body;
    bool *depends; /* each of the body's nodes */
};

struct step_view {
    const struct graph *graph;
    const struct generate_signature *signature;
    struct arena arena;
    bool *depends; /* each of the graph's nodes: on symbol or state */
    struct step_loop loops[STEP_VIEW_LOOPS_MAX];
    size_t loop_count;
    bool has_failed; /* no memory */
    char reason[STEP_VIEW_REASON_BYTES_MAX];
};

/* Columns `begin` to `begin + count` of a vector. */
struct step_piece {
    struct output output;
    size_t begin;
    size_t count; /* 0: not known */
};

/* Release also after failure. NO_MEMORY. Graph and signature are borrowed. */
enum status step_view_init(struct step_view *view, const struct graph *graph,
                           const struct generate_signature *signature, struct error *error) MUST_CHECK;
void step_view_release(struct step_view *view);

/* The first tensor on the way back from `output` that is more than a change of shape: symbol and states as they are, of
 * what is free the outermost. */
struct output step_resolve(struct step_view *view, struct output output);
/* The same through splits and slices too. */
struct step_piece step_select(struct step_view *view, struct output output);
/* Of a resolved output. */
bool step_is_free(const struct step_view *view, struct output output);
/* The number that an output is in every run. */
bool step_number(struct step_view *view, struct output output, double *ret_number);
/* The elements of its vector, 0 where the graph does not say. */
size_t step_width(struct output output);
bool step_piece_equal(struct step_piece a, struct step_piece b);
/* The state whose next one it is; false when it is none. */
bool step_find_next(struct step_view *view, struct output output, size_t *ret_state);

/* Keeps why the graph cannot be packed, the first time; returns false. "'N' (op: 'T') <what>". */
bool step_refuse(struct step_view *view, struct output output, const char *what);

#endif
