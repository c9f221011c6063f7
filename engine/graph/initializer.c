/* The nodes that make initial values, and values converted as tf.convert_to_tensor does. Thread: the building one.
 * Source: TensorFlow 1.15, init_ops.py (VarianceScaling, Orthogonal, Constant). */
#include "engine/graph/initializer.h"

#include <math.h>

#include "engine/base/rng.h"
#include "engine/graph/op.h"

/* Of numbers beyond two standard deviations cut off, the deviation that is left. */
static const double truncated_deviation = 0.87962566103423978;

/* fan_in + fan_out, at least 2. Rank 2 fans are rows and columns, rank 1 both n, higher ranks times the rest. */
static double glorot_fans(const struct shape *shape)
{
    double receptive = 1;
    for (int i = 0; i + 2 < shape->rank; i++) {
        receptive *= (double)shape->dimensions[i];
    }
    double last = shape->rank == 0 ? 1 : (double)shape->dimensions[shape->rank - 1];
    double before = shape->rank < 2 ? last : (double)shape->dimensions[shape->rank - 2];
    double fans = receptive * (last + before);
    return fans > 2 ? fans : 2;
}

/* glorot_… in terms of the plain distributions. */
static struct initializer resolve(const struct initializer *given, const struct shape *shape, enum dtype dtype)
{
    struct initializer initializer = *given;
    if (initializer.kind == INITIALIZER_DEFAULT) {
        initializer.kind = dtype_is_float(dtype) ? INITIALIZER_GLOROT_UNIFORM : INITIALIZER_ZEROS;
    }
    if (initializer.kind == INITIALIZER_GLOROT_UNIFORM) {
        double limit = sqrt(6.0 / glorot_fans(shape));
        initializer = (struct initializer){.kind = INITIALIZER_UNIFORM, .low = -limit, .high = limit};
    } else if (initializer.kind == INITIALIZER_GLOROT_NORMAL) {
        double deviation = sqrt(2.0 / glorot_fans(shape)) / truncated_deviation;
        initializer = (struct initializer){.kind = INITIALIZER_TRUNCATED_NORMAL, .low = 0, .high = deviation};
    }
    return initializer;
}

/* Zeros, ones, a number, or the list of a constant initialiser. */
static enum status build_constant(struct graph *graph, const struct initializer *initializer, const struct shape *shape,
                                  enum dtype dtype, struct output *ret_output, struct error *error)
{
    bool is_list = initializer->kind == INITIALIZER_CONSTANT && initializer->values.data != NULL;
    double number = initializer->kind == INITIALIZER_ONES       ? 1
                    : initializer->kind == INITIALIZER_CONSTANT ? initializer->low
                                                                : 0;
    struct tensor one = {.dtype = DTYPE_FLOAT64, .shape = shape_scalar(), .data = &number};
    struct tensor values;
    TRY(initializer_convert(graph, is_list ? &initializer->values : &one, dtype, true, &values, error));
    size_t needed = 0;
    size_t given = tensor_element_count(&values);
    if (is_list && shape_element_count(shape, &needed) && given > needed) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Too many elements provided. Needed at most %zu, but received %zu", needed, given);
    }
    struct attribute attributes[] = {{.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = *shape},
                                     {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = dtype},
                                     {.name = "values", .kind = ATTRIBUTE_TENSOR, .tensor = values}};
    struct node_options add = {.name = initializer->kind == INITIALIZER_ONES    ? "ones"
                                       : initializer->kind == INITIALIZER_ZEROS ? "zeros"
                                                                                : "Const",
                               .attributes = attributes,
                               .attribute_count = 3};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "ConstantInitializer", &add, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

