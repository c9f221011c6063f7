/* The versions of the packed products that are linked in. For gemm_packed*.c alone. */
#ifndef ENGINE_MATH_GEMM_PACKED_VERSIONS_H
#define ENGINE_MATH_GEMM_PACKED_VERSIONS_H

#include "engine/math/gemm_packed.h"

enum { GEMM_PACKED_BLOCK_MAX = 64 };

extern const struct gemm_packed_kernels gemm_packed_plain;
extern const struct gemm_packed_kernels gemm_packed_avx2;   /* x86-64 with AVX2 and FMA */
extern const struct gemm_packed_kernels gemm_packed_avx512; /* x86-64 with AVX-512F */
extern const struct gemm_packed_kernels gemm_packed_neon;   /* aarch64 */

#endif
