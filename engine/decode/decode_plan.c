/* Packing a model's weights for generation, or taking a stepper in their place. Thread: the loader's for creation, any
 * for the rest. Owns the packed copies. */
#include "engine/decode/decode_plan.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/decode_plan_layout.h"

enum { SLOT_ALIGNMENT_FLOATS = MEM_ALIGNMENT_BYTES / sizeof(float), TABLE_CHUNK_SYMBOLS = 64 };
enum { NEAR_BYTES_MAX = 20 << 20 }; /* what a last cache of 32 MiB gives at each step (measured with 12 to 53 MB) */
enum { INT8_TERMS_MAX = 131072 };   /* × 63 × 64 fits 31 bits */

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
        if (layer->is_residual && (layer->units != input_size || (i == 0 && weights->embedding == NULL))) {
            return error_set(error, STATUS_INVALID, "layer %zu has %zu units, but its residual connection %zu%s", i,
                             layer->units, input_size, weights->embedding == NULL && i == 0 ? " symbols" : " inputs");
        }
        input_size = layer->units;
    }
    if (weights->softmax_w == NULL && weights->embedding_size != input_size) {
        return error_set(error, STATUS_INVALID, "embedding size %zu cannot be tied to an output of %zu units",
                         weights->embedding_size, input_size);
    }
    return STATUS_OK;
}

/* ---- parts ---- */

static size_t part_count_of(enum decode_cell cell)
{
    return cell == DECODE_CELL_GRU ? 2 : 1;
}

/* Part `index` of a layer. */
static struct rnn_layer_weights part_weights(const struct decode_layer_weights *layer, size_t index)
{
    static const enum rnn_kind kinds[] = {
        [DECODE_CELL_LSTM] = RNN_KIND_LSTM, [DECODE_CELL_GRU] = RNN_KIND_GRU_GATES, [DECODE_CELL_RNN] = RNN_KIND_TANH};
    return (struct rnn_layer_weights){.kind = index == 0 ? kinds[layer->cell] : RNN_KIND_GRU_CANDIDATE,
                                      .input_size = layer->input_size,
                                      .units = layer->units,
                                      .kernel = index == 0 ? layer->kernel : layer->candidate_kernel,
                                      .bias = index == 0 ? layer->bias : layer->candidate_bias,
                                      .forget_bias = layer->forget_bias};
}

/* ---- layer 0's input ---- */

/* The gate sums of every symbol under an embedding, chunk by chunk through a dense layer [embedding_size, columns],
 * whose sums are the ones that stepping with the gathered embedding would make. `gates` is what they start from. */
static enum status fill_embedded_table(const struct decode_plan *plan, const struct decode_part *part,
                                       const struct decode_weights *weights, const struct rnn_layer_weights *from,
                                       const float *gates, struct error *error)
{
    struct rnn_dense dense;
    struct rnn_dense_weights inputs = {.input_size = weights->embedding_size,
                                       .columns = rnn_gate_count(from->kind) * from->units,
                                       .kernel = from->kernel,
                                       .bias = gates};
    TRY(rnn_dense_init(&dense, &plan->kernels->fp32, &inputs, error));
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
            rnn_layer_pack_start(&part->weights, rows[i].output,
                                 plan->table + (symbol + i) * plan->table_stride + part->table_offset);
        }
    }
    mem_free(sums);
    rnn_dense_release(&dense);
    return STATUS_OK;
}

/* One-hot: a symbol's gate sums are its kernel row plus the bias. `sums` is scratch, of all columns. */
static void fill_one_hot_table(const struct decode_plan *plan, const struct decode_part *part,
                               const struct rnn_layer_weights *from, const float *gates, float *sums)
{
    size_t columns = rnn_gate_count(from->kind) * from->units;
    for (size_t symbol = 0; symbol < plan->vocabulary_size; symbol++) {
        for (size_t n = 0; n < columns; n++) {
            sums[n] = gates[n] + from->kernel[symbol * columns + n];
        }
        rnn_layer_pack_start(&part->weights, sums, plan->table + symbol * plan->table_stride + part->table_offset);
    }
}

