/* Optimisers: their equations against the same written out here in double, their slots' names and quirks, errors;
 * clipping by global norm. */
#include "graph_rig.h"

#include "engine/nn/clip.h"
#include "engine/nn/optimizer.h"

static uint32_t create(struct rig *rig, const struct optimizer_options *options)
{
    uint32_t optimizer = 0;
    must(optimizer_create(rig->graph, options, &optimizer, &rig->error), &rig->error);
    return optimizer;
}

static uint32_t of_kind(struct rig *rig, enum optimizer_kind kind, double rate)
{
    struct optimizer_options options = optimizer_defaults(kind);
    options.learning_rate = rate;
    return create(rig, &options);
}

static struct node *apply(struct rig *rig, uint32_t optimizer, const struct variable *variable, struct output gradient)
{
    struct node *node = NULL;
    struct apply_options options = {.gradients = &gradient, .variables = &variable, .count = 1};
    must(optimizer_apply_gradients(rig->graph, optimizer, &options, &node, &rig->error), &rig->error);
    return node;
}

static void expect_globals(struct rig *rig, const char *expected)
{
    char names[1024] = "";
    for (size_t i = 0; i < graph_collection_count(rig->graph, COLLECTION_GLOBAL_VARIABLES); i++) {
        const struct handle *handle = graph_collection_at(rig->graph, COLLECTION_GLOBAL_VARIABLES, i);
        size_t length = strlen(names);
        snprintf(names + length, sizeof names - length, "%s%s", i == 0 ? "" : " ", handle->variable->node->name);
    }
    assert_string_equal(names, expected);
}

static const struct variable *get_w(struct rig *rig)
{
    const struct variable *w = NULL;
    struct variable_options options = {.name = "w", .shape = shape_vector(2)};
    must(get_variable(rig->graph, &options, &w, NULL, &rig->error), &rig->error);
    return w;
}

static struct output gradient_of_w(struct rig *rig)
{
    float room[] = {0.1f, 0.1f};
    return constant(rig, DTYPE_FLOAT32, shape_vector(2), room);
}

/* ---- equations ---- */

/* One number of a variable, with all that an optimiser may keep for it. */
struct reference {
    double value, m, v, c;
    int step;
};

static void step_reference(struct reference *at, const struct optimizer_options *with, double g)
{
    double r = with->learning_rate;
    at->step++;
    switch (with->kind) {
    case OPTIMIZER_SGD: at->value -= r * g; break;
    case OPTIMIZER_MOMENTUM:
        at->m = with->momentum * at->m + g;
        at->value -= with->uses_nesterov ? r * g + r * with->momentum * at->m : r * at->m;
        break;
    case OPTIMIZER_ADAMW:
    case OPTIMIZER_ADAM:
        at->m = with->beta1 * at->m + (1 - with->beta1) * g;
        at->v = with->beta2 * at->v + (1 - with->beta2) * g * g;
        at->value -= r * sqrt(1 - pow(with->beta2, at->step)) / (1 - pow(with->beta1, at->step)) * at->m /
                     (sqrt(at->v) + with->epsilon);
        break;
    case OPTIMIZER_RMSPROP:
        at->v = with->decay * at->v + (1 - with->decay) * g * g;
        at->c = with->is_centered ? with->decay * at->c + (1 - with->decay) * g : 0;
        at->m = with->momentum * at->m + r * g / sqrt(at->v - at->c * at->c + with->epsilon);
        at->value -= at->m;
        break;
    case OPTIMIZER_ADAGRAD:
        at->v += g * g;
        at->value -= r * g / sqrt(at->v);
        break;
    case OPTIMIZER_KIND_COUNT: fail();
    }
}

