/* What a reader makes of a foreign model file: named tensors, vocabularies and hints, whatever the format. Plain data;
 * everything lives in the arena or in the source's files. Thread: the one that reads. */
#ifndef ENGINE_IMPORT_FOREIGN_H
#define ENGINE_IMPORT_FOREIGN_H

#include "engine/base/arena.h"
#include "engine/import/plain.h"
#include "engine/math/tensor.h"

enum {
    FOREIGN_TENSORS_MAX = 20000,
    FOREIGN_NAME_BYTES_MAX = 1024,
    FOREIGN_HINTS_MAX = 256,
    FOREIGN_VOCABULARIES_MAX = 32,
    FOREIGN_FORGET_BIAS_MAX = 100,
};

/* Elements are row-major, little-endian and without alignment. */
struct foreign_tensor {
    const char *name;
    enum dtype dtype;
    struct shape shape;
    const unsigned char *data;
    size_t position; /* among the file's tensors */
};

/* Something the file says of itself: "rnn_size" is "128". */
struct foreign_hint {
    const char *key;
    const char *value;
    const char *place; /* the file beside that says it; NULL: the model's own */
};

/* Symbols in order, as some file holds them. `problem` says why they are none, or is NULL. */
struct foreign_vocabulary {
    const char *place; /* "chars_vocab.pkl", "tokens" */
    const char *const *symbols;
    const size_t *lengths;
    size_t count;
    bool are_bytes;   /* each is one byte, and not all are UTF-8, or the file says so */
    const char *kind; /* "words" where the file says so, or NULL */
    bool is_from_one; /* their numbers are 1 to `count`: 0 stands for what is no symbol, as Keras' Tokenizer has it */
    const char *problem;
};

struct Onnx__GraphProto; /* protobuf-c's, of onnx.proto */

/* What a Keras file says besides its tensors, which are named LAYER/…/WEIGHT. */
struct foreign_keras {
    const struct plain *config;      /* {"class_name":"Sequential","config":…}; NULL: weights alone */
    const struct plain *layer_names; /* a list, of files that name their layers in order; NULL: they do not */
    const struct plain *groups;      /* without layer_names: the layers' names, in no order */
    const char *version;             /* "2.2.4-tf", or NULL */
    const char *config_file;         /* the file beside the weights that has the configuration; NULL: it is in theirs */
    bool is_javascript;              /* TensorFlow.js runs it, which has activations of its own */
};

enum foreign_cell { FOREIGN_CELL_LSTM, FOREIGN_CELL_GRU, FOREIGN_CELL_RNN, FOREIGN_CELL_COUNT };

/* What a graph that lies beside the tensors may do in its cells, and no cell here does. */
enum foreign_unbuilt {
    FOREIGN_UNBUILT_CLIP,       /* limits the state */
    FOREIGN_UNBUILT_ACTIVATION, /* has another than tanh */
    FOREIGN_UNBUILT_RESIDUAL,   /* adds to the cell's output */
    FOREIGN_UNBUILT_COUNT,
};

/* What a graph that lies beside the tensors says of what LSTMs add to their forget gates. */
enum foreign_forget_bias {
    FOREIGN_FORGET_BIAS_NO_GRAPH, /* there is none */
    FOREIGN_FORGET_BIAS_UNSAID,
    FOREIGN_FORGET_BIAS_SAID,
    FOREIGN_FORGET_BIAS_SEVERAL, /* its cells add different numbers */
};

struct foreign_model {
    const char *format; /* "TensorFlow V2 checkpoint" */
    const char *entry;  /* the file of the source it was read from */
    struct foreign_tensor *tensors;
    size_t tensor_count;
    size_t tensor_capacity;
    struct foreign_hint hints[FOREIGN_HINTS_MAX];
    size_t hint_count;
    struct foreign_vocabulary vocabularies[FOREIGN_VOCABULARIES_MAX];
    size_t vocabulary_count;
    size_t vocabularies_kept; /* ever: where there is no place left, one that can fit takes that of one that cannot */
    const char *unsearched;   /* a place that was too large to be searched for symbols to its end, or NULL */
    const struct foreign_keras *keras;   /* NULL: no Keras file */
    const struct Onnx__GraphProto *onnx; /* NULL: no ONNX file */
    bool is_vocabulary_given;            /* they are of the file that the user named */
    bool is_vocabulary_named;            /* the same, by a name among the source's */
    bool is_in_order;                    /* its tensors' positions are those of their definition in a program */
    bool counts_from_one;                /* as Lua does: symbol 1 is the matrices' first */
    enum foreign_forget_bias graph_says; /* of forget gates */
    float forget_bias;                   /* what it says: ±FOREIGN_FORGET_BIAS_MAX */
    const char *graph_problem; /* why the graph that lies beside it cannot be read; NULL: it can, or is not there */
    /* A node of the graph that does so in a cell of that kind, or NULL. */
    const char *unbuilt[FOREIGN_CELL_COUNT][FOREIGN_UNBUILT_COUNT];
    size_t skipped_count; /* tensors of types that hold no numbers */
    struct arena arena;
};

