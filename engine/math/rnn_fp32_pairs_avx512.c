/* The fp32 kernels with AVX-512 for CPUs that add beside their products: terms in pairs, see rnn_pairs_vector.h. What
 * is in pairs, h and inputs that are an h, is summed on its own, in a column's units, from its offsets, and then added
 * to the rest, which is summed as in rnn_float_sums.h: starts and inputs that are no h. So a row's bits depend on
 * nothing but the row, but they are not those of the other fp32 kernels. Tiles as in rnn_int8_pairs_avx512.c. Built
 * with its own -m flags, called only where the CPU has them. Thread: any; no state. */
#if defined(__AVX512F__)

#define TILE_ROWS 12
#define PREFETCHING_ROWS 1
#define POWERS POWERS_FP32
#define terms_splat(x) vector_splat(x)
#define vector_dot(sum, x, weights) add_product(sum, x, weights)
#define add_terms(a, b) ((a) + (b))

#include "engine/math/rnn_lanes_avx512.h"
#include "engine/math/rnn_vector.h"

typedef float term;
typedef vector vector_terms;
typedef vector vector_sum;

/* sum + a·b, in place: the compiler may also leave it where a or b was, and then copies it back. */
INLINE vector add_product(vector sum, vector a, vector b)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

#include "engine/math/rnn_pairs_vector.h"

INLINE void hidden_store(void *hidden, size_t at, vector from)
{
    vector_store((float *)hidden + at, from);
}

/* The sum of x_e·x_o over the pairs. */
static union rnn_product words_product(const void *list, size_t count)
{
    enum { SUMS = 4 }; /* one after the other they would wait for themselves */
    const float *terms = list;
    __m512 sums[SUMS] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (size_t begin = 0; begin + 1 < count; begin += SUMS * LANES) {
        UNROLLED_FOR (i, SUMS) {
            size_t k = begin + i * LANES;
            __mmask16 mask = k + 1 < count ? first_words(k, count) : 0;
            __m512 first = _mm512_maskz_loadu_ps(mask, terms + k);
            sums[i] = _mm512_fmadd_ps(first, _mm512_maskz_loadu_ps(mask, terms + k + 1), sums[i]);
        }
    }
    __m512 sum = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
    return (union rnn_product){.real = _mm512_reduce_add_ps(sum)};
}

/* Starts, and inputs that are no h: of `vector_count` vectors from `first` on (row_count and vector_count are
 * constants). Returns the weights behind them. */
INLINE struct block_weights rest_part(size_t row_count, size_t first, size_t vector_count,
                                      const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows,
                                      vector ret_sums[TILE_ROWS][RNN_VECTORS])
{
    vector_sum sums[TILE_ROWS][RNN_VECTORS];
    const term *inputs[TILE_ROWS];
    struct block_weights weights = layer_weights(layer, block, first);
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].input;
        UNROLLED_FOR (gate, vector_count) {
            sums[row][gate] = vector_load(rows[row].start + block * BLOCK + (first + gate) * LANES);
        }
    }
    if (layer->is_input_apart) {
        weights = accumulate(row_count, vector_count, sums, weights, inputs, layer->input_words);
    }
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, vector_count) {
            ret_sums[row][first + gate] = sums[row][gate];
        }
    }
    return weights;
}

/* Adds what is in pairs to ret_sums. */
INLINE void paired_part(size_t row_count, size_t first, size_t vector_count, const struct rnn_layer *layer,
                        size_t block, const struct rnn_layer_row *rows, struct block_weights weights,
                        vector ret_sums[TILE_ROWS][RNN_VECTORS])
{
    vector_sum sums[TILE_ROWS][RNN_VECTORS];
    const term *inputs[TILE_ROWS];
    size_t column = block * BLOCK + first * LANES;
    const float *input_offsets = (const float *)layer->offsets + column;
    const float *hidden_offsets = input_offsets + layer->block_count * BLOCK;
    bool has_input = layer->input_words > 0 && !layer->is_input_apart;
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].input;
        UNROLLED_FOR (gate, vector_count) {
            sums[row][gate] = vector_load(hidden_offsets + gate * LANES) - rows[row].hidden_product.real;
        }
    }
    if (has_input) {
        UNROLLED_FOR (row, row_count) {
            UNROLLED_FOR (gate, vector_count) {
                sums[row][gate] += vector_load(input_offsets + gate * LANES) - rows[row].input_product.real;
            }
        }
        weights = accumulate_pairs(row_count, vector_count, sums, weights, inputs, layer->input_words);
    }
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].hidden;
    }
    accumulate_pairs(row_count, vector_count, sums, weights, inputs, layer->hidden_words);
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, vector_count) {
            vector unit = vector_load(layer->scales + column + gate * LANES);
            ret_sums[row][first + gate] = vector_fma(sums[row][gate], unit, ret_sums[row][first + gate]);
        }
    }
}

