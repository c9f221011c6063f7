/* The packed kernels: every set this CPU can run against an independent double-precision LSTM in TensorFlow's layout
 * (absolute tolerance 2e-6) and against the plain set (equal bits). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/math/rnn_packed.h"

enum { SEED = 7, ROWS_MAX = 13, FLOATS_MAX = 1024 };

/* A layer in TensorFlow's layout, its rows, and what the step must give. */
struct problem {
    size_t input_size, units, row_count;
    float *kernel, *bias;
    float *input, *hidden, *cell;        /* [rows, input_size], [rows, units], [rows, units] */
    double *hidden_wanted, *cell_wanted; /* [rows, units] */
};

static void fill(float *values, size_t count, uint64_t stream, float scale)
{
    rng_fill_uniform(SEED, stream, count, -scale, scale, values);
}

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static void solve(struct problem *p)
{
    for (size_t row = 0; row < p->row_count; row++) {
        for (size_t unit = 0; unit < p->units; unit++) {
            double gates[4];
            for (size_t gate = 0; gate < 4; gate++) {
                size_t column = gate * p->units + unit;
                gates[gate] = (double)p->bias[column] + (gate == 2 ? 1.0 : 0.0);
                for (size_t k = 0; k < p->input_size + p->units; k++) {
                    float x = k < p->input_size ? p->input[row * p->input_size + k]
                                                : p->hidden[row * p->units + k - p->input_size];
                    gates[gate] += (double)x * (double)p->kernel[k * 4 * p->units + column];
                }
            }
            double c = (double)p->cell[row * p->units + unit] * sigmoid(gates[2]) + sigmoid(gates[0]) * tanh(gates[1]);
            p->cell_wanted[row * p->units + unit] = c;
            p->hidden_wanted[row * p->units + unit] = sigmoid(gates[3]) * tanh(c);
        }
    }
}

static void problem_init(struct problem *p, size_t input_size, size_t units, size_t row_count)
{
    size_t terms = input_size + units;
    *p = (struct problem){.input_size = input_size, .units = units, .row_count = row_count};
    p->kernel = mem_allocate(terms * 4 * units, sizeof(float));
    p->bias = mem_allocate(4 * units, sizeof(float));
    p->input = mem_allocate(row_count * input_size, sizeof(float));
    p->hidden = mem_allocate(row_count * units, sizeof(float));
    p->cell = mem_allocate(row_count * units, sizeof(float));
    p->hidden_wanted = mem_allocate(row_count * units, sizeof(double));
    p->cell_wanted = mem_allocate(row_count * units, sizeof(double));
    fill(p->kernel, terms * 4 * units, 1, 0.3f);
    fill(p->bias, 4 * units, 2, 1.0f);
    fill(p->input, row_count * input_size, 3, 1.0f);
    fill(p->hidden, row_count * units, 4, 1.0f);
    fill(p->cell, row_count * units, 5, 2.0f);
    solve(p);
}

static void problem_release(struct problem *p)
{
    void *blocks[] = {p->kernel, p->bias, p->input, p->hidden, p->cell, p->hidden_wanted, p->cell_wanted};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        mem_free(blocks[i]);
    }
}

/* One step of all rows in calls of at most `rows_a_call`; c and h come back unpadded. */
static void step(const struct problem *p, const struct rnn_kernels *kernels, size_t rows_a_call, float *cell,
                 float *hidden)
{
    struct rnn_layer layer;
    struct error error;
    struct rnn_layer_weights weights = {
        .input_size = p->input_size, .units = p->units, .kernel = p->kernel, .bias = p->bias, .forget_bias = 1.0f};
    assert_int_equal(rnn_layer_init(&layer, &kernels->fp32, &weights, &error), STATUS_OK);
    size_t row_floats = 3 * layer.stride;
    row_floats = (row_floats + 15) / 16 * 16;
    float *state = mem_allocate_aligned(p->row_count * row_floats, sizeof(float));
    struct rnn_layer_row rows[ROWS_MAX];
    for (size_t row = 0; row < p->row_count; row++) {
        float *own = state + row * row_floats;
        memcpy(own, p->cell + row * p->units, p->units * sizeof(float));
        memcpy(own + layer.stride, p->hidden + row * p->units, p->units * sizeof(float));
        rows[row] = (struct rnn_layer_row){.start = layer.start,
                                           .input = p->input + row * p->input_size,
                                           .cell = own,
                                           .hidden = own + layer.stride,
                                           .hidden_next = own + 2 * layer.stride};
        rnn_layer_begin_row(&layer, &rows[row]);
    }
    for (size_t block = 0; block < layer.block_count; block++) {
        for (size_t row = 0; row < p->row_count; row += rows_a_call) {
            size_t left = p->row_count - row;
            kernels->fp32.layer(&layer, block, rows + row, left < rows_a_call ? left : rows_a_call);
        }
    }
    for (size_t row = 0; row < p->row_count; row++) {
        memcpy(cell + row * p->units, rows[row].cell, p->units * sizeof(float));
        memcpy(hidden + row * p->units, rows[row].hidden_next, p->units * sizeof(float));
        for (size_t unit = p->units; unit < layer.stride; unit++) {
            assert_true(rows[row].cell[unit] == 0.0f && ((const float *)rows[row].hidden_next)[unit] == 0.0f);
        }
    }
    mem_free(state);
    rnn_layer_release(&layer);
}