/* Runs the optimiser on (value − 1)² by minimize and compares each step. */
static void check_equations(const struct optimizer_options *with, enum dtype dtype, double tolerance)
{
    struct rig rig = rig_open();
    double room[] = {4, -0.5};
    float small[] = {4, -0.5f};
    double one = 1;
    float small_one = 1;
    bool is_double = dtype == DTYPE_FLOAT64;
    const struct variable *x = variable_of(&rig, "x", dtype, shape_vector(2), is_double ? (void *)room : (void *)small);
    struct output target = constant(&rig, dtype, shape_scalar(), is_double ? (void *)&one : (void *)&small_one);
    struct output loss = call(&rig, "square", call(&rig, "subtract", x->read, target), no_output);
    uint32_t optimizer = create(&rig, with);
    struct minimize_options options = {.loss = loss};
    struct node *node = NULL;
    must(optimizer_minimize(rig.graph, optimizer, &options, &node, &rig.error), &rig.error);
    rig_initialize(&rig);
    struct optimizer_options used = *with; /* numbers pass through float32, as Python's do */
    used.learning_rate = (double)(float)with->learning_rate;
    used.beta1 = (double)(float)with->beta1;
    used.beta2 = (double)(float)with->beta2;
    used.epsilon = (double)(float)with->epsilon;
    used.momentum = (double)(float)with->momentum;
    used.decay = (double)(float)with->decay;
    double first_v = with->kind == OPTIMIZER_RMSPROP ? 1 : with->kind == OPTIMIZER_ADAGRAD ? 0.1 : 0;
    struct reference at[] = {{.value = 4, .v = first_v}, {.value = -0.5, .v = first_v}};
    for (int step = 0; step < 5; step++) {
        rig_run(&rig, node);
        for (int i = 0; i < 2; i++) {
            step_reference(&at[i], &used, 2 * (at[i].value - 1));
        }
        expect_values(&rig, x->read, (double[]){at[0].value, at[1].value}, 2, tolerance);
    }
    rig_close(&rig);
}

static void test_equations(void **state)
{
    (void)state;
    for (int kind = 0; kind < OPTIMIZER_KIND_COUNT; kind++) {
        struct optimizer_options options = optimizer_defaults((enum optimizer_kind)kind);
        options.learning_rate = 0.3;
        for (int variant = 0; variant < 3; variant++) {
            options.momentum = variant == 0 ? 0 : 0.9;
            options.uses_nesterov = variant == 2;
            options.is_centered = variant == 2;
            /* Adam's powers are float32 variables, whatever the dtype. */
            bool has_powers = kind == OPTIMIZER_ADAM || kind == OPTIMIZER_ADAMW;
            check_equations(&options, DTYPE_FLOAT64, has_powers ? 1e-5 : 1e-12);
            check_equations(&options, DTYPE_FLOAT32, 1e-5);
        }
    }
}

/* The preset char-rnn's numbers, over means of 50 steps, against torch/optim's rmsprop.lua over their sums. */
static void test_rmsprop_as_torch_has_it(void **state)
{
    (void)state;
    enum { COUNT = 4, STEPS = 50 };
    struct rig rig = rig_open();
    float zeros[COUNT] = {0};
    float means[COUNT] = {0.1f, -0.003f, 2e-5f, 0};
    double values[COUNT] = {0};
    double squares[COUNT] = {0};
    struct optimizer_options options = optimizer_defaults(OPTIMIZER_RMSPROP);
    options.learning_rate = 0.002;
    options.decay = 0.95;
    options.epsilon = 4e-20;
    options.initial_accumulator = 0;
    const struct variable *x = variable_of(&rig, "x", DTYPE_FLOAT32, shape_vector(COUNT), zeros);
    struct output gradient = constant(&rig, DTYPE_FLOAT32, shape_vector(COUNT), means);
    struct node *node = apply(&rig, create(&rig, &options), x, gradient);
    rig_initialize(&rig);
    for (int step = 0; step < 5; step++) {
        rig_run(&rig, node);
        for (size_t i = 0; i < COUNT; i++) {
            double sum = STEPS * (double)means[i];
            squares[i] = 0.95 * squares[i] + (1 - 0.95) * sum * sum;
            values[i] -= 0.002 * sum / (sqrt(squares[i]) + 1e-8);
        }
        expect_values(&rig, x->read, values, COUNT, 3e-6);
    }
    rig_close(&rig);
}

static void test_a_tensor_as_rate(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    float rate = 0.25f;
    float number = 1;
    const struct variable *v = variable_of(&rig, "v", DTYPE_FLOAT32, shape_scalar(), &number);
    struct optimizer_options options = optimizer_defaults(OPTIMIZER_SGD);
    options.rate = constant(&rig, DTYPE_FLOAT32, shape_scalar(), &rate);
    struct node *node = apply(&rig, create(&rig, &options), v, constant(&rig, DTYPE_FLOAT32, shape_scalar(), &number));
    rig_initialize(&rig);
    rig_run(&rig, node);
    expect_values(&rig, v->read, (double[]){0.75}, 1, 0);
    rig_close(&rig);
}

