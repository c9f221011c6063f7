/* Keras layers and models as objects: making, naming, looking up, weights. Thread: the building one; everything belongs
 * to the graph. Layers of a graph are kept in a collection of their own, by which the next name is counted. */
#include "engine/nn/keras.h"

#include <strings.h>

#include "engine/base/check.h"
#include "engine/nn/keras_private.h"

struct kind_facts {
    const char *name;
    const char *class;
    const char *activation;
};

static const struct kind_facts kinds[] = {
    [KERAS_SEQUENTIAL] = {"sequential", "Sequential", NULL},
    [KERAS_EMBEDDING] = {"embedding", "Embedding", NULL},
    [KERAS_LSTM] = {"lstm", "LSTM", "tanh"},
    [KERAS_GRU] = {"gru", "GRU", "tanh"},
    [KERAS_SIMPLE_RNN] = {"simple_rnn", "SimpleRNN", "tanh"},
    [KERAS_DENSE] = {"dense", "Dense", "linear"},
    [KERAS_BIDIRECTIONAL] = {"bidirectional", "Bidirectional", NULL},
    [KERAS_TIME_DISTRIBUTED] = {"time_distributed", "TimeDistributed", NULL},
    [KERAS_DROPOUT] = {"dropout", "Dropout", NULL},
    [KERAS_ACTIVATION] = {"activation", "Activation", NULL},
    [KERAS_FLATTEN] = {"flatten", "Flatten", NULL},
    [KERAS_RESHAPE] = {"reshape", "Reshape", NULL},
};
static_assert(sizeof kinds / sizeof *kinds == KERAS_KIND_COUNT, "the facts of each kind");

const char *keras_kind_name(enum keras_kind kind)
{
    CHECK(kind < KERAS_KIND_COUNT);
    return kinds[kind].name;
}

bool keras_kind_find(const char *name, enum keras_kind *ret_kind)
{
    for (int kind = 0; kind < KERAS_KIND_COUNT; kind++) {
        if (strcmp(kinds[kind].name, name) == 0 || strcmp(kinds[kind].class, name) == 0) {
            *ret_kind = (enum keras_kind)kind;
            return true;
        }
    }
    return false;
}

const struct keras_layer *keras_layer(const struct graph *graph, uint32_t layer)
{
    return graph_object(graph, OBJECT_LAYER, layer);
}

bool keras_is_recurrent(enum keras_kind kind)
{
    return kind == KERAS_LSTM || kind == KERAS_GRU || kind == KERAS_SIMPLE_RNN;
}

enum dtype keras_dtype(const struct keras_layer *layer)
{
    return layer->options.has_dtype ? layer->options.dtype : DTYPE_FLOAT32;
}

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a layer");
}

/* ---- checking what was given ---- */

static enum status check_sizes(const struct keras_options *options, struct error *error)
{
    const char *class = kinds[options->kind].class;
    if (keras_is_recurrent(options->kind) || options->kind == KERAS_DENSE) {
        if (options->units < 1 || options->units > KERAS_UNITS_MAX) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "%s: units is %zu, must be 1 to %d", class,
                               options->units, KERAS_UNITS_MAX);
        }
    }
    if (options->kind == KERAS_EMBEDDING) {
        if (options->input_dim < 1 || options->output_dim < 1 || options->output_dim > KERAS_UNITS_MAX) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                               "Embedding: input_dim is %zu, output_dim is %zu, both must be at least 1",
                               options->input_dim, options->output_dim);
        }
    }
    if (options->kind == KERAS_DROPOUT && !(options->rate >= 0 && options->rate < 1)) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "rate must be a scalar tensor or a float in the range [0, 1), got %g", options->rate);
    }
    if (options->has_dtype && options->dtype != DTYPE_FLOAT32 && options->dtype != DTYPE_FLOAT64) {
        return error_set(error, STATUS_UNSUPPORTED, "%s of dtype %s: float32 and float64 are supported", class,
                         dtype_name(options->dtype));
    }
    return options->is_stateful ? error_set(error, STATUS_UNSUPPORTED,
                                            "%s with stateful=True is not supported: feed initial_state", class)
                                : STATUS_OK;
}

