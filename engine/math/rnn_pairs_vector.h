/* Sums of terms two at a time with half the products: S. Winograd, "A New Algorithm for Inner Product", IEEE
 * Transactions on Computers C-17 (1968). Of two words e and o of a list, in int8 byte by byte,
 *   x_e·w_e + x_o·w_o = (x_e + w_o)·(x_o + w_e) − x_e·x_o − w_e·w_o
 * where the second last part is one number for all columns of a row, words_product, and the last one for all rows of a
 * column, in its offset. Additions run on pipes that products have no use for. One word in three is left alone, so that
 * products and additions take the same time: up to 1/2 more terms a second than products alone have.
 *
 * int8: the numbers are the same, so are the sums. Within ±63 and ±64 they add up to no more than ±127. VPDPBUSD
 * multiplies unsigned by signed bytes: x_e + w_o is x_e + 128 of the row plus w_o, and x_o + w_e is x_o + 128 plus the
 * w_e − 128 that is packed, both modulo 256.
 * fp32: x is an h, and weights are packed in units, a power of two for each column, in which they are about as large:
 * what is rounded away of x + w is then hardly more than what sums of such products lose anyway.
 *
 * Included by the kernel files that sum in pairs, which define add_terms(a, b) and words_product. Thread: any; no
 * state. */
#ifndef ENGINE_MATH_RNN_PAIRS_VECTOR_H
#define ENGINE_MATH_RNN_PAIRS_VECTOR_H

#include "engine/math/rnn_tile_vector.h"

/* Tiles of few rows wait for their weights: fetched so far ahead, 1 and 2 rows of 2 × 512 in fp32 are as fast as
 * without pairs; without, 4 and 2 % slower. Weights from memory take longer: one row of 28 MB is then 8 % faster. */
enum { FEW_ROWS = 3, NEAR_TERMS = 24, FAR_TERMS = 48 };

/* Keeps what is before and behind in this order in a tile of many rows: mixed, it would need more registers than there
 * are, and the products without additions would come in one lump. */
INLINE void keep_order(size_t row_count)
{
    if (row_count > RNN_VECTORS) {
        __asm__ volatile("" ::: "memory");
    }
}

/* Adds the pair of terms k and k + 1 to the first `vector_count` sums of `row_count` rows (both constants). */
INLINE void accumulate_pair(size_t row_count, size_t vector_count, vector_sum sums[TILE_ROWS][RNN_VECTORS],
                            struct block_weights weights, const term *const inputs[TILE_ROWS], size_t k)
{
    struct block_weights second = weights;
    second.next += RNN_HALF_VECTORS * LANES;
    UNROLLED_FOR (half, (vector_count + 1) / RNN_HALF_VECTORS) { /* of the vectors: more would not fit the registers */
        size_t first = half * RNN_HALF_VECTORS;
        size_t count = vector_count - first < RNN_HALF_VECTORS ? vector_count - first : RNN_HALF_VECTORS;
        vector_terms e[RNN_HALF_VECTORS];
        vector_terms o[RNN_HALF_VECTORS];
        UNROLLED_FOR (i, count) {
            e[i] = terms_load(vector_at(weights, first + i));
            o[i] = terms_load(vector_at(second, first + i));
        }
        UNROLLED_FOR (row, row_count) {
            vector_terms x_e = terms_splat(inputs[row][k]);
            vector_terms x_o = terms_splat(inputs[row][k + 1]);
            UNROLLED_FOR (i, count) {
                vector_terms with_o = add_terms(x_e, o[i]);
                sums[row][first + i] = vector_dot(sums[row][first + i], with_o, add_terms(x_o, e[i]));
            }
            keep_order(row_count);
        }
    }
}

/* accumulate_pairs; few rows fetch weights `ahead_terms` (a constant) ahead. */
INLINE struct block_weights accumulate_pairs_from(size_t ahead_terms, size_t row_count, size_t vector_count,
                                                  vector_sum sums[TILE_ROWS][RNN_VECTORS], struct block_weights weights,
                                                  const term *const inputs[TILE_ROWS], size_t count)
{
    const size_t step = RNN_HALF_VECTORS * LANES;
    size_t k = 0;
    for (; k + 2 < count; k += RNN_WORD_PERIOD) {
        if (vector_count < RNN_VECTORS) {
            UNROLLED_FOR (n, RNN_WORD_PERIOD * RNN_HALF_VECTORS) {
                __builtin_prefetch(weights.next + n * LANES + PREFETCHED_TERMS * step);
            }
        } else if (row_count <= FEW_ROWS) {
            UNROLLED_FOR (n, RNN_WORD_PERIOD * RNN_HALF_VECTORS) {
                __builtin_prefetch(weights.next + n * LANES + ahead_terms * step);
                __builtin_prefetch(weights.next + weights.half + n * LANES + ahead_terms * step);
            }
        }
        accumulate_pair(row_count, vector_count, sums, weights, inputs, k);
        weights.next += 2 * step;
        accumulate_term(row_count, vector_count, sums, weights, inputs, k + 2);
        keep_order(row_count);
        weights.next += step;
    }
    if (k + 1 < count) {
        accumulate_pair(row_count, vector_count, sums, weights, inputs, k);
        weights.next += 2 * step;
    } else if (k < count) {
        accumulate_term(row_count, vector_count, sums, weights, inputs, k);
        keep_order(row_count);
        weights.next += step;
    }
    return weights;
}

/* As accumulate, of weights packed for pairs. The sums have words_product of the inputs too much, but for what is in
 * the offsets. */
INLINE struct block_weights accumulate_pairs(size_t row_count, size_t vector_count,
                                             vector_sum sums[TILE_ROWS][RNN_VECTORS], struct block_weights weights,
                                             const term *const inputs[TILE_ROWS], size_t count)
{
    if (row_count <= FEW_ROWS && weights.is_far) {
        return accumulate_pairs_from(FAR_TERMS, row_count, vector_count, sums, weights, inputs, count);
    }
    return accumulate_pairs_from(NEAR_TERMS, row_count, vector_count, sums, weights, inputs, count);
}

/* Which words of the 16 from `word` on, a multiple of 16, are the first of a pair in a list of `count`: a bit each. */
INLINE uint16_t first_words(size_t word, size_t count)
{
    static_assert(LANES == 16, "words of a vector");
    static const uint32_t firsts[RNN_WORD_PERIOD] = {0x9249, 0x4924, 0x2492};
    size_t left = count - 1 - word; /* words that have a word behind them */
    uint32_t mask = left < 16 ? (1u << left) - 1 : UINT32_MAX;
    return (uint16_t)(firsts[word / 16 % RNN_WORD_PERIOD] & mask);
}

#endif
