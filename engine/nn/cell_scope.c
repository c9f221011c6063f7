/* The scopes of cells and the variables they make there, once. Thread: the building one.
 * Source: TensorFlow 1.15, layers/base.py (Layer._set_scope, __call__, add_weight), rnn_cell_impl.py (build). */
#include "engine/nn/cell_private.h"

/* ---- scopes ---- */

/* Takes the cell's scope at its first call: opens it, remembers the object, leaves. */
static enum status take_scope(struct graph *graph, uint32_t cell, const struct variable_scope_options *scope,
                              struct error *error)
{
    const struct cell_options *options = &cell_at(graph, cell)->options;
    struct variable_scope_options open = {.default_name = options->name};
    if (scope != NULL) {
        open = *scope;
    } else if (options->reuse != REUSE_INHERIT) {
        open = (struct variable_scope_options){.name = options->name};
    }
    struct variable_scope_frame frame;
    struct cell *edited = NULL;
    TRY(variable_scope_open(graph, &open, &frame, error));
    variable_scope_leave(graph, &frame);
    TRY(cell_edit(graph, cell, &edited, error));
    edited->has_scope = true;
    edited->scope = frame.scope;
    return STATUS_OK;
}

/* What RNNCell.__call__ opens around cells that are no plain layers: the given scope, or the one that was current at
 * the first call. */
static enum status enter_enclosing(struct graph *graph, uint32_t cell, const struct variable_scope_options *scope,
                                   struct variable_scope_frame *ret_frame, struct error *error)
{
    if (scope != NULL) {
        return variable_scope_open(graph, scope, ret_frame, error);
    }
    if (!cell_at(graph, cell)->has_enclosing) {
        struct variable_scope_options open = {.is_scope = true, .scope = variable_scope_current(graph)};
        struct cell *edited = NULL;
        TRY(variable_scope_open(graph, &open, ret_frame, error));
        enum status status = cell_edit(graph, cell, &edited, error);
        if (status != STATUS_OK) {
            variable_scope_leave(graph, ret_frame);
            return status;
        }
        edited->has_enclosing = true;
        edited->enclosing = ret_frame->scope;
        return STATUS_OK;
    }
    struct variable_scope_options open = {.is_scope = true, .scope = cell_at(graph, cell)->enclosing};
    return variable_scope_open(graph, &open, ret_frame, error);
}

static enum status enter_own(struct graph *graph, uint32_t cell, const struct variable_scope_options *scope,
                             struct cell_frame *frame, struct error *error)
{
    if (!cell_at(graph, cell)->has_scope) {
        TRY(take_scope(graph, cell, scope, error));
    }
    const struct cell *data = cell_at(graph, cell);
    struct variable_scope_options open = {.is_scope = true,
                                          .scope = data->scope,
                                          .reuse = data->is_built ? REUSE_TRUE : data->options.reuse,
                                          .keeps_name_scope = true};
    const char *name_scope = variable_scope_at(graph, data->scope)->original_name_scope;
    TRY(variable_scope_open(graph, &open, &frame->scope, error));
    enum status status = graph_enter_name_scope(graph, name_scope, &frame->previous_name_scope, error);
    if (status != STATUS_OK) {
        variable_scope_leave(graph, &frame->scope);
    }
    return status;
}

enum status cell_enter(struct graph *graph, uint32_t cell, const struct variable_scope_options *scope,
                       struct cell_frame *ret_frame, struct error *error)
{
    enum cell_kind kind = cell_at(graph, cell)->options.kind;
    *ret_frame = (struct cell_frame){.has_enclosing = kind == CELL_MULTI || kind == CELL_PROGRAM};
    if (!ret_frame->has_enclosing) {
        return enter_own(graph, cell, scope, ret_frame, error);
    }
    TRY(enter_enclosing(graph, cell, scope, &ret_frame->enclosing, error));
    struct variable_scope_options opened = {.is_scope = true, .scope = ret_frame->enclosing.scope};
    enum status status = enter_own(graph, cell, scope == NULL ? NULL : &opened, ret_frame, error);
    if (status != STATUS_OK) {
        variable_scope_leave(graph, &ret_frame->enclosing);
    }
    return status;
}

