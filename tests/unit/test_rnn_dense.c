/* The packed output layer in all precisions, however many vectors its last block has columns in and however many rows
 * a call: against sums in double precision over the same rounded numbers (1e-5), and all sets against the plain one,
 * in bf16 and where fp32 is summed in pairs against themselves (equal bits). Padding is written as 0. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/math/rnn_packed.h"
#include "tests/unit/rnn_rounding.h"

enum { SEED = 11, ROWS_MAX = 13, INPUTS = 37, ROW_BYTES = 256 };

/* The output of one dense layer over ROWS_MAX rows, unpadded. */
static void run_dense(const struct rnn_steps *steps, size_t columns, bool is_input_hidden, size_t rows_a_call,
                      const float *weights, const float *bias, const float *inputs, float *outputs)
{
    struct rnn_dense layer;
    struct error error;
    struct rnn_dense_weights from = {
        .input_size = INPUTS, .columns = columns, .is_input_hidden = is_input_hidden, .kernel = weights, .bias = bias};
    assert_int_equal(rnn_dense_init(&layer, steps, &from, &error), STATUS_OK);
    float *padded = mem_allocate_aligned(ROWS_MAX * layer.stride, sizeof(float));
    memset(padded, 0xFF, ROWS_MAX * layer.stride * sizeof(float)); /* NaN */
    static _Alignas(64) char words[ROWS_MAX][ROW_BYTES];
    struct rnn_dense_row rows[ROWS_MAX];
    for (size_t row = 0; row < ROWS_MAX; row++) {
        memset(words[row], steps->precision == RNN_PRECISION_INT8 ? RNN_INT8_ZERO : 0, ROW_BYTES);
        rnn_write_hidden(steps->precision, inputs + row * INPUTS, INPUTS, words[row]);
        rows[row] =
            (struct rnn_dense_row){.input = words[row], .output = padded + row * layer.stride, .input_scale = 1};
        rnn_dense_begin_row(&layer, &rows[row]);
    }
    for (size_t block = 0; block < layer.block_count; block++) {
        for (size_t row = 0; row < ROWS_MAX; row += rows_a_call) {
            steps->dense(&layer, block, rows + row, ROWS_MAX - row < rows_a_call ? ROWS_MAX - row : rows_a_call);
        }
    }
    for (size_t row = 0; row < ROWS_MAX; row++) {
        memcpy(outputs + row * columns, rows[row].output, columns * sizeof(float));
        for (size_t n = columns; n < layer.stride; n++) {
            assert_true(rows[row].output[n] == 0);
        }
    }
    mem_free(padded);
    rnn_dense_release(&layer);
}

/* What the precision makes of x · w, where `maximum` is the largest of w's column. */
static double rounded_product(enum rnn_precision precision, double x, double w, double maximum)
{
    switch (precision) {
    case RNN_PRECISION_BF16: return round_bf16(x) * round_bf16(w);
    case RNN_PRECISION_INT8: return round_int8_input(x, 1) * round_int8_weight(w, maximum);
    case RNN_PRECISION_FP32:
    case RNN_PRECISION_COUNT: break;
    }
    return x * w;
}

static void check_sums(enum rnn_precision precision, size_t columns, const float *weights, const float *bias,
                       const float *inputs, const float *outputs)
{
    for (size_t n = 0; n < ROWS_MAX * columns; n++) {
        double wanted = (double)bias[n % columns];
        double maximum = largest(weights + n % columns, INPUTS, columns);
        for (size_t k = 0; k < INPUTS; k++) {
            double x = (double)inputs[n / columns * INPUTS + k];
            wanted += rounded_product(precision, x, (double)weights[k * columns + n % columns], maximum);
        }
        assert_true(fabs((double)outputs[n] - wanted) < 1e-5);
    }
}

static void check_dense(enum rnn_precision precision, size_t columns, bool is_input_hidden)
{
    enum { COLUMNS_MAX = 300 };
    static float weights[INPUTS * COLUMNS_MAX];
    static float bias[COLUMNS_MAX];
    static float inputs[ROWS_MAX * INPUTS];
    static float first[ROWS_MAX * COLUMNS_MAX];
    static float outputs[ROWS_MAX * COLUMNS_MAX];
    assert_true(columns <= COLUMNS_MAX);
    rng_fill_uniform(SEED, 11, INPUTS * columns, -1, 1, weights);
    rng_fill_uniform(SEED, 12, columns, -1, 1, bias);
    rng_fill_uniform(SEED, 13, ROWS_MAX * INPUTS, -1, 1, inputs);
    const struct rnn_steps *plain = rnn_kernels_steps(rnn_kernels_find("plain"), precision);
    const struct rnn_steps *steps;
    for (size_t set = 0; (steps = rnn_steps_at(precision, set)) != NULL; set++) {
        const struct rnn_steps *equal = has_own_bits(steps) ? steps : plain;
        run_dense(equal, columns, is_input_hidden, ROWS_MAX, weights, bias, inputs, first);
        check_sums(precision, columns, weights, bias, inputs, first);
        for (size_t rows_a_call = 1; rows_a_call <= ROWS_MAX; rows_a_call += 3) {
            run_dense(steps, columns, is_input_hidden, rows_a_call, weights, bias, inputs, outputs);
            assert_memory_equal(first, outputs, ROWS_MAX * columns * sizeof(float));
        }
    }
}

static void check_precision(enum rnn_precision precision)
{
    for (size_t columns = 1; columns <= 70; columns++) {
        check_dense(precision, columns, columns % 2 == 0);
    }
    check_dense(precision, 83, true);
    check_dense(precision, 83, false);
    check_dense(precision, 300, true);
}

static void test_fp32(void **state)
{
    (void)state;
    check_precision(RNN_PRECISION_FP32);
}

static void test_bf16(void **state)
{
    (void)state;
    check_precision(RNN_PRECISION_BF16);
}

static void test_int8(void **state)
{
    (void)state;
    check_precision(RNN_PRECISION_INT8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_int8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
