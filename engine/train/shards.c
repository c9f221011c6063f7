/* Running the train head over shards of the batch. */
#include "engine/train/shards.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/train/ranks.h"

enum {
    STATES_MAX = RECURRENT_STATES_MAX * LANGUAGE_MODEL_LAYERS_MAX,
    FEED_INPUTS = 0,
    FEED_TARGETS,
    FEED_KEEP,
    FEED_SMOOTHING,
    FEED_STATE, /* the first of them */
    FEEDS_MAX = FEED_STATE + STATES_MAX,
    FETCH_LOSS = 0,
    FETCH_STATE,
};

struct shard {
    size_t index; /* of all ranks' */
    size_t row_begin;
    size_t row_count;
    struct plan *plan;
    struct workspace *workspace;
    int32_t *inputs; /* [row_count, time] */
    int32_t *targets;
    float keep_probability;
    float label_smoothing;
    struct tensor feeds[FEEDS_MAX];
    struct tensor *fetches; /* loss, final states, gradients */
    enum status status;     /* of the last run */
    struct error error;
};

struct shards {
    struct shards_options options;
    size_t state_count;
    size_t fetch_count;
    size_t count; /* of this rank's */
    struct shard *shards;
    const struct shards_window *window; /* of the run that goes on */
};

/* ---- carried state ---- */

enum status carried_state_init(struct carried_state *state, const struct language_model_options *model, size_t rows,
                               struct error *error)
{
    *state =
        (struct carried_state){.cell = model->cell, .count = model->layers * recurrent_cell_state_count(model->cell)};
    struct shape shape = shape_matrix((int64_t)rows, (int64_t)model->units);
    for (size_t i = 0; i < state->count; i++) {
        enum status status = tensor_init(&state->tensors[i], DTYPE_FLOAT32, &shape, error);
        if (status != STATUS_OK) {
            carried_state_release(state);
            return status;
        }
    }
    return STATUS_OK;
}

void carried_state_zero(struct carried_state *state)
{
    for (size_t i = 0; i < state->count; i++) {
        memset(state->tensors[i].data, 0, tensor_bytes(&state->tensors[i]));
    }
}

void carried_state_release(struct carried_state *state)
{
    for (size_t i = 0; i < state->count; i++) {
        tensor_release(&state->tensors[i]);
    }
    *state = (struct carried_state){0};
}

/* ---- making ---- */

static enum status find_state(const struct shards_options *options, const char *which, size_t index,
                              struct output *ret_output, struct error *error)
{
    char place[RECURRENT_STATE_NAME_BYTES_MAX];
    char name[64];
    snprintf(name, sizeof name, "train/%s_state/%s:0", which, recurrent_state_name(options->state->cell, index, place));
    return graph_find_output(options->graph, name, ret_output, error);
}

static enum status compile(const struct shards *shards, const struct shard *shard, struct plan **ret_plan,
                           struct error *error)
{
    const struct shards_options *options = &shards->options;
    struct output feeds[FEEDS_MAX];
    struct shape shapes[FEEDS_MAX];
    struct output fetches[FETCH_STATE + STATES_MAX + TRAIN_STEP_VARIABLES_MAX];
    TRY(graph_find_output(options->graph, "train/inputs:0", &feeds[FEED_INPUTS], error));
    TRY(graph_find_output(options->graph, "train/targets:0", &feeds[FEED_TARGETS], error));
    TRY(graph_find_output(options->graph, "train/keep_probability:0", &feeds[FEED_KEEP], error));
    TRY(graph_find_output(options->graph, "train/label_smoothing:0", &feeds[FEED_SMOOTHING], error));
    TRY(graph_find_output(options->graph, "train/loss:0", &fetches[FETCH_LOSS], error));
    for (size_t i = 0; i < shards->state_count; i++) {
        TRY(find_state(options, "initial", i, &feeds[FEED_STATE + i], error));
        TRY(find_state(options, "final", i, &fetches[FETCH_STATE + i], error));
    }
    for (size_t i = 0; options->step && i < options->step->variable_count; i++) {
        fetches[FETCH_STATE + shards->state_count + i] = options->step->gradients[i];
    }
    for (size_t i = 0; i < FEED_STATE + shards->state_count; i++) {
        shapes[i] = shard->feeds[i].shape;
    }
    struct plan_options plan = {.feeds = feeds,
                                .feed_shapes = shapes,
                                .feed_count = FEED_STATE + shards->state_count,
                                .fetches = fetches,
                                .fetch_count = shards->fetch_count};
    return plan_create(options->graph, &plan, ret_plan, error);
}

