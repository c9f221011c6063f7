/* Columns of a vector as a sum of products of vectors with weights, and of weights alone: what a gate is before its
 * activation, or a logit. One thread. */
#ifndef ENGINE_MODEL_STEP_SUM_H
#define ENGINE_MODEL_STEP_SUM_H

#include "engine/model/step_view.h"

enum { STEP_SUM_TERMS_MAX = 8 };

/* Rows [row, row + rows) of a matrix of weights, from column `column` on. */
struct step_matrix {
    struct output weights; /* outside loops, as all weights here */
    bool is_transposed;    /* as the graph uses it */
    size_t row;
    size_t rows;
    size_t column;
};

struct step_product {
    struct step_piece vector;
    struct step_matrix matrix;
};

/* Elements of weights from `begin` on, or one element for all columns; without node the number. */
struct step_addend {
    struct output weights;
    size_t begin;
    double number;
};

struct step_sum {
    size_t columns;
    size_t product_count;
    size_t addend_count;
    struct step_product products[STEP_SUM_TERMS_MAX];
    struct step_addend addends[STEP_SUM_TERMS_MAX];
};

/* The sum that columns [begin, begin + columns) of `output` are. False, with the view's reason, when they are none. */
bool step_sum_read(struct step_view *view, struct output output, size_t begin, size_t columns,
                   struct step_sum *ret_sum);

#endif
