/* Calling Keras layers: activations, dense, embedding, wrappers, models. Thread: the building one. */
#include "engine/base/check.h"
#include "engine/graph/function.h"
#include "engine/graph/op_rules.h"
#include "engine/nn/keras_private.h"

/* ---- activations ---- */

struct activation {
    const char *name;
    const char *op; /* NULL: see keras_activate */
};

static const struct activation activations[] = {
    {"linear", NULL},         {"hard_sigmoid", NULL}, {"hard_sigmoid_3", NULL}, {"tanh", "Tanh"},
    {"sigmoid", "Sigmoid"},   {"relu", "Relu"},       {"softmax", "Softmax"},   {"softplus", "Softplus"},
    {"softsign", "Softsign"}, {"elu", "Elu"},         {"selu", "Selu"},         {"exponential", "Exp"},
};

static const struct activation *find_activation(const char *name)
{
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        if (strcmp(activations[i].name, name) == 0) {
            return &activations[i];
        }
    }
    return NULL;
}

bool keras_activation_exists(const char *name)
{
    return find_activation(name) != NULL;
}

/* clip(slope · x + 0.5, 0, 1) */
static enum status add_hard_sigmoid(struct graph *graph, double slope, struct output x, struct output *ret_output,
                                    struct error *error)
{
    enum dtype dtype = output_type(x)->dtype;
    struct output half;
    struct output scaled;
    struct output shifted;
    struct output ends[2];
    TRY(graph_add_scaled(graph, x, slope, &scaled, error));
    TRY(graph_add_number(graph, NULL, dtype, 0.5, &half, error));
    TRY(graph_add_binary(graph, "Add", scaled, half, &shifted, error));
    TRY(graph_add_number(graph, NULL, dtype, 0, &ends[0], error));
    TRY(graph_add_number(graph, NULL, dtype, 1, &ends[1], error));
    return graph_call_tensors(graph, "clip_by_value", NULL, (struct output[]){shifted, ends[0], ends[1]}, 3, ret_output,
                              error);
}

enum status keras_activate(struct graph *graph, const char *name, struct output x, struct output *ret_output,
                           struct error *error)
{
    const struct activation *activation = find_activation(name);
    CHECK(activation != NULL);
    if (activation->op != NULL) {
        return graph_add_unary(graph, activation->op, x, ret_output, error);
    }
    if (strncmp(name, "hard_sigmoid", strlen("hard_sigmoid")) == 0) {
        double slope = strcmp(name, "hard_sigmoid") == 0 ? 0.2 : 1.0 / 6;
        return add_hard_sigmoid(graph, slope, x, ret_output, error);
    }
    *ret_output = x;
    return STATUS_OK;
}

/* ---- what several layers need ---- */

enum status keras_transpose(struct graph *graph, struct output x, const int64_t *order, size_t count,
                            struct output *ret_output, struct error *error)
{
    struct output inputs[2] = {x};
    TRY(graph_add_integers(graph, "transpose/perm", order, count, &inputs[1], error));
    return graph_add(graph, "Transpose", "transpose", inputs, 2, ret_output, error);
}

enum status keras_reverse(struct graph *graph, struct output x, int64_t axis, struct output *ret_output,
                          struct error *error)
{
    struct output inputs[2] = {x};
    TRY(graph_add_integers(graph, "ReverseV2/axis", &axis, 1, &inputs[1], error));
    return graph_add(graph, "ReverseV2", NULL, inputs, 2, ret_output, error);
}

static enum status reshape(struct graph *graph, struct output x, const int64_t *dimensions, size_t count,
                           struct output *ret_output, struct error *error)
{
    struct output inputs[2] = {x};
    TRY(graph_add_integers(graph, "Reshape/shape", dimensions, count, &inputs[1], error));
    return graph_add(graph, "Reshape", NULL, inputs, 2, ret_output, error);
}

