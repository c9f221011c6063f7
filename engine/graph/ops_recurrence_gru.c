/* Fused kernels of GRUCell. Thread: see op.h.
 *   r|u = σ([x, h]Kg + bg); k = tanh([x, r∘h]Kc + bc); h' = u∘h + (1 − u)∘k
 * Weights Kg [inputs + units, 2 × units], bg, Kc [inputs + units, units], bc. Saved: r, u, k of every row. */
#include "engine/graph/ops_recurrence_fused.h"
#include "engine/math/pointwise.h"

enum { GATES, CANDIDATE }; /* the pairs of weights */

static struct fused_sums gates_of(const struct fused_layer *layer, struct fused_span span, float *data)
{
    size_t units = layer->units;
    return (struct fused_sums){.span = span, .data = data, .pair = GATES, .columns = 2 * units, .stride = 3 * units};
}

static struct fused_sums candidate_of(const struct fused_layer *layer, struct fused_span span, float *data)
{
    size_t units = layer->units;
    return (struct fused_sums){
        .span = span, .data = data + 2 * units, .pair = CANDIDATE, .columns = units, .stride = 3 * units};
}

/* Both kernels' rows for the state, packed; and the scratch behind them. */
struct hidden_kernels {
    struct gemm_packed gates;
    struct gemm_packed candidate;
    float *rest;
};

static size_t kernels_floats(size_t units)
{
    return fused_packed_floats(units, 2 * units) + fused_packed_floats(units, units);
}

static struct hidden_kernels pack(const struct fused_layer *layer,
                                  struct gemm_packed (*pack_one)(const struct fused_layer *layer, size_t pair,
                                                                 size_t columns, float *room))
{
    size_t units = layer->units;
    float *room = layer->scratch;
    return (struct hidden_kernels){.gates = pack_one(layer, GATES, 2 * units, room),
                                   .candidate =
                                       pack_one(layer, CANDIDATE, units, room + fused_packed_floats(units, 2 * units)),
                                   .rest = room + kernels_floats(units)};
}

static void run_steps(const struct fused_layer *layer, struct fused_span span, const struct hidden_kernels *kernels,
                      float *gates)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    float *reset_h = kernels->rest;
    for (size_t t = span.begin; t < span.end && !op_run_must_stop(layer->run); t++) {
        const float *before = fused_before(layer, 0, t);
        fused_add_hidden(layer, before, &kernels->gates, gates, 3 * units);
        pointwise()->gru_gates(batch, units, gates, before, reset_h);
        fused_add_hidden(layer, reset_h, &kernels->candidate, gates + 2 * units, 3 * units);
        pointwise()->gru_forward(batch, units, gates, before, layer->history[0] + t * batch * units);
        fused_hold(layer, 1, t);
        gates += batch * 3 * units;
    }
}

static void forward(const struct fused_layer *layer)
{
    struct hidden_kernels kernels = pack(layer, fused_pack_hidden);
    struct fused_span span = {0, 0};
    while (fused_next_span(layer, &span)) {
        float *gates = layer->saved + span.begin * layer->steps->batch * 3 * layer->units;
        struct fused_sums gate_sums = gates_of(layer, span, gates);
        struct fused_sums candidate_sums = candidate_of(layer, span, gates);
        fused_project(layer, &gate_sums);
        fused_project(layer, &candidate_sums);
        run_steps(layer, span, &kernels, gates);
    }
}

/* One step backwards: dh becomes the gradient into h before it. d_gates: of the step; d_reset_h [batch, units]. */
static void step_back(const struct fused_layer *layer, const struct hidden_kernels *kernels, size_t step,
                      float *d_gates, float *d_reset_h)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    float *dh = layer->d_state[0];
    size_t end = 0;
    for (size_t row = 0; fused_next_run(layer->steps, step, &row, &end); row = end) {
        size_t at = (step * batch + row) * units;
        pointwise()->add_to((end - row) * units, layer->d_output + at, dh + row * units);
        pointwise()->gru_backward(end - row, units, layer->saved + 3 * at, fused_before(layer, 0, step) + row * units,
                                  dh + row * units, d_gates + row * 3 * units);
    }
    fused_clear(layer->steps, step, 3 * units, d_gates);
    gemm_by_packed(&(struct gemm_packed_product){.m = batch,
                                                 .a = fused_plain(d_gates + 2 * units, 3 * units),
                                                 .b = &kernels->candidate,
                                                 .c = d_reset_h,
                                                 .c_stride = units});
    for (size_t row = 0; fused_next_run(layer->steps, step, &row, &end); row = end) {
        size_t at = (step * batch + row) * units;
        pointwise()->gru_gates_backward(end - row, units, layer->saved + 3 * at,
                                        fused_before(layer, 0, step) + row * units, d_reset_h + row * units,
                                        dh + row * units, d_gates + row * 3 * units);
    }
    struct fused_product product = {.d_gates = d_gates, .stride = 3 * units, .kernel = &kernels->gates, .adds = true};
    fused_back_product(layer, step, &product, dh);
}

