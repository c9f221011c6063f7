/* How far apart two plans of the same model are, on the calling thread alone: for tests of ways to generate against one
 * another, at load too. */
#ifndef ENGINE_DECODE_DECODE_COMPARE_H
#define ENGINE_DECODE_DECODE_COMPARE_H

#include "engine/decode/decode_plan.h"

/* Feeds both the same few symbols, from their first states on, and gives the largest difference between two logits,
 * each counted from its plan's largest, as a part of the range of logits, or of 1 where that is larger; NaN where a
 * logit is none. The plans have equally many symbols. The stepper's errors, NO_MEMORY. Thread: any. */
enum status decode_compare(const struct decode_plan *a, const struct decode_plan *b, double *ret_difference,
                           struct error *error) MUST_CHECK;

#endif