void cell_leave(struct graph *graph, const struct cell_frame *frame)
{
    graph_leave_name_scope(graph, frame->previous_name_scope);
    variable_scope_leave(graph, &frame->scope);
    if (frame->has_enclosing) {
        variable_scope_leave(graph, &frame->enclosing);
    }
}

/* ---- variables ---- */

static enum status add_weight(struct graph *graph, uint32_t cell, int weight, const char *name, struct shape shape,
                              const struct initializer *initializer, struct error *error)
{
    struct variable_options options = {.name = name,
                                       .shape = shape,
                                       .has_shape = true,
                                       .has_dtype = true,
                                       .dtype = cell_at(graph, cell)->dtype,
                                       .initializer = *initializer};
    const struct variable *variable = NULL;
    struct cell *edited = NULL;
    TRY(get_variable(graph, &options, &variable, NULL, error));
    TRY(cell_edit(graph, cell, &edited, error));
    edited->weights[weight] = variable;
    return STATUS_OK;
}

static const struct initializer zeros = {.kind = INITIALIZER_ZEROS};

static enum status build_gru(struct graph *graph, uint32_t cell, const struct cell_options *options, int64_t depth,
                             struct error *error)
{
    const struct initializer ones = {.kind = INITIALIZER_CONSTANT, .low = 1};
    bool has_bias = options->bias_initializer.kind != INITIALIZER_DEFAULT;
    int64_t units = (int64_t)options->units;
    int64_t rows = depth + units;
    TRY(add_weight(graph, cell, CELL_KERNEL, "gates/kernel", shape_matrix(rows, 2 * units), &options->initializer,
                   error));
    TRY(add_weight(graph, cell, CELL_BIAS, "gates/bias", shape_vector(2 * units),
                   has_bias ? &options->bias_initializer : &ones, error));
    TRY(add_weight(graph, cell, CELL_CANDIDATE_KERNEL, "candidate/kernel", shape_matrix(rows, units),
                   &options->initializer, error));
    return add_weight(graph, cell, CELL_CANDIDATE_BIAS, "candidate/bias", shape_vector(units),
                      has_bias ? &options->bias_initializer : &zeros, error);
}

static enum status build_lstm(struct graph *graph, uint32_t cell, const struct cell_options *options, int64_t depth,
                              struct error *error)
{
    int64_t units = (int64_t)options->units;
    int64_t outputs = options->projection > 0 ? (int64_t)options->projection : units;
    TRY(add_weight(graph, cell, CELL_KERNEL, "kernel", shape_matrix(depth + outputs, 4 * units), &options->initializer,
                   error));
    TRY(add_weight(graph, cell, CELL_BIAS, "bias", shape_vector(4 * units), &zeros, error));
    const char *const peepholes[] = {"w_f_diag", "w_i_diag", "w_o_diag"};
    for (int i = 0; options->has_peepholes && i < 3; i++) {
        TRY(add_weight(graph, cell, CELL_PEEPHOLE_FORGET + i, peepholes[i], shape_vector(units), &options->initializer,
                       error));
    }
    if (options->projection > 0) {
        TRY(add_weight(graph, cell, CELL_PROJECTION, "projection/kernel", shape_matrix(units, outputs),
                       &options->initializer, error));
    }
    return STATUS_OK;
}

static enum status build_one_kernel(struct graph *graph, uint32_t cell, size_t columns, int64_t depth,
                                    struct error *error)
{
    const struct initializer unsaid = {.kind = INITIALIZER_DEFAULT};
    int64_t rows = depth + (int64_t)cell_at(graph, cell)->options.units;
    TRY(add_weight(graph, cell, CELL_KERNEL, "kernel", shape_matrix(rows, (int64_t)columns), &unsaid, error));
    return add_weight(graph, cell, CELL_BIAS, "bias", shape_vector((int64_t)columns), &zeros, error);
}

