/* The recurrent kernels in narrow precisions over vectors: one source, included once by each rnn_bf16_<set>.c and
 * rnn_int8_<set>.c, which says before, besides what rnn_vector.h wants:
 *   STEPS        the table's name, STEPS_NAME its text
 *   PRECISION    RNN_PRECISION_BF16 or RNN_PRECISION_INT8
 *   FIRST_SUMS   int8: what sums start from, of `offsets`: those where the products are of bytes n + 128
 *   PAIRED       int8: defined where words are summed in pairs; what that wants is in rnn_pairs_vector.h
 *   vector_dot(sum, x, weights): adds each lane's word of weights × the word of terms x to its sum, a float or an int
 * TILE_ROWS as in rnn_packed_vector.h. Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_NARROW_VECTOR_H
#define ENGINE_MATH_RNN_NARROW_VECTOR_H

#include "engine/math/rnn_vector.h"

typedef int32_t vector_ints __attribute__((vector_size(LANES * 4), may_alias));
typedef uint16_t vector_halves __attribute__((vector_size(LANES * 2), may_alias));
typedef uint8_t vector_bytes __attribute__((vector_size(LANES), may_alias));
typedef uint32_t term __attribute__((may_alias));
typedef vector_bits vector_terms;
#if defined(FIRST_SUMS)
typedef vector_ints vector_sum;
#else
typedef vector vector_sum;
#endif

#if defined(FIRST_SUMS)
/* Where words are summed one by one: 64 rows of 2×650, 10,000 words gain 9 %; fewer, with few bytes to fetch, lose 3 %.
 * accumulate_pairs has its own. */
#define PREFETCHING_ROWS 9
#else
#define PREFETCHING_ROWS 1
#endif

INLINE vector_terms terms_splat(term x)
{
    return x + (vector_terms){0};
}

#define POWERS POWERS_NARROW

#include "engine/math/rnn_tile_vector.h"

#if defined(FIRST_SUMS)
/* ---- int8 ---- */

#if defined(PAIRED)
#include "engine/math/rnn_pairs_vector.h"
#define accumulate_words accumulate_pairs
#else
#define accumulate_words accumulate
#endif

/* What the sums of a row start from; `product` is that of its words. */
INLINE vector_bits first_sum(const term *offsets, union rnn_product product)
{
#if defined(PAIRED)
    return terms_load(offsets) - product.whole;
#else
    (void)product;
    return FIRST_SUMS(terms_load(offsets));
#endif
}

/* What is `begun` plus what the whole-number sums count for. */
INLINE vector finish_sum(vector_sum sum, vector scale, vector begun)
{
    return vector_fma(__builtin_convertvector(sum, vector), scale, begun);
}

/* Sums over inputs with a scale of their own, on top of the rows' starts: of `vector_count` (a constant) vectors from
 * `first` on, as in the next function. */
INLINE void scaled_input_part(size_t row_count, size_t first, size_t vector_count, const struct rnn_layer *layer,
                              size_t block, const struct rnn_layer_row *rows, vector ret_sums[TILE_ROWS][RNN_VECTORS])
{
    vector_sum sums[TILE_ROWS][RNN_VECTORS];
    const term *inputs[TILE_ROWS];
    size_t column = block * BLOCK + first * LANES;
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].input;
        UNROLLED_FOR (gate, vector_count) {
            sums[row][gate] =
                (vector_sum)first_sum((const term *)layer->offsets + column + gate * LANES, rows[row].input_product);
        }
    }
    struct block_weights weights = layer_weights(layer, block, first);
    accumulate_words(row_count, vector_count, sums, weights, inputs, layer->input_words);
    UNROLLED_FOR (row, row_count) {
        vector input_scale = vector_splat(rows[row].input_scale);
        UNROLLED_FOR (gate, vector_count) {
            vector scale = vector_load(layer->scales + column + gate * LANES) * input_scale;
            vector start = vector_load(rows[row].start + column + gate * LANES);
            ret_sums[row][first + gate] = finish_sum(sums[row][gate], scale, start);
        }
    }
}

/* Sums over h, and over inputs that are an h too: on top of ret_sums, which has those of inputs with a scale of their
 * own, or where there are none on top of the rows' starts. */
