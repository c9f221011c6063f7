/* The packed LSTM kernels, those of narrow precisions above all. int8: plain ones against sums in double precision over
 * the same rounded numbers and by the same polynomials (absolute tolerance 2e-6 on c, and the 0.5/63 of rounding h),
 * all others against the plain ones (equal bits). bf16: every set against double precision over the same rounded
 * numbers (1e-5 on c, and the 2^-8 of rounding h), and the same bits whatever the rows of a call; so where fp32 is
 * summed in pairs (1e-5). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/math/rnn_packed.h"
#include "engine/math/rnn_packed_sets.h"
#include "tests/unit/rnn_rounding.h"

enum { SEED = 11, ROWS_MAX = 13 };

/* A step in TensorFlow's layout; the numbers are what the precision makes of them. */
struct problem {
    enum rnn_precision precision;
    bool is_input_apart;
    size_t input_size, units, row_count;
    float *kernel, *bias;         /* as given */
    double *rounded;              /* the kernel again, [input_size + units, 4 × units] */
    float *input, *hidden, *cell; /* [rows, input_size], [rows, units], [rows, units]; already rounded but the input */
    double *input_rounded;
    double *hidden_wanted, *cell_wanted; /* [rows, units] */
};

static void fill(float *values, size_t count, uint64_t stream, float scale)
{
    rng_fill_uniform(SEED, stream, count, -scale, scale, values);
}

/* What the precision makes of a weight whose column's largest is `maximum`, and of an input of such a row. */
static double round_weight(enum rnn_precision precision, double weight, double maximum)
{
    switch (precision) {
    case RNN_PRECISION_BF16: return round_bf16(weight);
    case RNN_PRECISION_INT8: return round_int8_weight(weight, maximum);
    case RNN_PRECISION_FP32:
    case RNN_PRECISION_COUNT: break;
    }
    return weight;
}

static double round_input(enum rnn_precision precision, double input, double maximum)
{
    return precision == RNN_PRECISION_INT8 ? round_int8_input(input, maximum) : round_weight(precision, input, maximum);
}

static void round_numbers(struct problem *p)
{
    size_t terms = p->input_size + p->units;
    size_t columns = 4 * p->units;
    for (size_t column = 0; column < columns; column++) {
        double maximum = largest(p->kernel + column, terms, columns);
        for (size_t k = 0; k < terms; k++) {
            p->rounded[k * columns + column] =
                round_weight(p->precision, (double)p->kernel[k * columns + column], maximum);
        }
    }
    for (size_t row = 0; row < p->row_count; row++) {
        const float *input = p->input + row * p->input_size;
        double maximum = p->is_input_apart ? largest(input, p->input_size, 1) : 1;
        for (size_t k = 0; k < p->input_size; k++) {
            p->input_rounded[row * p->input_size + k] = round_input(p->precision, (double)input[k], maximum);
        }
    }
    for (size_t n = 0; n < p->row_count * p->units; n++) {
        p->hidden[n] = (float)round_input(p->precision, (double)p->hidden[n], 1);
    }
}

/* 2^r, or 2^r − 1, of x · factor = n + r. Where n changes, the polynomials leap by up to 2.5e-5: no sum of these
 * problems is so near to such an x that it counts. */
static double split_power(const struct power *power, double x, double *ret_scale)
{
    double exponent = fmin(fmax(x, (double)-power->input_max), (double)power->input_max) * (double)power->factor;
    double r = exponent - rint(exponent);
    double value = 0;
    for (size_t i = 0; i <= power->degree; i++) {
        value = value * r + (double)power->coefficients[i];
    }
    *ret_scale = exp2(rint(exponent));
    return value;
}

static double sigmoid_of(const struct powers *powers, double x)
{
    double scale;
    double p = split_power(&powers->sigmoid, x, &scale);
    return 1.0 / (1.0 + scale * p);
}

static double tanh_of(const struct powers *powers, double x)
{
    double scale;
    double p = split_power(&powers->tanh, x, &scale);
    double e = scale * p + (scale - 1.0);
    return e / (e + 2.0);
}

