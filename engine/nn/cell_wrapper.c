/* Cells made of cells: stacks, dropout around a cell, residual connections. Thread: the building one.
 * Source: TensorFlow 1.15, rnn_cell_impl.py (MultiRNNCell, _RNNCellWrapperV1), rnn_cell_wrapper_impl.py. */
#include <math.h>

#include "engine/base/rng.h"
#include "engine/graph/function.h"
#include "engine/nn/cell_private.h"

/* ---- MultiRNNCell ---- */

static enum status call_child(struct graph *graph, const struct cell_options *options, size_t index, size_t first,
                              struct output *input, const struct output *states, struct output *ret_states,
                              struct error *error)
{
    char name[32];
    struct variable_scope_frame frame;
    struct output own[CELL_STATES_MAX];
    uint32_t child = options->children[index];
    snprintf(name, sizeof name, "cell_%zu", index);
    TRY(variable_scope_enter(graph, name, REUSE_INHERIT, &frame, error));
    enum status status = STATUS_OK;
    if (options->is_state_matrix) {
        status = cell_slice(graph, states[0], first, cell_state_size(graph, child, 0), &own[0], error);
    } else {
        memcpy(own, states + first, cell_state_count(graph, child) * sizeof *own);
    }
    if (status == STATUS_OK) {
        status = cell_call(graph, child, *input, own, NULL, input, ret_states, error);
    }
    variable_scope_leave(graph, &frame);
    return status;
}

static enum status call_children(struct graph *graph, uint32_t cell, struct output input, const struct output *states,
                                 struct output *ret_output, struct output *ret_states, struct error *error)
{
    const struct cell_options options = cell_at(graph, cell)->options;
    struct output after[CELL_STATES_MAX];
    size_t first = 0; /* state, or column of the one there is */
    for (size_t i = 0; i < options.child_count; i++) {
        TRY(call_child(graph, &options, i, first, &input, states, after + (options.is_state_matrix ? i : first),
                       error));
        first += options.is_state_matrix ? cell_state_size(graph, options.children[i], 0)
                                         : cell_state_count(graph, options.children[i]);
    }
    *ret_output = input;
    if (options.is_state_matrix) {
        return cell_concat(graph, after, options.child_count, &ret_states[0], error);
    }
    memcpy(ret_states, after, first * sizeof *after);
    return STATUS_OK;
}

/* The layer's own check of its input: it makes no variables, but wants rows and columns as its cells do. */
enum status cell_step_multi(struct graph *graph, uint32_t cell, struct output input, const struct output *states,
                            const struct variable_scope_options *scope, struct output *ret_output,
                            struct output *ret_states, struct error *error)
{
    struct cell_frame frame;
    TRY(cell_enter(graph, cell, scope, &frame, error));
    enum status status = call_children(graph, cell, input, states, ret_output, ret_states, error);
    cell_leave(graph, &frame);
    TRY(status);
    struct cell *edited = NULL;
    TRY(cell_edit(graph, cell, &edited, error));
    edited->is_built = true;
    return STATUS_OK;
}

/* ---- DropoutWrapper ---- */

/* One of the three probabilities of a DropoutWrapper. */
struct keep {
    const char *salt;     /* "input" */
    struct output tensor; /* .node NULL: a number, `value`, or nothing where that is 0 */
    double value;         /* NaN: not known while building */
    size_t noise;         /* place of its first noise, when variational */
};

static bool has_dropout(const struct keep *keep)
{
    return (keep->tensor.node != NULL || keep->value != 0) && !(keep->value >= 1);
}

/* A stream of its own for every mask: from the wrapper's seed, or from where it stands in the graph. */
static int64_t mask_seed(struct graph *graph, const struct cell_options *options, const struct keep *keep, size_t index)
{
    char key[GRAPH_NAME_BYTES_MAX + 96];
    if (options->seed != 0) {
        snprintf(key, sizeof key, "%lld%s_%zu", (long long)options->seed, keep->salt, index);
    } else {
        snprintf(key, sizeof key, "%s/%s_%zu/%zu", graph_name_scope(graph), keep->salt, index, graph_node_count(graph));
    }
    return (int64_t)(rng_key(key) >> 1);
}

