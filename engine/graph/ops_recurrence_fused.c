/* Running stacks of fused layers, forward and backward, with dropout between them. Thread: see op.h. Owns nothing. */
#include "engine/graph/ops_recurrence_fused.h"

#include "engine/base/check.h"
#include "engine/math/pointwise.h"

/* ---- what kernels share ---- */

void fused_hold(const struct fused_layer *layer, size_t state_count, size_t step)
{
    const struct recurrence_steps *steps = layer->steps;
    for (size_t row = 0; steps->length != NULL && row < steps->batch; row++) {
        for (size_t k = 0; k < state_count && !recurrence_is_active(steps, step, row); k++) {
            memcpy(layer->history[k] + (step * steps->batch + row) * layer->units,
                   fused_before(layer, k, step) + row * layer->units, layer->units * sizeof(float));
        }
    }
}

void fused_clear(const struct recurrence_steps *steps, size_t step, size_t columns, float *rows)
{
    for (size_t row = 0; steps->length != NULL && row < steps->batch; row++) {
        if (!recurrence_is_active(steps, step, row)) {
            memset(rows + row * columns, 0, columns * sizeof(float));
        }
    }
}

void fused_back_product(const struct fused_layer *layer, size_t step, const struct fused_product *product,
                        float *d_before)
{
    const struct recurrence_steps *steps = layer->steps;
    size_t units = layer->units;
    bool adds = product->adds;
    if (!adds && steps->length != NULL) {
        for (size_t row = 0; row < steps->batch; row++) {
            if (recurrence_is_active(steps, step, row)) {
                memset(d_before + row * units, 0, units * sizeof(float));
            }
        }
        adds = true;
    }
    gemm_by_packed(&(struct gemm_packed_product){.m = steps->batch,
                                                 .a = fused_plain(product->d_gates, product->stride),
                                                 .b = product->kernel,
                                                 .beta = adds ? 1 : 0,
                                                 .c = d_before,
                                                 .c_stride = units});
}

struct gemm_packed fused_pack_hidden(const struct fused_layer *layer, size_t pair, size_t columns, float *room)
{
    return gemm_pack(gemm_packed_kernels(), layer->units, columns,
                     fused_plain(fused_hidden_kernel(layer, pair, columns), columns), room);
}

struct gemm_packed fused_pack_hidden_back(const struct fused_layer *layer, size_t pair, size_t columns, float *room)
{
    return gemm_pack(gemm_packed_kernels(), columns, layer->units,
                     fused_transposed(fused_hidden_kernel(layer, pair, columns), columns), room);
}

void fused_add_hidden(const struct fused_layer *layer, const float *states, const struct gemm_packed *kernel,
                      float *sums, size_t stride)
{
    gemm_by_packed(&(struct gemm_packed_product){.m = layer->steps->batch,
                                                 .a = fused_plain(states, layer->units),
                                                 .b = kernel,
                                                 .beta = 1,
                                                 .c = sums,
                                                 .c_stride = stride});
}

static size_t row_count(const struct fused_layer *layer, struct fused_span span)
{
    return (span.end - span.begin) * layer->steps->batch;
}

/* The first row of a span in a sequence. */
static size_t first_row(const struct fused_layer *layer, struct fused_span span)
{
    return span.begin * layer->steps->batch;
}

/* Where the kernel's row for a symbol begins; false where the symbol is out of range and so has none. */
static bool find_kernel_row(const struct fused_layer *layer, size_t row, size_t columns, size_t *ret_at)
{
    int32_t symbol = layer->symbols[row];
    if (symbol < 0 || (size_t)symbol >= layer->inputs) {
        return false;
    }
    *ret_at = (size_t)symbol * columns;
    return true;
}

void fused_project(const struct fused_layer *layer, const struct fused_sums *sums)
{
    size_t rows = row_count(layer, sums->span);
    size_t first = first_row(layer, sums->span);
    size_t columns = sums->columns;
    const float *kernel = layer->weights[2 * sums->pair];
    for (size_t row = 0; row < rows; row++) {
        size_t at;
        float *to = sums->data + row * sums->stride;
        memcpy(to, layer->weights[2 * sums->pair + 1], columns * sizeof *to);
        if (layer->symbols != NULL && find_kernel_row(layer, first + row, columns, &at)) {
            pointwise()->add_to(columns, kernel + at, to);
        }
    }
    if (layer->symbols == NULL) {
        gemm(rows, columns, layer->inputs, fused_plain(layer->x + first * layer->inputs, layer->inputs),
             fused_plain(kernel, columns), 1, sums->data, sums->stride);
    }
}

