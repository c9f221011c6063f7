/* Sums of int8 words two at a time with half the products: S. Winograd, "A New Algorithm for Inner Product", IEEE
 * Transactions on Computers C-17 (1968). Of two words e and o of a list, byte by byte,
 *   x_e·w_e + x_o·w_o = (x_e + w_o)·(x_o + w_e) − x_e·x_o − w_e·w_o
 * where the second last part is one number for all columns of a row, words_product, and the last one for all rows of a
 * column, in its offset. Additions of bytes run on pipes that products have no use for, so that one word in three is
 * left alone, and products and additions take the same time: 1/3 more terms a second than products alone have.
 *
 * The numbers are the same, so are the sums: within ±63 and ±64 they add up to no more than ±127. VPDPBUSD multiplies
 * unsigned by signed bytes: x_e + w_o is x_e + 128 of the row plus w_o, and x_o + w_e is x_o + 128 plus the w_e − 128
 * that is packed, both modulo 256. Included by rnn_tile_vector.h alone, with AVX-512. Thread: any; no state. */
#ifndef ENGINE_MATH_RNN_INT8_PAIRS_H
#define ENGINE_MATH_RNN_INT8_PAIRS_H

#include "engine/math/rnn_vector.h"

static_assert(RNN_INT8_INPUT_MAX + RNN_INT8_WEIGHT_MAX <= 127, "x + w is a signed byte");

/* Keeps what is before and behind in this order in a tile of many rows: mixed, it would need more registers than there
 * are, and the products without additions would come in one lump. */
INLINE void keep_order(size_t row_count)
{
    if (row_count > RNN_VECTORS) {
        __asm__ volatile("" ::: "memory");
    }
}

INLINE vector_terms add_bytes(vector_terms a, vector_terms b)
{
    return (vector_terms)_mm512_add_epi8((__m512i)a, (__m512i)b);
}

/* The sum of (x_e + 128)·x_o over the pairs of a row's words: what its sums of products have too much, but for what is
 * in the offsets. */
static uint32_t words_product(const void *list, size_t count)
{
    static const uint32_t firsts[RNN_WORD_PERIOD] = {0x9249, 0x4924, 0x2492}; /* of a list's vectors, in turn */
    const __m512i zero = _mm512_set1_epi8((char)RNN_INT8_ZERO);
    const term *words = list;
    __m512i sum = _mm512_setzero_si512();
    for (size_t k = 0, turn = 0; k + 1 < count; k += LANES, turn = (turn + 1) % RNN_WORD_PERIOD) {
        size_t left = count - 1 - k; /* words that have a word behind them */
        __mmask16 mask = (__mmask16)(firsts[turn] & (left < LANES ? (1u << left) - 1 : UINT32_MAX));
        __m512i first = _mm512_maskz_loadu_epi32(mask, words + k);
        __m512i second = _mm512_maskz_loadu_epi32(mask, words + k + 1);
        sum = _mm512_dpbusd_epi32(sum, first, _mm512_xor_si512(second, zero));
    }
    return (uint32_t)_mm512_reduce_add_epi32(sum);
}

/* Adds the pair of terms k and k + 1 to the first `vector_count` sums of `row_count` rows (both constants). */
INLINE void accumulate_pair(size_t row_count, size_t vector_count, vector_sum sums[TILE_ROWS][RNN_VECTORS],
                            struct block_weights weights, const term *const inputs[TILE_ROWS], size_t k)
{
    struct block_weights second = {weights.next + RNN_HALF_VECTORS * LANES, weights.half};
    for (size_t gate = 0; gate < vector_count; gate += 2) {
        vector_terms e[2];
        vector_terms o[2];
        UNROLLED_FOR (i, 2) {
            if (gate + i < vector_count) {
                e[i] = terms_load(vector_at(weights, gate + i));
                o[i] = terms_load(vector_at(second, gate + i));
            }
        }
        UNROLLED_FOR (row, row_count) {
            vector_terms x_e = terms_splat(inputs[row][k]);
            vector_terms x_o = terms_splat(inputs[row][k + 1]);
            UNROLLED_FOR (i, 2) {
                if (gate + i < vector_count) {
                    sums[row][gate + i] = vector_dot(sums[row][gate + i], add_bytes(x_e, o[i]), add_bytes(x_o, e[i]));
                }
            }
        }
        keep_order(row_count);
    }
}

/* The same of term k alone. */
INLINE void accumulate_word(size_t row_count, size_t vector_count, vector_sum sums[TILE_ROWS][RNN_VECTORS],
                            struct block_weights weights, const term *const inputs[TILE_ROWS], size_t k)
{
    vector_terms held[RNN_VECTORS];
    UNROLLED_FOR (gate, vector_count) {
        held[gate] = terms_load(vector_at(weights, gate));
    }
    UNROLLED_FOR (row, row_count) {
        vector_terms x = terms_splat(inputs[row][k]);
        UNROLLED_FOR (gate, vector_count) {
            sums[row][gate] = vector_dot(sums[row][gate], x, held[gate]);
        }
    }
    keep_order(row_count);
}

/* As in rnn_tile_vector.h. */
INLINE struct block_weights accumulate(size_t row_count, size_t vector_count, vector_sum sums[TILE_ROWS][RNN_VECTORS],
                                       struct block_weights weights, const term *const inputs[TILE_ROWS], size_t count)
{
    const size_t step = RNN_HALF_VECTORS * LANES;
    size_t k = 0;
    for (; k + 2 < count; k += RNN_WORD_PERIOD) {
        if (vector_count < RNN_VECTORS && row_count >= PREFETCHING_ROWS) {
            UNROLLED_FOR (n, RNN_WORD_PERIOD * RNN_HALF_VECTORS) {
                __builtin_prefetch(weights.next + n * LANES + PREFETCHED_TERMS * step);
            }
        }
        accumulate_pair(row_count, vector_count, sums, weights, inputs, k);
        weights.next += 2 * step;
        accumulate_word(row_count, vector_count, sums, weights, inputs, k + 2);
        weights.next += step;
    }
    if (k + 1 < count) {
        accumulate_pair(row_count, vector_count, sums, weights, inputs, k);
        weights.next += 2 * step;
    } else if (k < count) {
        accumulate_word(row_count, vector_count, sums, weights, inputs, k);
        weights.next += step;
    }
    return weights;
}

#endif
