/* An LSTM layer over time as one op, with its gradient, which also takes symbols for one-hot vectors: the layers of
 * language_model. Its steps are those of dynamic_rnn's fused LSTM. Thread: see op.h.
 *
 * LstmBlock: x [time, batch, inputs], or int32 symbols [time, batch] standing for their one-hot vectors; c, h [batch,
 * units]; kernel [inputs + units, 4 × units]; bias [4 × units]; attribute forget_bias. Outputs: h of every step [time,
 * batch, units], the last c and h, and what the gradient needs: activated gates [time, batch, 4 × units] in the order
 * i, j, f, o, and c of every step. */
#include "engine/base/check.h"
#include "engine/graph/graph_private.h"
#include "engine/graph/op.h"
#include "engine/graph/ops_recurrence_fused.h"

enum { INPUT_X, INPUT_C, INPUT_H, INPUT_KERNEL, INPUT_BIAS, INPUT_COUNT };
enum { OUTPUT_H, OUTPUT_LAST_C, OUTPUT_LAST_H, OUTPUT_GATES, OUTPUT_C, OUTPUT_COUNT };

/* The sizes of one layer, from its fully known shapes. */
struct layer {
    size_t time;
    size_t batch;
    size_t inputs;
    size_t units;
    size_t rows; /* time × batch */
    bool takes_symbols;
};

static struct layer layer_of(const struct tensor *x, const struct tensor *c, const struct tensor *kernel)
{
    struct layer layer = {.time = (size_t)x->shape.dimensions[0],
                          .batch = (size_t)x->shape.dimensions[1],
                          .units = (size_t)c->shape.dimensions[1],
                          .takes_symbols = x->dtype == DTYPE_INT32};
    layer.inputs = (size_t)kernel->shape.dimensions[0] - layer.units;
    layer.rows = layer.time * layer.batch;
    return layer;
}

static int64_t dimension_of(const struct shape *shape, int index)
{
    return shape->rank == SHAPE_RANK_UNKNOWN ? DIMENSION_UNKNOWN : shape->dimensions[index];
}

static enum status check_equal(const struct inference *inference, int64_t a, int64_t b, struct error *error)
{
    return a == DIMENSION_UNKNOWN || b == DIMENSION_UNKNOWN || a == b ? STATUS_OK
                                                                      : op_dimensions_error(inference, a, b, error);
}

static enum status infer_lstm(struct inference *inference, struct error *error)
{
    const struct output_type *x = &inference->inputs[INPUT_X];
    bool takes_symbols = x->dtype == DTYPE_INT32;
    TRY(op_expect(inference, INPUT_X, takes_symbols ? DTYPE_INT32 : DTYPE_FLOAT32, takes_symbols ? 2 : 3, error));
    TRY(op_expect(inference, INPUT_C, DTYPE_FLOAT32, 2, error));
    TRY(op_expect(inference, INPUT_H, DTYPE_FLOAT32, 2, error));
    TRY(op_expect(inference, INPUT_KERNEL, DTYPE_FLOAT32, 2, error));
    TRY(op_expect(inference, INPUT_BIAS, DTYPE_FLOAT32, 1, error));
    int64_t columns = dimension_of(&inference->inputs[INPUT_KERNEL].shape, 1);
    int64_t units = columns == DIMENSION_UNKNOWN ? DIMENSION_UNKNOWN : columns / 4;
    int64_t time = dimension_of(&x->shape, 0);
    int64_t batch = dimension_of(&x->shape, 1);
    int64_t kernel_rows = dimension_of(&inference->inputs[INPUT_KERNEL].shape, 0);
    if (columns % 4 != 0 || units == 0) {
        return op_shape_error(inference, error, "A kernel of %lld columns has no four gates", (long long)columns);
    }
    TRY(check_equal(inference, dimension_of(&inference->inputs[INPUT_BIAS].shape, 0), columns, error));
    for (size_t state = INPUT_C; state <= INPUT_H; state++) {
        TRY(check_equal(inference, dimension_of(&inference->inputs[state].shape, 0), batch, error));
        TRY(check_equal(inference, dimension_of(&inference->inputs[state].shape, 1), units, error));
    }
    if (!takes_symbols && x->shape.rank == 3 && x->shape.dimensions[2] != DIMENSION_UNKNOWN &&
        kernel_rows != DIMENSION_UNKNOWN) {
        TRY(check_equal(inference, x->shape.dimensions[2] + units, kernel_rows, error));
    }
    if (kernel_rows != DIMENSION_UNKNOWN && kernel_rows <= units) {
        return op_shape_error(inference, error, "A kernel of %lld rows has none for the input of %lld units",
                              (long long)kernel_rows, (long long)units);
    }
    inference->outputs[OUTPUT_H] = (struct output_type){DTYPE_FLOAT32, shape_cube(time, batch, units)};
    inference->outputs[OUTPUT_LAST_C] = (struct output_type){DTYPE_FLOAT32, shape_matrix(batch, units)};
    inference->outputs[OUTPUT_LAST_H] = inference->outputs[OUTPUT_LAST_C];
    inference->outputs[OUTPUT_GATES] = (struct output_type){DTYPE_FLOAT32, shape_cube(time, batch, columns)};
    inference->outputs[OUTPUT_C] = inference->outputs[OUTPUT_H];
    inference->output_count = OUTPUT_COUNT;
    return STATUS_OK;
}