static enum status check_texts(const struct keras_options *options, struct error *error)
{
    static const char *const modes[] = {"sum", "mul", "ave", "concat", "none"};
    const char *const activations[] = {options->activation, options->recurrent_activation};
    for (size_t i = 0; i < 2; i++) {
        if (activations[i] != NULL && !keras_activation_exists(activations[i])) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Unknown activation function:%.100s",
                               activations[i]);
        }
    }
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (options->merge_mode == NULL || strcmp(options->merge_mode, modes[i]) == 0) {
            return STATUS_OK;
        }
    }
    return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                       "Invalid merge mode. Merge mode should be one of {\"sum\", \"mul\", \"ave\", \"concat\", None}");
}

static enum status check_names(const struct graph *graph, const struct keras_options *options, struct error *error)
{
    for (size_t i = 0; i < options->child_count; i++) {
        const char *name = keras_layer_name(graph, options->children[i]);
        size_t uses = 0;
        for (size_t k = 0; k < options->child_count; k++) {
            uses += strcmp(keras_layer_name(graph, options->children[k]), name) == 0;
        }
        if (uses > 1) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                               "The name \"%s\" is used %zu times in the model. All layer names should be unique.",
                               name, uses);
        }
    }
    return STATUS_OK;
}

/* Counts what is in a layer. LIMIT where that is too much. */
static enum status count_inner(const struct graph *graph, struct keras_layer *layer, struct error *error)
{
    layer->levels = 1;
    layer->total = 1;
    for (size_t i = 0; i < layer->options.child_count; i++) {
        const struct keras_layer *child = keras_layer(graph, layer->options.children[i]);
        layer->levels = child->levels >= layer->levels ? child->levels + 1 : layer->levels;
        layer->total += child->total * (layer->options.kind == KERAS_BIDIRECTIONAL ? 2 : 1);
    }
    if (layer->levels > KERAS_NESTING_MAX || layer->total > KERAS_TOTAL_MAX) {
        return error_set(error, STATUS_LIMIT, "layers nest %zu deep and are %zu, at most %d and %d", layer->levels,
                         layer->total, KERAS_NESTING_MAX, KERAS_TOTAL_MAX);
    }
    return STATUS_OK;
}

static enum status check_children(const struct graph *graph, const struct keras_options *options, struct error *error)
{
    bool is_wrapper = options->kind == KERAS_BIDIRECTIONAL || options->kind == KERAS_TIME_DISTRIBUTED;
    size_t wanted = options->kind == KERAS_SEQUENTIAL ? options->child_count : is_wrapper ? 1 : 0;
    if (options->child_count != wanted || options->child_count > KERAS_LAYERS_MAX) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "%s of %zu layers: a wrapper takes one, a model at most %d", kinds[options->kind].class,
                           options->child_count, KERAS_LAYERS_MAX);
    }
    if (options->kind == KERAS_BIDIRECTIONAL &&
        !keras_is_recurrent(keras_layer(graph, options->children[0])->options.kind)) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Bidirectional wraps recurrent layers (lstm, gru, simple_rnn), not \"%s\"",
                           keras_layer_name(graph, options->children[0]));
    }
    return options->kind == KERAS_SEQUENTIAL ? check_names(graph, options, error) : STATUS_OK;
}

/* ---- making ---- */

/* The last layer of the graph, or NULL. */
static const struct keras_layer *last_layer(const struct graph *graph)
{
    size_t count = graph_collection_count(graph, COLLECTION_KERAS_LAYERS);
    return count == 0 ? NULL
                      : keras_layer(graph, graph_collection_at(graph, COLLECTION_KERAS_LAYERS, count - 1)->object_id);
}

