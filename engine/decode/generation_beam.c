/* Rows of a beam search. Thread: a compute thread, one at a time for each row. Owns nothing. */
#include "engine/decode/generation_beam.h"

#include "engine/decode/decode_plan_layout.h"

bool generation_beam_waits(const struct generation *generation)
{
    return generation->beam != NULL && generation->beam_rank > 0 && generation->told == NULL;
}

bool generation_beam_is_searching(const struct generation *generation)
{
    return generation->beam != NULL && generation->beam_rank == 0 && generation->told == NULL;
}

bool generation_beam_find(struct generation *generation)
{
    if (generation->beam == NULL || generation->told != NULL || generation->ending != FINISH_NONE) {
        return true;
    }
    enum beam_course course = beam_course(generation->beam);
    if (course == BEAM_SEARCHES) { /* others read their prompt meanwhile, but for its last symbol */
        return generation->beam_rank == 0 || generation->prompt_read + 1 < generation->prompt_count;
    }
    if (course == BEAM_GIVEN_UP) {
        generation->ending = FINISH_CANCELLED;
        return true;
    }
    size_t text_count = beam_text_count(generation->beam);
    if (generation->beam_rank >= text_count) {
        generation->ending = FINISH_FAILED;
        error_set(&generation->failure, STATUS_UNPROCESSABLE, "the search found %zu texts, more are asked for",
                  text_count);
        error_code(&generation->failure, "too_few_texts");
        return true;
    }
    generation->told =
        beam_text(generation->beam, generation->beam_rank, &generation->told_count, &generation->is_told_whole);
    return true;
}

/* The last symbol of the prompt is next, as before the search. */
static void go_back(struct generation *generation)
{
    const struct generation_mark *mark = &generation->prompt_mark;
    memcpy(generation->slot, mark->slot, generation->plan->slot_floats * sizeof *mark->slot);
    generation->parity = mark->parity;
    generation->prompt_read = generation->prompt_count - 1;
    generation->symbols_made = 0;
}

void generation_beam_search(struct generation *generation, const struct rnn_kernels *kernels, float *logits,
                            float *weights)
{
    struct beam_row row = {
        .slot = generation->slot, .parity = generation->parity, .constraint_state = generation->constraint_state};
    if (!beam_advance(generation->beam, &row, kernels, logits, weights)) {
        generation_row_fail(generation);
    } else if (beam_course(generation->beam) == BEAM_FOUND) {
        go_back(generation);
    } else {
        generation->parity = row.parity;
        generation->made = row.symbol;
        generation->symbols_made = row.symbol_count;
    }
}

void generation_beam_end(struct generation *generation)
{
    if (generation_beam_is_searching(generation)) {
        if (generation->prompt_read == generation->prompt_count) {
            go_back(generation);
        }
        beam_give_up(generation->beam);
    }
}