enum status keras_project(struct graph *graph, struct output x, struct output kernel, struct output bias,
                          struct output *ret_output, struct error *error)
{
    const struct shape *shape = &output_type(x)->shape;
    struct output product = x;
    if (shape->rank > 2) {
        int64_t rows[] = {-1, output_type(kernel)->shape.dimensions[0]};
        TRY(reshape(graph, x, rows, 2, &product, error));
    }
    TRY(graph_add_binary(graph, "MatMul", product, kernel, &product, error));
    if (bias.node != NULL) {
        TRY(graph_add_binary(graph, "BiasAdd", product, bias, &product, error));
    }
    if (shape->rank <= 2) {
        *ret_output = product;
        return STATUS_OK;
    }
    struct attribute keep_last = {.name = "keep_last", .kind = ATTRIBUTE_BOOLEAN, .boolean = true};
    struct output inputs[] = {product, x};
    struct node_options options = {.inputs = inputs, .input_count = 2, .attributes = &keep_last, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "ReshapeLike", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

/* ---- plain layers ---- */

static enum status call_dense(struct graph *graph, const struct keras_layer *layer, struct output x,
                              struct output *ret_output, struct error *error)
{
    struct output bias = {NULL, 0};
    struct output y;
    if (layer->variable_count > 1) {
        bias = layer->variables[1]->read;
    }
    TRY(keras_project(graph, x, layer->variables[0]->read, bias, &y, error));
    return keras_activate(graph, layer->options.activation, y, ret_output, error);
}

static enum status call_embedding(struct graph *graph, const struct keras_layer *layer, struct output x,
                                  struct output *ret_output, struct error *error)
{
    enum dtype dtype = output_type(x)->dtype;
    if (dtype != DTYPE_INT32 && dtype != DTYPE_INT64) {
        struct attribute to = {.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = DTYPE_INT32};
        struct node_options options = {.inputs = &x, .input_count = 1, .attributes = &to, .attribute_count = 1};
        struct node *cast = NULL;
        TRY(graph_add_node(graph, "Cast", &options, &cast, error));
        x = (struct output){cast, 0};
    }
    struct call_argument arguments[] = {{.output = layer->variables[0]->read}, {.output = x}};
    struct call call = {.function = "embedding_lookup", .arguments = arguments, .argument_count = 2};
    struct call_result result;
    TRY(graph_call(graph, &call, &result, error));
    *ret_output = result.outputs[0];
    return STATUS_OK;
}

static enum status call_dropout(struct graph *graph, const struct keras_layer *layer, const struct keras_call *call,
                                struct output *ret_output, struct error *error)
{
    struct output inputs[2] = {call->input};
    if (!call->is_training || layer->options.rate == 0) {
        return graph_add_unary(graph, "Identity", call->input, ret_output, error);
    }
    TRY(graph_add_number(graph, "dropout/keep_prob", output_type(call->input)->dtype, 1 - layer->options.rate,
                         &inputs[1], error));
    return graph_add(graph, "Dropout", "dropout/mul_1", inputs, 2, ret_output, error);
}

/* Flatten and Reshape: the batch may be open, the rest must be known. */
static enum status call_reshape(struct graph *graph, const struct keras_layer *layer, struct output x,
                                struct output *ret_output, struct error *error)
{
    struct shape shape;
    TRY(keras_output_shape(graph, layer, &output_type(x)->shape, &shape, error));
    shape.dimensions[0] = -1;
    for (int i = 1; i < shape.rank; i++) {
        if (shape.dimensions[i] == DIMENSION_UNKNOWN) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                               "The shape of the input to \"%s\" is not fully defined; all dimensions but the batch "
                               "must be known",
                               layer->options.name);
        }
    }
    return reshape(graph, x, shape.dimensions, (size_t)shape.rank, ret_output, error);
}

/* ---- wrappers ---- */

