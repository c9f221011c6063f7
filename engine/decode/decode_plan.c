/* Packing a model's weights for generation. Thread: the loader's for creation, any for the rest. Owns the packed
 * copies. */
#include "engine/decode/decode_plan.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/decode_plan_layout.h"

enum { SLOT_ALIGNMENT_FLOATS = MEM_ALIGNMENT_BYTES / sizeof(float), TABLE_CHUNK_SYMBOLS = 64 };
enum { INT8_TERMS_MAX = 131072 }; /* × 127 × 127 fits 31 bits */

static enum status check_sizes(const struct decode_weights *weights, struct error *error)
{
    if (weights->vocabulary_size == 0 || weights->layer_count == 0) {
        return error_set(error, STATUS_INVALID, "a model of %zu symbols and %zu layers cannot generate",
                         weights->vocabulary_size, weights->layer_count);
    }
    if (weights->vocabulary_size > DECODE_SYMBOLS_MAX || weights->layer_count > DECODE_LAYERS_MAX) {
        return error_set(error, STATUS_LIMIT, "%zu symbols and %zu layers, at most %d and %d", weights->vocabulary_size,
                         weights->layer_count, DECODE_SYMBOLS_MAX, DECODE_LAYERS_MAX);
    }
    if ((weights->embedding == NULL) != (weights->embedding_size == 0) ||
        weights->embedding_size > DECODE_SYMBOLS_MAX) {
        return error_set(error, STATUS_INVALID, "embedding size %zu %s an embedding", weights->embedding_size,
                         weights->embedding == NULL ? "without" : "with");
    }
    if (weights->precision == RNN_PRECISION_INT8 && weights->embedding_size > INT8_TERMS_MAX) {
        return error_set(error, STATUS_LIMIT, "embedding size %zu, at most %d in int8", weights->embedding_size,
                         INT8_TERMS_MAX);
    }
    size_t input_size = weights->embedding_size > 0 ? weights->embedding_size : weights->vocabulary_size;
    for (size_t i = 0; i < weights->layer_count; i++) {
        const struct decode_layer_weights *layer = &weights->layers[i];
        if (layer->units == 0 || layer->units > DECODE_UNITS_MAX) {
            return error_set(error, layer->units == 0 ? STATUS_INVALID : STATUS_LIMIT,
                             "layer %zu has %zu units, not 1 to %d", i, layer->units, DECODE_UNITS_MAX);
        }
        if (layer->input_size != input_size) {
            return error_set(error, STATUS_INVALID, "layer %zu reads %zu inputs, but there are %zu", i,
                             layer->input_size, input_size);
        }
        input_size = layer->units;
    }
    return STATUS_OK;
}

static size_t layer_bytes(const struct rnn_lstm *layer)
{
    size_t words = layer->input_words + layer->hidden_words + 1;
    words += layer->scales == NULL ? 0 : 3; /* scales, offsets of inputs and of h */
    return layer->stride * RNN_GATES * words * RNN_WORD_BYTES;
}

static size_t output_bytes(const struct rnn_dense *output)
{
    return output->stride * (output->input_words + (output->scales == NULL ? 1 : 3)) * RNN_WORD_BYTES;
}

/* The gate sums of every symbol under an embedding, chunk by chunk through a dense layer [embedding_size, 4 × units],
 * whose sums are the ones that stepping with the gathered embedding would make. */
static enum status fill_embedded_table(const struct decode_plan *plan, const struct decode_weights *weights,
                                       const float *gates, struct error *error)
{
    const struct decode_layer_weights *from = &weights->layers[0];
    const struct rnn_lstm *layer = &plan->layers[0];
    struct rnn_dense dense;
    TRY(rnn_dense_init(&dense, &plan->kernels->fp32, weights->embedding_size, RNN_GATES * from->units, from->kernel,
                       gates, error));
    float *sums = mem_allocate_aligned(TABLE_CHUNK_SYMBOLS * dense.stride, sizeof *sums);
    if (sums == NULL) {
        rnn_dense_release(&dense);
        return error_set(error, STATUS_NO_MEMORY, "no memory for the input table");
    }
    struct rnn_dense_row rows[TABLE_CHUNK_SYMBOLS];
    for (size_t symbol = 0; symbol < weights->vocabulary_size; symbol += TABLE_CHUNK_SYMBOLS) {
        size_t left = weights->vocabulary_size - symbol;
        size_t count = left < TABLE_CHUNK_SYMBOLS ? left : TABLE_CHUNK_SYMBOLS;
        for (size_t i = 0; i < count; i++) {
            rows[i].input = weights->embedding + (symbol + i) * weights->embedding_size;
            rows[i].output = sums + i * dense.stride;
        }
        for (size_t block = 0; block < dense.block_count; block++) {
            dense.steps->dense(&dense, block, rows, count);
        }
        for (size_t i = 0; i < count; i++) {
            rnn_lstm_pack_start(layer, rows[i].output, plan->table + (symbol + i) * RNN_GATES * layer->stride);
        }
    }
    mem_free(sums);
    rnn_dense_release(&dense);
    return STATUS_OK;
}

