/* One decode step as phases. Threads: see the header; items run on whichever thread takes them. Owns the logits
 * workspace.
 *
 * An item of a layer is one block of units × a group of rows, blocks outermost: a thread's own slice of the items is
 * then the same part of the weights at every step. Logits are made and used chunk by chunk of rows, so that the
 * workspace does not grow with the vocabulary. */
#include "engine/decode/decode_batch.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/decode_plan_layout.h"

enum {
    ROWS_PER_ITEM_MAX = 48,
    WORKSPACE_FLOATS =
        2 * (DECODE_SYMBOLS_MAX + RNN_VECTORS * RNN_LANES_MAX), /* one row at least: logits and weights */
    STEPPED_ROWS_MAX = 8,                                       /* such rows are slow, and others wait for their step */
    SMALL_PHASE_NS = 2500, /* below, sharing gains no more than it costs (2 threads, 2 layers of 48 to 512 units) */
    CACHE_BYTES_PER_NS = 100,
    WORDS_MULTIPLIED_PER_NS = 100,
    NS_PER_ROW_SAMPLED = 200,
    RESIDUAL_ROWS = 4,  /* of an item */
    APART_ROWS_MIN = 4, /* of weights that each core's own cache holds; the more weights, the more rows to read them for
                           (measured with 1 to 53 MB) */
    APART_ROWS_MAX = 64,
    APART_BYTES_PER_ROW = 512 << 10,
};

enum stage { STAGE_LAYERS, STAGE_LOGITS, STAGE_ROWS, STAGE_STEPS, STAGE_OVER };

struct decode_batch {
    const struct decode_plan *plan;
    size_t row_count;
    size_t listener_count; /* rows that want logits */
    enum stage stage;
    size_t part_count;  /* parts of layers begun: the current one is the last of them */
    size_t chunk_begin; /* STAGE_LOGITS, STAGE_ROWS: the current listeners; STAGE_STEPS: the current rows */
    size_t chunk_count;
    size_t group_count; /* of rows, in the current phase */
    size_t group_rows;
    float *workspace;
    struct generation *rows[DECODE_BATCH_ROWS_MAX];
    struct generation *listeners[DECODE_BATCH_ROWS_MAX];
    struct rnn_layer_row layer_rows[DECODE_BATCH_ROWS_MAX];
    struct rnn_dense_row dense_rows[DECODE_BATCH_ROWS_MAX];
};

enum status decode_batch_create(struct decode_batch **ret_batch, struct error *error)
{
    struct decode_batch *batch = mem_allocate(1, sizeof *batch);
    float *workspace = mem_allocate_sparse(WORKSPACE_FLOATS, sizeof *workspace); /* untouched pages cost nothing */
    if (batch == NULL || workspace == NULL) {
        mem_free(batch);
        mem_free(workspace);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a batch");
    }
    batch->workspace = workspace;
    batch->stage = STAGE_OVER;
    *ret_batch = batch;
    return STATUS_OK;
}

void decode_batch_destroy(struct decode_batch *batch)
{
    if (batch != NULL) {
        mem_free(batch->workspace);
        mem_free(batch);
    }
}

size_t decode_batch_rows_max(const struct decode_plan *plan)
{
    return decode_plan_is_stepped(plan) ? STEPPED_ROWS_MAX : DECODE_BATCH_ROWS_MAX;
}

size_t decode_batch_rows_apart(const struct decode_plan *plan)
{
    size_t rows = APART_ROWS_MIN + plan->step_bytes / APART_BYTES_PER_ROW;
    rows = rows < APART_ROWS_MAX ? rows : APART_ROWS_MAX;
    return decode_plan_is_stepped(plan) ? SIZE_MAX : rows;
}

void decode_batch_begin(struct decode_batch *batch, const struct decode_plan *plan)
{
    CHECK(batch->stage == STAGE_OVER);
    batch->plan = plan;
    batch->row_count = 0;
    batch->listener_count = 0;
    batch->part_count = 0;
    batch->chunk_begin = 0;
    batch->chunk_count = 0;
    batch->stage = decode_plan_is_stepped(plan) ? STAGE_STEPS : STAGE_LAYERS;
}

void decode_batch_add(struct decode_batch *batch, struct generation *row)
{
    CHECK(batch->row_count < DECODE_BATCH_ROWS_MAX && row->plan == batch->plan);
    batch->rows[batch->row_count++] = row;
    if (generation_row_wants_logits(row)) {
        batch->listeners[batch->listener_count++] = row;
    }
}