static void solve(struct problem *p)
{
    size_t columns = 4 * p->units;
    for (size_t n = 0; n < p->row_count * p->units; n++) {
        size_t row = n / p->units;
        double gates[4];
        for (size_t gate = 0; gate < 4; gate++) {
            size_t column = gate * p->units + n % p->units;
            gates[gate] = (double)p->bias[column] + (gate == 2 ? 1.0 : 0.0);
            for (size_t k = 0; k < p->input_size; k++) {
                gates[gate] += p->input_rounded[row * p->input_size + k] * p->rounded[k * columns + column];
            }
            for (size_t k = 0; k < p->units; k++) {
                gates[gate] +=
                    (double)p->hidden[row * p->units + k] * p->rounded[(p->input_size + k) * columns + column];
            }
        }
        const struct powers *powers = p->precision == RNN_PRECISION_FP32 ? &POWERS_FP32 : &POWERS_NARROW;
        double made = sigmoid_of(powers, gates[0]) * tanh_of(powers, gates[1]);
        p->cell_wanted[n] = (double)p->cell[n] * sigmoid_of(powers, gates[2]) + made;
        p->hidden_wanted[n] = sigmoid_of(powers, gates[3]) * tanh_of(powers, p->cell_wanted[n]);
    }
}

static void problem_init(struct problem *p, enum rnn_precision precision, size_t input_size, size_t units,
                         size_t row_count, bool is_input_apart)
{
    size_t kernel_count = (input_size + units) * 4 * units;
    *p = (struct problem){.precision = precision,
                          .is_input_apart = is_input_apart,
                          .input_size = input_size,
                          .units = units,
                          .row_count = row_count};
    p->kernel = mem_allocate(kernel_count, sizeof(float));
    p->rounded = mem_allocate(kernel_count, sizeof(double));
    p->bias = mem_allocate(4 * units, sizeof(float));
    p->input = mem_allocate(row_count * input_size, sizeof(float));
    p->input_rounded = mem_allocate(row_count * input_size, sizeof(double));
    p->hidden = mem_allocate(row_count * units, sizeof(float));
    p->cell = mem_allocate(row_count * units, sizeof(float));
    p->hidden_wanted = mem_allocate(row_count * units, sizeof(double));
    p->cell_wanted = mem_allocate(row_count * units, sizeof(double));
    fill(p->kernel, kernel_count, 1, 0.3f);
    fill(p->bias, 4 * units, 2, 1.0f);
    fill(p->input, row_count * input_size, 3, is_input_apart ? 3.0f : 1.0f);
    fill(p->hidden, row_count * units, 4, 1.0f);
    fill(p->cell, row_count * units, 5, 2.0f);
    round_numbers(p);
    solve(p);
}

static void problem_release(struct problem *p)
{
    void *blocks[] = {p->kernel, p->rounded, p->bias,          p->input,      p->input_rounded,
                      p->hidden, p->cell,    p->hidden_wanted, p->cell_wanted};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        mem_free(blocks[i]);
    }
}

/* Words of one row's input or h, padded to what the kernels may read. */
enum { ROW_BYTES = 1024 };

static void prepare_row(const struct problem *p, const struct rnn_layer *layer, size_t row, char *own, float *cell,
                        struct rnn_layer_row *ret_row)
{
    static const unsigned char nothing[] = {0, 0, RNN_INT8_ZERO};
    memset(own, nothing[p->precision], 3 * ROW_BYTES);
    const float *input = p->input + row * p->input_size;
    float input_scale = 1;
    if (p->is_input_apart && p->precision == RNN_PRECISION_INT8) {
        input_scale = rnn_pack_input(p->precision, input, p->input_size, own);
    } else {
        rnn_write_hidden(p->precision, input, p->input_size, own);
    }
    memcpy(cell, p->cell + row * p->units, p->units * sizeof(float));
    rnn_write_hidden(p->precision, p->hidden + row * p->units, p->units, own + ROW_BYTES);
    *ret_row = (struct rnn_layer_row){.start = layer->start,
                                      .input = own,
                                      .input_scale = input_scale,
                                      .cell = cell,
                                      .hidden = own + ROW_BYTES,
                                      .hidden_next = own + 2 * ROW_BYTES};
    rnn_layer_begin_row(layer, ret_row);
}

