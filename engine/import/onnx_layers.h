/* The recurrent nodes of an ONNX graph as layers, and the build program of a stack of them that no language_model is.
 * Thread: the one that imports. What is made lives in the model's arena. */
#ifndef ENGINE_IMPORT_ONNX_LAYERS_H
#define ENGINE_IMPORT_ONNX_LAYERS_H

#include "engine/import/onnx_graph.h"
#include "engine/import/understanding_private.h"

/* Inputs and outputs of a recurrent node. */
enum { ONNX_INPUT_X, ONNX_INPUT_W, ONNX_INPUT_R, ONNX_INPUT_B, ONNX_INPUT_H = 5, ONNX_INPUT_C, ONNX_INPUT_P };
enum { ONNX_OUTPUT_Y_C = 2, ONNX_ACTIVATIONS_MAX = 3 };

/* The recurrent operators. Gates are rows of W and R: i, o, f, c; z, r, h; one. */
struct onnx_recurrent {
    const char *op;
    enum foreign_cell cell;
    size_t gates;
    size_t activation_count;
    const char *activations[ONNX_ACTIVATIONS_MAX]; /* names in programs */
};

struct onnx_layer {
    const Onnx__NodeProto *node; /* NULL: it comes of no graph */
    const char *place;           /* "node 'LSTM_0'" */
    const struct onnx_recurrent *recurrent;
    size_t inputs;
    size_t units;
    const struct foreign_tensor *w; /* [gates × units, inputs] */
    const struct foreign_tensor *r; /* [gates × units, units] */
    const struct foreign_tensor *b; /* [2 × gates × units], of W and of R; NULL: zeros */
    const unsigned char *gates;     /* where w and r keep them; NULL: in their order */
    const struct foreign_tensor *p; /* peepholes i, o, f: [3 × units]; NULL: none */
    const char *activations[ONNX_ACTIVATIONS_MAX];
    bool is_usual;       /* nothing of what follows: a language_model's cell computes the same */
    bool is_reset_after; /* of a GRU: the reset gate is applied behind the recurrent product */
    bool is_residual;    /* gives its output plus its input */
};

/* What operator a node is, or NULL. */
const struct onnx_recurrent *onnx_find_recurrent(const Onnx__NodeProto *node);

/* A cell's operator. */
const struct onnx_recurrent *onnx_recurrent_of(enum foreign_cell cell);

/* Reads attributes and tensors of a recurrent node. UNSUPPORTED names it and what it does that is not built. */
enum status onnx_read_layer(struct onnx_graph *graph, const Onnx__NodeProto *node, struct onnx_layer *ret_layer,
                            struct error *error) MUST_CHECK;

/* Elements [first, first + count) of a tensor's rows as a tensor of its own, a view: a matrix of `columns`, or a vector
 * (0). */
enum status onnx_cut(struct onnx_graph *graph, const struct foreign_tensor *tensor, size_t first, size_t count,
                     size_t columns, const struct foreign_tensor **ret_tensor, struct error *error) MUST_CHECK;

/* Notes what layers are that no language_model has. NO_MEMORY. */
enum status onnx_note_layers(struct thinking *thinking, const struct onnx_layer *layers, size_t count) MUST_CHECK;

/* Writes the program of layers, from the bottom, between embedding and output layer, which are found, as is the
 * vocabulary: a step is written out as the operators' equations have it. Variables: embedding;
 * layer_N/W, R, B, of GRUs also RB, and P; output/w, b. predict/inputs:0 [1, time] gives
 * predict/logits:0 and predict/probabilities:0 [1, time, symbols]; states predict/initial_state/N/{h,c}:0 are zeros
 * unless fed. TOO_LARGE above LANGUAGE_MODEL_PARAMETERS_MAX, NO_MEMORY. */
enum status onnx_make_program(struct thinking *thinking, const struct onnx_layer *layers, size_t count) MUST_CHECK;

#endif
