/* RecurrenceGrad: the gradient of Recurrence, backwards through the steps. Thread: see op.h. A plan's step owns the
 * sub-plan of the gradient's body.
 *
 * The gradient's body computes a step again from the states before it, which Recurrence kept, and differentiates it:
 * its inputs are the body's, then the gradients of the body's outputs; its outputs the gradients of x, the states and
 * the captures, as far as attribute mask ('1') says that there are any. Fused kernels need no such body.
 * Inputs: those of Recurrence, its state histories, what it saved, the gradients of its outputs and final states.
 * Outputs: gradients of x, states, captures; empty where there is none. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/gradients.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/ops_recurrence_fused.h"

static const char *mask_of(const struct node *node)
{
    const struct attribute *mask = node_attribute(node, "mask");
    CHECK(mask != NULL && mask->kind == ATTRIBUTE_TEXT);
    return mask->text;
}

static enum status infer_recurrence_grad(struct inference *inference, struct error *error)
{
    struct recurrence recurrence = recurrence_of(inference->node);
    const char *mask = mask_of(inference->node);
    size_t count = recurrence_gradient_count(&recurrence);
    CHECK(inference->input_count == recurrence_d_final_input(&recurrence, recurrence.state_count));
    TRY(op_need_outputs(inference, (int64_t)count, error));
    for (size_t i = 0; i < count; i++) {
        struct output_type none = {DTYPE_FLOAT32, shape_vector(0)};
        inference->outputs[i] = mask[i] == '1' ? inference->inputs[recurrence_gradient_input(&recurrence, i)] : none;
    }
    inference->output_count = count;
    return STATUS_OK;
}

/* ---- preparing ---- */

struct prepared {
    struct recurrence_plan plan; /* of the gradient's body, unless fused */
    struct recurrence_stack stack;
    bool is_fused;
};

static void release_recurrence_grad(void *prepared)
{
    struct prepared *own = prepared;
    plan_unref(own->plan.plan);
    mem_free(own);
}

static const struct body *gradient_body_of(const struct node *node)
{
    return node_attribute(node, "gradient_body")->body;
}

static struct tensor step_of(const struct output_type *sequence)
{
    return (struct tensor){.dtype = sequence->dtype, .shape = shape_without_first(&sequence->shape)};
}

/* What the body is fed with: x of a step, states, captures, gradients of its outputs. */
static void feed_types(const struct inference *inference, const struct recurrence *recurrence, struct tensor *feeds)
{
    size_t inner = recurrence_gradient_count(recurrence);
    for (size_t i = 0; i < inner; i++) {
        const struct output_type *input = &inference->inputs[recurrence_gradient_input(recurrence, i)];
        bool is_capture = i > recurrence->state_count;
        feeds[i] = i == 0       ? step_of(input)
                   : is_capture ? recurrence_outer_feed(inference, recurrence_gradient_input(recurrence, i))
                                : (struct tensor){.dtype = input->dtype, .shape = input->shape};
    }
    feeds[inner] = step_of(&inference->inputs[recurrence_d_output_input(recurrence)]);
    for (size_t k = 0; k < recurrence->state_count; k++) {
        const struct output_type *input = &inference->inputs[recurrence_d_final_input(recurrence, k)];
        feeds[inner + 1 + k] = (struct tensor){.dtype = input->dtype, .shape = input->shape};
    }
}

/* Room for the gradients that go into one step: of its output and of its states. */
static size_t step_gradient_bytes(const struct inference *inference, const struct recurrence *recurrence)
{
    struct tensor output = step_of(&inference->inputs[recurrence_d_output_input(recurrence)]);
    size_t bytes = recurrence_rounded(tensor_bytes(&output));
    for (size_t k = 0; k < recurrence->state_count; k++) {
        const struct output_type *type = &inference->inputs[recurrence_d_final_input(recurrence, k)];
        struct tensor state = {.dtype = type->dtype, .shape = type->shape};
        bytes += recurrence_rounded(tensor_bytes(&state));
    }
    return bytes;
}

static enum status prepare_body(const struct inference *inference, const struct recurrence *recurrence,
                                struct prepared *prepared, struct error *error)
{
    size_t count = recurrence_gradient_count(recurrence) + 1 + recurrence->state_count;
    struct tensor *feeds = mem_allocate(count, sizeof *feeds);
    if (feeds == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a recurrence's gradient");
    }
    feed_types(inference, recurrence, feeds);
    enum status status = recurrence_plan_create(gradient_body_of(inference->node), feeds, &prepared->plan, error);
    mem_free(feeds);
    return status;
}

