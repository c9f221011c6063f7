/* Recurrence: a body run for every step of a sequence. Thread: see op.h. A plan's step owns the body's sub-plan.
 *
 * Inputs: x [time, batch, …], lengths where attribute has_lengths, initial states, captures of the body. Outputs: see
 * ops_recurrence.h. Attribute body; is_general keeps fused kernels away. */
#include "engine/graph/ops_recurrence.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/ops_recurrence_fused.h"

/* ---- shapes ---- */

static enum status refuse(const struct inference *inference, const char *what, struct error *error)
{
    return error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "'%s' (op: 'Recurrence'): %s", inference->node->name,
                       what);
}

static enum status refuse_state(const struct inference *inference, size_t state, const struct output_type *is,
                                const struct output_type *becomes, struct error *error)
{
    char is_text[SHAPE_TEXT_BYTES_MAX];
    char becomes_text[SHAPE_TEXT_BYTES_MAX];
    return error_raise(
        error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE,
        "The type for state %zu is not an invariant for the loop. It enters the loop with shape %s and type %s, "
        "but has shape %s and type %s after one iteration. [[node %s]]",
        state, shape_text(&is->shape, is_text), dtype_name(is->dtype), shape_text(&becomes->shape, becomes_text),
        dtype_name(becomes->dtype), inference->node->name);
}

/* A tensor of one step as the body knows it, an unknown first dimension being the batch. */
static struct shape step_shape(const struct output_type *type, int64_t batch)
{
    struct shape shape = type->shape;
    if (shape.rank > 0 && shape.dimensions[0] == DIMENSION_UNKNOWN) {
        shape.dimensions[0] = batch;
    }
    return shape;
}

static enum status check_lengths(const struct inference *inference, struct error *error)
{
    const struct output_type *lengths = &inference->inputs[1];
    if (lengths->dtype != DTYPE_INT32 && lengths->dtype != DTYPE_INT64) {
        return refuse(inference, "sequence_length must be int32 or int64", error);
    }
    if (lengths->shape.rank != SHAPE_RANK_UNKNOWN && lengths->shape.rank != 1) {
        return refuse(inference, "sequence_length must be a vector of length batch_size", error);
    }
    return STATUS_OK;
}

static enum status check_inputs(const struct inference *inference, const struct recurrence *recurrence,
                                struct error *error)
{
    if (inference->input_count != recurrence->input_count ||
        recurrence->body->output_count != 1 + recurrence->state_count) {
        return refuse(inference, "inputs and body do not go together", error);
    }
    const struct output_type *x = &inference->inputs[0];
    if (x->shape.rank != SHAPE_RANK_UNKNOWN && x->shape.rank < 2) {
        return refuse(inference, "x has no time and batch", error);
    }
    if (recurrence->has_lengths) {
        TRY(check_lengths(inference, error));
    }
    for (size_t i = 0; i < 1 + recurrence->state_count + recurrence->capture_count; i++) {
        const struct output_type *given = &inference->inputs[i == 0 ? 0 : recurrence->first_state + i - 1];
        const struct output_type *inner = output_type(recurrence->body->inputs[i]);
        struct shape shape = i == 0 && x->shape.rank >= 2 ? shape_without_first(&given->shape) : given->shape;
        if (given->dtype != inner->dtype || (i == 0 && x->shape.rank == SHAPE_RANK_UNKNOWN) ||
            !shape_is_compatible(&shape, &inner->shape)) {
            return refuse(inference, "an input does not have the type that the body was made for", error);
        }
    }
    return STATUS_OK;
}