static enum status fill_table(const struct decode_plan *plan, const struct decode_part *part,
                              const struct decode_weights *weights, const struct rnn_layer_weights *from,
                              struct error *error)
{
    size_t columns = rnn_gate_count(from->kind) * from->units;
    float *gates = mem_allocate(2 * columns, sizeof *gates);
    if (gates == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the input table");
    }
    rnn_layer_bias(from, gates);
    enum status status = STATUS_OK;
    if (weights->embedding_size > 0) {
        status = fill_embedded_table(plan, part, weights, from, gates, error);
    } else {
        fill_one_hot_table(plan, part, from, gates, gates + columns);
    }
    mem_free(gates);
    return status;
}

static enum status make_table(struct decode_plan *plan, const struct decode_weights *weights, struct error *error)
{
    size_t part_count = part_count_of(weights->layers[0].cell);
    for (size_t i = 0; i < part_count; i++) {
        plan->parts[i].table_offset = plan->table_stride;
        plan->table_stride += plan->parts[i].weights.column_stride;
    }
    plan->table = mem_allocate_aligned_raw(plan->vocabulary_size * plan->table_stride, sizeof(float));
    if (plan->table == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for an input table of %zu × %zu", plan->vocabulary_size,
                         plan->table_stride);
    }
    for (size_t i = 0; i < part_count; i++) {
        struct rnn_layer_weights from = part_weights(&weights->layers[0], i);
        TRY(fill_table(plan, &plan->parts[i], weights, &from, error));
    }
    return STATUS_OK;
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
    return STATUS_OK;
}

/* A residual layer 0 adds what it reads. */
static enum status keep_first_input(struct decode_plan *plan, const struct decode_weights *weights, struct error *error)
{
    size_t count = weights->vocabulary_size * weights->embedding_size;
    plan->first_input = mem_allocate_aligned_raw(count, sizeof *plan->first_input);
    if (plan->first_input == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for an embedding of %zu × %zu", weights->vocabulary_size,
                         weights->embedding_size);
    }
    memcpy(plan->first_input, weights->embedding, count * sizeof *plan->first_input);
    return STATUS_OK;
}

/* What int8 would make of a NaN is a number: narrow precisions take finite weights only, and so do their tables. */
static enum status check_first_input(const struct decode_plan *plan, const struct decode_weights *weights,
                                     struct error *error)
{
    const float *values = plan->table != NULL ? plan->table : weights->embedding;
    size_t count = plan->vocabulary_size * (plan->table != NULL ? plan->table_stride : weights->embedding_size);
    for (size_t n = 0; plan->precision != RNN_PRECISION_FP32 && n < count; n++) {
        if (!isfinite(values[n])) {
            error_set(error, STATUS_UNPROCESSABLE, "a weight of layer 0's input is not a finite number");
            error_code(error, "not_finite");
            return STATUS_UNPROCESSABLE;
        }
    }
    return STATUS_OK;
}

/* A table holds a float a symbol and column; it replaces the embedding and the input rows of layer 0's kernels, which
 * no step then has to read: of 2 × 650 units over 10,000 words an eighth of all it reads. That is worth some memory. */
static bool is_table_worth_it(const struct decode_weights *weights)
{
    size_t columns = 0;
    for (size_t i = 0; i < part_count_of(weights->layers[0].cell); i++) {
        columns += rnn_gate_count(part_weights(&weights->layers[0], i).kind) * weights->layers[0].units;
    }
    size_t table_bytes = weights->vocabulary_size * columns * sizeof(float);
    size_t replaced_bytes =
        (weights->vocabulary_size + columns) * rnn_words(weights->precision, weights->embedding_size) * RNN_WORD_BYTES;
    return weights->embedding_size == 0 || table_bytes <= replaced_bytes ||
           (table_bytes <= DECODE_TABLE_BYTES_MAX && table_bytes <= DECODE_TABLE_TIMES_MAX * replaced_bytes);
}