/* "[1, 2, 3]" or "(None, None)" */
static void print_shape(const struct shape *shape, const char *brackets, char text[SHAPE_TEXT_BYTES_MAX])
{
    size_t length = (size_t)snprintf(text, SHAPE_TEXT_BYTES_MAX, "%c", brackets[0]);
    for (int i = 0; i < shape->rank; i++) {
        const char *separator = i == 0 ? "" : ", ";
        const int64_t size = shape->dimensions[i];
        length += (size_t)(size == DIMENSION_UNKNOWN
                               ? snprintf(text + length, SHAPE_TEXT_BYTES_MAX - length, "%sNone", separator)
                               : snprintf(text + length, SHAPE_TEXT_BYTES_MAX - length, "%s%lld", separator,
                                          (long long)size));
    }
    snprintf(text + length, SHAPE_TEXT_BYTES_MAX - length, "%c", brackets[1]);
}

/* The input's columns. */
static enum status check_input(const struct cell *cell, struct output input, int64_t *ret_depth, struct error *error)
{
    const struct shape *shape = &output_type(input)->shape;
    char text[SHAPE_TEXT_BYTES_MAX];
    if (shape->rank == SHAPE_RANK_UNKNOWN) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "Input 0 of layer %s is incompatible with the layer: its rank is undefined, but the layer "
                           "requires a defined rank.",
                           cell->options.name);
    }
    if (shape->rank != 2) {
        print_shape(shape, "[]", text);
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "Input 0 of layer %s is incompatible with the layer: expected ndim=2, found ndim=%d. Full "
                           "shape received: %s",
                           cell->options.name, shape->rank, text);
    }
    if (!cell->is_built && shape->dimensions[1] == DIMENSION_UNKNOWN) {
        print_shape(shape, "()", text);
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "Expected inputs.shape[-1] to be known, saw shape: %s", text);
    }
    *ret_depth = shape->dimensions[1];
    return STATUS_OK;
}

enum status cell_build(struct graph *graph, uint32_t cell, struct output input, struct error *error)
{
    int64_t depth = 0;
    TRY(check_input(cell_at(graph, cell), input, &depth, error));
    if (cell_at(graph, cell)->is_built) {
        return cell_check_dtype(output_type(input)->dtype, error);
    }
    struct cell *edited = NULL;
    TRY(cell_edit(graph, cell, &edited, error));
    const struct cell_options options = edited->options;
    edited->dtype = options.has_dtype ? options.dtype : output_type(input)->dtype;
    TRY(cell_check_dtype(edited->dtype, error));
    TRY(cell_check_dtype(output_type(input)->dtype, error));
    if (depth > CELL_UNITS_MAX) {
        return error_set(error, STATUS_LIMIT, "a cell's input has %lld columns, more than %d", (long long)depth,
                         CELL_UNITS_MAX);
    }
    switch (options.kind) {
    case CELL_GRU: TRY(build_gru(graph, cell, &options, depth, error)); break;
    case CELL_LSTM: TRY(build_lstm(graph, cell, &options, depth, error)); break;
    case CELL_BASIC_LSTM: TRY(build_one_kernel(graph, cell, 4 * options.units, depth, error)); break;
    case CELL_BASIC_RNN: TRY(build_one_kernel(graph, cell, options.units, depth, error)); break;
    case CELL_MULTI:
    case CELL_DROPOUT_WRAPPER:
    case CELL_RESIDUAL_WRAPPER:
    case CELL_PROGRAM: break;
    }
    TRY(cell_edit(graph, cell, &edited, error));
    edited->is_built = true;
    return STATUS_OK;
}
