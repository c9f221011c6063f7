/* Packing weights for the recurrent kernels. Thread: any; no state.
 *
 * Both kinds of layer are a matrix [terms, columns], read row by row: a column's place is a lane of one of the 4
 * vectors of a block. The columns are gates × units (a dense layer's are all one gate), and a block has as many
 * vectors of each gate. A recurrent layer has two lists of terms, inputs and h, a dense one only inputs; each list
 * begins a new word. */
#include <math.h>
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/math/rnn_packed_sets.h"

static const size_t WORD_TERMS[] = {1, 2, 4};
static_assert(sizeof WORD_TERMS / sizeof *WORD_TERMS == RNN_PRECISION_COUNT, "terms of a word");

static size_t blocks(size_t count, size_t block)
{
    return (count + block - 1) / block;
}

size_t rnn_words(enum rnn_precision precision, size_t count)
{
    return blocks(count, WORD_TERMS[precision]);
}

size_t rnn_hidden_bytes(enum rnn_precision precision, size_t count)
{
    return count * (RNN_WORD_BYTES / WORD_TERMS[precision]);
}

size_t rnn_gate_count(enum rnn_kind kind)
{
    static const size_t counts[] = {[RNN_KIND_LSTM] = 4, [RNN_KIND_GRU_GATES] = 2, 1, 1};
    static_assert(sizeof counts / sizeof *counts == RNN_KIND_COUNT, "gates of each kind");
    return counts[kind];
}

static const char *const PRECISION_NAMES[] = {"fp32", "bf16", "int8"};
static_assert(sizeof PRECISION_NAMES / sizeof *PRECISION_NAMES == RNN_PRECISION_COUNT, "a name for each precision");

const char *rnn_precision_name(enum rnn_precision precision)
{
    CHECK(precision < RNN_PRECISION_COUNT);
    return PRECISION_NAMES[precision];
}

bool rnn_precision_find(const char *name, enum rnn_precision *ret_precision)
{
    for (size_t i = 0; i < RNN_PRECISION_COUNT; i++) {
        if (strcmp(PRECISION_NAMES[i], name) == 0) {
            *ret_precision = (enum rnn_precision)i;
            return true;
        }
    }
    return false;
}

/* ---- numbers ---- */

