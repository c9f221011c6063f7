/* States of cells: how they nest, and zero states. Thread: the building one. Made in the graph's arena.
 * Source: TensorFlow 1.15, rnn_cell_impl.py (zero_state, _zero_state_tensors, LSTMStateTuple). */
#include "engine/base/check.h"
#include "engine/nn/cell_private.h"

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a cell's state");
}

/* What a state is made of. */
enum structure { STRUCTURE_TENSOR, STRUCTURE_CH, STRUCTURE_CELLS, STRUCTURE_LIST };

static enum structure structure_of(const struct cell_options *options)
{
    switch (options->kind) {
    case CELL_BASIC_LSTM:
    case CELL_LSTM: return options->is_state_matrix ? STRUCTURE_TENSOR : STRUCTURE_CH;
    case CELL_MULTI: return options->is_state_matrix ? STRUCTURE_TENSOR : STRUCTURE_CELLS;
    case CELL_PROGRAM: return options->state_count == 1 ? STRUCTURE_TENSOR : STRUCTURE_LIST;
    case CELL_BASIC_RNN:
    case CELL_GRU:
    case CELL_DROPOUT_WRAPPER:
    case CELL_RESIDUAL_WRAPPER: return STRUCTURE_TENSOR;
    }
    CHECK(false);
}

/* The cell below all wrappers: its state is theirs. */
static uint32_t unwrapped(const struct graph *graph, uint32_t cell)
{
    const struct cell_options *options = &cell_at(graph, cell)->options;
    bool is_wrapper = options->kind == CELL_DROPOUT_WRAPPER || options->kind == CELL_RESIDUAL_WRAPPER;
    return is_wrapper ? unwrapped(graph, options->children[0]) : cell;
}

const uint32_t *cell_parts(const struct graph *graph, uint32_t cell, size_t *ret_count)
{
    const struct cell_options *options = &cell_at(graph, unwrapped(graph, cell))->options;
    bool is_cells = structure_of(options) == STRUCTURE_CELLS;
    *ret_count = is_cells ? options->child_count : 0;
    return is_cells ? options->children : NULL;
}

bool cell_has_pair(const struct graph *graph, uint32_t cell)
{
    return structure_of(&cell_at(graph, unwrapped(graph, cell))->options) == STRUCTURE_CH;
}

/* ---- packing ---- */

static enum status pack_list(struct graph *graph, uint32_t cell, const struct output *states, struct handle *ret_handle,
                             struct error *error)
{
    const struct cell_options *options = &cell_at(graph, cell)->options;
    bool is_cells = structure_of(options) == STRUCTURE_CELLS;
    size_t count = is_cells ? options->child_count : cell_state_count(graph, cell);
    struct handle *items = arena_allocate(graph_arena(graph), count, sizeof *items);
    if (items == NULL) {
        return no_memory(error);
    }
    for (size_t i = 0; i < count; i++) {
        if (is_cells) {
            TRY(cell_pack_state(graph, options->children[i], states, &items[i], error));
            states += cell_state_count(graph, options->children[i]);
        } else {
            items[i] = handle_tensor(states[i]);
        }
    }
    *ret_handle = (struct handle){.kind = HANDLE_LIST, .count = count, .items = items};
    return STATUS_OK;
}

enum status cell_pack_state(struct graph *graph, uint32_t cell, const struct output *states, struct handle *ret_handle,
                            struct error *error)
{
    static const char *const names[] = {"c", "h"};
    cell = unwrapped(graph, cell);
    enum structure structure = structure_of(&cell_at(graph, cell)->options);
    if (structure == STRUCTURE_TENSOR) {
        *ret_handle = handle_tensor(states[0]);
        return STATUS_OK;
    }
    TRY(pack_list(graph, cell, states, ret_handle, error));
    if (structure == STRUCTURE_CH) {
        ret_handle->names = names;
    }
    return STATUS_OK;
}

/* ---- unpacking ---- */

/* How Python prints a tensor: 'Tensor("zeros:0", shape=(1, 4), dtype=float32)'. */
static void print_handle(const struct handle *handle, char *text, size_t room)
{
    char name[OUTPUT_NAME_BYTES_MAX];
    char shape[SHAPE_TEXT_BYTES_MAX];
    if (handle->kind == HANDLE_LIST) {
        snprintf(text, room, "a tuple of %zu", handle->count);
        return;
    }
    struct output output = handle->kind == HANDLE_VARIABLE ? handle->variable->read : handle->output;
    if (output.node == NULL) {
        snprintf(text, room, "None");
        return;
    }
    const struct output_type *type = output_type(output);
    bool has_shape = type->shape.rank != SHAPE_RANK_UNKNOWN;
    snprintf(text, room, "Tensor(\"%s\"%s%s, dtype=%s)", output_name(output, name), has_shape ? ", shape=" : "",
             has_shape ? shape_text(&type->shape, shape) : "", dtype_name(type->dtype));
}

static enum status refuse_structure(const struct handle *handle, size_t count, struct error *error)
{
    char text[OUTPUT_NAME_BYTES_MAX + SHAPE_TEXT_BYTES_MAX + 64];
    print_handle(handle, text, sizeof text);
    return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                       "Expected state to be a tuple of length %zu, but received: %s", count, text);
}

