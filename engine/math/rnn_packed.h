/* Kernels for one time step of recurrent layers and of the dense layer above them, over weights packed once at load.
 *
 * A block holds 4 vectors of `lanes` columns: of an LSTM `lanes` units × 4 gates, of a GRU 2 × lanes units × 2 gates
 * and then, once the products of both with h are known, 4 × lanes units of the candidate; of an RNN, and of a dense
 * layer, 4 × lanes columns. Its weights are read once for up to `tile_rows` rows of the batch, the sums stay in
 * registers, and the pointwise part follows at once. Every sum starts from its `start` value and adds input terms, then
 * hidden terms, in ascending order with fused multiply-adds, whatever the batch: a row's bits depend on nothing but the
 * row, and every kernel set gives the same bits as the plain one. Where a CPU adds beside its products, fp32 and int8
 * are summed in pairs (rnn_pairs_vector.h): in fp32 those bits are others, and as near to the exact sums.
 *
 * A layer is packed in one of three precisions. Narrow ones hold their weights, inputs and h in words of 4 bytes, each
 * term list padded with zeros to whole words:
 *   bf16  2 terms a word. Inputs and h are rounded to bf16 too, because a fused dot product (VDPBF16PS) then does 2
 *         terms in one instruction: half the bytes and nearly twice the terms a second of fp32. Widening the weights
 *         instead would save bytes only; it is the way on a CPU without the instruction. Sums are fp32.
 *   int8  4 terms a word, as bytes n + 128 (VPDPBUSD multiplies unsigned by signed): h = n / 63, any other vector x is
 *         n · max|x| / 63. Weights are symmetric, one scale for each output column: w = n · max|w| / 64. 63 + 64 is
 *         what a byte holds, so that bytes of x and of weights can be added: see rnn_pairs_vector.h. Sums are whole
 *         numbers, so all kernel sets give the same bits.
 * Thread: any; packed weights are read only and shared. Everything a kernel reads or writes is aligned to
 * MEM_ALIGNMENT_BYTES. */
#ifndef ENGINE_MATH_RNN_PACKED_H
#define ENGINE_MATH_RNN_PACKED_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

enum { RNN_VECTORS = 4, RNN_HALF_VECTORS = 2 }; /* of a block; that lie together */
enum { RNN_GATE_FORGET = 2, RNN_LANES_MAX = 16 };
enum { RNN_SUM_LANES = 8 };
enum { RNN_WORD_BYTES = 4, RNN_INT8_ZERO = 128, RNN_INT8_INPUT_MAX = 63, RNN_INT8_WEIGHT_MAX = 64 };

enum rnn_precision { RNN_PRECISION_FP32, RNN_PRECISION_BF16, RNN_PRECISION_INT8, RNN_PRECISION_COUNT };

struct rnn_steps;

/* What a layer's sums become, TensorFlow's cells; σ the logistic function, s the sums of one gate:
 *   LSTM           c' = c·σ(f) + σ(i)·tanh(j), h' = σ(o)·tanh(c'); |h'| ≤ 1
 *   GRU_GATES      update = σ(u), hidden_next = σ(r)·cell; cell is h in fp32
 *   GRU_CANDIDATE  over hidden = what GRU_GATES wrote: cell' = update·cell + (1 − update)·tanh(s), h' = cell'
 *   TANH           h' = tanh(s): BasicRNNCell
 * Finite wherever the sums are not NaN. A GRU keeps its h in fp32 beside the one that is multiplied: what changes a
 * little at each step would not change at all when rounded to a narrow precision. */
enum rnn_kind { RNN_KIND_LSTM, RNN_KIND_GRU_GATES, RNN_KIND_GRU_CANDIDATE, RNN_KIND_TANH, RNN_KIND_COUNT };

/* One packed layer, or half a GRU's. `start`, `weights`, `scales` and `offsets` are owned; release with
 * rnn_layer_release. */
struct rnn_layer {
    const struct rnn_steps *steps; /* what it is packed for */
    enum rnn_kind kind;
    size_t input_size; /* dense inputs; 0 where every row starts from a row of a table instead */
    size_t units;
    size_t block_count;   /* ceil(units / units of a block) */
    size_t stride;        /* block_count × units of a block: items of a padded c or h; the padding stays 0 */
    size_t column_stride; /* block_count × 4 × lanes: a row's padded sums */
    size_t input_words;   /* fp32: input_size; bf16: ceil(input_size / 2); int8: ceil(input_size / 4) */
    size_t hidden_words;
    bool is_input_apart; /* inputs are no h, whose magnitudes are at most 1: in int8 rows say their scale */
    bool is_far;         /* the owner's to say: weights come from memory at each step, not from a cache */
    void *weights;       /* [block_count, 2, input_words + hidden_words, 2, lanes] words, gates in TensorFlow's order */
    float *start;        /* [block_count, 4, lanes]: bias, with the forget bias added to f */
    float *scales; /* [block_count, 4, lanes]: what a product counts for, in int8 n·n of a weight and an h, in fp32 in
                      pairs that of an h and a packed weight; or NULL */
    void *offsets; /* [2, block_count, 4, lanes]: what sums of products have too little, of inputs and of h. int8:
                      uint32, −128 × the weights' sum; in pairs (fp32: float) see rnn_pairs_vector.h; or NULL */
};

