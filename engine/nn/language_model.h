/* The text model as a graph: symbol → one-hot or embedding → stack of recurrent cells → logits, with a train head and a
 * predict head over one set of variables. For one building thread.
 *
 * Variables: embedding; rnn/multi_rnn_cell/cell_N/basic_lstm_cell/{kernel,bias}, or basic_rnn_cell/{kernel,bias}, or
 * gru_cell/{gates,candidate}/{kernel,bias}; softmax/w, which a tied model has not; softmax/b.
 * train head:   train/inputs:0, train/targets:0 [batch, time] int32; train/keep_probability:0 (1 − dropout unless fed);
 *               train/initial_state/N/{c,h}:0 [batch, units] (zeros unless fed), train/final_state/N/{c,h}:0, of other
 *               cells than LSTM …/N:0, as their state is no pair;
 *               train/loss:0, mean nats per symbol; train/smoothed_loss:0, the same against targets of which
 *               train/label_smoothing:0 (0 unless fed) is spread over all symbols (Szegedy et al. 2016).
 * predict head: predict/inputs:0 [batch, time]; predict/initial_state/N/{c,h}:0; predict/final_state/N/{c,h}:0;
 *               predict/logits:0, predict/probabilities:0 [batch, time, vocabulary]. */
#ifndef ENGINE_NN_LANGUAGE_MODEL_H
#define ENGINE_NN_LANGUAGE_MODEL_H

#include "engine/nn/recurrent.h"

/* Of all that goes through it a layer keeps at least a hundredth. */
#define LANGUAGE_MODEL_DROPOUT_MAX 0.99

/* Weights of one model at most: 1 GiB of float32, so that one request cannot take the machine's memory. */
enum {
    LANGUAGE_MODEL_LAYERS_MAX = 16,
    LANGUAGE_MODEL_UNITS_MAX = 16384,
    LANGUAGE_MODEL_PARAMETERS_MAX = 1 << 28,
};

struct language_model_options {
    enum recurrent_cell cell;
    size_t layers;
    size_t units;
    size_t embedding;       /* 0: one-hot */
    bool is_residual;       /* each layer but the first gives its output plus its input */
    bool is_tied;           /* the output's weights are the embedding's, transposed: embedding equals units */
    double dropout;         /* the default of keep_probability is 1 − dropout */
    bool has_input_dropout; /* the embedded symbols go through dropout too, as the layers' outputs do */
    bool has_one_mask;      /* dropout has one mask a sequence and row, not one a step */
    bool has_forget_bias;   /* of an LSTM; otherwise 1 */
    double forget_bias;
    double initial_range; /* all weights but the cells' biases begin uniform in [−range, range); 0: as TensorFlow's
                                 initialisers have them */
    size_t vocabulary_size;
    bool has_train_head;
    bool has_predict_head;
};

/* Builds the heads that are asked for and not there yet, over shared variables. INVALID names a size out of bounds, or
 * a tied embedding of another size than the top layer's output, or an input dropout without an embedding;
 * TOO_LARGE above LANGUAGE_MODEL_PARAMETERS_MAX; CONFLICT when another architecture
 * stands on the same names: get_variable's error where a shape differs, else code "architecture_exists" naming both. */
enum status language_model_build(struct graph *graph, const struct language_model_options *options,
                                 struct error *error) MUST_CHECK;

/* What is added to an LSTM's forget gate: forget_bias, or 1. */
double language_model_forget_bias(const struct language_model_options *options);

/* Weights of such a model, computed without building it; SIZE_MAX when that overflows. */
size_t language_model_parameter_count(const struct language_model_options *options);

/* What earlier builds made, read off the graph; false when there was none. */
bool language_model_find(const struct graph *graph, struct language_model_options *ret_options);

#endif
