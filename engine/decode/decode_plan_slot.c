/* Where a row's state lies in its slot, and what a step reads and writes of it. Thread: any; a slot is one row's. */
#include "engine/decode/decode_plan_layout.h"

#include <math.h>

#include "engine/base/mem.h"

enum { SLOT_ALIGNMENT_FLOATS = MEM_ALIGNMENT_BYTES / sizeof(float), RESIDUAL_CHUNK = 64 };

size_t decode_plan_state_bytes(const struct decode_plan *plan)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->layer_count; i++) {
        count += (plan->layers[i].cell == DECODE_CELL_LSTM ? 2 : 1) * plan->layers[i].units;
    }
    return plan->stepper.step != NULL ? plan->stepper.state_bytes : count * sizeof(float);
}

/* A layer's h: the current one for the parity, the one a step writes for the other parity. */
static void *slot_hidden(const struct decode_layer *layer, float *slot, unsigned parity)
{
    return slot + layer->hidden_offset + parity * layer->hidden_stride;
}

void decode_plan_reset_slot(const struct decode_plan *plan, float *slot)
{
    memset(slot, 0, plan->slot_floats * sizeof *slot);
    if (plan->stepper.step != NULL) {
        plan->stepper.begin(plan->stepper.context, slot);
    }
    for (size_t i = 0; plan->precision == RNN_PRECISION_INT8 && i < plan->layer_count; i++) {
        const struct decode_layer *layer = &plan->layers[i];
        memset(slot_hidden(layer, slot, 0), RNN_INT8_ZERO, 2 * layer->hidden_stride * sizeof *slot);
    }
}

/* What a layer gives those above it in this step, in the plan's precision. */
static const void *layer_output(const struct decode_plan *plan, const struct decode_layer *layer, float *slot,
                                unsigned parity, float *ret_scale)
{
    *ret_scale = 1;
    if (!layer->is_residual) {
        return slot_hidden(layer, slot, parity ^ 1);
    }
    if (plan->precision == RNN_PRECISION_FP32) {
        return slot + plan->sum_offset;
    }
    *ret_scale = slot[plan->packed_offset];
    return slot + plan->packed_offset + SLOT_ALIGNMENT_FLOATS;
}

void decode_plan_add_residual(const struct decode_plan *plan, size_t part, float *slot, unsigned parity,
                              uint32_t symbol)
{
    const struct decode_layer *layer = &plan->layers[plan->parts[part].layer];
    float *sum = slot + plan->sum_offset;
    if (plan->parts[part].layer == 0) {
        memcpy(sum, plan->first_input + symbol * plan->embedding_size, layer->units * sizeof *sum);
    } else if (!layer[-1].is_residual) {
        rnn_read_hidden(plan->precision, slot_hidden(layer - 1, slot, parity ^ 1), layer->units, sum);
    }
    const char *hidden = slot_hidden(layer, slot, parity ^ 1);
    for (size_t at = 0; at < layer->units; at += RESIDUAL_CHUNK) {
        size_t left = layer->units - at;
        size_t count = left < RESIDUAL_CHUNK ? left : RESIDUAL_CHUNK;
        float values[RESIDUAL_CHUNK];
        rnn_read_hidden(plan->precision, hidden + rnn_hidden_bytes(plan->precision, at), count, values);
        for (size_t i = 0; i < count; i++) {
            sum[at + i] += values[i];
        }
    }
    if (plan->precision != RNN_PRECISION_FP32) {
        float *packed = slot + plan->packed_offset;
        *packed = rnn_pack_input(plan->precision, sum, layer->units, packed + SLOT_ALIGNMENT_FLOATS);
    }
}

struct rnn_layer_row decode_plan_row(const struct decode_plan *plan, size_t part, float *slot, unsigned parity,
                                     uint32_t symbol)
{
    const struct rnn_layer *weights = &plan->parts[part].weights;
    const struct decode_layer *layer = &plan->layers[plan->parts[part].layer];
    struct rnn_layer_row row = {
        .start = weights->start,
        .hidden = slot_hidden(layer, slot, parity),
        .hidden_next = slot_hidden(layer, slot, parity ^ 1),
        .cell = slot + layer->cell_offset,
        .update = slot + plan->update_offset,
    };
    if (weights->kind == RNN_KIND_GRU_GATES) {
        row.hidden_next = slot + plan->reset_offset;
    } else if (weights->kind == RNN_KIND_GRU_CANDIDATE) {
        row.hidden = slot + plan->reset_offset;
    }
    if (plan->parts[part].layer > 0) {
        row.input = layer_output(plan, layer - 1, slot, parity, &row.input_scale);
    } else if (plan->table != NULL) {
        row.start = plan->table + symbol * plan->table_stride + plan->parts[part].table_offset;
    } else {
        row.input = (const uint32_t *)plan->embedding + symbol * plan->embedding_words;
        row.input_scale = plan->embedding_scales == NULL ? 1 : plan->embedding_scales[symbol];
    }
    rnn_layer_begin_row(weights, &row);
    return row;
}

struct rnn_dense_row decode_plan_output_row(const struct decode_plan *plan, float *slot, unsigned parity, float *logits)
{
    struct rnn_dense_row row = {0};
    row.output = logits;
    row.input = layer_output(plan, &plan->layers[plan->layer_count - 1], slot, parity, &row.input_scale);
    rnn_dense_begin_row(&plan->output, &row);
    return row;
}

