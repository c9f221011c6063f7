/* Every fused kernel against its body run step by step: outputs, states and all gradients, over random data, with and
 * without sequence lengths; and which bodies are recognised. */
#include "engine/graph/recurrence_node.h"
#include "engine/math/gemm.h"
#include "engine/nn/recurrence.h"
#include "tests/unit/recurrence_rig.h"

enum { TIME = 5, BATCH = 4, DEPTH = 3, UNITS = 6, CELLS_MAX = 4, BATCH_MAX = 16, ROUNDS = 60 };

/* A cell by its kind, or a stack of such. */
struct cell_case {
    const char *name;
    enum cell_kind kinds[CELLS_MAX];
    size_t count;
    bool is_multi;
    double forget_bias;
    double keep;                    /* of each cell's output; 0: no dropout */
    double input_keep;              /* of each cell's input; 0: no dropout */
    const char *kernels[CELLS_MAX]; /* what is to be recognised; none: the body runs step by step */
    const char *activation;
    bool has_peepholes;
    bool is_residual;
    bool is_state_matrix;
    bool is_float64;
    size_t units[CELLS_MAX]; /* 0: UNITS; likewise the rest */
    int64_t time;
    int64_t batch;
    int64_t depth;
    size_t symbol_count; /* above 0: x is symbols, some of them out of range */
};

static int64_t or_usual(int64_t given, int64_t usual)
{
    return given == 0 ? usual : given;
}

static struct output number_of(struct network *network, double value)
{
    float room = (float)value;
    struct tensor tensor = {DTYPE_FLOAT32, shape_scalar(), &room};
    return rig_constant(network->graph, &tensor);
}

static uint32_t make_cell(struct network *network, const struct cell_case *test, size_t index)
{
    enum cell_kind kind = test->kinds[index];
    struct error error;
    uint32_t cell = 0;
    bool is_lstm = kind == CELL_BASIC_LSTM || kind == CELL_LSTM;
    struct cell_options options = {.kind = kind,
                                   .units = (size_t)or_usual((int64_t)test->units[index], UNITS),
                                   .activation = test->activation,
                                   .has_forget_bias = test->forget_bias != 0,
                                   .forget_bias = test->forget_bias,
                                   .is_state_matrix = is_lstm && test->is_state_matrix,
                                   .has_peepholes = kind == CELL_LSTM && test->has_peepholes};
    must(cell_create(network->graph, &options, &cell, &error), &error);
    if (test->keep > 0 || test->input_keep > 0) {
        struct cell_options wrapper = {.kind = CELL_DROPOUT_WRAPPER, .children = {cell}, .child_count = 1};
        if (test->keep > 0) {
            wrapper.output_keep = number_of(network, test->keep);
            wrapper.output_keep_value = test->keep;
        }
        if (test->input_keep > 0) {
            wrapper.input_keep = number_of(network, test->input_keep);
            wrapper.input_keep_value = test->input_keep;
        }
        must(cell_create(network->graph, &wrapper, &cell, &error), &error);
    }
    if (test->is_residual) {
        struct cell_options wrapper = {.kind = CELL_RESIDUAL_WRAPPER, .children = {cell}, .child_count = 1};
        must(cell_create(network->graph, &wrapper, &cell, &error), &error);
    }
    return cell;
}

static uint32_t make_cells(struct network *network, const struct cell_case *test)
{
    struct error error;
    uint32_t cells[CELLS_MAX];
    for (size_t i = 0; i < test->count; i++) {
        cells[i] = make_cell(network, test, i);
    }
    if (!test->is_multi) {
        return cells[0];
    }
    uint32_t multi = 0;
    struct cell_options options = {.kind = CELL_MULTI, .child_count = test->count};
    memcpy(options.children, cells, test->count * sizeof *cells);
    must(cell_create(network->graph, &options, &multi, &error), &error);
    return multi;
}

/* [time, batch], from −1 to symbol_count: at both ends out of range. */
static struct output symbols_of(struct network *network, const struct cell_case *test, int64_t time, int64_t batch)
{
    int32_t symbols[4096];
    size_t count = (size_t)(time * batch);
    assert_true(count <= sizeof symbols / sizeof *symbols);
    for (size_t i = 0; i < count; i++) {
        symbols[i] = (int32_t)(rng_philox(3, 0, i).word[0] % (test->symbol_count + 2)) - 1;
    }
    struct tensor tensor = {DTYPE_INT32, shape_matrix(time, batch), symbols};
    return rig_constant(network->graph, &tensor);
}

