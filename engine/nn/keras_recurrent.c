/* Keras' recurrent layers: one step, and the loop as one Recurrence node. What the kernel and bias give for all steps
 * is computed before the loop in one product; the loop adds what the state gives. Thread: the building one. */
#include "engine/base/check.h"
#include "engine/graph/function.h"
#include "engine/graph/op_rules.h"
#include "engine/graph/recurrence_node.h"
#include "engine/nn/keras_private.h"

/* States are h and c; where steps may be masked, the last output is one more. */
enum { GATES_MAX = 4, STATES_MAX = 3 };

/* What the steps use besides their inputs. */
struct recurrent {
    const struct keras_options *options;
    struct output kernel;
    struct output recurrent_kernel;
    struct output input_bias;     /* .node NULL: none */
    struct output recurrent_bias; /* of a GRU with reset_after */
};

size_t keras_state_count(const struct graph *graph, uint32_t layer)
{
    enum keras_kind kind = keras_layer_kind(graph, layer);
    return kind == KERAS_LSTM ? 2 : keras_is_recurrent(kind) ? 1 : 0;
}

/* ---- one step ---- */

static enum status split(struct graph *graph, struct output x, size_t count, struct output *ret_parts,
                         struct error *error)
{
    struct output inputs[2] = {{NULL, 0}, x};
    struct attribute parts = {.name = "num_split", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)count};
    struct node_options options = {
        .name = "split", .inputs = inputs, .input_count = 2, .attributes = &parts, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_integer(graph, "split/split_dim", -1, &inputs[0], error));
    TRY(graph_add_node(graph, "Split", &options, &node, error));
    for (uint32_t i = 0; i < count; i++) {
        ret_parts[i] = (struct output){node, i};
    }
    return STATUS_OK;
}

static enum status add_gate(struct graph *graph, const struct recurrent *recurrent, struct output a, struct output b,
                            struct output *ret_gate, struct error *error)
{
    struct output sum;
    TRY(graph_add_binary(graph, "Add", a, b, &sum, error));
    return keras_activate(graph, recurrent->options->recurrent_activation, sum, ret_gate, error);
}

/* i|f|c|o */
static enum status step_lstm(struct graph *graph, const struct recurrent *recurrent, struct output x,
                             const struct output *states, struct output *ret_states, struct error *error)
{
    const char *activation = recurrent->options->activation;
    const char *gate = recurrent->options->recurrent_activation;
    struct output parts[GATES_MAX];
    struct output from_h;
    struct output z;
    struct output kept;
    struct output added;
    struct output c;
    struct output shown;
    TRY(graph_add_binary(graph, "MatMul", states[0], recurrent->recurrent_kernel, &from_h, error));
    TRY(graph_add_binary(graph, "Add", x, from_h, &z, error));
    TRY(split(graph, z, 4, parts, error));
    TRY(keras_activate(graph, gate, parts[0], &parts[0], error));
    TRY(keras_activate(graph, gate, parts[1], &parts[1], error));
    TRY(keras_activate(graph, activation, parts[2], &parts[2], error));
    TRY(keras_activate(graph, gate, parts[3], &parts[3], error));
    TRY(graph_add_binary(graph, "Mul", parts[1], states[1], &kept, error));
    TRY(graph_add_binary(graph, "Mul", parts[0], parts[2], &added, error));
    TRY(graph_add_binary(graph, "Add", kept, added, &c, error));
    TRY(keras_activate(graph, activation, c, &shown, error));
    TRY(graph_add_binary(graph, "Mul", parts[3], shown, &ret_states[0], error));
    ret_states[1] = c;
    return STATUS_OK;
}

/* h' = z∘h + (1 − z)∘k */
static enum status mix(struct graph *graph, struct output z, struct output h, struct output candidate,
                       struct output *ret_h, struct error *error)
{
    struct output one;
    struct output rest;
    struct output kept;
    struct output added;
    TRY(graph_add_number(graph, "sub/x", output_type(h)->dtype, 1, &one, error));
    TRY(graph_add_binary(graph, "Mul", z, h, &kept, error));
    TRY(graph_add_binary(graph, "Sub", one, z, &rest, error));
    TRY(graph_add_binary(graph, "Mul", rest, candidate, &added, error));
    return graph_add_binary(graph, "Add", kept, added, ret_h, error);
}

