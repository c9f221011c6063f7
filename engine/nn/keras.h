/* Keras layers, as tf.keras of TensorFlow 1.15 has them: names, weights, arithmetic. A layer is an object of its graph
 * (OBJECT_LAYER); its variables are made when it is built, named through name scopes ("my_lstm/kernel", made unique
 * like ops), and are not get_variable's. A sequential model is a layer too. For one building thread.
 * Source: TensorFlow 1.15, keras/layers, keras/engine. Equations, K kernel, R recurrent kernel, b bias, ρ the
 * recurrent activation, φ the activation, columns in the order of the gates:
 *   SimpleRNN          h' = φ(xK + b + hR)
 *   LSTM   i|f|c|o     i, f, o = ρ(xK + b + hR); c' = f∘c + i∘φ(xK + b + hR); h' = o∘φ(c')
 *   GRU    z|r|h       z, r = ρ(xK + b + hR); k = φ(xK + b + (r∘h)R); h' = z∘h + (1 − z)∘k
 *   GRU, reset_after   with a second bias b': k = φ(xK + b + r∘(hR + b')), z and r with b' too */
#ifndef ENGINE_NN_KERAS_H
#define ENGINE_NN_KERAS_H

#include "engine/graph/handles.h"
#include "engine/graph/variable.h"

enum {
    KERAS_LAYERS_MAX = 128, /* of one model */
    KERAS_TOTAL_MAX = 1024, /* with all that is nested, counted as often as it is used */
    KERAS_NESTING_MAX = 8,
    KERAS_WEIGHTS_MAX = 1024, /* of one model, with all that is nested */
    KERAS_UNITS_MAX = 1 << 20,
    KERAS_OUTPUTS_MAX = 5, /* an output and the states of two directions */
};

enum keras_kind {
    KERAS_SEQUENTIAL,
    KERAS_EMBEDDING,
    KERAS_LSTM,
    KERAS_GRU,
    KERAS_SIMPLE_RNN,
    KERAS_DENSE,
    KERAS_BIDIRECTIONAL,
    KERAS_TIME_DISTRIBUTED,
    KERAS_DROPOUT,
    KERAS_ACTIVATION,
    KERAS_FLATTEN,
    KERAS_RESHAPE,
    KERAS_KIND_COUNT
};

/* "lstm" for KERAS_LSTM, and back from that or the class's name ("LSTM"); false when there is none. */
const char *keras_kind_name(enum keras_kind kind);
bool keras_kind_find(const char *name, enum keras_kind *ret_kind);

/* Whether there is an activation of this name. "hard_sigmoid_3" is what Keras 3 calls hard_sigmoid, clip(x/6 + 0.5, 0,
 * 1); TensorFlow 1.15 has none of that name. */
bool keras_activation_exists(const char *name);

/* Constructor arguments; what is left zero is Keras' default. Texts are copied. */
struct keras_options {
    enum keras_kind kind;
    const char *name; /* NULL: "lstm", "lstm_1", … counted per graph */
    bool has_dtype;
    enum dtype dtype; /* float32 or float64 */
    size_t units;     /* recurrent, dense */
    size_t input_dim; /* embedding: symbols; others: the last dimension of the input, as input_shape */
    size_t output_dim;
    const char *activation;           /* NULL: "tanh" of recurrent layers, else "linear" */
    const char *recurrent_activation; /* NULL: "hard_sigmoid", clip(0.2x + 0.5, 0, 1) */
    bool has_no_bias;                 /* use_bias=False */
    bool has_no_forget_bias;          /* unit_forget_bias=False */
    bool returns_sequences;
    bool returns_state;
    bool goes_backwards;
    bool is_stateful; /* UNSUPPORTED */
    bool resets_after;
    double rate;                              /* dropout */
    const char *merge_mode;                   /* bidirectional: "concat" (NULL), "sum", "mul", "ave", "none" */
    struct shape target;                      /* reshape: without the batch, one dimension may be unknown */
    bool has_input_shape;                     /* then a sequential model that begins with it is built at once */
    struct shape input_shape;                 /* without the batch */
    struct initializer kernel_initializer;    /* DEFAULT: glorot_uniform; embedding: uniform in ±0.05 */
    struct initializer recurrent_initializer; /* DEFAULT: orthogonal */
    struct initializer bias_initializer;      /* DEFAULT: zeros */
    const uint32_t *children;                 /* sequential: its layers; wrappers: one */
    size_t child_count;
};

