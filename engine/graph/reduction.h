/* Folding a tensor along some of its dimensions: the kernels of the reductions and of what sums a gradient back over a
 * broadcast. Thread: any; tensors are the caller's.
 *
 * float32 is added and multiplied in double. Elements are taken in the order they lie in memory, one after another, so
 * that a result does not depend on the CPU. */
#ifndef ENGINE_GRAPH_REDUCTION_H
#define ENGINE_GRAPH_REDUCTION_H

#include "engine/math/tensor.h"

enum reduction_kind {
    REDUCTION_SUM,
    REDUCTION_MEAN, /* of whole numbers: rounded towards zero; of nothing: NaN, 0 */
    REDUCTION_PROD,
    REDUCTION_MAX, /* NaN wins; of nothing: the least value there is */
    REDUCTION_MIN,
    REDUCTION_ALL,
    REDUCTION_ANY,
    REDUCTION_KIND_COUNT
};

/* Whether there is a kernel of that kind for elements of that dtype. */
bool reduction_has(enum reduction_kind kind, enum dtype dtype);

/* Folds the dimensions of `from` that are marked; `to` has as many elements as the others' product, in their order. */
void reduction_run(enum reduction_kind kind, const struct tensor *from, const bool is_reduced[SHAPE_RANK_MAX],
                   struct tensor *to);

#endif
