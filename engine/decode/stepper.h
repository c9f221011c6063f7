/* The seam between the batcher and models that are not packed: something that steps one row at a time, by itself. A
 * decode plan over one (decode_plan_create_stepped) generates as any other does, its rows' steps being items of one
 * phase. Owned by the plan, which destroys it. */
#ifndef ENGINE_DECODE_STEPPER_H
#define ENGINE_DECODE_STEPPER_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

/* One row's step. */
struct stepper_step {
    uint32_t symbol;     /* below symbol_count */
    uint64_t random_key; /* of whatever is random in the step: the same row at the same place has the same one */
    const void *state;   /* [state_bytes], before the step; aligned to MEM_ALIGNMENT_BYTES, as the next two */
    void *next_state;    /* written; does not overlap */
    float *logits;       /* [symbol_count], written; NULL where nobody reads them: most of a prompt's */
};

struct stepper {
    void *context;
    const char *name; /* in place of the kernels': "graph" */
    size_t symbol_count;
    size_t state_bytes; /* a multiple of MEM_ALIGNMENT_BYTES, not 0 */
    size_t bytes;       /* held */

    /* The state before any symbol. */
    void (*begin)(void *context, void *state);
    /* Must depend on nothing but `step`, the next state not on whether there are logits. Any thread, several at once
     * for different rows. But for a plan that no batcher sees, whose one row steps on one thread: adapted_text's, whose
     * steps depend on those before. */
    enum status (*step)(void *context, const struct stepper_step *step, struct error *error);
    /* Whether bytes from outside can be a state: INVALID says why not. NULL: all can. */
    enum status (*check_state)(void *context, const void *state, struct error *error);
    void (*destroy)(void *context);
};

#endif
