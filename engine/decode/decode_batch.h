/* One decode step of up to DECODE_BATCH_ROWS_MAX rows of one plan, cut into phases for the thread team: each part of
 * each layer, then the logits of the rows that want them, then what each row makes of its logits; or, of a plan that is
 * stepped, the rows one by one; or all of it as one phase that a thread does alone. Thread: filled and asked for phases
 * by one thread at a time, with nothing of it running. Owns the workspace of the logits. */
#ifndef ENGINE_DECODE_DECODE_BATCH_H
#define ENGINE_DECODE_DECODE_BATCH_H

#include "engine/base/thread_team.h"
#include "engine/decode/generation_row.h"
#include "engine/math/rnn_packed.h"

enum { DECODE_BATCH_ROWS_MAX = 256 };

struct decode_batch;

/* Owned. NO_MEMORY is the only error. */
enum status decode_batch_create(struct decode_batch **ret_batch, struct error *error) MUST_CHECK;
void decode_batch_destroy(struct decode_batch *batch);

/* How many rows of a plan should share a step at most, so that others do not wait too long. */
size_t decode_batch_rows_max(const struct decode_plan *plan);

/* How many rows of a plan a thread should have at least, so that a step of its own, which reads all the weights, is no
 * slower than its share of one that all threads take part in. SIZE_MAX: never. */
size_t decode_batch_rows_apart(const struct decode_plan *plan);

/* Begins a step of `plan` without rows. */
void decode_batch_begin(struct decode_batch *batch, const struct decode_plan *plan);

/* Adds a settled, ready row of that plan. Borrowed until the step is over. */
void decode_batch_add(struct decode_batch *batch, struct generation *row);

/* The rows of the step: valid until decode_batch_begin. */
struct generation *const *decode_batch_rows(const struct decode_batch *batch, size_t *ret_count);

/* The next phase of the step; false when the step is over and every row has advanced. */
bool decode_batch_next_phase(struct decode_batch *batch, struct thread_team_phase *ret_phase) MUST_CHECK;

/* The whole step as one phase, for the thread that asks alone. */
struct thread_team_phase decode_batch_whole_phase(struct decode_batch *batch);

/* A whole step, on the calling thread alone, of those of `rows` that are ready for one; false when none was. */
bool decode_batch_run(struct decode_batch *batch, const struct decode_plan *plan, struct generation *const *rows,
                      size_t row_count) MUST_CHECK;

#endif
