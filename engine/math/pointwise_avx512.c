/* The elementwise kernels for AVX512; built with that instruction set (Makefile). Thread: any. */
#define POINTWISE_TABLE pointwise_kernels_avx512
#define POINTWISE_VERSION "avx512"
#include "engine/math/pointwise_template.h"
#include "engine/math/pointwise_versions.h"
