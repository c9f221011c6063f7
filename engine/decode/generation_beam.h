/* A generation whose text is found by a beam search: its row while it searches, or waits for the one that does. For
 * engine/decode alone; threads as the row's. */
#ifndef ENGINE_DECODE_GENERATION_BEAM_H
#define ENGINE_DECODE_GENERATION_BEAM_H

#include "engine/decode/generation_row.h"

/* Between steps: takes what was found where it is there. False: it must wait, at the end of its prompt. Sets `ending`
 * where there is no text for it. */
bool generation_beam_find(struct generation *generation) MUST_CHECK;

/* Whether it waits for what another row searches. */
bool generation_beam_waits(const struct generation *generation);

/* Whether its steps are those of the search. */
bool generation_beam_is_searching(const struct generation *generation);

/* After a step of the search: feeds the next one, or goes back to the end of the prompt, from where the text is told.
 * Arrays as generation_row_advance. */
void generation_beam_search(struct generation *generation, const struct rnn_kernels *kernels, float *logits,
                            float *weights);

/* Before it ends: whoever waits for its search learns that there will be nothing. */
void generation_beam_end(struct generation *generation);

#endif
