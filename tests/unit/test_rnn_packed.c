/* The packed kernels: every set this CPU can run against an independent double-precision LSTM in TensorFlow's layout
 * (absolute tolerance 2e-6), against the plain set (equal bits), and their functions against libm (in units in the last
 * place 4 for tanh, 3 for σ of what is not negative; e^x of a negative x loses a quarter of |x| besides). */
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

/* Feeds gate sums straight in: a layer of one unit without weights, whose start values are the gates. */
static void step_gates(const struct rnn_kernels *kernels, const float gates[4], float cell, float *ret_cell,
                       float *ret_hidden)
{
    static const float zeros[4];
    struct rnn_layer layer;
    struct error error;
    struct rnn_layer_weights weights = {.units = 1, .kernel = zeros, .bias = gates};
    assert_int_equal(rnn_layer_init(&layer, &kernels->fp32, &weights, &error), STATUS_OK);
    _Alignas(64) float state[3][RNN_LANES_MAX] = {{cell}};
    struct rnn_layer_row row = {.start = layer.start, .hidden = state[1], .hidden_next = state[2], .cell = state[0]};
    kernels->fp32.layer(&layer, 0, &row, 1);
    *ret_cell = state[0][0];
    *ret_hidden = state[2][0];
    rnn_layer_release(&layer);
}

static double units_in_last_place(double got, double wanted)
{
    int exponent;
    frexp(wanted, &exponent);
    return fabs(got - wanted) / ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
}

static void check_functions(const struct rnn_kernels *kernels, float x)
{
    float cell;
    float hidden;
    step_gates(kernels, (float[4]){100.0f, x, 0.0f, 100.0f}, 0.0f, &cell, &hidden);
    assert_true(units_in_last_place((double)cell, tanh((double)x)) <= 4.0);
    step_gates(kernels, (float[4]){x, 100.0f, 0.0f, 100.0f}, 0.0f, &cell, &hidden);
    assert_true(units_in_last_place((double)cell, sigmoid((double)x)) <= 3.0 + fmax((double)-x, 0.0) / 4.0);
}

static void test_functions_are_accurate(void **state)
{
    (void)state;
    for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
        for (float x = -30.0f; x < 30.0f; x += 0.00713f) {
            check_functions(rnn_kernels_at(set), x);
        }
        for (float x = 1e-38f; x < 1.0f; x *= x < 0.004f ? 1.7f : 1.0007f) {
            check_functions(rnn_kernels_at(set), x);
            check_functions(rnn_kernels_at(set), -x);
        }
    }
}

static void test_extremes_stay_within_bounds(void **state)
{
    (void)state;
    static const float extremes[] = {0.0f, 1.0f,  -1.0f, 20.0f,  -20.0f,   88.0f,    -88.0f,
                                     1e4f, -1e4f, 3e38f, -3e38f, INFINITY, -INFINITY};
    enum { COUNT = sizeof extremes / sizeof *extremes };
    for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
        for (size_t code = 0; code < COUNT * COUNT * COUNT * COUNT; code++) {
            float gates[4] = {extremes[code % COUNT], extremes[code / COUNT % COUNT],
                              extremes[code / COUNT / COUNT % COUNT], extremes[code / COUNT / COUNT / COUNT]};
            float cell;
            float hidden;
            step_gates(rnn_kernels_at(set), gates, 1.5f, &cell, &hidden);
            assert_true(fabsf(cell) <= 2.5f && fabsf(hidden) <= 1.0f);
        }
        float cell;
        float hidden;
        step_gates(rnn_kernels_at(set), (float[4]){NAN, 1.0f, 1.0f, 1.0f}, 0.0f, &cell, &hidden);
        assert_true(isnan(cell) && isnan(hidden));
    }
}

/* The plain set's bits, for scales small and large. */
static void check_exponentials_equal(const struct rnn_kernels *kernels, const float *values, size_t count,
                                     float maximum)
{
    static _Alignas(64) float results[2][FLOATS_MAX];
    static const float scales[] = {0.01f, 1.0f, 1.25f, 3.4e38f};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        rnn_kernels_find("plain")->exponentials(values, count, maximum, scales[i], results[0]);
        kernels->exponentials(values, count, maximum, scales[i], results[1]);
        assert_memory_equal(results[0], results[1], count * sizeof(float));
    }
}

static void test_maximum_and_exponentials(void **state)
{
    (void)state;
    static _Alignas(64) float values[FLOATS_MAX];
    static _Alignas(64) float results[FLOATS_MAX];
    for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
        const struct rnn_kernels *kernels = rnn_kernels_at(set);
        for (size_t count = 1; count < 200; count += count < 40 ? 1 : 37) {
            fill(values, count, count, 40.0f);
            float wanted = values[0];
            for (size_t n = 0; n < count; n++) {
                wanted = fmaxf(wanted, values[n]);
            }
            float maximum;
            assert_true(kernels->find_maximum(values, count, &maximum));
            assert_true(maximum == wanted);
            kernels->exponentials(values, count, maximum, 1.25f, results);
            for (size_t n = 0; n < count; n++) {
                float x = (values[n] - maximum) * 1.25f;
                double power = x < -87.0f ? 0.0 : exp((double)x);
                assert_true(units_in_last_place((double)results[n], power) <= 1.0 + fabs((double)x) / 4.0);
            }
            check_exponentials_equal(kernels, values, count, maximum);
            static const float bad[] = {NAN, INFINITY, -INFINITY};
            for (size_t n = 0; n < count; n++) {
                float kept = values[n];
                values[n] = bad[n % 3];
                assert_false(kernels->find_maximum(values, count, &maximum));
                values[n] = kept;
            }
        }
        values[0] = 3.0f;
        values[1] = 3.0f - 1e-6f;
        kernels->exponentials(values, 2, 3.0f, 3.4e38f, results);
        assert_true(results[0] == 1.0f && results[1] == 0.0f);
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
    for (uint64_t n = 0; n < 3; n++) {
        struct rnn_layer layer;
        mem_fail_after(n);
        struct rnn_layer_weights from = {.input_size = 4, .units = 4, .kernel = weights, .bias = weights};
        assert_int_equal(rnn_layer_init(&layer, &rnn_kernels_at(0)->fp32, &from, &error), STATUS_NO_MEMORY);
    }
    for (uint64_t n = 0; n < 2; n++) {
        struct rnn_dense layer;
        mem_fail_after(n);
        assert_int_equal(rnn_dense_init(&layer, &rnn_kernels_at(0)->fp32, 4, 4, weights, weights, &error),
                         STATUS_NO_MEMORY);
    }
    mem_fail_after(UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lstm_equals_reference),
        cmocka_unit_test(test_functions_are_accurate),
        cmocka_unit_test(test_extremes_stay_within_bounds),
        cmocka_unit_test(test_maximum_and_exponentials),
        cmocka_unit_test(test_sums_are_equal),
        cmocka_unit_test(test_kernels_are_found_by_name),
        cmocka_unit_test(test_no_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