/* What a row's words add to all its sums, where words are summed in pairs. */
union rnn_product {
    uint32_t whole; /* int8 */
    float real;     /* fp32 */
};

/* One row's part of a step. input and hidden: float, bf16 or bytes, by the layer's precision. `hidden` and
 * `hidden_next` must not overlap: blocks of one row run on several threads. A GRU's two halves follow one another, the
 * second one when the first is done with all blocks. */
struct rnn_layer_row {
    const float *start;              /* [block_count, 4, lanes]: the layer's start, or the symbol's row of a table */
    const void *input;               /* [input_size], whole words; any alignment for float; never read when that is 0 */
    const void *hidden;              /* [stride], before the step; GRU_CANDIDATE: the hidden_next of GRU_GATES */
    void *hidden_next;               /* [stride], written */
    float *cell;                     /* [stride], overwritten; GRU_GATES: read; TANH: not used */
    float *update;                   /* [stride]; GRU_GATES: written, GRU_CANDIDATE: read; others: not used */
    float input_scale;               /* int8: read where is_input_apart */
    union rnn_product input_product; /* written by rnn_layer_begin_row */
    union rnn_product hidden_product; /* the same */
};

/* One packed dense layer (logits), its fields as in rnn_layer. Owned; release with rnn_dense_release. */
struct rnn_dense {
    const struct rnn_steps *steps;
    size_t input_size;
    size_t columns;
    size_t block_count; /* ceil(columns / (4 × lanes)) */
    size_t stride;      /* block_count × 4 × lanes: floats of a padded output; the padding is written as 0 */
    size_t input_words;
    bool is_input_apart; /* as in rnn_layer */
    bool is_far;         /* the same */
    void *weights;       /* [block_count, 2, input_words, 2, lanes] words */
    float *start;        /* [block_count, 4, lanes]: bias */
    float *scales;       /* [block_count, 4, lanes]; or NULL */
    void *offsets;       /* [block_count, 4, lanes]; or NULL */
};

struct rnn_dense_row {
    const void *input;               /* [input_size], whole words: float, bf16 or bytes */
    float *output;                   /* [stride] */
    float input_scale;               /* int8: read where is_input_apart */
    union rnn_product input_product; /* written by rnn_dense_begin_row */
};

/* The kernels of one precision. */
struct rnn_steps {
    const char *name; /* "avx512-vnni" */
    enum rnn_precision precision;
    size_t lanes;     /* at most RNN_LANES_MAX */
    size_t tile_rows; /* rows served by one pass over a block's weights */

    /* Where words are summed in pairs (rnn_pairs_vector.h): what a list of `count` words adds to all of a row's
     * sums. NULL where words are summed one by one. */
    union rnn_product (*words_product)(const void *words, size_t count);

    /* One step of `block` for `row_count` rows (at least 1): see rnn_kind. */
    void (*layer)(const struct rnn_layer *layer, size_t block, const struct rnn_layer_row *rows, size_t row_count);

    /* output = start + input · weights for the columns of `block`. */
    void (*dense)(const struct rnn_dense *layer, size_t block, const struct rnn_dense_row *rows, size_t row_count);
};

struct rnn_kernels {
    const char *name; /* "avx512", "avx2", "neon", "plain" */
    struct rnn_steps fp32;

    /* The largest of `count` (at least 1) values; false when one of them is not finite. */
    bool (*find_maximum)(const float *values, size_t count, float *ret_maximum);

    /* results[n] = exp((values[n] − maximum) × scale), 0 below exp(−87). Both arrays have room up to the next multiple
     * of RNN_LANES_MAX, the results there mean nothing. At most 1 + |x| / 4 units in the last place off, x the
     * rounded exponent. */
    void (*exponentials)(const float *values, size_t count, float maximum, float scale, float *results);

    /* The sum of `count` (0, too) values in double: RNN_SUM_LANES sums, each of every so many-th value, then in
     * pairs. */
    double (*sum)(const float *values, size_t count);
};

/* The kernel sets this CPU can run, fastest first; NULL from the end on. The last one is always "plain". */
const struct rnn_kernels *rnn_kernels_at(size_t index);

