/* How a model generates: by weights packed for it, a stack of LSTM, GRU or RNN cells between a symbol and its
 * successor's logits; or, where it is no such stack, by a stepper (stepper.h). Immutable once made, shared by every
 * compute thread. Made on the loader thread.
 *
 * Equations (TensorFlow 1's BasicLSTMCell; Hochreiter & Schmidhuber 1997, forget gate Gers et al. 2000; its GRUCell,
 * Cho et al. 2014; its BasicRNNCell; x is one-hot(symbol) or embedding[symbol]):
 *   LSTM  [i j f o] = [x h] kernel + bias;  c' = c·σ(f + forget_bias) + σ(i)·tanh(j);  h' = σ(o)·tanh(c')
 *   GRU   [r u] = σ([x h] kernel + bias);  h' = u·h + (1 − u)·tanh([x r·h] candidate_kernel + candidate_bias)
 *   RNN   h' = tanh([x h] kernel + bias)
 *   y = h', or with a residual connection h' + x (He et al. 2016; TensorFlow's ResidualWrapper): the next layer's x
 *   logits = y_top softmax_w + softmax_b
 * A row's sums run over the same terms in the same order whatever the batch, the tile and the number of threads. */
#ifndef ENGINE_DECODE_DECODE_PLAN_H
#define ENGINE_DECODE_DECODE_PLAN_H

#include "engine/base/status.h"
#include "engine/math/rnn_packed.h"

enum { DECODE_LAYERS_MAX = 16, DECODE_UNITS_MAX = 16384, DECODE_SYMBOLS_MAX = 1 << 20 };

/* How much a table of layer 0's input may hold, and how many times as much as what it replaces. */
enum { DECODE_TABLE_BYTES_MAX = 256 << 20, DECODE_TABLE_TIMES_MAX = 4 };

enum decode_cell { DECODE_CELL_LSTM, DECODE_CELL_GRU, DECODE_CELL_RNN };

/* One layer's weights as TensorFlow stores them, float32, row-major; borrowed until decode_plan_create returns. */
struct decode_layer_weights {
    enum decode_cell cell;
    size_t input_size; /* layer 0: vocabulary size (one-hot) or embedding size; others: units of the layer below */
    size_t units;
    const float *kernel; /* [input_size + units, gates × units], gates i, j, f, o; of a GRU r, u; of an RNN one */
    const float *bias;   /* [gates × units] */
    float forget_bias;   /* of an LSTM */
    bool is_residual;    /* input_size equals units; layer 0 only with an embedding */
    const float *candidate_kernel; /* of a GRU: [input_size + units, units] */
    const float *candidate_bias;   /* of a GRU: [units] */
};

struct decode_weights {
    size_t vocabulary_size;
    size_t embedding_size;  /* 0: one-hot input */
    const float *embedding; /* [vocabulary_size, embedding_size] or NULL */
    size_t layer_count;
    struct decode_layer_weights layers[DECODE_LAYERS_MAX];
    const float *softmax_w;       /* [units of the top layer, vocabulary_size]; NULL: the embedding, transposed */
    const float *softmax_b;       /* [vocabulary_size] */
    const char *kernels;          /* NULL: the fastest this CPU has; or one of rnn_kernels_at's, to test and measure */
    enum rnn_precision precision; /* of packed weights and h; c, tables and logits are fp32 in all of them */
};

struct decode_plan;

/* Packs the weights. INVALID for sizes that do not fit together, a tied embedding's among them, LIMIT for ones over
 * the maxima above, UNSUPPORTED for kernels this CPU lacks, UNPROCESSABLE, code "not_finite", where a narrow precision
 * cannot hold a weight, NO_MEMORY. The layer-0 input becomes a row of a table (embedding × input kernel + bias) where
 * that is no larger than what it replaces, or within DECODE_TABLE_BYTES_MAX and DECODE_TABLE_TIMES_MAX. Slow (reads
 * every weight): never on the loop. Owned. */
enum status decode_plan_create(const struct decode_weights *weights, struct decode_plan **ret_plan,
                               struct error *error) MUST_CHECK;

/* Bytes that the plan of such sizes holds, as decode_plan_bytes says; the weights themselves are not looked at. */
size_t decode_plan_measure(const struct decode_weights *sizes);

/* A plan whose rows are stepped by `stepper`, which is the plan's from then on; on failure it stays the caller's. LIMIT
 * above DECODE_SYMBOLS_MAX, NO_MEMORY. Owned. */
struct stepper;
enum status decode_plan_create_stepped(const struct stepper *stepper, struct decode_plan **ret_plan,
                                       struct error *error) MUST_CHECK;
void decode_plan_destroy(struct decode_plan *plan);

/* Feeds symbol 0 to a fresh state, which touches every weight once. UNPROCESSABLE, code "not_finite", when a logit is
 * not a finite number; the stepper's errors; NO_MEMORY. */
enum status decode_plan_warm_up(const struct decode_plan *plan, struct error *error) MUST_CHECK;

/* Whether its rows are stepped by a stepper. */
bool decode_plan_is_stepped(const struct decode_plan *plan);
/* Bytes held by the plan and its packed weights, or by the stepper. */
size_t decode_plan_bytes(const struct decode_plan *plan);
/* Number of symbols: logits of a step, and one more than the largest symbol. */
size_t decode_plan_vocabulary_size(const struct decode_plan *plan);
/* The name of the kernels it was packed for: "avx512", "avx512-pairs"; in narrow precisions "avx512-vnni"; or the
 * stepper's. */
const char *decode_plan_kernels(const struct decode_plan *plan);
/* Of a plan that is stepped fp32. */
enum rnn_precision decode_plan_precision(const struct decode_plan *plan);
/* Bytes of one row's recurrent state outside its slot, the same for all kernels and precisions: floats, for each layer
 * c [units], then h [units]; of a GRU or RNN h alone. A stepper's: its own bytes. */
size_t decode_plan_state_bytes(const struct decode_plan *plan);

#endif
