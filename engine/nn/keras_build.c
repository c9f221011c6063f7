/* Building Keras layers: what inputs they take, their variables, the shapes of their outputs. Thread: the building
 * one. */
#include "engine/base/check.h"
#include "engine/nn/keras_private.h"

/* ---- inputs ---- */

/* "[None, 5]" */
static const char *list_text(const struct shape *shape, char text[SHAPE_TEXT_BYTES_MAX])
{
    size_t length = (size_t)snprintf(text, SHAPE_TEXT_BYTES_MAX, "[");
    for (int i = 0; i < shape->rank; i++) {
        const char *comma = i == 0 ? "" : ", ";
        length += shape->dimensions[i] == DIMENSION_UNKNOWN
                      ? (size_t)snprintf(text + length, SHAPE_TEXT_BYTES_MAX - length, "%sNone", comma)
                      : (size_t)snprintf(text + length, SHAPE_TEXT_BYTES_MAX - length, "%s%lld", comma,
                                         (long long)shape->dimensions[i]);
    }
    snprintf(text + length, SHAPE_TEXT_BYTES_MAX - length, "]");
    return text;
}

static enum status refuse_input(const struct keras_layer *layer, const struct shape *input, const char *what,
                                struct error *error)
{
    char text[SHAPE_TEXT_BYTES_MAX];
    return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                       "Input 0 of layer %s is incompatible with the layer: %s. Full shape received: %s",
                       layer->options.name, what, list_text(input, text));
}

/* Whether the layer's variables depend on the last dimension of its inputs. */
static bool needs_depth(enum keras_kind kind)
{
    return keras_is_recurrent(kind) || kind == KERAS_DENSE;
}

enum status keras_check_input(const struct keras_layer *layer, const struct shape *input, struct error *error)
{
    enum keras_kind kind = layer->options.kind;
    char what[96];
    char text[SHAPE_TEXT_BYTES_MAX];
    int wanted = keras_is_recurrent(kind) || kind == KERAS_BIDIRECTIONAL ? 3 : 0;
    int least = kind == KERAS_DENSE ? 2 : kind == KERAS_TIME_DISTRIBUTED ? 3 : 0;
    if (input->rank == SHAPE_RANK_UNKNOWN) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Input 0 of layer %s is incompatible with the layer: its rank is undefined, but the layer "
                           "requires a defined rank.",
                           layer->options.name);
    }
    if (wanted > 0 && input->rank != wanted) {
        snprintf(what, sizeof what, "expected ndim=%d, found ndim=%d", wanted, input->rank);
        return refuse_input(layer, input, what, error);
    }
    if (input->rank < least) {
        snprintf(what, sizeof what, "expected min_ndim=%d, found ndim=%d", least, input->rank);
        return refuse_input(layer, input, what, error);
    }
    int64_t depth = input->rank == 0 ? DIMENSION_UNKNOWN : input->dimensions[input->rank - 1];
    if (!needs_depth(kind)) {
        return STATUS_OK;
    }
    if (!layer->is_built && depth == DIMENSION_UNKNOWN) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "The last dimension of the inputs to `%s` should be defined. Found `None`.",
                           kind == KERAS_DENSE        ? "Dense"
                           : kind == KERAS_LSTM       ? "LSTM"
                           : kind == KERAS_SIMPLE_RNN ? "SimpleRNN"
                                                      : "GRU");
    }
    if (layer->is_built && depth != DIMENSION_UNKNOWN && depth != layer->depth) {
        return error_raise(
            error, STATUS_INVALID, EXCEPTION_VALUE,
            "Input 0 of layer %s is incompatible with the layer: expected axis -1 of input shape to have "
            "value %lld but received input with shape %s",
            layer->options.name, (long long)layer->depth, list_text(input, text));
    }
    return STATUS_OK;
}

/* ---- variables ---- */