/* To the nearest, ties to even; a value above the largest bf16 becomes an infinity. */
static uint16_t bf16_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static float float_of_bf16(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* value · largest / maximum, to the nearest, ties to even; NaN is `largest`. No calls, no branches: loading a model is
 * a loop over this. */
static int8_t int8_of_float(float value, float maximum, double largest)
{
    const double rounder = 0x1.8p52; /* what is added to it keeps no bits behind the point */
    double scaled = (double)value * largest / (maximum > 0 ? (double)maximum : HUGE_VAL);
    double clamped = scaled < largest ? (scaled > -largest ? scaled : -largest) : largest;
    return (int8_t)(int32_t)(clamped + rounder - rounder);
}

/* Rounded once, as the vector kernels do: a product rounded before might stand at a tie that the exact one misses. */
static uint8_t byte_of_hidden(float value)
{
    float clamped = fminf(fmaxf(value, -1.0f), 1.0f);
    return (uint8_t)(lrintf(fmaf(clamped, RNN_INT8_INPUT_MAX, WHOLE_ROUNDER) - WHOLE_ROUNDER) + RNN_INT8_ZERO);
}

float rnn_pack_input(enum rnn_precision precision, const float *values, size_t count, void *words)
{
    float maximum = 0;
    if (precision == RNN_PRECISION_INT8) {
        uint8_t *bytes = words;
        for (size_t i = 0; i < count; i++) {
            maximum = fmaxf(maximum, fabsf(values[i]));
        }
        memset(bytes, RNN_INT8_ZERO, rnn_words(precision, count) * RNN_WORD_BYTES);
        for (size_t i = 0; i < count; i++) {
            bytes[i] = (uint8_t)(int8_of_float(values[i], maximum, RNN_INT8_INPUT_MAX) + RNN_INT8_ZERO);
        }
        return maximum;
    }
    memset(words, 0, rnn_words(precision, count) * RNN_WORD_BYTES);
    rnn_write_hidden(precision, values, count, words);
    return 1;
}

void rnn_write_hidden(enum rnn_precision precision, const float *values, size_t count, void *hidden)
{
    uint16_t *halves = hidden;
    uint8_t *bytes = hidden;
    switch (precision) {
    case RNN_PRECISION_FP32: memcpy(hidden, values, count * sizeof *values); break;
    case RNN_PRECISION_BF16:
        for (size_t i = 0; i < count; i++) {
            halves[i] = bf16_of_float(values[i]);
        }
        break;
    case RNN_PRECISION_INT8:
        for (size_t i = 0; i < count; i++) {
            bytes[i] = byte_of_hidden(values[i]);
        }
        break;
    case RNN_PRECISION_COUNT: CHECK(false);
    }
}

void rnn_read_hidden(enum rnn_precision precision, const void *hidden, size_t count, float *values)
{
    const uint16_t *halves = hidden;
    const uint8_t *bytes = hidden;
    switch (precision) {
    case RNN_PRECISION_FP32: memcpy(values, hidden, count * sizeof *values); break;
    case RNN_PRECISION_BF16:
        for (size_t i = 0; i < count; i++) {
            values[i] = float_of_bf16(halves[i]);
        }
        break;
    case RNN_PRECISION_INT8:
        for (size_t i = 0; i < count; i++) {
            values[i] = (float)(bytes[i] - RNN_INT8_ZERO) / RNN_INT8_INPUT_MAX;
        }
        break;
    case RNN_PRECISION_COUNT: CHECK(false);
    }
}

/* ---- columns ---- */

/* A matrix on its way into blocks. */
struct packing {
    const struct rnn_steps *steps;
    size_t gate_count;
    size_t units; /* columns are gate_count × units */
    size_t block_count;
    size_t word_count; /* of a column */
    uint32_t *words;   /* [block_count, 2, word_count, 2, lanes] */
    float *scales;     /* int8: [block_count, 4, lanes]; else NULL */
};

/* The columns in `vector` of all the blocks' vectors: the first one, and how many there are. */
static size_t find_columns(const struct packing *packing, size_t vector, size_t *ret_first)
{
    size_t lanes = packing->steps->lanes;
    size_t gate_vectors = RNN_VECTORS / packing->gate_count;
    size_t block = vector / RNN_VECTORS;
    size_t begin = (block * gate_vectors + vector % gate_vectors) * lanes;
    *ret_first = vector % RNN_VECTORS / gate_vectors * packing->units + begin;
    return begin >= packing->units ? 0 : packing->units - begin < lanes ? packing->units - begin : lanes;
}

/* int8: a product of a column's bytes counts for (max|w| / 64) · (1 / 63). */
static void find_scales(const struct packing *packing, const float *matrix, size_t term_count)
{
    size_t lanes = packing->steps->lanes;
    for (size_t term = 0; packing->scales != NULL && term < term_count; term++) {
        float *scales = packing->scales;
        for (size_t vector = 0; vector < packing->block_count * RNN_VECTORS; vector++, scales += lanes) {
            size_t first;
            size_t count = find_columns(packing, vector, &first);
            const float *from = matrix + term * packing->gate_count * packing->units + first;
            for (size_t i = 0; i < count; i++) {
                scales[i] = fabsf(from[i]) > scales[i] ? fabsf(from[i]) : scales[i];
            }
        }
    }
    for (size_t n = 0; packing->scales != NULL && n < packing->block_count * RNN_VECTORS * lanes; n++) {
        packing->scales[n] /= RNN_INT8_WEIGHT_MAX * RNN_INT8_INPUT_MAX;
    }
}

/* Weights of one term, lane beside lane, from byte `to` on. offsets −= 128 · weight. */
static void pack_int8_lanes(const float *from, size_t count, char *to, const float *scales, uint32_t *offsets)
{
    for (size_t i = 0; i < count; i++) {
        float maximum = scales[i] * (RNN_INT8_WEIGHT_MAX * RNN_INT8_INPUT_MAX);
        int8_t byte = int8_of_float(from[i], maximum, RNN_INT8_WEIGHT_MAX);
        offsets[i] -= (uint32_t)RNN_INT8_ZERO * (uint32_t)byte;
        to[i * RNN_WORD_BYTES] = (char)byte;
    }
}

static void pack_bf16_lanes(const float *from, size_t count, char *to)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t half = bf16_of_float(from[i]);
        memcpy(to + i * RNN_WORD_BYTES, &half, sizeof half);
    }
}

