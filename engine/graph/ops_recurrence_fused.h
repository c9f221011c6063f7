/* Fused kernels of recurrences: whole layers over time where a body is a stack of known cells, float32. Thread: see
 * op.h. Owns nothing.
 *
 * The rows of the table (ops_recurrence_match.c) are cells. A body is written down in one canonical way, layer by
 * layer, and compared with what each row says of its cell. Dropout between the layers and after the last is part of a
 * stack; anything else (other activations, odd cells, other dtypes) runs step by step. */
#ifndef ENGINE_GRAPH_OPS_RECURRENCE_FUSED_H
#define ENGINE_GRAPH_OPS_RECURRENCE_FUSED_H

#include "engine/graph/ops_recurrence.h"
#include "engine/math/gemm_packed.h"

enum {
    FUSED_LAYERS_MAX = 16,
    FUSED_WEIGHTS_MAX = 4,
    FUSED_NUMBERS_MAX = 2,
    FUSED_STATES_MAX = 2,
    FUSED_DROPS_MAX = 2, /* one after another: a layer's output's and the next one's input's */
    FUSED_SPAN_ROWS = 1024,
};

/* One layer's work, as its kernel sees it. Sequences are [time, batch, columns]; only the first steps->count steps
 * count. */
struct fused_layer {
    const struct op_run *run; /* whether it is to stop: looked at once a step */
    const struct recurrence_steps *steps;
    size_t inputs; /* columns of x */
    size_t units;
    const float *x;
    const int32_t *symbols; /* [time, batch], in place of x, whose rows are their one-hot vectors of `inputs` */
    const float *weights[FUSED_WEIGHTS_MAX];
    double numbers[FUSED_NUMBERS_MAX];
    const float *initial[FUSED_STATES_MAX]; /* [batch, units] */
    float *history[FUSED_STATES_MAX];       /* states after every step: forward writes, backward reads */
    float *saved;                           /* [time, batch, saved_multiple × units], likewise */
    void *scratch;
    /* backward */
    const float *d_output;               /* into the output of every step */
    float *d_state[FUSED_STATES_MAX];    /* [batch, units]: into the final states; on return into the initial ones */
    float *d_weights[FUSED_WEIGHTS_MAX]; /* added to */
    float *dx;                           /* or NULL */
};

/* Steps that are worked off together: so many that a product over all their rows is fast, so few that what they leave
 * for one another stays in the caches (and scratch small). */
struct fused_span {
    size_t begin;
    size_t end;
};

/* How many steps the longest span has. */
static inline size_t fused_span_steps(size_t batch)
{
    return batch == 0 || batch > FUSED_SPAN_ROWS ? 1 : FUSED_SPAN_ROWS / batch;
}

/* The rows of the longest span of a sequence of `rows`. */
static inline size_t fused_span_rows(size_t rows, size_t batch)
{
    size_t most = fused_span_steps(batch) * batch;
    return rows < most ? rows : most;
}

/* The spans of the steps that count, from {0, 0} on, and back from {count, count}; false when there is none left. */
static inline bool fused_next_span(const struct fused_layer *layer, struct fused_span *span)
{
    size_t left = layer->steps->count - span->end;
    size_t most = fused_span_steps(layer->steps->batch);
    span->begin = span->end;
    span->end += left < most ? left : most;
    return left > 0 && !op_run_must_stop(layer->run);
}

/* See above. */
static inline bool fused_span_before(const struct fused_layer *layer, struct fused_span *span)
{
    size_t most = fused_span_steps(layer->steps->batch);
    span->end = span->begin;
    span->begin -= span->end < most ? span->end : most;
    return span->end > 0 && !op_run_must_stop(layer->run);
}

/* A cell with fused kernels. */
struct fused_row {
    const char *name;
    const char *signature; /* of the tensors that become its states: see ops_recurrence_match.c */
    size_t state_count;
    size_t output_state; /* which of the new states is the layer's output */
    size_t weight_count;
    size_t saved_multiple;
    size_t gate_counts[FUSED_WEIGHTS_MAX / 2]; /* weights are pairs of kernel and bias; their columns, in units */
    bool has_number;                           /* the first number is not a parameter but this */
    double number;
    /* Rows whose sequence is over are left as they come: the caller puts their states back. */
    void (*forward)(const struct fused_layer *layer);
    void (*backward)(const struct fused_layer *layer);
    /* Scratch in floats; NULL: none. */
    size_t (*forward_floats)(size_t rows, size_t batch, size_t units);
    size_t (*backward_floats)(size_t rows, size_t batch, size_t units);
};

extern const struct fused_row fused_lstm;
extern const struct fused_row fused_lstm_operators; /* LSTMCell, which writes its sums the other way round */
extern const struct fused_row fused_gru;
extern const struct fused_row fused_rnn;

/* Dropout nodes a tensor goes through, the first one first. */
struct fused_drops {
    size_t count;
    const struct node *node[FUSED_DROPS_MAX];
    struct output keep[FUSED_DROPS_MAX]; /* a capture or a constant of the body */
};

struct fused_layer_match {
    const struct fused_row *row;
    size_t first_state;
    size_t inputs;
    size_t units;
    size_t captures[FUSED_WEIGHTS_MAX]; /* which of the captures the weights are */
    double numbers[FUSED_NUMBERS_MAX];
    size_t saved_columns_before; /* of the layers before it */
    struct fused_drops drops;    /* between the layer before and its input */
};