/* One step of all rows in calls of at most `rows_a_call`; c and h come back unpadded, h as numbers. */
static void step(const struct problem *p, const struct rnn_steps *steps, size_t rows_a_call, float *cell, float *hidden)
{
    struct rnn_layer layer;
    struct error error;
    struct rnn_layer_weights weights = {
        .input_size = p->input_size, .units = p->units, .kernel = p->kernel, .bias = p->bias, .forget_bias = 1.0f};
    weights.is_input_hidden = !p->is_input_apart;
    assert_int_equal(rnn_layer_init(&layer, steps, &weights, &error), STATUS_OK);
    char *words = mem_allocate_aligned(p->row_count * 3, ROW_BYTES);
    size_t cell_floats = (layer.stride + 15) / 16 * 16;
    float *cells = mem_allocate_aligned(p->row_count * cell_floats, sizeof(float));
    struct rnn_layer_row rows[ROWS_MAX];
    for (size_t row = 0; row < p->row_count; row++) {
        prepare_row(p, &layer, row, words + row * 3 * ROW_BYTES, cells + row * cell_floats, &rows[row]);
    }
    for (size_t block = 0; block < layer.block_count; block++) {
        for (size_t row = 0; row < p->row_count; row += rows_a_call) {
            size_t left = p->row_count - row;
            steps->layer(&layer, block, rows + row, left < rows_a_call ? left : rows_a_call);
        }
    }
    for (size_t row = 0; row < p->row_count; row++) {
        float padded[ROW_BYTES];
        memcpy(cell + row * p->units, rows[row].cell, p->units * sizeof(float));
        rnn_read_hidden(p->precision, rows[row].hidden_next, layer.stride, padded);
        memcpy(hidden + row * p->units, padded, p->units * sizeof(float));
        for (size_t unit = p->units; unit < layer.stride; unit++) {
            assert_true(rows[row].cell[unit] == 0.0f && padded[unit] == 0.0f);
        }
    }
    mem_free(words);
    mem_free(cells);
    rnn_layer_release(&layer);
}

static void check_against_double(const struct problem *p, const float *cell, const float *hidden)
{
    bool is_int8 = p->precision == RNN_PRECISION_INT8;
    for (size_t n = 0; n < p->row_count * p->units; n++) {
        double wanted = p->hidden_wanted[n];
        const double roundings[] = {0, fabs(wanted) / 256, 0.5 / RNN_INT8_INPUT_MAX};
        assert_true(fabs((double)cell[n] - p->cell_wanted[n]) < (is_int8 ? 2e-6 : 1e-5));
        assert_true(fabs((double)hidden[n] - wanted) < roundings[p->precision] + 1e-5);
    }
}

static void check_lstm(const struct problem *p)
{
    size_t count = p->row_count * p->units;
    float *cell[2];
    float *hidden[2];
    for (size_t i = 0; i < 2; i++) {
        cell[i] = mem_allocate(count, sizeof(float));
        hidden[i] = mem_allocate(count, sizeof(float));
    }
    const struct rnn_steps *plain = rnn_kernels_steps(rnn_kernels_find("plain"), p->precision);
    const struct rnn_steps *steps;
    for (size_t set = 0; (steps = rnn_steps_at(p->precision, set)) != NULL; set++) {
        step(p, has_own_bits(steps) ? steps : plain, p->row_count, cell[0], hidden[0]);
        check_against_double(p, cell[0], hidden[0]);
        for (size_t rows_a_call = 1; rows_a_call <= p->row_count; rows_a_call += 4) {
            step(p, steps, rows_a_call, cell[1], hidden[1]);
            assert_memory_equal(cell[0], cell[1], count * sizeof(float));
            assert_memory_equal(hidden[0], hidden[1], count * sizeof(float));
        }
    }
    for (size_t i = 0; i < 2; i++) {
        mem_free(cell[i]);
        mem_free(hidden[i]);
    }
}

static void check_precision(enum rnn_precision precision)
{
    static const size_t units[] = {1, 5, 16, 100, 128};
    static const size_t inputs[] = {0, 3, 47, 65};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
            for (size_t rows = 1; rows <= ROWS_MAX; rows += units[u] > 16 ? 3 : 1) {
                for (int is_scaled = 0; is_scaled < 2; is_scaled++) {
                    struct problem p;
                    problem_init(&p, precision, inputs[i], units[u], rows, is_scaled != 0);
                    check_lstm(&p);
                    problem_release(&p);
                }
            }
        }
    }
}

