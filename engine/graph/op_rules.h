/* What the rows of many ops share: simple shape rules, checks of types, and adding the nodes of gradients. Thread: see
 * op.h. */
#ifndef ENGINE_GRAPH_OP_RULES_H
#define ENGINE_GRAPH_OP_RULES_H

#include "engine/graph/function.h"
#include "engine/graph/op.h"

/* Sets of dtypes, one bit each. */
enum {
    TYPES_FLOAT = 1 << DTYPE_FLOAT32 | 1 << DTYPE_FLOAT64,
    TYPES_INTEGER = 1 << DTYPE_INT32 | 1 << DTYPE_INT64,
    TYPES_BOOL = 1 << DTYPE_BOOL,
    TYPES_NUMBER = TYPES_FLOAT | TYPES_INTEGER,
};

/* ---- shape rules ---- */

/* Makes this the only output. */
enum status op_one_output(struct inference *inference, enum dtype dtype, const struct shape *shape);
/* One output like input 0, or with input 1's shape; any dtype. */
enum status op_infer_same(struct inference *inference, struct error *error);
enum status op_infer_like_second(struct inference *inference, struct error *error);

/* INVALID, TypeError "Value passed to parameter 'x' has DataType bool not in list of allowed values: …". */
enum status op_check_type(const struct inference *inference, size_t input, const char *parameter, unsigned types,
                          struct error *error) MUST_CHECK;
/* INVALID, TypeError "Input 'y' of 'Add' Op has type int32 that does not match type float32 of argument 'x'." */
enum status op_check_same_type(const struct inference *inference, size_t input, const char *parameter, size_t first,
                               const char *first_parameter, struct error *error) MUST_CHECK;

/* ---- gradients ---- */

/* For ops whose inputs have none, and for those that hand theirs to input 0. */
enum status op_gradient_none(struct graph *graph, const struct node *node, const struct output *gradients,
                             struct output *ret_gradients, struct error *error);
enum status op_gradient_pass(struct graph *graph, const struct node *node, const struct output *gradients,
                             struct output *ret_gradients, struct error *error);

/* Shorthands for ops without attributes. */
enum status graph_add_unary(struct graph *graph, const char *op, struct output a, struct output *ret_output,
                            struct error *error) MUST_CHECK;
enum status graph_add_binary(struct graph *graph, const char *op, struct output a, struct output b,
                             struct output *ret_output, struct error *error) MUST_CHECK;
/* a · factor, in a's dtype. */
enum status graph_add_scaled(struct graph *graph, struct output a, double factor, struct output *ret_output,
                             struct error *error) MUST_CHECK;
/* Zeros like a. */
enum status graph_add_zeros_like(struct graph *graph, struct output a, struct output *ret_output,
                                 struct error *error) MUST_CHECK;
/* `gradient` where `condition` holds, 0 elsewhere; both of one shape. */
enum status graph_add_masked(struct graph *graph, struct output condition, struct output gradient,
                             struct output *ret_output, struct error *error) MUST_CHECK;
/* Takes a gradient of a broadcast result back to the shape of an operand: sums over what was repeated. */
enum status graph_add_sum_to_shape(struct graph *graph, struct output gradient, struct output operand,
                                   struct output *ret_output, struct error *error) MUST_CHECK;
/* A node's own output, as an input for others. */
struct output node_own_output(struct graph *graph, const struct node *node, uint32_t index);

#endif