/* The `count` weights of one term in the columns of `vector`. */
static void pack_lanes(const struct packing *packing, size_t vector, const float *from, size_t count, char *to,
                       uint32_t *offsets)
{
    size_t lane = vector * packing->steps->lanes;
    switch (packing->steps->precision) {
    case RNN_PRECISION_FP32: memcpy(to, from, count * sizeof *from); break;
    case RNN_PRECISION_BF16: pack_bf16_lanes(from, count, to); break;
    case RNN_PRECISION_INT8: pack_int8_lanes(from, count, to, packing->scales + lane, offsets + lane); break;
    case RNN_PRECISION_COUNT: CHECK(false);
    }
}

/* Makes pairs of a packed list of `word_count` words, for rnn_int8_pairs.h: weights w_e of a first word become w_e −
 * 128, as bytes; offsets take off w_e · w_o instead of 128 · w_o. */
static void pair_words(const struct packing *packing, size_t first_word, size_t word_count, uint32_t *offsets)
{
    const size_t half = RNN_HALF_VECTORS * packing->steps->lanes;
    for (size_t n = 0; n < 2 * packing->block_count; n++, offsets += half) {
        for (size_t word = 0; word < word_count; word++) {
            if (rnn_word_role(word, word_count) != RNN_WORD_FIRST) {
                continue;
            }
            uint8_t *first = (uint8_t *)(packing->words + (n * packing->word_count + first_word + word) * half);
            const int8_t *second = (const int8_t *)first + half * RNN_WORD_BYTES;
            for (size_t i = 0; i < half * RNN_WORD_BYTES; i++) {
                offsets[i / RNN_WORD_BYTES] += (uint32_t)((RNN_INT8_ZERO - (int8_t)first[i]) * second[i]);
                first[i] ^= RNN_INT8_ZERO;
            }
        }
    }
}

/* Packs a list of terms [term_count, columns] into the words from `first_word` on. */
static void pack_terms(const struct packing *packing, const float *matrix, size_t term_count, size_t first_word,
                       uint32_t *offsets)
{
    enum rnn_precision precision = packing->steps->precision;
    size_t lanes = packing->steps->lanes;
    size_t word_terms = WORD_TERMS[precision];
    for (size_t term = 0; term < term_count; term++) {
        for (size_t vector = 0; vector < packing->block_count * RNN_VECTORS; vector++) {
            size_t first;
            size_t count = find_columns(packing, vector, &first);
            size_t word = vector / RNN_HALF_VECTORS * packing->word_count + first_word + term / word_terms;
            char *to = (char *)(packing->words + (word * RNN_HALF_VECTORS + vector % RNN_HALF_VECTORS) * lanes);
            to += term % word_terms * (RNN_WORD_BYTES / word_terms);
            const float *from = matrix + term * packing->gate_count * packing->units + first;
            pack_lanes(packing, vector, from, count, to, offsets);
        }
    }
    if (packing->steps->words_product != NULL) {
        pair_words(packing, first_word, rnn_words(precision, term_count), offsets);
    }
}

/* Whether narrow kernels can hold the values: every one finite, in bf16 too, which is coarse near the largest float.
 * Without their signs, the bits of floats are in the order of the floats, infinities and what is no number above. */
static bool is_packable(enum rnn_precision precision, const float *values, size_t count)
{
    const uint32_t no_sign = 0x7FFFFFFF, infinity_in_bf16 = 0x7F7F8000;
    uint32_t most = 0;
    for (size_t i = 0; precision != RNN_PRECISION_FP32 && i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        most = (bits & no_sign) > most ? bits & no_sign : most;
    }
    return most < infinity_in_bf16;
}

static enum status refuse_not_finite(struct error *error)
{
    error_set(error, STATUS_UNPROCESSABLE, "a weight or bias is not a finite number, or too large for the precision");
    error_code(error, "not_finite");
    return STATUS_UNPROCESSABLE;
}

/* ---- layers ---- */

struct rnn_layer rnn_layer_lay_out(const struct rnn_steps *steps, const struct rnn_layer_weights *weights)
{
    struct rnn_layer layer = {.steps = steps,
                              .kind = weights->kind,
                              .input_size = weights->input_size - weights->skipped,
                              .units = weights->units};
    size_t block_units = RNN_VECTORS / rnn_gate_count(layer.kind) * steps->lanes;
    layer.block_count = blocks(layer.units, block_units);
    layer.stride = layer.block_count * block_units;
    layer.column_stride = layer.block_count * RNN_VECTORS * steps->lanes;
    layer.input_words = rnn_words(steps->precision, layer.input_size);
    layer.hidden_words = rnn_words(steps->precision, layer.units);
    return layer;
}