/* What the reset state gives for the candidate, when the reset comes before the product. */
static enum status project_reset(struct graph *graph, const struct recurrent *recurrent, struct output h,
                                 struct output gates_kernel, struct output own_kernel, const struct output *x,
                                 struct output *ret_z, struct output *ret_candidate, struct error *error)
{
    struct output from_h;
    struct output parts[2];
    struct output r;
    struct output reset;
    TRY(graph_add_binary(graph, "MatMul", h, gates_kernel, &from_h, error));
    TRY(split(graph, from_h, 2, parts, error));
    TRY(add_gate(graph, recurrent, x[0], parts[0], ret_z, error));
    TRY(add_gate(graph, recurrent, x[1], parts[1], &r, error));
    TRY(graph_add_binary(graph, "Mul", r, h, &reset, error));
    return graph_add_binary(graph, "MatMul", reset, own_kernel, ret_candidate, error);
}

/* Columns [first, first + count) of a matrix. */
static enum status take_columns(struct graph *graph, struct output x, size_t first, size_t count,
                                struct output *ret_columns, struct error *error)
{
    int64_t begin[] = {0, (int64_t)first};
    int64_t size[] = {-1, (int64_t)count};
    struct output inputs[3] = {x};
    TRY(graph_add_integers(graph, "Slice/begin", begin, 2, &inputs[1], error));
    TRY(graph_add_integers(graph, "Slice/size", size, 2, &inputs[2], error));
    return graph_add(graph, "Slice", NULL, inputs, 3, ret_columns, error);
}

/* z|r|h */
static enum status step_gru(struct graph *graph, const struct recurrent *recurrent, struct output x,
                            const struct output *states, struct output *ret_states, struct error *error)
{
    size_t units = recurrent->options->units;
    struct output h = states[0];
    struct output from_x[3];
    struct output z;
    struct output from_h;
    struct output sum;
    TRY(split(graph, x, 3, from_x, error));
    if (recurrent->options->resets_after) {
        struct output parts[3];
        struct output r;
        TRY(keras_project(graph, h, recurrent->recurrent_kernel, recurrent->recurrent_bias, &from_h, error));
        TRY(split(graph, from_h, 3, parts, error));
        TRY(add_gate(graph, recurrent, from_x[0], parts[0], &z, error));
        TRY(add_gate(graph, recurrent, from_x[1], parts[1], &r, error));
        TRY(graph_add_binary(graph, "Mul", r, parts[2], &from_h, error));
    } else {
        struct output gates;
        struct output own;
        TRY(take_columns(graph, recurrent->recurrent_kernel, 0, 2 * units, &gates, error));
        TRY(take_columns(graph, recurrent->recurrent_kernel, 2 * units, units, &own, error));
        TRY(project_reset(graph, recurrent, h, gates, own, from_x, &z, &from_h, error));
    }
    TRY(graph_add_binary(graph, "Add", from_x[2], from_h, &sum, error));
    TRY(keras_activate(graph, recurrent->options->activation, sum, &sum, error));
    return mix(graph, z, h, sum, &ret_states[0], error);
}

static enum status step_simple(struct graph *graph, const struct recurrent *recurrent, struct output x,
                               const struct output *states, struct output *ret_states, struct error *error)
{
    struct output from_h;
    struct output sum;
    TRY(graph_add_binary(graph, "MatMul", states[0], recurrent->recurrent_kernel, &from_h, error));
    TRY(graph_add_binary(graph, "Add", x, from_h, &sum, error));
    return keras_activate(graph, recurrent->options->activation, sum, &ret_states[0], error);
}

/* x: what kernel and bias give. */
static enum status step(struct graph *graph, const struct recurrent *recurrent, struct output x,
                        const struct output *states, struct output *ret_states, struct error *error)
{
    return recurrent->options->kind == KERAS_LSTM  ? step_lstm(graph, recurrent, x, states, ret_states, error)
           : recurrent->options->kind == KERAS_GRU ? step_gru(graph, recurrent, x, states, ret_states, error)
                                                   : step_simple(graph, recurrent, x, states, ret_states, error);
}

static enum status read_weights(struct graph *graph, const struct keras_layer *layer, struct recurrent *ret_recurrent,
                                struct error *error)
{
    struct recurrent recurrent = {
        .options = &layer->options, .kernel = layer->variables[0]->read, .recurrent_kernel = layer->variables[1]->read};
    if (layer->variable_count > 2) {
        recurrent.input_bias = layer->variables[2]->read;
    }
    if (layer->variable_count > 2 && layer->options.kind == KERAS_GRU && layer->options.resets_after) {
        struct attribute attributes[] = {{.name = "num", .kind = ATTRIBUTE_INTEGER, .integer = 2},
                                         {.name = "axis", .kind = ATTRIBUTE_INTEGER, .integer = 0}};
        struct node_options options = {.name = "unstack",
                                       .inputs = &recurrent.input_bias,
                                       .input_count = 1,
                                       .attributes = attributes,
                                       .attribute_count = 2};
        struct node *node = NULL;
        TRY(graph_add_node(graph, "Unpack", &options, &node, error));
        recurrent.input_bias = (struct output){node, 0};
        recurrent.recurrent_bias = (struct output){node, 1};
    }
    *ret_recurrent = recurrent;
    return STATUS_OK;
}