struct generation *const *decode_batch_rows(const struct decode_batch *batch, size_t *ret_count)
{
    *ret_count = batch->row_count;
    return batch->rows;
}

/* The rows of group `group` among `row_count`. */
static size_t group_length(const struct decode_batch *batch, size_t begin, size_t row_count)
{
    size_t left = row_count - begin;
    return left < batch->group_rows ? left : batch->group_rows;
}

static void run_phase_item(void *context, size_t item)
{
    struct decode_batch *batch = context;
    const struct decode_plan *plan = batch->plan;
    if (batch->stage == STAGE_ROWS) {
        float *logits = batch->dense_rows[item].output;
        generation_row_advance(batch->listeners[batch->chunk_begin + item], plan->kernels, logits,
                               logits + plan->logits_stride);
        return;
    }
    size_t block = item / batch->group_count;
    size_t begin = item % batch->group_count * batch->group_rows;
    if (batch->stage == STAGE_LAYERS && plan->parts[batch->part_count - 1].is_residual) {
        for (size_t i = begin; i < begin + group_length(batch, begin, batch->row_count); i++) {
            struct generation *row = batch->rows[i];
            decode_plan_add_residual(plan, batch->part_count - 1, row->slot, row->parity, generation_row_symbol(row));
        }
    } else if (batch->stage == STAGE_LAYERS) {
        const struct rnn_layer *layer = &plan->parts[batch->part_count - 1].weights;
        layer->steps->layer(layer, block, batch->layer_rows + begin, group_length(batch, begin, batch->row_count));
    } else {
        plan->output.steps->dense(&plan->output, block, batch->dense_rows + begin,
                                  group_length(batch, begin, batch->chunk_count));
    }
}

/* ---- plans that are stepped: whole rows are the items ---- */

static void step_row(void *context, size_t item)
{
    struct decode_batch *batch = context;
    float *logits = batch->workspace + item * 2 * batch->plan->logits_stride;
    generation_row_step(batch->rows[batch->chunk_begin + item], logits, logits + batch->plan->logits_stride);
}

static struct thread_team_phase begin_steps(struct decode_batch *batch)
{
    size_t left = batch->row_count - batch->chunk_begin;
    size_t fitting = WORKSPACE_FLOATS / (2 * batch->plan->logits_stride);
    batch->chunk_count = left < fitting ? left : fitting;
    return (struct thread_team_phase){.run = step_row, .context = batch, .item_count = batch->chunk_count};
}

/* ---- packed plans ---- */

/* A phase over `block_count` blocks of `block_words` words of weights for `row_count` rows. */
static struct thread_team_phase make_phase(struct decode_batch *batch, size_t block_count, size_t block_words,
                                           size_t row_count)
{
    CHECK(row_count > 0);
    batch->group_count = (row_count + ROWS_PER_ITEM_MAX - 1) / ROWS_PER_ITEM_MAX;
    batch->group_rows = (row_count + batch->group_count - 1) / batch->group_count;
    size_t words = block_count * block_words;
    size_t ns = words * RNN_WORD_BYTES / CACHE_BYTES_PER_NS + words * row_count / WORDS_MULTIPLIED_PER_NS;
    return (struct thread_team_phase){.run = run_phase_item,
                                      .context = batch,
                                      .item_count = block_count * batch->group_count,
                                      .is_alone = ns < SMALL_PHASE_NS};
}

/* A phase over groups of rows, whose items have no weights. */
static struct thread_team_phase begin_residual(struct decode_batch *batch, const struct decode_layer *layer)
{
    batch->group_rows = RESIDUAL_ROWS;
    batch->group_count = (batch->row_count + RESIDUAL_ROWS - 1) / RESIDUAL_ROWS;
    return (struct thread_team_phase){.run = run_phase_item,
                                      .context = batch,
                                      .item_count = batch->group_count,
                                      .is_alone = batch->row_count * layer->units < SMALL_PHASE_NS};
}