/* The probability as a tensor of the dtype it is used with: a constant beside the node `name`, or what was given. */
static enum status get_keep(struct graph *graph, const struct keep *keep, const char *name, enum dtype dtype,
                            const char **ret_name, struct output *ret_keep, struct error *error)
{
    double room = 0;
    struct tensor number = {dtype, shape_scalar(), &room};
    *ret_name = name;
    *ret_keep = keep->tensor;
    if (!isnan(keep->value)) {
        tensor_set_number(&number, 0, keep->value);
        return cell_beside(graph, name, "keep_prob", &number, ret_name, ret_keep, error);
    }
    if (output_type(keep->tensor)->dtype == dtype) {
        return STATUS_OK;
    }
    struct attribute to = {.name = "DstT", .kind = ATTRIBUTE_DTYPE, .dtype = dtype};
    struct node_options add = {.inputs = &keep->tensor, .input_count = 1, .attributes = &to, .attribute_count = 1};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Cast", &add, &node, error));
    *ret_keep = (struct output){node, 0};
    return STATUS_OK;
}

static enum status add_mask(struct graph *graph, const struct cell_options *options, const struct keep *keep,
                            size_t index, struct output *value, struct error *error)
{
    struct attribute attributes[] = {
        {.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = mask_seed(graph, options, keep, index)},
        {.name = "one_mask", .kind = ATTRIBUTE_BOOLEAN, .boolean = options->has_one_mask}};
    struct output inputs[2] = {*value};
    struct node_options add = {.inputs = inputs, .input_count = 2, .attributes = attributes, .attribute_count = 2};
    TRY(get_keep(graph, keep, "dropout", output_type(*value)->dtype, &add.name, &inputs[1], error));
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Dropout", &add, &node, error));
    *value = (struct output){node, 0};
    return STATUS_OK;
}

/* The noise of a variational mask, [1, columns], drawn once a run: made outside any loop, at the first call. */
static enum status add_noise(struct graph *graph, uint32_t cell, const struct keep *keep, size_t index,
                             struct output value, struct output *ret_noise, struct error *error)
{
    const struct cell *data = cell_at(graph, cell);
    size_t place = keep->noise + index;
    *ret_noise = data->noise[place];
    if (ret_noise->node != NULL) {
        return STATUS_OK;
    }
    const struct output_type *type = output_type(value);
    int64_t columns = type->shape.rank == 2 ? type->shape.dimensions[1] : DIMENSION_UNKNOWN;
    if (columns == DIMENSION_UNKNOWN) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "variational_recurrent=True needs to know the columns of the %s", keep->salt);
    }
    const struct initializer uniform = {.kind = INITIALIZER_UNIFORM, .low = 0, .high = 1};
    struct shape shape = shape_matrix(1, columns);
    char key[GRAPH_NAME_BYTES_MAX + 32];
    snprintf(key, sizeof key, "%lld", (long long)mask_seed(graph, &data->options, keep, index));
    struct body_builder *body = graph_suspend_body(graph);
    enum status status = initializer_build(graph, &uniform, &shape, type->dtype, key, ret_noise, error);
    graph_resume_body(graph, body);
    struct cell *edited = NULL;
    TRY(status);
    TRY(cell_edit(graph, cell, &edited, error));
    edited->noise[place] = *ret_noise;
    return STATUS_OK;
}

/* value / keep · floor(keep + noise) */
static enum status add_variational_mask(struct graph *graph, uint32_t cell, const struct keep *keep, size_t index,
                                        struct output *value, struct error *error)
{
    struct output noise;
    struct output sum;
    struct output scaled;
    struct output probability;
    const char *name = NULL;
    TRY(add_noise(graph, cell, keep, index, *value, &noise, error));
    TRY(get_keep(graph, keep, "add", output_type(*value)->dtype, &name, &probability, error));
    TRY(cell_binary(graph, "Add", name, probability, noise, &sum, error));
    TRY(cell_unary(graph, "Floor", sum, &sum, error));
    TRY(cell_binary(graph, "RealDiv", "truediv", *value, probability, &scaled, error));
    return cell_binary(graph, "Mul", "mul", scaled, sum, value, error);
}