/* Adds one to `layer`, a copy that is written back when all are there. */
static enum status add_weight(struct graph *graph, struct keras_layer *layer, const char *name, struct shape shape,
                              const struct initializer *given, struct initializer otherwise, struct error *error)
{
    struct variable_options options = {.name = name,
                                       .shape = shape,
                                       .has_shape = true,
                                       .has_dtype = true,
                                       .dtype = keras_dtype(layer),
                                       .initializer = given->kind == INITIALIZER_DEFAULT ? otherwise : *given,
                                       .is_resource = true};
    CHECK(layer->variable_count < KERAS_LAYER_VARIABLES_MAX);
    TRY(make_variable(graph, &options, &layer->variables[layer->variable_count], error));
    layer->variable_count++;
    return STATUS_OK;
}

/* An LSTM's bias begins with 1 for the forget gates. */
static enum status forget_bias(struct graph *graph, const struct keras_layer *layer,
                               struct initializer *ret_initializer, struct error *error)
{
    const struct initializer *given = &layer->options.bias_initializer;
    double rest = given->kind == INITIALIZER_ONES ? 1 : given->kind == INITIALIZER_CONSTANT ? given->low : 0;
    bool is_plain = given->kind == INITIALIZER_DEFAULT || given->kind == INITIALIZER_ZEROS ||
                    given->kind == INITIALIZER_ONES ||
                    (given->kind == INITIALIZER_CONSTANT && given->values.data == NULL);
    if (!is_plain) {
        return error_set(error, STATUS_UNSUPPORTED,
                         "unit_forget_bias goes with a bias_initializer of zeros, ones or a constant");
    }
    size_t units = layer->options.units;
    struct tensor values = {keras_dtype(layer), shape_vector((int64_t)(2 * units + 1)), NULL};
    values.data = arena_allocate(graph_arena(graph), 2 * units + 1, dtype_bytes(values.dtype));
    if (values.data == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a bias of %zu", 4 * units);
    }
    for (size_t i = 0; i <= 2 * units; i++) {
        tensor_set_number(&values, i, i >= units && i < 2 * units ? 1 : rest);
    }
    *ret_initializer = (struct initializer){.kind = INITIALIZER_CONSTANT, .values = values}; /* the last repeats */
    return STATUS_OK;
}

static enum status add_recurrent_weights(struct graph *graph, struct keras_layer *layer, struct error *error)
{
    const struct keras_options *options = &layer->options;
    int64_t units = (int64_t)options->units;
    int64_t columns = units * (options->kind == KERAS_LSTM ? 4 : options->kind == KERAS_GRU ? 3 : 1);
    struct initializer glorot = {.kind = INITIALIZER_GLOROT_UNIFORM};
    struct initializer orthogonal = {.kind = INITIALIZER_ORTHOGONAL, .low = 1};
    struct initializer bias = options->bias_initializer;
    TRY(add_weight(graph, layer, "kernel", shape_matrix(layer->depth, columns), &options->kernel_initializer, glorot,
                   error));
    TRY(add_weight(graph, layer, "recurrent_kernel", shape_matrix(units, columns), &options->recurrent_initializer,
                   orthogonal, error));
    if (options->has_no_bias) {
        return STATUS_OK;
    }
    if (options->kind == KERAS_LSTM && !options->has_no_forget_bias) {
        TRY(forget_bias(graph, layer, &bias, error));
    }
    struct shape shape =
        options->kind == KERAS_GRU && options->resets_after ? shape_matrix(2, columns) : shape_vector(columns);
    struct initializer zeros = {.kind = INITIALIZER_ZEROS};
    return add_weight(graph, layer, "bias", shape, &bias, zeros, error);
}

