/* The elementwise kernels for any CPU: the reference. Thread: any. */
#define POINTWISE_TABLE pointwise_kernels_plain
#define POINTWISE_VERSION "plain"
#include "engine/math/pointwise_template.h"
#include "engine/math/pointwise_versions.h"