static enum status check_symbols(const struct op_run *run, const int32_t *symbols, const struct layer *layer,
                                 struct error *error)
{
    for (size_t i = 0; i < layer->rows; i++) {
        if (symbols[i] < 0 || (size_t)symbols[i] >= layer->inputs) {
            return op_run_error(run, error, "indices[%zu] = %d is not in [0, %zu)", i, symbols[i], layer->inputs);
        }
    }
    return STATUS_OK;
}

/* The layer as the fused kernel of Recurrence takes it; states and histories are elsewhere among the tensors. */
static struct fused_layer fused_of(const struct op_run *run, const struct layer *layer,
                                   const struct recurrence_steps *steps)
{
    return (struct fused_layer){
        .run = run,
        .scratch = run->scratch,
        .steps = steps,
        .inputs = layer->inputs,
        .units = layer->units,
        .x = layer->takes_symbols ? NULL : run->inputs[INPUT_X].data,
        .symbols = layer->takes_symbols ? run->inputs[INPUT_X].data : NULL,
        .weights = {run->inputs[INPUT_KERNEL].data, run->inputs[INPUT_BIAS].data},
        .numbers = {node_attribute_number(run->node, "forget_bias", 1)},
        .initial = {run->inputs[INPUT_C].data, run->inputs[INPUT_H].data},
    };
}

/* x's and c's places are the same in the gradient. */
static size_t scratch_bytes(const struct inference *inference, size_t (*floats)(size_t, size_t, size_t))
{
    const struct shape *x = &inference->inputs[INPUT_X].shape;
    const struct shape *c = &inference->inputs[INPUT_C].shape;
    size_t batch = (size_t)x->dimensions[1];
    return floats((size_t)x->dimensions[0] * batch, batch, (size_t)c->dimensions[1]) * sizeof(float);
}

static size_t lstm_scratch_bytes(const struct inference *inference)
{
    return scratch_bytes(inference, fused_lstm.forward_floats);
}

static enum status compute_lstm(const struct op_run *run, struct error *error)
{
    struct layer layer = layer_of(&run->inputs[INPUT_X], &run->inputs[INPUT_C], &run->inputs[INPUT_KERNEL]);
    struct recurrence_steps steps = {.time = layer.time, .batch = layer.batch, .count = layer.time};
    struct fused_layer fused = fused_of(run, &layer, &steps);
    size_t state_bytes = layer.batch * layer.units * sizeof(float);
    fused.history[0] = run->outputs[OUTPUT_C].data;
    fused.history[1] = run->outputs[OUTPUT_H].data;
    fused.saved = run->outputs[OUTPUT_GATES].data;
    if (layer.takes_symbols) {
        TRY(check_symbols(run, fused.symbols, &layer, error));
    }
    fused_lstm.forward(&fused);
    TRY(op_run_check(run, error));
    memcpy(run->outputs[OUTPUT_LAST_C].data, fused_before(&fused, 0, layer.time), state_bytes);
    memcpy(run->outputs[OUTPUT_LAST_H].data, fused_before(&fused, 1, layer.time), state_bytes);
    return STATUS_OK;
}

/* ---- LstmBlockGrad: the forward's inputs but the bias, its h, gates and c, then dh, d last c, d last h ---- */

enum {
    GRAD_X,
    GRAD_C0,
    GRAD_H0,
    GRAD_KERNEL,
    GRAD_BIAS,
    GRAD_H,
    GRAD_GATES,
    GRAD_C,
    GRAD_DH,
    GRAD_D_LAST_C,
    GRAD_D_LAST_H,
    GRAD_INPUT_COUNT
};

/* Outputs: dx, dc0, dh0, dkernel, dbias: the shapes of the forward's inputs. dx of symbols is empty. */
static enum status infer_lstm_grad(struct inference *inference, struct error *error)
{
    (void)error;
    for (size_t i = 0; i < INPUT_COUNT; i++) {
        inference->outputs[i] = inference->inputs[i];
    }
    if (inference->inputs[GRAD_X].dtype == DTYPE_INT32) {
        inference->outputs[GRAD_X] = (struct output_type){DTYPE_FLOAT32, shape_vector(0)};
    }
    inference->output_count = INPUT_COUNT;
    return STATUS_OK;
}