size_t rnn_layer_bytes(const struct rnn_layer *layer)
{
    size_t columns = layer->column_stride * RNN_WORD_BYTES;
    size_t bytes = mem_aligned_bytes(columns * (layer->input_words + layer->hidden_words)) + mem_aligned_bytes(columns);
    bool is_int8 = layer->steps->precision == RNN_PRECISION_INT8;
    return bytes + (is_int8 ? mem_aligned_bytes(columns) + mem_aligned_bytes(2 * columns) : 0);
}

static enum status allocate_layer(struct rnn_layer *layer, struct error *error)
{
    bool is_int8 = layer->steps->precision == RNN_PRECISION_INT8;
    size_t columns = layer->column_stride;
    layer->weights = mem_allocate_aligned(columns * (layer->input_words + layer->hidden_words), RNN_WORD_BYTES);
    layer->start = mem_allocate_aligned(columns, sizeof *layer->start);
    layer->scales = is_int8 ? mem_allocate_aligned(columns, sizeof *layer->scales) : NULL;
    layer->offsets = is_int8 ? mem_allocate_aligned(2 * columns, sizeof *layer->offsets) : NULL;
    if (layer->weights == NULL || layer->start == NULL ||
        (is_int8 && (layer->scales == NULL || layer->offsets == NULL))) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to pack a layer of %zu units", layer->units);
    }
    return STATUS_OK;
}

void rnn_layer_bias(const struct rnn_layer_weights *weights, float *gates)
{
    for (size_t n = 0; n < rnn_gate_count(weights->kind) * weights->units; n++) {
        bool is_forget = weights->kind == RNN_KIND_LSTM && n / weights->units == RNN_GATE_FORGET;
        gates[n] = weights->bias[n] + (is_forget ? weights->forget_bias : 0.0f);
    }
}

/* `gates` is scratch, of all columns. */
static enum status pack_layer(struct rnn_layer *layer, const struct rnn_layer_weights *weights, float *gates,
                              struct error *error)
{
    size_t gate_count = rnn_gate_count(layer->kind);
    size_t columns = gate_count * layer->units;
    const float *kernel = weights->kernel + weights->skipped * columns;
    enum rnn_precision precision = layer->steps->precision;
    rnn_layer_bias(weights, gates);
    if (!is_packable(precision, gates, columns) ||
        !is_packable(precision, kernel, (layer->input_size + layer->units) * columns)) {
        return refuse_not_finite(error);
    }
    rnn_layer_pack_start(layer, gates, layer->start);
    struct packing packing = {.steps = layer->steps,
                              .gate_count = gate_count,
                              .units = layer->units,
                              .block_count = layer->block_count,
                              .word_count = layer->input_words + layer->hidden_words,
                              .words = layer->weights,
                              .scales = layer->scales};
    find_scales(&packing, kernel, layer->input_size + layer->units);
    pack_terms(&packing, kernel, layer->input_size, 0, layer->offsets);
    pack_terms(&packing, kernel + layer->input_size * columns, layer->units, layer->input_words,
               layer->offsets == NULL ? NULL : layer->offsets + layer->column_stride);
    return STATUS_OK;
}

enum status rnn_layer_init(struct rnn_layer *layer, const struct rnn_steps *steps,
                           const struct rnn_layer_weights *weights, struct error *error)
{
    CHECK(weights->skipped <= weights->input_size && weights->units > 0);
    struct rnn_layer made = rnn_layer_lay_out(steps, weights);
    float *gates = mem_allocate(rnn_gate_count(made.kind) * made.units, sizeof *gates);
    enum status status = STATUS_NO_MEMORY;
    if (gates == NULL) {
        error_set(error, status, "no memory to pack a layer of %zu units", made.units);
    } else {
        status = allocate_layer(&made, error);
    }
    if (status == STATUS_OK) {
        status = pack_layer(&made, weights, gates, error);
    }
    mem_free(gates);
    if (status != STATUS_OK) {
        rnn_layer_release(&made);
        return status;
    }
    *layer = made;
    return STATUS_OK;
}

void rnn_layer_release(struct rnn_layer *layer)
{
    mem_free(layer->weights);
    mem_free(layer->start);
    mem_free(layer->scales);
    mem_free(layer->offsets);
    *layer = (struct rnn_layer){0};
}