static enum status copy_text(struct graph *graph, const char **text, struct error *error)
{
    if (*text != NULL) {
        *text = arena_copy_string(graph_arena(graph), *text);
        return *text == NULL ? no_memory(error) : STATUS_OK;
    }
    return STATUS_OK;
}

static enum status name_layer(struct graph *graph, struct keras_layer *layer, struct error *error)
{
    const char *base = kinds[layer->options.kind].name;
    if (layer->options.name != NULL) {
        return copy_text(graph, &layer->options.name, error);
    }
    const struct keras_layer *last = last_layer(graph);
    uint32_t before = last == NULL ? 0 : last->named[layer->options.kind];
    layer->is_named_by_us = true;
    layer->options.name = before == 0 ? base : arena_format(graph_arena(graph), "%s_%u", base, before);
    return layer->options.name == NULL ? no_memory(error) : STATUS_OK;
}

static enum status add_layer(struct graph *graph, const struct keras_layer *layer, uint32_t *ret_layer,
                             struct error *error)
{
    uint32_t id = 0;
    struct keras_layer added = *layer;
    const struct keras_layer *last = last_layer(graph);
    if (last != NULL) {
        memcpy(added.named, last->named, sizeof added.named);
    } else {
        memset(added.named, 0, sizeof added.named);
    }
    added.named[added.options.kind] += added.is_named_by_us;
    TRY(graph_add_object(graph, OBJECT_LAYER, &added, sizeof added, &id, error));
    struct handle handle = handle_object(OBJECT_LAYER, id);
    TRY(graph_add_to_own_collection(graph, COLLECTION_KERAS_LAYERS, &handle, error));
    *ret_layer = id;
    return STATUS_OK;
}

/* The two layers that a bidirectional one runs: copies of the one it was given. */
static enum status add_directions(struct graph *graph, struct keras_layer *layer, struct error *error)
{
    const struct keras_layer inner = *keras_layer(graph, layer->options.children[0]);
    layer->children = arena_allocate(graph_arena(graph), 2, sizeof *layer->children);
    if (layer->children == NULL) {
        return no_memory(error);
    }
    for (uint32_t i = 0; i < 2; i++) {
        struct keras_layer direction = inner;
        direction.is_named_by_us = false;
        direction.is_built = false;
        direction.variable_count = 0;
        direction.options.goes_backwards = inner.options.goes_backwards != (i == 1);
        direction.options.name =
            arena_format(graph_arena(graph), "%s_%s", i == 0 ? "forward" : "backward", inner.options.name);
        if (direction.options.name == NULL) {
            return no_memory(error);
        }
        TRY(add_layer(graph, &direction, &layer->children[i], error));
    }
    layer->child_count = 2;
    return STATUS_OK;
}

static enum status keep_children(struct graph *graph, struct keras_layer *layer, struct error *error)
{
    if (layer->options.kind == KERAS_BIDIRECTIONAL) {
        return add_directions(graph, layer, error);
    }
    layer->child_count = layer->options.child_count;
    layer->children = arena_copy(graph_arena(graph), layer->options.children, layer->child_count, sizeof(uint32_t));
    return layer->children == NULL ? no_memory(error) : STATUS_OK;
}

