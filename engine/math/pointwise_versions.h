/* The versions of the elementwise kernels that are linked in. */
#ifndef ENGINE_MATH_POINTWISE_VERSIONS_H
#define ENGINE_MATH_POINTWISE_VERSIONS_H

#include "engine/math/pointwise.h"

extern const struct pointwise_kernels pointwise_kernels_plain;
extern const struct pointwise_kernels pointwise_kernels_avx2;
extern const struct pointwise_kernels pointwise_kernels_avx512;

#endif
