/* What the files of the recurrence ops share. Thread: see op.h. Owns nothing. */
#ifndef ENGINE_GRAPH_OPS_RECURRENCE_H
#define ENGINE_GRAPH_OPS_RECURRENCE_H

#include "engine/graph/op.h"
#include "engine/graph/plan.h"
#include "engine/graph/recurrence_node.h"

/* How a Recurrence node or its gradient is laid out. Inputs of Recurrence: x, lengths (where it has them), states,
 * captures. Outputs: the outputs of all steps, the final states, the states after every step [time, batch, …], and what
 * fused kernels save for their gradient (empty without them). */
struct recurrence {
    const struct body *body;
    size_t state_count;
    size_t capture_count;
    bool has_lengths;
    bool is_general;
    size_t first_state; /* among the inputs */
    size_t first_capture;
    size_t input_count;
};

/* As the node says. */
struct recurrence recurrence_of(const struct node *node);

/* Outputs of Recurrence: the final state, the states after every step, what is saved. */
static inline size_t recurrence_final(size_t state)
{
    return 1 + state;
}

/* See above. */
static inline size_t recurrence_history(const struct recurrence *recurrence, size_t state)
{
    return 1 + recurrence->state_count + state;
}

/* See above. */
static inline size_t recurrence_saved(const struct recurrence *recurrence)
{
    return 1 + 2 * recurrence->state_count;
}

/* Inputs of RecurrenceGrad: those of Recurrence, then its histories, what it saved, and the gradients into its outputs
 * and final states. Its outputs are gradients of x, states and captures. */
static inline size_t recurrence_history_input(const struct recurrence *recurrence, size_t state)
{
    return recurrence->input_count + state;
}

/* See above. */
static inline size_t recurrence_saved_input(const struct recurrence *recurrence)
{
    return recurrence->input_count + recurrence->state_count;
}

/* See above. */
static inline size_t recurrence_d_output_input(const struct recurrence *recurrence)
{
    return recurrence_saved_input(recurrence) + 1;
}

/* See above. */
static inline size_t recurrence_d_final_input(const struct recurrence *recurrence, size_t state)
{
    return recurrence_d_output_input(recurrence) + 1 + state;
}

/* How many gradients there are, empty ones counted. */
static inline size_t recurrence_gradient_count(const struct recurrence *recurrence)
{
    return 1 + recurrence->state_count + recurrence->capture_count;
}

/* Which input of Recurrence gradient `index` belongs to. */
static inline size_t recurrence_gradient_input(const struct recurrence *recurrence, size_t index)
{
    return index == 0 ? 0 : recurrence->first_state + index - 1;
}

/* The rows that take part in each step. */
struct recurrence_steps {
    size_t time;
    size_t batch;
    size_t count;          /* steps that any row takes part in, at most `time` */
    const int64_t *length; /* of each row; NULL: all rows take part in all steps */
};

/* Whether the row takes part in the step. */
static inline bool recurrence_is_active(const struct recurrence_steps *steps, size_t step, size_t row)
{
    return steps->length == NULL || (int64_t)step < steps->length[row];
}

/* Reads the lengths of the rows into `room` (batch of them). InvalidArgumentError when they are not as many. */
enum status recurrence_read_steps(const struct op_run *run, const struct recurrence *recurrence, int64_t *room,
                                  struct recurrence_steps *ret_steps, struct error *error) MUST_CHECK;

/* The random key of one step, so that a body's random ops differ from step to step and repeat in the gradient. */
uint64_t recurrence_step_key(uint64_t run_key, size_t step);

/* Scratch, taken piece by piece; every piece is aligned to MEM_ALIGNMENT_BYTES. */
struct recurrence_scratch {
    char *at;
};
size_t recurrence_rounded(size_t bytes);
void *recurrence_take(struct recurrence_scratch *scratch, size_t bytes);

/* The sub-plan of a body's step, and the room its feeds and results take: what general execution prepares. */
struct recurrence_plan {
    struct plan *plan;
    size_t feed_count;
    size_t fetch_count;
    size_t workspace_bytes;
};

/* Compiles the body for feeds of these types; where one has data, that is what it will always be fed with. */
enum status recurrence_plan_create(const struct body *body, const struct tensor *feeds,
                                   struct recurrence_plan *ret_plan, struct error *error) MUST_CHECK;
/* What a body is fed with besides x: an outer tensor, with its value where that is known. */
struct tensor recurrence_outer_feed(const struct inference *inference, size_t input);
/* Scratch that running it takes: workspace, feeds, results. */
size_t recurrence_plan_bytes(const struct recurrence_plan *plan);
struct recurrence_turn {
    struct workspace *workspace;
    struct tensor *feeds; /* dtype and shape set; data to be set */
    struct tensor *results;
};
struct recurrence_turn recurrence_plan_place(const struct recurrence_plan *plan, const struct body *body,
                                             struct recurrence_scratch *scratch);

/* Recurrence's gradient: adds a RecurrenceGrad, which holds the gradient of the body. */
enum status recurrence_gradient(struct graph *graph, const struct node *node, const struct output *output_gradients,
                                struct output *ret_input_gradients, struct error *error) MUST_CHECK;

/* A shape without its first dimension, and with one put before. */
struct shape shape_without_first(const struct shape *shape);
struct shape shape_with_first(int64_t first, const struct shape *shape);

#endif
