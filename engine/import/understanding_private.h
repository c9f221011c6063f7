/* The inside of understanding, for its files. */
#ifndef ENGINE_IMPORT_UNDERSTANDING_PRIVATE_H
#define ENGINE_IMPORT_UNDERSTANDING_PRIVATE_H

#include "engine/import/understanding.h"
#include "engine/text/vocabulary.h"

/* How a framework lays its cells' weights out. */
struct layout {
    const char *name;
    bool is_transposed;          /* [gates × units, inputs], not [inputs, gates × units] */
    bool is_output_transposed;   /* [symbols, units], not [units, symbols] */
    double forget_bias;          /* what its cell adds to the forget gate besides the stored bias */
    unsigned char lstm_gates[4]; /* where it keeps i, j, f, o */
    const char *lstm_order;      /* for people: "i, j, f, o" */
    unsigned char gru_gates[2];  /* where it keeps r, u */
    const char *forget_bias_why;
};

struct layer {
    enum foreign_cell cell;
    const char *place; /* its name without those of its tensors */
    const struct foreign_tensor *kernel;
    const struct foreign_tensor *recurrent; /* NULL: its rows stand below the kernel's */
    const struct foreign_tensor *bias;
    const struct foreign_tensor *recurrent_bias;
    const struct foreign_tensor *candidate_kernel; /* of GRUs that keep the candidate apart */
    const struct foreign_tensor *candidate_recurrent;
    const struct foreign_tensor *candidate_bias;
    const struct foreign_tensor *candidate_recurrent_bias;
    size_t inputs;
    size_t units;
    bool adds_nothing;  /* to its forget gate, whatever the layout says */
    double forget_bias; /* of an LSTM: what it does add, once think_find_forget_biases was called */
};

/* Understanding at work. */
struct thinking {
    struct foreign_model *model;
    struct import_settings *settings;
    struct understanding *result;
    const struct layout *layout;
    bool *is_used; /* [tensor_count]: belongs to a layer, or is an optimiser's */
    struct layer layers[LANGUAGE_MODEL_LAYERS_MAX];
    size_t layer_count;
    bool is_residual; /* each layer but the first gives its output plus its input */
    const struct foreign_tensor *embedding;
    const struct foreign_tensor *output; /* in the layout's order */
    const struct foreign_tensor *output_bias;
    size_t symbol_count;
    bool is_vocabulary_given; /* by --vocabulary */
    json_t *vocabulary;       /* borrowed from the program once it is made; owned until then */
    struct error *error;
};

/* Notes a conclusion; value and why are formatted by the caller's printf arguments, "value|why". */
enum status think_note(struct thinking *thinking, const char *what, const char *value, const char *format, ...)
    PRINTF_LIKE(4, 5) MUST_CHECK;

/* The setting's value, or NULL. */
const char *think_setting(const struct thinking *thinking, const char *key);
size_t think_dimension(const struct foreign_tensor *tensor, int index);

/* A naming finds its recurrent layers, in order, and marks their tensors as used. */
struct naming {
    bool (*applies)(const struct foreign_model *model);
    enum status (*find_layers)(struct thinking *thinking);
    const struct layout *layout;
};
bool tensorflow_names_apply(const struct foreign_model *model);
enum status tensorflow_find_layers(struct thinking *thinking) MUST_CHECK;

/* Refuses what the graph beside a checkpoint does in cells of the layers' kinds and no cell here does, or what cannot
 * be read of it, unless that is set to be ignored. UNPROCESSABLE. */
enum status tensorflow_check_graph(struct thinking *thinking) MUST_CHECK;
extern const struct layout tensorflow_layout;
bool torch_names_apply(const struct foreign_model *model);
enum status torch_find_layers(struct thinking *thinking) MUST_CHECK;
extern const struct layout torch_layout;
bool torch_rnn_names_apply(const struct foreign_model *model);
enum status torch_rnn_find_layers(struct thinking *thinking) MUST_CHECK;
extern const struct layout torch_rnn_layout;
bool char_rnn_names_apply(const struct foreign_model *model);
enum status char_rnn_find_layers(struct thinking *thinking) MUST_CHECK;
extern const struct layout char_rnn_layout;

/* Leaves the tensors below the root that was set. INVALID where there are none. */
enum status think_keep_root(struct thinking *thinking) MUST_CHECK;
/* Where the layers that were found, once they are measured, are those of several whole models: leaves out one, if it is
 * another's copy or root=none was set, and says so: layers have to be found again then. UNPROCESSABLE asks which it
 * shall be. */
enum status think_drop_copies(struct thinking *thinking, bool *ret_is_changed) MUST_CHECK;

/* The layer of that place, made when there is none yet; LIMIT above LANGUAGE_MODEL_LAYERS_MAX. */
enum status think_layer_at(struct thinking *thinking, const char *place, size_t length, enum foreign_cell cell,
                           struct layer **ret_layer) MUST_CHECK;
/* Layers each fed by the one before it, of one kind and size, but PyTorch's; measures them, and notes those that a
 * language_model has. */
enum status think_check_layers(struct thinking *thinking) MUST_CHECK;
/* Compares names as people number them: cell_2 before cell_10. */
int compare_natural(const char *a, const char *b);

/* Whether a language_model's cell computes what these do; UNSUPPORTED says why not. */
enum status think_check_cell(struct thinking *thinking) MUST_CHECK;
/* What each LSTM adds to its forget gate; notes it. INVALID for a setting that is no number. */
enum status think_find_forget_biases(struct thinking *thinking) MUST_CHECK;
/* Asks for the activation of a plain RNN that did not say it, or refuses the one that it has (NULL: none). */
enum status think_ask_activation(const struct thinking *thinking, const struct layer *layer, const char *activation);
/* Whether the layers are of PyTorch and no language_model's; all of such a model, but for its layers. */
bool think_is_stack(const struct thinking *thinking);
enum status think_stack(struct thinking *thinking) MUST_CHECK;
/* Embedding and output layer, by shape, then by name. */
enum status think_find_ends(struct thinking *thinking) MUST_CHECK;
/* Notes them, however they were found. */
enum status think_note_ends(struct thinking *thinking) MUST_CHECK;
/* The symbols: thinking->vocabulary as a program's "vocabulary". */
enum status think_find_vocabulary(struct thinking *thinking) MUST_CHECK;
/* The program and the recipes of its variables. */
enum status think_make_program(struct thinking *thinking) MUST_CHECK;
/* A variable to be filled; NULL: LIMIT or NO_MEMORY. Its parts; none without a tensor. */
struct weight *think_add_weight(struct thinking *thinking, const char *name, const struct shape *shape,
                                size_t gate_columns) MUST_CHECK;
void weight_add_part(struct weight *weight, const struct weight_part *part);

/* All of a Keras model: layers, window, vocabulary, program. */
enum status think_keras(struct thinking *thinking) MUST_CHECK;

/* All of an ONNX model, whose graph says what its tensors are. */
enum status think_onnx(struct thinking *thinking) MUST_CHECK;

#endif