static struct thread_team_phase begin_part(struct decode_batch *batch)
{
    size_t index = batch->part_count++;
    const struct decode_part *part = &batch->plan->parts[index];
    if (part->is_residual) {
        return begin_residual(batch, &batch->plan->layers[part->layer]);
    }
    const struct rnn_layer *layer = &part->weights;
    for (size_t i = 0; i < batch->row_count; i++) {
        struct generation *row = batch->rows[i];
        batch->layer_rows[i] = decode_plan_row(batch->plan, index, row->slot, row->parity, generation_row_symbol(row));
    }
    size_t block_words = (layer->input_words + layer->hidden_words) * RNN_VECTORS * layer->steps->lanes;
    return make_phase(batch, layer->block_count, block_words, batch->row_count);
}

static struct thread_team_phase begin_logits(struct decode_batch *batch)
{
    const struct rnn_dense *output = &batch->plan->output;
    size_t row_floats = 2 * batch->plan->logits_stride;
    size_t left = batch->listener_count - batch->chunk_begin;
    size_t fitting = WORKSPACE_FLOATS / row_floats;
    batch->chunk_count = left < fitting ? left : fitting;
    for (size_t i = 0; i < batch->chunk_count; i++) {
        const struct generation *row = batch->listeners[batch->chunk_begin + i];
        batch->dense_rows[i] =
            decode_plan_output_row(batch->plan, row->slot, row->parity, batch->workspace + i * row_floats);
    }
    size_t block_words = output->input_words * RNN_VECTORS * output->steps->lanes;
    return make_phase(batch, output->block_count, block_words, batch->chunk_count);
}

static struct thread_team_phase begin_rows(struct decode_batch *batch)
{
    size_t ns = batch->chunk_count * (NS_PER_ROW_SAMPLED + batch->plan->vocabulary_size);
    return (struct thread_team_phase){
        .run = run_phase_item, .context = batch, .item_count = batch->chunk_count, .is_alone = ns < SMALL_PHASE_NS};
}

/* Rows without logits have nothing to choose: they advance at the end, all on one thread. */
static void advance_silent_rows(struct decode_batch *batch)
{
    size_t listener = 0;
    for (size_t i = 0; i < batch->row_count; i++) {
        if (listener < batch->listener_count && batch->listeners[listener] == batch->rows[i]) {
            listener++;
        } else {
            generation_row_advance(batch->rows[i], batch->plan->kernels, NULL, NULL);
        }
    }
}

bool decode_batch_next_phase(struct decode_batch *batch, struct thread_team_phase *ret_phase)
{
    switch (batch->stage) {
    case STAGE_LAYERS:
        if (batch->part_count < batch->plan->part_count) {
            *ret_phase = begin_part(batch);
            return true;
        }
        break;
    case STAGE_LOGITS:
        batch->stage = STAGE_ROWS;
        *ret_phase = begin_rows(batch);
        return true;
    case STAGE_ROWS: batch->chunk_begin += batch->chunk_count; break;
    case STAGE_STEPS:
        batch->chunk_begin += batch->chunk_count;
        if (batch->chunk_begin < batch->row_count) {
            *ret_phase = begin_steps(batch);
            return true;
        }
        batch->stage = STAGE_OVER;
        return false;
    case STAGE_OVER: return false;
    }
    if (batch->chunk_begin < batch->listener_count) {
        batch->stage = STAGE_LOGITS;
        *ret_phase = begin_logits(batch);
        return true;
    }
    advance_silent_rows(batch);
    batch->stage = STAGE_OVER;
    return false;
}

static void run_whole(void *context, size_t item)
{
    struct decode_batch *batch = context;
    struct thread_team_phase phase;
    (void)item;
    while (decode_batch_next_phase(batch, &phase)) {
        thread_team_run_phase(&phase);
    }
}

struct thread_team_phase decode_batch_whole_phase(struct decode_batch *batch)
{
    return (struct thread_team_phase){.run = run_whole, .context = batch, .item_count = 1, .is_alone = true};
}

bool decode_batch_run(struct decode_batch *batch, const struct decode_plan *plan, struct generation *const *rows,
                      size_t row_count)
{
    size_t ready = 0;
    decode_batch_begin(batch, plan);
    for (size_t i = 0; i < row_count; i++) {
        bool is_over = generation_progress(rows[i]).finish != FINISH_NONE;
        if (!is_over && generation_row_settle(rows[i], 0) == GENERATION_ROW_READY) {
            decode_batch_add(batch, rows[i]);
            ready++;
        }
    }
    batch->stage = ready > 0 ? batch->stage : STAGE_OVER;
    run_whole(batch, 0);
    return ready > 0;
}
