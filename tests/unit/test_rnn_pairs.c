/* fp32 sums of weights of every kind, with all kernels, against double precision: where terms are summed in pairs,
 * whose sums round otherwise, they have to be about as near. The rms error of sums of 512 products may be 1.5 times
 * that of the plain kernels. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/math/rnn_packed.h"

enum { SEED = 11, ROWS = 13, INPUTS = 512, COLUMNS = 64 };

struct problem {
    float weights[INPUTS * COLUMNS];
    float bias[COLUMNS];
    _Alignas(64) float inputs[ROWS][INPUTS];
    _Alignas(64) float outputs[ROWS][COLUMNS];
};

static struct problem *make_problem(void)
{
    struct problem *p = mem_allocate_aligned(1, sizeof *p);
    rng_fill_uniform(SEED, 1, INPUTS * COLUMNS, -0.2f, 0.2f, p->weights);
    rng_fill_uniform(SEED, 2, ROWS * INPUTS, -1, 1, p->inputs[0]);
    return p;
}

static void run(struct problem *p, const struct rnn_steps *steps)
{
    struct rnn_dense layer;
    struct error error;
    struct rnn_dense_weights from = {
        .input_size = INPUTS, .columns = COLUMNS, .is_input_hidden = true, .kernel = p->weights, .bias = p->bias};
    assert_int_equal(rnn_dense_init(&layer, steps, &from, &error), STATUS_OK);
    struct rnn_dense_row rows[ROWS];
    for (size_t row = 0; row < ROWS; row++) {
        rows[row] = (struct rnn_dense_row){.input = p->inputs[row], .output = p->outputs[row]};
        rnn_dense_begin_row(&layer, &rows[row]);
    }
    for (size_t block = 0; block < layer.block_count; block++) {
        steps->dense(&layer, block, rows, ROWS);
    }
    rnn_dense_release(&layer);
}

/* What an output should be; ret_magnitude: the sum of its products' magnitudes. */
static double exact(const struct problem *p, size_t row, size_t column, double *ret_magnitude)
{
    double sum = (double)p->bias[column];
    *ret_magnitude = 0;
    for (size_t k = 0; k < INPUTS; k++) {
        double product = (double)p->inputs[row][k] * (double)p->weights[k * COLUMNS + column];
        sum += product;
        *ret_magnitude += fabs(product);
    }
    return sum;
}

static double root_mean_square_error(const struct problem *p)
{
    double sum = 0;
    double magnitude;
    for (size_t row = 0; row < ROWS; row++) {
        for (size_t n = 0; n < COLUMNS; n++) {
            double error = (double)p->outputs[row][n] - exact(p, row, n, &magnitude);
            sum += error * error;
        }
    }
    return sqrt(sum / (ROWS * COLUMNS));
}

static void test_errors_are_as_small(void **state)
{
    (void)state;
    struct problem *p = make_problem();
    run(p, &rnn_kernels_find("plain")->fp32);
    double plain = root_mean_square_error(p);
    const struct rnn_steps *steps;
    for (size_t set = 0; (steps = rnn_steps_at(RNN_PRECISION_FP32, set)) != NULL; set++) {
        run(p, steps);
        print_message("%s: rms error %.3g, plain %.3g\n", steps->name, root_mean_square_error(p), plain);
        assert_true(root_mean_square_error(p) <= 1.5 * plain);
    }
    mem_free(p);
}

static void check_against_magnitudes(const struct problem *p)
{
    for (size_t row = 0; row < ROWS; row++) {
        for (size_t n = 0; n < COLUMNS; n++) {
            double magnitude;
            double wanted = exact(p, row, n, &magnitude);
            assert_true(fabs((double)p->outputs[row][n] - wanted) <= 3e-6 * magnitude);
        }
    }
}

/* Columns side by side of 1e-32 to 1e31, and one that is 0: what is not 0 must count, and what is not there must not.
 * */
static void test_columns_of_all_sizes(void **state)
{
    (void)state;
    struct problem *p = make_problem();
    for (size_t n = 0; n < COLUMNS; n++) {
        float scale = n == COLUMNS / 2 ? 0 : (float)pow(10, (double)n - COLUMNS / 2);
        for (size_t k = 0; k < INPUTS; k++) {
            p->weights[k * COLUMNS + n] *= scale;
        }
    }
    const struct rnn_steps *steps;
    for (size_t set = 0; (steps = rnn_steps_at(RNN_PRECISION_FP32, set)) != NULL; set++) {
        run(p, steps);
        check_against_magnitudes(p);
        assert_true(p->outputs[0][COLUMNS / 2] == 0);
    }
    mem_free(p);
}

/* Few weights among zeros, some of them neighbours: far larger than their column's mean. */
static void test_sparse_columns(void **state)
{
    (void)state;
    struct problem *p = make_problem();
    for (size_t k = 0; k < INPUTS; k++) {
        for (size_t n = 0; n < COLUMNS; n++) {
            bool is_kept = k / 2 % COLUMNS == n;
            p->weights[k * COLUMNS + n] = is_kept ? p->weights[k * COLUMNS + n] + 1.0f : 0.0f;
        }
    }
    const struct rnn_steps *steps;
    for (size_t set = 0; (steps = rnn_steps_at(RNN_PRECISION_FP32, set)) != NULL; set++) {
        run(p, steps);
        check_against_magnitudes(p);
    }
    mem_free(p);
}

static void test_no_number_spoils_its_column_alone(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct problem *p = make_problem();
        p->weights[7 * COLUMNS + 5] = bad[i];
        const struct rnn_steps *steps;
        for (size_t set = 0; (steps = rnn_steps_at(RNN_PRECISION_FP32, set)) != NULL; set++) {
            run(p, steps);
            for (size_t n = 0; n < COLUMNS; n++) {
                assert_true(isfinite(p->outputs[3][n]) == (n != 5));
            }
        }
        mem_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_are_as_small),
        cmocka_unit_test(test_columns_of_all_sizes),
        cmocka_unit_test(test_sparse_columns),
        cmocka_unit_test(test_no_number_spoils_its_column_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