static enum status prepare_recurrence_grad(const struct inference *inference, void **ret_prepared,
                                           size_t *ret_scratch_bytes, struct error *error)
{
    struct recurrence recurrence = recurrence_of(inference->node);
    struct prepared *prepared = mem_allocate(1, sizeof *prepared);
    if (prepared == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a recurrence's gradient");
    }
    size_t bytes = recurrence_rounded((size_t)inference->inputs[0].shape.dimensions[1] * sizeof(int64_t));
    prepared->is_fused = recurrence_match(inference->node, &prepared->stack);
    if (prepared->is_fused) {
        bytes += recurrence_backward_bytes(&prepared->stack, inference);
    } else {
        enum status status = prepare_body(inference, &recurrence, prepared, error);
        if (status != STATUS_OK) {
            mem_free(prepared);
            return status;
        }
        bytes += recurrence_plan_bytes(&prepared->plan) + step_gradient_bytes(inference, &recurrence);
    }
    *ret_scratch_bytes = bytes;
    *ret_prepared = prepared;
    return STATUS_OK;
}

/* ---- running ---- */

/* One backward pass. */
struct backward {
    const struct op_run *run;
    const struct prepared *prepared;
    struct recurrence recurrence;
    struct recurrence_steps steps;
    struct recurrence_turn turn;
    struct tensor *into; /* what the body is fed with as gradients: of the output, of the states */
    const char *mask;
};

static void add_to(const struct tensor *from, const struct tensor *to)
{
    size_t count = tensor_element_count(to);
    for (size_t i = 0; i < count; i++) {
        if (to->dtype == DTYPE_FLOAT64) {
            ((double *)to->data)[i] += ((const double *)from->data)[i];
        } else {
            ((float *)to->data)[i] += ((const float *)from->data)[i];
        }
    }
}

static size_t row_bytes_of(const struct tensor *tensor)
{
    return tensor_bytes(tensor) / (size_t)tensor->shape.dimensions[0];
}

/* Rows whose sequence was over have no gradient into the step: it passes by them. */
static void mask_rows(const struct backward *backward, const struct tensor *tensor, size_t step)
{
    for (size_t row = 0; backward->steps.length != NULL && row < backward->steps.batch; row++) {
        if (!recurrence_is_active(&backward->steps, step, row)) {
            size_t bytes = row_bytes_of(tensor);
            memset((char *)tensor->data + row * bytes, 0, bytes);
        }
    }
}

/* Takes over the rows that took part in the step; the others keep what they have. */
static void take_rows(const struct backward *backward, const struct tensor *from, const struct tensor *to, size_t step)
{
    if (backward->steps.length == NULL) {
        memcpy(to->data, from->data, tensor_bytes(to));
        return;
    }
    size_t bytes = row_bytes_of(to);
    for (size_t row = 0; row < backward->steps.batch; row++) {
        if (recurrence_is_active(&backward->steps, step, row)) {
            memcpy((char *)to->data + row * bytes, (const char *)from->data + row * bytes, bytes);
        }
    }
}

static void feed_step(const struct backward *backward, size_t step)
{
    const struct op_run *run = backward->run;
    const struct recurrence *recurrence = &backward->recurrence;
    const struct tensor *x = &run->inputs[0];
    const struct tensor *d_output = &run->inputs[recurrence_d_output_input(recurrence)];
    struct tensor *feeds = backward->turn.feeds;
    size_t inner = recurrence_gradient_count(recurrence);
    feeds[0].data = (char *)x->data + step * tensor_bytes(&feeds[0]);
    memcpy(backward->into[0].data, (char *)d_output->data + step * tensor_bytes(&backward->into[0]),
           tensor_bytes(&backward->into[0]));
    mask_rows(backward, &backward->into[0], step);
    for (size_t k = 0; k < recurrence->state_count; k++) {
        const struct tensor *history = &run->inputs[recurrence_history_input(recurrence, k)];
        const struct tensor *initial = &run->inputs[recurrence->first_state + k];
        feeds[1 + k].data = step == 0 ? initial->data : (char *)history->data + (step - 1) * tensor_bytes(initial);
        if (backward->mask[1 + k] == '1') {
            memcpy(backward->into[1 + k].data, run->outputs[1 + k].data, tensor_bytes(&backward->into[1 + k]));
        } else {
            memset(backward->into[1 + k].data, 0, tensor_bytes(&backward->into[1 + k]));
        }
        mask_rows(backward, &backward->into[1 + k], step);
    }
    memcpy(feeds + inner, backward->into, (1 + recurrence->state_count) * sizeof *feeds);
}

