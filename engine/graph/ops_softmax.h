/* What softmax and the cross-entropies share. Thread: see op.h. Owns nothing. */
#ifndef ENGINE_GRAPH_OPS_SOFTMAX_H
#define ENGINE_GRAPH_OPS_SOFTMAX_H

#include "engine/graph/op_rules.h"

/* A tensor as rows of classes: element i of row r stands at softmax_row(r) + i · stride. */
struct softmax_view {
    size_t rows;
    size_t classes;
    size_t stride; /* 1 along the last dimension */
};

/* The view along the node's attribute axis (the last when it has none); false when there is no such dimension. */
bool softmax_view(const struct node *node, const struct shape *shape, struct softmax_view *ret_view);
size_t softmax_row(const struct softmax_view *view, size_t row);

/* Input 0 is of floats and has the dimension the node names; `parameter` is its name in errors. */
enum status softmax_check(const struct inference *inference, const char *parameter, struct error *error) MUST_CHECK;

/* log Σ exp(x − greatest) of the row that begins at `start`, and its greatest element. */
double softmax_log_sum(const struct tensor *logits, const struct softmax_view *view, size_t start,
                       double *ret_greatest);

/* Fills `probabilities` (as logits) with the softmax of every row. */
void softmax_fill(const struct tensor *logits, const struct softmax_view *view, struct tensor *probabilities);

/* Adds the sum of `x` along the node's axis, the dimension kept. */
enum status softmax_add_sum(struct graph *graph, const struct node *node, struct output x, struct output *ret_sum,
                            struct error *error) MUST_CHECK;

/* Elements of a float32 or float64 tensor. */
static inline double float_element(const struct tensor *tensor, size_t at)
{
    return tensor->dtype == DTYPE_FLOAT32 ? (double)((const float *)tensor->data)[at]
                                          : ((const double *)tensor->data)[at];
}

/* Sets one, rounded. */
static inline void float_set(const struct tensor *tensor, size_t at, double number)
{
    if (tensor->dtype == DTYPE_FLOAT32) {
        ((float *)tensor->data)[at] = (float)number;
    } else {
        ((double *)tensor->data)[at] = number;
    }
}

#endif