/* As Sequential.add does when the first layer says what it takes: a placeholder, and every layer called. */
static enum status build_from_first(struct graph *graph, uint32_t model, const struct keras_layer *first,
                                    struct error *error)
{
    struct shape shape = first->options.input_shape;
    char name[GRAPH_NAME_BYTES_MAX + 8];
    if (shape.rank < 0 || shape.rank + 1 > SHAPE_RANK_MAX) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "the input_shape of \"%s\" must have at most %d dimensions", first->options.name,
                           SHAPE_RANK_MAX - 1);
    }
    memmove(shape.dimensions + 1, shape.dimensions, (size_t)shape.rank * sizeof *shape.dimensions);
    shape.dimensions[0] = DIMENSION_UNKNOWN;
    shape.rank++;
    snprintf(name, sizeof name, "%s_input", first->options.name);
    struct attribute attributes[] = {{.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = keras_dtype(first)},
                                     {.name = "shape", .kind = ATTRIBUTE_SHAPE, .shape = shape}};
    struct node_options options = {.name = name, .attributes = attributes, .attribute_count = 2};
    struct node *input = NULL;
    TRY(graph_add_node(graph, "Placeholder", &options, &input, error));
    struct keras_call call = {.input = {input, 0}};
    const struct keras_layer *at = keras_layer(graph, model);
    for (size_t i = 0; i < at->child_count; i++) {
        struct keras_result result;
        TRY(keras_call(graph, at->children[i], &call, &result, error));
        call.input = result.outputs[0];
    }
    void *data = NULL;
    TRY(graph_edit_object(graph, OBJECT_LAYER, model, &data, error));
    struct keras_layer *built = data;
    built->is_built = true;
    built->has_tensors = true;
    built->input = (struct output){input, 0};
    built->output = call.input;
    return STATUS_OK;
}

enum status keras_create(struct graph *graph, const struct keras_options *options, uint32_t *ret_layer,
                         struct error *error)
{
    struct keras_layer layer = {.options = *options};
    TRY(check_sizes(options, error));
    TRY(check_texts(options, error));
    TRY(check_children(graph, options, error));
    TRY(count_inner(graph, &layer, error));
    TRY(name_layer(graph, &layer, error));
    if (layer.options.activation == NULL) {
        layer.options.activation = kinds[options->kind].activation;
    }
    if (layer.options.recurrent_activation == NULL) {
        layer.options.recurrent_activation = "hard_sigmoid";
    }
    if (options->kind == KERAS_EMBEDDING && !options->has_input_shape) {
        layer.options.has_input_shape = true; /* as input_length=None */
        layer.options.input_shape = shape_vector(DIMENSION_UNKNOWN);
    } else if (options->kind != KERAS_EMBEDDING && options->input_dim > 0 && !options->has_input_shape) {
        layer.options.has_input_shape = true;
        layer.options.input_shape = keras_is_recurrent(options->kind)
                                        ? shape_matrix(DIMENSION_UNKNOWN, (int64_t)options->input_dim)
                                        : shape_vector((int64_t)options->input_dim);
    }
    TRY(copy_text(graph, &layer.options.activation, error));
    TRY(copy_text(graph, &layer.options.recurrent_activation, error));
    TRY(copy_text(graph, &layer.options.merge_mode, error));
    TRY(keep_children(graph, &layer, error));
    layer.options.children = NULL;
    TRY(add_layer(graph, &layer, ret_layer, error));
    const struct keras_layer *first =
        options->kind == KERAS_SEQUENTIAL && layer.child_count > 0 ? keras_layer(graph, layer.children[0]) : NULL;
    if (first != NULL && first->options.has_input_shape) {
        return build_from_first(graph, *ret_layer, first, error);
    }
    return STATUS_OK;
}

/* ---- looking up ---- */

enum keras_kind keras_layer_kind(const struct graph *graph, uint32_t layer)
{
    return keras_layer(graph, layer)->options.kind;
}

const char *keras_layer_name(const struct graph *graph, uint32_t layer)
{
    return keras_layer(graph, layer)->options.name;
}

bool keras_layer_is_built(const struct graph *graph, uint32_t layer)
{
    return keras_layer(graph, layer)->is_built;
}

size_t keras_layer_count(const struct graph *graph, uint32_t model)
{
    const struct keras_layer *layer = keras_layer(graph, model);
    return layer->options.kind == KERAS_SEQUENTIAL ? layer->child_count : 0;
}

uint32_t keras_layer_at(const struct graph *graph, uint32_t model, size_t index)
{
    CHECK(index < keras_layer_count(graph, model));
    return keras_layer(graph, model)->children[index];
}

bool keras_model_tensors(const struct graph *graph, uint32_t model, struct output *ret_input, struct output *ret_output)
{
    const struct keras_layer *layer = keras_layer(graph, model);
    if (layer->has_tensors) {
        *ret_input = layer->input;
        *ret_output = layer->output;
    }
    return layer->has_tensors;
}