static enum status step_back(const struct backward *backward, size_t step, struct error *error)
{
    const struct op_run *run = backward->run;
    const struct recurrence *recurrence = &backward->recurrence;
    feed_step(backward, step);
    struct run_options options = {
        .feeds = backward->turn.feeds,
        .random_key = recurrence_step_key(run->random_key, step),
        .loop_key = &run->random_key,
        .cancel = run->cancel,
        .deadline_ms = run->deadline_ms,
    };
    TRY(plan_run(backward->prepared->plan.plan, backward->turn.workspace, run->values, &options, backward->turn.results,
                 error));
    const struct tensor *result = backward->turn.results;
    for (size_t i = 0; i < recurrence_gradient_count(recurrence); i++) {
        struct tensor to = run->outputs[i];
        if (backward->mask[i] != '1') {
            continue;
        }
        if (i == 0) {
            to.shape = shape_without_first(&to.shape);
            to.data = (char *)to.data + step * tensor_bytes(&to);
            take_rows(backward, result, &to, step);
        } else if (i <= recurrence->state_count) {
            take_rows(backward, result, &to, step);
        } else {
            add_to(result, &to);
        }
        result++;
    }
    return STATUS_OK;
}

/* Begins: dx and the captures' gradients at zero, the states' at those of the final states. */
static void begin(const struct op_run *run, const struct recurrence *recurrence, const char *mask)
{
    for (size_t i = 0; i < recurrence_gradient_count(recurrence); i++) {
        bool is_state = i >= 1 && i <= recurrence->state_count;
        if (mask[i] == '1' && is_state) {
            memcpy(run->outputs[i].data, run->inputs[recurrence_d_final_input(recurrence, i - 1)].data,
                   tensor_bytes(&run->outputs[i]));
        } else {
            memset(run->outputs[i].data, 0, tensor_bytes(&run->outputs[i]));
        }
    }
}

static void place_step_gradients(struct backward *backward, struct recurrence_scratch *scratch)
{
    const struct recurrence *recurrence = &backward->recurrence;
    const struct body *body = gradient_body_of(backward->run->node);
    backward->turn = recurrence_plan_place(&backward->prepared->plan, body, scratch);
    struct tensor *feeds = backward->turn.feeds;
    for (size_t i = 0; i < recurrence_gradient_count(recurrence); i++) {
        feeds[i] = backward->run->inputs[recurrence_gradient_input(recurrence, i)];
    }
    feeds[0].shape = shape_without_first(&feeds[0].shape);
    backward->into = feeds + recurrence_gradient_count(recurrence);
    for (size_t i = 0; i < 1 + recurrence->state_count; i++) {
        backward->into[i] = backward->run->inputs[recurrence_d_output_input(recurrence) + i];
        if (i == 0) {
            backward->into[i].shape = shape_without_first(&backward->into[i].shape);
        }
        backward->into[i].data = recurrence_take(scratch, tensor_bytes(&backward->into[i]));
    }
}

static enum status compute_recurrence_grad(const struct op_run *run, struct error *error)
{
    struct backward backward = {.run = run, .prepared = run->prepared, .recurrence = recurrence_of(run->node)};
    struct recurrence_scratch scratch = {run->scratch};
    backward.mask = mask_of(run->node);
    int64_t *lengths = recurrence_take(&scratch, (size_t)run->inputs[0].shape.dimensions[1] * sizeof *lengths);
    TRY(recurrence_read_steps(run, &backward.recurrence, lengths, &backward.steps, error));
    begin(run, &backward.recurrence, backward.mask);
    if (backward.prepared->is_fused) {
        return recurrence_backward(&backward.prepared->stack, run, &backward.recurrence, &backward.steps, &scratch,
                                   error);
    }
    place_step_gradients(&backward, &scratch);
    for (size_t t = backward.steps.count; t-- > 0;) {
        TRY(step_back(&backward, t, error));
    }
    return STATUS_OK;
}

const struct op op_recurrence_grad = {.name = "RecurrenceGrad",
                                      .input_count = OP_INPUTS_ANY,
                                      .flags = OP_RANDOM,
                                      .infer = infer_recurrence_grad,
                                      .compute = compute_recurrence_grad,
                                      .prepare = prepare_recurrence_grad,
                                      .release = release_recurrence_grad};