static enum status build_random(struct graph *graph, const struct initializer *initializer, const struct shape *shape,
                                enum dtype dtype, const char *seed_name, struct output *ret_output, struct error *error)
{
    bool is_uniform = initializer->kind == INITIALIZER_UNIFORM;
    bool is_orthogonal = initializer->kind == INITIALIZER_ORTHOGONAL;
    bool is_truncated = initializer->kind == INITIALIZER_TRUNCATED_NORMAL;
    if (!dtype_is_float(dtype) && !(is_uniform && dtype_is_integer(dtype))) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Expected floating point type, got <dtype: '%s'>.",
                           dtype_name(dtype));
    }
    if (is_orthogonal && shape->rank < 2) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "The tensor to initialize must be at least two-dimensional");
    }
    struct attribute attributes[] = {
        {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = *shape},
        {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = dtype},
        {.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)(rng_key(seed_name) >> 1)},
        {.name = is_uniform      ? "low"
                 : is_orthogonal ? "gain"
                                 : "mean",
         .kind = ATTRIBUTE_NUMBER,
         .number = initializer->low},
        {.name = is_uniform ? "high" : "deviation", .kind = ATTRIBUTE_NUMBER, .number = initializer->high},
    };
    struct node_options add = {.name = is_uniform      ? "random_uniform"
                                       : is_orthogonal ? "orthogonal"
                                       : is_truncated  ? "truncated_normal"
                                                       : "random_normal",
                               .attributes = attributes,
                               .attribute_count = is_orthogonal ? 4 : 5};
    struct node *node = NULL;
    TRY(graph_add_node(graph,
                       is_uniform      ? "RandomUniformInitializer"
                       : is_orthogonal ? "OrthogonalInitializer"
                       : is_truncated  ? "TruncatedNormalInitializer"
                                       : "RandomNormalInitializer",
                       &add, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

enum status initializer_build(struct graph *graph, const struct initializer *initializer, const struct shape *shape,
                              enum dtype dtype, const char *seed_name, struct output *ret_output, struct error *error)
{
    struct initializer resolved = resolve(initializer, shape, dtype);
    switch (resolved.kind) {
    case INITIALIZER_ZEROS:
    case INITIALIZER_ONES:
    case INITIALIZER_CONSTANT: return build_constant(graph, &resolved, shape, dtype, ret_output, error);
    case INITIALIZER_UNIFORM:
    case INITIALIZER_NORMAL:
    case INITIALIZER_TRUNCATED_NORMAL:
    case INITIALIZER_ORTHOGONAL: return build_random(graph, &resolved, shape, dtype, seed_name, ret_output, error);
    case INITIALIZER_VALUE:
    case INITIALIZER_CALLABLE: {
        struct tensor values;
        TRY(initializer_convert(graph, &resolved.values, dtype, resolved.has_dtype, &values, error));
        struct attribute value = {.name = "value", .kind = ATTRIBUTE_TENSOR, .tensor = values};
        struct node_options add = {.name = "initial_value", .attributes = &value, .attribute_count = 1};
        struct node *node = NULL;
        TRY(graph_add_node(graph, "Const", &add, &node, error));
        *ret_output = (struct output){node, 0};
        return STATUS_OK;
    }
    case INITIALIZER_TENSOR: *ret_output = resolved.output; return STATUS_OK;
    case INITIALIZER_DEFAULT:
    case INITIALIZER_GLOROT_UNIFORM:
    case INITIALIZER_GLOROT_NORMAL: break; /* taken above */
    }
    return error_set(error, STATUS_INVALID, "an initializer of unknown kind %d", (int)resolved.kind);
}

bool initializer_is_value(const struct initializer *initializer)
{
    return initializer->kind == INITIALIZER_VALUE || initializer->kind == INITIALIZER_TENSOR;
}

enum dtype initializer_dtype(const struct initializer *initializer)
{
    return initializer->kind == INITIALIZER_TENSOR ? output_type(initializer->output)->dtype
                                                   : initializer->values.dtype;
}

/* "Expected int32, got 1.5 of type 'float' instead." */
static enum status refuse_element(const struct tensor *values, enum dtype dtype, struct error *error)
{
    char text[40] = "True";
    const char *python = dtype_is_float(values->dtype) ? "float" : values->dtype == DTYPE_BOOL ? "bool" : "int";
    double number = tensor_element_count(values) > 0 ? tensor_number(values, 0) : 0;
    if (values->dtype != DTYPE_BOOL) {
        bool is_whole = dtype_is_float(values->dtype) && number == floor(number) && fabs(number) < 1e15;
        snprintf(text, sizeof text, is_whole ? "%.1f" : "%.12g", number);
    } else if (number == 0) {
        snprintf(text, sizeof text, "False");
    }
    return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE, "Expected %s, got %s of type '%s' instead.",
                       dtype_name(dtype), text, python);
}

enum status initializer_convert(struct graph *graph, const struct tensor *values, enum dtype dtype, bool is_array,
                                struct tensor *ret_values, struct error *error)
{
    if (values->dtype == dtype) {
        *ret_values = *values;
        return STATUS_OK;
    }
    bool fits = is_array || (dtype_is_integer(values->dtype) && dtype != DTYPE_BOOL) ||
                (dtype_is_float(values->dtype) && (dtype_is_float(dtype) || dtype == DTYPE_COMPLEX64));
    if (!fits) {
        return refuse_element(values, dtype, error);
    }
    struct tensor converted = {.dtype = dtype, .shape = values->shape};
    size_t count = tensor_element_count(values);
    converted.data = arena_allocate(graph_arena(graph), count + 1, dtype_bytes(dtype));
    if (converted.data == NULL) {
        return error_set(error, STATUS_LIMIT, "an initial value of %zu elements exceeds the graph's memory", count);
    }
    for (size_t i = 0; i < count; i++) {
        tensor_set_number(&converted, i, tensor_number(values, i));
    }
    *ret_values = converted;
    return STATUS_OK;
}