/* One-hot: a symbol's gate sums are its kernel row plus the bias. `sums` is scratch, [4 × units]. */
static void fill_one_hot_table(const struct decode_plan *plan, const struct decode_weights *weights, const float *gates,
                               float *sums)
{
    const struct rnn_lstm *layer = &plan->layers[0];
    size_t gate_count = RNN_GATES * layer->units;
    for (size_t symbol = 0; symbol < weights->vocabulary_size; symbol++) {
        for (size_t n = 0; n < gate_count; n++) {
            sums[n] = gates[n] + weights->layers[0].kernel[symbol * gate_count + n];
        }
        rnn_lstm_pack_start(layer, sums, plan->table + symbol * RNN_GATES * layer->stride);
    }
}

static enum status make_table(struct decode_plan *plan, const struct decode_weights *weights, struct error *error)
{
    const struct decode_layer_weights *from = &weights->layers[0];
    size_t gate_count = RNN_GATES * from->units;
    size_t row_floats = RNN_GATES * plan->layers[0].stride;
    plan->table = mem_allocate_aligned_raw(plan->vocabulary_size * row_floats, sizeof(float));
    float *gates = mem_allocate(2 * gate_count, sizeof *gates);
    if (plan->table == NULL || gates == NULL) {
        mem_free(gates);
        return error_set(error, STATUS_NO_MEMORY, "no memory for an input table of %zu × %zu", plan->vocabulary_size,
                         row_floats);
    }
    for (size_t n = 0; n < gate_count; n++) {
        gates[n] = from->bias[n] + (n / from->units == RNN_GATE_FORGET ? from->forget_bias : 0.0f);
    }
    enum status status = STATUS_OK;
    if (weights->embedding_size > 0) {
        status = fill_embedded_table(plan, weights, gates, error);
    } else {
        fill_one_hot_table(plan, weights, gates, gates + gate_count);
    }
    mem_free(gates);
    plan->bytes += plan->vocabulary_size * row_floats * sizeof(float);
    return status;
}

static enum status pack_embedding(struct decode_plan *plan, const struct decode_weights *weights, struct error *error)
{
    bool is_int8 = plan->precision == RNN_PRECISION_INT8;
    plan->embedding_words = rnn_words(plan->precision, plan->embedding_size);
    plan->embedding = mem_allocate_aligned_raw(plan->vocabulary_size * plan->embedding_words, RNN_WORD_BYTES);
    plan->embedding_scales = is_int8 ? mem_allocate(plan->vocabulary_size, sizeof(float)) : NULL;
    if (plan->embedding == NULL || (is_int8 && plan->embedding_scales == NULL)) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for an embedding of %zu × %zu", weights->vocabulary_size,
                         weights->embedding_size);
    }
    for (size_t symbol = 0; symbol < plan->vocabulary_size; symbol++) {
        float scale =
            rnn_pack_input(plan->precision, weights->embedding + symbol * plan->embedding_size, plan->embedding_size,
                           (uint32_t *)plan->embedding + symbol * plan->embedding_words);
        if (is_int8) {
            plan->embedding_scales[symbol] = scale;
        }
    }
    plan->layers[0].is_input_scaled = is_int8;
    plan->bytes += plan->vocabulary_size * (plan->embedding_words + is_int8) * RNN_WORD_BYTES;
    return STATUS_OK;
}

