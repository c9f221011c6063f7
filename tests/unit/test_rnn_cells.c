/* The packed kernels of every kind of layer, both halves of a GRU among them: the same bits whatever the rows of a
 * call, and those of the plain kernels but in bf16 and where fp32 is summed in pairs. What they compute is held against
 * the equations by test_decode_plan.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/math/rnn_packed.h"
#include "tests/unit/rnn_rounding.h"

enum { SEED = 17, ROWS_MAX = 13, UNITS_MAX = 130, INPUTS = 21 };

/* What one row brings to a part, and what it takes away: as a slot of a plan has it. */
struct cell_row {
    _Alignas(64) char input[INPUTS * 4 + 64];
    _Alignas(64) char hidden[2][256 * 4];
    _Alignas(64) float cell[256];
    _Alignas(64) float update[256];
};

static void fill_row(enum rnn_precision precision, size_t index, size_t units, struct cell_row *row)
{
    float values[2][256] = {{0}};
    rng_fill_uniform(SEED, index, INPUTS, -1.0f, 1.0f, values[0]);
    rng_fill_uniform(SEED, 100 + index, units, -1.0f, 1.0f, values[1]);
    memset(row, 0, sizeof *row);
    memset(row->input, precision == RNN_PRECISION_INT8 ? RNN_INT8_ZERO : 0, sizeof row->input);
    memset(row->hidden, precision == RNN_PRECISION_INT8 ? RNN_INT8_ZERO : 0, sizeof row->hidden);
    rnn_write_hidden(precision, values[0], INPUTS, row->input);
    rnn_write_hidden(precision, values[1], units, row->hidden[0]);
    memcpy(row->cell, values[1], units * sizeof(float));
    rng_fill_uniform(SEED, 200 + index, units, 0.0f, 1.0f, row->update);
}

/* One part of a step of ROWS_MAX rows in calls of at most `rows_a_call`. */
static void run_part(const struct rnn_steps *steps, const struct rnn_layer_weights *weights, size_t rows_a_call,
                     struct cell_row *own)
{
    struct rnn_layer layer;
    struct error error;
    struct rnn_layer_row rows[ROWS_MAX];
    assert_int_equal(rnn_layer_init(&layer, steps, weights, &error), STATUS_OK);
    for (size_t i = 0; i < ROWS_MAX; i++) {
        fill_row(steps->precision, i, weights->units, &own[i]);
        rows[i] = (struct rnn_layer_row){.start = layer.start,
                                         .input = own[i].input,
                                         .hidden = own[i].hidden[0],
                                         .hidden_next = own[i].hidden[1],
                                         .cell = own[i].cell,
                                         .update = own[i].update,
                                         .input_scale = 1.0f + (float)i};
        rnn_layer_begin_row(&layer, &rows[i]);
    }
    for (size_t block = 0; block < layer.block_count; block++) {
        for (size_t row = 0; row < ROWS_MAX; row += rows_a_call) {
            size_t left = ROWS_MAX - row;
            steps->layer(&layer, block, rows + row, left < rows_a_call ? left : rows_a_call);
        }
    }
    rnn_layer_release(&layer);
}

static void assert_same_rows(const struct cell_row *a, const struct cell_row *b, enum rnn_precision precision,
                             size_t units)
{
    for (size_t i = 0; i < ROWS_MAX; i++) {
        assert_memory_equal(a[i].hidden[1], b[i].hidden[1], rnn_hidden_bytes(precision, units));
        assert_memory_equal(a[i].cell, b[i].cell, units * sizeof(float));
        assert_memory_equal(a[i].update, b[i].update, units * sizeof(float));
    }
}

static void check_kernels(const struct rnn_layer_weights *weights, enum rnn_precision precision)
{
    static struct cell_row wanted[ROWS_MAX];
    static struct cell_row got[ROWS_MAX];
    const struct rnn_steps *plain = rnn_kernels_steps(rnn_kernels_find("plain"), precision);
    const struct rnn_steps *steps;
    for (size_t set = 0; (steps = rnn_steps_at(precision, set)) != NULL; set++) {
        run_part(has_own_bits(steps) ? steps : plain, weights, ROWS_MAX, wanted);
        for (size_t rows_a_call = 1; rows_a_call <= ROWS_MAX; rows_a_call += 2) {
            run_part(steps, weights, rows_a_call, got);
            assert_same_rows(wanted, got, precision, weights->units);
        }
    }
}

static void test_kernels_give_the_same_bits(void **state)
{
    (void)state;
    static const size_t units[] = {1, 8, 17, 33, 64, UNITS_MAX};
    size_t count = (INPUTS + UNITS_MAX) * 4 * UNITS_MAX;
    float *values = mem_allocate(count, sizeof *values);
    rng_fill_uniform(SEED, 1, count, -0.3f, 0.3f, values);
    for (int kind = 0; kind < RNN_KIND_COUNT; kind++) {
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            for (int n = 0; n < 2 * RNN_PRECISION_COUNT; n++) {
                enum rnn_precision precision = (enum rnn_precision)(n / 2);
                struct rnn_layer_weights weights = {.kind = (enum rnn_kind)kind,
                                                    .is_input_hidden = n % 2 == 1,
                                                    .input_size = INPUTS,
                                                    .units = units[u],
                                                    .kernel = values,
                                                    .bias = values,
                                                    .forget_bias = 1.0f};
                check_kernels(&weights, precision);
            }
        }
    }
    mem_free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
