/* The inside of an optimiser, for the files of engine/nn that make one up. */
#ifndef ENGINE_NN_OPTIMIZER_PRIVATE_H
#define ENGINE_NN_OPTIMIZER_PRIVATE_H

#include "engine/graph/texts.h"
#include "engine/nn/optimizer.h"

struct optimizer_slot {
    const struct variable *variable;
    const char *name; /* "m" */
    const struct variable *slot;
};

/* OBJECT_OPTIMIZER. The list of slots is never changed in place: clones share it. */
struct optimizer {
    struct optimizer_options options; /* with a name */
    const struct variable *powers[2]; /* Adam's beta1_power, beta2_power; NULL: not made yet */
    const struct optimizer_slot *slots;
    size_t slot_count;
};

/* ValueError "No gradients provided for any variable…"; `loss` .node NULL: apply_gradients' text. */
enum status optimizer_refuse_gradients(const struct variable *const *variables, size_t count, struct output loss,
                                       struct error *error) MUST_CHECK;

#endif