/* r ∘ h of every row of a span, as the candidate saw it. */
static void reset_again(const struct fused_layer *layer, struct fused_span span, float *reset_h)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    const float *reset = layer->saved + span.begin * batch * 3 * units;
    for (size_t step = span.begin; step < span.end; step++) {
        const float *before = fused_before(layer, 0, step);
        for (size_t row = 0; row < batch; row++) {
            for (size_t u = 0; u < units; u++) {
                reset_h[u] = reset[u] * before[row * units + u];
            }
            reset_h += units;
            reset += 3 * units;
        }
    }
}

/* The gradients by the weights, and dx, of a span; room for r ∘ h. */
static void span_gradients(const struct fused_layer *layer, struct fused_span span, float *data, float *reset_h)
{
    size_t units = layer->units;
    struct fused_sums d_gates = gates_of(layer, span, data);
    struct fused_sums d_candidate = candidate_of(layer, span, data);
    fused_project_back(layer, &d_gates, false);
    fused_project_back(layer, &d_candidate, true);
    fused_hidden_gradient(layer, 0, &d_gates);
    reset_again(layer, span, reset_h);
    gemm(units, units, (span.end - span.begin) * layer->steps->batch, fused_transposed(reset_h, units),
         fused_plain(d_candidate.data, d_candidate.stride), 1, layer->d_weights[2 * CANDIDATE] + layer->inputs * units,
         units);
}

static void backward(const struct fused_layer *layer)
{
    size_t batch = layer->steps->batch;
    size_t units = layer->units;
    struct hidden_kernels kernels = pack(layer, fused_pack_hidden_back);
    float *d_reset_h = kernels.rest;
    float *reset_h = d_reset_h + batch * units;
    float *d_gates = reset_h + fused_span_rows(layer->steps->count * batch, batch) * units;
    struct fused_span span = {layer->steps->count, layer->steps->count};
    while (fused_span_before(layer, &span)) {
        for (size_t t = span.end; t-- > span.begin && !op_run_must_stop(layer->run);) {
            step_back(layer, &kernels, t, d_gates + (t - span.begin) * batch * 3 * units, d_reset_h);
        }
        span_gradients(layer, span, d_gates, reset_h);
    }
}

/* The packed kernels; r ∘ h of one step. */
static size_t forward_floats(size_t rows, size_t batch, size_t units)
{
    (void)rows;
    return kernels_floats(units) + batch * units;
}

/* The packed kernels; d(r ∘ h) of one step; r ∘ h and d_gates of a span. */
static size_t backward_floats(size_t rows, size_t batch, size_t units)
{
    return kernels_floats(units) + (4 * fused_span_rows(rows, batch) + batch) * units;
}

const struct fused_row fused_gru = {
    .name = "gru",
    .signature = "Add(Mul(Split{num_split=2}(#1,Sigmoid(BiasAdd(MatMul(ConcatV2(x,s0,#1),w0),w1))).1,s0),"
                 "Mul(Sub(n0,%2.1),Tanh(BiasAdd(MatMul(ConcatV2(x,Mul(%2.0,s0),#1),w2),w3))))",
    .state_count = 1,
    .output_state = 0,
    .weight_count = 4,
    .saved_multiple = 3,
    .gate_counts = {2, 1},
    .has_number = true,
    .number = 1,
    .forward = forward,
    .backward = backward,
    .forward_floats = forward_floats,
    .backward_floats = backward_floats};