static void check_lstm(size_t input_size, size_t units, size_t row_count)
{
    struct problem p;
    problem_init(&p, input_size, units, row_count);
    size_t count = row_count * units;
    float *cell[2];
    float *hidden[2];
    for (size_t i = 0; i < 2; i++) {
        cell[i] = mem_allocate(count, sizeof(float));
        hidden[i] = mem_allocate(count, sizeof(float));
    }
    step(&p, rnn_kernels_find("plain"), row_count, cell[0], hidden[0]);
    for (size_t n = 0; n < count; n++) {
        assert_true(fabs((double)cell[0][n] - p.cell_wanted[n]) < 2e-6);
        assert_true(fabs((double)hidden[0][n] - p.hidden_wanted[n]) < 2e-6);
    }
    for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
        for (size_t rows_a_call = 1; rows_a_call <= row_count; rows_a_call += 4) {
            step(&p, rnn_kernels_at(set), rows_a_call, cell[1], hidden[1]);
            assert_memory_equal(cell[0], cell[1], count * sizeof(float));
            assert_memory_equal(hidden[0], hidden[1], count * sizeof(float));
        }
    }
    for (size_t i = 0; i < 2; i++) {
        mem_free(cell[i]);
        mem_free(hidden[i]);
    }
    problem_release(&p);
}

static void test_lstm_equals_reference(void **state)
{
    (void)state;
    static const size_t units[] = {1, 5, 16, 100, 128};
    static const size_t inputs[] = {0, 3, 65};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
            for (size_t rows = 1; rows <= ROWS_MAX; rows += units[u] > 16 ? 3 : 1) {
                check_lstm(inputs[i], units[u], rows);
            }
        }
    }
}

/* Near the exact sum, and the plain set's to the bit, of values whose order of summation can be told. */
static void test_sums_are_equal(void **state)
{
    (void)state;
    static _Alignas(64) float values[FLOATS_MAX];
    size_t other_count = 0;
    for (size_t count = 0; count < 200; count += count < 40 ? 1 : 37) {
        fill(values, count, count + 1, 40.0f);
        double in_order = 0;
        long double exact = 0;
        for (size_t n = 0; n < count; n++) {
            values[n] = expf(values[n]);
            in_order += (double)values[n];
            exact += (long double)values[n];
        }
        double wanted = rnn_kernels_find("plain")->sum(values, count);
        assert_true(fabsl((long double)wanted - exact) <= 1e-14L * exact);
        other_count += wanted != in_order;
        for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
            double sum = rnn_kernels_at(set)->sum(values, count);
            assert_memory_equal(&sum, &wanted, sizeof sum);
        }
    }
    assert_true(other_count > 0);
}

static void test_kernels_are_found_by_name(void **state)
{
    (void)state;
    size_t count = 0;
    while (rnn_kernels_at(count) != NULL) {
        assert_ptr_equal(rnn_kernels_find(rnn_kernels_at(count)->name), rnn_kernels_at(count));
        count++;
    }
    assert_ptr_equal(rnn_kernels_find(NULL), rnn_kernels_at(0));
    assert_string_equal(rnn_kernels_at(count - 1)->name, "plain");
    assert_null(rnn_kernels_find("abacus"));
}

static void test_no_memory_is_reported(void **state)
{
    (void)state;
    float weights[16 * 8] = {0};
    struct error error;
    struct rnn_dense_weights dense = {.input_size = 4, .columns = 4, .kernel = weights, .bias = weights};
    for (uint64_t n = 0; n < 3; n++) {
        struct rnn_layer layer;
        mem_fail_after(n);
        struct rnn_layer_weights from = {.input_size = 4, .units = 4, .kernel = weights, .bias = weights};
        assert_int_equal(rnn_layer_init(&layer, &rnn_kernels_at(0)->fp32, &from, &error), STATUS_NO_MEMORY);
    }
    for (uint64_t n = 0; n < 2; n++) {
        struct rnn_dense layer;
        mem_fail_after(n);
        assert_int_equal(rnn_dense_init(&layer, &rnn_kernels_at(0)->fp32, &dense, &error), STATUS_NO_MEMORY);
    }
    mem_fail_after(UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lstm_equals_reference),
        cmocka_unit_test(test_sums_are_equal),
        cmocka_unit_test(test_kernels_are_found_by_name),
        cmocka_unit_test(test_no_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
