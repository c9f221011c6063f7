/* Cells over time. Thread: the building one. Source: TensorFlow 1.15, rnn.py.
 *
 * What TensorFlow names, and so does this: rnn/transpose, rnn/sequence_length,
 * rnn/BasicLSTMCellZeroState/zeros, rnn/while/… (the inside, which cannot be fetched), the final states
 * rnn/while/Exit_3 and on, rnn/TensorArrayStack/TensorArrayGatherV3 (time-major outputs) and rnn/transpose_1. */
#include "engine/nn/recurrence.h"

#include "engine/graph/function.h"
#include "engine/graph/recurrence_node.h"
#include "engine/nn/cell_private.h"

enum { EXIT_OF_FIRST_STATE = 3 }; /* before it: the loop's counter, the time, the outputs */

static enum status named_identity(struct graph *graph, const char *name, struct output input, struct output *ret_output,
                                  struct error *error)
{
    return graph_add(graph, "Identity", name, &input, 1, ret_output, error);
}

/* ---- what goes in ---- */

static enum status check_lengths(struct output lengths, bool says_shape, struct error *error)
{
    const struct output_type *type = output_type(lengths);
    char text[SHAPE_TEXT_BYTES_MAX];
    if (type->shape.rank != SHAPE_RANK_UNKNOWN && type->shape.rank != 1) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "sequence_length must be a vector of length batch_size%s%s",
                           says_shape ? ", but saw shape: " : "", says_shape ? shape_text(&type->shape, text) : "");
    }
    if (type->dtype != DTYPE_INT32 && type->dtype != DTYPE_INT64) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "sequence_length must be int32 or int64, not %s", dtype_name(type->dtype));
    }
    return STATUS_OK;
}

/* The given states, or zeros. */
static enum status get_states(struct graph *graph, uint32_t cell, const struct recurrence_options *options,
                              const struct cell_batch *batch, const char *without_dtype, struct output *ret_states,
                              struct error *error)
{
    if (options->initial_states != NULL) {
        memcpy(ret_states, options->initial_states, cell_state_count(graph, cell) * sizeof *ret_states);
        return STATUS_OK;
    }
    if (!options->has_dtype) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "%s", without_dtype);
    }
    return cell_zeros(graph, cell, batch, options->dtype, ret_states, error);
}

/* The batch of `inputs` as it is best known. */
static struct cell_batch batch_of(struct output inputs, int dimension)
{
    const struct shape *shape = &output_type(inputs)->shape;
    struct cell_batch batch = {.output = inputs, .dimension = dimension};
    if (shape->rank > dimension && shape->dimensions[dimension] != DIMENSION_UNKNOWN) {
        batch = (struct cell_batch){.size = shape->dimensions[dimension]};
    }
    return batch;
}

/* Swaps time and batch. */
static enum status transpose(struct graph *graph, struct output tensor, struct output *ret_output, struct error *error)
{
    int32_t order[SHAPE_RANK_MAX] = {1, 0, 2, 3, 4, 5, 6, 7};
    struct tensor perm = {DTYPE_INT32, shape_vector(output_type(tensor)->shape.rank), order};
    return cell_with_constant(graph, "Transpose", "transpose", tensor, "perm", &perm, ret_output, error);
}

static enum status check_time_major(struct output inputs, struct error *error)
{
    const struct shape *shape = &output_type(inputs)->shape;
    char text[SHAPE_TEXT_BYTES_MAX];
    if (shape->rank != SHAPE_RANK_UNKNOWN && shape->rank < 3) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "Shape %s must have rank at least 3",
                           shape_text(shape, text));
    }
    bool is_known = shape->rank != SHAPE_RANK_UNKNOWN;
    for (int i = 2; is_known && i < shape->rank; i++) {
        is_known = shape->dimensions[i] != DIMENSION_UNKNOWN;
    }
    return is_known ? STATUS_OK
                    : error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                                  "Input size (depth of inputs) must be accessible via shape inference, but saw "
                                  "value None.");
}

