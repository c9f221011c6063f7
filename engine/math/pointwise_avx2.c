/* The elementwise kernels for AVX2; built with that instruction set (Makefile). Thread: any. */
#define POINTWISE_TABLE pointwise_kernels_avx2
#define POINTWISE_VERSION "avx2"
#include "engine/math/pointwise_template.h"
#include "engine/math/pointwise_versions.h"