INLINE void hidden_part(size_t row_count, size_t first, size_t vector_count, const struct rnn_layer *layer,
                        size_t block, const struct rnn_layer_row *rows, size_t input_words,
                        vector ret_sums[TILE_ROWS][RNN_VECTORS])
{
    vector_sum sums[TILE_ROWS][RNN_VECTORS];
    const term *inputs[TILE_ROWS];
    size_t column = block * BLOCK + first * LANES;
    const term *offsets = (const term *)layer->offsets + layer->block_count * BLOCK + column;
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, vector_count) {
            sums[row][gate] = (vector_sum)first_sum(offsets + gate * LANES, rows[row].hidden_product);
        }
    }
    struct block_weights weights = layer_weights(layer, block, first);
    if (input_words > 0) {
        UNROLLED_FOR (row, row_count) {
            inputs[row] = rows[row].input;
            UNROLLED_FOR (gate, vector_count) {
                vector_bits more =
                    first_sum((const term *)layer->offsets + column + gate * LANES, rows[row].input_product);
                sums[row][gate] = (vector_sum)((vector_bits)sums[row][gate] + more);
            }
        }
        weights = accumulate_words(row_count, vector_count, sums, weights, inputs, input_words);
    } else {
        weights.next += layer->input_words * RNN_HALF_VECTORS * LANES;
    }
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].hidden;
    }
    accumulate_words(row_count, vector_count, sums, weights, inputs, layer->hidden_words);
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, vector_count) {
            vector scale = vector_load(layer->scales + column + gate * LANES);
            vector begun = layer->is_input_apart ? ret_sums[row][first + gate]
                                                 : vector_load(rows[row].start + column + gate * LANES);
            ret_sums[row][first + gate] = finish_sum(sums[row][gate], scale, begun);
        }
    }
}

INLINE void scaled_input_sums(size_t row_count, const struct rnn_layer *layer, size_t block,
                              const struct rnn_layer_row *rows, vector ret_sums[TILE_ROWS][RNN_VECTORS])
{
    for (size_t first = 0; first < RNN_VECTORS; first += tile_vectors(row_count)) {
        scaled_input_part(row_count, first, tile_vectors(row_count), layer, block, rows, ret_sums);
    }
}

INLINE void hidden_sums(size_t row_count, const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows,
                        size_t input_words, vector ret_sums[TILE_ROWS][RNN_VECTORS])
{
    for (size_t first = 0; first < RNN_VECTORS; first += tile_vectors(row_count)) {
        hidden_part(row_count, first, tile_vectors(row_count), layer, block, rows, input_words, ret_sums);
    }
}

static void layer_sums(size_t row_count, const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows,
                       vector ret_sums[TILE_ROWS][RNN_VECTORS])
{
    if (layer->is_input_apart) {
        WITH_ROW_COUNT(row_count, scaled_input_sums, layer, block, rows, ret_sums)
    }
    size_t input_words = layer->is_input_apart ? 0 : layer->input_words;
    WITH_ROW_COUNT(row_count, hidden_sums, layer, block, rows, input_words, ret_sums)
}

INLINE void dense_part(size_t row_count, size_t first, size_t vector_count, const struct rnn_dense *layer, size_t block,
                       const struct rnn_dense_row *rows)
{
    vector_sum sums[TILE_ROWS][RNN_VECTORS];
    const term *inputs[TILE_ROWS];
    size_t column = block * BLOCK + first * LANES;
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].input;
        UNROLLED_FOR (gate, vector_count) {
            sums[row][gate] =
                (vector_sum)first_sum((const term *)layer->offsets + column + gate * LANES, rows[row].input_product);
        }
    }
    struct block_weights weights = dense_weights(layer, block, first);
    accumulate_words(row_count, vector_count, sums, weights, inputs, layer->input_words);
    UNROLLED_FOR (gate, vector_count) {
        size_t at = column + gate * LANES;
        UNROLLED_FOR (row, row_count) {
            vector start = vector_load(layer->start + at);
            vector scale = vector_load(layer->scales + at);
            if (layer->is_input_apart) {
                scale *= vector_splat(rows[row].input_scale);
            }
            vector_store(rows[row].output + at, finish_sum(sums[row][gate], scale, start));
        }
    }
}

/* h is within ±1, so that h · 63 rounded to nearest stands in the low bits of the sum. */
INLINE void hidden_store(void *hidden, size_t at, vector from)
{
    vector rounded = vector_fma(from, vector_splat(RNN_INT8_INPUT_MAX), vector_splat(WHOLE_ROUNDER));
    vector_bits bytes = (vector_bits)rounded ^ RNN_INT8_ZERO;
    *(vector_bytes *)((uint8_t *)hidden + at) = __builtin_convertvector(bytes, vector_bytes);
}
#else
/* ---- bf16 ---- */

#include "engine/math/rnn_float_sums.h"

/* Rounded to the nearest bf16, ties to even. */
INLINE void hidden_store(void *hidden, size_t at, vector from)
{
    vector_bits bits = (vector_bits)from;
    bits = (bits + BF16_ROUNDER + (bits >> 16 & 1)) >> 16;
    *(vector_halves *)((uint16_t *)hidden + at) = __builtin_convertvector(bits, vector_halves);
}
#endif

const struct rnn_steps STEPS = {
    .name = STEPS_NAME,
    .precision = PRECISION,
    .lanes = LANES,
    .tile_rows = TILE_ROWS,
#if defined(PAIRED)
    .words_product = words_product,
#endif
    .layer = layer,
    .dense = dense,
};

#endif