static enum status get_time_major(struct graph *graph, const struct recurrence_options *options,
                                  struct output *ret_inputs, struct error *error)
{
    const struct output_type *type = output_type(options->inputs);
    *ret_inputs = options->inputs;
    if (options->is_time_major) {
        return STATUS_OK;
    }
    if (type->shape.rank == SHAPE_RANK_UNKNOWN) {
        return check_time_major(options->inputs, error);
    }
    if (type->shape.rank < 2) {
        char name[OUTPUT_NAME_BYTES_MAX];
        char shape[SHAPE_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "Expected input tensor Tensor(\"%s\", shape=%s, dtype=%s) to have rank at least 2, but saw "
                           "shape: %s",
                           output_name(options->inputs, name), shape_text(&type->shape, shape), dtype_name(type->dtype),
                           shape);
    }
    return transpose(graph, options->inputs, ret_inputs, error);
}

/* ---- the loop ---- */

/* int32 [batch] → float32 [batch, depth] */
static enum status add_one_hot(struct graph *graph, struct output symbols, size_t depth, struct output *ret_output,
                               struct error *error)
{
    struct output inputs[] = {symbols, {NULL, 0}, {NULL, 0}, {NULL, 0}};
    TRY(graph_add_integer(graph, "depth", (int64_t)depth, &inputs[1], error));
    TRY(graph_add_scalar(graph, "on_value", 1, &inputs[2], error));
    TRY(graph_add_scalar(graph, "off_value", 0, &inputs[3], error));
    return graph_add(graph, "OneHot", "one_hot", inputs, 4, ret_output, error);
}

/* What one step does: a call of the cell. */
static enum status add_step(struct graph *graph, uint32_t cell, size_t symbol_count, struct output *arguments,
                            struct output *yields, struct error *error)
{
    if (symbol_count > 0) {
        TRY(add_one_hot(graph, arguments[0], symbol_count, &arguments[0], error));
    }
    return cell_call(graph, cell, arguments[0], arguments + 1, NULL, &yields[0], yields + 1, error);
}

/* The body: one step. */
static enum status make_body(struct graph *graph, uint32_t cell, size_t symbol_count, struct output inputs,
                             const struct output *states, const struct body **ret_body, struct error *error)
{
    size_t state_count = cell_state_count(graph, cell);
    struct output_type types[1 + CELL_STATES_MAX] = {*output_type(inputs)};
    struct output arguments[1 + CELL_STATES_MAX];
    struct output yields[1 + CELL_STATES_MAX];
    types[0].shape.rank--;
    memmove(types[0].shape.dimensions, types[0].shape.dimensions + 1,
            (size_t)types[0].shape.rank * sizeof *types[0].shape.dimensions);
    for (size_t k = 0; k < state_count; k++) {
        types[1 + k] = *output_type(states[k]);
    }
    TRY(graph_enter_body(graph, types, 1 + state_count, arguments, error));
    enum status status = add_step(graph, cell, symbol_count, arguments, yields, error);
    if (status != STATUS_OK) {
        graph_abandon_body(graph);
        return status;
    }
    return graph_leave_body(graph, yields, 1 + state_count, ret_body, error);
}

static enum status add_loop(struct graph *graph, uint32_t cell, size_t symbol_count,
                            struct recurrence_node_options *options, struct output *ret_outputs,
                            struct output *ret_states, struct error *error)
{
    TRY(make_body(graph, cell, symbol_count, options->x, options->states, &options->body, error));
    TRY(recurrence_node_add(graph, options, ret_outputs, ret_states, error));
    for (size_t k = 0; k < cell_state_count(graph, cell); k++) {
        char name[32];
        snprintf(name, sizeof name, "Exit_%zu", EXIT_OF_FIRST_STATE + k);
        TRY(named_identity(graph, name, ret_states[k], &ret_states[k], error));
    }
    return STATUS_OK;
}

/* Inside the RNN's variable scope. */
static enum status build_dynamic(struct graph *graph, uint32_t cell, const struct recurrence_options *options,
                                 struct output *ret_outputs, struct output *ret_states, struct error *error)
{
    struct output states[CELL_STATES_MAX];
    struct recurrence_node_options loop = {.states = states, .is_general = options->is_general};
    struct cell_batch batch = batch_of(options->inputs, options->is_time_major ? 1 : 0);
    TRY(get_time_major(graph, options, &loop.x, error));
    if (options->sequence_length.node != NULL) {
        TRY(check_lengths(options->sequence_length, true, error));
        TRY(named_identity(graph, "sequence_length", options->sequence_length, &loop.sequence_length, error));
    }
    TRY(get_states(graph, cell, options, &batch, "If there is no initial_state, you must give a dtype.", states,
                   error));
    if (options->symbol_count == 0) {
        TRY(check_time_major(loop.x, error));
    }
    const char *previous = NULL;
    TRY(graph_enter_name_scope(graph, "while", &previous, error));
    enum status status = add_loop(graph, cell, options->symbol_count, &loop, ret_outputs, ret_states, error);
    graph_leave_name_scope(graph, previous);
    TRY(status);
    TRY(named_identity(graph, "TensorArrayStack/TensorArrayGatherV3", *ret_outputs, ret_outputs, error));
    return options->is_time_major ? STATUS_OK : transpose(graph, *ret_outputs, ret_outputs, error);
}

