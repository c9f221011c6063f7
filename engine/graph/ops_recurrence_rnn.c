/* Fused kernels of BasicRNNCell: h' = tanh([x, h] · kernel + bias). Thread: see op.h. Nothing is saved: h' says all. */
#include "engine/graph/ops_recurrence_fused.h"
#include "engine/math/pointwise.h"

static struct fused_sums sums_of(const struct fused_layer *layer, struct fused_span span, float *data)
{
    return (struct fused_sums){.span = span, .data = data, .columns = layer->units, .stride = layer->units};
}

static void forward(const struct fused_layer *layer)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    struct gemm_packed kernel = fused_pack_hidden(layer, 0, units, layer->scratch);
    struct fused_span span = {0, 0};
    while (fused_next_span(layer, &span)) {
        float *step = layer->history[0] + span.begin * batch * units;
        struct fused_sums sums = sums_of(layer, span, step);
        fused_project(layer, &sums);
        for (size_t t = span.begin; t < span.end && !op_run_must_stop(layer->run); t++) {
            fused_add_hidden(layer, fused_before(layer, 0, t), &kernel, step, units);
            pointwise()->tanh(batch * units, step, step);
            fused_hold(layer, 1, t);
            step += batch * units;
        }
    }
}

/* d_sums of rows of a step: dh (1 − h²). */
static void bend_back(size_t count, const float *dh, const float *h, float *d_sums)
{
    for (size_t i = 0; i < count; i++) {
        d_sums[i] = dh[i] * (1.0f - h[i] * h[i]);
    }
}

static void step_back(const struct fused_layer *layer, size_t t, const struct gemm_packed *kernel, float *d_sums)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    float *dh = layer->d_state[0];
    size_t end = 0;
    for (size_t row = 0; fused_next_run(layer->steps, t, &row, &end); row = end) {
        size_t at = (t * batch + row) * units;
        pointwise()->add_to((end - row) * units, layer->d_output + at, dh + row * units);
        bend_back((end - row) * units, dh + row * units, layer->history[0] + at, d_sums + row * units);
    }
    fused_clear(layer->steps, t, units, d_sums);
    struct fused_product product = {.d_gates = d_sums, .stride = units, .kernel = kernel};
    fused_back_product(layer, t, &product, dh);
}

static void backward(const struct fused_layer *layer)
{
    size_t units = layer->units;
    struct gemm_packed kernel = fused_pack_hidden_back(layer, 0, units, layer->scratch);
    float *scratch = (float *)layer->scratch + fused_packed_floats(units, units);
    struct fused_span span = {layer->steps->count, layer->steps->count};
    while (fused_span_before(layer, &span)) {
        struct fused_sums d_sums = sums_of(layer, span, scratch);
        for (size_t t = span.end; t-- > span.begin && !op_run_must_stop(layer->run);) {
            step_back(layer, t, &kernel, scratch + (t - span.begin) * layer->steps->batch * units);
        }
        fused_project_back(layer, &d_sums, false);
        fused_hidden_gradient(layer, 0, &d_sums);
    }
}

/* The packed kernel. */
static size_t forward_floats(size_t rows, size_t batch, size_t units)
{
    (void)rows;
    (void)batch;
    return fused_packed_floats(units, units);
}

/* The packed kernel; d_sums of a span. */
static size_t backward_floats(size_t rows, size_t batch, size_t units)
{
    return fused_packed_floats(units, units) + fused_span_rows(rows, batch) * units;
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
