/* A batcher and its loop for tests: rows are submitted, reports waited for and read. The main thread is the loop
 * thread.
 * The test includes cmocka before it. */
#ifndef TESTS_UNIT_BATCHER_RIG_H
#define TESTS_UNIT_BATCHER_RIG_H

#include <pthread.h>

#include "engine/decode/batcher.h"
#include "engine/text/utf8.h"
#include "tests/unit/decode_model.h"

enum { SEED = 31, ROWS_MAX = 700, TEXT_BYTES_MAX = 12000, PROMPT_MAX = 40, TOKENS_MAX = 60, STATE_BYTES_MAX = 4096 };

/* One generation of a test, and what came of it. */
struct row {
    struct generation *generation;
    struct generation *pending; /* the reference of a report, with the hub's lock */
    bool is_read;               /* the loop reads it when it is reported */
    bool wants_state;
    bool has_ended;
    size_t report_count;
    size_t length;
    char text[TEXT_BYTES_MAX];
    float logprobs[PROMPT_MAX];
    size_t top_count; /* of symbols with their likeliest */
    float top_logprobs[PROMPT_MAX + TOKENS_MAX][1 + LOGPROBS_TOP_MAX];
    char state[STATE_BYTES_MAX];
};

/* Between the compute threads and the loop. */
struct hub {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct batcher *batcher;
    size_t report_count;
    struct row *reports[ROWS_MAX]; /* those with something pending */
    struct row *rows;              /* [ROWS_MAX] */
    size_t row_count;
    size_t ended_count;
};

/* batcher_options.on_progress: keeps what is reported, once a row, for the loop. Thread: compute. */
static inline void on_progress(void *context, struct generation **generations, size_t count)
{
    struct hub *hub = context;
    pthread_mutex_lock(&hub->lock);
    for (size_t i = 0; i < count; i++) {
        struct row *row = generation_owner(generations[i]);
        if (row->pending == NULL) {
            row->pending = generations[i];
            hub->reports[hub->report_count++] = row;
        } else {
            generation_unref(generations[i]); /* its row is reported already */
        }
    }
    pthread_cond_signal(&hub->arrived);
    pthread_mutex_unlock(&hub->lock);
}

/* A batcher that reports to `hub`; end with hub_release. */
static inline void hub_init(struct hub *hub, size_t threads, size_t queue_max)
{
    *hub = (struct hub){.rows = mem_allocate(ROWS_MAX, sizeof *hub->rows)};
    pthread_mutex_init(&hub->lock, NULL);
    pthread_cond_init(&hub->arrived, NULL);
    struct batcher_options options = {
        .threads = threads, .queue_max = queue_max, .on_progress = on_progress, .context = hub};
    struct error error;
    assert_int_equal(batcher_create(&options, &hub->batcher, &error), STATUS_OK);
}

/* Moves what a row has ready behind its text. */
static inline void read_row(struct row *row)
{
    size_t room = sizeof row->text - row->length;
    assert_true(room >= UTF8_BYTES_MAX);
    row->length += generation_read(row->generation, row->text + row->length, room);
}

/* Copies what an ended row leaves besides text. */
static inline void keep_result(struct row *row)
{
    const float *logprobs = generation_prompt_logprobs(row->generation);
    struct generation_progress progress = generation_progress(row->generation);
    if (logprobs != NULL) {
        memcpy(row->logprobs, logprobs, progress.prompt_count * sizeof *logprobs);
    }
    size_t top_count;
    const struct symbol_logprob *entries = generation_logprobs(row->generation, &top_count);
    for (size_t i = 0; i < top_count; i++) {
        row->top_logprobs[i][0] = entries[i].logprob;
        memcpy(row->top_logprobs[i] + 1, entries[i].top_logprobs, sizeof entries[i].top_logprobs);
    }
    row->top_count = top_count;
    struct text_state *state = NULL;
    if (row->wants_state && generation_make_state(row->generation, SIZE_MAX, &state, NULL) == STATUS_OK) {
        assert_true(text_state_bytes(state) <= sizeof row->state);
        text_state_write(state, row->state);
    }
    text_state_unref(state);
}