enum status dynamic_rnn(struct graph *graph, uint32_t cell, const struct recurrence_options *options,
                        struct output *ret_outputs, struct output *ret_states, struct error *error)
{
    const struct variable_scope_options rnn = {.name = "rnn"};
    struct variable_scope_frame frame;
    TRY(variable_scope_open(graph, options->scope == NULL ? &rnn : options->scope, &frame, error));
    enum status status = build_dynamic(graph, cell, options, ret_outputs, ret_states, error);
    variable_scope_leave(graph, &frame);
    return status;
}

/* ---- static_rnn ---- */

static enum status check_static_input(struct output input, struct error *error)
{
    const struct shape *shape = &output_type(input)->shape;
    char text[SHAPE_TEXT_BYTES_MAX];
    if (shape->rank != SHAPE_RANK_UNKNOWN && shape->rank < 2) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "Shape %s must have rank at least 2",
                           shape_text(shape, text));
    }
    for (int i = 1; i < 2 || i < shape->rank; i++) {
        if (shape->rank == SHAPE_RANK_UNKNOWN || shape->dimensions[i] == DIMENSION_UNKNOWN) {
            return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                               "Input size (dimension %d of inputs) must be accessible via shape inference, but saw "
                               "value None.",
                               i - 1);
        }
    }
    return STATUS_OK;
}

/* Rows whose sequence is over yield `held` in place of `fresh`. */
static enum status hold(struct graph *graph, struct output is_over, struct output held, struct output *fresh,
                        struct error *error)
{
    struct output inputs[] = {is_over, held, *fresh};
    return graph_add(graph, "Select", "Select", inputs, 3, fresh, error);
}

static enum status static_step(struct graph *graph, uint32_t cell, struct output input, struct output lengths,
                               size_t time, struct output *ret_output, struct output *states, struct error *error)
{
    struct output after[CELL_STATES_MAX];
    size_t state_count = cell_state_count(graph, cell);
    TRY(cell_call(graph, cell, input, states, NULL, ret_output, after, error));
    if (lengths.node != NULL) {
        struct output is_over;
        struct output now;
        struct output zeros;
        TRY(cell_number(graph, "time", output_type(lengths)->dtype, (double)time, &now, error));
        TRY(cell_binary(graph, "GreaterEqual", NULL, now, lengths, &is_over, error));
        TRY(graph_add(graph, "ZerosLike", NULL, ret_output, 1, &zeros, error));
        TRY(hold(graph, is_over, zeros, ret_output, error));
        for (size_t k = 0; k < state_count; k++) {
            TRY(hold(graph, is_over, states[k], &after[k], error));
        }
    }
    memcpy(states, after, state_count * sizeof *states);
    return STATUS_OK;
}

static enum status build_static(struct graph *graph, uint32_t cell, const struct output *inputs, size_t input_count,
                                const struct recurrence_options *options, struct output *ret_outputs,
                                struct output *ret_states, struct error *error)
{
    for (size_t i = 0; i < input_count; i++) {
        TRY(check_static_input(inputs[i], error));
    }
    struct cell_batch batch = batch_of(inputs[0], 0);
    TRY(get_states(graph, cell, options, &batch, "If no initial_state is provided, dtype must be specified", ret_states,
                   error));
    if (options->sequence_length.node != NULL) {
        TRY(check_lengths(options->sequence_length, false, error));
    }
    for (size_t i = 0; i < input_count; i++) {
        if (i == 1) {
            TRY(variable_scope_reuse_variables(graph, variable_scope_current(graph), error));
        }
        TRY(static_step(graph, cell, inputs[i], options->sequence_length, i, &ret_outputs[i], ret_states, error));
    }
    return STATUS_OK;
}

