/* What people call by name: TensorFlow's Python functions. Most are one op (op.h has their names); those that
 * TensorFlow composes of several are rows of the function table (function_table.c): nn.dropout, clip_by_value,
 * sigmoid_cross_entropy_with_logits, exponential_decay. For one building thread. */
#ifndef ENGINE_GRAPH_FUNCTION_H
#define ENGINE_GRAPH_FUNCTION_H

#include "engine/graph/op.h"

enum { FUNCTION_ARGUMENTS_MAX = 256, FUNCTION_ATTRIBUTES_MAX = 16, FUNCTION_NAME_BYTES_MAX = 64 };

/* One argument as it was given. */
struct call_argument {
    const char *name;     /* NULL: by position */
    struct output output; /* .node NULL: not a tensor but `value`, or left out when that has no data */
    struct tensor value;  /* a number or nested list of them; borrowed; its dtype is adapted (op.h, argument_types) */
    bool is_list;         /* the argument is a list of tensors: `items`, `item_count` */
    const struct output *items;
    size_t item_count;
};

struct call {
    const char *function; /* "matmul" */
    const char *name;     /* as TensorFlow's name=; NULL: the default */
    const struct call_argument *arguments;
    size_t argument_count;
    const struct attribute *attributes;
    size_t attribute_count;
    struct node *const *controls;
    size_t control_count;
};

struct call_result {
    struct node *operation;                        /* the op itself; of a composed function, its last */
    struct output outputs[FUNCTION_ARGUMENTS_MAX]; /* what the Python function returns */
    size_t output_count;
    bool is_list; /* Python returns a list, even of one: split, unstack */
};

/* What a composed function is built from. */
struct function_call {
    const char *scope;
    const char *name;                      /* as it was given, or NULL */
    const struct call_argument *arguments; /* as they were given, by the order of the row's `arguments` */
    const struct output *inputs;           /* as named by `arguments`, .node NULL where left out */
    size_t input_count;
    const struct attribute *attributes; /* those given, and the others' defaults, by the rules' names */
    size_t attribute_count;
    struct node *const *controls;
    size_t control_count;
};

/* The attribute of that name, or NULL where it was left out. */
const struct attribute *function_attribute(const struct function_call *call, const char *name);

/* A function composed of several ops. */
struct function {
    const char *name;
    const char *default_name; /* of its name scope; NULL: it opens none */
    const char *shown;        /* the op that errors about its arguments' dtypes name; NULL: none */
    const char *arguments;    /* these as in op.h; a number given for an argument of type n is left to `build` */
    const char *argument_types;
    const struct attribute_rule *attributes;
    /* Inside its name scope, whose name is `scope` ("dropout"). */
    enum status (*build)(struct graph *graph, const struct function_call *call, struct call_result *result,
                         struct error *error);
};

/* clang-format off */
#define FUNCTION_ROWS_MATH(X)                                                                                       \
    X(function_matmul) X(function_divide) X(function_div) X(function_cast) X(function_to_float)                      \
    X(function_to_double) X(function_to_int32) X(function_to_int64) X(function_logical_xor)                          \
    X(function_reduce_logsumexp)
#define FUNCTION_ROWS_RANDOM(X)                                                                                     \
    X(function_random_uniform) X(function_random_normal) X(function_truncated_normal) X(function_multinomial)       \
    X(function_categorical)
#define FUNCTION_ROWS_NN(X)                                                                                         \
    X(function_sparse_xent) X(function_softmax_xent) X(function_softmax_xent_v2) X(function_sigmoid_xent)            \
    X(function_weighted_xent) X(function_mean_squared_error) X(function_dropout) X(function_embedding_lookup)        \
    X(function_xw_plus_b) X(function_exponential_decay) X(function_clip_by_value) X(function_clip_by_norm)           \
    X(function_global_norm) X(function_l2_normalize) X(function_moments) X(function_norm)
#define FUNCTION_ROWS_ARRAY(X)                                                                                      \
    X(function_zeros) X(function_ones) X(function_zeros_like) X(function_ones_like) X(function_concat)              \
    X(function_split) X(function_pad) X(function_range) X(function_one_hot) X(function_sequence_mask)         \
    X(function_getitem)
#define FUNCTION_ROWS(X)                                                                                            \
    FUNCTION_ROWS_MATH(X) FUNCTION_ROWS_RANDOM(X) FUNCTION_ROWS_NN(X) FUNCTION_ROWS_ARRAY(X) X(function_group)      \
    X(function_tuple)
/* clang-format on */

#define FUNCTION_DECLARE(row) extern const struct function row;
FUNCTION_ROWS(FUNCTION_DECLARE)
#undef FUNCTION_DECLARE

/* Whether there is such a function, composed or of one op. "tf.", "nn.", "math." and "random." before it are
 * skipped. */
bool function_exists(const char *name);

/* What `parameter` is to a function: a tensor (or a number made one), a list of them, or an attribute, whose kind is
 * then said. NONE: nothing, or no such function. */
enum parameter_kind { PARAMETER_NONE, PARAMETER_TENSOR, PARAMETER_TENSORS, PARAMETER_ATTRIBUTE };
enum parameter_kind function_parameter(const char *function, const char *parameter, enum attribute_kind *ret_kind);

/* What people call the parameter at a position; NULL behind the last. */
const char *function_parameter_at(const char *function, size_t position, char text[FUNCTION_NAME_BYTES_MAX]);

/* Calls it: opens TensorFlow's name scope, makes constants of numbers ("Add/y"), adds the nodes. An attribute may be
 * given among the arguments, by name or by position behind the tensors, and a number among the attributes. INVALID,
 * TypeError for an unknown, missing or doubled argument or attribute, naming it, and for dtypes that do not go
 * together; the op's errors. UNSUPPORTED: no such function. */
enum status graph_call(struct graph *graph, const struct call *call, struct call_result *ret_result,
                       struct error *error) MUST_CHECK;

/* For builders: tensors by position, no attributes, the first result. */
enum status graph_call_tensors(struct graph *graph, const char *function, const char *name, const struct output *inputs,
                               size_t input_count, struct output *ret_output, struct error *error) MUST_CHECK;
/* A scalar of a dtype; an int32 scalar; an int32 vector (a shape, axes). `name` NULL: "Const". */
enum status graph_add_number(struct graph *graph, const char *name, enum dtype dtype, double value,
                             struct output *ret_output, struct error *error) MUST_CHECK;
enum status graph_add_integer(struct graph *graph, const char *name, int64_t value, struct output *ret_output,
                              struct error *error) MUST_CHECK;
enum status graph_add_integers(struct graph *graph, const char *name, const int64_t *values, size_t count,
                               struct output *ret_output, struct error *error) MUST_CHECK;

/* tf.constant: a Const of a value, named "Const" by default. */
enum status graph_add_constant(struct graph *graph, const char *name, const struct tensor *value,
                               struct output *ret_output, struct error *error) MUST_CHECK;

#endif
