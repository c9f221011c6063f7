/* Steps that make and call recurrent cells. Thread: the building one. Owns nothing; what a program cell's step is made
 * of lives in the graph's arena. */
#include <math.h>

#include "engine/base/mem.h"
#include "engine/graph/function.h"
#include "engine/nn/cell.h"
#include "engine/store/program_private.h"

/* ---- cells of TensorFlow ---- */

static enum status make_cell(struct builder *builder, const struct cell_options *options)
{
    uint32_t cell = 0;
    TRY(cell_create(builder->graph, options, &cell, builder->error));
    struct handle handle = handle_object(OBJECT_CELL, cell);
    builder_give(builder, &handle);
    return STATUS_OK;
}

/* What layers and the cells with units have in common. */
static enum status read_common(struct builder *builder, const struct step *step, struct cell_options *options)
{
    int64_t units = 0;
    bool is_tuple = true;
    if (json_object_get(step->json, "num_units") == NULL) {
        return refuse_field(builder, step, "num_units", "must be given: a whole number");
    }
    TRY(read_whole(builder, step, "num_units", 1, CELL_UNITS_MAX, &units));
    options->units = (size_t)units;
    TRY(read_text(builder, step, "name", &options->name));
    TRY(read_text(builder, step, "activation", &options->activation));
    TRY(read_reuse(builder, step, &options->reuse));
    TRY(read_dtype(builder, step, "dtype", &options->has_dtype, &options->dtype));
    TRY(read_flag(builder, step, "state_is_tuple", &is_tuple));
    options->is_state_matrix = !is_tuple;
    return STATUS_OK;
}

static enum status read_forget_bias(struct builder *builder, const struct step *step, struct cell_options *options)
{
    const json_t *bias = json_object_get(step->json, "forget_bias");
    options->has_forget_bias = bias != NULL && !json_is_null(bias);
    return read_number(builder, step, "forget_bias", &options->forget_bias);
}

static enum status apply_basic_rnn_cell(struct builder *builder, const struct step *step)
{
    struct cell_options options = {.kind = CELL_BASIC_RNN};
    TRY(read_common(builder, step, &options));
    return make_cell(builder, &options);
}

static enum status apply_basic_lstm_cell(struct builder *builder, const struct step *step)
{
    struct cell_options options = {.kind = CELL_BASIC_LSTM};
    TRY(read_common(builder, step, &options));
    TRY(read_forget_bias(builder, step, &options));
    return make_cell(builder, &options);
}

static enum status apply_lstm_cell(struct builder *builder, const struct step *step)
{
    struct cell_options options = {.kind = CELL_LSTM};
    int64_t projection = 0;
    TRY(read_common(builder, step, &options));
    TRY(read_forget_bias(builder, step, &options));
    TRY(read_flag(builder, step, "use_peepholes", &options.has_peepholes));
    TRY(read_whole(builder, step, "num_proj", 1, CELL_UNITS_MAX, &projection));
    TRY(read_number(builder, step, "cell_clip", &options.cell_clip));
    TRY(read_number(builder, step, "proj_clip", &options.projection_clip));
    TRY(read_initializer(builder, step, "initializer", &options.initializer));
    options.projection = (size_t)projection;
    return make_cell(builder, &options);
}

static enum status apply_gru_cell(struct builder *builder, const struct step *step)
{
    struct cell_options options = {.kind = CELL_GRU};
    TRY(read_common(builder, step, &options));
    TRY(read_initializer(builder, step, "kernel_initializer", &options.initializer));
    TRY(read_initializer(builder, step, "bias_initializer", &options.bias_initializer));
    return make_cell(builder, &options);
}

/* ---- cells of cells ---- */

/* `argument` is what TensorFlow calls the cell among those it takes. */
static enum status handle_as_cell(struct builder *builder, const struct handle *handle, const struct place *place,
                                  const char *argument, uint32_t *ret_cell)
{
    char text[OUTPUT_TEXT_BYTES_MAX];
    if (handle->kind != HANDLE_OBJECT || handle->object_kind != OBJECT_CELL) {
        return raise_place(builder, place, EXCEPTION_TYPE,
                           "The argument '%s' (%s) is not an RNNCell: 'output_size' property is missing, "
                           "'state_size' property is missing, either 'zero_state' or 'get_initial_state' method is "
                           "required, is not callable.",
                           argument,
                           handle->kind == HANDLE_TENSOR ? output_text(handle->output, text)
                                                         : handle_kind_words[handle->kind]);
    }
    *ret_cell = handle->object_id;
    return STATUS_OK;
}