enum status static_rnn(struct graph *graph, uint32_t cell, const struct output *inputs, size_t input_count,
                       const struct recurrence_options *options, struct output *ret_outputs, struct output *ret_states,
                       struct error *error)
{
    const struct variable_scope_options rnn = {.name = "rnn"};
    struct variable_scope_frame frame;
    if (input_count == 0) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "inputs must not be empty");
    }
    if (input_count > STATIC_RNN_STEPS_MAX) {
        return error_set(error, STATUS_LIMIT, "static_rnn of %zu steps, more than %d", input_count,
                         STATIC_RNN_STEPS_MAX);
    }
    TRY(variable_scope_open(graph, options->scope == NULL ? &rnn : options->scope, &frame, error));
    enum status status = build_static(graph, cell, inputs, input_count, options, ret_outputs, ret_states, error);
    variable_scope_leave(graph, &frame);
    return status;
}

/* ---- bidirectional_dynamic_rnn ---- */

/* Backwards in time: each row within its length, or all of it. */
static enum status reverse(struct graph *graph, struct output tensor, const struct recurrence_options *options,
                           struct output *ret_output, struct error *error)
{
    int32_t time = options->is_time_major ? 0 : 1;
    struct output inputs[] = {tensor, options->sequence_length};
    struct attribute attributes[] = {{.name = "seq_dim", .kind = ATTRIBUTE_INTEGER, .integer = time},
                                     {.name = "batch_dim", .kind = ATTRIBUTE_INTEGER, .integer = 1 - time}};
    struct node_options add = {.inputs = inputs, .input_count = 2};
    struct node *node = NULL;
    if (options->sequence_length.node != NULL) {
        add.attributes = attributes;
        add.attribute_count = 2;
        TRY(graph_add_node(graph, "ReverseSequence", &add, &node, error));
    } else {
        struct tensor axis = {DTYPE_INT32, shape_vector(1), &time};
        return cell_with_constant(graph, "ReverseV2", "ReverseV2", tensor, "axis", &axis, ret_output, error);
    }
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

/* One direction, in its scope, which the RNN is given as its own. */
static enum status build_direction(struct graph *graph, const char *name, uint32_t cell,
                                   const struct recurrence_options *options, bool is_backward,
                                   struct output *ret_outputs, struct output *ret_states, struct error *error)
{
    struct variable_scope_frame frame;
    TRY(variable_scope_enter(graph, name, REUSE_INHERIT, &frame, error));
    struct variable_scope_options scope = {.is_scope = true, .scope = frame.scope};
    struct recurrence_options own = *options;
    own.scope = &scope;
    enum status status = is_backward ? reverse(graph, options->inputs, options, &own.inputs, error) : STATUS_OK;
    if (status == STATUS_OK) {
        status = dynamic_rnn(graph, cell, &own, ret_outputs, ret_states, error);
    }
    variable_scope_leave(graph, &frame);
    return status;
}

static enum status build_both(struct graph *graph, uint32_t cell_forward, uint32_t cell_backward,
                              const struct recurrence_options *options, const struct output *backward_initial_states,
                              struct output ret_outputs[2], struct output *ret_forward_states,
                              struct output *ret_backward_states, struct error *error)
{
    struct recurrence_options backward = *options;
    backward.initial_states = backward_initial_states;
    TRY(build_direction(graph, "fw", cell_forward, options, false, &ret_outputs[0], ret_forward_states, error));
    return build_direction(graph, "bw", cell_backward, &backward, true, &ret_outputs[1], ret_backward_states, error);
}

enum status bidirectional_dynamic_rnn(struct graph *graph, uint32_t cell_forward, uint32_t cell_backward,
                                      const struct recurrence_options *options,
                                      const struct output *backward_initial_states, struct output ret_outputs[2],
                                      struct output *ret_forward_states, struct output *ret_backward_states,
                                      struct error *error)
{
    const struct variable_scope_options both = {.name = "bidirectional_rnn"};
    struct variable_scope_frame frame;
    TRY(variable_scope_open(graph, options->scope == NULL ? &both : options->scope, &frame, error));
    enum status status = build_both(graph, cell_forward, cell_backward, options, backward_initial_states, ret_outputs,
                                    ret_forward_states, ret_backward_states, error);
    variable_scope_leave(graph, &frame);
    TRY(status);
    return reverse(graph, ret_outputs[1], options, &ret_outputs[1], error);
}