static enum status infer_states(struct inference *inference, const struct recurrence *recurrence, int64_t time,
                                int64_t batch, struct error *error)
{
    for (size_t k = 0; k < recurrence->state_count; k++) {
        const struct output_type *is = &inference->inputs[recurrence->first_state + k];
        const struct output_type *becomes = output_type(recurrence->body->outputs[1 + k]);
        if (is->dtype != becomes->dtype || !shape_is_compatible(&is->shape, &becomes->shape)) {
            return refuse_state(inference, k, is, becomes, error);
        }
        struct shape shape = shape_merge(&is->shape, &becomes->shape);
        if (recurrence->has_lengths && shape.rank == 0) {
            return refuse(inference, "sequence_length with a state that has no rows", error);
        }
        if (shape.rank > 0 && shape.dimensions[0] == DIMENSION_UNKNOWN) {
            shape.dimensions[0] = batch;
        }
        inference->outputs[recurrence_final(k)] = (struct output_type){is->dtype, shape};
        inference->outputs[recurrence_history(recurrence, k)] =
            (struct output_type){is->dtype, shape_with_first(time, &shape)};
    }
    return STATUS_OK;
}

static enum status infer_recurrence(struct inference *inference, struct error *error)
{
    if (node_attribute(inference->node, "body") == NULL) {
        return refuse(inference, "no body", error);
    }
    struct recurrence recurrence = recurrence_of(inference->node);
    if (recurrence.state_count > RECURRENCE_STATES_MAX) {
        return error_set(error, STATUS_LIMIT, "'%s' (op: 'Recurrence') has more than %d states", inference->node->name,
                         RECURRENCE_STATES_MAX);
    }
    TRY(check_inputs(inference, &recurrence, error));
    TRY(op_need_outputs(inference, (int64_t)recurrence_saved(&recurrence) + 1, error));
    int64_t time = inference->inputs[0].shape.dimensions[0];
    int64_t batch = inference->inputs[0].shape.dimensions[1];
    const struct output_type *output = output_type(recurrence.body->outputs[0]);
    struct shape shape = step_shape(output, batch);
    inference->outputs[0] = (struct output_type){output->dtype, shape_with_first(time, &shape)};
    TRY(infer_states(inference, &recurrence, time, batch, error));
    inference->outputs[recurrence_saved(&recurrence)] =
        (struct output_type){DTYPE_FLOAT32, recurrence_saved_shape(inference->node, time, batch)};
    inference->output_count = recurrence_saved(&recurrence) + 1;
    return STATUS_OK;
}

/* ---- preparing: the body's plan ---- */

struct prepared {
    struct recurrence_plan plan; /* of the body, unless fused */
    struct recurrence_stack stack;
    bool is_fused;
};

static void release_recurrence(void *prepared)
{
    struct prepared *own = prepared;
    plan_unref(own->plan.plan);
    mem_free(own);
}

static enum status prepare_body(const struct inference *inference, const struct recurrence *recurrence,
                                struct prepared *prepared, struct error *error)
{
    size_t count = 1 + recurrence->state_count + recurrence->capture_count;
    struct tensor *feeds = mem_allocate(count, sizeof *feeds);
    if (feeds == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a recurrence");
    }
    feeds[0] =
        (struct tensor){.dtype = inference->inputs[0].dtype, .shape = shape_without_first(&inference->inputs[0].shape)};
    for (size_t i = 1; i < count; i++) {
        size_t input = recurrence->first_state + i - 1;
        const struct output_type *type = &inference->inputs[input];
        bool is_state = input < recurrence->first_capture; /* which changes from step to step */
        feeds[i] = is_state ? (struct tensor){.dtype = type->dtype, .shape = type->shape}
                            : recurrence_outer_feed(inference, input);
    }
    enum status status = recurrence_plan_create(recurrence->body, feeds, &prepared->plan, error);
    mem_free(feeds);
    return status;
}

static enum status prepare_recurrence(const struct inference *inference, void **ret_prepared, size_t *ret_scratch_bytes,
                                      struct error *error)
{
    struct recurrence recurrence = recurrence_of(inference->node);
    struct prepared *prepared = mem_allocate(1, sizeof *prepared);
    if (prepared == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a recurrence");
    }
    size_t lengths_bytes = recurrence_rounded((size_t)inference->inputs[0].shape.dimensions[1] * sizeof(int64_t));
    prepared->is_fused = recurrence_match(inference->node, &prepared->stack);
    if (prepared->is_fused) {
        *ret_scratch_bytes = lengths_bytes + recurrence_forward_bytes(&prepared->stack, inference);
    } else {
        enum status status = prepare_body(inference, &recurrence, prepared, error);
        if (status != STATUS_OK) {
            mem_free(prepared);
            return status;
        }
        *ret_scratch_bytes = lengths_bytes + recurrence_plan_bytes(&prepared->plan);
    }
    *ret_prepared = prepared;
    return STATUS_OK;
}

