/* How a stretch of symbols becomes batches: as many contiguous streams as the batch has rows, cut into windows of time
 * steps, so that row r of one window goes on where row r of the window before it ended (char-rnn; Zaremba et al. 2014).
 * Row r is inputs [r·n, (r+1)·n) with n = (symbols − 1) / rows; targets are one symbol further; the remainder is left
 * out. A plain value; fills from any thread. */
#ifndef ENGINE_TRAIN_BATCHES_H
#define ENGINE_TRAIN_BATCHES_H

#include "engine/train/corpus.h"

struct batches {
    const struct corpus *corpus; /* borrowed; NULL: */
    const int32_t *symbols;      /* the symbols themselves, borrowed */
    size_t begin;                /* first symbol */
    size_t rows;
    size_t row_symbols; /* n: inputs of one row */
};

/* Batches over a stretch of symbols. `rows` must be at least 1; row_symbols may come out as 0. */
struct batches batches_make(const struct corpus *corpus, struct corpus_stretch stretch, size_t rows);

/* Writes the inputs and targets [row_count, time] of rows from `row_begin` at times from `time_begin`. Errors as
 * corpus_copy_symbols. */
enum status batches_fill(const struct batches *batches, size_t row_begin, size_t row_count, size_t time_begin,
                         size_t time, int32_t *inputs, int32_t *targets, struct error *error) MUST_CHECK;

#endif
