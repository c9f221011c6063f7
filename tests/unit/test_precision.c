/* What narrow precisions cost: the bundled model reads the opening of its book. bf16 changes its bits per character
 * by at most 0.1 %, int8 by at most 0.5 %; int8 gives the same bits with all kernels. Their plans are half and a
 * quarter of the size, less what stays fp32. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/decode/decode_score.h"
#include "engine/model/snapshot.h"
#include "tests/unit/decode_model.h"

/* Herman Melville, Moby-Dick, 1851. */
static const char TEXT[] =
    "Call me Ishmael. Some years ago--never mind how long precisely--having little or no money in my purse, "
    "and nothing particular to interest me on shore, I thought I would sail about a little and see the "
    "watery part of the world. It is a way I have of driving off the spleen and regulating the circulation. "
    "Whenever I find myself growing grim about the mouth; whenever it is a damp, drizzly November in my "
    "soul; whenever I find myself involuntarily pausing before coffin warehouses, and bringing up the rear "
    "of every funeral I meet; and especially whenever my hypos get such an upper hand of me, that it "
    "requires a strong moral principle to prevent me from deliberately stepping into the street, and "
    "methodically knocking people's hats off--then, I account it high time to get to sea as soon as I can. "
    "This is my substitute for pistol and ball. With a philosophical flourish Cato throws himself upon his "
    "sword; I quietly take to the ship. There is nothing surprising in this. If they but knew it, almost all "
    "men in their degree, some time or other, cherish very nearly the same feelings towards the ocean with "
    "me. There now is your insular city of the Manhattoes, belted round by wharves as Indian isles by coral "
    "reefs--commerce surrounds it with her surf. Right and left, the streets take you waterward. Its extreme "
    "downtown is the battery, where that noble mole is washed by waves, and cooled by breezes, which a few "
    "hours previous were out of sight of land. Look at the crowds of water-gazers there. Circumambulate the "
    "city of a dreamy Sabbath afternoon. Go from Corlears Hook to Coenties Slip, and from thence, by "
    "Whitehall, northward. What do you see? Posted like silent sentinels all around the town, stand "
    "thousands upon thousands of mortal men fixed in ocean reveries.";

static double bits_of(const float *logits, size_t count, uint32_t symbol)
{
    double sum = 0;
    for (size_t n = 0; n < count; n++) {
        sum += exp((double)logits[n] - (double)logits[symbol]);
    }
    return log2(sum);
}

/* Bits per symbol after the first one. */
static double measure_symbols(const struct decode_plan *plan, const uint32_t *symbols, size_t count)
{
    float *slot = mem_allocate_aligned(plan->slot_floats, sizeof *slot);
    float *logits = mem_allocate_aligned(plan->output.stride, sizeof *logits);
    decode_plan_reset_slot(plan, slot);
    double bits = 0;
    for (size_t n = 1; n < count; n++) {
        decode_model_step(plan, symbols[n - 1], slot, (n - 1) % 2, logits);
        bits += bits_of(logits, plan->vocabulary_size, symbols[n]);
    }
    mem_free(slot);
    mem_free(logits);
    return bits / (double)(count - 1);
}

/* Bits per character of TEXT. */
static double measure(const struct snapshot *snapshot)
{
    uint32_t symbols[sizeof TEXT];
    size_t count;
    struct error error;
    assert_int_equal(vocabulary_encode(snapshot_vocabulary(snapshot), TEXT, sizeof TEXT - 1, UNKNOWN_SYMBOLS_ERROR,
                                       symbols, &count, &error),
                     STATUS_OK);
    assert_int_equal(count, sizeof TEXT - 1);
    return measure_symbols(snapshot_decode_plan(snapshot), symbols, count);
}