/* Outputs and states, then the gradients by every variable. */
static size_t build(struct network *network, const struct cell_case *test, const int32_t *lengths, bool is_general,
                    struct output *ret_fetches)
{
    struct error error;
    network_create(network, test->is_float64 ? DTYPE_FLOAT64 : DTYPE_FLOAT32);
    uint32_t cell = make_cells(network, test);
    int64_t batch = or_usual(test->batch, BATCH);
    int64_t depth = test->is_residual ? UNITS : or_usual(test->depth, DEPTH);
    int64_t time = or_usual(test->time, TIME);
    struct recurrence_options options = {
        .symbol_count = test->symbol_count, .is_time_major = true, .is_general = is_general};
    options.inputs = test->symbol_count > 0 ? symbols_of(network, test, time, batch)
                                            : network_variable(network, "x", shape_cube(time, batch, depth));
    if (lengths != NULL) {
        options.sequence_length = network_lengths(network, lengths, batch);
    }
    size_t states = cell_state_count(network->graph, cell);
    struct output initial[CELL_STATES_MAX];
    for (size_t k = 0; k < states; k++) {
        char name[32];
        snprintf(name, sizeof name, "s%zu", k);
        initial[k] =
            network_variable(network, name, shape_matrix(batch, (int64_t)cell_state_size(network->graph, cell, k)));
    }
    options.initial_states = initial;
    must(dynamic_rnn(network->graph, cell, &options, &ret_fetches[0], ret_fetches + 1, &error), &error);
    for (size_t i = 0; i < 1 + states; i++) {
        network_weigh(network, ret_fetches[i]);
    }
    network_finish(network, 0.8);
    return 1 + states + network_gradients(network, ret_fetches + 1 + states);
}

static void check_kernels(const struct network *network, const struct cell_case *test)
{
    const char *kernels[RECURRENCE_STATES_MAX];
    const struct node *node = graph_find_node(network->graph, "rnn/while/Recurrence");
    assert_non_null(node);
    size_t wanted = 0;
    while (wanted < CELLS_MAX && test->kernels[wanted] != NULL) {
        wanted++;
    }
    size_t count = recurrence_node_layers(node, kernels);
    if (count != wanted) {
        fail_msg("%s: %zu layers recognised, not %zu", test->name, count, wanted);
    }
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(kernels[i], test->kernels[i]);
    }
}

static void compare(const struct cell_case *test, const int32_t *lengths)
{
    struct network networks[2];
    struct output fetches[2][NETWORK_FETCHES_MAX];
    struct tensor found[2][NETWORK_FETCHES_MAX];
    size_t counts[2];
    for (int general = 0; general < 2; general++) {
        counts[general] = build(&networks[general], test, lengths, general == 1, fetches[general]);
        network_run(&networks[general], fetches[general], counts[general], found[general]);
    }
    check_kernels(&networks[0], test);
    assert_int_equal(counts[0], counts[1]);
    for (size_t i = 0; i < counts[0]; i++) {
        char what[96];
        snprintf(what, sizeof what, "%s%s, fetch %zu", test->name, lengths == NULL ? "" : " with lengths", i);
        assert_tensors_near(&found[0][i], &found[1][i], test->batch == 0 ? 2e-5 : 2e-4, what); /* longer sums */
    }
    for (int general = 0; general < 2; general++) {
        release_tensors(found[general], counts[general]);
        network_release(&networks[general]);
    }
}

static const struct cell_case cases[] = {
    {.name = "basic_lstm", .kinds = {CELL_BASIC_LSTM}, .count = 1, .kernels = {"lstm"}},
    {.name = "basic_lstm, forget bias",
     .kinds = {CELL_BASIC_LSTM},
     .count = 1,
     .forget_bias = 0.3,
     .kernels = {"lstm"}},
    {.name = "lstm", .kinds = {CELL_LSTM}, .count = 1, .kernels = {"lstm"}},
    {.name = "gru", .kinds = {CELL_GRU}, .count = 1, .kernels = {"gru"}},
    {.name = "rnn", .kinds = {CELL_BASIC_RNN}, .count = 1, .kernels = {"rnn"}},
    {.name = "one cell in a stack", .kinds = {CELL_GRU}, .count = 1, .is_multi = true, .kernels = {"gru"}},
    {.name = "two lstms",
     .kinds = {CELL_BASIC_LSTM, CELL_LSTM},
     .count = 2,
     .is_multi = true,
     .kernels = {"lstm", "lstm"}},
    {.name = "four kinds",
     .kinds = {CELL_BASIC_LSTM, CELL_GRU, CELL_BASIC_RNN, CELL_LSTM},
     .count = 4,
     .is_multi = true,
     .kernels = {"lstm", "gru", "rnn", "lstm"}},
    {.name = "dropout between",
     .kinds = {CELL_GRU, CELL_BASIC_LSTM},
     .count = 2,
     .is_multi = true,
     .keep = 0.6,
     .kernels = {"gru", "lstm"}},
    {.name = "dropout before", .kinds = {CELL_BASIC_RNN}, .count = 1, .input_keep = 0.7, .kernels = {"rnn"}},
    {.name = "dropout everywhere",
     .kinds = {CELL_BASIC_LSTM, CELL_GRU, CELL_BASIC_RNN},
     .count = 3,
     .is_multi = true,
     .keep = 0.6,
     .input_keep = 0.7,
     .kernels = {"lstm", "gru", "rnn"}},
    /* not recognised: run step by step both times */
    {.name = "relu", .kinds = {CELL_BASIC_RNN}, .count = 1, .activation = "sigmoid"},
    {.name = "peepholes", .kinds = {CELL_LSTM}, .count = 1, .has_peepholes = true},
    {.name = "residual", .kinds = {CELL_GRU, CELL_GRU}, .count = 2, .is_multi = true, .is_residual = true},
    {.name = "state matrix", .kinds = {CELL_BASIC_LSTM}, .count = 1, .is_state_matrix = true},
    {.name = "float64", .kinds = {CELL_BASIC_LSTM}, .count = 1, .is_float64 = true},
};