static size_t lstm_grad_scratch_bytes(const struct inference *inference)
{
    return scratch_bytes(inference, fused_lstm.backward_floats);
}

static enum status compute_lstm_grad(const struct op_run *run, struct error *error)
{
    struct layer layer = layer_of(&run->inputs[GRAD_X], &run->inputs[GRAD_C0], &run->inputs[GRAD_KERNEL]);
    struct recurrence_steps steps = {.time = layer.time, .batch = layer.batch, .count = layer.time};
    struct fused_layer fused = fused_of(run, &layer, &steps);
    size_t state_bytes = layer.batch * layer.units * sizeof(float);
    fused.history[0] = run->inputs[GRAD_C].data;
    fused.history[1] = run->inputs[GRAD_H].data;
    fused.saved = run->inputs[GRAD_GATES].data;
    fused.d_output = run->inputs[GRAD_DH].data;
    fused.d_state[0] = run->outputs[GRAD_C0].data;
    fused.d_state[1] = run->outputs[GRAD_H0].data;
    memcpy(fused.d_state[0], run->inputs[GRAD_D_LAST_C].data, state_bytes);
    memcpy(fused.d_state[1], run->inputs[GRAD_D_LAST_H].data, state_bytes);
    fused.d_weights[0] = run->outputs[GRAD_KERNEL].data;
    fused.d_weights[1] = run->outputs[GRAD_BIAS].data;
    memset(fused.d_weights[0], 0, tensor_bytes(&run->outputs[GRAD_KERNEL]));
    memset(fused.d_weights[1], 0, tensor_bytes(&run->outputs[GRAD_BIAS]));
    fused.dx = layer.takes_symbols ? NULL : run->outputs[GRAD_X].data;
    fused_lstm.backward(&fused);
    return op_run_check(run, error);
}

const struct op op_lstm_grad = {.name = "LstmBlockGrad",
                                .input_count = GRAD_INPUT_COUNT,
                                .infer = infer_lstm_grad,
                                .compute = compute_lstm_grad,
                                .scratch_bytes = lstm_grad_scratch_bytes};

/* The gradient of one output, or zeros in its shape. */
static enum status gradient_or_zeros(struct graph *graph, struct output gradient, struct output like,
                                     struct output *ret_output, struct error *error)
{
    if (gradient.node != NULL) {
        *ret_output = gradient;
        return STATUS_OK;
    }
    return graph_add(graph, "ZerosLike", NULL, &like, 1, ret_output, error);
}

static enum status gradient_lstm(struct graph *graph, const struct node *node, const struct output *gradients,
                                 struct output *ret, struct error *error)
{
    if (gradients[OUTPUT_GATES].node != NULL || gradients[OUTPUT_C].node != NULL) {
        return error_set(error, STATUS_UNSUPPORTED, "'%s' (op: 'LstmBlock'): gates and inner c are not differentiated",
                         node->name);
    }
    struct node *own = graph_node(graph, node->id);
    struct output inputs[GRAD_INPUT_COUNT];
    memcpy(inputs, node->inputs, INPUT_COUNT * sizeof *inputs);
    inputs[GRAD_H] = (struct output){own, OUTPUT_H};
    inputs[GRAD_GATES] = (struct output){own, OUTPUT_GATES};
    inputs[GRAD_C] = (struct output){own, OUTPUT_C};
    for (uint32_t i = 0; i < 3; i++) {
        TRY(gradient_or_zeros(graph, gradients[OUTPUT_H + i], (struct output){own, OUTPUT_H + i}, &inputs[GRAD_DH + i],
                              error));
    }
    struct node_options options = {.inputs = inputs, .input_count = GRAD_INPUT_COUNT};
    struct node *grad = NULL;
    TRY(graph_add_node(graph, "LstmBlockGrad", &options, &grad, error));
    bool takes_symbols = output_type(node->inputs[INPUT_X])->dtype == DTYPE_INT32;
    for (uint32_t i = 0; i < INPUT_COUNT; i++) {
        ret[i] = i == INPUT_X && takes_symbols ? (struct output){NULL, 0} : (struct output){grad, i};
    }
    return STATUS_OK;
}

const struct op op_lstm = {.name = "LstmBlock",
                           .input_count = INPUT_COUNT,
                           .infer = infer_lstm,
                           .compute = compute_lstm,
                           .scratch_bytes = lstm_scratch_bytes,
                           .gradient = gradient_lstm};