/* Lists of every length up to 53 words of int8, and long ones: each word has its role among them. */
static void test_lists_of_all_lengths(void **state)
{
    (void)state;
    enum { LONG = 900 };
    for (size_t terms = 2; terms <= LONG; terms += terms < 212 ? 3 : 197) {
        struct problem p;
        problem_init(&p, RNN_PRECISION_INT8, terms, terms % 40 + 1, ROWS_MAX, terms % 2 == 0);
        check_lstm(&p);
        problem_release(&p);
        problem_init(&p, RNN_PRECISION_FP32, terms / 4, terms % 40 + 1, ROWS_MAX, terms % 2 == 0);
        check_lstm(&p);
        problem_release(&p);
    }
}

static void test_int8_lstm(void **state)
{
    (void)state;
    check_precision(RNN_PRECISION_INT8);
}

static void test_fp32_lstm(void **state)
{
    (void)state;
    check_precision(RNN_PRECISION_FP32);
}

static void test_bf16_lstm(void **state)
{
    (void)state;
    check_precision(RNN_PRECISION_BF16);
}

/* Every weight and h at the ends of its range, and as many terms as a layer can have: no sum saturates. */
static void test_int8_extremes(void **state)
{
    (void)state;
    enum { UNITS = 1024, COLUMNS = 4 };
    float *weights = mem_allocate(UNITS * COLUMNS, sizeof(float));
    _Alignas(64) uint8_t hidden[UNITS];
    static const float bias[COLUMNS];
    for (size_t n = 0; n < UNITS * COLUMNS; n++) {
        static const float columns[][2] = {{1, 1}, {-1, -1}, {1, -1}, {0, -1}};
        weights[n] = columns[n % COLUMNS][n / COLUMNS % 2];
    }
    for (int sign = -1; sign <= 1; sign += 2) {
        memset(hidden, RNN_INT8_ZERO + sign * RNN_INT8_INPUT_MAX, sizeof hidden);
        const struct rnn_steps *steps;
        for (size_t set = 0; (steps = rnn_steps_at(RNN_PRECISION_INT8, set)) != NULL; set++) {
            struct rnn_dense layer;
            struct error error;
            struct rnn_dense_weights from = {
                .input_size = UNITS, .columns = COLUMNS, .is_input_hidden = true, .kernel = weights, .bias = bias};
            _Alignas(64) float output[RNN_VECTORS * RNN_LANES_MAX];
            assert_int_equal(rnn_dense_init(&layer, steps, &from, &error), STATUS_OK);
            struct rnn_dense_row row = {.input = hidden, .output = output};
            rnn_dense_begin_row(&layer, &row);
            layer.steps->dense(&layer, 0, &row, 1);
            static const double wanted[] = {1, -1, 0, -0.5};
            for (size_t n = 0; n < COLUMNS; n++) {
                assert_true(fabs((double)output[n] - sign * wanted[n] * UNITS) < 1e-3);
            }
            rnn_dense_release(&layer);
        }
    }
    mem_free(weights);
}

static void test_hidden_round_trip(void **state)
{
    (void)state;
    for (int precision = RNN_PRECISION_FP32; precision < RNN_PRECISION_COUNT; precision++) {
        for (float x = -1.2f; x < 1.2f; x += 0.0007f) {
            float words[2][1] = {{0}};
            float read;
            float again;
            rnn_write_hidden((enum rnn_precision)precision, &x, 1, words[0]);
            rnn_read_hidden((enum rnn_precision)precision, words[0], 1, &read);
            rnn_write_hidden((enum rnn_precision)precision, &read, 1, words[1]);
            rnn_read_hidden((enum rnn_precision)precision, words[1], 1, &again);
            assert_memory_equal(words[0], words[1], sizeof words[0]);
            assert_true(read == again);
            float clamped = precision == RNN_PRECISION_INT8 ? fminf(fmaxf(x, -1), 1) : x;
            static const float differences_max[] = {0, 0.00394f, 0.50001f / RNN_INT8_INPUT_MAX};
            assert_true(fabsf(read - clamped) <= differences_max[precision]);
        }
    }
}