/* The probability as a tensor of the value's dtype, where it is a number. */
static enum status add_probability(struct graph *graph, struct output value, struct keep *keep, struct error *error)
{
    double storage = 0; /* room for a float or a double */
    struct tensor number = {output_type(value)->dtype, shape_scalar(), &storage};
    if (keep->tensor.node != NULL) {
        return STATUS_OK;
    }
    tensor_set_number(&number, 0, keep->value);
    return graph_add_constant(graph, "keep_prob", &number, &keep->tensor, error);
}

static enum status drop(struct graph *graph, uint32_t cell, const struct keep *given, size_t index,
                        struct output *value, struct error *error)
{
    const struct cell_options *options = &cell_at(graph, cell)->options;
    struct keep keep = *given;
    if (!has_dropout(&keep)) {
        return STATUS_OK;
    }
    if (!options->is_variational && keep.value <= 0) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "rate must be a scalar tensor or a float in the range [0, 1), got %g", 1 - keep.value);
    }
    TRY(add_probability(graph, *value, &keep, error));
    return options->is_variational ? add_variational_mask(graph, cell, &keep, index, value, error)
                                   : add_mask(graph, options, &keep, index, value, error);
}

/* Marks the states that are an LSTM's c, which state dropout spares. */
static void mark_spared(const struct graph *graph, uint32_t cell, bool *is_spared)
{
    const struct cell_options *options = &cell_at(graph, cell)->options;
    bool is_lstm = options->kind == CELL_BASIC_LSTM || options->kind == CELL_LSTM;
    if (is_lstm && !options->is_state_matrix) {
        is_spared[0] = true;
    } else if (options->kind != CELL_MULTI || !options->is_state_matrix) {
        for (size_t i = 0; i < options->child_count; i++) {
            mark_spared(graph, options->children[i], is_spared);
            is_spared += cell_state_count(graph, options->children[i]);
        }
    }
}

static struct keep keep_of(const struct cell_options *options, const char *salt)
{
    if (strcmp(salt, "input") == 0) {
        return (struct keep){salt, options->input_keep, options->input_keep_value, 0};
    }
    if (strcmp(salt, "output") == 0) {
        return (struct keep){salt, options->output_keep, options->output_keep_value, 1};
    }
    return (struct keep){salt, options->state_keep, options->state_keep_value, 2};
}

enum status cell_step_dropout(struct graph *graph, uint32_t cell, struct output input, const struct output *states,
                              const struct variable_scope_options *scope, struct output *ret_output,
                              struct output *ret_states, struct error *error)
{
    uint32_t child = cell_at(graph, cell)->options.children[0];
    struct keep input_keep = keep_of(&cell_at(graph, cell)->options, "input");
    struct keep state_keep = keep_of(&cell_at(graph, cell)->options, "state");
    struct keep output_keep = keep_of(&cell_at(graph, cell)->options, "output");
    bool is_spared[CELL_STATES_MAX] = {false};
    TRY(drop(graph, cell, &input_keep, 0, &input, error));
    TRY(cell_call(graph, child, input, states, scope, ret_output, ret_states, error));
    mark_spared(graph, child, is_spared);
    for (size_t i = 0; i < cell_state_count(graph, child); i++) {
        if (!is_spared[i]) {
            TRY(drop(graph, cell, &state_keep, i, &ret_states[i], error));
        }
    }
    return drop(graph, cell, &output_keep, 0, ret_output, error);
}

/* ---- ResidualWrapper ---- */

enum status cell_step_residual(struct graph *graph, uint32_t cell, struct output input, const struct output *states,
                               const struct variable_scope_options *scope, struct output *ret_output,
                               struct output *ret_states, struct error *error)
{
    uint32_t child = cell_at(graph, cell)->options.children[0];
    TRY(cell_call(graph, child, input, states, scope, ret_output, ret_states, error));
    const struct shape *from = &output_type(input)->shape;
    const struct shape *to = &output_type(*ret_output)->shape;
    if (!shape_is_compatible(from, to)) {
        char from_text[SHAPE_TEXT_BYTES_MAX];
        char to_text[SHAPE_TEXT_BYTES_MAX];
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "Dimensions %s and %s are not compatible",
                           shape_text(from, from_text), shape_text(to, to_text));
    }
    return cell_binary(graph, "Add", "add", input, *ret_output, ret_output, error);
}