enum status need_cell(struct builder *builder, const struct step *step, const char *field, uint32_t *ret_cell)
{
    const struct handle *handle = NULL;
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    TRY(read_handle_field(builder, step, field, &handle));
    if (handle == NULL) {
        return refuse_place(builder, &place, "must be given: a cell's name");
    }
    return handle_as_cell(builder, handle, &place, field, ret_cell);
}

static enum status apply_multi_rnn_cell(struct builder *builder, const struct step *step)
{
    struct cell_options options = {.kind = CELL_MULTI};
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "cells"};
    const json_t *cells = json_object_get(step->json, "cells");
    const struct handle *handles = NULL;
    bool is_tuple = true;
    bool has_twins = false;
    if (!json_is_array(cells)) {
        char *text = json_dumps(cells, JSON_ENCODE_ANY | JSON_COMPACT);
        enum status status =
            raise_place(builder, &place, EXCEPTION_TYPE, "cells must be a list or tuple, but saw: %.100s.",
                        text == NULL ? "None" : text);
        free(text);
        return status;
    }
    TRY(read_handles(builder, cells, &place, &handles, &options.child_count));
    if (options.child_count > CELL_CHILDREN_MAX) {
        return refuse_place(builder, &place, "has %zu cells, at most %d", options.child_count, CELL_CHILDREN_MAX);
    }
    for (size_t i = 0; i < options.child_count; i++) {
        struct place item = {.above = &place, .index = i};
        TRY(handle_as_cell(builder, &handles[i], &item, "cell", &options.children[i]));
        for (size_t before = 0; before < i; before++) {
            has_twins = has_twins || options.children[before] == options.children[i];
        }
    }
    if (has_twins) {
        TRY(builder_warn(builder, step,
                         "At least two cells provided to MultiRNNCell are the same object and will share weights."));
    }
    TRY(read_flag(builder, step, "state_is_tuple", &is_tuple));
    TRY(read_text(builder, step, "name", &options.name));
    options.is_state_matrix = !is_tuple;
    return make_cell(builder, &options);
}

/* A keep probability: a number, or a tensor. */
static enum status read_keep(struct builder *builder, const struct step *step, const char *field,
                             struct output *ret_output, double *ret_value)
{
    const json_t *json = json_object_get(step->json, field);
    *ret_value = 1;
    if (json_is_string(json)) {
        *ret_value = (double)NAN; /* not known before it runs */
        return read_tensor_field(builder, step, field, ret_output);
    }
    TRY(read_number(builder, step, field, ret_value));
    if (*ret_value == 0) { /* a cell's 0 without a tensor means that none was given */
        return graph_add_number(builder->graph, NULL, DTYPE_FLOAT32, 0, ret_output, builder->error);
    }
    return STATUS_OK;
}

/* What TensorFlow draws the masks by, which last for all steps; here they take their sizes of what they mask. */
static enum status check_variational(struct builder *builder, const struct step *step,
                                     const struct cell_options *options)
{
    struct place at_step = {.field = step->path};
    int64_t input_size = 0;
    TRY(read_whole(builder, step, "input_size", 1, CELL_UNITS_MAX, &input_size));
    if (options->is_variational && !options->has_dtype) {
        return raise_place(builder, &at_step, EXCEPTION_VALUE,
                           "When variational_recurrent=True, dtype must be provided");
    }
    if (options->is_variational && !(options->input_keep_value >= 1) && input_size == 0) {
        return raise_place(builder, &at_step, EXCEPTION_VALUE,
                           "When variational_recurrent=True and input_keep_prob < 1.0 or is unknown, input_size must "
                           "be provided");
    }
    return STATUS_OK;
}

static enum status apply_dropout_wrapper(struct builder *builder, const struct step *step)
{
    struct cell_options options = {.kind = CELL_DROPOUT_WRAPPER, .child_count = 1};
    TRY(need_cell(builder, step, "cell", &options.children[0]));
    TRY(read_keep(builder, step, "input_keep_prob", &options.input_keep, &options.input_keep_value));
    TRY(read_keep(builder, step, "state_keep_prob", &options.state_keep, &options.state_keep_value));
    TRY(read_keep(builder, step, "output_keep_prob", &options.output_keep, &options.output_keep_value));
    TRY(read_flag(builder, step, "variational_recurrent", &options.is_variational));
    TRY(read_dtype(builder, step, "dtype", &options.has_dtype, &options.dtype));
    TRY(read_whole(builder, step, "seed", INT32_MIN, INT32_MAX, &options.seed));
    TRY(check_variational(builder, step, &options));
    return make_cell(builder, &options);
}