/* Makes a layer or model. ValueError `The name "x" is used 2 times in the model. All layer names should be unique.`,
 * "Unknown activation function:nope"; UNSUPPORTED for stateful layers. */
enum status keras_create(struct graph *graph, const struct keras_options *options, uint32_t *ret_layer,
                         struct error *error) MUST_CHECK;

/* A layer's kind, its name, and whether its variables are there. */
enum keras_kind keras_layer_kind(const struct graph *graph, uint32_t layer);
const char *keras_layer_name(const struct graph *graph, uint32_t layer);
bool keras_layer_is_built(const struct graph *graph, uint32_t layer);
/* A model's layers. */
size_t keras_layer_count(const struct graph *graph, uint32_t model);
uint32_t keras_layer_at(const struct graph *graph, uint32_t model, size_t index);
/* Input and output of a model that was built from its first layer's input_shape; false of others. */
bool keras_model_tensors(const struct graph *graph, uint32_t model, struct output *ret_input,
                         struct output *ret_output);

/* model.get_layer: by name, or by index with `name` NULL, from the end where it is negative. ValueError "No such layer:
 * nope", "Was asked to retrieve layer at index 7 but model only has 2 layers."; IndexError before the first. */
enum status keras_get_layer(const struct graph *graph, uint32_t model, const char *name, int64_t index,
                            uint32_t *ret_layer, struct error *error) MUST_CHECK;

/* build: makes the variables for an input of this shape (with the batch), inner layers' in name scopes of their names,
 * made unique as any; does nothing the second time. ValueErrors of shapes that do not fit ("Input 0 of layer lstm is
 * incompatible with the layer: expected ndim=3, found ndim=2. Full shape received: [None, 5]"). */
enum status keras_build(struct graph *graph, uint32_t layer, const struct shape *input_shape,
                        struct error *error) MUST_CHECK;

struct keras_call {
    struct output input;
    const struct output *initial_states; /* of recurrent layers: h, or h and c; of bidirectional both directions' */
    size_t initial_state_count;
    /* Of recurrent layers, bool [batch, time]: where it is false, a step keeps the states, and gives the output of the
     * one before it, or zeros; .node NULL: none. */
    struct output mask;
    bool is_training; /* whether dropout drops */
};

/* What the call returns: the output and, with returns_state, the states (h, c); two outputs with merge_mode "none". */
struct keras_result {
    struct output outputs[KERAS_OUTPUTS_MAX];
    size_t output_count;
};

/* layer(x): builds it if need be, inside the layer's name scope. ValueError for a mask that is none, or of a layer that
 * takes none. Source of masks: tensorflow 1.15, python/keras/backend.py, rnn. */
enum status keras_call(struct graph *graph, uint32_t layer, const struct keras_call *call,
                       struct keras_result *ret_result, struct error *error) MUST_CHECK;

/* One step of a built recurrent layer: x [batch, depth], states in Keras' order; the new h is also the output. */
enum status keras_step(struct graph *graph, uint32_t layer, struct output x, const struct output *states,
                       struct output *ret_states, struct error *error) MUST_CHECK;
/* 2 of an LSTM, 1 of other recurrent layers, 0 of the rest. */
size_t keras_state_count(const struct graph *graph, uint32_t layer);

/* layer.weights, in Keras' order (kernel, recurrent_kernel, bias); none while it is not built; of a model that is not
 * built ValueError "Weights for model sequential have not yet been created. …". `ret_variables` has room for
 * KERAS_WEIGHTS_MAX. */
enum status keras_weights(const struct graph *graph, uint32_t layer, const struct variable **ret_variables,
                          size_t *ret_count, struct error *error) MUST_CHECK;

/* What set_weights checks: as many as the layer has, of their shapes. ValueErrors "You called `set_weights(weights)` on
 * layer "x" with a  weight list of length 1, but the layer was expecting 3 weights. …", "Layer weight shape (1, 4)
 * not compatible with provided weight shape (4,)". */
enum status keras_check_weights(const struct graph *graph, uint32_t layer, const struct tensor *weights, size_t count,
                                struct error *error) MUST_CHECK;

#endif
