/* What a variable begins with, and regularizers, as values that scopes and layers hand on. Thread: any. */
#ifndef ENGINE_GRAPH_INITIALIZER_H
#define ENGINE_GRAPH_INITIALIZER_H

#include "engine/graph/graph.h"

enum initializer_kind {
    INITIALIZER_DEFAULT, /* none given: glorot_uniform for floats, zeros otherwise */
    INITIALIZER_ZEROS,
    INITIALIZER_ONES,
    INITIALIZER_CONSTANT,         /* `low` everywhere, or `values` in order, the last repeated */
    INITIALIZER_UNIFORM,          /* [low, high) */
    INITIALIZER_NORMAL,           /* mean low, standard deviation high */
    INITIALIZER_TRUNCATED_NORMAL, /* the same, redrawn beyond two standard deviations */
    INITIALIZER_GLOROT_UNIFORM,
    INITIALIZER_GLOROT_NORMAL,
    INITIALIZER_ORTHOGONAL, /* gain low */
    INITIALIZER_VALUE,      /* not an object but a value: `values` (a Python number or list) */
    INITIALIZER_TENSOR,     /* not an object but a tensor: `output` */
    INITIALIZER_CALLABLE,   /* a function that gives `values`; takes_arguments: it must be told shape and dtype */
};

struct initializer {
    enum initializer_kind kind;
    double low;
    double high;
    struct tensor values; /* in the graph's arena */
    bool has_dtype;       /* the Python value had an explicit dtype: values.dtype */
    struct output output;
    bool takes_arguments;
};

/* Regularizers: mean(v) + amount; l1/l2 with scale amount; none to switch an inherited one off. */
enum regularizer_kind { REGULARIZER_INHERIT, REGULARIZER_NONE, REGULARIZER_MEAN_PLUS, REGULARIZER_L1, REGULARIZER_L2 };

struct regularizer {
    enum regularizer_kind kind;
    double amount;
};

/* Adds the nodes that make the initial value of `shape` (fully known; not looked at where the initializer has
 * values of its own) and `dtype`, in the current name scope. `seed_name` keys random ones: a variable's numbers
 * depend on the run's key and its name alone. */
enum status initializer_build(struct graph *graph, const struct initializer *initializer, const struct shape *shape,
                              enum dtype dtype, const char *seed_name, struct output *ret_output,
                              struct error *error) MUST_CHECK;

/* Whether it is a constant (VALUE or TENSOR), which TensorFlow treats apart from callables; and then its dtype. */
bool initializer_is_value(const struct initializer *initializer);
enum dtype initializer_dtype(const struct initializer *initializer);

/* Python values as a tensor of `dtype`, as tf.convert_to_tensor does: TypeError "Expected int32, got 1.5 of type
 * 'float' instead." unless it is an array, whose elements are converted. In the graph's arena, or `values` itself. */
enum status initializer_convert(struct graph *graph, const struct tensor *values, enum dtype dtype, bool is_array,
                                struct tensor *ret_values, struct error *error) MUST_CHECK;

#endif