static void test_not_finite_and_no_memory(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, 3.4e38f};
    const struct rnn_kernels *kernels = rnn_kernels_find(NULL);
    for (int precision = RNN_PRECISION_BF16; precision < RNN_PRECISION_COUNT; precision++) {
        const struct rnn_steps *steps = rnn_kernels_steps(kernels, (enum rnn_precision)precision);
        struct rnn_layer lstm;
        struct rnn_dense dense;
        struct error error;
        float weights[16 * 8] = {0};
        struct rnn_layer_weights from = {.input_size = 4, .units = 4, .kernel = weights, .bias = weights};
        struct rnn_dense_weights output = {.input_size = 8, .columns = 16, .kernel = weights, .bias = weights};
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            weights[16 * 8 - 1] = bad[i];
            assert_int_equal(rnn_layer_init(&lstm, steps, &from, &error), STATUS_UNPROCESSABLE);
            assert_string_equal(error.code, "not_finite");
            assert_int_equal(rnn_dense_init(&dense, steps, &output, &error), STATUS_UNPROCESSABLE);
        }
        weights[16 * 8 - 1] = 0;
        enum status status = STATUS_NO_MEMORY;
        for (uint64_t n = 0; status == STATUS_NO_MEMORY; n++) {
            mem_fail_after(n);
            status = rnn_layer_init(&lstm, steps, &from, &error);
            mem_fail_after(UINT64_MAX);
            assert_true(n < 10);
        }
        assert_int_equal(status, STATUS_OK);
        rnn_layer_release(&lstm);
    }
}

/* The reference rounds h · 63 once, as the vector kernels do: around every tie, the whole number nearest to the exact
 * product. */
static void test_hidden_is_rounded_once(void **state)
{
    (void)state;
    for (int n = -RNN_INT8_INPUT_MAX; n < RNN_INT8_INPUT_MAX; n++) {
        float x = (float)((n + 0.5) / RNN_INT8_INPUT_MAX);
        for (int i = 0; i < 4; i++) {
            x = nextafterf(x, -2);
        }
        for (int i = 0; i < 9; i++, x = nextafterf(x, 2)) {
            uint8_t byte = 0;
            rnn_write_hidden(RNN_PRECISION_INT8, &x, 1, &byte);
            float rounded = fmaf(x, RNN_INT8_INPUT_MAX, 0x1.8p23f) - 0x1.8p23f; /* as the vector kernels do */
            assert_int_equal(byte, (int)rounded + RNN_INT8_ZERO);
        }
    }
}

static void test_no_number_is_packed_as_the_largest(void **state)
{
    (void)state;
    float values[] = {0.5f, NAN, -2, 2};
    uint8_t bytes[16];
    assert_true(rnn_pack_input(RNN_PRECISION_INT8, values, 4, bytes) == 2);
    assert_int_equal(bytes[0], RNN_INT8_ZERO + 16); /* 15.75 */
    assert_int_equal(bytes[1], RNN_INT8_ZERO + RNN_INT8_INPUT_MAX);
    assert_int_equal(bytes[2], RNN_INT8_ZERO - RNN_INT8_INPUT_MAX);
    assert_int_equal(bytes[3], RNN_INT8_ZERO + RNN_INT8_INPUT_MAX);
}

/* Where there is no vector version, the plain one serves. */
static void test_every_set_has_every_precision(void **state)
{
    (void)state;
    for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
        for (int precision = RNN_PRECISION_FP32; precision < RNN_PRECISION_COUNT; precision++) {
            const struct rnn_steps *steps = rnn_kernels_steps(rnn_kernels_at(set), (enum rnn_precision)precision);
            assert_non_null(steps);
            assert_int_equal(steps->precision, precision);
            print_message("%s in %s: %s\n", rnn_kernels_at(set)->name, rnn_precision_name(steps->precision),
                          steps->name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hidden_is_rounded_once),
        cmocka_unit_test(test_no_number_is_packed_as_the_largest),
        cmocka_unit_test(test_every_set_has_every_precision),
        cmocka_unit_test(test_fp32_lstm),
        cmocka_unit_test(test_lists_of_all_lengths),
        cmocka_unit_test(test_int8_lstm),
        cmocka_unit_test(test_bf16_lstm),
        cmocka_unit_test(test_int8_extremes),
        cmocka_unit_test(test_hidden_round_trip),
        cmocka_unit_test(test_not_finite_and_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