/* Rows of the carried state that are this shard's, in place: rows are contiguous. */
static struct tensor state_rows(const struct tensor *state, size_t row_begin, size_t row_count)
{
    struct tensor rows = *state;
    rows.shape.dimensions[0] = (int64_t)row_count;
    rows.data = (float *)state->data + row_begin * (size_t)state->shape.dimensions[1];
    return rows;
}

static enum status make_shard(struct shards *shards, size_t at, struct error *error)
{
    const struct shards_options *options = &shards->options;
    struct shard *shard = &shards->shards[at];
    size_t symbols = shard->row_count * options->time;
    shard->inputs = mem_allocate_aligned(symbols, sizeof *shard->inputs);
    shard->targets = mem_allocate_aligned(symbols, sizeof *shard->targets);
    shard->fetches = mem_allocate(shards->fetch_count, sizeof *shard->fetches);
    if (!shard->inputs || !shard->targets || !shard->fetches) {
        return error_set(error, STATUS_NO_MEMORY, "training: no memory for a shard of %zu rows", shard->row_count);
    }
    struct shape shape = shape_matrix((int64_t)shard->row_count, (int64_t)options->time);
    shard->feeds[FEED_INPUTS] = (struct tensor){DTYPE_INT32, shape, shard->inputs};
    shard->feeds[FEED_TARGETS] = (struct tensor){DTYPE_INT32, shape, shard->targets};
    shard->feeds[FEED_KEEP] = (struct tensor){DTYPE_FLOAT32, shape_scalar(), &shard->keep_probability};
    shard->feeds[FEED_SMOOTHING] = (struct tensor){DTYPE_FLOAT32, shape_scalar(), &shard->label_smoothing};
    for (size_t i = 0; i < shards->state_count; i++) {
        shard->feeds[FEED_STATE + i] = state_rows(&options->state->tensors[i], shard->row_begin, shard->row_count);
    }
    if (at > 0 && shards->shards[at - 1].row_count == shard->row_count) {
        shard->plan = plan_ref(shards->shards[at - 1].plan);
    } else {
        TRY(compile(shards, shard, &shard->plan, error));
    }
    return workspace_create(shard->plan, &shard->workspace, error);
}

enum status shards_create(const struct shards_options *options, struct shards **ret_shards, struct error *error)
{
    CHECK(options->count > 0 && options->count <= options->rows && options->time > 0);
    struct shards *shards = mem_allocate(1, sizeof *shards);
    if (!shards) {
        return error_set(error, STATUS_NO_MEMORY, "training: no memory");
    }
    shards->options = *options;
    shards->state_count = options->state->count;
    shards->fetch_count = FETCH_STATE + shards->state_count + (options->step ? options->step->variable_count : 0);
    shards->shards = mem_allocate(options->count, sizeof *shards->shards);
    enum status status = shards->shards ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "training: no memory");
    size_t row = 0;
    for (size_t i = 0; i < options->count && status == STATUS_OK; i++) {
        size_t row_count = options->rows / options->count + (i < options->rows % options->count);
        if (i % ranks_count() == ranks_index()) {
            shards->shards[shards->count] = (struct shard){.index = i, .row_begin = row, .row_count = row_count};
            status = make_shard(shards, shards->count++, error);
        }
        row += row_count;
    }
    if (status != STATUS_OK) {
        shards_destroy(shards);
        return status;
    }
    *ret_shards = shards;
    return STATUS_OK;
}