static void test_like_the_body(void **state)
{
    (void)state;
    const int32_t lengths[] = {3, 0, TIME, 1};
    const int32_t all_short[] = {1, 3, 2, 1};
    const int32_t too_long[] = {TIME, TIME + 2, TIME, TIME};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        compare(&cases[i], NULL);
        compare(&cases[i], lengths);
        compare(&cases[i], all_short);
        compare(&cases[i], too_long);
    }
}

/* Stacks of any cells, sizes and lengths. */
static void test_random_stacks(void **state)
{
    (void)state;
    static const struct {
        enum cell_kind kind;
        const char *kernel;
    } kinds[] = {{CELL_BASIC_LSTM, "lstm"}, {CELL_LSTM, "lstm"}, {CELL_GRU, "gru"}, {CELL_BASIC_RNN, "rnn"}};
    const uint64_t seed = 11;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct rng_words words = rng_philox(seed, round, 0);
        struct rng_words layers = rng_philox(seed, round, 1);
        struct rng_words units = rng_philox(seed, round, 2);
        char name[64];
        int32_t lengths[BATCH_MAX];
        snprintf(name, sizeof name, "seed %d, round %d", (int)seed, (int)round);
        struct cell_case test = {.name = name,
                                 .count = 1 + words.word[0] % CELLS_MAX,
                                 .is_multi = true,
                                 .keep = words.word[0] & 64 ? 0.7 : 0,
                                 .input_keep = words.word[0] & 128 ? 0.8 : 0,
                                 .time = 1 + words.word[1] % 8,
                                 .batch = 1 + words.word[2] % BATCH_MAX,
                                 .depth = 1 + words.word[3] % 40};
        for (size_t i = 0; i < test.count; i++) {
            test.kinds[i] = kinds[layers.word[i] % 4].kind;
            test.kernels[i] = kinds[layers.word[i] % 4].kernel;
            test.units[i] = 1 + units.word[i] % 40;
        }
        for (int64_t row = 0; row < test.batch; row++) {
            lengths[row] = (int32_t)(rng_philox(seed, round, 3 + (uint64_t)row).word[0] % (uint64_t)(test.time + 2));
        }
        compare(&test, words.word[0] & 256 ? lengths : NULL);
    }
}

/* Symbols in place of x: as stepping with their one-hot vectors. */
static void test_symbols(void **state)
{
    (void)state;
    const int32_t lengths[] = {3, 0, TIME, 1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cell_case test = cases[i];
        if (test.is_residual || test.is_float64) { /* they add x, and want float64 */
            continue;
        }
        test.symbol_count = 7;
        if (test.input_keep > 0) {
            memset(test.kernels, 0, sizeof test.kernels); /* dropout of one-hot vectors is not recognised */
        }
        compare(&test, NULL);
        compare(&test, lengths);
    }
}

/* More rows than fused kernels work off together: three steps, three, and what is left. */
static void test_several_spans(void **state)
{
    (void)state;
    enum { ROWS = 300, STEPS = 8, STEPS_THAT_COUNT = 7 };
    int32_t lengths[ROWS];
    for (int row = 0; row < ROWS; row++) {
        lengths[row] = row % (STEPS_THAT_COUNT + 1);
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cell_case test = cases[i];
        test.batch = ROWS;
        test.time = STEPS;
        if (test.kernels[0] != NULL) {
            compare(&test, NULL);
            compare(&test, lengths);
        }
        if (test.kernels[0] != NULL && test.input_keep == 0) {
            test.symbol_count = 5;
            compare(&test, lengths);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_like_the_body), cmocka_unit_test(test_random_stacks),
                                       cmocka_unit_test(test_symbols), cmocka_unit_test(test_several_spans)};
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
