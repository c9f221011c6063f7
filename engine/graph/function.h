/* What people call by name: TensorFlow's Python functions. Most are one op (op.h has their names); those that
 * TensorFlow composes of several are rows of the function table (function_table.c): nn.dropout, clip_by_value,
 * sigmoid_cross_entropy_with_logits, exponential_decay. For one building thread. */
#ifndef ENGINE_GRAPH_FUNCTION_H
#define ENGINE_GRAPH_FUNCTION_H

#include "engine/graph/op.h"

enum { FUNCTION_ARGUMENTS_MAX = 256, FUNCTION_ATTRIBUTES_MAX = 16 };

/* One argument as it was given. */
struct call_argument {
    const char *name;     /* NULL: by position */
    struct output output; /* .node NULL: not a tensor but `value`, or left out when that has no data */
    struct tensor value;  /* a number or nested list of them; borrowed; its dtype is adapted: see op.h, argument_types */
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

/* A function composed of several ops. */
struct function {
    const char *name;
    const char *default_name; /* of its name scope */
    const char *arguments;    /* as in op.h */
    const char *argument_types;
    const struct attribute_rule *attributes;
    /* Inside its name scope. `inputs` as named by `arguments`, .node NULL where left out; `attributes` complete. */
    enum status (*build)(struct graph *graph, const struct output *inputs, size_t input_count,
                         const struct attribute *attributes, struct call_result *result, struct error *error);
};

/* Whether there is such a function, composed or of one op. */
bool function_exists(const char *name);

/* Calls it: opens TensorFlow's name scope, makes constants of numbers ("add/y"), adds the nodes. INVALID, TypeError for
 * an unknown, missing or doubled argument or attribute, naming it; the op's errors. UNSUPPORTED: no such function. */
enum status graph_call(struct graph *graph, const struct call *call, struct call_result *ret_result,
                       struct error *error) MUST_CHECK;

/* tf.constant: a Const of a value, named "Const" by default. */
enum status graph_add_constant(struct graph *graph, const char *name, const struct tensor *value,
                               struct output *ret_output, struct error *error) MUST_CHECK;

#endif
