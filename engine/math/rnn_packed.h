/* Kernels for one time step of LSTM layers and of the dense layer above them, over weights packed once at load.
 *
 * A block holds `lanes` hidden units × 4 gates (or 4 × lanes columns): its weights are read once for up to `tile_rows`
 * rows of the batch, the sums stay in registers, and the pointwise part follows at once. Every sum starts from its
 * `start` value and adds input terms, then hidden terms, in ascending order with fused multiply-adds, whatever the
 * batch: a row's bits depend on nothing but the row, and every kernel set gives the same bits as the plain one.
 * Thread: any; packed weights are read only and shared. Everything a kernel reads or writes is aligned to
 * MEM_ALIGNMENT_BYTES. */
#ifndef ENGINE_MATH_RNN_PACKED_H
#define ENGINE_MATH_RNN_PACKED_H

#include <stddef.h>

#include "engine/base/status.h"

enum { RNN_GATES = 4, RNN_GATE_FORGET = 2, RNN_LANES_MAX = 16 };

/* One packed LSTM layer. `start` and `weights` are owned; release with rnn_lstm_release. */
struct rnn_lstm {
    size_t input_size; /* dense inputs; 0 where every row starts from a row of a table instead */
    size_t units;
    size_t block_count; /* ceil(units / lanes) */
    size_t stride;      /* block_count × lanes: floats of a padded c or h; the padding stays 0 */
    float *weights;     /* [block_count, input_size + units, 4, lanes], gates in the order i, j, f, o */
    float *start;       /* [block_count, 4, lanes]: bias, with the forget bias added to f */
};

/* One row's part of an LSTM step. `hidden` and `hidden_next` must not overlap: blocks of one row run on several
 * threads. */
struct rnn_lstm_row {
    const float *start;  /* [block_count, 4, lanes]: the layer's start, or the symbol's row of a table */
    const float *input;  /* [input_size]; any alignment; never read when that is 0 */
    const float *hidden; /* [stride], before the step */
    float *hidden_next;  /* [stride], written */
    float *cell;         /* [stride], overwritten */
};

/* One packed dense layer (logits). Owned; release with rnn_dense_release. */
struct rnn_dense {
    size_t input_size;
    size_t columns;
    size_t block_count; /* ceil(columns / (4 × lanes)) */
    size_t stride;      /* block_count × 4 × lanes: floats of a padded output; the padding is written as 0 */
    float *weights;     /* [block_count, input_size, 4, lanes] */
    float *start;       /* [block_count, 4, lanes]: bias */
};

struct rnn_dense_row {
    const float *input; /* [input_size] */
    float *output;      /* [stride] */
};

struct rnn_kernels {
    const char *name; /* "avx512", "avx2", "neon", "plain" */
    size_t lanes;     /* at most RNN_LANES_MAX */
    size_t tile_rows; /* rows served by one pass over a block's weights */

    /* One step of `block` for `row_count` rows (at least 1), with
     * c' = c·σ(f) + σ(i)·tanh(j) and h' = σ(o)·tanh(c'); |h'| ≤ 1, and finite wherever the sums are not NaN. */
    void (*lstm)(const struct rnn_lstm *layer, size_t block, const struct rnn_lstm_row *rows, size_t row_count);

    /* output = start + input · weights for the columns of `block`. */
    void (*dense)(const struct rnn_dense *layer, size_t block, const struct rnn_dense_row *rows, size_t row_count);

    /* The largest of `count` (at least 1) values; false when one of them is not finite. */
    bool (*find_maximum)(const float *values, size_t count, float *ret_maximum);

    /* results[n] = exp((values[n] − maximum) × scale), 0 below exp(−87). Both arrays have room up to the next multiple
     * of RNN_LANES_MAX, the results there mean nothing. At most 2 units in the last place off. */
    void (*exponentials)(const float *values, size_t count, float maximum, float scale, float *results);
};

/* The kernel sets this CPU can run, fastest first; NULL from the end on. The last one is always "plain". */
const struct rnn_kernels *rnn_kernels_at(size_t index);

/* The fastest one (`name` NULL), or the one of that name; NULL when this CPU cannot run it. */
const struct rnn_kernels *rnn_kernels_find(const char *name);

/* Packs a layer for `kernels`. kernel: [input_size + units, 4 × units] row-major as TensorFlow stores it, of which the
 * first `skipped` input rows are left out (a table replaces them); bias: [4 × units]. NO_MEMORY is the only error. */
enum status rnn_lstm_init(struct rnn_lstm *layer, const struct rnn_kernels *kernels, size_t input_size, size_t skipped,
                          size_t units, const float *kernel, const float *bias, float forget_bias,
                          struct error *error) MUST_CHECK;
void rnn_lstm_release(struct rnn_lstm *layer);

/* Writes 4 × units gate sums (TensorFlow's order) into the layout of rnn_lstm_row.start: [block_count, 4, lanes]. */
void rnn_lstm_pack_start(const struct rnn_lstm *layer, const struct rnn_kernels *kernels, const float *gates,
                         float *start);

/* Packs weights [input_size, columns], row-major, and bias [columns]. NO_MEMORY is the only error. */
enum status rnn_dense_init(struct rnn_dense *layer, const struct rnn_kernels *kernels, size_t input_size,
                           size_t columns, const float *weights, const float *bias, struct error *error) MUST_CHECK;
void rnn_dense_release(struct rnn_dense *layer);

#endif