/* [batch, time, …] as [batch · time, …], called, and back. */
static enum status call_distributed(struct graph *graph, const struct keras_layer *layer, const struct keras_call *call,
                                    int nesting, struct output *ret_output, struct error *error)
{
    struct keras_call inner = *call;
    struct keras_result result;
    struct shape flat = output_type(call->input)->shape;
    struct shape back;
    TRY(keras_output_shape(graph, layer, &flat, &back, error));
    int64_t time = flat.dimensions[1];
    flat.rank--;
    memmove(flat.dimensions + 1, flat.dimensions + 2, (size_t)(flat.rank - 1) * sizeof *flat.dimensions);
    flat.dimensions[0] = -1;
    back.dimensions[0] = -1;
    for (int i = 1; i < flat.rank || i < back.rank; i++) {
        bool is_open = (i < flat.rank && flat.dimensions[i] == DIMENSION_UNKNOWN) ||
                       (i > 1 && i < back.rank && back.dimensions[i] == DIMENSION_UNKNOWN);
        if (time == DIMENSION_UNKNOWN || is_open) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                               "\"%s\" needs inputs of which all dimensions but the batch are known",
                               layer->options.name);
        }
    }
    TRY(reshape(graph, call->input, flat.dimensions, (size_t)flat.rank, &inner.input, error));
    TRY(keras_call_here(graph, layer->children[0], &inner, nesting, &result, error));
    return reshape(graph, result.outputs[0], back.dimensions, (size_t)back.rank, ret_output, error);
}

static enum status merge(struct graph *graph, const char *mode, const struct output pair[2], struct output *ret_output,
                         struct error *error)
{
    if (strcmp(mode, "sum") == 0) {
        return graph_add_binary(graph, "Add", pair[0], pair[1], ret_output, error);
    }
    if (strcmp(mode, "mul") == 0) {
        return graph_add_binary(graph, "Mul", pair[0], pair[1], ret_output, error);
    }
    if (strcmp(mode, "ave") == 0) {
        struct output sum;
        TRY(graph_add_binary(graph, "Add", pair[0], pair[1], &sum, error));
        return graph_add_scaled(graph, sum, 0.5, ret_output, error);
    }
    struct output inputs[3] = {pair[0], pair[1]};
    TRY(graph_add_integer(graph, "concat/axis", -1, &inputs[2], error));
    return graph_add(graph, "ConcatV2", "concat", inputs, 3, ret_output, error);
}

/* Calls an inner layer in a name scope of its name. */
static enum status call_child(struct graph *graph, uint32_t child, const struct keras_call *call, int nesting,
                              struct keras_result *ret_result, struct error *error)
{
    const char *previous = NULL;
    TRY(graph_enter_name_scope(graph, keras_layer_name(graph, child), &previous, error));
    enum status status = keras_call_here(graph, child, call, nesting, ret_result, error);
    graph_leave_name_scope(graph, previous);
    return status;
}

static enum status call_bidirectional(struct graph *graph, const struct keras_layer *layer,
                                      const struct keras_call *call, int nesting, struct keras_result *ret_result,
                                      struct error *error)
{
    struct keras_result results[2];
    struct output pair[2];
    size_t half = call->initial_state_count / 2;
    const char *mode = layer->options.merge_mode == NULL ? "concat" : layer->options.merge_mode;
    bool is_split = strcmp(mode, "none") == 0;
    if (call->initial_state_count % 2 != 0) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "When passing `initial_state` to a Bidirectional RNN, the state should be a list containing "
                           "the states of the underlying RNNs. Found: %zu states",
                           call->initial_state_count);
    }
    for (size_t i = 0; i < 2; i++) {
        struct keras_call inner = *call;
        inner.initial_states = call->initial_states == NULL ? NULL : call->initial_states + i * half;
        inner.initial_state_count = half;
        TRY(call_child(graph, layer->children[i], &inner, nesting, &results[i], error));
        pair[i] = results[i].outputs[0];
    }
    if (keras_layer(graph, layer->children[0])->options.returns_sequences) {
        TRY(keras_reverse(graph, pair[1], 1, &pair[1], error));
    }
    *ret_result = (struct keras_result){.outputs = {pair[0], pair[1]}, .output_count = 2};
    if (!is_split) {
        TRY(merge(graph, mode, pair, &ret_result->outputs[0], error));
        ret_result->output_count = 1;
    }
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 1; k < results[i].output_count; k++) {
            CHECK(ret_result->output_count < KERAS_OUTPUTS_MAX);
            ret_result->outputs[ret_result->output_count++] = results[i].outputs[k];
        }
    }
    return STATUS_OK;
}