static struct snapshot *load(enum rnn_precision precision)
{
    struct snapshot *snapshot;
    struct error error;
    if (snapshot_load("config/demo/moby/1", "moby", 1, precision, &snapshot, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return snapshot;
}

static void test_bits_per_character(void **state)
{
    (void)state;
    static const double change_max[] = {0, 0.001, 0.005};
    double bits[RNN_PRECISION_COUNT];
    for (int precision = RNN_PRECISION_FP32; precision < RNN_PRECISION_COUNT; precision++) {
        struct snapshot *snapshot = load((enum rnn_precision)precision);
        bits[precision] = measure(snapshot);
        print_message("%s: %.5f bits per character (%+.4f %%), %zu bytes\n",
                      rnn_precision_name((enum rnn_precision)precision), bits[precision],
                      (bits[precision] / bits[0] - 1) * 100, decode_plan_bytes(snapshot_decode_plan(snapshot)));
        assert_true(bits[precision] > 0.5 && bits[precision] < 2.5);
        assert_true(fabs(bits[precision] / bits[0] - 1) <= change_max[precision]);
        snapshot_unref(snapshot);
    }
}

/* Of layers so small that rounding up to large pages does not count. */
static void test_sizes(void **state)
{
    (void)state;
    enum { UNITS = 128, SYMBOLS = 24 };
    static const double size_max[] = {1, 0.55, 0.33}; /* the input table is a twentieth of it */
    size_t bytes[RNN_PRECISION_COUNT];
    struct decode_layer_weights layer = {.cell = DECODE_CELL_LSTM, .input_size = UNITS, .units = UNITS};
    struct decode_weights sizes = {.vocabulary_size = SYMBOLS, .layer_count = 2, .layers = {layer, layer}};
    sizes.layers[0].input_size = SYMBOLS;
    for (int precision = RNN_PRECISION_FP32; precision < RNN_PRECISION_COUNT; precision++) {
        sizes.precision = (enum rnn_precision)precision;
        bytes[precision] = decode_plan_measure(&sizes);
        assert_true((double)bytes[precision] <= size_max[precision] * (double)bytes[0]);
    }
    assert_true(bytes[RNN_PRECISION_INT8] > UNITS * UNITS * 4 * 3); /* all kernels but the table's, a byte a weight */
}

/* Rows in lockstep give what single steps give, summed in another order; each begins afresh. */
static void test_scores_are_those_of_single_steps(void **state)
{
    (void)state;
    enum { ROWS = 3, SYMBOLS = 200 };
    struct snapshot *snapshot = load(RNN_PRECISION_INT8);
    const struct decode_plan *plan = snapshot_decode_plan(snapshot);
    uint32_t symbols[sizeof TEXT];
    size_t count;
    struct error error;
    double nats;
    double wanted = 0;
    assert_int_equal(vocabulary_encode(snapshot_vocabulary(snapshot), TEXT, sizeof TEXT - 1, UNKNOWN_SYMBOLS_ERROR,
                                       symbols, &count, &error),
                     STATUS_OK);
    assert_true(count >= ROWS * SYMBOLS);
    for (size_t row = 0; row < ROWS; row++) {
        wanted += measure_symbols(plan, symbols + row * SYMBOLS, SYMBOLS) / ROWS;
    }
    assert_int_equal(decode_score(plan, snapshot_vocabulary(snapshot), symbols, ROWS, SYMBOLS, NULL, &nats, &error),
                     STATUS_OK);
    assert_true(fabs(nats / log(2) - wanted) < 1e-5);
    const _Atomic bool is_cancelled = true;
    assert_int_equal(
        decode_score(plan, snapshot_vocabulary(snapshot), symbols, ROWS, SYMBOLS, &is_cancelled, &nats, &error),
        STATUS_CANCELLED);
    symbols[SYMBOLS] = (uint32_t)plan->vocabulary_size;
    assert_int_equal(decode_score(plan, snapshot_vocabulary(snapshot), symbols, ROWS, SYMBOLS, NULL, &nats, &error),
                     STATUS_INVALID);
    snapshot_unref(snapshot);
}

static void test_precisions_are_found_by_name(void **state)
{
    (void)state;
    enum rnn_precision precision;
    for (int i = RNN_PRECISION_FP32; i < RNN_PRECISION_COUNT; i++) {
        assert_true(rnn_precision_find(rnn_precision_name((enum rnn_precision)i), &precision));
        assert_int_equal(precision, i);
    }
    assert_false(rnn_precision_find("int4", &precision));
}

/* One step with logits: rows of a gathered embedding and of a table, all zeros among them, on every kernel set. */
static void test_int8_plans_are_equal_on_all_kernels(void **state)
{
    (void)state;
    for (size_t embedding_size = 0; embedding_size <= 40; embedding_size += 20) {
        struct decode_model model;
        decode_model_init(&model, decode_model_characters(65), embedding_size, 2, 45, 3);
        memset(model.values, 0, embedding_size * sizeof(float)); /* the embedding of symbol 0 */
        model.weights.precision = RNN_PRECISION_INT8;
        float wanted[65];
        for (size_t set = 0; rnn_kernels_at(set) != NULL; set++) {
            struct decode_plan *plan;
            struct error error;
            model.weights.kernels = rnn_kernels_at(set)->name;
            assert_int_equal(decode_plan_create(&model.weights, &plan, &error), STATUS_OK);
            assert_int_equal(decode_plan_warm_up(plan, &error), STATUS_OK);
            float *slot = mem_allocate_aligned(plan->slot_floats, sizeof *slot);
            float *logits = mem_allocate_aligned(plan->output.stride, sizeof *logits);
            decode_plan_reset_slot(plan, slot);
            for (unsigned n = 0; n < 20; n++) {
                decode_model_step(plan, n * 7 % 65, slot, n % 2, logits);
            }
            if (set == 0) {
                memcpy(wanted, logits, sizeof wanted);
            }
            assert_memory_equal(wanted, logits, sizeof wanted);
            mem_free(slot);
            mem_free(logits);
            decode_plan_destroy(plan);
        }
        decode_model_release(&model);
    }
}

static void test_not_finite_is_refused(void **state)
{
    (void)state;
    for (int precision = RNN_PRECISION_BF16; precision < RNN_PRECISION_COUNT; precision++) {
        for (size_t embedding_size = 0; embedding_size <= 40; embedding_size += 20) {
            struct decode_model model;
            decode_model_init(&model, decode_model_characters(65), embedding_size, 1, 8, 3);
            model.values[0] = NAN; /* what symbol 0 feeds in */
            model.weights.precision = (enum rnn_precision)precision;
            struct decode_plan *plan = NULL;
            struct error error;
            assert_int_equal(decode_plan_create(&model.weights, &plan, &error), STATUS_UNPROCESSABLE);
            assert_string_equal(error.code, "not_finite");
            decode_model_release(&model);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_per_character),           cmocka_unit_test(test_scores_are_those_of_single_steps),
        cmocka_unit_test(test_precisions_are_found_by_name), cmocka_unit_test(test_int8_plans_are_equal_on_all_kernels),
        cmocka_unit_test(test_not_finite_is_refused),        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
