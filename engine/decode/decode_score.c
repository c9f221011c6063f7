/* Scoring texts without a batcher: rows of forced steps, all phases run by the caller. Thread: any. */
#include "engine/decode/decode_score.h"

#include <math.h>
#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/decode/decode_batch.h"

static enum status sum_up(struct generation *const *rows, size_t row_count, size_t row_symbols, double *ret_nats,
                          struct error *error)
{
    double nats = 0;
    for (size_t row = 0; row < row_count; row++) {
        if (generation_progress(rows[row]).finish == FINISH_FAILED) {
            struct error failure;
            generation_failure(rows[row], error != NULL ? error : &failure);
            return STATUS_UNPROCESSABLE;
        }
        const float *logprobs = generation_prompt_logprobs(rows[row]);
        for (size_t i = 1; i < row_symbols; i++) {
            nats -= (double)logprobs[i];
        }
    }
    *ret_nats = nats / (double)(row_count * (row_symbols - 1));
    return STATUS_OK;
}

static enum status score(const struct decode_plan *plan, struct generation *const *rows, size_t row_count,
                         size_t row_symbols, const _Atomic bool *is_cancelled, double *ret_nats, struct error *error)
{
    struct decode_batch *batch = NULL;
    bool must_stop = false;
    TRY(decode_batch_create(&batch, error));
    do {
        must_stop = is_cancelled != NULL && atomic_load(is_cancelled);
    } while (!must_stop && decode_batch_run(batch, plan, rows, row_count));
    decode_batch_destroy(batch);
    if (must_stop) {
        return error_set(error, STATUS_CANCELLED, "scoring was cancelled");
    }
    return sum_up(rows, row_count, row_symbols, ret_nats, error);
}

enum status decode_score(const struct decode_plan *plan, struct vocabulary *vocabulary, const uint32_t *symbols,
                         size_t row_count, size_t row_symbols, const _Atomic bool *is_cancelled, double *ret_nats,
                         struct error *error)
{
    CHECK(row_count > 0 && row_count <= DECODE_SCORE_ROWS_MAX && row_symbols > 1);
    struct generation *rows[DECODE_SCORE_ROWS_MAX] = {NULL};
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < row_count; i++) {
        struct generation_options options = {
            .prompt = symbols + i * row_symbols, .prompt_count = row_symbols, .top_p = 1, .want_prompt_logprobs = true};
        status = generation_create(plan, vocabulary, &options, NULL, NULL, &rows[i], error);
    }
    if (status == STATUS_OK) {
        status = score(plan, rows, row_count, row_symbols, is_cancelled, ret_nats, error);
    }
    for (size_t i = 0; i < row_count; i++) {
        generation_unref(rows[i]);
    }
    return status;
}