/* ---- running ---- */

static size_t bytes_of_step(const struct tensor *sequence)
{
    size_t time = (size_t)sequence->shape.dimensions[0];
    return time == 0 ? 0 : tensor_bytes(sequence) / time;
}

/* The state before a step. */
static char *state_before(const struct op_run *run, const struct recurrence *recurrence, size_t state, size_t step)
{
    const struct tensor *history = &run->outputs[recurrence_history(recurrence, state)];
    return step == 0 ? (char *)run->inputs[recurrence->first_state + state].data
                     : (char *)history->data + (step - 1) * bytes_of_step(history);
}

/* Rows whose sequence is over: zeros, and the states they had. */
static void hold_rows(const struct op_run *run, const struct recurrence *recurrence,
                      const struct recurrence_steps *steps, size_t step)
{
    for (size_t row = 0; row < steps->batch; row++) {
        if (recurrence_is_active(steps, step, row)) {
            continue;
        }
        size_t row_bytes = bytes_of_step(&run->outputs[0]) / steps->batch;
        memset((char *)run->outputs[0].data + (step * steps->batch + row) * row_bytes, 0, row_bytes);
        for (size_t k = 0; k < recurrence->state_count; k++) {
            const struct tensor *history = &run->outputs[recurrence_history(recurrence, k)];
            row_bytes = bytes_of_step(history) / steps->batch;
            memcpy((char *)history->data + (step * steps->batch + row) * row_bytes,
                   state_before(run, recurrence, k, step) + row * row_bytes, row_bytes);
        }
    }
}

/* The steps after all sequences are over, and the final states. */
static void finish(const struct op_run *run, const struct recurrence *recurrence, const struct recurrence_steps *steps)
{
    size_t output_bytes = bytes_of_step(&run->outputs[0]);
    memset((char *)run->outputs[0].data + steps->count * output_bytes, 0, (steps->time - steps->count) * output_bytes);
    for (size_t k = 0; k < recurrence->state_count; k++) {
        const struct tensor *history = &run->outputs[recurrence_history(recurrence, k)];
        const struct tensor *final = &run->outputs[recurrence_final(k)];
        for (size_t t = steps->count; t < steps->time; t++) {
            memcpy((char *)history->data + t * bytes_of_step(history), state_before(run, recurrence, k, t),
                   bytes_of_step(history));
        }
        memcpy(final->data, state_before(run, recurrence, k, steps->time), tensor_bytes(final));
    }
}

static enum status run_step(const struct op_run *run, const struct recurrence *recurrence,
                            const struct prepared *prepared, const struct recurrence_turn *turn, size_t step,
                            struct error *error)
{
    turn->feeds[0].data = (char *)run->inputs[0].data + step * bytes_of_step(&run->inputs[0]);
    for (size_t k = 0; k < recurrence->state_count; k++) {
        turn->feeds[1 + k].data = state_before(run, recurrence, k, step);
    }
    struct run_options options = {.feeds = turn->feeds,
                                  .random_key = recurrence_step_key(run->random_key, step),
                                  .loop_key = &run->random_key,
                                  .cancel = run->cancel,
                                  .deadline_ms = run->deadline_ms};
    TRY(plan_run(prepared->plan.plan, turn->workspace, run->values, &options, turn->results, error));
    for (size_t i = 0; i < 1 + recurrence->state_count; i++) {
        const struct tensor *to = &run->outputs[i == 0 ? 0 : recurrence_history(recurrence, i - 1)];
        CHECK(tensor_bytes(&turn->results[i]) == bytes_of_step(to));
        memcpy((char *)to->data + step * bytes_of_step(to), turn->results[i].data, bytes_of_step(to));
    }
    return STATUS_OK;
}