/* Waits for reports and does what the loop does with them. */
static inline void hub_turn(struct hub *hub)
{
    static struct row *rows[ROWS_MAX];
    static struct generation *references[ROWS_MAX];
    pthread_mutex_lock(&hub->lock);
    while (hub->report_count == 0) {
        pthread_cond_wait(&hub->arrived, &hub->lock);
    }
    size_t count = hub->report_count;
    hub->report_count = 0;
    for (size_t i = 0; i < count; i++) {
        rows[i] = hub->reports[i];
        references[i] = rows[i]->pending;
        rows[i]->pending = NULL;
    }
    pthread_mutex_unlock(&hub->lock);
    for (size_t i = 0; i < count; i++) {
        struct row *row = rows[i];
        row->report_count++;
        bool has_ended = generation_progress(row->generation).finish != FINISH_NONE;
        if (row->is_read) {
            read_row(row);
        }
        if (has_ended && !row->has_ended) {
            row->has_ended = true;
            keep_result(row);
            hub->ended_count++;
        }
        generation_unref(references[i]);
    }
    batcher_wake(hub->batcher);
}

/* Turns until `count` rows of all have ended. */
static inline void hub_wait_ended(struct hub *hub, size_t count)
{
    while (hub->ended_count < count) {
        hub_turn(hub);
    }
}

/* Ends the batcher, and with it what still runs. */
static inline void hub_stop(struct hub *hub)
{
    batcher_destroy(hub->batcher);
    hub->batcher = NULL;
    for (size_t i = 0; i < hub->report_count; i++) {
        struct row *row = hub->reports[i];
        hub->ended_count += !row->has_ended;
        assert_int_not_equal(generation_progress(row->generation).finish, FINISH_NONE);
        generation_unref(row->pending);
    }
    hub->report_count = 0;
}

/* Ends the batcher, and gives its rows back: all of them must have ended. */
static inline void hub_release(struct hub *hub)
{
    hub_stop(hub);
    assert_int_equal(hub->ended_count, hub->row_count);
    for (size_t i = 0; i < hub->row_count; i++) {
        generation_unref(hub->rows[i].generation);
    }
    mem_free(hub->rows);
    pthread_mutex_destroy(&hub->lock);
    pthread_cond_destroy(&hub->arrived);
}

struct served {
    struct decode_model model;
    struct decode_plan *plan;
};

/* Packs what is in `model`. */
static inline void served_pack(struct served *served, enum rnn_precision precision, const char *kernels)
{
    struct error error;
    served->model.weights.kernels = kernels;
    served->model.weights.precision = precision;
    assert_int_equal(decode_plan_create(&served->model.weights, &served->plan, &error), STATUS_OK);
}

/* A random model of fp32 weights, packed. Release with served_release. */
static inline void served_init(struct served *served, struct vocabulary *vocabulary, size_t embedding_size,
                               size_t layers, size_t units, const char *kernels)
{
    decode_model_init(&served->model, vocabulary, embedding_size, layers, units, SEED);
    served_pack(served, RNN_PRECISION_FP32, kernels);
}

/* Frees plan and model. */
static inline void served_release(struct served *served)
{
    decode_plan_destroy(served->plan);
    decode_model_release(&served->model);
}

/* Creates and queues a generation, whose prompt is symbol 0 without another one; top_p 0 counts as 1. */
static inline enum status submit(struct hub *hub, const struct served *served, struct generation_options options,
                                 struct row **ret_row, struct error *error)
{
    assert_true(hub->row_count < ROWS_MAX);
    struct row *row = &hub->rows[hub->row_count];
    *row = (struct row){.is_read = true, .wants_state = options.want_state};
    static const uint32_t first_symbol[] = {0};
    options.prompt_count = options.prompt == NULL ? 1 : options.prompt_count;
    options.prompt = options.prompt == NULL ? first_symbol : options.prompt;
    options.owner = row;
    options.top_p = options.top_p == 0.0 ? 1.0 : options.top_p;
    enum status status =
        generation_create(served->plan, served->model.vocabulary, &options, NULL, NULL, &row->generation, error);
    assert_int_equal(status, STATUS_OK);
    *ret_row = row;
    status = batcher_submit(hub->batcher, row->generation, error);
    if (status == STATUS_OK) {
        hub->row_count++;
    } else {
        generation_unref(row->generation);
    }
    return status;
}

/* As submit, which must not fail. */
static inline struct row *must_submit(struct hub *hub, const struct served *served, struct generation_options options)
{
    struct row *row;
    struct error error;
    assert_int_equal(submit(hub, served, options, &row, &error), STATUS_OK);
    return row;
}

#endif