static enum status call_sequential(struct graph *graph, const struct keras_layer *layer, const struct keras_call *call,
                                   int nesting, struct output *ret_output, struct error *error)
{
    struct keras_call inner = {.input = call->input, .is_training = call->is_training};
    for (size_t i = 0; i < layer->child_count; i++) {
        struct keras_result result;
        TRY(call_child(graph, layer->children[i], &inner, nesting, &result, error));
        if (result.output_count != 1) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                               "All layers in a Sequential model should have a single output tensor. For multi-output "
                               "layers, use the functional API.");
        }
        inner.input = result.outputs[0];
    }
    *ret_output = inner.input;
    return STATUS_OK;
}

/* ---- calling ---- */

static enum status check_dtype(const struct keras_layer *layer, struct output x, struct error *error)
{
    bool is_plain = keras_is_recurrent(layer->options.kind) || layer->options.kind == KERAS_DENSE;
    if (is_plain && output_type(x)->dtype != keras_dtype(layer)) {
        char text[OUTPUT_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Tensor conversion requested dtype %s for Tensor with dtype %s: '%s'",
                           dtype_name(keras_dtype(layer)), dtype_name(output_type(x)->dtype), output_text(x, text));
    }
    return STATUS_OK;
}

static enum status call_plain(struct graph *graph, const struct keras_layer *layer, const struct keras_call *call,
                              int nesting, struct output *ret_output, struct error *error)
{
    switch (layer->options.kind) {
    case KERAS_SEQUENTIAL: return call_sequential(graph, layer, call, nesting, ret_output, error);
    case KERAS_EMBEDDING: return call_embedding(graph, layer, call->input, ret_output, error);
    case KERAS_DENSE: return call_dense(graph, layer, call->input, ret_output, error);
    case KERAS_TIME_DISTRIBUTED: return call_distributed(graph, layer, call, nesting, ret_output, error);
    case KERAS_DROPOUT: return call_dropout(graph, layer, call, ret_output, error);
    case KERAS_ACTIVATION: return keras_activate(graph, layer->options.activation, call->input, ret_output, error);
    case KERAS_FLATTEN:
    case KERAS_RESHAPE: return call_reshape(graph, layer, call->input, ret_output, error);
    case KERAS_LSTM:
    case KERAS_GRU:
    case KERAS_SIMPLE_RNN:
    case KERAS_BIDIRECTIONAL:
    case KERAS_KIND_COUNT: break;
    }
    CHECK(false);
    return STATUS_OK;
}

enum status keras_call_here(struct graph *graph, uint32_t layer, const struct keras_call *call, int nesting,
                            struct keras_result *ret_result, struct error *error)
{
    const struct shape *shape = &output_type(call->input)->shape;
    enum keras_kind kind = keras_layer_kind(graph, layer);
    CHECK(nesting < KERAS_NESTING_MAX);
    TRY(check_dtype(keras_layer(graph, layer), call->input, error));
    if (kind == KERAS_SEQUENTIAL && !keras_layer_is_built(graph, layer)) {
        struct keras_layer copy = *keras_layer(graph, layer); /* its layers are built as they are called */
        void *data = NULL;
        TRY(call_plain(graph, &copy, call, nesting + 1, &ret_result->outputs[0], error));
        ret_result->output_count = 1;
        TRY(graph_edit_object(graph, OBJECT_LAYER, layer, &data, error));
        ((struct keras_layer *)data)->is_built = true;
        return STATUS_OK;
    }
    TRY(keras_build_here(graph, layer, shape, nesting, error));
    const struct keras_layer *built = keras_layer(graph, layer);
    if (keras_is_recurrent(kind)) {
        return keras_call_recurrent(graph, built, call, ret_result, error);
    }
    if (kind == KERAS_BIDIRECTIONAL) {
        return call_bidirectional(graph, built, call, nesting + 1, ret_result, error);
    }
    if (call->initial_state_count > 0 || call->mask.node != NULL) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "\"%s\" takes no %s", built->options.name,
                           call->initial_state_count > 0 ? "initial_state" : "mask");
    }
    ret_result->output_count = 1;
    return call_plain(graph, built, call, nesting + 1, &ret_result->outputs[0], error);
}

enum status keras_call(struct graph *graph, uint32_t layer, const struct keras_call *call,
                       struct keras_result *ret_result, struct error *error)
{
    struct keras_result result = {.output_count = 0};
    TRY(call_child(graph, layer, call, 0, &result, error));
    *ret_result = result;
    return STATUS_OK;
}