/* A body as a stack of layers. */
struct recurrence_stack {
    const struct body *body;
    bool takes_symbols; /* x is symbols, which the body turns into one-hot vectors for the first layer */
    size_t layer_count;
    size_t saved_columns;
    struct fused_layer_match layers[FUSED_LAYERS_MAX];
    struct fused_drops drops; /* on the output */
};

/* Whether the node's body is such a stack; false for a node that is to run in general. */
bool recurrence_match(const struct node *node, struct recurrence_stack *ret_stack);
/* What Recurrence saves for its gradient: [time, batch, columns], or nothing. */
struct shape recurrence_saved_shape(const struct node *node, int64_t time, int64_t batch);

/* The layers over all steps: fills the histories, what is saved, and the outputs. `scratch` has as many bytes. */
size_t recurrence_forward_bytes(const struct recurrence_stack *stack, const struct inference *inference);
enum status recurrence_forward(const struct recurrence_stack *stack, const struct op_run *run,
                               const struct recurrence *recurrence, const struct recurrence_steps *steps,
                               struct recurrence_scratch *scratch, struct error *error) MUST_CHECK;

/* Backwards, for RecurrenceGrad: its inputs as in ops_recurrence_grad.c, its outputs already begun (states at the final
 * states' gradients, all others at zero). */
size_t recurrence_backward_bytes(const struct recurrence_stack *stack, const struct inference *inference);
enum status recurrence_backward(const struct recurrence_stack *stack, const struct op_run *run,
                                const struct recurrence *recurrence, const struct recurrence_steps *steps,
                                struct recurrence_scratch *scratch, struct error *error) MUST_CHECK;

/* For kernels: matrices as gemm wants them. */
static inline struct gemm_operand fused_plain(const float *data, size_t stride)
{
    return (struct gemm_operand){data, stride, GEMM_PLAIN};
}

/* See above. */
static inline struct gemm_operand fused_transposed(const float *data, size_t stride)
{
    return (struct gemm_operand){data, stride, GEMM_TRANSPOSED};
}

/* A state before a step. */
static inline const float *fused_before(const struct fused_layer *layer, size_t state, size_t step)
{
    size_t size = layer->steps->batch * layer->units;
    return step == 0 ? layer->initial[state] : layer->history[state] + (step - 1) * size;
}

/* What a layer's `pair` of weights, a kernel [inputs + units, columns] and a bias, makes of every row of a span: sums
 * before activation, or gradients of them; rows are `stride` apart. */
struct fused_sums {
    struct fused_span span;
    float *data; /* from the span's first row on */
    size_t pair;
    size_t columns;
    size_t stride;
};

/* The kernel's rows that the state before goes through. */
static inline const float *fused_hidden_kernel(const struct fused_layer *layer, size_t pair, size_t columns)
{
    return layer->weights[2 * pair] + layer->inputs * columns;
}

/* That, packed once for the steps of a pass, forward [units, columns] and backward [columns, units]; and the floats of
 * `room` that either takes. */
struct gemm_packed fused_pack_hidden(const struct fused_layer *layer, size_t pair, size_t columns, float *room);
struct gemm_packed fused_pack_hidden_back(const struct fused_layer *layer, size_t pair, size_t columns, float *room);
static inline size_t fused_packed_floats(size_t units, size_t columns)
{
    size_t forward = gemm_packed_floats(units, columns);
    size_t backward = gemm_packed_floats(columns, units);
    return forward > backward ? forward : backward;
}
/* sums of a step [batch, columns], rows `stride` apart, have states · kernel added. */
void fused_add_hidden(const struct fused_layer *layer, const float *states, const struct gemm_packed *kernel,
                      float *sums, size_t stride);

/* data = x · kernel + bias, for every row at once. */
void fused_project(const struct fused_layer *layer, const struct fused_sums *sums);
/* Adds the gradients by the bias and by the kernel's rows for x; dx becomes what the sums give it, or has it added. */
void fused_project_back(const struct fused_layer *layer, const struct fused_sums *d_sums, bool adds);
/* Adds the gradient by the kernel's rows for `state`. */
void fused_hidden_gradient(const struct fused_layer *layer, size_t state, const struct fused_sums *d_sums);

/* The rows that take part in a step, run by run: from `row` on, the next run; false when there is none. */
static inline bool fused_next_run(const struct recurrence_steps *steps, size_t step, size_t *row, size_t *ret_end)
{
    while (*row < steps->batch && !recurrence_is_active(steps, step, *row)) {
        ++*row;
    }
    *ret_end = *row;
    while (*ret_end < steps->batch && recurrence_is_active(steps, step, *ret_end)) {
        ++*ret_end;
    }
    return *row < *ret_end;
}

/* Puts back the states of rows whose sequence is over. */
void fused_hold(const struct fused_layer *layer, size_t state_count, size_t step);
/* Sets the rows of a step whose sequence is over to zero; rows [batch, columns]. */
void fused_clear(const struct recurrence_steps *steps, size_t step, size_t columns, float *rows);
/* d_before[active rows] = d_gates · kernelᵀ (+ what it holds, with `adds`); other rows, whose d_gates are zero, keep
 * theirs. */
struct fused_product {
    const float *d_gates;
    size_t stride;
    const struct gemm_packed *kernel; /* [columns, units] */
    bool adds;
};
void fused_back_product(const struct fused_layer *layer, size_t step, const struct fused_product *product,
                        float *d_before);

#endif