enum status keras_step(struct graph *graph, uint32_t layer, struct output x, const struct output *states,
                       struct output *ret_states, struct error *error)
{
    const struct keras_layer *at = keras_layer(graph, layer);
    struct recurrent recurrent;
    struct output projected;
    if (!keras_is_recurrent(at->options.kind) || !at->is_built) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "\"%s\" is no recurrent layer that is built",
                           at->options.name);
    }
    TRY(read_weights(graph, at, &recurrent, error));
    TRY(keras_project(graph, x, recurrent.kernel, recurrent.input_bias, &projected, error));
    return step(graph, &recurrent, projected, states, ret_states, error);
}

/* ---- masks ---- */

/* x [time, batch, columns] with one more column: 1, or 0 where the step is masked. */
static enum status join_mask(struct graph *graph, const struct keras_layer *layer, struct output mask, struct output x,
                             struct output *ret_x, struct error *error)
{
    static const int64_t time_first[] = {1, 0};
    const struct output_type *type = output_type(mask);
    struct attribute to = {.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = keras_dtype(layer)};
    struct node_options options = {.inputs = &mask, .input_count = 1, .attributes = &to, .attribute_count = 1};
    struct node *node = NULL;
    struct output column[2];
    struct output parts[3] = {x};
    if (type->dtype != DTYPE_BOOL || type->shape.rank != 2) {
        char text[SHAPE_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "The mask of layer %s must be bool of shape (batch, time), but it is %s %s",
                           layer->options.name, dtype_name(type->dtype), shape_text(&type->shape, text));
    }
    TRY(graph_add_node(graph, "Cast", &options, &node, error));
    TRY(keras_transpose(graph, (struct output){node, 0}, time_first, 2, &column[0], error));
    if (layer->options.goes_backwards) {
        TRY(keras_reverse(graph, column[0], 0, &column[0], error));
    }
    TRY(graph_add_integer(graph, "ExpandDims/dim", 2, &column[1], error));
    TRY(graph_add(graph, "ExpandDims", NULL, column, 2, &parts[1], error));
    TRY(graph_add_integer(graph, "concat/axis", 2, &parts[2], error));
    return graph_add(graph, "ConcatV2", "concat", parts, 3, ret_x, error);
}

/* A step of x with its column of the mask. `states` and `ret_states`: the cell's, and the last output. */
static enum status step_masked(struct graph *graph, const struct recurrent *recurrent, struct output x,
                               const struct output *states, size_t state_count, struct output *ret_states,
                               struct error *error)
{
    size_t columns = (size_t)output_type(x)->shape.dimensions[1] - 1;
    int64_t vector = -1;
    struct output inputs[2];
    struct output sides[2];
    struct output is_kept;
    TRY(take_columns(graph, x, columns, 1, &inputs[0], error));
    TRY(graph_add_integers(graph, "Reshape/shape", &vector, 1, &inputs[1], error));
    TRY(graph_add(graph, "Reshape", NULL, inputs, 2, &sides[0], error));
    TRY(graph_add_number(graph, "Greater/y", output_type(x)->dtype, 0.5, &sides[1], error));
    TRY(graph_add_binary(graph, "Greater", sides[0], sides[1], &is_kept, error));
    TRY(take_columns(graph, x, 0, columns, &x, error));
    TRY(step(graph, recurrent, x, states, ret_states, error));
    ret_states[state_count - 1] = ret_states[0];
    for (size_t k = 0; k < state_count; k++) {
        struct output choice[] = {is_kept, ret_states[k], states[k]};
        TRY(graph_add(graph, "Select", NULL, choice, 3, &ret_states[k], error));
    }
    return STATUS_OK;
}

/* ---- the loop ---- */