/* ---- how much memory ---- */

/* Of the input: a table of `table_stride` columns or, where that is 0, the embedding. */
static size_t measure_input(const struct decode_weights *sizes, size_t table_stride)
{
    size_t symbols = sizes->vocabulary_size;
    size_t bytes = 0;
    if (table_stride > 0) {
        bytes = mem_aligned_bytes(symbols * table_stride * sizeof(float));
    } else {
        size_t words = rnn_words(sizes->precision, sizes->embedding_size);
        bytes = mem_aligned_bytes(symbols * words * RNN_WORD_BYTES);
        bytes += sizes->precision == RNN_PRECISION_INT8 ? symbols * sizeof(float) : 0;
    }
    bool is_kept = sizes->layers[0].is_residual;
    return bytes + (is_kept ? mem_aligned_bytes(symbols * sizes->embedding_size * sizeof(float)) : 0);
}

size_t decode_plan_measure(const struct decode_weights *sizes)
{
    const struct rnn_steps *steps = rnn_kernels_steps(rnn_kernels_find(sizes->kernels), sizes->precision);
    bool has_table = is_table_worth_it(sizes);
    size_t table_stride = 0;
    size_t bytes = sizeof(struct decode_plan);
    for (size_t i = 0; i < sizes->layer_count; i++) {
        for (size_t part = 0; part < part_count_of(sizes->layers[i].cell); part++) {
            struct rnn_layer_weights weights = part_weights(&sizes->layers[i], part);
            weights.skipped = i == 0 && has_table ? weights.input_size : 0;
            struct rnn_layer layer = rnn_layer_lay_out(steps, &weights);
            bytes += rnn_layer_bytes(&layer);
            table_stride += i == 0 && has_table ? layer.column_stride : 0;
        }
    }
    struct rnn_dense output =
        rnn_dense_lay_out(steps, sizes->layers[sizes->layer_count - 1].units, sizes->vocabulary_size);
    return bytes + measure_input(sizes, table_stride) + rnn_dense_bytes(&output);
}

/* ---- packing ---- */

static size_t align_slot(size_t bytes)
{
    return (bytes + MEM_ALIGNMENT_BYTES - 1) / MEM_ALIGNMENT_BYTES * SLOT_ALIGNMENT_FLOATS;
}

/* The next `bytes` of a slot: where they begin. */
static size_t take_slot(struct decode_plan *plan, size_t bytes)
{
    size_t offset = plan->slot_floats;
    plan->slot_floats += align_slot(bytes);
    return offset;
}

/* Gives every layer its place in a slot. The last part of a layer has the widest padding. */
static void lay_out_slot(struct decode_plan *plan)
{
    size_t widest_gru = 0;
    size_t widest_residual = 0;
    for (size_t i = 0; i < plan->part_count; i++) {
        struct decode_layer *layer = &plan->layers[plan->parts[i].layer];
        size_t stride = plan->parts[i].weights.stride;
        bool is_last = i + 1 == plan->part_count || plan->parts[i + 1].layer != plan->parts[i].layer ||
                       plan->parts[i + 1].is_residual;
        if (!is_last || plan->parts[i].is_residual) {
            widest_residual =
                plan->parts[i].is_residual && layer->units > widest_residual ? layer->units : widest_residual;
            continue;
        }
        layer->cell_offset = take_slot(plan, layer->cell == DECODE_CELL_RNN ? 0 : stride * sizeof(float));
        layer->hidden_stride = align_slot(rnn_hidden_bytes(plan->precision, stride));
        layer->hidden_offset = take_slot(plan, 2 * layer->hidden_stride * sizeof(float));
        widest_gru = layer->cell == DECODE_CELL_GRU && stride > widest_gru ? stride : widest_gru;
    }
    plan->update_offset = take_slot(plan, widest_gru * sizeof(float));
    plan->reset_offset = take_slot(plan, rnn_hidden_bytes(plan->precision, widest_gru));
    plan->sum_offset = take_slot(plan, widest_residual * sizeof(float));
    plan->packed_offset =
        take_slot(plan, widest_residual == 0 || plan->precision == RNN_PRECISION_FP32
                            ? 0
                            : MEM_ALIGNMENT_BYTES + rnn_words(plan->precision, widest_residual) * RNN_WORD_BYTES);
}