static enum status run_body(const struct op_run *run, const struct recurrence *recurrence,
                            const struct prepared *prepared, const struct recurrence_steps *steps,
                            struct recurrence_scratch *scratch, struct error *error)
{
    struct recurrence_turn turn = recurrence_plan_place(&prepared->plan, recurrence->body, scratch);
    for (size_t i = 0; i < prepared->plan.feed_count; i++) {
        const struct tensor *input = &run->inputs[i == 0 ? 0 : recurrence->first_state + i - 1];
        turn.feeds[i] = *input;
    }
    turn.feeds[0].shape = shape_without_first(&run->inputs[0].shape);
    for (size_t t = 0; t < steps->count; t++) {
        TRY(run_step(run, recurrence, prepared, &turn, t, error));
        hold_rows(run, recurrence, steps, t);
    }
    return STATUS_OK;
}

static enum status compute_recurrence(const struct op_run *run, struct error *error)
{
    const struct prepared *prepared = run->prepared;
    struct recurrence recurrence = recurrence_of(run->node);
    struct recurrence_scratch scratch = {run->scratch};
    struct recurrence_steps steps;
    int64_t *lengths = recurrence_take(&scratch, (size_t)run->inputs[0].shape.dimensions[1] * sizeof *lengths);
    TRY(recurrence_read_steps(run, &recurrence, lengths, &steps, error));
    if (prepared->is_fused) {
        TRY(recurrence_forward(&prepared->stack, run, &recurrence, &steps, &scratch, error));
    } else {
        TRY(run_body(run, &recurrence, prepared, &steps, &scratch, error));
    }
    finish(run, &recurrence, &steps);
    return STATUS_OK;
}

const struct op op_recurrence = {.name = "Recurrence",
                                 .input_count = OP_INPUTS_ANY,
                                 .flags = OP_RANDOM,
                                 .infer = infer_recurrence,
                                 .compute = compute_recurrence,
                                 .gradient = recurrence_gradient,
                                 .prepare = prepare_recurrence,
                                 .release = release_recurrence};

/* ---- building ---- */

static enum status add_node(struct graph *graph, const struct recurrence_node_options *options, struct output *inputs,
                            struct output *ret_outputs, struct output *ret_states, struct error *error)
{
    const struct body *body = options->body;
    size_t state_count = body->argument_count - 1;
    size_t count = 0;
    inputs[count++] = options->x;
    if (options->sequence_length.node != NULL) {
        inputs[count++] = options->sequence_length;
    }
    for (size_t k = 0; k < state_count; k++) {
        inputs[count++] = options->states[k];
    }
    for (size_t i = 0; i < body->capture_count; i++) {
        inputs[count++] = body->captures[i];
    }
    struct attribute attributes[] = {
        {.name = "body", .kind = ATTRIBUTE_BODY, .body = body},
        {.name = "has_lengths", .kind = ATTRIBUTE_BOOLEAN, .boolean = options->sequence_length.node != NULL},
        {.name = "is_general", .kind = ATTRIBUTE_BOOLEAN, .boolean = options->is_general}};
    struct node_options add = {.name = options->name,
                               .inputs = inputs,
                               .input_count = count,
                               .attributes = attributes,
                               .attribute_count = sizeof attributes / sizeof *attributes};
    struct node *node = NULL;
    TRY(graph_add_node(graph, "Recurrence", &add, &node, error));
    *ret_outputs = (struct output){node, 0};
    for (size_t k = 0; k < state_count; k++) {
        ret_states[k] = (struct output){node, (uint32_t)recurrence_final(k)};
    }
    return STATUS_OK;
}

enum status recurrence_node_add(struct graph *graph, const struct recurrence_node_options *options,
                                struct output *ret_outputs, struct output *ret_states, struct error *error)
{
    const struct body *body = options->body;
    struct output *inputs = mem_allocate(body->argument_count + body->capture_count + 1, sizeof *inputs);
    if (inputs == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a recurrence");
    }
    enum status status = add_node(graph, options, inputs, ret_outputs, ret_states, error);
    mem_free(inputs);
    return status;
}
