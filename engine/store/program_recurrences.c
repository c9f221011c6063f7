/* Steps that run a cell over time. Thread: the building one. Owns nothing. */
#include "engine/graph/function.h"
#include "engine/nn/recurrence.h"
#include "engine/store/program_private.h"

/* A tensor by name, or numbers made a constant. */
static enum status read_lengths(struct builder *builder, const struct step *step, struct output *ret_output)
{
    const json_t *json = json_object_get(step->json, "sequence_length");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "sequence_length"};
    struct tensor value;
    if (json == NULL || json_is_null(json)) {
        return STATUS_OK;
    }
    if (json_is_string(json)) {
        return read_tensor(builder, json, &place, ret_output);
    }
    TRY(read_python_value(builder, json, &place, &value));
    return at_place(builder, &place, graph_add_constant(builder->graph, NULL, &value, ret_output, builder->error));
}

static enum status read_options(struct builder *builder, const struct step *step, struct recurrence_options *options,
                                struct variable_scope_options *scope)
{
    TRY(read_lengths(builder, step, &options->sequence_length));
    TRY(read_dtype(builder, step, "dtype", &options->has_dtype, &options->dtype));
    TRY(read_flag(builder, step, "time_major", &options->is_time_major));
    return read_scope_options(builder, step, scope, &options->scope);
}

static enum status states_of(struct builder *builder, uint32_t cell, struct output **ret_states)
{
    return builder_scratch(builder, cell_state_count(builder->graph, cell), sizeof **ret_states, ret_states);
}

static enum status apply_dynamic_rnn(struct builder *builder, const struct step *step)
{
    static const char *const names[] = {"outputs", "state"};
    struct recurrence_options options = {.scope = NULL};
    struct variable_scope_options scope;
    struct output *states = NULL;
    struct output outputs = {.node = NULL};
    struct handle items[2];
    uint32_t cell = 0;
    TRY(need_cell(builder, step, "cell", &cell));
    TRY(need_tensor_field(builder, step, "inputs", &options.inputs));
    TRY(read_options(builder, step, &options, &scope));
    TRY(read_state(builder, step, "initial_state", cell, &options.initial_states));
    TRY(states_of(builder, cell, &states));
    TRY(dynamic_rnn(builder->graph, cell, &options, &outputs, states, builder->error));
    items[0] = handle_tensor(outputs);
    TRY(cell_pack_state(builder->graph, cell, states, &items[1], builder->error));
    return builder_give_list(builder, items, names, 2);
}

/* The inputs of static_rnn: TensorFlow's errors about what is no list. */
static enum status read_steps(struct builder *builder, const struct step *step, struct output **ret_inputs,
                              size_t *ret_count)
{
    const json_t *json = json_object_get(step->json, "inputs");
    struct place at_step = {.field = step->path};
    struct place place = {.above = &at_step, .field = "inputs"};
    if (json_is_string(json)) {
        const struct handle *handle = NULL;
        TRY(read_handle(builder, json, &place, &handle));
        if (handle->kind != HANDLE_LIST) {
            return raise_place(builder, &place, EXCEPTION_TYPE, "inputs must be a sequence");
        }
    } else if (!json_is_array(json)) {
        return raise_place(builder, &place, EXCEPTION_TYPE, "inputs must be a sequence");
    }
    return read_tensors(builder, json, &place, ret_inputs, ret_count);
}

static enum status apply_static_rnn(struct builder *builder, const struct step *step)
{
    static const char *const names[] = {"outputs", "state"};
    struct recurrence_options options = {.scope = NULL};
    struct variable_scope_options scope;
    struct output *inputs = NULL;
    struct output *outputs = NULL;
    struct output *states = NULL;
    struct handle *each = NULL;
    struct handle items[2];
    size_t count = 0;
    uint32_t cell = 0;
    TRY(need_cell(builder, step, "cell", &cell));
    TRY(read_steps(builder, step, &inputs, &count));
    TRY(read_options(builder, step, &options, &scope));
    TRY(read_state(builder, step, "initial_state", cell, &options.initial_states));
    TRY(states_of(builder, cell, &states));
    TRY(builder_scratch(builder, count, sizeof *outputs, &outputs));
    TRY(builder_scratch(builder, count, sizeof *each, &each));
    TRY(static_rnn(builder->graph, cell, inputs, count, &options, outputs, states, builder->error));
    for (size_t i = 0; i < count; i++) {
        each[i] = handle_tensor(outputs[i]);
    }
    items[0] = (struct handle){.kind = HANDLE_LIST, .items = each, .count = count};
    TRY(cell_pack_state(builder->graph, cell, states, &items[1], builder->error));
    return builder_give_list(builder, items, names, 2);
}

static enum status apply_bidirectional_dynamic_rnn(struct builder *builder, const struct step *step)
{
    static const char *const names[] = {"output_fw", "output_bw", "state_fw", "state_bw"};
    struct recurrence_options options = {.scope = NULL};
    struct variable_scope_options scope;
    const struct output *initial_backward = NULL;
    struct output *forward_states = NULL;
    struct output *backward_states = NULL;
    struct output outputs[2];
    struct handle items[4];
    uint32_t forward = 0;
    uint32_t backward = 0;
    TRY(need_cell(builder, step, "cell_fw", &forward));
    TRY(need_cell(builder, step, "cell_bw", &backward));
    TRY(need_tensor_field(builder, step, "inputs", &options.inputs));
    TRY(read_options(builder, step, &options, &scope));
    TRY(read_state(builder, step, "initial_state_fw", forward, &options.initial_states));
    TRY(read_state(builder, step, "initial_state_bw", backward, &initial_backward));
    TRY(states_of(builder, forward, &forward_states));
    TRY(states_of(builder, backward, &backward_states));
    TRY(bidirectional_dynamic_rnn(builder->graph, forward, backward, &options, initial_backward, outputs,
                                  forward_states, backward_states, builder->error));
    items[0] = handle_tensor(outputs[0]);
    items[1] = handle_tensor(outputs[1]);
    TRY(cell_pack_state(builder->graph, forward, forward_states, &items[2], builder->error));
    TRY(cell_pack_state(builder->graph, backward, backward_states, &items[3], builder->error));
    return builder_give_list(builder, items, names, 4);
}

#define COMMON "sequence_length dtype scope parallel_iterations swap_memory "

const struct step_kind program_recurrence_steps[] = {
    {"dynamic_rnn", COMMON "cell inputs initial_state time_major", apply_dynamic_rnn, NULL},
    {"static_rnn", "sequence_length dtype scope cell inputs initial_state", apply_static_rnn, NULL},
    {"bidirectional_dynamic_rnn", COMMON "cell_fw cell_bw inputs initial_state_fw initial_state_bw time_major",
     apply_bidirectional_dynamic_rnn, NULL},
    {NULL, NULL, NULL, NULL},
};