static enum status add_weights(struct graph *graph, struct keras_layer *layer, struct error *error)
{
    const struct keras_options *options = &layer->options;
    struct initializer glorot = {.kind = INITIALIZER_GLOROT_UNIFORM};
    struct initializer uniform = {.kind = INITIALIZER_UNIFORM, .low = -0.05, .high = 0.05};
    struct initializer zeros = {.kind = INITIALIZER_ZEROS};
    if (keras_is_recurrent(options->kind)) {
        return add_recurrent_weights(graph, layer, error);
    }
    if (options->kind == KERAS_EMBEDDING) {
        return add_weight(graph, layer, "embeddings",
                          shape_matrix((int64_t)options->input_dim, (int64_t)options->output_dim),
                          &options->kernel_initializer, uniform, error);
    }
    if (options->kind != KERAS_DENSE) {
        return STATUS_OK;
    }
    TRY(add_weight(graph, layer, "kernel", shape_matrix(layer->depth, (int64_t)options->units),
                   &options->kernel_initializer, glorot, error));
    return options->has_no_bias ? STATUS_OK
                                : add_weight(graph, layer, "bias", shape_vector((int64_t)options->units),
                                             &options->bias_initializer, zeros, error);
}

/* ---- shapes of outputs ---- */

/* What comes out of a layer that sees the input without its time dimension. */
static enum status distributed_shape(const struct graph *graph, const struct keras_layer *layer,
                                     const struct shape *input, struct shape *ret_output, struct error *error)
{
    struct shape inner = *input;
    struct shape output;
    inner.rank--;
    memmove(inner.dimensions + 1, inner.dimensions + 2, (size_t)(inner.rank - 1) * sizeof *inner.dimensions);
    TRY(keras_output_shape(graph, keras_layer(graph, layer->children[0]), &inner, &output, error));
    if (output.rank < 1 || output.rank == SHAPE_RANK_MAX) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "\"%s\" cannot be distributed over time",
                           layer->options.name);
    }
    memmove(output.dimensions + 2, output.dimensions + 1, (size_t)(output.rank - 1) * sizeof *output.dimensions);
    output.dimensions[1] = input->dimensions[1];
    output.rank++;
    *ret_output = output;
    return STATUS_OK;
}

/* Flatten, and Reshape with at most one dimension open. */
static enum status reshaped(const struct keras_layer *layer, const struct shape *input, struct shape *ret_output,
                            struct error *error)
{
    struct shape all = *input;
    size_t count = 0;
    all.dimensions[0] = 1;
    bool is_known = shape_is_fully_known(&all) && shape_element_count(&all, &count);
    if (layer->options.kind == KERAS_FLATTEN) {
        *ret_output = shape_matrix(input->dimensions[0], is_known ? (int64_t)count : DIMENSION_UNKNOWN);
        return STATUS_OK;
    }
    const struct shape *target = &layer->options.target;
    struct shape output = {.rank = target->rank + 1, .dimensions = {input->dimensions[0]}};
    int open = -1;
    size_t known = 1;
    for (int i = 0; i < target->rank; i++) {
        output.dimensions[i + 1] = target->dimensions[i];
        if (target->dimensions[i] < 0) {
            open = open < 0 ? i + 1 : SHAPE_RANK_MAX;
        } else if (__builtin_mul_overflow(known, (size_t)target->dimensions[i], &known)) {
            known = SIZE_MAX;
        }
    }
    bool fits = !is_known || (open < 0 ? known == count : open < SHAPE_RANK_MAX && known > 0 && count % known == 0);
    if (!fits) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "total size of new array must be unchanged");
    }
    if (open > 0 && open < SHAPE_RANK_MAX) {
        output.dimensions[open] = is_known ? (int64_t)(count / known) : DIMENSION_UNKNOWN;
    }
    *ret_output = output;
    return STATUS_OK;
}

static enum status stacked_shape(const struct graph *graph, const struct keras_layer *layer, const struct shape *input,
                                 struct shape *ret_output, struct error *error)
{
    struct shape shape = *input;
    for (size_t i = 0; i < layer->child_count; i++) {
        struct shape next;
        TRY(keras_output_shape(graph, keras_layer(graph, layer->children[i]), &shape, &next, error));
        shape = next;
    }
    *ret_output = shape;
    return STATUS_OK;
}

