/* Fused kernels of BasicLSTMCell, and of LSTMCell without extras. Thread: see op.h.
 *
 * Weights kernel [inputs + units, 4 × units], bias; numbers forget bias; states c, h. Saved: activated gates in the
 * order i, j, f, o. Input products of the whole sequence are one GEMM; so are the weights' gradients. */
#include "engine/graph/ops_recurrence_lstm.h"

#include "engine/math/pointwise.h"

enum { C, H };

struct fused_sums fused_lstm_gates(const struct fused_layer *layer, float *data)
{
    return (struct fused_sums){.data = data, .columns = 4 * layer->units, .stride = 4 * layer->units};
}

void fused_lstm_steps(const struct fused_layer *layer)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    size_t columns = 4 * units;
    struct gemm_packed kernel = fused_pack_hidden(layer, 0, columns, layer->scratch);
    for (size_t t = 0; t < layer->steps->count && !op_run_must_stop(layer->run); t++) {
        float *gates = layer->saved + t * batch * columns;
        fused_add_hidden(layer, fused_before(layer, H, t), &kernel, gates, columns);
        pointwise()->lstm_forward(batch, units, (float)layer->numbers[0], gates, fused_before(layer, C, t),
                                  layer->history[C] + t * batch * units, layer->history[H] + t * batch * units);
        fused_hold(layer, 2, t);
    }
}

static void forward(const struct fused_layer *layer)
{
    struct fused_sums gates = fused_lstm_gates(layer, layer->saved);
    fused_project(layer, &gates);
    fused_lstm_steps(layer);
}

struct fused_sums fused_lstm_steps_back(const struct fused_layer *layer)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    struct gemm_packed kernel = fused_pack_hidden_back(layer, 0, 4 * units, layer->scratch);
    float *d_gates = (float *)layer->scratch + fused_packed_floats(units, 4 * units);
    float *dc = layer->d_state[C];
    float *dh = layer->d_state[H];
    for (size_t t = layer->steps->count; t-- > 0 && !op_run_must_stop(layer->run);) {
        size_t end = 0;
        for (size_t row = 0; fused_next_run(layer->steps, t, &row, &end); row = end) {
            size_t at = (t * batch + row) * units;
            pointwise()->add_to((end - row) * units, layer->d_output + at, dh + row * units);
            pointwise()->lstm_backward(end - row, units, layer->saved + 4 * at, fused_before(layer, C, t) + row * units,
                                       layer->history[C] + at, dh + row * units, dc + row * units, d_gates + 4 * at);
        }
        fused_clear(layer->steps, t, 4 * units, d_gates);
        struct fused_product product = {
            .d_gates = d_gates + t * batch * 4 * units, .stride = 4 * units, .kernel = &kernel};
        fused_back_product(layer, t, &product, dh);
    }
    return fused_lstm_gates(layer, d_gates);
}

static void backward(const struct fused_layer *layer)
{
    struct fused_sums d_gates = fused_lstm_steps_back(layer);
    fused_project_back(layer, &d_gates, false);
    fused_hidden_gradient(layer, H, &d_gates);
}

size_t fused_lstm_forward_floats(size_t rows, size_t batch, size_t units)
{
    (void)rows;
    (void)batch;
    return fused_packed_floats(units, 4 * units);
}

size_t fused_lstm_backward_floats(size_t rows, size_t batch, size_t units)
{
    (void)batch;
    return fused_packed_floats(units, 4 * units) + 4 * rows * units;
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
                                  .forward_floats = fused_lstm_forward_floats,                                         \
                                  .backward_floats = fused_lstm_backward_floats};

LSTM_ROW(fused_lstm, "Add(Mul(s0,Sigmoid(Add(Split{num_split=4}(#1," LSTM_SUM
                     ").2,n0))),Mul(Sigmoid(%4.0),Tanh(%4.1)));Mul(Tanh(%0),Sigmoid(%4.3))")
LSTM_ROW(fused_lstm_operators, "Add(Mul(Sigmoid(Add(Split{num_split=4}(#1," LSTM_SUM
                               ").2,n0)),s0),Mul(Sigmoid(%4.0),Tanh(%4.1)));Mul(Sigmoid(%4.3),Tanh(%0))")
