/* What the packed kernels make of sums, and of logits: σ and tanh in every set and precision, from gates that are fed
 * straight in, and e^x, against libm. fp32, in units in the last place: 4 for tanh, 3 for σ of what is not negative;
 * e^x of a negative x loses a quarter of |x| besides. Narrow precisions, relative: 5.5e-4 for tanh, 1.1e-4 for σ. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/rng.h"
#include "engine/math/rnn_packed.h"

enum { SEED = 7, FLOATS_MAX = 256 };

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double units_in_last_place(double got, double wanted)
{
    int exponent;
    frexp(wanted, &exponent);
    return fabs(got - wanted) / ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
}

/* Feeds gate sums straight in: a layer of one unit without weights, whose rows start from the gates. */
static void step_gates(const struct rnn_steps *steps, const float gates[4], float cell, float *ret_cell,
                       float *ret_hidden)
{
    static const float zeros[4];
    struct rnn_layer layer;
    struct error error;
    struct rnn_layer_weights weights = {.units = 1, .kernel = zeros, .bias = zeros};
    assert_int_equal(rnn_layer_init(&layer, steps, &weights, &error), STATUS_OK);
    _Alignas(64) float start[RNN_VECTORS * RNN_LANES_MAX] = {0};
    rnn_layer_pack_start(&layer, gates, start);
    _Alignas(64) float cells[RNN_LANES_MAX] = {cell};
    _Alignas(64) char hidden[2][RNN_LANES_MAX * sizeof(float)];
    memset(hidden, steps->precision == RNN_PRECISION_INT8 ? RNN_INT8_ZERO : 0, sizeof hidden);
    struct rnn_layer_row row = {.start = start, .hidden = hidden[0], .hidden_next = hidden[1], .cell = cells};
    rnn_layer_begin_row(&layer, &row);
    steps->layer(&layer, 0, &row, 1);
    *ret_cell = cells[0];
    rnn_read_hidden(steps->precision, hidden[1], 1, ret_hidden);
    rnn_layer_release(&layer);
}

/* tanh x and σ(x), as the cell of an LSTM shows them. */
static void read_functions(const struct rnn_steps *steps, float x, double *ret_tanh, double *ret_sigmoid)
{
    float cell;
    float hidden;
    step_gates(steps, (float[4]){100.0f, x, 0.0f, 100.0f}, 0.0f, &cell, &hidden);
    *ret_tanh = (double)cell;
    step_gates(steps, (float[4]){x, 100.0f, 0.0f, 100.0f}, 0.0f, &cell, &hidden);
    *ret_sigmoid = (double)cell;
}

static void check_fp32(const struct rnn_steps *steps, float x)
{
    double tanh_x;
    double sigmoid_x;
    read_functions(steps, x, &tanh_x, &sigmoid_x);
    assert_true(units_in_last_place(tanh_x, tanh((double)x)) <= 4.0);
    assert_true(units_in_last_place(sigmoid_x, sigmoid((double)x)) <= 3.0 + fmax((double)-x, 0.0) / 4.0);
}

static void check_narrow(const struct rnn_steps *steps, float x)
{
    double tanh_x;
    double sigmoid_x;
    read_functions(steps, x, &tanh_x, &sigmoid_x);
    assert_true(fabs(tanh_x - tanh((double)x)) <= 5.5e-4 * fabs(tanh((double)x)));
    assert_true(fabs(tanh_x) <= 1.0);
    assert_true(fabs(sigmoid_x - sigmoid((double)x)) <= 1.1e-4 * sigmoid((double)x));
}

static void test_fp32_functions_are_accurate(void **state)
{
    (void)state;
    for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
        const struct rnn_steps *steps = &rnn_kernels_at(set)->fp32;
        for (float x = -30.0f; x < 30.0f; x += 0.00713f) {
            check_fp32(steps, x);
        }
        for (float x = 1e-38f; x < 1.0f; x *= x < 0.004f ? 1.7f : 1.0007f) {
            check_fp32(steps, x);
            check_fp32(steps, -x);
        }
    }
}

static void test_narrow_functions_are_close(void **state)
{
    (void)state;
    for (enum rnn_precision precision = RNN_PRECISION_BF16; precision < RNN_PRECISION_COUNT; precision++) {
        const struct rnn_steps *steps;
        for (size_t set = 0; (steps = rnn_steps_at(precision, set)) != NULL; set++) {
            for (float x = -30.0f; x < 30.0f; x += 0.00713f) {
                check_narrow(steps, x);
            }
            for (float x = 1e-37f; x < 0.1f; x *= 1.7f) { /* VDPBF16PS takes denormals for 0 */
                check_narrow(steps, x);
                check_narrow(steps, -x);
            }
        }
    }
}

/* Every combination of extreme gates, from a cell. */
static void check_extremes(const struct rnn_steps *steps, float from)
{
    static const float extremes[] = {0.0f, 1.0f,  -1.0f, 20.0f,  -20.0f,   88.0f,    -88.0f,
                                     1e4f, -1e4f, 3e38f, -3e38f, INFINITY, -INFINITY};
    enum { COUNT = sizeof extremes / sizeof *extremes };
    for (size_t code = 0; code < COUNT * COUNT * COUNT * COUNT; code++) {
        float gates[4] = {extremes[code % COUNT], extremes[code / COUNT % COUNT],
                          extremes[code / COUNT / COUNT % COUNT], extremes[code / COUNT / COUNT / COUNT]};
        float cell;
        float hidden;
        step_gates(steps, gates, from, &cell, &hidden);
        assert_true(fabsf(cell) <= fabsf(from) + 1.0f && fabsf(hidden) <= 1.0f);
    }
}

static void test_extremes_stay_within_bounds(void **state)
{
    (void)state;
    for (enum rnn_precision precision = RNN_PRECISION_FP32; precision < RNN_PRECISION_COUNT; precision++) {
        const struct rnn_steps *steps;
        for (size_t set = 0; (steps = rnn_steps_at(precision, set)) != NULL; set++) {
            check_extremes(steps, 1.5f);
            check_extremes(steps, -1e16f);
            for (size_t gate = 0; gate < 3; gate++) {
                float gates[4] = {1.0f, 1.0f, 1.0f, 1.0f};
                gates[gate] = NAN;
                float cell;
                float hidden;
                step_gates(steps, gates, 0.0f, &cell, &hidden);
                assert_true(isnan(cell));
                assert_true(precision != RNN_PRECISION_FP32 || isnan(hidden));
            }
        }
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
            rng_fill_uniform(SEED, count, count, -40.0f, 40.0f, values);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32_functions_are_accurate),
        cmocka_unit_test(test_narrow_functions_are_close),
        cmocka_unit_test(test_extremes_stay_within_bounds),
        cmocka_unit_test(test_maximum_and_exponentials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
