/* Packing weights for the recurrent kernels. Thread: any; no state.
 *
 * Both kinds of layer are a matrix [terms, columns], read row by row: a column's place is a lane of one of the 4
 * vectors of a block. The columns are gates × units (a dense layer's are all one gate), and a block has as many
 * vectors of each gate. A recurrent layer has two lists of terms, inputs and h, a dense one only inputs; each list
 * begins a new word. */
#include <float.h>
#include <math.h>
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/math/rnn_numbers.h"
#include "engine/math/rnn_packed_sets.h"

static size_t blocks(size_t count, size_t block)
{
    return (count + block - 1) / block;
}

size_t rnn_gate_count(enum rnn_kind kind)
{
    static const size_t counts[] = {[RNN_KIND_LSTM] = 4, [RNN_KIND_GRU_GATES] = 2, 1, 1};
    static_assert(sizeof counts / sizeof *counts == RNN_KIND_COUNT, "gates of each kind");
    return counts[kind];
}

/* ---- columns ---- */

enum { CHUNK_VECTORS = 32 }; /* of a row of the matrix that are looked at together */

/* A matrix on its way into blocks. */
struct packing {
    const struct rnn_steps *steps;
    size_t gate_count;
    size_t units; /* columns are gate_count × units */
    size_t block_count;
    size_t word_count; /* of a column */
    uint32_t *words;   /* [block_count, 2, word_count, 2, lanes] */
    float *scales;     /* [block_count, 4, lanes], or NULL */
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

/* In fp32 in pairs a column's unit: 2^n, in which the root of its weights' mean square is from 1/2 to 1, as that of an
 * h may be. Without any weight it is 0, so that nothing is left of sums whose products, rounded, do not quite cancel.
 * */
static float column_unit(double root_mean_square)
{
    if (!(root_mean_square > 0)) {
        return 0;
    }
    int exponent = isfinite(root_mean_square) ? ilogb(root_mean_square) + 1 : FLT_MAX_EXP;
    exponent = exponent >= FLT_MAX_EXP ? FLT_MAX_EXP - 1 : exponent < FLT_MIN_EXP ? FLT_MIN_EXP : exponent;
    return ldexpf(1, exponent);
}

/* What products count for in the columns of `count` vectors from `begin` on. int8: (max|w| / 64) · (1 / 63). */
static void find_chunk_scales(const struct packing *packing, const float *matrix, size_t term_count, size_t begin,
                              size_t count)
{
    size_t lanes = packing->steps->lanes;
    bool is_int8 = packing->steps->precision == RNN_PRECISION_INT8;
    double found[CHUNK_VECTORS * RNN_LANES_MAX] = {0}; /* the largest magnitude, or the sum of squares */
    for (size_t term = 0; term < term_count; term++) {
        for (size_t vector = 0; vector < count; vector++) {
            size_t first;
            size_t columns = find_columns(packing, begin + vector, &first);
            const float *from = matrix + term * packing->gate_count * packing->units + first;
            for (size_t i = 0; i < columns; i++) {
                double weight = fabs((double)from[i]);
                double *of_column = &found[vector * lanes + i];
                *of_column = !is_int8 ? *of_column + weight * weight : weight > *of_column ? weight : *of_column;
            }
        }
    }
    for (size_t n = 0; n < count * lanes; n++) {
        packing->scales[begin * lanes + n] = is_int8 ? (float)found[n] / (RNN_INT8_WEIGHT_MAX * RNN_INT8_INPUT_MAX)
                                                     : column_unit(sqrt(found[n] / (double)term_count));
    }
}

static void find_scales(const struct packing *packing, const float *matrix, size_t term_count)
{
    size_t vectors = packing->scales == NULL ? 0 : packing->block_count * RNN_VECTORS;
    for (size_t begin = 0; begin < vectors; begin += CHUNK_VECTORS) {
        size_t left = vectors - begin;
        find_chunk_scales(packing, matrix, term_count, begin, left < CHUNK_VECTORS ? left : CHUNK_VECTORS);
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

/* In units, a power of two. */
static void pack_fp32_lanes(const float *from, size_t count, char *to, const float *units)
{
    for (size_t i = 0; i < count; i++) {
        float weight = units == NULL || units[i] == 0 ? from[i] : from[i] / units[i];
        memcpy(to + i * RNN_WORD_BYTES, &weight, sizeof weight);
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
                       void *offsets)
{
    size_t lane = vector * packing->steps->lanes;
    const float *scales = packing->scales == NULL ? NULL : packing->scales + lane;
    switch (packing->steps->precision) {
    case RNN_PRECISION_FP32: pack_fp32_lanes(from, count, to, scales); break;
    case RNN_PRECISION_BF16: pack_bf16_lanes(from, count, to); break;
    case RNN_PRECISION_INT8: pack_int8_lanes(from, count, to, scales, (uint32_t *)offsets + lane); break;
    case RNN_PRECISION_COUNT: CHECK(false);
    }
}

/* Of the two packed vectors of a pair's first word, and those of the second behind them: weights w_e become w_e − 128,
 * as bytes; offsets take off w_e · w_o instead of 128 · w_o. */
static void pair_int8_words(uint32_t *words, size_t lanes, uint32_t *offsets)
{
    uint8_t *first = (uint8_t *)words;
    const int8_t *second = (const int8_t *)(words + lanes);
    for (size_t i = 0; i < lanes * RNN_WORD_BYTES; i++) {
        offsets[i / RNN_WORD_BYTES] += (uint32_t)((RNN_INT8_ZERO - (int8_t)first[i]) * second[i]);
        first[i] ^= RNN_INT8_ZERO;
    }
}

/* The same of fp32: only the offsets change. */
static void pair_fp32_words(const uint32_t *words, size_t lanes, double *offsets)
{
    const float *first = (const float *)words;
    for (size_t i = 0; i < lanes; i++) {
        offsets[i] -= (double)first[i] * (double)first[lanes + i];
    }
}

/* Makes pairs of a packed list of `word_count` words: see rnn_pairs_vector.h. */
static void pair_words(const struct packing *packing, size_t first_word, size_t word_count, void *offsets)
{
    const size_t lanes = RNN_HALF_VECTORS * packing->steps->lanes;
    for (size_t n = 0; n < 2 * packing->block_count; n++) {
        double sums[RNN_HALF_VECTORS * RNN_LANES_MAX] = {0};
        for (size_t word = 0; word < word_count; word++) {
            uint32_t *words = packing->words + (n * packing->word_count + first_word + word) * lanes;
            if (rnn_word_role(word, word_count) != RNN_WORD_FIRST) {
                continue;
            }
            if (packing->steps->precision == RNN_PRECISION_INT8) {
                pair_int8_words(words, lanes, (uint32_t *)offsets + n * lanes);
            } else {
                pair_fp32_words(words, lanes, sums);
            }
        }
        for (size_t i = 0; packing->steps->precision == RNN_PRECISION_FP32 && i < lanes; i++) {
            ((float *)offsets)[n * lanes + i] = (float)sums[i];
        }
    }
}

/* Packs a list of terms [term_count, columns] into the words from `first_word` on. */
static void pack_terms(const struct packing *packing, const float *matrix, size_t term_count, size_t first_word,
                       void *offsets)
{
    enum rnn_precision precision = packing->steps->precision;
    size_t lanes = packing->steps->lanes;
    size_t terms = word_terms(precision);
    for (size_t term = 0; term < term_count; term++) {
        for (size_t vector = 0; vector < packing->block_count * RNN_VECTORS; vector++) {
            size_t first;
            size_t count = find_columns(packing, vector, &first);
            size_t word = vector / RNN_HALF_VECTORS * packing->word_count + first_word + term / terms;
            char *to = (char *)(packing->words + (word * RNN_HALF_VECTORS + vector % RNN_HALF_VECTORS) * lanes);
            to += term % terms * (RNN_WORD_BYTES / terms);
            const float *from = matrix + term * packing->gate_count * packing->units + first;
            pack_lanes(packing, vector, from, count, to, offsets);
        }
    }
    if (packing->steps->words_product != NULL && packing->scales != NULL) {
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
    layer.is_input_apart = layer.input_size > 0 && !weights->is_input_hidden;
    return layer;
}

/* Whether columns have scales and offsets. */
static bool has_scales(const struct rnn_steps *steps)
{
    return steps->precision == RNN_PRECISION_INT8 || steps->words_product != NULL;
}

size_t rnn_layer_bytes(const struct rnn_layer *layer)
{
    size_t columns = layer->column_stride * RNN_WORD_BYTES;
    size_t bytes = mem_aligned_bytes(columns * (layer->input_words + layer->hidden_words)) + mem_aligned_bytes(columns);
    return bytes + (has_scales(layer->steps) ? mem_aligned_bytes(columns) + mem_aligned_bytes(2 * columns) : 0);
}

static enum status allocate_layer(struct rnn_layer *layer, struct error *error)
{
    bool is_scaled = has_scales(layer->steps);
    size_t columns = layer->column_stride;
    layer->weights = mem_allocate_aligned(columns * (layer->input_words + layer->hidden_words), RNN_WORD_BYTES);
    layer->start = mem_allocate_aligned(columns, sizeof *layer->start);
    layer->scales = is_scaled ? mem_allocate_aligned(columns, sizeof *layer->scales) : NULL;
    layer->offsets = is_scaled ? mem_allocate_aligned(2 * columns, sizeof(uint32_t)) : NULL;
    if (layer->weights == NULL || layer->start == NULL ||
        (is_scaled && (layer->scales == NULL || layer->offsets == NULL))) {
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
    const float *hidden_kernel = kernel + layer->input_size * columns;
    char *hidden_offsets =
        layer->offsets == NULL ? NULL : (char *)layer->offsets + layer->column_stride * sizeof(uint32_t);
    if (precision == RNN_PRECISION_FP32 && layer->is_input_apart) {
        struct packing apart = packing;
        apart.scales = NULL;
        pack_terms(&apart, kernel, layer->input_size, 0, NULL);
        find_scales(&packing, hidden_kernel, layer->units);
    } else {
        find_scales(&packing, kernel, layer->input_size + layer->units);
        pack_terms(&packing, kernel, layer->input_size, 0, layer->offsets);
    }
    pack_terms(&packing, hidden_kernel, layer->units, layer->input_words, hidden_offsets);
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

/* How many of the inputs are summed in pairs: in fp32 none that are no h. */
static size_t paired_inputs(const struct rnn_steps *steps, bool is_input_apart, size_t input_words)
{
    return is_input_apart && steps->precision == RNN_PRECISION_FP32 ? 0 : input_words;
}

void rnn_layer_begin_row(const struct rnn_layer *layer, struct rnn_layer_row *row)
{
    if (layer->steps->words_product != NULL) {
        row->input_product = layer->steps->words_product(
            row->input, paired_inputs(layer->steps, layer->is_input_apart, layer->input_words));
        row->hidden_product = layer->steps->words_product(row->hidden, layer->hidden_words);
    }
}

void rnn_dense_begin_row(const struct rnn_dense *layer, struct rnn_dense_row *row)
{
    if (layer->steps->words_product != NULL) {
        row->input_product = layer->steps->words_product(
            row->input, paired_inputs(layer->steps, layer->is_input_apart, layer->input_words));
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
    return bytes + (has_scales(layer->steps) ? 2 * mem_aligned_bytes(columns) : 0);
}

static enum status allocate_dense(struct rnn_dense *layer, struct error *error)
{
    bool is_scaled = has_scales(layer->steps);
    layer->weights = mem_allocate_aligned(layer->stride * layer->input_words, RNN_WORD_BYTES);
    layer->start = mem_allocate_aligned(layer->stride, sizeof *layer->start);
    layer->scales = is_scaled ? mem_allocate_aligned(layer->stride, sizeof *layer->scales) : NULL;
    layer->offsets = is_scaled ? mem_allocate_aligned(layer->stride, sizeof(uint32_t)) : NULL;
    if (layer->weights == NULL || layer->start == NULL ||
        (is_scaled && (layer->scales == NULL || layer->offsets == NULL))) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to pack an output layer of %zu × %zu", layer->input_size,
                         layer->columns);
    }
    return STATUS_OK;
}

enum status rnn_dense_init(struct rnn_dense *layer, const struct rnn_steps *steps,
                           const struct rnn_dense_weights *weights, struct error *error)
{
    size_t columns = weights->columns;
    CHECK(weights->input_size > 0 && columns > 0);
    struct rnn_dense made = rnn_dense_lay_out(steps, weights->input_size, columns);
    made.is_input_apart = !weights->is_input_hidden;
    enum status status = allocate_dense(&made, error);
    if (status == STATUS_OK && (!is_packable(steps->precision, weights->bias, columns) ||
                                !is_packable(steps->precision, weights->kernel, weights->input_size * columns))) {
        status = refuse_not_finite(error);
    }
    if (status != STATUS_OK) {
        rnn_dense_release(&made);
        return status;
    }
    memcpy(made.start, weights->bias, columns * sizeof *weights->bias);
    bool is_apart = steps->precision == RNN_PRECISION_FP32 && made.is_input_apart;
    struct packing packing = {.steps = steps,
                              .gate_count = 1,
                              .units = columns,
                              .block_count = made.block_count,
                              .word_count = made.input_words,
                              .words = made.weights,
                              .scales = is_apart ? NULL : made.scales};
    find_scales(&packing, weights->kernel, weights->input_size);
    pack_terms(&packing, weights->kernel, weights->input_size, 0, made.offsets);
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
