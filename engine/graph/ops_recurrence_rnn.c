/* Fused kernels of BasicRNNCell: h' = tanh([x, h] · kernel + bias). Thread: see op.h. Nothing is saved: h' says all. */
#include "engine/graph/ops_recurrence_fused.h"
#include "engine/math/pointwise.h"

static const float *kernel_h(const struct fused_layer *layer)
{
    return layer->weights[0] + layer->inputs * layer->units;
}

static void forward(const struct fused_layer *layer)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    size_t rows = layer->steps->count * batch;
    float *h = layer->history[0];
    for (size_t row = 0; row < rows; row++) {
        memcpy(h + row * units, layer->weights[1], units * sizeof(float));
    }
    gemm(rows, units, layer->inputs, fused_plain(layer->x, layer->inputs), fused_plain(layer->weights[0], units), 1, h,
         units);
    for (size_t t = 0; t < layer->steps->count && !op_run_must_stop(layer->run); t++) {
        float *step = h + t * batch * units;
        gemm(batch, units, units, fused_plain(fused_before(layer, 0, t), units), fused_plain(kernel_h(layer), units), 1,
             step, units);
        pointwise()->tanh(batch * units, step, step);
        fused_hold(layer, 1, t);
    }
}

/* d_sums of rows of a step: dh (1 − h²). */
static void bend_back(size_t count, const float *dh, const float *h, float *d_sums)
{
    for (size_t i = 0; i < count; i++) {
        d_sums[i] = dh[i] * (1.0f - h[i] * h[i]);
    }
}

static void steps_back(const struct fused_layer *layer, float *d_sums)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    float *dh = layer->d_state[0];
    for (size_t t = layer->steps->count; t-- > 0 && !op_run_must_stop(layer->run);) {
        size_t end = 0;
        for (size_t row = 0; fused_next_run(layer->steps, t, &row, &end); row = end) {
            size_t at = (t * batch + row) * units;
            pointwise()->add_to((end - row) * units, layer->d_output + at, dh + row * units);
            bend_back((end - row) * units, dh + row * units, layer->history[0] + at, d_sums + at);
        }
        fused_clear(layer->steps, t, units, d_sums);
        struct fused_product product = {.d_gates = d_sums + t * batch * units,
                                        .stride = units,
                                        .columns = units,
                                        .kernel = kernel_h(layer),
                                        .kernel_stride = units};
        fused_back_product(layer, t, &product, dh);
    }
}

static void backward(const struct fused_layer *layer)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    size_t rows = layer->steps->count * batch;
    float *d_sums = layer->scratch;
    float *d_kernel_h = layer->d_weights[0] + layer->inputs * units;
    if (rows == 0) {
        return;
    }
    steps_back(layer, d_sums);
    for (size_t row = 0; row < rows; row++) {
        pointwise()->add_to(units, d_sums + row * units, layer->d_weights[1]);
    }
    gemm(layer->inputs, units, rows, fused_transposed(layer->x, layer->inputs), fused_plain(d_sums, units), 1,
         layer->d_weights[0], units);
    gemm(units, units, batch, fused_transposed(layer->initial[0], units), fused_plain(d_sums, units), 1, d_kernel_h,
         units);
    gemm(units, units, rows - batch, fused_transposed(layer->history[0], units),
         fused_plain(d_sums + batch * units, units), 1, d_kernel_h, units);
    if (layer->dx != NULL) {
        gemm(rows, layer->inputs, units, fused_plain(d_sums, units), fused_transposed(layer->weights[0], units), 0,
             layer->dx, layer->inputs);
    }
}

static size_t forward_floats(size_t rows, size_t batch, size_t units)
{
    (void)rows;
    (void)batch;
    (void)units;
    return 0;
}

/* d_sums. */
static size_t backward_floats(size_t rows, size_t batch, size_t units)
{
    (void)batch;
    return rows * units;
}

const struct fused_row fused_rnn = {.name = "rnn",
                                    .signature = "Tanh(BiasAdd(MatMul(ConcatV2(x,s0,#1),w0),w1))",
                                    .state_count = 1,
                                    .output_state = 0,
                                    .weight_count = 2,
                                    .saved_multiple = 0,
                                    .gate_counts = {1},
                                    .forward = forward,
                                    .backward = backward,
                                    .forward_floats = forward_floats,
                                    .backward_floats = backward_floats};