/* Where the state before a step that begins with `parity` lies, in floats, of a plan that is stepped. */
static size_t stepped_offset(const struct decode_plan *plan, unsigned parity)
{
    return parity * plan->stepper.state_bytes / sizeof(float);
}

enum status decode_plan_step_row(const struct decode_plan *plan, float *slot, unsigned parity, uint32_t symbol,
                                 uint64_t random_key, float *logits, struct error *error)
{
    struct stepper_step step = {.symbol = symbol, .random_key = random_key};
    step.state = slot + stepped_offset(plan, parity);
    step.next_state = slot + stepped_offset(plan, parity ^ 1);
    step.logits = logits;
    return plan->stepper.step(plan->stepper.context, &step, error);
}

void decode_plan_save_state(const struct decode_plan *plan, const float *slot, unsigned parity, void *state)
{
    float *numbers = state;
    if (plan->stepper.step != NULL) {
        memcpy(state, slot + stepped_offset(plan, parity), plan->stepper.state_bytes);
    }
    for (size_t i = 0; i < plan->layer_count; i++) {
        const struct decode_layer *layer = &plan->layers[i];
        if (layer->cell != DECODE_CELL_RNN) {
            memcpy(numbers, slot + layer->cell_offset, layer->units * sizeof *numbers);
            numbers += layer->units;
        }
        if (layer->cell != DECODE_CELL_GRU) {
            rnn_read_hidden(plan->precision, slot + layer->hidden_offset + parity * layer->hidden_stride, layer->units,
                            numbers);
            numbers += layer->units;
        }
    }
}

static enum status check_numbers(const float *numbers, size_t count, struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(numbers[i])) {
            error_set(error, STATUS_INVALID, "number %zu of the state is not finite", i);
            return error_code(error, "state_malformed");
        }
    }
    return STATUS_OK;
}

/* Writes an h that a caller says: within ±1, as that of every cell is, which sums in pairs and int8 rely on. */
static void write_clamped(enum rnn_precision precision, const float *values, size_t count, char *hidden)
{
    enum { CHUNK = 64 };
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        float clamped[CHUNK];
        size_t here = count - begin < CHUNK ? count - begin : CHUNK;
        for (size_t i = 0; i < here; i++) {
            float value = values[begin + i];
            clamped[i] = value < -1 ? -1 : value > 1 ? 1 : value; /* inline, where fminf(3) may be a call */
        }
        rnn_write_hidden(precision, clamped, here, hidden + rnn_hidden_bytes(precision, begin));
    }
}

enum status decode_plan_load_state(const struct decode_plan *plan, const void *state, float *slot, struct error *error)
{
    const float *numbers = state;
    memset(slot, 0, plan->slot_floats * sizeof *slot);
    if (plan->stepper.step != NULL) {
        memcpy(slot, state, plan->stepper.state_bytes);
        return plan->stepper.check_state == NULL ? STATUS_OK
                                                 : plan->stepper.check_state(plan->stepper.context, slot, error);
    }
    TRY(check_numbers(numbers, decode_plan_state_bytes(plan) / sizeof *numbers, error));
    decode_plan_reset_slot(plan, slot);
    for (size_t i = 0; i < plan->layer_count; i++) {
        const struct decode_layer *layer = &plan->layers[i];
        if (layer->cell == DECODE_CELL_LSTM) {
            memcpy(slot + layer->cell_offset, numbers, layer->units * sizeof *numbers);
            numbers += layer->units;
        } else if (layer->cell == DECODE_CELL_GRU) { /* its h, of which the narrow one is made */
            write_clamped(RNN_PRECISION_FP32, numbers, layer->units, (char *)(slot + layer->cell_offset));
        }
        write_clamped(plan->precision, numbers, layer->units, slot_hidden(layer, slot, 0));
        numbers += layer->units;
    }
    return STATUS_OK;
}

static void step_packed(const struct decode_plan *plan, float *slot, unsigned parity, uint32_t symbol, float *logits)
{
    for (size_t i = 0; i < plan->part_count; i++) {
        const struct rnn_layer *layer = &plan->parts[i].weights;
        if (plan->parts[i].is_residual) {
            decode_plan_add_residual(plan, i, slot, parity, symbol);
            continue;
        }
        struct rnn_layer_row row = decode_plan_row(plan, i, slot, parity, symbol);
        for (size_t block = 0; block < layer->block_count; block++) {
            layer->steps->layer(layer, block, &row, 1);
        }
    }
    struct rnn_dense_row row = decode_plan_output_row(plan, slot, parity, logits);
    for (size_t block = 0; block < plan->output.block_count; block++) {
        plan->output.steps->dense(&plan->output, block, &row, 1);
    }
}

enum status decode_plan_step_alone(const struct decode_plan *plan, float *slot, unsigned parity, uint32_t symbol,
                                   float *logits, struct error *error)
{
    if (plan->stepper.step != NULL) {
        return decode_plan_step_row(plan, slot, parity, symbol, 0, logits, error);
    }
    step_packed(plan, slot, parity, symbol, logits);
    return STATUS_OK;
}
