/* Evaluating: whole windows, then the shorter one that is left. */
#include "engine/train/evaluation.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/train/ranks.h"

struct evaluation {
    struct batches batches;
    struct carried_state state;
    struct shards *windows; /* of EVALUATION_TIME; NULL when the text is shorter */
    struct shards *rest;    /* of the remaining steps; NULL when there are none */
    size_t rest_time;
    const _Atomic bool *is_cancelled;
};

static enum status make_parts(struct evaluation *evaluation, const struct evaluation_options *options,
                              struct error *error)
{
    struct language_model_options model;
    if (!language_model_find(options->graph, &model)) {
        return error_set(error, STATUS_UNPROCESSABLE, "the graph holds no language model");
    }
    size_t rows = options->stretch.count - 1 < EVALUATION_ROWS ? options->stretch.count - 1 : EVALUATION_ROWS;
    evaluation->batches = batches_make(options->corpus, options->stretch, rows);
    evaluation->rest_time = evaluation->batches.row_symbols % EVALUATION_TIME;
    evaluation->is_cancelled = options->is_cancelled;
    TRY(carried_state_init(&evaluation->state, &model, rows, error));
    struct shards_options shards = {.graph = options->graph,
                                    .values = options->values,
                                    .state = &evaluation->state,
                                    .rows = rows,
                                    .time = EVALUATION_TIME,
                                    .count = options->shard_count < rows ? options->shard_count : rows,
                                    .threads = options->threads};
    if (evaluation->batches.row_symbols >= EVALUATION_TIME) {
        TRY(shards_create(&shards, &evaluation->windows, error));
    }
    if (evaluation->rest_time > 0) {
        shards.time = evaluation->rest_time;
        TRY(shards_create(&shards, &evaluation->rest, error));
    }
    return STATUS_OK;
}

enum status evaluation_create(const struct evaluation_options *options, struct evaluation **ret_evaluation,
                              struct error *error)
{
    CHECK(options->stretch.count >= 2);
    struct evaluation *evaluation = mem_allocate(1, sizeof *evaluation);
    if (!evaluation) {
        return error_set(error, STATUS_NO_MEMORY, "evaluation: no memory");
    }
    enum status status = make_parts(evaluation, options, error);
    if (status != STATUS_OK) {
        evaluation_destroy(evaluation);
        return status;
    }
    *ret_evaluation = evaluation;
    return STATUS_OK;
}

void evaluation_destroy(struct evaluation *evaluation)
{
    if (!evaluation) {
        return;
    }
    shards_destroy(evaluation->windows);
    shards_destroy(evaluation->rest);
    carried_state_release(&evaluation->state);
    mem_free(evaluation);
}

/* One more window. A rank that is told to stop takes the others with it: none may wait for it in a sum. */
static enum status run_window(const struct evaluation *evaluation, struct shards *shards,
                              const struct shards_window *window, double *ret_loss, struct error *error)
{
    double votes = evaluation->is_cancelled != NULL && atomic_load(evaluation->is_cancelled);
    ranks_sum_numbers(&votes, 1);
    if (votes > 0) {
        return error_set(error, STATUS_CANCELLED, "stopped in the middle of an evaluation");
    }
    return shards_run(shards, window, ret_loss, error);
}

enum status evaluation_run(struct evaluation *evaluation, double *ret_loss, struct error *error)
{
    size_t time_end = evaluation->batches.row_symbols - evaluation->rest_time;
    struct shards_window window = {.batches = &evaluation->batches, .keep_probability = 1};
    double sum = 0;
    double loss;
    carried_state_zero(&evaluation->state);
    for (; window.time_begin < time_end; window.time_begin += EVALUATION_TIME) {
        TRY(run_window(evaluation, evaluation->windows, &window, &loss, error));
        sum += loss * EVALUATION_TIME;
    }
    if (evaluation->rest) {
        TRY(run_window(evaluation, evaluation->rest, &window, &loss, error));
        sum += loss * (double)evaluation->rest_time;
    }
    *ret_loss = sum / (double)evaluation->batches.row_symbols;
    return STATUS_OK;
}
