/* The nodes that make initial values. Thread: the building one. */
#include "engine/graph/initializer.h"

#include "engine/base/rng.h"

/* The limit of glorot_uniform: rank 2 fans are rows and columns, rank 1 both n, higher ranks times the rest. */
static double glorot_limit(const struct shape *shape)
{
    double receptive = 1;
    for (int i = 0; i + 2 < shape->rank; i++) {
        receptive *= (double)shape->dimensions[i];
    }
    double last = shape->rank == 0 ? 1 : (double)shape->dimensions[shape->rank - 1];
    double before = shape->rank < 2 ? last : (double)shape->dimensions[shape->rank - 2];
    double fans = receptive * (last + before);
    return __builtin_sqrt(6.0 / (fans > 1 ? fans : 1));
}

enum status initializer_build(struct graph *graph, const struct initializer *given, const struct shape *shape,
                              enum dtype dtype, const char *seed_name, struct output *ret_output, struct error *error)
{
    struct initializer initializer = *given;
    bool is_float = dtype == DTYPE_FLOAT32 || dtype == DTYPE_FLOAT64;
    if (initializer.kind == INITIALIZER_DEFAULT) {
        initializer.kind = is_float ? INITIALIZER_GLOROT_UNIFORM : INITIALIZER_ZEROS;
    }
    if (initializer.kind == INITIALIZER_GLOROT_UNIFORM) {
        double limit = glorot_limit(shape);
        initializer = (struct initializer){.kind = INITIALIZER_UNIFORM, .low = -limit, .high = limit};
    }
    double constant = initializer.kind == INITIALIZER_ONES       ? 1
                      : initializer.kind == INITIALIZER_CONSTANT ? initializer.low
                                                                 : 0;
    struct attribute attributes[] = {
        {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = *shape},
        {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = dtype},
        {.name = "low", .kind = ATTRIBUTE_NUMBER, .number = initializer.low},
        {.name = "high", .kind = ATTRIBUTE_NUMBER, .number = initializer.high},
        {.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)(rng_key(seed_name) >> 1)},
        {.name = "value", .kind = ATTRIBUTE_NUMBER, .number = constant},
    };
    struct node *node = NULL;
    struct node_options add = {.attributes = attributes, .attribute_count = sizeof attributes / sizeof *attributes};
    bool is_uniform = initializer.kind == INITIALIZER_UNIFORM;
    add.name = is_uniform ? "random_uniform" : "Const";
    TRY(graph_add_node(graph, is_uniform ? "RandomUniform" : "Fill", &add, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}
