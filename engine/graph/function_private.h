/* What the files that call functions by their Python name share. */
#ifndef ENGINE_GRAPH_FUNCTION_PRIVATE_H
#define ENGINE_GRAPH_FUNCTION_PRIVATE_H

#include "engine/graph/function.h"

enum { FUNCTION_PARAMETERS_MAX = 16, NUMBER_TEXT_BYTES_MAX = 40 };

/* One tensor argument of a function, as its row declares it. */
struct parameter {
    char called[FUNCTION_NAME_BYTES_MAX]; /* people's name for it: "axis" */
    char name[FUNCTION_NAME_BYTES_MAX];   /* the op's: "reduction_indices" */
    char type;                            /* a letter of argument_types */
    bool is_optional;
    bool is_list;
};

/* A row of the op table or of the function table, read. */
struct signature {
    const char *name;         /* "reduce_sum" */
    const char *default_name; /* NULL: opens no name scope */
    const char *shown;        /* in errors about dtypes: the op's name; NULL of most composed functions */
    const struct op *op;      /* one of these */
    const struct function *function;
    struct parameter parameters[FUNCTION_PARAMETERS_MAX];
    size_t parameter_count;
    const struct attribute_rule *attributes; /* NULL: none */
};

/* A call's arguments, sorted by what they are for. */
struct binding {
    struct call_argument arguments[FUNCTION_PARAMETERS_MAX]; /* empty where left out */
    int64_t scalars[FUNCTION_PARAMETERS_MAX];                /* data of numbers that came as attributes */
    struct attribute attributes[FUNCTION_ATTRIBUTES_MAX];
    size_t attribute_count;
    enum dtype types[FUNCTION_PARAMETERS_MAX]; /* of a number given there */
    size_t input_count;                        /* when lists are laid out */
};

/* The row of that name; false when there is none. */
bool function_find(const char *name, struct signature *ret_signature);

/* The table of composed functions, and its part in it. */
size_t function_count(void);
const struct function *function_at(size_t index);

/* Sorts the arguments and attributes of a call; TypeErrors as Python's. `ret_binding` borrows from the call. */
enum status function_bind(const struct signature *signature, const struct call *call, struct binding *ret_binding,
                          struct error *error) MUST_CHECK;
/* Turns a number or list into the attribute `rule` asks for, or checks one that was given. */
enum status function_bind_attribute(const struct attribute_rule *rule, const struct attribute *given,
                                    struct attribute *ret_attribute, struct error *error) MUST_CHECK;

/* Decides what dtype a number becomes in each place, and refuses tensors of dtypes that do not go together. */
enum status function_decide_types(const struct signature *signature, struct binding *binding,
                                  struct error *error) MUST_CHECK;

/* Adds a constant of a number or list as `dtype`: TypeError "Expected int32, got 1.5 of type 'float' instead.". */
enum status function_add_value(struct graph *graph, const char *name, const struct tensor *value, enum dtype dtype,
                               struct output *ret_output, struct error *error) MUST_CHECK;
/* The dtype a Python number or list of them has by itself: float32, int32 (int64 beyond its range), bool. */
enum dtype function_natural_dtype(const struct tensor *value);
/* Whether an argument was given at all. */
bool function_is_given(const struct call_argument *argument);

/* ---- for composed functions ---- */

/* Adds a node inside the call's scope and returns its first output. `name` NULL: the op's. It runs after the call's
 * control inputs. */
enum status function_add(struct graph *graph, const struct function_call *call, const char *op, const char *name,
                         const struct output *inputs, size_t input_count, const struct attribute *attributes,
                         size_t attribute_count, struct output *ret_output, struct error *error) MUST_CHECK;
/* Adds the node that bears the scope's own name, and makes its first output the result. */
enum status function_finish(struct graph *graph, const struct function_call *call, const char *op,
                            const struct output *inputs, size_t input_count, const struct attribute *attributes,
                            size_t attribute_count, struct call_result *result, struct error *error) MUST_CHECK;
/* A value of the attribute, `otherwise` where the call has none. */
bool function_flag(const struct function_call *call, const char *name, bool otherwise);
#endif
