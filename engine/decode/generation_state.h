/* Beginning a generation from a text's state; for engine/decode alone (making a state is in generation.h). Thread: as
 * generation_create, before anybody else knows the generation. */
#ifndef ENGINE_DECODE_GENERATION_STATE_H
#define ENGINE_DECODE_GENERATION_STATE_H

#include "engine/decode/generation_row.h"

/* Takes over the numbers, the counts and the pending symbols of `generation->from`, whose places are allocated.
 * UNPROCESSABLE, code "state_mismatch", where they are another version's; INVALID, code "state_malformed". */
enum status generation_load_state(struct generation *generation, struct error *error) MUST_CHECK;

/* Where its text goes on without a new prompt: takes over the unfinished character. */
void generation_load_unfinished(struct generation *generation);

/* Penalties that also see what the state says was said. Errors of penalties_init. */
enum status generation_init_penalties(struct generation *generation, const struct generation_options *options,
                                      struct error *error) MUST_CHECK;

#endif