static enum status pack_layer(struct decode_plan *plan, const struct decode_layer_weights *from, size_t skipped,
                              const struct rnn_steps *steps, struct error *error)
{
    bool is_input_hidden = plan->layer_count > 0 && !plan->layers[plan->layer_count - 1].is_residual;
    plan->layers[plan->layer_count] =
        (struct decode_layer){.cell = from->cell, .units = from->units, .is_residual = from->is_residual};
    for (size_t i = 0; i < part_count_of(from->cell); i++) {
        struct decode_part *part = &plan->parts[plan->part_count];
        struct rnn_layer_weights weights = part_weights(from, i);
        weights.skipped = skipped;
        weights.is_input_hidden = is_input_hidden;
        TRY(rnn_layer_init(&part->weights, steps, &weights, error));
        part->layer = plan->layer_count;
        plan->part_count++;
    }
    if (from->is_residual) {
        plan->parts[plan->part_count++] = (struct decode_part){.is_residual = true, .layer = plan->layer_count};
    }
    plan->layer_count++;
    return STATUS_OK;
}

/* The output layer over the embedding's transpose. */
static enum status pack_tied_output(struct decode_plan *plan, const struct decode_weights *weights,
                                    const struct rnn_steps *steps, struct error *error)
{
    size_t symbols = weights->vocabulary_size;
    size_t units = weights->embedding_size;
    float *transposed = mem_allocate(symbols * units, sizeof *transposed);
    if (transposed == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to pack an output layer of %zu × %zu", units, symbols);
    }
    for (size_t symbol = 0; symbol < symbols; symbol++) {
        for (size_t unit = 0; unit < units; unit++) {
            transposed[unit * symbols + symbol] = weights->embedding[symbol * units + unit];
        }
    }
    struct rnn_dense_weights output = {.input_size = units,
                                       .columns = symbols,
                                       .is_input_hidden = !plan->layers[plan->layer_count - 1].is_residual,
                                       .kernel = transposed,
                                       .bias = weights->softmax_b};
    enum status status = rnn_dense_init(&plan->output, steps, &output, error);
    mem_free(transposed);
    return status;
}

static enum status pack(struct decode_plan *plan, const struct decode_weights *weights, struct error *error)
{
    bool has_table = is_table_worth_it(weights);
    const struct rnn_steps *steps = rnn_kernels_steps(plan->kernels, plan->precision);
    for (size_t i = 0; i < weights->layer_count; i++) {
        const struct decode_layer_weights *from = &weights->layers[i];
        TRY(pack_layer(plan, from, i == 0 && has_table ? from->input_size : 0, steps, error));
    }
    lay_out_slot(plan);
    TRY(has_table ? make_table(plan, weights, error) : pack_embedding(plan, weights, error));
    TRY(check_first_input(plan, weights, error));
    if (weights->layers[0].is_residual) {
        TRY(keep_first_input(plan, weights, error));
    }
    if (weights->softmax_w == NULL) {
        TRY(pack_tied_output(plan, weights, steps, error));
    } else {
        struct rnn_dense_weights output = {.input_size = weights->layers[weights->layer_count - 1].units,
                                           .columns = weights->vocabulary_size,
                                           .is_input_hidden = !plan->layers[plan->layer_count - 1].is_residual,
                                           .kernel = weights->softmax_w,
                                           .bias = weights->softmax_b};
        TRY(rnn_dense_init(&plan->output, steps, &output, error));
    }
    plan->logits_stride = plan->output.stride;
    return STATUS_OK;
}

