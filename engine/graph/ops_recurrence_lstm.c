/* Fused kernels of BasicLSTMCell, and of LSTMCell without extras. Thread: see op.h.
 *
 * Weights kernel [inputs + units, 4 × units], bias; numbers forget bias; states c, h. Saved: activated gates in the
 * order i, j, f, o. Input products of a span of steps are one GEMM; so are the weights' gradients. */
#include "engine/graph/ops_recurrence_fused.h"
#include "engine/math/pointwise.h"

enum { C, H };

/* The gates before activation of a span, or their gradients. */
static struct fused_sums gates_of(const struct fused_layer *layer, struct fused_span span, float *data)
{
    return (struct fused_sums){.span = span, .data = data, .columns = 4 * layer->units, .stride = 4 * layer->units};
}

static void run_steps(const struct fused_layer *layer, const struct fused_sums *gates, const struct gemm_packed *kernel)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    float *step = gates->data;
    for (size_t t = gates->span.begin; t < gates->span.end && !op_run_must_stop(layer->run); t++) {
        fused_add_hidden(layer, fused_before(layer, H, t), kernel, step, 4 * units);
        pointwise()->lstm_forward(batch, units, (float)layer->numbers[0], step, fused_before(layer, C, t),
                                  layer->history[C] + t * batch * units, layer->history[H] + t * batch * units);
        fused_hold(layer, 2, t);
        step += batch * 4 * units;
    }
}

static void forward(const struct fused_layer *layer)
{
    size_t columns = 4 * layer->units;
    struct gemm_packed kernel = fused_pack_hidden(layer, 0, columns, layer->scratch);
    struct fused_span span = {0, 0};
    while (fused_next_span(layer, &span)) {
        struct fused_sums gates = gates_of(layer, span, layer->saved + span.begin * layer->steps->batch * columns);
        fused_project(layer, &gates);
        run_steps(layer, &gates, &kernel);
    }
}

static void step_back(const struct fused_layer *layer, size_t t, const struct gemm_packed *kernel, float *d_gates)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    float *dc = layer->d_state[C];
    float *dh = layer->d_state[H];
    size_t end = 0;
    for (size_t row = 0; fused_next_run(layer->steps, t, &row, &end); row = end) {
        size_t at = (t * batch + row) * units;
        pointwise()->add_to((end - row) * units, layer->d_output + at, dh + row * units);
        pointwise()->lstm_backward(end - row, units, layer->saved + 4 * at, fused_before(layer, C, t) + row * units,
                                   layer->history[C] + at, dh + row * units, dc + row * units,
                                   d_gates + row * 4 * units);
    }
    fused_clear(layer->steps, t, 4 * units, d_gates);
    struct fused_product product = {.d_gates = d_gates, .stride = 4 * units, .kernel = kernel};
    fused_back_product(layer, t, &product, dh);
}

static void backward(const struct fused_layer *layer)
{
    size_t units = layer->units;
    struct gemm_packed kernel = fused_pack_hidden_back(layer, 0, 4 * units, layer->scratch);
    float *scratch = (float *)layer->scratch + fused_packed_floats(units, 4 * units);
    struct fused_span span = {layer->steps->count, layer->steps->count};
    while (fused_span_before(layer, &span)) {
        struct fused_sums d_gates = gates_of(layer, span, scratch);
        for (size_t t = span.end; t-- > span.begin && !op_run_must_stop(layer->run);) {
            step_back(layer, t, &kernel, scratch + (t - span.begin) * layer->steps->batch * 4 * units);
        }
        fused_project_back(layer, &d_gates, false);
        fused_hidden_gradient(layer, H, &d_gates);
    }
}

/* The packed kernel. */
static size_t forward_floats(size_t rows, size_t batch, size_t units)
{
    (void)rows;
    (void)batch;
    return fused_packed_floats(units, 4 * units);
}

/* The packed kernel; d_gates of a span. */
static size_t backward_floats(size_t rows, size_t batch, size_t units)
{
    return fused_packed_floats(units, 4 * units) + fused_span_rows(rows, batch) * 4 * units;
}

#define LSTM_SUM "BiasAdd(MatMul(ConcatV2(x,s1,#1),w0),w1)"

#define LSTM_ROW(ROW, SIGNATURE)                                                                                       \
    const struct fused_row ROW = {.name = "lstm",                                                                      \
                                  .signature = SIGNATURE,                                                              \
                                  .state_count = 2,                                                                    \
                                  .output_state = H,                                                                   \
                                  .weight_count = 2,                                                                   \
                                  .saved_multiple = 4,                                                                 \
                                  .gate_counts = {4},                                                                  \
                                  .forward = forward,                                                                  \
                                  .backward = backward,                                                                \
                                  .forward_floats = forward_floats,                                                    \
                                  .backward_floats = backward_floats};

LSTM_ROW(fused_lstm, "Add(Mul(s0,Sigmoid(Add(Split{num_split=4}(#1," LSTM_SUM
                     ").2,n0))),Mul(Sigmoid(%4.0),Tanh(%4.1)));Mul(Tanh(%0),Sigmoid(%4.3))")
LSTM_ROW(fused_lstm_operators, "Add(Mul(Sigmoid(Add(Split{num_split=4}(#1," LSTM_SUM
                               ").2,n0)),s0),Mul(Sigmoid(%4.0),Tanh(%4.1)));Mul(Sigmoid(%4.3),Tanh(%0))")
