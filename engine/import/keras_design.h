/* What a Keras model is, as its configuration says it or, without one, its weights: layers and how they are joined.
 * The configurations of Keras 1, 2 and 3 and of TensorFlow.js are read alike. Thread: the one that imports; everything
 * is in the model's arena. */
#ifndef ENGINE_IMPORT_KERAS_DESIGN_H
#define ENGINE_IMPORT_KERAS_DESIGN_H

#include "engine/import/foreign.h"
#include "engine/import/understanding.h"

enum { KERAS_PARTS_MAX = 128, KERAS_PART_INPUTS_MAX = 16 };

enum keras_part_kind {
    KERAS_PART_INPUT,
    KERAS_PART_SAME, /* changes nothing when it predicts: dropout, noise */
    KERAS_PART_EMBEDDING,
    KERAS_PART_LSTM,
    KERAS_PART_GRU,
    KERAS_PART_RNN,
    KERAS_PART_DENSE,
    KERAS_PART_ACTIVATION,
    KERAS_PART_NORMALIZATION, /* BatchNormalization */
    KERAS_PART_CONCATENATE,
    KERAS_PART_ADD,
    KERAS_PART_FLATTEN,
    KERAS_PART_ATTENTION, /* textgenrnn's AttentionWeightedAverage */
    KERAS_PART_MASKING,
};

struct keras_part {
    enum keras_part_kind kind;
    const char *class;  /* "CuDNNLSTM" */
    const char *name;   /* in the model, and of its weights */
    const char *stored; /* where a .keras file has them: "lstm_1" for the second LSTM, whatever its name */
    size_t units;
    const char *activation;           /* "linear" where nothing is said */
    const char *recurrent_activation; /* NULL: nothing is said */
    bool returns_sequences;
    bool goes_backwards;
    bool is_stateful;
    bool resets_after; /* of a GRU without bias, which would tell */
    bool is_bidirectional;
    const char *merge_mode;
    double epsilon;
    bool masks_zero;                      /* of an embedding: layers behind it pass over symbol 0 */
    double mask_value;                    /* of a Masking: over vectors that hold nothing else */
    size_t inputs[KERAS_PART_INPUTS_MAX]; /* parts */
    size_t input_count;
    const struct plain *inbound; /* what inputs are made of, while it is read */
};

struct keras_design {
    struct keras_part *parts; /* [KERAS_PARTS_MAX] */
    size_t count;
    size_t output;
    size_t window;      /* symbols of an input; 0: any number */
    size_t input_width; /* columns of an input's symbol; 0: numbers alone */
    bool is_inferred;   /* from weights */
};

/* Reads the model's configuration, which it must have. The setting `output` names the layer that predicts where there
 * may be several; without it there must be one. UNSUPPORTED names the layer or argument that is not built here;
 * CORRUPT; UNPROCESSABLE. A configuration in a file of its own is named first. */
enum status keras_design_read(struct foreign_model *model, struct import_settings *settings,
                              struct keras_design *ret_design, struct error *error) MUST_CHECK;

/* Whether Keras 3 or later wrote it and runs it. */
bool keras_is_new(const struct foreign_keras *keras);

/* Whether it is an LSTM, GRU or plain RNN. */
bool keras_part_is_recurrent(const struct keras_part *part);

#endif
