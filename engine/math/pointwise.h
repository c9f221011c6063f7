/* Elementwise kernels over float32 arrays, in versions for each vector width behind one table. Every version gives the
 * same bits: each element goes through the same operations in the same order. Thread: any; arrays are the caller's. */
#ifndef ENGINE_MATH_POINTWISE_H
#define ENGINE_MATH_POINTWISE_H

#include <stddef.h>
#include <stdint.h>

struct adam_step {
    float rate; /* learning rate with bias correction: lr·√(1 − b2^t)/(1 − b1^t) */
    float beta1;
    float beta2;
    float epsilon;
};

/* Which numbers are kept, by random words of 24 bits: number i by word i mod 4 of counter i / 4. */
struct dropout_draw {
    uint64_t seed;
    uint64_t stream;
    uint32_t kept_below; /* of 2^24 */
    float factor;        /* of the numbers kept */
};

struct pointwise_kernels {
    const char *name;
    /* y = σ(x), tanh(x); y may be x. */
    void (*sigmoid)(size_t count, const float *x, float *y);
    void (*tanh)(size_t count, const float *x, float *y);
    /* y += x;  y = scale · x (y may be x). */
    void (*add_to)(size_t count, const float *x, float *y);
    void (*scale)(size_t count, float factor, const float *x, float *y);
    /* One LSTM time step of `rows` rows of `units`: gates [rows, 4 × units] in the order i, j, f, o, pre-activation on
     * entry, activated on return; c_before, c, h: [rows, units]. c = c_before·σ(f + forget_bias) + σ(i)·tanh(j); h =
     * σ(o)·tanh(c). */
    void (*lstm_forward)(size_t rows, size_t units, float forget_bias, float *gates, const float *c_before, float *c,
                         float *h);
    /* Its gradient. gates: activated; dh: into h; dc: on entry into c from the next step, on return into c_before;
     * d_gates: pre-activation. */
    void (*lstm_backward)(size_t rows, size_t units, const float *gates, const float *c_before, const float *c,
                          const float *dh, float *dc, float *d_gates);
    /* One GRU time step of `rows` rows of `units`: gates [rows, 3 × units] in the order r, u, k. First r and u,
     * pre-activation on entry, activated on return, and reset_h = r∘h; then, k's sum being complete, k = tanh and
     * h = u∘h_before + (1 − u)∘k. */
    void (*gru_gates)(size_t rows, size_t units, float *gates, const float *h_before, float *reset_h);
    void (*gru_forward)(size_t rows, size_t units, float *gates, const float *h_before, float *h);
    /* Its gradient, in the other order. dh: on entry into h, on return the part that goes through u to h_before;
     * d_gates: of u and k, pre-activation. Then, d_reset_h being k's, of r, and the part through reset_h. */
    void (*gru_backward)(size_t rows, size_t units, const float *gates, const float *h_before, float *dh,
                         float *d_gates);
    void (*gru_gates_backward)(size_t rows, size_t units, const float *gates, const float *h_before,
                               const float *d_reset_h, float *dh, float *d_gates);
    /* Each row: y = softmax(x). Returns nothing; x and y may be the same. */
    void (*softmax)(size_t rows, size_t columns, const float *x, float *y);
    /* y = factor · x where kept, else 0; y may be x. */
    void (*dropout)(size_t count, const struct dropout_draw *draw, const float *x, float *y);
    /* variable, m, v updated in place; see nn/optimizer.h for the equations. */
    void (*adam)(size_t count, struct adam_step step, const float *gradient, float *m, float *v, float *variable);
};

/* The widest version this CPU runs. */
const struct pointwise_kernels *pointwise(void);
/* All versions this CPU runs, for tests: entry `index`, or NULL past the last. Entry 0 is the plain reference. */
const struct pointwise_kernels *pointwise_version(size_t index);

#endif