static enum status apply_residual_wrapper(struct builder *builder, const struct step *step)
{
    struct cell_options options = {.kind = CELL_RESIDUAL_WRAPPER, .child_count = 1};
    TRY(need_cell(builder, step, "cell", &options.children[0]));
    return make_cell(builder, &options);
}

/* ---- cells whose step is a program ---- */

/* {"input":"x","states":["s"],"body":[…],"output":"y","next_states":["t"]}, as text: what the graph keeps. */
struct program_cell {
    const char *text;
    const char *path;
};

/* The names of the body are its own while it runs. */
static enum status bind_local(struct builder *builder, const json_t *name, struct output output)
{
    struct local *local = &builder->locals[builder->local_count++];
    snprintf(local->name, sizeof local->name, "%s", json_string_value(name));
    local->handle = handle_tensor(output);
    return STATUS_OK;
}

static enum status run_body(struct builder *builder, const json_t *cell, const char *path, struct output input,
                            const struct output *states, size_t state_count, struct output *ret_output,
                            struct output *ret_states)
{
    char body_path[STEP_PATH_BYTES_MAX];
    snprintf(body_path, sizeof body_path, "%.240s/body", path);
    TRY(bind_local(builder, json_object_get(cell, "input"), input));
    for (size_t i = 0; i < state_count; i++) {
        TRY(bind_local(builder, json_array_get(json_object_get(cell, "states"), i), states[i]));
    }
    TRY(builder_body(builder, json_object_get(cell, "body"), body_path));
    struct place at_step = {.field = path};
    struct place at_output = {.above = &at_step, .field = "output"};
    struct place at_next = {.above = &at_step, .field = "next_states"};
    TRY(read_tensor(builder, json_object_get(cell, "output"), &at_output, ret_output));
    for (size_t i = 0; i < state_count; i++) {
        struct place item = {.above = &at_next, .index = i};
        const json_t *name = json_array_get(json_object_get(cell, "next_states"), i);
        TRY(read_tensor(builder, name, &item, &ret_states[i]));
    }
    return STATUS_OK;
}

static enum status call_program(struct graph *graph, const void *context, struct output input,
                                const struct output *states, size_t state_count, struct output *ret_output,
                                struct output *ret_states, struct error *error)
{
    const struct program_cell *program = context;
    struct builder *builder = graph_builder(graph);
    if (builder == NULL) {
        return error_set(error, STATUS_UNSUPPORTED, "a cell made of steps is called by steps only");
    }
    json_t *cell = json_loads(program->text, 0, NULL);
    struct builder before = *builder;
    builder->error = error;
    builder->scratch = (struct arena){.bytes_max = GRAPH_ARENA_BYTES_MAX};
    builder->locals = mem_allocate(LOCALS_MAX, sizeof *builder->locals);
    builder->local_count = 0;
    enum status status = cell == NULL || builder->locals == NULL ? builder_no_memory(builder)
                                                                 : run_body(builder, cell, program->path, input, states,
                                                                            state_count, ret_output, ret_states);
    mem_free(builder->locals);
    json_decref(cell);
    arena_release(&builder->scratch);
    builder->scratch = before.scratch;
    builder->locals = before.locals;
    builder->local_count = before.local_count;
    builder->error = before.error;
    builder->made = before.made;
    builder->has_made = before.has_made;
    builder->step_origin = before.step_origin;
    return status == STATUS_OK ? graph_set_origin(graph, &builder->step_origin, error) : status;
}

/* `are_paths`: may have dots, which lead into lists. */
static enum status check_names(struct builder *builder, const struct step *step, const char *field, bool are_paths,
                               size_t count)
{
    const json_t *names = json_object_get(step->json, field);
    bool is_good = json_is_array(names) && json_array_size(names) == count;
    for (size_t i = 0; is_good && i < count; i++) {
        const json_t *name = json_array_get(names, i);
        is_good = are_paths ? json_is_string(name) : is_result_name(name);
    }
    char message[96];
    snprintf(message, sizeof message, "must be a list of %zu name%s, one for each state", count, count == 1 ? "" : "s");
    return is_good ? STATUS_OK : refuse_field(builder, step, field, message);
}

