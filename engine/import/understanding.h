/* What foreign tensors mean: the model they make here, and for each conclusion why. Thread: the one that imports.
 *
 * A naming (TensorFlow's, PyTorch's, …) says which tensors are recurrent layers and how they lie in them; everything
 * else is concluded from shapes first and names second. What could be two things is asked for by a setting, what is
 * known but not built here is refused by name. The result is a build program of public steps and a recipe for each
 * variable. */
#ifndef ENGINE_IMPORT_UNDERSTANDING_H
#define ENGINE_IMPORT_UNDERSTANDING_H

#include <jansson.h>

#include "engine/import/foreign.h"
#include "engine/nn/language_model.h"

enum { FINDINGS_MAX = 64, WEIGHTS_MAX = 256, WEIGHT_PARTS_MAX = 4 };

/* KEY=VALUE pairs of --set, and what their keys can be. */
struct import_setting {
    const char *key;
    const char *value;
    bool is_asked; /* something wanted to know it */
};
enum { IMPORT_SETTINGS_MAX = 32 };
struct import_settings {
    struct import_setting rows[IMPORT_SETTINGS_MAX];
    size_t count;
};
/* Adds one. INVALID for an unknown key, naming those there are, a doubled one, and what `rest` cannot be. Strings are
 * borrowed. */
enum status import_settings_add(struct import_settings *settings, const char *key, const char *value,
                                struct error *error) MUST_CHECK;
/* The value, or NULL. Notes that it was asked for. */
const char *import_setting(struct import_settings *settings, const char *key);

struct finding {
    const char *what;  /* "cell" */
    const char *value; /* "lstm" */
    const char *why;
};

/* How a tensor holds a matrix. */
enum weight_order {
    WEIGHT_ORDER_ROWS,
    WEIGHT_ORDER_COLUMNS,         /* the tensor is [columns, rows] */
    WEIGHT_ORDER_CUDNN_INPUT,     /* each gate's block by columns, though its shape is [rows, columns] */
    WEIGHT_ORDER_CUDNN_RECURRENT, /* each gate's block, which is square, transposed */
};

/* A rectangle of a variable, taken from a foreign tensor. Parts of the same elements are added up. */
struct weight_part {
    const struct foreign_tensor *tensor;
    size_t target_row; /* the first one that it fills */
    size_t target_column;
    size_t source_column; /* of a vector: its first element */
    size_t rows;
    size_t columns; /* 0: all of the variable's */
    enum weight_order order;
    const unsigned char *gates; /* for each gate of the variable the tensor's; NULL: columns stay where they are */
};

struct weight {
    const char *name;
    struct shape shape;  /* of rank 1: one row */
    size_t gate_columns; /* columns of a gate */
    struct weight_part parts[WEIGHT_PARTS_MAX];
    size_t part_count;
    double forget_shift; /* added to the columns of gate 2, the forget gate */
};

struct understanding {
    struct finding findings[FINDINGS_MAX];
    size_t finding_count;
    struct weight weights[WEIGHTS_MAX];
    size_t weight_count;
    json_t *program; /* owned */
};

/* Concludes everything. What it points to is in `model`'s arena. UNSUPPORTED names what cannot be built; UNPROCESSABLE
 * what does not fit together (a vocabulary of another size than the matrices', with both) or is missing; code
 * "ambiguous" (UNPROCESSABLE) names the setting that decides; INVALID one that nothing asked for. Findings up to a
 * failure are kept. Release with understanding_release, on failure too. */
enum status understand(struct foreign_model *model, struct import_settings *settings,
                       struct understanding *understanding, struct error *error) MUST_CHECK;
void understanding_release(struct understanding *understanding);

/* Rows and columns of a variable; a vector or scalar is one row. */
size_t weight_rows(const struct weight *weight);
size_t weight_columns(const struct weight *weight);
/* Computes the values of rows [first, first + count) into [count × columns] floats. */
void weight_compute(const struct weight *weight, size_t first, size_t count, float *values);

#endif