/* What int8 would make of a NaN is a number: narrow precisions take finite weights only, and so do their tables. */
static enum status check_first_input(const struct decode_plan *plan, const struct decode_weights *weights,
                                     struct error *error)
{
    const float *values = plan->table != NULL ? plan->table : weights->embedding;
    size_t count =
        plan->vocabulary_size * (plan->table != NULL ? RNN_GATES * plan->layers[0].stride : weights->embedding_size);
    for (size_t n = 0; plan->precision != RNN_PRECISION_FP32 && n < count; n++) {
        if (!isfinite(values[n])) {
            error_set(error, STATUS_UNPROCESSABLE, "a weight of layer 0's input is not a finite number");
            error_code(error, "not_finite");
            return STATUS_UNPROCESSABLE;
        }
    }
    return STATUS_OK;
}

/* A table holds 4 × units floats a symbol; it replaces the embedding and the input rows of layer 0's kernel. */
static bool is_table_worth_it(const struct decode_weights *weights)
{
    size_t gate_count = RNN_GATES * weights->layers[0].units;
    size_t embedding_size = weights->embedding_size;
    return embedding_size == 0 || weights->vocabulary_size * gate_count <=
                                      weights->vocabulary_size * embedding_size + embedding_size * gate_count;
}

static size_t align_slot(size_t bytes)
{
    return (bytes + MEM_ALIGNMENT_BYTES - 1) / MEM_ALIGNMENT_BYTES * SLOT_ALIGNMENT_FLOATS;
}

/* Gives layer `index` its place in a slot. */
static void lay_out_slot(struct decode_plan *plan, size_t index)
{
    static const size_t item_bytes[] = {sizeof(float), sizeof(uint16_t), sizeof(uint8_t)};
    static_assert(sizeof item_bytes / sizeof *item_bytes == RNN_PRECISION_COUNT, "bytes of an h");
    size_t stride = plan->layers[index].stride;
    plan->slot_offsets[index] = plan->slot_floats;
    plan->hidden_offsets[index] = plan->slot_floats + align_slot(stride * sizeof(float));
    plan->hidden_strides[index] = align_slot(stride * item_bytes[plan->precision]);
    plan->slot_floats = plan->hidden_offsets[index] + 2 * plan->hidden_strides[index];
}

static enum status pack(struct decode_plan *plan, const struct decode_weights *weights, struct error *error)
{
    bool has_table = is_table_worth_it(weights);
    const struct rnn_steps *steps = rnn_kernels_steps(plan->kernels, plan->precision);
    for (size_t i = 0; i < weights->layer_count; i++) {
        const struct decode_layer_weights *from = &weights->layers[i];
        struct rnn_lstm *layer = &plan->layers[i];
        TRY(rnn_lstm_init(layer, steps, from->input_size, i == 0 && has_table ? from->input_size : 0, from->units,
                          from->kernel, from->bias, from->forget_bias, error));
        plan->layer_count = i + 1;
        plan->bytes += layer_bytes(layer);
        lay_out_slot(plan, i);
    }
    TRY(has_table ? make_table(plan, weights, error) : pack_embedding(plan, weights, error));
    TRY(check_first_input(plan, weights, error));
    TRY(rnn_dense_init(&plan->output, steps, weights->layers[weights->layer_count - 1].units, weights->vocabulary_size,
                       weights->softmax_w, weights->softmax_b, error));
    plan->bytes += output_bytes(&plan->output);
    return STATUS_OK;
}

enum status decode_plan_create(const struct decode_weights *weights, struct decode_plan **ret_plan, struct error *error)
{
    TRY(check_sizes(weights, error));
    const struct rnn_kernels *kernels = rnn_kernels_find(weights->kernels);
    if (kernels == NULL) {
        return error_set(error, STATUS_UNSUPPORTED, "this CPU cannot run the %s kernels", weights->kernels);
    }
    struct decode_plan *plan = mem_allocate(1, sizeof *plan);
    if (plan == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a decode plan");
    }
    plan->kernels = kernels;
    plan->precision = weights->precision;
    plan->vocabulary_size = weights->vocabulary_size;
    plan->embedding_size = weights->embedding_size;
    enum status status = pack(plan, weights, error);
    if (status != STATUS_OK) {
        decode_plan_destroy(plan);
        return status;
    }
    *ret_plan = plan;
    return STATUS_OK;
}

void decode_plan_destroy(struct decode_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    for (size_t i = 0; i < plan->layer_count; i++) {
        rnn_lstm_release(&plan->layers[i]);
    }
    rnn_dense_release(&plan->output);
    mem_free(plan->table);
    mem_free(plan->embedding);
    mem_free(plan->embedding_scales);
    mem_free(plan);
}