void fused_project_back(const struct fused_layer *layer, const struct fused_sums *d_sums, bool adds)
{
    size_t rows = row_count(layer, d_sums->span);
    size_t first = first_row(layer, d_sums->span);
    size_t columns = d_sums->columns;
    float *d_kernel = layer->d_weights[2 * d_sums->pair];
    for (size_t row = 0; row < rows; row++) {
        size_t at;
        const float *from = d_sums->data + row * d_sums->stride;
        pointwise()->add_to(columns, from, layer->d_weights[2 * d_sums->pair + 1]);
        if (layer->symbols != NULL && find_kernel_row(layer, first + row, columns, &at)) {
            pointwise()->add_to(columns, from, d_kernel + at);
        }
    }
    if (layer->symbols == NULL) {
        gemm(layer->inputs, columns, rows, fused_transposed(layer->x + first * layer->inputs, layer->inputs),
             fused_plain(d_sums->data, d_sums->stride), 1, d_kernel, columns);
    }
    if (layer->dx != NULL) {
        gemm(rows, layer->inputs, columns, fused_plain(d_sums->data, d_sums->stride),
             fused_transposed(layer->weights[2 * d_sums->pair], columns), adds ? 1 : 0,
             layer->dx + first * layer->inputs, layer->inputs);
    }
}

void fused_hidden_gradient(const struct fused_layer *layer, size_t state, const struct fused_sums *d_sums)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    size_t columns = d_sums->columns;
    size_t begin = d_sums->span.begin;
    const float *data = d_sums->data;
    float *d_kernel = layer->d_weights[2 * d_sums->pair] + layer->inputs * columns;
    if (begin == 0) { /* before the first step are the initial states, which lie elsewhere */
        gemm(units, columns, batch, fused_transposed(layer->initial[state], units), fused_plain(data, d_sums->stride),
             1, d_kernel, columns);
        data += batch * d_sums->stride;
        begin++;
    }
    gemm(units, columns, (d_sums->span.end - begin) * batch, fused_transposed(fused_before(layer, state, begin), units),
         fused_plain(data, d_sums->stride), 1, d_kernel, columns);
}

/* ---- a pass over the stack ---- */

struct pass {
    const struct recurrence_stack *stack;
    const struct op_run *run;
    const struct recurrence *recurrence;
    const struct recurrence_steps *steps;
    float *dropped[FUSED_DROPS_MAX]; /* sequences after dropout */
    float *gradients[2];             /* backward: between the layers, in turn */
    void *scratch;                   /* of one layer's kernel */
};

static size_t widest(const struct recurrence_stack *stack)
{
    size_t columns = 0;
    for (size_t l = 0; l < stack->layer_count; l++) {
        const struct fused_layer_match *layer = &stack->layers[l];
        columns = layer->inputs > columns ? layer->inputs : columns;
        columns = layer->units > columns ? layer->units : columns;
    }
    return columns;
}

static size_t drops_max(const struct recurrence_stack *stack)
{
    size_t count = stack->drops.count;
    for (size_t l = 0; l < stack->layer_count; l++) {
        count = stack->layers[l].drops.count > count ? stack->layers[l].drops.count : count;
    }
    return count;
}

static size_t kernel_floats(const struct recurrence_stack *stack, size_t rows, size_t batch, bool is_backward)
{
    size_t most = 0;
    for (size_t l = 0; l < stack->layer_count; l++) {
        const struct fused_layer_match *layer = &stack->layers[l];
        size_t (*needed)(size_t, size_t, size_t) =
            is_backward ? layer->row->backward_floats : layer->row->forward_floats;
        size_t floats = needed == NULL ? 0 : needed(rows, batch, layer->units);
        most = floats > most ? floats : most;
    }
    return most;
}

static size_t pass_bytes(const struct recurrence_stack *stack, const struct inference *inference, bool is_backward)
{
    size_t batch = (size_t)inference->inputs[0].shape.dimensions[1];
    size_t rows = (size_t)inference->inputs[0].shape.dimensions[0] * batch;
    size_t sequences = drops_max(stack) + (is_backward ? 2 : 0);
    return sequences * recurrence_rounded(rows * widest(stack) * sizeof(float)) +
           recurrence_rounded(kernel_floats(stack, rows, batch, is_backward) * sizeof(float));
}

size_t recurrence_forward_bytes(const struct recurrence_stack *stack, const struct inference *inference)
{
    return pass_bytes(stack, inference, false);
}

size_t recurrence_backward_bytes(const struct recurrence_stack *stack, const struct inference *inference)
{
    return pass_bytes(stack, inference, true);
}