enum status keras_get_layer(const struct graph *graph, uint32_t model, const char *name, int64_t index,
                            uint32_t *ret_layer, struct error *error)
{
    size_t count = keras_layer_count(graph, model);
    for (size_t i = 0; name != NULL && i < count; i++) {
        if (strcmp(keras_layer_name(graph, keras_layer_at(graph, model, i)), name) == 0) {
            *ret_layer = keras_layer_at(graph, model, i);
            return STATUS_OK;
        }
    }
    if (name != NULL) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "No such layer: %.200s", name);
    }
    if (index < -(int64_t)count) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_INDEX, "list index out of range");
    }
    if (index >= (int64_t)count) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Was asked to retrieve layer at index %lld but model only has %zu layers.", (long long)index,
                           count);
    }
    *ret_layer = keras_layer_at(graph, model, (size_t)(index < 0 ? index + (int64_t)count : index));
    return STATUS_OK;
}

/* ---- weights ---- */

static enum status collect_weights(const struct graph *graph, uint32_t layer, const struct variable **ret_variables,
                                   size_t *count, struct error *error)
{
    const struct keras_layer *at = keras_layer(graph, layer);
    if (*count + at->variable_count > KERAS_WEIGHTS_MAX) {
        return error_set(error, STATUS_LIMIT, "a model of more than %d weights", KERAS_WEIGHTS_MAX);
    }
    for (size_t i = 0; i < at->variable_count; i++) {
        ret_variables[(*count)++] = at->variables[i];
    }
    for (size_t i = 0; i < at->child_count; i++) {
        TRY(collect_weights(graph, at->children[i], ret_variables, count, error));
    }
    return STATUS_OK;
}

enum status keras_weights(const struct graph *graph, uint32_t layer, const struct variable **ret_variables,
                          size_t *ret_count, struct error *error)
{
    const struct keras_layer *at = keras_layer(graph, layer);
    size_t count = 0;
    if (at->options.kind == KERAS_SEQUENTIAL && !at->is_built) {
        return error_raise(
            error, STATUS_INVALID, EXCEPTION_VALUE,
            "Weights for model %s have not yet been created. Weights are created when the Model is first "
            "called on inputs or `build()` is called with an `input_shape`.",
            at->options.name);
    }
    TRY(collect_weights(graph, layer, ret_variables, &count, error));
    *ret_count = count;
    return STATUS_OK;
}

enum status keras_check_weights(const struct graph *graph, uint32_t layer, const struct tensor *weights, size_t count,
                                struct error *error)
{
    const struct variable *variables[KERAS_WEIGHTS_MAX];
    size_t expected = 0;
    TRY(keras_weights(graph, layer, variables, &expected, error));
    char expects[SHAPE_TEXT_BYTES_MAX];
    char given[SHAPE_TEXT_BYTES_MAX];
    if (count != expected) {
        char shapes[64] = "";
        size_t length = 0;
        for (size_t i = 0; i < count && length < 50; i++) {
            length += (size_t)snprintf(shapes + length, sizeof shapes - length, "%sarray of shape %s",
                                       i == 0 ? "[" : ", ", shape_text(&weights[i].shape, given));
        }
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "You called `set_weights(weights)` on layer \"%s\" with a  weight list of length %zu, but "
                           "the layer was expecting %zu weights. Provided weights: %.50s...",
                           keras_layer_name(graph, layer), count, expected, count == 0 ? "[]" : shapes);
    }
    for (size_t i = 0; i < count; i++) {
        const struct shape *shape = &variables[i]->node->outputs[0].shape;
        if (!shape_equal(shape, &weights[i].shape)) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                               "Layer weight shape %s not compatible with provided weight shape %s",
                               shape_text(shape, expects), shape_text(&weights[i].shape, given));
        }
    }
    return STATUS_OK;
}
