/* Beam search: the likeliest texts of a length, as far as a search that keeps `width` beginnings finds them. All of it
 * is kept in the object that the texts of a prompt share: the generation of rank 0 searches, as a row that takes the
 * beginnings' steps one after the other (each a fork of the recurrent state); then every generation tells the text of
 * its rank by forced steps, as any other text is told, so that text, log-probabilities and states are those of the text
 * however it was found.
 *
 * A beginning's score is the sum of its symbols' log-probabilities under the model's own distribution. Each round takes
 * every beginning one symbol further and keeps the `width` best; one that is finished (by length, or by its constraint)
 * keeps its place among them, since no score ever grows. Ties: the better beginning before, then the lower symbol. So
 * with room for all beginnings it is exact.
 * Threads: the searching row's, one at a time; what was found, and beam_course, any. Source: Lowerre, "The HARPY speech
 * recognition system", 1976. */
#ifndef ENGINE_DECODE_BEAM_H
#define ENGINE_DECODE_BEAM_H

#include <stddef.h>
#include <stdint.h>

#include "engine/decode/constraint.h"
#include "engine/decode/decode_plan.h"

enum { BEAM_WIDTH_MAX = 128, BEAM_NODES_MAX = 1 << 20 };

struct beam_options {
    size_t width;                  /* 1 to BEAM_WIDTH_MAX */
    size_t text_count;             /* that will be told, the best first: ranks below it */
    size_t tokens_max;             /* of each text; with the width at most BEAM_NODES_MAX */
    struct constraint *constraint; /* referenced; NULL: none */
};

struct beam;

/* Memory: two states for each beginning, 8 bytes for each symbol of all that are kept. INVALID names the option by its
 * name in the API; NO_MEMORY. Owned by one reference. Any thread. */
enum status beam_create(const struct decode_plan *plan, const struct beam_options *options, struct beam **ret_beam,
                        struct error *error) MUST_CHECK;

/* One more reference, counted atomically, and its release; both take NULL, unref returns it. Any thread. */
struct beam *beam_ref(struct beam *beam);
struct beam *beam_unref(struct beam *beam);

/* ---- For the rows of engine/decode alone */

enum beam_course { BEAM_SEARCHES, BEAM_FOUND, BEAM_GIVEN_UP };

/* What has become of it so far. Any thread. */
enum beam_course beam_course(const struct beam *beam);

/* Where the searching row stands. */
struct beam_row {
    float *slot; /* the row's own state: read, and overwritten with that of the beginning to be fed next */
    unsigned parity;
    uint32_t constraint_state; /* of an empty text */
    uint32_t symbol;           /* to be fed next */
    size_t symbol_count;       /* that the beginning has, this one included */
};

/* After the step of the prompt's last symbol, and after each step that this asked for, with its logits: takes them up,
 * and says in `row` what to feed next; nothing where the search has come to its end (BEAM_FOUND). False where a logit
 * is not finite. logits, weights: as sampler_choose; both are overwritten. */
bool beam_advance(struct beam *beam, struct beam_row *row, const struct rnn_kernels *kernels, float *logits,
                  float *weights) MUST_CHECK;

/* The searching row ends before it has found anything: whoever waits must know. */
void beam_give_up(struct beam *beam);

/* After BEAM_FOUND: how many texts there are, and the text of a rank below that number; `ret_is_whole`: it ends because
 * its constraint lets nothing follow, not by its length. */
size_t beam_text_count(const struct beam *beam);
const uint32_t *beam_text(const struct beam *beam, size_t rank, size_t *ret_count, bool *ret_is_whole);

#endif