static enum status read_state_sizes(struct builder *builder, const struct step *step, struct cell_options *options)
{
    const json_t *sizes = json_object_get(step->json, "state_sizes");
    if (sizes == NULL) {
        options->state_sizes[0] = options->units;
        options->state_count = 1;
        return STATUS_OK;
    }
    if (!json_is_array(sizes) || json_array_size(sizes) == 0 || json_array_size(sizes) > CELL_STATES_MAX) {
        return refuse_field(builder, step, "state_sizes", "must be a list of 1 to 64 sizes");
    }
    for (size_t i = 0; i < json_array_size(sizes); i++) {
        json_int_t size = json_integer_value(json_array_get(sizes, i));
        if (size < 1 || size > CELL_UNITS_MAX) {
            return refuse_field(builder, step, "state_sizes", "has a size that is no whole number from 1 to 1048576");
        }
        options->state_sizes[options->state_count++] = (size_t)size;
    }
    return STATUS_OK;
}

static enum status check_program_cell(struct builder *builder, const struct step *step, size_t state_count)
{
    const char *output = NULL;
    TRY(need_text(builder, step, "output", &output));
    if (!is_result_name(json_object_get(step->json, "input"))) {
        return refuse_field(builder, step, "input", "must be a name without \".\" and \":\"");
    }
    TRY(check_names(builder, step, "states", false, state_count));
    TRY(check_names(builder, step, "next_states", true, state_count));
    return json_is_array(json_object_get(step->json, "body"))
               ? STATUS_OK
               : refuse_field(builder, step, "body", "must be a list of steps");
}

static enum status apply_cell(struct builder *builder, const struct step *step)
{
    struct cell_options options = {.kind = CELL_PROGRAM, .call = call_program};
    struct program_cell *program = arena_allocate(graph_arena(builder->graph), 1, sizeof *program);
    TRY(read_common(builder, step, &options));
    TRY(read_state_sizes(builder, step, &options));
    TRY(check_program_cell(builder, step, options.state_count));
    char *text = json_dumps(step->json, JSON_COMPACT);
    if (program == NULL || text == NULL) {
        free(text);
        return builder_no_memory(builder);
    }
    program->text = arena_copy_string(graph_arena(builder->graph), text);
    program->path = arena_copy_string(graph_arena(builder->graph), step->path);
    free(text);
    if (program->text == NULL || program->path == NULL) {
        return builder_no_memory(builder);
    }
    options.context = program;
    return make_cell(builder, &options);
}

/* ---- states ---- */

/* A state as it is written: a result's name, a list, or an object of names; as a handle in scratch. */
static enum status read_structure(struct builder *builder, const json_t *json, const struct place *place, int depth,
                                  struct handle *ret_handle)
{
    bool is_list = json_is_array(json);
    bool is_object = json_is_object(json) && json_object_get(json, "tensor") == NULL;
    if (!is_list && !is_object) {
        const struct handle *handle = NULL;
        TRY(read_handle(builder, json, place, &handle));
        *ret_handle = *handle;
        return STATUS_OK;
    }
    size_t count = is_list ? json_array_size(json) : json_object_size(json);
    struct handle *items = NULL;
    const char **names = NULL;
    if (depth == HANDLE_NESTING_MAX || count > HANDLE_ITEMS_MAX) {
        return refuse_place(builder, place, "nests too deep or has too many items");
    }
    TRY(builder_scratch(builder, count, sizeof *items, &items));
    TRY(builder_scratch(builder, count, sizeof(const char *), &names));
    void *at = is_list ? NULL : json_object_iter((json_t *)(uintptr_t)json);
    for (size_t i = 0; i < count; i++) {
        names[i] = is_list ? NULL : json_object_iter_key(at);
        struct place item = {.above = place, .field = names[i], .index = i};
        const json_t *value = is_list ? json_array_get(json, i) : json_object_iter_value(at);
        TRY(read_structure(builder, value, &item, depth + 1, &items[i]));
        at = is_list ? NULL : json_object_iter_next((json_t *)(uintptr_t)json, at);
    }
    *ret_handle = (struct handle){.kind = HANDLE_LIST, .items = items, .names = is_list ? NULL : names, .count = count};
    return STATUS_OK;
}

enum status read_state(struct builder *builder, const struct step *step, const char *field, uint32_t cell,
                       const struct output **ret_states)
{
    const json_t *json = json_object_get(step->json, field);
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = field};
    struct handle handle;
    struct output *states = NULL;
    if (json == NULL || json_is_null(json)) {
        return STATUS_OK;
    }
    TRY(read_structure(builder, json, &place, 0, &handle));
    TRY(builder_scratch(builder, cell_state_count(builder->graph, cell), sizeof *states, &states));
    TRY(at_place(builder, &place, cell_unpack_state(builder->graph, cell, &handle, states, builder->error)));
    *ret_states = states;
    return STATUS_OK;
}