void shards_destroy(struct shards *shards)
{
    if (!shards) {
        return;
    }
    for (size_t i = 0; shards->shards && i < shards->count; i++) {
        struct shard *shard = &shards->shards[i];
        workspace_destroy(shard->workspace);
        plan_unref(shard->plan);
        mem_free(shard->inputs);
        mem_free(shard->targets);
        mem_free(shard->fetches);
    }
    mem_free(shards->shards);
    mem_free(shards);
}

/* ---- running ---- */

static void run_shard(void *context, size_t at)
{
    struct shards *shards = context;
    const struct shards_window *window = shards->window;
    struct shard *shard = &shards->shards[at];
    shard->status = batches_fill(window->batches, shard->row_begin, shard->row_count, window->time_begin,
                                 shards->options.time, shard->inputs, shard->targets, &shard->error);
    if (shard->status != STATUS_OK) {
        return;
    }
    shard->keep_probability = window->keep_probability;
    shard->label_smoothing = window->label_smoothing;
    struct rng_words words = rng_philox(window->seed, shard->index, window->step);
    struct run_options run = {.feeds = shard->feeds, .random_key = (uint64_t)words.word[1] << 32 | words.word[0]};
    shard->status =
        plan_run(shard->plan, shard->workspace, shards->options.values, &run, shard->fetches, &shard->error);
    for (size_t i = 0; i < shards->state_count && shard->status == STATUS_OK; i++) {
        struct tensor *state = &shard->feeds[FEED_STATE + i];
        memmove(state->data, shard->fetches[FETCH_STATE + i].data, tensor_bytes(state));
    }
}

enum status shards_run(struct shards *shards, const struct shards_window *window, double *ret_loss, struct error *error)
{
    shards->window = window;
    trainer_threads_run(shards->options.threads, shards->count, run_shard, shards);
    double loss = 0;
    for (size_t i = 0; i < shards->count; i++) {
        const struct shard *shard = &shards->shards[i];
        if (shard->status != STATUS_OK) {
            if (error) {
                *error = shard->error;
            }
            return shard->status;
        }
        loss += (double)shard->row_count * (double)*(const float *)shard->fetches[FETCH_LOSS].data;
    }
    ranks_sum_numbers(&loss, 1);
    *ret_loss = loss / (double)shards->options.rows;
    return STATUS_OK;
}

/* What others have is 0 here, and the other way round: the sum is each row's own state. */
void shards_gather_state(struct shards *shards)
{
    struct carried_state *state = shards->options.state;
    if (ranks_count() == 1) {
        return;
    }
    for (size_t i = 0; i < state->count; i++) {
        struct tensor *tensor = &state->tensors[i];
        size_t row_bytes = tensor_bytes(tensor) / shards->options.rows;
        size_t row = 0;
        for (size_t shard = 0; shard <= shards->count; shard++) {
            bool is_last = shard == shards->count;
            size_t own = is_last ? shards->options.rows : shards->shards[shard].row_begin;
            memset((char *)tensor->data + row * row_bytes, 0, (own - row) * row_bytes);
            row = is_last ? own : own + shards->shards[shard].row_count;
        }
        ranks_sum(tensor->data, tensor_element_count(tensor));
    }
}

size_t shards_count(const struct shards *shards)
{
    return shards->count;
}

float shards_weight(const struct shards *shards, size_t index)
{
    return (float)shards->shards[index].row_count / (float)shards->options.rows;
}

const float *shards_gradient(const struct shards *shards, size_t index, size_t variable)
{
    return shards->shards[index].fetches[FETCH_STATE + shards->state_count + variable].data;
}