static void test_the_step_is_counted(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    int64_t zero = 0;
    const struct variable *step = variable_of(&rig, "global_step", DTYPE_INT64, shape_scalar(), &zero);
    const struct variable *w = get_w(&rig);
    struct output gradient = gradient_of_w(&rig);
    struct apply_options options = {.gradients = &gradient, .variables = &w, .count = 1, .global_step = step};
    struct node *node = NULL;
    must(optimizer_apply_gradients(rig.graph, of_kind(&rig, OPTIMIZER_ADAM, 0.1), &options, &node, &rig.error),
         &rig.error);
    assert_string_equal(node->name, "Adam");
    assert_true(node_is(node, "AssignAdd"));
    rig_initialize(&rig);
    rig_run(&rig, node);
    rig_run(&rig, node);
    expect_values(&rig, step->read, (double[]){2}, 1, 0);
    rig_close(&rig);
}

/* ---- names ---- */

static void test_names_of_slots(void **state)
{
    (void)state;
    static const struct {
        enum optimizer_kind kind;
        bool is_centered;
        const char *globals;
    } cases[] = {
        {OPTIMIZER_SGD, false, "w"},
        {OPTIMIZER_MOMENTUM, false, "w w/Momentum"},
        {OPTIMIZER_ADAM, false, "w beta1_power beta2_power w/Adam w/Adam_1"},
        {OPTIMIZER_RMSPROP, false, "w w/RMSProp w/RMSProp_1"},
        {OPTIMIZER_RMSPROP, true, "w w/RMSProp w/RMSProp_1 w/RMSProp_2"},
        {OPTIMIZER_ADAGRAD, false, "w w/Adagrad"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rig rig = rig_open();
        struct optimizer_options options = optimizer_defaults(cases[i].kind);
        options.is_centered = cases[i].is_centered;
        const struct variable *w = get_w(&rig);
        struct node *node = apply(&rig, create(&rig, &options), w, gradient_of_w(&rig));
        expect_globals(&rig, cases[i].globals);
        assert_string_equal(node->name, optimizer_op_name(cases[i].kind));
        assert_int_equal(graph_collection_count(rig.graph, COLLECTION_TRAIN_OP), 1);
        assert_int_equal(graph_collection_count(rig.graph, COLLECTION_TRAINABLE_VARIABLES), 1);
        rig_close(&rig);
    }
}

static void test_a_second_optimizer_has_its_own_slots(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    const struct variable *w = get_w(&rig);
    uint32_t first = of_kind(&rig, OPTIMIZER_ADAM, 0.1);
    apply(&rig, first, w, gradient_of_w(&rig));
    struct node *second = apply(&rig, of_kind(&rig, OPTIMIZER_ADAM, 0.1), w, gradient_of_w(&rig));
    assert_string_equal(second->name, "Adam_1");
    const char *globals = "w beta1_power beta2_power w/Adam w/Adam_1 beta1_power_1 beta2_power_1 w/Adam_2 w/Adam_3";
    expect_globals(&rig, globals);
    apply(&rig, first, w, gradient_of_w(&rig)); /* the same one again keeps its own */
    expect_globals(&rig, globals);
    assert_string_equal(optimizer_slot(rig.graph, first, w, "v")->node->name, "w/Adam_1");
    assert_string_equal(optimizer_slot(rig.graph, first, w, "v")->store_key, "w/Adam_1/");
    assert_null(optimizer_slot(rig.graph, first, w, "accumulator"));
    rig_close(&rig);
}

static void test_slots_are_variables_of_the_current_scope(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct variable_scope_frame frame;
    must(variable_scope_enter(rig.graph, "scope", REUSE_INHERIT, &frame, &rig.error), &rig.error);
    const struct variable *w = get_w(&rig);
    struct node *node = apply(&rig, of_kind(&rig, OPTIMIZER_ADAM, 0.1), w, gradient_of_w(&rig));
    assert_string_equal(node->name, "scope/Adam");
    expect_globals(&rig, "scope/w scope/beta1_power scope/beta2_power scope/scope/w/Adam scope/scope/w/Adam_1");
    variable_scope_leave(rig.graph, &frame);
    rig_close(&rig);
}

static void test_reuse_hits_slots(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    const struct variable *w = get_w(&rig);
    struct output gradient = gradient_of_w(&rig);
    struct apply_options options = {.gradients = &gradient, .variables = &w, .count = 1};
    struct node *node = NULL;
    uint32_t root = variable_scope_current(rig.graph);
    must(variable_scope_reuse_variables(rig.graph, root, &rig.error), &rig.error);
    expect_error(optimizer_apply_gradients(rig.graph, of_kind(&rig, OPTIMIZER_ADAM, 0.1), &options, &node, &rig.error),
                 &rig.error, "ValueError",
                 "Variable w/Adam/ does not exist, or was not created with tf.get_variable(). Did you mean to set "
                 "reuse=tf.AUTO_REUSE in VarScope?");
    rig_close(&rig);
}

/* Opening the parent's scope again sets the count of default names back: the second optimiser meets the first's
 * slot. */
static void test_a_reopened_scope_collides(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    struct variable_scope_frame frame;
    must(variable_scope_enter(rig.graph, "m", REUSE_INHERIT, &frame, &rig.error), &rig.error);
    const struct variable *w = get_w(&rig);
    variable_scope_leave(rig.graph, &frame);
    struct output gradient = gradient_of_w(&rig);
    apply(&rig, of_kind(&rig, OPTIMIZER_ADAM, 0.1), w, gradient);
    must(variable_scope_enter(rig.graph, "m", REUSE_INHERIT, &frame, &rig.error), &rig.error);
    variable_scope_leave(rig.graph, &frame);
    struct apply_options options = {.gradients = &gradient, .variables = &w, .count = 1};
    struct node *node = NULL;
    expect_error(optimizer_apply_gradients(rig.graph, of_kind(&rig, OPTIMIZER_ADAM, 0.1), &options, &node, &rig.error),
                 &rig.error, "ValueError", "Variable m/w/Adam/ already exists, disallowed. …");
    rig_close(&rig);
}

/* What a build does to an optimiser stays out of the graph it was cloned from. */
static void test_a_clone_keeps_its_slots_to_itself(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    const struct variable *w = get_w(&rig);
    struct output gradient = gradient_of_w(&rig);
    uint32_t optimizer = of_kind(&rig, OPTIMIZER_ADAGRAD, 0.1);
    struct graph *clone = NULL;
    struct node *node = NULL;
    struct apply_options options = {.gradients = &gradient, .variables = &w, .count = 1};
    must(graph_clone(rig.graph, &clone, &rig.error), &rig.error);
    must(optimizer_apply_gradients(clone, optimizer, &options, &node, &rig.error), &rig.error);
    assert_non_null(optimizer_slot(clone, optimizer, w, "accumulator"));
    assert_null(optimizer_slot(rig.graph, optimizer, w, "accumulator"));
    graph_unref(clone);
    apply(&rig, optimizer, w, gradient);
    expect_globals(&rig, "w w/Adagrad");
    rig_close(&rig);
}

/* ---- what is refused ---- */

static void test_refusals(void **state)
{
    (void)state;
    struct rig rig = rig_open();
    float room[] = {1};
    int32_t whole = 1;
    struct node *node = NULL;
    uint32_t optimizer = of_kind(&rig, OPTIMIZER_SGD, 1);
    struct minimize_options minimize = {.loss = constant(&rig, DTYPE_FLOAT32, shape_vector(1), room)};
    expect_error(optimizer_minimize(rig.graph, optimizer, &minimize, &node, &rig.error), &rig.error, "ValueError",
                 "No variables to optimize.");
    const struct variable *v = variable_of(&rig, "v", DTYPE_FLOAT32, shape_vector(1), room);
    expect_error(optimizer_minimize(rig.graph, optimizer, &minimize, &node, &rig.error), &rig.error, "ValueError",
                 "No gradients provided for any variable, check your graph for ops that do not support gradients, "
                 "between variables [\"<tf.Variable 'v:0' shape=(1,) dtype=float32_ref>\"] and loss "
                 "Tensor(\"Const:0\", shape=(1,), dtype=float32).");
    minimize.loss = constant(&rig, DTYPE_INT32, shape_scalar(), &whole);
    expect_error(optimizer_minimize(rig.graph, optimizer, &minimize, &node, &rig.error), &rig.error, "ValueError",
                 "Invalid type tf.int32 for Const_1:0, expected: […");
    struct apply_options none = {.gradients = &no_output, .variables = &v, .count = 1};
    expect_error(optimizer_apply_gradients(rig.graph, optimizer, &none, &node, &rig.error), &rig.error, "ValueError",
                 "No gradients provided for any variable: [\"<tf.Variable 'v:0' shape=(1,) dtype=float32_ref>\"].");
    none.count = 0;
    expect_error(optimizer_apply_gradients(rig.graph, optimizer, &none, &node, &rig.error), &rig.error, "ValueError",
                 "No variables provided.");
    float two[] = {1, 2};
    struct output wrong = constant(&rig, DTYPE_FLOAT32, shape_vector(2), two);
    struct apply_options misfit = {.gradients = &wrong, .variables = &v, .count = 1};
    expect_error(optimizer_apply_gradients(rig.graph, optimizer, &misfit, &node, &rig.error), &rig.error, "ValueError",
                 "Shapes must be equal, but are [1] and [2] for…");
    struct optimizer_options options = optimizer_defaults(OPTIMIZER_ADAGRAD);
    options.initial_accumulator = 0;
    expect_error(optimizer_create(rig.graph, &options, &optimizer, &rig.error), &rig.error, "ValueError",
                 "initial_accumulator_value must be positive: 0");
    options = optimizer_defaults(OPTIMIZER_ADAM);
    options.name = "";
    expect_error(optimizer_create(rig.graph, &options, &optimizer, &rig.error), &rig.error, "ValueError",
                 "Must specify the optimizer name");
    rig_close(&rig);
}

/* ---- clipping ---- */

static void check_clip(double scale, double clip_norm, const double *expected, double norm)
{
    struct rig rig = rig_open();
    double room[] = {-2 * scale, 0, 0, 4 * scale, 0, 0};
    double other[] = {1 * scale, -2 * scale};
    struct output tensors[] = {constant(&rig, DTYPE_FLOAT64, shape_matrix(2, 3), room), no_output,
                               constant(&rig, DTYPE_FLOAT64, shape_vector(2), other)};
    struct output clipped[3];
    struct output found;
    must(clip_by_global_norm(rig.graph, tensors, 3, constant(&rig, DTYPE_FLOAT64, shape_scalar(), &clip_norm),
                             no_output, NULL, clipped, &found, &rig.error),
         &rig.error);
    assert_null(clipped[1].node);
    expect_values(&rig, clipped[0], expected, 6, 1e-12);
    expect_values(&rig, clipped[2], expected + 6, 2, 1e-12);
    expect_values(&rig, found, &norm, 1, 1e-12);
    rig_close(&rig);
}

static void test_clipping(void **state)
{
    (void)state;
    check_clip(1, 4, (double[]){-1.6, 0, 0, 3.2, 0, 0, 0.8, -1.6}, 5);
    check_clip(1, 6, (double[]){-2, 0, 0, 4, 0, 0, 1, -2}, 5);
    check_clip(0, 6, (double[]){0, 0, 0, 0, 0, 0, 0, 0}, 0);
    double nan = (double)NAN;
    check_clip((double)INFINITY, 6, (double[]){nan, nan, nan, nan, nan, nan, nan, nan}, (double)INFINITY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equations),
        cmocka_unit_test(test_rmsprop_as_torch_has_it),
        cmocka_unit_test(test_a_tensor_as_rate),
        cmocka_unit_test(test_the_step_is_counted),
        cmocka_unit_test(test_names_of_slots),
        cmocka_unit_test(test_a_second_optimizer_has_its_own_slots),
        cmocka_unit_test(test_slots_are_variables_of_the_current_scope),
        cmocka_unit_test(test_reuse_hits_slots),
        cmocka_unit_test(test_a_reopened_scope_collides),
        cmocka_unit_test(test_a_clone_keeps_its_slots_to_itself),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_clipping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