void rnn_layer_begin_row(const struct rnn_layer *layer, struct rnn_layer_row *row)
{
    if (layer->steps->words_product != NULL) {
        row->input_product = layer->steps->words_product(row->input, layer->input_words);
        row->hidden_product = layer->steps->words_product(row->hidden, layer->hidden_words);
    }
}

void rnn_dense_begin_row(const struct rnn_dense *layer, struct rnn_dense_row *row)
{
    if (layer->steps->words_product != NULL) {
        row->input_product = layer->steps->words_product(row->input, layer->input_words);
    }
}

void rnn_layer_pack_start(const struct rnn_layer *layer, const float *gates, float *start)
{
    struct packing packing = {.steps = layer->steps,
                              .gate_count = rnn_gate_count(layer->kind),
                              .units = layer->units,
                              .block_count = layer->block_count};
    memset(start, 0, layer->column_stride * sizeof *start);
    for (size_t vector = 0; vector < layer->block_count * RNN_VECTORS; vector++) {
        size_t first;
        size_t count = find_columns(&packing, vector, &first);
        memcpy(start + vector * layer->steps->lanes, gates + first, count * sizeof *start);
    }
}

struct rnn_dense rnn_dense_lay_out(const struct rnn_steps *steps, size_t input_size, size_t columns)
{
    size_t block_columns = RNN_VECTORS * steps->lanes;
    size_t block_count = blocks(columns, block_columns);
    return (struct rnn_dense){.steps = steps,
                              .input_size = input_size,
                              .columns = columns,
                              .block_count = block_count,
                              .stride = block_count * block_columns,
                              .input_words = rnn_words(steps->precision, input_size)};
}

size_t rnn_dense_bytes(const struct rnn_dense *layer)
{
    size_t columns = layer->stride * RNN_WORD_BYTES;
    size_t bytes = mem_aligned_bytes(columns * layer->input_words) + mem_aligned_bytes(columns);
    return bytes + (layer->steps->precision == RNN_PRECISION_INT8 ? 2 * mem_aligned_bytes(columns) : 0);
}

static enum status allocate_dense(struct rnn_dense *layer, struct error *error)
{
    bool is_int8 = layer->steps->precision == RNN_PRECISION_INT8;
    layer->weights = mem_allocate_aligned(layer->stride * layer->input_words, RNN_WORD_BYTES);
    layer->start = mem_allocate_aligned(layer->stride, sizeof *layer->start);
    layer->scales = is_int8 ? mem_allocate_aligned(layer->stride, sizeof *layer->scales) : NULL;
    layer->offsets = is_int8 ? mem_allocate_aligned(layer->stride, sizeof *layer->offsets) : NULL;
    if (layer->weights == NULL || layer->start == NULL ||
        (is_int8 && (layer->scales == NULL || layer->offsets == NULL))) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to pack an output layer of %zu × %zu", layer->input_size,
                         layer->columns);
    }
    return STATUS_OK;
}

enum status rnn_dense_init(struct rnn_dense *layer, const struct rnn_steps *steps, size_t input_size, size_t columns,
                           const float *weights, const float *bias, struct error *error)
{
    CHECK(input_size > 0 && columns > 0);
    struct rnn_dense made = rnn_dense_lay_out(steps, input_size, columns);
    enum status status = allocate_dense(&made, error);
    if (status == STATUS_OK && (!is_packable(steps->precision, bias, columns) ||
                                !is_packable(steps->precision, weights, input_size * columns))) {
        status = refuse_not_finite(error);
    }
    if (status != STATUS_OK) {
        rnn_dense_release(&made);
        return status;
    }
    memcpy(made.start, bias, columns * sizeof *bias);
    struct packing packing = {.steps = steps,
                              .gate_count = 1,
                              .units = columns,
                              .block_count = made.block_count,
                              .word_count = made.input_words,
                              .words = made.weights,
                              .scales = made.scales};
    find_scales(&packing, weights, input_size);
    pack_terms(&packing, weights, input_size, 0, made.offsets);
    *layer = made;
    return STATUS_OK;
}

void rnn_dense_release(struct rnn_dense *layer)
{
    mem_free(layer->weights);
    mem_free(layer->start);
    mem_free(layer->scales);
    mem_free(layer->offsets);
    *layer = (struct rnn_dense){0};
}