/* Adds a tensor; `name` is copied, `data` is borrowed for the model's life and has to hold `data_bytes`. CORRUPT where
 * that is not what dtype and shape take; LIMIT above the maxima. */
enum status foreign_add_tensor(struct foreign_model *model, const char *name, enum dtype dtype,
                               const struct shape *shape, const unsigned char *data, size_t data_bytes,
                               struct error *error) MUST_CHECK;

/* The same for bfloat16, which becomes float32 in the arena. */
enum status foreign_add_bfloat16(struct foreign_model *model, const char *name, const struct shape *shape,
                                 const unsigned char *data, size_t data_bytes, struct error *error) MUST_CHECK;

/* Whether two tensors, or NULLs, are one by dtype, shape and numbers. */
bool foreign_are_same(const struct foreign_tensor *a, const struct foreign_tensor *b);

/* Once all tensors are there: sorts them by name. Of two that are the same and have one name the second is left out;
 * CORRUPT where they differ. */
enum status foreign_sort_tensors(struct foreign_model *model, struct error *error) MUST_CHECK;

/* Reads JSON into plain data of the model; `name` is what errors begin with. CORRUPT. */
enum status foreign_read_json(struct foreign_model *model, const char *name, const void *bytes, size_t length,
                              const struct plain **ret_root, struct error *error) MUST_CHECK;

/* Reads dimension by dimension into a shape. UNSUPPORTED above SHAPE_RANK_MAX dimensions, CORRUPT for a negative one;
 * both name the tensor. */
enum status foreign_add_dimension(struct shape *shape, const char *name, int64_t dimension,
                                  struct error *error) MUST_CHECK;

/* The tensor of that name, once they are sorted, or NULL. */
const struct foreign_tensor *foreign_find_tensor(const struct foreign_model *model, const char *name);

/* Adds a hint; strings are copied, but for `place`, a file's name, or NULL for the model's own. More than
 * FOREIGN_HINTS_MAX are left out: they are only hints. NO_MEMORY. */
enum status foreign_add_hint(struct foreign_model *model, const char *place, const char *key, const char *value,
                             struct error *error) MUST_CHECK;
/* The hint's value, or NULL. */
const char *foreign_hint(const struct foreign_model *model, const char *key);

/* Adds whatever looks like symbols in `root`, which is borrowed: {"a":0,…}, {"0":"a",…}, ["a",…], "abc…", however
 * nested, in strings of JSON, too; of a Python set only that it is one. Where there are more than
 * FOREIGN_VOCABULARIES_MAX, those stay whose counts the tensors have, too. `place` is what messages call it, and is
 * copied; it becomes the model's `unsearched` where the search ended before `root` did. NO_MEMORY. */
enum status foreign_add_vocabularies(struct foreign_model *model, const char *place, const struct plain *root,
                                     struct error *error) MUST_CHECK;

/* Whether a dictionary numbers its keys without a gap from 0 or 1 on, as symbols are and options are not. */
bool foreign_numbers_symbols(const struct plain *root);

/* What a file says of itself in texts: a hint, and where the text is JSON perhaps symbols. NO_MEMORY. */
enum status foreign_add_metadata(struct foreign_model *model, const char *key, const char *text,
                                 struct error *error) MUST_CHECK;

/* Whether the first `length` bytes of a text end in another. */
bool foreign_ends_in(const char *text, size_t length, const char *ending);

/* Whether a file lies in the folder of another, or in one around it. */
bool foreign_is_around(const char *name, const char *other);

/* How alike a file is to another by its place and name: first those in its folder, then in the folders around it, the
 * nearest first, then all others; among them the more of its words begin both names the more, and most where those are
 * all of it. What tells the format does not count. Of poems.json, poems_old.json and news.json the first is most like
 * poems_weights.h5 and poems.weights.h5, the second next, the last least. */
size_t foreign_likeness(const char *name, const char *other);

/* Element `index` as a number. */
double foreign_number(const struct foreign_tensor *tensor, size_t index);

/* NO_MEMORY, or LIMIT where the arena's maximum was reached; names the format. */
enum status foreign_no_memory(const struct foreign_model *model, struct error *error);

/* Frees everything and empties the struct. */
void foreign_model_release(struct foreign_model *model);

#endif