static enum status unpack_tensor(const struct handle *handle, struct output *ret_state, struct error *error)
{
    if (handle->kind != HANDLE_TENSOR && handle->kind != HANDLE_VARIABLE) {
        char text[OUTPUT_NAME_BYTES_MAX + SHAPE_TEXT_BYTES_MAX + 64];
        print_handle(handle, text, sizeof text);
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
                           "Expected state to be a tensor, but received: %s", text);
    }
    *ret_state = handle->kind == HANDLE_VARIABLE ? handle->variable->read : handle->output;
    return STATUS_OK;
}

/* The item called `name`, or the one at `index` of those without names. */
static const struct handle *item_of(const struct handle *list, size_t index, const char *name)
{
    for (size_t i = 0; list->names != NULL && i < list->count; i++) {
        if (list->names[i] != NULL && strcmp(list->names[i], name) == 0) {
            return &list->items[i];
        }
    }
    return &list->items[index];
}

enum status cell_unpack_state(const struct graph *graph, uint32_t cell, const struct handle *handle,
                              struct output *ret_states, struct error *error)
{
    cell = unwrapped(graph, cell);
    const struct cell_options *options = &cell_at(graph, cell)->options;
    enum structure structure = structure_of(options);
    if (structure == STRUCTURE_TENSOR) {
        return unpack_tensor(handle, &ret_states[0], error);
    }
    size_t count = structure == STRUCTURE_CELLS ? options->child_count : cell_state_count(graph, cell);
    if (handle->kind != HANDLE_LIST || handle->count != count) {
        return refuse_structure(handle, count, error);
    }
    for (size_t i = 0; i < count; i++) {
        if (structure == STRUCTURE_CELLS) {
            TRY(cell_unpack_state(graph, options->children[i], &handle->items[i], ret_states, error));
            ret_states += cell_state_count(graph, options->children[i]);
        } else {
            const struct handle *item =
                structure == STRUCTURE_CH ? item_of(handle, i, i == 0 ? "c" : "h") : &handle->items[i];
            TRY(unpack_tensor(item, &ret_states[i], error));
        }
    }
    return STATUS_OK;
}

/* ---- zero states ---- */

static const char *class_name(enum cell_kind kind)
{
    switch (kind) {
    case CELL_BASIC_RNN: return "BasicRNNCell";
    case CELL_BASIC_LSTM: return "BasicLSTMCell";
    case CELL_LSTM: return "LSTMCell";
    case CELL_GRU: return "GRUCell";
    case CELL_MULTI: return "MultiRNNCell";
    case CELL_DROPOUT_WRAPPER: return "DropoutWrapper";
    case CELL_RESIDUAL_WRAPPER: return "ResidualWrapper";
    case CELL_PROGRAM: return "RNNCell";
    }
    CHECK(false);
}

static enum status add_zeros(struct graph *graph, const struct cell_batch *batch, size_t columns, enum dtype dtype,
                             struct output *ret_output, struct error *error)
{
    struct attribute attributes[] = {
        {.name = "units", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)columns},
        {.name = "batch_dimension", .kind = ATTRIBUTE_INTEGER, .integer = batch->dimension},
        {.name = "dtype", .kind = ATTRIBUTE_DTYPE, .dtype = dtype}};
    struct node_options options = {
        .name = "zeros", .inputs = &batch->output, .input_count = 1, .attributes = attributes, .attribute_count = 3};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "ZeroState", &options, &node, error));
    *ret_output = (struct output){node, 0};
    return STATUS_OK;
}

static enum status add_all_zeros(struct graph *graph, uint32_t cell, const struct cell_batch *batch, enum dtype dtype,
                                 struct output *ret_states, struct error *error)
{
    const struct cell_options options = cell_at(graph, cell)->options;
    bool is_of_cells = options.kind == CELL_DROPOUT_WRAPPER || options.kind == CELL_RESIDUAL_WRAPPER ||
                       structure_of(&options) == STRUCTURE_CELLS;
    for (size_t i = 0; is_of_cells && i < options.child_count; i++) {
        TRY(cell_zeros(graph, options.children[i], batch, dtype, ret_states, error));
        ret_states += cell_state_count(graph, options.children[i]);
    }
    for (size_t i = 0; !is_of_cells && i < cell_state_count(graph, cell); i++) {
        TRY(add_zeros(graph, batch, cell_state_size(graph, cell, i), dtype, &ret_states[i], error));
    }
    return STATUS_OK;
}

enum status cell_zeros(struct graph *graph, uint32_t cell, const struct cell_batch *batch, enum dtype dtype,
                       struct output *ret_states, struct error *error)
{
    char name[64];
    const char *previous = NULL;
    struct cell_batch known = *batch;
    snprintf(name, sizeof name, "%sZeroState", class_name(cell_at(graph, cell)->options.kind));
    if (batch->output.node == NULL && (batch->size < 0 || batch->size > INT32_MAX)) {
        return error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "batch_size must be between 0 and %d: %lld",
                           INT32_MAX, (long long)batch->size);
    }
    TRY(graph_enter_name_scope(graph, name, &previous, error));
    enum status status = STATUS_OK;
    if (known.output.node == NULL) {
        status = cell_number(graph, "Const", DTYPE_INT32, (double)batch->size, &known.output, error);
    }
    if (status == STATUS_OK) {
        status = add_all_zeros(graph, cell, &known, dtype, ret_states, error);
    }
    graph_leave_name_scope(graph, previous);
    return status;
}

enum status cell_zero_state(struct graph *graph, uint32_t cell, struct output batch, int64_t batch_size,
                            enum dtype dtype, struct output *ret_states, struct error *error)
{
    struct cell_batch given = {.output = batch, .size = batch_size};
    return cell_zeros(graph, cell, &given, dtype, ret_states, error);
}