enum status read_scope_options(struct builder *builder, const struct step *step,
                               struct variable_scope_options *ret_options,
                               const struct variable_scope_options **ret_set)
{
    const json_t *json = json_object_get(step->json, "scope");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "scope"};
    const struct handle *handle = NULL;
    if (json == NULL || json_is_null(json)) {
        return STATUS_OK;
    }
    *ret_options = (struct variable_scope_options){.name = NULL};
    if (json_is_string(json)) {
        TRY(read_text(builder, step, "scope", &ret_options->name));
    } else {
        TRY(read_handle(builder, json_object_get(json, "scope"), &place, &handle));
        if (handle->kind != HANDLE_OBJECT || handle->object_kind != OBJECT_SCOPE) {
            return refuse_place(builder, &place, "must be a name or {\"scope\":a variable scope}");
        }
        ret_options->is_scope = true;
        ret_options->scope = handle->object_id;
    }
    *ret_set = ret_options;
    return STATUS_OK;
}

static enum status apply_zero_state(struct builder *builder, const struct step *step)
{
    uint32_t cell = 0;
    struct output batch = {.node = NULL};
    struct output *states = NULL;
    int64_t batch_size = 0;
    bool has_dtype = false;
    enum dtype dtype = DTYPE_FLOAT32;
    struct handle state;
    TRY(need_cell(builder, step, "cell", &cell));
    if (json_is_string(json_object_get(step->json, "batch_size"))) {
        TRY(read_tensor_field(builder, step, "batch_size", &batch));
    } else if (json_object_get(step->json, "batch_size") == NULL) {
        return refuse_field(builder, step, "batch_size", "must be given: a whole number or a tensor");
    } else {
        TRY(read_whole(builder, step, "batch_size", 0, INT32_MAX, &batch_size));
    }
    TRY(read_dtype(builder, step, "dtype", &has_dtype, &dtype));
    TRY(builder_scratch(builder, cell_state_count(builder->graph, cell), sizeof *states, &states));
    TRY(cell_zero_state(builder->graph, cell, batch, batch_size, dtype, states, builder->error));
    TRY(cell_pack_state(builder->graph, cell, states, &state, builder->error));
    builder_give(builder, &state);
    return STATUS_OK;
}

static enum status apply_call_cell(struct builder *builder, const struct step *step)
{
    static const char *const names[] = {"output", "state"};
    uint32_t cell = 0;
    struct output input = {.node = NULL};
    const struct output *states = NULL;
    struct output *next = NULL;
    struct variable_scope_options scope;
    const struct variable_scope_options *given = NULL;
    struct handle items[2];
    TRY(need_cell(builder, step, "cell", &cell));
    TRY(need_tensor_field(builder, step, "input", &input));
    TRY(read_state(builder, step, "state", cell, &states));
    TRY(read_scope_options(builder, step, &scope, &given));
    if (states == NULL) {
        return refuse_field(builder, step, "state", "must be given: a state");
    }
    TRY(builder_scratch(builder, cell_state_count(builder->graph, cell), sizeof *next, &next));
    TRY(cell_call(builder->graph, cell, input, states, given, &items[0].output, next, builder->error));
    items[0] = handle_tensor(items[0].output);
    TRY(cell_pack_state(builder->graph, cell, next, &items[1], builder->error));
    return builder_give_list(builder, items, names, 2);
}

#define COMMON "num_units activation reuse name dtype "

const struct step_kind program_cell_steps[] = {
    {"basic_rnn_cell", COMMON, apply_basic_rnn_cell, NULL},
    {"basic_lstm_cell", COMMON "forget_bias state_is_tuple", apply_basic_lstm_cell, NULL},
    {"lstm_cell", COMMON "forget_bias state_is_tuple use_peepholes cell_clip initializer num_proj proj_clip",
     apply_lstm_cell, NULL},
    {"gru_cell", COMMON "kernel_initializer bias_initializer", apply_gru_cell, NULL},
    {"multi_rnn_cell", "cells state_is_tuple name", apply_multi_rnn_cell, NULL},
    {"dropout_wrapper",
     "cell input_keep_prob state_keep_prob output_keep_prob variational_recurrent input_size dtype seed",
     apply_dropout_wrapper, NULL},
    {"residual_wrapper", "cell", apply_residual_wrapper, NULL},
    {"cell", COMMON "state_sizes input states body output next_states", apply_cell, NULL},
    {"zero_state", "cell batch_size dtype", apply_zero_state, NULL},
    {"call_cell", "cell input state scope", apply_call_cell, NULL},
    {NULL, NULL, NULL, NULL},
};