static enum status check_logits(const struct decode_plan *plan, float *slot, float *logits, struct error *error)
{
    for (size_t i = 0; i < plan->layer_count; i++) {
        struct rnn_lstm_row row = decode_plan_row(plan, i, slot, 0, 0);
        for (size_t block = 0; block < plan->layers[i].block_count; block++) {
            plan->layers[i].steps->lstm(&plan->layers[i], block, &row, 1);
        }
    }
    struct rnn_dense_row row = {.input = decode_plan_top(plan, slot, 0), .output = logits};
    for (size_t block = 0; block < plan->output.block_count; block++) {
        plan->output.steps->dense(&plan->output, block, &row, 1);
    }
    float maximum;
    if (!plan->kernels->find_maximum(logits, plan->vocabulary_size, &maximum)) {
        error_set(error, STATUS_UNPROCESSABLE, "the model's logits are not finite after symbol 0");
        error_code(error, "not_finite");
        return STATUS_UNPROCESSABLE;
    }
    return STATUS_OK;
}

enum status decode_plan_warm_up(const struct decode_plan *plan, struct error *error)
{
    float *slot = mem_allocate_aligned(plan->slot_floats + plan->output.stride, sizeof *slot);
    if (slot == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a state of %zu floats", plan->slot_floats);
    }
    decode_plan_reset_slot(plan, slot);
    enum status status = check_logits(plan, slot, slot + plan->slot_floats, error);
    mem_free(slot);
    return status;
}

size_t decode_plan_bytes(const struct decode_plan *plan)
{
    return plan->bytes;
}

size_t decode_plan_vocabulary_size(const struct decode_plan *plan)
{
    return plan->vocabulary_size;
}

enum rnn_precision decode_plan_precision(const struct decode_plan *plan)
{
    return plan->precision;
}

const char *decode_plan_kernels(const struct decode_plan *plan)
{
    return plan->output.steps->name;
}

size_t decode_plan_state_count(const struct decode_plan *plan)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->layer_count; i++) {
        count += 2 * plan->layers[i].units;
    }
    return count;
}

/* Layer `layer`'s h: the current one for the parity, the one a step writes for the other parity. */
static void *slot_hidden(const struct decode_plan *plan, size_t layer, float *slot, unsigned parity)
{
    return slot + plan->hidden_offsets[layer] + parity * plan->hidden_strides[layer];
}

void decode_plan_reset_slot(const struct decode_plan *plan, float *slot)
{
    memset(slot, 0, plan->slot_floats * sizeof *slot);
    for (size_t i = 0; plan->precision == RNN_PRECISION_INT8 && i < plan->layer_count; i++) {
        memset(slot_hidden(plan, i, slot, 0), RNN_INT8_ZERO, 2 * plan->hidden_strides[i] * sizeof *slot);
    }
}

struct rnn_lstm_row decode_plan_row(const struct decode_plan *plan, size_t layer, float *slot, unsigned parity,
                                    uint32_t symbol)
{
    struct rnn_lstm_row row = {
        .start = plan->layers[layer].start,
        .hidden = slot_hidden(plan, layer, slot, parity),
        .hidden_next = slot_hidden(plan, layer, slot, parity ^ 1),
        .cell = slot + plan->slot_offsets[layer],
    };
    if (layer > 0) {
        row.input = slot_hidden(plan, layer - 1, slot, parity ^ 1);
    } else if (plan->table != NULL) {
        row.start = plan->table + symbol * RNN_GATES * plan->layers[0].stride;
    } else {
        row.input = (const uint32_t *)plan->embedding + symbol * plan->embedding_words;
        row.input_scale = plan->embedding_scales == NULL ? 1 : plan->embedding_scales[symbol];
    }
    return row;
}

const void *decode_plan_top(const struct decode_plan *plan, const float *slot, unsigned parity)
{
    size_t top = plan->layer_count - 1;
    return slot + plan->hidden_offsets[top] + (parity ^ 1) * plan->hidden_strides[top];
}

void decode_plan_read_state(const struct decode_plan *plan, const float *slot, unsigned parity, float *state)
{
    for (size_t i = 0; i < plan->layer_count; i++) {
        size_t units = plan->layers[i].units;
        memcpy(state, slot + plan->slot_offsets[i], units * sizeof *state);
        rnn_read_hidden(plan->precision, slot + plan->hidden_offsets[i] + parity * plan->hidden_strides[i], units,
                        state + units);
        state += 2 * units;
    }
}
