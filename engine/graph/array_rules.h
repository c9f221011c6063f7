/* What the shape rules and kernels of the array ops share: reading axes and sizes that come as tensors, and the errors
 * about them. Thread: see op.h. */
#ifndef ENGINE_GRAPH_ARRAY_RULES_H
#define ENGINE_GRAPH_ARRAY_RULES_H

#include "engine/graph/constants.h"
#include "engine/graph/op_rules.h"

/* A short list of whole numbers: a shape, a permutation, axes. */
struct integers {
    size_t count;
    int64_t values[2 * SHAPE_RANK_MAX];
};

/* The whole numbers of an int32 or int64 tensor of at most 2 · SHAPE_RANK_MAX; false when there are more. */
bool integers_read(const struct tensor *tensor, struct integers *ret_integers);

/* An input that holds whole numbers: INVALID unless it is int32 or int64; TOO_LARGE when there are too many.
 * `ret_known`: whether its value is known, and then what it is. */
enum status array_integers(const struct inference *inference, size_t input, const char *parameter, bool *ret_known,
                           struct integers *ret_integers, struct error *error) MUST_CHECK;
/* The same of an input that must be a scalar. */
enum status array_integer(const struct inference *inference, size_t input, const char *parameter, bool *ret_known,
                          int64_t *ret_integer, struct error *error) MUST_CHECK;

/* The rank that an axis, counted from the end when below 0, asks for. */
int64_t array_rank_for_axis(int64_t axis);

/* The length of a vector as far as its static shape says, DIMENSION_UNKNOWN otherwise. A scalar counts as 1. */
int64_t array_vector_length(const struct inference *inference, size_t input);

/* All dimensions unknown; TOO_LARGE above SHAPE_RANK_MAX. */
enum status array_unknown_shape(const struct inference *inference, int64_t rank, struct shape *ret_shape,
                                struct error *error) MUST_CHECK;
/* TOO_LARGE, naming the rank and the maximum. */
enum status array_rank_error(const struct inference *inference, int64_t rank, struct error *error);

/* What both shapes say together, but for dimension `but` (below 0: none), which stays the first's. Errors as
 * TensorFlow's merging. */
enum status array_merge(const struct inference *inference, const struct shape *a, const struct shape *b, int but,
                        struct shape *ret_shape, struct error *error) MUST_CHECK;

/* Sums of dimensions of which one may be unknown. */
int64_t dimension_add(int64_t a, int64_t b);

/* The gradient of ops that only give their first input another shape: back to that. */
enum status array_gradient_reshape(struct graph *graph, const struct node *node, const struct output *gradients,
                                   struct output *ret_gradients, struct error *error);

/* What part of a tensor: count[i] elements of dimension i, from begin[i] in steps of stride[i]. */
struct array_cut {
    int rank;
    int64_t begin[SHAPE_RANK_MAX];
    int64_t stride[SHAPE_RANK_MAX];
    int64_t count[SHAPE_RANK_MAX];
};

/* Moves the part between the whole tensor, which has `whole_shape`, and a dense one of the part alone. */
enum cut_direction { CUT_TAKE_OUT, CUT_PUT_BACK };
void array_move_cut(enum cut_direction direction, const struct array_cut *cut, const struct shape *whole_shape,
                    size_t element_bytes, char *whole, char *part);

/* Sets every element to this one. */
void array_fill(const struct tensor *tensor, const void *element);

/* For gradients: adds `op` with the attributes of `node`. */
enum status array_add_like(struct graph *graph, const char *op, const struct node *node, const struct output *inputs,
                           size_t input_count, struct output *ret_output, struct error *error) MUST_CHECK;

#endif
