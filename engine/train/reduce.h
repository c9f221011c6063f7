/* The one place where gradients of different shards meet. Thread: any. */
#ifndef ENGINE_TRAIN_REDUCE_H
#define ENGINE_TRAIN_REDUCE_H

#include <stddef.h>

/* ret_sum[i] = Σ weights[p] · parts[p][i] for `count` numbers, added in the order of p: the same bits however many
 * threads made the parts. ret_sum overlaps no part. */
void reduce_sum(const float *const *parts, const float *weights, size_t part_count, size_t count, float *ret_sum);

#endif