/* When all is packed. */
static void find_step_bytes(struct decode_plan *plan)
{
    plan->step_bytes = rnn_dense_bytes(&plan->output);
    for (size_t i = 0; i < plan->part_count; i++) {
        plan->step_bytes += plan->parts[i].is_residual ? 0 : rnn_layer_bytes(&plan->parts[i].weights);
    }
    bool is_far = plan->step_bytes > NEAR_BYTES_MAX;
    plan->output.is_far = is_far;
    for (size_t i = 0; i < plan->part_count; i++) {
        plan->parts[i].weights.is_far = is_far;
    }
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
    plan->bytes = decode_plan_measure(weights);
    enum status status = pack(plan, weights, error);
    if (status != STATUS_OK) {
        decode_plan_destroy(plan);
        return status;
    }
    find_step_bytes(plan);
    *ret_plan = plan;
    return STATUS_OK;
}

enum status decode_plan_create_stepped(const struct stepper *stepper, struct decode_plan **ret_plan,
                                       struct error *error)
{
    CHECK(stepper->symbol_count > 0 && stepper->state_bytes > 0 && stepper->state_bytes % MEM_ALIGNMENT_BYTES == 0);
    if (stepper->symbol_count > DECODE_SYMBOLS_MAX) {
        return error_set(error, STATUS_LIMIT, "%zu symbols, at most %d", stepper->symbol_count, DECODE_SYMBOLS_MAX);
    }
    struct decode_plan *plan = mem_allocate(1, sizeof *plan);
    if (plan == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a decode plan");
    }
    plan->kernels = rnn_kernels_find(NULL);
    plan->precision = RNN_PRECISION_FP32;
    plan->vocabulary_size = stepper->symbol_count;
    plan->logits_stride = (stepper->symbol_count + RNN_LANES_MAX - 1) / RNN_LANES_MAX * RNN_LANES_MAX;
    plan->stepper = *stepper;
    plan->slot_floats = 2 * stepper->state_bytes / sizeof(float);
    plan->bytes = stepper->bytes;
    *ret_plan = plan;
    return STATUS_OK;
}

void decode_plan_destroy(struct decode_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    if (plan->stepper.step != NULL) {
        plan->stepper.destroy(plan->stepper.context);
    }
    for (size_t i = 0; i < plan->part_count; i++) {
        rnn_layer_release(&plan->parts[i].weights);
    }
    rnn_dense_release(&plan->output);
    mem_free(plan->table);
    mem_free(plan->embedding);
    mem_free(plan->embedding_scales);
    mem_free(plan->first_input);
    mem_free(plan);
}

static enum status check_logits(const struct decode_plan *plan, float *slot, float *logits, struct error *error)
{
    float maximum;
    TRY(decode_plan_step_alone(plan, slot, 0, 0, logits, error));
    if (!plan->kernels->find_maximum(logits, plan->vocabulary_size, &maximum)) {
        error_set(error, STATUS_UNPROCESSABLE, "the model's logits are not finite after symbol 0");
        error_code(error, "not_finite");
        return STATUS_UNPROCESSABLE;
    }
    return STATUS_OK;
}

enum status decode_plan_warm_up(const struct decode_plan *plan, struct error *error)
{
    float *slot = mem_allocate_aligned(plan->slot_floats + plan->logits_stride, sizeof *slot);
    if (slot == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a state of %zu floats", plan->slot_floats);
    }
    decode_plan_reset_slot(plan, slot);
    enum status status = check_logits(plan, slot, slot + plan->slot_floats, error);
    mem_free(slot);
    return status;
}

bool decode_plan_is_stepped(const struct decode_plan *plan)
{
    return plan->stepper.step != NULL;
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
    return plan->stepper.step != NULL ? plan->stepper.name : plan->output.steps->name;
}
