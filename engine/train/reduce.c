/* Summing gradients in a fixed order. Pieces small enough for the first cache are finished part by part. */
#include "engine/train/reduce.h"

enum { PIECE_FLOATS = 2048 };

void reduce_sum(const float *const *parts, const float *weights, size_t part_count, size_t count, float *ret_sum)
{
    for (size_t begin = 0; begin < count; begin += PIECE_FLOATS) {
        size_t end = count - begin < PIECE_FLOATS ? count : begin + PIECE_FLOATS;
        for (size_t i = begin; i < end; i++) {
            ret_sum[i] = weights[0] * parts[0][i];
        }
        for (size_t part = 1; part < part_count; part++) {
            const float *values = parts[part];
            float weight = weights[part];
            for (size_t i = begin; i < end; i++) {
                ret_sum[i] += weight * values[i];
            }
        }
    }
}