enum status keras_output_shape(const struct graph *graph, const struct keras_layer *layer, const struct shape *input,
                               struct shape *ret_output, struct error *error)
{
    const struct keras_options *options = &layer->options;
    struct shape shape = *input;
    TRY(keras_check_input(layer, input, error));
    switch (options->kind) {
    case KERAS_SEQUENTIAL: return stacked_shape(graph, layer, input, ret_output, error);
    case KERAS_TIME_DISTRIBUTED: return distributed_shape(graph, layer, input, ret_output, error);
    case KERAS_FLATTEN:
    case KERAS_RESHAPE:
        return input->rank < 1 ? error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Input 0 of layer %s is a scalar",
                                             options->name)
                               : reshaped(layer, input, ret_output, error);
    case KERAS_EMBEDDING:
        if (shape.rank == SHAPE_RANK_MAX) {
            return error_set(error, STATUS_LIMIT, "an embedding of more than %d dimensions", SHAPE_RANK_MAX - 1);
        }
        shape.dimensions[shape.rank++] = (int64_t)options->output_dim;
        break;
    case KERAS_DENSE: shape.dimensions[shape.rank - 1] = (int64_t)options->units; break;
    case KERAS_LSTM:
    case KERAS_GRU:
    case KERAS_SIMPLE_RNN:
        shape = options->returns_sequences ? shape : shape_matrix(shape.dimensions[0], 0);
        shape.dimensions[shape.rank - 1] = (int64_t)options->units;
        break;
    case KERAS_BIDIRECTIONAL: {
        TRY(keras_output_shape(graph, keras_layer(graph, layer->children[0]), input, &shape, error));
        bool is_joined = options->merge_mode == NULL || strcmp(options->merge_mode, "concat") == 0;
        shape.dimensions[shape.rank - 1] *= is_joined ? 2 : 1;
        break;
    }
    case KERAS_DROPOUT:
    case KERAS_ACTIVATION:
    case KERAS_KIND_COUNT: break;
    }
    *ret_output = shape;
    return STATUS_OK;
}

/* ---- building ---- */

/* The inner layers: a model's one after another, each in a scope of its name; a bidirectional layer's in scopes of
 * theirs; a distributed one in its wrapper's. */
static enum status build_children(struct graph *graph, const struct keras_layer *layer, const struct shape *input,
                                  int nesting, struct error *error)
{
    struct shape shape = *input;
    if (layer->options.kind == KERAS_TIME_DISTRIBUTED) {
        shape.rank--;
        memmove(shape.dimensions + 1, shape.dimensions + 2, (size_t)(shape.rank - 1) * sizeof *shape.dimensions);
        return keras_build_here(graph, layer->children[0], &shape, nesting, error);
    }
    for (size_t i = 0; i < layer->child_count; i++) {
        const char *previous = NULL;
        TRY(graph_enter_name_scope(graph, keras_layer_name(graph, layer->children[i]), &previous, error));
        enum status status = keras_build_here(graph, layer->children[i], &shape, nesting, error);
        graph_leave_name_scope(graph, previous);
        TRY(status);
        if (layer->options.kind == KERAS_SEQUENTIAL) {
            struct shape next;
            TRY(keras_output_shape(graph, keras_layer(graph, layer->children[i]), &shape, &next, error));
            shape = next;
        }
    }
    return STATUS_OK;
}

enum status keras_build_here(struct graph *graph, uint32_t layer, const struct shape *input, int nesting,
                             struct error *error)
{
    struct keras_layer building = *keras_layer(graph, layer);
    TRY(keras_check_input(&building, input, error));
    if (building.is_built) {
        return STATUS_OK;
    }
    CHECK(nesting < KERAS_NESTING_MAX);
    if (needs_depth(building.options.kind)) {
        building.depth = input->dimensions[input->rank - 1];
    }
    TRY(add_weights(graph, &building, error));
    TRY(build_children(graph, &building, input, nesting + 1, error));
    building.is_built = true;
    void *data = NULL;
    TRY(graph_edit_object(graph, OBJECT_LAYER, layer, &data, error));
    memcpy(data, &building, sizeof building);
    return STATUS_OK;
}

enum status keras_build(struct graph *graph, uint32_t layer, const struct shape *input_shape, struct error *error)
{
    return keras_build_here(graph, layer, input_shape, 0, error);
}