/* The fastest one (`name` NULL), or the one of that name; NULL when this CPU cannot run it. */
const struct rnn_kernels *rnn_kernels_find(const char *name);

/* The steps of that precision to go with `kernels`: of the same family where this CPU has them, else plain ones. */
const struct rnn_steps *rnn_kernels_steps(const struct rnn_kernels *kernels, enum rnn_precision precision);

/* A layer as TensorFlow stores it, borrowed while it is packed. */
struct rnn_layer_weights {
    enum rnn_kind kind;
    size_t input_size;
    size_t skipped; /* input rows of the kernel that are left out: a table replaces them */
    size_t units;
    bool is_input_hidden; /* inputs are an h too: of a layer below, as it is */
    const float *kernel;  /* [input_size + units, rnn_gate_count × units], row-major */
    const float *bias;    /* [rnn_gate_count × units] */
    float forget_bias;    /* of an LSTM */
};

/* Gates of a kind: 4 of an LSTM, 2 of GRU_GATES, 1 of the others. */
size_t rnn_gate_count(enum rnn_kind kind);

/* The sizes of the layer that rnn_layer_init makes; nothing is allocated, kernel and bias are not looked at. */
struct rnn_layer rnn_layer_lay_out(const struct rnn_steps *steps, const struct rnn_layer_weights *weights);

/* Memory that a layer of these sizes holds. */
size_t rnn_layer_bytes(const struct rnn_layer *layer);

/* Packs a layer for `steps`. NO_MEMORY; for narrow precisions UNPROCESSABLE, code "not_finite", where a weight or bias
 * is none. */
enum status rnn_layer_init(struct rnn_layer *layer, const struct rnn_steps *steps,
                           const struct rnn_layer_weights *weights, struct error *error) MUST_CHECK;
void rnn_layer_release(struct rnn_layer *layer);

/* Before the first block of each step, when input and hidden are what they will be: what all blocks need of them. */
void rnn_layer_begin_row(const struct rnn_layer *layer, struct rnn_layer_row *row);
void rnn_dense_begin_row(const struct rnn_dense *layer, struct rnn_dense_row *row);

/* What a layer's sums start from, bias and forget bias: [rnn_gate_count × units]. */
void rnn_layer_bias(const struct rnn_layer_weights *weights, float *gates);

/* Writes gate sums [rnn_gate_count × units] (TensorFlow's order) into the layout of rnn_layer_row.start:
 * [block_count, 4, lanes]. */
void rnn_layer_pack_start(const struct rnn_layer *layer, const float *gates, float *start);

/* As rnn_layer_lay_out and rnn_layer_bytes. */
struct rnn_dense rnn_dense_lay_out(const struct rnn_steps *steps, size_t input_size, size_t columns);
size_t rnn_dense_bytes(const struct rnn_dense *layer);

/* A dense layer as TensorFlow stores it, borrowed while it is packed. */
struct rnn_dense_weights {
    size_t input_size;
    size_t columns;
    bool is_input_hidden; /* as in rnn_layer_weights */
    const float *kernel;  /* [input_size, columns], row-major */
    const float *bias;    /* [columns] */
};

/* Packs a layer for `steps`. Errors as rnn_layer_init. */
enum status rnn_dense_init(struct rnn_dense *layer, const struct rnn_steps *steps,
                           const struct rnn_dense_weights *weights, struct error *error) MUST_CHECK;
void rnn_dense_release(struct rnn_dense *layer);

/* All steps of a precision that this CPU can run, also those that others are faster than; NULL from the end on. The
 * last ones are always plain. */
const struct rnn_steps *rnn_steps_at(enum rnn_precision precision, size_t index);

/* "fp32", "bf16", "int8". */
const char *rnn_precision_name(enum rnn_precision precision);

/* The precision of that name; false when there is none. */
bool rnn_precision_find(const char *name, enum rnn_precision *ret_precision) MUST_CHECK;

/* Bytes of an h of `count` items. */
size_t rnn_hidden_bytes(enum rnn_precision precision, size_t count);

/* Words that hold `count` inputs. */
size_t rnn_words(enum rnn_precision precision, size_t count);

/* Writes finite values as a row's input: rnn_words(precision, count) words. Returns rnn_layer_row.input_scale. */
float rnn_pack_input(enum rnn_precision precision, const float *values, size_t count, void *words);

/* Reads `count` items of an h, or writes them (clamped to ±1 in int8): what is read and written again is the same. */
void rnn_read_hidden(enum rnn_precision precision, const void *hidden, size_t count, float *values);
void rnn_write_hidden(enum rnn_precision precision, const float *values, size_t count, void *hidden);

#endif