static enum status make_body(struct graph *graph, const struct recurrent *recurrent, struct output x,
                             const struct output *states, size_t state_count, bool is_masked,
                             const struct body **ret_body, struct error *error)
{
    struct output_type types[1 + STATES_MAX] = {*output_type(x)};
    struct output arguments[1 + STATES_MAX];
    struct output yields[1 + STATES_MAX];
    types[0].shape = shape_matrix(types[0].shape.dimensions[1], types[0].shape.dimensions[2]);
    for (size_t k = 0; k < state_count; k++) {
        types[1 + k] = *output_type(states[k]);
    }
    TRY(graph_enter_body(graph, types, 1 + state_count, arguments, error));
    enum status status =
        is_masked ? step_masked(graph, recurrent, arguments[0], arguments + 1, state_count, yields + 1, error)
                  : step(graph, recurrent, arguments[0], arguments + 1, yields + 1, error);
    if (status != STATUS_OK) {
        graph_abandon_body(graph);
        return status;
    }
    yields[0] = yields[is_masked ? state_count : 1]; /* the output is h */
    return graph_leave_body(graph, yields, 1 + state_count, ret_body, error);
}

static enum status add_zero_state(struct graph *graph, const struct keras_layer *layer, const struct keras_call *call,
                                  struct output *ret_state, struct error *error)
{
    struct attribute attributes[] = {
        {.name = "units", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)layer->options.units},
        {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = keras_dtype(layer)}};
    struct node_options options = {
        .name = "zeros", .inputs = &call->input, .input_count = 1, .attributes = attributes, .attribute_count = 2};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "ZeroState", &options, &node, error));
    *ret_state = (struct output){node, 0};
    return STATUS_OK;
}

static enum status get_states(struct graph *graph, const struct keras_layer *layer, const struct keras_call *call,
                              size_t state_count, struct output *ret_states, struct error *error)
{
    if (call->initial_state_count != 0 && call->initial_state_count != state_count) {
        return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                           "Layer %s expects %zu states, but it received %zu state values. Input received: "
                           "initial_state",
                           layer->options.name, state_count, call->initial_state_count);
    }
    struct shape wanted = shape_matrix(DIMENSION_UNKNOWN, (int64_t)layer->options.units);
    for (size_t k = 0; k < call->initial_state_count; k++) {
        const struct output_type *type = output_type(call->initial_states[k]);
        char text[SHAPE_TEXT_BYTES_MAX];
        if (type->dtype != keras_dtype(layer) || !shape_is_compatible(&type->shape, &wanted)) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE,
                               "An `initial_state` was passed that is not compatible with `cell.state_size`. Received "
                               "`state_spec`=%s %s; however `cell.state_size` is %zu",
                               dtype_name(type->dtype), shape_text(&type->shape, text), layer->options.units);
        }
        ret_states[k] = call->initial_states[k];
    }
    for (size_t k = call->initial_state_count; k < state_count; k++) {
        TRY(add_zero_state(graph, layer, call, &ret_states[k], error));
    }
    return STATUS_OK;
}

enum status keras_call_recurrent(struct graph *graph, const struct keras_layer *layer, const struct keras_call *call,
                                 struct keras_result *ret_result, struct error *error)
{
    static const int64_t time_first[] = {1, 0, 2};
    size_t state_count = layer->options.kind == KERAS_LSTM ? 2 : 1;
    bool is_masked = call->mask.node != NULL;
    struct recurrent recurrent;
    struct output states[STATES_MAX] = {{NULL, 0}};
    struct output finals[STATES_MAX] = {{NULL, 0}};
    struct output x;
    struct output sequence;
    const struct body *body = NULL;
    TRY(get_states(graph, layer, call, state_count, states, error));
    TRY(read_weights(graph, layer, &recurrent, error));
    TRY(keras_transpose(graph, call->input, time_first, 3, &x, error));
    if (layer->options.goes_backwards) {
        TRY(keras_reverse(graph, x, 0, &x, error));
    }
    TRY(keras_project(graph, x, recurrent.kernel, recurrent.input_bias, &x, error));
    if (is_masked) {
        TRY(join_mask(graph, layer, call->mask, x, &x, error));
        TRY(add_zero_state(graph, layer, call, &states[state_count], error));
    }
    TRY(make_body(graph, &recurrent, x, states, state_count + (is_masked ? 1 : 0), is_masked, &body, error));
    struct recurrence_node_options options = {.name = "while", .body = body, .x = x, .states = states};
    TRY(recurrence_node_add(graph, &options, &sequence, finals, error));
    ret_result->outputs[0] = finals[is_masked ? state_count : 0];
    ret_result->output_count = 1;
    if (layer->options.returns_sequences) {
        TRY(keras_transpose(graph, sequence, time_first, 3, &ret_result->outputs[0], error));
    }
    for (size_t k = 0; k < state_count && layer->options.returns_state; k++) {
        ret_result->outputs[ret_result->output_count++] = finals[k];
    }
    return STATUS_OK;
}
