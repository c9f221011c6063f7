/* How well a plan predicts texts, on the calling thread alone: for measuring, not for serving. Owns nothing. */
#ifndef ENGINE_DECODE_DECODE_SCORE_H
#define ENGINE_DECODE_DECODE_SCORE_H

#include "engine/decode/decode_plan.h"
#include "engine/text/vocabulary.h"

enum { DECODE_SCORE_ROWS_MAX = 64 };

/* The mean of −log p(symbol | all before it in its row), in nats, over `row_count` rows (1 to DECODE_SCORE_ROWS_MAX) of
 * `row_symbols` each (2 to GENERATION_PROMPT_SYMBOLS_MAX), one row after another in `symbols`; each row begins with a
 * fresh state, and its first symbol has no score. CANCELLED soon after `is_cancelled` is set (NULL: never). INVALID for
 * a symbol the plan has not; UNPROCESSABLE, code "not_finite", where the logits are not; NO_MEMORY. */
enum status decode_score(const struct decode_plan *plan, struct vocabulary *vocabulary, const uint32_t *symbols,
                         size_t row_count, size_t row_symbols, const _Atomic bool *is_cancelled, double *ret_nats,
                         struct error *error) MUST_CHECK;

#endif