static void take_room(struct pass *pass, struct recurrence_scratch *scratch, bool is_backward)
{
    size_t rows = pass->steps->time * pass->steps->batch;
    size_t bytes = rows * widest(pass->stack) * sizeof(float);
    for (size_t i = 0; i < drops_max(pass->stack); i++) {
        pass->dropped[i] = recurrence_take(scratch, bytes);
    }
    for (size_t i = 0; is_backward && i < 2; i++) {
        pass->gradients[i] = recurrence_take(scratch, bytes);
    }
    pass->scratch = scratch->at;
}

/* ---- dropout ---- */

static struct tensor keep_tensor(const struct pass *pass, struct output keep)
{
    const struct body *body = pass->stack->body;
    if (node_is(keep.node, "Const")) {
        return node_attribute(keep.node, "value")->tensor;
    }
    for (size_t i = 0; i < body->capture_count; i++) {
        if (output_equal(body->inputs[body->argument_count + i], keep)) {
            return pass->run->inputs[pass->recurrence->first_capture + i];
        }
    }
    CHECK(false);
}

/* One dropout over all steps, by the op's own kernel. A mask is its own gradient's, so backward is the same. */
static enum status drop(const struct pass *pass, const struct fused_drops *drops, size_t index, size_t columns,
                        const float *from, float *to, struct error *error)
{
    const struct node *node = drops->node[index];
    size_t step_size = pass->steps->batch * columns;
    struct shape shape = shape_matrix((int64_t)pass->steps->batch, (int64_t)columns);
    struct tensor inputs[] = {{DTYPE_FLOAT32, shape, NULL}, keep_tensor(pass, drops->keep[index])};
    struct tensor output = {DTYPE_FLOAT32, shape, NULL};
    for (size_t t = 0; t < pass->steps->count; t++) {
        inputs[0].data = (void *)(uintptr_t)(from + t * step_size);
        output.data = to + t * step_size;
        struct op_run run = {.node = node,
                             .inputs = inputs,
                             .input_count = 2,
                             .outputs = &output,
                             .random_key = recurrence_step_key(pass->run->random_key, t),
                             .loop_key = pass->run->random_key};
        TRY(node->op->compute(&run, error));
    }
    return STATUS_OK;
}

/* A layer's input: what the layer before yields, after dropout. */
static enum status drop_forward(const struct pass *pass, const struct fused_drops *drops, size_t columns,
                                const float *from, const float **ret_x, struct error *error)
{
    for (size_t i = 0; i < drops->count; i++) {
        TRY(drop(pass, drops, i, columns, from, pass->dropped[i], error));
        from = pass->dropped[i];
    }
    *ret_x = from;
    return STATUS_OK;
}

/* The gradient before the dropouts, from that after them, using the pass's two sequences in turn; `last` (may be NULL)
 * is where it is to end. */
static enum status drop_backward(const struct pass *pass, const struct fused_drops *drops, size_t columns,
                                 const float *from, float *last, const float **ret_gradient, struct error *error)
{
    for (size_t i = drops->count; i-- > 0;) {
        float *to = from == pass->gradients[0] ? pass->gradients[1] : pass->gradients[0];
        to = i == 0 && last != NULL ? last : to;
        TRY(drop(pass, drops, i, columns, from, to, error));
        from = to;
    }
    *ret_gradient = from;
    return STATUS_OK;
}

/* ---- layers ---- */

/* What forward and backward tell a layer's kernel; states and histories are elsewhere among the tensors. */
static struct fused_layer begin_layer(const struct pass *pass, const struct fused_layer_match *match, const float *x,
                                      float *saved)
{
    const struct op_run *run = pass->run;
    bool takes_symbols = pass->stack->takes_symbols && match == &pass->stack->layers[0];
    struct fused_layer layer = {.run = run,
                                .steps = pass->steps,
                                .inputs = match->inputs,
                                .units = match->units,
                                .x = x,
                                .symbols = takes_symbols ? run->inputs[0].data : NULL,
                                .scratch = pass->scratch};
    size_t rows = pass->steps->time * pass->steps->batch;
    layer.saved = saved + rows * match->saved_columns_before;
    for (size_t w = 0; w < match->row->weight_count; w++) {
        layer.weights[w] = run->inputs[pass->recurrence->first_capture + match->captures[w]].data;
    }
    for (size_t k = 0; k < match->row->state_count; k++) {
        layer.initial[k] = run->inputs[pass->recurrence->first_state + match->first_state + k].data;
    }
    memcpy(layer.numbers, match->numbers, sizeof layer.numbers);
    return layer;
}

static const struct fused_layer_match *last_layer(const struct recurrence_stack *stack)
{
    return &stack->layers[stack->layer_count - 1];
}