INLINE void tile_sums(size_t row_count, const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows,
                      vector ret_sums[TILE_ROWS][RNN_VECTORS])
{
    for (size_t first = 0; first < RNN_VECTORS; first += tile_vectors(row_count)) {
        struct block_weights weights =
            rest_part(row_count, first, tile_vectors(row_count), layer, block, rows, ret_sums);
        paired_part(row_count, first, tile_vectors(row_count), layer, block, rows, weights, ret_sums);
    }
}

/* As rnn_tile_vector.h declares it. */
static void layer_sums(size_t row_count, const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows,
                       vector ret_sums[TILE_ROWS][RNN_VECTORS]){
    WITH_ROW_COUNT(row_count, tile_sums, layer, block, rows, ret_sums)}

/* Inputs that are no h. */
INLINE void dense_apart(size_t row_count, size_t vector_count, const struct rnn_dense *layer, size_t column,
                        const struct rnn_dense_row *rows, const term *const inputs[TILE_ROWS],
                        struct block_weights weights)
{
    vector_sum sums[TILE_ROWS][RNN_VECTORS];
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, vector_count) {
            sums[row][gate] = vector_load(layer->start + column + gate * LANES);
        }
    }
    accumulate(row_count, vector_count, sums, weights, inputs, layer->input_words);
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, vector_count) {
            vector_store(rows[row].output + column + gate * LANES, sums[row][gate]);
        }
    }
}

INLINE void dense_paired(size_t row_count, size_t vector_count, const struct rnn_dense *layer, size_t column,
                         const struct rnn_dense_row *rows, const term *const inputs[TILE_ROWS],
                         struct block_weights weights)
{
    vector_sum sums[TILE_ROWS][RNN_VECTORS];
    const float *offsets = (const float *)layer->offsets + column;
    UNROLLED_FOR (row, row_count) {
        UNROLLED_FOR (gate, vector_count) {
            sums[row][gate] = vector_load(offsets + gate * LANES) - rows[row].input_product.real;
        }
    }
    accumulate_pairs(row_count, vector_count, sums, weights, inputs, layer->input_words);
    UNROLLED_FOR (gate, vector_count) {
        size_t at = column + gate * LANES;
        UNROLLED_FOR (row, row_count) {
            vector unit = vector_load(layer->scales + at);
            vector_store(rows[row].output + at, vector_fma(sums[row][gate], unit, vector_load(layer->start + at)));
        }
    }
}

INLINE void dense_part(size_t row_count, size_t first, size_t vector_count, const struct rnn_dense *layer, size_t block,
                       const struct rnn_dense_row *rows)
{
    size_t column = block * BLOCK + first * LANES;
    struct block_weights weights = dense_weights(layer, block, first);
    const term *inputs[TILE_ROWS];
    UNROLLED_FOR (row, row_count) {
        inputs[row] = rows[row].input;
    }
    if (layer->is_input_apart) {
        dense_apart(row_count, vector_count, layer, column, rows, inputs, weights);
    } else {
        dense_paired(row_count, vector_count, layer, column, rows, inputs, weights);
    }
}

const struct rnn_steps rnn_steps_avx512_pairs = {
    .name = "avx512-pairs",
    .precision = RNN_PRECISION_FP32,
    .lanes = LANES,
    .tile_rows = TILE_ROWS,
    .words_product = words_product,
    .layer = layer,
    .dense = dense,
};

#else
#include "engine/math/rnn_packed_sets.h"
#endif
