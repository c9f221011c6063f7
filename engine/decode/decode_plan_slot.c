/* Where a row's state lies in its slot, and what a step reads and writes of it. Thread: any; a slot is one row's. */
#include "engine/decode/decode_plan_layout.h"

#include "engine/base/mem.h"

size_t decode_plan_state_count(const struct decode_plan *plan)
{
    size_t count = plan->stepper.state_count;
    for (size_t i = 0; i < plan->layer_count; i++) {
        count += (plan->layers[i].cell == DECODE_CELL_LSTM ? 2 : 1) * plan->layers[i].units;
    }
    return count;
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
        row.input = slot_hidden(layer - 1, slot, parity ^ 1);
    } else if (plan->table != NULL) {
        row.start = plan->table + symbol * plan->table_stride + plan->parts[part].table_offset;
    } else {
        row.input = (const uint32_t *)plan->embedding + symbol * plan->embedding_words;
        row.input_scale = plan->embedding_scales == NULL ? 1 : plan->embedding_scales[symbol];
    }
    return row;
}

const void *decode_plan_top(const struct decode_plan *plan, const float *slot, unsigned parity)
{
    const struct decode_layer *top = &plan->layers[plan->layer_count - 1];
    return slot + top->hidden_offset + (parity ^ 1) * top->hidden_stride;
}

/* Where the state before a step that begins with `parity` lies, in floats, of a plan that is stepped. */
static size_t stepped_offset(const struct decode_plan *plan, unsigned parity)
{
    return parity * plan->stepper.state_bytes / sizeof(float);
}

enum status decode_plan_step_row(const struct decode_plan *plan, float *slot, unsigned parity, uint32_t symbol,
                                 uint64_t random_key, float *logits, struct error *error)
{
    struct stepper_step step = {.symbol = symbol,
                                .random_key = random_key,
                                .state = slot + stepped_offset(plan, parity),
                                .next_state = slot + stepped_offset(plan, parity ^ 1),
                                .logits = logits};
    return plan->stepper.step(plan->stepper.context, &step, error);
}

void decode_plan_read_state(const struct decode_plan *plan, const float *slot, unsigned parity, float *state)
{
    if (plan->stepper.step != NULL) {
        plan->stepper.read_state(plan->stepper.context, slot + stepped_offset(plan, parity), state);
    }
    for (size_t i = 0; i < plan->layer_count; i++) {
        const struct decode_layer *layer = &plan->layers[i];
        if (layer->cell != DECODE_CELL_RNN) {
            memcpy(state, slot + layer->cell_offset, layer->units * sizeof *state);
            state += layer->units;
        }
        if (layer->cell != DECODE_CELL_GRU) {
            rnn_read_hidden(plan->precision, slot + layer->hidden_offset + parity * layer->hidden_stride, layer->units,
                            state);
            state += layer->units;
        }
    }
}

static void step_packed(const struct decode_plan *plan, float *slot, unsigned parity, uint32_t symbol, float *logits)
{
    for (size_t i = 0; i < plan->part_count; i++) {
        const struct rnn_layer *layer = &plan->parts[i].weights;
        struct rnn_layer_row row = decode_plan_row(plan, i, slot, parity, symbol);
        for (size_t block = 0; block < layer->block_count; block++) {
            layer->steps->layer(layer, block, &row, 1);
        }
    }
    struct rnn_dense_row row = {.input = decode_plan_top(plan, slot, parity), .output = logits};
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