/* The stack's outputs from the last layer's, zero where a sequence is over. */
static enum status yield(const struct pass *pass, const float *from, struct error *error)
{
    size_t columns = last_layer(pass->stack)->units;
    float *to = pass->run->outputs[0].data;
    const float *found = NULL;
    TRY(drop_forward(pass, &pass->stack->drops, columns, from, &found, error));
    memcpy(to, found, pass->steps->count * pass->steps->batch * columns * sizeof(float));
    for (size_t t = 0; t < pass->steps->count; t++) {
        fused_clear(pass->steps, t, columns, to + t * pass->steps->batch * columns);
    }
    return STATUS_OK;
}

enum status recurrence_forward(const struct recurrence_stack *stack, const struct op_run *run,
                               const struct recurrence *recurrence, const struct recurrence_steps *steps,
                               struct recurrence_scratch *scratch, struct error *error)
{
    struct pass pass = {.stack = stack, .run = run, .recurrence = recurrence, .steps = steps};
    const float *x = stack->takes_symbols ? NULL : run->inputs[0].data;
    take_room(&pass, scratch, false);
    for (size_t l = 0; l < stack->layer_count; l++) {
        const struct fused_layer_match *match = &stack->layers[l];
        TRY(drop_forward(&pass, &match->drops, match->inputs, x, &x, error));
        struct fused_layer layer = begin_layer(&pass, match, x, run->outputs[recurrence_saved(recurrence)].data);
        for (size_t k = 0; k < match->row->state_count; k++) {
            layer.history[k] = run->outputs[recurrence_history(recurrence, match->first_state + k)].data;
        }
        match->row->forward(&layer);
        TRY(op_run_check(run, error));
        x = layer.history[match->row->output_state];
    }
    return yield(&pass, x, error);
}

/* ---- backward ---- */

static float *history_of(const struct pass *pass, size_t state)
{
    return pass->run->inputs[recurrence_history_input(pass->recurrence, state)].data;
}

/* What layer `index` was given, before its dropouts. */
static const float *given_to(const struct pass *pass, size_t index)
{
    if (index == 0) {
        return pass->stack->takes_symbols ? NULL : pass->run->inputs[0].data;
    }
    const struct fused_layer_match *before = &pass->stack->layers[index - 1];
    return history_of(pass, before->first_state + before->row->output_state);
}

/* One layer backwards: `d_output` into its outputs, `ret_dx` into what it was given. */
static enum status layer_back(const struct pass *pass, size_t index, const float *d_output, const float **ret_dx,
                              struct error *error)
{
    const struct fused_layer_match *match = &pass->stack->layers[index];
    const struct op_run *run = pass->run;
    const float *x = NULL;
    float *first_dx = index == 0 ? run->outputs[0].data : NULL;
    float *dx = d_output == pass->gradients[0] ? pass->gradients[1] : pass->gradients[0];
    TRY(drop_forward(pass, &match->drops, match->inputs, given_to(pass, index), &x, error));
    struct fused_layer layer = begin_layer(pass, match, x, run->inputs[recurrence_saved_input(pass->recurrence)].data);
    layer.d_output = d_output;
    layer.dx = layer.symbols != NULL ? NULL : first_dx != NULL && match->drops.count == 0 ? first_dx : dx;
    for (size_t k = 0; k < match->row->state_count; k++) {
        layer.history[k] = history_of(pass, match->first_state + k);
        layer.d_state[k] = run->outputs[1 + match->first_state + k].data;
    }
    for (size_t w = 0; w < match->row->weight_count; w++) {
        layer.d_weights[w] = run->outputs[1 + pass->recurrence->state_count + match->captures[w]].data;
    }
    match->row->backward(&layer);
    TRY(op_run_check(run, error));
    return drop_backward(pass, &match->drops, match->inputs, layer.dx, first_dx, ret_dx, error);
}

enum status recurrence_backward(const struct recurrence_stack *stack, const struct op_run *run,
                                const struct recurrence *recurrence, const struct recurrence_steps *steps,
                                struct recurrence_scratch *scratch, struct error *error)
{
    struct pass pass = {.stack = stack, .run = run, .recurrence = recurrence, .steps = steps};
    const float *gradient = run->inputs[recurrence_d_output_input(recurrence)].data;
    take_room(&pass, scratch, true);
    if (steps->count == 0) {
        return STATUS_OK;
    }
    TRY(drop_backward(&pass, &stack->drops, last_layer(stack)->units, gradient, NULL, &gradient, error));
    for (size_t l = stack->layer_count; l-- > 0;) {
        TRY(layer_back(&pass, l, gradient, &gradient, error));
    }
    return STATUS_OK;
}
